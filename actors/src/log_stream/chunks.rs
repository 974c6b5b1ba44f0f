//! Records one by one over all segments, and the bytes behind them.
//!
//! Knows where a reader stands and what retention took from under it. Follows the writer's order of work: data before its record,
//! all records of a segment before the next segment's index.

mod seek;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr_iter;

use super::data::{Data, open_file};
use super::layout::{self, FLAG_REPAIRED, HEADER_BYTES, Header, Kind, Life, Part, RECORD_BYTES, Record, Stream};
use super::reader::{BLOCK_BYTES, Query, count_lines};
use super::repair::{read_records, read_up_to};
use super::{LogError, clock, gone};

/// Records read at once.
const BATCH_RECORDS: u64 = 256;

/// A place in a log.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    dir: PathBuf,
    open: Option<Open>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A record, in order.
    Record(Record),
    /// So many bytes are gone, and so many line feeds with them if that is known.
    Skipped { bytes: u64, lines: Option<[u64; 2]> },
}

/// A segment being read; its files stay readable after deletion.
#[derive(Debug, Clone)]
struct Open {
    number: u32,
    header: Header,
    index: Arc<File>,
    data: [Option<Data>; 2],
    /// Records handed out.
    at: u64,
    batch: VecDeque<Record>,
    /// Where the data handed out ends, by stream.
    ends: [u64; 2],
    life: Life,
    /// Streams whose data was deleted before we opened it, and of which it was told how many lines that were.
    counted: [bool; 2],
}

/// How far a search for the last lines has come, backwards.
struct Tail {
    lines: usize,
    count: usize,
    /// Streams of which no line feed has been seen yet before their bytes in the tail: a line may have begun earlier.
    unanchored: [bool; 2],
    /// The life at the place where there were enough lines.
    life: Option<Life>,
}

// === impl Chunks ===

impl Chunks {
    /// At the oldest record.
    pub(super) fn start(dir: &Path) -> Result<Self, LogError> {
        Self::bisect(dir, |_| Ok(false))
    }

    /// After the newest record.
    pub(super) fn end(dir: &Path) -> Result<Self, LogError> {
        Self::at(dir, u64::MAX)
    }

    /// At this sequence, or the nearest that is there.
    pub(super) fn at(dir: &Path, sequence: u64) -> Result<Self, LogError> {
        let mut chunks = Self::bisect(dir, |open| Ok(open.header.first_sequence <= sequence))?;
        if let Some(open) = &mut chunks.open {
            let at = sequence.saturating_sub(open.header.first_sequence);
            open.place(dir, at).map_err(LogError::io("read", dir))?;
        }
        Ok(chunks)
    }

    /// So far before the end that `lines` lines of the query follow, by a count of line feeds; at the oldest record if there are fewer.
    pub(super) fn back(dir: &Path, lines: usize, query: &Query) -> Result<Self, LogError> {
        let mut counted = Self::count_back(dir, lines, query, [false; 2])?;
        let wanted = |stream: Stream| query.stream.is_none_or(|s| s == stream);
        let torn = counted.torn_here()?;
        let unanchored = Stream::BOTH.map(|stream| torn[stream.index()] && wanted(stream));
        // Back to where the lines begin that are being written there.
        if unanchored == [false; 2] { Ok(counted) } else { Self::count_back(dir, lines, query, unanchored) }
    }

    fn count_back(dir: &Path, lines: usize, query: &Query, unanchored: [bool; 2]) -> Result<Self, LogError> {
        let mut tail = Tail { lines, count: 0, unanchored, life: None };
        Self::seek_back(dir, |open, record| {
            if record.kind == Kind::Data
                && query.takes(record)
                && query.until_ns.is_none_or(|until| record.time_ns < until)
            {
                tail.pass(open, dir, record)?;
            }
            Ok(tail.is_found(record))
        })
    }

    /// Where this life begins, if it was the last to write; else at the end.
    pub(super) fn life(dir: &Path, life: Life) -> Result<Self, LogError> {
        let mut chunks = Self::seek_back(dir, |_, record| Ok(record.life != life))?;
        // That found the last record of another life.
        match chunks.next_here()? {
            Some(record) if record.life == life => Self::start(dir),
            _ => Ok(chunks),
        }
    }

