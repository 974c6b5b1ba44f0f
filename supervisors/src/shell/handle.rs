//! How a program speaks to its supervisor: OTP's calls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, RpcReplyPort};
use tokio::sync::broadcast::{Receiver, WeakSender};

use super::actor::{Message, NewChild, Replacement};
use super::child::{ActorChild, Child, ErasedChild, Life, Starter};
use super::ends::Ended;
use super::replies::{BeginReply, Tally};
use super::reports::{Reports, SupervisorReport};
use super::{Children, SupervisorSpec};
use crate::Name;
use crate::engine::{AdminError, ChildState, ChildView, Ending, Event, OtpState, SpecError};
use crate::reason::{ExitReason, StartError};
use crate::spec::{ChildId, ChildSpec, ChildType};

/// A subscription from before the first child was started, until somebody takes it or more was reported than it holds.
pub(super) type FirstReports = Arc<Mutex<Option<Receiver<SupervisorReport>>>>;

/// A running supervisor. It lives on when its handles are dropped.
#[derive(Clone)]
pub struct SupervisorHandle {
    actor: ActorRef<Message>,
    name: Name,
    reports: WeakSender<SupervisorReport>,
    first: FirstReports,
    ended: Ended,
}

/// A child at one moment.
#[derive(Debug, Clone)]
pub struct ChildInfo {
    /// What the engine knows of it.
    pub view: ChildView,
    /// Its state in OTP's words.
    pub otp_state: OtpState,
    /// Its actor, once its present life has begun.
    pub actor: Option<ActorCell>,
    /// Worker or supervisor.
    pub child_type: ChildType,
}

/// OTP's `count_children`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Children known.
    pub specs: usize,
    /// Those with an actor.
    pub active: usize,
    /// Those that are supervisors.
    pub supervisors: usize,
    /// Those that are not.
    pub workers: usize,
}

