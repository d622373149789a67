//! A name of a type has one meaning in the whole of `src`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::order::rust_files;

#[test]
fn no_two_types_have_one_name() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(&src) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
            let is_type = matches!(words.next(), Some("struct" | "enum" | "trait" | "type"));
            // What an implementation of a trait calls by the trait's name is indented.
            let Some(name) = words.next().filter(|_| is_type && !line.starts_with(' ')) else {
                continue;
            };
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            files.entry(name[..end].into()).or_default().push(file.display().to_string());
        }
    }
    assert!(files.len() > 300, "only {} types were found", files.len());
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "{files:#?}");
}
