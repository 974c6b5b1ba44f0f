//! Who is killed when, after the daemon has died: the deadlines of units that end with it (`on_daemon_death = "stop"`).
//!
//! Pure but for the instants it is given; it signals nobody.

use std::time::{Duration, Instant};

use super::wire::Key;

/// Longest grace that is kept: more than anybody waits, and an instant can hold it.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The deadlines.
#[derive(Debug, Default)]
pub struct Guardian {
    waiting: Vec<(Instant, Key)>,
}

// === impl Guardian ===

impl Guardian {
    /// Takes note of processes that have been asked to end, with their grace in milliseconds.
    pub fn expect(&mut self, asked: Vec<(Key, u64)>, now: Instant) {
        let deadline = |grace_ms| now + Duration::from_millis(grace_ms).min(GRACE_MAX);
        self.waiting.extend(asked.into_iter().map(|(key, grace_ms)| (deadline(grace_ms), key)));
    }

    /// The time until the next deadline, rounded up to the millisecond so that it is over when the wait is.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        let next = self.waiting.iter().map(|(deadline, _)| *deadline).min()?;
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Those whose time is over; they are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<Key> {
        let (over, waiting) = self.waiting.drain(..).partition(|(deadline, _)| *deadline <= now);
        self.waiting = waiting;
        let over: Vec<(Instant, Key)> = over;
        over.into_iter().map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_and_at_its_own_time() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut guardian = Guardian::default();
        assert_eq!(guardian.next(start), None);
        guardian.expect(vec![(1, 500), (2, 100), (3, u64::MAX)], start);
        assert_eq!(guardian.next(start), Some(Duration::from_millis(101)));
        let later = start + Duration::from_millis(100);
        assert_eq!((guardian.due(later), guardian.due(later)), (vec![2], vec![]));
        assert_eq!(guardian.due(start + Duration::from_secs(1)), [1]);
        assert_eq!(guardian.due(start + GRACE_MAX), [3]);
    }
}
