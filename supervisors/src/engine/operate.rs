//! What the operator asks for: start, stop, restart, kill, and taking over lives that run already.

use std::collections::BTreeSet;

use super::child::{Birth, Life, Next, Pending, State, Trial};
use super::fall::Member;
use super::groups::Record;
use super::strategy::Loss;
use super::table::Key;
use super::{Cause, Desired, Engine, How, Rest, What};
use crate::spec::{ChildId, Condition, FirstStart, Incarnation, Rules};

// === impl Engine ===

impl Engine {
    pub(super) fn start(&mut self, ids: &[ChildId], with_needs: bool) {
        if self.ending.is_some() {
            return;
        }
        let named = self.named(ids);
        let mut wanted: BTreeSet<Key> = if ids.is_empty() { self.present().collect() } else { named.clone() };
        if with_needs {
            wanted.extend(self.all_needs(wanted.iter().copied()));
        }
        let again: Vec<_> =
            wanted.iter().map(|&at| (at, named.contains(&at) || self.is_missed_ready(at, &wanted))).collect();
        for (at, again) in again {
            self.want_up(at, again);
        }
        if ids.is_empty() {
            self.first_start(&wanted);
        }
        let mut coming: Vec<_> = wanted.into_iter().filter(|&at| self.is_pending(at)).collect();
        coming.sort_by_key(|&at| self.children[at].rank);
        self.form_batch(coming, None);
    }

    /// The first start of all may have to succeed as a whole.
    fn first_start(&mut self, wanted: &BTreeSet<Key>) {
        let is_first = !std::mem::replace(&mut self.was_started, true);
        if is_first && self.options.flags.first_start == FirstStart::AllOrNothing {
            for &at in wanted {
                self.children[at].trial = Some(Trial::End);
            }
        }
    }

    fn is_pending(&self, at: Key) -> bool {
        matches!(self.children[at].state, State::Pending(_))
    }

    /// Whether a child that ended is needed `ready` by one that is about to start: staying done would block it for ever.
    fn is_missed_ready(&self, at: Key, wanted: &BTreeSet<Key>) -> bool {
        self.children[at].dependents.iter().any(|link| {
            link.is == Condition::Ready && wanted.contains(&link.to) && self.children[link.to].life().is_none()
        })
    }

    /// Wants a child up; `again`: even if it is done.
    fn want_up(&mut self, at: Key, again: bool) {
        self.forget_failures(at);
        let child = &mut self.children[at];
        let again = again || child.desired == Desired::Down;
        child.desired = Desired::Up;
        match &mut child.state {
            State::Stopped | State::Failed | State::Backoff { .. } => self.pend(at, Birth::Start),
            State::Done if again => self.pend(at, Birth::Start),
            State::Stopping(life) => {
                // A crash is judged all the same: it concerns others too, and another life follows from it.
                if let Some(leaving) = life.leaving.as_mut().filter(|leaving| !matches!(leaving.next, Next::Crash(_))) {
                    leaving.next = Next::Again(Birth::Start);
                    child.cause = Some(Cause::Operator);
                }
            }
            State::Starting(life) | State::Running(life) | State::Ready(life) => {
                if life.leaving.take_if(|leaving| matches!(leaving.next, Next::Down | Next::Fail)).is_some() {
                    child.cause = Some(Cause::Operator);
                    self.cancel_timer(at);
                    self.arm_life(at);
                    self.leave_falls(at);
                    self.refresh_coming(at);
                }
            }
            State::Pending(_) | State::Done => {}
        }
        self.wake_dependents(at);
    }

    /// Somebody asks for a start: what a child has used of its budget is forgotten, and if it had failed, what its groups have.
    fn forget_failures(&mut self, at: Key) {
        self.children[at].budget.reset();
        let has_failed = matches!(self.children[at].state, State::Failed);
        let around: Vec<_> = self.groups.upwards(self.children[at].seat.group).collect();
        for group in around {
            if has_failed || self.groups.get(group).record.failed {
                self.groups.get_mut(group).record = Record::default();
            }
        }
    }

    /// One of a group that was given up lives again, so the group has not failed any more.
    pub(super) fn forget_failed_groups(&mut self, at: Key) {
        let around: Vec<_> = self.groups.upwards(self.children[at].seat.group).collect();
        around.into_iter().for_each(|group| self.groups.get_mut(group).record.failed = false);
    }

    pub(super) fn pend(&mut self, at: Key, birth: Birth) {
        self.leave_batch(at);
        self.children[at].cause = Some(Cause::Operator);
        self.enter(at, State::Pending(Pending::new(birth)));
    }

