//! The tree of groups: who is in which, in what order, and what each has used of its budget. It decides nothing.
//!
//! The supervisor itself is the group at [`ROOT`]; every child is a member of exactly one. `K` is what children are called:
//! places in a list of specs while that is checked, keys of the table afterwards.

use std::collections::{BTreeMap, HashMap};

use super::budget::Window;
use super::event::Time;
use crate::Name;
use crate::spec::{ChildSpec, Escalate, Flags, GroupId, GroupSpec, Intensity, Order, Strategy};

/// The supervisor's own group.
pub(super) const ROOT: usize = 0;

/// All groups, the supervisor's own first.
#[derive(Debug, Clone)]
pub(super) struct Groups<K> {
    all: Vec<Group<K>>,
}

/// One group.
#[derive(Debug, Clone)]
pub(super) struct Group<K> {
    /// `None`: the supervisor itself.
    pub(super) id: Option<GroupId>,
    pub(super) parent: Option<usize>,
    /// Where it stands among the members of its parent.
    position: u64,
    members: BTreeMap<u64, Member<K>>,
    /// Whether members come after each other.
    is_ordered: bool,
    pub(super) strategy: Strategy,
    /// The budget its members share; `None`: each has its own.
    pub(super) intensity: Option<Intensity>,
    pub(super) escalate: Escalate,
    pub(super) record: Record<K>,
}

/// What has become of a group.
#[derive(Debug, Clone)]
pub(super) struct Record<K> {
    /// Restarts charged to it.
    pub(super) window: Window,
    /// How often in a row it was given up and started again.
    pub(super) failures: u32,
    /// The child that was the last reason for that.
    pub(super) offender: Option<K>,
    /// It was given up for good.
    pub(super) failed: bool,
}

/// A member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member<K> {
    Child(K),
    Group(usize),
}

/// Where a child or a group stands among the members of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) group: usize,
    pub(super) position: u64,
}

// === impl Seat ===

impl Seat {
    /// Beside all groups.
    pub(super) const DETACHED: Self = Self { group: ROOT, position: u64::MAX };
}

// === impl Groups ===

impl<K: Copy + Eq> Groups<K> {
    /// Only the supervisor's own group, without members.
    pub(super) fn new(flags: &Flags) -> Self {
        let mut groups = Self { all: vec![Group::new(None)] };
        groups.set_flags(flags);
        groups
    }

    /// A tree of checked groups, and the seat of each child; `key` names the child at a place of `specs`.
    pub(super) fn build(
        specs: &[&ChildSpec],
        groups: &[GroupSpec],
        flags: &Flags,
        key: impl Fn(usize) -> K,
    ) -> (Self, Vec<Seat>) {
        let mut tree = Self::new(flags);
        tree.all.extend(groups.iter().map(Group::of));
        let group_at: HashMap<&Name, usize> =
            groups.iter().enumerate().map(|(at, group)| (&group.id, at + 1)).collect();
        let child_at: HashMap<&Name, usize> = specs.iter().enumerate().map(|(at, spec)| (&spec.id, at)).collect();
        let mut seats = vec![None; specs.len()];
        for (at, group) in groups.iter().enumerate() {
            for (position, name) in (0u64..).zip(&group.members) {
                if let Some(&inner) = group_at.get(name) {
                    tree.join(at + 1, position, inner);
                } else if let Some(&child) = child_at.get(name) {
                    tree.all[at + 1].members.insert(position, Member::Child(key(child)));
                    seats[child] = Some(Seat { group: at + 1, position });
                }
            }
        }
        tree.seat_the_rest(&mut seats, key);
        (tree, seats.into_iter().map(|seat| seat.unwrap_or(Seat { group: ROOT, position: 0 })).collect())
    }

    fn join(&mut self, outer: usize, position: u64, inner: usize) {
        self.all[outer].members.insert(position, Member::Group(inner));
        (self.all[inner].parent, self.all[inner].position) = (Some(outer), position);
    }

    /// Children without a group and groups without a parent are the supervisor's own members: a child where it stands, a
    /// group where its first child stands.
    fn seat_the_rest(&mut self, seats: &mut [Option<Seat>], key: impl Fn(usize) -> K) {
        for (at, seat) in seats.iter_mut().enumerate() {
            let position = at as u64;
            match seat {
                Some(seat) => {
                    let top = self.top(seat.group);
                    if self.all[top].parent.is_none() {
                        self.join(ROOT, position, top);
                    }
                }
                None => {
                    self.all[ROOT].members.insert(position, Member::Child(key(at)));
                    *seat = Some(Seat { group: ROOT, position });
                }
            }
        }
    }

    /// The outermost declared group round `group`.
    fn top(&self, mut group: usize) -> usize {
        while let Some(parent) = self.all[group].parent.filter(|&parent| parent != ROOT) {
            group = parent;
        }
        group
    }

    /// The supervisor's flags, as its own group has them.
    pub(super) fn set_flags(&mut self, flags: &Flags) {
        let root = &mut self.all[ROOT];
        root.strategy = flags.strategy;
        root.intensity = flags.intensity;
        root.escalate = flags.escalate;
        root.is_ordered = flags.order == Order::List;
    }

