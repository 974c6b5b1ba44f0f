//! The child that is measured, and the witness of its lives. Both ractor subjects supervise this one actor type.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Lives told and not yet taken: one at a time is restarted, and read before the next fails.
const LIVES_HELD_MAX: usize = 16;

/// Sees children come and go.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) born: Tally,
    /// Lives whose state is dropped.
    pub(crate) gone: Tally,
    telling: AtomicBool,
    lives: mpsc::Sender<Life>,
}

/// A life that has begun.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) cell: ActorCell,
    pub(crate) at: Instant,
}

/// Counts up to a goal. Whoever reaches it notes the time, so that no waker's delay is measured.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicUsize,
    goal: AtomicUsize,
    reached_at: Mutex<Option<Instant>>,
    reached: Notify,
}

/// A child with nothing to do.
#[derive(Debug)]
pub(crate) struct Probe;

/// What it is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Return an error.
    Fail,
}

/// Its state: tells of its end by being dropped, which a kill does too.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Witness>);

// === impl Witness ===

impl Witness {
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Life>) {
        let (lives, told) = mpsc::channel(LIVES_HELD_MAX);
        let (born, gone, telling) = (Tally::default(), Tally::default(), AtomicBool::new(false));
        (Arc::new(Self { born, gone, telling, lives }), told)
    }

    /// From now on every life that begins is told.
    pub(crate) fn tell(&self) {
        self.telling.store(true, Ordering::Release);
    }

    fn begins(&self, cell: impl FnOnce() -> ActorCell) {
        if self.telling.load(Ordering::Acquire) {
            // Lives beyond the bound are of nobody's interest: see there.
            drop(self.lives.try_send(Life { cell: cell(), at: Instant::now() }));
        }
        self.born.count();
    }
}

// === impl Tally ===

impl Tally {
    /// Sets the goal, counted from the first. Nothing may be counted meanwhile.
    pub(crate) fn expect(&self, goal: usize) {
        *self.reached_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.goal.store(goal, Ordering::Release);
    }

    /// When the goal was reached, once it is.
    pub(crate) async fn reached(&self) -> Instant {
        loop {
            let reached = *self.reached_at.lock().unwrap_or_else(PoisonError::into_inner);
            match reached {
                Some(at) => return at,
                None => self.reached.notified().await,
            }
        }
    }

    fn count(&self) {
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == self.goal.load(Ordering::Acquire) {
            *self.reached_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.reached.notify_one();
        }
    }
}

// === impl Probe ===

impl Actor for Probe {
    type Msg = Order;
    type State = Alive;
    type Arguments = Arc<Witness>;

    async fn pre_start(&self, myself: ActorRef<Order>, witness: Arc<Witness>) -> Result<Alive, ActorProcessingErr> {
        witness.begins(|| myself.get_cell());
        Ok(Alive(witness))
    }

    async fn handle(&self, _: ActorRef<Order>, order: Order, _: &mut Alive) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail => Err("told to".into()),
        }
    }
}

// === impl Alive ===

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.gone.count();
    }
}
