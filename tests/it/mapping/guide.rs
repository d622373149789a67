//! docs/mapping.md does what it says: its files are mappings, its example runs. docs/mapping-reference.md is the schema's.

use std::collections::BTreeMap;

use schoolbell::mapping::{Mapping, SCHEMA};
use serde_json::Value;

use crate::mapping::check::fits_the_schema;
use crate::support::TestBell;
use crate::support::program::Program;

const GUIDE: &str = include_str!("../../../docs/mapping.md");
const REFERENCE: &str = include_str!("../../../docs/mapping-reference.md");

/// A fenced block.
struct Block<'a> {
    /// What comes after the fence: `toml`, `sql source`.
    kind: &'a str,
    text: String,
    /// The line before it.
    before: &'a str,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut before) = (None, "");
    for line in text.lines() {
        // In a list a block is indented.
        let plain = line.trim_start();
        match (open, plain.strip_prefix("```")) {
            (None, Some(kind)) => {
                open = Some(line.len() - plain.len());
                blocks.push(Block { kind, text: String::new(), before });
            }
            (Some(_), Some(_)) => open = None,
            (Some(indent), None) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => before = line,
        }
    }
    blocks
}

fn all(kind: &str) -> Vec<Block<'static>> {
    blocks(GUIDE).into_iter().filter(|block| block.kind == kind).collect()
}

#[test]
fn every_file_of_the_guide_is_a_mapping_and_every_field_a_field() {
    let files = all("toml");
    let fields = all("toml field");
    assert!(
        files.len() >= 4 && fields.len() >= 2,
        "{} files, {} fields",
        files.len(),
        fields.len()
    );
    let object = "version = 1\n[object.a]\nsource = 's'\nkey = 'k'\ntarget = 't'\nexternal_id = 'e'\n[object.a.fields]\n";
    let fields = fields.into_iter().map(|field| format!("{object}{}", field.text));
    for text in files.into_iter().map(|file| file.text).chain(fields) {
        Mapping::parse("docs/mapping.md", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(fits_the_schema(&text), "{text}");
    }
}

/// The tables after a heading: of each row the first two cells.
fn tables(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut tables: Vec<BTreeMap<String, String>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
            Some(key) => _ = tables.last_mut().unwrap().insert(key.into(), cells[2].into()),
            None if cells[1] == "key" => tables.push(BTreeMap::new()),
            None => {}
        }
    }
    tables
}