    /// Takes over what became of the groups that existed before.
    pub(super) fn inherit(&mut self, old: Self) {
        for group in old.all {
            if let Some(known) = self.all.iter_mut().find(|known| known.id == group.id) {
                known.record = group.record;
            }
        }
    }

    /// One more child, after all others; returns its seat.
    pub(super) fn append(&mut self, key: K) -> Seat {
        let root = &mut self.all[ROOT];
        let position = root.members.last_key_value().map_or(0, |(last, _)| last + 1);
        root.members.insert(position, Member::Child(key));
        Seat { group: ROOT, position }
    }

    pub(super) fn remove(&mut self, seat: Seat) {
        self.all[seat.group].members.remove(&seat.position);
    }

    pub(super) fn get(&self, at: usize) -> &Group<K> {
        &self.all[at]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut Group<K> {
        &mut self.all[at]
    }

    /// The declared groups.
    pub(super) fn declared(&self) -> impl Iterator<Item = &Group<K>> {
        self.all.iter().skip(1)
    }

    /// A group and those round it, innermost first.
    pub(super) fn upwards(&self, group: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(group), |&at| self.all[at].parent)
    }

    /// Every child in a group, also in groups inside it, in order.
    pub(super) fn children(&self, group: usize) -> Vec<K> {
        let mut found = Vec::new();
        self.visit(Member::Group(group), &mut |key| found.push(key));
        found
    }

    /// The children right before a seat: of the nearest member before it that has any, at every level of the tree.
    pub(super) fn before(&self, seat: Seat) -> Vec<K> {
        let mut found = Vec::new();
        self.each_level(seat, |group, position| {
            self.visit_nearest(group.members.range(..position).rev(), &mut |key| found.push(key));
        });
        found
    }

    /// The children right after a seat.
    pub(super) fn after(&self, seat: Seat) -> Vec<K> {
        let mut found = Vec::new();
        self.each_after(seat, &mut |key| found.push(key));
        found
    }

    /// Visits the children right after a seat.
    pub(super) fn each_after(&self, seat: Seat, visit: &mut impl FnMut(K)) {
        self.each_level(seat, |group, position| self.visit_nearest(group.members.range(position + 1..), visit));
    }

    /// Every child that comes after a seat in its group.
    pub(super) fn rest(&self, seat: Seat) -> Vec<K> {
        let mut found = Vec::new();
        for (_, &member) in self.all[seat.group].members.range(seat.position.saturating_add(1)..) {
            self.visit(member, &mut |key| found.push(key));
        }
        found
    }

    /// Where a group stands in its parent.
    pub(super) fn seat_of(&self, group: usize) -> Option<Seat> {
        let Group { parent, position, .. } = self.all[group];
        parent.map(|parent| Seat { group: parent, position })
    }

    /// The ordered groups round a seat, innermost first, with the place in each.
    fn each_level<'a>(&'a self, seat: Seat, mut look: impl FnMut(&'a Group<K>, u64)) {
        let mut seat = Some(seat).filter(|seat| *seat != Seat::DETACHED);
        while let Some(Seat { group, position }) = seat {
            if self.all[group].is_ordered {
                look(&self.all[group], position);
            }
            seat = self.seat_of(group);
        }
    }

    /// Visits the children of the first member that has any.
    fn visit_nearest<'a>(&self, members: impl Iterator<Item = (&'a u64, &'a Member<K>)>, visit: &mut impl FnMut(K))
    where
        K: 'a,
    {
        for (_, &member) in members {
            if self.visit(member, visit) {
                break;
            }
        }
    }

    /// Visits the child, or every child of the group, also in groups inside it; whether there was any.
    fn visit(&self, member: Member<K>, visit: &mut impl FnMut(K)) -> bool {
        match member {
            Member::Child(key) => {
                visit(key);
                true
            }
            Member::Group(group) => {
                let members = self.all[group].members.values();
                members.fold(false, |has_any, &member| self.visit(member, visit) | has_any)
            }
        }
    }
}

// === impl Group ===

impl<K> Group<K> {
    fn new(id: Option<GroupId>) -> Self {
        Self {
            id,
            parent: None,
            position: 0,
            members: BTreeMap::new(),
            is_ordered: true,
            strategy: Strategy::OneForOne,
            intensity: None,
            escalate: Escalate::Isolate,
            record: Record::default(),
        }
    }

    fn of(spec: &GroupSpec) -> Self {
        let GroupSpec { id, members: _, strategy, intensity, escalate } = spec.clone();
        Self { strategy, intensity: Some(intensity), escalate, ..Self::new(Some(id)) }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member<K>> {
        self.members.values()
    }

    /// The groups right inside it.
    pub(super) fn inner(&self) -> impl Iterator<Item = usize> {
        self.members.values().filter_map(|member| match member {
            Member::Child(_) => None,
            Member::Group(group) => Some(*group),
        })
    }

    /// Restarts charged to it within the window that ends now.
    pub(super) fn used(&self, now: Time) -> u32 {
        self.intensity.map_or(0, |intensity| self.record.window.used(intensity, now))
    }
}

// === impl Record ===

impl<K> Default for Record<K> {
    fn default() -> Self {
        Self { window: Window::default(), failures: 0, offender: None, failed: false }
    }
}
