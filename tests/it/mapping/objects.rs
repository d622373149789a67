//! Mappings: other objects by file alone, and what does not fit is refused by name.

use crate::support::log::Log;
use crate::support::{HEROKU_CONNECT, TestBell, eventually};

/// Members of groups, invented for this test: a composite key, a join, a parent, an aggregate over a third table.
const MEMBERS: &str = r#"
version = 1

[object.club]
source = "clubs"
key = "code"
target = "club__c"
external_id = "code__c"

[object.club.fields]
title__c = "title"
members__c = { sql = "(select count(*) from members m where m.club = source.code)" }
touched__c = { sql = "'now'", compare = false }

[[object.club.touched_by]]
table = "members"
keys = "select changed.club from changed"

[object.member]
source = "members"
key = "id"
target = "member__c"
external_id = "id__c"
on_delete = "delete"

[object.member.fields]
club__r__code__c = "club"
club_title__c = { sql = "(select c.title from clubs c where c.code = source.club)" }

[[object.member.parents]]
object = "club"
key = "club"

[[object.member.touched_by]]
table = "clubs"
columns = ["title"]
keys = "select m.id from members m join changed on m.club = changed.code"
"#;

async fn clubs() -> TestBell {
    let mut bell = TestBell::bare().await;
    clubs_in(&mut bell).await;
    bell.use_mapping(MEMBERS).await;
    bell
}

async fn clubs_in(bell: &mut TestBell) {
    bell.source_sql(
        "create table clubs (code text primary key, title text, secret text); \
         create table members (id integer primary key, club text)",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.club__c (code__c varchar(40) unique, title__c varchar(20), members__c double precision, \
         touched__c text, {HEROKU_CONNECT}); \
         create table salesforce.member__c (id__c double precision unique, club__r__code__c varchar(40), \
         club_title__c varchar(20), {HEROKU_CONNECT})"
    ))
    .await;
}

#[tokio::test]
async fn an_object_of_invented_tables_works_by_its_file_alone() {
    let bell = clubs().await;
    bell.source_sql("insert into clubs values ('chess', 'Chess'); insert into members values (1, 'chess'), (2, 'chess')").await;
    bell.drain().await;
    bell.target_sql("update salesforce.club__c set sfid = 'a'").await;
    bell.drain().await;

    let clubs = "select concat_ws('|', code__c, title__c, members__c) from salesforce.club__c";
    assert_eq!(bell.target_texts(clubs).await, ["chess|Chess|2"]);
    let members = "select concat_ws('|', id__c, club__r__code__c, club_title__c) from salesforce.member__c order by 1";
    assert_eq!(bell.target_texts(members).await, ["1|chess|Chess", "2|chess|Chess"]);
}

#[tokio::test]
async fn changes_of_a_touching_table_reach_the_rows_they_touch() {
    let bell = clubs().await;
    bell.source_sql(
        "insert into clubs values ('chess', 'Chess'), ('go', 'Go'); insert into members values (1, 'chess'), (2, 'go')",
    )
    .await;
    bell.drain().await;
    bell.target_sql("update salesforce.club__c set sfid = 'a'").await;
    bell.drain().await;

    // A new title reaches the members; a member that moves or leaves reaches both clubs.
    bell.source_sql("update clubs set title = 'Chess club' where code = 'chess'").await;
    bell.drain().await;
    let members =
        "select concat_ws('|', id__c, club_title__c) from salesforce.member__c order by 1";
    assert_eq!(bell.target_texts(members).await, ["1|Chess club", "2|Go"]);

    bell.source_sql("update members set club = 'chess' where id = 2").await;
    bell.drain().await;
    let counts = "select concat_ws('|', code__c, members__c) from salesforce.club__c order by 1";
    assert_eq!(bell.target_texts(counts).await, ["chess|2", "go|0"]);

    bell.source_sql("delete from members where id = 1").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(counts).await, ["chess|1", "go|0"]);
    assert_eq!(bell.target_texts(members).await, ["2|Chess club"]);

    bell.source_sql("truncate members").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(counts).await, ["chess|0", "go|0"]);
    // What a TRUNCATE would delete, a human must release.
    assert_eq!(bell.target_texts(members).await, ["2|Chess club"]);
    bell.run_ok(&["parked", "retry", "member", "--yes"]).await;
    bell.drain().await;
    assert!(bell.target_texts(members).await.is_empty());
}

