//! The pump: one plain thread that moves the bytes of all units of a session from their FIFOs into their logs.
//!
//! Outside tokio, because file writes may block: here, and nowhere else. Reached over a bounded queue and an eventfd; what it
//! has to say it says by a watch per stream ([`Length`]) and by the replies of [`PumpHandle::drain`]. Never looks at a byte.

mod thread;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::LogError;
use super::layout::Life;
use super::store::Store;
use crate::process::sys::pipe::EventFd;
use thread::Worker;

/// Commands that may wait. They come with starts, exits and ends of units, a handful each; only a stalled disk lets them pile up.
const COMMANDS_MAX: usize = 4096;

/// A stream of one pump; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogStreamId(pub u64);

/// The reading ends of a unit's two FIFOs, non-blocking.
#[derive(Debug)]
pub struct Sources {
    /// Standard output.
    pub out: OwnedFd,
    /// Standard error.
    pub err: OwnedFd,
}

/// How far a log has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length {
    /// Index records so far, deleted ones included.
    pub index_records: u64,
}

/// Everything that was in both FIFOs is stored (or counted as dropped).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// How far the log had grown then.
    pub length: Length,
}

/// The thread, and the right to wait for its end.
#[derive(Debug)]
pub struct Pump {
    handle: PumpHandle,
    thread: std::thread::JoinHandle<()>,
}

/// A way to reach the pump; it ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct PumpHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` only while being dropped: the thread must see the queue's end before the wakeup.
    commands: Option<SyncSender<Command>>,
    waker: Arc<EventFd>,
    lengths: Mutex<HashMap<LogStreamId, watch::Receiver<Length>>>,
    last_id: AtomicU64,
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    Add { stream: LogStreamId, sources: Sources, store: Box<Store>, length: watch::Sender<Length> },
    Life { stream: LogStreamId, life: Life, done: oneshot::Sender<()> },
    Drain { stream: LogStreamId, done: oneshot::Sender<Drained> },
    Clear { stream: LogStreamId, done: oneshot::Sender<io::Result<u64>> },
    Remove { stream: LogStreamId, done: oneshot::Sender<()> },
    Halt { done: oneshot::Sender<()> },
    Stop,
}

// === impl Pump ===

impl Pump {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let waker = Arc::new(EventFd::new()?);
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let worker = Worker::new(commands, Arc::clone(&waker))?;
        let thread = std::thread::Builder::new().name("log-pump".to_owned()).spawn(|| worker.run())?;
        let lengths = Mutex::new(HashMap::new());
        let inner = Inner { commands: Some(sender), waker, lengths, last_id: AtomicU64::new(0) };
        Ok(Self { handle: PumpHandle { inner: Arc::new(inner) }, thread })
    }

    /// A way to reach it.
    pub fn handle(&self) -> PumpHandle {
        self.handle.clone()
    }

    /// Takes what is in the FIFOs, closes every log and ends the thread. Blocks until it has.
    pub fn stop(self) {
        // A full queue is worked off first; an error means that it has ended already.
        if let Some(commands) = &self.handle.inner.commands {
            drop(commands.send(Command::Stop));
        }
        self.handle.inner.waker.wake();
        if self.thread.join().is_err() {
            tracing::error!("the log pump had panicked");
        }
    }
}

// === impl PumpHandle ===

impl PumpHandle {
    /// An id that no other stream of this pump has.
    pub fn new_id(&self) -> LogStreamId {
        LogStreamId(self.inner.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Starts moving a unit's output.
    pub fn add(&self, stream: LogStreamId, sources: Sources, store: Store) -> Result<(), LogError> {
        let (length, receiver) = watch::channel(Length { index_records: store.records() });
        self.tell(Command::Add { stream, sources, store: Box::new(store), length })?;
        self.lengths().insert(stream, receiver);
        Ok(())
    }

    /// What comes out of the FIFOs after the answer belongs to this life.
    pub fn life(&self, stream: LogStreamId, life: Life) -> Result<oneshot::Receiver<()>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.tell(Command::Life { stream, life, done })?;
        Ok(receiver)
    }

    /// For after an exit: answers when everything that is in the FIFOs now is stored, and closes the life. An orphan that writes on
    /// does not prolong it. No answer (a closed channel): the stream is unknown, or the pump has ended.
    pub fn drain(&self, stream: LogStreamId) -> Result<oneshot::Receiver<Drained>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.tell(Command::Drain { stream, done })?;
        Ok(receiver)
    }

    /// Takes what is in the FIFOs, closes them and the log, and answers then.
    ///
    /// Waits if [`COMMANDS_MAX`] commands are in the queue: a removal may not get lost.
    pub fn remove(&self, stream: LogStreamId) -> Result<oneshot::Receiver<()>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.lengths().remove(&stream);
        let commands = self.inner.commands.as_ref().ok_or(LogError::PumpEnded)?;
        commands.send(Command::Remove { stream, done }).map_err(|_| LogError::PumpEnded)?;
        self.inner.waker.wake();
        Ok(receiver)
    }

    /// For a process that is about to become another program: takes what is in the FIFOs, brings every index up to date, and
    /// answers then. What comes later stays in the FIFOs for the next program; followers wait, for no log has ended.
    pub fn halt(&self) -> Result<oneshot::Receiver<()>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.tell(Command::Halt { done })?;
        Ok(receiver)
    }

    /// Tells whenever the log has grown; `None`: no such stream.
    pub fn length(&self, stream: LogStreamId) -> Option<watch::Receiver<Length>> {
        self.lengths().get(&stream).cloned()
    }

    /// Deletes all that is stored of a stream, which goes on; answers with the bytes that the disk got back.
    pub fn clear(&self, stream: LogStreamId) -> Result<oneshot::Receiver<io::Result<u64>>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.tell(Command::Clear { stream, done })?;
        Ok(receiver)
    }

    fn tell(&self, command: Command) -> Result<(), LogError> {
        let commands = self.inner.commands.as_ref().ok_or(LogError::PumpEnded)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => LogError::PumpBusy,
            TrySendError::Disconnected(_) => LogError::PumpEnded,
        })?;
        self.inner.waker.wake();
        Ok(())
    }

    fn lengths(&self) -> MutexGuard<'_, HashMap<LogStreamId, watch::Receiver<Length>>> {
        self.inner.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.commands = None;
        self.waker.wake();
    }
}
