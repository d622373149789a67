//! Where output goes, and the words of the command line.

use clap::CommandFactory;
use schoolbell::cli::Cli;

use crate::support::TestBell;
use crate::support::program::Program;

use super::{ends, json, program, text};

#[tokio::test]
async fn results_go_to_stdout_and_logs_to_stderr_as_text_or_as_json_lines() {
    let bell = TestBell::installed().await;

    let plain = program(&bell, &["run", "--drain"]).run().await;
    let flag = program(&bell, &["run", "--drain", "--log-format", "json"]).run().await;
    let variable =
        program(&bell, &["run", "--drain"]).env("SCHOOLBELL_LOG_FORMAT", "json").run().await;
    let quiet = program(&bell, &["run", "--drain"]).env("RUST_LOG", "off").run().await;
    bell.insert_school("Acme").await;
    let chatty = program(&bell, &["resync", "--json"]).env("RUST_LOG", "trace").run().await;

    assert_eq!((plain.code, plain.stdout.as_str()), (0, ""), "{plain}");
    assert!(plain.stderr.contains(" INFO working as the writer"), "{plain}");
    assert!(!plain.stderr.contains('\u{1b}'), "no colours where there is no terminal: {plain}");
    for ended in [flag, variable] {
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended}");
        assert!(ended.stderr.lines().count() >= 2, "{ended}");
        for line in ended.stderr.lines() {
            let line = json(line);
            assert!(
                line["timestamp"].is_string() && line["fields"]["message"].is_string(),
                "{line}"
            );
        }
    }
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (0, "", ""), "{quiet}");
    assert!(chatty.stderr.contains("TRACE") || chatty.stderr.contains("DEBUG"), "{chatty}");
    json(&chatty.stdout);
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    let bell = TestBell::installed().await;
    for command in [
        &["mapping"][..],
        &["completions", "zsh"],
        &["status"],
        &["migrate", "--dry-run", "--notify", "never"],
    ] {
        let mut child = program(&bell, command).spawn();
        // The reader is gone from the very start.
        drop(child.stdout.take());
        let ended = ends(child).await;
        assert_eq!(ended.status.code(), Some(0), "{command:?}: {}", text(&ended.stderr));
        assert!(!text(&ended.stderr).contains("panicked"), "{}", text(&ended.stderr));
    }
    if std::path::Path::new("/dev/full").exists() {
        let full = std::process::Command::new("sh")
            .args(["-c", &format!("{} mapping > /dev/full", crate::support::program::path())])
            .output()
            .unwrap();
        assert_eq!(full.status.code(), Some(2));
        assert!(
            text(&full.stderr).starts_with("schoolbell: cannot write the result"),
            "{}",
            text(&full.stderr)
        );
    }
}

// Help ----------------------------------------------------------------------------------------------

/// The words that lead to each command, found out from the program itself so that none is forgotten.
fn all_commands(of: &clap::Command, path: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for command in of.get_subcommands().filter(|command| command.get_name() != "help") {
        let path = [path, &[command.get_name().to_string()]].concat();
        found.extend(all_commands(command, &path));
        found.push(path);
    }
    found
}

#[tokio::test]
async fn the_help_of_every_command_says_what_it_does_with_an_example_that_can_be_typed() {
    let commands = all_commands(&Cli::command(), &[]);
    assert!(commands.len() >= 10, "{commands:?}");

    for path in commands {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let ended = Program::new(&words).run().await;

        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        let example = ended.stdout.lines().find_map(|line| line.strip_prefix("Example: "));
        let example = example.unwrap_or_else(|| panic!("no example: {ended}"));
        let words = example.split_once("schoolbell ").unwrap().1.split_whitespace();
        let words = words.take_while(|word| *word != ">");
        let parsed =
            Cli::command().try_get_matches_from(std::iter::once("schoolbell").chain(words));
        assert!(parsed.is_ok(), "{example}: {parsed:?}");
    }
    let ended = Program::new(&["--help"]).run().await;
    for part in
        ["Exit codes: 0 done; 1 done, something needs attention; 2 could not do it", "DATABASE_URL"]
    {
        assert!(ended.stdout.contains(part), "{part}: {ended}");
    }
}

#[tokio::test]
async fn completions_are_printed_for_each_shell() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef schoolbell"),
        ("fish", "complete -c schoolbell"),
    ] {
        let ended = Program::new(&["completions", shell]).run().await;

        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        assert!(ended.stdout.contains(sign) && ended.stdout.contains("uninstall"), "{ended}");
    }
}
