//! Whether somebody looks after a process: then it is known whose the members of its session are.

use std::sync::{Arc, Weak};

use ractor::ActorRef;

use super::Message;
use crate::process::heart::wire::Key;

/// Held by whoever looks after a process, as long as it does.
#[derive(Debug)]
pub struct Care {
    #[expect(dead_code, reason = "only that it is there counts")]
    held: Arc<()>,
    /// What becomes of the process then.
    _after: Option<Discarded>,
}

/// A process that is of no use to anybody else: when this is dropped, it is ended. One that has been released is no more
/// touched.
///
/// Whoever asked for it may be gone before it hears that there is one, and this is on its way to it.
#[derive(Debug)]
pub(super) struct Discarded {
    pub(super) table: ActorRef<Message>,
    pub(super) key: Key,
}

/// The table's view of it.
#[derive(Debug, Default)]
pub(super) struct Cared(Weak<()>);

// === impl Cared ===

impl Cared {
    /// Hands the process to somebody; who had it before counts no more.
    pub(super) fn hand_over(&mut self) -> Care {
        self.hand_over_until(None)
    }

    /// The same, for a process that ends when it is not looked after.
    pub(super) fn hand_over_until(&mut self, after: Option<Discarded>) -> Care {
        let held = Arc::new(());
        self.0 = Arc::downgrade(&held);
        Care { held, _after: after }
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

// === impl Discarded ===

impl Drop for Discarded {
    fn drop(&mut self) {
        // With the table ends the session, and heart keeps what is left for the next.
        let _ = self.table.cast(Message::Discard(self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_after_as_long_as_its_last_holder_is_there() {
        let mut cared = Cared::default();
        assert!(!cared.is_held());
        let first = cared.hand_over();
        let second = cared.hand_over();
        drop(first);
        assert!(cared.is_held());
        drop(second);
        assert!(!cared.is_held());
    }
}
