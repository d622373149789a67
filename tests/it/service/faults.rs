//! Whichever process dies: nothing is lost, nothing is written twice or by two writers.

use std::sync::Arc;
use std::time::Duration;

use schoolbell::config::{Config, Pace};
use schoolbell::demo::cluster::Shutdown;
use schoolbell::postgres::db::Database;
use schoolbell::postgres::failure::Failure;
use schoolbell::postgres::url::DatabaseUrl;
use schoolbell::service::End;

use crate::support::load::stretched;
use crate::support::log::Log;
use crate::support::proxy::Proxy;
use crate::support::{TestBell, eventually};

const MANY: &str = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
    select 'School ' || n, 'R', 'T', 'GB', 'w', now(), now() from generate_series(1, 20000) n";

#[tokio::test]
async fn a_service_that_is_killed_in_the_middle_loses_nothing() {
    let mut bell = TestBell::start().await;
    bell.source_sql(MANY).await;
    eventually("it has begun", || async {
        match bell.target_count("select count(*) from salesforce.editor__c").await {
            0 => Err("nothing written"),
            _ => Ok(()),
        }
    })
    .await;

    bell.service_is_killed().await;
    bell.service_starts();

    bell.caught_up().await;
    bell.every_row_is_right().await;
    let writes = bell.salesforce_writes().await;
    assert_eq!(writes, 20_000, "what was applied before the kill is not written again");
}

#[tokio::test]
async fn a_batch_that_was_applied_but_not_acknowledged_is_not_written_again() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    bell.drain().await;
    let writes = bell.salesforce_writes().await;

    // As it is after a kill between the target's commit and the acknowledgement.
    bell.source_sql(&format!(
        "insert into schoolbell.change (source_table, operation, keys) select 'public.schools', 'INSERT', \
         jsonb_build_object('id', id, 'creator_id', creator_id) from schools where id = '{school}'"
    ))
    .await;
    bell.drain().await;

    assert_eq!(bell.salesforce_writes().await, writes);
}

#[tokio::test]
async fn a_stopping_service_finishes_its_batch_and_leaves_the_rest() {
    let mut bell = TestBell::start().await;
    bell.source_sql(MANY).await;

    let tally = bell.service_stops().await;

    let left = bell.source_count("select count(*) from schoolbell.change").await;
    assert_eq!(tally.changes as i64 + left, 20_000);
    assert_eq!(
        bell.target_count("select count(*) from salesforce.editor__c").await,
        tally.changes as i64
    );
    bell.drain().await;
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again_lose_nothing() {
    let bell = TestBell::start().await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'schoolbell%' \
               and datname = current_database()";
    bell.asleep().await;

    for round in 0..12 {
        bell.insert_school(&format!("Before {round}")).await;
        match round % 3 {
            0 => _ = bell.source_count(cut).await,
            1 => _ = bell.target_count(cut).await,
            _ => {
                bell.source_count(cut).await;
                bell.target_count(cut).await;
            }
        }
        bell.source_sql("update schools set name = name || '.'").await;
    }

    bell.caught_up().await;
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn databases_that_restart_hard_are_an_ordinary_event() {
    let mut bell =
        TestBell::in_a_cluster_of_its_own(&["fsync = on", "synchronous_commit = on"]).await;
    for round in 0..2 {
        bell.source_sql(MANY).await;

        bell.cluster().restart(Shutdown::Immediate).await.unwrap();

        bell.reconnect().await;
        bell.insert_school(&format!("After {round}")).await;
        bell.caught_up().await;
        bell.every_row_is_right().await;
    }
}

#[tokio::test]
async fn of_two_services_one_writes_and_the_other_takes_over() {
    let mut first = TestBell::start().await;
    first.asleep().await;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let (config, pace, mapping) = (first.config(), first.pace.clone(), first.mapping.clone());
    let second = tokio::spawn(async move {
        schoolbell::service::run(&config, pace, &mapping, stopped, false, &Arc::default()).await
    });
    let writers = "select count(*) from pg_stat_activity where datname = current_database() and application_name like \
                   'schoolbell writer%'";
    eventually("the second stands by", || async {
        let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name = \
                        'schoolbell service' and query like '%pg_try_advisory_lock%'";
        match first.target_count(sessions).await {
            0 => Err("it does not"),
            _ => Ok(()),
        }
    })
    .await;
    first.insert_school("Written by the first").await;
    first.caught_up().await;
    assert_eq!(first.target_count(writers).await, 1);

    let killed = std::time::Instant::now();
    first.service_is_killed().await;
    first.insert_school("Written by the second").await;
    first.caught_up().await;

    assert!(killed.elapsed() < stretched(Duration::from_secs(3)), "{:?}", killed.elapsed());
    assert_eq!(first.target_count(writers).await, 1);
    first.every_row_is_right().await;
    second.abort();
}

#[tokio::test]
async fn draining_beside_a_running_service_leaves_the_work_to_it() {
    let bell = TestBell::start().await;
    bell.asleep().await;

    let ended = bell.run(&["run", "--drain"]).await;

    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("is the writer"), "{ended}");
}

#[tokio::test]
async fn a_locked_target_row_delays_itself_and_not_the_others() {
    let bell = TestBell::installed().await;
    for name in ["Locked", "Free"] {
        bell.insert_school(name).await;
    }
    bell.drain().await;
    let locker = bell.target_session().await;
    locker
        .batch_execute("begin; select from salesforce.editor__c where name = 'Locked' for update")
        .await
        .unwrap();
    bell.source_sql("update schools set municipality = 'Elsewhere'").await;

    bell.drain().await;
    let towns = "select name || ' ' || editormunicipality__c from salesforce.editor__c order by 1";
    assert_eq!(bell.target_texts(towns).await, ["Free Elsewhere", "Locked Town"]);
    let parked = bell.source_texts(
        "select state || ' ' || sqlstate from schoolbell.parked where object = 'school'",
    );
    assert_eq!(parked.await, ["retrying 55P03"]);

    locker.batch_execute("rollback").await.unwrap();
    bell.source_sql("update schoolbell.parked set due_at = now() where object = 'school'").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(towns).await, ["Free Elsewhere", "Locked Elsewhere"]);
}

