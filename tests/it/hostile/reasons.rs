//! No value of a row is in a reason, a log line or a report: whatever raises the error, of whatever class it is, whichever
//! fields quote the row, in whatever language the server speaks.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use schoolbell::demo::cluster::Options;
use tempfile::TempDir;

use crate::support::left_out::left_out;
use crate::support::log::Log;
use crate::support::web::Visitor;
use crate::support::{TestBell, eventually};

/// Every class of the manual but 00, which `raise` does not take, and one that is nobody's.
const CLASSES: [&str; 44] = [
    "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42",
    "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX", "QQ",
];
/// Single codes that people meet, or that differ from their class.
const CODES: [&str; 26] = [
    "08006", "08P01", "25006", "25P03", "26000", "2200H", "53100", "53200", "53300", "53400",
    "57P01", "58030", "22001", "22003", "22023", "22P02", "23502", "23503", "23505", "23514",
    "25P02", "40P01", "42501", "55P03", "57014", "P0001",
];
/// What Postgres itself says of a value. `$word` has quotes of three kinds in it, `$plain` is a name, `$number` has
/// twelve digits; `$schema` has the types.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("smallint", "$word::smallint"),
    ("integer", "$word::integer"),
    ("integer range", "$number::integer"),
    ("bigint", "$word::bigint"),
    ("bigint range", "($number || $number)::bigint"),
    ("bigint to integer", "$number::bigint::integer"),
    ("numeric", "$word::numeric"),
    ("numeric scale", "$number::numeric(3, 2)"),
    ("real", "$word::real"),
    ("float", "$word::float8"),
    ("float range", "('1e' || $number)::float8"),
    ("division", "$number::bigint / 0"),
    ("money", "$word::money"),
    ("oid", "$word::oid"),
    ("boolean", "$word::boolean"),
    ("uuid", "$word::uuid"),
    ("json", "$word::json"),
    ("json after a key", "('{\"' || $plain || '\": ' || $plain)::json"),
    ("jsonb", "$word::jsonb"),
    ("jsonb to integer", "pg_catalog.to_jsonb($word)::integer"),
    ("jsonpath", "('$.' || $word || '[')::jsonpath"),
    ("date", "$word::date"),
    ("date range", "($number || '-01-01')::date"),
    ("date field", "('2026-99-' || $number)::date"),
    ("timestamp", "$word::timestamp"),
    ("timestamptz", "('2026-01-01 00:00 ' || $plain)::timestamptz"),
    ("time", "$word::time"),
    ("interval", "$word::interval"),
    ("time zone", "now() at time zone $word"),
    ("unit", "date_trunc($word, now())"),
    ("field", "date_part($word, now())"),
    ("date by format", "to_date($word, 'YYYY-MM-DD')"),
    ("inet", "$word::inet"),
    ("macaddr", "$word::macaddr"),
    ("bytea", "('\\x' || $plain)::bytea"),
    ("base64", "decode($word, 'base64')"),
    ("encoding", "convert_from('x'::bytea, $word)"),
    ("bits", "$word::bit(8)"),
    ("point", "$word::point"),
    ("array", "('{' || $word)::text[]"),
    ("array of integers", "('{' || $plain || '}')::integer[]"),
    ("range", "('[' || $plain)::int4range"),
    ("tsquery", "('& ' || $word)::tsquery"),
    ("regular expression", "'x' ~ ('(' || $word)"),
    ("format", "format('%' || $plain)"),
    ("composite", "('(' || $plain || ',' || $plain || ')')::$schema.pair"),
    ("enum", "$word::$schema.mood"),
    ("domain", "$word::$schema.no_pirates"),
    ("domain without null", "nullif($word, $word)::$schema.never"),
    ("variable", "$schema.shortened($word)"),
    ("class", "$word::regclass"),
    ("class by name", "$plain::regclass"),
    ("type", "$plain::regtype"),
    ("type that does not parse", "($plain || ' ' || $plain)::regtype"),
    ("procedure", "$plain::regprocedure"),
    ("text search configuration", "to_tsvector($plain::regconfig, 'x')"),
    ("setting", "current_setting($plain)"),
    ("sequence", "nextval($plain)"),
    ("privilege", "has_table_privilege($plain, 'select')"),
    ("role", "pg_has_role($plain, 'member')"),
    ("no case", "$schema.trips('case', $plain)"),
    ("an assertion", "$schema.trips('assert', $plain)"),
    ("statement that does not parse", "$schema.trips('syntax', $plain)"),
    ("column of a built statement", "$schema.trips('column', $plain)"),
    ("table of a built statement", "$schema.trips('table', $plain)"),
    ("function of a built statement", "$schema.trips('function', $plain)"),
    ("error that is passed on", "$schema.trips('again', $word)"),
    ("error that is wrapped", "$schema.trips('wrapped', $word)"),
];

