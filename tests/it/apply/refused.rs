//! Rows that the target refuses: the others get through, and what becomes of the refused ones is reported.

use std::time::{Duration, Instant};

use crate::support::{TestBell, eventually, rows};

/// What the target refuses, and how it is reported.
struct Refusal {
    what: &'static str,
    /// Makes the target refuse the school of that name.
    target: &'static str,
    /// Makes the source row refused.
    source: &'static str,
    /// Makes the source row acceptable.
    mended: &'static str,
    sqlstate: &'static str,
    /// Parts of the reason: the column, the constraint.
    reason: &'static [&'static str],
    remedy: &'static str,
}

const PERMANENT: [Refusal; 6] = [
    Refusal {
        what: "a check constraint",
        target: "alter table salesforce.editor__c add constraint short_name check (length(name) < 20)",
        source: "update schools set name = repeat('x', 30) where name = 'Bad'",
        mended: "update schools set name = 'Bad' where name like 'xxx%'",
        sqlstate: "23514",
        reason: &["short_name", "editor__c"],
        remedy: "fix the source row, or the constraint in the target",
    },
    Refusal {
        what: "not null",
        target: "alter table salesforce.editor__c alter postcode__c set not null",
        source: "update schools set postal_code = null where name = 'Bad'",
        mended: "update schools set postal_code = 'AB1' where name = 'Bad'",
        sqlstate: "23502",
        reason: &["postcode__c"],
        remedy: "fix the source row, or the constraint in the target",
    },
    Refusal {
        what: "a unique index on another column",
        target: "create unique index one_website on salesforce.editor__c (website__c)",
        source: "update schools set website = 'Good' where name = 'Bad'",
        mended: "update schools set website = 'Bad' where name = 'Bad'",
        sqlstate: "23505",
        reason: &["one_website"],
        remedy: "fix the source row, or the constraint in the target",
    },
    Refusal {
        what: "a foreign key",
        target: "create table salesforce.country (code varchar(20) primary key); \
                 insert into salesforce.country values ('GB'); \
                 alter table salesforce.editor__c add constraint known_country \
                 foreign key (countrycode__c) references salesforce.country (code)",
        source: "update schools set country_code = 'XX' where name = 'Bad'",
        mended: "update schools set country_code = 'GB' where name = 'Bad'",
        sqlstate: "23503",
        reason: &["known_country"],
        remedy: "fix the source row, or the constraint in the target",
    },
    Refusal {
        what: "a trigger",
        target: "create function salesforce.no_bad() returns trigger language plpgsql as $$ begin \
                 if new.addressline1__c = 'Nowhere' then raise exception 'not a place'; end if; return new; end $$; \
                 create trigger no_bad before insert or update on salesforce.editor__c \
                 for each row execute function salesforce.no_bad()",
        source: "update schools set address_line_1 = 'Nowhere' where name = 'Bad'",
        mended: "update schools set address_line_1 = 'Somewhere' where name = 'Bad'",
        sqlstate: "P0001",
        // What it says is its own, and may quote the row.
        reason: &["a trigger or function raised an error", "in the server's log"],
        remedy: "ask the owner of the trigger or rule that refused the row",
    },
    Refusal {
        what: "a number that is too great",
        target: "select",
        source: "update schools set user_origin = 40000 where name = 'Bad'",
        mended: "update schools set user_origin = 7 where name = 'Bad'",
        sqlstate: "22003",
        reason: &["smallint out of range"],
        remedy: "fix the value in the source row, or change the type of the column",
    },
];

/// The built-in mapping with `user_origin` as a number, in a column of the target that is small.
async fn with_a_small_number() -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.target_sql(
        "alter table salesforce.editor__c alter userorigin__c type smallint using userorigin__c::smallint",
    )
    .await;
    let sql = "{ sql = \"case user_origin when 1 then 'experience_cs' else 'for_education' end\" }";
    let text = schoolbell::mapping::BUILT_IN.replace(sql, "\"user_origin\"");
    assert_ne!(text, schoolbell::mapping::BUILT_IN);
    bell.use_mapping(&text).await;
    for name in ["Bad", "Good"] {
        let school = bell.insert_school(name).await;
        bell.source_sql(&format!(
            "update schools set website = name, postal_code = 'AB1' where id = '{school}'"
        ))
        .await;
    }
    bell
}