#[tokio::test]
async fn a_column_that_only_a_touching_object_ignores_is_not_captured() {
    let bell = clubs().await;
    bell.source_sql("insert into clubs values ('chess', 'Chess')").await;
    bell.source_sql("delete from schoolbell.change").await;

    bell.source_sql("update clubs set secret = 'x'").await;

    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

#[tokio::test]
async fn a_field_left_out_of_the_comparison_is_no_reason_to_write() {
    let bell = clubs().await;
    bell.source_sql("insert into clubs values ('chess', 'Chess')").await;
    bell.drain().await;
    bell.target_sql("update salesforce.club__c set touched__c = '********'").await;

    let tally = {
        bell.source_sql("update clubs set title = ' Chess '").await;
        bell.drain().await
    };
    assert_eq!((tally.written, tally.equal), (0, 1));

    bell.source_sql("update clubs set title = 'Chess club'").await;
    bell.drain().await;
    assert_eq!(bell.target_texts("select touched__c from salesforce.club__c").await, ["now"]);
}

#[tokio::test]
async fn hostile_names_are_ordinary_names() {
    let mut bell = TestBell::bare().await;
    let table = "Drop\"; table'; select";
    let column = "ü \" order'by; --{ring} 0123456789 0123456789 0123456789";
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    bell.source_sql(&format!(
        "create table {} ({} text primary key, \"select\" text)",
        quote(table),
        quote(column)
    ))
    .await;
    bell.target_sql(&format!(
        "create table salesforce.{} ({} text, \"from\" text, sfid varchar(18))",
        quote("Where'"),
        quote(column)
    ))
    .await;
    let text = format!(
        "version = 1\n[object.odd]\nsource = '''{table}'''\nkey = '''{column}'''\ntarget = \"Where'\"\n\
         external_id = '''{column}'''\n[object.odd.fields]\nfrom = 'select'\n"
    );
    bell.use_mapping(&text).await;

    let key = "'; drop table x; -- \\ \" $1 ü";
    let sql = format!("insert into {} values ($1, $1)", quote(table));
    bell.source.execute(&sql, &[&key]).await.unwrap();
    bell.drain().await;

    let sql = format!("select {} || \"from\" from salesforce.{}", quote(column), quote("Where'"));
    assert_eq!(bell.target_texts(&sql).await, [format!("{key}{key}")]);
    bell.source_sql(&format!(
        "update {} set \"select\" = 'x'; delete from {}",
        quote(table),
        quote(table)
    ))
    .await;
    assert_eq!(bell.drain().await.kept, 1);
}

#[tokio::test]
async fn a_change_for_a_table_that_no_mapping_reads_stays_in_the_outbox() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.change (source_table, operation, keys) values ('public.elsewhere', 'INSERT', '{\"id\": \
         1}')",
    )
    .await;
    bell.insert_school("Acme").await;

    bell.drain().await;

    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 1);
    assert_eq!(
        bell.source_texts("select source_table from schoolbell.change").await,
        ["public.elsewhere"]
    );
}

#[tokio::test]
async fn a_refused_row_that_is_changed_and_touched_at_once_is_parked_once_and_the_others_arrive() {
    let mut bell = clubs().await;
    let text = MEMBERS.replace(
        "club__r__code__c = \"club\"",
        "club__r__code__c = { sql = \"left(club, 9 / (id - 2))\" }",
    );
    bell.use_mapping(&text).await;
    bell.source_sql("insert into clubs values ('chess', 'Chess')").await;
    bell.drain().await;
    bell.target_sql("update salesforce.club__c set sfid = 'a'").await;

    bell.source_sql("insert into members values (1, 'chess'), (2, 'chess'), (3, 'chess')").await;
    bell.source_sql("update clubs set title = 'Chess club'").await;
    bell.drain().await;

    let members =
        "select concat_ws('|', id__c, club_title__c) from salesforce.member__c order by 1";
    assert_eq!(bell.target_texts(members).await, ["1|Chess club", "3|Chess club"]);
    assert_eq!(bell.parked().await, ["member 2 dead"]);
    assert_eq!(bell.source_count("select count(*) from schoolbell.change").await, 0);
}

