//! Places at which a test can stop or end the program, to imitate a failure there.
//!
//! A release build has none of this: [`reach`] is empty there. In a development build (or with the feature
//! `failpoints`) the variable `FAILPOINTS` names a folder. A file in it with a failpoint's name arms it: who
//! gets there writes `<name>.reached` beside it, and continues when the file is gone; when the file says
//! `exit`, the process ends there and then, as if it had been killed.

/// The places, in the order of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failpoint {
    /// Changes and due keys are claimed, nothing is projected.
    AfterClaim,
    /// A resync's page of keys is read, nothing is projected.
    ResyncPage,
    /// Rows are projected, nothing is applied.
    AfterProject,
    /// Rows are written in the target's open transaction.
    BeforeCommit,
    /// The target has committed, the source does not know.
    AfterCommit,
    /// Nothing of the acknowledgement is sent.
    BeforeAcknowledge,
    /// Keys are parked in the source's open transaction.
    WhileParking,
    /// A resync's progress is stored in the source's open transaction.
    ResyncProgress,
    /// The acknowledgement is committed.
    AfterAcknowledge,
    /// The doorbell's lock is taken, the worker does not know.
    WhileArming,
    /// The doorbell is about to be released.
    WhileDisarming,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AfterClaim,
        Self::ResyncPage,
        Self::AfterProject,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeAcknowledge,
        Self::WhileParking,
        Self::ResyncProgress,
        Self::AfterAcknowledge,
        Self::WhileArming,
        Self::WhileDisarming,
    ];

    /// The name of the file that arms it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterClaim => "after-claim",
            Self::ResyncPage => "resync-page",
            Self::AfterProject => "after-project",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeAcknowledge => "before-acknowledge",
            Self::WhileParking => "while-parking",
            Self::ResyncProgress => "resync-progress",
            Self::AfterAcknowledge => "after-acknowledge",
            Self::WhileArming => "while-arming",
            Self::WhileDisarming => "while-disarming",
        }
    }
}

/// Nothing, in a release build.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub async fn reach(_: Failpoint) {}

/// Stops here for as long as the failpoint is armed.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub async fn reach(failpoint: Failpoint) {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::Duration;

    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| std::env::var_os("FAILPOINTS").map(PathBuf::from));
    let Some(folder) = folder else { return };
    let armed = folder.join(failpoint.name());
    let Ok(order) = std::fs::read_to_string(&armed) else { return };
    // The test that armed it waits for this file, and fails without it.
    _ = std::fs::write(folder.join(format!("{}.reached", failpoint.name())), "");
    if order == "exit" {
        std::process::exit(137);
    }
    while armed.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
