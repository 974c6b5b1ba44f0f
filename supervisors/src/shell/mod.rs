//! The thin shell round the engine, for plain ractor programs. The crate's documentation shows how it is used.
//!
//! ```text
//! SupervisorHandle ──requests──▶ supervisor actor ──Event──▶ engine
//! start tasks, lives ──words───▶        ▲  │     ◀─Effects──
//! ractor ──ends of actors──────▶        │  └──▶ begin, ask to end, kill a life; report; arm the alarm
//! alarm ───────────────────────▶ ───────┘
//! ```
//!
//! The actor turns messages and supervision events into events, and carries out effects. It decides nothing.
//!
//! | file | has |
//! |---|---|
//! | `mod.rs`, `handle.rs` | what a program calls: specifications, and the handle of a running supervisor |
//! | `actor.rs` | the actor and its messages; each is one call of the state |
//! | `state.rs` | the state: drives the engine, carries effects out, ends the actor |
//! | `requests.rs`, `replies.rs` | the handle's requests, and who waits for the outcome of which |
//! | `child.rs` | what starts a child, and what a life is given to speak of itself |
//! | `lives.rs`, `start.rs` | lives from the first step of their start to their end; the task of a start that is more than an actor |
//! | `noted.rs`, `ends.rs` | when nothing of an actor is left, and how it ended |
//! | `leash.rs` | whose life each actor is, and that none outlives the supervisor |
//! | `alarm.rs`, `reports.rs` | one sleeper for all timers; the stream of reports |
//!
//! What it never does: await in a handler, so that a start of minutes delays nobody; register a global name; read how
//! an actor ended from ractor's text; start a life before the one before it is really gone; outlive its children, or
//! they it.
//!
//! # When a life is over
//!
//! Ractor tells of an end before the actor's value is dropped, and what that holds (a port, a file) may be what the
//! next life needs. So the actor of a child is wrapped in one that speaks when it is dropped, after all that it holds,
//! and that word is what ends the life. Ractor's own word tells how it ended. An actor with nothing to drop that ended in
//! order needs no second word.
//!
//! # Three things to know of ractor
//!
//! - It kills what is linked under an actor that ends. So [`SupervisorHandle::stop`] is the way to end a supervisor in
//!   order; ractor's own `stop` on its cell kills its children at once. A supervisor that is a child of another is asked
//!   by message and stops in order. What was linked below a killed or crashed child is killed with it, but not waited
//!   for.
//! - It has one word for a kill by a third party and a normal end. Of an actor given as one ([`SupervisorSpec::actor`]),
//!   or started by [`StartContext::spawn`], the two are told apart; of another one they are not.
//! - A kill reaches an actor at its next `await`. One that blocks its thread is waited for, not taken for dead.

mod actor;
mod alarm;
mod child;
mod ends;
mod handle;
mod leash;
mod lives;
mod noted;
mod replies;
mod reports;
mod requests;
mod start;
mod state;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell};
use tokio::sync::{broadcast, oneshot};

pub use child::{Child, Life, StartContext};
pub use handle::{ChildError, ChildInfo, Counts, Outcome, SupervisorHandle};
pub use reports::{Offender, REPORTS_HELD_MAX, Reports, SupervisorReport};

use crate::Name;
use crate::engine::{Ending, Engine, Options, SpecError};
use crate::reason::StartError;
use crate::spec::{self, ChildId, ChildSpec, Flags, GroupSpec, Intensity, Strategy};
use actor::{Arguments, SupervisorActor};
use child::{ActorChild, ErasedChild, Starter};
use ends::Ended;
use handle::FirstReports;
use reports::Outlet;

/// Starts supervisors.
#[derive(Debug, Clone, Copy)]
pub struct Supervisor;

/// What a supervisor is started with.
pub struct SupervisorSpec {
    name: Name,
    children: Children,
    groups: Vec<GroupSpec>,
    options: Options,
}

/// Children with what starts them, in order.
#[derive(Default)]
pub struct Children(Vec<(ChildSpec, Arc<dyn ErasedChild>)>);

