//! `/`: the status page, whole without a script, for a phone and for a wall.
//!
//! Promise: whatever comes from a database is escaped; an old figure is never shown as a fresh one.

use std::hash::{BuildHasher, RandomState};

use super::Shown;
use super::figure::{clock, sentence, since};
use crate::reports::look::{Look, View};
use crate::reports::status::{Headline, Level};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

mod flow;
mod sections;

use flow::flow;
use sections::{charts, details, parked, resyncs, salesforce, verified};

const TEMPLATE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");

/// What is not known.
const UNKNOWN: &str = "–";

/// The whole page.
pub(super) fn whole(shown: &Shown) -> Response {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let state = State::of(shown);
    let parts = [
        ("head", head(&state)),
        ("style", STYLE.into()),
        ("main", main(shown, &state)),
        ("script", SCRIPT.into()),
        ("nonce", nonce),
    ];
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(filled(TEMPLATE, &parts))).into_response()
}

/// What changes from moment to moment, for the script.
pub(super) fn moment(shown: &Shown) -> Response {
    let state = State::of(shown);
    Html(head(&state) + &main(shown, &state)).into_response()
}

fn head(state: &State) -> String {
    format!(
        "<title>{} · Schoolbell</title>\n<link rel=icon href=\"{}\">\n",
        state.word(),
        state.icon()
    )
}

/// Marks our own style and script, so that a browser takes no others. Seeded by the system, and new each time.
fn nonce() -> String {
    let random = || RandomState::new().hash_one(fastrand::u64(..));
    format!("{:016x}{:016x}", random(), random())
}

/// A template with its `{{names}}` replaced, in one pass: what is put in is not looked through again.
fn filled(template: &str, parts: &[(&str, String)]) -> String {
    let mut pieces = template.split("{{");
    let mut text = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").expect("the template closes its braces");
        let part = parts.iter().find(|(known, _)| *known == name);
        text += &part.expect("the template names what there is").1;
        text += rest;
    }
    text
}

/// How things are, and the sentence about it.
struct State {
    level: Option<Level>,
    sentence: String,
}

impl State {
    fn of(shown: &Shown) -> Self {
        let Headline { level, sentence } = match shown.view() {
            View::Old(None, _) if shown.seen.blind.is_none() => {
                let sentence = "Looking at both databases for the first time.".into();
                return Self { level: None, sentence };
            }
            View::Old(_, why) => {
                let since = shown.seen.blind.as_ref().map(|blind| since(shown.now, blind.since));
                let since = since.map(|since| format!(" for {since}")).unwrap_or_default();
                let sentence = format!("The source cannot be reached{since}: {why}.");
                Headline { level: Level::Trouble, sentence }
            }
            View::Fresh(look) => {
                let headline = look.status.headline();
                let interrupted =
                    shown.standing.reason.as_ref().filter(|_| headline.level < Level::Trouble);
                match interrupted {
                    Some(reason) => Headline {
                        level: Level::Trouble,
                        sentence: format!(
                            "The service has been interrupted for {}, and retries by itself: {reason}.",
                            since(shown.now, shown.standing.since)
                        ),
                    },
                    None => headline,
                }
            }
        };
        Self { level: Some(level), sentence }
    }

    /// In a word, for a class and for the title.
    fn word(&self) -> &'static str {
        match self.level {
            None => "starting",
            Some(Level::Well) => "well",
            Some(Level::Attention) => "attention",
            Some(Level::Trouble) => "trouble",
        }
    }

    /// Its own shape and its own colour: neither alone is the signal.
    fn mark(&self) -> &'static str {
        match self.level {
            None => "<path d=\"M7 12h.01M12 12h.01M17 12h.01\"/>",
            Some(Level::Well) => "<path d=\"M7 12.5l3.5 3.5L17 8.5\"/>",
            Some(Level::Attention) => "<path d=\"M12 6.5v7M12 17.5v.01\"/>",
            Some(Level::Trouble) => "<path d=\"M8 8l8 8M16 8l-8 8\"/>",
        }
    }

    fn icon(&self) -> String {
        let colour = match self.level {
            None => "%23687076",
            Some(Level::Well) => "%2318794e",
            Some(Level::Attention) => "%23ad5700",
            Some(Level::Trouble) => "%23cd2b31",
        };
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='white' stroke-width='3' \
             stroke-linecap='round' stroke-linejoin='round'><circle cx='12' cy='12' r='12' fill='{colour}' stroke='none'/>{}</svg>",
            self.mark()
        );
        format!(
            "data:image/svg+xml,{}",
            svg.replace('"', "'").replace('<', "%3c").replace('>', "%3e")
        )
    }
}

fn main(shown: &Shown, state: &State) -> String {
    let (look, old) = match shown.view() {
        View::Fresh(look) => (Some(look), false),
        View::Old(look, _) => (look, true),
    };
    let mut html = format!(
        "<main class=\"{}{}\" data-version=\"{}\">\n",
        state.word(),
        if old && look.is_some() { " old" } else { "" },
        env!("CARGO_PKG_VERSION")
    );
    html += &header(shown, state, look, old);
    if let Some(look) = look {
        html += &flow(shown, look);
        html += &charts(shown);
        html += &parked(shown, look);
        html += &resyncs(look);
        html += &salesforce(shown, look);
        html += &verified(shown, look);
        html += &details(shown, look);
    }
    html + "</main>"
}

fn header(shown: &Shown, state: &State, look: Option<&Look>, old: bool) -> String {
    let as_of = look.map_or(String::new(), |look| {
        let at = look.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let age = since(shown.now, look.at);
        match old {
            true => format!(
                "<p class=as-of><strong>Old figures</strong>, as of <time datetime=\"{at}\">{}</time>, {age} ago</p>\n",
                clock(look.at)
            ),
            false => format!(
                "<p class=as-of>As of <time datetime=\"{at}\">{}</time>, {age} ago</p>\n",
                clock(look.at)
            ),
        }
    });
    format!(
        "<header>\n<h1>Schoolbell</h1>\n{as_of}<div class=verdict><svg class=mark viewBox=\"0 0 24 24\" aria-hidden=true>\
         <circle cx=12 cy=12 r=12 />{}</svg><p role=status><span class=unseen>{}: </span>{}</p></div>\n</header>\n",
        state.mark(),
        state.word(),
        sentence(&state.sentence)
    )
}
