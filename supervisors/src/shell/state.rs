//! The state of a supervisor's actor: the engine, the lives it has asked for, and the tasks that wait for something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indexmap::IndexMap;
use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::broadcast::Sender;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::actor::{Arguments, Message, Word};
use super::child::{ErasedChild, Graceful};
use super::handle::Outcome;
use super::reports::{Offender, SupervisorReport};
use super::requests::Termination;
use super::start::StartTask;
use crate::Name;
use crate::engine::{ChildView, Effect, Engine, Event, Report, Time, TimerKey, What};
use crate::reason::{ExitReason, StartError};
use crate::spec::{ChildId, ChildSpec, Escalate, Incarnation};

/// The state.
pub(super) struct Shell {
    myself: ActorRef<Message>,
    pub(super) name: Name,
    pub(super) engine: Engine,
    /// When the engine's time began.
    epoch: Instant,
    /// The engine's specs, in its order, with what starts them.
    pub(super) children: IndexMap<ChildId, (ChildSpec, Arc<dyn ErasedChild>)>,
    /// One for each life that the engine has asked for and not been told the end of.
    lives: BTreeMap<ChildId, Life>,
    /// Ends told by ractor, until the actor is gone. It may be told before the start itself: those are kept too.
    ends: HashMap<ActorId, End>,
    /// Starts, watchers and timers: they end with the actor.
    tasks: JoinSet<()>,
    timers: HashMap<TimerKey, AbortHandle>,
    reports: Sender<SupervisorReport>,
    pub(super) terminations: Vec<Termination>,
    pub(super) ending: Option<Ending>,
}

/// How an actor ended, in what ractor types of it.
#[derive(Debug)]
pub(super) enum End {
    /// It stopped or was killed.
    Terminated {
        /// Whether its state came along: it does not when it was killed in `post_start` or `post_stop`, or its task died.
        has_state: bool,
    },
    /// It returned an error or panicked.
    Failed(String),
}

struct Life {
    incarnation: Incarnation,
    stage: Stage,
}

enum Stage {
    /// Its start is under way; what it has said of itself meanwhile is held for the engine.
    Starting { cut: Option<oneshot::Sender<()>>, word: Option<Word> },
    /// Its actor lives, or its end has not been told yet.
    Begun { cell: ActorCell, graceful: Option<Graceful>, killed: bool },
}

/// Everything goes down, and the actor with it.
#[derive(Default)]
pub(super) struct Ending {
    /// The child whose failure is the reason; `None`: somebody asked.
    escalated_by: Option<ChildId>,
    killed: BTreeSet<ChildId>,
    replies: Vec<RpcReplyPort<Vec<Outcome>>>,
}

// === impl Shell ===

impl Shell {
    pub(super) fn new(myself: ActorRef<Message>, arguments: Arguments) -> Self {
        let Arguments { name, engine, children, reports } = arguments;
        Self {
            myself,
            name,
            engine,
            epoch: Instant::now(),
            children,
            lives: BTreeMap::new(),
            ends: HashMap::new(),
            tasks: JoinSet::new(),
            timers: HashMap::new(),
            reports,
            terminations: Vec::new(),
            ending: None,
        }
    }

    /// Tells the engine, and does what it says.
    pub(super) fn step(&mut self, event: Event) {
        while self.tasks.try_join_next().is_some() {}
        for effect in self.engine.step(self.epoch.elapsed(), event) {
            self.carry_out(effect);
        }
        self.answer_terminations();
    }

