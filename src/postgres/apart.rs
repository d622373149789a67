//! A batch that is refused as a whole is tried in parts, until the rows at fault are isolated.
//!
//! Promise: a few bad rows among thousands do not hold up the others and cost a few attempts each;
//! a refusal that affects all rows costs a few attempts in total.

use std::collections::VecDeque;
use std::ops::Range;

use crate::postgres::failure::Failure;

/// What can be tried in parts.
pub trait Parts: Sized {
    /// How many could be at fault.
    fn count(&self) -> usize;

    /// Two parts of about the same size, the one to try first last. Of something that has at least two.
    fn halves(self) -> [Self; 2];
}

/// Places in a list.
impl Parts for Range<usize> {
    fn count(&self) -> usize {
        self.len()
    }

    fn halves(self) -> [Self; 2] {
        let middle = self.start + self.len() / 2;
        [middle..self.end, self.start..middle]
    }
}

/// When this many have been refused alike on their own and none has got through, the refusal is taken to affect all. Each
/// costs a few milliseconds, and of a batch half of which is refused one gets through before.
const ALIKE: usize = 16;
/// The same where each has to be waited for: locks, and statements that are broken off.
const ALIKE_AND_SLOW: usize = 3;

/// What is still to be tried, and what was refused.
pub struct Apart<P> {
    parts: VecDeque<P>,
    last_was_alone: bool,
    got_through: bool,
    /// What was refused: one each, except what was not tried any more once the refusal was known to
    /// affect all.
    pub refused: Vec<(P, Failure)>,
    /// The refusal affects all: no row is at fault.
    pub affects_all: bool,
}

impl<P: Parts> Apart<P> {
    /// Nothing was tried yet.
    pub fn new(whole: P) -> Self {
        Self {
            parts: VecDeque::from([whole]),
            last_was_alone: false,
            got_through: false,
            refused: Vec::new(),
            affects_all: false,
        }
    }

    /// The next part to try. What came of it is to be reported by [`Apart::through`] or [`Apart::refuse`].
    pub fn next_part(&mut self) -> Option<P> {
        // Bad rows are often neighbours: a part far from a refused one shows sooner whether any
        // gets through.
        match std::mem::take(&mut self.last_was_alone) {
            true => {
                let anywhere = fastrand::usize(..self.parts.len().max(1));
                self.parts.swap_remove_front(anywhere)
            }
            false => self.parts.pop_back(),
        }
    }

    /// The part got through.
    pub fn through(&mut self) {
        self.got_through = true;
    }

    /// The part is too large, and nothing is wrong with it.
    pub fn divide(&mut self, part: P) {
        self.parts.extend(part.halves());
    }

    /// The part was refused. A lost connection ends it all.
    pub fn refuse(&mut self, part: P, failure: Failure) -> Result<(), Failure> {
        if matches!(failure, Failure::Reconnect(_)) {
            return Err(failure);
        }
        if part.count() > 1 {
            self.divide(part);
            return Ok(());
        }
        self.last_was_alone = true;
        self.affects_all = !self.got_through && self.affects_all(&failure);
        if self.affects_all {
            let rest = self.parts.drain(..).map(|part| (part, failure.clone()));
            self.refused.extend(rest);
        }
        self.refused.push((part, failure));
        Ok(())
    }

    /// Each row may have a bad value of its own; anything else that several rows meet alike is no row's fault.
    fn affects_all(&self, failure: &Failure) -> bool {
        let alike = self.refused.iter().filter(|(_, other)| other.sqlstate() == failure.sqlstate());
        let enough = match failure.sqlstate() {
            Some("55P03" | "57014") => ALIKE_AND_SLOW,
            _ => ALIKE,
        };
        !matches!(failure, Failure::Dead(_)) && alike.count() + 1 >= enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::failure::Refusal;

    impl Parts for Vec<u32> {
        fn count(&self) -> usize {
            self.len()
        }

        fn halves(mut self) -> [Self; 2] {
            let second = self.split_off(self.len() / 2);
            [second, self]
        }
    }

    fn refusal() -> Refusal {
        Refusal { sqlstate: "42501".into(), reason: String::new(), remedy: "" }
    }

    /// Refuses some of a thousand numbers; returns how many attempts that took, which were refused,
    /// and whether all are considered affected.
    fn tried(failure: &Failure, bad: impl Fn(u32) -> bool) -> (usize, Vec<u32>, bool) {
        let (mut attempts, mut all) = (0, Vec::new());
        let mut apart = Apart::new((0..1_000).collect::<Vec<u32>>());
        while let Some(part) = apart.next_part() {
            attempts += 1;
            match part.iter().any(|number| bad(*number)) {
                true => apart.refuse(part, failure.clone()).unwrap(),
                false => {
                    apart.through();
                    all.extend(part);
                }
            }
        }
        let mut refused: Vec<u32> =
            apart.refused.iter().flat_map(|(part, _)| part.clone()).collect();
        all.extend(&refused);
        all.sort_unstable();
        refused.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>(), "each once");
        (attempts, refused, apart.affects_all)
    }

    #[test]
    fn a_few_bad_ones_are_found_wherever_they_are_and_whatever_they_are_refused_with() {
        let failures =
            [Failure::Blocked(refusal()), Failure::Retry(refusal()), Failure::Dead(refusal())];
        for failure in failures {
            for bad in [
                vec![0],
                vec![999],
                vec![0, 1, 2, 3, 4],
                vec![500, 501, 502],
                vec![7, 300, 444, 998],
            ] {
                let (attempts, refused, affects_all) = tried(&failure, |n| bad.contains(&n));
                assert_eq!((&refused, affects_all), (&bad, false));
                assert!(attempts <= 2 * 11 * bad.len(), "{attempts} for {bad:?}");
            }
        }
    }

    #[test]
    fn what_is_refused_to_everybody_is_not_tried_with_each() {
        for failure in [Failure::Blocked(refusal()), Failure::Retry(refusal())] {
            let (attempts, refused, affects_all) = tried(&failure, |_| true);
            assert!(attempts < 200 && refused.len() == 1_000 && affects_all, "{attempts}");
        }
        let (attempts, refused, affects_all) = tried(&Failure::Dead(refusal()), |_| true);
        assert!(attempts > 1_000 && refused.len() == 1_000 && !affects_all, "{attempts}");
    }

    #[test]
    fn good_ones_get_through_where_half_of_all_are_refused_alike() {
        for failure in [Failure::Blocked(refusal()), Failure::Retry(refusal())] {
            let (_, refused, affects_all) = tried(&failure, |n| n % 2 == 0);
            assert!(refused.len() == 500 && !affects_all);
        }
    }

    #[test]
    fn a_lost_connection_ends_it() {
        let mut apart = Apart::new(vec![1, 2]);
        let part = apart.next_part().unwrap();
        assert!(apart.refuse(part, Failure::Reconnect("gone".into())).is_err());
    }
}
