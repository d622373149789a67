//! A connection URL, checked word by word.
//!
//! Promise: a secret stays inside [`DatabaseUrl`], which cannot be printed, and no message quotes one.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;

mod shape;

use shape::Flaw;

/// A setting that cannot be used, as one sentence. Never contains a secret.
#[derive(Debug)]
pub struct UnusableSetting(pub String);

impl fmt::Display for UnusableSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnusableSetting {}

/// A checked libpq URL. `Debug` and `Display` show host, port and database only.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// Everything but TLS.
    pub(crate) postgres: tokio_postgres::Config,
    /// The TLS part.
    pub(crate) tls: tls::TlsSettings,
    /// The variable or flag that it comes from.
    setting: String,
    /// A remark about it, to be shown once.
    remark: Option<String>,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self
            .postgres
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let ports: Vec<String> = self.postgres.get_ports().iter().map(u16::to_string).collect();
        let database = self.postgres.get_dbname().unwrap_or("its default database");
        match ports.is_empty() {
            true => write!(f, "{database} on {}", hosts.join(",")),
            false => write!(f, "{database} on {}:{}", hosts.join(","), ports.join(",")),
        }
    }
}

impl DatabaseUrl {
    /// Reads a libpq URL (or `key=value` string) and the `PGSSL…` variables, which it overrides.
    ///
    /// `setting` names where it came from, for the messages. None of them repeats anything of the URL.
    pub fn parse(
        setting: &str,
        url: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, UnusableSetting> {
        let refused = |flaw| UnusableSetting(refusal(setting, &flaw));
        let mut ssl = Ssl::from_environment(environment);
        let (rest, remark) = match shape::is_url(url) {
            true => {
                let sound = shape::url(url).map_err(refused)?;
                (ssl.take_from_url(&sound.text), sound.remark(setting))
            }
            false => (ssl.take_from_pairs(url).map_err(refused)?, None),
        };
        let tls = ssl.checked(setting)?;
        let mut postgres: tokio_postgres::Config = rest
            .parse()
            .map_err(|error| UnusableSetting(invalid_option(setting, &root_cause(&error))))?;
        if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
            return Err(UnusableSetting(format!("{setting} names no host")));
        }
        if postgres.get_user().is_none()
            && let Some(user) = environment("PGUSER")
        {
            postgres.user(user);
        }
        if postgres.get_password().is_none()
            && let Some(password) = environment("PGPASSWORD")
        {
            postgres.password(password);
        }
        Ok(Self { remark, ..Self::with_tls(setting, postgres, tls) })
    }

