//! Least privilege: the grants of docs/roles-and-grants.md are executed as they are written there, and everything works with
//! them.

use std::sync::atomic::{AtomicU32, Ordering};

use schoolbell::plan;
use schoolbell::postgres::db::Database;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::TestBell;
use crate::support::program::{Ended, Program};

/// In names and addresses of these tests. No log may ever hold it.
const MARKER: &str = "Zebrafink";

/// The section with the grants of the service's two roles.
const SERVICE: &str = "The service's roles";

/// The SQL blocks of a section of the page on roles and grants.
fn blocks(section: &str) -> Vec<String> {
    let page = include_str!("../../../docs/roles-and-grants.md");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let blocks = section.split("```sql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or(block).to_string()).collect()
}

/// Roles of this test only (a cluster's databases share them), with the page's grants.
pub struct Roles {
    pub owner: String,
    pub app: String,
    /// For the source.
    pub bell: String,
    /// For the target.
    pub bridge: String,
}

impl Roles {
    /// The page's SQL for these roles.
    fn own(&self, sql: &str) -> String {
        let own = sql
            .replace(" to bell;", &format!(" to {};", self.bell))
            .replace(" from bell;", &format!(" from {};", self.bell))
            .replace(" to bridge;", &format!(" to {};", self.bridge))
            .replace(" from bridge;", &format!(" from {};", self.bridge));
        assert!(!own.contains(" bell;") && !own.contains(" bridge;"), "{own}");
        own
    }

    /// Gives the page's grants.
    pub async fn grant(&self, bell: &TestBell) {
        let blocks = blocks(SERVICE);
        bell.source_sql(&self.own(&blocks[0])).await;
        bell.target_sql(&self.own(&blocks[1])).await;
        bell.target_sql(&self.own(&blocks[3])).await;
    }

    pub fn program(&self, bell: &TestBell, arguments: &[&str]) -> Program {
        Program::new(arguments)
            .env("DATABASE_URL", &as_role(&bell.source_url(), &self.bell))
            .env("SALESFORCE_CONNECT_URL", &as_role(&bell.target_url(), &self.bridge))
            .env("SALESFORCE_ENABLED", "true")
    }

    pub async fn run(&self, bell: &TestBell, arguments: &[&str]) -> Ended {
        self.program(bell, arguments).run().await
    }

    /// Runs SQL as the application does, whose role has no grant of ours.
    async fn application(&self, bell: &TestBell, sql: &str) {
        let sql = format!("set role {}; {sql}; reset role", self.app);
        bell.source_sql(&sql).await;
    }
}

pub fn as_role(url: &str, role: &str) -> String {
    let own = url.replacen("postgres@", &format!("{role}@"), 1);
    assert_ne!(own, url);
    own
}

/// The application's tables belong to an ordinary role, which has migrated; the page's grants are given.
pub async fn granted() -> (TestBell, Roles) {
    granted_in(TestBell::bare().await).await
}

/// The same in a pair of databases in which nothing of ours is installed yet.
pub async fn granted_in(bell: TestBell) -> (TestBell, Roles) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = |role: &str| format!("{role}_{number}");
    let roles = Roles {
        owner: name("owner"),
        app: name("app"),
        bell: name("bell"),
        bridge: name("bridge"),
    };
    let Roles { owner, app, .. } = &roles;
    bell.on_every_server(&format!(
        "create role {owner} login; create role {app} login; create role {} login; create role {} login",
        roles.bell, roles.bridge
    ))
    .await;
    // What the page says comes before; the default since PostgreSQL 15.
    bell.source_sql("revoke create on schema public from public").await;
    bell.target_sql("revoke create on schema public from public").await;
    bell.source_sql(&format!(
        "alter table schools owner to {owner}; alter table roles owner to {owner}; \
         grant create on database {} to {owner}; \
         grant select, insert, update, delete on schools, roles to {app}; \
         grant usage on sequence roles_id_seq to {app}",
        bell.source_name
    ))
    .await;
    let migrated =
        bell.run(&["migrate", "--source-url", &as_role(&bell.source_url(), owner)]).await;
    assert_eq!(migrated.code, 0, "{migrated}");
    roles.grant(&bell).await;
    (bell, roles)
}

