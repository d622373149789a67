//! What the documents say is compared with the code, so that it cannot go stale unnoticed; and
//! their links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use schoolbell::metrics;

use super::order::rust_files;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that a document names, by the file that each is said to be in: whatever begins with a folder of the tests.
fn named_tests(document: &str) -> Vec<(String, String)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let named = quoted(document).filter_map(|name| name.rsplit_once("::"));
    let named = named.filter(|(module, _)| {
        module.split("::").next().is_some_and(|folder| tests.join(folder).is_dir())
    });
    named
        .map(|(module, test)| {
            let path = module.replace("::", "/");
            let is_folder = tests.join(&path).is_dir();
            (format!("tests/it/{path}{}.rs", if is_folder { "/mod" } else { "" }), test.to_string())
        })
        .collect()
}

#[test]
fn every_test_that_the_pages_on_guarantees_and_security_name_exists() {
    for (document, at_least) in [("docs/guarantees.md", 120), ("docs/security.md", 20)] {
        let named = named_tests(&read(document));
        assert!(named.len() > at_least, "only {} tests are named in {document}", named.len());
        let all = quoted(&read(document)).filter(|name| name.contains("::")).count();
        assert_eq!(all, named.len(), "{document} names tests in folders that do not exist");
        for (file, test) in named {
            assert!(
                read(&file).contains(&format!("fn {test}(")),
                "{document} names {test}, which is not in {file}"
            );
        }
    }
}

#[test]
fn every_command_and_setting_is_in_the_book() {
    use clap::CommandFactory;
    let commands = read("docs/commands.md");
    let settings = read("docs/settings.md");
    let program = schoolbell::cli::Cli::command();

    for command in program.get_subcommands() {
        let name = format!("schoolbell {}", command.get_name());
        assert!(commands.contains(&name), "`{name}` is not in docs/commands.md");
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let flag = format!("--{flag}");
            assert!(commands.contains(&flag), "`{flag}` of {name} is not in docs/commands.md");
        }
    }
    for flag in program.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(settings.contains(&format!("--{flag}")), "--{flag} is not in docs/settings.md");
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
    // A metric that nobody reads need not be counted.
    let shown: BTreeSet<&str> = queries.iter().flat_map(|query| metrics_in(query)).collect();
    for metric in metrics::ALL {
        let shown = shown.iter().any(|name| name.starts_with(metric.name));
        assert!(shown, "{} is in no panel", metric.name);
    }
}

#[test]
fn each_alert_has_a_summary_and_a_section_that_its_runbook_leads_to() {
    let alerts = read("monitoring/prometheus/alerts.yml");
    let page = read("docs/metrics.md");
    let all = |name: &str| -> Vec<&str> {
        alerts.lines().filter_map(|line| line.trim().strip_prefix(name)).collect()
    };
    let names = all("- alert: ");

    assert_eq!((all("summary: ").len(), all("severity: ").len()), (names.len(), names.len()));
    let runbooks: Vec<String> =
        names.iter().map(|name| format!("docs/metrics.md#{}", name.to_ascii_lowercase())).collect();
    assert_eq!(all("runbook: "), runbooks);
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections.iter().collect::<BTreeSet<_>>(), names.iter().collect::<BTreeSet<_>>());
}

#[test]
fn the_table_of_metrics_in_the_book_is_the_one_in_the_code() {
    let page = read("docs/metrics.md");
    let (_, table) = page.split_once("\n## Metrics\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
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

/// Every page, by its path from the repository's root.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs")];
    let mut entries: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap()).collect();
    while let Some(folder) = folders.pop() {
        entries.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()));
        for path in entries.drain(..).map(|entry| entry.path()) {
            let inside = path.strip_prefix(root).unwrap();
            if path.is_dir() && inside.starts_with("docs") && inside != Path::new("docs") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(inside.to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

/// A page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the links and pictures of a page lead to, but for those into the web.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let text: String = prose.split('`').step_by(2).collect();
    let marked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let links = marked.chain(pictures).filter(|link| !link.contains("://"));
    links.map(str::to_string).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(page: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(page).lines().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim();
        // Of other letters than these the two make different anchors.
        assert!(heading.is_ascii(), "a link to this heading works in one of two places: {heading}");
        let kept = heading.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_ascii_alphanumeric().then_some(letter.to_ascii_lowercase()),
        });
        let anchor: String = kept.collect();
        let again = anchors.iter().filter(|other| **other == anchor).count();
        assert_eq!(again, 0, "two headings are called alike: {heading}");
        anchors.push(anchor);
    }
    anchors
}

