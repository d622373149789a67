//! What is below the flow: the last hour, what is parked, resyncs, Salesforce's side, and details.

use super::super::Shown;
use super::super::chart::{Chart, Point};
use super::super::figure::{Escaped, amount, count, counted, sentence, since, time};
use super::UNKNOWN;
use crate::apply::writer;
use crate::config::QUEUE_LIMIT;
use crate::outbox::parked::Reason;
use crate::outbox::verified::Verified;
use crate::reports::look::{Look, Moment};

/// A rate is that of this many seconds: a trickle looks like noise in less.
const RATE_SECONDS: i64 = 30;

pub(super) fn charts(shown: &Shown) -> String {
    let history: Vec<&Moment> = shown.seen.history.iter().collect();
    // By the clock, so that the line does not change its shape while it moves.
    let slice = |moment: &Moment| moment.until.as_second() / RATE_SECONDS;
    let rate: Vec<Point> = history
        .chunk_by(|one, next| slice(one) == slice(next))
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

pub(super) fn parked(shown: &Shown, look: &Look) -> String {
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
        html += &format!(
            "<tr><td data-label=State><span class=\"tag {state}\">{state}</span></td><td data-label=Object>{object}</td>\
             <td data-label=Why>{why}{help}</td><td data-label=Keys class=number>{keys}</td>\
             <td data-label=Oldest><code>{oldest_key}</code><small>for {age}</small></td></tr>\n",
            state = Escaped(state),
            object = Escaped(object),
            why = sentence(&why(group)),
            keys = count(*keys),
            oldest_key = Escaped(oldest_key),
            age = since(shown.now, *oldest)
        );
    }
    html += "</tbody></table>\n";
    let more = reasons.all - reasons.groups.len() as i64;
    if more > 0 {
        let more = counted(more, "more reason");
        html += &format!("<p class=calm>… and {more}: <code>schoolbell parked list</code></p>\n");
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

pub(super) fn resyncs(look: &Look) -> String {
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
        html += &format!(
            "<li><label for=resync-{id}><b>{object}</b> {state}: {done_said} of {total_said} rows, {share} %</label>\
             <progress id=resync-{id} max={most} value={done}></progress>\
             <p class=note>{written} written, {equal} equal, {waiting} waiting, {dead} dead</p></li>\n",
            id = resync.id,
            object = Escaped(&resync.object),
            state = Escaped(resync.standing()),
            done_said = count(done),
            total_said = count(total),
            most = total.max(1),
            written = count(resync.progress.written),
            equal = count(resync.progress.equal),
            waiting = count(resync.progress.waiting),
            dead = count(resync.progress.dead)
        );
    }
    html + "</ul>\n</section>\n"
}

pub(super) fn verified(shown: &Shown, look: &Look) -> String {
    let mut html =
        "<section aria-labelledby=verified>\n<h2 id=verified>Last verify</h2>\n".to_string();
    let verified = &look.status.verified;
    if verified.is_empty() {
        return html
            + "<p class=calm>The rows were never compared as a whole: <code>schoolbell verify</code>, or \
               <code>run --verify-every 1d</code>.</p>\n</section>\n";
    }
    html += "<table><thead><tr><th scope=col>Object</th><th scope=col>Verdict</th><th scope=col class=number>Rows</th>\
             <th scope=col>When</th></tr></thead>\n<tbody>\n";
    for last in verified {
        let verdict = match last.wrong() {
            0 => "every row is right".to_string(),
            _ => format!("<span class=\"tag dead\">{}</span>", wrong(last)),
        };
        html += &format!(
            "<tr><td data-label=Object>{object}</td><td data-label=Verdict>{verdict}</td>\
             <td data-label=Rows class=number>{rows}</td><td data-label=When>{age} ago</td></tr>\n",
            object = Escaped(&last.object),
            rows = count(last.rows),
            age = since(shown.now, last.verified_at)
        );
    }
    html + "</tbody></table>\n</section>\n"
}

/// What was wrong, kind by kind.
fn wrong(last: &Verified) -> String {
    let kinds = [
        (last.missing, "missing"),
        (last.differing, "differing"),
        (last.unexpected, "unexpected"),
        (last.unreadable, "unreadable"),
    ];
    let told = kinds.iter().filter(|(keys, _)| *keys > 0);
    let told: Vec<String> = told.map(|(keys, kind)| format!("{} {kind}", count(*keys))).collect();
    told.join(", ")
}

pub(super) fn salesforce(shown: &Shown, look: &Look) -> String {
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
        html += &format!(
            "<tr><td data-label=Object>{object}</td><td data-label=Has class=number>{has}</td>\
             <td data-label=\"On their way\" class=number>{pending}</td><td data-label=Refused class=number>{failed}</td>\
             <td data-label=\"Oldest unsent\">{unsent}</td><td data-label=\"Answer takes\">{answer}</td></tr>\n",
            object = Escaped(&mirror.object),
            has = known(mirror.synced_rows()),
            pending = known(mirror.pending_rows()),
            failed = known(mirror.failed_rows())
        );
    }
    html += "</tbody></table>\n";
    for problem in mirrors.iter().flat_map(|mirror| &mirror.problems) {
        html += &format!("<p class=calm>{}</p>\n", Escaped(problem));
    }
    if let Some(at) = look.salesforce_at {
        html += &format!("<p class=calm>As of {} ago</p>\n", since(shown.now, at));
    }
    html + "</section>\n"
}

fn counted_entries(entries: i64) -> String {
    match entries {
        1 => "1 entry".into(),
        entries => format!("{} entries", count(entries)),
    }
}

pub(super) fn details(shown: &Shown, look: &Look) -> String {
    let (status, standing) = (&look.status, &shown.standing);
    let writer = match (&status.target_problem, &status.writer, &status.writer_blocked_by) {
        (Some(_), ..) => "unknown: the target cannot be reached".to_string(),
        (None, None, None) => "nobody".into(),
        (None, None, Some(stranger)) => format!("none is possible: {stranger} holds the lock"),
        (None, Some(holder), _) => {
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
    let bell = match status.bell_blocked_by.as_slice() {
        [] if status.notification_queue >= QUEUE_LIMIT => format!(
            "{bell}; the queue of notices is {:.0} % full, so the triggers do not notify",
            status.notification_queue * 100.0
        ),
        [] => bell.to_string(),
        [stranger, ..] => format!("{bell}; {stranger} holds its lock"),
    };
    let process = format!(
        "{}, {} for {}",
        writer::process(),
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
    let mapping = match status.mapping_problems.as_slice() {
        [] => shown.mapping.file.clone(),
        problems => problems.join("; "),
    };
    let interruptions = shown.metrics.interruptions.get();
    let interruptions = counted(i64::try_from(interruptions).unwrap_or(i64::MAX), "interruption")
        + " since the start";
    let rows = [
        ("Writer", writer),
        ("This process", process),
        ("Bell", bell),
        ("Capture", capture),
        ("Mapping", mapping),
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