#[tokio::test]
async fn a_key_that_several_rows_may_have_needs_a_winner() {
    let bell = TestBell::bare().await;
    let text = schoolbell::mapping::BUILT_IN;
    let without = &text[..text.find("[object.contact.winner]").unwrap()];
    let file = bell.mapping_file(without);

    let ended = bell.run(&["migrate", "--mapping", file.to_str().unwrap()]).await;

    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.contains("object contact: key:"), "{ended}");
    assert!(ended.stderr.contains("[object.contact.winner]"), "{ended}");
}

#[tokio::test]
async fn a_key_of_many_digits_keeps_each_of_them() {
    let mut bell = TestBell::bare().await;
    bell.source_sql("create table big (id numeric(30) primary key, title text)").await;
    bell.target_sql(
        "create table salesforce.big__c (id__c varchar(40), title__c text, sfid varchar(18))",
    )
    .await;
    bell.use_mapping(
        "version = 1\n[object.big]\nsource = 'big'\nkey = 'id'\ntarget = 'big__c'\nexternal_id = 'id__c'\n\
         [object.big.fields]\ntitle__c = 'title'\n",
    )
    .await;

    bell.source_sql("insert into big values (12345678901234567890123, 'x')").await;
    bell.drain().await;

    assert_eq!(
        bell.target_texts("select id__c from salesforce.big__c").await,
        ["12345678901234567890123"]
    );
}

#[tokio::test]
async fn verify_counts_rows_that_a_change_on_its_way_touches_as_in_flight() {
    let bell = clubs().await;
    bell.source_sql(
        "insert into clubs values ('a', 'Archery', 'x'); insert into members values (1, 'a'), (2, 'a')",
    )
    .await;
    bell.drain().await;
    bell.salesforce_accepts("club__c", "code__c", "a").await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    let file = bell.mapping_file(MEMBERS);
    let verify = async |object: &str| {
        let arguments = ["verify", object, "--json", "--mapping", file.to_str().unwrap()];
        let report: serde_json::Value =
            serde_json::from_str(&bell.run_ok(&arguments).await).unwrap();
        ["equal", "in_flight"].map(|what| report["objects"][0][what].as_u64().unwrap())
    };

    let before = verify("member").await;
    bell.source_sql("update clubs set title = 'Bows'").await;
    let renamed = verify("member").await;
    bell.drain().await;
    bell.source_sql("truncate members").await;
    let truncated = verify("club").await;

    assert_eq!((before, renamed, truncated), ([2, 0], [0, 2], [0, 1]));
}

/// Salesforce reads an encrypted field back as asterisks: that is no difference for anybody who compares.
#[tokio::test]
async fn an_encrypted_field_that_salesforce_has_masked_is_right_and_any_other_value_is_compared() {
    let mut bell = clubs().await;
    let text = MEMBERS
        .replace("title__c = \"title\"", "title__c = { column = \"title\", encrypted = true }");
    bell.use_mapping(&text).await;
    let file = bell.mapping_file(&text);
    let file = file.to_str().unwrap();
    bell.source_sql(
        "insert into clubs values ('a', 'Archery'), ('b', 'Bowls'), ('c', 'Chess'), ('d', null); \
         insert into members values (1, 'a')",
    )
    .await;
    bell.drain().await;
    bell.target_sql("update salesforce.club__c set sfid = code__c").await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    let titles = "select concat_ws('|', code__c, title__c) from salesforce.club__c order by 1";
    let verify = async || {
        let report = bell.run(&["verify", "club", "--json", "--mapping", file]).await;
        let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
        let verdict = &report["objects"][0];
        ["equal", "differing"].map(|what| verdict[what].as_u64().unwrap())
    };
    let explained = async |key: &str| {
        let report = bell.run(&["explain", "club", key, "--json", "--mapping", file]).await;
        let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
        report["target"][0]["differing"].as_array().unwrap().len()
    };

    // As Salesforce leaves it: masked, and where there was nothing, nothing.
    bell.target_sql(
        "update salesforce.club__c set title__c = '*******' where title__c is not null",
    )
    .await;
    bell.source_sql("update clubs set secret = 'x'").await;
    bell.run_ok(&["resync", "club", "--mapping", file]).await;
    assert_eq!(bell.target_texts(titles).await, ["a|*******", "b|*******", "c|*******", "d"]);
    assert_eq!((verify().await, explained("a").await), ([4, 0], 0));

    // The limit: alone it is not noticed. With another field it is written.
    bell.source_sql("update clubs set title = 'Arrows' where code = 'a'").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(titles).await[0], "a|*******");
    bell.source_sql("insert into members values (2, 'a')").await;
    bell.drain().await;
    let archery =
        "select concat_ws('|', title__c, members__c) from salesforce.club__c where code__c = 'a'";
    assert_eq!(bell.target_texts(archery).await, ["Arrows|2"]);

    // Whatever is not asterisks alone is compared: clear, emptied, or with something beside them.
    for wrong in ["'Bows'", "null", "'***s'", "''"] {
        bell.target_sql(&format!(
            "update salesforce.club__c set title__c = {wrong} where code__c = 'b'"
        ))
        .await;
        assert_eq!((verify().await, explained("b").await), ([3, 1], 1), "{wrong}");
        bell.run_ok(&["resync", "club", "--mapping", file]).await;
        let written = bell.target_texts(titles).await;
        assert_eq!(written, ["a|Arrows", "b|Bowls", "c|*******", "d"], "{wrong}");
    }
}

