//! Children that come up together, one after the other where their groups are ordered.
//!
//! The order of members counts only among those that come up together: a child that is restarted alone waits for nobody
//! but what it needs. A batch is such a coming up. While its leader waits in backoff, all of it waits.

use std::collections::BTreeSet;

use super::Engine;
use super::child::{Child, State};
use super::table::Key;

/// Names one batch.
pub(super) type BatchId = u64;

/// A batch under way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    leader: Option<Leader>,
    members: Vec<Key>,
    /// How many are not up yet.
    coming: usize,
}

/// The child whose failure was the reason, or that holds others up.
#[derive(Debug, Clone, Copy)]
struct Leader {
    at: Key,
    /// It holds up the members of this group only; `None`: the whole batch.
    group: Option<usize>,
}

// === impl Engine ===

impl Engine {
    /// Makes children come up together. One alone is no batch.
    pub(super) fn form_batch(&mut self, members: Vec<Key>, leader: Option<Key>) {
        let id = if members.len() > 1 {
            self.last_batch += 1;
            let leader = leader.map(|at| Leader { at, group: None });
            self.batches.insert(self.last_batch, Batch { leader, ..Batch::default() });
            Some(self.last_batch)
        } else {
            None
        };
        for &at in &members {
            self.set_batch(at, id);
        }
        if let Some(batch) = id.and_then(|id| self.batches.get_mut(&id)) {
            batch.members.clone_from(&members);
        }
        members.into_iter().for_each(|at| self.wake(at));
    }

    pub(super) fn leave_batch(&mut self, at: Key) {
        self.set_batch(at, None);
    }

    fn set_batch(&mut self, at: Key, batch: Option<BatchId>) {
        let led = self.batch_of(at);
        if self.children[at].batch != batch {
            self.note_coming(at, false);
            self.children[at].batch = batch;
        }
        self.refresh_coming(at);
        led.into_iter().for_each(|other| self.wake(other));
    }

    /// Brings up to date whether others of its batch wait for a child; to be called when its state has changed.
    pub(super) fn refresh_coming(&mut self, at: Key) {
        let child = &self.children[at];
        // What is on its way down has been told to come up again, or will leave the batch.
        let is_coming = child.batch.is_some() && (child.is_on_its_way() || child.leaves());
        self.note_coming(at, is_coming);
    }

    fn note_coming(&mut self, at: Key, is_coming: bool) {
        let child = &mut self.children[at];
        let Some(id) = child.batch.filter(|_| child.is_coming != is_coming) else { return };
        child.is_coming = is_coming;
        let Some(batch) = self.batches.get_mut(&id) else { return };
        if is_coming {
            batch.coming += 1;
            return;
        }
        batch.coming -= 1;
        if batch.coming == 0 {
            self.batches.remove(&id);
        } else {
            self.wake_above(at, id);
        }
    }

    /// Wakes those of a batch that come right after a child; what is not of the batch is looked past.
    fn wake_above(&mut self, at: Key, id: BatchId) {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![at]);
        while let Some(at) = todo.pop() {
            for above in self.groups.after(self.children[at].seat) {
                if self.children[above].batch == Some(id) {
                    self.wake(above);
                } else if seen.insert(above) {
                    todo.push(above);
                }
            }
        }
    }

    /// Whom a pending child of a batch has to let come up first.
    pub(super) fn predecessors(&self, at: Key) -> Vec<Key> {
        let child = &self.children[at];
        let Some((id, batch)) = child.batch.and_then(|id| Some((id, self.batches.get(&id)?))) else {
            return Vec::new();
        };
        if let Some(leader) = batch.leader.filter(|&leader| self.holds_up(leader, id, at)) {
            return vec![leader.at];
        }
        let (mut found, mut seen, mut todo) = (Vec::new(), BTreeSet::new(), self.groups.before(child.seat));
        while let Some(before) = todo.pop() {
            let other = &self.children[before];
            match other.batch == Some(id) {
                true if other.is_coming => found.push(before),
                // It is up, and has waited for those before it in turn.
                true => {}
                false if seen.insert(before) => todo.extend(self.groups.before(other.seat)),
                false => {}
            }
        }
        found.sort_by_key(|&before| self.children[before].rank);
        found
    }

    /// Whether a child has to wait because a leader waits in backoff.
    fn holds_up(&self, leader: Leader, id: BatchId, at: Key) -> bool {
        let in_backoff = |child: &&Child| child.batch == Some(id) && matches!(child.state, State::Backoff { .. });
        let reaches = |group: usize| self.groups.upwards(self.children[at].seat.group).any(|around| around == group);
        leader.at != at && leader.group.is_none_or(reaches) && self.children.get(leader.at).filter(in_backoff).is_some()
    }

    /// Whether a child is pending behind a leader that waits in backoff: OTP calls it not running.
    pub(super) fn is_stalled(&self, at: Key) -> bool {
        let child = &self.children[at];
        let batch = child.batch.and_then(|id| Some((id, self.batches.get(&id)?)));
        let leader = batch.and_then(|(id, batch)| Some((id, batch.leader?)));
        matches!(child.state, State::Pending(_)) && leader.is_some_and(|(id, leader)| self.holds_up(leader, id, at))
    }

    /// A member that failed to start holds up the rest of its group.
    pub(super) fn lead_batch(&mut self, at: Key) {
        let group = Some(self.children[at].seat.group);
        if let Some(batch) = self.children[at].batch.and_then(|id| self.batches.get_mut(&id)) {
            batch.leader = Some(Leader { at, group });
        }
    }

    /// The pending members of the batch that a child leads.
    pub(super) fn batch_of(&self, leader: Key) -> Vec<Key> {
        let id = self.children[leader].batch;
        let leads = |batch: &&Batch| batch.leader.is_some_and(|known| known.at == leader);
        let led = id.and_then(|id| self.batches.get(&id)).filter(leads);
        let is_waiting = |at: &Key| {
            let child = self.children.get(*at).filter(|child| child.batch == id);
            *at != leader && child.is_some_and(|child| matches!(child.state, State::Pending(_)))
        };
        led.map(|batch| batch.members.iter().copied().filter(is_waiting).collect()).unwrap_or_default()
    }
}
