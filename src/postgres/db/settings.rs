//! The settings of our sessions, and how they are set without being left behind in another client's
//! session.

use std::time::Duration;

/// What every session of ours has, whatever is set for the role, the database or the server, and
/// whatever the user asks for in `options`: results depend on it.
///
/// - How values are read and written: an expression of a mapping means the same everywhere, and what is compared is
///   written alike on both sides. `timezone`: the application's timestamps are UTC without zone; casts must not shift them.
/// - `row_security`: rows that a policy hides would be taken for rows that are gone. Off means an error.
/// - `xmlbinary`: by this Heroku Connect's triggers tell our writes from its own, which are not sent.
/// - Isolation: one statement sees one moment, and none is refused because of what others do at the same time.
/// - Limits that end a session or a transaction: ours are in [`LIMITS`].
/// - `plan_cache_mode`: batches are large arrays, of which a plan need not know how large; planning each again costs more
///   than running it, and joins thousands of keys by sorting them. `jit` would be compiling most of the time.
const ALWAYS: [(&str, &str); 21] = [
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("client_encoding", "UTF8"),
    ("timezone", "UTC"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmloption", "content"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("quote_all_identifiers", "off"),
    ("xmlbinary", "base64"),
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("exit_on_error", "off"),
    ("client_min_messages", "warning"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// Settings that not every server has, or that may be stricter already.
///
/// - `synchronous_commit`: what is acknowledged is on the target's disk. A setting that also waits for a replica is kept.
/// - `idle_session_timeout`: since release 14. An older server is refused, but must be reached to be reported so.
/// - `transaction_timeout`: since release 17.
const WHERE_NEEDED: [(&str, &str, &str); 3] = [
    (
        "synchronous_commit",
        "on",
        "current_setting('synchronous_commit') operator(pg_catalog.<>) 'remote_apply'",
    ),
    (
        "idle_session_timeout",
        "0",
        "current_setting('server_version_num')::pg_catalog.int4 operator(pg_catalog.>=) 140000",
    ),
    (
        "transaction_timeout",
        "0",
        "current_setting('server_version_num')::pg_catalog.int4 operator(pg_catalog.>=) 170000",
    ),
];

/// Defaults that the user may change in `options`.
///
/// - `lock_timeout`: a locked target row delays its batch this long; then the others continue without it.
/// - `idle_in_transaction_session_timeout`: a paused process must not hold locks or vacuum back for ever.
const LIMITS: [(&str, &str); 2] =
    [("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "1min")];

/// Of sessions whose plans are kept while tables grow, whatever was set for the role or the database.
///
/// - `enable_seqscan`: a plan that is made while a table is empty would read all of it, in no time, and would still do so
///   when it has a million rows. A table without an index that helps is still read as a whole.
/// - The others: what looks rows up instead.
const PLANS: [(&str, &str); 7] = [
    ("enable_seqscan", "off"),
    ("enable_indexscan", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_tidscan", "on"),
    ("enable_nestloop", "on"),
    ("enable_hashjoin", "on"),
];

/// What a session is for, which decides where names without a schema are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Statements of ours alone.
    Own,
    /// Expressions of a mapping, in statements whose every other name has its schema.
    Evaluate,
    /// Writes that fire triggers of others, in such statements, too.
    Write,
}

impl Use {
    /// Whether its transactions only read. An expression of a mapping that writes is a mistake, or an attack.
    fn only_reads(self) -> bool {
        self == Self::Evaluate
    }

    /// The search path for names without a schema; none: the database's own. Expressions of a
    /// mapping and Heroku Connect's triggers name functions and types without a schema. Ours are in
    /// `pg_catalog` alone: on any other path somebody could leave an operator or a function whose
    /// arguments fit better, and it would run with our rights.
    fn search_path(self) -> Option<&'static str> {
        (self == Self::Own).then_some("pg_catalog, pg_temp")
    }
}

/// What a direct session has besides: the server, too, must notice soon that we have vanished,
/// because it keeps our locks until then.
const DIRECT: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
];

/// A setting that means nothing, asked for when connecting. A pooler refuses it or drops it silently; where it
/// has arrived, the session is ours.
pub const MARK: &str = "schoolbell.session";

/// The startup parameter `options`: the mark, and what the user asks for there.
pub fn at_startup(users: Option<&str>) -> String {
    let mark = format!("-c {MARK}=direct");
    std::iter::once(mark.as_str()).chain(users).collect::<Vec<_>>().join(" ")
}

/// Our settings as statements.
#[derive(Debug)]
pub struct SettingStatements {
    /// Gives a session our settings, except those that the user has set in `options`.
    ///
    /// To be sent as one: without the mark the first statement fails and none is carried out. A pooler would
    /// leave what is set in a session that it lends to the application next.
    pub session: String,
    /// Gives a transaction our settings, for as long as it lasts.
    pub transaction: String,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// The user has set a limit of their own in `options`, which is kept.
    pub users_limit: bool,
}

impl SettingStatements {
    /// `purpose` is shown as the session's name, `users` are the user's own `options`.
    pub fn new(
        purpose: &str,
        users: Option<&str>,
        statement_timeout: Duration,
        session_use: Use,
        keeps_plans: bool,
    ) -> Self {
        let limit = statement_timeout.as_millis().to_string();
        let limits = || LIMITS.into_iter().chain([("statement_timeout", limit.as_str())]);
        let reads = session_use.only_reads();
        let plans = || PLANS.into_iter().filter(move |_| keeps_plans);

        // Defaults would come too late for the transaction that sets them.
        let begin = format!(
            "set transaction isolation level read committed, {}, not deferrable",
            if reads { "read only" } else { "read write" }
        );
        let path = session_use.search_path().map(|path| ("search_path", path));
        let transaction = path.into_iter().map(|path| set("set local", path));
        let values = ALWAYS.into_iter().chain(plans()).chain(limits());
        let transaction = [begin].into_iter().chain(transaction);
        let transaction = transaction.chain(values.map(|pair| set("set local", pair)));
        let transaction = transaction.chain(where_needed(true));

        let check = format!("select pg_catalog.current_setting('{MARK}')");
        let name = set("set", ("application_name", &format!("schoolbell {purpose}")));
        let users = users.unwrap_or_default().to_lowercase();
        let words: Vec<&str> =
            users.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        let chosen = limits().chain(DIRECT).filter(|(name, _)| !words.contains(name));
        let read_only = ("default_transaction_read_only", if reads { "on" } else { "off" });
        let session =
            path.into_iter().chain([read_only]).chain(ALWAYS).chain(plans()).chain(chosen);
        let session = session.map(|pair| set("set", pair));
        let session = [check, name].into_iter().chain(session).chain(where_needed(false));
        Self {
            transaction: transaction.collect::<Vec<_>>().join("; "),
            session: session.collect::<Vec<_>>().join("; "),
            statement_timeout,
            users_limit: words.contains(&"statement_timeout"),
        }
    }
}

/// The settings that every session of ours has, whatever anybody has set.
pub fn settled() -> impl Iterator<Item = &'static str> {
    let always = ALWAYS.into_iter().map(|(name, _)| name);
    let defaults = ["default_transaction_read_only"];
    always.chain(defaults).chain(WHERE_NEEDED.into_iter().map(|(name, ..)| name))
}

/// The value of one of them.
pub fn settled_value(name: &str) -> &'static str {
    let found = ALWAYS.into_iter().find(|(known, _)| *known == name);
    found.expect("it is one of those that every session has").1
}

/// A statement that sets; a path is a list of names and not one of that name.
fn set(how: &str, (name, value): (&str, &str)) -> String {
    match name {
        "search_path" => format!("{how} {name} = {value}"),
        _ => format!("{how} {name} = '{value}'"),
    }
}

fn where_needed(local: bool) -> impl Iterator<Item = String> {
    WHERE_NEEDED.into_iter().map(move |(name, value, needed)| {
        format!(
            "select pg_catalog.set_config('{name}', '{value}', {local}) where pg_catalog.{needed}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_is_left_alone() {
        let users = "-c Lock_timeout=9s -c deadlock_statement_timeout=1 -c timezone=CET";
        assert_eq!(at_startup(Some(users)), format!("-c schoolbell.session=direct {users}"));
        let settings =
            SettingStatements::new("service", Some(users), Duration::from_secs(5), Use::Own, true);
        let settings = settings.session;
        assert!(!settings.contains("set lock_timeout"), "{settings}");
        assert!(settings.contains("; set timezone = 'UTC'; "), "{settings}");
        assert!(settings.contains("; set statement_timeout = '5000'; "), "{settings}");
        assert!(settings.contains("; set enable_seqscan = 'off'; "), "{settings}");
    }

    #[test]
    fn no_user_decides_where_our_own_statements_look_for_names() {
        let users = "-c search_path=theirs";
        let own = SettingStatements::new("service", Some(users), Duration::ZERO, Use::Own, false);
        for settings in [own.session, own.transaction] {
            assert!(settings.contains("search_path = pg_catalog, pg_temp"), "{settings}");
        }
        let theirs =
            SettingStatements::new("service", Some(users), Duration::ZERO, Use::Evaluate, false);
        assert!(!theirs.session.contains("search_path"), "{}", theirs.session);
    }

    #[test]
    fn a_string_ends_in_every_session_where_the_mapping_was_checked_for_it() {
        let users = "-c standard_conforming_strings=off";
        for session_use in [Use::Own, Use::Evaluate, Use::Write] {
            let SettingStatements { session, transaction, .. } =
                SettingStatements::new("service", Some(users), Duration::ZERO, session_use, false);
            assert!(session.contains("; set standard_conforming_strings = 'on';"), "{session}");
            let local = "set local standard_conforming_strings = 'on';";
            assert!(transaction.contains(local), "{transaction}");
        }
    }

    #[test]
    fn what_a_mapping_says_is_evaluated_where_nothing_can_be_written() {
        let SettingStatements { session, transaction, .. } =
            SettingStatements::new("service", None, Duration::ZERO, Use::Evaluate, false);
        assert!(session.contains("; set default_transaction_read_only = 'on';"), "{session}");
        assert!(
            transaction.starts_with("set transaction isolation level read committed, read only, "),
            "{transaction}"
        );
    }
}
