//! What others are told of a project: its view, its journal, and whoever waits for units to be down.

use std::collections::BTreeMap;
use std::time::Duration;

use envctl_supervisors::engine::{self, ChildView, Report, What};
use tokio::time::Instant;

use super::attributes::port_views;
use super::reports::{self, Facts};
use super::share;
use super::state::Project;
use super::supervisor::ProjectMessage;
use super::units::Unit;
use super::views::{self, Sources, Whole};
use crate::control::view::{Desired, ProjectState, ProjectView, UnitState};
use crate::control::wire::DownReply;
use crate::journal::events::{EventBuilder, EventKind};
use crate::journal::now;

/// A project of so many units tells every change at once.
const TELL_AT_ONCE_UNITS: usize = 200;
/// Pause after a view of a larger one, for each of its units: what a thousand of them tell while they start would else cost more
/// than the start.
const TELL_PAUSE_EACH: Duration = Duration::from_micros(50);
/// The longest pause: people and scripts see the state at most so old.
const TELL_PAUSE_MAX: Duration = Duration::from_millis(200);

/// When others are told next.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// A message that asks for it is under way.
    asked: bool,
    /// A timer for it is under way.
    armed: bool,
    /// Not before this.
    due: Option<Instant>,
}

// === impl Project ===

impl Project {
    /// The view as it is now.
    pub fn project_view(&self) -> ProjectView {
        let numbers = self.ports.numbers();
        let view = |child: ChildView| {
            let spec = self.spec.units.get(&child.id)?;
            let unit = self.units.get(&child.id)?;
            let empty = BTreeMap::new();
            let attributes = self.attributes.get(&child.id).unwrap_or(&empty);
            let ports = port_views(numbers.get(&child.id), &spec.kind, attributes);
            let group = self.spec.group_of(&child.id).map(|group| &group.id);
            let mut view = views::unit_view(&child, Sources { spec, unit, group }, ports);
            view.shared = self.shared.get(&child.id).map(share::use_of);
            Some(view)
        };
        let units = self.engine.children().filter_map(view).collect();
        views::project_view(Whole { spec: &self.spec, run: self.run.as_ref(), failure: self.failure.as_ref() }, units)
    }

    /// Has the state told after what has come in by now: a burst of reports is told once, and costs once what a project of
    /// a thousand units costs to look at.
    pub fn publish_soon(&mut self) {
        self.is_stale = true;
        if !std::mem::replace(&mut self.telling.asked, true) {
            // A project that cannot be reached is ending: nobody is told any more.
            let _ = self.myself.cast(ProjectMessage::Publish);
        }
    }

    /// Tells everybody the state, if it may have changed.
    pub fn publish(&mut self) {
        self.record();
        if std::mem::take(&mut self.is_stale) {
            self.tell_state();
            self.telling.due = pause_after_view_of(self.units.len()).map(|pause| Instant::now() + pause);
        }
    }

    /// Remembers at once what has changed, and tells it when that is due: what the next daemon must know waits for nothing.
    pub(super) fn publish_in_turn(&mut self) {
        self.telling.asked = false;
        let Some(due) = self.telling.due.filter(|due| self.is_stale && *due > Instant::now()) else {
            return self.publish();
        };
        self.record();
        if !std::mem::replace(&mut self.telling.armed, true) {
            let myself = self.myself.clone();
            self.tasks.spawn(async move {
                tokio::time::sleep_until(due).await;
                let _ = myself.cast(ProjectMessage::Tell);
            });
        }
    }

    /// The time has come that [`Self::publish_in_turn`] waited for.
    pub(super) fn tell_now(&mut self) {
        self.telling.armed = false;
        self.publish();
    }

    /// Remembers what has changed. Heart forgets how processes ended only when that is remembered.
    fn record(&mut self) {
        if self.is_stale {
            self.remember();
        }
        for key in std::mem::take(&mut self.recorded) {
            self.session.processes.release(key);
        }
    }

    fn tell_state(&mut self) {
        for child in self.engine.glances() {
            let Some(unit) = self.units.get_mut(child.id) else { continue };
            if unit.since_engine != Some(child.since) {
                (unit.since, unit.since_engine) = (now(), Some(child.since));
            }
        }
        let view = self.project_view();
        let before = self.view.borrow().state;
        if *self.view.borrow() == view {
            return;
        }
        self.note_state(before, &view);
        self.view.send_replace(view);
        self.session.journal.snapshot(&self.key, self.view.subscribe());
        while self.tasks.try_join_next().is_some() {}
    }

