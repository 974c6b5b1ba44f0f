//! How children go down together: who, in which order, and who waits for the last of them.
//!
//! A *fall* is one such going down. Its nodes are its members, and what stands between them in the order, so that two
//! members are kept in order also when what is between them is dead or stays up. A life may be part of several falls: it
//! is asked to end when its turn has come in each.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

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
    /// The nodes right below it, which wait for it.
    below: Vec<Key>,
}

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

    fn is_turn(&self, at: Key) -> bool {
        self.nodes.get(&at).is_none_or(|node| node.waits == 0)
    }

    /// Releases what is right below nodes that are over, and below those in turn if they are; returns whose turn has come.
    fn release(&mut self, over: Vec<Key>) -> Vec<Key> {
        let (mut over, mut turns) = (over, Vec::new());
        while let Some(at) = over.pop() {
            let below = self.nodes.get(&at).map(|node| node.below.clone()).unwrap_or_default();
            for lower in below {
                let Some(node) = self.nodes.get_mut(&lower) else { continue };
                node.waits -= 1;
                match (node.waits, node.is_gone) {
                    (0, true) => over.push(lower),
                    (0, false) => turns.push(lower),
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
                self.children[at].falls.extend(fall);
                self.leave(at, next, cause);
            } else {
                self.settle(at, next, cause);
            }
        }
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
            (node.waits, node.below) = (0, Vec::new());
        }
        for nth in 0..fall.nodes.len() {
            let at = *fall.nodes.get_index(nth).expect("invariant: within its length").0;
            for above in self.right_above(at) {
                if let Some(node) = fall.nodes.get_mut(&above) {
                    node.below.push(at);
                    fall.nodes[nth].waits += 1;
                }
            }
        }
        let free = |(&at, node): (&Key, &Node)| (node.is_gone && node.waits == 0).then_some(at);
        let over = fall.nodes.iter().filter_map(free).collect();
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
            for above in self.right_above(at) {
                fall.nodes.entry(above).or_insert_with(|| Node { is_gone: true, ..Node::default() });
            }
            nth += 1;
        }
    }

    /// What comes right after a child: its dependents, and its neighbours in ordered groups.
    fn right_above(&self, at: Key) -> Vec<Key> {
        let Some(child) = self.children.get(at) else { return Vec::new() };
        let mut above = self.groups.after(child.seat);
        above.extend(child.dependents.iter().map(|link| link.to));
        above
    }

    /// Whether a life that is on its way down may be asked to end.
    pub(super) fn is_turn(&self, at: Key) -> bool {
        self.children[at].falls.iter().all(|fall| self.falls.get(fall).is_none_or(|fall| fall.is_turn(at)))
    }

    /// A life is over, or turned out to stay: either way nobody waits for it any more.
    pub(super) fn leave_falls(&mut self, at: Key) {
        for id in std::mem::take(&mut self.children[at].falls) {
            let Some(fall) = self.falls.get_mut(&id) else { continue };
            let Some(node) = fall.nodes.get_mut(&at) else { continue };
            node.is_gone = true;
            let over = if node.waits == 0 { vec![at] } else { Vec::new() };
            let turns = fall.release(over);
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