#[tokio::test]
async fn each_kind_of_refusal_is_dead_with_code_place_and_remedy_and_goes_on_with_a_change() {
    let bell = with_a_small_number().await;
    bell.drain().await;

    for (round, refusal) in PERMANENT.iter().enumerate() {
        let what = refusal.what;
        bell.target_sql(refusal.target).await;
        bell.source_sql(refusal.source).await;
        let town = format!("Town {round}");
        bell.source_sql(&format!("update schools set municipality = '{town}'")).await;

        let tally = bell.drain().await;

        assert_eq!((tally.written, tally.dead, tally.retrying), (1, 1, 0), "{what}");
        let towns = "select name || ' ' || editormunicipality__c from salesforce.editor__c where name = 'Good'";
        assert_eq!(bell.target_texts(towns).await, [format!("Good {town}")], "{what}");
        let parked = rows(
            &bell.source,
            "select state, sqlstate, reason, remedy, attempts::text, due_at::text from schoolbell.parked \
             where object = 'school'",
        )
        .await;
        assert_eq!(parked.len(), 1, "{what}");
        let told = |column: &str| parked[0][column].clone().unwrap_or_default();
        assert_eq!((told("state"), told("sqlstate")), ("dead".into(), refusal.sqlstate.into()));
        assert_eq!((told("remedy"), told("attempts")), (refusal.remedy.into(), "1".into()));
        assert_eq!(parked[0]["due_at"], None, "{what}: nobody tries it by himself");
        for part in refusal.reason {
            assert!(told("reason").contains(part), "{what}: {part} {parked:?}");
        }

        bell.source_sql(refusal.mended).await;
        let tally = bell.drain().await;
        assert_eq!((tally.written, tally.dead), (1, 0), "{what}");
        assert!(bell.parked().await.iter().all(|parked| !parked.contains("school")), "{what}");
    }
}

#[tokio::test]
async fn a_key_is_never_cut_and_the_one_that_is_too_long_is_dead() {
    let bell = TestBell::installed().await;
    bell.target_sql(
        "alter table salesforce.contact_editor_affiliation__c alter affiliation_id__c type varchar(3)",
    )
    .await;
    bell.source_sql(
        "insert into roles (id, role, created_at, updated_at) values (1, 2, now(), now()), (12345, 2, now(), now())",
    )
    .await;

    bell.drain().await;

    let keys = bell.mirrored("contact_editor_affiliation__c", "affiliation_id__c").await;
    assert_eq!(keys, ["1"]);
    let dead = "select concat_ws(' ', key, state, sqlstate) from schoolbell.parked";
    assert_eq!(bell.source_texts(dead).await, ["12345 dead 22001"]);
}

#[tokio::test]
async fn what_passes_is_tried_again_later_and_later_and_goes_on_by_itself() {
    let mut bell = TestBell::installed().await;
    // As a serialization failure, a statement time-out, a deadlock, and a lock that is not
    // available.
    let codes = ["40001", "57014", "40P01", "55P03"];
    bell.target_sql(
        "create table salesforce.mood (name text primary key, code text); \
         create function salesforce.moody() returns trigger language plpgsql as $$ declare mood text; begin \
         select code into mood from salesforce.mood where name = new.name; \
         if mood is not null then raise exception 'not now' using errcode = mood; end if; return new; end $$; \
         create trigger moody before insert or update on salesforce.editor__c \
         for each row execute function salesforce.moody()",
    )
    .await;
    for code in codes {
        bell.target_sql(&format!("insert into salesforce.mood values ('Moody {code}', '{code}')"))
            .await;
        bell.insert_school(&format!("Moody {code}")).await;
    }
    bell.insert_school("Calm").await;
    bell.service_starts();

    // Tried again, each time after about twice as long: 1 s, then 2 s.
    eventually("each was tried twice", || async {
        let sql = "select count(*) from schoolbell.parked where state = 'retrying' and attempts >= 2 \
                   and reason like 'a trigger or function raised an error%'";
        match bell.source_count(sql).await {
            4 => Ok(()),
            tried => Err(tried),
        }
    })
    .await;
    let sql = "select count(*) from schoolbell.parked where state = 'retrying' and attempts = 2 \
               and due_at - tried_at not between interval '1.4 seconds' and interval '2.6 seconds'";
    assert_eq!(bell.source_count(sql).await, 0, "the second wait is about 2 s");
    let found = bell
        .source_texts("select sqlstate from schoolbell.parked where state = 'retrying' order by 1");
    assert_eq!(found.await, ["40001", "40P01", "55P03", "57014"]);
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Calm"]);

    bell.target_sql("delete from salesforce.mood").await;

    bell.caught_up().await;
    bell.every_row_is_right().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 5);
}

