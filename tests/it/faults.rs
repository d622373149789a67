//! Whatever dies meanwhile: nothing is lost, nothing is written twice or by two.

use schoolbell::demo::cluster::Shutdown;

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
        schoolbell::service::run(&config, pace, &mapping, stopped, false).await
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

    assert!(killed.elapsed() < std::time::Duration::from_secs(3), "{:?}", killed.elapsed());
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