    /// Sequence of the next record.
    pub(super) fn sequence(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.header.first_sequence + open.at)
    }

    /// The next step; `None`: nothing more yet.
    pub(super) fn next(&mut self) -> Result<Option<Step>, LogError> {
        loop {
            if let Some(record) = self.next_here()? {
                return Ok(Some(Step::Record(record)));
            }
            let Some(mut next) = self.following()? else { return Ok(None) };
            // The writer finished this segment before it began that one: look once more.
            if let Some(record) = self.next_here()? {
                return Ok(Some(Step::Record(record)));
            }
            // Whoever began where there was nothing has missed what was there and is gone again.
            let missed = next.header.base_bytes.saturating_sub(self.written());
            let after = self.open.as_ref().map_or(0, |open| open.number);
            let before = next.number;
            // Whose bytes are, until a record tells: a killed writer may have left a segment without any.
            next.life = self.open.as_ref().map_or(next.life, |open| open.life);
            self.open = Some(next);
            if missed > 0 {
                let lines = gone::lines_between(&self.dir, after, before, missed);
                return Ok(Some(Step::Skipped { bytes: missed, lines }));
            }
        }
    }

    /// Reads the stream's bytes of the current segment. Fewer than asked: they are gone.
    pub(super) fn read(&mut self, stream: Stream, offset: u64, buffer: &mut [u8]) -> Result<usize, LogError> {
        let Some(open) = &mut self.open else { return Ok(0) };
        let path = layout::path(&self.dir, open.number, Part::Data(stream));
        let got = open.data(&self.dir, stream).and_then(|data| data.map_or(Ok(0), |data| data.read_at(buffer, offset)));
        got.map_err(LogError::io("read", &path))
    }

    /// After a read that came short: how many line feeds are gone with what is missing, by stream; `None`: that is not known.
    pub(super) fn missing_lines(&mut self, stream: Stream, offset: u64) -> Option<[u64; 2]> {
        let open = self.open.as_mut()?;
        let counted = &mut open.counted[stream.index()];
        // All of a stream's lines are told with its first byte.
        let told = std::mem::replace(counted, *counted || offset == 0);
        if open.data[stream.index()].is_some() || !told && offset > 0 {
            return None;
        }
        let gone = gone::of(&self.dir, open.number)?;
        let mut lines = [0; 2];
        lines[stream.index()] = if told { 0 } else { gone.lines[stream.index()] };
        Some(lines)
    }

    /// Bytes behind the last record of the last segment that have none of their own: a killed writer's, or in the making. To be asked
    /// after the last record; each is handed out once.
    pub(super) fn unindexed(&mut self) -> Result<Option<Record>, LogError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        open.unindexed(&self.dir).map_err(LogError::io("read", &self.dir))
    }

    fn next_here(&mut self) -> Result<Option<Record>, LogError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        open.next().map_err(LogError::io("read", &self.dir))
    }

    /// The next segment that can be read, if any.
    fn following(&self) -> Result<Option<Open>, LogError> {
        let current = self.open.as_ref().map_or(0, |open| open.number);
        for number in Self::numbers(&self.dir)?.into_iter().filter(|&number| number > current) {
            if let Some(open) = Open::find(&self.dir, number)? {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }

    /// At the last record that `found` says yes to, or at the oldest.
    fn seek_back(dir: &Path, mut found: impl FnMut(&mut Open, &Record) -> io::Result<bool>) -> Result<Self, LogError> {
        for number in Self::numbers(dir)?.into_iter().rev() {
            let Some(mut open) = Open::find(dir, number)? else { continue };
            if let Some(at) = open.back(&mut found).map_err(LogError::io("read", dir))? {
                open.place(dir, at).map_err(LogError::io("read", dir))?;
                return Ok(Self { dir: dir.to_path_buf(), open: Some(open) });
            }
        }
        Self::start(dir)
    }

    fn numbers(dir: &Path) -> Result<Vec<u32>, LogError> {
        layout::numbers(dir, &["idx"]).map_err(LogError::io("read", dir))
    }
}

// === impl Open ===

impl Open {
    /// `None`: it has just been deleted, its header is not written yet, or not one that we know.
    fn find(dir: &Path, number: u32) -> Result<Option<Self>, LogError> {
        let path = layout::path(dir, number, Part::Index);
        let Some(index) = open_file(&path).map_err(LogError::io("open", &path))? else { return Ok(None) };
        let mut raw = [0; HEADER_BYTES as usize];
        read_up_to(&index, &mut raw, 0).map_err(LogError::io("read", &path))?;
        let Some(header) = Header::decode(&raw) else { return Ok(None) };
        let (data, batch) = ([None, None], VecDeque::new());
        let mut open = Self {
            number,
            header,
            index: Arc::new(index),
            data,
            at: 0,
            batch,
            ends: [0; 2],
            life: Life::default(),
            counted: [false; 2],
        };
        // Opened now if they are there, so that a deletion meanwhile takes nothing from us.
        for stream in Stream::BOTH {
            open.data(dir, stream).map_err(LogError::io("open", &path))?;
        }
        Ok(Some(open))
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.batch.is_empty() {
                self.batch = read_records(&self.index, self.at, BATCH_RECORDS)?.into();
            }
            let follows = |record: &Record| record.sequence == self.header.first_sequence + self.at;
            let Some(record) = self.batch.pop_front().filter(follows) else {
                self.batch.clear();
                return Ok(None);
            };
            self.at += 1;
            self.life = record.life;
            if let Some(record) = self.unseen(record) {
                return Ok(Some(record));
            }
        }
    }

    /// What of a record has not been handed out yet: its bytes may have been, before the writer had come to write it.
    fn unseen(&mut self, mut record: Record) -> Option<Record> {
        if record.kind != Kind::Data {
            return Some(record);
        }
        let end = record.offset + u64::from(record.len);
        let from = record.offset.max(self.ends[record.stream.index()]).min(end);
        self.ends[record.stream.index()] = end.max(self.ends[record.stream.index()]);
        record.len = u32::try_from(end - from).unwrap_or(record.len);
        record.offset = from;
        (record.len > 0).then_some(record)
    }

    /// All bytes of units up to where we stand.
    fn base_end(&self) -> u64 {
        self.header.base_bytes + self.ends[0] + self.ends[1]
    }

    fn data(&mut self, dir: &Path, stream: Stream) -> io::Result<Option<&mut Data>> {
        let slot = &mut self.data[stream.index()];
        if slot.is_none() {
            *slot = Data::open(dir, self.number, stream)?;
        }
        Ok(slot.as_mut())
    }

    /// The number of the last record that `found` says yes to.
    fn back(&mut self, found: &mut impl FnMut(&mut Self, &Record) -> io::Result<bool>) -> io::Result<Option<u64>> {
        let mut high = self.index.metadata()?.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        while high > 0 {
            let low = high.saturating_sub(BATCH_RECORDS);
            let records = read_records(&self.index, low, high - low)?;
            for (record, at) in records.iter().rev().zip((low..low + records.len() as u64).rev()) {
                if found(self, record)? {
                    return Ok(Some(at));
                }
            }
            high = low;
        }
        Ok(None)
    }

    /// Line feeds in a chunk, and the lines that it counts for.
    fn count(&mut self, dir: &Path, record: &Record) -> io::Result<(usize, usize)> {
        let Some(data) = self.data(dir, record.stream)? else { return Ok((0, 0)) };
        let mut block = vec![0; BLOCK_BYTES.min(record.len as usize)];
        let (mut feeds, mut done) = (0, 0u64);
        while done < u64::from(record.len) {
            let want = block.len().min(usize::try_from(u64::from(record.len) - done).unwrap_or(usize::MAX));
            let got = data.read_at(&mut block[..want], record.offset + done)?;
            if got == 0 {
                break;
            }
            feeds += memchr_iter(b'\n', &block[..got]).count();
            done += got as u64;
        }
        Ok((feeds, count_lines(feeds, done)))
    }

    fn unindexed(&mut self, dir: &Path) -> io::Result<Option<Record>> {
        for stream in Stream::BOTH {
            let Some(data) = self.data(dir, stream)? else { continue };
            let (end, modified) = (data.len()?, data.modified());
            let offset = self.ends[stream.index()];
            let len = u32::try_from(end.saturating_sub(offset)).unwrap_or(u32::MAX);
            if len > 0 {
                self.ends[stream.index()] = offset + u64::from(len);
                let sequence = self.header.first_sequence + self.at;
                let (kind, flags, life) = (Kind::Data, FLAG_REPAIRED, self.life);
                let time_ns = modified.map_or(0, clock::nanoseconds);
                return Ok(Some(Record { kind, stream, flags, life, len, offset, time_ns, sequence }));
            }
        }
        Ok(None)
    }
}

// === impl Tail ===

impl Tail {
    fn pass(&mut self, open: &mut Open, dir: &Path, record: &Record) -> io::Result<()> {
        let at = record.stream.index();
        let enough = self.count >= self.lines;
        if enough && !self.unanchored[at] {
            return Ok(());
        }
        let (feeds, lines) = open.count(dir, record)?;
        if enough {
            self.unanchored[at] = feeds == 0;
        } else {
            self.count = self.count.saturating_add(lines);
        }
        Ok(())
    }

    /// Enough lines, and each of them with its beginning: behind a line feed, or in its life (lines never span two).
    fn is_found(&mut self, record: &Record) -> bool {
        self.count >= self.lines
            && (self.unanchored == [false; 2] || *self.life.get_or_insert(record.life) != record.life)
    }
}
