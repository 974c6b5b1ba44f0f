//! The events of groups: restarted together, given up, and taking the whole project along. Pure.

use envctl_supervisors::Name;
use envctl_supervisors::engine::{Cause, Ending, Limit};
use envctl_supervisors::spec::{Escalate, Strategy};

use super::about::{About, together, with_intensity};
use super::{Facts, with_limit};
use crate::journal::events::{EventBuilder, EventKind};
use crate::spec::ProjectSpec;
use crate::words::{escalate_text, strategy_text};

/// A restart of several at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Together<'a> {
    /// The group; `None`: all that have none.
    pub(super) group: Option<&'a Name>,
    /// Who is concerned.
    pub(super) strategy: Strategy,
    /// How many, by the engine's count.
    pub(super) members: usize,
}

/// A group restarts members together.
pub(super) fn restarting(run: &str, about: About<'_>, what: Together<'_>, facts: Facts<'_>) -> EventBuilder {
    let Together { group, strategy, members } = what;
    let id = &about.report.id;
    let units: Vec<String> = concerned(about.spec, what, id)
        .into_iter()
        .filter(|unit| unit == id || facts.wanted.contains(unit))
        .map(|unit| unit.to_string())
        .collect();
    let message = match facts.charged.after_giving_up {
        true => about.again(group, strategy, id),
        false => format!("{}: {id} crashed", together(group, strategy)),
    };
    let event = EventKind::GroupRestarting.event(run, message).detail("units", units);
    let event = about.with_budget(event.detail("count", members).detail("caused_by", id.as_str()), facts.charged);
    named(event, group).detail("strategy", strategy_text(strategy))
}

/// A group, or what has none, used a budget up. With `isolate` only the unit that did it is given up.
pub(super) fn gave_up(
    run: &str,
    about: About<'_>,
    group: Option<&Name>,
    limit: &Limit,
    escalate: Escalate,
) -> EventBuilder {
    let id = &about.report.id;
    let limit_text = Cause::from(*limit);
    let whose = match group {
        Some(group) => format!("group {group}"),
        None => "everything without a group".to_owned(),
    };
    if escalate == Escalate::Isolate {
        let message = format!("{id} is given up: {whose} has no restart left, {limit_text}");
        return with_limit(about.with_group(EventKind::UnitFailed.event(run, message)), limit);
    }
    let message = format!("{whose} was given up: {limit_text}");
    let event = with_limit(named(EventKind::GroupFailed.event(run, message), group), limit);
    let event = event.detail("caused_by", id.as_str()).detail("escalate", escalate_text(escalate));
    with_members(event, about.spec, group)
}

/// The whole project ends.
pub(super) fn ending(run: &str, about: About<'_>, ending: &Ending) -> EventBuilder {
    let (id, name) = (&about.report.id, &about.spec.name);
    let why = match ending {
        Ending::GaveUp => format!("{id} was given up"),
        Ending::AutoShutdown => format!("{id} ended"),
        Ending::FirstStart(error) => format!("{id} failed to {error}"),
    };
    let event = EventKind::ProjectFailed.event(run, format!("{name} ends as a whole: {why}"));
    let event = event.detail("caused_by", id.as_str());
    let group = about.group_above(|group| group.escalate == Escalate::Project);
    let event = with_members(named(event, group.map(|group| &group.id)), about.spec, group.map(|group| &group.id));
    let own = || about.spec.units.get(id).map(|unit| unit.child.intensity);
    let intensity = group.map(|group| group.intensity).or(about.spec.flags.intensity).or_else(own);
    match intensity {
        Some(intensity) => with_intensity(event, intensity),
        None => event,
    }
}

fn named(event: EventBuilder, group: Option<&Name>) -> EventBuilder {
    match group {
        Some(group) => event.detail("group", group.as_str()),
        None => event,
    }
}

fn with_members(event: EventBuilder, spec: &ProjectSpec, group: Option<&Name>) -> EventBuilder {
    let Some(group) = group.and_then(|group| spec.group(group)) else { return event };
    let units: Vec<String> = spec.units_in(&group.id).iter().map(Name::to_string).collect();
    event.detail("units", units).detail("strategy", strategy_text(group.strategy))
}

/// The units that a strategy concerns when `offender` failed, in the order of the group.
fn concerned(spec: &ProjectSpec, what: Together<'_>, offender: &Name) -> Vec<Name> {
    let members: Vec<Vec<Name>> = match what.group.and_then(|group| spec.group(group)) {
        Some(group) => group.members.iter().map(|member| spec.units_in(member)).collect(),
        None => spec.units.keys().filter(|unit| spec.group_of(unit).is_none()).map(|unit| vec![unit.clone()]).collect(),
    };
    let first = match what.strategy {
        Strategy::OneForAll => 0,
        Strategy::OneForOne | Strategy::RestForOne => {
            members.iter().position(|units| units.contains(offender)).unwrap_or(0)
        }
    };
    let count = if what.strategy == Strategy::OneForOne { 1 } else { members.len() };
    members.into_iter().skip(first).take(count).flatten().collect()
}