/// Types and functions that the expressions need.
const HELPERS: &str = "
create type $schema.mood as enum ('calm');
create type $schema.pair as (a integer, b integer);
create domain $schema.no_pirates as text constraint not_a_pirate check (length(value) < 3);
create domain $schema.never as text not null;
create function $schema.shortened(word text) returns text language plpgsql stable as $$
declare short varchar(3); begin short := word; return short; end $$;
create function $schema.trips(how text, word text) returns text language plpgsql stable as $$
declare found text; begin
if how = 'case' then case word when 'x' then return 'x'; end case;
elsif how = 'assert' then assert false, word;
elsif how = 'syntax' then execute 'select ' || word || ' ' || word || ' ' || word into found;
elsif how = 'column' then execute 'select ' || word into found;
elsif how = 'table' then execute 'select count(*)::text from ' || word into found;
elsif how = 'function' then execute 'select ' || word || '()' into found;
elsif how = 'again' then begin found := word::integer; exception when others then raise; end;
elsif how = 'wrapped' then begin found := word::integer; exception when others then
raise exception 'wrapped: %', sqlerrm using errcode = sqlstate; end;
end if; return found; end $$;
create function $schema.tells(place text, name text) returns text language plpgsql stable as $$
declare word text := split_part(name, '|', 3); begin
if split_part(name, '|', 1) = place then
raise exception using errcode = split_part(name, '|', 2), message = 'seen ' || word, detail = word, hint = word,
column = word, constraint = word, table = word, schema = word, datatype = word; end if;
return name; end $$;";

/// What is made in the target under a name that is a value, and refuses the row under that name. `$1` is the name.
const MADE: &[(&str, &str)] = &[
    (
        "unique",
        "create temporary table %I (x int constraint %I primary key); insert into %1$I values (1), (1)",
    ),
    (
        "check",
        "create temporary table %I (x int constraint %I check (x > 1)); insert into %1$I values (1)",
    ),
    ("not null", "create temporary table %I (%I int not null); insert into %1$I values (null)"),
    (
        "exclusion",
        "create temporary table %I (x int, constraint %I exclude using btree (x with =)); insert into %1$I values (1), (1)",
    ),
    (
        "foreign key",
        "create temporary table %I (x int primary key, y int constraint %I references %1$I); \
         insert into %1$I values (1, 2)",
    ),
    (
        "partition",
        "create temporary table %I (x int) partition by list (x); insert into %1$I values (1) -- %I",
    ),
    (
        "domain",
        "create domain pg_temp.%I as int constraint %I check (value > 1); perform 1::pg_temp.%1$I",
    ),
    (
        "right",
        "create temporary table %I (x int); create role %I; set local role %2$I; insert into %1$I values (1)",
    ),
    (
        "sequence",
        "create temporary sequence %I maxvalue 2 -- %I\n; perform nextval('%1$I'), nextval('%1$I'), nextval('%1$I')",
    ),
    (
        "size",
        "create temporary table %I (x text); create index %I on %1$I (x); \
         insert into %1$I select string_agg(md5(n::text), '') from generate_series(1, 900) n",
    ),
];

/// Refuses rows by their name: raises, or evaluates an expression.
const TRIGGER: &str = "
create table salesforce.expression (name text primary key, sql text);
create function salesforce.refuses() returns trigger language plpgsql as $$
declare wanted text; begin
perform salesforce.tells('target', new.name);
if split_part(new.name, '|', 1) = 'made' then
select e.sql into strict wanted from salesforce.expression e where e.name = 'made ' || split_part(new.name, '|', 2);
execute format('do $do$ begin ' || wanted || '; end $do$', new.editormunicipality__c, new.editormunicipality__c || '_its');
end if;
if split_part(new.name, '|', 1) = 'run' then
select e.sql into strict wanted from salesforce.expression e where e.name = split_part(new.name, '|', 2);
execute 'select (' || wanted || ')::text'
using split_part(new.name, '|', 3), new.editormunicipality__c, new.postcode__c; end if;
return new; end $$;
create trigger refuses before insert or update on salesforce.editor__c
for each row execute function salesforce.refuses();
alter table salesforce.editor__c add constraint no_checks check (name not like 'check%');
alter table salesforce.editor__c alter addressline2__c set not null;
create unique index one_website on salesforce.editor__c (website__c);
alter table salesforce.editor__c add constraint one_district exclude using hash (districtnamesupplied__c with =);
create table salesforce.country (code varchar(20) primary key);
insert into salesforce.country values ('GB');
alter table salesforce.editor__c add constraint known_country
foreign key (countrycode__c) references salesforce.country (code);";

