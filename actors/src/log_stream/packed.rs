//! A closed segment's data, compressed: gzip members (RFC 1952) of 1 MiB of plain bytes each.
//!
//! ```text
//! 3.out.gz   member 0: header with the table ── deflate ── crc, length
//!            member 1 …                         every member stands alone: the bytes at any offset cost one of them
//! ```
//!
//! The table of all members' lengths lies in the extra field of the first one's header, where every other program skips it: the file
//! is found whole or not at all, `gzip -t` and `zcat` take it as it is, and nothing beside it can disagree with it
//! (docs/decisions/0017). Never changes a file; writing one is `press`'s.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use super::repair::read_up_to;

/// Plain bytes of a member (the last has fewer): what the reading of any byte costs at most.
pub(super) const MEMBER_BYTES: u64 = 1 << 20;
/// Members whose lengths fit an extra field (65535 bytes, RFC 1952, 2.3.1.1); data of more are not compressed.
pub(super) const MEMBERS_MAX: u64 = 16_000;
/// The fixed part of a gzip header, and the length of the extra field after it.
const EXTRA_AT: usize = 12;
/// The extra field's one subfield: two letters, a length (RFC 1952, 2.3.1.1).
const SUBFIELD: [u8; 2] = *b"eV";
const SUBFIELD_BYTES: usize = 4;
/// What the table begins with: version, lengths of a member, of all and in lines; the lengths of the members follow, 4 bytes each.
const TABLE_HEAD_BYTES: usize = 28;
const VERSION: u32 = 1;
/// No member is longer than this, compressed and with its header: deflate adds a few bytes per 16 KiB of what it cannot shrink. A
/// longer one is damage, not a reason to fill the memory.
const MEMBER_MAX_BYTES: u32 = 2 << 20;

/// A compressed file, opened for reading.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    file: Arc<File>,
    table: Arc<Table>,
    /// The member read last, in plain: readers go on where they were.
    member: Option<(u64, Arc<Vec<u8>>)>,
}

/// What the first member's header tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Plain bytes of all members.
    pub(super) plain_bytes: u64,
    /// Line feeds in them.
    pub(super) lines: u64,
    /// Compressed bytes of each member, its header included.
    pub(super) lengths: Vec<u32>,
}

/// Counts what goes through it.
struct Counted<W> {
    out: W,
    bytes: u64,
}

// === impl Packed ===

impl Packed {
    /// Reads the table; an error of kind `InvalidData` if the file is not one of ours.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let table = Table::read(&file)?;
        Ok(Self { file: Arc::new(file), table: Arc::new(table), member: None })
    }

    /// What the file tells of itself.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` with plain bytes from `offset` on. Fewer: there are no more, or a member is damaged.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            let at = offset + got as u64;
            let Some(member) = self.member(at / MEMBER_BYTES)? else { break };
            let from = usize::try_from(at % MEMBER_BYTES).unwrap_or(usize::MAX).min(member.len());
            let bytes = (member.len() - from).min(buffer.len() - got);
            if bytes == 0 {
                break;
            }
            buffer[got..got + bytes].copy_from_slice(&member[from..from + bytes]);
            got += bytes;
        }
        Ok(got)
    }

    fn member(&mut self, number: u64) -> io::Result<Option<Arc<Vec<u8>>>> {
        if let Some((at, member)) = &self.member
            && *at == number
        {
            return Ok(Some(Arc::clone(member)));
        }
        let Some((from, length)) = self.table.place(number) else { return Ok(None) };
        let mut raw = vec![0; length];
        let got = read_up_to(&self.file, &mut raw, from)?;
        let mut plain = Vec::with_capacity(usize::try_from(MEMBER_BYTES).unwrap_or(0));
        // One byte more than a member has: a longer one is damage, not a reason to fill the memory.
        let read = GzDecoder::new(&raw[..got]).take(MEMBER_BYTES + 1).read_to_end(&mut plain);
        if read.is_err() || plain.len() as u64 != self.table.plain_of(number) {
            tracing::warn!(member = number, "a member of a compressed log segment is damaged");
            return Ok(None);
        }
        let plain = Arc::new(plain);
        self.member = Some((number, Arc::clone(&plain)));
        Ok(Some(plain))
    }
}

