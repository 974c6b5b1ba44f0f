//! What a killed writer left: the last index is brought into agreement with the files.
//!
//! Index records that do not follow from their predecessors or point past the end of their file are cut, with all after them; bytes
//! that no record covers get records of their own, with the file's time. Data is never touched. An index that this program cannot
//! read (damaged, or of a newer version) is left alone, and writing goes on in a new segment.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::clock;
use super::layout::{self, FLAG_REPAIRED, HEADER_BYTES, Header, Kind, Life, Part, RECORD_BYTES, Record, Stream};
use super::segment::Segment;

/// Most bytes of one repaired record: readers take it in pieces anyway, and lengths are 32 bits.
const REPAIRED_MAX_BYTES: u64 = 1 << 30;
/// Records read at once.
const BATCH_RECORDS: u64 = 1024;

/// Where writing goes on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) last: Option<Segment>,
    pub(super) closed: VecDeque<(u32, u64)>,
    pub(super) next_number: u32,
    pub(super) next_sequence: u64,
    pub(super) base_bytes: u64,
    /// The life that wrote last.
    pub(super) life: Life,
}

/// What the valid part of an index says.
struct Checked {
    header: Header,
    records: u64,
    covered: [u64; 2],
    life: Life,
}

/// Looks at all segments, repairs the last one, and removes what a deletion left half-done.
pub(super) fn recover(dir: &Path) -> io::Result<Found> {
    let indexed = layout::numbers(dir, &["idx"])?;
    let mut found = Found {
        last: None,
        closed: VecDeque::new(),
        next_number: 1,
        next_sequence: 0,
        base_bytes: 0,
        life: Life::default(),
    };
    for number in layout::numbers(dir, &["idx", "out", "err"])? {
        found.next_number = number.saturating_add(1);
        if indexed.first().is_some_and(|&first| number < first) {
            delete_segment(dir, number);
            continue;
        }
        if let Some(last) = found.last.take() {
            found.closed.push_back((last.number, last.bytes()));
        }
        // Nothing is written in the middle, so nothing is to be repaired there.
        let newest = indexed.last().is_none_or(|&last| number >= last);
        match newest.then(|| reopen(dir, number, &mut found)).transpose() {
            Ok(segment) => found.last = segment.flatten(),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), number, %error, "segment is set aside: it cannot be repaired")
            }
        }
        if found.last.is_none() {
            found.pass(dir, number);
        }
    }
    Ok(found)
}

/// Removes a segment, its index first: readers then do not see the rest.
pub(super) fn delete_segment(dir: &Path, number: u32) {
    for part in [Part::Index, Part::Data(Stream::Out), Part::Data(Stream::Err)] {
        match fs::remove_file(layout::path(dir, number, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), number, %error, "old log segment cannot be deleted");
            }
            _ => {}
        }
    }
}

/// Repairs one segment; `None`: its index cannot be read by us.
fn reopen(dir: &Path, number: u32, found: &mut Found) -> io::Result<Option<Segment>> {
    let data = [open_data(dir, number, Stream::Out)?, open_data(dir, number, Stream::Err)?];
    let mut ends = [0; 2];
    for (end, file) in ends.iter_mut().zip(&data) {
        *end = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?;
    }
    let index = match Segment::reopen(dir, number, Part::Index) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Segment::create(dir, number, Part::Index)?,
        index => index?,
    };
    if index.metadata()?.len() < HEADER_BYTES {
        // Killed before the header was whole: no record can have followed.
        let header = Header {
            first_sequence: found.next_sequence,
            base_bytes: found.base_bytes,
            created_ns: clock::wall_time_ns(),
        };
        index.write_all_at(&header.encode(), 0)?;
    }
    let Some(checked) = check(&index, ends)? else { return Ok(None) };
    let records = cover(&index, &checked, &data, ends)?;
    found.next_sequence = checked.header.first_sequence + records;
    found.base_bytes = checked.header.base_bytes + ends[0] + ends[1];
    found.life = checked.life;
    Ok(Some(Segment::found(number, index, HEADER_BYTES + records * RECORD_BYTES, data, ends)))
}

