//! New specs, groups or flags for a running supervisor.

use std::collections::{BTreeSet, HashMap};

use super::child::{Child, Link, Next, State};
use super::fall::Member;
use super::groups::{Groups, Seat};
use super::order::Plan;
use super::table::Key;
use super::view::Desired;
use super::{Cause, Engine, SpecError};
use crate::spec::{ChildId, ChildSpec, Condition, Edge, Flags, GroupSpec};

// === impl Engine ===

impl Engine {
    pub(super) fn replace(&mut self, specs: Vec<ChildSpec>, groups: Vec<GroupSpec>, flags: Flags) {
        if Self::check_with(&specs, &groups, &flags).is_err() {
            return;
        }
        self.options.flags = flags;
        let changed: Vec<_> = specs.iter().filter(|spec| self.is_changed(spec)).map(|spec| spec.id.clone()).collect();
        let present: BTreeSet<ChildId> = specs.iter().map(|spec| spec.id.clone()).collect();
        let mut keys: Vec<Key> = specs.into_iter().map(|spec| self.take_spec(spec)).collect();
        let gone: Vec<_> =
            self.children.iter().filter(|(_, child)| !present.contains(&child.spec.id)).map(|(at, _)| at).collect();
        for &at in &gone {
            self.children[at].removed = true;
        }
        keys.extend(&gone);
        self.children.reorder(&keys);
        self.keep_removed();
        self.declared = groups;
        self.rewire();
        let removed = |&at: &Key| Member { at, next: Next::Down, cause: Cause::SpecChange };
        let removed = gone.iter().map(removed).collect();
        let changed = changed.iter().filter_map(|id| self.children.find(id.as_str()));
        let changed: Vec<_> = changed.filter(|&at| self.children[at].desired == Desired::Up).collect();
        self.restart_all(&changed, &Cause::SpecChange, removed);
        self.note_ended(&gone);
    }

    /// Brings everything in line with checked specs, groups and flags, also what is under way.
    fn rewire(&mut self) {
        self.wire().expect("invariant: the specs have been checked");
        self.relink_falls();
        self.look_at_all();
    }

    /// Gives a known child its new spec, or makes one.
    fn take_spec(&mut self, spec: ChildSpec) -> Key {
        match self.children.find(spec.id.as_str()) {
            Some(at) => {
                self.children[at].spec = spec;
                self.children[at].removed = false;
                at
            }
            None => {
                let lives = self.last_life_of(&spec.id);
                self.children.push(Child { lives, ..Child::new(spec) })
            }
        }
    }

    /// Whether a child is to be started anew: because its life is of no use with the new spec, or because it has none, so
    /// that any change may help. What only concerns the supervisor, such as budgets, holds for a life from now on.
    fn is_changed(&self, spec: &ChildSpec) -> bool {
        let needs = |edge: &Edge| (edge.on.clone(), edge.is);
        let Some(at) = self.children.find(spec.id.as_str()) else { return false };
        let child = &self.children[at];
        let old = &child.spec;
        let is_useless = old.readiness != spec.readiness
            || old.child_type != spec.child_type
            || !old.needs.iter().map(needs).eq(spec.needs.iter().map(needs));
        !child.removed && *old != *spec && (is_useless || child.life().is_none())
    }

    /// Keeps children without a spec until they are down, with the needs that still exist: they stop in order.
    fn keep_removed(&mut self) {
        let removed: Vec<_> = self.children.iter().filter(|(_, child)| child.removed).map(|(at, _)| at).collect();
        for at in removed {
            let mut needs = std::mem::take(&mut self.children[at].spec.needs);
            needs.retain(|edge| self.children.find(edge.on.as_str()).is_some());
            // It never starts again: only the order matters, and a new spec may have stopped reporting readiness.
            needs.iter_mut().for_each(|edge| edge.is = Condition::Started);
            self.children[at].spec.needs = needs;
            self.children[at].spec.significant = false;
        }
    }

    /// Orders all children, links them, and seats them in their groups. Removed ones only keep what they need: they are in
    /// no group and no order any more.
    pub(super) fn wire(&mut self) -> Result<(), SpecError> {
        let all: Vec<Key> = self.children.keys().collect();
        let (keys, removed): (Vec<Key>, Vec<Key>) = all.iter().partition(|&&at| !self.children[at].removed);
        let specs: Vec<&ChildSpec> = keys.iter().map(|&at| &self.children[at].spec).collect();
        let plan = Plan::new(&specs, &self.declared, &self.options.flags)?;
        let (mut groups, seats) = Groups::build(&specs, &self.declared, &self.options.flags, |at| keys[at]);
        groups.inherit(std::mem::replace(&mut self.groups, Groups::new(&self.options.flags)));
        self.groups = groups;
        for (&at, seat) in keys.iter().zip(seats) {
            let child = &mut self.children[at];
            (child.seat, child.needs, child.dependents) = (seat, Vec::new(), Vec::new());
        }
        for (topo, at) in (0u64..).zip(&plan.topological) {
            self.children[keys[*at]].topo = topo;
        }
        for (topo, &at) in (keys.len() as u64..).zip(&removed) {
            let child = &mut self.children[at];
            (child.seat, child.topo) = (Seat::DETACHED, topo);
            (child.needs, child.dependents) = (Vec::new(), Vec::new());
        }
        self.topo_end = all.len() as u64;
        self.link(&all);
        Ok(())
    }

    fn link(&mut self, keys: &[Key]) {
        let at_of: HashMap<ChildId, Key> = keys.iter().map(|&at| (self.id(at), at)).collect();
        for &at in keys {
            for edge in self.children[at].spec.needs.clone() {
                let Some(&to) = at_of.get(&edge.on) else { continue };
                self.children[at].needs.push(Link { to, is: edge.is, then: edge.then });
                self.children[to].dependents.push(Link { to: at, is: edge.is, then: edge.then });
            }
        }
    }

    fn note_ended(&mut self, gone: &[Key]) {
        for &at in gone {
            if matches!(self.children[at].state, State::Stopped | State::Done | State::Failed) {
                self.ended.push(at);
            }
        }
    }

    pub(super) fn reflag(&mut self, flags: Flags) {
        let present = self.children.iter().filter(|(_, child)| !child.removed);
        let specs: Vec<_> = present.map(|(_, child)| child.spec.clone()).collect();
        if Self::check_with(&specs, &self.declared, &flags).is_ok() {
            self.options.flags = flags;
            self.rewire();
        }
    }
}
