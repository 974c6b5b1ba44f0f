//! What handles ask of a supervisor's actor: OTP's calls, each answered at once but for the termination of a child.

use std::sync::Arc;

use super::child::ErasedChild;
use super::handle::{Answer, ChildError, ChildInfo};
use super::state::Shell;
use crate::engine::{ChildState, Engine, Event};
use crate::spec::{ChildId, ChildSpec, Incarnation};

/// Somebody waits for a child to be down.
pub(super) struct Termination {
    id: ChildId,
    incarnation: Option<Incarnation>,
    reply: Answer<()>,
}

// === impl Shell ===

impl Shell {
    pub(super) fn start_child(&mut self, spec: ChildSpec, child: Arc<dyn ErasedChild>) -> Result<(), ChildError> {
        self.check_staying()?;
        let id = spec.id.clone();
        if self.children.contains_key(&id) {
            return Err(ChildError::AlreadyPresent(id));
        }
        let mut specs = self.specs();
        specs.push(spec.clone());
        Engine::check(&specs)?;
        self.children.insert(id.clone(), (spec, child));
        self.step(Event::Replace { specs });
        self.step(Event::Start { ids: vec![id], with_needs: false });
        Ok(())
    }

    pub(super) fn terminate_child(&mut self, id: ChildId, reply: Answer<()>) {
        let Some(view) = self.engine.child(id.as_str()) else {
            return drop(reply.send(Err(ChildError::NotFound(id))));
        };
        self.terminations.push(Termination { id: id.clone(), incarnation: view.incarnation, reply });
        self.step(Event::Stop { ids: vec![id] });
    }

    pub(super) fn restart_child(&mut self, id: ChildId) -> Result<(), ChildError> {
        self.check_staying()?;
        self.check_known(&id)?;
        self.step(Event::Restart { ids: vec![id] });
        Ok(())
    }

    pub(super) fn delete_child(&mut self, id: &ChildId) -> Result<(), ChildError> {
        self.check_staying()?;
        match self.check_known(id)? {
            ChildState::Stopped | ChildState::Done | ChildState::Failed => {}
            ChildState::Pending
            | ChildState::Starting
            | ChildState::Running
            | ChildState::Ready
            | ChildState::Stopping
            | ChildState::Backoff { .. } => return Err(ChildError::NotDown(id.clone())),
        }
        let mut specs = self.specs();
        specs.retain(|spec| spec.id != *id);
        Engine::check(&specs)?;
        self.step(Event::Replace { specs });
        self.children.shift_remove(id);
        Ok(())
    }

    pub(super) fn which_children(&self) -> Vec<ChildInfo> {
        let info = |(spec, _): &(ChildSpec, _)| {
            let view = self.engine.child(spec.id.as_str())?;
            let actor = view.incarnation.and_then(|incarnation| self.actor_of(&spec.id, incarnation)).cloned();
            Some(ChildInfo { view, actor, child_type: spec.child_type })
        };
        self.children.values().filter_map(info).collect()
    }

    fn check_staying(&self) -> Result<(), ChildError> {
        if self.ending.is_some() { Err(ChildError::Stopping(self.name.clone())) } else { Ok(()) }
    }

    fn check_known(&self, id: &ChildId) -> Result<ChildState, ChildError> {
        self.engine.child(id.as_str()).map(|view| view.state).ok_or_else(|| ChildError::NotFound(id.clone()))
    }

    fn specs(&self) -> Vec<ChildSpec> {
        self.children.values().map(|(spec, _)| spec.clone()).collect()
    }

    /// Answers those whose child is down, or will not be because somebody started it again.
    pub(super) fn answer_terminations(&mut self) {
        for Termination { id, incarnation, reply } in std::mem::take(&mut self.terminations) {
            match self.engine.child(id.as_str()).filter(|view| view.state.is_alive()) {
                None => drop(reply.send(Ok(()))),
                Some(view) if view.leaving && view.incarnation == incarnation => {
                    self.terminations.push(Termination { id, incarnation, reply });
                }
                Some(_) => drop(reply.send(Err(ChildError::StartedAgain(id)))),
            }
        }
    }
}
