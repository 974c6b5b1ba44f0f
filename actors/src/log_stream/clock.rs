//! The wall clock of log records.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970. May jump; the order of records is kept by their sequence, never by their time.
#[expect(clippy::disallowed_methods, reason = "the one place where log records get their wall time, outside tokio")]
pub(super) fn wall_time_ns() -> u64 {
    let now_ns = nanoseconds(SystemTime::now());
    #[cfg(test)]
    let now_ns = now_ns.saturating_add_signed(SHIFT_NS.get());
    now_ns
}

#[cfg(test)]
thread_local! {
    /// How far the clock of a test's thread has been set forward.
    static SHIFT_NS: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Sets the clock of this thread: so far from the true time.
#[cfg(test)]
pub(super) fn shift(seconds: i64) {
    SHIFT_NS.set(seconds * 1_000_000_000);
}

/// A file's time in the same unit.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
