//! The daemon's own log: lines on standard error, which is a file.
//!
//! A log of trouble must not become trouble: what does not fit the rate is left out and counted, what the file does not take (a full
//! disk) is given up without a word, and no failure of it is logged. Never panics, never waits for anything but the file.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines of one second: far more than a daemon has to say, and no more in an hour than a debug log should hold.
const LINES_MAX: u32 = 200;
const WINDOW: Duration = Duration::from_secs(1);

/// Where the lines go. One per process.
#[derive(Debug)]
struct DaemonLog {
    meter: Mutex<Meter>,
}

/// One line on its way.
#[derive(Debug)]
struct Line<'a>(&'a DaemonLog);

/// How many lines there were lately.
#[derive(Debug)]
struct Meter {
    begun: Instant,
    lines: u32,
    left_out: u64,
}

/// Inner processes tell what they do on their standard error, which is the daemon's log.
pub(crate) fn log_to_stderr() {
    let lines = tracing_subscriber::fmt::layer().with_writer(DaemonLog::new()).with_ansi(false);
    // The subscriber would tell of a failed write on the very file that failed, and panic if that fails too.
    let lines = lines.log_internal_errors(false);
    // Two spans of ractor's would go round every actor, entered with each message: what they add to a line is the number of
    // an actor, which nobody can look up.
    let levels = Targets::new().with_default(LevelFilter::INFO).with_target("ractor", LevelFilter::WARN);
    tracing_subscriber::registry().with(lines).with(levels).init();
}

// === impl DaemonLog ===

impl DaemonLog {
    /// Nothing has been written yet.
    fn new() -> Self {
        Self { meter: Mutex::new(Meter { begun: Instant::now(), lines: 0, left_out: 0 }) }
    }
}

impl<'a> MakeWriter<'a> for DaemonLog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

// === impl Line ===

impl Write for Line<'_> {
    /// A whole line at once: so it comes from the formatter.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut meter = self.0.meter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = meter.admit(Instant::now()) {
            let mut out = io::stderr().lock();
            if left_out > 0 {
                drop(writeln!(out, "{left_out} lines were left out: too many in one second"));
            }
            drop(out.write_all(line));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Meter ===

impl Meter {
    /// Whether there is room for a line, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.begun) >= WINDOW {
            (self.begun, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e15_a_flood_of_lines_is_cut_and_counted_and_the_next_second_tells_so() {
        let begun = Instant::now();
        let mut meter = Meter { begun, lines: 0, left_out: 0 };
        let admitted = (0..1000).filter_map(|_| meter.admit(begun)).collect::<Vec<_>>();
        assert_eq!(admitted, vec![0; LINES_MAX as usize]);
        assert_eq!(meter.admit(begun + WINDOW), Some(1000 - u64::from(LINES_MAX)));
        assert_eq!(meter.admit(begun + WINDOW), Some(0));
    }
}
