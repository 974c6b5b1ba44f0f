//! How much of a restart budget is used up, for people: the engine decides by counts of its own.

use std::collections::{BTreeMap, VecDeque};

use envctl_supervisors::Name;
use envctl_supervisors::engine::{Cause, Engine, Report, Time, What};
use envctl_supervisors::spec::Intensity;

use crate::spec::ProjectSpec;

/// Restarts remembered of one budget. More are never allowed in practice, and the count is only told.
const REMEMBERED_MAX: usize = 1000;

/// The restarts charged to budgets of units, and to that of all that have no group.
#[derive(Debug, Default)]
pub(super) struct Windows {
    own: BTreeMap<Name, VecDeque<Time>>,
    shared: VecDeque<Time>,
    /// The unit because of which a group was given up; what follows is charged to the group above.
    given_up: Option<Name>,
}

/// What a report is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Charged {
    /// The group whose budget it is; `None`: the unit's own, or that of all without a group.
    pub(super) group: Option<Name>,
    /// How much of it is used, this report included.
    pub(super) used: u32,
    /// Whether it is the restart of a group that was given up.
    pub(super) after_giving_up: bool,
}

// === impl Windows ===

impl Windows {
    /// Takes note of a report and says what it is charged to.
    pub(super) fn note(&mut self, report: &Report, now: Time, spec: &ProjectSpec, engine: &Engine) -> Charged {
        if matches!(report.what, What::GroupGaveUp { .. }) {
            self.given_up = Some(report.id.clone());
        }
        let follows = matches!(report.what, What::RestartScheduled { .. } | What::GroupRestarting { .. });
        let after_giving_up = follows && self.given_up.as_ref() == Some(&report.id);
        let group = owner(report, spec, after_giving_up);
        let used = match &group {
            Some(group) => engine.groups().find(|view| view.id == *group).map_or(0, |view| view.used),
            None => self.charge(report, now, spec),
        };
        if matches!(report.what, What::GroupRestarting { .. } | What::Starting | What::Restarting) {
            self.given_up = self.given_up.take().filter(|unit| *unit != report.id);
        }
        Charged { group, used, after_giving_up }
    }

    fn charge(&mut self, report: &Report, now: Time, spec: &ProjectSpec) -> u32 {
        if matches!(report.what, What::Starting) {
            // Somebody asked for it: its own count begins anew.
            self.own.remove(&report.id);
        }
        let own = spec.units.get(&report.id).map(|unit| unit.child.intensity);
        let (window, intensity) = match (spec.flags.intensity, own) {
            (Some(shared), _) => (&mut self.shared, shared),
            (None, Some(own)) => (self.own.entry(report.id.clone()).or_default(), own),
            (None, None) => return 0,
        };
        if is_charged(report) {
            window.push_back(now);
        }
        count(window, intensity, now)
    }
}

/// The group whose budget a report is charged to. The restart of a group that was given up is charged to the one above it.
fn owner(report: &Report, spec: &ProjectSpec, after_giving_up: bool) -> Option<Name> {
    let own = || spec.group_of(&report.id).map(|group| group.id.clone());
    let group = match &report.what {
        What::GroupRestarting { group, .. } | What::GroupGaveUp { group, .. } => group.clone(),
        _ => own(),
    };
    if after_giving_up && group == own() {
        return spec.group_of(&group?).map(|above| above.id.clone());
    }
    group
}

/// Whether a restart counts: one that another unit took along does not.
fn is_charged(report: &Report) -> bool {
    matches!(report.what, What::RestartScheduled { .. })
        && !matches!(report.cause, Some(Cause::Dependency { .. } | Cause::Group { .. }))
}

fn count(window: &mut VecDeque<Time>, intensity: Intensity, now: Time) -> u32 {
    let oldest = now.saturating_sub(intensity.period);
    while window.front().is_some_and(|at| *at < oldest) || window.len() > REMEMBERED_MAX {
        window.pop_front();
    }
    u32::try_from(window.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_restarts_inside_the_window_are_counted() {
        let seconds = Duration::from_secs;
        let intensity = Intensity { restarts: 3, period: seconds(5) };
        let mut window = VecDeque::from([1, 2, 6, 9].map(seconds));
        assert_eq!(count(&mut window, intensity, seconds(7)), 3, "what is exactly a period old counts");
        assert_eq!(count(&mut window, intensity, seconds(12)), 1);
    }
}
