//! Where bytes go: the kernel, or a test's idea of a full disk.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use crate::process::sys::pipe;

/// The two ways in which a store writes.
pub(super) trait Sink: Send {
    /// Moves at most `len` bytes from the FIFO to `offset`; see [`pipe::splice`].
    fn splice(&mut self, fifo: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize>;
    /// Writes all of an index.
    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// The real thing.
#[derive(Debug)]
pub(super) struct Kernel;

// === impl Kernel ===

impl Sink for Kernel {
    fn splice(&mut self, fifo: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        pipe::splice(fifo, file.as_fd(), offset, len)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }
}
