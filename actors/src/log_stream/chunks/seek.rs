//! Finding a place in a log without reading what lies before it: bisection over segments, then over the records of one.
//!
//! Records have one length and rising numbers, and times rise but where the wall clock was set back: there a search by time ends
//! somewhere near (decision 0019). Reads one record per step, and at the end the few that tell where each stream stands.

use std::io;
use std::path::Path;

use super::super::LogError;
use super::super::layout::{HEADER_BYTES, Kind, Life, RECORD_BYTES, Record, Stream};
use super::super::repair::read_records;
use super::{BATCH_RECORDS, Chunks, Open};

// === impl Chunks ===

impl Chunks {
    /// At the first record of this time or later; with the life of it, or of the last one before, and, by stream, whether a line of that life goes on there.
    pub(in super::super) fn since(dir: &Path, since_ns: u64) -> Result<(Self, Option<Life>, [bool; 2]), LogError> {
        let mut chunks = Self::bisect(dir, |open| Ok(open.record(0)?.is_some_and(|record| record.time_ns < since_ns)))?;
        let Some(open) = &mut chunks.open else { return Ok((chunks, None, [false; 2])) };
        let place = |open: &mut Open| {
            let at = open.first(|record| record.time_ns >= since_ns)?;
            let (next, lead) = (open.record(at)?, open.place(dir, at)?);
            Ok((next.map_or(open.life, |next| next.life), lead))
        };
        let (life, lead) = place(open).map_err(LogError::io("read", dir))?;
        let torn = chunks.torn(life, lead)?;
        Ok((chunks, Some(life), torn))
    }