/// The longest valid beginning of an index.
fn check(index: &File, ends: [u64; 2]) -> io::Result<Option<Checked>> {
    let mut raw = [0; HEADER_BYTES as usize];
    index.read_exact_at(&mut raw, 0)?;
    let Some(header) = Header::decode(&raw) else { return Ok(None) };
    let mut checked = Checked { header, records: 0, covered: [0; 2], life: Life::default() };
    loop {
        let batch = read_records(index, checked.records, BATCH_RECORDS)?;
        for record in &batch {
            if !checked.accept(record, ends) {
                return Ok(Some(checked));
            }
        }
        if (batch.len() as u64) < BATCH_RECORDS {
            return Ok(Some(checked));
        }
    }
}

/// Cuts what is not valid and adds records for bytes that have none. Returns how many records there are now.
fn cover(index: &File, checked: &Checked, data: &[Option<File>; 2], ends: [u64; 2]) -> io::Result<u64> {
    let (mut records, mut raw) = (checked.records, Vec::new());
    for stream in Stream::BOTH {
        let (mut offset, end) = (checked.covered[stream.index()], ends[stream.index()]);
        let Some(file) = &data[stream.index()] else { continue };
        let time_ns = clock::nanoseconds(file.metadata()?.modified()?);
        while offset < end {
            let len = u32::try_from((end - offset).min(REPAIRED_MAX_BYTES)).unwrap_or(u32::MAX);
            let sequence = checked.header.first_sequence + records;
            let (kind, flags, life) = (Kind::Data, FLAG_REPAIRED, checked.life);
            raw.extend_from_slice(&Record { kind, stream, flags, life, len, offset, time_ns, sequence }.encode());
            records += 1;
            offset += u64::from(len);
        }
    }
    let valid = HEADER_BYTES + checked.records * RECORD_BYTES;
    index.set_len(valid)?;
    index.write_all_at(&raw, valid)?;
    Ok(records)
}

/// Up to `count` records from number `from` on; fewer at the end of the file or before a damaged one.
pub(super) fn read_records(index: &File, from: u64, count: u64) -> io::Result<Vec<Record>> {
    let mut raw = vec![0; usize::try_from(count * RECORD_BYTES).unwrap_or(0)];
    let got = read_up_to(index, &mut raw, HEADER_BYTES + from * RECORD_BYTES)?;
    Ok(raw[..got].chunks_exact(RECORD_BYTES as usize).map_while(Record::decode).collect())
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(bytes) => got += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn open_data(dir: &Path, number: u32, stream: Stream) -> io::Result<Option<File>> {
    match Segment::reopen(dir, number, Part::Data(stream)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn size(dir: &Path, number: u32, part: Part) -> u64 {
    fs::symlink_metadata(layout::path(dir, number, part)).map_or(0, |meta| meta.len())
}

fn read_header(dir: &Path, number: u32) -> Option<Header> {
    let index = Segment::reopen(dir, number, Part::Index).ok()?;
    let mut raw = [0; HEADER_BYTES as usize];
    read_up_to(&index, &mut raw, 0).ok()?;
    Header::decode(&raw)
}

// === impl Found ===

impl Found {
    /// Counts a segment that is closed, or cannot be read: numbering goes on after it.
    fn pass(&mut self, dir: &Path, number: u32) {
        let data = size(dir, number, Part::Data(Stream::Out)) + size(dir, number, Part::Data(Stream::Err));
        let index = size(dir, number, Part::Index);
        let header = read_header(dir, number);
        let first_sequence = header.map_or(self.next_sequence, |header| header.first_sequence);
        let base_bytes = header.map_or(self.base_bytes, |header| header.base_bytes);
        self.next_sequence = first_sequence + index.saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        self.base_bytes = base_bytes + data;
        self.closed.push_back((number, data + index));
    }
}

// === impl Checked ===

impl Checked {
    /// Takes the next record if it follows from the ones before.
    fn accept(&mut self, record: &Record, ends: [u64; 2]) -> bool {
        let at = record.stream.index();
        let end = self.covered[at] + u64::from(record.len);
        let fits =
            record.kind != Kind::Data || (record.offset == self.covered[at] && end <= ends[at] && record.len > 0);
        let follows = record.sequence == self.header.first_sequence + self.records;
        if !(fits && follows) {
            return false;
        }
        if record.kind == Kind::Data {
            self.covered[at] = end;
        }
        self.records += 1;
        self.life = record.life;
        true
    }
}
