//! The writing side of a log: segments, their index, rotation and retention.
//!
//! Driven by the pump thread alone. Bytes come out of a FIFO by splice into the segment at our own offset, their index record
//! follows ([`Store::flush`], once per round), and what a kill leaves between the two is repaired by [`Store::open`]. When the
//! disk is full, the oldest closed segments go first; when that does not help, bytes are thrown away and counted: the unit must not
//! wait (`full`). Reads a unit's bytes only when they go, to count the lines.

mod full;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use full::Lost;

use super::LogError;
use super::declared::Declared;
use super::health::Health;
use super::keep::{Limits, Shelf};
use super::layout::{self, Header, Kind, Life, Part, RECORD_BYTES, Record, Stream};
use super::segment::Segment;
use super::sink::{Kernel, Sink};
use super::{clock, repair};
use crate::process::sys::pipe;

/// Most bytes of one splice: a whole enlarged pipe.
pub(super) const CHUNK_MAX_BYTES: usize = 256 << 10;
/// Index records kept in memory while the disk refuses them; beyond this, bytes are dropped and counted.
const PENDING_MAX_BYTES: usize = 64 << 10;
/// How often the open files are compared with what is on disk (somebody may have removed or truncated them).
const CHECK_EVERY_NS: u64 = 1_000_000_000;

