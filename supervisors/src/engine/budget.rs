//! How much failing a child may do: OTP's restart window, and the count of lives that never became stable.

use std::collections::VecDeque;

use super::event::Time;
use super::report::Limit;
use crate::spec::{Backoff, ChildSpec, Intensity};

/// Times of restarts within a period, oldest first: OTP's `add_restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Window {
    times: VecDeque<Time>,
}

/// The failures of one child since its counts were last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Used only by a child that shares no group's.
    pub(super) window: Window,
    /// Restarts in a row since the last stable life; decides the delay.
    failures: u32,
    /// Lives in a row that never became stable.
    unstable: u32,
}

// === impl Window ===

impl Window {
    /// Counts a restart. `Some` when that is one too many: a restart exactly `period` old still counts, and the one that
    /// makes it *more* than `restarts` is refused.
    pub(super) fn charge(&mut self, intensity: Intensity, now: Time) -> Option<Limit> {
        let Intensity { restarts, period } = intensity;
        let oldest = now.saturating_sub(period);
        while self.times.front().is_some_and(|&at| at < oldest) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        (self.times.len() > restarts as usize).then_some(Limit::Intensity { restarts, period })
    }

    /// How many restarts lie within the period that ends now.
    pub(super) fn used(&self, intensity: Intensity, now: Time) -> u32 {
        let oldest = now.saturating_sub(intensity.period);
        let used = self.times.iter().rev().take_while(|&&at| at >= oldest).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

// === impl Budget ===

impl Budget {
    /// Notes the end of a life that is to be followed by another.
    pub(super) fn fail(&mut self, stable: bool) {
        self.failures = self.failures.saturating_add(1);
        if !stable {
            self.unstable = self.unstable.saturating_add(1);
        }
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

    /// Whether too many lives in a row never became stable. This makes giving up reachable when the delays outgrow the
    /// window.
    pub(super) fn over_unstable(&self, spec: &ChildSpec) -> Option<Limit> {
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

    fn charge(budget: &mut Budget, spec: &ChildSpec, stable: bool, second: u64) -> Option<Limit> {
        budget.fail(stable);
        let limit = budget.window.charge(spec.intensity, Duration::from_secs(second));
        limit.or_else(|| budget.over_unstable(spec))
    }

    fn refused_at(spec: &ChildSpec, seconds: &[u64]) -> Option<usize> {
        let mut budget = Budget::default();
        seconds.iter().position(|&at| charge(&mut budget, spec, false, at).is_some())
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
        assert_eq!(charge(&mut budget, &spec, false, 0), None);
        budget.forgive();
        assert_eq!(charge(&mut budget, &spec, true, 20), None);
        assert_eq!(budget.failures(), 1, "the end of a stable life is the first of a new row");
        assert_eq!(charge(&mut budget, &spec, false, 21), None);
        let limit = charge(&mut budget, &spec, false, 22);
        assert_eq!(limit, Some(Limit::Unstable { lives: 2 }));
    }
}
