//! Parked keys: what waits, for what, and how it continues.

use crate::support::{HEROKU_CONNECT, TestBell, eventually};

const ROLES: (&str, &str) = ("contact_editor_affiliation__c", "affiliation_id__c");

async fn mirrored_roles(bell: &TestBell) -> Vec<String> {
    bell.mirrored(ROLES.0, ROLES.1).await
}

async fn is_parked(bell: &TestBell, wanted: &str) {
    eventually("it waits", || async {
        let parked = bell.parked().await;
        if parked.iter().any(|parked| parked == wanted) { Ok(()) } else { Err(parked) }
    })
    .await;
}

/// A school that Salesforce knows.
async fn known_school(bell: &TestBell) -> String {
    let school = bell.insert_school("Acme").await;
    bell.target_becomes("select name from salesforce.editor__c", &["Acme"]).await;
    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;
    school
}

/// Keys are as long as an application likes: no index may refuse one, and nothing behind it may wait.
#[tokio::test]
async fn a_key_of_any_length_waits_is_refused_and_goes_on_and_holds_up_nothing() {
    let mut bell = TestBell::bare().await;
    // Not to be found by an index on the text; long enough to be refused by one, and no shorter when compressed.
    bell.source_sql(
        "create table pages (id text, name text, chapter text, n serial primary key); \
         create unique index on pages (md5(id)); create index on pages using hash (id); \
         alter table pages add constraint one unique (n)",
    )
    .await;
    bell.target_sql(&format!(
        "create table salesforce.page__c (id__c text, name__c varchar(80), {HEROKU_CONNECT}); \
         create table salesforce.note__c (id__c text, page__r__id__c text, {HEROKU_CONNECT})"
    ))
    .await;
    bell.source_sql("create table notes (id text, page text, n serial primary key)").await;
    bell.use_mapping(
        "version = 1\n[object.page]\nsource = \"pages\"\nkey = \"id\"\ntarget = \"page__c\"\nexternal_id = \"id__c\"\n\
         [object.page.winner]\norder = \"n\"\n[object.page.fields]\nname__c = { sql = \"case when name = 'bad' then (1 / (length(name) - 3))::text \
         else name end\" }\n[object.note]\nsource = \"notes\"\nkey = \"id\"\ntarget = \"note__c\"\nexternal_id = \"id__c\"\n\
         [object.note.winner]\norder = \"n\"\n[object.note.fields]\npage__r__id__c = \"page\"\n\
         [[object.note.parents]]\nobject = \"page\"\nkey = \"page\"\n",
    )
    .await;
    // Two that are alike for a long way.
    let long = |end: &str| {
        format!("(select string_agg(md5(g::text), '') || '{end}' from generate_series(1, 200) g)")
    };
    bell.source_sql(&format!(
        "insert into pages (id, name) values ({}, 'bad'), ({}, 'bad'), ('short', 'good'); \
         insert into notes (id, page) values ({0}, {0}), ({1}, {1})",
        long("a"),
        long("b")
    ))
    .await;

    bell.drain().await;
    let states = "select object || ' ' || state || ' ' || length(key) || right(key, 1) from schoolbell.parked order by 1";
    let parked = ["note waiting 6401a", "note waiting 6401b", "page dead 6401a", "page dead 6401b"];
    assert_eq!(bell.source_texts(states).await, parked);
    assert_eq!(bell.target_texts("select name__c from salesforce.page__c").await, ["good"]);
    // Parked again, each stays one.
    bell.source_sql(
        "update pages set chapter = 'x', name = name || ''; update notes set page = page || ''",
    )
    .await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    assert_eq!(bell.source_texts(states).await, parked);

    bell.source_sql("update pages set name = 'fine' where name = 'bad'").await;
    bell.drain().await;
    bell.target_sql("update salesforce.page__c set sfid = 'S' || id").await;
    bell.drain().await;
    assert_eq!(bell.parked().await, Vec::<String>::new());
    assert_eq!(
        bell.target_count("select count(distinct page__r__id__c) from salesforce.note__c").await,
        2
    );
}