// === impl Table ===

impl Table {
    /// The table of a file of `plain_bytes`, lengths unknown yet.
    pub(super) fn new(plain_bytes: u64) -> Self {
        Self { plain_bytes, lines: 0, lengths: Vec::new() }
    }

    /// How many members hold the plain bytes.
    pub(super) fn members(&self) -> u64 {
        self.plain_bytes.div_ceil(MEMBER_BYTES)
    }

    /// Plain bytes of one member.
    pub(super) fn plain_of(&self, number: u64) -> u64 {
        self.plain_bytes.saturating_sub(number * MEMBER_BYTES).min(MEMBER_BYTES)
    }

    /// Writes one member to `out`, which stands at its place: the plain bytes come from `fill`, block by block, until it gives none.
    /// The first one leaves room for the table. Returns its compressed length.
    pub(super) fn write_member(
        &self,
        number: u64,
        out: impl Write,
        mut fill: impl FnMut() -> io::Result<Option<Vec<u8>>>,
    ) -> io::Result<u32> {
        let builder = GzBuilder::new();
        let builder = if number == 0 { builder.extra(self.encode()) } else { builder };
        let mut counted = Counted { out, bytes: 0 };
        let mut encoder = builder.write(&mut counted, Compression::default());
        while let Some(block) = fill()? {
            encoder.write_all(&block)?;
        }
        encoder.finish()?;
        u32::try_from(counted.bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
    }

    /// Puts the table where the first member has left room for it.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.encode(), EXTRA_AT as u64)
    }

    fn read(file: &File) -> io::Result<Self> {
        let mut head = [0; EXTRA_AT];
        file.read_exact_at(&mut head, 0)?;
        let mut extra = vec![0; usize::from(u16::from_le_bytes([head[10], head[11]]))];
        let ours = head[..4] == [0x1f, 0x8b, 8, 4];
        if ours {
            file.read_exact_at(&mut extra, EXTRA_AT as u64)?;
        }
        let table = ours.then(|| Self::decode(&extra)).flatten();
        table.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a compressed log segment"))
    }

    /// Where a member lies, and how long it is.
    fn place(&self, number: u64) -> Option<(u64, usize)> {
        let number = usize::try_from(number).ok()?;
        let length = *self.lengths.get(number)?;
        let from = self.lengths[..number].iter().map(|&length| u64::from(length)).sum();
        Some((from, usize::try_from(length).ok()?))
    }

    fn encode(&self) -> Vec<u8> {
        let members = usize::try_from(self.members()).unwrap_or(usize::MAX);
        let body = TABLE_HEAD_BYTES + 4 * members;
        let mut raw = Vec::with_capacity(SUBFIELD_BYTES + body);
        raw.extend_from_slice(&SUBFIELD);
        raw.extend_from_slice(&u16::try_from(body).unwrap_or(u16::MAX).to_le_bytes());
        raw.extend_from_slice(&VERSION.to_le_bytes());
        raw.extend_from_slice(&MEMBER_BYTES.to_le_bytes());
        raw.extend_from_slice(&self.plain_bytes.to_le_bytes());
        raw.extend_from_slice(&self.lines.to_le_bytes());
        for at in 0..members {
            raw.extend_from_slice(&self.lengths.get(at).copied().unwrap_or(0).to_le_bytes());
        }
        raw
    }

    fn decode(raw: &[u8]) -> Option<Self> {
        let length = usize::from(u16::from_le_bytes(raw.get(2..4)?.try_into().ok()?));
        let body = raw.get(SUBFIELD_BYTES..SUBFIELD_BYTES + length)?;
        let word = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let known = raw[..2] == SUBFIELD && body.get(..4)? == VERSION.to_le_bytes() && word(4)? == MEMBER_BYTES;
        let (plain_bytes, lines) = (word(12)?, word(20)?);
        let lengths = body[TABLE_HEAD_BYTES..].chunks_exact(4);
        let lengths: Vec<u32> = lengths.map(|raw| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])).collect();
        let table = Self { plain_bytes, lines, lengths };
        let whole = table.members() == table.lengths.len() as u64;
        (known && whole && table.lengths.iter().all(|&length| length <= MEMBER_MAX_BYTES)).then_some(table)
    }
}

// === impl Counted ===

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
