//! Load by pgbench: one school, taken at random, is updated in each transaction.

use anyhow::{Context, Result, ensure};
use schoolbell::demo::cluster::Cluster;
use tokio::process::Command;

use crate::stage::school_id;

/// Transactions per second.
pub async fn updates(
    cluster: &Cluster,
    database: &str,
    schools: u32,
    clients: u32,
    seconds: u32,
) -> Result<f64> {
    let script = cluster.folder().join("update.pgbench");
    std::fs::write(
        &script,
        format!(
            "\\set n random(1, {schools})\n\\set r random(1, 1000000000)\nupdate schools set name = 'n' || :r::text, \
             updated_at = localtimestamp where id = {};\n",
            school_id(":n::text")
        ),
    )?;
    let output = Command::new(cluster.programs().join("pgbench"))
        .args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", "postgres"])
        .args(["-p", &cluster.port().to_string(), "-c", &clients.to_string()])
        .args(["-j", &clients.min(2).to_string(), "-T", &seconds.to_string(), "-f"])
        .arg(&script)
        .arg(database)
        .output()
        .await
        .context("running pgbench, which comes with PostgreSQL's server")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let tps = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps =
        tps.and_then(|rest| rest.split_whitespace().next()).context("pgbench names no tps")?;
    Ok(tps.parse()?)
}