#[tokio::test]
async fn a_role_waits_until_salesforce_knows_its_school() {
    let bell = TestBell::start().await;

    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    bell.salesforce_has_contact(&bell.user_of(&role).await).await;
    is_parked(&bell, &format!("role {role} waiting for school sfid {school}")).await;
    assert!(mirrored_roles(&bell).await.is_empty());

    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;

    bell.target_becomes(
        "select roletype__c from salesforce.contact_editor_affiliation__c",
        &["teacher"],
    )
    .await;
    assert_eq!(mirrored_roles(&bell).await, [role]);
}

#[tokio::test]
async fn a_role_waits_until_salesforce_has_its_contact() {
    let bell = TestBell::start().await;
    let school = known_school(&bell).await;
    let role = bell.insert_role(&school, 1).await;
    let user = bell.user_of(&role).await;
    is_parked(&bell, &format!("role {role} waiting for contact sfid {user}")).await;
    // A contact that Salesforce does not know is not enough.
    bell.target_sql(&format!(
        "insert into salesforce.contact (pi_accounts_unique_id__c) values ('{user}')"
    ))
    .await;
    bell.caught_up().await;
    assert!(mirrored_roles(&bell).await.is_empty());

    bell.salesforce_accepts("contact", "pi_accounts_unique_id__c", &user).await;

    bell.target_becomes(
        "select affiliation_id__c from salesforce.contact_editor_affiliation__c",
        &[&role],
    )
    .await;
}

#[tokio::test]
async fn a_null_reference_needs_no_parent() {
    let bell = TestBell::start().await;

    bell.source_sql("insert into roles (role, created_at, updated_at) values (1, now(), now())")
        .await;

    let sql = "select concat_ws('|', roletype__c, editor__r__editoruuid__c, contact__r__pi_accounts_unique_id__c) \
               from salesforce.contact_editor_affiliation__c";
    bell.target_becomes(sql, &["teacher"]).await;
}

#[tokio::test]
async fn a_row_that_was_written_is_not_changed_while_its_new_parent_is_awaited() {
    let bell = TestBell::start().await;
    let school = known_school(&bell).await;
    let role = bell.insert_role(&school, 1).await;
    bell.salesforce_has_contact(&bell.user_of(&role).await).await;
    bell.target_becomes(
        "select affiliation_id__c from salesforce.contact_editor_affiliation__c",
        &[&role],
    )
    .await;

    let other = bell.insert_school("Other").await;
    bell.source_sql(&format!("update roles set school_id = '{other}'")).await;
    is_parked(&bell, &format!("role {role} waiting for school sfid {other}")).await;
    let parent = "select editor__r__editoruuid__c from salesforce.contact_editor_affiliation__c";
    assert_eq!(bell.target_texts(parent).await, [school]);

    bell.salesforce_accepts("editor__c", "editoruuid__c", &other).await;

    bell.target_becomes(parent, &[&other]).await;
}

#[tokio::test]
async fn a_new_change_of_a_parked_key_makes_it_due_at_once() {
    let mut bell = TestBell::installed().await;
    // No sweep: only the change itself can wake it.
    bell.pace.wait_sweep = std::time::Duration::from_secs(3600);
    bell.service_starts();
    let school = bell.insert_school("Acme").await;
    let role = bell.insert_role(&school, 1).await;
    bell.caught_up().await;

    bell.source_sql("update roles set school_id = null, user_id = null").await;

    bell.target_becomes(
        "select affiliation_id__c from salesforce.contact_editor_affiliation__c",
        &[&role],
    )
    .await;
    bell.caught_up().await;
    assert!(
        bell.parked().await.iter().all(|parked| !parked.starts_with("role")),
        "{:?}",
        bell.parked().await
    );
}

#[tokio::test]
async fn a_waiting_row_that_is_deleted_waits_no_longer() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;

    bell.source_sql("delete from roles").await;

    bell.caught_up().await;
    assert!(
        bell.parked().await.iter().all(|parked| !parked.starts_with("role")),
        "{:?}",
        bell.parked().await
    );
}

