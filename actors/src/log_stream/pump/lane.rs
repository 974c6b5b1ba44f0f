//! The streams that one thread looks after, and what it does for them.
//!
//! ```text
//! wait ──▶ orders ──▶ each ready FIFO: up to SPLICES_MAX chunks ──▶ index records ──▶ length, drains ──▶ wait
//! ```
//!
//! Epoll is level-triggered and goes round, so what is left over comes again and nobody starves. What is due by time (gaps to be told,
//! large pipes to be given back, segments to be deleted) is looked after in [`Lane::care`], at most once a second and only while there
//! is any.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flow::{Flow, PIPE_FULL_BYTES};
use super::load::Round;
use super::{LogStreamId, Order};
use crate::log_stream::clock;
use crate::log_stream::layout::Stream;
use crate::process::sys::pipe::{Epoll, EventFd, Events, Trigger};

/// Chunks taken out of one FIFO before the next one has its turn: 1 MiB of an enlarged pipe.
const SPLICES_MAX: usize = 4;
/// Events of one round.
const EVENTS_MAX: usize = 128;
/// How often a thread looks after what is owed to the disk.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Rounds that bring little follow each other this often before the thread takes a breath: one chunk of many lines costs what one of
/// a single line does.
const SMALL_ROUNDS_MAX: u32 = 16;
const SMALL_ROUND_BYTES: usize = 16 << 10;
const BREATH: Duration = Duration::from_millis(1);
/// Bytes thrown away at once.
const SCRATCH_BYTES: usize = 64 << 10;

const WAKER_TOKEN: u64 = u64::MAX;

/// Streams, and what is needed to wait for them.
pub(super) struct Lane {
    pub(super) waker: Arc<EventFd>,
    epoll: Epoll,
    events: Events,
    pub(super) streams: HashMap<LogStreamId, Flow>,
    pub(super) scratch: Vec<u8>,
    /// A stream that was not seen full for so long is quiet.
    pub(super) quiet: Duration,
    /// When [`Lane::care`] has something to do.
    wake: Option<Instant>,
    rounds: u64,
    small_rounds: u32,
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(waker: Arc<EventFd>, quiet: Duration) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER_TOKEN, Trigger::Level)?;
        let (streams, scratch) = (HashMap::new(), vec![0; SCRATCH_BYTES]);
        let events = Events::with_capacity(EVENTS_MAX);
        Ok(Self { waker, epoll, events, streams, scratch, quiet, wake: None, rounds: 0, small_rounds: 0 })
    }

    /// Waits for output, a wakeup, or the time of the next [`Lane::care`].
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let timeout = self.wake.map(|at| at.saturating_duration_since(Instant::now()));
        self.epoll.wait(&mut self.events, timeout)?;
        // Not asked for in vain: at full speed that would be a system call for each few chunks.
        if self.events.tokens().any(|token| token == WAKER_TOKEN) {
            self.waker.clear();
        }
        Ok(())
    }

    /// Looks after one more stream.
    pub(super) fn add(&mut self, stream: LogStreamId, flow: Flow) {
        for which in Stream::BOTH {
            if let Err(error) = self.epoll.add(flow.source(which), token(stream, which), Trigger::Level) {
                tracing::error!(store = ?flow.store, %error, "output cannot be watched; this stream is not logged");
                return;
            }
        }
        self.streams.insert(stream, flow);
        self.wake = Some(Instant::now());
    }

    /// Lets go of a stream, with all that is still to come of it.
    pub(super) fn release(&mut self, stream: LogStreamId) -> Option<Flow> {
        let flow = self.streams.remove(&stream)?;
        for which in Stream::BOTH {
            // It was added, so it can be removed.
            drop(self.epoll.remove(flow.source(which)));
        }
        Some(flow)
    }

    /// Carries out what was ordered for a stream. One that is not here is passed over: then nobody gets an answer.
    pub(super) fn obey(&mut self, stream: LogStreamId, order: Order) {
        // Nobody need wait for the answers.
        match order {
            Order::Add { flow } => self.add(stream, *flow),
            Order::Life { life, done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    flow.begin(life, &mut self.scratch);
                    let _ = done.send(());
                }
            }
            Order::Drain { life, done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    flow.drain(life, done);
                }
            }
            Order::Clear { done } => {
                if let Some(flow) = self.streams.get_mut(&stream) {
                    let _ = done.send(flow.store.clear());
                    flow.settle();
                }
            }
            Order::Remove { done } => {
                if let Some(flow) = self.release(stream) {
                    flow.close(&mut self.scratch);
                }
                let _ = done.send(());
            }
        }
    }

    /// One turn for every FIFO that has something. `on_full` is told of each stream that was seen full.
    pub(super) fn round(&mut self, mut on_full: impl FnMut(LogStreamId)) -> Round {
        self.rounds += 1;
        let mut moved = Round::default();
        for token in self.events.tokens().filter(|&token| token != WAKER_TOKEN) {
            let (stream, which) = of_token(token);
            let Some(flow) = self.streams.get_mut(&stream) else { continue };
            let bytes = flow.pump(which, SPLICES_MAX, &mut self.scratch);
            flow.settle();
            moved.bytes += bytes;
            if bytes >= PIPE_FULL_BYTES {
                moved.full += usize::from(flow.note_full(self.rounds));
                on_full(stream);
            }
            if flow.wants_care() {
                self.wake = earlier(self.wake, Some(Instant::now() + RETRY_EVERY));
            }
        }
        moved
    }

    /// Does what is due without an event, if anything is. `true`: it has looked at all streams.
    pub(super) fn care(&mut self, now: Instant) -> bool {
        if self.wake.is_none_or(|at| now < at) {
            return false;
        }
        let wall_ns = clock::wall_time_ns();
        self.wake = None;
        for flow in self.streams.values_mut() {
            self.wake = earlier(self.wake, flow.care(now, wall_ns, self.quiet));
        }
        true
    }

    /// Makes the next [`Lane::care`] come at once.
    pub(super) fn care_soon(&mut self, now: Instant) {
        self.wake = Some(now);
    }

    /// Lets some more come together, after many rounds that brought little.
    pub(super) fn breathe(&mut self, moved: Round) {
        let small = (1..SMALL_ROUND_BYTES).contains(&moved.bytes);
        self.small_rounds = if small { self.small_rounds + 1 } else { 0 };
        if self.small_rounds >= SMALL_ROUNDS_MAX {
            self.small_rounds = 0;
            self.waker.wait(BREATH);
        }
    }

    /// The streams that are written at full speed now.
    pub(super) fn busy(&self, now: Instant) -> impl Iterator<Item = LogStreamId> {
        // One that is new counts as busy too, for the press; here it must have shown it.
        let is_busy = move |flow: &Flow| flow.has_large_pipe() && flow.is_busy(now, RETRY_EVERY);
        self.streams.iter().filter(move |(_, flow)| is_busy(flow)).map(|(&stream, _)| stream)
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
