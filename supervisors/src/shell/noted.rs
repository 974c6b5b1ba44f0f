//! A child's actor with a note of how it fares: that it could not begin, how it ended, and when nothing of it is left.
//!
//! The note is part of the actor's own value, after the actor, so that it speaks last: when it is dropped, the actor's
//! handler has been, its children are killed and its state is with the supervisor or dropped. A handler with nothing to
//! drop is gone as soon as ractor tells of the end, so for it the note is silent: but ractor drops the state of an actor
//! that failed, or was killed in its last moments, only after it has told of that.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt as _;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::child::{GoneBy, Life};
use crate::reason::StartError;

/// The actor of a child.
pub(super) struct Noted<A> {
    actor: A,
    note: Note,
}

struct Note {
    life: Life,
    /// Whether it tells of a start that failed; else the task that started it does.
    is_reporting: bool,
    gone_by: GoneBy,
    /// It ended by its own `post_stop` and is linked, so that ractor tells of its end and hands the state over.
    is_told: AtomicBool,
    /// The number of its actor, set when its `pre_start` succeeded. The value of an actor lies in its task several times,
    /// so a note is no larger than it must be.
    begun: AtomicU64,
}

/// No actor has this number: there never are so many.
const NOT_BEGUN: u64 = u64::MAX;

// === impl Noted ===

impl<A: Actor> Noted<A> {
    /// Tells of a failed start itself.
    pub(super) fn reporting(actor: A, life: Life) -> Self {
        Self { actor, note: Note::new(life, true, GoneBy::of::<A>()) }
    }

    /// Is told of by the task that starts it.
    pub(super) fn silent(actor: A, life: Life) -> Self {
        Self { actor, note: Note::new(life, false, GoneBy::Message) }
    }
}

impl<A: Actor> Actor for Noted<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        let id = myself.get_id();
        let started = AssertUnwindSafe(self.actor.pre_start(myself, arguments)).catch_unwind().await;
        let started = started.unwrap_or_else(|panic| Err(panic_text(&*panic).into()));
        match &started {
            Ok(_) => self.note.begin(id),
            Err(error) => self.note.fail(format!("start the actor: {error}")),
        }
        started
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let cell = myself.get_cell();
        self.actor.post_start(myself, state).await?;
        if self.note.is_reporting && !self.note.life.is_linked(&cell) {
            self.note.life.running();
        }
        Ok(())
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        let cell = myself.get_cell();
        self.actor.post_stop(myself, state).await?;
        self.note.life.note_graceful();
        self.note.is_told.store(self.note.life.is_linked(&cell), Ordering::Release);
        Ok(())
    }

    // Not `async` on top of the actor's own: every actor would hold what it is told twice, for all its life.

    fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        self.actor.handle(myself, message, state)
    }

    fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        self.actor.handle_supervisor_evt(myself, event, state)
    }
}

// === impl Note ===

impl Note {
    fn new(life: Life, is_reporting: bool, gone_by: GoneBy) -> Self {
        Self { life, is_reporting, gone_by, is_told: AtomicBool::new(false), begun: AtomicU64::new(NOT_BEGUN) }
    }

    fn begin(&self, actor: ActorId) {
        self.begun.store(actor.pid(), Ordering::Release);
    }

    fn fail(&self, message: String) {
        if self.is_reporting {
            self.life.not_begun(StartError { message, hint: None, retry: true });
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        match self.begun.load(Ordering::Acquire) {
            // Told twice if its `pre_start` failed; what is told second is of a life that is known to be over.
            NOT_BEGUN => self.fail("finish the start: the actor was killed".to_owned()),
            actor => {
                // Of a crash ractor may tell before all is dropped, and of one without a link not at all.
                let is_known = matches!(self.gone_by, GoneBy::Event { .. }) && self.is_told.load(Ordering::Acquire);
                if !is_known {
                    self.life.gone(ActorId::Local(actor), Some(self.life.was_graceful()));
                }
            }
        }
    }
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("no text"))
}
