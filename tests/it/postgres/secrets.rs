//! A password is never printed, however it was written into a setting, and one that is encoded works.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use crate::support::TestBell;
use crate::support::program::{Ended, Program};

/// Characters with a meaning in a URL or in a `key=value` string, unencoded.
const SPECIAL: [char; 14] =
    ['@', '#', '/', '?', ':', '%', '&', '=', ' ', '\'', '\\', '[', ']', ','];
/// Parts of passwords, which occur in nothing else that is printed.
const MARKS: [&str; 8] = ["qzw", "xkq", "vjz", "wxq", "zqj", "jxv", "kzx", "pqz"];
/// The pieces of a mark that would give a part of it away.
const PIECE: usize = 3;

const COMMANDS: [&[&str]; 19] = [
    &["migrate"],
    &["migrate", "--dry-run"],
    &["uninstall", "--yes"],
    &["run"],
    &["run", "--drain"],
    &["resync"],
    &["resync", "--dry-run"],
    &["resync", "--detach"],
    &["verify"],
    &["verify", "--repair"],
    &["status"],
    &["status", "--json"],
    &["explain", "school", "k"],
    &["doctor"],
    &["doctor", "--json"],
    &["parked", "list"],
    &["parked", "retry", "--failed"],
    &["mapping", "--check"],
    &["mapping", "init"],
];

/// A password with these characters between its parts, and doubled, because of what is read in pairs.
fn password(special: &[char]) -> String {
    let mut text = MARKS[0].to_string();
    for (number, character) in special.iter().enumerate() {
        text.push(*character);
        text.push_str(MARKS[1 + number % (MARKS.len() - 1)]);
    }
    text
}

/// Every subset of the first characters, and every pair of all of them.
fn passwords() -> Vec<String> {
    let some = &SPECIAL[..6];
    let subset = |number: usize| {
        let chosen = some.iter().enumerate().filter(|(place, _)| number >> place & 1 == 1);
        chosen.map(|(_, character)| *character).collect::<Vec<char>>()
    };
    let mut all: BTreeSet<String> =
        (0..1 << some.len()).map(|number| password(&subset(number))).collect();
    for one in SPECIAL {
        all.extend(SPECIAL.map(|other| password(&[one, other])));
        all.insert(format!("{one}{}", password(&[one])));
    }
    all.insert(password(&SPECIAL));
    all.into_iter().collect()
}

fn assert_secret(password: &str, ended: &Ended) {
    let printed = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!printed.contains("panicked"), "{ended}");
    for mark in MARKS.iter().filter(|mark| password.contains(*mark)) {
        for start in 0..=mark.len() - PIECE {
            let piece = &mark[start..start + PIECE];
            assert!(!printed.contains(piece), "{piece} of {password} is printed: {ended}");
        }
    }
}

/// Every way to write a password down without encoding it.
fn unencoded(password: &str) -> Vec<String> {
    let mut ways = vec![
        format!("postgres://me:{password}@127.0.0.1:1/app"),
        format!("postgres://me:{password}@127.0.0.1:1"),
        format!("postgresql://{password}@127.0.0.1:1/app"),
        format!("postgres://127.0.0.1:1/app?user=me&password={password}"),
        format!("postgres://127.0.0.1:1/app?password={password}&user=me"),
        format!("me:{password}@127.0.0.1:1/app"),
        format!("mysql://me:{password}@127.0.0.1:1/app"),
        format!("host=127.0.0.1 port=1 user=me dbname=app password={password}"),
        format!("password={password} host=127.0.0.1 port=1 user=me dbname=app"),
        format!("password='{password}' host=127.0.0.1 port=1 user=me dbname=app"),
        format!("host=127.0.0.1 port=1 password {password}"),
        format!("host=127.0.0.1 port=1 dbname=postgres://me:{password}@h/app"),
        password.to_string(),
    ];
    // With an `@` it is a whole URL, of another host.
    if !password.contains('@') {
        ways.push(format!("postgres://me:{password}"));
    }
    ways
}

