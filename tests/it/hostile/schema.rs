//! A schema that another role created first, and superfluous rights on it.

use schoolbell::demo::cluster::Options;

use crate::hostile::privileges::{as_role, granted, granted_in};
use crate::support::TestBell;

/// What anybody could have put there before `migrate` ran, one of each kind that a schema may hold.
const THINGS: [&str; 12] = [
    "create table schoolbell.change (id int)",
    "create view schoolbell.parked as select 1",
    "create materialized view schoolbell.m as select 1 as x",
    "create sequence schoolbell.s",
    "create function schoolbell.notify_mode() returns text language sql as $$select 'never'$$",
    "create procedure schoolbell.p() language sql as $$select 1$$",
    "create aggregate schoolbell.a(int) (sfunc = int4pl, stype = int)",
    "create type schoolbell.t as enum ('x')",
    "create domain schoolbell.d as text",
    "create operator schoolbell.=== (leftarg = int, rightarg = int, function = int4eq)",
    "create collation schoolbell.c from \"C\"",
    "create text search configuration schoolbell.ts (copy = simple)",
];

/// An owner of the tables who may create schemas, and somebody else who came first.
async fn somebody_first(bell: &TestBell) -> (String, String) {
    let (owner, first) =
        (format!("owner_{}", bell.source_name), format!("first_{}", bell.source_name));
    bell.on_every_server(&format!("create role {owner} login; create role {first} login")).await;
    bell.source_sql(&format!(
        "alter table schools owner to {owner}; alter table roles owner to {owner}; \
         grant create on database {} to {owner}, {first}; \
         create table not_captured (x int); alter table not_captured owner to {first}",
        bell.source_name
    ))
    .await;
    (owner, first)
}

async fn things(bell: &TestBell) -> Vec<String> {
    bell.source_texts(
        "select pg_describe_object(classid, objid, 0) from pg_depend \
         where refclassid = 'pg_namespace'::regclass and refobjid = 'schoolbell'::regnamespace order by 1",
    )
    .await
}

#[tokio::test]
async fn migrate_does_not_move_into_a_schema_of_somebody_else() {
    let bell = TestBell::bare().await;
    let (owner, first) = somebody_first(&bell).await;
    bell.source_sql(&format!(
        "set role {first}; create schema schoolbell; grant all on schema schoolbell to {owner}; \
                              reset role"
    ))
    .await;

    // The owner of the tables and a superuser alike, and a dry run, too.
    let owners = as_role(&bell.source_url(), &owner);
    for arguments in
        [&["migrate", "--source-url", &owners][..], &["migrate"], &["migrate", "--dry-run"]]
    {
        let refused = bell.run(arguments).await;
        assert_eq!(refused.code, 2, "{refused}");
        let told = format!("schema schoolbell belongs to {first}");
        assert!(
            refused.stderr.contains(&told) && refused.stderr.contains("nothing was changed"),
            "{refused}"
        );
    }
    assert!(things(&bell).await.is_empty());
    let triggers = "select count(*) from pg_trigger where tgname like 'schoolbell%'";
    assert_eq!(bell.source_count(triggers).await, 0);
}

#[tokio::test]
async fn migrate_does_not_move_in_beside_anything_of_somebody_else() {
    let bell = TestBell::bare().await;
    let (owner, first) = somebody_first(&bell).await;
    let owners = as_role(&bell.source_url(), &owner);
    bell.source_sql(&format!(
        "set role {owner}; create schema schoolbell; grant create, usage on schema schoolbell to {first}; reset role"
    ))
    .await;

    for thing in THINGS {
        bell.source_sql(&format!("set role {first}; {thing}; reset role")).await;
        let before = things(&bell).await;

        let refused = bell.run(&["migrate", "--source-url", &owners]).await;

        assert_eq!(refused.code, 2, "{thing}: {refused}");
        assert!(refused.stderr.contains(&format!("belongs to {first}")), "{thing}: {refused}");
        assert_eq!(things(&bell).await, before, "{thing}");
        bell.source_sql(&format!(
            "drop owned by {first}; grant create, usage on schema schoolbell to {first}"
        ))
        .await;
        bell.source_sql(&format!("grant create on database {} to {first}", bell.source_name)).await;
    }
    bell.source_sql(&format!("revoke create on schema schoolbell from {first}")).await;
    let migrated = bell.run(&["migrate", "--source-url", &owners]).await;
    assert_eq!(migrated.code, 0, "an empty schema of one's own will do: {migrated}");
}

