//! How the disk takes a unit's output: told when it changes for the worse or the better, never for each byte.

use std::io;

/// Trouble is over when the disk has taken everything for so long: one that is full to the brim says yes and no by turns.
const SETTLED_NS: u64 = 3_000_000_000;

/// How a log fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Why the disk does not take what the unit writes, in the kernel's words; `None`: it does.
    pub refused: Option<String>,
    /// Bytes thrown away since the trouble began, this or the last one; still counting while it lasts.
    pub dropped_bytes: u64,
    /// Line feeds among them.
    pub dropped_lines: u64,
    /// Closed segments deleted before their time, to make room.
    pub shed_segments: u64,
}

// === impl Health ===

impl Health {
    /// Whether others have to be told: trouble began or is over.
    pub(super) fn differs(&self, told: &Self) -> bool {
        self.refused.is_some() != told.refused.is_some()
    }

    /// New trouble.
    pub(super) fn refuse(&mut self, error: &io::Error) {
        *self = Self { refused: Some(error.to_string()), ..Self::default() };
    }

    pub(super) fn drop_some(&mut self, bytes: u64, lines: u64) {
        self.dropped_bytes += bytes;
        self.dropped_lines += lines;
    }

    /// Everything is written, for so long after the last refusal.
    pub(super) fn settle(&mut self, quiet_ns: u64) {
        if quiet_ns >= SETTLED_NS {
            self.refused = None;
        }
    }
}
