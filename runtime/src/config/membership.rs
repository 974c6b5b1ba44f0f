//! Whether groups fit the units and each other: members that are there, one parent each, no circle, an order that the
//! needs allow, and budgets written where they are shared.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use envctl_supervisors::engine::Engine;
use envctl_supervisors::spec::{Edge, Escalate, Flags};

use super::diagnostic::Findings;
use super::model::{Draft, Group, Model};
use super::nearest::unit_hint;
use super::origin::{At, Place};

/// Which group a member is in, and at which place of its `members`.
#[derive(Debug, Clone, Copy)]
struct Seat<'m> {
    group: &'m Group,
    index: usize,
}

/// The seat of every member by its name; of one that is named twice the first.
type Seats<'m> = HashMap<&'m str, Seat<'m>>;

/// Runs every check of groups. `edges` are the needs that could be tied, unit by unit.
pub(super) fn run(findings: &mut Findings, model: &Model, edges: &[Vec<Edge>]) {
    let seats = seats(findings, model);
    budgets(findings, model, &seats);
    if circles(findings, model, &seats) {
        return;
    }
    orders(findings, model, &seats, edges);
    if !findings.has_errors() {
        supervisable(findings, model, edges);
    }
}

/// Every member is there, and is one only once.
fn seats<'m>(findings: &mut Findings, model: &'m Model) -> Seats<'m> {
    let names = model.group_and_unit_names();
    let known: HashSet<&str> = names.iter().chain(&model.bad_names).map(String::as_str).collect();
    let mut seats = Seats::new();
    for group in &model.groups {
        for (index, member) in group.members.iter().enumerate() {
            if findings.is_full() {
                return seats;
            }
            if let Some(first) = seats.get(member.value.as_str()).copied() {
                twice(findings, group, member, first);
            } else if known.contains(member.value.as_str()) {
                seats.insert(&member.value, Seat { group, index });
            } else {
                unknown(findings, group, member, &names);
            }
        }
    }
    seats
}

fn twice(findings: &mut Findings, group: &Group, member: &At<String>, first: Seat<'_>) {
    let (label, other) = (group.label(), first.group.label());
    let message = if label == other {
        format!("{label} names `{}` twice", member.value)
    } else {
        format!("`{}` is in {other} and in {label}: a member has one group", member.value)
    };
    findings.conflict("twice", &first.member().at, &member.at, message).hint("keep one of the two");
}

fn unknown(findings: &mut Findings, group: &Group, member: &At<String>, names: &[String]) {
    let message = format!("{} names `{}`, which is not there", group.label(), member.value);
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != group.name.as_str()).collect();
    findings.error("unknown-unit", &member.at, message).hint(unit_hint(&member.value, &others));
}

/// A unit that shares a budget has none of its own, and one without a group cannot make it give up.
fn budgets(findings: &mut Findings, model: &Model, seats: &Seats<'_>) {
    for draft in &model.drafts {
        let shared: Option<(String, &Place)> = match (seats.get(draft.name().as_str()), &model.supervision) {
            (Some(seat), _) => Some((seat.group.label(), &seat.group.at)),
            (None, Some(supervision)) => Some(("`supervision`".to_owned(), &supervision.at)),
            (None, None) => None,
        };
        match shared {
            Some((owner, at)) => own_budget(findings, draft, &owner, at),
            None => no_group(findings, draft),
        }
    }
}

fn own_budget(findings: &mut Findings, draft: &Draft, owner: &str, at: &Place) {
    for key in &draft.budget {
        if findings.is_full() {
            return;
        }
        let message = format!("{} shares the budget of {owner}: it has no `{}` of its own", draft.label(), key.value);
        let hint = format!("write `{}` in {owner}, where it holds for all members", key.value);
        findings.conflict("shared-budget", at, &key.at, message).hint(hint);
    }
}

fn no_group(findings: &mut Findings, draft: &Draft) {
    let written = draft.budget.iter().find(|key| key.value == "escalate");
    if let (Escalate::Group, Some(key)) = (draft.spec.child.escalate, written) {
        findings
            .error("no-group", &key.at, format!("{} has no group that could give up with it", draft.label()))
            .hint("write \"isolate\" or \"project\", or name it in the `members` of a group that says so");
    }
}

/// Tells every group that is inside itself. Each member has one parent, so going up from a group ends at the top or
/// comes round.
fn circles(findings: &mut Findings, model: &Model, seats: &Seats<'_>) -> bool {
    let mut done: HashSet<&str> = HashSet::new();
    let mut found = false;
    for group in &model.groups {
        let mut path: Vec<&str> = Vec::new();
        let mut at = group.name.as_str();
        while !done.contains(at) && !path.contains(&at) {
            path.push(at);
            match seats.get(at) {
                Some(seat) => at = seat.group.name.as_str(),
                None => break,
            }
        }
        if !done.contains(at)
            && let Some(start) = path.iter().position(|name| *name == at)
            && let Some(seat) = seats.get(at).filter(|seat| path[start..].contains(&seat.group.name.as_str()))
        {
            found = true;
            circle(findings, &path[start..], *seat);
        }
        done.extend(path);
    }
    found
}

/// `inner` leads from a group up through those it is in, back to itself.
fn circle(findings: &mut Findings, inner: &[&str], seat: Seat<'_>) {
    let member = seat.member();
    let path: Vec<&str> = inner.iter().chain(&inner[..1]).rev().copied().collect();
    let message = match inner {
        [only] => format!("group `{only}` is a member of itself"),
        _ => format!("group `{}` is inside itself: {}", member.value, path.join(" → ")),
    };
    let hint = format!("take `{}` out of the `members` of {}", member.value, seat.group.label());
    findings.error("bad-group", &member.at, message).hint(hint);
}

