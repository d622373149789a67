//! What CI and the image take from others is pinned to what it was when somebody looked at it.

use std::path::{Path, PathBuf};

/// Every workflow and every action of ours.
fn workflows() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github");
    let mut folders = vec![folder];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// Why what a line takes from elsewhere may be another thing tomorrow.
fn unpinned(line: &str) -> Option<&'static str> {
    let line = line.trim().trim_start_matches("- ");
    let used = line.strip_prefix("uses:")?.trim();
    // Of this repository, at the same commit.
    if used.starts_with("./") {
        return None;
    }
    let (action, version) = used.split_once(" # ").unwrap_or((used, ""));
    let pin = action.trim().rsplit_once('@').map_or("", |(_, pin)| pin);
    if pin.len() != 40 || !pin.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
        return Some("no commit of 40 hexadecimal digits");
    }
    let is_version = |text: &str| {
        text.strip_prefix('v').is_some_and(|v| v.split('.').all(|part| part.parse::<u32>().is_ok()))
    };
    (!is_version(version.trim())).then_some("no comment with the version")
}

#[test]
fn each_action_of_a_workflow_is_pinned_to_a_commit_with_its_version() {
    let workflows = workflows();
    assert!(workflows.iter().any(|(path, _)| path.ends_with("ci.yml")), "{workflows:?}");
    for (path, text) in &workflows {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            assert_eq!(unpinned(line), None, "{place}");
            // Any other way to write it would not be looked at.
            let is_use = line.contains("uses:") && !line.trim_start().starts_with('#');
            let usual = line.trim().trim_start_matches("- ").starts_with("uses: ");
            assert!(!is_use || usual, "{place}");
            assert!(!line.contains("docker://"), "{place}");
        }
    }
}

#[test]
fn a_pin_that_is_none_is_seen() {
    let commit = "11bd71901bbe5b1630ceea73d27597364c9af683";
    for pinned in [
        format!("- uses: actions/checkout@{commit} # v4.2.2"),
        "uses: ./.github/workflows/supply-chain.yml".into(),
        "run: echo uses".into(),
    ] {
        assert_eq!(unpinned(&pinned), None, "{pinned}");
    }
    for loose in [
        "- uses: actions/checkout@v4".to_string(),
        "- uses: actions/checkout".into(),
        "  uses: actions/checkout@main # v4.2.2".into(),
        format!("- uses: actions/checkout@{commit}"),
        format!("- uses: actions/checkout@{commit} # latest"),
        format!("- uses: actions/checkout@{} # v4.2.2", &commit[..39]),
        format!("- uses: actions/checkout@{} # v4.2.2", commit.replace('f', "g")),
    ] {
        assert!(unpinned(&loose).is_some(), "{loose}");
    }
}

#[test]
fn a_workflow_may_read_and_leaves_no_token_behind() {
    for (path, text) in workflows() {
        let path = path.display();
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{path}");
        assert!(!text.contains("write"), "{path}");
        assert!(!text.contains("pull_request_target"), "{path}");
        let checkouts = text.matches("uses: actions/checkout@").count();
        assert_eq!(text.matches("persist-credentials: false").count(), checkouts, "{path}");
    }
}

#[test]
fn each_image_that_ours_is_built_on_is_pinned_to_a_digest() {
    let dockerfile = include_str!("../../../Dockerfile");
    let images: Vec<&str> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images.len(), 2, "{images:?}");
    for image in images {
        let digest = image.split_once("@sha256:").map(|(_, rest)| rest.split(' ').next().unwrap());
        assert!(digest.is_some_and(|digest| digest.len() == 64), "{image}");
    }
}
