//! The settings of our sessions, and how they get there without being left behind in anybody else's.

use std::time::Duration;

/// What every statement of ours needs.
///
/// - `timezone`: the application's timestamps are UTC without zone; casts must not shift them.
/// - `lock_timeout`: a locked target row delays its batch this long; then the others go on without it.
/// - `plan_cache_mode`: batches are large arrays, of which a plan need not know how large; planning each anew costs
///   more than running it, and joins thousands of keys by sorting them.
/// - `idle_in_transaction_session_timeout`: a paused process must not hold locks or vacuum back for ever.
///
/// The search path is left as the server gives it: Heroku Connect's triggers depend on it.
const EVERYWHERE: [(&str, &str); 5] = [
    ("timezone", "UTC"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "1min"),
    ("client_min_messages", "warning"),
    ("plan_cache_mode", "force_generic_plan"),
];

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
    pub fn new(purpose: &str, users: Option<&str>, statement_timeout: Duration) -> Self {
        let limit = statement_timeout.as_millis().to_string();
        let everywhere = || EVERYWHERE.into_iter().chain([("statement_timeout", limit.as_str())]);
        let transaction = everywhere().map(|(name, value)| format!("set local {name} = '{value}'"));
        let check = format!("select pg_catalog.current_setting('{MARK}')");
        let name = format!("set application_name = 'schoolbell {purpose}'");
        let users = users.unwrap_or_default().to_lowercase();
        let words: Vec<&str> =
            users.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        let ours = everywhere().chain(DIRECT).filter(|(name, _)| !words.contains(name));
        let session = ours.map(|(name, value)| format!("set {name} = '{value}'"));
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
        let settings = Settings::new("service", Some(users), Duration::from_secs(5)).session;
        assert!(settings.contains("; set timezone = 'UTC'; set idle_in_transaction"), "{settings}");
        assert!(settings.contains("; set statement_timeout = '5000'; "), "{settings}");
    }
}
