//! What a killed writer left: the last index is brought into agreement with the files.
//!
//! Index records that do not follow from their predecessors or point past the end of their file are cut, with all after them; bytes
//! that no record covers get records of their own, with the file's time. Data is never touched. An index that this program cannot
//! read (damaged, or of a newer version) is left alone, and writing goes on in a new segment; so it does after a compressed one.
//! What a compression or a deletion left half-done is finished or undone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::clock;
use super::data::open_file;
use super::keep::{Closed, Shelf};
use super::layout::{self, FLAG_REPAIRED, HEADER_BYTES, Header, Kind, Life, Part, RECORD_BYTES, Record, Stream};
use super::packed::Packed;
use super::segment::Segment;

/// Most bytes of one repaired record: readers take it in pieces anyway, and lengths are 32 bits.
const REPAIRED_MAX_BYTES: u64 = 1 << 30;
/// Records read at once.
const BATCH_RECORDS: u64 = 1024;

/// All files that a segment may have, in the order in which they go.
const PARTS: [Part; 5] = [
    Part::Index,
    Part::Data(Stream::Out),
    Part::Data(Stream::Err),
    Part::Packed(Stream::Out),
    Part::Packed(Stream::Err),
];

/// Where writing goes on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) last: Option<Segment>,
    pub(super) closed: Shelf,
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

/// Looks at all segments, repairs the last one, and removes what a compression or a deletion left half-done.
pub(super) fn recover(dir: &Path) -> io::Result<Found> {
    let is_empty = remove_temporaries(dir)?;
    let mut found = Found {
        last: None,
        closed: Shelf::default(),
        next_number: 1,
        next_sequence: 0,
        base_bytes: 0,
        life: Life::default(),
    };
    // A unit that has written nothing yet: most logs of a first start.
    if is_empty {
        return Ok(found);
    }
    let indexed = layout::numbers(dir, &["idx"])?;
    for number in layout::numbers(dir, &["idx", "out", "err", "out.gz", "err.gz"])? {
        found.next_number = number.saturating_add(1);
        if indexed.first().is_some_and(|&first| number < first) {
            delete_segment(dir, number);
            continue;
        }
        if let Some(last) = found.last.take() {
            found.closed.push(last.closed());
        }
        let packed = settle_packed(dir, number)?;
        // Nothing is written in the middle, so nothing is to be repaired there.
        let newest = !packed && indexed.last().is_none_or(|&last| number >= last);
        match newest.then(|| reopen(dir, number, &mut found)).transpose() {
            Ok(segment) => found.last = segment.flatten(),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), number, %error, "segment is set aside: it cannot be repaired")
            }
        }
        if found.last.is_none() {
            found.pass(dir, number, packed);
        }
    }
    Ok(found)
}

/// A file in the making belongs to a writer that is gone, or that will see that it is. Tells whether nothing else is there.
fn remove_temporaries(dir: &Path) -> io::Result<bool> {
    let mut is_empty = true;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        let ours = |(stem, rest): (&str, &str)| stem.parse::<u32>().is_ok() && rest.ends_with(layout::TEMPORARY);
        if parts.is_some_and(ours) {
            fs::remove_file(dir.join(name))?;
        } else {
            is_empty = false;
        }
    }
    Ok(is_empty)
}

/// Where a stream is there twice, its compression was killed at the end: the plain file goes if the other one has all of it, which then
/// is known to be on the disk. Whether any stream is compressed now.
fn settle_packed(dir: &Path, number: u32) -> io::Result<bool> {
    let mut any = false;
    for stream in Stream::BOTH {
        let (plain, packed) =
            (layout::path(dir, number, Part::Data(stream)), layout::path(dir, number, Part::Packed(stream)));
        let Some(file) = open_file(&packed)? else { continue };
        let Some(original) = open_file(&plain)? else {
            any = true;
            continue;
        };
        let bytes = original.metadata()?.len();
        if Packed::open(file).is_ok_and(|packed| packed.table().plain_bytes == bytes) {
            fs::remove_file(plain)?;
            any = true;
        } else {
            fs::remove_file(packed)?;
        }
    }
    Ok(any)
}

/// Removes a segment, its index first: readers then do not see the rest.
pub(super) fn delete_segment(dir: &Path, number: u32) {
    for part in PARTS {
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
    let Some(mut checked) = check(&index, ends)? else { return Ok(None) };
    if checked.records == 0 {
        checked.life = last_life(dir, number)?;
    }
    let records = cover(&index, &checked, &data, ends)?;
    found.next_sequence = checked.header.first_sequence + records;
    found.base_bytes = checked.header.base_bytes + ends[0] + ends[1];
    found.life = checked.life;
    let written_ns = clock::nanoseconds(index.metadata()?.modified()?);
    let created_ns = checked.header.created_ns;
    Ok(Some(
        Segment::found(number, index, HEADER_BYTES + records * RECORD_BYTES, data, ends).at(created_ns, written_ns),
    ))
}

/// Who wrote last before this segment: its bytes are theirs, if it has no record that says otherwise.
fn last_life(dir: &Path, before: u32) -> io::Result<Life> {
    for number in layout::numbers(dir, &["idx"])?.into_iter().rev().filter(|&number| number < before) {
        let Ok(index) = Segment::reopen(dir, number, Part::Index) else { continue };
        let records = index.metadata()?.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        if let Some(last) = records.checked_sub(1)
            && let Some(record) = read_records(&index, last, 1)?.first()
        {
            return Ok(record.life);
        }
    }
    Ok(Life::default())
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

/// Bytes of a segment's files.
pub(super) fn size_of(dir: &Path, number: u32) -> u64 {
    PARTS.iter().map(|&part| size(dir, number, part)).sum()
}

fn size(dir: &Path, number: u32, part: Part) -> u64 {
    fs::symlink_metadata(layout::path(dir, number, part)).map_or(0, |meta| meta.len())
}

/// Bytes of the unit in a stream of a closed segment.
fn plain_bytes(dir: &Path, number: u32, stream: Stream) -> u64 {
    let packed = open_file(&layout::path(dir, number, Part::Packed(stream))).ok().flatten();
    let packed = packed.and_then(|file| Packed::open(file).ok()).map(|packed| packed.table().plain_bytes);
    packed.unwrap_or_else(|| size(dir, number, Part::Data(stream)))
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
    fn pass(&mut self, dir: &Path, number: u32, packed: bool) {
        let data = plain_bytes(dir, number, Stream::Out) + plain_bytes(dir, number, Stream::Err);
        let index = size(dir, number, Part::Index);
        let header = read_header(dir, number);
        let first_sequence = header.map_or(self.next_sequence, |header| header.first_sequence);
        let base_bytes = header.map_or(self.base_bytes, |header| header.base_bytes);
        self.next_sequence = first_sequence + index.saturating_sub(HEADER_BYTES) / RECORD_BYTES;
        self.base_bytes = base_bytes + data;
        let modified = fs::symlink_metadata(layout::path(dir, number, Part::Index)).and_then(|meta| meta.modified());
        let newest_ns = modified.map_or(0, clock::nanoseconds);
        self.closed.push(Closed { number, bytes: size_of(dir, number), newest_ns, packed });
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
