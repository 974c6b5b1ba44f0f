//! Time in tests: deadlines and conditions, the only place that waits.

use std::fmt::Debug;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Between two looks at a condition that nothing announces.
const POLL_EVERY: Duration = Duration::from_millis(15);

/// A running clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

// === impl Stopwatch ===

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// What is left of `deadline`.
    pub(crate) fn left(self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.elapsed())
    }
}

/// Looks until `look` gives a value, or fails with `what` and what the last look saw.
#[track_caller]
pub(crate) fn until<T, E: Debug>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let clock = Stopwatch::start();
    let (_never, nothing) = mpsc::channel::<()>();
    loop {
        let seen = match look() {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(clock.elapsed() < deadline, "waited {deadline:?} for {what}; last seen: {seen:#?}");
        let _ = nothing.recv_timeout(POLL_EVERY);
    }
}
