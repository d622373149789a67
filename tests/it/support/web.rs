//! What a visitor of the pages needs: plain HTTP, and the pages of a service that runs inside the test.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schoolbell::config::Pace;
use schoolbell::http::Site;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{TestBell, eventually};

/// Fast enough that a test waits for nothing.
pub const LOOKS: Duration = Duration::from_millis(20);

/// What a server answered.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}\n{}", self.status, self.headers, self.body)
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a series, named with its labels; none where it is not exposed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.body.lines().find_map(value)
    }
}

/// Asks a server on this machine.
pub async fn ask(port: u16, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the answer has no head");
    };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_string())).collect();
    let length = headers.get("content-length").map(|length| length.parse::<usize>().unwrap());
    let length = if method == "HEAD" { 0 } else { length.unwrap_or(usize::MAX) };
    while bytes.len() < length && stream.read_buf(&mut bytes).await.unwrap() > 0 {}
    Answer { status, headers, body: String::from_utf8(bytes).unwrap() }
}

/// The pages of a service, and a reader of them.
pub struct Visitor {
    pub port: u16,
    /// None: those of another process.
    site: Option<(Site, watch::Sender<bool>)>,
}

impl Visitor {
    /// Of a program that says in its log where they are.
    pub fn of(log_line: &str) -> Self {
        let address = log_line.split("http://").nth(1).expect("the line names the page");
        let port = address.trim_end_matches('/').rsplit(':').next().unwrap();
        Self { port: port.parse().unwrap(), site: None }
    }

    pub async fn get(&self, path: &str) -> Answer {
        ask(self.port, "GET", path, "").await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The service is told to end.
    pub fn stopping(&self) {
        self.site.as_ref().expect("they are ours").1.send_replace(true);
    }

    pub async fn close(self) {
        self.site.expect("they are ours").0.close().await;
    }

    /// Waits until a page answers with this status.
    pub async fn becomes(&self, path: &str, status: u16) -> Answer {
        eventually(&format!("{path} answers {status}"), || async {
            let answer = self.get(path).await;
            if answer.status == status { Ok(answer) } else { Err(answer) }
        })
        .await
    }

    /// Waits until a series has this value.
    pub async fn measures(&self, series: &str, value: f64) {
        eventually(&format!("{series} is {value}"), || async {
            let found = self.get("/metrics").await.metric(series);
            if found == Some(value) { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Waits until the page shows this.
    pub async fn shows(&self, text: &str) -> String {
        eventually(&format!("the page shows {text:?}"), || async {
            let page = self.get("/").await.body;
            if page.contains(text) { Ok(page) } else { Err(page) }
        })
        .await
    }
}

impl TestBell {
    /// The pages of the services of this test.
    pub async fn visitor(&self) -> Visitor {
        let pace = Pace { look: LOOKS, look_watched: LOOKS, ..self.pace.clone() };
        self.visitor_who_is_shown(pace).await
    }

    pub async fn visitor_who_is_shown(&self, pace: Pace) -> Visitor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let (config, metrics) = (self.config(), self.metrics.clone());
        let (_, mapping) = watch::channel(std::sync::Arc::new(self.mapping.clone()));
        let site = Site::open(listener, &config, mapping, pace, metrics, stopping).unwrap();
        Visitor { port: site.address.port(), site: Some((site, stop)) }
    }
}