#[tokio::test]
async fn a_role_that_can_act_as_the_owner_of_the_tables_may_own_the_schema() {
    let bell = TestBell::bare().await;
    let (owner, _) = somebody_first(&bell).await;
    let deployer = format!("deployer_{}", bell.source_name);
    bell.on_every_server(&format!("create role {deployer} login in role {owner}")).await;
    bell.source_sql(&format!("grant create on database {} to {deployer}", bell.source_name)).await;

    let url = as_role(&bell.source_url(), &deployer);
    for _ in 0..2 {
        let migrated = bell.run(&["migrate", "--source-url", &url]).await;
        assert_eq!(migrated.code, 0, "{migrated}");
    }

    let schema_owner =
        "select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'schoolbell'";
    assert_eq!(bell.source_texts(schema_owner).await, [deployer]);
}

#[tokio::test]
async fn doctor_finds_an_owner_who_has_no_business_there() {
    let (bell, roles) = granted().await;
    let well = roles.run(&bell, &["doctor", "--json"]).await;
    assert_eq!(result(&well.stdout, "owners"), "ok", "{well}");

    // The service's own role is no owner either.
    for intruder in [&roles.app, &roles.bell] {
        bell.source_sql(&format!("alter table schoolbell.parked owner to {intruder}")).await;
        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, "owners"), "failed", "{doctor}");
        assert!(
            doctor.stdout.contains(&format!("table schoolbell.parked belongs to {intruder}")),
            "{doctor}"
        );
    }
    bell.source_sql(&format!("alter table schoolbell.parked owner to {}", roles.owner)).await;
    // Functions that the triggers call are another check's matter, but no other function is.
    bell.source_sql(&format!(
        "create function schoolbell.other() returns int language sql as 'select 1'; \
         alter function schoolbell.other() owner to {}",
        roles.app
    ))
    .await;
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert!(
        doctor.stdout.contains(&format!("function schoolbell.other() belongs to {}", roles.app)),
        "{doctor}"
    );
    bell.source_sql("drop function schoolbell.other()").await;
    bell.source_sql(&format!("alter schema schoolbell owner to {}", roles.app)).await;
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert!(
        doctor.stdout.contains(&format!("schema schoolbell belongs to {}", roles.app)),
        "{doctor}"
    );

    // What it prints, as a superuser, and then as the owner.
    for remedy in remedies(&doctor.stdout, "owners") {
        bell.source_sql(&remedy).await;
    }
    let owner = as_role(&bell.source_url(), &roles.owner);
    let migrated = bell.run(&["migrate", "--source-url", &owner]).await;
    assert_eq!(migrated.code, 0, "{migrated}");
    roles.grant(&bell).await;
    let doctor = roles.run(&bell, &["doctor", "--json"]).await;
    assert_eq!(result(&doctor.stdout, "owners"), "ok", "{doctor}");
}

#[tokio::test]
async fn rights_that_give_a_share_in_the_owner_s_are_found_and_taken_away_by_what_doctor_prints() {
    // A cluster of its own: one of the rights concerns every database of it.
    let bell = TestBell::bare_in_a_cluster_with(Options::open()).await;
    let (bell, roles) = granted_in(bell).await;
    let mistakes = [
        format!("grant create on schema schoolbell to {}", roles.app),
        "grant create on schema schoolbell to public".to_string(),
        format!("grant trigger on schoolbell.change to {}", roles.app),
        format!("grant all on all tables in schema schoolbell to {}", roles.app),
        "grant select on schoolbell.parked to public".to_string(),
        format!("grant insert on schoolbell.change to {}", roles.bell),
        format!("grant delete on schoolbell.change to {}", roles.app),
        format!("grant pg_write_all_data to {}", roles.app),
        format!("grant insert on schoolbell.resync to {}", roles.app),
        format!("grant update on schoolbell.parked to {}", roles.app),
        format!("grant delete on schoolbell.deletion to {}", roles.app),
        "create table public.keeps (xact xid8, id bigint, foreign key (xact, id) references schoolbell.change (xact, id))"
            .to_string(),
        format!("grant references on schoolbell.parked to {}", roles.app),
        format!("grant references (key) on schoolbell.parked to {}", roles.app),
        format!("grant truncate on schoolbell.change to {}", roles.bell),
        format!("grant insert (source_table, operation, keys) on schoolbell.change to {}", roles.app),
        format!("grant update on sequence schoolbell.change_id_seq to {}", roles.app),
        format!("grant update on schoolbell.installation to {}", roles.app),
        format!("grant delete on schoolbell.refinery_schema_history to {}", roles.bell),
        "alter table schoolbell.change enable row level security; \
         create policy nothing on schoolbell.change using (false)"
            .to_string(),
        format!("grant execute on all functions in schema schoolbell to {}", roles.app),
        "create function public.spy() returns trigger language plpgsql as $$begin return new; end$$; \
         create trigger spy before insert on schoolbell.change for each row execute function public.spy()"
            .to_string(),
        "create rule spy as on insert to schoolbell.verified do also select 1".to_string(),
    ];
    for mistake in mistakes {
        bell.source_sql(&mistake).await;

        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, "own_rights"), "failed", "{mistake}: {doctor}");
        for remedy in remedies(&doctor.stdout, "own_rights") {
            bell.source_sql(&remedy).await;
        }

        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, "own_rights"), "ok", "{mistake}: {doctor}");
    }
}

