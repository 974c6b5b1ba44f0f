//! What need not be read line by line: the parts of a segment in which a pattern is not found.
//!
//! ```text
//! segment's bytes  [ block of up to 256 KiB, cut at its last line feed ]
//!                    └─ pattern ─▶ ranges of lines to keep; all else is passed over
//! ```
//!
//! A block is searched at the beginning of a line and never beyond the end of a life or a gap, so that the lines in it are those
//! that a reader would cut. What is kept is cut into lines and looked at again by the reader: this file only leaves out.

use std::collections::VecDeque;
use std::sync::Arc;

use memchr::memrchr;

use super::filter::Filter;
use super::layout::Stream;

/// Bytes searched at once: large enough for the engine, small enough for the processor's second cache.
pub(super) const SEARCH_BYTES: usize = 256 << 10;
/// Lines to keep that are nearer than this are read in one piece.
const JOIN_BYTES: u64 = 4 << 10;

/// What to do with the bytes that come next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nobody has looked: search from here.
    Search,
    /// Pass over everything before this offset.
    Skip(u64),
    /// Read up to this offset.
    Read(u64),
}

/// Where a reader stands in the search of a segment.
#[derive(Debug)]
pub(super) struct Skipper {
    filter: Arc<Filter>,
    segment: u32,
    streams: [Found; 2],
    block: Vec<u8>,
}

/// What has been found in a stream of the segment.
#[derive(Debug, Default)]
struct Found {
    searched_to: u64,
    keep: VecDeque<(u64, u64)>,
}

// === impl Skipper ===

impl Skipper {
    /// `None`: the filter has nothing that could be searched for.
    pub(super) fn new(filter: &Arc<Filter>) -> Option<Self> {
        filter.required()?;
        Some(Self { filter: Arc::clone(filter), segment: 0, streams: Default::default(), block: Vec::new() })
    }

    /// Offsets from now on are those of this segment.
    pub(super) fn enter(&mut self, segment: u32) {
        if self.segment != segment {
            self.segment = segment;
            self.streams = Default::default();
        }
    }

    /// Whether everything before `offset` has been searched, and nothing after it.
    pub(super) fn is_beyond(&self, stream: Stream, offset: u64) -> bool {
        offset >= self.streams[stream.index()].searched_to
    }

    /// What to do at `offset`.
    pub(super) fn next(&mut self, stream: Stream, offset: u64) -> Next {
        let found = &mut self.streams[stream.index()];
        if offset >= found.searched_to {
            return Next::Search;
        }
        while found.keep.front().is_some_and(|&(_, end)| end <= offset) {
            found.keep.pop_front();
        }
        match found.keep.front() {
            Some(&(begin, end)) if begin <= offset => Next::Read(end),
            Some(&(begin, _)) => Next::Skip(begin),
            None => Next::Skip(found.searched_to),
        }
    }

    /// Searches the stream from `offset`, where a line begins, to at most `end`; `read` fills a buffer from an offset and says how
    /// far.
    pub(super) fn search<E>(
        &mut self,
        stream: Stream,
        (offset, end): (u64, u64),
        read: impl FnOnce(u64, &mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let want = usize::try_from(end - offset).map_or(SEARCH_BYTES, |left| left.min(SEARCH_BYTES));
        self.block.resize(want, 0);
        let got = read(offset, &mut self.block)?;
        let found = &mut self.streams[stream.index()];
        found.keep.clear();
        let lines = match memrchr(b'\n', &self.block[..got]) {
            Some(last) if got == want => &self.block[..=last],
            // A line longer than the block, or bytes that are gone: the reader sees to that.
            _ => {
                found.searched_to = offset + want as u64;
                found.keep.push_back((offset, found.searched_to));
                return Ok(());
            }
        };
        found.searched_to = offset + lines.len() as u64;
        if let Some(pattern) = self.filter.required() {
            pattern.find_lines(lines, |line| found.keep_line(offset + line.start as u64, offset + line.end as u64));
        }
        Ok(())
    }
}

// === impl Found ===

impl Found {
    fn keep_line(&mut self, begin: u64, end: u64) {
        match self.keep.back_mut() {
            Some(last) if begin - last.1 < JOIN_BYTES => last.1 = end,
            _ => self.keep.push_back((begin, end)),
        }
    }
}
