//! Checks of the bell: whether a notice arrives, and whether there is room for more.

use super::Limits;
use super::report::Diagnosis;
use super::side::{Hindrance, Side};
use crate::bell;

/// Rings once, and listens for it.
pub(super) async fn canary(source: &Side) -> Result<Diagnosis, Hindrance> {
    if source.is_pooled()? {
        return Err(Hindrance::new("the source is behind a pooler, which passes no notices"));
    }
    let database = source.database()?;
    let ringer = database.session().await?;
    let heard = bell::canary(database, &ringer).await;
    Ok(match heard.map_err(|failure| source.aged(failure.into()))? {
        Some(took) => Diagnosis::ok(format!("heard after {:.1} ms", took.as_secs_f64() * 1_000.0)),
        None => Diagnosis::failed(
            "LISTEN receives nothing: most likely the source is behind a pooler in transaction mode",
        )
        .say("give the service a direct connection in DATABASE_URL, or turn notices off:")
        .command("schoolbell migrate --notify never"),
    })
}

/// How full the queue of notifications is. When it is full, writers that notify fail: the application's in the source, and
/// we ourselves in the target, whose triggers notify Heroku Connect.
pub(super) async fn queue(side: &Side, limits: &Limits) -> Result<Diagnosis, Hindrance> {
    let usage = side.ask(bell::queue_usage).await?;
    let found = format!("{:.1} % full", usage * 100.0);
    if usage < limits.queue {
        return Ok(Diagnosis::ok(found));
    }
    Ok(Diagnosis::failed(format!(
        "{found}: a session listens and does not read; when it is full, writers that notify fail"
    ))
    .say(
        "the oldest transaction of a session that listens keeps it, in whichever database of the server; find it and \
         end it:",
    )
    .sql(
        side.place,
        ["select pid, datname, usename, application_name, xact_start from pg_catalog.pg_stat_activity \
          where xact_start is not null order by xact_start limit 5;"
            .to_string()],
    ))
}
