//! Which `Host` a request may name while the pages are on a loopback address.
//!
//! A web page from anywhere can let its own name resolve to 127.0.0.1 (DNS rebinding), and then
//! read ours through its visitor's browser. Such a request names that page's host. Somebody who
//! wants our pages names an address, `localhost`, or the name that `--http` was given.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Nobody else can have this name: it is always this machine (RFC 6761).
const LOCALHOST: &str = "localhost";

/// Passes on a request that names a host of ours, and refuses any other. `given` is the name in `--http`, if it is one.
pub(super) async fn checked(
    State(given): State<Option<Arc<str>>>,
    request: Request,
    next: Next,
) -> Response {
    if named(&request).all(|host| host.is_some_and(|host| is_ours(host, given.as_deref()))) {
        return next.run(request).await;
    }
    let refusal = "refused: the request names another host; ask for this server's IP address or localhost, or let \
                   your proxy send `Host: localhost`\n";
    (StatusCode::MISDIRECTED_REQUEST, refusal).into_response()
}

/// Each host that a request names, in its target or in a header; none where that is no text. A request that names
/// no host passes: every browser names one.
fn named(request: &Request) -> impl Iterator<Item = Option<&str>> {
    let target = request.uri().authority().map(|authority| Some(authority.as_str()));
    let headers = request.headers().get_all(header::HOST).iter();
    target.into_iter().chain(headers.map(|value| value.to_str().ok()))
}

fn is_ours(named: &str, given: Option<&str>) -> bool {
    let Ok(authority) = named.parse::<Authority>() else { return false };
    // `user@host` names a host with something before it that is easily taken for one.
    if named.contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    [Some(LOCALHOST), given].into_iter().flatten().any(|name| name.eq_ignore_ascii_case(host))
}

/// The name in a setting `HOST:PORT`, where it is not an address.
pub(super) fn given(setting: &str) -> Option<Arc<str>> {
    let host = setting.rsplit_once(':').map_or(setting, |(host, _)| host);
    let is_name = !host.is_empty() && !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    is_name.then(|| host.strip_suffix('.').unwrap_or(host).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_localhost_and_the_given_name_are_ours_and_nothing_that_only_looks_like_them() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9417",
            "[::1]",
            "[::1]:9417",
            "10.0.0.7:80",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "bell.internal",
            "Bell.Internal:9417",
        ] {
            assert!(is_ours(ours, Some("bell.internal")), "{ours}");
        }
        for foreign in [
            "",
            ":9417",
            "evil.example",
            "evil.example:9417",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1:80:80",
            "localhost/evil.example",
            "localhost evil.example",
            "bell.internal.evil.example",
            "0x7f000001",
            "2130706433",
        ] {
            assert!(!is_ours(foreign, Some("bell.internal")), "{foreign}");
        }
        assert!(!is_ours("bell.internal", None));
    }

    #[test]
    fn a_name_in_the_setting_is_a_name_of_ours() {
        assert_eq!(given("bell.internal:9417").as_deref(), Some("bell.internal"));
        for address in ["127.0.0.1:9417", "[::1]:9417", ":9417"] {
            assert_eq!(given(address), None, "{address}");
        }
    }
}
