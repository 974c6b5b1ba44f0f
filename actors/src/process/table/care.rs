//! Whether somebody looks after a process: then it is known whose the members of its session are.

use std::sync::{Arc, Weak};

/// Held by whoever looks after a process, as long as it does.
#[derive(Debug)]
pub struct Care(#[expect(dead_code, reason = "only that it is there counts")] Arc<()>);

/// The table's view of it.
#[derive(Debug, Default)]
pub(super) struct Cared(Weak<()>);

// === impl Cared ===

impl Cared {
    /// Hands the process to somebody; who had it before counts no more.
    pub(super) fn hand_over(&mut self) -> Care {
        let held = Arc::new(());
        self.0 = Arc::downgrade(&held);
        Care(held)
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
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
