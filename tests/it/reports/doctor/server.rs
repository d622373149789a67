//! What the servers do: sessions, transactions, poolers, standbys, limits.

use std::time::Duration;

use schoolbell::demo::cluster::Shutdown;
use schoolbell::reports::doctor::{Limits, Place, Verdict};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::bell::deaf::NoNotices;
use crate::hostile::privileges::as_role;
use crate::postgres::pooler::{Options, Pooler};
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::{TestBell, eventually};

use super::{
    Damage, Examined, Healthy, MARKER, PATIENCE, WRITER_LOCK, examine, found_and_cured, to_paste,
    verdict,
};

#[tokio::test]
async fn an_outbox_that_is_never_vacuumed_is_found_and_mended() {
    let healthy = Healthy::start().await;
    found_and_cured(
        &healthy,
        &Damage {
            in_target: false,
            sql: "alter table schoolbell.change set (autovacuum_enabled = false)".into(),
            not_ok: &[("autovacuum", "failed")],
            says: &["switched off for the outbox"],
            remedy: "reset (autovacuum_enabled)",
        },
    )
    .await;
}

#[tokio::test]
async fn sessions_that_are_out_of_sight_are_no_proof_that_all_is_well() {
    let healthy = Healthy::start().await;
    let sql = format!("revoke pg_read_all_stats from {}", healthy.roles.bell);
    found_and_cured(
        &healthy,
        &Damage {
            in_target: false,
            sql,
            not_ok: &[("long_transactions", "cannot_run")],
            says: &["sessions are out of sight"],
            remedy: "grant pg_read_all_stats to",
        },
    )
    .await;
}

#[tokio::test]
async fn a_long_transaction_is_named_without_its_query_and_ended_by_what_is_pasted() {
    let healthy = Healthy::start().await;
    let limits = Limits { transaction: Duration::from_secs(1), ..Limits::default() };
    let long = healthy.bell.source_session().await;
    long.batch_execute(&format!("set application_name = 'nightly'; begin; select '{MARKER}'"))
        .await
        .unwrap();
    let pid: i32 = long.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let age = format!(
        "select extract(epoch from clock_timestamp() - xact_start)::int8 from pg_stat_activity where pid = {pid}"
    );
    eventually("the transaction is long", || async {
        let age = healthy.bell.source_count(&age).await;
        if age > 1 { Ok(()) } else { Err(age) }
    })
    .await;

    let report = examine(&healthy, &limits).await;

    assert_eq!(verdict(&report, "long_transactions"), Verdict::Advice, "{report:?}");
    let said = format!("{:?}", report.check("long_transactions"));
    assert!(
        said.contains(&format!(
            "process {pid} (nightly) of postgres, idle in transaction, since 20"
        )),
        "{said}"
    );
    assert!(!said.contains(MARKER), "{said}");
    for sql in to_paste(&report, "long_transactions", Place::Source) {
        healthy.bell.source_sql(&sql).await;
    }
    gone(&healthy.bell.source, pid).await;
    let report = examine(&healthy, &limits).await;
    assert_eq!(verdict(&report, "long_transactions"), Verdict::Ok, "{report:?}");
}

