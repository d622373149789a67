//! Keys of every type: as a source key, an external id, a parent's key, the key of what is touched, and the primary key
//! by which a resync continues; written by an application with odd settings.

use std::fmt::Write as _;

use crate::support::{HEROKU_CONNECT, TestBell};

/// A type with three values that an application may have as keys, the third of which the second is changed to.
struct Kind {
    sql_type: &'static str,
    values: [&'static str; 3],
    /// The external id may have the type itself.
    built_in: bool,
}

impl Kind {
    /// In Salesforce there are no lists, and what users make is unknown there.
    fn is_an_external_id(&self) -> bool {
        self.built_in && !self.sql_type.ends_with("[]") && self.sql_type != "oidvector"
    }
}

const fn of(sql_type: &'static str, values: [&'static str; 3]) -> Kind {
    Kind { sql_type, values, built_in: true }
}

const fn users(sql_type: &'static str, values: [&'static str; 3]) -> Kind {
    Kind { sql_type, values, built_in: false }
}

/// Every built-in type that a primary key can have, with lengths where there are any, and what users make of them.
const KINDS: &[Kind] = &[
    of("smallint", ["1", "-2", "3"]),
    of("integer", ["1", "-2", "2147483647"]),
    of("bigint", ["1", "-2", "9223372036854775807"]),
    of("numeric", ["1", "2.50", "123456789012345678901234567890.123"]),
    of("numeric(10, 2)", ["1", "2.50", "-3.25"]),
    of("real", ["0.1", "1e-30", "3.4028235e38"]),
    of("double precision", ["0.1", "1.0000000000000002", "1e300"]),
    of("money", ["1", "-2.5", "1234567.89"]),
    of("\"char\"", ["a", "b", "c"]),
    of("character(2)", ["FR", "D", "GB"]),
    of("character varying(20)", ["Köln", "a''b\"c\\d", "x y"]),
    of("text", ["a", "{\"a\": 1}", "NULL"]),
    of("name", ["a", "b", "c"]),
    of("bytea", ["\\x00ff", "\\x5c", "\\xdeadbeef"]),
    of("date", ["2026-02-01", "2026-01-02", "0001-12-31 BC"]),
    of("time", ["01:02:03", "23:59:59.999999", "00:00"]),
    of("time with time zone", ["01:02:03+00", "01:02:03+05:30", "23:00-08"]),
    of("timestamp", ["2026-02-01 03:04:05.678", "2026-01-02 00:00", "2025-12-31 23:59:59.999999"]),
    of(
        "timestamp with time zone",
        ["2026-02-01 03:04:05.678+00", "2026-01-02 00:00-08", "2026-07-01 12:00+02"],
    ),
    of("interval", ["1 day -02:03:04", "-1 year 2 months", "36:00"]),
    of("boolean", ["false", "true", "true"]),
    of("inet", ["10.0.0.1", "10.0.0.0/8", "::1"]),
    of("cidr", ["10.0.0.0/8", "192.168.0.0/16", "::/0"]),
    of("macaddr", ["08:00:2b:01:02:03", "08:00:2b:01:02:04", "08:00:2b:01:02:05"]),
    of(
        "macaddr8",
        ["08:00:2b:ff:fe:01:02:03", "08:00:2b:ff:fe:01:02:04", "08:00:2b:ff:fe:01:02:05"],
    ),
    of("bit(4)", ["0001", "1010", "1111"]),
    of("bit varying(6)", ["1", "10", "111111"]),
    of(
        "uuid",
        [
            "00000000-0000-0000-0000-000000000001",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    of("oid", ["1", "2", "4294967295"]),
    of("oidvector", ["1", "1 2", "2 3"]),
    of("xid8", ["1", "2", "18446744073709551615"]),
    of("pg_lsn", ["0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF"]),
    of("jsonb", ["{\"a\": 1}", "[\"b\"]", "\"c\""]),
    of("tsvector", ["a", "b:1", "c"]),
    of("integer[]", ["{1}", "{1,2}", "{NULL}"]),
    of("text[]", ["{a}", "{\"b,c\"}", "{NULL,\"NULL\"}"]),
    of("date[]", ["{2026-02-01}", "{2026-01-02}", "{2026-03-04}"]),
    of("int4range", ["[1,2)", "[3,)", "empty"]),
    of("daterange", ["[2026-01-02,2026-02-01)", "[2026-02-01,)", "(,2026-01-01)"]),
    of("int4multirange", ["{[1,2)}", "{[1,2),[5,6)}", "{}"]),
    of("regclass", ["pg_class", "pg_type", "pg_proc"]),
    users("mood", ["calm", "it is", "so so"]),
    users("code", ["FR", "D", "GB"]),
    users("positive", ["1", "2", "3"]),
    users("mood_of", ["calm", "it is", "so so"]),
    users("odd.kind", ["a", "b", "c"]),
    // Equal for the database, but still another key.
    users("citext", ["Ann", "Köln", "KÖLN"]),
    users("odd.mail", ["Ann", "ben", "BEN"]),
    users("folded", ["Ann", "Köln", "KÖLN"]),
    of("numeric(12, 3)", ["1", "2", "3"]),
];

/// Of types whose equal values are written in several ways: three keys, the third of which is the second in other letters.
const REWRITTEN: [(&str, [&str; 3]); 3] = [
    ("numeric", ["1", "2.0", "2.00"]),
    ("interval", ["1 day", "2 days", "48:00:00"]),
    ("float8", ["1", "0", "-0"]),
];

const TYPES: &str = "create type mood as enum ('calm', 'it is', 'so so'); create domain code as char(2); \
                     create domain positive as integer check (value > 0); create domain mood_of as mood; \
                     create schema odd; \
                     create domain odd.kind as text; \
                     create extension citext; create domain odd.mail as citext; \
                     create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                     create domain folded as text collate folding";

/// What an application may have set.
const ODD: &str = "set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'; set timezone = 'Asia/Kolkata'; \
                   set extra_float_digits = -10; set bytea_output = 'escape'; set quote_all_identifiers = on";

/// Parents and children for each type. Children have a number, and show their parent's name.
fn mapping(same_type: impl Fn(&Kind) -> bool) -> String {
    let mut text = "version = 1\n".to_string();
    for (n, _) in KINDS.iter().enumerate().filter(|(_, kind)| same_type(kind)) {
        write!(
            text,
            "[object.p{n}]\nsource = \"p{n}\"\nkey = \"k\"\ntarget = \"p{n}__c\"\nexternal_id = \"k__c\"\non_delete = \"delete\"\n\
             [object.p{n}.fields]\nname__c = \"name\"\n\
             [object.c{n}]\nsource = \"c{n}\"\nkey = \"k\"\ntarget = \"c{n}__c\"\nexternal_id = \"k__c\"\n\
             [object.c{n}.fields]\np__r__k__c = \"parent\"\n\
             name__c = {{ sql = \"(select p.name from p{n} p where p.k::text = source.parent::text)\" }}\n\
             [[object.c{n}.parents]]\nobject = \"p{n}\"\nkey = \"parent\"\n\
             [[object.c{n}.touched_by]]\ntable = \"p{n}\"\ncolumns = [\"name\"]\n\
             keys = \"select c.k from c{n} c join changed on c.parent::text = changed.k::text\"\n"
        )
        .unwrap();
    }
    text
}

/// Everything about keys of these types, with external ids as text or of the type itself.
async fn keys_work(same_type: bool) {
    let mut bell = TestBell::bare().await;
    let kinds =
        || KINDS.iter().enumerate().filter(|(_, kind)| !same_type || kind.is_an_external_id());
    bell.source_sql(TYPES).await;
    for (n, Kind { sql_type, .. }) in kinds() {
        let id = if same_type { sql_type } else { "varchar(255)" };
        bell.source_sql(&format!(
            "create table p{n} (k {sql_type} primary key, name text); \
             create table c{n} (k {sql_type} primary key, parent {sql_type})"
        ))
        .await;
        bell.target_sql(&format!(
            "create table salesforce.p{n}__c (k__c {id} unique, name__c varchar(255), {HEROKU_CONNECT}); \
             create table salesforce.c{n}__c (k__c {id} unique, p__r__k__c {id}, name__c varchar(255), {HEROKU_CONNECT})"
        ))
        .await;
    }
    bell.use_mapping(&mapping(|kind| !same_type || kind.is_an_external_id())).await;
    // Pages of a single row.
    bell.pace.page_rows = 1;
    let application = bell.source_session().await;
    application.batch_execute(ODD).await.unwrap();
    // Literals are written in ISO, which every setting reads; what is recorded is written by the settings.
    for (n, Kind { sql_type, values: [one, two, _], .. }) in kinds() {
        let iso = format!(
            "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; \
             create temporary table v{n} as select '{one}'::{sql_type} as one, '{two}'::{sql_type} as two; {ODD}; \
             insert into p{n} select one, 'One' from v{n}; insert into p{n} select two, 'Two' from v{n}; \
             insert into c{n} select one, two from v{n}; insert into c{n} select two, one from v{n}"
        );
        application.batch_execute(&iso).await.unwrap_or_else(|e| panic!("{sql_type}: {e:?}"));
    }
    let arrived = async |table: &str, what: &str, wanted: &[&str]| {
        let mut wrong = Vec::new();
        for (n, Kind { sql_type, .. }) in kinds() {
            let sql = format!("select {what} from salesforce.{table}{n}__c order by 1");
            let found = bell.target_texts(&sql).await;
            if found != wanted {
                wrong.push(format!("{sql_type}: {found:?}"));
            }
        }
        let parked = bell
            .source_texts(
                "select concat_ws(' ', object, key, reason, sqlstate) from schoolbell.parked \
                                        where state <> 'waiting'",
            )
            .await;
        assert!(wrong.is_empty(), "{what} of {table} is not {wanted:?}: {wrong:#?} {parked:#?}");
    };
    let known = async |table: &str| {
        for (n, _) in kinds() {
            bell.target_sql(&format!("update salesforce.{table}{n}__c set sfid = '{table}' || id"))
                .await;
        }
    };

    // Parents first, then their children.
    bell.drain().await;
    arrived("p", "name__c", &["One", "Two"]).await;
    arrived("c", "name__c", &[]).await;
    assert_eq!(
        bell.source_count("select count(*) from schoolbell.parked where state <> 'waiting'").await,
        0
    );
    known("p").await;
    bell.drain().await;
    arrived("c", "name__c", &["One", "Two"]).await;
    assert_eq!(bell.parked().await, Vec::<String>::new());
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);

    // A child shows what its parent is called; the target's row is found again and not made twice.
    for (n, _) in kinds() {
        application.batch_execute(&format!("update p{n} set name = 'New ' || name")).await.unwrap();
    }
    bell.drain().await;
    arrived("p", "name__c", &["New One", "New Two"]).await;
    arrived("c", "name__c", &["New One", "New Two"]).await;

    // A resync continues from page to page, finds everything equal, and ends; so does a comparison.
    bell.source_sql("insert into schoolbell.resync (object) select distinct unnest(array['p', 'c']) || n from generate_series(0, 99) n \
                     where to_regclass('p' || n) is not null").await;
    let again = bell.drain().await;
    let open = bell.source_texts(
        "select object || ' ' || state || ' ' || done from schoolbell.resync where state <> \
                                  'done' or done <> 2",
    );
    assert_eq!(open.await, Vec::<String>::new());
    assert_eq!(again.written, 0, "{again:?}");
    let mapping = bell
        .mapping_file(&mapping(|kind| !same_type || kind.is_an_external_id()))
        .display()
        .to_string();
    let verified = bell.run(&["verify", "--mapping", &mapping]).await;
    assert_eq!(verified.code, 0, "{verified}");

    // Another key is another row, and the former one goes.
    for (n, Kind { sql_type, values: [_, two, three], .. }) in
        kinds().filter(|(_, kind)| kind.sql_type != "boolean")
    {
        application
            .batch_execute(&format!(
                "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; \
                 create temporary table w{n} as select '{two}'::{sql_type} as two, '{three}'::{sql_type} as three; {ODD}; \
                 update p{n} set k = w.three from w{n} w where p{n}.k::text = w.two::text"
            ))
            .await
            .unwrap_or_else(|e| panic!("{sql_type}: {e:?}"));
    }
    bell.drain().await;
    arrived("p", "name__c", &["New One", "New Two"]).await;
    for (n, Kind { sql_type, .. }) in kinds() {
        let keys = bell.source_texts(&format!("select k::text from p{n} order by name")).await;
        let mirrored = bell
            .target_texts(&format!("select k__c::text from salesforce.p{n}__c order by name__c"))
            .await;
        assert_eq!(mirrored, keys, "{sql_type}");
    }
}

#[tokio::test]
async fn keys_of_every_type_find_their_rows_in_every_role_a_key_can_have() {
    keys_work(false).await;
}

#[tokio::test]
async fn external_ids_of_every_built_in_type_find_their_rows() {
    keys_work(true).await;
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_the_check_in_a_sentence() {
    let bell = TestBell::bare().await;
    bell.source_sql("create type pair as (a integer, b integer); create table p0 (k pair primary key, name text)").await;
    bell.target_sql(&format!(
        "create table salesforce.p0__c (k__c text[] unique, name__c varchar(255), {HEROKU_CONNECT})"
    ))
    .await;
    let mapping = "version = 1\n[object.p0]\nsource = \"p0\"\nkey = \"k\"\ntarget = \"p0__c\"\n\
                   external_id = \"k__c\"\n[object.p0.fields]\nname__c = \"name\"\n";
    let file = bell.mapping_file(mapping).display().to_string();

    let checked = bell.run(&["mapping", "--check", &file]).await;

    assert_eq!(checked.code, 2, "{checked}");
    let told = checked.to_string();
    assert!(told.contains("k is a row of type public.pair, which is no key"), "{checked}");
    assert!(told.contains("k__c has type text[]: Salesforce has no lists"), "{checked}");
}

/// They are one key to the database, and two records to Salesforce.
#[tokio::test]
async fn a_key_that_is_only_written_otherwise_leaves_no_former_row_behind() {
    for (sql_type, [one, two, three]) in REWRITTEN {
        let mut bell = TestBell::bare().await;
        bell.source_sql(&format!("create table p0 (k {sql_type} primary key, name text)")).await;
        bell.target_sql(&format!(
            "create table salesforce.p0__c (k__c varchar(255) unique, name__c varchar(255), {HEROKU_CONNECT})"
        ))
        .await;
        let mapping = "version = 1\n[object.p0]\nsource = \"p0\"\nkey = \"k\"\ntarget = \"p0__c\"\n\
                       external_id = \"k__c\"\non_delete = \"delete\"\n[object.p0.fields]\nname__c = \"name\"\n";
        bell.use_mapping(mapping).await;
        bell.source_sql(&format!("insert into p0 values ('{one}', 'One'), ('{two}', 'Two')")).await;
        bell.drain().await;
        bell.source_sql(&format!("update p0 set k = '{three}' where k = '{two}'")).await;
        bell.drain().await;

        let keys = bell.source_texts("select k::text from p0 order by 1").await;
        assert_eq!(bell.mirrored("p0__c", "k__c").await, keys, "{sql_type}");
        let file = bell.mapping_file(mapping).display().to_string();
        let verified = bell.run(&["verify", "--mapping", &file]).await;
        assert_eq!(verified.code, 0, "{verified}");
        bell.source_sql("update p0 set name = 'Both'").await;
        bell.drain().await;
        let names = bell.target_texts("select name__c from salesforce.p0__c").await;
        assert_eq!(names, ["Both", "Both"], "{sql_type}");
    }
}

/// A key of `char(n)` is recorded with its blanks, and parked without them: otherwise nothing would free it.
#[tokio::test]
async fn a_key_that_was_refused_is_freed_however_its_change_was_recorded() {
    let mut bell = TestBell::bare().await;
    bell.source_sql("create table p0 (k char(3) primary key, d date unique not null, n int)").await;
    bell.target_sql(&format!(
        "create table salesforce.p0__c (k__c varchar(255) unique, n__c float8, {HEROKU_CONNECT}); \
         create table salesforce.d__c (k__c varchar(255) unique, n__c float8, {HEROKU_CONNECT})"
    ))
    .await;
    bell.use_mapping(
        "version = 1\n[object.p0]\nsource = \"p0\"\nkey = \"k\"\ntarget = \"p0__c\"\nexternal_id = \"k__c\"\n\
         filter = \"1 / n > 0\"\n[object.p0.fields]\nn__c = \"n\"\n\
         [object.d]\nsource = \"p0\"\nkey = \"d\"\ntarget = \"d__c\"\nexternal_id = \"k__c\"\n\
         [object.d.fields]\nn__c = { sql = \"1 / n\" }\n",
    )
    .await;
    bell.source_sql("set datestyle = 'SQL, DMY'; insert into p0 values ('D', '01/02/2026', 0)")
        .await;
    bell.drain().await;
    assert_eq!(bell.parked().await, ["d 2026-02-01 dead", "p0 D dead"]);

    bell.source_sql("update p0 set n = 1").await;
    bell.drain().await;

    assert_eq!(bell.parked().await, Vec::<String>::new());
    assert_eq!(bell.mirrored("p0__c", "k__c").await, ["D"]);
    assert_eq!(bell.mirrored("d__c", "k__c").await, ["2026-02-01"]);
}

/// Salesforce trims text: a key with blanks at its ends would come back as another one, and be inserted again for ever.
#[tokio::test]
async fn keys_that_salesforce_would_change_are_dead_and_named() {
    let mut bell = TestBell::bare().await;
    bell.source_sql("create table p0 (k text primary key, name text)").await;
    bell.target_sql(&format!(
        "create table salesforce.p0__c (k__c varchar(255) unique, name__c varchar(255), {HEROKU_CONNECT})"
    ))
    .await;
    let mapping = "version = 1\n[object.p0]\nsource = \"p0\"\nkey = \"k\"\ntarget = \"p0__c\"\n\
                   external_id = \"k__c\"\n[object.p0.fields]\nname__c = \"name\"\n";
    bell.use_mapping(mapping).await;
    let mapping = bell.mapping_file(mapping).display().to_string();
    let odd = "' a', 'a ', E'a\\n', E'\\ta', E'a\\x0b', E'\\f', ' ', ''";
    bell.source_sql(&format!(
        "insert into p0 select k, 'odd' from unnest(array[{odd}]) k; insert into p0 values ('a', 'good'), ('a b', 'good')"
    ))
    .await;

    bell.drain().await;

    assert_eq!(bell.mirrored("p0__c", "k__c").await, ["a", "a b"]);
    let dead =
        "select count(*) from schoolbell.parked where state = 'dead' and reason like 'the key %'";
    assert_eq!(bell.source_count(dead).await, 8);
    let verified = bell.run(&["verify", "--mapping", &mapping]).await;
    assert!(verified.code == 0 && verified.stdout.contains("Salesforce trims"), "{verified}");
    let explained = bell.run(&["explain", "p0", "a ", "--mapping", &mapping]).await;
    assert!(explained.code == 1 && explained.stdout.contains("another key"), "{explained}");

    // A row that is not in the source any more causes no error.
    bell.source_sql("update p0 set k = 'a' || md5(k) where name = 'odd'").await;
    bell.drain().await;
    assert_eq!(bell.source_count("select count(*) from schoolbell.parked").await, 0);
    assert_eq!(bell.target_count("select count(*) from salesforce.p0__c").await, 10);
}

#[tokio::test]
async fn keys_that_are_equal_and_differ_are_advised_against_and_explained() {
    let mut bell = TestBell::bare().await;
    bell.source_sql(&format!(
        "{TYPES}; create table p0 (k citext primary key, n numeric unique, f text collate folding \
                              unique)"
    ))
    .await;
    bell.target_sql(&format!(
        "create table salesforce.p0__c (k__c varchar(255) unique, n__c varchar(255), {HEROKU_CONNECT})"
    ))
    .await;
    let mapping = |key: &str, more: &str| {
        format!(
            "version = 1\n[object.p0]\nsource = \"p0\"\nkey = \"{key}\"\ntarget = \"p0__c\"\n\
             external_id = \"k__c\"\n[object.p0.fields]\nn__c = \"n\"\n{more}"
        )
    };
    let winner = "[object.p0.winner]\norder = \"n\"\n";
    for (key, more, code, sentence) in [
        ("k", "", 1, "k is public.citext: a key whose letters change is another record"),
        ("f", "", 1, "f is text with a nondeterministic collation: a key whose letters change"),
        ("n", "", 1, "n is numeric, in which equal values may be written in several ways"),
        (
            "k",
            winner,
            2,
            "add column k_folded text generated always as (lower(\"k\"::text)) stored",
        ),
        ("f", winner, 2, "so one of several rows cannot speak for a key"),
    ] {
        let file = bell.mapping_file(&mapping(key, more)).display().to_string();
        let checked = bell.run(&["mapping", "--check", &file]).await;
        assert!(checked.code == code && checked.to_string().contains(sentence), "{checked}");
    }

    let file = bell.mapping_file(&mapping("k", "")).display().to_string();
    bell.use_mapping(&mapping("k", "")).await;
    bell.source_sql("insert into p0 values ('Ann', 1)").await;
    bell.drain().await;
    let explained = bell.run(&["explain", "p0", "ANN", "--mapping", &file]).await;
    assert!(
        explained.stdout.contains("near       public.p0 has not \"ANN\", but \"Ann\""),
        "{explained}"
    );
}

/// A mistyped key is the key of no row, even if the column's type refuses it.
#[tokio::test]
async fn what_can_be_no_key_has_no_row_in_any_report() {
    let bell = TestBell::bare().await;
    bell.source_sql(TYPES).await;
    // A regclass looks for a table, and reports one that does not exist.
    let all = |kind: &&(usize, &Kind)| kind.1.is_an_external_id() && kind.1.sql_type != "regclass";
    let kinds: Vec<(usize, &Kind)> = KINDS.iter().enumerate().filter(|kind| all(&kind)).collect();
    for (n, Kind { sql_type, .. }) in &kinds {
        bell.source_sql(&format!("create table p{n} (k {sql_type} primary key, name text)")).await;
        bell.target_sql(&format!(
            "create table salesforce.p{n}__c (k__c {sql_type} unique, name__c varchar(255), {HEROKU_CONNECT})"
        ))
        .await;
    }
    let of = |n: usize| {
        format!(
            "[object.p{n}]\nsource = \"p{n}\"\nkey = \"k\"\ntarget = \"p{n}__c\"\nexternal_id = \"k__c\"\n\
                 [object.p{n}.fields]\nname__c = \"name\"\n"
        )
    };
    let mapping: String = kinds.iter().map(|(n, _)| of(*n)).collect();
    let all = bell.mapping_file(&format!("version = 1\n{mapping}")).display().to_string();
    bell.run_ok(&["migrate", "--mapping", &all]).await;
    for (n, Kind { sql_type, .. }) in &kinds {
        let object = format!("p{n}");
        let file = bell.mapping_file(&format!("version = 1\n{}", of(*n))).display().to_string();
        for typed in ["nonsense", "99999999999999999999999999", "2026-99-99"] {
            let explained = bell.run(&["explain", &object, "--mapping", &file, "--", typed]).await;
            assert!(
                explained.code == 0 && explained.stdout.contains("has no such row"),
                "{sql_type}: {explained}"
            );
        }
        let asked = ["resync", "--object", &object, "--mapping", &file, "--key", "2026-99-99"];
        let asked = bell.run(&asked).await;
        assert!(asked.code <= 2 && !asked.stderr.contains("panic"), "{sql_type}: {asked}");
    }
    bell.run_ok(&["run", "--drain", "--mapping", &all]).await;
    assert_eq!(bell.parked().await, Vec::<String>::new());
}
