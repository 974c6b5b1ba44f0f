//! What follows from the states alone: stops whose turn has come, and starts whose conditions hold.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::child::{Birth, Life, Pending, State};
use super::table::Key;
use super::{Cause, Desired, Effect, Engine, How, TimerKind, What};
use crate::spec::{ChildId, Condition, Incarnation, Shutdown};

/// How many of those that a child waits for are named: enough for people, and no list of a hundred thousand.
pub(super) const BLOCKED_BY_MAX: usize = 16;

/// Children that may have to be started or stopped since something they wait for has changed; the engine looks at no other.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// On their way down: what comes last in the order first.
    stops: BTreeSet<(Reverse<u64>, Key)>,
    /// Pending: what comes first in the order first.
    pending: BTreeSet<(u64, Key)>,
    /// Pending, and waiting for nothing but a free place among those that start.
    free: BTreeSet<(u64, Key)>,
}

// === impl Engine ===

impl Engine {
    /// Has a child looked at that may start now.
    pub(super) fn wake(&mut self, at: Key) {
        let child = &self.children[at];
        if matches!(child.state, State::Pending(_)) {
            self.work.pending.insert((child.topo, at));
        }
    }

    /// Has everything looked at that needs a child.
    pub(super) fn wake_dependents(&mut self, at: Key) {
        for nth in 0..self.children[at].dependents.len() {
            self.wake(self.children[at].dependents[nth].to);
        }
    }

    /// Has a child looked at that may be asked to end now.
    pub(super) fn note_stop(&mut self, at: Key) {
        if let Some(child) = self.children.get(at) {
            self.work.stops.insert((Reverse(child.topo), at));
        }
    }

    /// Asks every leaving life to end whose turn has come, dependents first.
    pub(super) fn begin_stops(&mut self) {
        while let Some((_, at)) = self.work.stops.pop_first() {
            if let Some(State::Running(life) | State::Ready(life)) = self.children.get(at).map(|child| &child.state)
                && life.leaving.is_some()
                && self.is_turn(at)
            {
                let life = life.clone();
                self.begin_stop(at, life);
            }
        }
    }

    fn begin_stop(&mut self, at: Key, life: Life) {
        let incarnation = life.incarnation;
        let kill = life.leaving.as_ref().is_some_and(|leaving| leaving.kill);
        self.enter(at, State::Stopping(life));
        match self.children[at].spec.shutdown {
            Shutdown::BrutalKill => self.kill(at),
            Shutdown::Timeout(_) | Shutdown::Infinity if kill => self.kill(at),
            Shutdown::Timeout(grace) => {
                self.ask_to_stop(at, incarnation);
                self.arm(at, TimerKind::Grace, self.now.saturating_add(grace));
            }
            Shutdown::Infinity => self.ask_to_stop(at, incarnation),
        }
    }

    fn ask_to_stop(&mut self, at: Key, incarnation: Incarnation) {
        self.report_state(at, What::Stopping);
        self.effect(Effect::Stop { id: self.id(at), key: at, incarnation });
    }

    /// Ends a stopping life at once. It is never assumed to be dead before its exit is told.
    pub(super) fn kill(&mut self, at: Key) {
        if let State::Stopping(life) = &mut self.children[at].state {
            let incarnation = life.incarnation;
            if let Some(leaving) = &mut life.leaving {
                leaving.kill = true;
            }
            self.cancel_timer(at);
            self.report_state(at, What::Killing);
            self.effect(Effect::Kill { id: self.id(at), key: at, incarnation });
        }
    }

    /// Starts what is pending and may start, needs first, up to the limit of parallel starts.
    pub(super) fn start_pending(&mut self) {
        loop {
            let next = self.work.pending.first().copied();
            let has_place = self.starting < self.options.start_parallel_max.max(1);
            match self.work.free.first().copied().filter(|free| has_place && next.is_none_or(|next| *free < next)) {
                Some(free) => {
                    self.work.free.remove(&free);
                    self.spawn(free.1);
                }
                None if next.is_some() => self.look_at_next_pending(),
                None => break,
            }
        }
    }

