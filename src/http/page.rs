//! `/`: the status page, whole without a script, for a phone and for a wall.
//!
//! Promise: whatever comes from a database is escaped; an old figure is never shown as a fresh one.

use std::fmt::{Display, Write};
use std::hash::{BuildHasher, RandomState};

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;

use super::Shown;
use super::chart::{Chart, Point};
use super::figure::{Escaped, amount, clock, count, counted, sentence, since, time};
use crate::heroku_connect::Mirror;
use crate::look::{Look, Moment, View};
use crate::metrics::{Metrics, Role};
use crate::parked::Reason;
use crate::status::{Headline, Level};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// So many of a rate's moments are one: less than a minute of a trickle looks like noise.
const RATE_MOMENTS: usize = 3;

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
                let sentence = format!("The source cannot be looked at{since}: {why}.");
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
                            "The work is interrupted for {}, and goes on by itself once it can: {reason}.",
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

/// A station of the flow. Its part of the line is drawn for both directions: to the right, and on a phone downwards.
struct Stop {
    track: &'static str,
    class: &'static str,
    name: &'static str,
    figure: String,
    notes: Vec<String>,
}

const BEGINS: &str =
    "<line class=wide x1=10 y1=12 x2=100% y2=12 /><line class=tall x1=10 y1=12 x2=10 y2=100% />";
const GOES_ON: &str =
    "<line class=wide x1=0 y1=12 x2=100% y2=12 /><line class=tall x1=10 y1=0 x2=10 y2=100% />";
const ENDS: &str =
    "<line class=wide x1=0 y1=12 x2=10 y2=12 /><line class=tall x1=10 y1=0 x2=10 y2=12 />";
/// Beside the line, which goes on on a phone.
const BESIDE: &str =
    "<line class=tall x1=10 y1=0 x2=10 y2=100% /><line class=tall x1=10 y1=12 x2=44 y2=12 />";

impl Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { track, class, name, figure, notes } = self;
        // The same again, as what moves along it.
        let cars = track.replace("class=wide", "class=\"wide cars\"");
        let cars = cars.replace("class=tall", "class=\"tall cars\"");
        write!(
            f,
            "<li class=\"stop {class}\"><svg class=track aria-hidden=true>{track}{cars}<circle cx=10 cy=12 r=6 /></svg>\
             <h3>{name}</h3><p class=figure>{figure}</p>"
        )?;
        for note in notes {
            write!(f, "<p class=note>{}</p>", Escaped(note))?;
        }
        f.write_str("</li>\n")
    }
}

/// What is not known.
const UNKNOWN: &str = "–";

fn flow(shown: &Shown, look: &Look) -> String {
    let (status, metrics) = (&look.status, &shown.metrics);
    let ours = matches!(shown.standing.role, Role::Writer | Role::Interrupted);
    let hour = Hour::of(shown);
    let in_hand = metrics.claimed_changes.get().clamp(0, status.pending_changes);
    let others = match &status.writer {
        Some(writer) => format!("by {}", writer.process.as_deref().unwrap_or("another session")),
        None => "nobody is the writer".into(),
    };
    let or_others = |notes: Vec<String>| if ours { notes } else { vec![others.clone()] };
    let or_unknown = |figure: String| if ours { figure } else { UNKNOWN.into() };
    let waiting = status.pending_changes - in_hand;
    let oldest = match status.oldest_change_at {
        Some(_) => format!("the oldest for {}", time(status.lag_seconds)),
        None => "nothing waits".into(),
    };
    let stops = [
        Stop {
            track: BEGINS,
            class: "",
            name: "captured",
            figure: or_unknown(count(hour.captured)),
            notes: vec![
                format!("changes in the last {}", hour.lasts),
                format!("of {}", shown.tables),
            ],
        },
        Stop {
            track: GOES_ON,
            class: "",
            name: "waiting for claim",
            figure: count(waiting),
            notes: vec![oldest],
        },
        Stop {
            track: GOES_ON,
            class: "",
            name: "claimed",
            figure: or_unknown(count(in_hand)),
            notes: or_others(vec!["in hand: project, apply".into()]),
        },
        Stop {
            track: GOES_ON,
            class: "applied",
            name: "applied",
            figure: or_unknown(count(hour.acknowledged)),
            notes: or_others(vec![format!("changes in the last {}", hour.lasts), written(shown)]),
        },
        parked_stop(look),
        taken_stop(&status.salesforce, shown.now, look.salesforce_at),
    ];
    let moving = if ours && hour.moving { " moving" } else { "" };
    let stops: String = stops.iter().map(ToString::to_string).collect();
    format!(
        "<section aria-labelledby=flow>\n<h2 id=flow class=unseen>The flow</h2>\n<ol class=\"flow{moving}\">\n{stops}</ol>\n</section>\n"
    )
}

