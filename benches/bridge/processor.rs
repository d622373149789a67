//! Processor time, from /proc: none where the system has no such thing.

use std::path::Path;
use std::time::Duration;

/// Linux has counted hundredths of a second here for as long as there is /proc.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far, and the processes that it started and saw end.
pub fn time_of(pid: u32) -> Option<Duration> {
    let (_, ticks) = parent_and_ticks(&Path::new("/proc").join(pid.to_string()))?;
    Some(TICK * ticks)
}

/// The same with all processes that it has started: a server with its sessions.
pub fn time_of_family(pid: u32) -> Option<Duration> {
    let children = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let (parent, ticks) = parent_and_ticks(&entry.path())?;
        (parent == pid).then_some(TICK * ticks)
    });
    Some(time_of(pid)? + children.sum::<Duration>())
}

fn parent_and_ticks(folder: &Path) -> Option<(u32, u32)> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name may hold anything but ends with the last bracket.
    let fields: Vec<u32> = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    // In user and system mode, and the same of children that have ended.
    Some((*fields.get(1)?, fields.get(11..15)?.iter().sum()))
}
