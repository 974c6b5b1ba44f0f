//! Groups: their members, and what of their supervision is carried out in this build.
//!
//! Each unit is supervised one for one with a budget of its own. A group that asks for more is refused where ignoring it
//! would change what a crash does, and a warning where it would not.

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Escalate, Strategy};

use super::diagnostic::Findings;
use super::model::{Group, Model};
use super::nearest::unit_hint;
use super::origin::{At, Place};
use super::project::{UNITS_MAX, name};
use super::reader::{Reader, table};
use super::supervise::{choice, escalate};
use super::tree::Entry;

const STRATEGIES: [(&str, Strategy); 3] = [
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
];

/// Reads `supervision`: the group that holds all others.
pub(super) fn supervision(findings: &mut Findings, reader: &mut Reader<'_>) {
    let Some((keys, _)) = reader.table(findings, "supervision") else {
        return;
    };
    let mut inner = Reader::new("`supervision`", keys);
    strategy(findings, &mut inner);
    budget(findings, &mut inner);
    escalate(findings, &mut inner);
    if let Some(at) = inner.key_at("escalate") {
        findings.warning("unsupported", at, "`escalate` of `supervision` is not supported yet and ignored");
    }
    inner.finish(findings);
}

/// Reads `groups`, and hands down what their members have from them.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>, model: &mut Model) {
    let Some((entries, _)) = reader.table(findings, "groups") else {
        return;
    };
    if let Some((_, entry)) = entries.get_index(UNITS_MAX) {
        findings
            .error("too-many", &entry.key_at, format!("at most {UNITS_MAX} groups are supported"))
            .hint("merge some of the groups");
    }
    for (text, entry) in entries.iter().take(UNITS_MAX) {
        let group = name(findings, text, &entry.key_at).and_then(|name| group(findings, name, entry));
        match group {
            Some(group) => model.groups.push(group),
            None => model.bad_names.push(text.clone()),
        }
    }
    members(findings, model);
    hand_down(model);
}

fn group(findings: &mut Findings, name: Name, entry: &Entry) -> Option<Group> {
    let label = format!("group `{name}`");
    let (keys, _) = table(findings, &entry.node, &label)?;
    let mut inner = Reader::new(label.clone(), keys);
    let members = inner.texts(findings, "members");
    if members.is_none() && inner.node("members").is_none() {
        findings.error("bad-group", &entry.key_at, format!("{label} has no members")).hint("add `members = [\"api\"]`");
    }
    strategy(findings, &mut inner);
    budget(findings, &mut inner);
    let escalate = escalate(findings, &mut inner);
    inner.finish(findings);
    let members = members?.into_iter().map(|member| At { value: member.value.to_owned(), at: member.at }).collect();
    Some(Group { name, at: entry.key_at.clone(), members, escalate })
}

fn strategy(findings: &mut Findings, reader: &mut Reader<'_>) {
    let strategy = choice(findings, reader, "strategy", &STRATEGIES);
    if let Some(Strategy::OneForAll | Strategy::RestForOne) = strategy {
        let at = reader.key_at("strategy").cloned();
        let message = format!("{} other than \"one_for_one\" is not supported yet", reader.path("strategy"));
        if let Some(at) = at {
            findings
                .error("unsupported", &at, message)
                .hint("edges with then = \"restart\" restart dependents with what they need");
        }
    }
}

/// A budget that members share is not carried out yet: each unit has its own.
fn budget(findings: &mut Findings, reader: &mut Reader<'_>) {
    reader.count(findings, "intensity");
    reader.span(findings, "period");
    for key in ["intensity", "period"] {
        if let Some(at) = reader.key_at(key) {
            findings
                .warning("unsupported", at, format!("{} is not supported yet and ignored", reader.path(key)))
                .hint("each unit has its own: write it there");
        }
    }
}

/// Every member is there, and has one group.
fn members(findings: &mut Findings, model: &Model) {
    let mut parents: Vec<(String, Place)> = Vec::new();
    let names: Vec<String> = model.group_and_unit_names();
    for group in &model.groups {
        for member in &group.members {
            if findings.is_full() {
                return;
            }
            if let Some((_, first)) = parents.iter().find(|(name, _)| *name == member.value) {
                let message = format!("`{}` is a member twice: a unit has one group", member.value);
                findings.conflict("twice", first, &member.at, message).hint("keep one of the two");
            } else if !names.contains(&member.value) && !model.bad_names.contains(&member.value) {
                let message = format!("group `{}` names `{}`, which is not there", group.name, member.value);
                let others = names.iter().map(String::as_str).filter(|name| *name != group.name.as_str());
                let hint = unit_hint(&member.value, &others.collect::<Vec<_>>());
                findings.error("unknown-unit", &member.at, message).hint(hint);
            } else if member.value == group.name.as_str() {
                findings
                    .error("bad-group", &member.at, format!("group `{}` is a member of itself", group.name))
                    .hint(format!("take `{}` out of its own `members`", group.name));
            }
            parents.push((member.value.clone(), member.at.clone()));
        }
    }
}

/// Gives the escalation of a group to its members.
fn hand_down(model: &mut Model) {
    let escalations: Vec<(String, Escalate)> = model
        .groups
        .iter()
        .filter_map(|group| group.escalate.map(|escalate| (group, escalate)))
        .flat_map(|(group, escalate)| group.members.iter().map(move |member| (member.value.clone(), escalate)))
        .collect();
    for draft in &mut model.drafts {
        if let Some((_, escalate)) = escalations.iter().find(|(name, _)| name == draft.name().as_str()) {
            draft.spec.child.escalate = *escalate;
        }
    }
}
