//! The logs of a project's units: how much each keeps, and what is told when the disk does not take them.
//!
//! One task per log waits for word from the pump, which says when trouble begins and when it is over, never how it goes on: a full
//! disk is told once.

use envctl_actors::log_stream::{Health, Limits, LogStream};
use envctl_supervisors::Name;

use super::state::Project;
use super::supervisor::ProjectMessage;
use crate::config::format_size;
use crate::journal::events::EventKind;

// === impl Project ===

impl Project {
    /// What is kept of a unit's output.
    pub(super) fn log_limits(&self, id: &Name) -> Limits {
        let wish = self.spec.units.get(id).map(|unit| &unit.logs);
        wish.map_or_else(|| self.spec.logs.limits(), |wish| self.spec.logs.with(wish).limits())
    }

    /// Keeps a log that has been opened, and listens how it fares.
    pub(super) fn keep_log(&mut self, id: &Name, log: LogStream) {
        let (id, myself, stream) = (id.clone(), self.myself.clone(), log.clone());
        self.units[&id].log = Some(log);
        self.tasks.spawn(async move {
            let Ok(watched) = stream.watch().await else { return };
            let mut health = watched.health;
            while health.changed().await.is_ok() {
                let told = health.borrow_and_update().clone();
                // A project that is gone wants no news.
                let _ = myself.cast(ProjectMessage::LogHealth(id.clone(), told));
            }
        });
    }

    /// A log fares better or worse: told once, and shown while it lasts.
    pub(super) fn log_health(&mut self, id: &Name, health: &Health) {
        let dir = self.places.logs(id);
        let Some(unit) = self.units.get_mut(id) else { return };
        let before = unit.log_trouble.take();
        unit.log_trouble = health.refused.as_ref().map(|error| {
            format!("its log cannot be written ({error}): old output is deleted for new, then output is dropped and counted; {id} itself runs on")
        });
        let incarnation = self.engine.child(id.as_str()).and_then(|child| child.incarnation);
        let event = match (&health.refused, before) {
            (Some(error), _) => EventKind::LogRefused
                .event("", format!("the log of {id} cannot be written: {error}"))
                .hint(format!("make room for {}: `df` tells how much there is", dir.display()))
                .detail("error", error.as_str()),
            (None, None) => return,
            (None, Some(_)) => {
                let kind = if health.dropped_bytes > 0 { EventKind::LogGap } else { EventKind::LogResumed };
                let event = kind.event("", resumed(id, health)).detail("count", health.shed_segments);
                event.detail("bytes", health.dropped_bytes).detail("lines", health.dropped_lines)
            }
        };
        let event = event.unit(id).detail("path", dir.display().to_string());
        self.append(incarnation.map_or(event.clone(), |incarnation| event.incarnation(incarnation)));
        self.publish_soon();
    }
}

fn resumed(id: &Name, health: &Health) -> String {
    let lost = match (health.dropped_bytes, health.dropped_lines) {
        (0, _) => "nothing of it was lost".to_owned(),
        (bytes, 1) => format!("1 line ({}) of it was lost", format_size(bytes)),
        (bytes, lines) => format!("{lines} lines ({}) of it were lost", format_size(bytes)),
    };
    let shed = match health.shed_segments {
        0 => String::new(),
        1 => "; the oldest segment was deleted early".to_owned(),
        count => format!("; the {count} oldest segments were deleted early"),
    };
    format!("the log of {id} is written again; {lost}{shed}")
}
