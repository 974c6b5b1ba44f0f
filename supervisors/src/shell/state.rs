//! The state of a supervisor's actor: the engine, the lives it has asked for, and the tasks that wait for something.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorRef, RpcReplyPort};
use tokio::sync::broadcast::Sender;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::SupervisorError;
use super::actor::{Arguments, Message};
use super::alarm::Alarm;
use super::child::ErasedChild;
use super::ends::Ended;
use super::handle::Outcome;
use super::lives::Lives;
use super::reports::{Offender, SupervisorReport};
use super::requests::Requests;
use crate::Name;
use crate::engine::{ChildView, Effect, Ending, Engine, Event, Report, What};
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// The state.
pub(super) struct Shell {
    pub(super) myself: ActorRef<Message>,
    pub(super) name: Name,
    pub(super) engine: Engine,
    /// When the engine's time began.
    epoch: Instant,
    /// What starts each of the engine's children.
    pub(super) children: HashMap<ChildId, Arc<dyn ErasedChild>>,
    pub(super) lives: Lives,
    /// Starts, watchers and the alarm's sleeper: they end with the actor.
    pub(super) tasks: JoinSet<()>,
    alarm: Alarm,
    reports: Sender<SupervisorReport>,
    pub(super) requests: Requests,
    first: Option<First>,
    pub(super) stop: Option<Stop>,
    ended: Ended,
}

/// Told when all have been started for the first time, or that this failed.
pub(super) type FirstStart = oneshot::Sender<Result<(), SupervisorError>>;

/// The first start of all, while somebody waits for it.
struct First {
    /// Children that have not been started yet.
    left: HashSet<ChildId>,
    reply: FirstStart,
}

/// Everything goes down, and the actor with it.
#[derive(Default)]
pub(super) struct Stop {
    killed: BTreeSet<ChildId>,
    replies: Vec<RpcReplyPort<Vec<Outcome>>>,
}

// === impl Shell ===

impl Shell {
    pub(super) fn new(myself: ActorRef<Message>, arguments: Arguments) -> Self {
        let Arguments { name, engine, children, reports, first, ended } = arguments;
        let left: HashSet<_> = children.keys().cloned().collect();
        Self {
            myself,
            name,
            engine,
            epoch: Instant::now(),
            children,
            lives: Lives::default(),
            tasks: JoinSet::new(),
            alarm: Alarm::default(),
            reports,
            requests: Requests::default(),
            first: first.map(|reply| First { left, reply }),
            stop: None,
            ended,
        }
    }

    /// Starts all children.
    pub(super) fn start_all(&mut self) {
        self.step(Event::Start { ids: Vec::new(), with_needs: true });
        self.tell_first();
    }

    /// Tells the engine, and does what it says.
    pub(super) fn step(&mut self, event: Event) {
        while self.tasks.try_join_next().is_some() {}
        for effect in self.engine.step(self.epoch.elapsed(), event) {
            self.carry_out(effect);
        }
        self.answer_touched();
        self.alarm.wind(self.epoch, &mut self.tasks, &self.myself);
    }

