//! Which databases a command works with, and what it says of one that it cannot reach.

use schoolbell::demo::stand_in;

use crate::support::TestBell;
use crate::support::program::Program;

use super::{
    PASSWORD, assert_refused, no_database, nowhere, program, with_a_dead_school, with_password,
};

// Bad input -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_missing_or_unreadable_url_is_refused_with_its_name_and_the_form_that_is_expected() {
    for command in [
        &["migrate"][..],
        &["uninstall"],
        &["run"],
        &["resync"],
        &["status"],
        &["doctor"],
        &["parked", "list"],
    ] {
        let missing = Program::new(command).run().await;
        assert_refused(
            &missing,
            &["Set DATABASE_URL or pass --source-url", "postgres://USER:PASSWORD@HOST"],
        );

        for bad in [
            "schools",
            "https://example.org/schools",
            &format!("postgres://u:{PASSWORD}@h:port/d"),
            &format!("postgres://u:{PASSWORD}@h/d?colour"),
            &format!("host=h password {PASSWORD}"),
        ] {
            let ended = Program::new(command).env("DATABASE_URL", bad).run().await;
            assert_refused(
                &ended,
                &["DATABASE_URL is not a Postgres URL", "postgres://USER:PASSWORD@HOST"],
            );
        }
        let vague = Program::new(command)
            .env("DATABASE_URL", &format!("postgres://u:{PASSWORD}@/d"))
            .run()
            .await;
        assert_refused(&vague, &["DATABASE_URL names no host"]);
        let tls = format!("postgres://u:{PASSWORD}@127.0.0.1:1/d?sslmode=sure");
        assert_refused(
            &Program::new(command).env("DATABASE_URL", &tls).run().await,
            &["sslmode", "verify-full"],
        );
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_is_named_with_the_setting_to_check() {
    let bell = TestBell::bare().await;
    for command in [
        &["migrate"][..],
        &["uninstall", "--yes"],
        &["run"],
        &["run", "--drain"],
        &["resync"],
        &["status"],
        &["parked", "list"],
        &["mapping", "--check"],
    ] {
        let unreachable = program(&bell, command).env("DATABASE_URL", &nowhere("app")).run().await;
        assert_refused(
            &unreachable,
            &["the source database (app on 127.0.0.1:1)", "refused", "check DATABASE_URL"],
        );

        let absent = program(&bell, command).env("DATABASE_URL", &no_database(&bell)).run().await;
        assert_refused(
            &absent,
            &["database \"no_such_database\" does not exist", "check DATABASE_URL"],
        );
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_named_with_the_setting_to_check() {
    let bell = TestBell::installed().await;
    for command in [
        &["run"][..],
        &["run", "--drain"],
        &["resync"],
        &["resync", "--dry-run"],
        &["mapping", "--check"],
    ] {
        let unreachable =
            program(&bell, command).env("SALESFORCE_CONNECT_URL", &nowhere("connect")).run().await;
        assert_refused(
            &unreachable,
            &["the target database (connect on 127.0.0.1:1)", "refused", "SALESFORCE_CONNECT_URL"],
        );

        let absent =
            program(&bell, command).env("SALESFORCE_CONNECT_URL", &no_database(&bell)).run().await;
        assert_refused(
            &absent,
            &["database \"no_such_database\" does not exist", "SALESFORCE_CONNECT_URL"],
        );
    }
}

#[tokio::test]
async fn no_command_ever_prints_a_password_however_much_it_logs() {
    let (bell, _) = with_a_dead_school().await;
    let good: [&[&str]; 12] = [
        &["migrate", "--dry-run"],
        &["migrate", "--notify", "always"],
        &["mapping", "--check"],
        &["resync", "--dry-run"],
        &["run", "--drain"],
        &["resync"],
        &["status", "--json"],
        &["status"],
        &["doctor"],
        &["doctor", "--json"],
        &["parked", "list"],
        &["uninstall", "--yes"],
    ];
    for command in good {
        for format in ["text", "json"] {
            // Every place from which a password is read.
            let ended = program(&bell, command)
                .env("PGPASSWORD", PASSWORD)
                .env("SALESFORCE_CONNECT_PASSWORD", PASSWORD)
                .env("RUST_LOG", "trace")
                .env("SCHOOLBELL_LOG_FORMAT", format)
                .run()
                .await;

            assert!(ended.code < 2, "{ended}");
            assert!(!ended.to_string().contains(PASSWORD), "{ended}");
        }
    }
    for (source, target) in [
        (nowhere("a"), nowhere("b")),
        (with_password(&bell.source_url()), nowhere("b")),
        (no_database(&bell), nowhere("b")),
        (nowhere("a?sslmode=sure"), nowhere("b")),
    ] {
        for command in good {
            let flags = ["--source-url", &source, "--target-url", &target];
            let ended = Program::new(&[command, &flags].concat())
                .env("SALESFORCE_ENABLED", "true")
                .env("RUST_LOG", "trace")
                .run()
                .await;

            let spoken = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!spoken.contains(PASSWORD), "{ended}");
            assert!(!spoken.contains("panicked"), "{ended}");
        }
    }
}

// Settings ------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_target_is_the_flag_s_else_the_first_variable_s_else_the_parts_else_the_source() {
    let bell = TestBell::installed().await;
    stand_in::install_heroku_connect(&bell.source).await.unwrap();
    let target = with_password(&bell.target_url());
    let (_, address) =
        bell.target_url().split_once('@').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let (host, database) = address.split_once('/').unwrap();
    let (host, port) = host.split_once(':').unwrap();
    // Each variable leads nowhere until its turn comes; those before it are unset.
    let lead_nowhere = |program: Program, from: usize| {
        let nowhere = [
            ("SALESFORCE_CONNECT_URL", nowhere("a")),
            ("HEROKUCONNECT_URL", nowhere("b")),
            ("SALESFORCE_CONNECT_HOST", "127.0.0.1".into()),
        ];
        let unset = program.env("SALESFORCE_CONNECT_PORT", "1");
        nowhere[from..].iter().fold(unset, |program, (name, value)| program.env(name, value))
    };
    let drain = |flags: &[&str]| {
        Program::new(&[&["run", "--drain"], flags].concat())
            .env("DATABASE_URL", &bell.source_url())
            .env("SALESFORCE_ENABLED", "true")
    };
    let schools = "select count(*) from salesforce.editor__c";

    let ladder = [
        lead_nowhere(drain(&["--target-url", &target]), 0),
        lead_nowhere(drain(&[]), 1).env("SALESFORCE_CONNECT_URL", &target),
        lead_nowhere(drain(&[]), 2).env("HEROKUCONNECT_URL", &target),
        // An empty variable is no setting.
        drain(&[])
            .env("SALESFORCE_CONNECT_URL", "")
            .env("HEROKUCONNECT_URL", "")
            .env("SALESFORCE_CONNECT_HOST", host)
            .env("SALESFORCE_CONNECT_PORT", port)
            .env("SALESFORCE_CONNECT_DB", database)
            .env("SALESFORCE_CONNECT_USER", "postgres")
            .env("SALESFORCE_CONNECT_PASSWORD", PASSWORD),
    ];
    for (index, program) in ladder.iter().enumerate() {
        bell.insert_school("Acme").await;
        let ended = program.run().await;
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(bell.target_count(schools).await, index as i64 + 1, "{ended}");
    }
    assert_eq!(bell.source_count(schools).await, 0);
    bell.insert_school("Acme").await;
    bell.source_sql("truncate schoolbell.pairing").await;
    let ended = drain(&[]).run().await;
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!((bell.source_count(schools).await, bell.target_count(schools).await), (1, 4));
}

#[tokio::test]
async fn a_target_that_was_named_is_never_replaced_by_another() {
    let bell = TestBell::installed().await;
    let good = bell.target_url();
    bell.insert_school("Acme").await;

    let flag = program(&bell, &["run", "--drain", "--target-url", &nowhere("flag")]).run().await;
    let url = program(&bell, &["run", "--drain"])
        .env("SALESFORCE_CONNECT_URL", &nowhere("url"))
        .env("HEROKUCONNECT_URL", &good);
    let parts = program(&bell, &["run", "--drain"])
        .env("SALESFORCE_CONNECT_URL", "")
        .env("SALESFORCE_CONNECT_HOST", "127.0.0.1")
        .env("SALESFORCE_CONNECT_PORT", "1")
        .env("SALESFORCE_CONNECT_DB", "parts");

    assert_refused(&flag, &["flag on 127.0.0.1:1"]);
    assert_refused(&url.run().await, &["url on 127.0.0.1:1"]);
    assert_refused(&parts.run().await, &["parts on 127.0.0.1:1"]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 1);
}

#[tokio::test]
async fn the_source_flag_wins_over_the_variable() {
    let bell = TestBell::installed().await;

    let flag = program(&bell, &["status", "--source-url", &bell.source_url()])
        .env("DATABASE_URL", &nowhere("app"));

    assert_eq!(flag.run().await.code, 0);
}
