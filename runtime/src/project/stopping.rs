//! How units are asked to end, from their specification, and what is told of it.

use std::sync::Arc;

use envctl_actors::process::exec::Runner;
use envctl_actors::process::life::Manners;
use envctl_actors::process::stop::{Ask, Hooks, StopPlan, StopStep as Step};
use envctl_actors::process::{Role, Scope};
use envctl_actors::unit::{Begin, UnitReport};
use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::spec::Incarnation;
use nix::libc::SIGTERM;

use super::commands;
use super::state::Project;
use super::supervisor::{ProjectMessage, environment, surroundings};
use crate::journal::events::EventKind;
use crate::spec::{Run, StopAsk, StopStep, UnitKind, UnitSpec};

// === impl Project ===

impl Project {
    /// How one life of a unit is asked to end.
    pub(super) fn manners(
        &self,
        id: &Name,
        spec: &UnitSpec,
        begin: Begin,
        incarnation: Incarnation,
    ) -> Result<Manners, StartError> {
        let step = |step: &StopStep| {
            let ask = match &step.ask {
                StopAsk::Signal(signal) => Ask::Signal(*signal),
                StopAsk::Run(run) => self.stop_command(id, spec, run, incarnation)?,
            };
            Ok(Step { ask, scope: step.scope, after: step.after })
        };
        let steps = spec.stop.iter().map(step).collect::<Result<Vec<_>, StartError>>()?;
        let plan = StopPlan { steps, reach: reach_of(spec), with_daemon: self.spec.end_with_daemon };
        // Heart has asked already: a second signal would count as impatience with many programs.
        let plan = if self.ended_with_daemon && begin == Begin::Attach { plan.begun() } else { plan };
        Ok(Manners { plan, proof: self.proof(id, None), hooks: None })
    }

    /// Who runs the commands of a unit's stop.
    pub(super) fn hooks(&self, id: &Name, incarnation: Incarnation, runner: &Arc<Runner>) -> Hooks {
        let (myself, id) = (self.myself.clone(), id.clone());
        let failed = move |error| {
            // A supervisor that is gone has nobody to tell.
            let _ = myself.cast(ProjectMessage::Unit(id.clone(), incarnation, UnitReport::StopFailed(error)));
        };
        Hooks { runner: runner.with_role(Role::Step), failed: Arc::new(failed) }
    }

    /// How far the end of a unit reaches.
    pub(super) fn reach(&self, id: &Name) -> Scope {
        self.spec.units.get(id).map_or(Scope::All, reach_of)
    }

    /// A command of a unit's stop failed.
    pub(super) fn stop_failed(&self, id: &Name, incarnation: Incarnation, error: &str) {
        let message = format!("the command that was to stop {id} failed: {error}");
        let event = EventKind::UnitStopFailed.event("", message).unit(id).incarnation(incarnation);
        self.append(event.detail("answer", error));
    }

    /// The daemon before this one died, and heart ended the units with it.
    pub(super) fn note_daemon_death(&mut self) {
        self.ended_with_daemon = true;
        let text = format!("the daemon died, and {} ends with it (on_daemon_death = \"stop\")", self.spec.name);
        self.append(EventKind::DaemonDied.event("", text));
    }

    fn stop_command(&self, id: &Name, spec: &UnitSpec, run: &Run, incarnation: Incarnation) -> Result<Ask, StartError> {
        let (UnitKind::Service(program) | UnitKind::Task(program)) = &spec.kind else {
            // The configuration knows no such command; TERM is what it would fall back to.
            return Ok(Ask::Signal(SIGTERM));
        };
        let ports = &self.ports.of_unit(id);
        let environment = environment(self, id, spec, Some(incarnation), ports)?;
        let around = surroundings(self, spec, program, &environment, ports)?;
        Ok(Ask::Run(Box::new(commands::command(run, around)?)))
    }
}

/// The kill at the end reaches as far as the widest of the steps.
fn reach_of(spec: &UnitSpec) -> Scope {
    spec.stop.iter().map(|step| step.scope).max().unwrap_or(Scope::All)
}
