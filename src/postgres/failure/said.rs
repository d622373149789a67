//! What may be repeated of a server's error.
//!
//! Promise: a sentence made here holds names and numbers of the database's own, and no value of a
//! row: whatever the row holds, whatever raised the error, in whatever language the server speaks.
//! So no part is cut out of a message. It is shown whole when the server function that wrote it
//! never puts a value into it, and otherwise not at all.

use tokio_postgres::error::{DbError, ErrorPosition, Severity};

use super::condition::{Condition, RAISED, class};

/// Functions of the server whose messages hold numbers, types and settings, but neither a value nor the name of anything.
const NAMELESS: &[&str] = &[
    // Lengths and sizes.
    "varchar_input",
    "varchar",
    "bpchar_input",
    "bpchar",
    "apply_typmod",
    "apply_typmod_special",
    "RelationGetBufferForTuple",
    // Numbers into smaller types, and through floating point.
    "i4toi2",
    "int82",
    "int84",
    "i8tooid",
    "ftoi2",
    "ftoi4",
    "ftoi8",
    "dtoi2",
    "dtoi4",
    "dtoi8",
    "dtof",
    "numeric_int2",
    "numeric_int4",
    "numeric_int8",
    "numeric_div",
    "numeric_mod",
    "float_overflow_error",
    "float_underflow_error",
    "float_zero_divide_error",
    // Time-outs, cancellation, locks, plans.
    "ProcessInterrupts",
    "DeadLockReport",
    "RevalidateCachedQuery",
    FULL_QUEUE,
    "quickdie",
    // A full disk: the message names a file by numbers.
    "mdextend",
    "mdzeroextend",
    "mdwrite",
    "mdwritev",
    "BufFileDumpBuffer",
    // Before a session begins.
    "InitProcess",
    "ProcessStartupPacket",
    "BackendInitialize",
];

/// Functions of the server whose messages and fields name what exists in the database, and hold no value. They are shown
/// only where no function was running, which could have made something whose name is a value.
///
/// Those that look something up by a name are not among them, nor those that refuse a login: somebody may have put the
/// password where the user's name belongs.
const NAMING: &[&str] = &[
    // A right is missing, or the owner must do it.
    "aclcheck_error",
    "aclcheck_error_col",
    HIDDEN_ROWS,
    // Constraints, domains, row security.
    "ExecConstraints",
    "ReportNotNullViolationError",
    "ExecPartitionCheckEmitError",
    "ExecFindPartition",
    "ExecWithCheckOptions",
    "_bt_check_unique",
    "check_exclusion_or_unique_constraint",
    "ri_ReportViolation",
    "ExecEvalConstraintCheck",
    "ExecEvalConstraintNotNull",
    "domain_check_input",
    // Sizes, locks, sequences.
    "index_form_tuple",
    "index_form_tuple_context",
    "_bt_check_third_page",
    "heap_lock_tuple",
    "nextval_internal",
    // Before a session begins: the database.
    "InitPostgres",
    "CheckMyDatabase",
];

/// Where a transaction is refused because the queue of notices is full.
pub(super) const FULL_QUEUE: &str = "PreCommit_Notify";
/// Where a policy of row security hides rows, and the session asks for an error instead.
pub(super) const HIDDEN_ROWS: &str = "check_enable_rls";
/// Functions of the server that refuse a login. They name role, database and address.
const LOGIN: &[&str] = &["auth_failed", "ClientAuthentication", "InitializeSessionUserId"];
/// In the languages of the server's messages, what comes after a name.
const CLOSING_QUOTES: [char; 5] = ['"', '«', '»', '“', '”'];