/// What no output may hold.
struct Markers {
    /// In names.
    plain: String,
    /// The same among quotes.
    word: String,
    /// In numbers.
    number: String,
}

impl Markers {
    fn random() -> Self {
        let letters = (0..8).map(|_| fastrand::lowercase()).collect::<String>();
        let plain = format!("zf{letters}");
        Self {
            word: format!("\"{plain}\"{plain}»{plain}«'{plain}"),
            number: fastrand::u64(200_000_000_000..900_000_000_000).to_string(),
            plain,
        }
    }

    fn assert_not_in(&self, what: &str, text: &str) {
        let bytes = format!("{:?}", self.plain.as_bytes());
        let hex: String = self.plain.bytes().map(|byte| format!("{byte:02x}")).collect();
        for marker in [&self.plain, &self.number, bytes.trim_matches(['[', ']']), &hex] {
            let found = text.lines().find(|line| line.to_lowercase().contains(marker));
            assert_eq!(found, None, "{what} holds the value {marker}");
        }
    }
}

/// A pair of databases that quote what they refuse, and everything that can be seen of the bridge between them.
struct Stage {
    bell: TestBell,
    visitor: Visitor,
    log: Log,
    markers: Markers,
    mapping: String,
    /// What the server's own messages were, as a session of a human sees them.
    messages: Vec<String>,
}

/// An expression in terms of a source row's or a parameter's text.
fn with(sql: &str, word: &str, plain: &str, number: &str, schema: &str) -> String {
    let sql = sql.replace("$schema", schema).replace("$word", word);
    sql.replace("$plain", plain).replace("$number", number)
}

/// The built-in mapping, but the name is computed, and so are the filter, a parent's key and who speaks for a person.
fn mapping() -> String {
    let part = |part: u8| format!("split_part(name, '|', {part})");
    let branches = EXPRESSIONS.iter().map(|(name, sql)| {
        let sql = with(sql, &part(3), "municipality", "postal_code", "public");
        format!("when 'read|{name}' then ({sql})::text ")
    });
    let field = format!(
        "case {} || '|' || {} {} else public.tells('field', name) end",
        part(1),
        part(2),
        branches.collect::<String>()
    );
    let text = schoolbell::mapping::BUILT_IN
        .replace("name = \"name\"", &format!("name = {{ sql = '''{field}''' }}"))
        .replace(
            "source = \"schools\"\nkey = \"id\"\n",
            "source = \"schools\"\nkey = \"id\"\nfilter = \"public.tells('filter', name) is not null\"\n",
        )
        .replace(
            "prefer = \"rejected_at is null\"",
            "prefer = \"rejected_at is null and public.tells('winner', name) is not null\"",
        );
    for part in ["'''", "filter = \"public", "'winner'"] {
        assert!(text.contains(part), "{part} is in the mapping");
    }
    text
}

impl Stage {
    async fn set(mut bell: TestBell) -> Self {
        let log = Log::listen_to("schoolbell=trace");
        bell.source_sql(&HELPERS.replace("$schema", "public")).await;
        bell.target_sql(&HELPERS.replace("$schema", "salesforce")).await;
        bell.target_sql(TRIGGER).await;
        for (name, sql) in EXPRESSIONS {
            let sql = with(sql, "$1", "$2", "$3", "salesforce");
            let insert = "insert into salesforce.expression values ($1, $2)";
            bell.target.execute(insert, &[name, &sql]).await.unwrap();
        }
        for (name, sql) in MADE {
            let insert = "insert into salesforce.expression values ('made ' || $1, $2)";
            bell.target.execute(insert, &[name, &format!("{sql}\n")]).await.unwrap();
        }
        bell.use_mapping(&mapping()).await;
        let file = bell.mapping_file(&mapping());
        let visitor = bell.visitor().await;
        let mapping = file.to_str().unwrap().to_string();
        Self { bell, visitor, log, markers: Markers::random(), mapping, messages: Vec::new() }
    }

