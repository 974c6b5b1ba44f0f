//! The thin shell round the engine, for plain ractor programs.
//!
//! ```text
//! handle ──messages──▶ supervisor actor ──Event──▶ engine
//! children ──ends────▶        ▲         ◀─Effects──
//!                             └── start tasks, watchers and timers report back by message
//! ```
//!
//! The actor turns messages and supervision events into events, and carries out effects. It decides nothing.
//!
//! What it never does: await in a handler, so that a start of minutes delays nobody; register a global name; read how an
//! actor ended from ractor's text; start a life before the one before it is really gone; outlive its children, or they it.
//!
//! Ractor kills what is linked under an actor that ends. So [`SupervisorHandle::stop`] is the way to end a supervisor in
//! order; ractor's own `stop` on its cell kills its children at once. A supervisor that is a child of another is asked by
//! message and stops in order.

mod actor;
mod child;
mod handle;
mod reports;
mod requests;
mod start;
mod state;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorCell};
use tokio::sync::broadcast;

pub use child::{Child, ErasedChild, StartContext};
pub use handle::{ChildError, ChildInfo, Counts, Outcome, SupervisorHandle};
pub use reports::{Offender, REPORTS_HELD_MAX, Reports, SupervisorReport};

use crate::Name;
use crate::engine::{Engine, Options, SpecError};
use crate::spec::ChildSpec;
use actor::{Arguments, SupervisorActor};

/// Starts supervisors.
#[derive(Debug, Clone, Copy)]
pub struct Supervisor;

/// What a supervisor is started with.
pub struct SupervisorSpec {
    /// What its reports call it. Registered nowhere: two supervisors may have equal names.
    pub name: Name,
    /// Its children, in order. All are started.
    pub children: Vec<(ChildSpec, Box<dyn ErasedChild>)>,
    /// Settings of its engine.
    pub options: Options,
}

/// Why a supervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Its children cannot be supervised together.
    #[error("supervise the children of {name}")]
    Spec {
        /// The supervisor.
        name: Name,
        /// What is wrong.
        source: SpecError,
    },
    /// Its actor could not be started; its parent may be on its way down.
    #[error("start supervisor {name}")]
    Actor {
        /// The supervisor.
        name: Name,
        /// What ractor says.
        source: ractor::SpawnErr,
    },
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts a supervisor and, in the order of their needs, its children. Returns as soon as the supervisor runs: how
    /// its children fare is told by [`SupervisorHandle::reports`].
    ///
    /// With a `parent` the supervisor ends with it, and the parent hears of its end: a failure if a child with
    /// [`Escalate::Project`](crate::spec::Escalate::Project) was given up.
    pub async fn start(spec: SupervisorSpec, parent: Option<ActorCell>) -> Result<SupervisorHandle, SupervisorError> {
        let SupervisorSpec { name, children, options } = spec;
        let specs = children.iter().map(|(spec, _)| spec.clone()).collect();
        let engine =
            Engine::new(specs, options).map_err(|source| SupervisorError::Spec { name: name.clone(), source })?;
        let children = children.into_iter().map(|(spec, child)| (spec.id.clone(), (spec, Arc::from(child)))).collect();
        let (reports, first) = broadcast::channel(REPORTS_HELD_MAX);
        let held = reports.downgrade();
        let arguments = Arguments { name: name.clone(), engine, children, reports };
        let started = match parent {
            Some(parent) => SupervisorActor::spawn_linked(None, SupervisorActor, arguments, parent).await,
            None => SupervisorActor::spawn(None, SupervisorActor, arguments).await,
        };
        match started {
            Ok((actor, _)) => Ok(SupervisorHandle::new(actor, name, held, first)),
            Err(source) => Err(SupervisorError::Actor { name, source }),
        }
    }
}

// === impl SupervisorSpec ===

impl SupervisorSpec {
    /// A supervisor without children and with every default.
    pub fn new(name: Name) -> Self {
        Self { name, children: Vec::new(), options: Options::default() }
    }

    /// With one more child.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec, child: impl Child) -> Self {
        self.children.push((spec, Box::new(child)));
        self
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let specs: Vec<_> = self.children.iter().map(|(spec, _)| spec).collect();
        f.debug_struct("SupervisorSpec").field("name", &self.name).field("children", &specs).finish_non_exhaustive()
    }
}