#[test]
fn no_way_to_write_a_password_lets_a_message_repeat_it() {
    use schoolbell::postgres::url::DatabaseUrl;
    let (mut sound, mut refused) = (0, 0);
    for password in passwords() {
        for url in unencoded(&password) {
            let said = match DatabaseUrl::parse("DATABASE_URL", &url, &|_| None) {
                Ok(url) => {
                    sound += 1;
                    format!("{url} {url:?} {}", url.remark().unwrap_or_default())
                }
                Err(unusable) => {
                    refused += 1;
                    assert!(unusable.0.contains("DATABASE_URL"), "{unusable}");
                    format!("{unusable} {unusable:?}")
                }
            };
            let ended = Ended { command: url, code: 0, stdout: said, stderr: String::new() };
            assert_secret(&password, &ended);
        }
    }
    assert!(sound > 500 && refused > 500, "{sound} {refused}");
}

#[tokio::test]
async fn no_command_prints_a_part_of_a_password() {
    let all = passwords();
    // Each command with some of them, all of them with some command.
    for (number, password) in all.iter().enumerate() {
        let command = COMMANDS[number % COMMANDS.len()];
        let ways = unencoded(password);
        let url = &ways[number % ways.len()];
        let ended = Program::new(command)
            .env("SALESFORCE_ENABLED", "true")
            .env("RUST_LOG", "trace")
            .env("DATABASE_URL", url);
        let ended = ended.run().await;
        assert_ne!(ended.code, 0, "{ended}");
        assert_secret(password, &ended);
    }
}

#[tokio::test]
async fn no_command_prints_a_password_of_the_target_or_of_a_part() {
    let bell = TestBell::installed().await;
    let password = password(&SPECIAL);
    for command in COMMANDS {
        let program = || {
            Program::new(command)
                .env("DATABASE_URL", &bell.source_url())
                .env("SALESFORCE_ENABLED", "true")
        };
        let parts = program()
            .env("SALESFORCE_CONNECT_HOST", "127.0.0.1")
            .env("SALESFORCE_CONNECT_PORT", "1")
            .env("SALESFORCE_CONNECT_USER", "me")
            .env("SALESFORCE_CONNECT_PASSWORD", &password);
        let swapped = program()
            .env("SALESFORCE_CONNECT_HOST", &format!("postgres://me:{password}@127.0.0.1:1/app"));
        let database = program()
            .env("SALESFORCE_CONNECT_HOST", "127.0.0.1")
            .env("SALESFORCE_CONNECT_DB", &format!("postgres://me:{password}@127.0.0.1:1/app"));
        let port = program()
            .env("SALESFORCE_CONNECT_HOST", "127.0.0.1")
            .env("SALESFORCE_CONNECT_PORT", &password);
        let variable = program()
            .env("SALESFORCE_CONNECT_URL", "postgres://me@127.0.0.1:1/app")
            .env("PGPASSWORD", &password);
        let url = program()
            .env("HEROKUCONNECT_URL", &format!("postgres://me:{password}@127.0.0.1:1/app"));
        for program in [parts, swapped, database, port, variable, url] {
            // Uninstalling needs no target, and the others need what it takes away.
            if command[0] != "uninstall" {
                assert_secret(&password, &program.run().await);
            }
        }
    }
}

#[tokio::test]
async fn a_password_in_the_wrong_place_of_a_command_line_is_not_repeated() {
    for password in passwords() {
        let url = format!("postgres://me:{password}@127.0.0.1:1/app");
        let flag = format!("--source={url}");
        let limit = format!("--limit={url}");
        for arguments in
            [&["status", &url][..], &["status", &flag], &["parked", "list", &limit], &[&url]]
        {
            let ended = Program::new(arguments).run().await;
            let mut said = Ended { command: String::new(), ..ended };
            assert_secret(&password, &said);
            said.command = arguments.join(" ");
            assert!(said.code == 2 && said.stderr.starts_with("error: "), "{said}");
        }
    }
}

