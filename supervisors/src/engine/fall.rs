//! How children go down together: who, in which order, and who waits for the last of them.
//!
//! A *fall* is one such going down. Its nodes are its members, and what stands between them in the order, so that two
//! members are kept in order also when what is between them is dead or stays up. A life may be part of several falls: it
//! is asked to end when its turn has come in each.

use std::collections::BTreeMap;
use std::ops::Range;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::child::{Leaving, Next, Pending, State};
use super::strategy::{self, Follower, Loss};
use super::table::Key;
use super::{Cause, Desired, Engine, How};

/// Names one fall.
pub(super) type FallId = u64;

/// A fall under way.
#[derive(Debug, Default)]
pub(super) struct Fall {
    nodes: IndexMap<Key, Node, FxBuildHasher>,
    /// What is right below each node and waits for it, of all nodes in turn.
    below: Vec<usize>,
    /// Members whose lives are not over.
    open: usize,
    /// Children whose next lives wait for the end of all.
    waiting: Vec<Key>,
}

#[derive(Debug, Default)]
struct Node {
    /// How many nodes right above it are not over yet.
    waits: usize,
    /// Its life is over, it had none, or it stays up.
    is_gone: bool,
    /// Where in the fall's list those stand that are right below it.
    below: Range<usize>,
}

/// A child's place among the nodes of a fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) fall: FallId,
    nth: usize,
}

/// Nodes that are told one after the other: a few, as a rule.
type Few<T> = SmallVec<[T; 4]>;

/// A child of a fall: who, what follows, and why.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) at: Key,
    pub(super) next: Next,
    pub(super) cause: Cause,
}

// === impl Fall ===

impl Fall {
    /// Members whose lives are not over, in the order in which they were told.
    pub(super) fn open(&self) -> impl Iterator<Item = Key> {
        self.nodes.iter().filter(|(_, node)| !node.is_gone).map(|(&at, _)| at)
    }

    fn is_turn(&self, nth: usize) -> bool {
        self.nodes[nth].waits == 0
    }

    /// Makes the second node of each pair wait for the first; they waited for none before.
    fn link(&mut self, mut pairs: Vec<(usize, usize)>) {
        pairs.sort_unstable();
        for (nth, &(above, lower)) in pairs.iter().enumerate() {
            let below = &mut self.nodes[above].below;
            let start = if below.start == below.end { nth } else { below.start };
            *below = start..nth + 1;
            self.nodes[lower].waits += 1;
        }
        self.below = pairs.into_iter().map(|(_, lower)| lower).collect();
    }

    /// Releases what is right below nodes that are over, and below those in turn if they are; returns whose turn has come.
    fn release(&mut self, mut over: Few<usize>) -> Few<Key> {
        let mut turns = Few::new();
        while let Some(nth) = over.pop() {
            for lower in self.nodes[nth].below.clone() {
                let lower = self.below[lower];
                let (&at, node) = self.nodes.get_index_mut(lower).expect("invariant: below stand nodes");
                node.waits -= 1;
                match (node.waits, node.is_gone) {
                    (0, true) => over.push(lower),
                    (0, false) => turns.push(at),
                    (1.., _) => {}
                }
            }
        }
        turns
    }
}

// === impl Engine ===

impl Engine {
    /// Brings down the dependents whose edges say so. The child itself waits for their lives to be over.
    pub(super) fn take_along(&mut self, at: Key, loss: Loss, how: How) {
        let members = self.members_following(&[at], loss, how);
        self.bring_down(members, Some(at));
    }

    /// The followers of `roots` as members of their fall.
    pub(super) fn members_following(&self, roots: &[Key], loss: Loss, how: How) -> Vec<Member> {
        let found = strategy::followers(&self.children, roots, loss);
        // What was taken along itself has not crashed.
        let again: BTreeMap<Key, bool> = found.iter().map(|(at, follower)| (*at, follower.again)).collect();
        let seen = |on: Key| match again.get(&on) {
            None => how,
            Some(true) => How::Restarted,
            Some(false) => How::Stopped,
        };
        let member = |(at, follower): (Key, Follower)| Member {
            at,
            next: if follower.again { Next::Again(how.birth()) } else { Next::Down },
            cause: Cause::Dependency { on: self.id(follower.on), how: seen(follower.on) },
        };
        found.into_iter().map(member).collect()
    }

    /// Brings children down together: each after those that come after it, and those that come up again only when all are
    /// down for real. So does `waiting`, which is down already.
    pub(super) fn bring_down(&mut self, members: Vec<Member>, waiting: Option<Key>) {
        let is_alone = members.len() + usize::from(waiting.is_some()) <= 1;
        let is_anyone_alive = members.iter().any(|member| self.children[member.at].life().is_some());
        let fall = (!is_alone && is_anyone_alive).then(|| self.open_fall(&members));
        if let Some((fall, at)) = fall.zip(waiting) {
            self.wait_for(at, fall);
        }
        for Member { at, next, cause } in members {
            match next {
                Next::Down => self.want_down(at),
                Next::Again(_) | Next::Crash(_) | Next::Fail => {
                    if let Some(fall) = fall {
                        self.wait_for(at, fall);
                    }
                }
            }
            if self.children[at].life().is_some() {
                self.take_place(at, fall);
                self.leave(at, next, cause);
            } else {
                self.settle(at, next, cause);
            }
        }
    }

    fn take_place(&mut self, at: Key, fall: Option<FallId>) {
        let nodes = |id: FallId| self.falls.get(&id).and_then(|fall| fall.nodes.get_index_of(&at));
        let place = fall.and_then(|fall| Some(Place { fall, nth: nodes(fall)? }));
        self.children[at].falls.extend(place);
    }