#[tokio::test]
async fn who_may_create_where_names_are_looked_for_is_found_on_either_side_and_kept_out() {
    let (bell, roles) = granted().await;
    let well = roles.run(&bell, &["doctor", "--json"]).await;
    assert_eq!(result(&well.stdout, "source_creators"), "ok", "{well}");
    assert_eq!(result(&well.stdout, "target_creators"), "ok", "{well}");

    for grantee in ["public", &roles.app] {
        for check in ["source_creators", "target_creators"] {
            let sql = async |sql: &str| match check {
                "source_creators" => bell.source_sql(sql).await,
                _ => bell.target_sql(sql).await,
            };
            sql(&format!("grant create on schema public to {grantee}")).await;

            let doctor = roles.run(&bell, &["doctor", "--json"]).await;
            assert_eq!(result(&doctor.stdout, check), "failed", "{grantee}: {doctor}");
            for remedy in remedies(&doctor.stdout, check) {
                sql(&remedy).await;
            }

            let doctor = roles.run(&bell, &["doctor", "--json"]).await;
            assert_eq!(result(&doctor.stdout, check), "ok", "{grantee}: {doctor}");
        }
    }
}

fn check(report: &str, name: &str) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).cloned().unwrap_or_default()
}

pub fn result(report: &str, name: &str) -> String {
    check(report, name)["result"].as_str().unwrap_or_default().to_string()
}

pub fn remedies(report: &str, name: &str) -> Vec<String> {
    let check = check(report, name);
    let remedies = check["remedies"].as_array().cloned().unwrap_or_default();
    let sql =
        remedies.iter().filter(|remedy| remedy["place"] != "human" && remedy["place"] != "shell");
    sql.map(|remedy| remedy["text"].as_str().unwrap().to_string()).collect()
}

/// A schema that is on the path by the role's name, or would be if it existed.
#[tokio::test]
async fn a_schema_of_somebody_else_on_the_path_is_found_on_either_side() {
    let (bell, roles) = granted().await;
    for (in_target, check, role) in
        [(false, "source_creators", &roles.bell), (true, "target_creators", &roles.bridge)]
    {
        let sql = async |sql: &str| match in_target {
            true => bell.target_sql(sql).await,
            false => bell.source_sql(sql).await,
        };
        let database = if in_target { &bell.target_name } else { &bell.source_name };
        sql(&format!("grant create on database {database} to {}", roles.app)).await;
        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, check), "failed", "{doctor}");
        assert!(doctor.stdout.contains(&format!("may create schema {role}")), "{doctor}");

        // With usage or without: that can be given at any time.
        sql(&format!("set role {}; create schema {role}; reset role", roles.app)).await;
        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert!(doctor.stdout.contains(&format!("{} owns schema {role}", roles.app)), "{doctor}");
        for remedy in remedies(&doctor.stdout, check) {
            sql(&remedy).await;
        }
        sql(&format!("revoke create on database {database} from {}", roles.app)).await;
        let doctor = roles.run(&bell, &["doctor", "--json"]).await;
        assert_eq!(result(&doctor.stdout, check), "ok", "{doctor}");
    }
}