#[tokio::test]
async fn a_real_deadlock_with_somebody_in_the_target_passes() {
    let mut bell = TestBell::installed().await;
    for name in ["One", "Two"] {
        bell.insert_school(name).await;
    }
    bell.drain().await;
    let other = bell.target_session().await;
    other
        .batch_execute("set deadlock_timeout = '1h'; begin; select from salesforce.editor__c where name = 'Two' for update")
        .await
        .unwrap();
    // Two batches in parts would not meet: the first row is locked by a trigger of the second's.
    bell.target_sql(
        "create function salesforce.touch_both() returns trigger language plpgsql as $$ begin \
         if new.editormunicipality__c = 'Knot' then perform from salesforce.editor__c where name = 'Two' for update; \
         end if; return new; end $$; \
         create trigger touch_both after update on salesforce.editor__c \
         for each row execute function salesforce.touch_both()",
    )
    .await;
    // A batch of two rows: a single one waits only briefly.
    bell.insert_school("Three").await;
    bell.source_sql("update schools set municipality = 'Knot' where name = 'One'").await;
    bell.service_starts();

    // The service holds One and waits for Two; now the other, who holds Two, wants One.
    eventually("the service waits for a row", || async {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
                   and application_name like 'schoolbell writer%'";
        match bell.target_count(sql).await {
            0 => Err("it does not"),
            _ => Ok(()),
        }
    })
    .await;
    other
        .batch_execute("select from salesforce.editor__c where name = 'One' for update; commit")
        .await
        .unwrap();

    bell.caught_up().await;
    bell.every_row_is_right().await;
    let dead =
        bell.source_count("select count(*) from schoolbell.parked where state = 'dead'").await;
    assert_eq!(dead, 0);
    eventually("the server has counted the deadlock", || async {
        let sql = "select deadlocks from pg_stat_database where datname = current_database()";
        match bell.target_count(sql).await {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn three_bad_rows_among_five_thousand_cost_far_fewer_statements_than_rows() {
    let bell = TestBell::installed().await;
    // A sequence counts what is rolled back, too.
    bell.target_sql(
        "create sequence salesforce.tries; \
         create function salesforce.count_tries() returns trigger language plpgsql as $$ begin \
         perform nextval('salesforce.tries'); return null; end $$; \
         create trigger count_tries before insert on salesforce.editor__c \
         for each statement execute function salesforce.count_tries(); \
         alter table salesforce.editor__c add constraint no_badness check (name not like 'Bad%')",
    )
    .await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select case when n in (17, 2500, 4999) then 'Bad ' else 'Good ' end || n, 'R', 'T', 'GB', 'w', now(), now() \
         from generate_series(1, 5000) n",
    )
    .await;

    let tally = bell.drain().await;

    assert_eq!((tally.written, tally.dead), (4_997, 3));
    let tries = bell.target_count("select last_value from salesforce.tries").await;
    // Each bad row is in at most 13 halvings of 5,000, of two halves each.
    assert!((7..=80).contains(&tries), "{tries} statements");
}

#[tokio::test]
async fn ten_thousand_dead_rows_cost_the_live_path_nothing() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, reason, sqlstate, remedy, held, attempts) \
         select 'school', 'dead ' || n, 'dead', 'refused', '23514', 'mend it', n % 2 = 0, 1 from generate_series(1, 10000) n; \
         analyze schoolbell.parked",
    )
    .await;
    bell.insert_school("Acme").await;
    bell.drain().await;

    let due = include_str!("../../../sql/parked_due.sql")
        .replace("$1", "array['contact', 'school', 'role']")
        .replace("limit $2", "limit 5000")
        .replace("$3", "'{contact}'")
        .replace("$4", "'{school}'")
        .replace("$5", "null::timestamptz");
    let awaited = include_str!("../../../sql/parked_awaited.sql")
        .replace("$1", "''")
        .replace("$2", "''")
        .replace("$3", "1000");
    // Of a batch whose keys were all fine: nothing to free by name, nothing to park.
    let nothing = "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '1', 'source', '{}'";
    let types = "text[], int8[], text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], \
                 boolean[], text, text, int4[]";
    let acknowledge = include_str!("../../../sql/acknowledge.sql");
    bell.source_sql(&format!("prepare acknowledge ({types}) as {acknowledge}")).await;
    let acknowledge = format!("execute acknowledge ({nothing})");
    for (name, sql, index) in [
        ("due", due, "parked_due"),
        ("awaited", awaited, "parked_awaits"),
        ("acknowledge", acknowledge, "parked_pkey"),
    ] {
        // The first line is the whole; it counts what all steps below it read.
        let plan = bell
            .source_texts(&format!("explain (analyze, buffers, costs off, timing off) {sql}"))
            .await;
        assert!(plan.iter().any(|line| line.contains(index)), "{name}: {plan:#?}");
        // A step that reads nothing does not say so; planning is no part of the path.
        let mut steps = plan.iter().take_while(|line| !line.starts_with("Planning"));
        let buffers = steps.find(|line| line.contains("Buffers: "));
        let pages: i64 = buffers
            .map_or("", String::as_str)
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|number| number.parse::<i64>().ok())
            .sum();
        assert!(pages <= 20, "{name} reads {pages} pages: {plan:#?}");
    }
    assert_eq!(bell.target_texts("select name from salesforce.editor__c").await, ["Acme"]);
    let dead = "select count(*) from schoolbell.parked where state = 'dead' and attempts = 1";
    assert_eq!(bell.source_count(dead).await, 10_000, "none of them was tried");
}