/// Functions of the server that quote a value, with the type that they read it for; "" where that varies or the words
/// for the code say enough.
const QUOTING: &[(&str, &str)] = &[
    ("pg_strtoint16", "smallint"),
    ("pg_strtoint32", "integer"),
    ("pg_strtoint64", "bigint"),
    ("scanint8", "bigint"),
    ("uint32in_subr", "oid"),
    ("oidin_subr", "oid"),
    ("float4in", "real"),
    ("float4in_internal", "real"),
    ("float8in_internal", "double precision"),
    ("numeric_in", "numeric"),
    ("set_var_from_str", "numeric"),
    ("set_var_from_non_decimal_integer_str", "numeric"),
    ("boolin", "boolean"),
    ("string_to_uuid", "uuid"),
    ("byteain", "bytea"),
    ("hex_decode", "bytea"),
    ("get_hex", "bytea"),
    ("json_ereport_error", "json"),
    ("json_errsave_error", "json"),
    ("report_parse_error", "json"),
    ("network_in", "inet"),
    ("macaddr_in", "macaddr"),
    ("date_in", "date"),
    ("timestamp_in", "timestamp"),
    ("timestamptz_in", "timestamp with time zone"),
    ("interval_in", "interval"),
    ("enum_in", "enum"),
    ("DateTimeParseError", ""),
    ("report_invalid_encoding", ""),
    ("report_untranslatable_char", ""),
    ("PreventCommandIfReadOnly", ""),
];

/// What Heroku Connect's triggers use. The longer name first, as it contains the other.
const HEROKU_CONNECTS: &[&str] = &["_trigger_log_id_seq", "_trigger_log"];

/// Where `raise` of PL/pgSQL reports from: every field of the error is the function's own, also those that name things.
const RAISE: &str = "exec_stmt_raise";
/// The next step, where the message is not shown.
const LOG: &str = "its message is in the server's log";

/// The fields of a server's error that something is decided by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said<'e> {
    pub(super) sqlstate: &'e str,
    pub(super) message: &'e str,
    /// The server's function that reports the error. A pooler names none.
    pub(super) routine: Option<&'e str>,
    /// A function was running: then even the text of a statement may come from a row.
    pub(super) within_a_function: bool,
    /// It points at a place in the text that we sent.
    pub(super) at_our_text: bool,
    pub(super) ends_the_session: bool,
    /// What the error names, where that is anything.
    pub(super) names: [(&'static str, Option<&'e str>); 4],
}

/// What may be said of an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// The server's message.
    Whole(String),
    /// Words of ours.
    Ours(String),
}

impl Sentence {
    /// Without the code, for where that is told apart.
    pub(super) fn text(self) -> String {
        match self {
            Self::Whole(text) | Self::Ours(text) => text,
        }
    }

    /// For a line of its own: our words are for many kinds of errors, so they need the code.
    pub(super) fn with_code(self, sqlstate: &str) -> String {
        match self {
            Self::Whole(text) => text,
            Self::Ours(text) => format!("{text} ({sqlstate})"),
        }
    }
}

impl<'e> Said<'e> {
    #[expect(clippy::disallowed_methods, reason = "here it is decided what is shown")]
    pub(super) fn of(db: &'e DbError) -> Self {
        Self {
            sqlstate: db.code().code(),
            message: db.message(),
            routine: db.routine(),
            within_a_function: db.where_().is_some(),
            at_our_text: matches!(db.position(), Some(ErrorPosition::Original(_))),
            ends_the_session: ends_the_session(db),
            names: [
                ("column", db.column()),
                ("constraint", db.constraint()),
                ("table", db.table()),
                ("type", db.datatype()),
            ],
        }
    }