/// Clubs with 20,100 members in one and one in the other; members have no parents, so that all are written at once.
async fn large_clubs(on_delete: &str) -> TestBell {
    let mut bell = TestBell::bare().await;
    clubs_in(&mut bell).await;
    let (from, to) = ("[[object.member.parents]]", "[[object.member.touched_by]]");
    let (start, end) = (MEMBERS.find(from).unwrap(), MEMBERS.rfind(to).unwrap());
    let mapping = MEMBERS[..start].replace("on_delete = \"delete\"", on_delete) + &MEMBERS[end..];
    bell.use_mapping(&mapping).await;
    bell.source_sql(
        "insert into clubs values ('chess', 'Chess'), ('go', 'Go'); \
         insert into members select n, 'chess' from generate_series(1, 20100) n; insert into members values (0, 'go')",
    )
    .await;
    bell.drain().await;
    assert_eq!(bell.target_texts(TITLES).await, ["Chess 20100", "Go 1"]);
    // The new clubs have touched all these members, too.
    bell.source_sql("delete from schoolbell.resync").await;
    bell
}

const TITLES: &str = "select concat_ws(' ', club_title__c, count(*)) from salesforce.member__c group by club_title__c \
    order by 1";
const REPLAYS: &str =
    "select concat_ws(' ', object, walk, state, done, written) from schoolbell.resync order by id";

#[tokio::test]
async fn a_change_that_touches_more_rows_than_fit_at_once_reaches_them_page_by_page() {
    let bell = large_clubs("").await;
    bell.source_sql("update clubs set title = 'Chess club' where code = 'chess'").await;
    let tally = bell.drain().await;
    assert_eq!(bell.target_texts(TITLES).await, ["Chess club 20100", "Go 1"]);
    // Nothing was written that is right.
    assert_eq!((tally.written, tally.equal), (20_101, 1));
    assert_eq!(bell.source_texts(REPLAYS).await, ["member source done 20101 20100"]);

    // A resync that has passed some rows already is not enough for a later change.
    bell.source_sql(
        "update schoolbell.resync set state = 'running', finished_at = null, position = '{20000}'; \
         update clubs set title = 'Chess' where code = 'chess'",
    )
    .await;
    bell.drain().await;
    assert_eq!(bell.target_texts(TITLES).await, ["Chess 20100", "Go 1"]);
}

#[tokio::test]
async fn a_resync_that_stands_for_a_change_waits_for_a_table_that_is_locked_and_is_not_given_up() {
    let log = Log::listen();
    let mut bell = clubs().await;
    bell.source_sql("insert into clubs values ('chess', 'Chess')").await;
    bell.service_starts();
    bell.target_becomes("select title__c from salesforce.club__c", &["Chess"]).await;
    let holder = bell.source_session().await;
    holder.batch_execute("begin; lock table clubs in access exclusive mode").await.unwrap();
    // As it is stored for a change that touches very many rows.
    bell.source_sql("insert into schoolbell.resync (object, only_missing) values ('club', false)")
        .await;
    eventually("it is hindered", || async {
        log.lines("a resync is blocked for now; it is retried").pop().ok_or(log.lines(""))
    })
    .await;

    holder.batch_execute("rollback").await.unwrap();
    bell.caught_up().await;
    let ended = "select concat_ws(' ', state, done, reason) from schoolbell.resync";
    assert_eq!(bell.source_texts(ended).await, ["done 1"]);
}

