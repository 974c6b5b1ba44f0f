//! A project as clients see it. Pure: engine and facts in, views out.

use envctl_supervisors::Name;
use envctl_supervisors::engine::{self, ChildState, ChildView};

use super::memory::Failure;
use super::reports::exit_view;
use super::state::Run;
use super::units::Unit;
use crate::control::view::{Desired, PortView, ProjectState, ProjectView, UnitState, UnitView};
use crate::spec::{Driver, ProjectSpec, UnitKind, UnitSpec};

/// What a view is made of, beside the engine's word.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What was configured.
    pub spec: &'a UnitSpec,
    /// What the supervisor knows.
    pub unit: &'a Unit,
    /// Its declared group.
    pub group: Option<&'a Name>,
}

/// What the view of a project is made of, beside its units.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// What was configured.
    pub spec: &'a ProjectSpec,
    /// The run, if there is one.
    pub run: Option<&'a Run>,
    /// Why the run ends, or has ended, by itself.
    pub failure: Option<&'a Failure>,
}

/// One unit.
pub fn unit_view(child: &ChildView, sources: Sources<'_>, ports: Vec<PortView>) -> UnitView {
    let Sources { spec, unit, group } = sources;
    let state = unit_state(&child.state);
    let driver = match &spec.kind {
        UnitKind::Requirement(requirement) => Some(requirement.driver),
        UnitKind::Service(_) | UnitKind::Task(_) => None,
    };
    let probed = spec.ready.is_some() || driver.is_some();
    let is_elsewhere = matches!(driver, Some(Driver::External | Driver::Shared));
    let is_contained = driver == Some(Driver::Container) || !unit.containers.is_empty();
    UnitView {
        name: child.id.to_string(),
        kind: spec.kind.as_str().to_owned(),
        state,
        desired: match child.desired {
            engine::Desired::Up => Desired::Up,
            engine::Desired::Down => Desired::Down,
        },
        ready: state == UnitState::Ready || (state == UnitState::Running && !probed),
        probed,
        // The pid is known until its end has been told of, which is after the engine has seen it.
        // What only stands for containers, or for somebody else's server, is no process of it.
        pid: unit.pid.filter(|_| child.state.is_alive() && !is_elsewhere && !is_contained),
        incarnation: child.incarnation.map_or(0, |incarnation| incarnation.0),
        restarts: child.restarts,
        since: unit.since.clone(),
        exit: child.last_exit.as_ref().map(exit_view),
        group: group.map(Name::to_string),
        ports,
        blocked_by: child.blocked_by.iter().map(ToString::to_string).collect(),
        cause: unit.cause.clone().or_else(|| child.cause.as_ref().map(ToString::to_string)),
        hint: unit.hint.clone(),
        critical: spec.child.critical,
        cpu_ms: None,
        memory: None,
        uptime_ms: None,
        containers: if child.state.is_alive() { unit.containers.clone() } else { Vec::new() },
        adopted: unit.adopted,
        escaped: unit.escaped.clone(),
        warnings: unit.warnings.iter().chain(&unit.log_trouble).chain(&unit.degraded).cloned().collect(),
        shared: None,
        failures: unit.failures,
        degraded: !unit.degraded.is_empty(),
        driver: driver.map(|driver| if is_contained { Driver::Container } else { driver }.as_str().to_owned()),
    }
}

/// The whole project.
pub fn project_view(whole: Whole<'_>, units: Vec<UnitView>) -> ProjectView {
    let Whole { spec, run, failure } = whole;
    let state = match (failure, run) {
        (Some(_), Some(_)) => ProjectState::Stopping,
        (Some(_), None) => ProjectState::Failed,
        (None, run) => project_state(run.is_some_and(|run| run.closing), &units),
    };
    ProjectView {
        name: spec.name.to_string(),
        root: spec.root.clone(),
        run: run.map(|run| run.id.clone()),
        state,
        units,
        cause: failure.map(|failure| failure.cause.clone()),
        caused_by: failure.map(|failure| failure.unit.clone()),
    }
}

/// Sums the units up.
pub fn project_state(stopping: bool, units: &[UnitView]) -> ProjectState {
    let alive = |unit: &UnitView| {
        matches!(unit.state, UnitState::Starting | UnitState::Running | UnitState::Ready | UnitState::Stopping)
    };
    let wanted = || units.iter().filter(|unit| unit.desired == Desired::Up);
    if units.iter().all(|unit| unit.desired == Desired::Down) {
        return if stopping || units.iter().any(alive) { ProjectState::Stopping } else { ProjectState::Down };
    }
    if wanted().any(|unit| unit.state == UnitState::Failed && unit.critical) {
        return ProjectState::Failed;
    }
    if wanted().any(|unit| unit.state == UnitState::Failed) {
        return ProjectState::Degraded;
    }
    if wanted().all(UnitView::is_settled) { ProjectState::Up } else { ProjectState::Starting }
}

fn unit_state(state: &ChildState) -> UnitState {
    match state {
        ChildState::Pending => UnitState::Pending,
        ChildState::Starting => UnitState::Starting,
        ChildState::Running => UnitState::Running,
        ChildState::Ready => UnitState::Ready,
        ChildState::Stopping => UnitState::Stopping,
        ChildState::Backoff { .. } => UnitState::Backoff,
        ChildState::Stopped => UnitState::Stopped,
        ChildState::Done => UnitState::Done,
        ChildState::Failed => UnitState::Failed,
    }
}
