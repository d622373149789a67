//! Publications that carry our tables, and replication slots: with real subscribers, which stop
//! where the warning says so and continue where the printed advice was followed.

use schoolbell::reports::doctor::{self, Diagnosis, Limits, Place, Verdict};
use tokio_postgres::Client;

use crate::support::{TestBell, eventually};

/// Everything of ours in a database.
const OURS: &str = "
    select n.nspname::text from pg_namespace n where n.nspname = 'schoolbell'
    union all
    select t.tgname::text from pg_trigger t where t.tgname like 'schoolbell%'";

/// A source in which nothing is installed, with logical replication.
async fn source() -> TestBell {
    let mut bell = TestBell::in_a_cluster_of_its_own(&["wal_level = logical"]).await;
    bell.service_stops().await;
    bell.run_ok(&["uninstall", "--yes"]).await;
    bell
}

/// A database that is subscribed to a publication of the source.
struct Subscriber {
    client: Client,
}

impl Subscriber {
    /// With the application's tables, as a copy of the application has them.
    async fn of(bell: &TestBell, publication: &str, more_tables: &str) -> Self {
        let cluster = bell.cluster();
        cluster.create_database("subscriber", None).await.unwrap();
        let client = cluster.connect("subscriber").await.unwrap();
        schoolbell::demo::stand_in::install_application(&client).await.unwrap();
        client.batch_execute(more_tables).await.unwrap();
        // In one cluster, a subscription that makes its slot itself would wait for itself.
        bell.source_sql("select pg_create_logical_replication_slot('subscribed', 'pgoutput')")
            .await;
        let sql = format!(
            "create subscription subscribed connection '{}' publication {publication} \
             with (create_slot = false, slot_name = 'subscribed', copy_data = false)",
            bell.source_url()
        );
        client.batch_execute(&sql).await.unwrap();
        Self { client }
    }

    async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until a school that is written now has arrived.
    async fn follows(&self, bell: &TestBell) {
        let school = bell.insert_school("Acme").await;
        let sql = format!("select count(*) from schools where id = '{school}'");
        eventually("the school has arrived", || async {
            if self.count(&sql).await == 1 { Ok(()) } else { Err("not there") }
        })
        .await;
    }
}

/// The lines that are to be typed.
fn typed(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("  ")).collect()
}

async fn publications(bell: &TestBell) -> Diagnosis {
    check(bell, "publications", &Limits::default()).await
}

async fn check(bell: &TestBell, name: &str, limits: &Limits) -> Diagnosis {
    let report = doctor::examine(&bell.config(), &bell.mapping, limits).await;
    report.check(name).unwrap().diagnosis.clone()
}

fn to_paste(diagnosis: &Diagnosis) -> Vec<String> {
    let remedies = diagnosis.remedies.iter().filter(|remedy| remedy.place == Place::Source);
    remedies.map(|remedy| remedy.text.clone()).collect()
}

