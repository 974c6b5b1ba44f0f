//! What handles ask of a supervisor's actor: OTP's calls. Those that begin or end a life are answered when that is done.

use std::collections::BTreeSet;

use ractor::ActorCell;
use rustc_hash::FxHashMap;
use slotmap::SecondaryMap;

use super::actor::{NewChild, Replacement};
use super::handle::{Answer, ChildError, ChildInfo, Counts};
use super::replies::BeginReply;
use super::state::Shell;
use crate::engine::{AdminError, ChildKey, ChildState, ChildView, Engine, Event, OtpState};
use crate::reason::StartError;
use crate::spec::{ChildId, ChildSpec, ChildType, Incarnation};

/// Who waits for what.
#[derive(Default)]
pub(super) struct Requests {
    /// For a life to begin: at most one for each child, for OTP starts no child that is being started.
    begins: SecondaryMap<ChildKey, BeginReply>,
    /// For this life to be over.
    terminations: FxHashMap<ChildKey, Vec<Termination>>,
}

/// Somebody waits for this life to be over.
type Termination = (Option<Incarnation>, Answer<()>);

// === impl Shell ===

impl Shell {
    pub(super) fn start_child(&mut self, new: NewChild) {
        let NewChild { spec, child, reply } = new;
        if let Err(error) = self.check_staying() {
            return reply.send(Err(error));
        }
        let mut added = None;
        self.fresh = Some(child);
        self.drive(|engine, now, effects| added = Some(engine.step_add(now, spec, effects)));
        let waiting = self.fresh.take();
        match added {
            Some(Ok(key)) => {
                // It waits for something it needs, and will be started later.
                if let Some(starter) = waiting
                    && let Some(view) = self.engine.child_of(key)
                {
                    self.set_starter(&view.id, key, starter);
                }
                // How the start fares is told by message: nothing of it can have been missed.
                self.requests.begins.insert(key, reply);
            }
            Some(Err(error)) => reply.send(Err(error.into())),
            None => {}
        }
    }

    pub(super) fn restart_child(&mut self, id: ChildId, reply: Answer<Option<ActorCell>>) {
        let refused = self.check_staying().and_then(|()| Ok(self.engine.check_try(&id)?));
        if let Err(error) = refused {
            return drop(reply.send(Err(error)));
        }
        self.step(Event::Try { id: id.clone() });
        match self.engine.key(id.as_str()) {
            Some(key) => drop(self.requests.begins.insert(key, BeginReply::One(reply))),
            None => drop(reply.send(Err(ChildError::NotStarted(id)))),
        }
    }

    pub(super) fn terminate_child(&mut self, id: ChildId, reply: Answer<()>) {
        let (Some(key), Some(view)) = (self.engine.key(id.as_str()), self.engine.child(id.as_str())) else {
            return drop(reply.send(Err(AdminError::NotFound(id).into())));
        };
        self.requests.terminations.entry(key).or_default().push((view.incarnation, reply));
        self.step(Event::Stop { ids: vec![id] });
        self.answer_down(key);
    }

    /// What an operator asks the engine for.
    pub(super) fn ask(&mut self, event: Event) {
        if self.stop.is_none() {
            self.step(event);
            self.answer_all();
        }
    }

    pub(super) fn delete_child(&mut self, id: ChildId) -> Result<(), ChildError> {
        self.check_staying()?;
        self.engine.check_remove(&id)?;
        self.step(Event::Remove { id });
        Ok(())
    }

    pub(super) fn which_children(&self) -> Vec<ChildInfo> {
        self.engine.children().map(|view| self.info(view)).collect()
    }

    pub(super) fn which_child(&self, id: &ChildId) -> Result<ChildInfo, ChildError> {
        let view = self.engine.child(id.as_str()).ok_or_else(|| AdminError::NotFound(id.clone()))?;
        Ok(self.info(view))
    }

