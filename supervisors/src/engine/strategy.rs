//! Who goes down together with whom.
//!
//! A child outside a declared group is a group of one under `one_for_one`: the set is the child and those dependents
//! whose edges say so. A group's strategy adds its members to the roots of the same walk.

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexMap;

use super::child::Child;
use super::order::{Link, Order};
use super::view::Desired;
use crate::spec::{ChildId, Condition, Restart, Then};

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
    /// The place of the need it follows.
    pub(super) on: usize,
    /// Whether it comes up again.
    pub(super) again: bool,
}

/// The dependents that go down with `roots`, by place, the roots themselves excepted.
///
/// Followers lose their life, so theirs follow in turn. Where one edge says `restart` and another `stop`, `stop` holds.
/// Temporary children go down but are not started again; children that are not alive, and those an operator wants
/// down, have nothing to lose.
pub(super) fn followers(
    order: &Order,
    children: &IndexMap<ChildId, Child>,
    roots: &[usize],
    loss: Loss,
) -> BTreeMap<usize, Follower> {
    let mut found: BTreeMap<usize, Follower> = BTreeMap::new();
    let mut todo: VecDeque<(usize, Loss)> = roots.iter().map(|&root| (root, loss)).collect();
    while let Some((on, loss)) = todo.pop_front() {
        for link in order.dependents(on).iter().filter(|link| concerns(link, loss)) {
            let child = &children[link.to];
            if roots.contains(&link.to) || child.desired == Desired::Down || child.life().is_none() {
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
    found
}

fn concerns(link: &Link, loss: Loss) -> bool {
    match (link.then, loss) {
        (Then::Ignore, _) => false,
        (Then::Restart | Then::Stop, Loss::Life) => true,
        (Then::Restart | Then::Stop, Loss::Readiness) => link.is == Condition::Ready,
    }
}
