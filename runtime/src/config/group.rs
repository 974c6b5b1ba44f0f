//! Reads `groups` and `supervision`. Whether the groups fit the units and each other is seen by `membership`.

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Escalate, Flags, INTENSITY_DEFAULT, Strategy};

use super::diagnostic::Findings;
use super::model::{Group, Model};
use super::origin::At;
use super::project::{UNITS_MAX, name};
use super::reader::{Reader, table};
use super::supervise::{choice, escalate, intensity};
use super::tree::Entry;
use crate::words::strategy_text;

const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];

/// Reads `supervision`: written at all, it is the group of everything that has none.
pub(super) fn supervision(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<At<Flags>> {
    let (keys, _) = reader.table(findings, "supervision")?;
    let at = reader.key_at("supervision")?.clone();
    let mut inner = Reader::new("`supervision`", keys);
    let flags = Flags::default();
    let value = Flags {
        strategy: strategy(findings, &mut inner).unwrap_or(flags.strategy),
        intensity: Some(intensity(findings, &mut inner, INTENSITY_DEFAULT)),
        escalate: escalate(findings, &mut inner).unwrap_or(flags.escalate),
        ..flags
    };
    inner.finish(findings);
    Some(At { value, at })
}

/// Reads `groups`.
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
}

fn group(findings: &mut Findings, name: Name, entry: &Entry) -> Option<Group> {
    let label = format!("group `{name}`");
    let (keys, _) = table(findings, &entry.node, &label)?;
    let mut inner = Reader::new(label.clone(), keys);
    let written = inner.node("members");
    let members = inner.texts(findings, "members");
    if written.is_none() || members.as_ref().is_some_and(Vec::is_empty) {
        let at = written.map_or(&entry.key_at, |node| &node.at);
        findings
            .error("bad-group", at, format!("{label} has no members"))
            .hint("write members = [\"api\", \"worker\"]");
    }
    let strategy = strategy(findings, &mut inner).unwrap_or(Strategy::OneForOne);
    let intensity = intensity(findings, &mut inner, INTENSITY_DEFAULT);
    let escalate = escalate(findings, &mut inner).unwrap_or(Escalate::Isolate);
    inner.finish(findings);
    let members = members?.into_iter().map(|member| At { value: member.value.to_owned(), at: member.at }).collect();
    Some(Group { name, at: entry.key_at.clone(), members, strategy, intensity, escalate })
}

fn strategy(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<Strategy> {
    choice(findings, reader, "strategy", &STRATEGIES.map(|strategy| (strategy_text(strategy), strategy)))
}