    /// Who refuses the row, and with what.
    fn name(&self, place: &str, what: &str) -> String {
        format!("{place}|{what}|{}", self.markers.word)
    }

    /// A row that is refused by its name, with markers in other columns. Returns its key.
    async fn insert(&self, name: &str) -> String {
        let Markers { plain, number, .. } = &self.markers;
        let sql = "insert into schools (name, municipality, postal_code, address_line_1, address_line_2, country_code, \
                   website, creator_id, created_at, updated_at) values ($1, $2, $3, 'x', 'x', 'GB', \
                   gen_random_uuid()::text, gen_random_uuid(), now(), now()) returning id::text";
        self.bell.source.query_one(sql, &[&name, plain, number]).await.unwrap().get(0)
    }

    /// Applies what is due. What was refused is not tried again, so that it concerns no later batch.
    async fn drain(&self) {
        self.bell.drain().await;
        let later = "update schoolbell.parked set due_at = now() + interval '1 day' where due_at is not null";
        self.bell.source_sql(later).await;
    }

    /// Why a row is parked, with the code.
    async fn reason(&self, key: &str) -> String {
        let sql = format!(
            "select reason || ' (' || sqlstate || ')' from schoolbell.parked where object = 'school' and key = '{key}'"
        );
        let found = self.bell.source_texts(&sql).await;
        assert_eq!(found.len(), 1, "{key} is parked");
        found[0].clone()
    }

    /// The code and message that Postgres has for an expression, and whether the message quotes the row.
    async fn asked(&mut self, sql: &str) -> String {
        let Markers { plain, word, number } = &self.markers;
        let sql = with(sql, "$1::text", "$2::text", "$3::text", "salesforce");
        // As one statement of ours would be: the parameters are of type text, all are used.
        let sql = format!("select ({sql})::text, $1::text, $2::text, $3::text");
        let answer = self.bell.target.query_one(&sql, &[word, plain, number]).await;
        let error = answer.err().unwrap_or_else(|| panic!("{sql} is refused"));
        let said = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        self.messages.push(said.message().to_string());
        said.code().code().to_string()
    }

    /// Nothing that the bridge has stored, logged or shown holds a marker.
    async fn holds_no_value(&self) {
        let tables = "select tablename::text from pg_tables where schemaname = 'schoolbell'";
        for table in self.bell.source_texts(tables).await {
            let rows = format!("select t::text from schoolbell.{table} as t");
            let rows = self.bell.source_texts(&rows).await.join("\n");
            self.markers.assert_not_in(&format!("table {table}"), &rows);
        }
        self.markers.assert_not_in("the log", &self.log.lines("").join("\n"));
        for path in ["/", "/?moment", "/api/status", "/metrics", "/readyz", "/healthz"] {
            let answer = self.visitor.get(path).await;
            self.markers.assert_not_in(path, &answer.body);
        }
    }

