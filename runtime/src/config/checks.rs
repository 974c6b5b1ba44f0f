//! What only shows when the whole project is seen: names, cycles, ports and references.

use std::collections::{BTreeSet, HashMap, HashSet};

use envctl_supervisors::Name;
use envctl_supervisors::spec::Edge;

use super::diagnostic::Findings;
use super::membership;
use super::model::{Draft, Model, Reference, UNNAMED_PORT, Usage};
use super::nearest::{nearest, unit_hint};
use super::origin::Place;
use crate::spec::{UnitKind, UnitSpec};

/// Most cycles told: breaking one often breaks the others.
const CYCLES_MAX: usize = 10;

/// Last number tried to find a free name.
const RENAMES_MAX: usize = 99;

/// Longest cycle that is told name by name.
const CYCLE_SHOWN_MAX: usize = 24;

/// Runs every check. `edges` are the needs that could be tied, unit by unit.
pub(super) fn run(findings: &mut Findings, model: &Model, edges: &[Vec<Edge>]) {
    names(findings, model);
    cycles(findings, model, edges);
    membership::run(findings, model, edges);
    ports(findings, model);
    references(findings, model, edges);
    shells(findings, model);
}

/// One namespace; and names that become the same variable are the same name.
fn names(findings: &mut Findings, model: &Model) {
    let mut seen: HashMap<String, (String, &Name, &Place)> = HashMap::new();
    let units = model.drafts.iter().map(|draft| (draft.label(), draft.name(), &draft.at));
    let groups = model.groups.iter().map(|group| (format!("group `{}`", group.name), &group.name, &group.at));
    let group_names = model.groups.iter().map(|group| &group.name);
    let taken = model.drafts.iter().map(Draft::name).chain(group_names).map(Name::to_variable).collect();
    for (label, name, at) in units.chain(groups) {
        match seen.get(&name.to_variable()) {
            Some((other, same, first)) if *same == name => {
                findings
                    .conflict("name-twice", first, at, format!("{label} has the name of {other}"))
                    .hint(rename(name, &taken));
            }
            Some((other, _, first)) => {
                let message = format!(
                    "{label} and {other} differ only in `-` and `_`: both would be `{}_URL`",
                    name.to_variable()
                );
                findings.conflict("name-twice", first, at, message).hint(rename(name, &taken));
            }
            None => drop(seen.insert(name.to_variable(), (label, name, at))),
        }
    }
}

/// What to write for a name that is taken.
fn rename(name: &Name, taken: &HashSet<String>) -> String {
    let free = (2..=RENAMES_MAX).filter_map(|n| Name::new(&format!("{name}-{n}")).ok());
    match free.into_iter().find(|free| !taken.contains(&free.to_variable())) {
        Some(free) => format!("rename one of the two, for example to `{free}`"),
        None => "rename one of the two".to_owned(),
    }
}

/// Takes away what needs nothing that is left, until only cycles and what hangs on them remain; then walks one cycle,
/// tells it, cuts it and goes on. No recursion: a long chain must not overflow the stack.
fn cycles(findings: &mut Findings, model: &Model, edges: &[Vec<Edge>]) {
    let of = |edges: &Vec<Edge>| edges.iter().filter_map(|edge| model.position(edge.on.as_str())).collect();
    let mut targets: Vec<BTreeSet<usize>> = edges.iter().map(of).collect();
    for _ in 0..CYCLES_MAX {
        let left = cyclic(&targets);
        let Some(first) = left.first() else { return };
        let cycle = walk(*first, &targets, &left);
        let last = cycle[cycle.len() - 1];
        tell_cycle(findings, model, &cycle);
        targets[last].remove(&cycle[0]);
    }
}

/// The units that are on a cycle or depend on one.
fn cyclic(targets: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); targets.len()];
    for (unit, needs) in targets.iter().enumerate() {
        needs.iter().for_each(|need| dependents[*need].push(unit));
    }
    let mut waits_for: Vec<usize> = targets.iter().map(BTreeSet::len).collect();
    let mut free: Vec<usize> = (0..targets.len()).filter(|unit| waits_for[*unit] == 0).collect();
    while let Some(unit) = free.pop() {
        for dependent in &dependents[unit] {
            waits_for[*dependent] -= 1;
            if waits_for[*dependent] == 0 {
                free.push(*dependent);
            }
        }
    }
    (0..targets.len()).filter(|unit| waits_for[*unit] > 0).collect()
}

