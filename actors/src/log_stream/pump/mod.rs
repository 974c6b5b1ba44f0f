//! The pump: one plain thread that moves the bytes of all units of a session from their FIFOs into their logs; two while several
//! units write faster than one can store.
//!
//! ```text
//! PumpHandle ──commands──▶ thread ──orders──▶ second: lent streams, while there is a crowd (load)
//!                            ├─ lane: wait, move, index                 └─ lane
//!                            │   └─ flow: one unit                          └─ flow
//!                            └─ press
//! ```
//!
//! Outside tokio, because file writes may block: here, and nowhere else. Reached over a bounded queue and an eventfd; what it
//! has to say it says by a watch per stream ([`Length`]) and by the replies of [`PumpHandle::drain`]. Never looks at a byte.

mod flow;
mod lane;
mod load;
mod rest;
mod second;
mod thread;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::LogError;
use super::health::Health;
use super::layout::Life;
use super::store::Store;
use crate::process::sys::pipe::EventFd;
use flow::{Flow, Tell};
use rest::Rest;
use thread::Worker;

/// Commands that may wait. They come with starts, exits and ends of units, a handful each; only a stalled disk lets them pile up.
const COMMANDS_MAX: usize = 4096;

/// A stream whose pipe was not seen full for so long gets the small pipe again, and its closed segments are compressed.
const QUIET: Duration = Duration::from_secs(10);
/// Bytes that one thread moves while several units wait for it, before it gets a second one: a few milliseconds at full speed. What
/// units say at their start is less.
const CROWDED_BYTES: u64 = 16 << 20;

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
    /// Bytes on disk, index and closed segments included.
    pub bytes: u64,
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
    lengths: Mutex<HashMap<LogStreamId, Watches>>,
    last_id: AtomicU64,
    threads: watch::Receiver<usize>,
}

/// When a pump does what; tests are in more of a hurry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    /// A stream that was not seen full for so long is quiet.
    pub(super) quiet: Duration,
    /// Bytes that one thread moves while several units wait for it, before it gets a second one.
    pub(super) crowded_bytes: u64,
    /// Threads that may move bytes; `None`: one, or two where there are so many processors.
    pub(super) threads_max: Option<usize>,
}

/// What is told of a stream.
#[derive(Debug, Clone)]
struct Watches {
    length: watch::Receiver<Length>,
    health: watch::Receiver<Health>,
    rest: Arc<Rest>,
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    To(LogStreamId, Order),
    Halt { done: oneshot::Sender<()> },
    Stop,
}

/// What is to be done for a stream, by the thread that has it.
#[derive(Debug)]
enum Order {
    Add { flow: Box<Flow> },
    Life { life: Life, done: oneshot::Sender<()> },
    Drain { life: Life, done: oneshot::Sender<Drained> },
    Clear { done: oneshot::Sender<io::Result<u64>> },
    Remove { done: oneshot::Sender<()> },
}

// === impl Pump ===

