//! Whether the service is ready: both databases reached, capture installed, lag under a limit.

use crate::reports::look::View;

/// Changes are applied within milliseconds. By this lag even a bulk update of millions has been
/// applied.
pub(super) const LONGEST_LAG_SECONDS: f64 = 300.0;

/// What keeps it from being ready; nothing when it is. A copy that stands by is as ready as the writer.
pub(super) fn hindrances(view: View<'_>, stopping: bool) -> Vec<String> {
    let mut hindrances = Vec::new();
    if stopping {
        hindrances.push("it is stopping".into());
    }
    let status = match view {
        View::Fresh(look) => &look.status,
        View::Old(_, why) => {
            hindrances.push(format!("the source cannot be reached: {why}"));
            return hindrances;
        }
    };
    if let Some(problem) = &status.target_problem {
        hindrances.push(format!("the target cannot be reached: {problem}"));
    }
    if let Some(stranger) = &status.writer_blocked_by {
        hindrances.push(format!("writing is blocked: {stranger} holds the writer's lock"));
    }
    for problem in &status.capture_problems {
        hindrances.push(format!("capture: {problem}"));
    }
    if status.lag_seconds > LONGEST_LAG_SECONDS {
        hindrances.push(format!(
            "the oldest change waits for {:.0} s, longer than {LONGEST_LAG_SECONDS:.0} s",
            status.lag_seconds
        ));
    }
    hindrances
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::outbox::parked::Reasons;
    use crate::reports::look::Look;
    use crate::reports::status::Status;

    fn look(change: impl FnOnce(&mut Status)) -> Look {
        let mut status = Status::default();
        change(&mut status);
        let (at, took, reasons) = (Timestamp::UNIX_EPOCH, Duration::ZERO, Reasons::default());
        Look { at, took, status, reasons, salesforce_at: None }
    }

    fn hindered(change: impl FnOnce(&mut Status)) -> Vec<String> {
        hindrances(View::Fresh(&look(change)), false)
    }

    #[test]
    fn it_is_ready_when_both_databases_are_reached_capture_is_installed_and_lag_is_low() {
        assert!(hindered(|_| ()).is_empty());
        assert!(hindered(|status| status.lag_seconds = LONGEST_LAG_SECONDS).is_empty());
        assert!(hindered(|status| status.pending_changes = 1_000_000).is_empty());
    }

    #[test]
    fn each_hindrance_is_told() {
        let all = hindered(|status| {
            status.target_problem = Some("refused".into());
            status.capture_problems = vec!["trigger a".into(), "trigger b".into()];
            status.lag_seconds = 301.0;
        });
        assert_eq!(
            all,
            [
                "the target cannot be reached: refused",
                "capture: trigger a",
                "capture: trigger b",
                "the oldest change waits for 301 s, longer than 300 s",
            ]
        );
        assert_eq!(hindrances(View::Fresh(&look(|_| ())), true), ["it is stopping"]);
    }

    #[test]
    fn what_was_seen_long_ago_is_no_reason_to_be_ready() {
        let old = look(|_| ());
        let gone = hindrances(View::Old(Some(&old), "connection refused"), false);
        assert_eq!(gone, ["the source cannot be reached: connection refused"]);
    }
}
