//! The format on disk: segments of three files each, numbered from 1.
//!
//! ```text
//! logs/<unit>/3.out   raw bytes of standard output, nothing else
//! logs/<unit>/3.err   raw bytes of standard error
//! logs/<unit>/3.idx   header (48 bytes), then records of 40 bytes, little endian
//! logs/<unit>/2.out.gz, 2.err.gz   the data of a closed segment, compressed (`packed`); its index stays as it was
//! logs/<unit>/gone    what deleted segments held (`gone`)
//! logs/<unit>/N.*.tmp what is being made; left behind by a kill, and removed by the next writer
//! ```
//!
//! Within a segment record i has sequence `first_sequence + i`, and the data records of a stream lie end to end from offset 0:
//! that makes an index checkable and a sequence findable. A gap record has the bytes lost in `offset` and their line feeds in `len`. The
//! header tells the lengths of header and records, so that a later version can lengthen either; offsets are always those of the
//! raw bytes, compressed or not.

use std::path::{Path, PathBuf};
use std::{fs, io};

const MAGIC: [u8; 8] = *b"envctlog";
const VERSION: u16 = 1;
const CODEC_RAW: u16 = 0;

/// Length of an index header.
pub(super) const HEADER_BYTES: u64 = 48;
/// Length of an index record.
pub(super) const RECORD_BYTES: u64 = 40;
/// Set on records that were written by repair: their time is the file's.
pub(super) const FLAG_REPAIRED: u8 = 1;

/// Which of its two outputs a unit wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One life of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Life {
    /// A number of the run, the caller's choice; 0: unknown.
    pub run: u32,
    /// The incarnation within the run; 0: before the first one was told.
    pub incarnation: u32,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `len` bytes of the stream at `offset`.
    Data,
    /// `offset` bytes of the stream, with `len` line feeds, could not be stored and were thrown away.
    Gap,
    /// A life begins (told when it first writes).
    Started,
    /// A life has ended and everything it wrote is stored.
    Ended,
}

/// One index record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) stream: Stream,
    pub(super) flags: u8,
    pub(super) life: Life,
    pub(super) len: u32,
    pub(super) offset: u64,
    pub(super) time_ns: u64,
    pub(super) sequence: u64,
}

/// What an index begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Sequence of record 0.
    pub(super) first_sequence: u64,
    /// Bytes stored in all segments before this one, also the deleted ones: what a slow reader has missed is a difference.
    pub(super) base_bytes: u64,
    /// When the segment was begun.
    pub(super) created_ns: u64,
}

/// A file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Index,
    Data(Stream),
    /// The stream's data, compressed.
    Packed(Stream),
}

/// How the name of a file in the making ends.
pub(super) const TEMPORARY: &str = "tmp";

/// The path of a segment's file.
pub(super) fn path(dir: &Path, number: u32, part: Part) -> PathBuf {
    let ending = match part {
        Part::Index => "idx",
        Part::Data(Stream::Out) => "out",
        Part::Data(Stream::Err) => "err",
        Part::Packed(Stream::Out) => "out.gz",
        Part::Packed(Stream::Err) => "err.gz",
    };
    dir.join(format!("{number}.{ending}"))
}

/// The numbers of all segments that have a file of this ending, ascending. No directory: none.
pub(super) fn numbers(dir: &Path, endings: &[&str]) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        if let Some((stem, ending)) = parts
            && endings.contains(&ending)
            && let Ok(number @ 1..) = stem.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

// === impl Stream ===

impl Stream {
    /// Both, in the order in which they are numbered.
    pub const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// 0 for out, 1 for err.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Err => 1,
        }
    }
}

// === impl Record ===

impl Record {
    /// The bytes of a record.
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES as usize] {
        let mut raw = [0; RECORD_BYTES as usize];
        raw[0] = match self.kind {
            Kind::Data => 1,
            Kind::Gap => 2,
            Kind::Started => 3,
            Kind::Ended => 4,
        };
        raw[1] = u8::from(self.stream == Stream::Err);
        raw[2] = self.flags;
        raw[4..8].copy_from_slice(&self.life.incarnation.to_le_bytes());
        raw[8..12].copy_from_slice(&self.life.run.to_le_bytes());
        raw[12..16].copy_from_slice(&self.len.to_le_bytes());
        raw[16..24].copy_from_slice(&self.offset.to_le_bytes());
        raw[24..32].copy_from_slice(&self.time_ns.to_le_bytes());
        raw[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        raw
    }

    /// `None`: not a record (zeroes left by a power failure, or damage).
    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let kind = match raw.first()? {
            1 => Kind::Data,
            2 => Kind::Gap,
            3 => Kind::Started,
            4 => Kind::Ended,
            _ => return None,
        };
        let stream = *Stream::BOTH.get(usize::from(*raw.get(1)?))?;
        let life = Life { incarnation: u32_at(raw, 4)?, run: u32_at(raw, 8)? };
        let (len, offset) = (u32_at(raw, 12)?, u64_at(raw, 16)?);
        Some(Self {
            kind,
            stream,
            flags: raw[2],
            life,
            len,
            offset,
            time_ns: u64_at(raw, 24)?,
            sequence: u64_at(raw, 32)?,
        })
    }
}

// === impl Header ===

impl Header {
    /// The bytes of a header.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut raw = [0; HEADER_BYTES as usize];
        raw[0..8].copy_from_slice(&MAGIC);
        raw[8..10].copy_from_slice(&VERSION.to_le_bytes());
        raw[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        raw[12..14].copy_from_slice(&(RECORD_BYTES as u16).to_le_bytes());
        raw[14..16].copy_from_slice(&CODEC_RAW.to_le_bytes());
        raw[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        raw[24..32].copy_from_slice(&self.base_bytes.to_le_bytes());
        raw[32..40].copy_from_slice(&self.created_ns.to_le_bytes());
        raw
    }

    /// `None`: damaged, or of a version that this program does not know.
    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let words = [VERSION, HEADER_BYTES as u16, RECORD_BYTES as u16, CODEC_RAW];
        let known = raw.get(0..8)? == MAGIC
            && words.iter().zip(raw.get(8..16)?.chunks_exact(2)).all(|(word, raw)| word.to_le_bytes() == raw);
        known.then_some(())?;
        Some(Self { first_sequence: u64_at(raw, 16)?, base_bytes: u64_at(raw, 24)?, created_ns: u64_at(raw, 32)? })
    }
}

fn u32_at(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(raw: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(raw.get(at..at + 8)?.try_into().ok()?))
}
