//! What is kept: limits, and the closed segments that they are held against.
//!
//! Pure: decides which segment goes, and touches no file.

use std::collections::VecDeque;
use std::time::Duration;

/// Smallest segment: below this the files cost more than they hold.
const SEGMENT_MIN_BYTES: u64 = 4 << 10;
/// Segments of a unit unless told otherwise: each is up to three files, and every reader lists the directory.
const SEGMENTS_DEFAULT: u32 = 1000;
/// One that is written, and one that is read.
const SEGMENTS_MIN: u32 = 2;
/// Of what is to go at an age, so much of that age at most lies in one segment: segments go as a whole.
const SEGMENTS_PER_AGE: u32 = 4;

/// How much is kept of a unit's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One segment: its data and its index together. Between 4 KiB and half of `max_bytes`.
    pub segment_bytes: u64,
    /// All segments of the unit together, as they lie on the disk; the oldest go first.
    pub max_bytes: u64,
    /// All segments of the unit, at least 2; the oldest go first.
    pub max_segments: u32,
    /// Segments whose last byte is older than this go.
    pub max_age: Option<Duration>,
    /// A segment is closed when it is this old; `None`: a quarter of `max_age`, if there is one.
    pub segment_age: Option<Duration>,
    /// Whether closed segments are compressed when the unit is quiet.
    pub compress: bool,
}

/// A segment that is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) number: u32,
    /// On disk, index included.
    pub(super) bytes: u64,
    /// When it was last written.
    pub(super) newest_ns: u64,
    /// Whether it is compressed, or not worth it.
    pub(super) packed: bool,
}

/// All closed segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    segments: VecDeque<Closed>,
    bytes: u64,
    unpacked: usize,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            max_bytes: 256 << 20,
            max_segments: SEGMENTS_DEFAULT,
            max_age: None,
            segment_age: None,
            compress: true,
        }
    }
}

impl Limits {
    /// Brought into their bounds.
    pub(super) fn checked(self) -> Self {
        let max_bytes = self.max_bytes.max(2 * SEGMENT_MIN_BYTES);
        let segment_bytes = self.segment_bytes.clamp(SEGMENT_MIN_BYTES, max_bytes / 2);
        Self { max_bytes, segment_bytes, max_segments: self.max_segments.max(SEGMENTS_MIN), ..self }
    }

    /// Whether a segment begun then is to be closed now.
    pub(super) fn is_old(&self, created_ns: u64, now_ns: u64) -> bool {
        let age = self.segment_age.or(self.max_age.map(|age| age / SEGMENTS_PER_AGE));
        age.is_some_and(|age| u128::from(now_ns.saturating_sub(created_ns)) >= age.as_nanos())
    }

    /// When what was written then is to go.
    pub(super) fn expiry_ns(&self, written_ns: u64) -> Option<u64> {
        let age = u64::try_from(self.max_age?.as_nanos()).unwrap_or(u64::MAX);
        Some(written_ns.saturating_add(age))
    }
}

// === impl Shelf ===

impl Shelf {
    /// Adds the newest.
    pub(super) fn push(&mut self, closed: Closed) {
        self.bytes += closed.bytes;
        self.unpacked += usize::from(!closed.packed);
        self.segments.push_back(closed);
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Closed> {
        let oldest = self.segments.pop_front()?;
        self.bytes -= oldest.bytes;
        self.unpacked -= usize::from(!oldest.packed);
        Some(oldest)
    }

    /// Takes the oldest if there is no room for one more full segment.
    pub(super) fn pop_surplus(&mut self, limits: &Limits) -> Option<Closed> {
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let full = self.bytes + limits.segment_bytes > limits.max_bytes || count >= limits.max_segments;
        full.then(|| self.pop()).flatten()
    }

    /// Takes the oldest if its time is over.
    pub(super) fn pop_expired(&mut self, limits: &Limits, now_ns: u64) -> Option<Closed> {
        let over = limits.expiry_ns(self.segments.front()?.newest_ns).is_some_and(|at| at <= now_ns);
        over.then(|| self.pop()).flatten()
    }

    /// When the oldest was last written.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.segments.front().map(|oldest| oldest.newest_ns)
    }

    /// On disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether any is still to be compressed.
    pub(super) fn has_unpacked(&self) -> bool {
        self.unpacked > 0
    }

    /// The oldest that is still to be compressed, of those below `before`.
    pub(super) fn unpacked(&self, before: u32) -> Option<u32> {
        self.segments.iter().find(|closed| !closed.packed && closed.number < before).map(|closed| closed.number)
    }

    /// A segment has been compressed to so many bytes, or will not be (`None`).
    pub(super) fn note_packed(&mut self, number: u32, bytes: Option<u64>) {
        let Some(closed) = self.segments.iter_mut().find(|closed| closed.number == number) else { return };
        self.unpacked -= usize::from(!closed.packed);
        closed.packed = true;
        if let Some(bytes) = bytes {
            self.bytes = self.bytes - closed.bytes + bytes;
            closed.bytes = bytes;
        }
    }
}
