//! A healthy system, and the report as a whole.

use std::collections::BTreeSet;

use crate::support::TestBell;

use super::{Examined, Healthy};

#[tokio::test]
async fn a_system_as_the_readme_has_it_is_well_in_every_check() {
    let healthy = Healthy::start().await;

    let examined = healthy.doctor().await;
    let printed = healthy.roles.run(&healthy.bell, &["doctor"]).await;

    examined.assert_not_ok(&[]);
    assert!(examined.found("canary").contains(" ms"), "{}", examined.ended);
    assert!(examined.found("source_connection").contains(&healthy.roles.bell), "{printed}");
    assert!(examined.found("target_connection").contains(&healthy.roles.bridge), "{printed}");
    let process = format!("/{} writes since 20", std::process::id());
    assert!(examined.found("writer").contains(&process), "{printed}");
    assert_eq!(printed.code, 0, "{printed}");
    let checks = examined.checks().len();
    let last = format!("{checks} checks: {checks} ok, 0 with advice, 0 failed, 0 could not run");
    assert_eq!(printed.stdout.lines().count(), checks + 1, "{printed}");
    assert_eq!(printed.stdout.lines().last(), Some(last.as_str()), "{printed}");
}

#[tokio::test]
async fn the_json_has_each_check_of_the_readme_once() {
    let page = include_str!("../../../../docs/doctor.md");
    let (_, section) = page.split_once("\n## The checks\n").expect("the section is there");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<&str> = rows.flat_map(|(names, _)| names.split("`, `")).collect();
    let bell = TestBell::bare().await;

    let examined = Examined::of(bell.run(&["doctor", "--json"]).await);

    let names: Vec<&str> =
        examined.checks().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), documented);
    assert_eq!(names.len(), documented.len(), "one is there twice: {names:?}");
    for check in examined.checks() {
        let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["details", "found", "name", "remedies", "result", "title"]);
        let result = check["result"].as_str().unwrap();
        assert!(["ok", "advice", "failed", "cannot_run"].contains(&result), "{check}");
        // What fails says what fixes it.
        if result == "failed" || result == "advice" {
            assert!(!check["remedies"].as_array().unwrap().is_empty(), "{check}");
        }
    }
    for result in ["ok", "advice", "failed", "cannot_run"] {
        let counted = examined.checks().iter().filter(|check| check["result"] == result).count();
        assert_eq!(examined.report[result], counted, "{}", examined.ended);
    }
}

#[tokio::test]
async fn it_writes_nothing() {
    let healthy = Healthy::start().await;
    for (in_target, role) in [(false, &healthy.roles.bell), (true, &healthy.roles.bridge)] {
        let sql = format!("alter role {role} set default_transaction_read_only = on");
        match in_target {
            true => healthy.bell.target_sql(&sql).await,
            false => healthy.bell.source_sql(&sql).await,
        }
    }

    healthy.doctor().await.assert_not_ok(&[]);
}
