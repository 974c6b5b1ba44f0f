//! The writing side of a log: segments, their index, rotation and retention.
//!
//! Driven by the pump thread alone. Bytes come out of a FIFO by splice into the segment at our own offset, their index record
//! follows ([`Store::flush`], once per round), and what a kill leaves between the two is repaired by [`Store::open`]. When the
//! disk refuses, bytes are thrown away and counted: the unit must not wait. Never reads a byte of a unit.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::LogError;
use super::layout::{self, Header, Kind, Life, Part, RECORD_BYTES, Record, Stream};
use super::segment::Segment;
use super::sink::{Kernel, Sink};
use super::{clock, repair};
use crate::process::sys::pipe;

/// Most bytes of one splice: a whole enlarged pipe.
pub(super) const CHUNK_MAX_BYTES: usize = 256 << 10;
/// Smallest segment: below this the files cost more than they hold.
const SEGMENT_MIN_BYTES: u64 = 4 << 10;
/// Index records kept in memory while the disk refuses them; beyond this, bytes are dropped and counted.
const PENDING_MAX_BYTES: usize = 64 << 10;
/// How often the open files are compared with what is on disk (somebody may have removed or truncated them).
const CHECK_EVERY_NS: u64 = 1_000_000_000;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One segment: its data and its index together. Between 4 KiB and half of `max_bytes`.
    pub segment_bytes: u64,
    /// All segments of the unit together; the oldest go first.
    pub max_bytes: u64,
}

/// The log of one unit, opened for writing. One writer per directory: a second one is refused.
pub struct Store {
    dir: PathBuf,
    /// The directory itself, locked as long as the store lives.
    _lock: File,
    limits: Limits,
    sink: Box<dyn Sink>,
    life: Life,
    /// What has been told of this life in the index.
    told: Told,
    active: Option<Segment>,
    /// Closed segments with their lengths, oldest first.
    closed: VecDeque<(u32, u64)>,
    next_number: u32,
    next_sequence: u64,
    /// Bytes of units in all segments so far, deleted ones included.
    base_bytes: u64,
    /// Bytes thrown away since the last stored byte, by stream.
    gaps: [u64; 2],
    /// Encoded records that are not on disk yet.
    pending: Vec<u8>,
    checked_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Started,
    Ended,
}

/// What became of one attempt to take bytes out of a FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many are in the segment.
    Stored(usize),
    /// So many were thrown away and counted.
    Dropped(usize),
    /// There were none.
    Empty,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, max_bytes: 256 << 20 }
    }
}

// === impl Store ===

