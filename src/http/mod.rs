//! Pages that read and never write: the status page, the metrics, and whether it is alive and ready.
//!
//! Promise: no request reaches a database. All of them are answered from the last look ([`crate::reports::look`]) and from what
//! was counted ([`crate::metrics`]). Keys, counts, times and reasons only; no row contents, no URL, no password.
//!
//! Everybody who reaches the address may read them. So on a loopback address a request must also
//! name a host of this machine (`http/host.rs`): else any web page could read them through the
//! browser of somebody who works here. On another address the name that people use is not known (a
//! router's, a proxy's), so none is refused. A setting for more names is missing on purpose: the
//! name in `--http` counts, and a proxy on the same machine can send `Host: localhost`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Config, Pace};
use crate::mapping::Mapping;
use crate::metrics::{Metrics, Standing};
use crate::postgres::url::UnusableSetting;
use crate::reports::look::{Seen, View, Watcher, Window};
use crate::service::reporting::kept_up;
use crate::visible;

mod chart;
mod connection;
mod exposition;
mod figure;
mod host;
mod page;
mod readiness;

/// Where the pages are unless somebody says otherwise: this machine only.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9417";
/// A response is sent within milliseconds; a client that reads more slowly does not hold up the
/// end.
const LAST_RESPONSES: Duration = Duration::from_secs(1);

/// Where the pages are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Nowhere.
    Off,
    /// At the default address, if it is free.
    Default,
    /// There, or it is an error.
    Given(String),
}

impl Address {
    /// From the setting; empty is the default.
    pub fn parse(setting: Option<&str>) -> Self {
        match setting.map(str::trim) {
            None | Some("") => Self::Default,
            Some("off") => Self::Off,
            Some(address) => Self::Given(address.into()),
        }
    }

    /// Begins to listen. Another service may have the default address, which is no reason not to work.
    pub async fn listen(&self) -> Result<Option<Listening>, UnusableSetting> {
        let address = match self {
            Self::Off => return Ok(None),
            Self::Default => DEFAULT_ADDRESS,
            Self::Given(address) => address,
        };
        match (TcpListener::bind(address).await, self) {
            (Ok(listener), _) => Ok(Some(Listening { listener, name: host::given(address) })),
            (Err(error), Self::Given(_)) => Err(UnusableSetting(format!(
                "cannot listen on {address:?} (--http or SCHOOLBELL_HTTP): {error}; give a free HOST:PORT, or `off`"
            ))),
            (Err(error), _) => {
                tracing::warn!(
                    reason = %error,
                    "no status page and no metrics: cannot listen on {address}; give another address with --http, or `off`"
                );
                Ok(None)
            }
        }
    }
}

/// Where the pages will be.
pub struct Listening {
    listener: TcpListener,
    /// The name that the setting gave the address, where it gave one.
    name: Option<Arc<str>>,
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Self {
        Self { listener, name: None }
    }
}

/// The pages, as long as they are served.
pub struct Site {
    /// Where.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Ends with the site.
    _watcher: JoinSet<()>,
}

/// What the pages are made from.
#[derive(Clone)]
struct PageSource {
    window: Window,
    metrics: Arc<Metrics>,
    mapping: watch::Receiver<Arc<Mapping>>,
    stopping: watch::Receiver<bool>,
}

/// What the pages show at a moment.
struct Shown {
    now: Timestamp,
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
    standing: Standing,
    mapping: Arc<Mapping>,
    stopping: bool,
}

