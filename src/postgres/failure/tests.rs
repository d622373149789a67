use super::condition::{CONDITIONS, Condition};
use super::said::{Said, Sentence};
use super::*;

/// Every class of the manual's list, up to release 18.
const CLASSES: [&str; 45] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22",
    "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40",
    "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX", "QQ",
];
const MARKER: &str = "Zebrafink";

/// As a type of the server reports a value, with the quotes of several languages, and with quotes in the value.
const QUOTING_MESSAGES: [&str; 7] = [
    "invalid input syntax for type integer: \"Zebra\"Zebrafink\"fink\"",
    "ungültige Eingabesyntax für Typ integer: »Zebrafink«",
    "syntaxe en entrée invalide pour le type integer : « Zebrafink »",
    "неверный синтаксис для типа integer: \"Zebrafink\"",
    "\"Zebrafink\"型の入力構文が不正です",
    "Zebrafink is no number",
    "Zebrafink",
];

fn raised<'a>(sqlstate: &'a str, message: &'a str) -> Said<'a> {
    Said {
        sqlstate,
        message,
        routine: Some("exec_stmt_raise"),
        within_a_function: true,
        names: [
            ("column", Some(MARKER)),
            ("constraint", Some(MARKER)),
            ("table", Some(MARKER)),
            ("type", Some(MARKER)),
        ],
        ..Said::default()
    }
}

/// Everything that is made of an error for people.
fn shown(said: Said<'_>) -> Vec<String> {
    let whole = said.sentence().with_code(said.sqlstate);
    let free = said.sentence_without_rows().with_code(said.sqlstate);
    vec![Failure::from(said).to_string(), whole, free]
}

#[test]
fn every_class_has_words_of_its_own_and_what_becomes_of_it() {
    for class in CLASSES.into_iter().filter(|class| *class != "QQ") {
        let condition = Condition::of(&format!("{class}ZZZ"));
        assert_eq!(condition.code, class);
        assert!(!condition.words.is_empty() && condition.words.is_ascii(), "{condition:?}");
    }
    for condition in CONDITIONS {
        let found = CONDITIONS.iter().filter(|other| other.code == condition.code).count();
        assert_eq!(found, 1, "{} is there twice", condition.code);
        assert!(matches!(condition.code.len(), 2 | 5), "{condition:?}");
        assert!(CLASSES.contains(&condition::class(condition.code)), "{condition:?}");
    }
    for odd in ["", "4", "é", "4é", "QQQQQ", "123456789"] {
        assert!(!shown(raised(odd, MARKER)).concat().contains(MARKER));
    }
}

#[test]
fn what_becomes_of_a_code_is_decided_by_its_class_but_for_a_few() {
    let decided = |sqlstate: &str, ends_the_session: bool| {
        let failure: Failure = Said { sqlstate, ends_the_session, ..Said::default() }.into();
        match failure {
            Failure::Reconnect(_) => "reconnect",
            Failure::Retry(_) => "retry",
            Failure::Blocked(_) => "blocked",
            Failure::Dead(_) => "dead",
        }
    };
    for class in CLASSES {
        let wanted = match class {
            "0A" | "3F" | "42" => ["blocked", "reconnect"],
            "08" | "26" | "3D" | "40" | "53" | "55" | "57" | "58" | "72" | "HV" | "XX" => {
                ["retry", "reconnect"]
            }
            _ => ["dead", "reconnect"],
        };
        let code = format!("{class}ZZZ");
        assert_eq!([decided(&code, false), decided(&code, true)], wanted, "{class}");
    }
    for (code, wanted) in [
        ("25006", "retry"),
        ("25P03", "retry"),
        ("25P02", "dead"),
        ("2200H", "retry"),
        ("42501", "blocked"),
        ("55P03", "retry"),
        ("57014", "retry"),
        ("57P01", "retry"),
    ] {
        assert_eq!(decided(code, false), wanted, "{code}");
        assert_eq!(decided(code, true), "reconnect", "{code} ends the session");
    }
    for condition in CONDITIONS.iter().filter(|condition| condition.code.len() == 5) {
        let class = Condition::of(condition::class(condition.code));
        let own = ["25006", "25P03", "2200H", "42501", "57P01", "57P02", "57P03", "57P04"];
        let differs = condition.decision != class.decision;
        assert_eq!(differs, own.contains(&condition.code), "{condition:?}");
    }
}

#[test]
fn no_field_of_an_error_that_a_function_raises_is_shown_whatever_its_class() {
    for class in CLASSES {
        for code in [format!("{class}000"), format!("{class}P01"), format!("{class}ZZZ")] {
            for ends_the_session in [false, true] {
                let said = Said { ends_the_session, at_our_text: true, ..raised(&code, MARKER) };
                for text in shown(said) {
                    assert!(!text.contains(MARKER), "{text}");
                    assert!(text.contains("a trigger or function raised an error"), "{text}");
                }
                // As another language, or an extension, raises it.
                for routine in ["PLy_elog_impl", "plperl_call_perl_func", "anything", ""] {
                    let said = Said { routine: Some(routine), ..said };
                    assert!(!shown(said).concat().contains(MARKER), "{routine} {code}");
                }
                let said = Said { routine: None, ..said };
                assert!(!shown(said).concat().contains(MARKER), "{code} of no function");
            }
        }
    }
}

/// What the server adds about where an error comes from may be lost on the way.
#[test]
fn what_a_function_raises_is_known_by_its_routine_alone() {
    for sqlstate in ["P0001", "42703", "22P02"] {
        let said = Said { within_a_function: false, at_our_text: true, ..raised(sqlstate, MARKER) };
        assert!(!shown(said).concat().contains(MARKER), "{:?}", shown(said));
    }
}