/// Members start in order: an earlier one that needs a later one could never start.
fn orders(findings: &mut Findings, model: &Model, seats: &Seats<'_>, edges: &[Vec<Edge>]) {
    let mut told: HashSet<(&str, &str)> = HashSet::new();
    for unit in 0..model.drafts.len() {
        let own = seats_above(model.drafts[unit].name().as_str(), seats);
        if own.is_empty() {
            continue;
        }
        let paths = paths_from(unit, model, edges);
        for &need in paths.keys().collect::<BTreeSet<_>>() {
            let other = seats_above(model.drafts[need].name().as_str(), seats);
            let Some((earlier, later)) = contradiction(&own, &other) else { continue };
            if findings.is_full() {
                return;
            }
            if told.insert((&earlier.member().value, &later.member().value)) {
                disorder(findings, model, (earlier, later), &path_to(need, &paths));
            }
        }
    }
}

/// The seats of a member and of the groups it is in, the innermost first.
fn seats_above<'m>(member: &str, seats: &Seats<'m>) -> Vec<Seat<'m>> {
    let mut above = Vec::new();
    let mut seat = seats.get(member);
    while let Some(found) = seat {
        above.push(*found);
        seat = seats.get(found.group.name.as_str());
    }
    above
}

/// The two seats in the group that holds both, if what needs sits before what is needed.
fn contradiction<'m>(own: &[Seat<'m>], other: &[Seat<'m>]) -> Option<(Seat<'m>, Seat<'m>)> {
    let shared =
        |seat: &&Seat<'m>| other.iter().find(|its| its.group.name == seat.group.name).map(|its| (**seat, *its));
    let (mine, its) = own.iter().find_map(|seat| shared(&seat))?;
    (mine.index < its.index).then_some((mine, its))
}

/// Everything `unit` needs, each with the unit that needs it on the shortest way there.
fn paths_from(unit: usize, model: &Model, edges: &[Vec<Edge>]) -> HashMap<usize, usize> {
    let mut before = HashMap::new();
    let mut open = VecDeque::from([unit]);
    while let Some(at) = open.pop_front() {
        for need in edges[at].iter().filter_map(|edge| model.position(edge.on.as_str())) {
            if need != unit && !before.contains_key(&need) {
                before.insert(need, at);
                open.push_back(need);
            }
        }
    }
    before
}

/// The way to `need`, itself last.
fn path_to(need: usize, before: &HashMap<usize, usize>) -> Vec<usize> {
    let mut path = vec![need];
    while let Some(previous) = path.last().and_then(|last| before.get(last)) {
        path.push(*previous);
    }
    path.reverse();
    path
}

fn disorder(findings: &mut Findings, model: &Model, (earlier, later): (Seat<'_>, Seat<'_>), path: &[usize]) {
    let name = |unit: usize| model.drafts[unit].name().as_str();
    let (first, second) = (earlier.member(), later.member());
    let mut needs = format!("`{}` needs `{}`", name(path[0]), name(path[1]));
    for unit in &path[2..] {
        needs.push_str(&format!(", which needs `{}`", name(*unit)));
    }
    let message = format!("{} starts `{}` before `{}`, but {needs}", earlier.group.label(), first.value, second.value);
    let hint = format!("put `{}` before `{}` in `members`, or take the need away", second.value, first.value);
    let need = model.drafts[path[0]].needs.iter().find(|need| need.on.value == name(path[1]));
    let need = need.map_or(&model.drafts[path[0]].at, |need| &need.on.at);
    findings.conflict("group-order", need, &first.at, message).hint(hint);
}

/// The engine has the last word: what the checks above do not see, such as a circle through the orders of two groups,
/// it refuses.
fn supervisable(findings: &mut Findings, model: &Model, edges: &[Vec<Edge>]) {
    let with_needs = |(draft, edges): (&Draft, &Vec<Edge>)| {
        let mut child = draft.spec.child.clone();
        child.needs.clone_from(edges);
        child
    };
    let children: Vec<_> = model.drafts.iter().zip(edges).map(with_needs).collect();
    let groups: Vec<_> = model.groups.iter().map(Group::spec).collect();
    let flags = model.supervision.as_ref().map_or_else(Flags::default, |supervision| supervision.value);
    let Err(error) = Engine::check_with(&children, &groups, &flags) else { return };
    let message = error.to_string();
    let at = blamed(model, &message);
    findings
        .error("unsupervisable", &at, message)
        .hint("take one of the needs away, or change the order of the `members`");
}

/// The place of the first group that a message names, or of the first at all.
fn blamed(model: &Model, message: &str) -> Place {
    let words: HashSet<&str> = message.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
    let named = |group: &&Group| {
        words.contains(group.name.as_str()) || group.members.iter().any(|member| words.contains(member.value.as_str()))
    };
    let group = model.groups.iter().find(named).or(model.groups.first());
    let unit = || model.drafts.first().map(|draft| draft.at.clone());
    group.map(|group| group.at.clone()).or_else(unit).unwrap_or(Place { file: 0, span: 0..0 })
}

// === impl Seat ===

impl<'m> Seat<'m> {
    fn member(self) -> &'m At<String> {
        &self.group.members[self.index]
    }
}