/// What this process has done since it started.
fn written(shown: &Shown) -> String {
    let metrics = &shown.metrics;
    let of = |family| Metrics::total(family, &shown.objects);
    let (written, equal) = (of(&metrics.written_rows), of(&metrics.equal_keys));
    let deleted = match of(&metrics.deleted_rows) {
        0 => String::new(),
        deleted => format!(", {} deleted", count(deleted)),
    };
    format!("since the start {} written, {} equal{deleted}", count(written), count(equal))
}

fn parked_stop(look: &Look) -> Stop {
    let of = |state| look.status.parked_in(state);
    let states = [("dead", of("dead")), ("retrying", of("retrying")), ("waiting", of("waiting"))];
    let keys: i64 = states.iter().map(|(_, keys)| keys).sum();
    let told = states.iter().filter(|(_, keys)| *keys > 0);
    let told: Vec<String> = told.map(|(state, keys)| format!("{} {state}", count(*keys))).collect();
    Stop {
        track: BESIDE,
        class: if of("dead") > 0 { "parked dead" } else { "parked" },
        name: "parked",
        figure: count(keys),
        notes: vec![if keys == 0 { "nothing waits for a parent".into() } else { told.join(", ") }],
    }
}

/// What Heroku Connect has taken, of the rows that are there.
fn taken_stop(mirrors: &[Mirror], now: Timestamp, at: Option<Timestamp>) -> Stop {
    let sum = |rows: fn(&Mirror) -> i64| mirrors.iter().map(rows).sum::<i64>();
    let pending = sum(Mirror::pending_rows);
    let failed = sum(Mirror::failed_rows);
    let known = mirrors.iter().any(|mirror| !mirror.rows.is_empty() || mirror.problems.is_empty());
    let mut notes = Vec::new();
    match at.filter(|_| known) {
        None => notes.push("not looked at yet".into()),
        Some(at) => {
            notes.push(match (pending, failed) {
                (0, 0) => "rows that Salesforce has".into(),
                (pending, 0) => {
                    format!("rows that Salesforce has, {} on their way", count(pending))
                }
                (0, failed) => format!("rows that Salesforce has, {} refused", count(failed)),
                (pending, failed) => format!(
                    "rows that Salesforce has, {} on their way, {} refused",
                    count(pending),
                    count(failed)
                ),
            });
            if now.duration_since(at).as_secs() > 60 {
                notes.push(format!("as of {} ago", since(now, at)));
            }
        }
    }
    Stop {
        track: ENDS,
        class: if failed > 0 { "taken dead" } else { "taken" },
        name: "taken by Heroku Connect",
        figure: if at.is_some() && known {
            count(sum(Mirror::synced_rows))
        } else {
            UNKNOWN.into()
        },
        notes,
    }
}

/// What happened in the last hour, as far as this process remembers.
struct Hour {
    /// As far back as the memory goes.
    lasts: String,
    captured: i64,
    acknowledged: i64,
    /// Changes were acknowledged in the last moments.
    moving: bool,
}

impl Hour {
    fn of(shown: &Shown) -> Self {
        let history = &shown.seen.history;
        let now = shown.metrics.acknowledged_changes.get();
        let first = history.front().map_or(now, |moment| moment.acknowledged_before);
        let acknowledged = i64::try_from(now - first).unwrap_or(i64::MAX);
        let pending =
            |moment: Option<&Moment>| moment.and_then(|moment| moment.pending).unwrap_or(0);
        let known = || history.iter().filter(|moment| moment.pending.is_some());
        let more = pending(known().next_back()) - pending(known().next());
        let lately = history.len().saturating_sub(2);
        let before = history.get(lately).map_or(now, |moment| moment.acknowledged_before);
        let began = history.front().map_or(shown.now, |moment| moment.at);
        let lasts = match shown.now.duration_since(began).as_secs() {
            3_540.. => "hour".into(),
            seconds => time(seconds.max(1) as f64),
        };
        // What was pending an hour ago was captured before.
        Self { lasts, captured: (acknowledged + more).max(0), acknowledged, moving: now > before }
    }
}

