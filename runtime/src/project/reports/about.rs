//! What a report means in its project: the edge it came over, the group and the budget it is about. Pure.

use envctl_supervisors::Name;
use envctl_supervisors::engine::{Cause, How, Report, What};
use envctl_supervisors::spec::{GroupSpec, Intensity, Strategy, Then};

use crate::journal::events::EventBuilder;
use crate::project::budgets::Charged;
use crate::spec::ProjectSpec;
use crate::words::{strategy_text, then_text};

/// A report in its project.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The project.
    pub(super) spec: &'a ProjectSpec,
    /// The report.
    pub(super) report: &'a Report,
}

// === impl About ===

impl<'a> About<'a> {
    /// Why, in one line, with the edge or the group that made it so.
    pub(super) fn cause_text(self, cause: &Cause) -> String {
        let id = &self.report.id;
        match (cause, &self.report.what) {
            (Cause::Dependency { on, how }, What::Stopping | What::RestartScheduled { .. }) => {
                match self.then(on).filter(|_| is_loss(*how)) {
                    Some(then) => format!("{cause}; edge then = {} took {id} along", then_text(then)),
                    None => cause.to_string(),
                }
            }
            (Cause::Group { group, by, how }, _) => self.together(group.as_ref(), by, *how),
            _ => cause.to_string(),
        }
    }

    /// The unit's own group.
    pub(super) fn group(self) -> Option<&'a GroupSpec> {
        self.spec.group_of(&self.report.id)
    }

    /// The group that a unit is in at any depth and that `is` wants.
    pub(super) fn group_above(self, is: impl Fn(&GroupSpec) -> bool) -> Option<&'a GroupSpec> {
        let mut above = self.group();
        // Each step leads to a group of its own: what the configuration let through has no circle.
        for _ in 0..self.spec.groups.len() {
            match above {
                Some(group) if !is(group) => above = self.spec.group_of(&group.id),
                found => return found,
            }
        }
        None
    }

    /// Adds the group it is about: the one that is the reason, else the unit's own.
    pub(super) fn with_group(self, event: EventBuilder) -> EventBuilder {
        match self.reason().or_else(|| self.group().map(|group| &group.id)) {
            Some(group) => event.detail("group", group.as_str()),
            None => event,
        }
    }

    /// Adds the group that is the reason, if one is.
    pub(super) fn with_reason(self, event: EventBuilder) -> EventBuilder {
        match self.reason() {
            Some(group) => event.detail("group", group.as_str()),
            None => event,
        }
    }

    /// Adds the budget that a restart is charged to.
    pub(super) fn with_budget(self, event: EventBuilder, charged: &Charged) -> EventBuilder {
        let own = || self.spec.units.get(&self.report.id).map(|unit| unit.child.intensity);
        let of_group = charged.group.as_ref().and_then(|group| self.spec.group(group)).map(|group| group.intensity);
        let event = event.detail("restart", charged.used);
        let event = match &charged.group {
            Some(group) => event.detail("group", group.as_str()),
            None => event,
        };
        match of_group.or(self.spec.flags.intensity).or_else(own) {
            Some(intensity) => with_intensity(event, intensity),
            None => event,
        }
    }

    /// `group core restarts together (one_for_all): worker crashed`.
    fn together(self, group: Option<&Name>, by: &Name, how: How) -> String {
        if how == How::Failed {
            return self.again(group, self.strategy(group), by);
        }
        let what = Cause::Dependency { on: by.clone(), how };
        format!("{}: {what}", together(group, self.strategy(group)))
    }

    /// Why a group starts again after one was given up because of `by`: itself, or one in it.
    pub(super) fn again(self, group: Option<&Name>, strategy: Strategy, by: &Name) -> String {
        let mut given_up = self.spec.group_of(by);
        let above = |inner: &GroupSpec| self.spec.group_of(&inner.id);
        match given_up {
            Some(own) if group == Some(&own.id) => {
                return format!("group {} starts again as a whole: it was given up because of {by}", own.id);
            }
            Some(_) | None => {}
        }
        // Each step leads to a group of its own: what the configuration let through has no circle.
        while let Some(outer) = given_up.and_then(above).filter(|outer| group != Some(&outer.id)) {
            given_up = Some(outer);
        }
        match given_up {
            Some(inner) => format!("{}: group {} was given up because of {by}", together(group, strategy), inner.id),
            None => format!("{}: {by} failed", together(group, strategy)),
        }
    }

    /// The group that is the reason.
    fn reason(self) -> Option<&'a Name> {
        match &self.report.cause {
            Some(Cause::Group { group, .. }) => group.as_ref(),
            Some(Cause::GroupGaveUp { group, .. }) => Some(group),
            _ => None,
        }
    }

    fn strategy(self, group: Option<&Name>) -> Strategy {
        let declared = group.and_then(|group| self.spec.group(group)).map(|group| group.strategy);
        declared.unwrap_or(self.spec.flags.strategy)
    }

    /// What the unit's edge to `on` says.
    fn then(self, on: &Name) -> Option<Then> {
        let needs = &self.spec.units.get(&self.report.id)?.child.needs;
        needs.iter().find(|edge| edge.on == *on).map(|edge| edge.then).filter(|then| *then != Then::Ignore)
    }
}

/// `group core restarts together (one_for_all)`.
pub(super) fn together(group: Option<&Name>, strategy: Strategy) -> String {
    let strategy = strategy_text(strategy);
    match group {
        Some(group) => format!("group {group} restarts together ({strategy})"),
        None => format!("all without a group restart together ({strategy})"),
    }
}

/// Adds a budget.
pub(super) fn with_intensity(event: EventBuilder, intensity: Intensity) -> EventBuilder {
    let period = u64::try_from(intensity.period.as_millis()).unwrap_or(u64::MAX);
    event.detail("intensity", intensity.restarts).detail("period_ms", period)
}

/// Whether something was lost, and not only waited for.
fn is_loss(how: How) -> bool {
    match how {
        How::Awaited(_) | How::Ordered | How::GoingDown => false,
        How::Crashed | How::Restarted | How::Stopped | How::Unready | How::Ended | How::Failed => true,
    }
}
