//! Whether specs can be supervised together, and the order in which they start.
//!
//! Children are places in the list of specs here. Two things order them: what they need, and their places in ordered
//! groups.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{Groups, Seat};
use crate::Name;
use crate::spec::{
    AutoShutdown, ChildId, ChildSpec, Condition, Ended, Flags, GroupId, GroupSpec, Intensity, Order, Readiness, Restart,
};

/// Why a set of specs cannot be supervised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Two children or groups have one id (OTP's `duplicate_child_name`).
    #[error("two children or groups are called {0}")]
    DuplicateId(ChildId),
    /// A need names nobody.
    #[error("{child} needs {need}, which does not exist")]
    UnknownNeed {
        /// The dependent.
        child: ChildId,
        /// What it names.
        need: ChildId,
    },
    /// A child needs itself.
    #[error("{0} needs itself")]
    SelfNeed(ChildId),
    /// Children need each other in a ring.
    #[error("children need each other in a ring: {}", ring(.0))]
    Cycle(
        /// The ring: each needs the next, the last needs the first.
        Vec<ChildId>,
    ),
    /// What children need goes against the order of a group's members, or of the list.
    #[error("the order of members goes against what they need: {}", ring(.0))]
    AgainstOrder(
        /// The ring: each must come after the next, the last after the first.
        Vec<ChildId>,
    ),
    /// A need waits for readiness that is never reported.
    #[error("{child} needs {need} to be ready, but {need} never reports that it is")]
    NeverReady {
        /// The dependent.
        child: ChildId,
        /// What it needs.
        need: ChildId,
    },
    /// A group's member is nobody.
    #[error("group {group} names {member}, which does not exist")]
    UnknownMember {
        /// The group.
        group: GroupId,
        /// What it names.
        member: Name,
    },
    /// Something is a member twice.
    #[error("{0} is a member of a group twice")]
    TwoGroups(Name),
    /// Groups are inside each other.
    #[error("group {0} is inside itself")]
    GroupRing(GroupId),
    /// A window that never holds anything (OTP's `invalid_period`).
    #[error("a budget's period is longer than nothing")]
    ZeroPeriod,
    /// A significant child that is always restarted, or whose supervisor never ends by itself (OTP's `bad_combination`).
    #[error("{0} is significant, so it may not be permanent and auto_shutdown may not be never")]
    BadSignificant(ChildId),
    /// Auto-shutdown of a supervisor that knows only living children (OTP's `bad_combination`).
    #[error("auto_shutdown goes with children that are known after their end")]
    BadAutoShutdown,
}

/// A child and where it stands in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    at: usize,
    spec: &'a ChildSpec,
}

/// The order of a checked set of specs.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Every place, what it comes after first; among equals in the order of the specs.
    pub(super) topological: Vec<usize>,
    /// Length of the longest chain below each place.
    depth: Vec<usize>,
}

/// What each place comes after.
struct Graph {
    below: Vec<Vec<usize>>,
}

// === impl SpecError ===

fn ring(ids: &[ChildId]) -> String {
    let mut text = String::new();
    for id in ids {
        text.push_str(id.as_str());
        text.push_str(" → ");
    }
    text + ids.first().map_or("", ChildId::as_str)
}

// === impl Plan ===

impl Plan {
    /// Checks the specs and orders them.
    pub(super) fn new(specs: &[&ChildSpec], groups: &[GroupSpec], flags: &Flags) -> Result<Self, SpecError> {
        check_flags(flags, groups)?;
        let places = places(specs, groups)?;
        check_groups(groups, &places)?;
        let mut needs = Graph { below: vec![Vec::new(); specs.len()] };
        for (at, spec) in specs.iter().enumerate() {
            check_significant(spec, flags)?;
            for edge in &spec.needs {
                let need = places.get(&edge.on).copied().flatten().ok_or_else(|| unknown(spec, &edge.on))?;
                check_edge(spec, need.spec, edge.is)?;
                needs.below[at].push(need.at);
            }
        }
        let names = |ring: Vec<usize>| ring.into_iter().map(|at| specs[at].id.clone()).collect();
        if groups.is_empty() && flags.order == Order::Needs {
            return needs.sort().map_err(|ring| SpecError::Cycle(names(ring)));
        }
        if specs.iter().any(|spec| !spec.needs.is_empty()) {
            needs.sort().map_err(|ring| SpecError::Cycle(names(ring)))?;
        }
        let (tree, seats) = Groups::build(specs, groups, flags, |at| at);
        needs.add_order(&tree, &seats);
        needs.sort().map_err(|ring| SpecError::AgainstOrder(names(ring)))
    }

    /// Places by depth: each wave comes only after earlier ones.
    pub(super) fn waves(&self) -> Vec<Vec<usize>> {
        let mut waves = vec![Vec::new(); self.depth.iter().max().map_or(0, |deepest| deepest + 1)];
        for (at, &depth) in self.depth.iter().enumerate() {
            waves[depth].push(at);
        }
        waves
    }
}

