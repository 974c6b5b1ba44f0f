//! How a program speaks to its supervisor: OTP's calls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorCell, ActorRef, RpcReplyPort};
use tokio::sync::broadcast::{Receiver, WeakSender};

use super::actor::Message;
use super::child::Child;
use super::reports::{Reports, SupervisorReport};
use crate::Name;
use crate::engine::{ChildState, ChildView, SpecError};
use crate::reason::ExitReason;
use crate::spec::{ChildId, ChildSpec, ChildType};

/// A running supervisor. It lives on when its handles are dropped.
#[derive(Clone)]
pub struct SupervisorHandle {
    actor: ActorRef<Message>,
    name: Name,
    reports: WeakSender<SupervisorReport>,
    /// Subscribed before the first child was started.
    first: Arc<Mutex<Option<Receiver<SupervisorReport>>>>,
}

/// A child at one moment.
#[derive(Debug, Clone)]
pub struct ChildInfo {
    /// What the engine knows of it.
    pub view: ChildView,
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
    /// No such child.
    #[error("there is no child {0}")]
    NotFound(ChildId),
    /// There is such a child already.
    #[error("there is a child {0} already")]
    AlreadyPresent(ChildId),
    /// It must be down for that.
    #[error("child {0} is not down")]
    NotDown(ChildId),
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
        first: Receiver<SupervisorReport>,
    ) -> Self {
        Self { actor, name, reports, first: Arc::new(Mutex::new(Some(first))) }
    }

    /// The supervisor's actor, to be returned by the [`Child`] that it is.
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// What its reports call it.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Adds a child after the others and wants it up. Returns when that is accepted; reports tell how it fares.
    pub async fn start_child(&self, spec: ChildSpec, child: impl Child) -> Result<(), ChildError> {
        self.call(|reply| Message::StartChild(Box::new(spec), Arc::new(child), reply)).await?
    }

    /// Wants a child down, and dependents as their edges say. Returns when it is really gone; its spec stays.
    ///
    /// A start that is under way is waited for, as in OTP.
    pub async fn terminate_child(&self, id: &ChildId) -> Result<(), ChildError> {
        self.call(|reply| Message::TerminateChild(id.clone(), reply)).await?
    }

    /// Wants a new life for a child: one that is up is stopped first (OTP refuses that). Not counted in the intensity.
    pub async fn restart_child(&self, id: &ChildId) -> Result<(), ChildError> {
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

    /// OTP's counts.
    pub async fn count_children(&self) -> Result<Counts, ChildError> {
        Ok(self.which_children().await?.iter().fold(Counts::default(), Counts::with))
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
        Ok(outcomes)
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

// === impl Counts ===

impl Counts {
    fn with(self, child: &ChildInfo) -> Self {
        let is_supervisor = child.child_type == ChildType::Supervisor;
        Self {
            specs: self.specs + 1,
            active: self.active + usize::from(child.actor.is_some()),
            supervisors: self.supervisors + usize::from(is_supervisor),
            workers: self.workers + usize::from(!is_supervisor),
        }
    }
}
