//! The conditions that PostgreSQL knows, each in plain words and with what is to be done about it.
//!
//! A class has the first two letters of its codes. A code that is not in the table is treated as its class. A
//! program may raise any code; one whose class is not in the table is treated as [`UNKNOWN`].

/// What a condition means for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same rows may succeed in a moment. With what helps, where waiting alone may not.
    Retry(Option<&'static str>),
    /// No row of the object succeeds until somebody does this. It is retried until then.
    Blocked(&'static str),
    /// This row would be refused again until somebody does this.
    Dead(&'static str),
    /// A refused login: connect again. In an open session it can only have been raised by a trigger; then it is dead.
    Login,
}

/// A class of SQLSTATEs, or a single one that differs from its class.
#[derive(Debug)]
pub(super) struct Condition {
    /// Two letters for a class, five for a single SQLSTATE.
    pub(super) code: &'static str,
    /// What happened. Shown instead of the server's message where that may quote a row.
    pub(super) words: &'static str,
    pub(super) decision: Decision,
}

const RETRY: Decision = Decision::Retry(None);
/// A failure of another server, reached by a foreign table, a trigger or a function; it may affect
/// one row or all.
const RETRY_OTHER_SERVER: Decision = Decision::Retry(Some(
    "look at the server that the row's expression or trigger asks; it is retried by itself",
));
const RETRY_AT_SERVER: Decision =
    Decision::Retry(Some("look at the server and its log; it is retried by itself"));
const RETRY_IF_WRITABLE: Decision = Decision::Retry(Some(
    "if it is one row: its expression or trigger may not write there. If it is every row: let the URL lead to the primary",
));
const RETRY_WITH_NAME: Decision =
    Decision::Retry(Some("check the database's name in the connection URL"));
const RETRY_WITH_NUMBERS: Decision =
    Decision::Retry(Some("give the sequence more numbers; it is retried by itself"));
const RETRY_DIRECTLY: Decision = Decision::Retry(Some(
    "if every statement meets it, a pooler in transaction mode stands in front of the database: give the service a direct \
     connection",
));
const BLOCKED_BY_RIGHT: Decision =
    Decision::Blocked("grant the missing right to the role of the connection URL");
const BLOCKED_BY_MISFIT: Decision =
    Decision::Blocked("make the mapping and the table fit each other again");
const DEAD_VALUE: Decision =
    Decision::Dead("fix the value in the source row, or change the type of the column");
const DEAD_CONSTRAINT: Decision =
    Decision::Dead("fix the source row, or the constraint in the target");
/// What helps where a row is refused by something that is no part of PostgreSQL.
pub(super) const ASK: &str = "ask the owner of the trigger or rule that refused the row";
const DEAD_ASK_OWNER: Decision = Decision::Dead(ASK);

/// What is known of a code whose class is not PostgreSQL's.
pub(super) const UNKNOWN: Condition = is("", "an error", DEAD_ASK_OWNER);
/// The class of what a function raises without a code of its own: its words say nothing more than that.
pub(super) const RAISED: &str = "P0";

const fn is(code: &'static str, words: &'static str, decision: Decision) -> Condition {
    Condition { code, words, decision }
}

/// Every class of the manual, and the codes that people meet.
pub(super) const CONDITIONS: &[Condition] = &[
    is("00", "an error that is called a success", DEAD_ASK_OWNER),
    is("01", "a warning that ended the statement", DEAD_ASK_OWNER),
    is("02", "a row that should be there is missing", DEAD_ASK_OWNER),
    is("03", "an SQL statement is not complete yet", DEAD_ASK_OWNER),
    is("08", "a connection failed", RETRY_OTHER_SERVER),
    is("09", "a triggered action failed", DEAD_ASK_OWNER),
    is("0A", "the server does not support what was asked for", BLOCKED_BY_MISFIT),
    is("0B", "a transaction cannot begin here", DEAD_ASK_OWNER),
    is("0F", "a locator is not valid", DEAD_ASK_OWNER),
    is("0L", "a grantor is not valid", DEAD_ASK_OWNER),
    is("0P", "a role is not valid", DEAD_ASK_OWNER),
    is("0Z", "diagnostics were asked for where there are none", DEAD_ASK_OWNER),
    is("10", "an XQuery failed", DEAD_ASK_OWNER),
    is("20", "no branch of a CASE statement applies", DEAD_ASK_OWNER),
    is("21", "there are more rows than one where only one may be", DEAD_ASK_OWNER),
    is("22", "a value is not valid", DEAD_VALUE),
    is("22001", "a text is too long", DEAD_VALUE),
    is("22003", "a number is out of range", DEAD_VALUE),
    is("22004", "a value is null where it must not be", DEAD_VALUE),
    is("22007", "a date or time is not valid", DEAD_VALUE),
    is("22008", "a date or time is out of range", DEAD_VALUE),
    is("22012", "division by zero", DEAD_VALUE),
    is("22021", "a character does not exist in the encoding", DEAD_VALUE),
    is("22023", "a parameter has a value that is not valid", DEAD_VALUE),
    is("22026", "a bit string has another length", DEAD_VALUE),
    is("22030", "a JSON object has a key twice", DEAD_VALUE),
    is("22032", "a JSON text is not valid", DEAD_VALUE),
    is("2200H", "a sequence has no number left", RETRY_WITH_NUMBERS),
    is("22P02", "invalid input syntax", DEAD_VALUE),
    is("22P03", "a binary value is not valid", DEAD_VALUE),
    is("22P05", "a character cannot be translated into the other encoding", DEAD_VALUE),
    is("23", "a constraint is violated", DEAD_CONSTRAINT),
    is("23001", "a row is still referred to", DEAD_CONSTRAINT),
    is("23502", "a value is null where it must not be", DEAD_CONSTRAINT),
    is("23503", "a foreign key is violated", DEAD_CONSTRAINT),
    is("23505", "a value is there already and must be unique", DEAD_CONSTRAINT),
    is("23514", "a check constraint is violated", DEAD_CONSTRAINT),
    is("23P01", "an exclusion constraint is violated", DEAD_CONSTRAINT),
    is("24", "a cursor is not in the state that is needed", DEAD_ASK_OWNER),
    is("25", "the transaction is not in the state that is needed", DEAD_ASK_OWNER),
    is(
        "25006",
        "nothing can be written here: the transaction only reads, or the server is a standby",
        RETRY_IF_WRITABLE,
    ),
    is("25P02", "the transaction has failed already", DEAD_ASK_OWNER),
    is("25P03", "the session was idle in a transaction for too long", RETRY),
    is("26", "a prepared statement is unknown to the server", RETRY_DIRECTLY),
    is("27", "a row was changed by its own trigger", DEAD_ASK_OWNER),
    is("28", "the login is refused", Decision::Login),
    is(
        "28000",
        "the login is refused: there is no such role, it may not log in, or pg_hba.conf does not let it in from here",
        Decision::Login,
    ),
    is(
        "28P01",
        "the login is refused: the password is wrong, or there is no such role",
        Decision::Login,
    ),
    is("2B", "others still depend on it", DEAD_ASK_OWNER),
    is("2D", "the transaction cannot end here", DEAD_ASK_OWNER),
    is("2F", "an SQL function failed", DEAD_ASK_OWNER),
    is("34", "a cursor does not exist", DEAD_ASK_OWNER),
    is("38", "an external function failed", DEAD_ASK_OWNER),
    is("39", "an external function was not called as it must be", DEAD_ASK_OWNER),
    is("3B", "a savepoint is not valid", DEAD_ASK_OWNER),
    is("3D", "there is no database of that name", RETRY_WITH_NAME),
    is("3F", "a schema does not exist", BLOCKED_BY_MISFIT),
    is("40", "the transaction was rolled back", RETRY),
    is("40001", "another transaction changed the same rows", RETRY),
    is("40P01", "two transactions waited for each other", RETRY),
    is("42", "the SQL does not fit the database", BLOCKED_BY_MISFIT),
    is("42501", "a right is missing", BLOCKED_BY_RIGHT),
    is("42601", "the SQL has a syntax error", BLOCKED_BY_MISFIT),
    is("42703", "a column does not exist", BLOCKED_BY_MISFIT),
    is("42704", "an object does not exist", BLOCKED_BY_MISFIT),
    is("42804", "a type does not fit", BLOCKED_BY_MISFIT),
    is("42883", "a function does not exist", BLOCKED_BY_MISFIT),
    is("42P01", "a table, view or sequence does not exist", BLOCKED_BY_MISFIT),
    is("42P07", "a table exists already", BLOCKED_BY_MISFIT),
    is("42710", "an object exists already", BLOCKED_BY_MISFIT),
    is("44", "the row does not fit the view", DEAD_ASK_OWNER),
    is("53", "the server lacks resources", RETRY_AT_SERVER),
    is("53100", "the server's disk is full", RETRY_AT_SERVER),
    is("53200", "the server has no memory left", RETRY_AT_SERVER),
    is("53300", "no connection is left, for the server, the database or the role", RETRY_AT_SERVER),
    is("54", "a limit of the server is exceeded", DEAD_ASK_OWNER),
    is("55", "an object is not in the state that is needed", RETRY),
    is("55006", "an object is in use", RETRY),
    is("55P03", "a lock was not to be had", RETRY),
    is("57", "the server or its administrator stepped in", RETRY),
    is("57014", "the statement was cancelled", RETRY),
    is("57P01", "the server or its administrator ended a session", RETRY_OTHER_SERVER),
    is("57P02", "another process of the server crashed", RETRY_OTHER_SERVER),
    is("57P03", "the server takes no connections now", RETRY_OTHER_SERVER),
    is("57P04", "the database was dropped", RETRY_OTHER_SERVER),
    is("57P05", "the session was idle for too long", RETRY),
    is("58", "the server's system failed", RETRY_AT_SERVER),
    is("58030", "the server could not read or write a file", RETRY_AT_SERVER),
    is("72", "a snapshot is too old", RETRY),
    is("F0", "the server's configuration is not valid", DEAD_ASK_OWNER),
    is("HV", "a foreign data wrapper failed", RETRY_OTHER_SERVER),
    is(RAISED, "an exception was raised", DEAD_ASK_OWNER),
    is("XX", "the server has an internal error", RETRY),
    is("XX001", "data of the server is corrupted", RETRY),
    is("XX002", "an index of the server is corrupted", RETRY),
];

/// The first two letters of a code. Some poolers send shorter codes.
pub(super) fn class(sqlstate: &str) -> &str {
    sqlstate.get(..2).unwrap_or(sqlstate)
}

impl Condition {
    /// What is known of a code.
    pub(super) fn of(sqlstate: &str) -> &'static Self {
        let find = |code: &str| CONDITIONS.iter().find(|condition| condition.code == code);
        find(sqlstate).or_else(|| find(class(sqlstate))).unwrap_or(&UNKNOWN)
    }
}
