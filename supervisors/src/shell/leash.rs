//! The actors of a supervisor's children: whose each is, and that none outlives the supervisor.
//!
//! Ractor kills what is linked under an actor that is killed or fails, but not those that are on their way down already:
//! one that never comes to the end of its `post_stop` would stay for ever. So the supervisor's actor holds the leash in its
//! own value, which is dropped at its end, while its state may lie in its parent's mailbox for long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::{ActorCell, ActorId};
use rustc_hash::FxHashMap;

use crate::engine::ChildKey;

/// The actors. One thread at a time asks for it, so its lock is never waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Leash {
    held: Arc<Mutex<Held>>,
}

type Held = FxHashMap<ActorId, (ChildKey, ActorCell)>;

// === impl Leash ===

impl Leash {
    pub(super) fn hold(&self, cell: &ActorCell, child: ChildKey) {
        self.held().insert(cell.get_id(), (child, cell.clone()));
    }

    pub(super) fn release(&self, actor: ActorId) {
        self.held().remove(&actor);
    }

    /// Whose life an actor is.
    pub(super) fn child_of(&self, actor: ActorId) -> Option<ChildKey> {
        self.held().get(&actor).map(|(child, _)| *child)
    }

    pub(super) fn kill_all(&self) {
        self.held().values().for_each(|(_, cell)| cell.kill());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