impl Shown {
    fn view(&self) -> View<'_> {
        self.seen.at(self.now)
    }

    /// The captured tables by name, without the schema that most of them are in.
    fn tables(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for object in &self.mapping.objects {
            let name = object.source.plain();
            let name = name.strip_prefix("public.").unwrap_or(&name).to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    fn objects(&self) -> Vec<String> {
        self.mapping.objects.iter().map(|object| object.name.clone()).collect()
    }
}

impl PageSource {
    fn shown(&self) -> Shown {
        Shown {
            now: Timestamp::now(),
            seen: self.window.seen(),
            metrics: self.metrics.clone(),
            standing: self.metrics.standing(),
            mapping: self.mapping.borrow().clone(),
            stopping: *self.stopping.borrow(),
        }
    }
}

impl Site {
    /// Serves the pages until they are closed. `stopping` turns true when the service is told to end.
    pub fn open(
        listening: impl Into<Listening>,
        config: &Config,
        mapping: watch::Receiver<Arc<Mapping>>,
        pace: Pace,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, UnusableSetting> {
        let unusable = |error| UnusableSetting(format!("cannot serve the status page: {error}"));
        let Listening { listener, name } = listening.into();
        let address = listener.local_addr().map_err(unusable)?;
        let (watcher, window) = Watcher::new(config, mapping.clone(), pace, metrics.clone())?;
        let mut watching = JoinSet::new();
        let watcher = Arc::new(Mutex::new(watcher));
        watching.spawn(async move {
            let watch = || {
                let watcher = watcher.clone();
                async move { watcher.lock().await.watch().await }
            };
            kept_up("the page's look at the databases", watch).await;
        });
        let source = PageSource { window, metrics, mapping, stopping };
        let (stop, mut stopped) = watch::channel(false);
        let mut router = router(source);
        if address.ip().to_canonical().is_loopback() {
            router = router.layer(middleware::from_fn_with_state(name, host::checked));
        }
        let router = router.layer(middleware::map_response(guarded));
        let server = tokio::spawn(connection::serve(listener, router, async move {
            // Fails only when the site is gone.
            _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Self { address, stop, server, _watcher: watching })
    }

    /// Takes no more requests, and finishes the responses that are being sent.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(LAST_RESPONSES, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Each route answers GET and HEAD; any other method is refused.
fn router(source: PageSource) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(async |State(source): State<PageSource>| ready(&source.shown())))
        .route(
            "/metrics",
            get(async |State(source): State<PageSource>| exposition::respond(&source.shown())),
        )
        .route("/api/status", get(async |State(source): State<PageSource>| status(&source.shown())))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "not found: see /, /metrics, /healthz, /readyz, /api/status\n")
        })
        .with_state(source)
}

/// What every response says to browsers, unless it says so itself: load nothing, guess nothing, keep nothing.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let sayings: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        // Few connections are served at a time, so none is kept without a request.
        (header::CONNECTION, "close"),
    ];
    for (name, saying) in sayings {
        headers.entry(name).or_insert(HeaderValue::from_static(saying));
    }
    response
}

/// The page, or with `?moment` what its script asks for.
async fn page(State(source): State<PageSource>, RawQuery(query): RawQuery) -> Response {
    match query.as_deref() {
        Some("moment") => page::moment(&source.shown()),
        _ => page::whole(&source.shown()),
    }
}

fn ready(shown: &Shown) -> Response {
    let hindrances = readiness::hindrances(shown.view(), shown.stopping);
    match hindrances.is_empty() {
        true => "ready\n".into_response(),
        false => {
            let lines: Vec<String> =
                hindrances.iter().map(|hindrance| format!("not ready: {hindrance}\n")).collect();
            (StatusCode::SERVICE_UNAVAILABLE, visible::lines(&lines.concat()).into_owned())
                .into_response()
        }
    }
}

/// Why there is no report.
#[derive(Serialize)]
struct Nothing<'a> {
    error: &'a str,
    /// When there was one.
    last_seen_at: Option<Timestamp>,
}

/// The report of `status`, and in the header `Age` for how many seconds it is true; never an old one as if it were new.
fn status(shown: &Shown) -> Response {
    match shown.view() {
        View::Fresh(look) => {
            let age = shown.now.duration_since(look.at).as_secs().max(0);
            ([(header::AGE, age.to_string())], json(&look.status.told())).into_response()
        }
        View::Old(last, why) => {
            let nothing = Nothing { error: why, last_seen_at: last.map(|look| look.at) };
            (StatusCode::SERVICE_UNAVAILABLE, json(&nothing)).into_response()
        }
    }
}

/// As JSON in which every character is seen for what it is, also by somebody who looks at it in a terminal.
fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/json")], visible::unicode(&text).into_owned())
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_or_off_or_the_default() {
        assert_eq!(Address::parse(None), Address::Default);
        assert_eq!(Address::parse(Some(" ")), Address::Default);
        assert_eq!(Address::parse(Some("off")), Address::Off);
        assert_eq!(Address::parse(Some("[::]:80")), Address::Given("[::]:80".into()));
    }
}