#[tokio::test]
async fn thousands_that_wait_for_one_parent_go_on_together() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.source_sql(&format!(
        "insert into roles (school_id, role, created_at, updated_at) select '{school}', 1, now(), now() \
         from generate_series(1, 5000)"
    ))
    .await;
    bell.caught_up().await;
    assert_eq!(
        bell.source_count("select count(*) from schoolbell.parked where object = 'role'").await,
        5_000
    );

    bell.salesforce_accepts("editor__c", "editoruuid__c", &school).await;

    bell.target_becomes(
        "select count(*)::text from salesforce.contact_editor_affiliation__c",
        &["5000"],
    )
    .await;
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn many_distinct_parents_are_asked_for_in_pages_and_none_is_forgotten() {
    let bell = TestBell::start().await;
    bell.source_sql(
        "insert into roles (user_id, role, created_at, updated_at) select md5(n::text)::uuid, 1, now(), now() \
         from generate_series(1, 12000) n",
    )
    .await;
    bell.caught_up().await;

    bell.target_sql(
        "begin; set local xmlbinary = 'hex'; insert into salesforce.contact (pi_accounts_unique_id__c, sfid) \
         select md5(n::text)::uuid::text, 'S' || n from generate_series(1, 12000) n; commit",
    )
    .await;

    bell.target_becomes(
        "select count(*)::text from salesforce.contact_editor_affiliation__c",
        &["12000"],
    )
    .await;
}

#[tokio::test]
async fn waiting_costs_no_write_on_either_side() {
    let bell = TestBell::start().await;
    let school = bell.insert_school("Acme").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    bell.asleep().await;
    let written =
        "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::text from pg_stat_user_tables";
    let rows =
        "select string_agg(xmin::text || ctid::text, ',' order by object) from schoolbell.parked";
    let before = bell.source_texts(rows).await;
    // The server counts late: the school, and its entry in Heroku Connect's log.
    bell.target_becomes(written, &["2"]).await;
    let target_before = bell.target_texts(written).await;

    // The sweep of this pace looks twenty times a second; wait until it looked more than once.
    let sweeps = "select coalesce(sum(idx_scan), 0) from pg_stat_user_indexes where indexrelname = 'parked_awaits'";
    let seen = bell.source_count(sweeps).await;
    eventually("the sweep has looked", || async {
        let now = bell.source_count(sweeps).await;
        if now > seen + 4 { Ok(()) } else { Err(now) }
    })
    .await;

    assert_eq!(bell.source_texts(rows).await, before);
    assert_eq!(bell.target_texts(written).await, target_before);
}

#[tokio::test]
async fn more_keys_than_a_batch_holds_are_due_at_once_and_draining_takes_them_all() {
    let mut bell = TestBell::installed().await;
    bell.pace.batch_changes = 50;
    bell.source_sql(
        "insert into roles (user_id, role, created_at, updated_at) select md5(n::text)::uuid, 1, now(), now() \
         from generate_series(1, 430) n",
    )
    .await;
    bell.drain().await;
    bell.target_sql(
        "begin; set local xmlbinary = 'hex'; insert into salesforce.contact (pi_accounts_unique_id__c, sfid) \
         select md5(n::text)::uuid::text, 'S' || n from generate_series(1, 430) n; commit",
    )
    .await;

    bell.drain().await;

    assert_eq!(mirrored_roles(&bell).await.len(), 430);
    assert!(bell.parked().await.is_empty());
}

#[tokio::test]
async fn changes_that_no_object_reads_do_not_end_a_drain_before_the_others() {
    let mut bell = TestBell::installed().await;
    bell.pace.batch_changes = 50;
    bell.source_sql(
        "insert into schoolbell.change (source_table, operation, keys) select 'public.gone', 'INSERT', '{}' \
         from generate_series(1, 200)",
    )
    .await;
    let school = bell.insert_school("Acme").await;

    bell.drain().await;

    assert_eq!(bell.mirrored("editor__c", "editoruuid__c").await, [school]);
}

