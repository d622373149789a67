//! What is wrong with a mapping is reported all at once, each with its line and the name that was probably meant; and the
//! schema that editors check by says the same as the program.

use std::collections::BTreeSet;

use schoolbell::mapping::{BUILT_IN, Mapping, SCHEMA, SHIPPED};
use serde_json::Value;

use crate::support::TestBell;
use crate::support::program::{Ended, Program};

/// Everything that a file can have wrong by itself, but its syntax.
const WRONG: &str = r#"version = 1
sourceschema = "public"

[object.school]
source = "schools"
kee = "id"
target = "editor__c"
external_id = 3
on_delete = "delet"
update_only = "yes"

[object.school.fields]
sfid = "id"
name = { colum = "name" }
site__c = { column = "website", sql = "website" }
code__c = 7

[object.school.winner]
prefr = "true"

[object.role]
source = "roles"
key = "id"
target = "affiliation__c"
external_id = "id__c"
postcode__c = "postal_code"

[[object.role.parents]]
object = "scool"
key = "school_id"

[[object.role.touched_by]]
table = "schools"
columns = ["name", 3]
"#;

const FOUND: [&str; 15] = [
    ":2: sourceschema: unknown key; did you mean source_schema?",
    ":4: object school: key: is missing",
    ":6: object school: kee: unknown key; did you mean key?",
    ":8: object school: external_id: is a number, but must be text",
    ":9: object school: on_delete: is \"delet\", but must be \"keep\" or \"delete\"; did you mean delete?",
    ":10: object school: update_only: is text, but must be true or false",
    ":13: object school: sfid: belongs to Heroku Connect and is never written",
    ":14: object school: name.colum: unknown key; did you mean column?",
    ":15: object school: site__c: has both column and sql, but must have one of them",
    ":16: object school: code__c: is a number, but must be a column name, { column = … } or { sql = … }",
    ":18: object school: winner.order: is missing",
    ":19: object school: winner.prefr: unknown key; did you mean prefer?",
    ":26: object role: postcode__c: unknown key; it may be source, key, target, external_id, filter, since, winner, \
     update_only, on_delete, brake, fields, insert_only, parents or touched_by; a target column goes under [object.role.fields]",
    ":29: object role: parents: there is no object scool; did you mean school?",
    ":32: object role: touched_by.keys: is missing",
];

#[tokio::test]
async fn everything_that_a_file_has_wrong_is_told_at_once_with_its_line_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, WRONG).unwrap();
    let file = file.to_str().unwrap();

    let printed = Program::new(&["mapping", "--check", file]).run().await;
    let json = Program::new(&["mapping", "--check", file, "--json"]).run().await;

    let mut expected: Vec<String> =
        FOUND.iter().map(|finding| format!("{file}{finding}")).collect();
    expected
        .push(format!("{file}:34: object role: touched_by.columns: is a number, but must be text"));
    assert_eq!(printed.code, 2, "{printed}");
    assert_eq!(printed.stdout.lines().collect::<Vec<_>>(), expected, "{printed}");
    assert_eq!(
        printed.stderr,
        format!(
            "schoolbell: {file} cannot be used as it is: 16 findings; the databases are asked when it is mended\n"
        )
    );
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json.code, 2);
    assert_eq!(report["findings"].as_array().unwrap().len(), 16);
    let finding = &report["findings"][2];
    let expected = serde_json::json!({
        "file": file, "line": 6, "column": null, "object": "school", "field": "kee", "problem": "unknown key",
        "nearest": "key",
    });
    assert_eq!(*finding, expected);
    assert_eq!(report["source"]["checked"], false);
}

#[test]
fn each_error_of_syntax_has_its_line_and_column() {
    let text = "version = 1\n[object.a\nsource = 'x'\nkey = = 'ü'\ntarget = \"über\" x\n";

    let unusable = Mapping::parse("m.toml", text).unwrap_err();

    let places: Vec<(Option<usize>, Option<usize>)> =
        unusable.findings.iter().map(|finding| (finding.line, finding.column)).collect();
    assert_eq!(
        places,
        [(Some(2), Some(10)), (Some(4), Some(7)), (Some(5), Some(17))],
        "{unusable}"
    );
    assert!(unusable.to_string().starts_with("m.toml:2:10: "), "{unusable}");
}

