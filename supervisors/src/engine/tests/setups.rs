//! Random sets of specs: children with needs, groups up to three deep, flags. Every one of them can be supervised.

use std::time::Duration;

use proptest::prelude::*;

use super::script::{id, seconds};
use crate::engine::Engine;
use crate::spec::{
    BACKOFF_DEFAULT, Backoff, ChildId, ChildSpec, Condition, Edge, Escalate, Flags, GroupSpec, Intensity, Readiness,
    Restart, Shutdown, Strategy as Together, Then,
};

/// More children than are started at once, few enough that they meet each other often.
pub(super) const CHILDREN_MAX: usize = 6;
/// One group inside another inside a third is the deepest tree that any rule tells apart.
const GROUPS_MAX: usize = 3;

/// What an engine may be told.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) specs: Vec<ChildSpec>,
    pub(super) groups: Vec<GroupSpec>,
}

// === impl Setup ===

impl Setup {
    /// Everything that matters, in one line.
    pub(super) fn line(specs: &[ChildSpec], groups: &[GroupSpec]) -> String {
        let edge = |edge: &Edge| format!("{}={:?}/{:?}", edge.on, edge.is, edge.then);
        let child = |spec: &ChildSpec| {
            let needs: Vec<_> = spec.needs.iter().map(edge).collect();
            let ChildSpec { id, restart, shutdown, readiness, critical, escalate, .. } = spec;
            let (budget, backoff) = (spec.intensity.restarts, spec.backoff != Backoff::None);
            format!(
                "{id}<{} [{restart:?} {shutdown:?} {readiness:?} delayed={backoff} {budget}→{escalate:?} {critical}]",
                needs.join(",")
            )
        };
        let group = |group: &GroupSpec| {
            let GroupSpec { id, members, strategy, intensity, escalate } = group;
            let members: Vec<_> = members.iter().map(ChildId::as_str).collect();
            format!("{id}:{} [{strategy:?} {}→{escalate:?}]", members.join(","), intensity.restarts)
        };
        specs.iter().map(child).chain(groups.iter().map(group)).collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn child(at: usize) -> ChildId {
    id(&format!("c{at}"))
}

fn group(at: usize) -> ChildId {
    id(&format!("g{at}"))
}

fn escalate() -> impl Strategy<Value = Escalate> {
    prop_oneof![2 => Just(Escalate::Isolate), 2 => Just(Escalate::Group), 1 => Just(Escalate::Project)]
}

fn spec(at: usize) -> impl Strategy<Value = ChildSpec> {
    let condition = prop_oneof![3 => Just(Condition::Started), 2 => Just(Condition::Ready), 1 => Just(Condition::Done)];
    let then = prop_oneof![Just(Then::Ignore), Just(Then::Restart), Just(Then::Stop)];
    let needs = prop::collection::btree_map(0..at.max(1), (condition, then), 0..=at.min(2));
    let restart =
        prop_oneof![4 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    let shutdown =
        prop_oneof![Just(Shutdown::BrutalKill), Just(Shutdown::Timeout(seconds(5))), Just(Shutdown::Infinity)];
    let facts = (any::<bool>(), any::<bool>(), any::<bool>(), 0..4u32, escalate());
    (needs, restart, shutdown, facts).prop_map(
        move |(needs, restart, shutdown, (reports, waits, critical, restarts, escalate))| ChildSpec {
            needs: needs.into_iter().map(|(on, (is, then))| Edge { on: child(on), is, then }).collect(),
            restart,
            shutdown,
            readiness: if reports { Readiness::Within(seconds(8)) } else { Readiness::Unreported },
            backoff: if waits { BACKOFF_DEFAULT } else { Backoff::None },
            intensity: Intensity { restarts, period: seconds(10) },
            escalate,
            critical,
            ..ChildSpec::new(child(at))
        },
    )
}

/// A group's parent (a later group, or none), strategy, budget and escalation.
fn shape() -> impl Strategy<Value = (usize, Together, u32, Escalate)> {
    let strategy = prop_oneof![
        1 => Just(Together::OneForOne), 2 => Just(Together::OneForAll), 2 => Just(Together::RestForOne)
    ];
    (0..=GROUPS_MAX, strategy, 0..4u32, escalate())
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let specs = (1..=CHILDREN_MAX).prop_flat_map(|n| (0..n).map(spec).collect::<Vec<_>>());
    let shapes = prop::collection::vec(shape(), GROUPS_MAX);
    let seats = prop::collection::vec((0..=GROUPS_MAX, any::<u8>()), CHILDREN_MAX + GROUPS_MAX);
    (specs, shapes, seats, any::<bool>()).prop_map(|(specs, shapes, seats, turned)| {
        let specs = if turned { turn(specs) } else { specs };
        supervisable(Setup { groups: groups(specs.len(), &shapes, &seats), specs: report_what_is_awaited(specs) })
    })
}

/// The same needs between other children, so that a reload may turn an edge round.
fn turn(specs: Vec<ChildSpec>) -> Vec<ChildSpec> {
    let last = specs.len() - 1;
    let other = |id: &ChildId| child(last - id.as_str()[1..].parse::<usize>().unwrap());
    let edge = |edge: Edge| Edge { on: other(&edge.on), ..edge };
    let turned =
        |spec: ChildSpec| ChildSpec { id: other(&spec.id), needs: spec.needs.into_iter().map(edge).collect(), ..spec };
    specs.into_iter().map(turned).collect()
}

fn report_what_is_awaited(mut specs: Vec<ChildSpec>) -> Vec<ChildSpec> {
    let silent: Vec<_> = specs.iter().filter(|spec| spec.readiness == Readiness::Unreported).collect();
    let silent: Vec<_> = silent.into_iter().map(|spec| spec.id.clone()).collect();
    for edge in specs.iter_mut().flat_map(|spec| &mut spec.needs) {
        if edge.is == Condition::Ready && silent.contains(&edge.on) {
            edge.is = Condition::Started;
        }
    }
    specs
}

fn groups(n: usize, shapes: &[(usize, Together, u32, Escalate)], seats: &[(usize, u8)]) -> Vec<GroupSpec> {
    let mut members: Vec<Vec<(u8, ChildId)>> = vec![Vec::new(); GROUPS_MAX];
    for (at, &(seat, place)) in seats.iter().enumerate().take(n) {
        if let Some(members) = members.get_mut(seat) {
            members.push((place, child(at)));
        }
    }
    for (at, &(outer, ..)) in shapes.iter().enumerate() {
        if outer > at && outer < GROUPS_MAX {
            members[outer].push((seats[CHILDREN_MAX + at].1, group(at)));
        }
    }
    let spec = |(at, (mut members, &(_, strategy, restarts, escalate)))| {
        let members: &mut Vec<(u8, ChildId)> = &mut members;
        members.sort();
        let intensity = Intensity { restarts, period: Duration::from_secs(10) };
        let members = members.iter().map(|(_, name)| name.clone()).collect();
        GroupSpec { strategy, intensity, escalate, ..GroupSpec::new(group(at), members) }
    };
    members.into_iter().zip(shapes).enumerate().map(spec).collect()
}

/// Needs that go against the order of members are left out, the last child's first.
fn supervisable(mut setup: Setup) -> Setup {
    while Engine::check_with(&setup.specs, &setup.groups, &Flags::default()).is_err() {
        let last = setup.specs.iter_mut().rev().find(|spec| !spec.needs.is_empty());
        last.expect("only needs can go against an order").needs.clear();
    }
    setup
}