    pub(super) fn condition(&self) -> &'static Condition {
        Condition::of(self.sqlstate)
    }

    /// The error as a sentence without values.
    pub(super) fn sentence(&self) -> Sentence {
        let words = self.condition().words;
        if self.is_one_of(NAMELESS) || is_integer_arithmetic(self.routine.unwrap_or_default()) {
            return Sentence::Whole(self.message.to_string());
        }
        if self.is_one_of(NAMING) && !self.within_a_function {
            return Sentence::Whole(self.message_with_names());
        }
        if self.is_one_of(LOGIN) && !self.within_a_function {
            return self.login();
        }
        if self.is_about_our_text() || self.is_a_pooler_s() {
            return Sentence::Whole(self.message.to_string());
        }
        let routine = self.routine.map(since_release_16);
        Sentence::Ours(match QUOTING.iter().find(|(name, _)| Some(*name) == routine) {
            Some((_, "")) => words.to_string(),
            Some((_, of_type)) => format!("{words} for type {of_type}"),
            None if routine == Some(RAISE) => self.raised(),
            None if self.is_one_of(NAMING) => self.within(),
            None => format!("{words}; {LOG}"),
        })
    }

    /// The message of a statement that reads no row.
    pub(super) fn sentence_without_rows(&self) -> Sentence {
        // A function may read rows that the statement does not name.
        match self.within_a_function || self.routine == Some(RAISE) {
            true => self.sentence(),
            false => Sentence::Whole(self.message.to_string()),
        }
    }

    /// Without names, as somebody may have put the password where the user's belongs. What the server adds behind them is
    /// kept: it tells of TLS.
    fn login(&self) -> Sentence {
        match self.message.rfind(CLOSING_QUOTES) {
            None => Sentence::Whole(self.message.to_string()),
            Some(last) => {
                let rest = self.message[last..].trim_start_matches(CLOSING_QUOTES);
                let rest = if rest.starts_with(',') { rest } else { "" };
                Sentence::Ours(self.condition().words.to_string() + rest)
            }
        }
    }

    /// Within a function only names that we know beforehand are shown.
    fn within(&self) -> String {
        let words = self.condition().words;
        match HEROKU_CONNECTS.iter().find(|name| self.message.contains(*name)) {
            Some(name) => format!("{words} on {name}, within a trigger or function"),
            None => format!("{words}, within a trigger or function; {LOG}"),
        }
    }

    fn raised(&self) -> String {
        let condition = self.condition();
        match condition.code {
            "" | RAISED => format!("a trigger or function raised an error; {LOG}"),
            _ => format!("a trigger or function raised an error: {}; {LOG}", condition.words),
        }
    }

    fn is_one_of(&self, routines: &[&str]) -> bool {
        self.routine.is_some_and(|routine| routines.contains(&since_release_16(routine)))
    }

    /// Names and syntax of what we sent. Values are parameters, so none is in that text; what a function sends while it
    /// runs is another text, into which it may have put some.
    fn is_about_our_text(&self) -> bool {
        class(self.sqlstate) == "42"
            && self.at_our_text
            && !self.within_a_function
            && self.routine != Some(RAISE)
    }

    /// A pooler ends a connection with a message of its own and knows no function. What a server says has one. Where it
    /// repeats something (`no such user: bell`), that is what the connection URL says.
    fn is_a_pooler_s(&self) -> bool {
        let repeats = self.message.contains([':', '"', '\'']);
        self.routine.is_none() && self.ends_the_session && !self.within_a_function && !repeats
    }

    fn message_with_names(&self) -> String {
        let mut message = self.message.to_string();
        for (what, name) in self.names {
            if let Some(name) = name.filter(|name| !message.contains(name)) {
                message.push_str(&format!(", {what} {name}"));
            }
        }
        message
    }
}

/// What reports without raising, which some functions do since release 16, has the old name with an ending.
fn since_release_16(routine: &str) -> &str {
    ["_safe", "_opt_error"].iter().find_map(|end| routine.strip_suffix(end)).unwrap_or(routine)
}

/// `int4div`, `int28pl`: `integer out of range`, `division by zero`.
fn is_integer_arithmetic(routine: &str) -> bool {
    let Some(rest) = since_release_16(routine).strip_prefix("int") else { return false };
    let operation = rest.trim_start_matches(['2', '4', '8']);
    let operations = ["pl", "mi", "mul", "div", "mod", "um", "abs", "inc", "dec"];
    operation.len() < rest.len() && operations.contains(&operation)
}

fn ends_the_session(db: &DbError) -> bool {
    match db.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // Only a pooler between us and the server leaves it out, and it does not translate.
        None => db.severity() == "FATAL",
    }
}
