//! `parked`: the keys that wait, are retried, or need a human, and what a human can do with them.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::Exit;
use crate::cli::{ParkedAction, ParkedChoice, ParkedState, Settings};
use crate::outbox::parked::{self, Choice, Count};
use crate::postgres::db::Session;

mod failed;

/// Of each object and state, this many keys are named before they are dropped.
const FEW: i64 = 3;

pub async fn run(settings: &Settings, action: &ParkedAction) -> Result<Exit> {
    match action {
        ParkedAction::List { objects, keys, state, reason, limit, json } => {
            let source = source(settings, objects).await?;
            let choice = Choice {
                objects: (!objects.is_empty()).then_some(objects),
                keys: (!keys.is_empty()).then_some(keys),
                state: state.map(ParkedState::as_str),
            };
            list(&source, choice, reason.as_deref(), *limit, *json).await
        }
        ParkedAction::Retry { choice: typed, failed: true, yes } => {
            failed::run(settings, typed, *yes).await
        }
        ParkedAction::Retry { choice: typed, yes, .. } => {
            let choice = choice(typed)?;
            retry(&mut source(settings, &typed.objects).await?, choice, *yes).await
        }
        ParkedAction::Drop { choice: typed, yes } => {
            let choice = choice(typed)?;
            forget(&mut source(settings, &typed.objects).await?, choice, *yes).await
        }
    }
}

/// What was typed, when it names something: nothing is ever chosen by leaving everything out.
fn choice(typed: &ParkedChoice) -> Result<Choice<'_>> {
    let choice = Choice {
        objects: (!typed.objects.is_empty()).then_some(&typed.objects),
        keys: (!typed.keys.is_empty()).then_some(&typed.keys),
        state: typed.state.map(ParkedState::as_str),
    };
    let chosen = choice.objects.is_some() || choice.keys.is_some() || choice.state.is_some();
    if !chosen && !typed.all {
        bail!("which keys? Name an object, a --key or a --state, or pass --all");
    }
    Ok(choice)
}

/// The source database, where it knows all these objects.
async fn source(settings: &Settings, objects: &[String]) -> Result<Session> {
    let source = super::source_session(&super::source_url(settings)?).await?;
    super::status::installed(&source).await?;
    if objects.is_empty() {
        return Ok(source);
    }
    let mapping = super::mapping(settings)?;
    let mapped: Vec<&str> = mapping.objects.iter().map(|object| object.name.as_str()).collect();
    let strange: Vec<&String> =
        objects.iter().filter(|name| !mapped.contains(&name.as_str())).collect();
    if !strange.is_empty() {
        // Keys of an object that the mapping no longer has are still there to be listed and dropped.
        let parked = parked::counts(&source).await.map_err(super::reason)?;
        let parked: BTreeSet<&str> = parked.iter().map(|count| count.object.as_str()).collect();
        if let Some(unknown) = strange.iter().find(|name| !parked.contains(name.as_str())) {
            bail!("the mapping has no object {unknown}; it has {}", mapped.join(", "));
        }
    }
    Ok(source)
}

async fn list(
    source: &Session,
    choice: Choice<'_>,
    reason: Option<&str>,
    limit: i64,
    json: bool,
) -> Result<Exit> {
    let parked = parked::list(source, choice, reason, limit).await.map_err(super::reason)?;
    let outcome = Exit::attention_if(parked.iter().any(|parked| parked.state == "dead"));
    if json {
        super::print_json(&parked)?;
        return Ok(outcome);
    }
    if parked.is_empty() {
        say!("nothing is parked")?;
        return Ok(outcome);
    }
    let mut table = super::TextTable::new(["object", "key", "state", "since", "why", "what helps"]);
    for parked in &parked {
        table.add_row([
            parked.object.as_str(),
            &parked.key,
            &parked.state,
            &format!("{:.0}", parked.parked_at),
            &match &parked.sqlstate {
                Some(sqlstate) => format!("{} ({sqlstate})", parked.reason),
                None => parked.reason.clone(),
            },
            parked.remedy.as_deref().unwrap_or_default(),
        ]);
    }
    table.print()?;
    if parked.len() as i64 == limit {
        say!("… at most {limit} are listed; see --limit")?;
    }
    Ok(outcome)
}

