//! What a child is to the shell: something that starts an actor for each of its lives.

use std::fmt;
use std::future::Future;
use std::mem::needs_drop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorCell, ActorId, ActorRef, ActorRuntime, SpawnErr};

use super::actor::{Message, Word};
use super::ends::End;
use super::noted::{Noted, panic_text};
use crate::engine::ChildKey;
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// A child whose start takes more than an actor's `pre_start`: starts one actor for each of its lives.
///
/// Implemented for functions of the same shape. Use [`StartContext::spawn`] for the actor: it cannot get lost whatever
/// happens meanwhile, and a kill by others is told from a normal end. A child that is nothing but an actor is better given
/// as one ([`super::SupervisorSpec::actor`]): that is quicker.
pub trait Child: Send + Sync + 'static {
    /// Starts a life; `None` says that there is nothing to run just now (OTP's `ignore`).
    ///
    /// Runs in a task of its own and may take its time. It is dropped where it stands when the supervisor goes down and its
    /// deadline has passed.
    fn start(
        &self,
        incarnation: Incarnation,
        context: StartContext,
    ) -> impl Future<Output = Result<Option<ActorCell>, StartError>> + Send;
}

/// A child behind a pointer: a [`Child`], or an actor and nothing else.
pub(super) trait ErasedChild: Send + Sync + 'static {
    /// Begins the start of a life. Never blocks.
    fn begin(self: Arc<Self>, life: Life) -> Begin;
}

/// The start of a life, begun.
pub(super) enum Begin {
    /// The actor is on its way and will report itself; also when nothing of it is left?
    Actor(ActorCell, GoneBy),
    /// This has to be run to its end.
    Task(BoxedStart, StartContext),
    /// It has failed.
    Failed(StartError),
}

/// How it is known that nothing of an actor is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoneBy {
    /// It says so last of all, or a watcher does.
    Message,
    /// Ractor's word of its end is enough: there is nothing to drop after it, but for the state if that does not come along.
    Event {
        /// Whether there is something to drop in the state.
        state_drops: bool,
    },
}

/// A start under way.
pub(super) type BoxedStart = Pin<Box<dyn Future<Output = Result<Option<ActorCell>, StartError>> + Send>>;

/// One life of a child, as it sees itself. May be kept by the actor and used as long as it lives.
#[derive(Clone)]
pub struct Life {
    kin: Arc<Kin>,
    incarnation: Incarnation,
}

/// What all lives of a child share.
pub(super) struct Kin {
    id: ChildId,
    child: ChildKey,
    supervisor: ActorRef<Message>,
    /// The last life that ended by its own `post_stop`, which a killed one never reaches.
    graceful: AtomicU32,
}

/// One life of one child, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LifeKey {
    pub(super) child: ChildKey,
    pub(super) incarnation: Incarnation,
}

/// What the start of a life is given by its supervisor.
#[derive(Debug, Clone)]
pub struct StartContext {
    life: Life,
    /// Actors spawned by the start; `None` as soon as it is over.
    born: Arc<Mutex<Option<Vec<ActorCell>>>>,
}

/// A child that is an actor and nothing else; the function gives the actor and its arguments for each life.
pub(super) struct ActorChild<F>(pub(super) F);

// === impl Child ===

impl<F, Start> Child for F
where
    F: Fn(Incarnation, StartContext) -> Start + Send + Sync + 'static,
    Start: Future<Output = Result<Option<ActorCell>, StartError>> + Send,
{
    fn start(
        &self,
        incarnation: Incarnation,
        context: StartContext,
    ) -> impl Future<Output = Result<Option<ActorCell>, StartError>> + Send {
        self(incarnation, context)
    }
}

/// A [`Child`] as the shell has it.
pub(super) struct Starter<C>(pub(super) C);

impl<C: Child> ErasedChild for Starter<C> {
    fn begin(self: Arc<Self>, life: Life) -> Begin {
        let context = StartContext { life, born: Arc::new(Mutex::new(Some(Vec::new()))) };
        let given = context.clone();
        Begin::Task(Box::pin(async move { self.0.start(given.incarnation(), given).await }), context)
    }
}

impl<A, F> ErasedChild for ActorChild<F>
where
    A: Actor,
    F: Fn(&Life) -> (A, A::Arguments) + Send + Sync + 'static,
{
    fn begin(self: Arc<Self>, life: Life) -> Begin {
        // This runs in the supervisor's handler: a panic here is the child's.
        let (actor, arguments) = match catch_unwind(AssertUnwindSafe(|| (self.0)(&life))) {
            Ok(made) => made,
            Err(panic) => {
                let message = format!("make the actor without {}", panic_text(&*panic));
                return Begin::Failed(StartError { message, hint: None, retry: true });
            }
        };
        let supervisor = life.supervisor();
        let noted = Noted::reporting(actor, life);
        match ActorRuntime::spawn_linked_instant(None, noted, arguments, supervisor.clone()) {
            // The handle only tells what the actor reports itself.
            Ok((actor, _)) => {
                // Ractor links it after its `pre_start`: a supervisor that is killed before must take it along too.
                actor.link(supervisor);
                Begin::Actor(actor.get_cell(), GoneBy::of::<A>())
            }
            Err(error) => Begin::Failed(start_error(&error)),
        }
    }
}

