//! What the documents say is held against the code, so that it cannot go stale unnoticed.

use std::collections::BTreeSet;
use std::path::Path;

use schoolbell::metrics;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that a document names, by the file that each is said to be in.
fn named_tests(document: &str) -> Vec<(String, String)> {
    let named = quoted(document).filter_map(|name| name.rsplit_once("::"));
    let files = named.map(|(module, test)| {
        (format!("tests/it/{}.rs", module.replace("::", "/")), test.to_string())
    });
    files.filter(|(file, _)| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists()).collect()
}

#[test]
fn every_test_that_the_readme_or_the_page_on_security_names_exists() {
    for (document, at_least) in [("README.md", 30), ("docs/security.md", 20)] {
        let named = named_tests(&read(document));
        assert!(named.len() > at_least, "only {} tests are named in {document}", named.len());
        for (file, test) in named {
            assert!(
                read(&file).contains(&format!("fn {test}(")),
                "{document} names {test}, which is not in {file}"
            );
        }
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

/// The words of a text that name a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|other: char| !letter(other));
    words.filter(|word| word.starts_with("schoolbell_")).collect()
}

#[test]
fn every_metric_in_the_dashboard_and_the_alerts_exists() {
    let exists = |name: &str| {
        metrics::ALL.iter().any(|metric| {
            let histogram = metric.kind.as_str() == "histogram";
            let endings = ["_bucket", "_sum", "_count"];
            let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
            metric.name == if histogram { stem.unwrap_or_default() } else { name }
        })
    };
    let dashboard = read("monitoring/grafana/schoolbell.json");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let alerts = read("monitoring/prometheus/alerts.yml");
    let queries = dashboard["panels"].as_array().unwrap().iter();
    let queries = queries.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = queries.map(|target| target["expr"].as_str().unwrap()).collect();
    let conditions: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(queries.len() > 20 && conditions.len() > 9, "{} {}", queries.len(), conditions.len());

    for text in queries.iter().chain(&conditions) {
        let named = metrics_in(text);
        assert!(!named.is_empty(), "{text} asks for nothing of ours");
        for name in named {
            assert!(exists(name), "{name} does not exist: {text}");
        }
    }
    // What nobody looks at need not be counted.
    let shown: BTreeSet<&str> = queries.iter().flat_map(|query| metrics_in(query)).collect();
    for metric in metrics::ALL {
        let shown = shown.iter().any(|name| name.starts_with(metric.name));
        assert!(shown, "{} is in no panel", metric.name);
    }
}

#[test]
fn each_alert_has_a_summary_and_a_row_in_the_readme_that_says_what_to_do() {
    let alerts = read("monitoring/prometheus/alerts.yml");
    let readme = read("README.md");
    let of = |name: &str| alerts.lines().filter(|line| line.trim().starts_with(name)).count();
    let names: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();

    assert_eq!(
        (of("summary: "), of("runbook: "), of("severity: ")),
        (names.len(), names.len(), names.len())
    );
    assert!(readme.contains("### When an alert fires"));
    let told: BTreeSet<&str> = quoted(&readme)
        .filter(|word| word.starts_with("Schoolbell") && !word.contains(' '))
        .collect();
    assert_eq!(told, names);
}

#[test]
fn the_table_of_metrics_in_the_readme_is_the_one_in_the_code() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("### Metrics\n").unwrap();
    let (table, _) = table.split_once("\n### ").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `schoolbell_")).collect();

    let wanted: Vec<String> = metrics::ALL
        .iter()
        .map(|metric| {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = metric.kind.as_str();
            format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
        })
        .collect();
    assert_eq!(rows, wanted, "expected:\n{}", wanted.join("\n"));
}