    fn wait_for(&mut self, at: Key, fall: FallId) {
        if let Some(known) = self.falls.get_mut(&fall) {
            known.waiting.push(at);
            self.children[at].barrier.push(fall);
            self.wake(at);
        }
    }

    pub(super) fn want_down(&mut self, at: Key) {
        if self.children[at].desired == Desired::Up {
            self.children[at].desired = Desired::Down;
            self.wake_dependents(at);
        }
    }

    fn open_fall(&mut self, members: &[Member]) -> FallId {
        let mut fall = Fall::default();
        for &Member { at, .. } in members {
            let is_gone = self.children[at].life().is_none();
            fall.open += usize::from(!is_gone);
            fall.nodes.insert(at, Node { is_gone, ..Node::default() });
        }
        self.add_what_is_between(&mut fall);
        self.link_fall(&mut fall);
        self.last_fall += 1;
        self.falls.insert(self.last_fall, fall);
        self.last_fall
    }

    /// Makes each node wait for those right above it.
    fn link_fall(&self, fall: &mut Fall) {
        for node in fall.nodes.values_mut() {
            (node.waits, node.below) = (0, 0..0);
        }
        let mut pairs = Vec::new();
        for (nth, &at) in fall.nodes.keys().enumerate() {
            self.each_right_above(at, |above| pairs.extend(fall.nodes.get_index_of(&above).map(|above| (above, nth))));
        }
        fall.link(pairs);
        let free = |(nth, node): (usize, &Node)| (node.is_gone && node.waits == 0).then_some(nth);
        let over = fall.nodes.values().enumerate().filter_map(free).collect();
        fall.release(over);
    }

    /// The order has changed: what is under way goes on in the new one, or two falls might wait for each other.
    pub(super) fn relink_falls(&mut self) {
        for (id, mut fall) in std::mem::take(&mut self.falls) {
            self.link_fall(&mut fall);
            self.falls.insert(id, fall);
        }
    }

    /// Everything above the members joins as a node that is over by itself. Those that no member is above are harmless.
    fn add_what_is_between(&self, fall: &mut Fall) {
        if fall.nodes.len() == self.children.len() {
            return;
        }
        let mut nth = 0;
        while let Some((&at, _)) = fall.nodes.get_index(nth) {
            self.each_right_above(at, |above| {
                fall.nodes.entry(above).or_insert_with(|| Node { is_gone: true, ..Node::default() });
            });
            nth += 1;
        }
    }

    /// Visits what comes right after a child: its neighbours in ordered groups, and its dependents.
    fn each_right_above(&self, at: Key, mut visit: impl FnMut(Key)) {
        let Some(child) = self.children.get(at) else { return };
        self.groups.each_after(child.seat, &mut visit);
        child.dependents.iter().for_each(|link| visit(link.to));
    }

    /// Whether a life that is on its way down may be asked to end.
    pub(super) fn is_turn(&self, at: Key) -> bool {
        let is_turn = |place: &Place| self.falls.get(&place.fall).is_none_or(|fall| fall.is_turn(place.nth));
        self.children[at].falls.iter().all(is_turn)
    }

    /// A life is over, or turned out to stay: either way nobody waits for it any more.
    pub(super) fn leave_falls(&mut self, at: Key) {
        for Place { fall: id, nth } in std::mem::take(&mut self.children[at].falls) {
            let Some(fall) = self.falls.get_mut(&id) else { continue };
            fall.nodes[nth].is_gone = true;
            let over = fall.is_turn(nth).then_some(nth);
            let turns = fall.release(over.into_iter().collect());
            fall.open -= 1;
            if fall.open == 0 {
                self.end_fall(id);
            }
            turns.into_iter().for_each(|at| self.note_stop(at));
        }
    }

    fn end_fall(&mut self, id: FallId) {
        let Some(fall) = self.falls.remove(&id) else { return };
        for at in fall.waiting {
            if self.children.get(at).is_some() {
                self.children[at].barrier.retain(|barrier| *barrier != id);
                self.wake(at);
            }
        }
    }

    /// Puts a life on its way down.
    fn leave(&mut self, at: Key, next: Next, cause: Cause) {
        let child = &mut self.children[at];
        let Some(life) = child.life_mut() else { return };
        let changed = match &mut life.leaving {
            Some(leaving) => leaving.merge(next),
            None => {
                life.leaving = Some(Leaving { next, kill: false });
                true
            }
        };
        if changed {
            child.cause = Some(cause);
        }
        self.note_stop(at);
        self.wake_dependents(at);
    }

    /// What being brought down means for a child that is not alive.
    fn settle(&mut self, at: Key, next: Next, cause: Cause) {
        match (&self.children[at].state, next) {
            (State::Pending(_) | State::Backoff { .. }, Next::Down) => {
                self.children[at].cause = Some(cause);
                self.down(at);
            }
            (State::Pending(_) | State::Backoff { .. }, Next::Fail) => self.fail(at, cause),
            (State::Backoff { .. } | State::Stopped | State::Done | State::Failed, Next::Again(birth)) => {
                self.children[at].cause = Some(cause);
                self.children[at].desired = Desired::Up;
                self.enter(at, State::Pending(Pending::new(birth)));
            }
            (State::Pending(_), Next::Again(_) | Next::Crash(_))
            | (State::Stopped | State::Done | State::Failed, Next::Down | Next::Crash(_) | Next::Fail)
            | (State::Backoff { .. }, Next::Crash(_))
            | (State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_), _) => {}
        }
    }

    /// Ends a life that has failed; its end is judged as a crash.
    pub(super) fn condemn(&mut self, at: Key, cause: Cause) {
        self.leave(at, Next::Crash(Box::new(cause.clone())), cause);
    }
}