impl Pump {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Tuning::default())
    }

    pub(super) fn start_with(tuning: Tuning) -> io::Result<Self> {
        let waker = Arc::new(EventFd::new()?);
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let (threads_sender, threads) = watch::channel(1);
        let worker = Worker::new(commands, Arc::clone(&waker), tuning, threads_sender)?;
        let thread = std::thread::Builder::new().name("log-pump".to_owned()).spawn(|| worker.run())?;
        let lengths = Mutex::new(HashMap::new());
        let inner = Inner { commands: Some(sender), waker, lengths, last_id: AtomicU64::new(0), threads };
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
        let (length, length_receiver) = watch::channel(Length::of(&store));
        let (health, health_receiver) = watch::channel(Health::default());
        let flow = Flow::new(sources, Box::new(store), Tell { length, health }, Instant::now());
        let rest = flow.rest();
        self.order(stream, Order::Add { flow: Box::new(flow) })?;
        self.lengths().insert(stream, Watches { length: length_receiver, health: health_receiver, rest });
        Ok(())
    }

    /// What comes out of the FIFOs after the answer belongs to this life. At rest that is so at once.
    pub fn life(&self, stream: LogStreamId, life: Life) -> Result<oneshot::Receiver<()>, LogError> {
        let (done, receiver) = oneshot::channel();
        match self.at_rest(stream) {
            Some(watches) => {
                watches.rest.declare(life);
                // Whoever asked has not got the other end yet.
                let _ = done.send(());
            }
            None => self.order(stream, Order::Life { life, done })?,
        }
        Ok(receiver)
    }

    /// For after an exit: answers when everything that is in the FIFOs now is stored, and closes the life. An orphan that writes on
    /// does not prolong it. No answer (a closed channel): the stream is unknown, or the pump has ended. At rest the answer is there
    /// at once, and the record of the end, if there is to be one, comes as soon as the thread does.
    pub fn drain(&self, stream: LogStreamId) -> Result<oneshot::Receiver<Drained>, LogError> {
        let (done, receiver) = oneshot::channel();
        let life = self.lengths().get(&stream).map(|watches| watches.rest.life()).unwrap_or_default();
        let Some(watches) = self.at_rest(stream) else {
            self.order(stream, Order::Drain { life, done })?;
            return Ok(receiver);
        };
        if watches.rest.has_spoken() {
            let nobody = oneshot::channel().0;
            self.order(stream, Order::Drain { life, done: nobody })?;
        }
        // Whoever asked has not got the other end yet.
        let _ = done.send(Drained { length: *watches.length.borrow() });
        Ok(receiver)
    }

    /// Takes what is in the FIFOs, closes them and the log, and answers then.
    ///
    /// Waits if [`COMMANDS_MAX`] commands are in the queue: a removal may not get lost.
    pub fn remove(&self, stream: LogStreamId) -> Result<oneshot::Receiver<()>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.lengths().remove(&stream);
        let commands = self.inner.commands.as_ref().ok_or(LogError::PumpEnded)?;
        commands.send(Command::To(stream, Order::Remove { done })).map_err(|_| LogError::PumpEnded)?;
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
        self.lengths().get(&stream).map(|watches| watches.length.clone())
    }

    /// Tells when the disk begins to refuse what the unit writes, and when it takes it again; `None`: no such stream.
    pub fn health(&self, stream: LogStreamId) -> Option<watch::Receiver<Health>> {
        self.lengths().get(&stream).map(|watches| watches.health.clone())
    }

    /// Deletes all that is stored of a stream, which goes on; answers with the bytes that the disk got back.
    pub fn clear(&self, stream: LogStreamId) -> Result<oneshot::Receiver<io::Result<u64>>, LogError> {
        let (done, receiver) = oneshot::channel();
        self.order(stream, Order::Clear { done })?;
        Ok(receiver)
    }

    /// Tells how many threads move bytes just now.
    pub fn threads(&self) -> watch::Receiver<usize> {
        self.inner.threads.clone()
    }

    /// What is told of a stream whose every byte is stored.
    fn at_rest(&self, stream: LogStreamId) -> Option<Watches> {
        let watches = self.lengths().get(&stream)?.clone();
        watches.rest.is_at_rest().then_some(watches)
    }

    fn order(&self, stream: LogStreamId, order: Order) -> Result<(), LogError> {
        self.tell(Command::To(stream, order))
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

    fn lengths(&self) -> MutexGuard<'_, HashMap<LogStreamId, Watches>> {
        self.inner.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tuning ===

impl Default for Tuning {
    fn default() -> Self {
        Self { quiet: QUIET, crowded_bytes: CROWDED_BYTES, threads_max: None }
    }
}

// === impl Length ===

impl Length {
    fn of(store: &Store) -> Self {
        Self { index_records: store.records(), bytes: store.bytes() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.commands = None;
        self.waker.wake();
    }
}
