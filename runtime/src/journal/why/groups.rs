//! What groups and edges add to an explanation: who restarts together, which budget is used, and who was given up with whom.

use super::Teller;
use super::phrases::{STARTS, duration, number, text};
use crate::journal::events::EventKind as Kind;

// === impl Teller ===

impl Teller<'_> {
    /// A restart that another unit brought along, over an edge or with a group: what happened to that unit is the reason.
    pub(super) fn tell_taken_along(&mut self, stopping: usize, other: &str) {
        self.use_event(stopping);
        let event = &self.events[stopping];
        let cause = event.cause.clone().unwrap_or_else(|| format!("{other} was restarted"));
        let group = text(event, "group").map(str::to_owned);
        self.lines.push(format!("restarted at {}: {cause}", self.time(stopping)));
        if let Some(group) = group {
            self.tell_group_budget(&group);
        }
        self.tell_other(other);
    }

    /// That the crash before the restart at `restart` took others of its group along, if it did.
    pub(super) fn tell_together(&mut self, unit: &str, restart: usize) {
        let began = self.last(unit, &STARTS, restart).unwrap_or(0);
        let next = (restart..self.events.len())
            .find(|at| STARTS.iter().any(|kind| self.is(*at, *kind)) && self.events[*at].unit.as_deref() == Some(unit));
        let of_unit =
            |at: &usize| self.is(*at, Kind::GroupRestarting) && self.events[*at].unit.as_deref() == Some(unit);
        if let Some(at) = (began..next.unwrap_or(self.events.len())).rev().find(of_unit) {
            self.tell_event(at);
        }
    }

    /// How much of a group's budget is used, by the last word about it.
    fn tell_group_budget(&mut self, group: &str) {
        let told = (0..self.events.len()).rev().find(|at| {
            let event = &self.events[*at];
            self.is(*at, Kind::GroupRestarting)
                && text(event, "group") == Some(group)
                && number(event, "intensity").is_some()
        });
        let Some(at) = told else { return };
        self.use_event(at);
        let event = &self.events[at];
        let count = |detail| number(event, detail).unwrap_or(0);
        let (used, allowed, period) = (count("restart"), count("intensity"), duration(count("period_ms")));
        self.lines.push(format!("group {group} had used {used} of {allowed} restarts in {period}"));
    }

    /// What else came down when `unit` was given up: its group, or the whole project.
    pub(super) fn tell_consequences(&mut self, unit: &str) {
        let began = self.last(unit, &STARTS, usize::MAX).unwrap_or(0);
        for kind in [Kind::GroupFailed, Kind::ProjectFailed] {
            let fell: Vec<usize> = (began..self.events.len())
                .filter(|at| self.is(*at, kind) && self.events[*at].unit.as_deref() == Some(unit))
                .collect();
            for at in fell {
                self.tell_event(at);
            }
        }
    }

    /// Why a group was given up, if the journal says so.
    pub(super) fn tell_given_up(&mut self, group: &str) {
        let of_group = |at: &usize| self.is(*at, Kind::GroupFailed) && text(&self.events[*at], "group") == Some(group);
        if let Some(at) = (0..self.events.len()).rev().find(of_group) {
            self.tell_event(at);
        }
    }

    /// One event in its own words, once.
    fn tell_event(&mut self, at: usize) {
        self.use_event(at);
        let line = self.events[at].message.clone();
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }
}
