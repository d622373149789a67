//! What the documents say is held against the code, so that it cannot go stale unnoticed.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let readme = read("README.md");
    let named: Vec<(&str, &str)> = quoted(&readme)
        .filter_map(|name| name.split_once("::"))
        .filter(|(module, _)| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{module}.rs")).exists()
        })
        .collect();

    assert!(named.len() > 30, "only {} tests are named", named.len());
    for (module, test) in named {
        let source = read(&format!("tests/it/{module}.rs"));
        assert!(source.contains(&format!("fn {test}(")), "{module}::{test} is named but not there");
    }
}

#[test]
fn every_setting_and_command_is_in_the_readme() {
    use clap::CommandFactory;
    let readme = read("README.md");
    let program = schoolbell::cli::Cli::command();

    for command in program.get_subcommands() {
        let name = format!("schoolbell {}", command.get_name());
        assert!(readme.contains(&name), "`{name}` is not in the README");
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let flag = format!("--{flag}");
            assert!(readme.contains(&flag), "`{flag}` of {name} is not in the README");
        }
    }
    for flag in program.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(readme.contains(&format!("--{flag}")), "--{flag} is not in the README");
    }
}
