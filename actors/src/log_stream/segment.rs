//! The three open files of the segment that is being written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::keep::Closed;
use super::layout::{self, HEADER_BYTES, Part, Stream};
use super::store::is_intact;

/// A segment under the pen.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) index: File,
    /// Where the next index record goes.
    pub(super) index_len: u64,
    /// By stream; made at the stream's first byte.
    data: [Option<File>; 2],
    /// Where the next byte of a stream goes.
    pub(super) len: [u64; 2],
    /// When it was begun.
    pub(super) created_ns: u64,
    /// When it was last written.
    pub(super) written_ns: u64,
}

// === impl Segment ===

impl Segment {
    /// A fresh one, its header written.
    pub(super) fn new(number: u32, index: File) -> Self {
        Self { number, index, index_len: HEADER_BYTES, data: [None, None], len: [0; 2], created_ns: 0, written_ns: 0 }
    }

    /// One that was found on disk.
    pub(super) fn found(number: u32, index: File, index_len: u64, data: [Option<File>; 2], len: [u64; 2]) -> Self {
        Self { number, index, index_len, data, len, created_ns: 0, written_ns: 0 }
    }

    /// Begun and last written then.
    pub(super) fn at(self, created_ns: u64, written_ns: u64) -> Self {
        Self { created_ns, written_ns, ..self }
    }

    /// What it is once nobody writes it any more.
    pub(super) fn closed(&self) -> Closed {
        Closed { number: self.number, bytes: self.bytes(), newest_ns: self.written_ns, packed: false }
    }

    /// Whether it has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.index_len <= HEADER_BYTES
    }

    /// Bytes on disk, index included.
    pub(super) fn bytes(&self) -> u64 {
        self.index_len + self.len[0] + self.len[1]
    }

    /// The stream's file.
    pub(super) fn data(&mut self, dir: &Path, stream: Stream) -> io::Result<&File> {
        let slot = &mut self.data[stream.index()];
        if slot.is_none() {
            *slot = Some(Self::create(dir, self.number, Part::Data(stream))?);
        }
        slot.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the files are still there, and as long as we left them.
    pub(super) fn is_whole(&self) -> bool {
        let data =
            self.data.iter().zip(self.len).all(|(file, len)| file.as_ref().is_none_or(|file| is_intact(file, len)));
        data && is_intact(&self.index, self.index_len)
    }

    /// Makes a file of a new segment: it must not exist, in whatever form.
    pub(super) fn create(dir: &Path, number: u32, part: Part) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).read(true).create_new(true).mode(0o600).open(layout::path(dir, number, part))
    }

    /// Opens a file of a segment that was found; anything but a regular file is an error.
    pub(super) fn reopen(dir: &Path, number: u32, part: Part) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file =
            OpenOptions::new().write(true).read(true).custom_flags(flags).open(layout::path(dir, number, part))?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    }
}
