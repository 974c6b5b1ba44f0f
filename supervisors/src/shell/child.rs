//! What a child is to the shell: something that starts an actor for each of its lives.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::actor::{Message, Word};
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// A child: starts one actor for each of its lives.
///
/// Implemented for functions of the same shape. Use [`StartContext::spawn`] for the actor: it cannot get lost whatever
/// happens meanwhile, and a kill by others is told from a normal end.
pub trait Child: Send + Sync + 'static {
    /// Starts a life. Runs in a task of its own and may take its time. It is dropped where it stands when the supervisor
    /// goes down and its deadline has passed.
    fn start(
        &self,
        incarnation: Incarnation,
        context: StartContext,
    ) -> impl Future<Output = Result<ActorCell, StartError>> + Send;
}

/// A [`Child`] behind a pointer; implemented for each of them.
pub trait ErasedChild: Send + Sync + 'static {
    /// [`Child::start`], boxed.
    fn start_boxed(self: Arc<Self>, incarnation: Incarnation, context: StartContext) -> BoxedStart;
}

/// A start under way.
pub(super) type BoxedStart = Pin<Box<dyn Future<Output = Result<ActorCell, StartError>> + Send>>;

/// What a life is given by its supervisor. May be kept by the actor and used as long as it lives.
#[derive(Clone)]
pub struct StartContext {
    id: ChildId,
    incarnation: Incarnation,
    supervisor: ActorRef<Message>,
    /// Actors spawned by the start; `None` as soon as it is over.
    born: Arc<Mutex<Option<Vec<Born>>>>,
}

/// An actor spawned by a start.
#[derive(Debug)]
pub(super) struct Born {
    pub(super) cell: ActorCell,
    pub(super) graceful: Graceful,
}

/// Set once an actor has ended by its own `post_stop`, which a killed one never reaches.
pub(super) type Graceful = Arc<AtomicBool>;

/// The child's actor, with a note of how it ends.
struct Noted<A> {
    actor: A,
    graceful: Graceful,
}

// === impl Child ===

impl<F, Start> Child for F
where
    F: Fn(Incarnation, StartContext) -> Start + Send + Sync + 'static,
    Start: Future<Output = Result<ActorCell, StartError>> + Send,
{
    fn start(
        &self,
        incarnation: Incarnation,
        context: StartContext,
    ) -> impl Future<Output = Result<ActorCell, StartError>> + Send {
        self(incarnation, context)
    }
}

impl<C: Child> ErasedChild for C {
    fn start_boxed(self: Arc<Self>, incarnation: Incarnation, context: StartContext) -> BoxedStart {
        Box::pin(async move { self.start(incarnation, context).await })
    }
}

// === impl StartContext ===

impl StartContext {
    pub(super) fn new(id: ChildId, incarnation: Incarnation, supervisor: ActorRef<Message>) -> Self {
        Self { id, incarnation, supervisor, born: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    /// The child.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Its life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The supervisor, as the parent of a supervisor below it.
    pub fn supervisor(&self) -> ActorCell {
        self.supervisor.get_cell()
    }

    /// Starts the actor of this life, linked to the supervisor from the first moment.
    ///
    /// A further actor started here is linked under the one that the start returns, and ends with it.
    pub async fn spawn<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorRef<A::Msg>, StartError> {
        let graceful = Graceful::default();
        let noted = Noted { actor, graceful: graceful.clone() };
        let started = Noted::spawn_linked(None, noted, arguments, self.supervisor()).await;
        let (actor, _) = started.map_err(|error| start_error(&error))?;
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        match born.as_mut() {
            Some(born) => born.push(Born { cell: actor.get_cell(), graceful }),
            None => {
                actor.kill();
                let message = format!("start one more actor of {} after its start was over", self.id);
                return Err(StartError { message, hint: None, retry: false });
            }
        }
        Ok(actor)
    }

    /// Reports that this life is ready.
    pub fn ready(&self) {
        self.say(Word::Ready);
    }

    /// Reports that this life is not ready any more.
    pub fn unready(&self, detail: impl Into<String>) {
        self.say(Word::Unready(detail.into()));
    }

    /// The actors spawned by the start, which is over herewith.
    pub(super) fn close(&self) -> Vec<Born> {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    fn say(&self, word: Word) {
        let said = Message::Said { id: self.id.clone(), incarnation: self.incarnation, word };
        // A supervisor that is gone has taken this life with it.
        drop(self.supervisor.send_message(said));
    }
}

impl fmt::Debug for StartContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StartContext");
        shown.field("id", &self.id).field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

fn start_error(error: &SpawnErr) -> StartError {
    let message = match error {
        SpawnErr::StartupFailed(error) => format!("start the actor: {error}"),
        SpawnErr::ActorAlreadyStarted | SpawnErr::ActorAlreadyRegistered(_) => format!("start the actor: {error}"),
    };
    StartError { message, hint: None, retry: true }
}

// === impl Noted ===

impl<A: Actor> Actor for Noted<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        self.actor.pre_start(myself, arguments).await
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.actor.post_start(myself, state).await
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.actor.post_stop(myself, state).await?;
        self.graceful.store(true, Ordering::Release);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.actor.handle(myself, message, state).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.actor.handle_supervisor_evt(myself, event, state).await
    }
}
