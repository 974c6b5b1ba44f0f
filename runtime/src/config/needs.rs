//! `needs`: what a unit waits for, read here and tied to its targets here.

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Condition, Edge, Then};

use super::diagnostic::Findings;
use super::model::{Draft, Model, Need};
use super::nearest::unit_hint;
use super::origin::At;
use super::reader::{Reader, Wanted, text, wrong_type};
use super::supervise::{choice, one_of};
use super::tree::{Node, Value};
use crate::spec::UnitKind;

const CONDITIONS: [(&str, Condition); 3] =
    [("started", Condition::Started), ("ready", Condition::Ready), ("done", Condition::Done)];

const THENS: [(&str, Then); 3] = [("ignore", Then::Ignore), ("restart", Then::Restart), ("stop", Then::Stop)];

const NEEDS: Wanted =
    Wanted { what: "an array of units or a table of conditions", example: "[\"a\", \"b\"] or { a = \"ready\" }" };

const NEED: Wanted = Wanted {
    what: "a condition or a table",
    example: "\"started\", \"ready\", \"done\" or { is = \"ready\", then = \"restart\" }",
};

/// Reads `needs` of a unit.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>) -> Vec<Need> {
    let path = reader.path("needs");
    let Some(node) = reader.node("needs") else {
        return Vec::new();
    };
    match &node.value {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| text(findings, item, &format!("each element of {path}")))
            .map(|name| Need { on: At { value: name.value.to_owned(), at: name.at }, is: None, then: Then::Ignore })
            .collect(),
        Value::Table(table) => table
            .iter()
            .filter_map(|(name, entry)| {
                let on = At { value: name.clone(), at: entry.key_at.clone() };
                need(findings, on, &entry.node, &format!("`{name}` in {path}"))
            })
            .collect(),
        _ => wrong_type(findings, node, &path, &NEEDS).unwrap_or_default(),
    }
}

fn need(findings: &mut Findings, on: At<String>, node: &Node, path: &str) -> Option<Need> {
    match &node.value {
        Value::Text(_) => {
            let word = text(findings, node, path)?;
            let is = one_of(findings, &word, path, &CONDITIONS)?;
            Some(Need { on, is: Some(At { value: is, at: word.at }), then: Then::Ignore })
        }
        Value::Table(table) => {
            let mut reader = Reader::new(path.to_owned(), table);
            let is = choice(findings, &mut reader, "is", &CONDITIONS);
            let is = reader.node("is").zip(is).map(|(node, is)| At { value: is, at: node.at.clone() });
            let then = choice(findings, &mut reader, "then", &THENS).unwrap_or(Then::Ignore);
            reader.finish(findings);
            Some(Need { on, is, then })
        }
        _ => wrong_type(findings, node, path, &NEED),
    }
}

/// The edges of every unit, in the order of the units; needs that cannot be are noted and left out.
pub(super) fn edges(findings: &mut Findings, model: &Model) -> Vec<Vec<Edge>> {
    model.drafts.iter().map(|draft| edges_of(findings, model, draft)).collect()
}

fn edges_of(findings: &mut Findings, model: &Model, draft: &Draft) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    for need in &draft.needs {
        if findings.is_full() {
            break;
        }
        if need.on.value == draft.name().as_str() {
            findings
                .error("self-need", &need.on.at, format!("{} needs itself", draft.label()))
                .hint(format!("take `{}` out of its own `needs`", need.on.value));
        } else if edges.iter().any(|edge| edge.on.as_str() == need.on.value) {
            findings
                .error("twice", &need.on.at, format!("{} needs `{}` twice", draft.label(), need.on.value))
                .hint("keep one of the two");
        } else {
            edges.extend(edge(findings, model, draft, need));
        }
    }
    edges
}

fn edge(findings: &mut Findings, model: &Model, draft: &Draft, need: &Need) -> Option<Edge> {
    let target = target(findings, model, draft, need)?;
    let probed = target.spec.ready.is_some() || matches!(target.spec.kind, UnitKind::Requirement(_));
    let task = matches!(target.spec.kind, UnitKind::Task(_));
    let is = need.is.as_ref().map(|is| is.value);
    let label = target.label();
    let at = need.is.as_ref().map_or(&need.on.at, |is| &is.at);
    match is {
        Some(Condition::Ready) if task => {
            findings
                .error("bad-condition", at, format!("{label} is never ready: a task ends"))
                .hint(format!("write {} = \"done\"", need.on.value));
        }
        Some(Condition::Ready) if !probed => {
            findings
                .error("bad-condition", at, format!("{label} never reports that it is ready"))
                .hint("give it a `port` or a `ready` probe, or wait for \"started\"");
        }
        Some(Condition::Done) if !task => {
            findings.error("bad-condition", at, format!("{label} is never done: only tasks end")).hint(format!(
                "write {} = \"{}\"",
                need.on.value,
                if probed { "ready" } else { "started" }
            ));
        }
        _ => {}
    }
    let natural = match (task, probed) {
        (true, _) => Condition::Done,
        (false, true) => Condition::Ready,
        (false, false) => Condition::Started,
    };
    Some(Edge { on: target.name().clone(), is: is.unwrap_or(natural), then: need.then })
}

fn target<'m>(findings: &mut Findings, model: &'m Model, draft: &Draft, need: &Need) -> Option<&'m Draft> {
    let name = need.on.value.as_str();
    if let Some(target) = model.draft(name) {
        return Some(target);
    }
    if model.bad_names.iter().any(|bad| bad == name) {
        return None;
    }
    if model.groups.iter().any(|group| group.name.as_str() == name) {
        findings
            .error(
                "unsupported",
                &need.on.at,
                format!("{} needs the group `{name}`, which is not supported yet", draft.label()),
            )
            .hint("name its members");
        return None;
    }
    let others = model.drafts.iter().map(Draft::name).filter(|other| *other != draft.name());
    let others: Vec<&str> = others.map(Name::as_str).collect();
    findings
        .error("unknown-unit", &need.on.at, format!("{} needs `{name}`, which is not there", draft.label()))
        .hint(unit_hint(name, &others));
    None
}