#[tokio::test]
async fn a_service_that_meets_a_silent_server_can_be_stopped() {
    let bell = TestBell::installed().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://someone@{}/db?sslmode=disable", silent.local_addr().unwrap());
    let mut service = crate::support::program::Program::new(&["run", "--target-url", &url])
        .env("DATABASE_URL", &bell.source_url())
        .env("SALESFORCE_ENABLED", "true")
        .spawn();
    // It is connected and waits for the first answer, which never comes.
    let _connection = silent.accept().await.unwrap();

    let pid = service.id().unwrap().to_string();
    let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let ended = service.wait().await.unwrap();

    assert!(killed.success());
    assert_eq!(ended.code(), Some(0));
}

/// What is reported while a session that was lost keeps the lock.
const LOST: &str = "our lost session is still the writer until the target's server closes it";
/// As the server does when it notices that nobody is there.
const LETS_GO: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where datname = current_database() and application_name like 'schoolbell writer%'";

/// Soon enough for a test, long enough for a server that is busy.
fn impatient() -> Pace {
    Pace {
        statement_timeout: Duration::from_secs(1),
        answer_grace: Duration::from_secs(1),
        ..crate::support::pace()
    }
}

#[tokio::test]
async fn a_source_that_answers_no_more_on_open_connections_is_given_up_and_reached_anew() {
    let log = Log::listen();
    let mut bell = TestBell::installed().await;
    let proxy = Proxy::start(bell.cluster().port()).await;
    bell.source_through(&proxy.url(&bell.source_name));
    bell.pace = impatient();
    bell.service_starts();
    let before = bell.insert_school("Before").await;
    bell.target_becomes("select editoruuid__c from salesforce.editor__c", &[&before]).await;
    bell.asleep().await;

    proxy.strand();
    bell.insert_school("Meanwhile").await;

    let names = "select name from salesforce.editor__c order by 1";
    bell.target_becomes(names, &["Before", "Meanwhile"]).await;
    bell.insert_school("Then").await;
    bell.target_becomes(names, &["Before", "Meanwhile", "Then"]).await;
    let told = log.lines("interrupted");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("no answer for 2s although the connection is open"), "{told:?}");
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn a_target_that_answers_no_more_is_written_to_only_when_it_has_let_the_old_session_go() {
    let log = Log::listen();
    let bell = TestBell::installed().await;
    let proxy = Proxy::start(bell.target_cluster().port()).await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.source_sql("update roles set user_id = null").await;
    let target = DatabaseUrl::parse("test", &proxy.url(&bell.target_name), &|_| None).unwrap();
    let (config, mapping) = (Config { target, ..bell.config() }, bell.mapping.clone());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let service = tokio::spawn(async move {
        schoolbell::service::run(&config, impatient(), &mapping, stopped, false, &Arc::default())
            .await
    });
    let waiting = "select count(*) from schoolbell.parked where object = 'role' and due_at is null";
    eventually("the role waits for its school", || async {
        match bell.source_count(waiting).await {
            0 => Err("it does not"),
            _ => Ok(()),
        }
    })
    .await;

    eventually("a sweep has asked the target for it", || async {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'schoolbell service' and query like '%sfid is not null%'";
        match bell.target_count(sql).await {
            0 => Err("none has"),
            _ => Ok(()),
        }
    })
    .await;

    // The sweep sees over new connections what the role waited for; the writing session is beyond help.
    proxy.strand();
    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;
    eventually("the role is due", || async {
        match bell.source_count(waiting).await {
            0 => Ok(()),
            _ => Err("it waits"),
        }
    })
    .await;
    eventually("the service stands by", || async {
        match log.lines(LOST).len() {
            1 => Ok(()),
            lines => Err(lines),
        }
    })
    .await;
    assert_eq!(log.lines("interrupted").len(), 1);
    let roles = "select count(*)::text from salesforce.contact_editor_affiliation__c";
    assert_eq!(bell.target_texts(roles).await, ["0"]);

    bell.target_sql(LETS_GO).await;

    bell.target_becomes(roles, &["1"]).await;
    bell.caught_up().await;
    bell.every_row_is_right().await;
    service.abort();
}