/// Why a supervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Its children cannot be supervised together (OTP's `start_spec` and `supervisor_data`).
    #[error("supervise the children of {supervisor}")]
    Spec {
        /// The supervisor.
        supervisor: Name,
        /// What is wrong.
        source: SpecError,
    },
    /// A child could not be started; those before it have been stopped again (OTP's `failed_to_start_child`).
    #[error("start child {child} of {supervisor}")]
    FailedToStartChild {
        /// The supervisor.
        supervisor: Name,
        /// The child.
        child: ChildId,
        /// Why.
        source: StartError,
    },
    /// It has ended before all its children had started.
    #[error("start all children of {supervisor} before {by} ended it")]
    Ended {
        /// The supervisor.
        supervisor: Name,
        /// The child that was the reason.
        by: ChildId,
        /// Why.
        why: Ending,
    },
    /// Its actor could not be started; its parent may be on its way down.
    #[error("start supervisor {supervisor}")]
    Actor {
        /// The supervisor.
        supervisor: Name,
        /// What ractor says.
        source: ractor::SpawnErr,
    },
    /// It was killed before all its children had started.
    #[error("start all children of {0} before it was killed")]
    Killed(
        /// The supervisor.
        Name,
    ),
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts a supervisor and its children (OTP's `start_link`).
    ///
    /// With OTP's flags it returns when every child has started, or fails with the first that could not be. With
    /// [`spec::FirstStart::Retry`] it returns as soon as the supervisor runs: how its children fare is told by
    /// [`SupervisorHandle::reports`].
    ///
    /// With a `parent` the supervisor ends with it, and the parent hears of its end.
    pub async fn start(spec: SupervisorSpec, parent: Option<ActorCell>) -> Result<SupervisorHandle, SupervisorError> {
        let SupervisorSpec { name: supervisor, children, groups, options } = spec;
        let specs = children.specs();
        let engine = Engine::new(specs, groups, options)
            .map_err(|source| SupervisorError::Spec { supervisor: supervisor.clone(), source })?;
        let children = children.0.into_iter().map(|(spec, child)| (spec.id, child)).collect();
        let (reports, first_reports) = broadcast::channel(REPORTS_HELD_MAX);
        let held = reports.downgrade();
        let first_reports = FirstReports::new(Some(first_reports).into());
        let (told, first) = oneshot::channel();
        let ended = Ended::default();
        let is_awaited = options.flags.first_start == spec::FirstStart::AllOrNothing;
        let name = supervisor.clone();
        let first_start = is_awaited.then_some(told);
        let outlet = Outlet { reports, first: first_reports.clone(), sent: 0 };
        let arguments = Arguments { name, engine, children, outlet, first: first_start, ended: ended.clone() };
        let started = match parent {
            Some(parent) => SupervisorActor::spawn_linked(None, SupervisorActor::default(), arguments, parent).await,
            None => SupervisorActor::spawn(None, SupervisorActor::default(), arguments).await,
        };
        let (actor, _) = started.map_err(|source| SupervisorError::Actor { supervisor: supervisor.clone(), source })?;
        if is_awaited {
            let outcome = first.await.unwrap_or_else(|_| Err(SupervisorError::Killed(supervisor.clone())));
            if let Err(error) = outcome {
                drop(actor.wait(None).await);
                return Err(error);
            }
        }
        Ok(SupervisorHandle::new(actor, supervisor, held, first_reports, ended))
    }
}

// === impl SupervisorSpec ===

impl SupervisorSpec {
    /// OTP's supervisor, still without children: [`Flags::otp`].
    pub fn new(name: Name, strategy: Strategy) -> Self {
        let options = Options { flags: Flags::otp(strategy), ..Options::default() };
        Self { name, children: Children::default(), groups: Vec::new(), options }
    }

    /// OTP's `simple_one_for_one`, or Elixir's `DynamicSupervisor`: children come and go at run time, each with its
    /// spec; only living ones are known, and a stop takes them down all at once.
    pub fn dynamic(name: Name) -> Self {
        Self::new(name, Strategy::OneForOne).flags(Flags::dynamic())
    }

    /// With another budget than OTP's one restart in five seconds.
    #[must_use]
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.options.flags.intensity = Some(Intensity { restarts, period });
        self
    }

    /// With these flags.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.options.flags = flags;
        self
    }

    /// With these settings of its engine.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// With one more child.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec, child: impl Child) -> Self {
        self.children = self.children.child(spec, child);
        self
    }

    /// With one more child that is an actor and nothing else: `make` gives the actor and its arguments for each life.
    ///
    /// `pre_start` is the start, as `init` is in OTP: it may take its time, and an error in it is a start that failed.
    #[must_use]
    pub fn actor<A, F>(mut self, spec: ChildSpec, make: F) -> Self
    where
        A: Actor,
        F: Fn(&Life) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        self.children = self.children.actor(spec, make);
        self
    }

    /// With one more group of its children.
    #[must_use]
    pub fn group(mut self, group: GroupSpec) -> Self {
        self.groups.push(group);
        self
    }

    /// Whether it could be started (OTP's `check_childspecs`).
    pub fn check(&self) -> Result<(), SpecError> {
        Engine::check_with(&self.children.specs(), &self.groups, &self.options.flags)
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SupervisorSpec");
        shown.field("name", &self.name).field("children", &self.children).finish_non_exhaustive()
    }
}

// === impl Children ===

impl Children {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more child.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec, child: impl Child) -> Self {
        self.0.push((spec, Arc::new(Starter(child))));
        self
    }

    /// With one more child that is an actor and nothing else; see [`SupervisorSpec::actor`].
    #[must_use]
    pub fn actor<A, F>(mut self, spec: ChildSpec, make: F) -> Self
    where
        A: Actor,
        F: Fn(&Life) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        self.0.push((spec, Arc::new(ActorChild(make))));
        self
    }

    fn specs(&self) -> Vec<ChildSpec> {
        self.0.iter().map(|(spec, _)| spec.clone()).collect()
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(spec, _)| spec)).finish()
    }
}