    fn info(&self, view: ChildView) -> ChildInfo {
        let actor = self.engine.key(view.id.as_str()).and_then(|key| self.lives.actor(key)).cloned();
        let child_type = self.engine.spec(view.id.as_str()).map_or(ChildType::Worker, |spec| spec.child_type);
        let otp_state = self.engine.otp_state(view.id.as_str()).unwrap_or(OtpState::Undefined);
        ChildInfo { view, actor, child_type, otp_state }
    }

    pub(super) fn count_children(&self) -> Counts {
        let supervisors = self.engine.specs().filter(|spec| spec.child_type == ChildType::Supervisor).count();
        let specs = self.engine.len();
        Counts { specs, active: self.lives.begun(), supervisors, workers: specs - supervisors }
    }

    pub(super) fn childspec(&self, id: ChildId) -> Result<ChildSpec, ChildError> {
        let spec = self.engine.spec(id.as_str()).cloned();
        Ok(spec.ok_or(AdminError::NotFound(id))?)
    }

    pub(super) fn replace(&mut self, replacement: Replacement) -> Result<(), ChildError> {
        self.check_staying()?;
        let Replacement { children, groups, flags } = replacement;
        let specs = children.specs();
        Engine::check_with(&specs, &groups, &flags)?;
        self.starters.extend(children.0.into_iter().map(|(spec, child)| (spec.id, child)));
        self.step(Event::Upgrade { specs, groups, flags });
        self.answer_all();
        Ok(())
    }

    fn check_staying(&self) -> Result<(), ChildError> {
        if self.stop.is_some() { Err(ChildError::Stopping(self.name.clone())) } else { Ok(()) }
    }

    // --- answers ---

    /// Answers who waits for a life that has begun.
    pub(super) fn answer_begun(&mut self, child: ChildKey) {
        if let Some(reply) = self.requests.begins.remove(child) {
            reply.send(Ok(self.lives.actor(child).cloned()));
        }
    }

    /// There is nothing to run.
    pub(super) fn answer_ignored(&mut self, child: ChildKey) {
        if let Some(reply) = self.requests.begins.remove(child) {
            reply.send(Ok(None));
        }
    }

    /// The start has failed, and is not tried again.
    pub(super) fn answer_not_begun(&mut self, child: ChildKey, error: &StartError) {
        if let Some(reply) = self.requests.begins.remove(child) {
            reply.send(Err(ChildError::Start(error.clone())));
        }
    }

    fn answer_not_started(&mut self, child: ChildKey, id: &ChildId) {
        if let Some(reply) = self.requests.begins.remove(child) {
            reply.send(Err(ChildError::NotStarted(id.clone())));
        }
    }

    /// A child is not known any more, and so down.
    pub(super) fn answer_dropped(&mut self, child: ChildKey, id: &ChildId) {
        for (_, reply) in self.requests.terminations.remove(&child).unwrap_or_default() {
            drop(reply.send(Ok(())));
        }
        self.answer_not_started(child, id);
    }

    /// Something was asked for that may concern any child.
    pub(super) fn answer_all(&mut self) {
        let waiting: BTreeSet<_> =
            self.requests.begins.keys().chain(self.requests.terminations.keys().copied()).collect();
        waiting.into_iter().for_each(|child| self.answer_down(child));
    }

    /// Answers those whose child is where they wait for it to be, or will not get there.
    pub(super) fn answer_down(&mut self, child: ChildKey) {
        if !self.requests.terminations.contains_key(&child) && !self.requests.begins.contains_key(child) {
            return;
        }
        let Some(view) = self.engine.child_of(child) else { return };
        for (incarnation, reply) in self.requests.terminations.remove(&child).unwrap_or_default() {
            if !view.state.is_alive() {
                drop(reply.send(Ok(())));
            } else if view.leaving && view.incarnation == incarnation {
                self.requests.terminations.entry(child).or_default().push((incarnation, reply));
            } else {
                drop(reply.send(Err(ChildError::StartedAgain(view.id.clone()))));
            }
        }
        if !view.state.is_alive() && view.state != ChildState::Pending {
            self.answer_not_started(child, &view.id);
        }
    }
}