/// A good school and one that is refused, with a role, as the application writes them.
async fn some_rows(bell: &TestBell, roles: &Roles) {
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_pirates check (name not like '%irates')",
    )
    .await;
    let school = |name: &str| {
        format!(
            "insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, \
             updated_at) values ('{name}', '1 Road', 'Town', 'GB', 'w', gen_random_uuid(), now(), now())"
        )
    };
    roles.application(bell, &school("Acme")).await;
    roles.application(bell, &school("Pirates")).await;
    let role = "insert into roles (user_id, school_id, role, created_at, updated_at) \
                select creator_id, id, 2, now(), now() from schools where name = 'Acme'";
    roles.application(bell, role).await;
}

/// Uses every command that the service's roles are for, until each row has arrived.
async fn everything_works(bell: &TestBell, roles: &Roles) {
    some_rows(bell, roles).await;

    let drained = roles.run(bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 1, "one is dead: {drained}");
    let names = "select name from salesforce.editor__c order by 1";
    assert_eq!(bell.target_texts(names).await, ["Acme"], "{drained}");
    let status = roles.run(bell, &["status"]).await;
    assert!(status.stdout.contains("capture    installed"), "{status}");
    assert!(!status.to_string().contains("permission denied"), "{status}");

    let people = bell.source_texts("select creator_id::text from schools").await;
    schoolbell::demo::stand_in::create_contacts(&bell.target, &people).await.unwrap();
    bell.salesforce_accepts_everything().await;
    let listed = roles.run(bell, &["parked", "list", "school", "--state", "dead"]).await;
    assert!(listed.code == 1 && listed.stdout.contains("no_pirates"), "{listed}");
    bell.target_sql("alter table salesforce.editor__c drop constraint no_pirates").await;
    let retried = roles.run(bell, &["parked", "retry", "--state", "dead"]).await;
    assert_eq!(retried.code, 0, "{retried}");
    let drained = roles.run(bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 0, "{drained}");
    assert_eq!(bell.target_texts(names).await, ["Acme", "Pirates"]);
    assert!(bell.parked().await.is_empty(), "{:?}", bell.parked().await);

    bell.target_sql("begin; set local xmlbinary = 'hex'; update salesforce.editor__c set _hc_lastop = 'FAILED'; commit")
        .await;
    let cured = roles.run(bell, &["parked", "retry", "--failed", "--yes"]).await;
    for done in ["sent again: 1 school", "deleted, to be written again: 1 school"] {
        assert!(cured.code == 0 && cured.stdout.contains(done), "{cured}");
    }

    roles.application(bell, "update schools set name = 'Sailors' where name = 'Pirates'").await;
    let verified = roles.run(bell, &["verify"]).await;
    assert_eq!(verified.code, 0, "{verified}");
    bell.target_sql("update salesforce.editor__c set name = 'Wrong' where name = 'Acme'").await;
    let sampled = roles.run(bell, &["verify", "--sample", "10"]).await;
    assert_eq!(sampled.code, 1, "{sampled}");
    let repaired = roles.run(bell, &["verify", "--repair"]).await;
    assert_eq!(repaired.code, 0, "{repaired}");
    assert_eq!(bell.target_texts(names).await, ["Acme", "Sailors"]);
    let status = roles.run(bell, &["status"]).await;
    assert!(status.stdout.contains("verified   school 20"), "{status}");
    bell.target_sql("update salesforce.editor__c set name = 'Wrong' where name = 'Acme'").await;
    let resynced = roles.run(bell, &["resync"]).await;
    assert_eq!(resynced.code, 0, "{resynced}");
    assert_eq!(bell.target_texts(names).await, ["Acme", "Sailors"]);
    let dropped = roles.run(bell, &["parked", "drop", "--all", "--yes"]).await;
    assert_eq!(dropped.code, 0, "{dropped}");
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn with_the_roles_and_grants_of_the_readme_everything_works() {
    let (bell, roles) = granted().await;

    everything_works(&bell, &roles).await;

    // What the page says of the owner is enough to leave, too.
    let owner = as_role(&bell.source_url(), &roles.owner);
    let left = bell.run(&["uninstall", "--yes", "--source-url", &owner]).await;
    assert_eq!(left.code, 0, "{left}");
    roles.application(&bell, "update schools set name = 'After'").await;
}

#[tokio::test]
async fn rights_on_the_mapped_columns_alone_are_enough() {
    let (bell, roles) = granted().await;
    bell.source_sql(&roles.own("revoke select on schools, roles from bell;")).await;
    let by_column = &blocks(SERVICE)[2];
    bell.source_sql(&roles.own(by_column)).await;

    everything_works(&bell, &roles).await;

    // The page names what the built-in mapping reads, and not a column more.
    let database = Database::new(bell.config().source, "test").unwrap();
    let (source, evaluator) =
        (database.session().await.unwrap(), database.evaluator().await.unwrap());
    let source_side = plan::source_side(&source, &evaluator, &bell.mapping).await.unwrap();
    for table in ["schools", "roles"] {
        let captures = source_side.captures.iter().filter(|capture| capture.table.table == table);
        let mut read: Vec<&String> = captures.flat_map(|capture| &capture.watched).collect();
        read.sort();
        read.dedup();
        let granted = bell
            .source_texts(&format!(
                "select column_name::text from information_schema.column_privileges where grantee = '{}' \
                 and table_name = '{table}' order by column_name::text collate \"C\"",
                roles.bell
            ))
            .await;
        assert_eq!(granted.iter().collect::<Vec<_>>(), read, "{table}");
    }
    let session = bell.source_session().await;
    session.batch_execute(&format!("set role {}", roles.bell)).await.unwrap();
    let refused = session.query("select creator_department from schools", &[]).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));
}