    /// Runs a command with everything logged; what it prints and logs holds no marker.
    async fn runs(&self, arguments: &[&str]) -> String {
        let ended = crate::support::program::Program::new(arguments)
            .env("DATABASE_URL", &self.bell.source_url())
            .env("SALESFORCE_CONNECT_URL", &self.bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_MAPPING", &self.mapping)
            .env("RUST_LOG", "trace")
            .run()
            .await;
        self.markers
            .assert_not_in(&arguments.join(" "), &format!("{}{}", ended.stdout, ended.stderr));
        ended.to_string()
    }

    /// Every report there is, of this key among others.
    async fn reports_hold_no_value(&self, key: &str) {
        let commands: [&[&str]; 13] = [
            &["status"],
            &["status", "--json"],
            &["parked", "list", "--limit", "100000"],
            &["parked", "list", "--limit", "100000", "--json"],
            &["doctor"],
            &["doctor", "--json"],
            &["verify"],
            &["verify", "--json"],
            &["verify", "--sample", "10"],
            &["resync", "--dry-run"],
            &["mapping", "--check"],
            &["explain", "school", key, "--no-values"],
            &["explain", "school", key, "--no-values", "--json"],
        ];
        for command in commands {
            self.runs(command).await;
        }
    }
}

/// What is raised in the target, and while the source is read, in whichever part of the statement, class by class. Each
/// row is alone: the good one among them arrives.
async fn raised_errors(stage: &Stage) {
    let all = CLASSES.iter().map(|class| format!("{class}000"));
    let all: Vec<String> = all.chain(CODES.map(String::from)).collect();
    for place in ["target", "field", "filter"] {
        let mut refused = Vec::new();
        for code in &all {
            refused.push((code, stage.insert(&stage.name(place, code)).await));
        }
        let good = format!("good among {place}");
        let arrives = stage.insert(&good).await;
        stage.drain().await;
        assert!(
            stage.bell.mirrored("editor__c", "editoruuid__c").await.contains(&arrives),
            "{good}"
        );
        for (code, key) in refused {
            let reason = stage.reason(&key).await;
            assert!(reason.starts_with("a trigger or function raised an error"), "{reason}");
            assert!(
                reason.ends_with(&format!("its message is in the server's log ({code})")),
                "{reason}"
            );
        }
        stage.bell.source_sql(&format!("delete from schools where name like '{place}|%'")).await;
        stage.bell.source_sql("delete from schoolbell.change").await;
    }
    stage.holds_no_value().await;
}

/// What Postgres says of values, within a trigger and within a statement of ours.
async fn refused_values(stage: &mut Stage) {
    let mut codes = BTreeSet::new();
    for (_, sql) in EXPRESSIONS {
        codes.insert(stage.asked(sql).await);
    }
    assert!(codes.len() > 15, "they are of many kinds: {codes:?}");
    let quoting = stage.messages.iter().filter(|message| message.contains(&stage.markers.plain));
    assert!(quoting.count() > 30, "most messages quote the row: {:#?}", stage.messages);
    for place in ["run", "read"] {
        let mut refused = Vec::new();
        for (name, _) in EXPRESSIONS {
            refused.push((name, stage.insert(&stage.name(place, name)).await));
        }
        stage.insert(&format!("good among {place}")).await;
        stage.drain().await;
        for (name, key) in refused {
            let reason = stage.reason(&key).await;
            stage.markers.assert_not_in(name, &reason);
        }
    }
    stage.holds_no_value().await;
}

/// The server's own constraints are reported with their names.
async fn constraints(stage: &Stage) {
    let Markers { plain, .. } = &stage.markers;
    stage.insert("first").await;
    stage
        .bell
        .source_sql(&format!(
            "update schools set website = '{plain}', district_name = '{plain}' where name = 'first'"
        ))
        .await;
    stage.drain().await;
    let one = [
        ("check", "name = 'check ' || municipality", "no_checks"),
        ("not null", "address_line_2 = null", "addressline2__c"),
        ("foreign key", "country_code = municipality", "known_country"),
        ("unique", "website = municipality", "one_website"),
        ("exclusion", "district_name = municipality", "one_district"),
    ];
    for (what, damage, named) in one {
        let key = stage.insert(what).await;
        stage.bell.source_sql(&format!("update schools set {damage} where id = '{key}'")).await;
        stage.drain().await;
        let reason = stage.reason(&key).await;
        assert!(reason.contains(named) && reason.contains("(23"), "{what}: {reason}");
    }
    stage.holds_no_value().await;
}

/// A trigger gives something the name that a value is.
async fn names_that_are_values(stage: &Stage) {
    for (what, _) in MADE {
        let key = stage.insert(&stage.name("made", what)).await;
        stage.drain().await;
        let reason = stage.reason(&key).await;
        assert!(reason.contains("within a trigger or function"), "{what}: {reason}");
        stage.markers.assert_not_in(what, &reason);
    }
    stage.holds_no_value().await;
}

/// Whole statements fail where the filter or the choice of a winner does: one row at a time, with every report.
async fn whole_statements(stage: &Stage) {
    for (place, code) in
        [("filter", "22023"), ("filter", "42501"), ("filter", "57014"), ("winner", "23514")]
    {
        let key = stage.insert(&stage.name(place, code)).await;
        stage.drain().await;
        stage
            .bell
            .source_sql("insert into schoolbell.resync (object) values ('school'), ('contact')")
            .await;
        stage.drain().await;
        stage.holds_no_value().await;
        let reports: [&[&str]; 4] = [
            &["doctor", "--json"],
            &["verify", "--json"],
            &["resync", "--dry-run"],
            &["explain", "school", &key, "--no-values"],
        ];
        for report in reports {
            stage.runs(report).await;
        }
        stage.bell.source_sql(&format!("delete from schools where id = '{key}'")).await;
        stage.bell.source_sql("delete from schoolbell.resync; delete from schoolbell.change").await;
    }
}

/// Salesforce's own words may quote the row, too: they are shown to a person at a terminal, and
/// nowhere else.
async fn what_salesforce_says(stage: &Stage) {
    let plain = &stage.markers.plain;
    let refused = format!(
        "begin; set local xmlbinary = 'hex'; update salesforce.editor__c set _hc_lastop = 'FAILED', \
         _hc_err = 'bad value: {plain}'; commit"
    );
    stage.bell.target_sql(&refused).await;
    stage.visitor.shows("refused").await;
    eventually("the page has seen it", || async {
        let status = stage.visitor.get("/api/status").await;
        if status.body.contains("FAILED") { Ok(()) } else { Err(status) }
    })
    .await;
    stage.holds_no_value().await;
}

/// Whatever refuses a row of its own: what is stored of it, logged, shown and reported.
async fn refused_rows(stage: &mut Stage) {
    raised_errors(stage).await;
    refused_values(stage).await;
    constraints(stage).await;
    names_that_are_values(stage).await;
    let sql = "select key from schoolbell.parked where object = 'school' order by key limit 1";
    let key = stage.bell.source_texts(sql).await[0].clone();
    stage.visitor.shows("a trigger or function raised an error").await;
    stage.reports_hold_no_value(&key).await;
}

#[tokio::test]
async fn no_value_of_a_row_is_in_a_reason_a_log_or_a_report_whoever_raises_the_error() {
    let mut stage = Stage::set(TestBell::bare().await).await;

    refused_rows(&mut stage).await;

    stage.bell.source_sql("delete from schools where name <> 'first'").await;
    stage.bell.source_sql("delete from schoolbell.change; delete from schoolbell.parked").await;
    whole_statements(&stage).await;
    stage.bell.source_sql("delete from schoolbell.parked").await;
    what_salesforce_says(&stage).await;
}

/// A folder with a locale of another language, where this machine can make one.
fn locale(name: &str, language: &str) -> Option<TempDir> {
    let mut folder = tempfile::Builder::new();
    // The server may run as somebody else.
    let folder = folder.permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let made = Command::new("localedef")
        .args(["-i", language, "-f", "UTF-8"])
        .arg(folder.path().join(name))
        .output();
    (made.is_ok() && folder.path().join(name).join("LC_MESSAGES").exists()).then_some(folder)
}

/// Lets the server of a cluster speak this language from now on; false where it cannot.
async fn speaks(bell: &TestBell, locale: &str) -> bool {
    let english = "select 'x'::text::integer";
    let message = async |session: &tokio_postgres::Client| {
        let error = session.query(english, &[]).await.unwrap_err();
        error.as_db_error().unwrap().message().to_string()
    };
    let before = message(&bell.source_session().await).await;
    for name in [&bell.source_name, &bell.target_name] {
        let set = format!("alter database {name} set lc_messages = '{locale}'");
        if let Err(refused) = bell.source.batch_execute(&set).await {
            eprintln!("the server does not take lc_messages = {locale}: {refused:?}");
            return false;
        }
    }
    message(&bell.source_session().await).await != before
}

#[tokio::test]
async fn no_value_is_shown_either_where_the_server_speaks_another_language() {
    let name = "de_DE.UTF-8";
    let Some(folder) = locale(name, "de_DE") else {
        left_out(&format!("localedef cannot make the locale {name}"));
        return;
    };
    let path = folder.path().to_str().unwrap().to_string();
    let environment = vec![("LOCPATH".to_string(), path)];
    let mut bell = TestBell::in_a_cluster_with(Options { environment, ..Options::open() }).await;
    if !speaks(&bell, name).await {
        left_out(&format!("this PostgreSQL has no translation for {name}"));
        return;
    }
    bell.reconnect().await;
    let mut stage = Stage::set(bell).await;

    refused_rows(&mut stage).await;

    let german = stage.messages.iter().filter(|message| message.contains('»')).count();
    assert!(german > 20, "the server quotes as Germans do: {:#?}", stage.messages);
}
