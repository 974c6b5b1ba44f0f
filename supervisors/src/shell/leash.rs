//! The actors of a supervisor's children: whose each is, and that none outlives the supervisor.
//!
//! Ractor kills what is linked under an actor that is killed or fails, but not those that are on their way down already:
//! one that never comes to the end of its `post_stop` would stay for ever. So the supervisor's actor holds the leash in its
//! own value, which is dropped at its end, while its state may lie in its parent's mailbox for long.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::{ActorCell, ActorId};

use crate::engine::ChildKey;

/// The actors. One thread at a time asks for it, so its lock is never waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Leash {
    held: Arc<Mutex<Held>>,
}

type Held = HashMap<ActorId, (ChildKey, ActorCell), BuildHasherDefault<InOrder>>;

/// Keeps actors that were started one after the other beside each other in memory. They mostly end so too, and finding a
/// hundred thousand of them costs more by far in memory that is not at hand than in any other thing.
#[derive(Debug, Clone, Copy, Default)]
struct InOrder(u64);

/// How many of its upper bits a map looks at.
const TAG_BITS: u32 = 7;

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

// === impl InOrder ===

impl Hasher for InOrder {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(u64::BITS / 2) ^ number;
    }

    /// Which kind of id it is.
    fn write_isize(&mut self, _: isize) {}

    /// The map takes the place from the lower bits, and from the upper ones what tells neighbours apart.
    fn finish(&self) -> u64 {
        self.0 ^ self.0.rotate_right(TAG_BITS)
    }
}