#[tokio::test]
async fn a_new_change_of_a_dead_key_tries_it_by_itself_and_no_other() {
    let mut bell = TestBell::installed().await;
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_badness check (name not like 'Bad%')",
    )
    .await;
    for name in ["Bad one", "Bad two"] {
        bell.insert_school(name).await;
    }
    bell.pace.sweep = Duration::from_millis(50);
    bell.service_starts();
    bell.caught_up().await;

    bell.source_sql("update schools set municipality = 'Elsewhere' where name = 'Bad one'").await;
    bell.caught_up().await;
    let attempts =
        "select attempts::text from schoolbell.parked where object = 'school' order by 1";
    assert_eq!(bell.source_texts(attempts).await, ["1", "2"]);

    bell.source_sql("update schools set name = 'Good one' where name = 'Bad one'").await;
    bell.target_becomes("select name from salesforce.editor__c", &["Good one"]).await;
    bell.caught_up().await;
    assert_eq!(bell.source_texts(attempts).await, ["1"]);
}

/// Of this many schools one, by its number, takes this many seconds to insert into the target.
async fn one_is_slow(bell: &TestBell, (slow, schools): (u32, u32), seconds: u32) {
    bell.target_sql(&format!(
        "create function salesforce.dawdle() returns trigger language plpgsql as $$ begin \
         if new.name = 'Slow' then perform pg_sleep({seconds}); end if; return new; end $$; \
         create trigger dawdle before insert on salesforce.editor__c \
         for each row execute function salesforce.dawdle()"
    ))
    .await;
    bell.source_sql(&format!(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select case n when {slow} then 'Slow' else 'Quick ' || n end, 'R', 'T', 'GB', 'w', now(), now() \
         from generate_series(1, {schools}) n"
    ))
    .await;
}

#[tokio::test]
async fn a_row_that_takes_too_long_is_found_and_tried_again_and_the_others_are_written() {
    let mut bell = TestBell::installed().await;
    bell.pace.statement_timeout = Duration::from_millis(700);
    bell.pace.answer_grace = Duration::from_secs(2);
    let silence = bell.pace.longest_silence();
    one_is_slow(&bell, (42, 100), 60).await;

    let began = Instant::now();
    let tally = bell.drain().await;

    assert_eq!((tally.written, tally.retrying, tally.dead), (99, 1, 0));
    let parked =
        "select concat_ws(', ', object, state, sqlstate, reason, remedy) from schoolbell.parked";
    assert_eq!(
        bell.source_texts(parked).await,
        [
            "school, retrying, 57014, it takes longer than 0.7 s, and holds up all others meanwhile, look for what its trigger \
             waits for or computes; it is retried by itself, less often than others"
        ]
    );
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 99);
    // Many statements, each too slow, take longer than any silence may last: only silence counts.
    assert!(began.elapsed() > silence, "{:?}", began.elapsed());
}

