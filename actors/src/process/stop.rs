//! How a life is asked to end: one step after the other, each with its time, and how far the stop reaches.
//!
//! Plain data; `life` carries it out. What is left after the last step is killed, as far as [`StopPlan::reach`] goes; the
//! supervisor knows the sum of the steps as the unit's shutdown time and says when that is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::heart::wire::{Ending, Reach, WithDaemon};
use super::table::Scope;
use crate::probe::check::ExecRunner;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopPlan {
    /// Taken one after the other; never empty.
    pub steps: Vec<StopStep>,
    /// Whom the kill at the end reaches, and whose end is waited for.
    pub reach: Scope,
    /// Whether heart carries it out at once when the daemon dies.
    pub with_daemon: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStep {
    /// What is done.
    pub ask: Ask,
    /// Who is signalled.
    pub scope: Scope,
    /// How long this step lasts if not everything has ended before.
    pub after: Duration,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Sends a signal, and CONT after it: what is stopped must hear it too.
    Signal(i32),
    /// Runs a command; it is killed when the step is over. One that fails ends its step at once.
    Run(Box<Command>),
    /// Only waits: somebody else has asked already.
    Wait,
}

/// Who runs the commands of a stop, and who hears that one failed.
#[derive(Clone)]
pub struct Hooks {
    /// Runs them.
    pub runner: Arc<dyn ExecRunner>,
    /// Told why one failed; must not block.
    pub failed: Arc<dyn Fn(String) + Send + Sync>,
}

// === impl StopPlan ===

impl StopPlan {
    /// One signal to all that belongs.
    pub fn signal(signal: i32, grace: Duration) -> Self {
        let steps = vec![StopStep { ask: Ask::Signal(signal), scope: Scope::All, after: grace }];
        Self { steps, reach: Scope::All, with_daemon: false }
    }

    /// The time of all steps together.
    pub fn grace(&self) -> Duration {
        self.steps.iter().map(|step| step.after).sum()
    }

    /// The same time and reach, with the one signal that a program of a known kind wants.
    #[must_use]
    pub fn with_signal(self, signal: i32, scope: Scope) -> Self {
        let begun = self.steps.first().is_some_and(|first| first.ask == Ask::Wait);
        let ask = if begun { Ask::Wait } else { Ask::Signal(signal) };
        let steps = vec![StopStep { ask, scope, after: self.grace() }];
        Self { steps, ..self }
    }

    /// The same, if its first step has been taken already.
    #[must_use]
    pub fn begun(mut self) -> Self {
        if let Some(first) = self.steps.first_mut() {
            first.ask = Ask::Wait;
        }
        self
    }

    /// What heart is told: it has no look at `/proc`, runs no commands and takes no second step.
    pub fn for_heart(&self) -> Ending {
        let first = self.steps.first().map(|step| (&step.ask, step.scope));
        let (signal, scope) = match first {
            Some((Ask::Signal(signal), scope)) => (*signal, scope),
            Some((Ask::Run(_) | Ask::Wait, _)) | None => (nix::libc::SIGTERM, self.reach),
        };
        let grace_ms = u64::try_from(self.grace().as_millis()).unwrap_or(u64::MAX);
        let with_daemon = WithDaemon { signal, group: scope != Scope::Main, grace_ms };
        Ending { reach: self.reach.into(), with_daemon: self.with_daemon.then_some(with_daemon) }
    }
}

impl From<Scope> for Reach {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Main => Self::Main,
            Scope::Group => Self::Group,
            Scope::All => Self::All,
        }
    }
}

// === impl Hooks ===

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ask: Ask, scope: Scope) -> StopStep {
        StopStep { ask, scope, after: Duration::from_secs(2) }
    }

    #[test]
    fn heart_sends_the_first_signal_and_knows_the_whole_grace() {
        let steps = vec![step(Ask::Signal(2), Scope::Main), step(Ask::Signal(15), Scope::All)];
        let plan = StopPlan { steps, reach: Scope::All, with_daemon: true };
        let told = plan.for_heart().with_daemon.unwrap();
        assert_eq!(told, WithDaemon { signal: 2, group: false, grace_ms: 4000 });
    }

    #[test]
    fn heart_asks_with_term_where_a_command_would() {
        let steps = vec![step(Ask::Wait, Scope::All)];
        let plan = StopPlan { steps, reach: Scope::Main, with_daemon: true };
        let told = plan.for_heart();
        assert_eq!(told.with_daemon.unwrap(), WithDaemon { signal: 15, group: false, grace_ms: 2000 });
        assert_eq!(told.reach, Reach::Main);
    }

    #[test]
    fn a_program_that_was_asked_already_is_not_asked_again_in_its_own_way() {
        let plan = StopPlan::signal(15, Duration::from_secs(3)).begun().with_signal(2, Scope::Main);
        assert_eq!((&plan.steps[0].ask, plan.grace()), (&Ask::Wait, Duration::from_secs(3)));
    }

    #[test]
    fn a_unit_that_is_kept_is_left_alone_by_heart() {
        assert_eq!(StopPlan::signal(15, Duration::ZERO).for_heart().with_daemon, None);
    }
}
