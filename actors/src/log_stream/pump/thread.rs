//! The pump's thread.
//!
//! ```text
//! wait ──▶ commands ──▶ each ready FIFO: up to SPLICES_MAX chunks ──▶ index records ──▶ length, drains ──▶ wait
//! ```
//!
//! Epoll is level-triggered and goes round, so what is left over comes again and nobody starves. What is due by time (gaps to be told,
//! large pipes to be given back, segments to be compressed or deleted) is looked after in [`Worker::tend`], at most once a second and
//! only while there is any.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::flow::{Flow, PIPE_FULL_BYTES};
use super::{Command, LogStreamId};
use crate::log_stream::clock;
use crate::log_stream::layout::Stream;
use crate::log_stream::press::{Outcome, Press};
use crate::process::sys::pipe::{Epoll, EventFd, Events, Trigger};

/// Chunks taken out of one FIFO before the next one has its turn: 1 MiB of an enlarged pipe.
const SPLICES_MAX: usize = 4;
/// Events of one round.
const EVENTS_MAX: usize = 128;
/// A stream whose pipe was not seen full for so long gets the small pipe again, and its closed segments are compressed.
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// How often the thread looks after what is owed to the disk.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long a segment that could not be compressed (a full disk) is left alone.
const PRESS_RETRY: Duration = Duration::from_secs(600);
/// Rounds that bring little follow each other this often before the thread takes a breath: one chunk of many lines costs what one of
/// a single line does.
const SMALL_ROUNDS_MAX: u32 = 16;
const SMALL_ROUND_BYTES: usize = 16 << 10;
const BREATH: Duration = Duration::from_millis(1);
/// Bytes thrown away at once.
const SCRATCH_BYTES: usize = 64 << 10;

const WAKER_TOKEN: u64 = u64::MAX;

