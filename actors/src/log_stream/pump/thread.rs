//! The pump's thread.
//!
//! ```text
//! wait ──▶ commands ──▶ each ready FIFO: up to SPLICES_MAX chunks ──▶ index records ──▶ length, drains ──▶ wait
//! ```
//!
//! Epoll is level-triggered and goes round, so what is left over comes again and nobody starves.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Command, Drained, Length, LogStreamId, Sources};
use crate::log_stream::clock;
use crate::log_stream::layout::{Life, Stream};
use crate::log_stream::store::{CHUNK_MAX_BYTES, Store, Taken};
use crate::process::sys::pipe::{self, Epoll, EventFd, Events, Trigger};

/// Chunks taken out of one FIFO before the next one has its turn: 1 MiB of an enlarged pipe.
const SPLICES_MAX: usize = 4;
/// Events of one round.
const EVENTS_MAX: usize = 128;
/// A pipe as the kernel makes it, and as it becomes while its unit writes faster than we read.
const PIPE_BYTES: usize = 64 << 10;
const PIPE_BUSY_BYTES: usize = 256 << 10;
/// A chunk this long was a full pipe: writes that do not fit the rest of a page leave it unused, so pipes are full below their size.
const PIPE_FULL_BYTES: usize = PIPE_BYTES / 2;
/// A stream quiet this long gets the small pipe again.
const PIPE_QUIET_NS: u64 = 10_000_000_000;
/// How often the thread wakes while something is owed to the disk or a pipe is large.
const RETRY_EVERY: Duration = Duration::from_secs(1);
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
}

/// One unit's output.
struct Flow {
    sources: Sources,
    store: Box<Store>,
    length: watch::Sender<Length>,
    drains: Vec<Drain>,
    busy: [bool; 2],
    active_ns: u64,
}

/// A drain under way.
struct Drain {
    /// Bytes of each FIFO that are still to come: what was in it when it was asked.
    left: [usize; 2],
    done: oneshot::Sender<Drained>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(commands: Receiver<Command>, waker: Arc<EventFd>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER_TOKEN, Trigger::Level)?;
        Ok(Self { commands, waker, epoll, streams: HashMap::new(), scratch: vec![0; SCRATCH_BYTES] })
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut small_rounds = 0;
        loop {
            if let Err(error) = self.epoll.wait(&mut events, self.timeout()) {
                tracing::error!(%error, "the log pump cannot wait for output and ends");
                break;
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
        self.streams.values().any(Flow::wants_care).then_some(RETRY_EVERY)
    }

    /// Carries out what waits in the queue. `false`: the end.
    fn obey(&mut self) -> bool {
        self.waker.clear();
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
            Command::Add { stream, sources, store, length } => {
                let flow = Flow { sources, store, length, drains: Vec::new(), busy: [false; 2], active_ns: 0 };
                self.add(stream, flow);
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
                    flow.drains.push(Drain { left: flow.waiting(), done });
                    flow.settle();
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
            moved += flow.pump(which, SPLICES_MAX, &mut self.scratch);
            flow.settle();
        }
        moved
    }

    /// What is due without an event: gaps to be told, pipes to shrink.
    fn tend(&mut self) {
        for flow in self.streams.values_mut().filter(|flow| flow.wants_care()) {
            flow.shrink(clock::wall_time_ns());
            if flow.store.is_owing() {
                flow.settle();
            }
        }
    }
}

fn token(stream: LogStreamId, which: Stream) -> u64 {
    stream.0 << 1 | u64::from(which == Stream::Err)
}

fn of_token(token: u64) -> (LogStreamId, Stream) {
    (LogStreamId(token >> 1), if token & 1 == 0 { Stream::Out } else { Stream::Err })
}

// === impl Flow ===

impl Flow {
    fn source(&self, which: Stream) -> BorrowedFd<'_> {
        match which {
            Stream::Out => self.sources.out.as_fd(),
            Stream::Err => self.sources.err.as_fd(),
        }
    }

    fn wants_care(&self) -> bool {
        self.store.is_owing() || self.busy != [false; 2]
    }

    /// Bytes in the FIFOs now.
    fn waiting(&self) -> [usize; 2] {
        Stream::BOTH.map(|which| pipe::available(self.source(which)).unwrap_or(0))
    }

    /// Takes up to `chunks` chunks. Returns the bytes taken.
    fn pump(&mut self, which: Stream, chunks: usize, scratch: &mut [u8]) -> usize {
        let mut total = 0;
        for _ in 0..chunks {
            let fifo = match which {
                Stream::Out => self.sources.out.as_fd(),
                Stream::Err => self.sources.err.as_fd(),
            };
            let (Taken::Stored(bytes) | Taken::Dropped(bytes)) = self.store.take(which, fifo, scratch) else { break };
            total += bytes;
            for drain in &mut self.drains {
                drain.left[which.index()] = drain.left[which.index()].saturating_sub(bytes);
            }
            if bytes >= PIPE_FULL_BYTES {
                self.enlarge(which);
            } else {
                // The FIFO was all but empty: asking again costs more than another wakeup.
                break;
            }
        }
        total
    }

    fn enlarge(&mut self, which: Stream) {
        self.active_ns = clock::wall_time_ns();
        if !std::mem::replace(&mut self.busy[which.index()], true) {
            // Past the user's limit the kernel refuses: the pipe then stays small, which is slower and nothing else.
            drop(pipe::set_pipe_size(self.source(which), PIPE_BUSY_BYTES));
        }
    }

    fn shrink(&mut self, now_ns: u64) {
        if now_ns.abs_diff(self.active_ns) < PIPE_QUIET_NS {
            return;
        }
        for which in Stream::BOTH {
            if std::mem::replace(&mut self.busy[which.index()], false) {
                // Refused if more than that is in it; then it stays large until it is busy and quiet again.
                drop(pipe::set_pipe_size(self.source(which), PIPE_BYTES));
            }
        }
    }

    /// Writes the index, tells the length, answers drains.
    fn settle(&mut self) {
        let drained = self.drains.iter().any(|drain| drain.left == [0; 2]);
        if drained {
            self.store.end_life();
        }
        self.store.flush();
        let length = Length { index_records: self.store.records() };
        self.length.send_if_modified(|told| std::mem::replace(told, length) != length);
        if drained {
            for drain in self.drains.extract_if(.., |drain| drain.left == [0; 2]) {
                // Whoever asked may have run out of patience.
                let _ = drain.done.send(Drained { length });
            }
        }
    }

    /// What is in the FIFOs was written before the new life.
    fn begin(&mut self, life: Life, scratch: &mut [u8]) {
        self.empty(scratch);
        self.store.set_life(life);
    }

    /// Takes what is there now, however much an orphan adds.
    fn empty(&mut self, scratch: &mut [u8]) {
        for (which, mut left) in Stream::BOTH.into_iter().zip(self.waiting()) {
            while left > 0 {
                let taken = self.pump(which, 1, scratch);
                if taken == 0 {
                    break;
                }
                left = left.saturating_sub(taken.min(CHUNK_MAX_BYTES));
            }
        }
        self.settle();
    }

    fn close(mut self, scratch: &mut [u8]) {
        self.empty(scratch);
    }
}