/// Follows needs from `start` until a unit comes again; the cycle begins at its unit that is first in the file.
fn walk(start: usize, targets: &[BTreeSet<usize>], left: &BTreeSet<usize>) -> Vec<usize> {
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let next =
            targets[last].intersection(left).next().copied().expect("invariant: all that is left needs what is left");
        if let Some(begin) = path.iter().position(|unit| *unit == next) {
            let mut cycle = path.split_off(begin);
            let smallest = cycle.iter().enumerate().min_by_key(|(_, unit)| **unit).map_or(0, |(at, _)| at);
            cycle.rotate_left(smallest);
            return cycle;
        }
        path.push(next);
    }
}

fn tell_cycle(findings: &mut Findings, model: &Model, cycle: &[usize]) {
    let name = |unit: &usize| model.drafts[*unit].name().as_str();
    let (first, last) = (name(&cycle[0]), &model.drafts[cycle[cycle.len() - 1]]);
    let path: Vec<&str> = cycle.iter().map(name).chain([first]).collect();
    if let Some(need) = last.needs.iter().find(|need| need.on.value == first) {
        findings
            .error("cycle", &need.on.at, format!("units need each other in a circle: {}", shorten(&path)))
            .hint("take one of these needs away: nothing could start first");
    }
}

/// The path of a cycle; of a very long one its two ends.
fn shorten(path: &[&str]) -> String {
    if path.len() <= CYCLE_SHOWN_MAX {
        return path.join(" → ");
    }
    let (head, tail) = (&path[..CYCLE_SHOWN_MAX / 2], &path[path.len() - CYCLE_SHOWN_MAX / 2..]);
    format!("{} → {} more → {}", head.join(" → "), path.len() - CYCLE_SHOWN_MAX / 2 * 2, tail.join(" → "))
}

/// Two units with the same base would swap ports with their order of start.
fn ports(findings: &mut Findings, model: &Model) {
    let taken: HashSet<u16> = model.drafts.iter().flat_map(|draft| &draft.bases).map(|base| base.value).collect();
    let mut seen: HashMap<u16, (String, &Place)> = HashMap::new();
    for draft in &model.drafts {
        for base in &draft.bases {
            match seen.get(&base.value) {
                Some((other, first)) => {
                    let message = format!("port {} of {} is also the port of {other}", base.value, draft.label());
                    findings.conflict("port-twice", first, &base.at, message).hint(other_port(base.value, &taken));
                }
                None => drop(seen.insert(base.value, (draft.label(), &base.at))),
            }
        }
    }
}

/// What to write for a port that is taken.
fn other_port(base: u16, taken: &HashSet<u16>) -> String {
    let free = (base..=u16::MAX).chain(1..base).find(|port| !taken.contains(port));
    free.map_or_else(|| "take one of the two away".to_owned(), |free| format!("write another one, such as {free}"))
}

fn references(findings: &mut Findings, model: &Model, edges: &[Vec<Edge>]) {
    for reference in &model.references {
        if findings.is_full() {
            return;
        }
        check_reference(findings, model, reference);
    }
    for (unit, draft) in model.drafts.iter().enumerate() {
        let mut needed = None;
        for reference in &draft.references {
            if findings.is_full() {
                return;
            }
            let Some(target) = check_reference(findings, model, reference) else {
                continue;
            };
            if target.name() == draft.name() || !matches!(target.spec.kind, UnitKind::Requirement(_)) {
                continue;
            }
            let needed = needed.get_or_insert_with(|| all_needs(unit, model, edges));
            if !needed.contains(target.name()) {
                not_needed(findings, draft, reference);
            }
        }
    }
}

