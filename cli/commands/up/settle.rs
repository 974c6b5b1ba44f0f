//! Whether a start has come to its end: the rule behind `up --wait` and the end of a foreground `up`.

use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::UpReply;

/// How far a start is.
#[derive(Debug, PartialEq)]
pub(crate) enum Settled<'a> {
    /// These are still on their way.
    Waiting(Vec<&'a UnitView>),
    /// Everything is where it should be; failures of non-critical units are left to `ps`.
    Up,
    /// This unit cannot come up any more.
    Failed(&'a UnitView),
    /// The run ends, or has ended, by itself, for this reason.
    Over(&'a str),
}

/// Which failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Those of critical units.
    Critical,
    /// All.
    All,
}

/// Looks at the units in `scope`. Failures that count decide at once; a unit that waits for one that failed is one too.
pub(crate) fn settle<'a>(view: &'a ProjectView, scope: &[String], counts: Counts) -> Settled<'a> {
    let units = || view.units.iter().filter(|unit| scope.contains(&unit.name));
    let counted = |unit: &UnitView| unit.critical || counts == Counts::All;
    if let Some(cause) = &view.cause {
        return Settled::Over(cause);
    }
    if let Some(failed) = units().find(|unit| counted(unit) && lost(unit)) {
        return Settled::Failed(failed);
    }
    if let Some(stuck) = units().find(|unit| counted(unit) && stuck(view, unit)) {
        return Settled::Failed(stuck);
    }
    let waiting: Vec<_> = units().filter(|unit| !unit.is_settled() && !lost(unit) && !stuck(view, unit)).collect();
    if waiting.is_empty() { Settled::Up } else { Settled::Waiting(waiting) }
}

/// Whether nothing in `scope` runs or will run by itself. A run that ends by itself is seen to its end.
pub(crate) fn ended(view: &ProjectView, scope: &[String]) -> bool {
    if view.cause.is_some() {
        return view.run.is_none();
    }
    view.units.iter().filter(|unit| scope.contains(&unit.name)).all(|unit| match unit.state {
        UnitState::Stopped | UnitState::Done | UnitState::Failed => true,
        UnitState::Pending => stuck(view, unit) || unit.desired == Desired::Down,
        UnitState::Starting | UnitState::Running | UnitState::Ready | UnitState::Stopping | UnitState::Backoff => false,
    })
}

/// The units that an `up` set in motion: what was not wanted before, and what had failed, was stopped, or waited for one
/// that was lost. What was on its way by itself was set in motion by somebody else.
pub(crate) fn set_in_motion(before: Option<&ProjectView>, reply: &UpReply, scope: &[String]) -> Vec<String> {
    let revived = |view: &ProjectView, unit: &UnitView| match unit.state {
        UnitState::Failed | UnitState::Stopped => true,
        UnitState::Pending => unit.desired == Desired::Down || stuck(view, unit),
        UnitState::Starting
        | UnitState::Running
        | UnitState::Ready
        | UnitState::Stopping
        | UnitState::Backoff
        | UnitState::Done => false,
    };
    let view = before.filter(|_| reply.joined);
    let units = view.into_iter().flat_map(|view| view.units.iter().map(move |unit| (view, unit)));
    let was_revived: Vec<_> = units.filter(|(view, unit)| revived(view, unit)).map(|(_, unit)| &unit.name).collect();
    let mut started: Vec<String> = scope.iter().filter(|name| was_revived.contains(name)).cloned().collect();
    let rest: Vec<String> = reply.started.iter().filter(|name| !started.contains(name)).cloned().collect();
    started.extend(rest);
    started
}

/// A unit that is down for good: it failed, or somebody stopped it meanwhile.
fn lost(unit: &UnitView) -> bool {
    unit.state == UnitState::Failed || (unit.state == UnitState::Stopped && unit.desired == Desired::Down)
}

/// A unit that waits for one that is lost, at any distance.
fn stuck(view: &ProjectView, unit: &UnitView) -> bool {
    culprit(view, unit).is_some()
}

/// The lost unit that a pending one waits for, at any distance.
pub(crate) fn culprit<'a>(view: &'a ProjectView, unit: &'a UnitView) -> Option<&'a UnitView> {
    let mut open = vec![unit];
    let mut seen: Vec<&str> = Vec::new();
    while let Some(unit) = open.pop() {
        if unit.state != UnitState::Pending || seen.contains(&unit.name.as_str()) {
            continue;
        }
        seen.push(&unit.name);
        for needed in view.units.iter().filter(|other| unit.blocked_by.contains(&other.name)) {
            if lost(needed) {
                return Some(needed);
            }
            open.push(needed);
        }
    }
    None
}

#[cfg(test)]
mod tests;