/// As a server does whose memory or disk for temporary files is not enough.
#[tokio::test]
async fn what_there_is_no_room_for_is_written_in_smaller_batches_from_then_on() {
    let mut bell = TestBell::installed().await;
    bell.pace.batch_changes = 1_000;
    bell.target_sql(
        "create sequence salesforce.refused; \
         create function salesforce.crowded() returns trigger language plpgsql as $$ begin \
         if (select count(*) from new_rows) > 100 then perform nextval('salesforce.refused'); \
         raise exception 'no room' using errcode = '53400'; end if; return null; end $$; \
         create trigger crowded after insert on salesforce.editor__c referencing new table as new_rows \
         for each statement execute function salesforce.crowded()",
    )
    .await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select 'S' || g, 'Road', 'Town', 'GB', 'x', now(), now() from generate_series(1, 20000) g",
    )
    .await;

    bell.drain().await;

    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 20_000);
    assert_eq!(bell.parked().await, Vec::<String>::new());
    // Twenty batches of 1,000 in halves would be refused 15 times each.
    let refused = bell.target_count("select last_value from salesforce.refused").await;
    assert!(refused < 220, "{refused}");
}

/// A trigger on our table simulates any reason that a server may have to refuse a single row of it.
#[tokio::test]
async fn a_key_whose_parking_is_refused_holds_up_no_other() {
    let bell = TestBell::installed().await;
    let mut schools = Vec::new();
    for n in 0..20 {
        schools.push(bell.insert_school(&format!("School {n}")).await);
    }
    for school in &schools {
        bell.insert_role(school, 1).await;
    }
    let odd = &schools[7];
    bell.source_sql(&format!(
        "create function refuse() returns trigger language plpgsql as \
         $$ begin raise exception 'not this one' using errcode = '54000'; end $$; \
         create trigger refuse before insert on schoolbell.parked for each row \
         when (new.awaits_key = '{odd}') execute function refuse()"
    ))
    .await;

    bell.drain().await;

    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
    let states = "select state || ' ' || count(*) from schoolbell.parked where object = 'role' \
                  group by state order by 1";
    assert_eq!(bell.source_texts(states).await, ["retrying 1", "waiting 19"]);
}

/// Every row of a batch may be written while another one still has its value.
#[tokio::test]
async fn a_unique_value_that_moves_from_row_to_row_holds_up_none_of_them() {
    let bell = TestBell::installed().await;
    bell.target_sql("create unique index on salesforce.editor__c (website__c)").await;
    for n in 0..6 {
        let school = bell.insert_school(&format!("School {n}")).await;
        bell.source_sql(&format!("update schools set website = 'w{n}' where id = '{school}'"))
            .await;
    }
    bell.drain().await;

    // Each has the next one's.
    bell.source_sql("update schools set website = 'w' || right(website, 1)::int + 1").await;
    bell.drain().await;

    let dead = "select key from schoolbell.parked where object = 'school'";
    assert_eq!(bell.source_texts(dead).await, Vec::<String>::new());
    let there = bell.target_texts("select website__c from salesforce.editor__c order by 1").await;
    assert_eq!(there, ["w1", "w2", "w3", "w4", "w5", "w6"]);
}

/// Many rows that may succeed later are not taken for all rows.
#[tokio::test]
async fn good_rows_get_through_among_as_many_that_are_refused_for_now() {
    let mut bell = TestBell::installed().await;
    bell.target_sql(
        "create function salesforce.full_disk() returns trigger language plpgsql as $$ begin \
         if new.name like 'Bad%' then raise exception 'no room' using errcode = '53100'; end if; return new; end $$; \
         create trigger full_disk before insert on salesforce.editor__c \
         for each row execute function salesforce.full_disk()",
    )
    .await;
    bell.source_sql(
        "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
         select case n % 2 when 0 then 'Bad ' else 'Good ' end || n, 'R', 'T', 'GB', 'w', now(), now() \
         from generate_series(1, 200) n",
    )
    .await;
    bell.drain().await;

    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 100);
    let parked = "select count(*) from schoolbell.parked where state = 'retrying'";
    assert_eq!(bell.source_count(parked).await, 100);
    bell.target_sql("drop trigger full_disk on salesforce.editor__c").await;
    bell.service_starts();
    bell.caught_up().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 200);
}

/// With the default limits of the service.
#[tokio::test]
async fn a_row_that_would_take_an_hour_delays_the_others_by_seconds_and_is_tried_less_often() {
    let bell = TestBell::start().await;
    one_is_slow(&bell, (142, 300), 3600).await;

    bell.target_becomes("select count(*)::text from salesforce.editor__c", &["299"]).await;
    let slow = "select reason from schoolbell.parked where state = 'retrying' and sqlstate = '57014' \
                and due_at > tried_at + interval '10 seconds'";
    eventually("it is parked for long", || async {
        let reasons = bell.source_texts(slow).await;
        match reasons.len() == 1 && reasons[0].starts_with("it takes longer than") {
            true => Ok(()),
            false => Err(reasons),
        }
    })
    .await;
}
