//! The lives that the engine has asked for and not been told the end of, and their actors.

use std::collections::HashMap;

use ractor::{ActorCell, ActorId};
use tokio::sync::oneshot;

use super::actor::{Message, Started, Word};
use super::child::{Begin, Life};
use super::ends::{End, exit_reason};
use super::start::StartTask;
use super::state::Shell;
use crate::engine::Event;
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// The lives.
#[derive(Default)]
pub(super) struct Lives {
    present: HashMap<ChildId, Present>,
    /// Whose life an actor is.
    actors: HashMap<ActorId, ChildId>,
    /// What was told of actors before the start that spawned them was over, and how many such starts there are.
    early: HashMap<ActorId, Early>,
    tasks: usize,
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
    fn of(&mut self, id: &ChildId, incarnation: Incarnation) -> Option<&mut Present> {
        self.present.get_mut(id).filter(|present| present.incarnation == incarnation)
    }

    /// The actor of a life that has begun.
    pub(super) fn actor(&self, id: &ChildId, incarnation: Incarnation) -> Option<&ActorCell> {
        let present = self.present.get(id).filter(|present| present.incarnation == incarnation)?;
        match present.stage {
            Stage::Starting { .. } => None,
            Stage::Begun => present.cell.as_ref(),
        }
    }

    /// How many have begun.
    pub(super) fn begun(&self) -> usize {
        self.present.values().filter(|present| matches!(present.stage, Stage::Begun)).count()
    }

    pub(super) fn ask_to_stop(&self, id: &ChildId, incarnation: Incarnation) {
        let Some(cell) = self.actor(id, incarnation) else { return };
        // Ractor's stop would kill the children of a supervisor: ours are asked to stop them first.
        let is_supervisor = cell.is_message_type_of::<Message>() == Some(true);
        let asked = is_supervisor && cell.send_message(Message::Shutdown { deadline: None, reply: None }).is_ok();
        if !asked {
            cell.stop(None);
        }
    }

    pub(super) fn kill(&mut self, id: &ChildId, incarnation: Incarnation) {
        if let Some(present) = self.of(id, incarnation) {
            present.is_killed = true;
            present.cell.iter().for_each(ActorCell::kill);
        }
    }

