//! The lives that the engine has asked for and not been told the end of, and their actors.

use std::sync::Arc;

use ractor::{ActorCell, ActorId};
use rustc_hash::FxHashMap;
use slotmap::SecondaryMap;
use tokio::sync::oneshot;

use super::actor::{Message, Started, Word};
use super::child::{Begin, ErasedChild, GoneBy, Kin, LifeKey};
use super::ends::{End, exit_reason};
use super::leash::Leash;
use super::start::StartTask;
use super::state::Shell;
use crate::engine::{ChildKey, LifeEvent};
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// The lives.
pub(super) struct Lives {
    /// Whose life each actor is.
    leash: Leash,
    children: SecondaryMap<ChildKey, Known>,
    /// What was told of actors before the start that spawned them was over, and how many such starts there are.
    early: FxHashMap<ActorId, Early>,
    tasks: usize,
    begun: usize,
}

/// A child that has been started.
struct Known {
    starter: Arc<dyn ErasedChild>,
    kin: Arc<Kin>,
    present: Option<Present>,
    /// The actor of the last life that has begun, for reports.
    last: Option<(Incarnation, ActorId)>,
}

/// What is known of an actor whose start is not over.
#[derive(Default)]
struct Early {
    end: Option<End>,
    /// It is gone, gracefully or not.
    gone: Option<Option<bool>>,
}

/// A child's present life.
struct Present {
    incarnation: Incarnation,
    stage: Stage,
    /// Whether a task of its own starts it.
    is_task: bool,
    gone_by: GoneBy,
    /// Known at once if the child is nothing but an actor, else when its start is over.
    cell: Option<ActorCell>,
    /// How its actor ended, told a moment before it is gone.
    end: Option<End>,
    is_killed: bool,
}

enum Stage {
    /// Its start is under way; what it has said of itself meanwhile is held for the engine. A task of its own can be cut.
    Starting {
        cut: Option<oneshot::Sender<()>>,
        word: Option<Word>,
    },
    Begun,
}

// === impl Lives ===

impl Lives {
    pub(super) fn new(leash: Leash) -> Self {
        Self { leash, children: SecondaryMap::new(), early: FxHashMap::default(), tasks: 0, begun: 0 }
    }

    fn of(&mut self, life: LifeKey) -> Option<&mut Present> {
        let present = self.children.get_mut(life.child)?.present.as_mut();
        present.filter(|present| present.incarnation == life.incarnation)
    }

    /// The actor of a child's present life, if that has begun.
    pub(super) fn actor(&self, child: ChildKey) -> Option<&ActorCell> {
        let present = self.children.get(child)?.present.as_ref()?;
        match present.stage {
            Stage::Starting { .. } => None,
            Stage::Begun => present.cell.as_ref(),
        }
    }

    /// The actor of the last life that has begun, if it is this one.
    pub(super) fn actor_of(&self, child: ChildKey, incarnation: Incarnation) -> Option<ActorId> {
        self.children.get(child)?.last.filter(|(last, _)| *last == incarnation).map(|(_, actor)| actor)
    }

    pub(super) fn forget(&mut self, child: ChildKey) {
        self.children.remove(child);
    }