#[tokio::test]
async fn a_drain_does_not_take_its_own_lost_session_for_another_process() {
    let log = Log::listen();
    let bell = TestBell::installed().await;
    let proxy = Proxy::start(bell.target_cluster().port()).await;
    let school = bell.insert_school("Acme").await;
    let target = DatabaseUrl::parse("test", &proxy.url(&bell.target_name), &|_| None).unwrap();
    let (config, mapping) = (Config { target, ..bell.config() }, bell.mapping.clone());
    let locker = bell.target_session().await;
    locker.batch_execute("begin; lock table salesforce.editor__c").await.unwrap();

    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let drain = tokio::spawn(async move {
        schoolbell::service::run(&config, impatient(), &mapping, stopped, true, &Arc::default())
            .await
    });
    eventually("the drain is about to write", || async {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name like 'schoolbell writer%' and wait_event_type = 'Lock'";
        match bell.target_count(sql).await {
            0 => Err("it is not"),
            _ => Ok(()),
        }
    })
    .await;
    proxy.strand();
    eventually("the drain waits for itself", || async {
        match log.lines(LOST).len() {
            1 => Ok(()),
            lines => Err((lines, drain.is_finished())),
        }
    })
    .await;
    locker.batch_execute("rollback").await.unwrap();
    bell.target_sql(LETS_GO).await;

    let ended = drain.await.unwrap();
    assert!(matches!(ended, Ok(End::Done(tally)) if tally.written == 1), "{ended:?}");
    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
}

#[tokio::test]
async fn a_login_that_is_taken_away_is_waited_for_and_no_row_is_blamed() {
    let log = Log::listen();
    let bell = TestBell::installed().await;
    let role = format!("guest_of_{}", bell.source_name);
    bell.on_every_server(&format!("create role {role} superuser login")).await;
    let url = |url: &str| {
        let url = url.replacen("postgres@", &format!("{role}@"), 1);
        DatabaseUrl::parse("test", &url, &|_| None).unwrap()
    };
    let (source, target) = (url(&bell.source_url()), url(&bell.target_url()));
    let (config, mapping) =
        (Config { source: source.clone(), target, enabled: true }, bell.mapping.clone());
    let (pace, (_stop, stopped)) = (bell.pace.clone(), tokio::sync::watch::channel(false));
    let service = tokio::spawn(async move {
        schoolbell::service::run(&config, pace, &mapping, stopped, false, &Arc::default()).await
    });
    bell.insert_school("Before").await;
    let names = "select name from salesforce.editor__c order by 1";
    bell.target_becomes(names, &["Before"]).await;
    bell.caught_up().await;
    let parked = bell.parked().await;

    bell.on_every_server(&format!("alter role {role} nologin")).await;
    let cut =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    bell.on_every_server(&cut).await;
    bell.insert_school("Meanwhile").await;
    eventually("it is told", || async {
        match log.lines("interrupted").len() {
            1 => Ok(()),
            lines => Err(lines),
        }
    })
    .await;
    let refused = Database::new(source, "test").unwrap().session().await;
    let Err(Failure::Reconnect(reason)) = refused else { panic!("{:?}", refused.err()) };
    assert!(
        reason.contains("it may not log in") && reason.contains("correct user and password"),
        "{reason}"
    );
    assert_eq!(bell.target_texts(names).await, ["Before"]);
    bell.on_every_server(&format!("alter role {role} login")).await;

    bell.target_becomes(names, &["Before", "Meanwhile"]).await;
    bell.caught_up().await;
    let new = bell.parked().await.into_iter().filter(|key| !parked.contains(key));
    let new: Vec<String> = new.collect();
    assert!(new.len() == 1 && new[0].contains("waiting for contact row"), "{new:?}");
    assert_eq!(log.lines("interrupted").len(), 1);
    bell.every_row_is_right().await;
    service.abort();
}

