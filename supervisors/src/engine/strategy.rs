//! Who goes down together with whom: over edges, and by the strategy of a group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Engine;
use super::child::Link;
use super::groups::ROOT;
use super::table::{Key, Table};
use super::view::Desired;
use crate::spec::{Condition, GroupId, Order, Restart, Strategy, Then};

/// What the dependents of a child lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The life itself: every edge is concerned.
    Life,
    /// Its readiness only: edges that wait for `ready` are concerned.
    Readiness,
}

/// A dependent that goes down with what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Follower {
    /// The need it follows.
    pub(super) on: Key,
    /// Whether it comes up again.
    pub(super) again: bool,
}

/// Those that are restarted together with a child or a group.
#[derive(Debug, Clone)]
pub(super) struct Companions {
    /// The group whose strategy says so; `None`: the supervisor's own.
    pub(super) group: Option<GroupId>,
    pub(super) strategy: Strategy,
    /// In order; the child itself may be among them.
    pub(super) who: Vec<Key>,
}

/// The dependents that go down with `roots`, the roots themselves excepted.
///
/// Followers lose their life, so theirs follow in turn. Where one edge says `restart` and another `stop`, `stop` holds.
/// Temporary children go down but are not started again; children that are not alive, and those an operator wants
/// down, have nothing to lose.
pub(super) fn followers(children: &Table, roots: &[Key], loss: Loss) -> Vec<(Key, Follower)> {
    let known: BTreeSet<Key> = roots.iter().copied().collect();
    let mut found: BTreeMap<Key, Follower> = BTreeMap::new();
    let mut todo: VecDeque<(Key, Loss)> = roots.iter().map(|&root| (root, loss)).collect();
    while let Some((on, loss)) = todo.pop_front() {
        for link in children[on].dependents.iter().filter(|link| concerns(link, loss)) {
            let child = &children[link.to];
            if known.contains(&link.to) || child.desired == Desired::Down || child.life().is_none() {
                continue;
            }
            let again = link.then == Then::Restart && child.spec.restart != Restart::Temporary;
            match found.get_mut(&link.to) {
                Some(known) => known.again &= again,
                None => {
                    found.insert(link.to, Follower { on, again });
                    todo.push_back((link.to, Loss::Life));
                }
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(at, _)| children[*at].rank);
    found
}

fn concerns(link: &Link, loss: Loss) -> bool {
    match (link.then, loss) {
        (Then::Ignore, _) => false,
        (Then::Restart | Then::Stop, Loss::Life) => true,
        (Then::Restart | Then::Stop, Loss::Readiness) => link.is == Condition::Ready,
    }
}

// === impl Engine ===

impl Engine {
    /// Those that the strategy of its group restarts with a child.
    pub(super) fn companions(&self, at: Key) -> Companions {
        let seat = self.children[at].seat;
        let group = self.groups.get(seat.group);
        let who = match group.strategy {
            Strategy::OneForOne => Vec::new(),
            Strategy::OneForAll => self.groups.children(seat.group),
            Strategy::RestForOne if seat.group == ROOT && self.options.flags.order == Order::Needs => {
                self.all_dependents(at)
            }
            Strategy::RestForOne => self.groups.rest(seat),
        };
        Companions { group: group.id.clone(), strategy: group.strategy, who }
    }

    /// Those that the strategy of the group above restarts with a group: the group's own, and what else.
    pub(super) fn companions_of_group(&self, group: usize) -> Companions {
        let own = self.groups.children(group);
        let seat = self.groups.seat_of(group);
        match seat.map(|seat| (seat, self.groups.get(seat.group))) {
            Some((seat, outer)) if outer.strategy != Strategy::OneForOne => {
                let who = match outer.strategy {
                    Strategy::RestForOne => [own, self.groups.rest(seat)].concat(),
                    Strategy::OneForOne | Strategy::OneForAll => self.groups.children(seat.group),
                };
                Companions { group: outer.id.clone(), strategy: outer.strategy, who }
            }
            Some(_) | None => {
                let group = self.groups.get(group).id.clone();
                Companions { group, strategy: Strategy::OneForAll, who: own }
            }
        }
    }

    /// Everything that needs a child, however far away; in a supervisor whose children are no list this is its "rest".
    fn all_dependents(&self, at: Key) -> Vec<Key> {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![at]);
        while let Some(at) = todo.pop() {
            todo.extend(self.children[at].dependents.iter().map(|link| link.to).filter(|&to| seen.insert(to)));
        }
        let mut found: Vec<_> = seen.into_iter().collect();
        found.sort_by_key(|&at| self.children[at].rank);
        found
    }

    /// Everything that these children need, however far away.
    pub(super) fn all_needs(&self, of: impl IntoIterator<Item = Key>) -> BTreeSet<Key> {
        let (mut seen, mut todo) = (BTreeSet::new(), of.into_iter().collect::<Vec<_>>());
        while let Some(at) = todo.pop() {
            todo.extend(self.children[at].needs.iter().map(|link| link.to).filter(|&to| seen.insert(to)));
        }
        seen
    }
}
