//! The conditions that PostgreSQL knows, each in plain words and with what is to be done about it.
//!
//! A class has the first two letters of its codes. A code that is not in the table is treated as its class; a class that
//! is not in it (a program may raise any code) as [`UNKNOWN`].

/// What a condition means for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same rows may succeed in a moment. With what helps, where waiting alone may not.
    Retry(Option<&'static str>),
    /// No row of the object succeeds until somebody does this.
    Blocked(&'static str),
    /// This row would be refused again until somebody does this.
    Dead(&'static str),
    /// A login that is refused ends the session: connect again. Within a session it is what a trigger raised.
    Login,
}

/// A class of SQLSTATEs, or a single one that differs from its class.
#[derive(Debug)]
pub(super) struct Condition {
    /// Two letters for a class, five for a single SQLSTATE.
    pub(super) code: &'static str,
    /// What happened. It is all that is said where the server's message may quote a row.
    pub(super) words: &'static str,
    pub(super) decision: Decision,
}

const PASSES: Decision = Decision::Retry(None);
/// A failure of another server, reached by a foreign table, a trigger or a function; it may affect
/// one row or all.
const ELSEWHERE: Decision = Decision::Retry(Some(
    "look at the server that the row's expression or trigger asks; it is retried by itself",
));
const SERVER: Decision =
    Decision::Retry(Some("look at the server and its log; it is retried by itself"));
const READ_ONLY: Decision = Decision::Retry(Some(
    "if it is one row: its expression or trigger may not write there. If it is every row: let the URL lead to the primary",
));
const DATABASE: Decision = Decision::Retry(Some("check the database's name in the connection URL"));
const SEQUENCE: Decision =
    Decision::Retry(Some("give the sequence more numbers; it is retried by itself"));
const POOLER: Decision = Decision::Retry(Some(
    "if every statement meets it, a pooler in transaction mode stands in front of the database: give the service a direct \
     connection",
));
const RIGHT: Decision =
    Decision::Blocked("grant the missing right to the role of the connection URL");
const FIT: Decision = Decision::Blocked("make the mapping and the table fit each other again");
const VALUE: Decision =
    Decision::Dead("fix the value in the source row, or change the type of the column");
const CONSTRAINT: Decision = Decision::Dead("fix the source row, or the constraint in the target");
/// What helps where a row is refused by something that is no part of PostgreSQL.
pub(super) const ASK: &str = "ask the owner of the trigger or rule that refused the row";
const OWNER: Decision = Decision::Dead(ASK);

/// What is known of a code whose class is not PostgreSQL's.
pub(super) const UNKNOWN: Condition = is("", "an error", OWNER);
/// The class of what a function raises without a code of its own: its words say nothing more than that.
pub(super) const RAISED: &str = "P0";

const fn is(code: &'static str, words: &'static str, decision: Decision) -> Condition {
    Condition { code, words, decision }
}

/// Every class of the manual, and the codes that people meet.
pub(super) const CONDITIONS: &[Condition] = &[
    is("00", "an error that is called a success", OWNER),
    is("01", "a warning that ended the statement", OWNER),
    is("02", "a row that should be there is missing", OWNER),
    is("03", "an SQL statement is not complete yet", OWNER),
    is("08", "a connection failed", ELSEWHERE),
    is("09", "a triggered action failed", OWNER),
    is("0A", "the server does not support what was asked for", FIT),
    is("0B", "a transaction cannot begin here", OWNER),
    is("0F", "a locator is not valid", OWNER),
    is("0L", "a grantor is not valid", OWNER),
    is("0P", "a role is not valid", OWNER),
    is("0Z", "diagnostics were asked for where there are none", OWNER),
    is("10", "an XQuery failed", OWNER),
    is("20", "no branch of a CASE statement applies", OWNER),
    is("21", "there are more rows than one where only one may be", OWNER),
    is("22", "a value is not valid", VALUE),
    is("22001", "a text is too long", VALUE),
    is("22003", "a number is out of range", VALUE),
    is("22004", "a value is null where it must not be", VALUE),
    is("22007", "a date or time is not valid", VALUE),
    is("22008", "a date or time is out of range", VALUE),
    is("22012", "division by zero", VALUE),
    is("22021", "a character does not exist in the encoding", VALUE),
    is("22023", "a parameter has a value that is not valid", VALUE),
    is("22026", "a bit string has another length", VALUE),
    is("22030", "a JSON object has a key twice", VALUE),
    is("22032", "a JSON text is not valid", VALUE),
    is("2200H", "a sequence has no number left", SEQUENCE),
    is("22P02", "invalid input syntax", VALUE),
    is("22P03", "a binary value is not valid", VALUE),
    is("22P05", "a character cannot be translated into the other encoding", VALUE),
    is("23", "a constraint is violated", CONSTRAINT),
    is("23001", "a row is still referred to", CONSTRAINT),
    is("23502", "a value is null where it must not be", CONSTRAINT),
    is("23503", "a foreign key is violated", CONSTRAINT),
    is("23505", "a value is there already and must be unique", CONSTRAINT),
    is("23514", "a check constraint is violated", CONSTRAINT),
    is("23P01", "an exclusion constraint is violated", CONSTRAINT),
    is("24", "a cursor is not in the state that is needed", OWNER),
    is("25", "the transaction is not in the state that is needed", OWNER),
    is(
        "25006",
        "nothing can be written here: the transaction only reads, or the server is a standby",
        READ_ONLY,
    ),
    is("25P02", "the transaction has failed already", OWNER),
    is("25P03", "the session was idle in a transaction for too long", PASSES),
    is("26", "a prepared statement is unknown to the server", POOLER),
    is("27", "a row was changed by its own trigger", OWNER),
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
    is("2B", "others still depend on it", OWNER),
    is("2D", "the transaction cannot end here", OWNER),
    is("2F", "an SQL function failed", OWNER),
    is("34", "a cursor does not exist", OWNER),
    is("38", "an external function failed", OWNER),
    is("39", "an external function was not called as it must be", OWNER),
    is("3B", "a savepoint is not valid", OWNER),
    is("3D", "there is no database of that name", DATABASE),
    is("3F", "a schema does not exist", FIT),
    is("40", "the transaction was rolled back", PASSES),
    is("40001", "another transaction changed the same rows", PASSES),
    is("40P01", "two transactions waited for each other", PASSES),
    is("42", "the SQL does not fit the database", FIT),
    is("42501", "a right is missing", RIGHT),
    is("42601", "the SQL has a syntax error", FIT),
    is("42703", "a column does not exist", FIT),
    is("42704", "an object does not exist", FIT),
    is("42804", "a type does not fit", FIT),
    is("42883", "a function does not exist", FIT),
    is("42P01", "a table, view or sequence does not exist", FIT),
    is("42P07", "a table exists already", FIT),
    is("42710", "an object exists already", FIT),
    is("44", "the row does not fit the view", OWNER),
    is("53", "the server lacks resources", SERVER),
    is("53100", "the server's disk is full", SERVER),
    is("53200", "the server has no memory left", SERVER),
    is("53300", "no connection is left, for the server, the database or the role", SERVER),
    is("54", "a limit of the server is exceeded", OWNER),
    is("55", "an object is not in the state that is needed", PASSES),
    is("55006", "an object is in use", PASSES),
    is("55P03", "a lock was not to be had", PASSES),
    is("57", "the server or its administrator stepped in", PASSES),
    is("57014", "the statement was cancelled", PASSES),
    is("57P01", "the server or its administrator ended a session", ELSEWHERE),
    is("57P02", "another process of the server crashed", ELSEWHERE),
    is("57P03", "the server takes no connections now", ELSEWHERE),
    is("57P04", "the database was dropped", ELSEWHERE),
    is("57P05", "the session was idle for too long", PASSES),
    is("58", "the server's system failed", SERVER),
    is("58030", "the server could not read or write a file", SERVER),
    is("72", "a snapshot is too old", PASSES),
    is("F0", "the server's configuration is not valid", OWNER),
    is("HV", "a foreign data wrapper failed", ELSEWHERE),
    is(RAISED, "an exception was raised", OWNER),
    is("XX", "the server has an internal error", PASSES),
    is("XX001", "data of the server is corrupted", PASSES),
    is("XX002", "an index of the server is corrupted", PASSES),
];

/// The first two letters of a code, which a pooler between us and the server may have made shorter.
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