/// As after a failover: the address leads to a server that is not promoted yet.
#[tokio::test]
async fn a_server_in_recovery_is_waited_for_until_it_is_promoted() {
    let log = Log::listen();
    let mut bell = TestBell::in_a_cluster_of_its_own(&[]).await;
    bell.insert_school("Before").await;
    bell.target_becomes("select name from salesforce.editor__c", &["Before"]).await;

    bell.cluster().shut_down(Shutdown::Fast).await.unwrap();
    std::fs::write(bell.cluster().folder().join("data/standby.signal"), "").unwrap();
    bell.cluster().start_up().await.unwrap();
    bell.reconnect().await;
    assert_eq!(bell.source_texts("select pg_is_in_recovery()::text").await, ["true"]);
    eventually("the standby is told of", || async {
        match log.lines("it is a standby in recovery").len() {
            0 => Err("it is not"),
            _ => Ok(()),
        }
    })
    .await;
    bell.source_sql("select pg_promote()").await;
    bell.insert_school("After").await;

    bell.target_becomes("select name from salesforce.editor__c order by 1", &["After", "Before"])
        .await;
    assert_eq!(log.lines("it is a standby in recovery").len(), 1);
}

#[tokio::test]
async fn a_notification_queue_that_fills_up_is_told_once_and_so_is_its_end() {
    let log = Log::listen();
    let mut bell = TestBell::in_a_cluster_of_its_own(&[]).await;
    bell.service_stops().await;
    // The queue has a million pages. A hundred are many here.
    bell.pace.queue_warning = 0.00005;
    bell.service_starts();
    let school = bell.insert_school("Acme").await;
    bell.caught_up().await;
    let sleepy = bell.source_session().await;
    sleepy.batch_execute("listen others").await.unwrap();
    sleepy.batch_execute("begin").await.unwrap();

    bell.source_sql(
        "select pg_notify('others', n || repeat('x', 7900)) from generate_series(1, 200) n",
    )
    .await;

    let filling = "the source's notification queue is filling up";
    let emptying = "the source's notification queue is emptying again";
    let told = async |line: &str| {
        eventually(line, || async {
            match log.lines(line).len() {
                0 => Err("it is not told"),
                _ => Ok(()),
            }
        })
        .await;
    };
    told(filling).await;
    // An arrival that is found was found by one more sweep.
    for round in 0..5 {
        bell.source_sql(&format!(
            "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason) \
             values ('school', '{school}', 'waiting', 'school row', '{school}', 'round {round}')"
        ))
        .await;
        bell.caught_up().await;
        eventually("the key is free", || async {
            match bell
                .source_count("select count(*) from schoolbell.parked where object = 'school'")
                .await
            {
                0 => Ok(()),
                left => Err(left),
            }
        })
        .await;
    }
    assert_eq!((log.lines(filling).len(), log.lines(emptying).len()), (1, 0));
    sleepy.batch_execute("commit").await.unwrap();
    told(emptying).await;
    bell.insert_school("Beta").await;
    bell.caught_up().await;
    assert_eq!((log.lines(filling).len(), log.lines(emptying).len()), (1, 1));
}

/// A full disk under the log, or a reader that has gone.
#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    for format in ["text", "json"] {
        let bell = TestBell::installed().await;
        bell.insert_school("Acme").await;
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = tokio::process::Command::new(crate::support::program::path())
            .args(["run", "--drain", "--log-format", format])
            .env("DATABASE_URL", bell.source_url())
            .env("SALESFORCE_CONNECT_URL", bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_HTTP", "off")
            .env("RUST_LOG", "schoolbell=trace")
            .stdout(std::process::Stdio::null())
            .stderr(full)
            .status()
            .await
            .unwrap();
        assert_eq!(ended.code(), Some(0), "{format}");
        assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Acme"]);
    }
}
