//! What the operator asks for: start, stop, restart, kill, and taking over lives that run already.

use std::collections::BTreeSet;

use super::child::{Birth, Life, Next, Pending, State};
use super::fall::Member;
use super::strategy::Loss;
use super::{Cause, Desired, Engine, How, Rest, What};
use crate::spec::{ChildId, Condition, Incarnation};

// === impl Engine ===

impl Engine {
    pub(super) fn start(&mut self, ids: &[ChildId], with_needs: bool) {
        let named = self.places(ids);
        let mut wanted: BTreeSet<usize> = if ids.is_empty() { self.present().collect() } else { named.clone() };
        if with_needs {
            let needs: Vec<_> = wanted.iter().flat_map(|&at| self.order.all_needs(at)).collect();
            wanted.extend(needs);
        }
        let again: Vec<_> =
            wanted.iter().map(|&at| (at, named.contains(&at) || self.is_missed_ready(at, &wanted))).collect();
        for (at, again) in again {
            self.want_up(at, again);
        }
    }

    /// Whether a child that ended is needed `ready` by one that is about to start: staying done would block it for ever.
    fn is_missed_ready(&self, at: usize, wanted: &BTreeSet<usize>) -> bool {
        self.order.dependents(at).iter().any(|link| {
            link.is == Condition::Ready && wanted.contains(&link.to) && self.children[link.to].life().is_none()
        })
    }

    /// Wants a child up; `again`: even if it is done.
    fn want_up(&mut self, at: usize, again: bool) {
        let child = &mut self.children[at];
        let again = again || child.desired == Desired::Down;
        child.desired = Desired::Up;
        child.budget.reset();
        match &mut child.state {
            State::Stopped | State::Failed | State::Backoff { .. } => self.pend(at, Birth::Start),
            State::Done if again => self.pend(at, Birth::Start),
            State::Stopping(life) => {
                if let Some(leaving) = &mut life.leaving {
                    leaving.next = Next::Again(Birth::Start);
                    child.cause = Some(Cause::Operator);
                }
            }
            State::Starting(life) | State::Running(life) | State::Ready(life) => {
                if life.leaving.take_if(|leaving| leaving.next == Next::Down).is_some() {
                    child.cause = Some(Cause::Operator);
                    self.cancel_timers(at);
                    self.arm_life(at);
                }
            }
            State::Pending(_) | State::Done => {}
        }
    }

    fn pend(&mut self, at: usize, birth: Birth) {
        self.children[at].cause = Some(Cause::Operator);
        self.enter(at, State::Pending(Pending::new(birth)));
    }

    pub(super) fn stop(&mut self, ids: &[ChildId]) {
        if ids.is_empty() {
            // Whoever stops everything waits for Idle, also when nothing was up.
            self.was_idle = false;
            return self.stop_all(&Cause::Shutdown);
        }
        let roots: Vec<_> = self.places(ids).into_iter().collect();
        let members = roots.iter().map(|&at| Member { at, next: Next::Down, cause: Cause::Operator }).collect();
        self.fell(&roots, members, How::Stopped);
    }

    pub(super) fn stop_all(&mut self, cause: &Cause) {
        let member = |at| Member { at, next: Next::Down, cause: cause.clone() };
        self.bring_down((0..self.children.len()).map(member).collect());
    }

    pub(super) fn restart(&mut self, ids: &[ChildId]) {
        let roots: Vec<_> = if ids.is_empty() {
            self.present().filter(|&at| self.is_wanted_running(at)).collect()
        } else {
            self.places(ids).into_iter().collect()
        };
        self.restart_all(&roots, &Cause::Operator);
    }

    /// Restarts children, not counted, with those dependents whose edges say so.
    pub(super) fn restart_all(&mut self, roots: &[usize], cause: &Cause) {
        for &at in roots {
            let child = &mut self.children[at];
            child.desired = Desired::Up;
            child.budget.reset();
            if let Some(leaving) = child.life_mut().and_then(|life| life.leaving.as_mut()) {
                leaving.next = Next::Again(Birth::Manual);
                child.cause = Some(cause.clone());
            }
        }
        let member = |&at: &usize| Member { at, next: Next::Again(Birth::Manual), cause: cause.clone() };
        self.fell(roots, roots.iter().map(member).collect(), How::Restarted);
    }

    /// Brings down `members` at `roots`, with the followers of those that are alive.
    fn fell(&mut self, roots: &[usize], mut members: Vec<Member>, how: How) {
        let alive: Vec<_> = roots.iter().copied().filter(|&at| self.children[at].life().is_some()).collect();
        let followers = self.members_following(&alive, Loss::Life, how);
        members.extend(followers.into_iter().filter(|follower| !roots.contains(&follower.at)));
        self.bring_down(members);
    }

    pub(super) fn kill_leaving(&mut self, ids: &[ChildId]) {
        let chosen = if ids.is_empty() { (0..self.children.len()).collect() } else { self.places(ids) };
        for at in chosen {
            let stopping = matches!(self.children[at].state, State::Stopping(_));
            let leaving = self.children[at].life_mut().and_then(|life| life.leaving.as_mut());
            match leaving {
                Some(leaving) if !leaving.kill => {
                    leaving.kill = true;
                    if stopping {
                        self.kill(at);
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    pub(super) fn adopt(&mut self, id: &ChildId, incarnation: Incarnation, restarts: u32, ready: bool) {
        let Some((at, _, child)) = self.children.get_full_mut(id) else { return };
        if child.life().is_some() || child.removed {
            return;
        }
        child.desired = Desired::Up;
        child.lives = child.lives.max(incarnation.0);
        child.restarts = restarts;
        child.cause = Some(Cause::Adopted);
        let is_ready = ready && !child.never_reports_readiness();
        let life = Life { was_ready: is_ready, ..Life::new(incarnation) };
        self.enter(at, if is_ready { State::Ready(life) } else { State::Running(life) });
        self.report_state(at, What::Adopted);
        self.arm_life(at);
    }

    pub(super) fn restore(&mut self, id: &ChildId, incarnation: Incarnation, restarts: u32, rest: Option<Rest>) {
        let Some((at, _, child)) = self.children.get_full_mut(id) else { return };
        if child.life().is_some() || child.removed {
            return;
        }
        child.lives = child.lives.max(incarnation.0);
        child.restarts = restarts;
        if let Some(rest) = rest {
            child.desired = Desired::Up;
            self.enter(at, if rest == Rest::Done { State::Done } else { State::Failed });
        }
    }

    fn is_wanted_running(&self, at: usize) -> bool {
        self.children[at].desired == Desired::Up && !matches!(self.children[at].state, State::Done)
    }

    /// Places of the children that are not about to be dropped.
    fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.children.len()).filter(|&at| !self.children[at].removed)
    }

    /// Places of the named children; names of nobody are skipped.
    fn places(&self, ids: &[ChildId]) -> BTreeSet<usize> {
        let known = ids.iter().filter_map(|id| self.children.get_index_of(id));
        known.filter(|&at| !self.children[at].removed).collect()
    }
}
