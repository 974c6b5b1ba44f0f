//! Compression of closed segments: one thread of a pump, at idle priority, one segment at a time.
//!
//! ```text
//! 3.out ──▶ 3.out.RANDOM.tmp ── fsync ──▶ rename to 3.out.gz ── fsync of the directory ──▶ unlink 3.out
//! ```
//!
//! Whatever moment it is killed at, one of both files is whole; what is left over goes when the log is opened next (`repair`). The
//! pump may delete a segment meanwhile, without a lock: it removes the index first, and a segment whose index is gone when its
//! compressed file has come is removed here. Never touches an index, nor a segment that may still be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use memchr::memchr_iter;

use super::data::open_file;
use super::layout::{self, Part, Stream};
use super::packed::{MEMBER_BYTES, MEMBERS_MAX, Table};
use super::pump::LogStreamId;
use super::repair::{read_up_to, size_of};
use crate::process::sys::pipe::EventFd;
use crate::process::sys::priority::become_idle;

/// A smaller file would not become smaller: it takes a block of the disk as it is.
const WORTH_BYTES: u64 = 4 << 10;
/// Bytes compressed before the next look whether to go on.
const BLOCK_BYTES: usize = 64 << 10;

/// The thread, and what it is doing.
#[derive(Debug)]
pub(super) struct Press {
    jobs: SyncSender<Job>,
    outcomes: Receiver<Outcome>,
    /// Whose segment is in work, and the word to leave off.
    working: Option<(LogStreamId, Arc<AtomicBool>)>,
}

/// One segment to be compressed.
#[derive(Debug)]
struct Job {
    stream: LogStreamId,
    dir: PathBuf,
    number: u32,
    cancelled: Arc<AtomicBool>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) stream: LogStreamId,
    pub(super) number: u32,
    /// The segment's bytes on disk; an error leaves it as it was.
    pub(super) result: io::Result<u64>,
}

// === impl Press ===

impl Press {
    /// Starts the thread; `waker` is woken after each job.
    pub(super) fn start(waker: Arc<EventFd>) -> io::Result<Self> {
        // One job at a time, so both never block.
        let (jobs, orders) = sync_channel::<Job>(1);
        let (told, outcomes) = sync_channel(1);
        let work = move || {
            become_idle();
            while let Ok(Job { stream, dir, number, cancelled }) = orders.recv() {
                let result = press(&dir, number, &cancelled);
                if told.send(Outcome { stream, number, result }).is_err() {
                    break;
                }
                waker.wake();
            }
        };
        // It ends by itself, at the latest one block after its pump.
        drop(std::thread::Builder::new().name("log-press".to_owned()).spawn(work)?);
        Ok(Self { jobs, outcomes, working: None })
    }

    /// Whether it has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.working.is_none()
    }

    /// Whether a segment of this stream is in work, or done and not told yet.
    pub(super) fn works_on(&self, stream: LogStreamId) -> bool {
        self.working.as_ref().is_some_and(|(working, _)| *working == stream)
    }

    /// Hands it a segment, if it has nothing to do.
    pub(super) fn begin(&mut self, stream: LogStreamId, dir: &Path, number: u32) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job { stream, dir: dir.to_path_buf(), number, cancelled: Arc::clone(&cancelled) };
        if self.is_idle() && self.jobs.try_send(job).is_ok() {
            self.working = Some((stream, cancelled));
        }
    }

    /// Leaves off what it does for this stream, if anything.
    pub(super) fn cancel(&self, stream: LogStreamId) {
        if let Some((_, cancelled)) = self.working.as_ref().filter(|(working, _)| *working == stream) {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// What it has finished.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => {
                self.working = None;
                Some(outcome)
            }
            // A thread that has died (a bug) is never idle again: nothing more is compressed, and nothing lost.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        if let Some((_, cancelled)) = &self.working {
            cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// Compresses both streams of a closed segment. Returns its bytes on disk.
pub(super) fn press(dir: &Path, number: u32, cancelled: &AtomicBool) -> io::Result<u64> {
    for stream in Stream::BOTH {
        if let Some(plain) = open_file(&layout::path(dir, number, Part::Data(stream)))? {
            press_stream(dir, number, stream, &plain, cancelled)?;
        }
    }
    Ok(size_of(dir, number))
}

fn press_stream(dir: &Path, number: u32, stream: Stream, plain: &File, cancelled: &AtomicBool) -> io::Result<()> {
    let table = Table::new(plain.metadata()?.len());
    if table.plain_bytes < WORTH_BYTES || table.members() > MEMBERS_MAX {
        return Ok(());
    }
    let ending = if stream == Stream::Out { "out" } else { "err" };
    let random = fastrand::u64(..);
    let temporary = dir.join(format!("{number}.{ending}.{random:016x}.{}", layout::TEMPORARY));
    let done = write(&temporary, plain, table, cancelled).and_then(|()| put(dir, number, stream, &temporary));
    if done.is_err() {
        // Nothing but room is lost if it stays: the next writer removes it.
        drop(fs::remove_file(&temporary));
    }
    done
}

/// Writes the compressed file, to the disk.
fn write(path: &Path, plain: &File, mut table: Table, cancelled: &AtomicBool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, &file);
    let mut lines = 0;
    for number in 0..table.members() {
        let (from, bytes) = (number * MEMBER_BYTES, table.plain_of(number));
        let mut at = 0;
        let length = table.write_member(number, &mut out, || {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("left off: the unit writes again"));
            }
            let mut block = vec![0; usize::try_from(bytes - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES))];
            let got = read_up_to(plain, &mut block, from + at)?;
            if got < block.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += got as u64;
            lines += memchr_iter(b'\n', &block).count() as u64;
            Ok((got > 0).then_some(block))
        })?;
        table.lengths.push(length);
    }
    out.flush()?;
    drop(out);
    table.lines = lines;
    table.write(&file)?;
    file.sync_all()
}

/// Puts the compressed file into the place of the plain one.
fn put(dir: &Path, number: u32, stream: Stream, temporary: &Path) -> io::Result<()> {
    let packed = layout::path(dir, number, Part::Packed(stream));
    fs::rename(temporary, &packed)?;
    if !layout::path(dir, number, Part::Index).exists() {
        return fs::remove_file(packed);
    }
    File::open(dir)?.sync_all()?;
    match fs::remove_file(layout::path(dir, number, Part::Data(stream))) {
        // The pump has deleted the segment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
