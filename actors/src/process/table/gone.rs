//! Whether the table is gone, for those who would take the silence after it for the end of their processes.
//!
//! A table that loses heart drops all it holds, and every life in it then seems to have ended in an unknown way. None has:
//! the next daemon finds them. So whoever draws conclusions from an end asks here first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What others see of it.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownGone(Arc<AtomicBool>);

/// Held by the table: dropped with it, it says so.
#[derive(Debug)]
pub struct Gone(KnownGone);

// === impl KnownGone ===

impl KnownGone {
    pub(super) fn set(&self) {
        // What follows from it reaches others by channels, which order it.
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

// === impl Gone ===

impl Gone {
    pub(super) fn new(known: KnownGone) -> Self {
        Self(known)
    }

    pub(super) fn known(&self) -> KnownGone {
        self.0.clone()
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.set();
    }
}