/// The file that a link of a page leads to, from the repository's root.
fn target(page: &str, link: &str) -> String {
    let mut target = PathBuf::from(page);
    target.pop();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(target.pop(), "{page}: {link} leaves the repository"),
            Component::Normal(name) => target.push(name),
            _ => {}
        }
    }
    target.to_str().unwrap().to_string()
}

#[test]
fn each_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut looked_at = 0;
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            looked_at += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = if path.is_empty() { page.clone() } else { target(&page, path) };
            if !root.join(&to).is_file() {
                broken.push(format!("{page}: {link}: there is no such file"));
            } else if !anchor.is_empty() && !anchors(&read(&to)).iter().any(|it| it == anchor) {
                broken.push(format!("{page}: {link}: there is no such heading"));
            }
        }
    }
    assert!(looked_at > 150, "only {looked_at} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Words that a reader in a hurry, or with another first language, stumbles over.
const UNUSUAL: [&str; 11] = [
    "mend",
    "mends",
    "mended",
    "heal",
    "heals",
    "healed",
    "anew",
    "whoever",
    "anyhow",
    "goes on",
    "again and again",
];

fn assert_usual(place: &str, text: &str) {
    let words: Vec<_> = text
        .split(|letter: char| !letter.is_alphabetic())
        .filter(|word| !word.is_empty())
        .collect();
    let text = format!(" {} ", words.join(" ").to_lowercase());
    for word in UNUSUAL {
        assert!(!text.contains(&format!(" {word} ")), "{place} says {word}: see CONTRIBUTING.md");
    }
}

#[test]
fn the_pages_use_the_usual_word() {
    for page in pages() {
        // The program's own output is code.
        let text: String = prose(&read(&page)).split('`').step_by(2).collect();
        assert_usual(&page, &text);
    }
}

#[test]
fn the_comments_use_the_usual_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["src", "tests", "benches"].map(|folder| rust_files(&root.join(folder)));
    let mut lines = 0;
    for file in files.iter().flatten() {
        let text = std::fs::read_to_string(file).unwrap();
        let comments = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        let comments: Vec<_> = comments.map(|line| line.trim_start_matches(['/', '!'])).collect();
        lines += comments.len();
        assert_usual(&file.display().to_string(), &comments.join("\n"));
    }
    assert!(lines > 5_000, "only {lines} lines of comments were found");
}

/// The newest migration, and the checks of `doctor`, as console blocks of the documents have them.
#[test]
fn the_outputs_in_the_pages_are_of_this_release() {
    let migrations =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations"));
    let version = format!("schema version {}", migrations.unwrap().count());
    let checks = read("src/reports/doctor/mod.rs").matches(".add(\"").count();
    let checks = format!("{checks} checks: ");
    let mut found = [0, 0];
    for page in pages() {
        for line in read(&page).lines() {
            if line.contains("schema version ") {
                assert!(line.ends_with(&version), "{page}: {line}");
                found[0] += 1;
            }
            if line.contains(" checks: ") {
                assert!(line.starts_with(&checks), "{page}: {line}");
                found[1] += 1;
            }
        }
    }
    assert!(found[0] > 1 && found[1] > 2, "{found:?}");
}

#[test]
fn each_page_is_in_the_book_once() {
    const SUMMARY: &str = "docs/SUMMARY.md";
    let mut listed: Vec<String> =
        links(&read(SUMMARY)).iter().map(|link| target(SUMMARY, link)).collect();
    listed.sort();

    let mut wanted = pages();
    wanted.retain(|page| page != SUMMARY);
    assert_eq!(listed, wanted);
}

#[test]
fn the_readme_has_at_most_250_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 250, "it has {lines}: what is longer belongs into docs/");
}

#[test]
fn each_file_of_the_code_that_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = prose(&read("ARCHITECTURE.md"));
    let files = quoted(&page).filter(|name| {
        // Of each folder.
        *name != "mod.rs"
            && Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "rs" || extension == "sql")
    });
    let mut named = 0;
    for name in files {
        named += 1;
        let is_there =
            ["", "src", "tests/it"].iter().any(|folder| root.join(folder).join(name).exists());
        assert!(is_there, "ARCHITECTURE.md names {name}");
    }
    assert!(named > 20, "only {named} files are named");
}

#[test]
fn each_file_that_the_map_of_the_code_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read("docs/code-map.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut named = 0;
    for row in rows.filter(|row| !row.starts_with("| concept")) {
        let cells: Vec<&str> = row.split('|').collect();
        for (folder, cell) in [("src", cells[2]), ("tests/it", cells[3])] {
            for name in quoted(cell) {
                named += 1;
                assert!(root.join(folder).join(name).exists(), "{name} is not in {folder}: {row}");
            }
        }
    }
    assert!(named > 100, "only {named} files are named");
}