/// The unit a reference means, if it and its attribute are there.
fn check_reference<'m>(findings: &mut Findings, model: &'m Model, reference: &Reference) -> Option<&'m Draft> {
    let Reference { unit, attribute, at, .. } = reference;
    let Some(target) = model.draft(unit.as_str()) else {
        if !model.bad_names.iter().any(|bad| bad == unit.as_str()) {
            unknown_unit(findings, model, reference);
        }
        return None;
    };
    let known = attributes(&target.spec);
    let Some((_, secret)) = known.iter().find(|(name, _)| name == attribute) else {
        let hint = match nearest(attribute, known.iter().map(|(name, _)| name.as_str())) {
            Some(near) => format!("did you mean `${{{unit}.{near}}}`?"),
            None if known.is_empty() => format!("{} has no attributes; give it a `port`", target.label()),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                format!("it has {}", names.join(", "))
            }
        };
        findings
            .error("unknown-attribute", at, format!("{} has no attribute `{attribute}`", target.label()))
            .hint(hint);
        return None;
    };
    if *secret && reference.usage == Usage::Argument {
        findings
            .error(
                "secret-in-cmd",
                at,
                format!("`${{{unit}.{attribute}}}` is secret, and arguments can be read by everybody"),
            )
            .hint(format!(
                "pass it in the environment: env = {{ {} = \"${{{unit}.{attribute}}}\" }}",
                variable(unit, attribute)
            ));
    }
    Some(target)
}

fn unknown_unit(findings: &mut Findings, model: &Model, reference: &Reference) {
    let Reference { unit, attribute, at, .. } = reference;
    let names: Vec<&str> = model.drafts.iter().map(|draft| draft.name().as_str()).collect();
    let hint = match nearest(unit.as_str(), names.iter().copied()) {
        Some(near) => format!("did you mean `${{{near}.{attribute}}}`?"),
        None => unit_hint(unit.as_str(), &names),
    };
    findings.error("unknown-unit", at, format!("`${{{unit}.{attribute}}}` names a unit that is not there")).hint(hint);
}

/// The attributes that `${…}` can name of a unit, and whether they are secret.
fn attributes(spec: &UnitSpec) -> Vec<(String, bool)> {
    if let UnitKind::Requirement(requirement) = &spec.kind {
        return requirement.preset.preset.attribute_names();
    }
    let mut attributes = Vec::new();
    for port in spec.ports.keys() {
        if port.as_str() == UNNAMED_PORT {
            attributes.extend(["port", "host", "url"].map(|name| (name.to_owned(), false)));
        } else {
            attributes.push((format!("ports.{port}"), false));
        }
    }
    attributes
}

/// The name a program would expect a secret under.
fn variable(unit: &Name, attribute: &str) -> String {
    if unit.as_str() == "postgres" && attribute == "url" {
        return "DATABASE_URL".to_owned();
    }
    format!("{}_{}", unit.to_variable(), attribute.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Everything a unit needs, directly or through others.
fn all_needs(unit: usize, model: &Model, edges: &[Vec<Edge>]) -> BTreeSet<Name> {
    let mut needed = BTreeSet::new();
    let mut next = vec![unit];
    while let Some(unit) = next.pop() {
        for edge in &edges[unit] {
            if needed.insert(edge.on.clone()) {
                next.extend(model.position(edge.on.as_str()));
            }
        }
    }
    needed
}

fn not_needed(findings: &mut Findings, draft: &Draft, reference: &Reference) {
    let Reference { unit, attribute, at, .. } = reference;
    findings
        .warning(
            "not-needed",
            at,
            format!("{} uses `${{{unit}.{attribute}}}` and does not need `{unit}`", draft.label()),
        )
        .hint(format!("add needs = {{ {unit} = \"ready\" }}, or it may start before `{unit}` is up"));
}

/// A shell would call `${api.port}` a bad substitution.
fn shells(findings: &mut Findings, model: &Model) {
    let units: HashSet<&str> = model.drafts.iter().map(|draft| draft.name().as_str()).collect();
    for draft in &model.drafts {
        let Some(line) = &draft.shell else { continue };
        if let Some(needle) = attribute_in(&line.value, &units) {
            let at = findings.files.within(&line.at, &needle);
            findings
                .warning("reference-in-sh", &at, format!("`sh` of {} is passed to the shell as it is", draft.label()))
                .hint("set a variable, env = { PORT_OF_API = \"${api.port}\" }, and write $PORT_OF_API in `sh`");
        }
    }
}

/// The beginning of the first `${unit.…` in a shell's line, with its dot.
fn attribute_in(line: &str, units: &HashSet<&str>) -> Option<String> {
    let named = line.split("${").skip(1).filter_map(|after| after.split_once('.'));
    named.map(|(unit, _)| unit).find(|unit| units.contains(unit)).map(|unit| format!("${{{unit}."))
}
