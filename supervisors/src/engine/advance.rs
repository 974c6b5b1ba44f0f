//! What follows from the states alone: stops whose turn has come, and starts whose conditions hold.

use super::child::{Birth, Life, Pending, State};
use super::{Cause, Desired, Effect, Engine, How, TimerKind, What};
use crate::spec::{ChildId, Condition, Incarnation, Shutdown};

// === impl Engine ===

impl Engine {
    /// Asks every leaving life to end whose dependents in the same fall are down, dependents first.
    pub(super) fn begin_stops(&mut self) {
        for nth in (0..self.order.topological().len()).rev() {
            let at = self.order.topological()[nth];
            if let State::Running(life) | State::Ready(life) = &self.children[at].state
                && let Some(leaving) = &life.leaving
                && leaving.after.iter().all(|life| self.is_over(life))
            {
                let life = life.clone();
                self.begin_stop(at, life);
            }
        }
    }

    fn begin_stop(&mut self, at: usize, life: Life) {
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

    fn ask_to_stop(&mut self, at: usize, incarnation: Incarnation) {
        self.report_state(at, What::Stopping);
        self.effect(Effect::Stop { id: self.id(at), incarnation });
    }

    /// Ends a stopping life at once. It is never assumed to be dead before its exit is told.
    pub(super) fn kill(&mut self, at: usize) {
        if let State::Stopping(life) = &mut self.children[at].state {
            let incarnation = life.incarnation;
            if let Some(leaving) = &mut life.leaving {
                leaving.kill = true;
            }
            self.cancel_timers(at);
            self.report_state(at, What::Killing);
            self.effect(Effect::Kill { id: self.id(at), incarnation });
        }
    }

    /// Starts what is pending and may start, needs first, up to the limit of parallel starts.
    pub(super) fn start_pending(&mut self) {
        let starting = self.children.values().filter(|child| matches!(child.state, State::Starting(_))).count();
        let mut slots = self.options.start_parallel_max.max(1).saturating_sub(starting);
        for nth in 0..self.order.topological().len() {
            let at = self.order.topological()[nth];
            if !matches!(self.children[at].state, State::Pending(_)) {
                continue;
            }
            let blockers = self.blockers(at);
            let free = blockers.is_empty();
            self.tell_blocked(at, &blockers);
            if free && slots > 0 {
                slots -= 1;
                self.spawn(at);
            }
        }
    }

    fn spawn(&mut self, at: usize) {
        let child = &mut self.children[at];
        let State::Pending(Pending { birth, .. }) = child.state else { return };
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
        self.effect(Effect::Spawn { id: self.id(at), incarnation });
    }

    /// What a pending child waits for: needs whose condition does not hold, and lives that must be over first.
    fn blockers(&mut self, at: usize) -> Vec<(ChildId, How)> {
        let barrier = std::mem::take(&mut self.children[at].barrier);
        let barrier: Vec<_> = barrier.into_iter().filter(|life| !self.is_over(life)).collect();
        let unmet = self.order.needs(at).iter().filter(|link| !self.children[link.to].satisfies(link.is));
        let mut blockers: Vec<_> = unmet.map(|link| (self.id(link.to), self.how_unmet(link.to, link.is))).collect();
        for life in &barrier {
            if blockers.iter().all(|(id, _)| *id != life.id) {
                blockers.push((life.id.clone(), How::GoingDown));
            }
        }
        self.children[at].barrier = barrier;
        blockers
    }

    fn how_unmet(&self, need: usize, is: Condition) -> How {
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
    fn tell_blocked(&mut self, at: usize, blockers: &[(ChildId, How)]) {
        let worst = blockers.iter().min_by_key(|(_, how)| how.hope());
        let cause = worst.map(|(on, how)| Cause::Dependency { on: on.clone(), how: *how });
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
