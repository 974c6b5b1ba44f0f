//! What lives report: they began, became ready, were lost, ended. The table stands in the parent module.

use super::child::{Birth, Life, Next, Pending, State};
use super::strategy::Loss;
use super::{Cause, Engine, Event, How, TimerKey, TimerKind, What, backoff};
use crate::reason::{ExitReason, StartError};
use crate::spec::{ChildId, Escalate, Incarnation, Readiness, Restart};

/// A start that failed is never tried again at once: it counts as the second failure of its row at least.
const START_FAILURES_MIN: u32 = 2;

// === impl Engine ===

impl Engine {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Start { ids, with_needs } => self.start(&ids, with_needs),
            Event::Stop { ids } => self.stop(&ids),
            Event::Restart { ids } => self.restart(&ids),
            Event::Kill { ids } => self.kill_leaving(&ids),
            Event::Restore { id, incarnation, restarts, rest } => self.restore(&id, incarnation, restarts, rest),
            Event::Adopt { id, incarnation, restarts, ready } => self.adopt(&id, incarnation, restarts, ready),
            Event::Replace { specs } => self.replace(specs),
            Event::Timer(key) => self.timer(&key),
            Event::Spawned { id, incarnation } => self.of_life(&id, incarnation, Self::spawned),
            Event::SpawnFailed { id, incarnation, error } => {
                self.of_life(&id, incarnation, |engine, at| engine.spawn_failed(at, error));
            }
            Event::Ready { id, incarnation } => self.of_life(&id, incarnation, Self::ready),
            Event::Unready { id, incarnation, detail } => {
                self.of_life(&id, incarnation, |engine, at| engine.unready(at, detail));
            }
            Event::LivenessLost { id, incarnation, detail } => {
                self.of_life(&id, incarnation, |engine, at| engine.liveness_lost(at, detail));
            }
            Event::Exited { id, incarnation, reason } => {
                self.of_life(&id, incarnation, |engine, at| engine.exited(at, reason));
            }
        }
    }

    /// Passes on an event of a life, if that is the child's present one.
    fn of_life(&mut self, id: &ChildId, incarnation: Incarnation, handle: impl FnOnce(&mut Self, usize)) {
        let Some((at, _, child)) = self.children.get_full(id) else { return };
        if child.life().is_some_and(|life| life.incarnation == incarnation) {
            handle(self, at);
        }
    }

    fn spawned(&mut self, at: usize) {
        let State::Starting(life) = self.children[at].state.clone() else { return };
        self.enter(at, State::Running(life));
        self.report_state(at, What::Started);
        self.arm_life(at);
    }

    fn spawn_failed(&mut self, at: usize, error: StartError) {
        let State::Starting(life) = self.children[at].state.clone() else { return };
        let retry = error.retry;
        let cause = Cause::StartError(error.clone());
        self.report(at, What::StartFailed { error }, None);
        match life.leaving.map(|leaving| leaving.next) {
            Some(Next::Down) => self.down(at),
            Some(Next::Again(birth)) if retry => self.enter(at, State::Pending(Pending::new(birth))),
            Some(Next::Again(_) | Next::Crash(_)) | None if !retry => self.fail(at, cause),
            Some(Next::Again(_) | Next::Crash(_)) | None => self.charge(at, cause, false, START_FAILURES_MIN),
        }
    }

    fn ready(&mut self, at: usize) {
        let State::Running(mut life) = self.children[at].state.clone() else { return };
        if life.leaving.is_none() {
            life.was_ready = true;
            self.enter(at, State::Ready(life));
            self.report_state(at, What::Ready);
            self.arm_life(at);
        }
    }

    fn unready(&mut self, at: usize, detail: String) {
        let State::Ready(life) = self.children[at].state.clone() else { return };
        self.enter(at, State::Running(life));
        self.report(at, What::Unready { detail }, None);
        self.take_along(at, Loss::Readiness, How::Unready);
    }

    fn liveness_lost(&mut self, at: usize, detail: String) {
        if matches!(self.children[at].state, State::Running(_) | State::Ready(_)) && self.children[at].stays() {
            self.report(at, What::LivenessLost { detail: detail.clone() }, None);
            self.condemn(at, Cause::Liveness(detail));
        }
    }

    fn timer(&mut self, key: &TimerKey) {
        let Some((at, _, child)) = self.children.get_full_mut(&key.id) else { return };
        let Some(armed) = child.timers.iter().position(|&timer| timer == (key.kind, key.generation)) else { return };
        child.timers.swap_remove(armed);
        match key.kind {
            TimerKind::Backoff => self.enter(at, State::Pending(Pending::new(Birth::Automatic))),
            TimerKind::Ready => self.ready_timeout(at),
            TimerKind::Stable => self.became_stable(at),
            TimerKind::Grace => self.kill(at),
        }
    }

    fn ready_timeout(&mut self, at: usize) {
        let Readiness::Within(within) = self.children[at].spec.readiness else { return };
        if self.children[at].stays() {
            self.report(at, What::ReadyTimeout { within }, None);
            self.condemn(at, Cause::ReadyTimeout { within });
        }
    }

    fn became_stable(&mut self, at: usize) {
        let child = &mut self.children[at];
        child.budget.forgive();
        if let Some(life) = child.life_mut() {
            life.stable = true;
        }
    }

    fn exited(&mut self, at: usize, reason: ExitReason) {
        let Some(life) = self.children[at].life().cloned() else { return };
        let expected = life.leaving.is_some();
        self.children[at].last_exit = Some(reason.clone());
        self.report(at, What::Exited { reason: reason.clone(), expected }, None);
        match life.leaving.map(|leaving| leaving.next) {
            Some(Next::Down) => self.down(at),
            Some(Next::Again(birth)) => self.enter(at, State::Pending(Pending::new(birth))),
            Some(Next::Crash(cause)) => self.crashed(at, cause, life.stable),
            None => self.judge(at, reason, life.stable),
        }
    }

    /// A life ended by itself: OTP's table of restart type and reason.
    fn judge(&mut self, at: usize, reason: ExitReason, stable: bool) {
        match (self.children[at].spec.restart, reason.is_normal()) {
            (Restart::Transient | Restart::Temporary, true) => self.done(at, reason),
            (Restart::Permanent, _) | (Restart::Transient | Restart::Temporary, false) => {
                self.crashed(at, Cause::Exit(reason), stable);
            }
        }
    }

    /// A life failed, by its end or because it had to be ended.
    fn crashed(&mut self, at: usize, cause: Cause, stable: bool) {
        match self.children[at].spec.restart {
            Restart::Temporary => {
                self.fail(at, cause);
                self.take_along(at, Loss::Life, How::Failed);
            }
            Restart::Permanent | Restart::Transient => self.charge(at, cause, stable, 0),
        }
    }

    /// Counts a failed life and decides whether another may follow, and when.
    fn charge(&mut self, at: usize, cause: Cause, stable: bool, failures_min: u32) {
        let child = &mut self.children[at];
        match child.budget.charge(&child.spec, stable, self.now) {
            Some(limit) => {
                self.report(at, What::GaveUp { limit, last: Box::new(cause) }, Some(limit.into()));
                self.fail(at, limit.into());
                self.take_along(at, Loss::Life, How::Failed);
                self.escalate(at);
            }
            None => {
                self.schedule(at, cause, failures_min);
                self.take_along(at, Loss::Life, How::Crashed);
            }
        }
    }

    fn schedule(&mut self, at: usize, cause: Cause, failures_min: u32) {
        let child = &mut self.children[at];
        let failures = child.budget.failures();
        let delay = backoff::delay(child.spec.backoff, failures.max(failures_min), &mut self.rng);
        child.cause = Some(cause);
        if delay.is_zero() {
            self.enter(at, State::Pending(Pending::new(Birth::Automatic)));
        } else {
            let until = self.now.saturating_add(delay);
            self.enter(at, State::Backoff { until });
            self.arm(at, TimerKind::Backoff, until);
        }
        self.report_state(at, What::RestartScheduled { delay, failures });
    }

    fn done(&mut self, at: usize, reason: ExitReason) {
        let was_ready = matches!(self.children[at].state, State::Ready(_));
        self.children[at].cause = Some(Cause::Exit(reason));
        self.enter(at, State::Done);
        self.report_state(at, What::Done);
        if was_ready {
            self.take_along(at, Loss::Readiness, How::Ended);
        }
    }

    fn fail(&mut self, at: usize, cause: Cause) {
        self.children[at].cause = Some(cause);
        self.enter(at, State::Failed);
        self.report_state(at, What::Failed);
    }

    /// The child is down, as wanted.
    pub(super) fn down(&mut self, at: usize) {
        self.enter(at, State::Stopped);
        self.report_state(at, What::Stopped);
    }

    fn escalate(&mut self, at: usize) {
        match self.children[at].spec.escalate {
            // A group of one is its child, and that has failed already.
            Escalate::Isolate | Escalate::Group => {}
            Escalate::Project => self.stop_all(&Cause::Escalated { by: self.id(at) }),
        }
    }

    /// Arms the timer of a life's state, unless it is on its way down.
    pub(super) fn arm_life(&mut self, at: usize) {
        let child = &self.children[at];
        let stable_at = self.now.saturating_add(child.spec.stable_after);
        match (&child.state, child.spec.readiness) {
            (State::Running(Life { leaving: None, was_ready: false, .. }), Readiness::Within(within)) => {
                self.arm(at, TimerKind::Ready, self.now.saturating_add(within));
            }
            (State::Running(Life { leaving: None, .. }), Readiness::Unreported)
            | (State::Ready(Life { leaving: None, .. }), _) => self.arm(at, TimerKind::Stable, stable_at),
            (State::Running(_) | State::Ready(_), _)
            | (State::Pending(_) | State::Starting(_) | State::Stopping(_), _)
            | (State::Backoff { .. } | State::Stopped | State::Done | State::Failed, _) => {}
        }
    }
}
