//! Chunks into lines, per stream, across chunk, segment and write boundaries.

use memchr::memchr;

use super::layout::{Life, Record, Stream};

/// Longest piece of a line that is handed out, and so what a reader holds per stream.
pub const LINE_MAX_BYTES: usize = 64 << 10;

/// A line, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Wall time of the first byte of the line (of the chunk it came in), nanoseconds since 1970.
    pub time_ns: u64,
    /// Sequence of the record that brought the first byte: the order of arrival over both streams.
    pub sequence: u64,
    /// Bytes that the unit had written before it, on both streams in the order of arrival, those included that were deleted since.
    /// No two lines of a unit share it, and every reader finds the same.
    pub written_before: u64,
    /// Who wrote it.
    pub life: Life,
    /// Where to.
    pub stream: Stream,
    /// The bytes as written, without the line feed.
    pub bytes: Vec<u8>,
    /// No line feed follows these bytes: a piece of a line longer than [`LINE_MAX_BYTES`], or what a life wrote last. All bytes of
    /// a stream are its lines' bytes, each with a line feed unless `partial`.
    pub partial: bool,
}

/// What a reader is told, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A line.
    Line(Line),
    /// The first record of a life.
    Started {
        /// Whose.
        life: Life,
        /// When, as in [`Line::time_ns`].
        time_ns: u64,
    },
    /// All that a life wrote has been handed out.
    Ended {
        /// Whose.
        life: Life,
        /// When, as in [`Line::time_ns`].
        time_ns: u64,
    },
    /// So many bytes could not be stored (the disk was full).
    Gap {
        /// Of which stream.
        stream: Stream,
        /// How many.
        bytes: u64,
        /// How many line feeds were among them.
        lines: u64,
        /// When it was told, as in [`Line::time_ns`].
        time_ns: u64,
    },
    /// So many bytes were deleted by retention before this reader came to them.
    Skipped {
        /// How many, over both streams.
        bytes: u64,
        /// How many line feeds were among them, by stream (out, err); `None`: that is not known.
        lines: Option<[u64; 2]>,
    },
}

/// The unfinished line of one stream.
#[derive(Debug)]
pub(super) struct Splitter {
    stream: Stream,
    bytes: Vec<u8>,
    /// Of the line's first byte; `None` between lines.
    begun: Option<Begun>,
    /// Reading began in the middle of a line: what is left of it is nobody's.
    torn: bool,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    time_ns: u64,
    sequence: u64,
    written_before: u64,
    life: Life,
}

// === impl Splitter ===

impl Splitter {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, bytes: Vec::new(), begun: None, torn: false }
    }

    /// What comes up to the next line feed, or to the end of the life, is left out.
    pub(super) fn tear(&mut self) {
        self.torn = true;
    }

    /// Whether the next byte begins a line.
    pub(super) fn is_between_lines(&self) -> bool {
        self.begun.is_none() && !self.torn
    }

    /// Takes bytes from the front of `input` up to the end of one line. Returns how many, and the line if it is complete or full.
    /// `written_before` is that of the first byte.
    pub(super) fn take(&mut self, input: &[u8], record: &Record, written_before: u64) -> (usize, Option<Line>) {
        if input.is_empty() {
            return (0, None);
        }
        if self.torn {
            let end = memchr(b'\n', input);
            self.torn = end.is_none();
            return (end.map_or(input.len(), |end| end + 1), None);
        }
        let Record { time_ns, sequence, life, .. } = *record;
        self.begun.get_or_insert(Begun { time_ns, sequence, written_before, life });
        let room = LINE_MAX_BYTES - self.bytes.len();
        // One byte more than there is room for: a line feed right after a full piece still belongs to it.
        let window = &input[..input.len().min(room + 1)];
        if let Some(end) = memchr(b'\n', window) {
            self.bytes.extend_from_slice(&window[..end]);
            return (end + 1, self.finish(false));
        }
        let taken = window.len().min(room);
        self.bytes.extend_from_slice(&window[..taken]);
        if window.len() <= room {
            return (taken, None);
        }
        let begun = self.begun.map(|begun| Begun { written_before: written_before + taken as u64, ..begun });
        let piece = self.finish(true);
        // The next piece keeps the time of the line.
        self.begun = begun;
        (taken, piece)
    }

    /// What there is of a line that nobody will finish.
    pub(super) fn flush(&mut self) -> Option<Line> {
        self.torn = false;
        if self.bytes.is_empty() {
            self.begun = None;
            return None;
        }
        self.finish(true)
    }

    /// The unfinished line so far.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes
    }

    fn finish(&mut self, partial: bool) -> Option<Line> {
        let begun = self.begun.take()?;
        let bytes = std::mem::take(&mut self.bytes);
        let Begun { time_ns, sequence, written_before, life } = begun;
        Some(Line { time_ns, sequence, written_before, life, stream: self.stream, bytes, partial })
    }
}