    /// Ends the actor when that is due.
    pub(super) fn settle(&mut self) {
        if !self.engine.is_idle() || self.stop.is_none() {
            return;
        }
        let Some(stop) = self.stop.take() else { return };
        if !stop.replies.is_empty() {
            let outcomes = self.outcomes(&stop);
            for reply in stop.replies {
                drop(reply.send(outcomes.clone()));
            }
        }
        if let Some((by, why)) = self.engine.ending() {
            // It is set once: a supervisor ends once.
            let _ = self.ended.set((by.clone(), why.clone()));
            self.tell_failed_first(by.clone(), why.clone());
        }
        self.myself.stop(None);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { id, incarnation } => self.spawn(id, incarnation),
            Effect::Stop { id, incarnation } => self.lives.ask_to_stop(&id, incarnation),
            Effect::Kill { id, incarnation } => self.lives.kill(&id, incarnation),
            Effect::Arm { key, at } => self.alarm.arm(key, at),
            Effect::Cancel { key } => self.alarm.cancel(&key),
            Effect::Dropped { id } => {
                self.children.remove(&id);
                self.requests.touch(id);
            }
            Effect::Report(report) => self.report(report),
            Effect::Idle => {}
        }
    }

    /// Timers may be due.
    pub(super) fn alarm(&mut self) {
        self.alarm.rang();
        while let Some(key) = self.alarm.pop(self.epoch.elapsed()) {
            self.step(Event::Timer(key));
        }
        self.alarm.wind(self.epoch, &mut self.tasks, &self.myself);
    }

    // --- reports ---

    fn report(&mut self, report: Report) {
        let Report { id, incarnation, what, cause } = report;
        self.note(&id, &what);
        if self.reports.receiver_count() == 0 {
            return;
        }
        let actor = incarnation.and_then(|incarnation| self.lives.actor(&id, incarnation)).map(ActorCell::get_id);
        let offender = Offender { id, incarnation, actor };
        let report = SupervisorReport { supervisor: self.name.clone(), context: what, reason: cause, offender };
        // Nobody needs to listen.
        drop(self.reports.send(report));
    }

    /// What follows for those who wait.
    fn note(&mut self, id: &ChildId, what: &What) {
        match what {
            What::Killing => {
                if let Some(stop) = &mut self.stop {
                    stop.killed.insert(id.clone());
                }
            }
            What::Ending(_) => drop(self.stop.get_or_insert_default()),
            What::Stopped
            | What::Done
            | What::Failed
            | What::Starting
            | What::Restarting
            | What::StartFailed { .. } => {
                self.requests.touch(id.clone());
            }
            What::Blocked { .. } | What::Started | What::Adopted | What::Ready | What::Unready { .. } => {}
            What::LivenessLost { .. } | What::ReadyTimeout { .. } | What::Exited { .. } => {}
            What::RestartScheduled { .. } | What::Stopping | What::GaveUp { .. } | What::Removed => {}
            What::Ignored | What::GroupRestarting { .. } | What::GroupGaveUp { .. } => {}
        }
    }

    // --- the first start ---

    /// A child has been started, or need not be.
    pub(super) fn note_first(&mut self, id: &ChildId) {
        if let Some(first) = &mut self.first {
            first.left.remove(id);
            self.tell_first();
        }
    }

    fn tell_first(&mut self) {
        if let Some(first) = self.first.take_if(|first| first.left.is_empty()) {
            drop(first.reply.send(Ok(())));
        }
    }

    fn tell_failed_first(&mut self, by: ChildId, why: Ending) {
        let Some(first) = self.first.take() else { return };
        let supervisor = self.name.clone();
        drop(first.reply.send(Err(match why {
            Ending::FirstStart(source) => SupervisorError::FailedToStartChild { supervisor, child: by, source },
            Ending::GaveUp | Ending::AutoShutdown => SupervisorError::Ended { supervisor, by, why },
        })));
    }

    // --- the end ---

    pub(super) fn shut_down(&mut self, deadline: Option<Duration>, reply: Option<RpcReplyPort<Vec<Outcome>>>) {
        self.stop.get_or_insert_default().replies.extend(reply);
        if let Some(deadline) = deadline {
            let myself = self.myself.clone();
            self.tasks.spawn(async move {
                sleep(deadline).await;
                drop(myself.send_message(Message::Overdue));
            });
        }
        self.step(Event::Stop { ids: Vec::new() });
    }

    /// Kills what is left, and waits for no start any more.
    pub(super) fn overdue(&mut self) {
        self.lives.cut_starts();
        self.step(Event::Kill { ids: Vec::new() });
    }

    fn outcomes(&self, stop: &Stop) -> Vec<Outcome> {
        let outcome = |view: ChildView| Outcome {
            killed: stop.killed.contains(&view.id),
            id: view.id,
            state: view.state,
            last_exit: view.last_exit,
        };
        self.engine.children().map(outcome).collect()
    }

    /// A start that its supervisor could not even begin.
    pub(super) fn tell_not_begun(&self, id: ChildId, incarnation: Incarnation, error: StartError) {
        let error = Box::new(error);
        drop(self.myself.send_message(Message::NotBegun { id, incarnation, error }));
    }
}