/// All that the thread owns.
pub(super) struct Worker {
    commands: Receiver<Command>,
    waker: Arc<EventFd>,
    epoll: Epoll,
    streams: HashMap<LogStreamId, Flow>,
    scratch: Vec<u8>,
    quiet: Duration,
    /// When [`Worker::tend`] has something to do.
    wake: Option<Instant>,
    /// Begun with the first segment that is to be compressed.
    press: Option<Press>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(commands: Receiver<Command>, waker: Arc<EventFd>, quiet: Duration) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER_TOKEN, Trigger::Level)?;
        let (streams, scratch) = (HashMap::new(), vec![0; SCRATCH_BYTES]);
        Ok(Self { commands, waker, epoll, streams, scratch, quiet, wake: None, press: None })
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut small_rounds = 0;
        loop {
            if let Err(error) = self.epoll.wait(&mut events, self.timeout()) {
                tracing::error!(%error, "the log pump cannot wait for output and ends");
                break;
            }
            // Not asked for in vain: at full speed that would be a system call for each few chunks.
            if events.tokens().any(|token| token == WAKER_TOKEN) {
                self.waker.clear();
            }
            if !self.obey() {
                break;
            }
            let moved = self.round(&events);
            self.tend();
            small_rounds = if (1..SMALL_ROUND_BYTES).contains(&moved) { small_rounds + 1 } else { 0 };
            if small_rounds >= SMALL_ROUNDS_MAX {
                small_rounds = 0;
                self.waker.wait(BREATH);
            }
        }
        for (_, flow) in self.streams.drain() {
            flow.close(&mut self.scratch);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.wake.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Carries out what waits in the queue. `false`: the end.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(Command::Halt { done }) => {
                    self.halt(done);
                    return false;
                }
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Stop | Command::Halt { .. } => {}
            Command::Add { stream, sources, store, tell } => {
                let now = Instant::now();
                self.add(stream, Flow::new(sources, store, tell, now));
                self.wake = Some(now);
            }
            Command::Life { stream, life, done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    flow.begin(life, &mut self.scratch);
                    // Nobody need wait for it.
                    let _ = done.send(());
                }
            }
            Command::Drain { stream, done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    flow.drain(done);
                }
            }
            Command::Clear { stream, done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    // Nobody need wait for it.
                    let _ = done.send(flow.store.clear());
                    flow.settle();
                }
            }
            Command::Remove { stream, done } => {
                if let Some(press) = &self.press {
                    press.cancel(stream);
                }
                if let Some(flow) = self.streams.remove(&stream) {
                    flow.close(&mut self.scratch);
                }
                // Nobody need wait for it.
                let _ = done.send(());
            }
        }
    }

    /// Stores what is there, and nothing more, until the program ends or is replaced.
    fn halt(&mut self, done: oneshot::Sender<()>) {
        for flow in self.streams.values_mut() {
            flow.empty(&mut self.scratch);
        }
        // Whoever asked may be gone; there is nothing to go on with all the same.
        let _ = done.send(());
        // Kept, not refused: a start that waits for its log must not fail in the last moment.
        let mut unanswered = Vec::new();
        while let Ok(command) = self.commands.recv()
            && !matches!(command, Command::Stop)
        {
            unanswered.push(command);
        }
    }

    fn add(&mut self, stream: LogStreamId, flow: Flow) {
        for which in Stream::BOTH {
            if let Err(error) = self.epoll.add(flow.source(which), token(stream, which), Trigger::Level) {
                tracing::error!(store = ?flow.store, %error, "output cannot be watched; this stream is not logged");
                return;
            }
        }
        self.streams.insert(stream, flow);
    }

    /// One turn for every FIFO that has something. Returns the bytes moved.
    fn round(&mut self, events: &Events) -> usize {
        let mut moved = 0;
        for token in events.tokens().filter(|&token| token != WAKER_TOKEN) {
            let (stream, which) = of_token(token);
            let Some(flow) = self.streams.get_mut(&stream) else { continue };
            let bytes = flow.pump(which, SPLICES_MAX, &mut self.scratch);
            flow.settle();
            moved += bytes;
            if let Some(press) = self.press.as_ref().filter(|_| bytes >= PIPE_FULL_BYTES) {
                press.cancel(stream);
            }
            if flow.wants_care() {
                let soon = Instant::now() + RETRY_EVERY;
                self.wake = earlier(self.wake, Some(soon));
            }
        }
        moved
    }

    /// What is due without an event.
    fn tend(&mut self) {
        self.note_pressed();
        let now = Instant::now();
        if self.wake.is_none_or(|at| now < at) {
            return;
        }
        let wall_ns = clock::wall_time_ns();
        self.wake = None;
        for flow in self.streams.values_mut() {
            self.wake = earlier(self.wake, flow.care(now, wall_ns, self.quiet));
        }
        self.press_next(now);
    }

    fn note_pressed(&mut self) {
        let Some(Outcome { stream, number, result }) = self.press.as_mut().and_then(Press::outcome) else { return };
        let now = Instant::now();
        self.wake = Some(now);
        let Some(flow) = self.streams.get_mut(&stream) else { return };
        match result {
            Ok(bytes) => {
                flow.store.note_packed(number, Some(bytes));
                flow.settle();
            }
            Err(error) => {
                tracing::info!(store = ?flow.store, number, %error, "segment is not compressed now");
                let left_off = flow.is_busy(now, self.quiet);
                flow.unpressed_until = now + if left_off { self.quiet } else { PRESS_RETRY };
            }
        }
    }

    /// Gives the press the next segment of a quiet stream.
    fn press_next(&mut self, now: Instant) {
        if self.press.as_ref().is_some_and(|press| !press.is_idle()) {
            return;
        }
        let mut quiet = self.streams.iter().filter(|(_, flow)| flow.may_press(now, self.quiet));
        let Some((&stream, store, number)) =
            quiet.find_map(|(id, flow)| Some((id, &flow.store, flow.store.unpacked()?)))
        else {
            return;
        };
        if self.press.is_none() {
            match Press::start(Arc::clone(&self.waker)) {
                Ok(press) => self.press = Some(press),
                Err(error) => {
                    return tracing::warn!(%error, "logs are not compressed: the thread for it cannot be made");
                }
            }
        }
        if let Some(press) = &mut self.press {
            press.begin(stream, store.dir(), number);
        }
    }
}

/// The earlier of two times that may not come.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn token(stream: LogStreamId, which: Stream) -> u64 {
    stream.0 << 1 | u64::from(which == Stream::Err)
}

fn of_token(token: u64) -> (LogStreamId, Stream) {
    (LogStreamId(token >> 1), if token & 1 == 0 { Stream::Out } else { Stream::Err })
}
