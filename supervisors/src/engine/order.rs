//! The partial order of children that their `needs` make, and what is wrong with a set of specs.
//!
//! Children are places in the list of specs here; the list and the order are always replaced together.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{ChildId, ChildSpec, Condition, Readiness, Then};

/// Why a set of specs cannot be supervised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Two children have one id.
    #[error("two children are called {0}")]
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
    /// A need waits for readiness that is never reported.
    #[error("{child} needs {need} to be ready, but {need} never reports that it is")]
    NeverReady {
        /// The dependent.
        child: ChildId,
        /// What it needs.
        need: ChildId,
    },
}

/// An edge, seen from either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The place of the child at the other end.
    pub(super) to: usize,
    /// What is waited for.
    pub(super) is: Condition,
    /// What follows when it is lost.
    pub(super) then: Then,
}

/// The order of a checked set of specs.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    needs: Vec<Vec<Link>>,
    dependents: Vec<Vec<Link>>,
    /// Every place, needs before dependents; among equals in the order of the specs.
    topological: Vec<usize>,
    /// Length of the longest chain of needs below each place.
    depth: Vec<usize>,
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

// === impl Order ===

impl Order {
    /// Checks the specs and orders them.
    pub(super) fn new(specs: &[&ChildSpec]) -> Result<Self, SpecError> {
        let places = places(specs)?;
        let mut order = Self { needs: vec![Vec::new(); specs.len()], ..Self::default() };
        order.dependents = order.needs.clone();
        for (at, spec) in specs.iter().enumerate() {
            for edge in &spec.needs {
                let to = *places.get(&edge.on).ok_or_else(|| unknown(spec, &edge.on))?;
                check_edge(spec, specs[to], edge.is)?;
                order.needs[at].push(Link { to, is: edge.is, then: edge.then });
                order.dependents[to].push(Link { to: at, is: edge.is, then: edge.then });
            }
        }
        order.sort().map_err(|ring| SpecError::Cycle(ring.into_iter().map(|at| specs[at].id.clone()).collect()))?;
        Ok(order)
    }

    /// What the child at `at` needs.
    pub(super) fn needs(&self, at: usize) -> &[Link] {
        &self.needs[at]
    }

    /// What needs the child at `at`.
    pub(super) fn dependents(&self, at: usize) -> &[Link] {
        &self.dependents[at]
    }

    /// Every place, needs first.
    pub(super) fn topological(&self) -> &[usize] {
        &self.topological
    }

    /// Everything that needs `at`, however far away.
    pub(super) fn all_dependents(&self, at: usize) -> BTreeSet<usize> {
        reach(at, |from| self.dependents(from))
    }

    /// Everything that `at` needs, however far away.
    pub(super) fn all_needs(&self, at: usize) -> BTreeSet<usize> {
        reach(at, |from| self.needs(from))
    }

    /// Places by depth: each wave needs only earlier ones.
    pub(super) fn waves(&self) -> Vec<Vec<usize>> {
        let mut waves = vec![Vec::new(); self.depth.iter().max().map_or(0, |deepest| deepest + 1)];
        for (at, &depth) in self.depth.iter().enumerate() {
            waves[depth].push(at);
        }
        waves
    }

    /// Repeatedly takes the first place whose needs are all taken. `Err` names a ring.
    fn sort(&mut self) -> Result<(), Vec<usize>> {
        let mut open: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut free: BTreeSet<usize> = (0..open.len()).filter(|&at| open[at] == 0).collect();
        self.depth = vec![0; open.len()];
        while let Some(at) = free.pop_first() {
            self.topological.push(at);
            for link in &self.dependents[at] {
                self.depth[link.to] = self.depth[link.to].max(self.depth[at] + 1);
                open[link.to] -= 1;
                if open[link.to] == 0 {
                    free.insert(link.to);
                }
            }
        }
        match open.iter().position(|&left| left > 0) {
            None => Ok(()),
            Some(stuck) => Err(self.ring_from(stuck, &open)),
        }
    }

    /// Follows unmet needs from a place that could not be taken until one comes round again.
    fn ring_from(&self, stuck: usize, open: &[usize]) -> Vec<usize> {
        let mut path = vec![stuck];
        loop {
            let last = path[path.len() - 1];
            let next = self.needs[last].iter().map(|link| link.to).find(|&to| open[to] > 0);
            let next = next.expect("invariant: a place that could not be taken needs another such place");
            if let Some(start) = path.iter().position(|&at| at == next) {
                return path.split_off(start);
            }
            path.push(next);
        }
    }
}

fn places<'a>(specs: &[&'a ChildSpec]) -> Result<BTreeMap<&'a ChildId, usize>, SpecError> {
    let mut places = BTreeMap::new();
    for (at, spec) in specs.iter().enumerate() {
        if places.insert(&spec.id, at).is_some() {
            return Err(SpecError::DuplicateId(spec.id.clone()));
        }
    }
    Ok(places)
}

fn check_edge(child: &ChildSpec, need: &ChildSpec, is: Condition) -> Result<(), SpecError> {
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

fn unknown(child: &ChildSpec, need: &ChildId) -> SpecError {
    SpecError::UnknownNeed { child: child.id.clone(), need: need.clone() }
}

fn reach<'a>(from: usize, next: impl Fn(usize) -> &'a [Link]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(at) = todo.pop() {
        todo.extend(next(at).iter().map(|link| link.to).filter(|&to| seen.insert(to)));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;
    use crate::spec::Edge;

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

    fn waves(text: &str) -> Result<String, SpecError> {
        let specs = specs(text);
        let order = Order::new(&specs.iter().collect::<Vec<_>>())?;
        let wave = |wave: &Vec<usize>| wave.iter().map(|&at| specs[at].id.as_str()).collect::<Vec<_>>().join(" ");
        Ok(order.waves().iter().map(wave).collect::<Vec<_>>().join(" | "))
    }

    #[test]
    fn waves_follow_needs_and_keep_the_order_of_the_specs() {
        assert_eq!(waves("c a b").as_deref(), Ok("c a b"));
        assert_eq!(waves("web<api api<db,cache db cache").as_deref(), Ok("db cache | api | web"));
    }

    #[test]
    fn e12_a_ring_of_needs_is_refused_by_name() {
        let error = waves("x<a a<b b<c c<a").unwrap_err();
        assert_eq!(error, SpecError::Cycle(vec![name("a"), name("b"), name("c")]));
        assert_eq!(error.to_string(), "children need each other in a ring: a → b → c → a");
    }

    #[test]
    fn faulty_specs_are_refused_with_an_error_of_their_own() {
        assert_eq!(waves("a a"), Err(SpecError::DuplicateId(name("a"))));
        assert_eq!(waves("a<b"), Err(SpecError::UnknownNeed { child: name("a"), need: name("b") }));
        assert_eq!(waves("a<a"), Err(SpecError::SelfNeed(name("a"))));
    }

    #[test]
    fn waiting_for_readiness_that_is_never_reported_is_refused() {
        let mut specs = specs("db api<db");
        specs[1].needs[0].is = Condition::Ready;
        let error = Order::new(&specs.iter().collect::<Vec<_>>()).unwrap_err();
        assert_eq!(error, SpecError::NeverReady { child: name("api"), need: name("db") });
    }
}
