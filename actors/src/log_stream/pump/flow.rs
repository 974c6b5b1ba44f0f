//! One unit's output on its way: two FIFOs, a store, and who is told.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::lane::RETRY_EVERY;
use super::rest::Rest;
use super::{Drained, Length, Sources};
use crate::log_stream::health::Health;
use crate::log_stream::layout::{Life, Stream};
use crate::log_stream::store::{CHUNK_MAX_BYTES, Store, Taken};
use crate::process::sys::pipe;

/// A pipe as the kernel makes it, and as it becomes while its unit writes faster than we read.
const PIPE_BYTES: usize = 64 << 10;
const PIPE_BUSY_BYTES: usize = 256 << 10;
/// A chunk this long was a full pipe: writes that do not fit the rest of a page leave it unused, so pipes are full below their size.
pub(super) const PIPE_FULL_BYTES: usize = PIPE_BYTES / 2;
/// Where a stream's news go.
#[derive(Debug)]
pub(super) struct Tell {
    pub(super) length: watch::Sender<Length>,
    pub(super) health: watch::Sender<Health>,
}

/// One unit's output.
#[derive(Debug)]
pub(super) struct Flow {
    sources: Arc<Sources>,
    /// What others know of it.
    rest: Arc<Rest>,
    pub(super) store: Box<Store>,
    tell: Tell,
    drains: Vec<Drain>,
    busy: [bool; 2],
    /// Neither pipe was seen full after this.
    active: Instant,
    /// Its segments are left uncompressed until then.
    pub(super) unpressed_until: Instant,
    /// The round of its thread in which it was last seen full.
    full_in: u64,
}

/// A drain under way.
#[derive(Debug)]
struct Drain {
    /// Bytes of each FIFO that are still to come: what was in it when it was asked.
    left: [usize; 2],
    /// The life that has ended.
    life: Life,
    done: oneshot::Sender<Drained>,
}

// === impl Flow ===

impl Flow {
    pub(super) fn new(sources: Sources, store: Box<Store>, tell: Tell, now: Instant) -> Self {
        let (drains, busy, sources) = (Vec::new(), [false; 2], Arc::new(sources));
        let rest = Arc::new(Rest::new(&sources, store.declared(), store.has_spoken()));
        Self { sources, rest, store, tell, drains, busy, active: now, unpressed_until: now, full_in: 0 }
    }

    /// Answers when all that is in the FIFOs now is stored.
    pub(super) fn drain(&mut self, life: Life, done: oneshot::Sender<Drained>) {
        self.drains.push(Drain { left: self.waiting(), life, done });
        self.settle();
    }

    /// What can be known of it beside its thread.
    pub(super) fn rest(&self) -> Arc<Rest> {
        Arc::clone(&self.rest)
    }

    pub(super) fn source(&self, which: Stream) -> BorrowedFd<'_> {
        match which {
            Stream::Out => self.sources.out.as_fd(),
            Stream::Err => self.sources.err.as_fd(),
        }
    }

    pub(super) fn wants_care(&self) -> bool {
        self.store.is_owing() || self.has_large_pipe() || self.store.is_ageing()
    }

    /// Does what is due, and tells when something is due next.
    pub(super) fn care(&mut self, now: Instant, wall_ns: u64, quiet: Duration) -> Option<Instant> {
        if !self.wants_care() {
            return None;
        }
        self.shrink(now, quiet);
        let bytes = self.store.bytes();
        let expiry = self.store.tend(wall_ns).map(|at| now + Duration::from_nanos(at - wall_ns));
        if self.store.is_owing() || self.store.bytes() != bytes {
            self.settle();
        }
        let owing = self.store.is_owing().then(|| now + RETRY_EVERY);
        let shrink = self.has_large_pipe().then(|| self.active + quiet);
        let press = self.store.unpacked().map(|_| self.unpressed_until.max(self.active + quiet)).filter(|&at| at > now);
        [expiry, owing, shrink, press].into_iter().flatten().min()
    }

    pub(super) fn is_busy(&self, now: Instant, quiet: Duration) -> bool {
        now < self.active + quiet
    }

    /// Whether a pipe of it was made large, and may be needed so.
    pub(super) fn has_large_pipe(&self) -> bool {
        self.busy != [false; 2]
    }

    /// It was seen full in this round of its thread. `true`: for the first time.
    pub(super) fn note_full(&mut self, round: u64) -> bool {
        std::mem::replace(&mut self.full_in, round) != round
    }

    pub(super) fn may_press(&self, now: Instant, quiet: Duration) -> bool {
        !self.is_busy(now, quiet) && now >= self.unpressed_until
    }

    /// Bytes in the FIFOs now.
    fn waiting(&self) -> [usize; 2] {
        Stream::BOTH.map(|which| pipe::available(self.source(which)).unwrap_or(0))
    }

    /// Takes up to `chunks` chunks. Returns the bytes taken.
    pub(super) fn pump(&mut self, which: Stream, chunks: usize, scratch: &mut [u8]) -> usize {
        let mut total = 0;
        self.rest.move_on();
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
        self.active = Instant::now();
        if !std::mem::replace(&mut self.busy[which.index()], true) {
            // Past the user's limit the kernel refuses: the pipe then stays small, which is slower and nothing else.
            drop(pipe::set_pipe_size(self.source(which), PIPE_BUSY_BYTES));
        }
    }

    fn shrink(&mut self, now: Instant, quiet: Duration) {
        if self.is_busy(now, quiet) {
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
    pub(super) fn settle(&mut self) {
        let is_done = |drain: &Drain| drain.left == [0; 2];
        for drain in self.drains.iter().filter(|drain| is_done(drain)) {
            self.store.end_life(drain.life);
        }
        self.store.flush();
        let length = Length::of(&self.store);
        self.tell.length.send_if_modified(|told| std::mem::replace(told, length) != length);
        if self.store.health().differs(&self.tell.health.borrow()) {
            self.tell.health.send_replace(self.store.health().clone());
        }
        if !self.store.is_owing() {
            self.rest.settle(self.store.has_spoken());
        }
        for drain in self.drains.extract_if(.., |drain| is_done(drain)) {
            // Whoever asked may have run out of patience, or never had any.
            let _ = drain.done.send(Drained { length });
        }
    }

    /// What is in the FIFOs was written before the new life.
    pub(super) fn begin(&mut self, life: Life, scratch: &mut [u8]) {
        self.empty(scratch);
        self.store.set_life(life);
    }

    /// Takes what is there now, however much an orphan adds.
    pub(super) fn empty(&mut self, scratch: &mut [u8]) {
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

    pub(super) fn close(mut self, scratch: &mut [u8]) {
        self.empty(scratch);
    }
}