/// Where a file, an address or a key belongs, a message would name what it got.
#[tokio::test]
async fn a_url_in_the_place_of_a_file_an_address_or_a_key_is_not_repeated() {
    let password = MARKS.concat();
    let url = format!("postgres://me:{password}@127.0.0.1:1/app");
    let joined = format!("--mapping={url}");
    for arguments in [
        &["status", "--source-url-file", &url][..],
        &["status", "--target-url-file", &url],
        &["status", "--mapping", &url],
        &["verify", &joined],
        &["mapping", "--check", &url],
        &["run", "--http", &url],
        &["explain", "school", &url],
        &["resync", "school", "--key", &url],
        &["man", "--dir", &url],
    ] {
        let ended =
            Program::new(arguments).env("DATABASE_URL", "postgres://127.0.0.1:1/x").run().await;
        let said = Ended { command: String::new(), ..ended };
        assert_eq!(said.code, 2, "{arguments:?}: {said}");
        assert_secret(&password, &said);
    }
    for variable in ["SCHOOLBELL_MAPPING", "SCHOOLBELL_HTTP"] {
        let ended = Program::new(&["run"]).env(variable, &url).run().await;
        assert!(ended.code == 2 && ended.stderr.contains(variable), "{ended}");
        assert_secret(&password, &ended);
    }
}

#[tokio::test]
async fn an_encoded_password_connects() {
    let bell = TestBell::installed().await;
    let password = password(&SPECIAL);
    let role = format!("{}_with_password", bell.source_name);
    let sql = format!(
        "create role {role} superuser login password {}",
        schoolbell::postgres::name::literal(&password)
    );
    bell.source_sql(&sql).await;
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = |scheme: &str, parameters: &str| {
        let (_, rest) =
            bell.source_url().split_once('@').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
        format!("{scheme}://{role}:{encoded}@{rest}{parameters}")
    };

    let rails = "?pool=5&prepared_statements=false&encoding=unicode&pgbouncer=true&reaping_frequency=10&Odd%20one=1";
    for (url, remark) in [
        (url("postgres", ""), None),
        (url("postgresql", "?application_name=x"), None),
        (url("postgis", "?connect_timeout=5"), None),
        (
            url("postgis", rails),
            Some("pool, prepared_statements, encoding, pgbouncer, reaping_frequency, 1 more"),
        ),
    ] {
        let ended = Program::new(&["status"]).env("DATABASE_URL", &url).run().await;
        assert!(ended.code < 2, "{ended}");
        assert_secret(&password, &ended);
        match remark {
            None => assert_eq!(ended.stderr, "", "{ended}"),
            Some(remark) => {
                assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
                assert!(ended.stderr.contains("DATABASE_URL"), "{ended}");
                assert!(
                    ended.stderr.contains(remark) && ended.stderr.contains("ignored"),
                    "{ended}"
                );
            }
        }
    }
    bell.source_sql(&format!("drop role {role}")).await;
}

#[tokio::test]
async fn a_refusal_names_the_setting_and_the_codes_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "postgres://me:qzw@xkq@127.0.0.1:1/app";
    let file = folder.path().join("url");
    std::fs::write(&file, bad).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let good = "postgres://me@127.0.0.1:1/app";
    for (arguments, environment, setting) in [
        (&["status"][..], &[("DATABASE_URL", bad)][..], "DATABASE_URL"),
        (&["status", "--source-url", bad], &[("DATABASE_URL", good)], "--source-url"),
        (&["status", "--source-url-file", file], &[("DATABASE_URL", good)], "--source-url-file"),
        (&["status", "--target-url", bad], &[("DATABASE_URL", good)], "--target-url"),
        (&["status", "--target-url-file", file], &[("DATABASE_URL", good)], "--target-url-file"),
        (
            &["status"],
            &[("DATABASE_URL", good), ("SALESFORCE_CONNECT_URL", bad)],
            "SALESFORCE_CONNECT_URL",
        ),
        (&["status"], &[("DATABASE_URL", good), ("HEROKUCONNECT_URL", bad)], "HEROKUCONNECT_URL"),
    ] {
        let mut program = Program::new(arguments);
        for (name, value) in environment {
            program = program.env(name, value);
        }
        let ended = program.run().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        assert!(ended.stderr.starts_with(&format!("schoolbell: {setting} is not")), "{ended}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
        assert!(ended.stderr.contains("@ as %40, # %23, / %2F, : %3A, ? %3F, % %25"), "{ended}");
        assert!(!ended.stderr.contains("qzw") && !ended.stderr.contains("xkq"), "{ended}");
    }
}