#[test]
fn a_key_that_is_written_twice_is_told() {
    let text = "version = 1\n[object.a]\nsource = 'x'\nsource = 'y'\n";
    let unusable = Mapping::parse("m.toml", text).unwrap_err();
    assert!(unusable.to_string().starts_with("m.toml:4:1: duplicate key"), "{unusable}");
}

/// The built-in mapping, wrong on both sides.
fn wrong_on_both_sides() -> String {
    let wrongs = [
        ("postcode__c = \"postal_code\"", "postcod__c = \"postal_cod\""),
        ("case user_origin when", "case user_orign when"),
        ("filter = \"role is", "filter = \"rolle is"),
        ("object = \"contact\"\nkey = \"user_id\"", "object = \"contact\"\nkey = \"usr_id\""),
        ("target = \"contact\"", "target = \"contacts\""),
    ];
    wrongs.iter().fold(BUILT_IN.to_string(), |text, (right, wrong)| {
        assert!(text.contains(right), "the built-in mapping has changed: {right}");
        text.replacen(right, wrong, 1)
    })
}

/// The number of the first line with this text.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

fn starts(ended: &Ended, file: &str, findings: &[(usize, &str)]) {
    let told: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(told.len(), findings.len(), "{ended}");
    for (told, (line, finding)) in told.iter().zip(findings) {
        let expected = format!("{file}:{line}: {finding}");
        assert!(told.starts_with(&expected), "{expected}\n{ended}");
    }
}

#[tokio::test]
async fn what_does_not_fit_either_database_is_told_at_once_by_line() {
    let bell = TestBell::installed().await;
    let text = wrong_on_both_sides();
    let path = bell.mapping_file(&text);
    let file = path.to_str().unwrap();

    let check = bell.run(&["mapping", "--check", file]).await;

    assert_eq!(check.code, 2, "{check}");
    starts(
        &check,
        file,
        &[
            (
                line_of(&text, "postcod__c"),
                "object school: postcod__c: public.schools has no column postal_cod; did you mean postal_code?",
            ),
            (
                line_of(&text, "postcod__c"),
                "object school: postcod__c: salesforce.editor__c has no column postcod__c; did you mean postcode__c?",
            ),
            (
                line_of(&text, "user_orign"),
                "object school: userorigin__c: column \"user_orign\" does not exist; did you mean user_origin?",
            ),
            (
                line_of(&text, "rolle is"),
                "object role: filter: column \"rolle\" does not exist; did you mean role?",
            ),
            (
                line_of(&text, "usr_id"),
                "object role: parents: public.roles has no column usr_id; did you mean user_id?",
            ),
            (
                line_of(&text, "\"contacts\""),
                "object contact: target: the target database has no table salesforce.contacts;",
            ),
        ],
    );
    assert!(check.stdout.contains("did you mean salesforce.contact?"), "{check}");
    let mended = text
        .replace("postcod__c = \"postal_cod\"", "postcode__c = \"postal_code\"")
        .replace("usr_id", "user_id")
        .replace("\"contacts\"", "\"contact\"");
    std::fs::write(&path, &mended).unwrap();
    let check = bell.run(&["mapping", "--check", file]).await;
    starts(
        &check,
        file,
        &[
            (
                line_of(&mended, "user_orign"),
                "object school: userorigin__c: column \"user_orign\" does not exist; did you mean user_origin?",
            ),
            (
                line_of(&mended, "rolle is"),
                "object role: filter: column \"rolle\" does not exist; did you mean role?",
            ),
        ],
    );
    // The commands that use a mapping tell the same.
    for command in [&["migrate"][..], &["run", "--drain"], &["resync"]] {
        let ended = bell.run(&[command, &["--mapping", file]].concat()).await;
        assert_eq!(ended.code, 2, "{ended}");
        for line in check.stdout.lines() {
            assert!(ended.stderr.contains(line), "{line}\n{ended}");
        }
    }
}

