//! The wall clock of log records.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970. May jump; the order of records is kept by their sequence, never by their time.
#[expect(clippy::disallowed_methods, reason = "the one place where log records get their wall time, outside tokio")]
pub(super) fn wall_time_ns() -> u64 {
    nanoseconds(SystemTime::now())
}

/// A file's time in the same unit.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
