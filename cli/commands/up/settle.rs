//! Whether a start has come to its end: the rule behind `up --wait` and the end of a foreground `up`.

use std::collections::{HashMap, HashSet};

use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::UpReply;
use indexmap::IndexSet;

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

/// The units of a view by name: a thousand are looked up with each of a hundred views.
struct Index<'a>(HashMap<&'a str, &'a UnitView>);

/// Which failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Those of critical units.
    Critical,
    /// All.
    All,
}

/// Looks at the units in `scope`. Failures that count decide at once; a unit that waits for one that failed is one too.
pub(crate) fn settle<'a>(view: &'a ProjectView, scope: &IndexSet<String>, counts: Counts) -> Settled<'a> {
    let units = || view.units.iter().filter(|unit| scope.contains(&unit.name));
    let index = Index::of(view);
    let counted = |unit: &UnitView| unit.critical || counts == Counts::All;
    if let Some(cause) = &view.cause {
        return Settled::Over(cause);
    }
    if let Some(failed) = units().find(|unit| counted(unit) && lost(unit)) {
        return Settled::Failed(failed);
    }
    if let Some(stuck) = units().find(|unit| counted(unit) && index.is_stuck(unit)) {
        return Settled::Failed(stuck);
    }
    let waiting: Vec<_> = units().filter(|unit| !unit.is_settled() && !lost(unit) && !index.is_stuck(unit)).collect();
    if waiting.is_empty() { Settled::Up } else { Settled::Waiting(waiting) }
}

/// Whether nothing in `scope` runs or will run by itself. A run that ends by itself is seen to its end.
pub(crate) fn ended(view: &ProjectView, scope: &IndexSet<String>) -> bool {
    if view.cause.is_some() {
        return view.run.is_none();
    }
    let index = Index::of(view);
    view.units.iter().filter(|unit| scope.contains(&unit.name)).all(|unit| match unit.state {
        UnitState::Stopped | UnitState::Done | UnitState::Failed => true,
        UnitState::Pending => index.is_stuck(unit) || unit.desired == Desired::Down,
        UnitState::Starting | UnitState::Running | UnitState::Ready | UnitState::Stopping | UnitState::Backoff => false,
    })
}

/// The units that an `up` set in motion: what was not wanted before, and what had failed, was stopped, or waited for one
/// that was lost. What was on its way by itself was set in motion by somebody else.
pub(crate) fn set_in_motion(before: Option<&ProjectView>, reply: &UpReply, scope: &IndexSet<String>) -> Vec<String> {
    let revived = |index: &Index<'_>, unit: &UnitView| match unit.state {
        UnitState::Failed | UnitState::Stopped => true,
        UnitState::Pending => unit.desired == Desired::Down || index.is_stuck(unit),
        UnitState::Starting
        | UnitState::Running
        | UnitState::Ready
        | UnitState::Stopping
        | UnitState::Backoff
        | UnitState::Done => false,
    };
    let was_revived: HashSet<&str> = before.filter(|_| reply.joined).map_or_else(HashSet::new, |view| {
        let index = Index::of(view);
        view.units.iter().filter(|unit| revived(&index, unit)).map(|unit| unit.name.as_str()).collect()
    });
    let again = scope.iter().filter(|name| was_revived.contains(name.as_str()));
    again.chain(&reply.started).cloned().collect::<IndexSet<String>>().into_iter().collect()
}

/// A unit that is down for good: it failed, or somebody stopped it meanwhile.
fn lost(unit: &UnitView) -> bool {
    unit.state == UnitState::Failed || (unit.state == UnitState::Stopped && unit.desired == Desired::Down)
}

/// The lost unit that a pending one waits for, at any distance.
pub(crate) fn culprit<'a>(view: &'a ProjectView, unit: &'a UnitView) -> Option<&'a UnitView> {
    Index::of(view).culprit(unit)
}

// === impl Index ===

impl<'a> Index<'a> {
    fn of(view: &'a ProjectView) -> Self {
        Self(view.units.iter().map(|unit| (unit.name.as_str(), unit)).collect())
    }

    /// Whether it waits for one that is lost, at any distance.
    fn is_stuck(&self, unit: &UnitView) -> bool {
        self.culprit(unit).is_some()
    }

    fn culprit(&self, unit: &UnitView) -> Option<&'a UnitView> {
        let mut open = vec![unit];
        let mut seen = HashSet::new();
        while let Some(unit) = open.pop() {
            if unit.state != UnitState::Pending || !seen.insert(unit.name.as_str()) {
                continue;
            }
            for needed in unit.blocked_by.iter().filter_map(|name| self.0.get(name.as_str())) {
                if lost(needed) {
                    return Some(needed);
                }
                open.push(needed);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
