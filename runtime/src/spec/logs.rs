//! How much of a unit's output is kept: the project's word, and what a unit says otherwise.

use std::time::Duration;

use envctl_actors::log_stream::Limits;

/// Limits of one unit's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// All segments of a unit together, on the disk.
    pub max_bytes: u64,
    /// One segment.
    pub segment_bytes: u64,
    /// All segments.
    pub max_segments: u32,
    /// What is older goes.
    pub max_age: Option<Duration>,
    /// A segment this old is closed; `None`: a quarter of `max_age`.
    pub segment_age: Option<Duration>,
    /// Whether closed segments are compressed.
    pub compress: bool,
}

/// What one `logs` table says; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogWish {
    /// See [`LogSpec::max_bytes`].
    pub max_bytes: Option<u64>,
    /// See [`LogSpec::segment_bytes`].
    pub segment_bytes: Option<u64>,
    /// See [`LogSpec::max_segments`].
    pub max_segments: Option<u32>,
    /// See [`LogSpec::max_age`].
    pub max_age: Option<Duration>,
    /// See [`LogSpec::segment_age`].
    pub segment_age: Option<Duration>,
    /// See [`LogSpec::compress`].
    pub compress: Option<bool>,
}

// === impl LogSpec ===

impl LogSpec {
    /// What is kept unless somebody says otherwise.
    pub const DEFAULT: Self = Self {
        max_bytes: 256 << 20,
        segment_bytes: 16 << 20,
        max_segments: 1000,
        max_age: None,
        segment_age: None,
        compress: true,
    };

    /// The same, but for what `wish` says.
    pub fn with(&self, wish: &LogWish) -> Self {
        let max_bytes = wish.max_bytes.unwrap_or(self.max_bytes);
        Self {
            max_bytes,
            segment_bytes: wish.segment_bytes.unwrap_or(self.segment_bytes).min(max_bytes),
            max_segments: wish.max_segments.unwrap_or(self.max_segments),
            max_age: wish.max_age.or(self.max_age),
            segment_age: wish.segment_age.or(self.segment_age),
            compress: wish.compress.unwrap_or(self.compress),
        }
    }

    /// As the log stream takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            segment_bytes: self.segment_bytes,
            max_bytes: self.max_bytes,
            max_segments: self.max_segments,
            max_age: self.max_age,
            segment_age: self.segment_age,
            compress: self.compress,
        }
    }
}