#[tokio::test]
async fn a_table_or_a_column_of_a_touching_table_that_is_not_there_is_told_with_its_line() {
    let bell = TestBell::bare().await;
    let touch = "\n[[object.role.touched_by]]\ntable = \"schols\"\ncolumns = [\"nam\"]\nkeys = \"select 1\"\n";
    let text = format!("{BUILT_IN}{touch}");
    let path = bell.mapping_file(&text);
    let file = path.to_str().unwrap();

    let table = bell.run(&["mapping", "--check", file]).await;
    std::fs::write(&path, text.replace("schols", "schools")).unwrap();
    let columns = bell.run(&["mapping", "--check", file]).await;

    let line = line_of(&text, "schols");
    let missing = "object role: touched_by: the source database has no table public.schols; did you mean public.schools?";
    starts(&table, file, &[(line, missing)]);
    starts(
        &columns,
        file,
        &[
            (
                line + 1,
                "object role: touched_by: public.schools has no column nam; did you mean name?",
            ),
            (
                line + 2,
                "object role: touched_by: keys of public.schools must use a column of the changed row",
            ),
        ],
    );
}

/// The invented tables of a library: loans of books, of which each is known by a number.
async fn library() -> TestBell {
    let bell = TestBell::bare().await;
    bell.source_sql(
        "create table books (isbn text primary key, title text); \
         create table loans (id bigint primary key, isbn text, remark varchar(9))",
    )
    .await;
    bell.target_sql(
        "create table salesforce.loan__c (id__c varchar(20) unique, title__c text, remark__c text, old__c text, \
         sfid varchar(18))",
    )
    .await;
    bell
}

const LOANS: &str = "version = 1\n[object.loan]\nsource = 'loans'\nkey = 'id'\ntarget = 'loan__c'\nexternal_id = 'id__c'\n\
    [object.loan.fields]\nremark__c = 'remark'\n";

#[tokio::test]
async fn a_query_for_touched_keys_that_returns_something_else_is_told() {
    let bell = library().await;
    let touched = async |keys: &str| {
        let touch = format!("[[object.loan.touched_by]]\ntable = 'books'\nkeys = '{keys}'\n");
        let file = bell.mapping_file(&(LOANS.to_string() + &touch));
        let file = file.to_str().unwrap();
        bell.run(&["mapping", "--check", file]).await.stdout.replace(file, "F")
    };
    assert_eq!(
        touched("select l.isbn from loans l join changed on l.isbn = changed.isbn").await,
        "F:11: object loan: touched_by: keys returns text, but the key of this object, id of public.loans is bigint\n\
         F: 1 objects fit both databases\n"
    );
    assert_eq!(
        touched("select l.id, l.isbn from loans l join changed on l.isbn = changed.isbn").await,
        "F:11: object loan: touched_by: keys must return one column, the key of this object's rows\n"
    );
    let fits =
        touched("select l.id::integer from loans l join changed on l.isbn = changed.isbn").await;
    assert_eq!(fits, "F: 1 objects fit both databases\n");
}

#[tokio::test]
async fn an_expression_that_reads_a_table_whose_changes_are_not_followed_is_advised_of() {
    let bell = library().await;
    let title = "title__c = { sql = '(select b.title from books b where b.isbn = source.isbn)' }\n";
    let check = async |more: &str| {
        let file = bell.mapping_file(&(LOANS.to_string() + more));
        let ended = bell.run(&["mapping", "--check", file.to_str().unwrap()]).await;
        (ended.code, ended.stdout.replace(file.to_str().unwrap(), "F"))
    };
    let advice = "F:9: object loan: title__c: reads public.books, whose changes reach no row of this object; add it to \
                  [[object.loan.touched_by]], or say compare = false\n";
    let (code, told) = check(title).await;
    assert_eq!((code, told.contains(advice)), (1, true), "{told}");

    let touch = "[[object.loan.touched_by]]\ntable = 'books'\ncolumns = ['title']\n\
                 keys = 'select l.id from loans l join changed on l.isbn = changed.isbn'\n";
    assert_eq!(check(&(title.to_string() + touch)).await.0, 0);
    assert_eq!(check(&title.replace("' }", "', compare = false }")).await.0, 0);
}

#[tokio::test]
async fn a_column_that_has_its_value_already_is_not_what_was_meant() {
    let bell = library().await;
    let file = bell.mapping_file(&(LOANS.to_string() + "remarks__c = 'isbn'\n"));
    let told = bell.run(&["mapping", "--check", file.to_str().unwrap()]).await.stdout;
    assert!(told.contains("salesforce.loan__c has no column remarks__c\n"), "{told}");
}

