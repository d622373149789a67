//! Parsers of text from outside, tried with the corpus of the fuzz targets and with mutations of
//! it. Each run tries the same ones; `fuzz/Cargo.toml` says how to look for new ones.

use std::path::Path;

use fastrand::Rng;
use schoolbell::bell::notice::Notice;
use schoolbell::mapping::{BUILT_IN, HEROKU_CONNECT_COLUMNS, Mapping};
use serde_json::Value;

const SEED: u64 = 0x5343_484F_4F4C;
/// Of each entry of the corpus.
const MUTATIONS: usize = 400;

/// The entries of a corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut entries: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    // The order of a folder is not the same everywhere.
    entries.sort();
    assert!(entries.len() >= 8, "the corpus {target} is there");
    entries
}

/// Hands every entry to `check`, then as many mutations of each.
fn each(entries: &[(String, Vec<u8>)], words: &[&str], check: impl Fn(&str, &str)) {
    let mut random = Rng::with_seed(SEED);
    for (name, bytes) in entries {
        check(name, &String::from_utf8_lossy(bytes));
        for number in 0..MUTATIONS {
            let mut mutated = bytes.clone();
            for _ in 0..random.usize(1..=3) {
                let other = &entries[random.usize(..entries.len())].1;
                mutate(&mut mutated, other, words, &mut random);
            }
            check(&format!("{name}, mutation {number}"), &String::from_utf8_lossy(&mutated));
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    // Mostly small ones, after which much is still as it was.
    let span = if random.u8(..4) == 0 { bytes.len() } else { 6 };
    let end = random.usize(at..=bytes.len().min(at + span));
    match random.u8(..6) {
        0 if at < bytes.len() => bytes[at] = random.u8(..),
        1 => _ = bytes.drain(at..end),
        2 => bytes.truncate(at),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let from = random.usize(..=other.len());
            let to = random.usize(from..=other.len().min(from + span));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            let word = words[random.usize(..words.len())];
            bytes.splice(at..end.min(at + word.len()), word.bytes());
        }
    }
}

/// What the triggers and the commands build, as `src/bell/notice.rs` says: read here without its code.
fn is_ours(payload: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(payload) else { return false };
    let operations = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "RETRY", "CANARY"];
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    payload.len() <= 1_000
        && fields.get("v").and_then(Value::as_u64) == Some(1)
        && text("table").is_some()
        && text("op").is_some_and(|operation| operations.contains(&operation))
        && text("xact").is_some_and(digits)
        && fields.get("at").and_then(Value::as_i64).is_some()
}

#[test]
fn a_notice_that_is_not_ours_is_never_taken_for_one() {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "1",
        "null",
        "true",
        "\"v\":1",
        "\"op\":\"UPDATE\"",
        "\\u0000",
        "UPDATE",
        "RETRY",
    ];
    let accepted = std::cell::Cell::new(0);
    each(&corpus("notice"), &words, |name, payload| {
        if Notice::decode(payload).is_ok() {
            accepted.set(accepted.get() + 1);
            assert!(is_ours(payload), "{name}: {payload}");
        }
    });
    assert!(accepted.get() > 100, "mutations that are still ours are taken");
}

#[test]
fn the_notices_that_are_ours_are_taken() {
    let taken: Vec<String> = corpus("notice")
        .into_iter()
        .filter(|(_, payload)| Notice::decode(&String::from_utf8_lossy(payload)).is_ok())
        .filter_map(|(name, _)| Some(name.rsplit('/').next()?.to_string()))
        .collect();
    assert_eq!(taken, ["canary", "delete", "insert", "retry", "truncate", "update"]);
}

#[test]
fn whatever_a_mapping_file_holds_it_is_a_mapping_or_there_are_findings() {
    let words = [
        "[object.a]\n",
        "version = 1\n",
        "parents = [{ object = \"a\", key = \"id\" }]\n",
        "=",
        "\"",
        "'''",
        "\n",
        "{ sql = \"1\" }",
        "{ column = \"x\" }",
        "update_only = true\n",
        "on_delete = \"delete\"\n",
        "sfid = \"x\"\n",
        "[[",
        "]]",
        ".",
        "object",
        "school",
    ];
    let mut entries = corpus("mapping");
    entries.push(("built in".into(), BUILT_IN.into()));
    let accepted = std::cell::Cell::new(0);
    each(&entries, &words, |name, text| match Mapping::parse("file.toml", text) {
        Ok(mapping) => {
            accepted.set(accepted.get() + 1);
            consistent(&mapping, name);
        }
        Err(unusable) => {
            assert!(!unusable.findings.is_empty(), "{name}: {text}");
            for line in unusable.to_string().lines().take(1) {
                assert!(line.starts_with("file.toml:"), "{name}: {line}");
            }
        }
    });
    assert!(accepted.get() > 100, "mutations that are still mappings are taken");
}

/// What the rest of the program relies on.
fn consistent(mapping: &Mapping, name: &str) {
    assert!(!mapping.objects.is_empty(), "{name}");
    for (place, object) in mapping.objects.iter().enumerate() {
        for parent in &object.parents {
            let found = mapping.objects[..place].iter().any(|other| other.name == parent.object);
            assert!(found, "{name}: {} stands before its parent {}", object.name, parent.object);
        }
        for field in &object.fields {
            let column = field.column.as_str();
            assert!(!HEROKU_CONNECT_COLUMNS.contains(&column), "{name}: {column} is written");
            assert_ne!(column, object.external_id, "{name}: the key is set twice");
            assert!(!(field.insert_only && field.compared), "{name}: {column}");
        }
    }
}

#[test]
fn the_mappings_of_the_corpus_that_are_right_are_taken() {
    let taken: Vec<String> = corpus("mapping")
        .into_iter()
        .filter(|(_, text)| Mapping::parse("x", &String::from_utf8_lossy(text)).is_ok())
        .filter_map(|(name, _)| Some(name.rsplit('/').next()?.to_string()))
        .collect();
    assert_eq!(taken, ["least.toml", "most.toml", "windows.toml"]);
}