    fn look_at_next_pending(&mut self) {
        let Some((topo, at)) = self.work.pending.pop_first() else { return };
        self.work.free.remove(&(topo, at));
        if self.children.get(at).is_some_and(|child| matches!(child.state, State::Pending(_))) {
            let blockers = self.blockers(at);
            if blockers.is_empty() {
                self.work.free.insert((topo, at));
            }
            self.tell_blocked(at, &blockers);
        }
    }

    /// Forgets what was to be looked at in a child: it is pending no more, or its place in the order changes.
    pub(super) fn forget_work(&mut self, at: Key) {
        let topo = self.children[at].topo;
        self.work.pending.remove(&(topo, at));
        self.work.free.remove(&(topo, at));
    }

    /// Has everything looked at again, in a new order.
    pub(super) fn look_at_all(&mut self) {
        self.work = Work::default();
        let keys: Vec<_> = self.children.keys().collect();
        for at in keys {
            self.wake(at);
            self.note_stop(at);
            self.refresh_coming(at);
        }
    }

    fn spawn(&mut self, at: Key) {
        let Some(State::Pending(Pending { birth, .. })) = self.children.get(at).map(|child| child.state.clone()) else {
            return;
        };
        let child = &mut self.children[at];
        child.lives += 1;
        let incarnation = Incarnation(child.lives);
        let what = match birth {
            Birth::Start => What::Starting,
            Birth::Manual => What::Restarting,
            Birth::Automatic => {
                child.restarts += 1;
                What::Restarting
            }
        };
        self.enter(at, State::Starting(Life::new(incarnation)));
        self.report_state(at, what);
        self.effect(Effect::Spawn { id: self.id(at), key: at, incarnation });
    }

    /// What a pending child waits for: needs whose condition does not hold, those that come up before it, and lives that
    /// must be over first. One is named once; many are cut short.
    pub(super) fn blockers(&self, at: Key) -> Vec<(ChildId, How)> {
        let child = &self.children[at];
        let unmet = child.needs.iter().filter(|link| !self.children[link.to].satisfies(link.is));
        let unmet = unmet.map(|link| (link.to, self.how_unmet(link.to, link.is)));
        let before = self.predecessors(at);
        let falling = child.barrier.iter().filter_map(|fall| self.falls.get(fall)).flat_map(|fall| fall.open());
        let rest = before.into_iter().map(|on| (on, How::Ordered)).chain(falling.map(|on| (on, How::GoingDown)));
        let mut found: Vec<(ChildId, How)> = Vec::new();
        for (on, how) in unmet.chain(rest) {
            if found.len() == BLOCKED_BY_MAX {
                break;
            }
            let id = self.id(on);
            if found.iter().all(|(known, _)| *known != id) {
                found.push((id, how));
            }
        }
        found
    }

    fn how_unmet(&self, need: Key, is: Condition) -> How {
        let need = &self.children[need];
        match need.state {
            State::Failed => How::Failed,
            State::Done => How::Ended,
            _ if need.desired == Desired::Down => How::Stopped,
            State::Pending(_)
            | State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Stopped => How::Awaited(is),
        }
    }

    /// Notes what a pending child waits for. Reported when something new stands in its way, not when something goes.
    fn tell_blocked(&mut self, at: Key, blockers: &[(ChildId, How)]) {
        let worst = worst(blockers);
        let cause = worst.map(waiting_for);
        let by: Vec<_> = blockers.iter().map(|(id, _)| id.clone()).collect();
        let State::Pending(pending) = &mut self.children[at].state else { return };
        let grew = by.iter().any(|id| !pending.blocked_by.contains(id));
        let hopeless = pending.blocked_cause != cause && worst.is_some_and(|(_, how)| how.hope() == 0);
        pending.blocked_by.clone_from(&by);
        pending.blocked_cause.clone_from(&cause);
        if grew || hopeless {
            self.report(at, What::Blocked { by }, cause);
        }
    }
}

/// The least hopeful of what a child waits for.
pub(super) fn worst(blockers: &[(ChildId, How)]) -> Option<&(ChildId, How)> {
    blockers.iter().min_by_key(|(_, how)| how.hope())
}

pub(super) fn waiting_for((on, how): &(ChildId, How)) -> Cause {
    Cause::Dependency { on: on.clone(), how: *how }
}
