//! The flow as a line with stations, and a siding for what is parked: to the right, on a phone downwards.

use std::fmt::{self, Display};

use jiff::Timestamp;

use super::super::Shown;
use super::super::figure::{Escaped, count, since, time};
use super::UNKNOWN;
use crate::metrics::{Metrics, Role};
use crate::reports::heroku_connect::Mirror;
use crate::reports::look::{Look, Moment};

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
/// Beside the line, which continues on a phone.
const BESIDE: &str =
    "<line class=tall x1=10 y1=0 x2=10 y2=100% /><line class=tall x1=10 y1=12 x2=44 y2=12 />";

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

pub(super) fn flow(shown: &Shown, look: &Look) -> String {
    let (status, metrics) = (&look.status, &shown.metrics);
    let ours = matches!(shown.standing.role, Role::Writer | Role::Interrupted);
    let hour = Hour::of(shown);
    let in_hand = metrics.claimed_changes.get().clamp(0, status.pending_changes);
    let others = match (&status.writer, &status.writer_blocked_by) {
        (Some(writer), _) => {
            format!("by {}", writer.process.as_deref().unwrap_or("another session"))
        }
        (None, Some(stranger)) => format!("writing is blocked: {stranger} holds the lock"),
        (None, None) => "there is no writer".into(),
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
                format!("of {}", shown.tables()),
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
        "<section aria-labelledby=flow>\n<h2 id=flow class=unseen>The flow</h2>\n<ol \
         class=\"flow{moving}\">\n{stops}</ol>\n</section>\n"
    )
}

/// What this process has done since it started.
fn written(shown: &Shown) -> String {
    let metrics = &shown.metrics;
    let objects = shown.objects();
    let of = |family| Metrics::total(family, &objects);
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
    /// As far back as it remembers.
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
