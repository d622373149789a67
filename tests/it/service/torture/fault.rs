//! What can go wrong, and what a run reports of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use schoolbell::failpoint::Failpoint;

/// What is done to a program that has stopped at a failpoint, or to its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The writer is killed, the other takes over.
    Kill,
    /// The writer ends by itself in that moment, its other steps in the middle of what they do.
    Exit,
    /// Both are killed and started again.
    KillBoth,
    SourceCut,
    SourceHalfClosed,
    SourceStalls,
    TargetCut,
    TargetHalfClosed,
    TargetStalls,
    SourceRestarts,
    TargetRestarts,
    /// The writer is stopped, its target connections end without its knowledge, the other takes over and writes
    /// something newer, and the writer continues with what it had in hand.
    Pause,
    /// Heroku Connect reads a table again, and the operator resyncs what is missing.
    Reload,
    /// The same while a full resync runs.
    ReloadDuringResync,
    /// An administrator changes the databases' settings, and every session begins again with them.
    Settings,
    /// Others lock rows of both databases, and Heroku Connect updates many at once.
    ForeignLocks,
    /// Keys come that are longer than an index holds, and that no column of the target takes.
    LongKeys,
}

/// What an administrator may set for a database, but for a search path, without which the applications find nothing.
pub(super) const ODD_SETTINGS: [&str; 16] = [
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Asia/Kolkata'",
    "bytea_output = 'escape'",
    "extra_float_digits = -10",
    "xmlbinary = 'hex'",
    "default_transaction_isolation = 'serializable'",
    "synchronous_commit = 'off'",
    "row_security = off",
    "statement_timeout = '300ms'",
    "lock_timeout = '50ms'",
    "idle_in_transaction_session_timeout = '200ms'",
    "plan_cache_mode = 'force_generic_plan'",
    "quote_all_identifiers = on",
    "enable_indexscan = off",
    "work_mem = '64kB'",
];
/// Only in the target: the writers' new sessions would write nothing.
pub(super) const READ_ONLY: &str = "default_transaction_read_only = on";

impl Fault {
    pub(super) const ALL: [Self; 17] = [
        Self::Kill,
        Self::Exit,
        Self::KillBoth,
        Self::SourceCut,
        Self::SourceHalfClosed,
        Self::SourceStalls,
        Self::TargetCut,
        Self::TargetHalfClosed,
        Self::TargetStalls,
        Self::SourceRestarts,
        Self::TargetRestarts,
        Self::Pause,
        Self::Reload,
        Self::ReloadDuringResync,
        Self::Settings,
        Self::ForeignLocks,
        Self::LongKeys,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Exit => "exit in mid-step",
            Self::KillBoth => "kill -9 both",
            Self::SourceCut => "source cut",
            Self::SourceHalfClosed => "source half-closed",
            Self::SourceStalls => "source stalls",
            Self::TargetCut => "target cut",
            Self::TargetHalfClosed => "target half-closed",
            Self::TargetStalls => "target stalls",
            Self::SourceRestarts => "source crashes",
            Self::TargetRestarts => "target crashes",
            Self::Pause => "SIGSTOP, take-over, SIGCONT",
            Self::Reload => "reload",
            Self::ReloadDuringResync => "reload during resync",
            Self::Settings => "settings changed",
            Self::ForeignLocks => "foreign locks",
            Self::LongKeys => "long keys",
        }
    }
}

/// What a run has done.
#[derive(Default)]
pub(super) struct Report {
    pub(super) cells: BTreeMap<Fault, BTreeMap<Failpoint, u64>>,
    /// From a kill until the other process holds the lock.
    pub(super) take_overs: Vec<Duration>,
    /// From the end of a fault until a change made after it is written.
    pub(super) recoveries: Vec<Duration>,
    pub(super) transactions: u64,
    pub(super) checks: u64,
    pub(super) rows: u64,
    pub(super) reloaded_away: i64,
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        for (fault, places) in other.cells {
            for (place, count) in places {
                *self.cells.entry(fault).or_default().entry(place).or_default() += count;
            }
        }
        self.take_overs.extend(other.take_overs);
        self.recoveries.extend(other.recoveries);
        self.transactions += other.transactions;
        self.checks += other.checks;
        self.rows += other.rows;
        self.reloaded_away += other.reloaded_away;
    }

    pub(super) fn faults(&self) -> u64 {
        self.cells.values().flat_map(BTreeMap::values).sum()
    }

    /// As Markdown: where it ran, the matrix, what was measured.
    pub(super) fn markdown(&mut self, seed: u64, seconds: u64, server: &str) -> String {
        let mut text = format!(
            "{} faults in {seconds} s, SCHOOLBELL_SEED={seed}, {server}, {} cores, {:.0}\n\n| fault |",
            self.faults(),
            std::thread::available_parallelism().map_or(0, usize::from),
            jiff::Timestamp::now(),
        );
        for place in Failpoint::ALL {
            _ = write!(text, " {} |", place.name());
        }
        text.push_str(" all |\n|---|");
        text.push_str(&"---:|".repeat(Failpoint::ALL.len() + 1));
        for fault in Fault::ALL {
            let places = self.cells.remove(&fault).unwrap_or_default();
            _ = write!(text, "\n| {} |", fault.name());
            for place in Failpoint::ALL {
                _ = write!(text, " {} |", places.get(&place).unwrap_or(&0));
            }
            _ = write!(text, " {} |", places.values().sum::<u64>());
        }
        text.push_str("\n\n| measured | |\n|---|---:|");
        for (what, count) in [
            ("transactions committed by the writers", self.transactions),
            ("times that everything was compared", self.checks),
            ("rows compared", self.rows),
            ("rows lost by a reload and brought back", self.reloaded_away.unsigned_abs()),
        ] {
            _ = write!(text, "\n| {what} | {count} |");
        }
        for (what, times) in [
            ("take-over after a kill", &mut self.take_overs),
            ("fault to new change written", &mut self.recoveries),
        ] {
            times.sort_unstable();
            if let (Some(middle), Some(longest)) = (times.get(times.len() / 2), times.last()) {
                _ = write!(
                    text,
                    "\n| {what}, median / longest of {} | {:.2} s / {:.2} s |",
                    times.len(),
                    middle.as_secs_f64(),
                    longest.as_secs_f64()
                );
            }
        }
        text
    }
}

/// Puts the report into RELIABILITY.md, in the place of the one before.
pub(super) fn keep(report: &str) {
    pub(super) const BEGIN: &str = "<!-- written by SCHOOLBELL_BLESS=1 make torture -->\n";
    pub(super) const END: &str = "<!-- end of what was written -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RELIABILITY.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the place is marked");
    let (_, after) = rest.split_once(END).expect("its end is marked");
    std::fs::write(path, format!("{before}{BEGIN}{report}\n{END}{after}")).unwrap();
}