async fn refused(bell: &TestBell) -> String {
    let before = bell.source_texts(OURS).await;
    let ended = bell.run(&["migrate"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert!(ended.stderr.contains("nothing was changed"), "{ended}");
    assert_eq!(bell.source_texts(OURS).await, before);
    ended.stderr
}

#[tokio::test]
async fn a_publication_for_all_tables_is_refused_and_replaced_by_what_is_printed() {
    let bell = source().await;
    let more = "create table public.\"odd Name\" (id int primary key);
                create schema other;
                create table other.t (id int primary key)";
    bell.source_sql(more).await;
    bell.source_sql(
        "create publication everything for all tables with (publish = 'insert, update')",
    )
    .await;
    let subscriber = Subscriber::of(&bell, "everything", more).await;
    subscriber.follows(&bell).await;

    let refusal = refused(&bell).await;

    assert!(refusal.contains("publication \"everything\" (for all tables)"), "{refusal}");
    assert!(refusal.contains("Logical slots of this database: subscribed."), "{refusal}");
    subscriber.follows(&bell).await;
    let dry_run = bell.run_ok(&["migrate", "--dry-run"]).await;
    assert!(
        dry_run.contains("-- publication \"everything\" (for all tables) would carry"),
        "{dry_run}"
    );
    // The same words, as a comment.
    for line in typed(&refusal) {
        assert!(dry_run.contains(&format!("--   {line}")), "{line}: {dry_run}");
    }

    bell.source_sql(typed(&refusal)[0]).await;
    bell.run_ok(&["migrate"]).await;
    subscriber.follows(&bell).await;
    bell.source_sql("insert into other.t values (1)").await;
    subscriber.follows(&bell).await;
    assert_eq!(subscriber.count("select count(*) from other.t").await, 1);
    assert!(bell.source_count("select count(*) from schoolbell.change").await > 0);
    let kept = "select concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate) from pg_publication";
    assert_eq!(bell.source_texts(kept).await, ["f t t f f"]);
    assert_eq!(publications(&bell).await.result, Verdict::Ok);
}

#[tokio::test]
async fn with_the_tables_that_are_printed_a_subscriber_goes_on_and_nothing_acts_there() {
    let mut bell = source().await;
    bell.source_sql("create publication everything for all tables").await;
    let subscriber = Subscriber::of(&bell, "everything", "").await;
    let refusal = refused(&bell).await;
    let [.., for_subscriber, go_on] = typed(&refusal)[..] else { panic!("{refusal}") };
    let arguments = |line: &str| -> Vec<String> {
        let command = line.split(" | ").next().unwrap();
        command.strip_prefix("schoolbell ").unwrap().split(' ').map(str::to_string).collect()
    };
    let run = async |line: &str| {
        let arguments = arguments(line);
        bell.run_ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };

    let sql = run(for_subscriber).await;
    subscriber.client.batch_execute(&sql).await.unwrap();
    let printed = run(go_on).await;

    assert!(printed.contains("carries the tables of schema schoolbell"), "{printed}");
    subscriber.follows(&bell).await;
    let ours = "select count(*) from pg_trigger where tgname like 'schoolbell%'";
    assert_eq!(subscriber.count(ours).await, 0);
    // Also when it takes up the tables, and while the service empties them.
    subscriber
        .client
        .batch_execute("alter subscription subscribed refresh publication")
        .await
        .unwrap();
    bell.service_starts();
    subscriber.follows(&bell).await;
    bell.caught_up().await;
    subscriber.follows(&bell).await;
    let unready = "select count(*) from pg_subscription_rel where srsubstate <> 'r'";
    eventually("all tables have been taken up", || async {
        let unready = subscriber.count(unready).await;
        if unready == 0 { Ok(()) } else { Err(unready) }
    })
    .await;
    // Nothing new comes, so a second migration continues and says so.
    let again = bell.run_ok(&["migrate"]).await;
    assert!(again.contains("carries the tables of schema schoolbell"), "{again}");
}

/// What the refusal warns of, and how doctor's advice gets such a subscriber going again.
#[tokio::test]
async fn a_subscriber_without_the_tables_stops_until_it_gets_them() {
    let bell = source().await;
    bell.source_sql("create publication everything for all tables").await;
    let subscriber = Subscriber::of(&bell, "everything", "").await;
    bell.run_ok(&["migrate", "--published"]).await;
    let school = bell.insert_school("Acme").await;
    // Its worker ends at the first of our rows, and again whenever it is started.
    eventually("the slot is left alone with WAL that nobody takes", || async {
        let stuck = "select count(*) from pg_replication_slots where confirmed_flush_lsn < pg_current_wal_lsn() and \
                     not active";
        if bell.source_count(stuck).await == 1 { Ok(()) } else { Err("in use") }
    })
    .await;
    let arrived = format!("select count(*) from schools where id = '{school}'");
    assert_eq!(subscriber.count(&arrived).await, 0);

    let found = publications(&bell).await;
    assert_eq!(found.result, Verdict::Advice);
    let said = found.remedies.iter().find(|remedy| remedy.place == Place::Human).unwrap();
    assert!(said.text.contains("schoolbell migrate --dry-run --tables-only | psql"), "{said:?}");
    let sql = bell.run_ok(&["migrate", "--dry-run", "--tables-only"]).await;
    subscriber.client.batch_execute(&sql).await.unwrap();

    subscriber.follows(&bell).await;
    assert_eq!(subscriber.count(&arrived).await, 1);
    for sql in to_paste(&found) {
        bell.source_sql(&sql).await;
    }
    assert_eq!(publications(&bell).await.result, Verdict::Ok);
    subscriber.follows(&bell).await;
}

/// Every way in which a publication comes to carry a table.
#[tokio::test]
async fn each_way_of_publishing_our_tables_is_found_and_ended_by_what_is_printed() {
    let bell = TestBell::installed().await;
    let mut ways = vec![
        ("for all tables", true),
        ("for table schoolbell.change", true),
        ("for table schoolbell.change, schoolbell.parked, schools", true),
        ("for table schools, roles", false),
        ("", false),
    ];
    if bell.source_count("select current_setting('server_version_num')::bigint").await >= 150_000 {
        ways.extend([
            ("for tables in schema schoolbell", true),
            ("for tables in schema schoolbell, public", true),
            ("for table schoolbell.change where (operation = 'never')", true),
            ("for table schoolbell.change (xact, id)", true),
            ("for tables in schema public", false),
            ("for all tables with (publish_via_partition_root = true, publish = 'delete')", true),
        ]);
    }
    assert_eq!(publications(&bell).await.result, Verdict::Ok);
    for (way, carries) in ways {
        bell.source_sql(&format!("create publication \"it's\" {way}")).await;

        let found = publications(&bell).await;

        let expected = if carries { Verdict::Advice } else { Verdict::Ok };
        assert_eq!(found.result, expected, "{way}: {found:?}");
        assert_eq!(found.found.contains("publication \"it's\""), carries, "{way}: {found:?}");
        let before = bell
            .source_texts(
                "select concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate, \
                                        pubviaroot) from pg_publication",
            )
            .await;
        for sql in to_paste(&found) {
            bell.source_sql(&sql).await;
        }
        let cured = publications(&bell).await;
        assert_eq!(cured.result, Verdict::Ok, "{way}: {cured:?}");
        let after = bell
            .source_texts(
                "select concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot) \
                                       from pg_publication",
            )
            .await;
        assert_eq!(after, before, "{way}");
        let rest = "select count(*) from pg_publication_tables where schemaname = 'public' and tablename = 'schools'";
        let others =
            way.contains("schools") || way.contains("public") || way.contains("all tables");
        assert_eq!(bell.source_count(rest).await, i64::from(others), "{way}");
        bell.source_sql("drop publication \"it's\"").await;
    }
}

#[tokio::test]
async fn migrate_refuses_where_the_schema_is_published_before_it_has_tables() {
    let bell = TestBell::bare().await;
    if bell.source_count("select current_setting('server_version_num')::bigint").await < 150_000 {
        return;
    }
    bell.source_sql(
        "create schema schoolbell; create publication ours for tables in schema schoolbell",
    )
    .await;

    let refusal = refused(&bell).await;

    assert!(refusal.contains("(for tables in schema schoolbell)"), "{refusal}");
    assert!(refusal.contains("No logical slot of this database exists now"), "{refusal}");
    bell.source_sql(typed(&refusal)[0]).await;
    bell.run_ok(&["migrate"]).await;
}

// Slots ---------------------------------------------------------------------------------------------

/// Makes WAL, and lets the server look at what it may remove.
async fn writes(bell: &TestBell) {
    bell.source_sql(
        "create table if not exists filler (text text);
         insert into filler select repeat(md5(n::text), 30) from generate_series(1, 5000) as n",
    )
    .await;
    bell.source_sql("select pg_switch_wal()").await;
    bell.source_sql("checkpoint").await;
}

#[tokio::test]
async fn a_slot_that_keeps_wal_for_nobody_is_named_with_its_size_and_dropped_by_what_is_pasted() {
    let mut bell = TestBell::in_a_cluster_of_its_own(&["wal_level = logical"]).await;
    bell.service_stops().await;
    // Half a file of WAL: a slot begins at the last checkpoint.
    let limits = Limits { slot_bytes: 8 << 20, ..Limits::default() };
    let slots = async || check(&bell, "replication_slots", &limits).await;
    assert_eq!(slots().await.found, "none");
    writes(&bell).await;
    bell.source_sql(
        "select pg_create_logical_replication_slot('connector', 'test_decoding');
         select pg_create_physical_replication_slot('standby', true);
         select pg_create_physical_replication_slot('idle')",
    )
    .await;
    assert_eq!(slots().await.result, Verdict::Ok, "they keep nothing yet");

    // The first of them may end in the file in which the slots began.
    writes(&bell).await;
    writes(&bell).await;
    let found = slots().await;

    assert_eq!(found.result, Verdict::Failed, "{found:?}");
    assert!(found.found.starts_with("connector, standby: "), "{found:?}");
    let [connector, standby] = &found.details[..] else { panic!("{found:?}") };
    assert!(
        connector.starts_with("connector (logical, test_decoding, of database source; not in use"),
        "{found:?}"
    );
    assert!(standby.starts_with("standby (physical; not in use"), "{found:?}");
    for detail in &found.details {
        let size = detail.split(" keeps ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(size.parse::<f64>().unwrap() >= 8.0, "{detail}");
    }
    for sql in to_paste(&found) {
        bell.source_sql(&sql).await;
    }
    let cured = slots().await;
    assert_eq!(
        (cured.result, cured.found.as_str()),
        (Verdict::Ok, "1, 0 in use: none keeps much WAL or dead rows")
    );
}

#[tokio::test]
async fn a_slot_whose_wal_is_gone_is_named_and_dropped_by_what_is_pasted() {
    let settings =
        ["wal_level = logical", "max_slot_wal_keep_size = '1MB'", "max_wal_size = '32MB'"];
    let mut bell = TestBell::in_a_cluster_of_its_own(&settings).await;
    bell.service_stops().await;
    let slots = async || check(&bell, "replication_slots", &Limits::default()).await;
    bell.source_sql("select pg_create_logical_replication_slot('connector', 'test_decoding')")
        .await;
    assert_eq!(slots().await.result, Verdict::Ok);

    let found = eventually("its WAL is gone", || async {
        writes(&bell).await;
        let found = slots().await;
        if found.details.concat().contains("is lost") { Ok(found) } else { Err(found) }
    })
    .await;

    assert_eq!(found.result, Verdict::Advice, "{found:?}");
    for sql in to_paste(&found) {
        bell.source_sql(&sql).await;
    }
    assert_eq!(slots().await.found, "none");
}

/// Any role may look at both.
#[tokio::test]
async fn publications_and_slots_need_no_right() {
    let bell = TestBell::installed().await;
    let (name, url) = (format!("{}_nobody", bell.source_name), bell.source_url());
    bell.source_sql(&format!("create role {name} login")).await;
    let mut config = bell.config();
    config.source = schoolbell::postgres::url::DatabaseUrl::parse(
        "test",
        &crate::hostile::privileges::as_role(&url, &name),
        &|_| None,
    )
    .unwrap();

    let report = doctor::examine(&config, &bell.mapping, &Limits::default()).await;

    for check in ["publications", "replication_slots"] {
        let found = &report.check(check).unwrap().diagnosis;
        assert_ne!(found.result, Verdict::CannotRun, "{found:?}");
    }
    bell.source_sql(&format!("drop role {name}")).await;
}
