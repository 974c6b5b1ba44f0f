//! The second thread of a pump: there only while several units write faster than one thread can store.
//!
//! It is lent streams by the first thread, which stays the only one that is spoken to: orders for a stream that was lent are passed
//! on, in their order. It never gives a stream back by itself. It only gives a sign, and the first thread takes all of them back, with
//! what was ordered meanwhile carried out: the thread ends, and what it returns are its streams. So no stream is ever looked after by
//! two threads, or by none, and no order overtakes another.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use super::flow::Flow;
use super::lane::Lane;
use super::load::Load;
use super::{COMMANDS_MAX, LogStreamId, Order};
use crate::process::sys::pipe::EventFd;

/// Crowded, it gives a sign after so many bytes: a few times a second, for the first thread may have just as much to do.
const CROWDED_BYTES: u64 = 256 << 20;

type Streams = HashMap<LogStreamId, Flow>;

/// The thread, as the first one sees it.
#[derive(Debug)]
pub(super) struct Second {
    orders: SyncSender<(LogStreamId, Order)>,
    waker: Arc<EventFd>,
    lent: HashSet<LogStreamId>,
    signs: Arc<Signs>,
    thread: JoinHandle<Streams>,
}

/// What it lets the first thread know.
#[derive(Debug)]
struct Signs {
    /// A stream of it is quiet, or it has none, or it has ended.
    done: AtomicBool,
    /// It has more to do than it can.
    crowded: AtomicBool,
    /// The first thread's.
    waker: Arc<EventFd>,
}

/// The thread has panicked: a bug, and its streams are lost.
#[derive(Debug)]
pub(super) struct Lost;

/// Gives the sign when the thread ends, however it does.
struct Farewell(Arc<Signs>);

// === impl Second ===

impl Second {
    /// Starts it, without a stream. `waker` is the first thread's.
    pub(super) fn start(waker: Arc<EventFd>, quiet: Duration) -> io::Result<Self> {
        let lane = Lane::new(Arc::new(EventFd::new()?), quiet)?;
        let signs = Signs { done: AtomicBool::new(false), crowded: AtomicBool::new(false), waker };
        let (signs, ours) = (Arc::new(signs), Arc::clone(&lane.waker));
        let (orders, received) = sync_channel(COMMANDS_MAX);
        let theirs = Farewell(Arc::clone(&signs));
        let work = move || run(lane, &received, &theirs.0);
        let thread = std::thread::Builder::new().name("log-pump-2".to_owned()).spawn(work)?;
        Ok(Self { orders, waker: ours, lent: HashSet::new(), signs, thread })
    }

    /// Whether this stream was lent to it.
    pub(super) fn has(&self, stream: LogStreamId) -> bool {
        self.lent.contains(&stream)
    }

    /// How many streams were lent to it.
    pub(super) fn lent(&self) -> usize {
        self.lent.len()
    }

    /// Lends it a stream.
    pub(super) fn lend(&mut self, stream: LogStreamId, flow: Flow) -> Result<(), Lost> {
        self.lent.insert(stream);
        self.pass_on(stream, Order::Add { flow: Box::new(flow) })
    }

    /// Passes an order on. Waits if [`COMMANDS_MAX`] are in the queue: only a stalled disk lets them pile up.
    pub(super) fn pass_on(&mut self, stream: LogStreamId, order: Order) -> Result<(), Lost> {
        if matches!(order, Order::Remove { .. }) {
            self.lent.remove(&stream);
        }
        self.orders.send((stream, order)).map_err(|_| Lost)?;
        self.waker.wake();
        Ok(())
    }

    /// Whether it has given the sign that its streams are to be taken back.
    pub(super) fn is_done(&self) -> bool {
        self.signs.done.load(Ordering::Relaxed)
    }

    /// Whether it has been crowded since the last call.
    pub(super) fn was_crowded(&self) -> bool {
        self.signs.crowded.swap(false, Ordering::Relaxed)
    }

    /// Ends the thread, when it has carried out all orders. Blocks for one round of it.
    pub(super) fn take_back(self) -> Result<Streams, Lost> {
        let Self { orders, waker, thread, .. } = self;
        // The queue's end before the wakeup.
        drop(orders);
        waker.wake();
        thread.join().map_err(|_| Lost)
    }
}

// === impl Signs ===

impl Signs {
    fn give(&self, sign: &AtomicBool) {
        if !sign.swap(true, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

// === impl Farewell ===

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.give(&self.0.done);
    }
}

/// The thread: moves bytes until the queue of orders has ended, and returns its streams.
fn run(mut lane: Lane, orders: &Receiver<(LogStreamId, Order)>, signs: &Signs) -> Streams {
    let mut load = Load::new(CROWDED_BYTES);
    loop {
        if let Err(error) = lane.wait() {
            tracing::error!(%error, "the second log pump cannot wait for output");
            signs.give(&signs.done);
            // What it has is taken back at the next order, or at once if the sign is seen.
            while let Ok((stream, order)) = orders.recv() {
                lane.obey(stream, order);
            }
            return lane.streams;
        }
        loop {
            match orders.try_recv() {
                Ok((stream, order)) => lane.obey(stream, order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return lane.streams,
            }
        }
        let moved = lane.round(|_| {});
        let looked = lane.care(Instant::now());
        if lane.streams.is_empty() || looked && lane.streams.values().any(|flow| !flow.has_large_pipe()) {
            signs.give(&signs.done);
        }
        if load.note(moved) {
            signs.give(&signs.crowded);
        }
        lane.breathe(moved);
    }
}
