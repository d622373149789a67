//! Checks the form of a connection string before any part of it is used.
//!
//! A password with an unencoded `@` or `/` makes a URL that can be read in several ways, and in the wrong one a part of
//! the password is the host or the database, which messages name. Promise: what passes can be read in one way only, and
//! no error repeats anything of what does not.

/// What is wrong with a connection string, without a word of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It cannot be read, or in more than one way.
    Shape,
    /// A parameter of libpq's that cannot be honoured, and would be missed.
    Unsupported(&'static str),
}

/// A string that can be read in one way.
#[derive(Debug, PartialEq, Eq)]
pub struct Sound {
    /// In the driver's own form, without what is ignored.
    pub text: String,
    /// Parameters that are ignored, as far as their names may be repeated.
    pub ignored: Vec<String>,
    /// How many more there are.
    pub unnamed: usize,
}

/// What libpq's URLs begin with, and what Rails' adapter for PostGIS has instead.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "postgis://"];
/// The parameters that the driver or `tls` knows.
const KNOWN: [&str; 22] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "channel_binding",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "load_balance_hosts",
];
/// Parameters of libpq's that can be ignored: a hint, or something that is true anyway.
const NEEDLESS: [&str; 10] = [
    "fallback_application_name",
    "client_encoding",
    "keepalives_count",
    "sslcompression",
    "sslsni",
    "gssencmode",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "sslkeylogfile",
];
/// Parameters of libpq's that must not be ignored: without them it would be another server, or a
/// weaker check.
const UNSUPPORTED: [&str; 15] = [
    "service",
    "servicefile",
    "passfile",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "requirepeer",
    "require_auth",
    "replication",
    // Only where it is to be required.
    "gssencmode",
];
/// A name of other software's is repeated only if it looks like one.
const LONGEST_NAME: usize = 40;

/// Whether it is meant as a URL; otherwise it is meant as `key=value` pairs.
pub fn is_url(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Checks a URL.
pub fn url(text: &str) -> Result<Sound, Flaw> {
    let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or(Flaw::Shape)?;
    let unreadable = |character: char| character.is_control() || character.is_whitespace();
    if rest.contains('#') || rest.contains(unreadable) || !is_encoded(rest) {
        return Err(Flaw::Shape);
    }
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = address.split_once('/').unwrap_or((address, ""));
    // The only `@` is the one in front of the host: another one would be a part of the password. No host has one.
    let (_, hosts) = authority.split_once('@').unwrap_or(("", authority));
    if [database, query].iter().any(|part| part.contains('@')) || database.contains(['/', ':']) {
        return Err(Flaw::Shape);
    }
    if !hosts.is_empty() && !hosts.split(',').all(is_host_and_port) {
        return Err(Flaw::Shape);
    }
    let mut sound =
        Sound { text: format!("postgres://{address}"), ignored: Vec::new(), unnamed: 0 };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(Flaw::Shape)?;
        let value = decoded(value)?;
        match use_of(name, &value)? {
            ParameterUse::Kept => kept.push((name, pair, value)),
            ParameterUse::LeftOut => {}
            ParameterUse::Unknown => sound.ignore(name),
        }
    }
    if !kept.iter().all(|(name, _, value)| is_sound(name, value)) {
        return Err(Flaw::Shape);
    }
    // The password may end at an unencoded `&`; then the text behind it is no parameter's name.
    if kept.iter().any(|(name, ..)| *name == "password") {
        sound.unnamed += std::mem::take(&mut sound.ignored).len();
    }
    if !kept.is_empty() {
        let pairs: Vec<&str> = kept.iter().map(|(_, pair, _)| *pair).collect();
        sound.text.push_str(&format!("?{}", pairs.join("&")));
    }
    Ok(sound)
}

/// Checks what was read from a `key=value` string, name and unquoted value; true where it is to be kept.
///
/// A name that nobody knows is most likely a part of a value with a space in it, which should be in quotes.
pub fn keeps(name: &str, value: &str) -> Result<bool, Flaw> {
    match use_of(name, value)? {
        ParameterUse::Kept if is_sound(name, value) => Ok(true),
        ParameterUse::LeftOut => Ok(false),
        ParameterUse::Kept | ParameterUse::Unknown => Err(Flaw::Shape),
    }
}

/// Whether text is the name of a host, an address, or a folder with a socket; several are separated by commas.
pub fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let address = |c: char| c.is_ascii_alphanumeric() || ".:%_-".contains(c);
    text.split(',').all(|host| {
        host.starts_with('/') && !host.contains('@')
            || !host.is_empty() && host.chars().all(plain)
            || host.parse::<std::net::Ipv6Addr>().is_ok()
            || host.contains(':') && host.contains('%') && host.chars().all(address)
    })
}

/// Whether text may be the name of a database: libpq takes one that looks like a connection string for one.
pub fn is_database(text: &str) -> bool {
    !text.contains("://") && !text.contains('=')
}

impl Sound {
    fn ignore(&mut self, name: &str) {
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        match name.len() <= LONGEST_NAME && !name.is_empty() && is_name(name) {
            true => self.ignored.push(name.into()),
            false => self.unnamed += 1,
        }
    }

    /// A sentence about what is ignored, if there is anything.
    pub fn remark(&self, setting: &str) -> Option<String> {
        let others = match (self.ignored.is_empty(), self.unnamed) {
            (true, 0) => return None,
            (_, 0) => None,
            (true, 1) => Some("one".to_string()),
            (true, number) => Some(number.to_string()),
            (false, number) => Some(format!("{number} more")),
        };
        let names: Vec<String> = self.ignored.iter().cloned().chain(others).collect();
        Some(format!(
            "{setting}: parameters that are not PostgreSQL's are ignored: {}",
            names.join(", ")
        ))
    }
}

