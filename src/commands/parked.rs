//! `parked`: the keys that wait, are retried, or need a human.

use anyhow::Result;

use super::Outcome;
use crate::cli::{ParkedState, Settings};
use crate::parked;

pub async fn list(
    settings: &Settings,
    objects: &[String],
    state: Option<ParkedState>,
    limit: i64,
    json: bool,
) -> Result<Outcome> {
    let source = super::source_session(&super::source_url(settings)?).await?;
    super::status::installed(&source).await?;
    let objects = (!objects.is_empty()).then_some(objects);
    let parked = parked::list(&*source, objects, state.map(ParkedState::as_str), limit)
        .await
        .map_err(super::reason)?;
    let outcome = Outcome::attention_if(parked.iter().any(|parked| parked.state == "dead"));
    if json {
        super::print_json(&parked)?;
        return Ok(outcome);
    }
    if parked.is_empty() {
        say!("nothing is parked")?;
        return Ok(outcome);
    }
    let mut table = super::table(["object", "key", "state", "since", "why", "what helps"]);
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
    say!("{table}")?;
    if parked.len() as i64 == limit {
        say!("… at most {limit} are listed; see --limit")?;
    }
    Ok(outcome)
}