#[tokio::test]
async fn a_resync_that_stands_for_a_change_comes_before_one_that_was_asked_for() {
    let bell = clubs().await;
    bell.source_sql("insert into clubs select n, 'Club' from generate_series(1, 5) n").await;
    bell.drain().await;
    // One row per second, and none of it is right.
    bell.target_sql("update salesforce.club__c set title__c = 'Other'").await;
    let file = bell.mapping_file(MEMBERS);
    bell.run_ok(&[
        "resync",
        "club",
        "--rate",
        "1",
        "--detach",
        "--mapping",
        file.to_str().unwrap(),
    ])
    .await;
    bell.source_sql("insert into schoolbell.resync (object, only_missing) values ('club', false)")
        .await;
    bell.drain().await;
    let ends = "select concat_ws(' ', done, written) from schoolbell.resync order by finished_at";
    assert_eq!(bell.source_texts(ends).await, ["5 5", "5 0"]);
}

#[tokio::test]
async fn where_rows_are_deleted_such_a_change_is_followed_by_a_walk_through_the_target() {
    let bell = large_clubs("on_delete = \"delete\"").await;
    bell.target_sql("insert into salesforce.member__c (id__c, club_title__c) values (-1, 'Gone')")
        .await;
    bell.source_sql("update clubs set title = 'Chess club' where code = 'chess'").await;
    bell.drain().await;
    let walked = ["member source done 20101 20100", "member target done 20102 0"];
    assert_eq!(bell.source_texts(REPLAYS).await, walked);
    assert_eq!(bell.parked().await, ["member -1 dead"], "the brake holds it");
}

/// An object with everything at once: an integer key, a parent of its own, a join, an aggregate over a third table, a field
/// that is left out of the comparison, and one that Salesforce masks.
const BOOKINGS: &str = r#"
version = 1

[object.room]
source = "rooms"
key = "code"
target = "room__c"
external_id = "code__c"

[object.room.fields]
title__c = "title"

[object.booking]
source = "bookings"
key = "number"
target = "booking__c"
external_id = "number__c"
on_delete = "delete"

[object.booking.fields]
room__r__code__c = "room"
guest__c = "guest"
room_title__c = { sql = "(select r.title from rooms r where r.code = source.room)" }
extras__c = { sql = "(select count(*) from extras e where e.booking = source.number)" }
card__c = { column = "card", encrypted = true }
synced__c = { sql = "(select clock.now from clock)", compare = false }

[[object.booking.parents]]
object = "room"
key = "room"

[[object.booking.touched_by]]
table = "rooms"
columns = ["title"]
keys = "select b.number from bookings b join changed on b.room = changed.code"

[[object.booking.touched_by]]
table = "extras"
keys = "select changed.booking from changed"
"#;

/// The tables of [`BOOKINGS`], installed.
async fn rooms() -> TestBell {
    let mut bell = TestBell::bare().await;
    bell.source_sql(
        "create table rooms (code text primary key, title text); \
         create table bookings (number integer primary key, room text, guest text, card text); \
         create table extras (id serial primary key, booking integer, what text); \
         create table clock (now text); insert into clock values ('first')",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.room__c (code__c varchar(40) unique, title__c varchar(20), {HEROKU_CONNECT}); \
         create table salesforce.booking__c (number__c double precision unique, room__r__code__c varchar(40), \
         guest__c varchar(20), room_title__c varchar(20), extras__c double precision, card__c varchar(30), \
         synced__c varchar(20), {HEROKU_CONNECT})"
    ))
    .await;
    bell.use_mapping(BOOKINGS).await;
    bell
}