    /// The setting that it comes from: a variable or a flag.
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// A remark about it, to be shown once: which parts are ignored.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// The driver must insist on TLS wherever the settings do.
    fn with_tls(
        setting: &str,
        mut postgres: tokio_postgres::Config,
        mut tls: tls::TlsSettings,
    ) -> Self {
        if postgres.get_hosts().is_empty() {
            for address in postgres.get_hostaddrs().to_vec() {
                postgres.host(address.to_string());
            }
        }
        // As in libpq: nobody listens in on a socket of this machine.
        if postgres.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            tls.mode = tls::Mode::Disable;
        }
        postgres.ssl_mode(match tls.mode {
            tls::Mode::Disable => SslMode::Disable,
            tls::Mode::Allow | tls::Mode::Prefer => SslMode::Prefer,
            tls::Mode::Require | tls::Mode::VerifyCa | tls::Mode::VerifyFull => SslMode::Require,
        });
        if let Some(channel_binding) = tls.channel_binding {
            postgres.channel_binding(channel_binding);
        }
        Self { postgres, tls, setting: setting.into(), remark: None }
    }

    /// `sslmode`, as it counts for this URL.
    pub fn sslmode(&self) -> tls::Mode {
        self.tls.mode
    }

    /// Whether every host that it names is this machine, by a socket or by its loopback address.
    pub fn is_local(&self) -> bool {
        let addresses = self.postgres.get_hostaddrs();
        let loopback = |name: &str| {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        };
        addresses.iter().all(IpAddr::is_loopback)
            && self.postgres.get_hosts().iter().all(|host| match host {
                Host::Unix(_) => true,
                Host::Tcp(name) => !addresses.is_empty() || loopback(name),
            })
    }

    /// Reads the files that the TLS settings name.
    pub fn connector(&self) -> Result<MakeRustlsConnect, UnusableSetting> {
        self.tls.connector().map_err(|error| UnusableSetting(error.to_string()))
    }

    /// Opens a connection, with or without TLS as `sslmode` says.
    pub async fn connect(
        &self,
        connector: &MakeRustlsConnect,
    ) -> Result<tls::TlsConnection, tokio_postgres::Error> {
        self.tls.connect(&self.postgres, connector).await
    }

    /// The target's URL from `SALESFORCE_CONNECT_HOST` and friends, when the host is given.
    pub fn from_parts(
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, UnusableSetting> {
        let part = |name: &str| environment(&format!("SALESFORCE_CONNECT_{name}"));
        let Some(host) = part("HOST") else { return Ok(None) };
        // A whole URL here is an easy mistake, and messages name the host.
        if !shape::is_host(&host) {
            return Err(UnusableSetting(
                "SALESFORCE_CONNECT_HOST is not the name of a host".into(),
            ));
        }
        let tls = Ssl::from_environment(environment).checked("PGSSLMODE")?;
        let mut postgres = tokio_postgres::Config::new();
        postgres.host(host);
        if let Some(port) = part("PORT") {
            let port = port.parse().map_err(|_| {
                UnusableSetting("SALESFORCE_CONNECT_PORT is not a port number".to_string())
            })?;
            postgres.port(port);
        }
        if let Some(database) = part("DB") {
            if !shape::is_database(&database) {
                return Err(UnusableSetting(
                    "SALESFORCE_CONNECT_DB is not the name of a database".into(),
                ));
            }
            postgres.dbname(database);
        }
        if let Some(user) = part("USER") {
            postgres.user(user);
        }
        if let Some(password) = part("PASSWORD") {
            postgres.password(password);
        }
        Ok(Some(Self::with_tls("SALESFORCE_CONNECT_HOST", postgres, tls)))
    }
}

/// Why a connection string is refused. It may be a password given by mistake, so none of it is
/// repeated.
fn refusal(setting: &str, flaw: &Flaw) -> String {
    match flaw {
        Flaw::Shape => format!(
            "{setting} is not a Postgres URL; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE. In user, password \
             and database, write special characters as their codes: @ as %40, # %23, / %2F, : %3A, ? %3F, % %25, \
             space %20"
        ),
        Flaw::Unsupported(name) => format!(
            "{setting} has the parameter {name}, which schoolbell cannot honour; remove the parameter from the URL"
        ),
    }
}