    /// Waits for no start any more.
    pub(super) fn cut_starts(&mut self) {
        for present in self.present.values_mut() {
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

    fn begin(&mut self, id: ChildId, present: Present) {
        self.tasks += usize::from(present.is_task);
        if let Some(cell) = &present.cell {
            self.actors.insert(cell.get_id(), id.clone());
        }
        let before = self.present.insert(id, present);
        self.forget(before);
    }

    fn end(&mut self, id: &ChildId) {
        let before = self.present.remove(id);
        self.forget(before);
    }

    fn forget(&mut self, before: Option<Present>) {
        if let Some(cell) = before.and_then(|before| before.cell) {
            self.actors.remove(&cell.get_id());
        }
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
    pub(super) fn spawn(&mut self, id: ChildId, incarnation: Incarnation) {
        let child = self.children.get(&id).expect("invariant: the engine starts only children it was given").clone();
        let life = Life::new(id.clone(), incarnation, self.myself.clone());
        let (mut is_task, mut cell, mut sender) = (false, None, None);
        match child.begin(life) {
            Begin::Actor(begun) => cell = Some(begun),
            Begin::Task(start, context) => {
                let (cutter, cut) = oneshot::channel();
                let supervisor = self.myself.clone();
                self.tasks.spawn(StartTask { start, context, supervisor, cut }.run());
                (is_task, sender) = (true, Some(cutter));
            }
            // By message: nothing may come of an effect before all of them are carried out.
            Begin::Failed(error) => self.tell_not_begun(id.clone(), incarnation, error),
        }
        let stage = Stage::Starting { cut: sender, word: None };
        self.lives.begin(id, Present { incarnation, stage, is_task, cell, end: None, is_killed: false });
    }

    pub(super) fn begun(&mut self, id: ChildId, incarnation: Incarnation, started: Option<Started>) {
        let early = match started {
            Some(started) => self.note_begun(&id, incarnation, started),
            None => Early::default(),
        };
        let Some(present) = self.lives.of(&id, incarnation) else { return };
        let Stage::Starting { word, .. } = std::mem::replace(&mut present.stage, Stage::Begun) else { return };
        self.note_first(&id);
        self.answer_begun(&id, incarnation);
        self.step(Event::Spawned { id: id.clone(), incarnation });
        if let Some(word) = word {
            self.said(id.clone(), incarnation, word);
        }
        if let Some(is_graceful) = early.gone {
            self.exited(id, incarnation, is_graceful);
        }
    }

    /// Takes note of the actor that a start task has brought forth, and returns what was told of it before.
    fn note_begun(&mut self, id: &ChildId, incarnation: Incarnation, started: Started) -> Early {
        let Started { cell, is_noted } = started;
        let mut early = self.lives.early.remove(&cell.get_id()).unwrap_or_default();
        self.lives.task_over();
        let Some(present) = self.lives.of(id, incarnation) else {
            cell.kill();
            return early;
        };
        present.end = early.end.take();
        present.cell = Some(cell.clone());
        self.lives.actors.insert(cell.get_id(), id.clone());
        if !is_noted {
            self.watch(id.clone(), incarnation, cell);
        }
        early
    }

    pub(super) fn not_begun(&mut self, id: ChildId, incarnation: Incarnation, error: StartError) {
        if self.start_over(&id, incarnation) {
            self.answer_not_begun(&id, &error);
            self.step(Event::SpawnFailed { id, incarnation, error });
        }
    }

    pub(super) fn ignored(&mut self, id: ChildId, incarnation: Incarnation) {
        if self.start_over(&id, incarnation) {
            self.note_first(&id);
            self.answer_ignored(&id);
            self.step(Event::Ignored { id, incarnation });
        }
    }

    /// A start is over without a life; `false`: it is not the present one, or that is known.
    fn start_over(&mut self, id: &ChildId, incarnation: Incarnation) -> bool {
        let Some(Present { stage: Stage::Starting { .. }, is_task, .. }) = self.lives.of(id, incarnation) else {
            return false;
        };
        let is_task = *is_task;
        self.lives.end(id);
        if is_task {
            self.lives.task_over();
        }
        true
    }

    pub(super) fn said(&mut self, id: ChildId, incarnation: Incarnation, said: Word) {
        if let Some(Present { stage: Stage::Starting { word, .. }, .. }) = self.lives.of(&id, incarnation) {
            *word = Some(said);
            return;
        }
        self.step(match said {
            Word::Ready => Event::Ready { id, incarnation },
            Word::Unready(detail) => Event::Unready { id, incarnation, detail },
            Word::LivenessLost(detail) => Event::LivenessLost { id, incarnation, detail },
        });
    }

    /// Waits until an actor is really gone that does not say so itself.
    fn watch(&mut self, id: ChildId, incarnation: Incarnation, cell: ActorCell) {
        let life = Life::new(id, incarnation, self.myself.clone());
        self.tasks.spawn(async move {
            drop(cell.wait(None).await);
            life.gone(cell.get_id(), None);
        });
    }

    /// Ractor tells of the end of an actor that is linked here.
    pub(super) fn ended(&mut self, cell: &ActorCell, end: End) {
        let known = self.lives.actors.get(&cell.get_id());
        match known.and_then(|id| self.lives.present.get_mut(id)) {
            Some(present) => present.end = Some(end),
            // Perhaps of a start that is not over.
            None => {
                if let Some(early) = self.lives.early_of(cell.get_id()) {
                    early.end = Some(end);
                }
            }
        }
    }

    /// An actor is gone. Supervision events come before messages, so its end has been told if it was linked.
    pub(super) fn gone(&mut self, id: ChildId, incarnation: Incarnation, actor: ActorId, is_graceful: Option<bool>) {
        let Some(present) = self.lives.of(&id, incarnation) else { return };
        match present.cell.as_ref().map(ActorCell::get_id) {
            Some(known) if known == actor => self.exited(id, incarnation, is_graceful),
            Some(_) => {}
            None => {
                if let Some(early) = self.lives.early_of(actor) {
                    early.gone = Some(is_graceful);
                }
            }
        }
    }

    fn exited(&mut self, id: ChildId, incarnation: Incarnation, is_graceful: Option<bool>) {
        let Some(present) = self.lives.of(&id, incarnation) else { return };
        let reason = exit_reason(present.end.take(), is_graceful, present.is_killed);
        self.step(Event::Exited { id: id.clone(), incarnation, reason });
        // Only now, because reports name the actor; the engine may have asked for the next life already.
        if self.lives.of(&id, incarnation).is_some() {
            self.lives.end(&id);
        }
    }
}