// === impl Graph ===

impl Graph {
    fn add_order(&mut self, tree: &Groups<usize>, seats: &[Seat]) {
        for (at, &seat) in seats.iter().enumerate() {
            self.below[at].extend(tree.before(seat));
        }
    }

    /// Repeatedly takes the first place all of whose lower ones are taken. `Err` names a ring.
    fn sort(&self) -> Result<Plan, Vec<usize>> {
        let mut above = vec![Vec::new(); self.below.len()];
        for (at, below) in self.below.iter().enumerate() {
            below.iter().for_each(|&to| above[to].push(at));
        }
        let mut open: Vec<usize> = self.below.iter().map(Vec::len).collect();
        let mut free: BTreeSet<usize> = (0..open.len()).filter(|&at| open[at] == 0).collect();
        let mut plan = Plan { topological: Vec::with_capacity(open.len()), depth: vec![0; open.len()] };
        while let Some(at) = free.pop_first() {
            plan.topological.push(at);
            for &to in &above[at] {
                plan.depth[to] = plan.depth[to].max(plan.depth[at] + 1);
                open[to] -= 1;
                if open[to] == 0 {
                    free.insert(to);
                }
            }
        }
        match open.iter().position(|&left| left > 0) {
            None => Ok(plan),
            Some(stuck) => Err(self.ring_from(stuck, &open)),
        }
    }

    /// Follows what could not be taken until one comes round again.
    fn ring_from(&self, stuck: usize, open: &[usize]) -> Vec<usize> {
        let mut path = vec![stuck];
        loop {
            let last = path[path.len() - 1];
            let next = self.below[last].iter().copied().find(|&to| open[to] > 0);
            let next = next.expect("invariant: a place that could not be taken comes after another such place");
            if let Some(start) = path.iter().position(|&at| at == next) {
                return path.split_off(start);
            }
            path.push(next);
        }
    }
}

// --- checks ---

/// Every name that is taken; `None` for a group.
type Places<'a> = BTreeMap<&'a Name, Option<Place<'a>>>;

fn places<'a>(specs: &[&'a ChildSpec], groups: &'a [GroupSpec]) -> Result<Places<'a>, SpecError> {
    let mut places = Places::new();
    let children = specs.iter().enumerate().map(|(at, spec)| (&spec.id, Some(Place { at, spec })));
    for (id, place) in children.chain(groups.iter().map(|group| (&group.id, None))) {
        if places.insert(id, place).is_some() {
            return Err(SpecError::DuplicateId(id.clone()));
        }
    }
    Ok(places)
}

fn check_flags(flags: &Flags, groups: &[GroupSpec]) -> Result<(), SpecError> {
    let budgets = groups.iter().map(|group| group.intensity).chain(flags.intensity);
    for Intensity { period, .. } in budgets {
        if period.is_zero() {
            return Err(SpecError::ZeroPeriod);
        }
    }
    match (flags.ended, flags.auto_shutdown) {
        (Ended::Dropped, AutoShutdown::AnySignificant | AutoShutdown::AllSignificant) => {
            Err(SpecError::BadAutoShutdown)
        }
        (Ended::Dropped, AutoShutdown::Never) | (Ended::Kept | Ended::TemporaryDropped, _) => Ok(()),
    }
}

fn check_groups(groups: &[GroupSpec], places: &Places<'_>) -> Result<(), SpecError> {
    let mut parents: BTreeMap<&Name, &GroupSpec> = BTreeMap::new();
    for group in groups {
        for member in &group.members {
            if !places.contains_key(member) {
                return Err(SpecError::UnknownMember { group: group.id.clone(), member: member.clone() });
            }
            if parents.insert(member, group).is_some() {
                return Err(SpecError::TwoGroups(member.clone()));
            }
        }
    }
    for group in groups {
        let outwards = std::iter::successors(parents.get(&group.id), |outer| parents.get(&outer.id));
        // A path longer than there are groups has passed one of them twice.
        if outwards.take(groups.len()).any(|outer| outer.id == group.id) {
            return Err(SpecError::GroupRing(group.id.clone()));
        }
    }
    Ok(())
}

/// What concerns one child alone.
pub(super) fn check_significant(spec: &ChildSpec, flags: &Flags) -> Result<(), SpecError> {
    let allowed = spec.restart != Restart::Permanent && flags.auto_shutdown != AutoShutdown::Never;
    if spec.significant && !allowed { Err(SpecError::BadSignificant(spec.id.clone())) } else { Ok(()) }
}

pub(super) fn check_edge(child: &ChildSpec, need: &ChildSpec, is: Condition) -> Result<(), SpecError> {
    if child.id == need.id {
        return Err(SpecError::SelfNeed(child.id.clone()));
    }
    match (is, need.readiness) {
        (Condition::Ready, Readiness::Unreported) => {
            Err(SpecError::NeverReady { child: child.id.clone(), need: need.id.clone() })
        }
        (Condition::Ready, Readiness::Within(_)) | (Condition::Started | Condition::Done, _) => Ok(()),
    }
}