/// The driver's error, which may quote what it could not read: only the name of a parameter that we know is repeated.
fn invalid_option(setting: &str, cause: &str) -> String {
    let name =
        cause.strip_prefix("invalid value for option `").and_then(|rest| rest.strip_suffix('`'));
    match name.filter(|name| shape::keeps(name, "").is_ok()) {
        Some(name) => format!("{setting}: {name} has a value that it cannot have; correct it"),
        None => refusal(setting, &Flaw::Shape),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The `ssl…` parameters of a URL, which the driver does not know in libpq's full meaning.
#[derive(Default)]
struct Ssl {
    mode: Option<String>,
    root_cert: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    channel_binding: Option<String>,
    /// Where libpq looks for files that nobody named.
    home: Option<PathBuf>,
}

impl Ssl {
    fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            mode: environment("PGSSLMODE"),
            root_cert: environment("PGSSLROOTCERT"),
            cert: environment("PGSSLCERT"),
            key: environment("PGSSLKEY"),
            channel_binding: environment("PGCHANNELBINDING"),
            home: environment("HOME").map(PathBuf::from),
        }
    }

    /// Takes the `ssl…` parameters out of a URL and returns what is left.
    fn take_from_url(&mut self, url: &str) -> String {
        let Some((address, query)) = url.split_once('?') else { return url.to_string() };
        let left = |pair: &&str| match pair.split_once('=') {
            Some((key, value)) => !self.took(key, &percent_decode_str(value).decode_utf8_lossy()),
            None => true,
        };
        let rest: Vec<&str> = query.split('&').filter(left).collect();
        match rest.is_empty() {
            true => address.to_string(),
            false => format!("{address}?{}", rest.join("&")),
        }
    }

    /// The same for a `key=value` string, which is checked on the way.
    fn take_from_pairs(&mut self, text: &str) -> Result<String, Flaw> {
        let mut rest = String::new();
        let mut left = text.trim_start();
        while !left.is_empty() {
            let (key, value) = left.split_once('=').ok_or(Flaw::Shape)?;
            let (key, value) = (key.trim_end(), value.trim_start());
            let (value, after) = value.split_at(end_of_value(value));
            let plain = unquoted(value);
            if shape::keeps(key, &plain)? && !self.took(key, &plain) {
                rest.push_str(&format!("{key}={value} "));
            }
            left = after.trim_start();
        }
        Ok(rest)
    }

    fn took(&mut self, key: &str, value: &str) -> bool {
        let slot = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root_cert,
            "sslcert" => &mut self.cert,
            "sslkey" => &mut self.key,
            "channel_binding" => &mut self.channel_binding,
            _ => return false,
        };
        // Empty is libpq's way to say: the default.
        *slot = Some(value.to_string()).filter(|value| !value.is_empty());
        true
    }

    fn checked(self, setting: &str) -> Result<tls::TlsSettings, UnusableSetting> {
        let system = self.root_cert.as_deref() == Some("system");
        let mode = match &self.mode {
            None if system => tls::Mode::VerifyFull,
            None => tls::Mode::default(),
            Some(text) => tls::Mode::parse(text).ok_or_else(|| {
                UnusableSetting(format!(
                    "{setting}: sslmode has an unknown value; use disable, allow, prefer, require, verify-ca or \
                     verify-full"
                ))
            })?,
        };
        if system && mode != tls::Mode::VerifyFull {
            return Err(UnusableSetting(format!(
                "{setting}: sslrootcert=system needs sslmode=verify-full, because anybody can have a \
                 certificate from an authority that the system trusts"
            )));
        }
        let channel_binding = match self.channel_binding.as_deref() {
            None => None,
            Some("disable") => Some(ChannelBinding::Disable),
            Some("prefer") => Some(ChannelBinding::Prefer),
            Some("require") => Some(ChannelBinding::Require),
            Some(_) => {
                return Err(UnusableSetting(format!(
                    "{setting}: channel_binding has an unknown value; use disable, prefer or require"
                )));
            }
        };
        let default = |name: &str| {
            let folder = self.home.as_ref()?.join(".postgresql");
            Some(folder.join(name)).filter(|file| file.exists())
        };
        let (mut cert, mut key) = (self.cert.map(PathBuf::from), self.key.map(PathBuf::from));
        match (&cert, &key) {
            (None, None) => {
                (cert, key) = default("postgresql.crt").zip(default("postgresql.key")).unzip();
            }
            (Some(_), None) => key = default("postgresql.key"),
            _ => {}
        }
        let root_cert = self.root_cert.map(PathBuf::from).or_else(|| default("root.crt"));
        Ok(tls::TlsSettings { mode, root_cert, cert, key, channel_binding })
    }
}

