//! Every request is answered, however many others are connected that do not ask, do not read, or
//! speak something else; and each of those is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::support::program::Program;
use crate::support::web::{Visitor, ask};
use crate::support::{TestBell, eventually};

/// The time that a health check has. Waiting for a place behind 200 connections that last 20 s
/// each, of which 64 are served at a time, would take longer.
const ANSWER: Duration = Duration::from_secs(30);
/// A connection that is never ended is given up then.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a slow client sends now and then.
const DRIP: Duration = Duration::from_secs(1);
/// A client that has sent this many drips was not cut off in time: the head has 2 s, and a busy
/// machine delays both sides.
const MOST_DRIPS: usize = 12;
/// More than the server has places.
const CROWD: usize = 200;

/// A kind of client that takes up a place.
struct Kind {
    name: &'static str,
    /// Sent at once.
    first: Vec<u8>,
    /// Sent each second after that.
    drip: &'static [u8],
    /// The status of the answer that it gets, if it gets one; never a second answer.
    answered: Option<u16>,
}

fn kinds() -> Vec<Kind> {
    let kind =
        |name, first: &[u8], drip, answered| Kind { name, first: first.into(), drip, answered };
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let get = |path: &str, more: &str| head(&format!("GET {path}"), more).into_bytes();
    let large_head =
        [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let many_lines = get("/", &"x: y\r\n".repeat(1_000));
    let long_path = get(&format!("/{}", "x".repeat(1 << 20)), "");
    let posted = |more: &str| head("POST /", more).into_bytes();
    let whole_body = [posted("Content-Length: 1048576\r\n"), vec![b'x'; 1 << 20]].concat();
    vec![
        kind("says nothing", b"", b"", None),
        kind("a request line, a byte a second", b"G", b"E", None),
        kind("a head, a byte a second", b"GET / HTTP/1.1\r\nX: ", b"x", None),
        kind(
            "a head, a line a second",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n",
            b"X: y\r\n",
            None,
        ),
        kind("empty lines, one a second", b"\r\n", b"\r\n", None),
        kind("a head that stops", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"", None),
        kind(
            "keeps the connection",
            &get("/healthz", "Connection: keep-alive\r\n"),
            b"",
            Some(200),
        ),
        kind(
            "keeps it as in 1.0",
            b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"",
            Some(200),
        ),
        kind("asks for more, a byte a second", &get("/healthz", ""), b"G", Some(200)),
        kind("asks without waiting", &get("/healthz", "").repeat(100), b"", Some(200)),
        kind("a head of a megabyte", &large_head, b"x", Some(431)),
        kind("a thousand lines", &many_lines, b"", Some(431)),
        kind("a path of a megabyte", &long_path, b"", Some(431)),
        kind("a body, a byte a second", &posted("Content-Length: 1000\r\n"), b"x", Some(405)),
        kind("a body that does not come", &posted("Content-Length: 1000\r\n"), b"", Some(405)),
        kind(
            "a body that waits to be wanted",
            &posted("Content-Length: 9\r\nExpect: 100-continue\r\n"),
            b"",
            Some(405),
        ),
        kind(
            "a body in pieces without end",
            &posted("Transfer-Encoding: chunked\r\n"),
            b"1\r\nx\r\n",
            Some(405),
        ),
        kind("a large body", &whole_body, b"", Some(405)),
        kind(
            "a wish for another protocol",
            &get("/healthz", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            b"",
            Some(200),
        ),
        kind("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"", None),
        kind("TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", b"\0", Some(400)),
        kind("garbage", &[0, 255, 13, 7, 10, 200, 1, 13, 10, 13, 10], b"\xff", Some(400)),
        kind(
            "a tunnel",
            b"CONNECT db.example:5432 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"",
            Some(421),
        ),
    ]
}

/// What became of a connection.
#[derive(Debug)]
struct Ended {
    drips: usize,
    answer: Vec<u8>,
}

/// Connects, and keeps the connection for as long as the server lets it.
async fn hangs_on(port: u16, kind: &Kind, connected: &AtomicUsize) -> Ended {
    let mut ended = Ended { drips: 0, answer: Vec::new() };
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return ended };
    connected.fetch_add(1, Ordering::Relaxed);
    let (mut reader, mut writer) = stream.into_split();
    let first = kind.first.clone();
    // A large one is not taken while the server does not read.
    let writing = async {
        _ = writer.write_all(&first).await;
        let mut seconds = interval(DRIP);
        loop {
            seconds.tick().await;
            if !kind.drip.is_empty() && writer.write_all(kind.drip).await.is_ok() {
                ended.drips += 1;
            }
        }
    };
    // Some have been answered and do not go: their ends must not be closed by us.
    let reading = async { while matches!(reader.read_buf(&mut ended.answer).await, Ok(1..)) {} };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    ended
}

/// Checks whether the service is alive, as a scheduler does: with a limit, and again when the
/// connection broke.
async fn is_alive(port: u16) {
    let asked = async {
        loop {
            // On a task of its own: a connection that breaks is a panic of the plain visitor.
            let answer =
                tokio::spawn(async move { ask(port, "GET", "/healthz", "").await.status }).await;
            if answer.is_ok_and(|status| status == 200) {
                return;
            }
        }
    };
    timeout(ANSWER, asked).await.expect("/healthz answers in time");
}

async fn crowd_of(kind: &Arc<Kind>, port: u16, size: usize) -> JoinSet<Ended> {
    let connected = Arc::new(AtomicUsize::new(0));
    let mut crowd = JoinSet::new();
    for _ in 0..size {
        let (kind, connected) = (kind.clone(), connected.clone());
        crowd.spawn(async move { hangs_on(port, &kind, &connected).await });
    }
    eventually("all of them are connected", || async {
        let connected = connected.load(Ordering::Relaxed);
        if connected == size { Ok(()) } else { Err(connected) }
    })
    .await;
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_answered_beside_a_crowd_of_each_kind_and_each_of_them_is_cut_off() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;
    for kind in kinds() {
        let (name, kind) = (kind.name, Arc::new(kind));
        let crowd = crowd_of(&kind, visitor.port, CROWD).await;

        for _ in 0..5 {
            is_alive(visitor.port).await;
        }

        let ended = timeout(DEADLINE, crowd.join_all()).await;
        for ended in ended.unwrap_or_else(|_| panic!("{name}: somebody is never cut off")) {
            assert!(ended.drips <= MOST_DRIPS, "{name}: {ended:?}");
            let text = String::from_utf8_lossy(&ended.answer);
            let answers = text.matches("HTTP/1.").count();
            assert!(answers <= usize::from(kind.answered.is_some()), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn each_kind_of_client_gets_the_answer_that_it_can_understand_and_only_one() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;

    for kind in kinds() {
        let connected = AtomicUsize::new(0);
        let hung = hangs_on(visitor.port, &kind, &connected);
        let ended = timeout(DEADLINE, hung).await.expect(kind.name);

        let text = String::from_utf8_lossy(&ended.answer);
        let status = text.strip_prefix("HTTP/1.1 ").or(text.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        assert_eq!(status, kind.answered, "{}: {text}", kind.name);
        assert!(text.matches("HTTP/1.").count() <= 1, "{}: {text}", kind.name);
    }
}

/// The files that this process may have open; none where the system does not say so.
fn files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_come_back_at_once_do_not_keep_anybody_from_being_answered() {
    let bell = TestBell::installed().await;
    // A process of its own, as in life: it has its own files, and its own share of the machine.
    let service = Program::new(&["run", "--http", "127.0.0.1:0"])
        .env("DATABASE_URL", &bell.source_url())
        .env("SALESFORCE_CONNECT_URL", &bell.target_url())
        .env("SALESFORCE_ENABLED", "true");
    let mut child = service.spawn();
    let visitor = crate::http::pages::pages(&mut child).await;
    // The other tests of this process need some files, too.
    let size = files().map_or(CROWD, |files| files.saturating_sub(600).clamp(CROWD, 1_000));
    let kind = Arc::new(kinds().remove(2));
    let (port, connected) = (visitor.port, Arc::new(AtomicUsize::new(0)));
    let mut attackers = JoinSet::new();
    for _ in 0..size {
        let (kind, connected) = (kind.clone(), connected.clone());
        attackers.spawn(async move {
            loop {
                hangs_on(port, &kind, &connected).await;
            }
        });
    }
    let came = async |times: usize| {
        eventually("they came back", || async {
            let connected = connected.load(Ordering::Relaxed);
            if connected >= times { Ok(connected) } else { Err(connected) }
        })
        .await
    };

    let mut seen = came(size).await;
    for _ in 0..10 {
        is_alive(port).await;
        // Each look is at another attack.
        seen = came(seen + 1).await;
    }

    attackers.shutdown().await;
    visitor.becomes("/readyz", 200).await;
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_in_a_sentence() {
    let bell = TestBell::installed().await;
    let visitor = bell.visitor().await;
    let port = visitor.port;
    let ask = async |line: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("{line}\r\n{hosts}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let with_port = |host: &str| format!("{host}:{port}");

    let ours = ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "192.168.1.2"];
    for host in ours.into_iter().flat_map(|host| [host.to_string(), with_port(host)]) {
        let answer = ask("GET /healthz HTTP/1.1", &[&host]).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    for (line, hosts) in [
        ("GET /healthz HTTP/1.0", vec![]),
        ("GET http://localhost/healthz HTTP/1.1", vec!["localhost"]),
    ] {
        assert!(ask(line, &hosts).await.contains(" 200 "), "{line}");
    }
    let rebound = with_port("evil.example");
    for path in ["/", "/?moment", "/healthz", "/readyz", "/metrics", "/api/status", "/nowhere"] {
        for (line, hosts) in [
            (format!("GET {path} HTTP/1.1"), vec![rebound.as_str()]),
            (format!("HEAD {path} HTTP/1.1"), vec!["localhost.evil.example"]),
            (format!("POST {path} HTTP/1.1"), vec!["evil.example"]),
            (format!("GET {path} HTTP/1.1"), vec!["localhost", "evil.example"]),
            (format!("GET {path} HTTP/1.1"), vec!["evil.example", "localhost"]),
            (format!("GET {path} HTTP/1.1"), vec![""]),
            (format!("GET http://evil.example{path} HTTP/1.1"), vec!["localhost"]),
            (format!("GET {path} HTTP/1.1"), vec!["evil@localhost"]),
        ] {
            let answer = ask(&line, &hosts).await;
            assert!(answer.starts_with("HTTP/1.1 421 "), "{line} {hosts:?}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.to_lowercase().contains("content-security-policy"), "{answer}");
            assert!(
                body.is_empty() || body.contains("localhost") && body.lines().count() == 1,
                "{answer}"
            );
        }
    }
}

/// The name in `--http` is one of ours; and on an address of the network no name can be told to be foreign.
#[tokio::test]
async fn the_name_that_was_given_is_ours_and_beyond_the_loopback_all_are() {
    let bell = TestBell::installed().await;
    let statuses = async |http: &str, hosts: [&str; 2]| {
        let service = Program::new(&["run", "--http", http])
            .env("DATABASE_URL", &bell.source_url())
            .env("SALESFORCE_CONNECT_URL", &bell.target_url())
            .env("SALESFORCE_ENABLED", "false");
        let mut child = service.spawn();
        let Visitor { port, .. } = crate::http::pages::pages(&mut child).await;
        let asked = hosts.map(|host| async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let head = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer[9..12].to_string()
        });
        join_all(asked).await
    };

    assert_eq!(statuses("127.0.0.1:0", ["localhost", "bell.example"]).await, ["200", "421"]);
    // No address as it is written here, so a name like any other, which every resolver knows.
    assert_eq!(statuses("127.0.0.1:0", ["localhost", "127.1"]).await, ["200", "421"]);
    assert_eq!(statuses("127.1:0", ["127.1", "bell.example"]).await, ["200", "421"]);
    assert_eq!(statuses("0.0.0.0:0", ["localhost", "bell.example"]).await, ["200", "200"]);
}
