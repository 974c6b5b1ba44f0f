//! The state of a supervisor's actor: the engine, the lives it has asked for, and the tasks that wait for something.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorRef, RpcReplyPort};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::SupervisorError;
use super::actor::{Arguments, Message};
use super::alarm::Alarm;
use super::child::{ErasedChild, LifeKey};
use super::ends::Ended;
use super::handle::Outcome;
use super::leash::Leash;
use super::lives::Lives;
use super::reports::{Offender, Outlet, SupervisorReport};
use super::requests::Requests;
use crate::Name;
use crate::engine::{ChildKey, ChildView, Effect, Ending, Engine, Event, LifeEvent, Report, Time};
use crate::reason::StartError;
use crate::spec::ChildId;

/// The most effects whose memory is kept for the next: those of a usual event, not those of a start of all.
const EFFECTS_KEPT_MAX: usize = 1024;

/// The state.
pub(super) struct Shell {
    pub(super) myself: ActorRef<Message>,
    pub(super) name: Name,
    pub(super) engine: Engine,
    /// When the engine's time began.
    epoch: Instant,
    /// What starts children, until they are started for the first time.
    pub(super) starters: FxHashMap<ChildId, Arc<dyn ErasedChild>>,
    /// What starts the child that is being added.
    pub(super) fresh: Option<Arc<dyn ErasedChild>>,
    pub(super) lives: Lives,
    /// Starts, watchers and the alarm's sleeper: they end with the actor.
    pub(super) tasks: JoinSet<()>,
    alarm: Alarm,
    /// What the engine said last; kept for its memory.
    effects: Vec<Effect>,
    outlet: Outlet,
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
    left: HashSet<ChildKey>,
    reply: FirstStart,
}

/// Everything goes down, and the actor with it.
#[derive(Default)]
pub(super) struct Stop {
    killed: BTreeSet<ChildId>,
    replies: Vec<RpcReplyPort<Arc<Vec<Outcome>>>>,
}

// === impl Shell ===

impl Shell {
    pub(super) fn new(myself: ActorRef<Message>, arguments: Arguments, leash: Leash) -> Self {
        let Arguments { name, engine, children, outlet, first, ended } = arguments;
        let left: HashSet<_> = children.keys().filter_map(|id| engine.key(id.as_str())).collect();
        Self {
            myself,
            name,
            engine,
            epoch: Instant::now(),
            starters: children,
            fresh: None,
            lives: Lives::new(leash),
            tasks: JoinSet::new(),
            alarm: Alarm::default(),
            effects: Vec::new(),
            outlet,
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
        self.drive(|engine, now, effects| engine.step_into(now, event, effects));
    }

    /// The same for what happens to a life.
    pub(super) fn step_life(&mut self, life: LifeKey, event: LifeEvent) {
        self.drive(|engine, now, effects| engine.step_life(now, life.child, life.incarnation, event, effects));
    }

    pub(super) fn drive(&mut self, step: impl FnOnce(&mut Engine, Time, &mut Vec<Effect>)) {
        while !self.tasks.is_empty() && self.tasks.try_join_next().is_some() {}
        self.engine.set_reporting(self.outlet.has_listeners());
        let mut effects = std::mem::take(&mut self.effects);
        step(&mut self.engine, self.epoch.elapsed(), &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        if effects.capacity() <= EFFECTS_KEPT_MAX {
            self.effects = effects;
        }
        if self.engine.ending().is_some() {
            self.stop.get_or_insert_default();
        }
        self.alarm.wind(self.epoch, &mut self.tasks, &self.myself);
    }

    /// Ends the actor when that is due.
    pub(super) fn settle(&mut self) {
        if !self.engine.is_idle() || self.stop.is_none() {
            return;
        }
        let Some(stop) = self.stop.take() else { return };
        if !stop.replies.is_empty() {
            let outcomes = Arc::new(self.outcomes(&stop));
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
            Effect::Spawn { id, key, incarnation } => self.spawn(&id, key, incarnation),
            Effect::Stop { key, .. } => self.lives.ask_to_stop(key),
            Effect::Kill { id, key, incarnation } => {
                if let Some(stop) = &mut self.stop {
                    stop.killed.insert(id);
                }
                self.lives.kill(LifeKey { child: key, incarnation });
            }
            Effect::Arm { key, at } => self.alarm.arm(key, at),
            Effect::Cancel { key, at } => self.alarm.cancel(key, at),
            Effect::Dropped { id, key } => {
                if !self.starters.is_empty() {
                    self.starters.remove(&id);
                }
                self.lives.forget(key);
                self.answer_dropped(key, &id);
            }
            Effect::Report(report) => self.report(*report),
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
        let key = self.engine.key(id.as_str());
        let actor = key.zip(incarnation).and_then(|(key, incarnation)| self.lives.actor_of(key, incarnation));
        let offender = Offender { id, incarnation, actor };
        self.outlet.send(SupervisorReport { supervisor: self.name.clone(), context: what, reason: cause, offender });
    }

    // --- the first start ---

    /// A child has been started, or need not be.
    pub(super) fn note_first(&mut self, child: ChildKey) {
        if let Some(first) = &mut self.first {
            first.left.remove(&child);
            self.tell_first();
        }
    }

    fn tell_first(&mut self) {
        // A start that ends while everything goes down already is no success.
        let is_staying = self.engine.ending().is_none();
        if let Some(first) = self.first.take_if(|first| is_staying && first.left.is_empty()) {
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

    pub(super) fn shut_down(&mut self, deadline: Option<Duration>, reply: Option<RpcReplyPort<Arc<Vec<Outcome>>>>) {
        self.stop.get_or_insert_default().replies.extend(reply);
        if let Some(deadline) = deadline {
            let myself = self.myself.clone();
            self.tasks.spawn(async move {
                sleep(deadline).await;
                drop(myself.send_message(Message::Overdue));
            });
        }
        self.step(Event::Stop { ids: Vec::new() });
        self.answer_all();
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
    pub(super) fn tell_not_begun(&self, life: LifeKey, error: StartError) {
        drop(self.myself.send_message(Message::NotBegun { life, error: Box::new(error) }));
    }
}
