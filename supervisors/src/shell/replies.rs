//! Who waits for a life to begin: one caller for one child, or one caller for many children at once.

use std::sync::{Arc, Mutex, PoisonError};

use ractor::ActorCell;
use tokio::sync::oneshot;

use super::handle::{Answer, ChildError};

/// How a start fared that somebody asked for.
pub(super) type Outset = Result<Option<ActorCell>, ChildError>;

/// Where the outcome of one start goes.
pub(super) enum BeginReply {
    /// To who asked for it alone.
    One(Answer<Option<ActorCell>>),
    /// Into a tally, at this place.
    Part(Arc<Tally>, usize),
}

/// The outcomes of many starts that were asked for at once.
pub(super) struct Tally {
    open: Mutex<Open>,
}

struct Open {
    outsets: Vec<Option<Outset>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Outset>>>,
}

// === impl BeginReply ===

impl BeginReply {
    /// Whoever asked may be gone: an answer that nobody takes is no error.
    pub(super) fn send(self, outset: Outset) {
        match self {
            Self::One(reply) => drop(reply.send(outset)),
            Self::Part(tally, nth) => tally.note(nth, outset),
        }
    }
}

// === impl Tally ===

impl Tally {
    /// For so many starts; nothing is to be waited for if there are none.
    pub(super) fn new(starts: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Outset>>) {
        let (done, all) = oneshot::channel();
        let outsets = (0..starts).map(|_| None).collect();
        let mut open = Open { outsets, left: starts, done: Some(done) };
        open.tell_if_done();
        (Arc::new(Self { open: Mutex::new(open) }), all)
    }

    fn note(&self, nth: usize, outset: Outset) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.outsets[nth].replace(outset).is_none() {
            open.left -= 1;
        }
        open.tell_if_done();
    }
}

// === impl Open ===

impl Open {
    fn tell_if_done(&mut self) {
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            drop(done.send(std::mem::take(&mut self.outsets).into_iter().flatten().collect()));
        }
    }
}