impl Store {
    /// Opens the log in `dir` (made if missing), repairs what a killed writer left, and goes on after it.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, LogError> {
        Self::open_with(dir, limits, Box::new(Kernel))
    }

    pub(super) fn open_with(dir: &Path, limits: Limits, sink: Box<dyn Sink>) -> Result<Self, LogError> {
        make(dir).map_err(LogError::io("create", dir))?;
        let lock = File::open(dir).map_err(LogError::io("open", dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LogError::Locked(dir.to_path_buf())),
            Err(fs::TryLockError::Error(error)) => return Err(LogError::io("lock", dir)(error)),
        }
        let found = repair::recover(dir).map_err(LogError::io("repair", dir))?;
        let max_bytes = limits.max_bytes.max(2 * SEGMENT_MIN_BYTES);
        let segment_bytes = limits.segment_bytes.clamp(SEGMENT_MIN_BYTES, max_bytes / 2);
        Ok(Self {
            dir: dir.to_path_buf(),
            _lock: lock,
            limits: Limits { segment_bytes, max_bytes },
            sink,
            life: found.life,
            told: if found.life == Life::default() { Told::Nothing } else { Told::Started },
            active: found.last,
            closed: found.closed,
            next_number: found.next_number,
            next_sequence: found.next_sequence,
            base_bytes: found.base_bytes,
            gaps: [0; 2],
            pending: Vec::new(),
            checked_ns: 0,
        })
    }

    /// From here on, bytes belong to this life.
    pub fn set_life(&mut self, life: Life) {
        if life != self.life {
            self.life = life;
            self.told = Told::Nothing;
        }
    }

    /// The life that bytes belong to.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Everything this life wrote has been taken: an unterminated line is complete now.
    pub(super) fn end_life(&mut self) {
        if self.told == Told::Started && self.active.is_some() {
            self.note(Kind::Ended, Stream::Out, 0);
            self.told = Told::Ended;
        }
    }

    /// Index records so far, deleted ones included: grows with every chunk.
    pub(super) fn records(&self) -> u64 {
        self.next_sequence
    }

    /// Whether something is to be tried again later: a gap that is not told yet, records not written.
    pub(super) fn is_owing(&self) -> bool {
        self.gaps != [0; 2] || !self.pending.is_empty()
    }

    /// Takes one chunk out of the FIFO. Never leaves a full FIFO full because of the disk.
    pub(super) fn take(&mut self, stream: Stream, fifo: BorrowedFd<'_>, scratch: &mut [u8]) -> Taken {
        match self.try_store(stream, fifo) {
            Ok(bytes) => Taken::Stored(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Empty,
            Err(error) => self.discard(stream, fifo, scratch, &error),
        }
    }

    /// Writes the index records of this round, and the gaps that are not told yet. `false`: the disk refused, try again later.
    pub(super) fn flush(&mut self) -> bool {
        let told = !self.gaps.iter().any(|&gap| gap > 0) || self.tell_gaps().is_ok();
        self.write_pending().is_ok() && told
    }

    /// Deletes all that was stored so far; returns how many bytes the disk got back. Sequences go on.
    pub fn clear(&mut self) -> io::Result<u64> {
        let active = |store: &Self| store.active.as_ref().map_or(0, Segment::bytes);
        let before = self.closed.iter().map(|&(_, bytes)| bytes).sum::<u64>() + active(self);
        if active(self) > super::layout::HEADER_BYTES {
            self.close_active()?;
            self.begin_segment(clock::wall_time_ns())?;
        }
        while let Some((number, _)) = self.closed.pop_front() {
            repair::delete_segment(&self.dir, number);
        }
        Ok(before.saturating_sub(active(self)))
    }

    /// As if the time for the next look at the files had come.
    #[cfg(test)]
    pub(super) fn expect_meddling(&mut self) {
        self.checked_ns = 0;
    }

    fn try_store(&mut self, stream: Stream, fifo: BorrowedFd<'_>) -> io::Result<usize> {
        if self.pending.len() >= PENDING_MAX_BYTES {
            self.write_pending()?;
        }
        // Nothing is created for a FIFO without bytes: segments begin at their first byte.
        if self.active.is_none() && pipe::available(fifo)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let now_ns = clock::wall_time_ns();
        self.check_files(now_ns);
        let room = self.room(now_ns)?;
        let (dir, sink) = (&self.dir, &mut self.sink);
        let segment = self.active.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let offset = segment.len[stream.index()];
        let bytes = sink.splice(fifo, segment.data(dir, stream)?, offset, room)?;
        if bytes == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        segment.len[stream.index()] += bytes as u64;
        self.base_bytes += bytes as u64;
        self.note_gaps();
        if self.told == Told::Nothing {
            self.told = Told::Started;
            self.note(Kind::Started, stream, 0);
        }
        self.push(Kind::Data, stream, offset, u32::try_from(bytes).unwrap_or(u32::MAX), now_ns);
        Ok(bytes)
    }

    /// Room in the active segment for one chunk, after rotating if there is none.
    fn room(&mut self, now_ns: u64) -> io::Result<usize> {
        // A chunk may bring four records with it: two gaps, a start, itself.
        let spare = self.pending.len() as u64 + 4 * RECORD_BYTES;
        let limit = self.limits.segment_bytes;
        if self.active.as_ref().is_some_and(|segment| segment.bytes() + spare >= limit) {
            self.close_active()?;
        }
        if self.active.is_none() {
            self.begin_segment(now_ns)?;
        }
        let used = self.active.as_ref().map_or(0, Segment::bytes) + spare;
        Ok(usize::try_from(limit.saturating_sub(used)).unwrap_or(CHUNK_MAX_BYTES).clamp(1, CHUNK_MAX_BYTES))
    }

    fn begin_segment(&mut self, now_ns: u64) -> io::Result<()> {
        self.delete_oldest();
        let first_sequence = self.next_sequence;
        let header = Header { first_sequence, base_bytes: self.base_bytes, created_ns: now_ns };
        // The number is used up even if this fails half-way: what is left of it is never written again.
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        make(&self.dir)?;
        let index = Segment::create(&self.dir, number, Part::Index)?;
        if let Err(error) = self.sink.write(&index, &header.encode(), 0) {
            drop(fs::remove_file(layout::path(&self.dir, number, Part::Index)));
            self.next_number = number;
            return Err(error);
        }
        self.active = Some(Segment::new(number, index));
        Ok(())
    }

    fn close_active(&mut self) -> io::Result<()> {
        self.write_pending()?;
        if let Some(segment) = self.active.take() {
            self.closed.push_back((segment.number, segment.bytes()));
        }
        Ok(())
    }

    /// Makes room for one more segment within `max_bytes`. The index goes first: readers then do not see the rest.
    fn delete_oldest(&mut self) {
        let mut total: u64 = self.closed.iter().map(|&(_, bytes)| bytes).sum();
        while total + self.limits.segment_bytes > self.limits.max_bytes {
            let Some((number, bytes)) = self.closed.pop_front() else { return };
            repair::delete_segment(&self.dir, number);
            total -= bytes;
        }
    }

    /// Goes on in a new segment if somebody removed or truncated the files of this one.
    fn check_files(&mut self, now_ns: u64) {
        if now_ns.abs_diff(self.checked_ns) < CHECK_EVERY_NS {
            return;
        }
        self.checked_ns = now_ns;
        if self.active.as_ref().is_some_and(|segment| !segment.is_whole()) {
            tracing::warn!(dir = %self.dir.display(), "log files were removed or truncated by somebody else; starting new ones");
            // Records that wait belong to the lost files, and so does their sequence.
            self.pending.clear();
            drop(self.close_active());
        }
    }

    fn discard(&mut self, stream: Stream, fifo: BorrowedFd<'_>, scratch: &mut [u8], error: &io::Error) -> Taken {
        if self.gaps == [0; 2] {
            tracing::warn!(dir = %self.dir.display(), %error, "log cannot be written; output is dropped and counted");
        }
        match pipe::read_some(fifo, scratch) {
            Ok(bytes @ 1..) => {
                self.gaps[stream.index()] += bytes as u64;
                Taken::Dropped(bytes)
            }
            Ok(0) | Err(_) => Taken::Empty,
        }
    }

    fn tell_gaps(&mut self) -> io::Result<()> {
        self.room(clock::wall_time_ns())?;
        // Told only once the disk takes records again, else they would pile up.
        self.write_pending()?;
        self.note_gaps();
        Ok(())
    }

    fn note_gaps(&mut self) {
        for stream in Stream::BOTH {
            let bytes = std::mem::take(&mut self.gaps[stream.index()]);
            if bytes > 0 {
                self.note(Kind::Gap, stream, bytes);
            }
        }
    }

    fn note(&mut self, kind: Kind, stream: Stream, offset: u64) {
        self.push(kind, stream, offset, 0, clock::wall_time_ns());
    }

    fn push(&mut self, kind: Kind, stream: Stream, offset: u64, len: u32, time_ns: u64) {
        let record =
            Record { kind, stream, flags: 0, life: self.life, len, offset, time_ns, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.pending.extend_from_slice(&record.encode());
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let Some(segment) = self.active.as_mut().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        self.sink.write(&segment.index, &self.pending, segment.index_len)?;
        segment.index_len += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.flush();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).field("life", &self.life).finish_non_exhaustive()
    }
}

fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Whether an open file is still the one on disk and has not lost its end.
pub(super) fn is_intact(file: &File, len: u64) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() > 0 && meta.len() >= len)
}
