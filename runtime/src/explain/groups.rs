//! What groups add to an explanation: who shares a budget, and who starts after whom.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Escalate, GroupSpec, Intensity, Strategy};
use serde::Serialize;

use crate::config::format_duration;
use crate::spec::{ProjectSpec, UnitSpec};
use crate::words::{escalate_text, strategy_text};

/// A declared group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupExplained {
    /// Its name.
    pub group: String,
    /// The group it is in, if any.
    pub parent: Option<String>,
    /// Its members in order: each starts after the one before it is up.
    pub members: Vec<String>,
    /// What its members share.
    #[serde(flatten)]
    pub shared: SharedBudget,
}

/// What the members of a group share, or all that have none under `[supervision]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedBudget {
    /// `one_for_one`, `one_for_all` or `rest_for_one`.
    pub strategy: String,
    /// Restarts allowed within `period_ms`.
    pub intensity: u32,
    /// The window, in milliseconds.
    pub period_ms: u64,
    /// What giving up means: `isolate`, `group` or `project`.
    pub escalate: String,
    /// All of it in words.
    pub text: String,
}

/// The units that start before each unit because of the order of its groups, over any number of levels.
pub(super) fn order(spec: &ProjectSpec) -> BTreeMap<Name, Vec<Name>> {
    let mut order: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for group in &spec.groups {
        for (before, after) in group.members.iter().zip(group.members.iter().skip(1)) {
            let earlier = spec.units_in(before);
            for unit in spec.units_in(after) {
                order.entry(unit).or_default().extend(earlier.iter().cloned());
            }
        }
    }
    order
}

/// The declared groups in the order of the file.
pub(super) fn explained(spec: &ProjectSpec) -> Vec<GroupExplained> {
    let one = |group: &GroupSpec| GroupExplained {
        group: group.id.to_string(),
        parent: spec.group_of(&group.id).map(|parent| parent.id.to_string()),
        members: group.members.iter().map(Name::to_string).collect(),
        shared: shared(group.strategy, group.intensity, group.escalate),
    };
    spec.groups.iter().map(one).collect()
}

/// The budget of everything without a group, if `[supervision]` is written.
pub(super) fn supervision(spec: &ProjectSpec) -> Option<SharedBudget> {
    spec.flags.intensity.map(|intensity| shared(spec.flags.strategy, intensity, spec.flags.escalate))
}

/// The budget a unit's restarts are charged to, in words.
pub(super) fn budget_text(spec: &ProjectSpec, unit: &UnitSpec) -> String {
    match (spec.group_of(&unit.child.id), supervision(spec)) {
        (Some(group), _) => format!("that of group {}", group.id),
        (None, Some(shared)) => format!("that of all without a group: {}", shared.text),
        (None, None) => text(unit.child.intensity, unit.child.escalate),
    }
}

fn shared(strategy: Strategy, intensity: Intensity, escalate: Escalate) -> SharedBudget {
    SharedBudget {
        strategy: strategy_text(strategy).to_owned(),
        intensity: intensity.restarts,
        period_ms: u64::try_from(intensity.period.as_millis()).unwrap_or(u64::MAX),
        escalate: escalate_text(escalate).to_owned(),
        text: format!("{}, {}", strategy_text(strategy), text(intensity, escalate)),
    }
}

fn text(intensity: Intensity, escalate: Escalate) -> String {
    let Intensity { restarts, period } = intensity;
    let then = match escalate {
        Escalate::Isolate => "the unit is given up",
        Escalate::Group => "the group is given up",
        Escalate::Project => "the project ends",
    };
    let period = format_duration(period);
    match restarts {
        0 => format!("no restart, then {then}"),
        1 => format!("1 restart in {period}, then {then}"),
        _ => format!("{restarts} restarts in {period}, then {then}"),
    }
}