/// How a child came down in the supervisor's stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The child.
    pub id: ChildId,
    /// What it came to rest as.
    pub state: ChildState,
    /// How its last life ended; `None` if it never lived.
    pub last_exit: Option<ExitReason>,
    /// Whether it had to be killed in this stop.
    pub killed: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildError {
    /// OTP refuses it.
    #[error(transparent)]
    Refused(#[from] AdminError),
    /// The start failed; it is not tried again, and a child that was to be added is not known.
    #[error("failed to {0}")]
    Start(StartError),
    /// It was stopped before it had started.
    #[error("child {0} was stopped before it had started")]
    NotStarted(ChildId),
    /// It was started again before it was down.
    #[error("child {0} was started again meanwhile")]
    StartedAgain(ChildId),
    /// The children that would result cannot be supervised.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The supervisor is on its way down.
    #[error("supervisor {0} is stopping")]
    Stopping(Name),
    /// The supervisor is gone.
    #[error("supervisor {0} is gone")]
    Gone(Name),
}

/// A port for the answer to a request that may be refused.
pub(super) type Answer<T> = RpcReplyPort<Result<T, ChildError>>;

// === impl SupervisorHandle ===

impl SupervisorHandle {
    pub(super) fn new(
        actor: ActorRef<Message>,
        name: Name,
        reports: WeakSender<SupervisorReport>,
        first: FirstReports,
        ended: Ended,
    ) -> Self {
        Self { actor, name, reports, first, ended }
    }

    /// The supervisor's actor, to be returned by the [`Child`] that it is.
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// What its reports call it.
    pub fn name(&self) -> &Name {
        &self.name
    }

    // --- OTP's calls ---

    /// Adds a child after the others and starts it. Returns its actor when it has begun, or `None` if its start says that
    /// there is nothing to run. A start that fails is not tried again, and the child is not known then.
    pub async fn start_child(&self, spec: ChildSpec, child: impl Child) -> Result<Option<ActorCell>, ChildError> {
        self.start_erased(spec, Arc::new(Starter(child))).await
    }

    /// [`Self::start_child`] of a child that is an actor and nothing else.
    pub async fn start_actor<A, F>(&self, spec: ChildSpec, make: F) -> Result<Option<ActorCell>, ChildError>
    where
        A: Actor,
        F: Fn(&Life) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        self.start_erased(spec, Arc::new(ActorChild(make))).await
    }

    /// [`Self::start_child`] of many at once; one answer for each, in order, when all have begun or failed.
    pub async fn start_children(
        &self,
        children: Children,
    ) -> Result<Vec<Result<Option<ActorCell>, ChildError>>, ChildError> {
        let (tally, all) = Tally::new(children.0.len());
        let request = |(nth, (spec, child)): (usize, (ChildSpec, Arc<dyn ErasedChild>))| NewChild {
            spec,
            child,
            reply: BeginReply::Part(tally.clone(), nth),
        };
        self.tell(Message::StartChildren(children.0.into_iter().enumerate().map(request).collect()))?;
        // What is left of the tally is with the supervisor: if that ends, nobody waits.
        drop(tally);
        all.await.map_err(|_| ChildError::Gone(self.name.clone()))
    }

    async fn start_erased(
        &self,
        spec: ChildSpec,
        child: Arc<dyn ErasedChild>,
    ) -> Result<Option<ActorCell>, ChildError> {
        let new = |reply| NewChild { spec, child, reply: BeginReply::One(reply) };
        self.call(|reply| Message::StartChildren(vec![new(reply)])).await?
    }

    /// Wants a child down, and dependents as their edges say. Returns when it is really gone; its spec stays, unless it is
    /// one of those that are dropped at their end. A child that is down already is down.
    ///
    /// A start that is under way is waited for, as in OTP.
    pub async fn terminate_child(&self, id: &ChildId) -> Result<(), ChildError> {
        self.call(|reply| Message::TerminateChild(id.clone(), reply)).await?
    }

    /// Starts a child that is down. Returns its actor when it has begun; a start that fails is not tried again. Not counted
    /// in the intensity.
    pub async fn restart_child(&self, id: &ChildId) -> Result<Option<ActorCell>, ChildError> {
        self.call(|reply| Message::RestartChild(id.clone(), reply)).await?
    }

    /// Forgets a child that is down and that nobody needs.
    pub async fn delete_child(&self, id: &ChildId) -> Result<(), ChildError> {
        self.call(|reply| Message::DeleteChild(id.clone(), reply)).await?
    }

    /// Every child, in order.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.call(Message::WhichChildren).await
    }

    /// One child (OTP 28).
    pub async fn which_child(&self, id: &ChildId) -> Result<ChildInfo, ChildError> {
        self.call(|reply| Message::WhichChild(id.clone(), reply)).await?
    }

    /// OTP's counts.
    pub async fn count_children(&self) -> Result<Counts, ChildError> {
        self.call(Message::CountChildren).await
    }

    /// The spec of a child, every default filled in.
    pub async fn get_childspec(&self, id: &ChildId) -> Result<ChildSpec, ChildError> {
        self.call(|reply| Message::GetChildspec(id.clone(), reply)).await?
    }

    // --- beyond OTP ---

    /// Takes new specs, groups and flags (OTP's `code_change`, with our reload): added children are down until they are
    /// started, removed ones are stopped and then forgotten, others live on unless what they need has changed.
    pub async fn replace(&self, spec: SupervisorSpec) -> Result<(), ChildError> {
        let SupervisorSpec { name: _, children, groups, options } = spec;
        let replacement = Replacement { children, groups, flags: options.flags };
        self.call(|reply| Message::Replace(Box::new(replacement), reply)).await?
    }

    /// Wants children up, and what they need; without names: all. Skips delays and forgets failures.
    pub fn start(&self, ids: Vec<ChildId>) -> Result<(), ChildError> {
        self.tell(Message::Ask(Event::Start { ids, with_needs: true }))
    }

    /// Gives children a new life, not counted; without names: all that are up. Dependents follow as their edges say.
    pub fn restart(&self, ids: Vec<ChildId>) -> Result<(), ChildError> {
        self.tell(Message::Ask(Event::Restart { ids }))
    }

    /// Subscribes to its reports. The first subscription begins with the supervisor's start, as far as that is held.
    pub fn reports(&self) -> Reports {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = first.or_else(|| self.reports.upgrade().map(|reports| reports.subscribe()));
        receiver.map_or_else(Reports::ended, Reports::new)
    }

    /// Stops everything, each child within its shutdown time; kills what is left after `deadline`; ends the supervisor.
    ///
    /// Returns when all of it is really gone, with one outcome for each child. An actor that blocks its thread cannot
    /// be killed, and is waited for.
    pub async fn stop(&self, deadline: Duration) -> Result<Vec<Outcome>, ChildError> {
        let shutdown = |reply| Message::Shutdown { deadline: Some(deadline), reply: Some(reply) };
        let outcomes = self.call(shutdown).await?;
        drop(self.actor.wait(None).await);
        Ok(Arc::unwrap_or_clone(outcomes))
    }

    /// Waits for the end of the supervisor. Returns the child that made it end by itself, and why; `None`: it was stopped.
    pub async fn ended(&self) -> Option<(ChildId, Ending)> {
        drop(self.actor.wait(None).await);
        self.ended.get().cloned()
    }

    fn tell(&self, message: Message) -> Result<(), ChildError> {
        self.actor.send_message(message).map_err(|_| ChildError::Gone(self.name.clone()))
    }

    async fn call<T: Send + 'static>(&self, message: impl FnOnce(RpcReplyPort<T>) -> Message) -> Result<T, ChildError> {
        match self.actor.call(message, None).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => Err(ChildError::Gone(self.name.clone())),
        }
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle").field("name", &self.name).finish_non_exhaustive()
    }
}