/// The log of one unit, opened for writing. One writer per directory: a second one is refused.
pub struct Store {
    dir: PathBuf,
    /// The directory itself, locked as long as the store lives.
    _lock: File,
    limits: Limits,
    sink: Box<dyn Sink>,
    /// Whose the bytes are that come next.
    declared: Arc<Declared>,
    /// Whose the last ones were.
    life: Life,
    /// What has been told of this life in the index.
    told: Told,
    active: Option<Segment>,
    closed: Shelf,
    next_number: u32,
    next_sequence: u64,
    /// Bytes of units in all segments so far, deleted ones included.
    base_bytes: u64,
    /// What was thrown away since the last stored byte, by stream.
    gaps: [Lost; 2],
    health: Health,
    /// When the disk last refused.
    refused_ns: u64,
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
        Ok(Self {
            dir: dir.to_path_buf(),
            _lock: lock,
            limits: limits.checked(),
            sink,
            declared: Arc::new(Declared::new(found.life)),
            life: found.life,
            told: if found.life == Life::default() { Told::Nothing } else { Told::Started },
            active: found.last,
            closed: found.closed,
            next_number: found.next_number,
            next_sequence: found.next_sequence,
            base_bytes: found.base_bytes,
            gaps: [Lost::default(); 2],
            health: Health::default(),
            refused_ns: 0,
            pending: Vec::new(),
            checked_ns: 0,
        })
    }

    /// From here on, bytes belong to this life.
    pub fn set_life(&mut self, life: Life) {
        self.declared.set(life);
        self.adopt();
    }

    /// Where another thread says from which life the next bytes are: it must know that those of the one before are taken.
    pub(super) fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.declared)
    }

    /// The bytes in hand are from the life that was declared last. Asked after they were taken: what was declared before they were
    /// written is known by then.
    fn adopt(&mut self) {
        let life = self.declared.get();
        if life != self.life {
            self.life = life;
            self.told = Told::Nothing;
        }
    }

    /// The life that bytes belong to.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Whether the index has the beginning of the present life, and not its end.
    pub(super) fn has_spoken(&self) -> bool {
        self.told == Told::Started && self.life == self.declared.get()
    }

    /// Everything this life wrote has been taken: an unterminated line is complete now. Nothing, if another has written since.
    pub(super) fn end_life(&mut self, life: Life) {
        if self.life == life && self.told == Told::Started && self.active.is_some() {
            self.note(Kind::Ended, Stream::Out, 0);
            self.told = Told::Ended;
        }
    }

    /// Index records so far, deleted ones included: grows with every chunk.
    pub(super) fn records(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes on disk, index and closed segments included.
    pub(super) fn bytes(&self) -> u64 {
        self.closed.bytes() + self.active.as_ref().map_or(0, Segment::bytes)
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How the disk takes it.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Whether something is to be tried again later: a gap that is not told yet, records not written, trouble that may be over.
    pub(super) fn is_owing(&self) -> bool {
        self.has_gaps() || !self.pending.is_empty() || self.health.refused.is_some()
    }

    /// Takes one chunk out of the FIFO. Never leaves a full FIFO full because of the disk.
    pub(super) fn take(&mut self, stream: Stream, fifo: BorrowedFd<'_>, scratch: &mut [u8]) -> Taken {
        loop {
            match self.try_store(stream, fifo) {
                Ok(bytes) => return Taken::Stored(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Taken::Empty,
                // Ends: each time there is one segment less.
                Err(error) if full::is_full(&error) && self.shed(&error) => {}
                Err(error) => return self.discard(stream, fifo, scratch, &error),
            }
        }
    }

    /// Writes the index records of this round, and the gaps that are not told yet. `false`: the disk refused, try again later.
    pub(super) fn flush(&mut self) -> bool {
        let told = !self.has_gaps() || self.tell_gaps().is_ok();
        let written = self.write_pending().is_ok() && told;
        if written && self.health.refused.is_some() {
            let now_ns = clock::wall_time_ns();
            self.health.settle(now_ns.abs_diff(self.refused_ns));
        }
        written
    }

    /// What is due by time alone: segments that are too old go. Returns when the next one will be.
    pub(super) fn tend(&mut self, now_ns: u64) -> Option<u64> {
        let written_ns = self.active.as_ref().filter(|active| !active.is_empty()).map(|active| active.written_ns);
        let expiry_ns = written_ns.and_then(|at| self.limits.expiry_ns(at));
        if expiry_ns.is_some_and(|at| at <= now_ns) {
            // A successor without bytes keeps the count of sequences and bytes when all others go.
            drop(self.close_active().and_then(|()| self.begin_segment(now_ns)));
        }
        while let Some(expired) = self.closed.pop_expired(&self.limits, now_ns) {
            self.delete(&expired);
        }
        let oldest_ns = self.closed.oldest_ns().and_then(|at| self.limits.expiry_ns(at));
        oldest_ns.into_iter().chain(expiry_ns).filter(|&at| at > now_ns).min()
    }

    /// Deletes all that was stored so far; returns how many bytes the disk got back. Sequences go on.
    pub fn clear(&mut self) -> io::Result<u64> {
        let before = self.bytes();
        if self.active.as_ref().is_some_and(|active| !active.is_empty()) {
            self.close_active()?;
            self.begin_segment(clock::wall_time_ns())?;
        }
        while let Some(closed) = self.closed.pop() {
            self.delete(&closed);
        }
        Ok(before.saturating_sub(self.bytes()))
    }

    /// A closed segment that is to be compressed, the oldest first: never the newest, which the next writer may go on with.
    pub(super) fn unpacked(&self) -> Option<u32> {
        let newest = self.active.as_ref().map_or(self.next_number.saturating_sub(1), |active| active.number);
        self.limits.compress.then(|| self.closed.unpacked(newest)).flatten()
    }

    /// Whether something may be due by time alone: see [`Store::tend`], [`Store::unpacked`].
    pub(super) fn is_ageing(&self) -> bool {
        self.limits.max_age.is_some() || self.limits.compress && self.closed.has_unpacked()
    }

    /// A segment has been compressed to so many bytes, or will not be (`None`).
    pub(super) fn note_packed(&mut self, number: u32, bytes: Option<u64>) {
        self.closed.note_packed(number, bytes);
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
        segment.written_ns = now_ns;
        self.base_bytes += bytes as u64;
        self.note_gaps();
        self.adopt();
        if self.told == Told::Nothing {
            self.told = Told::Started;
            self.note(Kind::Started, stream, 0);
        }
        self.push(Kind::Data, stream, offset, bytes as u64, now_ns);
        Ok(bytes)
    }

    /// Room in the active segment for one chunk, after rotating if there is none.
    fn room(&mut self, now_ns: u64) -> io::Result<usize> {
        // A chunk may bring four records with it: two gaps, a start, itself.
        let spare = self.pending.len() as u64 + 4 * RECORD_BYTES;
        let (limits, limit) = (self.limits, self.limits.segment_bytes);
        let is_done = |segment: &Segment| {
            segment.bytes() + spare >= limit || !segment.is_empty() && limits.is_old(segment.created_ns, now_ns)
        };
        if self.active.as_ref().is_some_and(is_done) {
            self.close_active()?;
        }
        if self.active.is_none() {
            self.begin_segment(now_ns)?;
        }
        let used = self.active.as_ref().map_or(0, Segment::bytes) + spare;
        Ok(usize::try_from(limit.saturating_sub(used)).unwrap_or(CHUNK_MAX_BYTES).clamp(1, CHUNK_MAX_BYTES))
    }

    fn begin_segment(&mut self, now_ns: u64) -> io::Result<()> {
        while let Some(surplus) = self.closed.pop_surplus(&self.limits) {
            self.delete(&surplus);
        }
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
        self.active = Some(Segment::new(number, index).at(now_ns, now_ns));
        Ok(())
    }

    fn close_active(&mut self) -> io::Result<()> {
        self.write_pending()?;
        if let Some(segment) = self.active.take() {
            self.closed.push(segment.closed());
        }
        Ok(())
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

    fn note(&mut self, kind: Kind, stream: Stream, offset: u64) {
        self.push(kind, stream, offset, 0, clock::wall_time_ns());
    }

    fn push(&mut self, kind: Kind, stream: Stream, offset: u64, len: u64, time_ns: u64) {
        // Chunks are far shorter; so many lines are lost at once only if nobody counts them.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
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