fn charts(shown: &Shown) -> String {
    let history: Vec<&Moment> = shown.seen.history.iter().collect();
    let rate: Vec<Point> = history
        .chunks(RATE_MOMENTS)
        .filter_map(|moments| {
            let (first, last) = (moments.first()?, moments.last()?);
            let seconds = last.until.duration_since(first.at).as_secs_f64();
            let changes = last.acknowledged - first.acknowledged_before;
            let value = (seconds > 0.0).then(|| changes as f64 / seconds);
            Some(Point { at: last.until, value: value.filter(|_| last.pending.is_some()) })
        })
        .collect();
    let lag: Vec<Point> = history
        .iter()
        .map(|moment| Point { at: moment.until, value: moment.lag_seconds })
        .collect();
    let per_second = |value: f64| format!("{}/s", amount(value));
    let rate = Chart { id: "rate", title: "Changes applied", say: &per_second, least: 1.0 }
        .html(shown.now, &rate);
    let lag = Chart { id: "lag", title: "Lag", say: &time, least: 1.0 }.html(shown.now, &lag);
    format!("<div class=charts>\n{rate}{lag}</div>\n")
}

fn parked(shown: &Shown, look: &Look) -> String {
    let mut html = "<section aria-labelledby=parked>\n<h2 id=parked>Parked</h2>\n".to_string();
    let reasons = &look.reasons;
    if reasons.groups.is_empty() {
        return html + "<p class=calm>Nothing is parked.</p>\n</section>\n";
    }
    html += "<table class=parked><thead><tr><th scope=col>State</th><th scope=col>Object</th><th scope=col>Why</th>\
             <th scope=col class=number>Keys</th><th scope=col>Oldest</th></tr></thead>\n<tbody>\n";
    for group in &reasons.groups {
        let Reason { object, state, keys, oldest, oldest_key, remedy, .. } = group;
        let remedy = remedy.as_deref().filter(|_| state == "dead").unwrap_or_default();
        let help = match remedy {
            "" => String::new(),
            remedy => format!("<small>{}</small>", Escaped(remedy)),
        };
        write!(
            html,
            "<tr><td data-label=State><span class=\"tag {state}\">{state}</span></td><td data-label=Object>{object}</td>\
             <td data-label=Why>{why}{help}</td><td data-label=Keys class=number>{keys}</td>\
             <td data-label=Oldest><code>{oldest_key}</code><small>for {age}</small></td></tr>\n",
            state = Escaped(state),
            object = Escaped(object),
            why = sentence(&why(group)),
            keys = count(*keys),
            oldest_key = Escaped(oldest_key),
            age = since(shown.now, *oldest),
        )
        .expect("a String takes everything");
    }
    html += "</tbody></table>\n";
    let more = reasons.all - reasons.groups.len() as i64;
    if more > 0 {
        let more = counted(more, "more reason");
        write!(html, "<p class=calm>… and {more}: <code>schoolbell parked list</code></p>\n")
            .expect("a String takes everything");
    }
    html + "</section>\n"
}

/// Why a group of keys is parked, in words that hold no row's contents.
fn why(group: &Reason) -> String {
    let code = group.sqlstate.as_deref().unwrap_or("no code");
    match (&group.awaits, &group.reason) {
        (Some(awaits), _) => format!("waits for {awaits}"),
        (None, Some(reason)) => format!("{reason} ({code})"),
        (None, None) => format!("refused by a trigger ({code}): see `schoolbell parked list`"),
    }
}

fn resyncs(look: &Look) -> String {
    let resyncs = &look.status.resyncs;
    if resyncs.is_empty() {
        return String::new();
    }
    let mut html =
        "<section aria-labelledby=resyncs>\n<h2 id=resyncs>Resync</h2>\n<ul class=resyncs>\n"
            .to_string();
    for resync in resyncs {
        let (done, total) = (resync.progress.done, resync.total.max(resync.progress.done));
        let share = if total > 0 { done * 100 / total } else { 0 };
        write!(
            html,
            "<li><label for=resync-{id}><b>{object}</b> {state}: {done_said} of {total_said} rows, {share} %</label>\
             <progress id=resync-{id} max={most} value={done}></progress>\
             <p class=note>{written} written, {equal} equal, {waiting} waiting, {dead} dead</p></li>\n",
            id = resync.id,
            object = Escaped(&resync.object),
            state = Escaped(&resync.state),
            done_said = count(done),
            total_said = count(total),
            most = total.max(1),
            written = count(resync.progress.written),
            equal = count(resync.progress.equal),
            waiting = count(resync.progress.waiting),
            dead = count(resync.progress.dead),
        )
        .expect("a String takes everything");
    }
    html + "</ul>\n</section>\n"
}