/// What only tells of Salesforce is not needed for anything else.
#[tokio::test]
async fn without_the_rights_on_heroku_connect_s_log_status_says_so_and_everything_else_works() {
    let (bell, roles) = granted().await;
    let [.., told] = &blocks(SERVICE)[..] else { panic!("there is no such block") };
    bell.target_sql(&roles.own(&told.replace("grant ", "revoke ").replace(" to ", " from "))).await;
    some_rows(&bell, &roles).await;

    let drained = roles.run(&bell, &["run", "--drain"]).await;
    let status = roles.run(&bell, &["status"]).await;

    assert!(!drained.stderr.contains("permission denied"), "{drained}");
    assert!(status.stdout.contains("school 0 synced, 1 pending, 0 failed"), "{status}");
    let denied = "cannot read salesforce._trigger_log: permission denied for table _trigger_log";
    assert_eq!(status.stdout.matches(denied).count(), 3, "once for each object: {status}");
}

#[tokio::test]
async fn with_the_reading_rights_of_the_readme_both_sides_are_compared_and_nothing_is_written() {
    let (bell, roles) = granted().await;
    some_rows(&bell, &roles).await;
    let drained = roles.run(&bell, &["run", "--drain"]).await;
    assert_eq!(drained.code, 1, "one is dead: {drained}");
    let reader = format!("{}_reader", roles.bell);
    bell.on_every_server(&format!("create role {reader} login")).await;
    let own = |sql: &str| sql.replace(" to auditor;", &format!(" to {reader};"));
    let blocks = blocks("A role that only compares");
    bell.source_sql(&own(&blocks[0])).await;
    bell.target_sql(&own(&blocks[1])).await;
    bell.target_sql("update salesforce.editor__c set name = 'Wrong' where name = 'Acme'").await;
    let as_reader = |arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", &as_role(&bell.source_url(), &reader))
            .env("SALESFORCE_CONNECT_URL", &as_role(&bell.target_url(), &reader))
            .env("SALESFORCE_ENABLED", "true")
    };

    let whole = as_reader(&["verify"]).run().await;
    let sample = as_reader(&["verify", "--sample", "10"]).run().await;
    let repair = as_reader(&["verify", "--repair"]).run().await;

    for ended in [&whole, &sample] {
        assert_eq!(ended.code, 1, "{ended}");
        assert!(ended.stdout.contains("name: \"Wrong\" instead of \"Acme\""), "{ended}");
        assert!(!ended.stderr.contains("denied"), "that it cannot be recorded is no news: {ended}");
    }
    assert_eq!(repair.code, 2, "{repair}");
    assert!(repair.stderr.contains("permission denied for table resync"), "{repair}");
    assert_eq!(bell.source_count("select count(*) from schoolbell.verified").await, 0);
    assert_eq!(bell.source_count("select count(*) from schoolbell.resync").await, 0);
}

/// A right of the page: on which side, the privilege, and the kind and name of what it is on.
struct Right {
    in_target: bool,
    privilege: String,
    on: String,
    role: &'static str,
}