    /// Ends the actor when that is due: normally if it was asked for, as a failure if a child was given up.
    pub(super) fn settle(&mut self) -> Result<(), ActorProcessingErr> {
        if !self.engine.is_idle() {
            return Ok(());
        }
        let Some(ending) = self.ending.take() else { return Ok(()) };
        let outcomes = self.outcomes(&ending);
        for reply in ending.replies {
            drop(reply.send(outcomes.clone()));
        }
        match ending.escalated_by {
            Some(id) => Err(format!("{id} was given up").into()),
            None => {
                self.myself.stop(None);
                Ok(())
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { id, incarnation } => self.spawn(id, incarnation),
            Effect::Stop { id, incarnation } => self.ask_to_stop(&id, incarnation),
            Effect::Kill { id, incarnation } => self.kill(&id, incarnation),
            Effect::Arm { key, at } => self.arm(key, at),
            Effect::Cancel { key } => {
                if let Some(timer) = self.timers.remove(&key) {
                    timer.abort();
                }
            }
            Effect::Report(report) => self.report(report),
            Effect::Idle => {}
        }
    }

    // --- lives ---

    fn spawn(&mut self, id: ChildId, incarnation: Incarnation) {
        let (_, child) = self.children.get(&id).expect("invariant: the engine starts only children it was given");
        let (sender, cut) = oneshot::channel();
        let supervisor = self.myself.clone();
        let task = StartTask { id: id.clone(), incarnation, child: child.clone(), supervisor, cut };
        self.tasks.spawn(task.run());
        self.lives.insert(id, Life { incarnation, stage: Stage::Starting { cut: Some(sender), word: None } });
    }

    pub(super) fn begun(&mut self, id: ChildId, incarnation: Incarnation, cell: ActorCell, graceful: Option<Graceful>) {
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.incarnation == incarnation) else {
            return cell.kill();
        };
        let word = match &mut life.stage {
            Stage::Starting { word, .. } => word.take(),
            Stage::Begun { .. } => None,
        };
        self.watch(id.clone(), incarnation, cell.clone());
        self.lives.insert(id.clone(), Life { incarnation, stage: Stage::Begun { cell, graceful, killed: false } });
        self.forget_strangers();
        self.step(Event::Spawned { id: id.clone(), incarnation });
        if let Some(word) = word {
            self.said(id, incarnation, word);
        }
    }

    pub(super) fn not_begun(&mut self, id: ChildId, incarnation: Incarnation, error: StartError) {
        if self.lives.get(&id).is_some_and(|life| life.incarnation == incarnation) {
            self.lives.remove(&id);
            self.forget_strangers();
            self.step(Event::SpawnFailed { id, incarnation, error });
        }
    }

    pub(super) fn said(&mut self, id: ChildId, incarnation: Incarnation, said: Word) {
        if let Some(Life { incarnation: present, stage: Stage::Starting { word, .. } }) = self.lives.get_mut(&id)
            && *present == incarnation
        {
            *word = Some(said);
            return;
        }
        self.step(match said {
            Word::Ready => Event::Ready { id, incarnation },
            Word::Unready(detail) => Event::Unready { id, incarnation, detail },
        });
    }

    /// Waits until an actor is really gone: its end is told a moment before that.
    fn watch(&mut self, id: ChildId, incarnation: Incarnation, cell: ActorCell) {
        let myself = self.myself.clone();
        self.tasks.spawn(async move {
            drop(cell.wait(None).await);
            drop(myself.send_message(Message::Gone { id, incarnation, actor: cell.get_id() }));
        });
    }

    /// Ractor tells of the end of an actor that is linked here.
    pub(super) fn ended(&mut self, cell: &ActorCell, end: End) {
        self.ends.insert(cell.get_id(), end);
        self.forget_strangers();
    }

    /// An actor is gone. Supervision events come before messages, so its end has been told if it was linked.
    pub(super) fn gone(&mut self, id: ChildId, incarnation: Incarnation, actor: ActorId) {
        let end = self.ends.remove(&actor);
        let Some(Life { incarnation: present, stage: Stage::Begun { cell, graceful, killed } }) = self.lives.get(&id)
        else {
            return;
        };
        if *present != incarnation || cell.get_id() != actor {
            return;
        }
        let graceful = graceful.as_ref().map(|graceful| graceful.load(Ordering::Acquire));
        let reason = exit_reason(end, graceful, *killed);
        self.step(Event::Exited { id: id.clone(), incarnation, reason });
        // Only now, because reports name the actor; the engine may have asked for the next life already.
        if self.lives.get(&id).is_some_and(|life| life.incarnation == incarnation) {
            self.lives.remove(&id);
        }
    }

    /// Ends of actors that no life turned out to have: no start is under way that could still name them.
    fn forget_strangers(&mut self) {
        let mut known = BTreeSet::new();
        for life in self.lives.values() {
            match &life.stage {
                Stage::Starting { .. } => return,
                Stage::Begun { cell, .. } => known.insert(cell.get_id()),
            };
        }
        self.ends.retain(|actor, _| known.contains(actor));
    }

