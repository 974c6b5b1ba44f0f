//! How much failing a child may do: OTP's restart window, and the count of lives that never became stable.

use std::collections::VecDeque;

use super::event::Time;
use super::report::Limit;
use crate::spec::{Backoff, ChildSpec, Intensity};

/// The failures of one child since its counts were last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Times of the restarts inside the window, oldest first.
    window: VecDeque<Time>,
    /// Restarts in a row since the last stable life; decides the delay.
    failures: u32,
    /// Lives in a row that never became stable.
    unstable: u32,
}

// === impl Budget ===

impl Budget {
    /// Counts the end of a life that is to be followed by another. `Some` when that is one too many.
    ///
    /// The window is OTP's `add_restart`: a restart exactly `period` old still counts, and the one that makes it *more*
    /// than `restarts` is refused. `unstable` is what makes giving up reachable when the delays outgrow the window.
    pub(super) fn charge(&mut self, spec: &ChildSpec, stable: bool, now: Time) -> Option<Limit> {
        self.failures = self.failures.saturating_add(1);
        if !stable {
            self.unstable = self.unstable.saturating_add(1);
        }
        self.over_intensity(spec.intensity, now).or_else(|| self.over_unstable(spec))
    }

    /// A life became stable: what came before is forgiven. The window stays, it forgets by itself.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.unstable = 0;
    }

    /// Everything is forgotten: somebody asked for a start.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    fn over_intensity(&mut self, intensity: Intensity, now: Time) -> Option<Limit> {
        let Intensity { restarts, period } = intensity;
        let oldest = now.saturating_sub(period);
        while self.window.front().is_some_and(|&at| at < oldest) {
            self.window.pop_front();
        }
        self.window.push_back(now);
        (self.window.len() > restarts as usize).then_some(Limit::Intensity { restarts, period })
    }

    fn over_unstable(&self, spec: &ChildSpec) -> Option<Limit> {
        let limit = match spec.backoff {
            Backoff::None => None,
            Backoff::Exponential { .. } => spec.unstable_max,
        };
        limit.filter(|&max| self.unstable >= max).map(|_| Limit::Unstable { lives: self.unstable })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Name;

    fn spec(restarts: u32, period_seconds: u64) -> ChildSpec {
        let period = Duration::from_secs(period_seconds);
        let id = Name::new("a").unwrap();
        ChildSpec { intensity: Intensity { restarts, period }, backoff: Backoff::None, ..ChildSpec::new(id) }
    }

    fn refused_at(spec: &ChildSpec, seconds: &[u64]) -> Option<usize> {
        let mut budget = Budget::default();
        seconds.iter().position(|&at| budget.charge(spec, false, Duration::from_secs(at)).is_some())
    }

    #[test]
    fn the_restart_after_the_last_allowed_one_is_refused() {
        assert_eq!(refused_at(&spec(0, 5), &[0]), Some(0));
        assert_eq!(refused_at(&spec(2, 5), &[0, 1, 2]), Some(2));
    }

    #[test]
    fn the_window_slides_and_its_start_is_inclusive() {
        assert_eq!(refused_at(&spec(1, 5), &[0, 5]), Some(1), "exactly one period old still counts");
        assert_eq!(refused_at(&spec(1, 5), &[0, 6, 12, 18]), None);
        assert_eq!(refused_at(&spec(2, 5), &[0, 4, 6, 9]), Some(3), "4, 6 and 9 are within five seconds");
    }

    #[test]
    fn without_backoff_unstable_lives_are_not_counted() {
        let none = ChildSpec { unstable_max: Some(1), ..spec(100, 1) };
        assert_eq!(refused_at(&none, &[0, 10, 20]), None);
        let doubling = ChildSpec { backoff: crate::spec::BACKOFF_DEFAULT, unstable_max: Some(3), ..spec(100, 1) };
        assert_eq!(refused_at(&doubling, &[0, 10, 20]), Some(2));
    }

    #[test]
    fn a_stable_life_forgives_what_came_before() {
        let spec = ChildSpec { backoff: crate::spec::BACKOFF_DEFAULT, unstable_max: Some(2), ..spec(100, 1) };
        let mut budget = Budget::default();
        assert_eq!(budget.charge(&spec, false, Duration::ZERO), None);
        budget.forgive();
        assert_eq!(budget.charge(&spec, true, Duration::from_secs(20)), None);
        assert_eq!(budget.failures(), 1, "the end of a stable life is the first of a new row");
        assert_eq!(budget.charge(&spec, false, Duration::from_secs(21)), None);
        let limit = budget.charge(&spec, false, Duration::from_secs(22));
        assert_eq!(limit, Some(Limit::Unstable { lives: 2 }));
    }
}
