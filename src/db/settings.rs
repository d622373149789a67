//! The settings of our sessions, and how they get there without being left behind in anybody else's.

use std::time::Duration;

/// What every statement of ours needs.
///
/// - `timezone`: the application's timestamps are UTC without zone; casts must not shift them.
/// - `lock_timeout`: a locked target row delays its batch this long; then the others go on without it.
/// - `plan_cache_mode`: batches are large arrays, of which a plan need not know how large; planning each anew costs
///   more than running it, and joins thousands of keys by sorting them.
/// - `idle_in_transaction_session_timeout`: a paused process must not hold locks or vacuum back for ever.
const EVERYWHERE: [(&str, &str); 5] = [
    ("timezone", "UTC"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "1min"),
    ("client_min_messages", "warning"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// What must be so whatever the user asks for in `options`: it decides what our own statements mean.
///
/// - `search_path`: an operator or a function is looked for in `pg_catalog` alone. On any other path somebody could
///   leave one whose arguments fit better, and it would run with our rights.
/// - `standard_conforming_strings`: where a string ends is decided before a statement is sent.
const OURS: [(&str, &str); 2] =
    [("search_path", "pg_catalog, pg_temp"), ("standard_conforming_strings", "on")];

/// What a session has that evaluates what a mapping says. Its search path is the database's own: expressions name
/// functions and types without a schema.
///
/// - `default_transaction_read_only`: an expression that writes is a mistake, or an attack.
const EVALUATOR: [(&str, &str); 2] =
    [("default_transaction_read_only", "on"), ("standard_conforming_strings", "on")];

/// What a session has that writes into the mapped tables. Its search path is the database's own: Heroku Connect's
/// triggers call functions without naming their schema.
const WRITER: [(&str, &str); 1] = [("standard_conforming_strings", "on")];

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
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Own => &OURS,
            Self::Evaluate => &EVALUATOR,
            Self::Write => &WRITER,
        }
    }
}

/// What a session of our own has besides: the server, too, must notice soon that we have vanished, because it
/// keeps our locks until then.
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
pub struct Settings {
    /// Gives a session our settings, except those that the user has set in `options`.
    ///
    /// To be sent as one: without the mark the first statement fails and none is carried out. A pooler would
    /// leave what is set in a session that it lends to the application next.
    pub session: String,
    /// Gives a transaction our settings, for as long as it lasts.
    pub transaction: String,
}

impl Settings {
    /// `purpose` is shown as the session's name, `users` are the user's own `options`.
    pub fn new(
        purpose: &str,
        users: Option<&str>,
        statement_timeout: Duration,
        session_use: Use,
    ) -> Self {
        let limit = statement_timeout.as_millis().to_string();
        let everywhere = || EVERYWHERE.into_iter().chain([("statement_timeout", limit.as_str())]);
        let fixed = || session_use.settings().iter().copied();
        let transaction = fixed().map(|(name, value)| match name {
            // A default would come too late for the transaction that sets it.
            "default_transaction_read_only" => "set transaction read only".to_string(),
            _ => format!("set local {name} = {value}"),
        });
        let transaction = transaction
            .chain(everywhere().map(|(name, value)| format!("set local {name} = '{value}'")));
        let check = format!("select pg_catalog.current_setting('{MARK}')");
        let name = format!("set application_name = 'schoolbell {purpose}'");
        let users = users.unwrap_or_default().to_lowercase();
        let words: Vec<&str> =
            users.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        let ours = everywhere().chain(DIRECT).filter(|(name, _)| !words.contains(name));
        let session = ours.map(|(name, value)| format!("set {name} = '{value}'"));
        let session = fixed().map(|(name, value)| format!("set {name} = {value}")).chain(session);
        Self {
            transaction: transaction.collect::<Vec<_>>().join("; "),
            session: [check, name].into_iter().chain(session).collect::<Vec<_>>().join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_is_left_alone() {
        let users = "-c Lock_timeout=9s -c deadlock_statement_timeout=1";
        assert_eq!(at_startup(Some(users)), format!("-c schoolbell.session=direct {users}"));
        let settings = Settings::new("service", Some(users), Duration::from_secs(5), Use::Own);
        let settings = settings.session;
        assert!(settings.contains("; set timezone = 'UTC'; set idle_in_transaction"), "{settings}");
        assert!(settings.contains("; set statement_timeout = '5000'; "), "{settings}");
    }

    #[test]
    fn no_user_decides_where_our_own_statements_look_for_names() {
        let users = "-c search_path=theirs";
        let own = Settings::new("service", Some(users), Duration::ZERO, Use::Own);
        for settings in [own.session, own.transaction] {
            assert!(settings.contains("search_path = pg_catalog, pg_temp"), "{settings}");
        }
        let theirs = Settings::new("service", Some(users), Duration::ZERO, Use::Evaluate);
        assert!(!theirs.session.contains("search_path"), "{}", theirs.session);
    }

    #[test]
    fn a_string_ends_in_every_session_where_the_mapping_was_checked_for_it() {
        let users = "-c standard_conforming_strings=off";
        for session_use in [Use::Own, Use::Evaluate, Use::Write] {
            let Settings { session, transaction } =
                Settings::new("service", Some(users), Duration::ZERO, session_use);
            assert!(session.contains("; set standard_conforming_strings = on;"), "{session}");
            let local = "set local standard_conforming_strings = on;";
            assert!(transaction.contains(local), "{transaction}");
        }
    }

    #[test]
    fn what_a_mapping_says_is_evaluated_where_nothing_can_be_written() {
        let Settings { session, transaction } =
            Settings::new("service", None, Duration::ZERO, Use::Evaluate);
        assert!(session.contains("; set default_transaction_read_only = on;"), "{session}");
        assert!(transaction.starts_with("set transaction read only; "), "{transaction}");
    }
}