#[tokio::test]
async fn a_database_that_is_set_and_not_reached_is_said_and_the_other_side_is_checked() {
    let bell = TestBell::bare().await;
    let file = bell.mapping_file(&wrong_on_both_sides());
    let file = file.to_str().unwrap();
    let nowhere = "postgres://bell@127.0.0.1:1/nowhere";
    let check = async |source: &str, target: &str, arguments: &[&str]| {
        let arguments = [&["mapping", "--check"], arguments].concat();
        let program = Program::new(&arguments).env("DATABASE_URL", source);
        program.env("SALESFORCE_CONNECT_URL", target).run().await
    };

    let without_source = check(nowhere, &bell.target_url(), &[file]).await;
    let without_target = check(&bell.source_url(), nowhere, &[file]).await;
    let sound = check(nowhere, &bell.target_url(), &["--json"]).await;

    assert_eq!((without_source.code, without_target.code, sound.code), (2, 2, 2));
    assert_eq!(without_source.stdout.lines().count(), 2, "{without_source}");
    assert!(
        without_source.stdout.contains("salesforce.editor__c has no column"),
        "{without_source}"
    );
    assert!(
        without_source.stderr.contains("the source's side was not checked: "),
        "{without_source}"
    );
    assert!(without_target.stdout.contains("public.schools has no column"), "{without_target}");
    assert!(
        without_target.stderr.contains("the target's side was not checked: "),
        "{without_target}"
    );
    let report: Value = serde_json::from_str(&sound.stdout).unwrap();
    assert_eq!(
        (&report["source"]["checked"], &report["target"]["checked"]),
        (&false.into(), &true.into())
    );
    assert!(
        report["source"]["why_not"].as_str().unwrap().contains("check DATABASE_URL"),
        "{sound}"
    );
}

#[tokio::test]
async fn a_source_alone_is_checked_and_the_target_is_asked_for() {
    let bell = TestBell::bare().await;

    let check =
        Program::new(&["mapping", "--check"]).env("DATABASE_URL", &bell.source_url()).run().await;

    assert_eq!(check.code, 0, "{check}");
    let said = "built-in mapping: 3 objects fit the source database; set SALESFORCE_CONNECT_URL to check the target's \
                side, too\n";
    assert_eq!(check.stdout, said);
}

// The schema ----------------------------------------------------------------------------------------

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Follows references; keys beside a reference only describe.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').unwrap();
            resolved(
                root,
                root.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")),
            )
        }
        None => schema,
    }
}

/// Whether a value fits a schema, of which only the keywords of ours are known.
pub fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(root, schema).as_object().unwrap();
    schema.iter().all(|(keyword, wanted)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" => true,
        "type" => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("the test knows no type {other}"),
        },
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "oneOf" => {
            let ways = wanted.as_array().unwrap().iter();
            ways.filter(|way| fits(root, way, value)).count() == 1
        }
        "minProperties" => {
            value.as_object().is_none_or(|it| it.len() as u64 >= wanted.as_u64().unwrap())
        }
        "items" => value.as_array().is_none_or(|list| list.iter().all(|it| fits(root, wanted, it))),
        "required" => value.as_object().is_none_or(|members| {
            wanted.as_array().unwrap().iter().all(|key| members.contains_key(key.as_str().unwrap()))
        }),
        "properties" | "additionalProperties" => value.as_object().is_none_or(|members| {
            members.iter().all(|(key, member)| {
                let own = schema.get("properties").and_then(|properties| properties.get(key));
                match own.or(schema.get("additionalProperties")) {
                    Some(Value::Bool(allowed)) => *allowed,
                    Some(schema) => fits(root, schema, member),
                    None => true,
                }
            })
        }),
        other => panic!("the test knows no keyword {other}"),
    })
}

pub fn fits_the_schema(text: &str) -> bool {
    let root = schema();
    toml::from_str::<Value>(text).is_ok_and(|value| fits(&root, &root, &value))
}