fn salesforce(shown: &Shown, look: &Look) -> String {
    let mirrors = &look.status.salesforce;
    if mirrors.is_empty() {
        return String::new();
    }
    let mut html = "<section aria-labelledby=salesforce>\n<h2 id=salesforce>Salesforce</h2>\n\
        <table><thead><tr><th scope=col>Object</th><th scope=col class=number>Has</th><th scope=col class=number>On their way</th>\
        <th scope=col class=number>Refused</th><th scope=col>Oldest unsent</th><th scope=col>Answer takes</th></tr></thead>\n<tbody>\n"
        .to_string();
    for mirror in mirrors {
        let unsent = match &mirror.unsent {
            None => UNKNOWN.to_string(),
            Some(unsent) if unsent.entries == 0 => "none".into(),
            Some(unsent) => {
                format!("{}, for {}", counted_entries(unsent.entries), time(unsent.oldest_seconds))
            }
        };
        let answer = mirror.answered.as_ref().map_or(UNKNOWN.to_string(), |way| {
            format!("{}, 99 % within {}", time(way.median_seconds), time(way.p99_seconds))
        });
        let known = |rows: i64| match mirror.rows.is_empty() && !mirror.problems.is_empty() {
            true => UNKNOWN.to_string(),
            false => count(rows),
        };
        write!(
            html,
            "<tr><td data-label=Object>{object}</td><td data-label=Has class=number>{has}</td>\
             <td data-label=\"On their way\" class=number>{pending}</td><td data-label=Refused class=number>{failed}</td>\
             <td data-label=\"Oldest unsent\">{unsent}</td><td data-label=\"Answer takes\">{answer}</td></tr>\n",
            object = Escaped(&mirror.object),
            has = known(mirror.synced_rows()),
            pending = known(mirror.pending_rows()),
            failed = known(mirror.failed_rows()),
        )
        .expect("a String takes everything");
    }
    html += "</tbody></table>\n";
    for problem in mirrors.iter().flat_map(|mirror| &mirror.problems) {
        write!(html, "<p class=calm>{}</p>\n", Escaped(problem))
            .expect("a String takes everything");
    }
    if let Some(at) = look.salesforce_at {
        write!(html, "<p class=calm>As of {} ago</p>\n", since(shown.now, at))
            .expect("a String takes everything");
    }
    html + "</section>\n"
}

fn counted_entries(entries: i64) -> String {
    match entries {
        1 => "1 entry".into(),
        entries => format!("{} entries", count(entries)),
    }
}

fn details(shown: &Shown, look: &Look) -> String {
    let (status, standing) = (&look.status, &shown.standing);
    let writer = match (&status.target_problem, &status.writer) {
        (Some(_), _) => "unknown: the target cannot be asked".to_string(),
        (None, None) => "nobody".into(),
        (None, Some(holder)) => {
            let process = holder.process.as_deref().unwrap_or("another role's session");
            let since = holder.since.map(|at| format!(", for {}", since(shown.now, at)));
            process.to_string() + &since.unwrap_or_default()
        }
    };
    let bell = match (shown.metrics.bell_armed.get(), shown.metrics.bell_listening.get()) {
        (1, _) => "armed: the service sleeps, writers ring",
        (_, 1) => "listening, awake",
        _ => "silent: the outbox is polled",
    };
    let process = format!(
        "{}, {} for {}",
        crate::writer::process(),
        standing.role.name(),
        since(shown.now, standing.since)
    );
    let capture = match status.capture_problems.as_slice() {
        [] => {
            let notify = status.notify.as_deref().unwrap_or("unknown");
            format!("installed, notify mode {notify}")
        }
        problems => problems.join("; "),
    };
    let interruptions = shown.metrics.interruptions.get();
    let interruptions = counted(i64::try_from(interruptions).unwrap_or(i64::MAX), "interruption")
        + " since the start";
    let rows = [
        ("Writer", writer),
        ("This process", process),
        ("Bell", bell.into()),
        ("Capture", capture),
        ("Reconnects", interruptions),
        ("Version", format!("{}, schema {}", env!("CARGO_PKG_VERSION"), status.schema_version)),
    ];
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", Escaped(value)))
        .collect();
    format!(
        "<section aria-labelledby=details>\n<h2 id=details>Details</h2>\n<dl>\n{rows}</dl>\n</section>\n"
    )
}