#[tokio::test]
async fn a_due_key_of_an_object_that_the_mapping_lacks_is_left_alone() {
    let bell = TestBell::installed().await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, due_at, reason) values ('gone', '1', 'retrying', now(), 'x')",
    )
    .await;

    bell.drain().await;

    assert_eq!(bell.parked().await, ["gone 1 retrying"]);
}

#[tokio::test]
async fn a_due_key_is_freed_however_it_is_spelt() {
    let bell = TestBell::installed().await;
    let school = bell.insert_school("Acme").await;
    bell.drain().await;
    bell.source_sql(&format!(
        "delete from schoolbell.parked; insert into schoolbell.parked (object, key, state, due_at, reason) \
         values ('school', upper('{school}'), 'retrying', now(), 'x')"
    ))
    .await;

    bell.drain().await;

    assert!(bell.parked().await.is_empty(), "{:?}", bell.parked().await);
}

/// As an account's parent account. A row waits until Salesforce knows its parent, which is a row of the same object.
#[tokio::test]
async fn rows_may_have_parents_of_their_own_object_and_those_in_a_circle_are_named() {
    let mut bell = TestBell::bare().await;
    bell.source_sql("create table units (id int primary key, parent int, name text)").await;
    bell.target_sql(&format!(
        "create table salesforce.unit__c (id__c int unique, parent__r__id__c int, name__c varchar(80), {HEROKU_CONNECT})"
    ))
    .await;
    bell.use_mapping(
        "version = 1\n[object.unit]\nsource = \"units\"\nkey = \"id\"\ntarget = \"unit__c\"\nexternal_id = \"id__c\"\n\
         [object.unit.fields]\nparent__r__id__c = \"parent\"\nname__c = \"name\"\n\
         [[object.unit.parents]]\nobject = \"unit\"\nkey = \"parent\"\n",
    )
    .await;
    // Children first, three levels; a circle of three, one of a single row, and a row below the circle.
    bell.source_sql(
        "insert into units values (3, 2, 'leaf'), (2, 1, 'branch'), (1, null, 'root'), (11, 12, 'x'), (12, 13, 'y'), \
         (13, 11, 'z'), (20, 20, 'self'), (30, 11, 'below')",
    )
    .await;
    let there = "select name__c from salesforce.unit__c order by id__c";
    for wanted in [&["root"][..], &["root", "branch"], &["root", "branch", "leaf"]] {
        bell.drain().await;
        assert_eq!(bell.target_texts(there).await, wanted);
        bell.target_sql("update salesforce.unit__c set sfid = 'S' || id__c where sfid is null")
            .await;
    }
    let dead = "select key || ' ' || reason || '; ' || remedy from schoolbell.parked where state = 'dead' order by key";
    let told = bell.source_texts(dead).await;
    assert_eq!(told.len(), 4, "{told:?}");
    let circle = "waits for itself, because its parents are a circle: ";
    assert!(
        told[0].starts_with(&format!("11 {circle}")) && told[0].contains("12 > 13"),
        "{told:?}"
    );
    assert_eq!(
        told[3],
        format!("20 {circle}20 > 20; give one of these rows another parent, or none")
    );
    let waiting = "select key from schoolbell.parked where state = 'waiting'";
    assert_eq!(bell.source_texts(waiting).await, ["30"]);

    // Once fixed, all continue: the row that was changed, and those that waited for it.
    bell.source_sql("update units set parent = null where id in (12, 20)").await;
    bell.drain().await;
    bell.target_sql("update salesforce.unit__c set sfid = 'S' || id__c where sfid is null").await;
    bell.run_ok(&["parked", "retry", "--all", "--yes"]).await;
    for _ in 0..3 {
        bell.drain().await;
        bell.target_sql("update salesforce.unit__c set sfid = 'S' || id__c where sfid is null")
            .await;
    }
    assert_eq!(bell.parked().await, Vec::<String>::new());
    assert_eq!(bell.target_texts(there).await.len(), 8);
}