#[tokio::test]
async fn an_unreachable_database_is_reported_with_the_setting_that_was_used() {
    let bell = TestBell::installed().await;
    let nowhere = "postgres://me@127.0.0.1:1/app";
    for setting in ["SALESFORCE_CONNECT_URL", "HEROKUCONNECT_URL"] {
        let ended = Program::new(&["verify"])
            .env("DATABASE_URL", &bell.source_url())
            .env(setting, nowhere)
            .run()
            .await;
        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(&format!("{setting} for the target")), "{ended}");
    }
    let flag = Program::new(&["status", "--source-url", nowhere]).run().await;
    assert!(flag.stderr.contains("check --source-url: "), "{flag}");
}

#[tokio::test]
async fn a_url_can_be_in_a_file() {
    let bell = TestBell::installed().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file.to_str().unwrap().to_string()
    };
    let source = write("source", &format!("\n {}\r\n\n", bell.source_url()), 0o600);
    let target = write("target", &bell.target_url(), 0o400);

    let both = ["status", "--source-url-file", &source, "--target-url-file", &target];
    // The flag wins over the environment.
    let ended =
        Program::new(&both).env("DATABASE_URL", "postgres://me@127.0.0.1:1/app").run().await;
    assert!(ended.code < 2 && ended.stderr.is_empty(), "{ended}");

    for mode in [0o640, 0o604, 0o620, 0o666] {
        let open = write(&format!("open{mode}"), &bell.source_url(), mode);
        let ended = Program::new(&["status", "--source-url-file", &open]).run().await;
        assert!(ended.code < 2, "{ended}");
        assert!(ended.stderr.contains("chmod 600"), "{mode:o}: {ended}");
    }
    for (name, text, part) in [
        ("empty", " \n", "is empty"),
        (
            "two",
            "postgres://me@127.0.0.1:1/app\npostgres://me@127.0.0.1:1/app",
            "is not a Postgres URL",
        ),
    ] {
        let file = write(name, text, 0o600);
        let ended = Program::new(&["status", "--source-url-file", &file]).run().await;
        assert_eq!((ended.code, ended.stderr.lines().count()), (2, 1), "{ended}");
        assert!(ended.stderr.contains(part), "{ended}");
    }
    let missing = Program::new(&["status", "--target-url-file", "/no/such/file"])
        .env("DATABASE_URL", &bell.source_url())
        .run()
        .await;
    assert_eq!(missing.code, 2, "{missing}");
    assert!(
        missing.stderr.starts_with("schoolbell: cannot read --target-url-file /no/such/file: "),
        "{missing}"
    );

    for [one, other] in
        [["--source-url", "--source-url-file"], ["--target-url", "--target-url-file"]]
    {
        for place in [
            &["status", one, "postgres://me@127.0.0.1:1/app", other, &source][..],
            &[one, "postgres://me@127.0.0.1:1/app", "status", other, &source],
        ] {
            let ended = Program::new(place).env("DATABASE_URL", &bell.source_url()).run().await;
            assert_eq!(ended.code, 2, "{ended}");
            assert!(
                ended.stderr.contains(&format!("{one} and {other} exclude each other")),
                "{ended}"
            );
        }
    }
}
