//! The probe actor: one per incarnation and purpose.
//!
//! Its owner (a service or requirement actor) starts it linked and stops it with the incarnation; it reports through a
//! callback. A check is a task of its own that reports back with a message: no handler waits for one. It never wakes up
//! but to check, never runs two checks at once, and stopping (or killing) it aborts the check that is under way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};

use super::cadence::{Cadence, ProbeEvent, Purpose};
use super::check::{ExecRunner, Target, check};
use super::spec::{Probe, ProbeFailure, Schedule};

/// The actor; all it knows is in its state.
pub struct ProbeActor;

/// What a probe is started with.
pub struct ProbeArgs {
    /// The question.
    pub probe: Probe,
    /// How often it is asked.
    pub schedule: Schedule,
    /// What it is for.
    pub purpose: Purpose,
    /// Whom it is about.
    pub target: Target,
    /// Who runs commands.
    pub runner: Arc<dyn ExecRunner>,
    /// Where events go; called from the actor, so it must not block (sending a message is what it is for).
    pub report: Arc<dyn Fn(ProbeEvent) + Send + Sync>,
}

/// What the actor is told, by itself and its checks alone. The number is that of the check: stale ones are dropped.
#[derive(Debug)]
pub enum ProbeMessage {
    /// Time to check.
    Check(u64),
    /// A check has ended.
    Checked(u64, Result<(), ProbeFailure>),
}

/// A probe at work.
pub struct ProbeState {
    args: ProbeArgs,
    cadence: Cadence,
    /// The number of the check that is awaited or under way.
    generation: u64,
    checks: JoinSet<()>,
    timer: Timer,
}

/// The pending wake-up; ends with its owner.
struct Timer(Option<AbortHandle>);

// === impl ProbeActor ===

impl Actor for ProbeActor {
    type Msg = ProbeMessage;
    type State = ProbeState;
    type Arguments = ProbeArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ProbeMessage>,
        args: ProbeArgs,
    ) -> Result<ProbeState, ActorProcessingErr> {
        let cadence = Cadence::new(args.schedule.clone(), args.purpose);
        let first = cadence.first();
        let mut state = ProbeState { args, cadence, generation: 0, checks: JoinSet::new(), timer: Timer(None) };
        state.arm(&myself, first);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ProbeMessage>,
        message: ProbeMessage,
        state: &mut ProbeState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProbeMessage::Check(generation) if generation == state.generation => state.begin(&myself),
            ProbeMessage::Checked(generation, result) if generation == state.generation => {
                state.conclude(&myself, result);
            }
            ProbeMessage::Check(_) | ProbeMessage::Checked(..) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<ProbeMessage>, state: &mut ProbeState) -> Result<(), ActorProcessingErr> {
        state.checks.abort_all();
        Ok(())
    }
}

// === impl ProbeState ===

impl ProbeState {
    fn arm(&mut self, myself: &ActorRef<ProbeMessage>, delay: Duration) {
        self.generation += 1;
        let generation = self.generation;
        let timer = myself.send_after(delay, move || ProbeMessage::Check(generation));
        self.timer = Timer(Some(timer.abort_handle()));
    }

    fn begin(&mut self, myself: &ActorRef<ProbeMessage>) {
        // The check before has reported, so it has ended or is about to: it is only reaped here.
        while self.checks.try_join_next().is_some() {}
        let (generation, myself) = (self.generation, myself.clone());
        let (probe, target) = (self.args.probe.clone(), self.args.target);
        let (runner, timeout) = (Arc::clone(&self.args.runner), self.args.schedule.timeout);
        self.checks.spawn(async move {
            let checked = AssertUnwindSafe(Box::pin(check(&probe, &target, &*runner, timeout))).catch_unwind().await;
            // A check that panics is a bug, but must not silence the probe: it counts as a failure that says so.
            let result = checked.unwrap_or_else(|_| Err(ProbeFailure("the check itself panicked".to_owned())));
            // An actor that is gone wants no answer.
            let _ = myself.send_message(ProbeMessage::Checked(generation, result));
        });
    }

    fn conclude(&mut self, myself: &ActorRef<ProbeMessage>, result: Result<(), ProbeFailure>) {
        let verdict = self.cadence.step(result);
        if let Some(event) = verdict.event {
            (self.args.report)(event);
        }
        self.arm(myself, verdict.next);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(timer) = self.0.take() {
            timer.abort();
        }
    }
}

#[cfg(test)]
mod tests;