#[tokio::test]
async fn a_change_whose_touched_rows_cannot_be_found_holds_up_no_other_and_reaches_them_later() {
    let log = Log::listen();
    let mut bell = rooms().await;
    bell.pace.replan = std::time::Duration::from_millis(50);
    bell.source_sql("insert into rooms values ('r1', 'Blue'); insert into bookings values (7, 'r1', 'Ada', '1')").await;
    bell.drain().await;
    bell.target_sql("update salesforce.room__c set sfid = 'S' || id").await;
    bell.service_starts();
    let booked = "select room_title__c from salesforce.booking__c";
    bell.target_becomes(booked, &["Blue"]).await;
    bell.caught_up().await;

    // By this column the bookings of a room are found.
    bell.source_sql("alter table bookings rename column room to room_code").await;
    bell.source_sql("update rooms set title = 'Red'").await;
    bell.target_becomes("select title__c from salesforce.room__c", &["Red"]).await;
    // It parks what it meets, and may be done before anybody looks.
    let resyncs = "select distinct object from schoolbell.resync";
    eventually("a resync stands for it, and is reported", || async {
        let (resyncs, told) =
            (bell.source_texts(resyncs).await, log.lines("public.bookings has no column room"));
        if resyncs == ["booking"] && !told.is_empty() { Ok(()) } else { Err((resyncs, told)) }
    })
    .await;
    assert_eq!(bell.target_texts(booked).await, ["Blue"]);

    bell.source_sql("alter table bookings rename column room_code to room").await;
    bell.target_becomes(booked, &["Red"]).await;
    bell.caught_up().await;
}

#[tokio::test]
async fn an_object_with_everything_that_a_mapping_can_say_is_added_by_its_file_alone() {
    let bell = rooms().await;
    let bookings = "select concat_ws('|', number__c, room__r__code__c, guest__c, room_title__c, extras__c, card__c, synced__c) \
                    from salesforce.booking__c order by number__c";

    // It waits for its parent, and is written with all it has.
    bell.source_sql(
        "insert into rooms values ('r1', 'Blue'), ('r2', 'Green'); \
         insert into bookings values (7, 'r1', 'Ada', '4711'), (8, 'r2', 'Ben', '0815'); \
         insert into extras (booking, what) values (7, 'lunch'), (7, 'bike'), (8, 'lunch')",
    )
    .await;
    bell.drain().await;
    assert_eq!(
        bell.parked().await,
        ["booking 7 waiting for room sfid r1", "booking 8 waiting for room sfid r2"]
    );
    bell.target_sql("update salesforce.room__c set sfid = 'S' || id").await;
    bell.drain().await;
    assert_eq!(
        bell.target_texts(bookings).await,
        ["7|r1|Ada|Blue|2|4711|first", "8|r2|Ben|Green|1|0815|first"]
    );

    // Salesforce masks the card, and the time continues: neither is a difference.
    bell.target_sql("update salesforce.booking__c set card__c = '********'").await;
    bell.source_sql("update clock set now = 'second'").await;
    bell.run_ok(&[
        "resync",
        "--detach",
        "--mapping",
        bell.mapping_file(BOOKINGS).to_str().unwrap(),
    ])
    .await;
    let again = bell.drain().await;
    assert_eq!((again.written, again.equal), (0, 4));
    bell.run_ok(&["verify", "--mapping", bell.mapping_file(BOOKINGS).to_str().unwrap()]).await;

    // The count follows inserts, moves and deletes of the third table; the join its table. What is written, is written
    // whole.
    bell.source_sql("insert into extras (booking, what) values (8, 'dinner')").await;
    bell.drain().await;
    let second = "8|r2|Ben|Green|2|0815|second";
    assert_eq!(bell.target_texts(bookings).await, ["7|r1|Ada|Blue|2|********|first", second]);
    bell.source_sql("update extras set booking = 7 where what = 'dinner'; delete from extras where what = 'bike'").await;
    bell.source_sql("update rooms set title = 'Red' where code = 'r1'").await;
    bell.drain().await;
    assert_eq!(
        bell.target_texts(bookings).await,
        ["7|r1|Ada|Red|2|4711|second", "8|r2|Ben|Green|1|0815|second"]
    );

    bell.source_sql("delete from bookings where number = 8").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(bookings).await, ["7|r1|Ada|Red|2|4711|second"]);
}