    pub(super) fn actor_of(&self, id: &ChildId, incarnation: Incarnation) -> Option<&ActorCell> {
        match self.lives.get(id) {
            Some(Life { incarnation: present, stage: Stage::Begun { cell, .. } }) if *present == incarnation => {
                Some(cell)
            }
            Some(_) | None => None,
        }
    }

    fn ask_to_stop(&self, id: &ChildId, incarnation: Incarnation) {
        let Some(cell) = self.actor_of(id, incarnation) else { return };
        // Ractor's stop would kill the children of a supervisor: ours are asked to stop them first.
        let is_supervisor = cell.is_message_type_of::<Message>() == Some(true);
        let asked = is_supervisor && cell.send_message(Message::Shutdown { deadline: None, reply: None }).is_ok();
        if !asked {
            cell.stop(None);
        }
    }

    fn kill(&mut self, id: &ChildId, incarnation: Incarnation) {
        if let Some(Life { incarnation: present, stage: Stage::Begun { cell, killed, .. } }) = self.lives.get_mut(id)
            && *present == incarnation
        {
            *killed = true;
            cell.kill();
        }
    }

    // --- timers and reports ---

    fn arm(&mut self, key: TimerKey, at: Time) {
        // A time beyond what the clock can tell never comes.
        let Some(due) = self.epoch.checked_add(at) else { return };
        let (myself, timer) = (self.myself.clone(), Message::Timer(key.clone()));
        let handle = self.tasks.spawn(async move {
            sleep_until(due).await;
            drop(myself.send_message(timer));
        });
        self.timers.insert(key, handle);
    }

    pub(super) fn timer(&mut self, key: TimerKey) {
        self.timers.remove(&key);
        self.step(Event::Timer(key));
    }

    fn report(&mut self, report: Report) {
        let Report { id, incarnation, what, cause } = report;
        if what == What::Killing
            && let Some(ending) = &mut self.ending
        {
            ending.killed.insert(id.clone());
        }
        if matches!(what, What::GaveUp { .. }) && self.ending.is_none() && self.escalates(&id) {
            self.ending = Some(Ending { escalated_by: Some(id.clone()), ..Ending::default() });
        }
        let actor = incarnation.and_then(|incarnation| self.actor_of(&id, incarnation)).map(ActorCell::get_id);
        let offender = Offender { id, incarnation, actor };
        let report = SupervisorReport { supervisor: self.name.clone(), context: what, reason: cause, offender };
        // Nobody needs to listen.
        drop(self.reports.send(report));
    }

    fn escalates(&self, id: &ChildId) -> bool {
        self.children.get(id).is_some_and(|(spec, _)| spec.escalate == Escalate::Project)
    }

    // --- the end ---

    pub(super) fn shut_down(&mut self, deadline: Option<Duration>, reply: Option<RpcReplyPort<Vec<Outcome>>>) {
        let ending = self.ending.get_or_insert_default();
        ending.escalated_by = None;
        ending.replies.extend(reply);
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
        for life in self.lives.values_mut() {
            if let Stage::Starting { cut, .. } = &mut life.stage
                && let Some(cut) = cut.take()
            {
                // A start that is over has reported back already.
                let _ = cut.send(());
            }
        }
        self.step(Event::Kill { ids: Vec::new() });
    }

    fn outcomes(&self, ending: &Ending) -> Vec<Outcome> {
        let outcome = |view: ChildView| Outcome {
            killed: ending.killed.contains(&view.id),
            id: view.id,
            state: view.state,
            last_exit: view.last_exit,
        };
        self.engine.children().map(outcome).collect()
    }
}

/// What is known of an end, strongest first.
fn exit_reason(end: Option<End>, graceful: Option<bool>, killed: bool) -> ExitReason {
    match end {
        Some(End::Failed(text)) => ExitReason::Error(text),
        Some(End::Terminated { has_state: true }) if graceful == Some(true) => ExitReason::Normal,
        Some(End::Terminated { has_state }) if killed || !has_state || graceful == Some(false) => ExitReason::Killed,
        Some(End::Terminated { .. }) => ExitReason::Normal,
        None if killed => ExitReason::Killed,
        None => ExitReason::Unknown("it ended before it could be linked".to_owned()),
    }
}
