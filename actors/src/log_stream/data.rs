//! The bytes of one stream of one segment, as readers see them: whether the file is plain or compressed by now is no concern of theirs.
//!
//! A file that has been opened stays readable after its deletion and after its compression. Never writes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::layout::{self, Part, Stream};
use super::packed::Packed;
use super::repair::read_up_to;

/// One stream's bytes in one segment. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// As they were written; may still grow.
    Plain(Arc<File>),
    /// Closed and compressed.
    Packed(Packed),
}

// === impl Data ===

impl Data {
    /// `None`: the stream has written nothing in this segment, or the segment has been deleted.
    pub(super) fn open(dir: &Path, number: u32, stream: Stream) -> io::Result<Option<Self>> {
        // In this order: the compressed file is there before the plain one goes.
        if let Some(plain) = open_file(&layout::path(dir, number, Part::Data(stream)))? {
            return Ok(Some(Self::Plain(Arc::new(plain))));
        }
        let Some(packed) = open_file(&layout::path(dir, number, Part::Packed(stream)))? else { return Ok(None) };
        match Packed::open(packed) {
            Ok(packed) => Ok(Some(Self::Packed(packed))),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                tracing::warn!(dir = %dir.display(), number, %error, "compressed log segment is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes of the unit in it.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.metadata().map(|meta| meta.len()),
            Self::Packed(packed) => Ok(packed.table().plain_bytes),
        }
    }

    /// When it was last written.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Packed(packed) => packed.file(),
        };
        file.metadata()?.modified()
    }

    /// Fills `buffer` with the unit's bytes from `offset` on. Fewer: there are no more, or they are damaged.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_up_to(file, buffer, offset),
            Self::Packed(packed) => packed.read_at(buffer, offset),
        }
    }
}

/// `None`: it is not there, or not a regular file. Never follows a link, never waits for a FIFO's peer.
pub(super) fn open_file(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ELOOP) => Ok(None),
        Err(error) => Err(error),
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
    }
}
