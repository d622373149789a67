//! The SQL that runs for the built-in mapping is in `sql/rendered`, so that it can be reviewed without reading Rust, and a
//! change of what builds it is seen as a change of SQL.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schoolbell::capture::{NotifyMode, trigger};
use schoolbell::plan;
use schoolbell::postgres::db::Database;
use schoolbell::service::Ground;
use schoolbell::verify;
use schoolbell::worker::Lane;

use crate::support::TestBell;

/// Renewed by `SCHOOLBELL_BLESS=1 cargo test --test it rendered::`.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/rendered");

const README: &str = "# The SQL that runs for the built-in mapping\n\n\
    For review: the statements of each object of `mappings/editor-api.toml`, as the service sends them to the source and the\n\
    target, and what `schoolbell migrate` installs on each captured table. The first line of a file says where the statement\n\
    runs, what it is for and what its parameters are. Only the indentation was added.\n\n\
    For the triggers of your own mapping see `schoolbell migrate --dry-run`. Statements without names of a mapping are in the\n\
    folder above.\n\n\
    These files are written by `SCHOOLBELL_BLESS=1 cargo test --test it rendered::`, and that test fails where they differ.\n";

/// Each line as deep as the brackets that are open where it begins.
fn indented(sql: &str) -> String {
    let (mut depth, mut text) = (0_usize, String::new());
    for line in sql.trim().lines() {
        let line = line.trim();
        let closes = line.chars().take_while(|letter| *letter == ')').count();
        text += &"    ".repeat(depth.saturating_sub(closes));
        text += line;
        text.push('\n');
        let mut quoted = false;
        for letter in line.chars() {
            match letter {
                '\'' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    text
}

fn files(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => files(&entry.path(), &format!("{name}/"), found),
            false => _ = found.insert(name, fs::read_to_string(entry.path()).unwrap()),
        }
    }
}

#[tokio::test]
async fn the_sql_of_the_built_in_mapping_is_the_one_that_is_written_down() {
    let bell = TestBell::installed().await;
    let ground = Ground::check(&bell.config(), &bell.mapping).await.unwrap();
    let mut rendered = BTreeMap::new();
    for route in ground.routes() {
        let lane = Lane::new(route.clone());
        for shown in lane.shown().into_iter().chain(verify::shown(route)) {
            let file = format!("{}/{}.sql", route.object.name, shown.name);
            rendered.insert(file, format!("-- {}\n{}", shown.purpose, indented(&shown.sql)));
        }
    }
    let source = Database::new(bell.config().source, "test").unwrap();
    let (source, evaluator) = (source.session().await.unwrap(), source.evaluator().await.unwrap());
    let side = plan::source_side(&source, &evaluator, &bell.mapping).await.unwrap();
    for table in trigger::render(&side.captures, NotifyMode::Doorbell) {
        let mut text =
            format!("-- What `schoolbell migrate` installs on {}.\n", table.table.plain());
        let functions = table.functions.iter().map(|function| &function.sql);
        for sql in functions.chain(table.triggers.iter().map(|trigger| &trigger.sql)) {
            text += &format!("\n{}\n", sql.trim());
        }
        rendered.insert(format!("triggers/{}.sql", table.table.plain()), text);
    }

    rendered.insert("README.md".into(), README.into());

    let folder = Path::new(FOLDER);
    if std::env::var_os("SCHOOLBELL_BLESS").is_some() {
        _ = fs::remove_dir_all(folder);
        for (name, text) in &rendered {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }
    let mut written = BTreeMap::new();
    files(folder, "", &mut written);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&rendered));
    for (name, text) in rendered {
        assert_eq!(written[&name], text, "{name}");
    }
}
