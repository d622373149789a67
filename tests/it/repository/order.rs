//! `src/lib.rs` states the order of the folders once, and imports run down it only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file of Rust below the folder.
pub(super) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The first folder, or the name of the file beside `lib.rs`.
fn concept(file: &Path, src: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// The concepts that a file names in its code.
fn named(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let names = code.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
        Some(_) => panic!("write one `use crate::...` for each concept: {}", &rest[..40]),
        None => rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next(),
    });
    names.map(str::to_string).collect()
}

#[test]
fn imports_run_down_the_list_of_lib_rs_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let order: BTreeMap<&str, usize> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .enumerate()
        .map(|(place, concept)| (concept, place))
        .collect();
    let files = rust_files(&src);

    let mut against = Vec::new();
    for file in &files {
        let concept = concept(file, &src);
        if ["lib", "main"].contains(&concept.as_str()) {
            continue;
        }
        let place = order.get(concept.as_str()).unwrap_or_else(|| panic!("lib.rs lacks {concept}"));
        for name in named(&fs::read_to_string(file).unwrap()) {
            if order.get(name.as_str()).is_none_or(|other| other > place) {
                against.push(format!("{} names {name}", file.display()));
            }
        }
    }

    assert!(order.len() > 15 && files.len() > 100, "{} {}", order.len(), files.len());
    assert!(against.is_empty(), "against the order of lib.rs:\n{}", against.join("\n"));
}
