//! New specs for a running supervisor.

use indexmap::IndexMap;

use super::child::{Child, Next};
use super::fall::Member;
use super::order::Order;
use super::view::Desired;
use super::{Cause, Engine, What};
use crate::spec::{ChildId, ChildSpec, Condition};

// === impl Engine ===

impl Engine {
    pub(super) fn replace(&mut self, specs: Vec<ChildSpec>) {
        if Self::check(&specs).is_err() {
            return;
        }
        let changed: Vec<_> = specs.iter().filter(|spec| self.is_changed(spec)).map(|spec| spec.id.clone()).collect();
        let mut old = std::mem::take(&mut self.children);
        for spec in specs {
            let child = match old.shift_remove(&spec.id) {
                Some(known) => Child { spec, removed: false, ..known },
                None => Child { lives: self.retired.shift_remove(&spec.id).unwrap_or(0), ..Child::new(spec) },
            };
            self.children.insert(child.spec.id.clone(), child);
        }
        self.keep_removed(old);
        self.reorder();
        self.stop_removed();
        let changed = changed.iter().filter_map(|id| self.children.get_index_of(id));
        let changed: Vec<_> = changed.filter(|&at| self.children[at].desired == Desired::Up).collect();
        self.restart_all(&changed, &Cause::SpecChange);
    }

    fn is_changed(&self, spec: &ChildSpec) -> bool {
        self.children.get(&spec.id).is_some_and(|known| !known.removed && known.spec != *spec)
    }

    /// Keeps children without a spec until they are down, with the needs that still exist: they stop in order.
    fn keep_removed(&mut self, old: IndexMap<ChildId, Child>) {
        for (id, child) in old {
            self.children.insert(id, Child { removed: true, ..child });
        }
        let kept: Vec<ChildId> = self.children.keys().cloned().collect();
        for child in self.children.values_mut().filter(|child| child.removed) {
            child.spec.needs.retain(|edge| kept.contains(&edge.on));
            // It never starts again: only the order matters, and a new spec may have stopped reporting readiness.
            child.spec.needs.iter_mut().for_each(|edge| edge.is = Condition::Started);
        }
    }

    fn stop_removed(&mut self) {
        let removed = (0..self.children.len()).filter(|&at| self.children[at].removed);
        let member = |at| Member { at, next: Next::Down, cause: Cause::SpecChange };
        self.bring_down(removed.map(member).collect());
    }

    /// Forgets removed children that are down. Their last numbers stay, should the names come back.
    pub(super) fn drop_removed(&mut self) {
        let gone: Vec<usize> = (0..self.children.len())
            .filter(|&at| self.children[at].removed && self.children[at].life().is_none())
            .collect();
        for &at in &gone {
            self.cancel_timers(at);
            self.report(at, What::Removed, Some(Cause::SpecChange));
            self.retired.insert(self.id(at), self.children[at].lives);
        }
        if !gone.is_empty() {
            self.children.retain(|_, child| !child.removed || child.life().is_some());
            self.keep_removed(IndexMap::new());
            self.reorder();
        }
    }

    fn reorder(&mut self) {
        let specs: Vec<_> = self.children.values().map(|child| &child.spec).collect();
        self.order = Order::new(&specs).expect("invariant: checked specs, and removed children that nothing new needs");
    }
}