    /// How many have begun.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    pub(super) fn ask_to_stop(&self, child: ChildKey) {
        let Some(cell) = self.actor(child) else { return };
        // Ractor's stop would kill the children of a supervisor: ours are asked to stop them first.
        let is_supervisor = cell.is_message_type_of::<Message>() == Some(true);
        let asked = is_supervisor && cell.send_message(Message::Shutdown { deadline: None, reply: None }).is_ok();
        if !asked {
            cell.stop(None);
        }
    }

    pub(super) fn kill(&mut self, life: LifeKey) {
        if let Some(present) = self.of(life) {
            present.is_killed = true;
            present.cell.iter().for_each(ActorCell::kill);
        }
    }

    /// Waits for no start any more.
    pub(super) fn cut_starts(&mut self) {
        for present in self.children.values_mut().filter_map(|known| known.present.as_mut()) {
            if let Stage::Starting { cut, .. } = &mut present.stage {
                match (cut.take(), &present.cell) {
                    // A start that is over has reported back already.
                    (Some(cut), _) => drop(cut.send(())),
                    (None, Some(cell)) => cell.kill(),
                    (None, None) => {}
                }
            }
        }
    }

    /// Another function starts the child from now on.
    pub(super) fn set_starter(
        &mut self,
        child: ChildKey,
        starter: Arc<dyn ErasedChild>,
        kin: impl FnOnce() -> Arc<Kin>,
    ) {
        match self.children.get_mut(child) {
            Some(known) => known.starter = starter,
            None => drop(self.children.insert(child, Known { starter, kin: kin(), present: None, last: None })),
        }
    }

    fn begin(&mut self, child: ChildKey, present: Present) {
        self.tasks += usize::from(present.is_task);
        if let Some(cell) = &present.cell {
            self.leash.hold(cell, child);
        }
        if let Some(known) = self.children.get_mut(child) {
            known.present = Some(present);
        }
    }

    /// A life is over.
    fn end(&mut self, life: LifeKey) -> Option<Present> {
        let known = self.children.get_mut(life.child)?;
        let present = known.present.take_if(|present| present.incarnation == life.incarnation)?;
        self.begun -= usize::from(matches!(present.stage, Stage::Begun));
        if let Some(cell) = &present.cell {
            self.leash.release(cell.get_id());
        }
        Some(present)
    }

    fn early_of(&mut self, actor: ActorId) -> Option<&mut Early> {
        (self.tasks > 0).then(|| self.early.entry(actor).or_default())
    }

    /// A start task is over.
    fn task_over(&mut self) {
        self.tasks -= 1;
        if self.tasks == 0 {
            self.early.clear();
        }
    }
}

// === impl Shell ===

impl Shell {
    pub(super) fn spawn(&mut self, id: &ChildId, child: ChildKey, incarnation: Incarnation) {
        self.note_starter(id, child);
        let known = self.lives.children.get(child).expect("invariant: the engine starts only children it was given");
        let key = LifeKey { child, incarnation };
        let (mut is_task, mut cell, mut sender, mut gone_by) = (false, None, None, GoneBy::Message);
        match known.starter.clone().begin(known.kin.life(incarnation)) {
            Begin::Actor(begun, by) => (cell, gone_by) = (Some(begun), by),
            Begin::Task(start, context) => {
                let (cutter, cut) = oneshot::channel();
                let supervisor = self.myself.clone();
                self.tasks.spawn(StartTask { start, context, supervisor, cut }.run());
                (is_task, sender) = (true, Some(cutter));
            }
            // By message: nothing may come of an effect before all of them are carried out.
            Begin::Failed(error) => self.tell_not_begun(key, error),
        }
        let stage = Stage::Starting { cut: sender, word: None };
        self.lives.begin(child, Present { incarnation, stage, is_task, gone_by, cell, end: None, is_killed: false });
    }

    /// What starts a child is known by its id until its key is.
    fn note_starter(&mut self, id: &ChildId, child: ChildKey) {
        let is_known = self.lives.children.contains_key(child);
        let starter = if is_known { None } else { self.fresh.take() };
        let starter = starter.or_else(|| if self.starters.is_empty() { None } else { self.starters.remove(id) });
        if let Some(starter) = starter {
            self.set_starter(id, child, starter);
        }
    }

    pub(super) fn set_starter(&mut self, id: &ChildId, child: ChildKey, starter: Arc<dyn ErasedChild>) {
        self.lives.set_starter(child, starter, || Kin::new(id.clone(), child, self.myself.clone()));
    }

    /// A start task has brought forth an actor.
    pub(super) fn begun(&mut self, life: LifeKey, started: Started) {
        let early = self.note_begun(life, started);
        self.started(life);
        if let Some(is_graceful) = early.gone {
            self.exited(life, is_graceful);
        }
    }

    /// Takes note of the actor that a start task has brought forth, and returns what was told of it before.
    fn note_begun(&mut self, life: LifeKey, started: Started) -> Early {
        let Started { cell, is_noted } = started;
        let mut early = self.lives.early.remove(&cell.get_id()).unwrap_or_default();
        self.lives.task_over();
        let Some(present) = self.lives.of(life) else {
            cell.kill();
            return early;
        };
        present.end = early.end.take();
        present.cell = Some(cell.clone());
        self.lives.leash.hold(&cell, life.child);
        if !is_noted {
            self.watch(life, cell);
        }
        early
    }

    /// Ractor tells that an actor runs: the start of one that is a child and nothing else is over.
    pub(super) fn actor_started(&mut self, cell: &ActorCell) {
        let Some(child) = self.lives.leash.child_of(cell.get_id()) else { return };
        let present = self.lives.children.get(child).and_then(|known| known.present.as_ref());
        if let Some(present) = present.filter(|present| !present.is_task) {
            self.started(LifeKey { child, incarnation: present.incarnation });
        }
    }

