//! What goes, and what does not get in: deletion, and what the store does when the disk refuses.
//!
//! Old output goes first, then new, and the unit never waits. All that is lost is counted, in bytes and lines.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use memchr::memchr_iter;
use nix::sys::statvfs::statvfs;

use super::{Store, Taken};
use crate::log_stream::keep::Closed;
use crate::log_stream::layout::{Kind, Stream};
use crate::log_stream::{clock, gone, repair};
use crate::process::sys::pipe;

/// Bytes thrown away, and the line feeds among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lost {
    pub(super) bytes: u64,
    pub(super) lines: u64,
}

/// Whether room would help.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

// === impl Store ===

impl Store {
    /// Counts what is in a segment, for those who have not read it, and deletes it.
    pub(super) fn delete(&mut self, closed: &Closed) {
        let gone = gone::count(&self.dir, closed.number);
        let remember = |dir: &Path| gone.as_ref().is_none_or(|gone| gone::remember(dir, gone).is_ok());
        let remembered = remember(&self.dir);
        repair::delete_segment(&self.dir, closed.number);
        if !remembered && !remember(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), number = closed.number, "how many lines were deleted is not known");
        }
    }

    /// Makes room on a full disk: deletes the oldest closed segment. `false`: there is none, or it would not help.
    pub(super) fn shed(&mut self, error: &io::Error) -> bool {
        // Blocks or inodes: either may be what is short.
        let free = |dir: &Path| statvfs(dir).map_or((0, 0), |stat| (stat.blocks_available(), stat.files_available()));
        let before = free(&self.dir);
        let Some(oldest) = self.closed.pop() else { return false };
        self.refuse(error);
        self.delete(&oldest);
        self.health.shed_segments += 1;
        // Readers may have it open, or somebody else has taken what it left.
        let after = free(&self.dir);
        after.0 > before.0 || after.1 > before.1
    }

    fn refuse(&mut self, error: &io::Error) {
        self.refused_ns = clock::wall_time_ns();
        if self.health.refused.is_none() {
            tracing::warn!(dir = %self.dir.display(), %error, "log cannot be written; old output is deleted, new output dropped and counted");
            self.health.refuse(error);
        }
    }

    pub(super) fn has_gaps(&self) -> bool {
        self.gaps.iter().any(|gap| gap.bytes > 0)
    }

    pub(super) fn discard(
        &mut self,
        stream: Stream,
        fifo: BorrowedFd<'_>,
        scratch: &mut [u8],
        error: &io::Error,
    ) -> Taken {
        self.refuse(error);
        match pipe::read_some(fifo, scratch) {
            Ok(bytes @ 1..) => {
                self.adopt();
                let lines = memchr_iter(b'\n', &scratch[..bytes]).count() as u64;
                let gap = &mut self.gaps[stream.index()];
                (gap.bytes, gap.lines) = (gap.bytes + bytes as u64, gap.lines + lines);
                self.health.drop_some(bytes as u64, lines);
                Taken::Dropped(bytes)
            }
            Ok(0) | Err(_) => Taken::Empty,
        }
    }

    pub(super) fn tell_gaps(&mut self) -> io::Result<()> {
        self.room(clock::wall_time_ns())?;
        // Told only once the disk takes records again, else they would pile up.
        self.write_pending()?;
        self.note_gaps();
        Ok(())
    }

    pub(super) fn note_gaps(&mut self) {
        for stream in Stream::BOTH {
            let Lost { bytes, lines } = std::mem::take(&mut self.gaps[stream.index()]);
            if bytes > 0 {
                self.push(Kind::Gap, stream, bytes, lines, clock::wall_time_ns());
            }
        }
    }
}