async fn gone(client: &Client, pid: i32) {
    eventually("the session has ended", || async {
        let sql = "select 1 from pg_stat_activity where pid = $1";
        match client.query(sql, &[&pid]).await.unwrap().len() {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

#[tokio::test]
async fn prepared_transactions_are_told_of_and_ended_by_what_is_pasted() {
    let healthy = Healthy::start().await;
    let gid = format!("it's {}", healthy.bell.source_name);
    let quoted = gid.replace('\'', "''");
    healthy.bell.source_sql("begin; create table two_phases ()").await;
    healthy.bell.source_sql(&format!("prepare transaction '{quoted}'")).await;

    let short = healthy.doctor().await;
    let long =
        examine(&healthy, &Limits { transaction: Duration::ZERO, ..Limits::default() }).await;

    short.assert_not_ok(&[("prepared_transactions", "advice")]);
    assert_eq!(
        short.remedies("prepared_transactions"),
        [("shell".into(), "schoolbell migrate --notify never".into())]
    );
    let said = format!("{:?}", long.check("prepared_transactions"));
    assert!(said.contains(&format!("{gid} of postgres, since 20")), "{said}");
    healthy.pastes(&short.remedies("prepared_transactions")).await;
    healthy.doctor().await.assert_not_ok(&[]);
    for sql in to_paste(&long, "prepared_transactions", Place::Source) {
        healthy.bell.source_sql(&sql).await;
    }
    let none = healthy.doctor().await;
    assert_eq!(none.found("prepared_transactions"), "none");
}

#[tokio::test]
async fn nobody_and_somebody_else_at_the_writer_s_lock_are_told_apart() {
    let mut healthy = Healthy::start().await;
    healthy.bell.service_stops().await;

    let nobody = healthy.doctor().await;
    healthy.bell.insert_school("Acme").await;
    let pending = healthy.doctor().await;

    nobody.assert_not_ok(&[("writer", "advice")]);
    pending.assert_not_ok(&[("writer", "failed")]);
    assert!(pending.found("writer").contains("1 change pending"), "{}", pending.ended);
    for examined in [&nobody, &pending] {
        assert!(examined.remedies("writer")[0].1.contains("schoolbell run"), "{}", examined.ended);
    }

    let stranger = healthy.bell.target_session().await;
    stranger.execute("select pg_advisory_lock($1)", &[&WRITER_LOCK]).await.unwrap();
    let pid: i32 = stranger.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let held = healthy.doctor().await;
    held.assert_not_ok(&[("writer", "failed")]);
    assert!(held.found("writer").contains(&format!("session {pid} ")), "{}", held.ended);
    healthy.pastes(&held.remedies("writer")).await;
    gone(&healthy.bell.target, pid).await;
    healthy.bell.service_starts();
    healthy.has_writer().await;
    healthy.bell.caught_up().await;
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_database_that_is_not_reached_leaves_the_other_s_checks_as_they_are() {
    let healthy = Healthy::start().await;
    let nowhere = "postgres://somebody:hunter2secret@127.0.0.1:1/nowhere";
    let program = |source: &str, target: &str, arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", source)
            .env("SALESFORCE_CONNECT_URL", target)
            .env("SALESFORCE_ENABLED", "true")
    };
    let source = as_role(&healthy.bell.source_url(), &healthy.roles.bell);
    let target = as_role(&healthy.bell.target_url(), &healthy.roles.bridge);
    let json = ["doctor", "--json"];

    let no_source = Examined::of(program(nowhere, &target, &json).run().await);
    let no_target = Examined::of(program(&source, nowhere, &json).run().await);
    let neither = Examined::of(program(nowhere, nowhere, &json).run().await);
    let printed = program(&source, nowhere, &["doctor"]).run().await;

    for (examined, setting, here, there) in [
        (&no_source, "DATABASE_URL", "source", "target"),
        (&no_target, "SALESFORCE_CONNECT_URL", "target", "source"),
    ] {
        assert_eq!(examined.ended.code, 1, "{}", examined.ended);
        let connection = format!("{here}_connection");
        assert!(
            examined.found(&connection).contains("nowhere on 127.0.0.1:1"),
            "{}",
            examined.ended
        );
        assert!(examined.remedies(&connection)[0].1.contains(setting), "{}", examined.ended);
        for (name, result) in examined.not_ok() {
            assert_eq!(result == "failed", name == connection, "{name}: {}", examined.ended);
            assert!(name == connection || result == "cannot_run", "{name}: {}", examined.ended);
        }
        let version = examined.check(&format!("{there}_version"));
        assert_eq!(version["result"], "ok", "{}", examined.ended);
        assert_eq!(examined.check(&format!("{here}_version"))["result"], "cannot_run");
        assert!(!examined.ended.to_string().contains("hunter2secret"), "{}", examined.ended);
    }
    assert_eq!(no_target.check("canary")["result"], "ok", "{}", no_target.ended);
    assert_eq!(no_source.check("search_path")["result"], "ok", "{}", no_source.ended);
    assert_eq!(
        (neither.ended.code, &neither.report["failed"]),
        (1, &2.into()),
        "{}",
        neither.ended
    );
    assert_eq!(neither.report["ok"], 1, "only SALESFORCE_ENABLED: {}", neither.ended);
    assert_eq!(printed.code, 1, "{printed}");
    assert!(printed.stdout.contains("\nFAILED   target "), "{printed}");
    assert!(printed.stdout.contains("\n         $ psql \"$SALESFORCE_CONNECT_URL\""), "{printed}");
    assert!(printed.stdout.contains("\nnot run  target version "), "{printed}");
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_up_nobody_for_ever() {
    let healthy = Healthy::start().await;
    let proxy = Proxy::start(healthy.bell.target_cluster().port()).await;
    proxy.stall();
    let program = healthy
        .roles
        .program(&healthy.bell, &["doctor", "--json"])
        .env("SALESFORCE_CONNECT_URL", &proxy.url(&healthy.bell.target_name));

    let ended = timeout(PATIENCE, program.run()).await.expect("it ends");

    let examined = Examined::of(ended);
    assert!(examined.found("target_connection").contains("no answer within"), "{}", examined.ended);
    assert_eq!(examined.check("triggers")["result"], "ok", "{}", examined.ended);
}

#[tokio::test]
async fn a_table_that_somebody_holds_locked_is_neither_sound_nor_at_fault() {
    let healthy = Healthy::start().await;
    let locking = healthy.bell.source_session().await;
    locking.batch_execute("begin; lock table schools").await.unwrap();

    let examined = timeout(PATIENCE, healthy.doctor()).await.expect("it ends");

    for name in ["mapping_source", "triggers", "text_lengths", "source_rights"] {
        assert_eq!(examined.not_ok().get(name), Some(&"cannot_run"), "{}", examined.ended);
    }
    assert!(examined.found("mapping_source").contains("lock timeout"), "{}", examined.ended);
    assert_eq!((examined.ended.code, examined.check("canary")["result"].as_str()), (0, Some("ok")));
    locking.batch_execute("rollback").await.unwrap();
    healthy.doctor().await.assert_not_ok(&[]);
}

#[tokio::test]
async fn a_listener_that_hears_nothing_is_told_with_the_pooler_that_it_may_be() {
    let healthy = Healthy::start().await;
    let deaf = NoNotices::start(healthy.bell.cluster().port()).await;
    let url = format!(
        "postgres://{}@127.0.0.1:{}/{}?sslmode=disable",
        healthy.roles.bell, deaf.port, healthy.bell.source_name
    );
    let program =
        healthy.roles.program(&healthy.bell, &["doctor", "--json"]).env("DATABASE_URL", &url);

    let examined = Examined::of(program.run().await);

    examined.assert_not_ok(&[("canary", "failed")]);
    assert!(
        examined.found("canary").contains("a pooler in transaction mode"),
        "{}",
        examined.ended
    );
    assert!(
        examined
            .remedies("canary")
            .iter()
            .any(|(_, text)| text == "schoolbell migrate --notify never")
    );
}

#[tokio::test]
async fn a_pooler_is_advice_before_the_source_and_a_failure_before_the_target() {
    for options in [Options::Refused, Options::Ignored] {
        let healthy = Healthy::start().await;
        let bell = &healthy.bell;
        let Some(pooler) = Pooler::start(bell.cluster(), options).await else { return };
        let examine = async |source: &str, target: &str| {
            let program = Program::new(&["doctor", "--json"])
                .env("DATABASE_URL", source)
                .env("SALESFORCE_CONNECT_URL", target)
                .env("SALESFORCE_ENABLED", "true");
            Examined::of(timeout(PATIENCE, program.run()).await.expect("it ends"))
        };
        let Some(targets) = Pooler::start(bell.target_cluster(), options).await else { return };
        let (pooled_source, pooled_target) =
            (pooler.url(&bell.source_name), targets.url(&bell.target_name));
        let direct_source = as_role(&bell.source_url(), &healthy.roles.bell);
        let direct_target = as_role(&bell.target_url(), &healthy.roles.bridge);

        let source = examine(&pooled_source, &direct_target).await;
        let target = examine(&direct_source, &pooled_target).await;

        // The pooler is a superuser to the server.
        let expected =
            [("source_pooler", "advice"), ("canary", "cannot_run"), ("source_excess", "advice")];
        source.assert_not_ok(&expected);
        let remedies = source.remedies("source_pooler");
        assert!(
            remedies.iter().any(|(_, text)| text.contains("direct connection")),
            "{remedies:?}"
        );
        target.assert_not_ok(&[("target_pooler", "failed"), ("target_excess", "advice")]);
        bell.run_ok(&["migrate", "--notify", "never"]).await;
        let never = examine(&pooled_source, &direct_target).await;
        never.assert_not_ok(&expected[1..]);
    }
}

#[tokio::test]
async fn a_standby_is_a_failed_connection() {
    let mut bell = TestBell::in_a_cluster_of_its_own(&["wal_level = replica"]).await;
    bell.service_stops().await;
    bell.cluster().shut_down(Shutdown::Fast).await.unwrap();
    std::fs::write(bell.cluster().folder().join("data").join("standby.signal"), "").unwrap();
    bell.cluster().start_up().await.unwrap();

    let examined = Examined::of(bell.run(&["doctor", "--json"]).await);

    assert_eq!(examined.ended.code, 1, "{}", examined.ended);
    for name in ["source_connection", "target_connection"] {
        assert_eq!(examined.not_ok().get(name), Some(&"failed"), "{}", examined.ended);
        assert!(examined.found(name).contains("standby in recovery"), "{}", examined.ended);
    }
    assert_eq!(examined.check("triggers")["result"], "ok", "{}", examined.ended);
}

#[tokio::test]
async fn limits_that_are_passed_are_told() {
    let healthy = Healthy::start().await;
    let limits =
        Limits { clock: Duration::ZERO, queue: 0.0, dead_rows: -1, rows: 1, ..Limits::default() };
    healthy.bell.insert_school("A").await;
    healthy.bell.insert_school("B").await;
    healthy.bell.caught_up().await;

    let report = examine(&healthy, &limits).await;

    assert_eq!(verdict(&report, "clocks"), Verdict::Advice, "{report:?}");
    for queue in ["notification_queue", "target_queue"] {
        assert_eq!(verdict(&report, queue), Verdict::Failed, "{report:?}");
    }
    assert_eq!(verdict(&report, "autovacuum"), Verdict::Advice, "{report:?}");
    assert_eq!(to_paste(&report, "autovacuum", Place::Source), ["vacuum schoolbell.change;"]);
    healthy.bell.source_sql("vacuum schoolbell.change;").await;
    let lengths = &report.check("text_lengths").unwrap().diagnosis.found;
    assert!(lengths.contains("among the first 1 rows of"), "{lengths}");
}
