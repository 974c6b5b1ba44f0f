//! What is known of a stream without waking its thread: whether it is at rest.
//!
//! ```text
//! thread:  moving ─▶ splice ─▶ whose bytes? (Declared) ─▶ index ─▶ not moving
//! asker:   pipes empty? ─▶ not moving? ─▶ at rest ─▶ the next bytes are the next life's
//! ```
//!
//! Most units are silent when they end, and so is the pipe when their successor starts: neither need wait until a sleeping thread has
//! been woken to find nothing. The asker looks at the pipes first: bytes that it does not find there were taken by a thread
//! that had said before that it moves, and says otherwise only when they are stored and indexed.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::Sources;
use crate::log_stream::declared::Declared;
use crate::log_stream::layout::Life;
use crate::process::sys::pipe;

/// One stream, seen from beside its thread.
#[derive(Debug)]
pub(super) struct Rest {
    /// Gone with the stream: nobody's question keeps a pipe open.
    sources: Weak<Sources>,
    declared: Arc<Declared>,
    /// Bytes may be between a pipe and the index.
    moving: AtomicBool,
    /// The index has the beginning of a life and not its end.
    spoken: AtomicBool,
}

// === impl Rest ===

impl Rest {
    pub(super) fn new(sources: &Arc<Sources>, declared: Arc<Declared>, spoken: bool) -> Self {
        let (moving, spoken) = (AtomicBool::new(false), AtomicBool::new(spoken));
        Self { sources: Arc::downgrade(sources), declared, moving, spoken }
    }

    /// The thread is about to take bytes.
    pub(super) fn move_on(&self) {
        self.moving.store(true, Ordering::SeqCst);
    }

    /// All that the thread has taken is stored and indexed.
    pub(super) fn settle(&self, spoken: bool) {
        self.spoken.store(spoken, Ordering::SeqCst);
        self.moving.store(false, Ordering::SeqCst);
    }

    /// Whether all that was written until now is stored and indexed.
    pub(super) fn is_at_rest(&self) -> bool {
        let Some(sources) = self.sources.upgrade() else { return false };
        let is_empty =
            [&sources.out, &sources.err].into_iter().all(|fifo| matches!(pipe::available(fifo.as_fd()), Ok(0)));
        is_empty && !self.moving.load(Ordering::SeqCst)
    }

    /// Whether the life has left something that wants an end.
    pub(super) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::SeqCst)
    }

    /// What is taken from now on belongs to this life. To be said at rest, before anything of it can write.
    pub(super) fn declare(&self, life: Life) {
        self.declared.set(life);
        self.spoken.store(false, Ordering::SeqCst);
    }

    /// The life that was said last.
    pub(super) fn life(&self) -> Life {
        self.declared.get()
    }
}