    fn note_state(&self, before: ProjectState, view: &ProjectView) {
        let now = view.state;
        if before == now || self.run.is_none() {
            return;
        }
        let failed = || view.units.iter().find(|unit| unit.state == UnitState::Failed && unit.desired == Desired::Up);
        let name = &self.spec.name;
        let with_unit = |event: EventBuilder| match failed() {
            Some(unit) => event.detail("caused_by", unit.name.as_str()),
            None => event,
        };
        match now {
            ProjectState::Up => {
                let took = self.run.as_ref().map_or(0, |run| run.started.elapsed().as_millis());
                let event = EventKind::RunUp.event("", format!("{name} is up"));
                self.append(event.detail("took_ms", u64::try_from(took).unwrap_or(u64::MAX)));
            }
            ProjectState::Failed => {
                self.append(with_unit(EventKind::RunFailed.event("", format!("{name} has failed"))))
            }
            ProjectState::Degraded => {
                self.append(with_unit(EventKind::RunDegraded.event("", format!("{name} is degraded"))));
            }
            ProjectState::Stopping => self.append(EventKind::RunStopping.event("", format!("{name} is going down"))),
            ProjectState::Starting | ProjectState::Down => {}
        }
    }

    /// Answers those whose units are down by now.
    pub(super) fn answer_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for wait in waiting {
            let down = match wait.units.as_slice() {
                [] => self.run.is_none(),
                units => {
                    units.iter().all(|id| self.engine.child(id.as_str()).is_none_or(|child| !child.state.is_alive()))
                }
            };
            if !down {
                self.waiting.push(wait);
                continue;
            }
            self.publish();
            let escaped = self.units.iter().filter(|(_, unit)| !unit.escaped.is_empty());
            let escaped = escaped.map(|(id, unit)| (id.to_string(), unit.escaped.clone())).collect();
            let killed = self.killed.iter().filter(|killed| wait.concerns(&killed.unit)).cloned().collect();
            let reply = DownReply { project: self.spec.name.to_string(), was_up: true, escaped, killed };
            let _ = wait.reply.send(Ok(reply));
        }
        if self.waiting.is_empty() {
            (self.killed, self.hurry) = (Vec::new(), None);
        }
        if !self.is_stopping() {
            while let Some(message) = self.later.pop_front() {
                let _ = self.myself.cast(message);
            }
        }
    }

    /// Whether a unit was given up and is started again all the same, because its group is: the group's events tell that.
    fn is_restarted_with_its_group(&self, report: &Report) -> bool {
        let state = self.engine.child(report.id.as_str()).map(|child| child.state);
        matches!(report.what, What::GaveUp { .. }) && state.is_some_and(|state| state != engine::ChildState::Failed)
    }

    pub(super) fn report(&mut self, report: &Report) {
        let charged = self.windows.note(report, self.epoch.elapsed(), &self.spec, &self.engine);
        let is_lost = |unit: &Unit| unit.lost && report.what == What::Adopted;
        if self.is_restarted_with_its_group(report) || self.units.get(&report.id).is_some_and(is_lost) {
            return;
        }
        let wanted = match report.what {
            What::GroupRestarting { .. } => self.wanted(),
            _ => Vec::new(),
        };
        if let Some(unit) = self.units.get_mut(&report.id) {
            unit.note(report);
            let oom =
                unit.oom.then(|| self.spec.units.get(&report.id)).flatten().map(|unit| unit.confines.limits.memory);
            let facts = Facts { spec: &self.spec, pid: unit.pid, charged: &charged, wanted: &wanted, oom };
            let run = self.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
            self.session.journal.append(&self.key, reports::event(run, report, facts));
        }
        self.note_killed(report);
        if let What::Ending(ending) = &report.what {
            self.fail(&report.id, ending);
        }
        if report.what == What::Removed {
            self.ports.forget(&report.id);
            self.data_leases.remove(&report.id);
            if let Some(log) = self.units.shift_remove(&report.id).and_then(|unit| unit.log) {
                log.actor().stop(None);
            }
        }
    }
}

/// How long a view waits after one of so many units; `None`: not at all.
fn pause_after_view_of(units: usize) -> Option<Duration> {
    let pause = TELL_PAUSE_EACH.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
    (units > TELL_AT_ONCE_UNITS).then_some(pause.min(TELL_PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_project_tells_each_change_at_once_and_a_large_one_within_a_fifth_of_a_second() {
        assert_eq!(pause_after_view_of(200), None);
        assert_eq!(pause_after_view_of(1_000), Some(Duration::from_millis(50)));
        assert_eq!(pause_after_view_of(1_000_000), Some(TELL_PAUSE_MAX));
    }
}
