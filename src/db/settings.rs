//! The settings of our sessions, and how they get there without being left behind in anybody else's.

/// What every statement of ours needs.
///
/// - `timezone`: the application's timestamps are UTC without zone; casts must not shift them.
/// - `lock_timeout`: a locked target row delays its batch this long; then the others go on without it.
/// - `statement_timeout`: the longest statement we expect counts or sorts a table of millions.
/// - `idle_in_transaction_session_timeout`: a paused process must not hold locks or vacuum back for ever.
///
/// The search path is left as the server gives it: Heroku Connect's triggers depend on it.
const EVERYWHERE: [(&str, &str); 5] = [
    ("timezone", "UTC"),
    ("lock_timeout", "2s"),
    ("statement_timeout", "10min"),
    ("idle_in_transaction_session_timeout", "1min"),
    ("client_min_messages", "warning"),
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

/// The statements that give a session our settings, except those that the user has set in `options`.
///
/// To be sent as one: without the mark the first fails and none is carried out. A pooler would leave what is set
/// in a session that it lends to the application next.
pub fn for_a_session(purpose: &str, users: Option<&str>) -> String {
    let check = format!("select pg_catalog.current_setting('{MARK}')");
    let name = format!("set application_name = 'schoolbell {purpose}'");
    let settings = EVERYWHERE.iter().chain(&DIRECT);
    let users = users.unwrap_or_default().to_lowercase();
    let words: Vec<&str> =
        users.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let ours = settings.filter(|(name, _)| !words.contains(name));
    let set = ours.map(|(name, value)| format!("set {name} = '{value}'"));
    [check, name].into_iter().chain(set).collect::<Vec<_>>().join("; ")
}

/// The statements that give a transaction our settings, for as long as it lasts.
pub fn for_a_transaction() -> String {
    let set = EVERYWHERE.iter().map(|(name, value)| format!("set local {name} = '{value}'"));
    set.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_is_left_alone() {
        let users = "-c Lock_timeout=9s -c deadlock_statement_timeout=1";
        assert_eq!(at_startup(Some(users)), format!("-c schoolbell.session=direct {users}"));
        let settings = for_a_session("service", Some(users));
        assert!(
            settings.contains("; set timezone = 'UTC'; set statement_timeout = "),
            "{settings}"
        );
    }
}