async fn retry(source: &mut Session, choice: Choice<'_>, yes: bool) -> Result<Exit> {
    let absent = absent(source, choice).await?;
    let chosen = parked::chosen(source, choice, FEW).await.map_err(super::reason)?;
    let held: Vec<_> = chosen.parts.iter().filter(|(count, _)| count.held > 0).collect();
    if !held.is_empty() {
        say!("This deletes target rows whose deletion the brake holds:")?;
        for (count, keys) in held {
            let keys = &keys[..keys.len().min(count.held.unsigned_abs() as usize)];
            let more = if count.held > FEW { ", …" } else { "" };
            // Some of the keys may be refused again: then the number of those is added.
            let of = match count.held == count.keys {
                true => String::new(),
                false => format!(" of {}", count.keys),
            };
            say!("  {}{of} {}: {}{more}", count.held, count.object, keys.join(", "))?;
        }
        if !yes && !super::confirmed("delete them")? {
            say!("nothing was changed")?;
            return Ok(Exit::Attention);
        }
    }
    let due = parked::retry(source, choice, chosen.seen_at).await.map_err(super::reason)?;
    if due.is_empty() {
        say!("nothing that fits is parked")?;
        return Ok(absent);
    }
    super::ring(source).await?;
    for count in &due {
        say!("due now: {}", sentence(count))?;
    }
    say!("the running service tries them at once, else the next `schoolbell run`")?;
    Ok(absent)
}

async fn forget(source: &mut Session, choice: Choice<'_>, yes: bool) -> Result<Exit> {
    let absent = absent(source, choice).await?;
    let chosen = parked::chosen(source, choice, FEW).await.map_err(super::reason)?;
    let Some(seen_at) = chosen.seen_at else {
        say!("nothing that fits is parked")?;
        return Ok(absent);
    };
    say!("This forgets:")?;
    for (count, keys) in &chosen.parts {
        let more = if count.keys > FEW { ", …" } else { "" };
        say!("  {}: {}{more}", sentence(count), keys.join(", "))?;
    }
    let (held, others): (Vec<_>, Vec<_>) =
        chosen.parts.iter().partition(|(count, _)| count.held == count.keys);
    if !others.is_empty() {
        say!(
            "Their rows do not reach the target before they change again, or are resynced with `schoolbell resync`."
        )?;
    }
    if !held.is_empty() || others.iter().any(|(count, _)| count.held > 0) {
        say!(
            "The target rows whose deletion the brake holds stay there, until `schoolbell verify --repair` or a resync \
             of the target's rows finds them again."
        )?;
    }
    if !yes && !super::confirmed("forget them")? {
        say!("nothing was changed")?;
        return Ok(Exit::Attention);
    }
    let forgotten = parked::forget(source, choice, seen_at).await.map_err(super::reason)?;
    for count in &forgotten {
        say!("forgotten: {}", sentence(count))?;
    }
    if forgotten.is_empty() {
        say!("none of these keys was still parked")?;
    }
    Ok(absent)
}

/// Reports the named keys that are not parked: one may be misspelt.
async fn absent(source: &Session, choice: Choice<'_>) -> Result<Exit> {
    let Some(keys) = choice.keys else { return Ok(Exit::Clean) };
    let absent = parked::not_there(source, choice.objects, keys).await.map_err(super::reason)?;
    for key in &absent {
        say!("not parked: {key}")?;
    }
    Ok(Exit::attention_if(!absent.is_empty()))
}

fn sentence(count: &Count) -> String {
    format!("{} {} {}", count.keys, count.object, count.state)
}