/// Keys of a schema's table; of a value, those of both its tables.
fn keys_of(schema: &Value, what: &str) -> BTreeSet<String> {
    let parts: Vec<&Value> = match schema["oneOf"].as_array() {
        Some(ways) => ways.iter().collect(),
        None => vec![schema],
    };
    let tables = parts.iter().filter_map(|part| match what {
        "required" => None,
        _ => part["properties"].as_object(),
    });
    match what {
        "required" => {
            let required = parts.iter().filter_map(|part| part["required"].as_array()).flatten();
            required.map(|key| key.as_str().unwrap().to_string()).collect()
        }
        _ => tables.flat_map(|table| table.keys().cloned()).collect(),
    }
}

const STRANGE: &str = "a_key_that_is_like_no_other";

/// A file with a strange key in a table of each kind, and nothing else in that table.
fn strange_in(kind: &str) -> String {
    let strange = format!("{STRANGE} = 1\n");
    let object =
        "version = 1\n[object.a]\nsource = 's'\nkey = 'k'\ntarget = 't'\nexternal_id = 'e'\n";
    match kind {
        "" => strange,
        "object" => format!("version = 1\n[object.a]\n{strange}"),
        "winner" => format!("{object}[object.a.winner]\n{strange}"),
        "parent" => format!("{object}[[object.a.parents]]\n{strange}"),
        "brake" => format!("{object}[object.a.brake]\n{strange}"),
        "touch" => format!("{object}[[object.a.touched_by]]\n{strange}"),
        "value" => format!("{object}[object.a.fields.f]\n{strange}"),
        other => panic!("the test knows no {other}"),
    }
}

#[test]
fn the_schema_and_the_program_know_the_same_keys_and_demand_the_same() {
    let root = schema();
    let defined = root["$defs"].as_object().unwrap().iter();
    let tables =
        defined.filter(|(_, schema)| schema["type"] == "object" || !schema["oneOf"].is_null());
    let kinds: Vec<(&str, &Value)> = std::iter::once(("", &root))
        .chain(tables.map(|(kind, schema)| (kind.as_str(), schema)))
        .collect();
    assert_eq!(kinds.len(), 7);
    for (kind, schema) in kinds {
        let text = strange_in(kind);
        let findings = Mapping::parse("m.toml", &text).unwrap_err().findings;
        let list = findings.iter().find_map(|finding| {
            let list = finding.problem.strip_prefix("unknown key; it may be ")?;
            Some(list.split(';').next().unwrap().replace(" or ", ", "))
        });
        let accepted: BTreeSet<String> = list
            .unwrap_or_else(|| panic!("{kind}: {findings:?}"))
            .split(", ")
            .map(str::to_string)
            .collect();
        assert_eq!(accepted, keys_of(schema, "properties"), "keys of {kind:?}");
        assert!(!fits_the_schema(&text), "{kind}: the schema is strict");

        let missing = findings.iter().filter(|finding| finding.problem == "is missing");
        let missing: BTreeSet<String> = missing
            .map(|finding| {
                finding.field.as_deref().unwrap().rsplit('.').next().unwrap().to_string()
            })
            .collect();
        let required = match kind {
            // One of them: that is reported as a finding of its own.
            "value" => BTreeSet::new(),
            // That there is none is reported when the rest is right.
            "" => BTreeSet::from(["version".to_string()]),
            _ => keys_of(schema, "required"),
        };
        assert_eq!(missing, required, "required keys of {kind:?}");
    }
}