    pub(super) fn started(&mut self, life: LifeKey) {
        let Some(present) = self.lives.of(life) else { return };
        let Stage::Starting { word, .. } = std::mem::replace(&mut present.stage, Stage::Begun) else { return };
        let last = present.cell.as_ref().map(|cell| (life.incarnation, cell.get_id()));
        self.lives.begun += 1;
        if let Some(known) = self.lives.children.get_mut(life.child) {
            known.last = last;
        }
        self.note_first(life.child);
        self.answer_begun(life.child);
        self.step_life(life, LifeEvent::Spawned);
        if let Some(word) = word {
            self.said(life, word);
        }
    }

    pub(super) fn not_begun(&mut self, life: LifeKey, error: StartError) {
        if self.start_over(life) {
            self.answer_not_begun(life.child, &error);
            self.step_life(life, LifeEvent::SpawnFailed(error));
            self.answer_down(life.child);
        }
    }

    pub(super) fn ignored(&mut self, life: LifeKey) {
        if self.start_over(life) {
            self.note_first(life.child);
            self.answer_ignored(life.child);
            self.step_life(life, LifeEvent::Ignored);
            self.answer_down(life.child);
        }
    }

    /// A start is over without a life; `false`: it is not the present one, or that is known.
    fn start_over(&mut self, life: LifeKey) -> bool {
        let present = self.lives.of(life);
        if !present.is_some_and(|present| matches!(present.stage, Stage::Starting { .. })) {
            return false;
        }
        if self.lives.end(life).is_some_and(|present| present.is_task) {
            self.lives.task_over();
        }
        true
    }

    pub(super) fn said(&mut self, life: LifeKey, said: Word) {
        if let Some(Present { stage: Stage::Starting { word, .. }, .. }) = self.lives.of(life) {
            *word = Some(said);
            return;
        }
        self.step_life(
            life,
            match said {
                Word::Ready => LifeEvent::Ready,
                Word::Unready(detail) => LifeEvent::Unready(detail),
                Word::LivenessLost(detail) => LifeEvent::LivenessLost(detail),
            },
        );
    }

    /// Waits until an actor is really gone that does not say so itself.
    fn watch(&mut self, life: LifeKey, cell: ActorCell) {
        let supervisor = self.myself.clone();
        self.tasks.spawn(async move {
            drop(cell.wait(None).await);
            drop(supervisor.send_message(Message::Gone { life, actor: cell.get_id(), is_graceful: None }));
        });
    }

    /// Ractor tells of the end of an actor that is linked here.
    pub(super) fn ended(&mut self, cell: &ActorCell, end: End) {
        let child = self.lives.leash.child_of(cell.get_id());
        let known = child.and_then(|child| self.lives.children.get_mut(child));
        match known.and_then(|known| Some((&known.kin, known.present.as_mut()?))) {
            Some((kin, present)) => {
                let is_gone = present.gone_by.is_gone(&end);
                present.end = Some(end);
                let incarnation = present.incarnation;
                let was_graceful = kin.was_graceful(incarnation);
                if let Some(child) = child.filter(|_| is_gone) {
                    self.exited(LifeKey { child, incarnation }, Some(was_graceful));
                }
            }
            // Perhaps of a start that is not over.
            None => {
                if let Some(early) = self.lives.early_of(cell.get_id()) {
                    early.end = Some(end);
                }
            }
        }
    }

    /// An actor is gone. Supervision events come before messages, so its end has been told if it was linked.
    pub(super) fn gone(&mut self, life: LifeKey, actor: ActorId, is_graceful: Option<bool>) {
        let Some(present) = self.lives.of(life) else { return };
        match present.cell.as_ref().map(ActorCell::get_id) {
            Some(known) if known == actor => self.exited(life, is_graceful),
            Some(_) => {}
            None => {
                if let Some(early) = self.lives.early_of(actor) {
                    early.gone = Some(is_graceful);
                }
            }
        }
    }

    fn exited(&mut self, life: LifeKey, is_graceful: Option<bool>) {
        // It may have ended on its way to running: then that is told first.
        self.started(life);
        let Some(present) = self.lives.end(life) else { return };
        let reason = exit_reason(present.end, is_graceful, present.is_killed);
        self.step_life(life, LifeEvent::Exited(reason));
        self.answer_down(life.child);
    }
}