/// The keys of a table of the schema with their defaults, as the guide writes them.
fn described(root: &Value, schema: &Value) -> BTreeMap<String, String> {
    let parts: Vec<&Value> = match schema["oneOf"].as_array() {
        Some(ways) => ways.iter().collect(),
        None => vec![schema],
    };
    let mut described = BTreeMap::new();
    for part in &parts {
        let required: Vec<&str> = match (parts.len(), part["required"].as_array()) {
            (1, Some(required)) => required.iter().map(|key| key.as_str().unwrap()).collect(),
            _ => Vec::new(),
        };
        for (key, property) in part["properties"].as_object().into_iter().flatten() {
            let reference =
                property["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
            let property = reference.map_or(property, |pointer| root.pointer(pointer).unwrap());
            let default = match (required.contains(&key.as_str()), &property["default"]) {
                (true, _) => "required".to_string(),
                (false, Value::Null) => "none".to_string(),
                (false, default) => format!("`{default}`"),
            };
            described.insert(key.clone(), default);
        }
    }
    described
}

#[test]
fn the_reference_has_every_key_of_the_schema_with_its_default_and_no_other() {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let tables = tables(REFERENCE);

    let kinds = ["object", "winner", "brake", "parent", "touch", "value"];
    let schemas = std::iter::once(String::new()).chain(kinds.map(|kind| format!("/$defs/{kind}")));
    let schemas: Vec<String> = schemas.collect();
    assert_eq!(tables.len(), schemas.len());
    for (table, pointer) in tables.iter().zip(schemas) {
        assert_eq!(*table, described(&root, root.pointer(&pointer).unwrap()), "{pointer}");
    }
}

/// The application's tables and Heroku Connect's, and those of the guide's example.
async fn with_the_example() -> TestBell {
    let bell = TestBell::bare().await;
    for block in all("sql source") {
        bell.source_sql(&block.text).await;
    }
    for block in all("sql target") {
        bell.target_sql(&block.text).await;
    }
    bell
}

#[tokio::test]
async fn the_example_runs_as_it_is_told() {
    let mut bell = with_the_example().await;
    let files: Vec<Block> =
        all("toml").into_iter().filter(|block| block.before == "<!-- run -->").collect();
    assert_eq!(files.len(), 1);
    bell.use_mapping(&files[0].text).await;
    let file = bell.mapping_file(&files[0].text);
    let file = file.to_str().unwrap();
    assert_eq!(bell.run(&["mapping", "--check", file]).await.code, 0);

    bell.run_ok(&["resync", "--mapping", file]).await;
    let clubs =
        "select concat_ws('|', name, town__c, members__c) from salesforce.club__c order by name";
    assert_eq!(bell.target_texts(clubs).await, ["Chess Club|Leeds|2", "Rowing Club|York|0"]);
    assert_eq!(bell.parked().await.len(), 2, "memberships wait for their club");
    bell.target_sql("update salesforce.club__c set sfid = 'S' || id").await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;

    let members = "select concat_ws('|', membername__c, level__c) from salesforce.club_membership__c order by 1";
    assert_eq!(bell.target_texts(members).await, ["Ada|board", "Ben|member"]);
    // A guest becomes a member: a row of one object, and a count of the other.
    bell.source_sql("update memberships set level = 1 where member_name = 'Cyd'").await;
    bell.drain().await;
    assert_eq!(bell.target_texts(clubs).await, ["Chess Club|Leeds|2", "Rowing Club|York|1"]);
    bell.run_ok(&["verify", "--mapping", file]).await;
}

/// The lines after a command of a console block, up to the next command.
fn output(command: &str) -> String {
    let blocks = all("console").into_iter();
    let mut shown = blocks.filter_map(|block| {
        let (_, after) = block.text.split_once(&format!("$ {command}\n"))?;
        Some(after.split("$ ").next().unwrap_or_default().to_string())
    });
    shown.next_back().unwrap_or_else(|| panic!("{command} is not in the guide"))
}

#[tokio::test]
async fn the_changed_mapping_of_the_guide_is_taken_up_as_it_is_told() {
    let mut bell = with_the_example().await;
    let text = all("toml").into_iter().find(|block| block.before == "<!-- run -->").unwrap().text;
    bell.use_mapping(&text).await;
    let file = bell.mapping_file(&text);
    bell.run_ok(&["resync", "--mapping", file.to_str().unwrap()]).await;
    bell.target_sql("update salesforce.club__c set sfid = 'S' || id").await;
    bell.source_sql("update schoolbell.parked set due_at = now()").await;
    bell.drain().await;
    let mut changed = text.clone();
    for line in ["filter = \"level > 0\"\n", "foundedon__c = \"founded_on\"\n"] {
        assert!(GUIDE.contains(line.trim_end()) && changed.contains(line));
        changed = changed.replace(line, "");
    }
    let file = bell.mapping_file(&changed);
    let run = async |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        let ended = Program::new(&words)
            .env("DATABASE_URL", &bell.source_url())
            .env("SALESFORCE_CONNECT_URL", &bell.target_url())
            .env("SALESFORCE_ENABLED", "true")
            .env("SCHOOLBELL_MAPPING", file.to_str().unwrap())
            .run()
            .await;
        assert_eq!(ended.code, 0, "{ended}");
        ended.stdout
    };
    // The moment, the file's folder, and how long it took are those of this run.
    let seconds = |c: char| c.is_ascii_digit() || c == '.';
    let timeless = |text: String| -> Vec<String> {
        let lines = text.lines().map(|line| match line.split_once("since the mapping of ") {
            Some(_) => "since".into(),
            None => line.trim_end().trim_end_matches(seconds).trim_end().to_string(),
        });
        lines.filter(|line| !line.is_empty()).collect()
    };

    for command in ["migrate", "resync membership"] {
        let shown = output(&format!("schoolbell {command}"));
        let said = run(command).await;
        assert_eq!(timeless(shown), timeless(said.clone()), "{said}");
    }
    run("verify").await;
    let guests = "select membername__c from salesforce.club_membership__c where level__c is null";
    assert_eq!(bell.target_texts(guests).await, ["Cyd"]);
}

#[tokio::test]
async fn the_draft_in_the_guide_is_what_is_drafted() {
    let bell = with_the_example().await;
    let shown =
        all("console").into_iter().find(|block| block.text.contains("mapping init")).unwrap();
    let (command, output) = shown.text.split_once('\n').unwrap();
    let words: Vec<&str> = command.split(' ').skip(2).collect();

    let drafted = bell.run_ok(&words).await;

    assert_eq!(drafted, output);
}