// === impl Life ===

impl Life {
    /// The child.
    pub fn id(&self) -> &ChildId {
        &self.kin.id
    }

    /// Which of its lives.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn key(&self) -> LifeKey {
        LifeKey { child: self.kin.child, incarnation: self.incarnation }
    }

    /// The supervisor, as the parent of a supervisor below it.
    pub fn supervisor(&self) -> ActorCell {
        self.kin.supervisor.get_cell()
    }

    /// Reports that this life is ready.
    pub fn ready(&self) {
        self.say(Word::Ready);
    }

    /// Reports that this life is not ready any more.
    pub fn unready(&self, detail: impl Into<String>) {
        self.say(Word::Unready(detail.into()));
    }

    /// Reports that this life does not answer any more: it is ended, and that counts as a crash.
    pub fn liveness_lost(&self, detail: impl Into<String>) {
        self.say(Word::LivenessLost(detail.into()));
    }

    fn say(&self, word: Word) {
        self.tell(Message::Said { life: self.key(), word });
    }

    pub(super) fn note_graceful(&self) {
        self.kin.graceful.store(self.incarnation.0, Ordering::Release);
    }

    pub(super) fn was_graceful(&self) -> bool {
        self.kin.was_graceful(self.incarnation)
    }

    /// Whether ractor tells the supervisor of what becomes of an actor of this life.
    pub(super) fn is_linked(&self, actor: &ActorCell) -> bool {
        actor.try_get_supervisor().is_some_and(|supervisor| supervisor.get_id() == self.kin.supervisor.get_id())
    }

    /// Nobody else tells that the actor runs.
    pub(super) fn running(&self) {
        self.tell(Message::Running { life: self.key() });
    }

    pub(super) fn not_begun(&self, error: StartError) {
        self.tell(Message::NotBegun { life: self.key(), error: Box::new(error) });
    }

    pub(super) fn gone(&self, actor: ActorId, is_graceful: Option<bool>) {
        self.tell(Message::Gone { life: self.key(), actor, is_graceful });
    }

    /// A supervisor that is gone has taken this life with it.
    fn tell(&self, message: Message) {
        drop(self.kin.supervisor.send_message(message));
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("id", self.id()).field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

// === impl Kin ===

impl Kin {
    pub(super) fn new(id: ChildId, child: ChildKey, supervisor: ActorRef<Message>) -> Arc<Self> {
        Arc::new(Self { id, child, supervisor, graceful: AtomicU32::new(0) })
    }

    pub(super) fn life(self: &Arc<Self>, incarnation: Incarnation) -> Life {
        Life { kin: self.clone(), incarnation }
    }

    /// Whether a life was the last that ended by itself, in order.
    pub(super) fn was_graceful(&self, incarnation: Incarnation) -> bool {
        self.graceful.load(Ordering::Acquire) == incarnation.0
    }
}

// === impl GoneBy ===

impl GoneBy {
    /// What holds for actors of a kind.
    pub(super) fn of<A: Actor>() -> Self {
        if needs_drop::<A>() { Self::Message } else { Self::Event { state_drops: needs_drop::<A::State>() } }
    }

    /// Whether nothing is left of an actor that has ended so.
    pub(super) fn is_gone(self, end: &End) -> bool {
        match (self, end) {
            (Self::Message, _) => false,
            (Self::Event { .. }, End::Shutdown | End::Terminated { has_state: true }) => true,
            (Self::Event { state_drops }, End::Failed(_) | End::Terminated { has_state: false }) => !state_drops,
        }
    }
}

// === impl StartContext ===

impl Deref for StartContext {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.life
    }
}

impl StartContext {
    /// The life that is being started, to be kept by its actor.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// Starts the actor of this life, linked to the supervisor from the first moment.
    ///
    /// A further actor started here is linked under the one that the start returns, and ends with it.
    pub async fn spawn<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorRef<A::Msg>, StartError> {
        let noted = Noted::silent(actor, self.life.clone());
        let started = Noted::spawn_linked(None, noted, arguments, self.supervisor()).await;
        let (actor, _) = started.map_err(|error| start_error(&error))?;
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        match born.as_mut() {
            Some(born) => born.push(actor.get_cell()),
            None => {
                actor.kill();
                let message = format!("start one more actor of {} after its start was over", self.id());
                return Err(StartError { message, hint: None, retry: false });
            }
        }
        Ok(actor)
    }

    /// The actors spawned by the start, which is over herewith.
    pub(super) fn close(&self) -> Vec<ActorCell> {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

fn start_error(error: &SpawnErr) -> StartError {
    let message = match error {
        SpawnErr::StartupFailed(error) => format!("start the actor: {error}"),
        SpawnErr::ActorAlreadyStarted | SpawnErr::ActorAlreadyRegistered(_) => format!("start the actor: {error}"),
    };
    StartError { message, hint: None, retry: true }
}