/// The single rights of the page's blocks. Those for `on_delete = "delete"` are no part of this mapping.
fn rights() -> Vec<Right> {
    let mut rights = Vec::new();
    for (in_target, block) in blocks(SERVICE).iter().take(2).enumerate() {
        for line in block.lines().take_while(|line| !line.contains("only where a mapping")) {
            let Some(grant) = line.strip_prefix("grant ") else { continue };
            let grant = grant.split(';').next().unwrap_or(grant);
            let (privileges, rest) = grant.split_once(" on ").expect("on what");
            let (objects, role) = rest.split_once(" to ").expect("to whom");
            let kinds = ["schema ", "sequence "];
            let kind = kinds.into_iter().find(|kind| objects.starts_with(kind)).unwrap_or("");
            for privilege in privileges.split(", ") {
                for object in objects[kind.len()..].split(", ") {
                    rights.push(Right {
                        in_target: in_target == 1,
                        privilege: privilege.into(),
                        on: format!("{kind}{object}"),
                        role: if role == "bell" { "bell" } else { "bridge" },
                    });
                }
            }
        }
    }
    rights
}

/// Lets the service work until it is done or has said that something is denied, whichever is first.
async fn works_or_complains(bell: &TestBell, roles: &Roles) -> String {
    let mut told = String::new();
    let commands: [&[&str]; 7] = [
        &["run", "--drain"],
        &["parked", "list", "--reason", "permission denied"],
        &["status"],
        &["parked", "retry", "--state", "waiting"],
        &["resync", "--detach"],
        &["run", "--drain"],
        &["verify"],
    ];
    for command in commands {
        // A role that may compare but not record the result gets no error.
        let level = if command == ["verify"] { "schoolbell=debug" } else { "schoolbell=info" };
        let program = roles.program(bell, command).env("RUST_LOG", level);
        let mut child = program.spawn();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            told.push_str(&line);
            told.push('\n');
            if line.contains("permission denied") {
                return told;
            }
        }
        let ended = child.wait_with_output().await.unwrap();
        let printed = String::from_utf8_lossy(&ended.stdout);
        told.push_str(&printed);
        if printed.contains("permission denied") {
            return told;
        }
    }
    told
}

#[tokio::test]
async fn each_right_of_the_readme_is_needed_and_the_one_that_is_missing_is_named() {
    let rights = rights();
    assert!(rights.len() >= 20, "only {} rights were found on the page", rights.len());
    let (bell, roles) = granted().await;
    let people = ["00000000-0000-0000-0000-000000000001".to_string()];
    schoolbell::demo::stand_in::create_contacts(&bell.target, &people).await.unwrap();
    // An insert, an update, a key to park, one to free, a contact's flag and a resync, for each right.
    let work = format!(
        "delete from roles; delete from schools; \
         insert into schools (name, address_line_1, municipality, country_code, website, creator_id, created_at, updated_at) \
         values ('Acme', '1 Road', 'Town', 'GB', 'w', '{}', now(), now()); \
         insert into roles (user_id, school_id, role, created_at, updated_at) \
         select creator_id, id, 2, now(), now() from schools; \
         insert into roles (role, created_at, updated_at) values (1, now(), now());",
        people[0]
    );

    for Right { in_target, privilege, on, role } in &rights {
        let side = if *in_target { &bell.target } else { &bell.source };
        bell.source_sql(
            "truncate schoolbell.change, schoolbell.parked, schoolbell.resync, schoolbell.shape",
        )
        .await;
        bell.target_sql(
            "delete from salesforce.editor__c; delete from salesforce.contact_editor_affiliation__c; \
             update salesforce.contact set editoragreetouxcontact__c = true; \
             insert into salesforce.contact_editor_affiliation__c (affiliation_id__c) values ('4711')",
        )
        .await;
        roles.application(&bell, &work).await;
        bell.source_sql(
            "insert into roles (id, role, created_at, updated_at) values (4711, 1, now(), now()) \
             on conflict (id) do update set role = 2; \
             update schools set creator_agree_to_ux_contact = not creator_agree_to_ux_contact; \
             insert into schoolbell.parked (object, key, state, due_at, reason) \
             select 'school', id::text, 'retrying', now(), 'x' from schools; \
             insert into schoolbell.resync (object, only_keys) values ('role', '{4711}')",
        )
        .await;
        // The target's row of the school is there already, and differs.
        bell.target_sql(&format!(
            "insert into salesforce.editor__c (editoruuid__c, name, sfid) values ('{}', 'Old', 'a1')",
            bell.source_texts("select id::text from schools").await[0]
        ))
        .await;
        roles
            .application(
                &bell,
                "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                 values ('Beta', '1 Road', 'Town', 'GB', 'w', now(), now())",
            )
            .await;
        let revoke = roles.own(&format!("revoke {privilege} on {on} from {role};"));
        side.batch_execute(&revoke).await.unwrap();

        let told = works_or_complains(&bell, &roles).await;

        let name = on.rsplit([' ', '.']).next().unwrap_or(on);
        let missing = ["permission denied", "a right is missing"];
        let complaint = told.lines().find(|line| missing.iter().any(|words| line.contains(words)));
        let complaint = complaint.unwrap_or_else(|| panic!("{revoke} was not missed: {told}"));
        assert!(complaint.contains(name), "{revoke}: {complaint}");
        side.batch_execute(&revoke.replace("revoke", "grant").replace(" from ", " to "))
            .await
            .unwrap();
    }

    // All are given again: nothing was lost over them.
    roles.run(&bell, &["parked", "retry", "--all"]).await;
    let drained = roles.run(&bell, &["run", "--drain"]).await;
    let listed = roles.run(&bell, &["parked", "list"]).await;
    assert_eq!(drained.code, 0, "{drained}\n{listed}");
    bell.every_row_is_right().await;
}

