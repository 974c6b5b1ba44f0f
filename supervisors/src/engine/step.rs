//! What lives report: they began, became ready, were lost, ended. The table stands in the parent module.

use super::child::{Life, Next, Pending, State, Trial};
use super::strategy::Loss;
use super::table::Key;
use super::verdict::Failure;
use super::{Cause, Ending, Engine, Event, How, LifeEvent, TimerKey, TimerKind, What};
use crate::reason::{ExitReason, StartError};
use crate::spec::{Backoff, ChildId, Ended, Incarnation, Readiness, Restart, Rules};

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
            Event::Replace { specs, groups } => self.replace(specs, groups, self.options.flags),
            Event::Upgrade { specs, groups, flags } => self.replace(specs, groups, flags),
            Event::Reflag { flags } => self.reflag(flags),
            Event::Add { spec } => self.add(*spec),
            Event::Try { id } => self.try_once(&id),
            Event::Remove { id } => self.remove(&id),
            Event::Timer(key) => self.timer(key),
            Event::Ignored { id, incarnation } => self.of(&id, incarnation, LifeEvent::Ignored),
            Event::Spawned { id, incarnation } => self.of(&id, incarnation, LifeEvent::Spawned),
            Event::SpawnFailed { id, incarnation, error } => self.of(&id, incarnation, LifeEvent::SpawnFailed(error)),
            Event::Ready { id, incarnation } => self.of(&id, incarnation, LifeEvent::Ready),
            Event::Unready { id, incarnation, detail } => self.of(&id, incarnation, LifeEvent::Unready(detail)),
            Event::LivenessLost { id, incarnation, detail } => {
                self.of(&id, incarnation, LifeEvent::LivenessLost(detail));
            }
            Event::Exited { id, incarnation, reason } => self.of(&id, incarnation, LifeEvent::Exited(reason)),
        }
    }

    fn of(&mut self, id: &ChildId, incarnation: Incarnation, event: LifeEvent) {
        if let Some(at) = self.children.find(id.as_str()) {
            self.handle_life(at, incarnation, event);
        }
    }

    /// Takes in an event of a life, if that is the child's present one.
    pub(super) fn handle_life(&mut self, at: Key, incarnation: Incarnation, event: LifeEvent) {
        let life = self.children.get(at).and_then(|child| child.life());
        if life.is_none_or(|life| life.incarnation != incarnation) {
            return;
        }
        match event {
            LifeEvent::Spawned => self.spawned(at),
            LifeEvent::SpawnFailed(error) => self.spawn_failed(at, error),
            LifeEvent::Ignored => self.ignored(at),
            LifeEvent::Ready => self.ready(at),
            LifeEvent::Unready(detail) => self.unready(at, detail),
            LifeEvent::LivenessLost(detail) => self.liveness_lost(at, detail),
            LifeEvent::Exited(reason) => self.exited(at, reason),
        }
    }

    fn spawned(&mut self, at: Key) {
        let State::Starting(life) = self.children[at].state.clone() else { return };
        self.children[at].trial = None;
        let is_leaving = life.leaving.is_some();
        self.enter(at, State::Running(life));
        self.report_state(at, What::Started);
        self.arm_life(at);
        if is_leaving {
            self.note_stop(at);
        }
    }

    fn spawn_failed(&mut self, at: Key, error: StartError) {
        let State::Starting(life) = self.children[at].state.clone() else { return };
        // OTP knows no start that cannot help.
        let retry = error.retry || self.options.flags.rules == Rules::Otp;
        let cause = Cause::StartError(error.clone());
        self.report(at, What::StartFailed { error: error.clone() }, None);
        self.leave_falls(at);
        match (self.children[at].trial.take(), life.leaving.map(|leaving| leaving.next)) {
            (_, Some(Next::Down)) => self.down(at),
            (Some(Trial::End), _) => self.end(at, cause, Ending::FirstStart(error)),
            (Some(trial), _) => self.trial_failed(at, trial),
            (None, Some(Next::Again(birth))) if retry => self.enter(at, State::Pending(Pending::new(birth))),
            (None, Some(Next::Fail)) => self.fail_with_group(at),
            (None, Some(Next::Again(_) | Next::Crash(_)) | None) if !retry => self.give_up_hopeless(at, cause),
            (None, Some(Next::Again(_) | Next::Crash(_)) | None) => self.charge(at, cause, false, Failure::OfStart),
        }
    }

    /// There is nothing to run: as good as done.
    fn ignored(&mut self, at: Key) {
        let State::Starting(life) = self.children[at].state.clone() else { return };
        self.report(at, What::Ignored, None);
        self.leave_falls(at);
        self.children[at].trial = None;
        match life.leaving.map(|leaving| leaving.next) {
            Some(Next::Down) => self.down(at),
            Some(Next::Again(birth)) => self.enter(at, State::Pending(Pending::new(birth))),
            Some(Next::Crash(_) | Next::Fail) | None => {
                self.children[at].cause = None;
                self.rest(at, State::Done, What::Done);
            }
        }
    }

    fn ready(&mut self, at: Key) {
        let State::Running(mut life) = self.children[at].state.clone() else { return };
        // Also of a life on its way down: a start may keep it yet.
        life.was_ready = true;
        self.enter(at, State::Ready(life));
        self.report_state(at, What::Ready);
        self.arm_life(at);
        self.note_stop(at);
    }

    fn unready(&mut self, at: Key, detail: String) {
        let State::Ready(life) = self.children[at].state.clone() else { return };
        self.enter(at, State::Running(life));
        self.report(at, What::Unready { detail }, None);
        self.take_along(at, Loss::Readiness, How::Unready);
    }

    fn liveness_lost(&mut self, at: Key, detail: String) {
        if matches!(self.children[at].state, State::Running(_) | State::Ready(_)) && self.children[at].stays() {
            self.report(at, What::LivenessLost { detail: detail.clone() }, None);
            self.condemn(at, Cause::Liveness(detail));
        }
    }

    fn timer(&mut self, key: TimerKey) {
        let TimerKey { child: at, kind, generation } = key;
        let armed = self.children.get(at).and_then(|child| child.timer);
        if armed.is_none_or(|armed| (armed.kind, armed.generation) != (kind, generation)) {
            return;
        }
        self.children[at].timer = None;
        match kind {
            TimerKind::Backoff => self.try_again(at),
            TimerKind::Ready => self.ready_timeout(at),
            TimerKind::Stable => self.became_stable(at),
            TimerKind::Grace => self.kill(at),
        }
    }

    fn ready_timeout(&mut self, at: Key) {
        let Readiness::Within(within) = self.children[at].spec.readiness else { return };
        if self.children[at].stays() {
            self.report(at, What::ReadyTimeout { within }, None);
            self.condemn(at, Cause::ReadyTimeout { within });
        }
    }

    fn became_stable(&mut self, at: Key) {
        let child = &mut self.children[at];
        child.budget.forgive();
        if let Some(life) = child.life_mut() {
            life.stable = true;
        }
        self.forgive_groups(at);
    }

    fn exited(&mut self, at: Key, reason: ExitReason) {
        let Some(life) = self.children[at].life().cloned() else { return };
        let expected = life.leaving.is_some();
        self.children[at].trial = None;
        self.children[at].last_exit = Some(reason.clone());
        self.report(at, What::Exited { reason: reason.clone(), expected }, None);
        self.leave_falls(at);
        match life.leaving.clone().map(|leaving| leaving.next) {
            Some(Next::Down) => self.down(at),
            Some(Next::Again(birth)) => self.enter(at, State::Pending(Pending::new(birth))),
            Some(Next::Crash(cause)) => self.crashed(at, *cause, life.stable),
            Some(Next::Fail) => self.fail_with_group(at),
            None => self.judge(at, reason, &life),
        }
    }

    /// A life ended by itself: OTP's table of restart type and reason.
    ///
    /// Whoever waits for a child that reports readiness waits for that: one that ends without it has not done its part.
    fn judge(&mut self, at: Key, reason: ExitReason, life: &Life) {
        let unready = !life.was_ready && matches!(self.children[at].spec.readiness, Readiness::Within(_));
        match (self.children[at].spec.restart, reason.is_normal()) {
            (Restart::Transient | Restart::Temporary, true) if unready => {
                self.crashed(at, Cause::ExitUnready(reason), life.stable);
            }
            (Restart::Transient | Restart::Temporary, true) => self.done(at, reason),
            (Restart::Permanent, _) | (Restart::Transient | Restart::Temporary, false) => {
                self.crashed(at, Cause::Exit(reason), life.stable);
            }
        }
    }

    /// A life failed, by its end or because it had to be ended.
    fn crashed(&mut self, at: Key, cause: Cause, stable: bool) {
        match self.children[at].spec.restart {
            Restart::Temporary => {
                self.fail(at, cause);
                self.take_along(at, Loss::Life, How::Failed);
                self.auto_shutdown(at);
            }
            Restart::Permanent | Restart::Transient => self.charge(at, cause, stable, Failure::OfLife),
        }
    }

    fn done(&mut self, at: Key, reason: ExitReason) {
        let was_ready = matches!(self.children[at].state, State::Ready(_));
        self.children[at].cause = Some(Cause::Exit(reason));
        self.rest(at, State::Done, What::Done);
        if was_ready {
            self.take_along(at, Loss::Readiness, How::Ended);
        }
        self.auto_shutdown(at);
    }

    pub(super) fn fail(&mut self, at: Key, cause: Cause) {
        self.children[at].cause = Some(cause);
        self.rest(at, State::Failed, What::Failed);
    }

    /// Its group was given up, which is its cause already.
    fn fail_with_group(&mut self, at: Key) {
        self.rest(at, State::Failed, What::Failed);
    }

    /// The child is down, as wanted.
    pub(super) fn down(&mut self, at: Key) {
        self.rest(at, State::Stopped, What::Stopped);
    }

    /// A child comes to rest; it is dropped at the end of the step if only living ones are kept.
    fn rest(&mut self, at: Key, state: State, what: What) {
        self.leave_batch(at);
        self.children[at].trial = None;
        self.enter(at, state);
        self.report_state(at, what);
        let child = &self.children[at];
        let is_ended = match self.options.flags.ended {
            Ended::Kept => child.removed,
            Ended::TemporaryDropped => child.removed || child.spec.restart == Restart::Temporary,
            Ended::Dropped => true,
        };
        if is_ended {
            self.ended.push(at);
        }
    }

    /// Arms the timer of a life's state, unless it is on its way down.
    pub(super) fn arm_life(&mut self, at: Key) {
        let child = &self.children[at];
        let stable_at = self.now.saturating_add(child.spec.stable_after);
        // Nothing depends on the stability of what is restarted without a delay.
        let counts_stability = child.spec.backoff != Backoff::None;
        match (&child.state, child.spec.readiness) {
            (State::Running(Life { leaving: None, was_ready: false, .. }), Readiness::Within(within)) => {
                self.arm(at, TimerKind::Ready, self.now.saturating_add(within));
            }
            (State::Running(Life { leaving: None, .. }), Readiness::Unreported)
            | (State::Ready(Life { leaving: None, .. }), _)
                if counts_stability =>
            {
                self.arm(at, TimerKind::Stable, stable_at);
            }
            (State::Running(_) | State::Ready(_), _)
            | (State::Pending(_) | State::Starting(_) | State::Stopping(_), _)
            | (State::Backoff { .. } | State::Stopped | State::Done | State::Failed, _) => {}
        }
    }
}