#[test]
fn a_message_that_quotes_a_value_is_not_shown_in_any_language() {
    for message in QUOTING_MESSAGES {
        for routine in ["pg_strtoint32", "pg_strtoint32_safe", "json_errsave_error", "enum_in"] {
            let said =
                Said { sqlstate: "22P02", message, routine: Some(routine), ..Said::default() };
            let text = Failure::from(said).to_string();
            assert!(text.starts_with("invalid input syntax for type "), "{text}");
            assert!(!text.contains(MARKER) && !text.contains("Zebra"), "{text}");
        }
    }
}

#[test]
fn a_message_without_values_is_shown_in_the_server_s_language_with_the_names_it_lacks() {
    let message = "doppelter Schlüsselwert verletzt Unique-Constraint »one_website«";
    let names = [
        ("column", None),
        ("constraint", Some("one_website")),
        ("table", Some("editor__c")),
        ("type", None),
    ];
    let said = Said {
        sqlstate: "23505",
        message,
        routine: Some("_bt_check_unique"),
        names,
        ..Said::default()
    };

    assert_eq!(said.sentence(), Sentence::Whole(format!("{message}, table editor__c")));
    // A trigger may have made what is named here, and named it by a value.
    let within = Said { within_a_function: true, ..said };
    let words = "a value is there already and must be unique, within a trigger or function; its message is in the \
                 server's log";
    assert_eq!(within.sentence(), Sentence::Ours(words.into()));
}

#[test]
fn only_the_text_that_we_sent_may_be_quoted() {
    let ours = Said {
        sqlstate: "42703",
        message: "column \"Zebrafink\" does not exist",
        routine: Some("errorMissingColumn"),
        at_our_text: true,
        ..Said::default()
    };

    assert_eq!(ours.sentence(), Sentence::Whole(ours.message.into()));
    let a_trigger_s = Said { within_a_function: true, ..ours };
    let built_at_run_time = Said { at_our_text: false, ..ours };
    let a_value = Said { sqlstate: "22P02", routine: Some("pg_strtoint32"), ..ours };
    for said in [a_trigger_s, built_at_run_time, a_value] {
        assert!(!shown(said)[..2].concat().contains(MARKER), "{:?}", shown(said));
    }
}

#[test]
fn a_statement_that_reads_no_row_is_explained_with_its_text_unless_a_function_ran() {
    let literal = Said {
        sqlstate: "22P02",
        message: "invalid input syntax for type integer: \"ten\"",
        routine: Some("pg_strtoint32"),
        at_our_text: true,
        ..Said::default()
    };

    assert_eq!(literal.sentence_without_rows(), Sentence::Whole(literal.message.into()));
    let inside = Said { within_a_function: true, ..literal };
    assert_eq!(inside.sentence_without_rows(), inside.sentence());
}

#[test]
fn a_pooler_that_ends_a_connection_is_quoted_and_one_that_refuses_a_statement_is_not() {
    let pooler = Said {
        sqlstate: "08P01",
        message: "query_wait_timeout",
        ends_the_session: true,
        ..Said::default()
    };

    assert_eq!(pooler.sentence(), Sentence::Whole("query_wait_timeout".into()));
    let statement = Said { ends_the_session: false, ..pooler };
    let server = Said { routine: Some("exec_simple_query"), ..pooler };
    for said in [statement, server] {
        assert!(matches!(said.sentence(), Sentence::Ours(_)), "{said:?}");
    }
}

/// Anybody who may connect to any database of the server can fill the queue.
#[test]
fn a_full_queue_of_notices_is_no_row_s_fault() {
    let full = Said { sqlstate: "54000", routine: Some("PreCommit_Notify"), ..Said::default() };
    assert!(matches!(Failure::from(full), Failure::Retry(_)));
    let raised = Said { routine: Some("exec_stmt_raise"), ..full };
    assert!(matches!(Failure::from(raised), Failure::Dead(_)));
}

/// Somebody may have put the password where one of these belongs.
#[test]
fn a_refused_login_does_not_name_the_role() {
    for (sqlstate, routine) in [
        ("28000", "InitializeSessionUserId"),
        ("53300", "InitializeSessionUserId"),
        ("28000", "ClientAuthentication"),
        ("28P01", "auth_failed"),
    ] {
        let message = "kein Eintrag für »Zebra\"fink«, Rolle \"Zebrafink\", keine Verschlüsselung";
        let server = Said {
            sqlstate,
            message,
            routine: Some(routine),
            ends_the_session: true,
            ..Said::default()
        };
        let pooler = Said { routine: None, ..server };
        for said in [server, pooler] {
            assert!(!shown(said)[..2].concat().contains("fink"), "{:?}", shown(said));
        }
        assert!(shown(server)[0].contains(", keine Verschlüsselung"), "{:?}", shown(server));
        let nameless = Said { message: "the client must show a certificate", ..server };
        assert_eq!(nameless.sentence(), Sentence::Whole(nameless.message.into()));
    }
}

#[test]
fn numbers_out_of_range_keep_the_server_s_words() {
    for (routine, shown) in
        [("int4div", true), ("int28pl", true), ("intpl", false), ("int4in", false)]
    {
        let said = Said {
            sqlstate: "22003",
            message: "out of range!",
            routine: Some(routine),
            ..Said::default()
        };
        assert_eq!(matches!(said.sentence(), Sentence::Whole(_)), shown, "{routine}");
    }
}
