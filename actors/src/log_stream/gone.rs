//! What retention has deleted, in lines: the file `gone` beside the segments.
//!
//! ```text
//! record of 32 bytes, little endian:  number u32 · 0 u32 · bytes u64 · lines of out u64 · lines of err u64
//! ```
//!
//! A record is appended before its segment is deleted, so that a reader that finds segments missing finds here how many lines it
//! missed. A record may stand twice (a writer killed in between) and counts once. Old records are forgotten: a reader that was away
//! for so long is told bytes alone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memchr::memchr_iter;

use super::data::{Data, open_file};
use super::layout::{self, Stream};
use super::repair::read_up_to;

const NAME: &str = "gone";
const RECORD_BYTES: usize = 32;
/// Deletions remembered at least: 8 GiB of segments as they are by default, in 16 KiB.
const RECORDS_MIN: usize = 512;
/// A file longer than this is cut down to [`RECORDS_MIN`].
const RECORDS_MAX: usize = 2 * RECORDS_MIN;
/// Bytes looked at in one read.
const BLOCK_BYTES: usize = 256 << 10;

/// What was in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) number: u32,
    /// Of both streams.
    pub(super) bytes: u64,
    /// Line feeds, by stream.
    pub(super) lines: [u64; 2],
}

/// Lines in the segments between two numbers, neither included, by stream; `None` if they are not all known: `bytes` is what they must
/// have held together.
pub(super) fn lines_between(dir: &Path, after: u32, before: u32, bytes: u64) -> Option<[u64; 2]> {
    let records = read(dir).ok()?;
    let between: BTreeMap<u32, Gone> = records
        .into_iter()
        .filter(|gone| after < gone.number && gone.number < before)
        .map(|gone| (gone.number, gone))
        .collect();
    let known: u64 = between.values().map(|gone| gone.bytes).sum();
    let lines = Stream::BOTH.map(|stream| between.values().map(|gone| gone.lines[stream.index()]).sum());
    (known == bytes).then_some(lines)
}

/// What was in a deleted segment, if that is still known.
pub(super) fn of(dir: &Path, number: u32) -> Option<Gone> {
    read(dir).ok()?.into_iter().find(|gone| gone.number == number)
}

/// Counts a segment's lines: by reading it, unless it is compressed and told already. `None`: its files cannot be read.
pub(super) fn count(dir: &Path, number: u32) -> Option<Gone> {
    let mut gone = Gone { number, bytes: 0, lines: [0; 2] };
    for stream in Stream::BOTH {
        let Some(mut data) = Data::open(dir, number, stream).ok()? else { continue };
        let lines = &mut gone.lines[stream.index()];
        if let Data::Packed(packed) = &data {
            *lines = packed.table().lines;
            gone.bytes += packed.table().plain_bytes;
            continue;
        }
        let (mut block, mut at) = (vec![0; BLOCK_BYTES], 0);
        loop {
            let got = data.read_at(&mut block, at).ok()?;
            *lines += memchr_iter(b'\n', &block[..got]).count() as u64;
            at += got as u64;
            if got < block.len() {
                break;
            }
        }
        gone.bytes += at;
    }
    Some(gone)
}

/// Remembers a segment that is about to be deleted.
pub(super) fn remember(dir: &Path, gone: &Gone) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(dir.join(NAME))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // What a killed writer left of a record is written over.
    let records = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX) / RECORD_BYTES;
    if records >= RECORDS_MAX {
        file = shorten(dir, &file)?;
    }
    let at = file.metadata()?.len() / RECORD_BYTES as u64 * RECORD_BYTES as u64;
    file.write_all_at(&gone.encode(), at)
}

/// The newest records in a new file.
fn shorten(dir: &Path, old: &File) -> io::Result<File> {
    let mut raw = vec![0; RECORDS_MIN * RECORD_BYTES];
    let records = old.metadata()?.len() / RECORD_BYTES as u64;
    let from = records.saturating_sub(RECORDS_MIN as u64) * RECORD_BYTES as u64;
    let got = read_up_to(old, &mut raw, from)?;
    let temporary = dir.join(format!("0.{NAME}.{}", layout::TEMPORARY));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&raw[..got])?;
    fs::rename(temporary, dir.join(NAME))?;
    Ok(file)
}

fn read(dir: &Path) -> io::Result<Vec<Gone>> {
    let Some(file) = open_file(&dir.join(NAME))? else { return Ok(Vec::new()) };
    let mut raw = vec![0; RECORDS_MAX * RECORD_BYTES];
    let got = read_up_to(&file, &mut raw, 0)?;
    Ok(raw[..got].chunks_exact(RECORD_BYTES).map(Gone::decode).collect())
}

// === impl Gone ===

impl Gone {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut raw = [0; RECORD_BYTES];
        raw[0..4].copy_from_slice(&self.number.to_le_bytes());
        raw[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        raw[16..24].copy_from_slice(&self.lines[0].to_le_bytes());
        raw[24..32].copy_from_slice(&self.lines[1].to_le_bytes());
        raw
    }

    fn decode(raw: &[u8]) -> Self {
        let word = |at: usize| raw[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let number = u32::try_from(word(0) & u64::from(u32::MAX)).unwrap_or(0);
        Self { number, bytes: word(8), lines: [word(16), word(24)] }
    }
}
