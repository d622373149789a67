//! What `migrate` has installed beside the triggers: when they notify.
//!
//! Sole owner of `schoolbell.installation`.

use crate::capture::NotifyMode;
use crate::postgres::db::Session;

const NOTE: &str = include_str!("../../sql/notify_mode.sql");

/// When the installed triggers notify; none before the first `migrate`.
pub async fn notify_mode(source: &Session) -> Result<Option<NotifyMode>, tokio_postgres::Error> {
    let there: bool = source
        .row("select pg_catalog.to_regclass('schoolbell.installation') is not null", &[])
        .await?
        .get(0);
    if !there {
        return former_mode(source).await;
    }
    let rows = source.rows("select notify_mode from schoolbell.installation", &[]).await?;
    Ok(rows.first().and_then(|row| NotifyMode::parse(row.get(0))))
}

/// The same where an older release has installed the triggers: then a function of ours tells the
/// mode. Its text is read and it is not called, because it may have been replaced.
async fn former_mode(source: &Session) -> Result<Option<NotifyMode>, tokio_postgres::Error> {
    let sql = "select prosrc from pg_catalog.pg_proc where oid = pg_catalog.to_regproc('schoolbell.notify_mode')";
    let rows = source.rows(sql, &[]).await?;
    let text: Option<&str> = rows.first().map(|row| row.get(0));
    let mode = text.and_then(|text| text.split('\'').nth(1));
    Ok(mode.and_then(NotifyMode::parse))
}

/// The statement that notes the mode. It is shown by a dry run, so the value is a literal.
pub fn noting(mode: NotifyMode) -> String {
    NOTE.replace("{mode}", &mode.to_string())
}