/// Where the value at the start of a `key=value` string ends: at its second quote, else at white space.
fn end_of_value(text: &str) -> usize {
    let quoted = text.starts_with('\'');
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(usize::from(quoted)) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return at + 1,
            _ if !quoted && letter.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value);
    let mut letters = inner.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DatabaseUrl, UnusableSetting> {
        DatabaseUrl::parse("DATABASE_URL", url, &|_| None)
    }

    #[test]
    fn tls_parameters_are_read_with_libpq_s_words() {
        let url = parse("postgres://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fca.pem").unwrap();
        assert_eq!(url.tls.mode, tls::Mode::VerifyFull);
        assert_eq!(url.tls.root_cert, Some("/ca.pem".into()));
        assert_eq!(parse("postgres://u@h/d").unwrap().tls.mode, tls::Mode::Prefer);
        assert_eq!(parse("host=h user=u sslmode=disable").unwrap().tls.mode, tls::Mode::Disable);
        assert_eq!(parse("postgres://u@h/d?sslmode=allow").unwrap().tls.mode, tls::Mode::Allow);
        assert!(parse("postgres://u@h/d?sslmode=sure").unwrap_err().0.contains("verify-ca"));
        assert!(parse("postgres://u@h/d?channel_binding=sure").unwrap_err().0.contains("prefer"));
    }

    #[test]
    fn a_key_value_string_is_read_with_its_quotes() {
        let text =
            r"host=h  user=u password='a  b=\'c?' sslmode = require sslrootcert='/a b/%2F.pem'";

        let url = parse(text).unwrap();

        assert_eq!(url.postgres.get_password(), Some(&b"a  b='c?"[..]));
        assert_eq!(url.tls.mode, tls::Mode::Require);
        assert_eq!(url.tls.root_cert, Some("/a b/%2F.pem".into()));
    }

    #[test]
    fn the_authorities_of_the_system_need_the_host_name_verified() {
        assert_eq!(
            parse("postgres://u@h/d?sslrootcert=system").unwrap().tls.mode,
            tls::Mode::VerifyFull
        );
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let weak = format!("postgres://u@h/d?sslrootcert=system&sslmode={mode}");
            assert!(parse(&weak).unwrap_err().0.contains("needs sslmode=verify-full"), "{mode}");
        }
    }

    #[test]
    fn files_in_the_home_folder_are_used_when_none_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        let environment =
            |name: &str| (name == "HOME").then(|| home.path().to_str().unwrap().to_string());
        let read = |url| DatabaseUrl::parse("x", url, &environment).unwrap().tls;
        assert_eq!(read("postgres://u@h/d").root_cert, None);

        std::fs::create_dir(&folder).unwrap();
        for name in ["root.crt", "postgresql.crt", "postgresql.key"] {
            std::fs::write(folder.join(name), "").unwrap();
        }

        let found = read("postgres://u@h/d");
        assert_eq!(found.root_cert, Some(folder.join("root.crt")));
        assert_eq!(found.cert, Some(folder.join("postgresql.crt")));
        assert_eq!(found.key, Some(folder.join("postgresql.key")));
        let named = read("postgres://u@h/d?sslrootcert=/r&sslcert=/c&sslkey=/k");
        assert_eq!(named.root_cert, Some("/r".into()));
        assert_eq!((named.cert, named.key), (Some("/c".into()), Some("/k".into())));
    }

    #[test]
    fn a_socket_of_this_machine_needs_no_tls() {
        let url = parse("postgres://u@%2Ftmp/d?sslmode=verify-full&sslrootcert=/none").unwrap();
        assert_eq!(url.postgres.get_ssl_mode(), SslMode::Disable);
        assert!(url.connector().is_ok());
    }

    #[test]
    fn only_a_socket_and_the_loopback_address_are_this_machine() {
        let local = ["h@localhost/d", "u@127.0.0.1:5433/d", "u@[::1]/d", "u@%2Ftmp/d"];
        let distant =
            ["u@db/d", "u@10.0.0.1/d", "u@localhost,db/d", "u@localhost/d?hostaddr=10.0.0.1"];
        for url in local {
            assert!(parse(&format!("postgres://{url}")).unwrap().is_local(), "{url}");
        }
        for url in distant {
            assert!(!parse(&format!("postgres://{url}")).unwrap().is_local(), "{url}");
        }
    }

    #[test]
    fn the_url_wins_over_the_environment() {
        let environment = |name: &str| (name == "PGSSLMODE").then(|| "require".to_string());
        let url = |url| DatabaseUrl::parse("x", url, &environment).unwrap().tls.mode;
        assert_eq!(url("postgres://u@h/d"), tls::Mode::Require);
        assert_eq!(url("postgres://u@h/d?sslmode=disable"), tls::Mode::Disable);
    }

    #[test]
    fn a_target_given_in_parts_insists_on_tls_as_a_url_does() {
        let environment = |name: &str| match name {
            "SALESFORCE_CONNECT_HOST" => Some("h".to_string()),
            "PGSSLMODE" => Some("verify-full".to_string()),
            _ => None,
        };
        let url = DatabaseUrl::from_parts(&environment).unwrap().unwrap();
        assert_eq!(url.postgres.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn neither_a_good_nor_a_bad_url_shows_its_password() {
        let good = parse("postgres://user:hunter2@host:5433/app").unwrap();
        assert_eq!(format!("{good}|{good:?}"), "app on host:5433|app on host:5433");
        for bad in ["postgres://user:hunter2@host:port/app", "hunter2", "postgres://u:hunter2@/%zz"]
        {
            if let Err(error) = parse(bad) {
                assert!(!error.0.contains("hunter2"), "{error}");
            }
        }
    }
}