pub(super) fn unknown(child: &ChildSpec, need: &ChildId) -> SpecError {
    SpecError::UnknownNeed { child: child.id.clone(), need: need.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Edge, Strategy, Then};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// `"a b<a c<a,b"`: children with what they need, all `started`.
    fn specs(text: &str) -> Vec<ChildSpec> {
        let edge = |on: &str| Edge { on: name(on), is: Condition::Started, then: Then::Ignore };
        let child = |word: &str| {
            let (id, needs) = word.split_once('<').unwrap_or((word, ""));
            let needs = needs.split(',').filter(|need| !need.is_empty()).map(edge).collect();
            ChildSpec { needs, ..ChildSpec::new(name(id)) }
        };
        text.split(' ').map(child).collect()
    }

    /// `"g:a,b h:g,c"`: groups with their members.
    fn groups(text: &str) -> Vec<GroupSpec> {
        let group = |word: &str| {
            let (id, members) = word.split_once(':').unwrap();
            GroupSpec::new(name(id), members.split(',').map(name).collect())
        };
        text.split_whitespace().map(group).collect()
    }

    fn plan(children: &str, grouped: &str, flags: Flags) -> Result<String, SpecError> {
        let specs = specs(children);
        let plan = Plan::new(&specs.iter().collect::<Vec<_>>(), &groups(grouped), &flags)?;
        let wave = |wave: &Vec<usize>| wave.iter().map(|&at| specs[at].id.as_str()).collect::<Vec<_>>().join(" ");
        Ok(plan.waves().iter().map(wave).collect::<Vec<_>>().join(" | "))
    }

    fn waves(children: &str) -> Result<String, SpecError> {
        plan(children, "", Flags::default())
    }

    #[test]
    fn waves_follow_needs_and_keep_the_order_of_the_specs() {
        assert_eq!(waves("c a b").as_deref(), Ok("c a b"));
        assert_eq!(waves("web<api api<db,cache db cache").as_deref(), Ok("db cache | api | web"));
    }

    #[test]
    fn a_list_is_a_chain() {
        assert_eq!(plan("c a b", "", Flags::otp(Strategy::OneForAll)).as_deref(), Ok("c | a | b"));
    }

    #[test]
    fn members_of_a_group_come_after_each_other_and_groups_too() {
        assert_eq!(plan("a b c d", "g:c,a", Flags::default()).as_deref(), Ok("b c d | a"));
        assert_eq!(plan("a b c d e", "h:g,d,e g:b,a", Flags::default()).as_deref(), Ok("b c | a | d | e"));
    }

    #[test]
    fn e12_a_ring_of_needs_is_refused_by_name() {
        let error = waves("x<a a<b b<c c<a").unwrap_err();
        assert_eq!(error, SpecError::Cycle(vec![name("a"), name("b"), name("c")]));
        assert_eq!(error.to_string(), "children need each other in a ring: a → b → c → a");
    }

    #[test]
    fn e12_an_order_of_members_against_their_needs_is_refused_by_name() {
        let error = plan("a<b b", "g:a,b", Flags::default()).unwrap_err();
        assert_eq!(error, SpecError::AgainstOrder(vec![name("a"), name("b")]));
        assert_eq!(plan("a<b b", "", Flags::otp(Strategy::OneForOne)), Err(error));
    }

    #[test]
    fn faulty_specs_are_refused_with_an_error_of_their_own() {
        assert_eq!(waves("a a"), Err(SpecError::DuplicateId(name("a"))));
        assert_eq!(waves("a<b"), Err(SpecError::UnknownNeed { child: name("a"), need: name("b") }));
        assert_eq!(waves("a<a"), Err(SpecError::SelfNeed(name("a"))));
    }

    #[test]
    fn faulty_groups_are_refused_with_an_error_of_their_own() {
        let refused = |children: &str, grouped: &str| plan(children, grouped, Flags::default()).unwrap_err();
        assert_eq!(refused("a b", "a:b"), SpecError::DuplicateId(name("a")));
        assert_eq!(refused("a", "g:x"), SpecError::UnknownMember { group: name("g"), member: name("x") });
        assert_eq!(refused("a", "g:a h:a"), SpecError::TwoGroups(name("a")));
        assert_eq!(refused("a", "g:a,h h:g"), SpecError::GroupRing(name("g")));
        assert_eq!(refused("a", "g:g"), SpecError::GroupRing(name("g")));
        assert_eq!(refused("a<g", "g:a"), SpecError::UnknownNeed { child: name("a"), need: name("g") });
    }

    #[test]
    fn waiting_for_readiness_that_is_never_reported_is_refused() {
        let mut specs = specs("db api<db");
        specs[1].needs[0].is = Condition::Ready;
        let error = Plan::new(&specs.iter().collect::<Vec<_>>(), &[], &Flags::default()).unwrap_err();
        assert_eq!(error, SpecError::NeverReady { child: name("api"), need: name("db") });
    }
}