/// What becomes of a parameter.
enum ParameterUse {
    Kept,
    LeftOut,
    Unknown,
}

fn use_of(name: &str, value: &str) -> Result<ParameterUse, Flaw> {
    let demands_more =
        |other: &&&str| **other == name && (name != "gssencmode" || value == "require");
    match UNSUPPORTED.iter().find(demands_more) {
        Some(unsupported) => Err(Flaw::Unsupported(unsupported)),
        None if KNOWN.contains(&name) => Ok(ParameterUse::Kept),
        None if NEEDLESS.contains(&name) => Ok(ParameterUse::LeftOut),
        None => Ok(ParameterUse::Unknown),
    }
}

fn is_sound(name: &str, value: &str) -> bool {
    match name {
        "host" => is_host(value),
        "dbname" => is_database(value),
        "port" => value.chars().all(|c| c.is_ascii_digit() || c == ','),
        _ => true,
    }
}

/// `host`, `host:5432`, `[::1]:5432`, or the folder of a socket, encoded: `%2Ftmp`.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) if address.contains(':') => (address, port),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port =
        |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    decoded(host).is_ok_and(|host| is_host(&host)) && (port.is_empty() || is_port(port))
}

/// Whether every `%` begins the code of a character.
fn is_encoded(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()))
}

fn decoded(text: &str) -> Result<String, Flaw> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| Flaw::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_takes_is_taken() {
        for text in [
            "postgres://h/d",
            "postgresql://u@h",
            "postgis://u:p@h:5432/d",
            "postgres://u:p:w&=[]'!$*,;~^@h/d",
            "postgres://u:p%40%2F%23%3f%25@h/d?sslmode=require&application_name=a%40b",
            "postgres://u:p@h1:1,h2,[::1]:3/d",
            "postgres://u:p@[fe80::1%25eth0]/d",
            "postgres://u@%2Fvar%2Frun/d",
            "postgres://u:p@/d?host=/tmp&port=5433",
            "postgres:///d?host=h&user=u&password=p",
        ] {
            assert!(url(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "postgres://u:p@w@h/d",
            "postgres://u:p/w@h/d",
            "postgres://u:p#w@h/d",
            "postgres://u:p?w@h/d",
            "postgres://u:p?w=@h/d",
            "postgres://u:p@h/w@h/d",
            "postgres://u:p@w?x@h/d",
            "postgres://u:p w@h/d",
            "postgres://u:p%w@h/d",
            "postgres://u:pw",
            "postgres://u:p@h:port/d",
            "postgres://u:p@[h]/d",
            "postgres://u:p@[::1/d",
            "postgres://u:p@h(/d",
            "postgres://u:p@h/d?x",
            "postgres://h/d?user=u&password=a&b",
            "postgres://h/d?dbname=host%3Dh",
            "postgres://u:p@,h/d",
            "postgres://u:p@%2Ftmp%40w/d",
            "postgres://u:p@[fe80::1%25eth(]/d",
            "postgres://u:p\u{7}w@h/d",
            // With a number in front, the part before it could be a host with its port.
            "postgres://u:1/w@h",
            "postgres://u:1?w=@h/d",
            "postgres://u:1/w/x",
            "postgres://h/d?host=a%20b",
            "postgres://h/d?port=w",
            "postgres://h/d?dbname=postgres%3A//h",
            "mysql://u:p@h/d",
        ] {
            assert_eq!(url(text), Err(Flaw::Shape), "{text}");
        }
    }

    #[test]
    fn parameters_of_other_software_are_left_out_and_named_if_they_have_a_name() {
        let sound = url(
            "postgis://u:p@h/d?pool=5&sslmode=require&Strange=1&gssencmode=prefer&pgbouncer=true",
        )
        .expect("a sound URL");
        assert_eq!(sound.text, "postgres://u:p@h/d?sslmode=require");
        let remark = sound.remark("X").expect("a remark");
        assert!(remark.ends_with("are ignored: pool, pgbouncer, 1 more"), "{remark}");

        let sound = url("postgres://h/d?user=u&password=a&secret=b").expect("a sound URL");
        let remark = sound.remark("X").expect("a remark");
        assert!(remark.ends_with("are ignored: one"), "{remark}");
        assert_eq!(url("postgres://h/d").expect("a sound URL").remark("X"), None);
        for no_name in [String::new(), "x".repeat(LONGEST_NAME + 1), "Odd%20one".into()] {
            let sound = url(&format!("postgres://h/d?{no_name}=1")).expect("a sound URL");
            assert_eq!((sound.ignored.len(), sound.unnamed), (0, 1), "{no_name}");
        }
    }

    #[test]
    fn of_pairs_only_what_is_known_and_has_the_shape_of_its_value_is_taken() {
        assert_eq!(keeps("host", "h"), Ok(true));
        assert_eq!(keeps("sslcompression", "0"), Ok(false));
        for (name, value) in
            [("host", "a b"), ("dbname", "postgres://h"), ("port", "w"), ("word", "x"), ("", "")]
        {
            assert_eq!(keeps(name, value), Err(Flaw::Shape), "{name}={value}");
        }
    }

    #[test]
    fn what_somebody_relies_on_is_not_ignored() {
        let relied_on =
            ["sslcrl=f", "require_auth=scram-sha-256", "gssencmode=require", "service=s"];
        for parameter in relied_on {
            let found = url(&format!("postgres://u@h/d?{parameter}"));
            assert!(matches!(found, Err(Flaw::Unsupported(_))), "{parameter}: {found:?}");
        }
    }
}