    pub(super) fn stop(&mut self, ids: &[ChildId]) {
        if ids.is_empty() {
            // Whoever stops everything waits for Idle, also when nothing was up.
            self.was_idle = false;
            return self.stop_all(&Cause::Shutdown);
        }
        let roots: Vec<_> = self.named(ids).into_iter().collect();
        // With OTP's rules those that wait behind a failing start are not running, and nothing starts them but its success.
        let waiting = match self.options.flags.rules {
            Rules::Otp => roots.iter().flat_map(|&at| self.batch_of(at)).collect(),
            Rules::Operator => Vec::new(),
        };
        let down = |at: &Key| Member { at: *at, next: Next::Down, cause: Cause::Operator };
        let waiting: Vec<_> = waiting.iter().filter(|at| !roots.contains(at)).map(down).collect();
        self.fell(&roots, roots.iter().map(down).chain(waiting).collect(), How::Stopped);
    }

    pub(super) fn stop_all(&mut self, cause: &Cause) {
        let member = |at| Member { at, next: Next::Down, cause: cause.clone() };
        self.bring_down(self.children.keys().map(member).collect(), None);
    }

    pub(super) fn restart(&mut self, ids: &[ChildId]) {
        if self.ending.is_some() {
            return;
        }
        let roots: Vec<_> = if ids.is_empty() {
            self.present().filter(|&at| self.is_wanted_running(at)).collect()
        } else {
            self.named(ids).into_iter().collect()
        };
        self.restart_all(&roots, &Cause::Operator, Vec::new());
    }

    /// Restarts children, not counted, with those dependents whose edges say so; others go down in the same fall.
    pub(super) fn restart_all(&mut self, roots: &[Key], cause: &Cause, others: Vec<Member>) {
        for &at in roots {
            self.forget_failures(at);
            let child = &mut self.children[at];
            child.desired = Desired::Up;
            if let Some(leaving) = child.life_mut().and_then(|life| life.leaving.as_mut()) {
                leaving.next = Next::Again(Birth::Manual);
                child.cause = Some(cause.clone());
            }
        }
        let member = |&at: &Key| Member { at, next: Next::Again(Birth::Manual), cause: cause.clone() };
        self.fell(roots, roots.iter().map(member).chain(others).collect(), How::Restarted);
        roots.iter().for_each(|&at| self.leave_batch(at));
        self.form_batch(roots.to_vec(), None);
    }

    /// Brings down `members` at `roots`, with the followers of those that are alive.
    fn fell(&mut self, roots: &[Key], mut members: Vec<Member>, how: How) {
        let alive: Vec<_> = roots.iter().copied().filter(|&at| self.children[at].life().is_some()).collect();
        let known: BTreeSet<_> = members.iter().map(|member| member.at).collect();
        let followers = self.members_following(&alive, Loss::Life, how);
        members.extend(followers.into_iter().filter(|follower| !known.contains(&follower.at)));
        self.bring_down(members, None);
    }

    pub(super) fn kill_leaving(&mut self, ids: &[ChildId]) {
        let chosen = if ids.is_empty() { self.children.keys().collect() } else { self.named(ids) };
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
        let Some(at) = self.resting(id) else { return };
        let child = &mut self.children[at];
        child.desired = Desired::Up;
        child.lives = child.lives.max(incarnation.0);
        child.restarts = restarts;
        child.cause = Some(Cause::Adopted);
        let is_ready = ready && !child.never_reports_readiness();
        let life = Life { was_ready: is_ready, ..Life::new(incarnation) };
        self.forget_failed_groups(at);
        self.leave_batch(at);
        self.enter(at, if is_ready { State::Ready(life) } else { State::Running(life) });
        self.report_state(at, What::Adopted);
        self.arm_life(at);
    }

    pub(super) fn restore(&mut self, id: &ChildId, incarnation: Incarnation, restarts: u32, rest: Option<Rest>) {
        let Some(at) = self.resting(id) else { return };
        let child = &mut self.children[at];
        child.lives = child.lives.max(incarnation.0);
        child.restarts = restarts;
        if let Some(rest) = rest {
            child.desired = Desired::Up;
            self.leave_batch(at);
            self.enter(at, if rest == Rest::Done { State::Done } else { State::Failed });
        }
    }

    /// A known child without a life.
    fn resting(&self, id: &ChildId) -> Option<Key> {
        let at = self.children.find(id.as_str())?;
        (self.children[at].life().is_none() && !self.children[at].removed).then_some(at)
    }

    fn is_wanted_running(&self, at: Key) -> bool {
        self.children[at].desired == Desired::Up && !matches!(self.children[at].state, State::Done)
    }

    /// Children that are not about to be dropped, in order.
    pub(super) fn present(&self) -> impl Iterator<Item = Key> {
        self.children.iter().filter(|(_, child)| !child.removed).map(|(at, _)| at)
    }

    /// The named children; names of nobody are skipped.
    fn named(&self, ids: &[ChildId]) -> BTreeSet<Key> {
        let known = ids.iter().filter_map(|id| self.children.find(id.as_str()));
        known.filter(|&at| !self.children[at].removed).collect()
    }
}