    /// The number of the segment that is being read; 0 before the first.
    pub(in super::super) fn segment(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.number)
    }

    /// Bytes that the unit had written before the end of the data handed out so far, both streams together.
    pub(in super::super) fn written(&self) -> u64 {
        self.open.as_ref().map_or(0, Open::base_end)
    }

    /// How far the stream's data that come after `record` are its life's, without a gap, as far as the records are known.
    pub(in super::super) fn unbroken(&self, record: &Record) -> u64 {
        let mut end = record.offset + u64::from(record.len);
        for next in self.open.iter().flat_map(|open| &open.batch) {
            if next.kind != Kind::Data || next.life != record.life {
                break;
            }
            if next.stream == record.stream {
                end = next.offset + u64::from(next.len);
            }
        }
        end
    }

    /// Opens the last of the leading segments that are `before` what is sought; the first one in any case.
    pub(super) fn bisect(dir: &Path, before: impl Fn(&Open) -> io::Result<bool>) -> Result<Self, LogError> {
        let numbers = Self::numbers(dir)?;
        let (mut low, mut high) = (0, numbers.len());
        let mut chunks = Self { dir: dir.to_path_buf(), open: None };
        while low < high {
            let middle = low + (high - low) / 2;
            // One that has just been deleted, or is none of ours, lies where its neighbours lie.
            let Some((at, open)) = Self::nearest(dir, &numbers[middle..high], middle)? else {
                high = middle;
                continue;
            };
            if before(&open).map_err(LogError::io("read", dir))? {
                (low, chunks.open) = (at + 1, Some(open));
            } else {
                high = middle;
            }
        }
        if chunks.open.is_none() {
            chunks.open = Self::nearest(dir, &numbers, 0)?.map(|(_, open)| open);
        }
        Ok(chunks)
    }

    fn nearest(dir: &Path, numbers: &[u32], from: usize) -> Result<Option<(usize, Open)>, LogError> {
        for (at, &number) in (from..).zip(numbers) {
            if let Some(open) = Open::find(dir, number)? {
                return Ok(Some((at, open)));
            }
        }
        Ok(None)
    }

    /// Whether each stream is in the middle of a line of the life that goes on here.
    pub(super) fn torn_here(&mut self) -> Result<[bool; 2], LogError> {
        let Some(open) = &mut self.open else { return Ok([false; 2]) };
        let mut look = || {
            let (next, lead) = (open.record(open.at)?, open.place(&self.dir, open.at)?);
            Ok((next.map_or(open.life, |next| next.life), lead))
        };
        let (life, lead) = look().map_err(LogError::io("read", &self.dir))?;
        self.torn(life, lead)
    }

    /// Whether each stream is in the middle of a line of this life here. `lead`: what the records of this segment tell.
    fn torn(&mut self, life: Life, lead: [Lead; 2]) -> Result<[bool; 2], LogError> {
        let mut torn = [false; 2];
        for stream in Stream::BOTH {
            torn[stream.index()] = match lead[stream.index()] {
                Lead::Broken => false,
                Lead::Data(end) => self.is_open_line(stream, end)?,
                Lead::Nothing => self.is_open_before(stream, life)?,
            };
        }
        Ok(torn)
    }

    fn is_open_line(&mut self, stream: Stream, end: u64) -> Result<bool, LogError> {
        let mut last = [0];
        let got = if end == 0 { 0 } else { self.read(stream, end - 1, &mut last)? };
        Ok(got == 1 && last[0] != b'\n')
    }

    /// As [`Self::is_open_line`], where the line would have begun in a segment before this one.
    fn is_open_before(&self, stream: Stream, life: Life) -> Result<bool, LogError> {
        let here = self.segment();
        for number in Self::numbers(&self.dir)?.into_iter().filter(|&number| number < here).rev() {
            let Some(mut open) = Open::find(&self.dir, number)? else { return Ok(false) };
            let lead = open.records().and_then(|count| open.place(&self.dir, count));
            let lead = lead.map_err(LogError::io("read", &self.dir))?[stream.index()];
            let same_life = open.life == life;
            let mut before = Self { dir: self.dir.clone(), open: Some(open) };
            match lead {
                Lead::Data(end) if same_life => return before.is_open_line(stream, end),
                Lead::Nothing if same_life => {}
                Lead::Data(_) | Lead::Nothing | Lead::Broken => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// What comes before a place in a segment, for one stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lead {
    /// Data that end at this offset.
    Data(u64),
    /// The end of a life, or a gap: no line goes on behind it.
    Broken,
    /// The beginning of the segment.
    Nothing,
}

// === impl Open ===

impl Open {
    /// Records that are whole.
    fn records(&self) -> io::Result<u64> {
        Ok(self.index.metadata()?.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES)
    }

    /// One record by its number.
    fn record(&self, at: u64) -> io::Result<Option<Record>> {
        Ok(read_records(&self.index, at, 1)?.into_iter().next())
    }

    /// The number of the first record that is `found`, where all before it are not.
    fn first(&self, found: impl Fn(&Record) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.records()?);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.is_none_or(|record| found(&record)) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    /// Goes on with record number `at`, or with the one to come next if there are fewer. Tells what comes before it.
    pub(super) fn place(&mut self, dir: &Path, at: u64) -> io::Result<[Lead; 2]> {
        let at = at.min(self.records()?);
        (self.at, self.ends) = (at, [0; 2]);
        self.batch.clear();
        let next = self.record(at)?;
        let mut lead = [Lead::Nothing; 2];
        // A stream that has no data here needs no search.
        let mut sought = [true; 2];
        for stream in Stream::BOTH {
            sought[stream.index()] = self.data(dir, stream)?.is_some();
        }
        let (mut high, mut life) = (at, next.map(|record| record.life));
        while high > 0 && (sought != [false; 2] || high == at) {
            let low = high.saturating_sub(BATCH_RECORDS);
            for record in read_records(&self.index, low, high - low)?.iter().rev() {
                if high == at && record.sequence + 1 == self.header.first_sequence + at {
                    self.life = record.life;
                }
                note(record, &mut lead, life);
                life = Some(record.life);
                let index = record.stream.index();
                if record.kind == Kind::Data && sought[index] {
                    (self.ends[index], sought[index]) = (record.offset + u64::from(record.len), false);
                }
            }
            high = low;
        }
        Ok(lead)
    }
}

/// Takes in the record before those that are known already. `life` is that of the one after it.
fn note(record: &Record, lead: &mut [Lead; 2], life: Option<Life>) {
    let other_life = life.is_some_and(|life| life != record.life);
    for stream in Stream::BOTH {
        let lead = &mut lead[stream.index()];
        if !matches!(lead, Lead::Nothing) {
            continue;
        }
        let mine = record.stream == stream;
        match record.kind {
            _ if other_life => *lead = Lead::Broken,
            Kind::Started | Kind::Ended => *lead = Lead::Broken,
            Kind::Gap if mine => *lead = Lead::Broken,
            Kind::Data if mine => *lead = Lead::Data(record.offset + u64::from(record.len)),
            Kind::Gap | Kind::Data => {}
        }
    }
}