#[test]
fn each_default_of_the_schema_is_that_of_the_program() {
    let least = "version = 1\n[object.a]\nsource = 's'\nkey = 'k'\ntarget = 't'\nexternal_id = 'e'\n\
                 fields = { f = { column = 'c' } }\ntouched_by = [{ table = 'x', keys = 'select' }]\n";
    let meaning = |text: &str| {
        let mapping =
            Mapping::parse("m.toml", text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let debug = format!("{:?}", mapping.objects);
        // Places are no part of the meaning.
        let mut meaning = String::new();
        let mut rest = debug.as_str();
        while let Some(start) = rest.find("line") {
            meaning.push_str(&rest[..start]);
            let end = rest[start..].find('}').unwrap() + start;
            rest = &rest[end..];
        }
        meaning + rest
    };
    let root = schema();
    let mut defaults = 0;
    let mut each = |base: &str, path: &str, key: &str, explicit: &dyn Fn(&str) -> String| {
        let schema = root.pointer(path).unwrap();
        let default = &resolved(&root, &schema["properties"][key])["default"];
        let text = explicit(&format!("{key} = {default}"));
        assert_eq!(meaning(&text), meaning(base), "{text}");
        assert!(fits_the_schema(&text), "{text}");
        defaults += 1;
    };
    for key in ["source_schema", "target_schema"] {
        each(least, "", key, &|default| least.replace("[object", &format!("{default}\n[object")));
    }
    for key in ["update_only", "on_delete"] {
        each(least, "/$defs/object", key, &|default| format!("{least}{default}\n"));
    }
    for key in ["compare", "encrypted"] {
        each(least, "/$defs/value/oneOf/1", key, &|default| {
            least.replace("'c' ", &format!("'c', {default} "))
        });
    }
    let deleting = format!("{least}on_delete = 'delete'\n");
    each(&deleting, "/$defs/object", "brake", &|default| format!("{deleting}{default}\n"));
    for key in ["rows", "share", "within"] {
        each(&deleting, "/$defs/brake", key, &|default| {
            format!("{deleting}brake = {{ {default} }}\n")
        });
    }
    each(least, "/$defs/touch", "columns", &|default| {
        least.replace("'x',", &format!("'x', {default},"))
    });
    assert_eq!(defaults, SCHEMA.matches("\"default\":").count(), "every default is looked at");
}

#[test]
fn what_the_schema_takes_the_program_takes_and_the_other_way_round() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/mapping");
    for name in ["least.toml", "most.toml", "windows.toml"] {
        let text = std::fs::read_to_string(format!("{corpus}/{name}")).unwrap();
        assert!(fits_the_schema(&text), "{name}");
    }
    for (name, text) in SHIPPED {
        assert!(fits_the_schema(text), "{name}");
        assert!(text.starts_with("#:schema ./schema.json\n"), "editors find no schema for {name}");
    }
    let right =
        "version = 1\n[object.a]\nsource = 's'\nkey = 'k'\ntarget = 't'\nexternal_id = 'e'\n";
    for more in [
        "fields = { f = 'c', g = { sql = '1', compare = false, encrypted = true } }",
        "insert_only = { f = { column = 'c' } }",
        "winner = { order = 'x' }",
        "parents = []",
        "touched_by = [{ table = 'x', keys = 'select' }]",
        "on_delete = 'delete'",
        "on_delete = 'delete'\nbrake = { rows = 0, share = 0.05, within = '1d' }",
        "on_delete = 'delete'\nbrake = { share = 1 }",
    ] {
        let text = format!("{right}{more}\n");
        assert!(fits_the_schema(&text), "{text}");
        Mapping::parse("m.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    }
    for wrong in [
        "fields = { f = 1 }",
        "fields = { f = {} }",
        "fields = { f = { column = 'c', sql = '1' } }",
        "fields = { f = { column = 'c', compare = 'no' } }",
        "fields = []",
        "winner = { prefer = 'x' }",
        "winner = 'x'",
        "parents = [{ object = 'a' }]",
        "parents = { object = 'a', key = 'k' }",
        "touched_by = [{ table = 'x' }]",
        "touched_by = [{ table = 'x', keys = 'k', columns = 'c' }]",
        "on_delete = 'drop'",
        "on_delete = 'delete'\nbrake = { rows = -1 }",
        "on_delete = 'delete'\nbrake = { rows = '5' }",
        "on_delete = 'delete'\nbrake = { share = 1.5 }",
        "on_delete = 'delete'\nbrake = { within = 5 }",
        "on_delete = 'delete'\nbrake = { row = 5 }",
        "on_delete = 'delete'\nbrake = 5",
        "update_only = 'yes'",
        "filter = true",
    ] {
        let text = format!("{right}{wrong}\n");
        assert!(!fits_the_schema(&text), "{text}");
        assert!(Mapping::parse("m.toml", &text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn the_schema_is_printed_for_whoever_has_only_the_program() {
    let printed = Program::new(&["mapping", "--schema"]).run().await;
    assert_eq!((printed.code, printed.stdout.as_str()), (0, SCHEMA), "{printed}");
    assert_eq!(SCHEMA, include_str!("../../../mappings/schema.json"));
}