#[tokio::test]
async fn no_log_line_holds_a_row_s_content_however_much_is_logged() {
    let (bell, roles) = granted().await;
    // One is refused by a trigger that quotes it, one by its type, one by the source; one arrives.
    bell.target_sql(
        "create function salesforce.tell() returns trigger language plpgsql as $$ begin \
         raise warning 'seen %', new.name; \
         if new.name like '%quoted' then raise exception 'no % here', new.name; end if; \
         if new.name like '%typed' then perform new.name::int4; end if; return new; end $$; \
         create trigger tell before insert or update on salesforce.editor__c \
         for each row execute function salesforce.tell()",
    )
    .await;
    for name in ["quoted", "typed", "fine"] {
        bell.insert_school(&format!("{MARKER} {name}")).await;
    }
    let file = bell.mapping_file(&schoolbell::mapping::BUILT_IN.replace(
        "editorreference__c = \"reference\"",
        "editorreference__c = { sql = \"case when name like '%fine' then (municipality::int4)::text end\" }",
    ));
    let file = file.to_str().unwrap();

    let mut told = Vec::new();
    for arguments in [
        &["run", "--drain"][..],
        &["resync"],
        &["run", "--drain", "--mapping", file],
        &["resync", "--mapping", file, "--log-format", "json"],
        &["status"],
        &["parked", "retry", "--all"],
        &["parked", "drop", "--all", "--yes"],
    ] {
        if arguments[0] == "run" {
            bell.source_sql(&format!("update schools set municipality = '{MARKER}' || now()"))
                .await;
        }
        let ended = roles.program(&bell, arguments).env("RUST_LOG", "trace").run().await;
        assert!(ended.code < 2, "{ended}");
        told.push(ended.stderr);
    }

    assert!(told[0].contains("DEBUG"), "much is logged: {}", told[0]);
    assert!(told[0].contains("P0001"), "what was refused is logged by its code: {}", told[0]);
    let rows = bell.target_count("select count(*) from salesforce.editor__c").await;
    assert_eq!(rows, 1, "two are refused, one arrives");
    let as_bytes = format!("{:?}", MARKER.as_bytes());
    let as_bytes = as_bytes.trim_matches(['[', ']']);
    let as_hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
    for told in told {
        for form in [MARKER, as_bytes, &as_hex] {
            let found = told.lines().find(|line| line.contains(form));
            assert_eq!(found, None, "a row's content is in the log");
        }
    }
}

/// Many rows go by way of a temporary table where the role may have one, and arrive either way.
#[tokio::test]
async fn a_role_that_may_have_no_temporary_table_writes_many_rows_all_the_same() {
    let many = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, updated_at) \
                select 'School ' || n, '1 Road', 'Town', 'GB', 'w', now(), now() from generate_series(1, 1500) n";
    let (bell, roles) = granted().await;
    for allowed in [true, false] {
        if !allowed {
            let revoke = format!("revoke temporary on database {} from public", bell.target_name);
            bell.target_sql(&revoke).await;
        }
        roles.application(&bell, many).await;

        let drained = roles.run(&bell, &["run", "--drain"]).await;

        assert_eq!(drained.code, 0, "{drained}");
        bell.every_row_is_right().await;
    }
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 3_000);
}
