//! Only the person who started the demo can use its server.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use schoolbell::demo::cluster::{Cluster, Options};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_postgres::{Config, NoTls};

use crate::support::program::{Program, signal};

/// Long enough for the whole demo on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// The SQLSTATE with which the server refuses.
async fn refusal(config: &Config) -> String {
    match config.connect(NoTls).await {
        Ok(_) => "let in".into(),
        Err(error) => error.code().map_or_else(
            || schoolbell::postgres::failure::chain(&error),
            |code| code.code().to_string(),
        ),
    }
}

/// Nobody is let in without the password, by TCP or by the socket, under any name.
async fn assert_locked(cluster_url: &str, folder: &Path, roles: &[&str]) {
    let url: Config = cluster_url.parse().unwrap();
    let password = url.get_password().expect("it has a password").to_vec();
    assert!(password.len() >= 32);
    let mut plain = Config::new();
    plain.port(url.get_ports()[0]).dbname("postgres");
    let mut by_tcp = plain.clone();
    by_tcp.host("127.0.0.1");
    let mut by_socket = plain;
    by_socket.host_path(folder);
    for way in [by_tcp, by_socket] {
        for role in roles {
            let mut without = way.clone();
            without.user(*role);
            assert_eq!(
                refusal(&without).await,
                "invalid configuration: password missing",
                "{role}"
            );
            let mut wrong = without.clone();
            wrong.password("wrong");
            assert_eq!(refusal(&wrong).await, "28P01", "{role}");
            let mut empty = without.clone();
            empty.password("");
            assert_eq!(refusal(&empty).await, "28P01", "{role}");
        }
        let mut right = way.clone();
        right.user("postgres").password(&password);
        assert_eq!(refusal(&right).await, "let in");
    }
}

/// Only the owner gets into it, and the password is in no file.
fn assert_private(folder: &Path, password: &str) {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    assert_eq!(mode(&folder.join("data")), 0o700);
    assert_eq!(mode(&folder.join("data/pg_hba.conf")), 0o600);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::metadata(&path).unwrap().file_type();
        if kind.is_socket() {
            assert_eq!(mode(&path), 0o700, "{path:?}");
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(password), "{path:?}");
        }
    }
    let rules = std::fs::read_to_string(folder.join("data/pg_hba.conf")).unwrap();
    let rules = rules.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    for rule in rules {
        assert!(rule.ends_with("scram-sha-256"), "{rule}");
    }
}

/// Command lines of all processes, which every user of the machine can read.
fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

#[tokio::test]
async fn a_throw_away_server_has_a_password_unless_it_is_to_be_open() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let password = cluster.password().expect("it has one").to_string();
    let client = cluster.connect("postgres").await.unwrap();
    client
        .batch_execute("create role other login; create role super superuser login")
        .await
        .unwrap();

    assert_locked(
        &cluster.url("postgres"),
        cluster.folder(),
        &["postgres", "other", "super", "nobody"],
    )
    .await;
    assert_private(cluster.folder(), &password);
    assert!(!format!("{cluster:?}").contains(&password));
    assert!(!cluster.url_without_password("postgres").contains(&password));
    let other = Cluster::start(Options::default()).await.unwrap();
    assert_ne!(other.password(), Some(&*password));
}

#[tokio::test]
async fn the_demo_that_stays_lets_nobody_in_without_the_password_that_it_shows() {
    let mut demo = Program::new(&["demo", "--stay", "--schools", "100"])
        .env("PATH", &std::env::var("PATH").unwrap_or_default())
        .env(
            "SCHOOLBELL_POSTGRES_BIN",
            &std::env::var("SCHOOLBELL_POSTGRES_BIN").unwrap_or_default(),
        )
        .spawn();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut printed = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            printed.push_str(&format!("{line}\n"));
            if line.contains("Ctrl-C ends it") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the demo ends");
    let after = |mark: &str| {
        let rest = printed.split_once(mark).unwrap_or_else(|| panic!("no {mark:?}: {printed}")).1;
        rest.split_whitespace().next().unwrap().to_string()
    };
    let (url, log) = (after("DATABASE_URL="), after("tail -f "));
    let url = url.replacen("/app", "/postgres", 1);
    let password = after("PGPASSWORD=");
    let folder = Path::new(&log).parent().unwrap();

    assert_locked(&url, folder, &["postgres", "nobody"]).await;
    assert_private(folder, &password);
    assert!(!command_lines().contains(&password));
    assert!(after("a browser:").starts_with("http://127.0.0.1:"), "{printed}");
    // The commands that the demo suggests do not show the password to others either.
    let typed = printed.lines().find(|line| line.contains("psql ")).unwrap();
    assert!(!typed.split_once("psql ").unwrap().1.contains(&password), "{typed}");

    signal(&demo, "INT");
    let ended = demo.wait().await.unwrap();
    assert!(ended.success(), "{ended}");
    assert!(!folder.exists());
}
