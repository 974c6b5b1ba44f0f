//! What handles ask of a supervisor's actor: OTP's calls. Those that begin or end a life are answered when that is done.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::ActorCell;

use super::actor::Replacement;
use super::child::ErasedChild;
use super::handle::{Answer, ChildError, ChildInfo, Counts};
use super::state::Shell;
use crate::engine::{AdminError, ChildState, ChildView, Engine, Event, OtpState};
use crate::reason::StartError;
use crate::spec::{ChildId, ChildSpec, ChildType, Incarnation};

/// Who waits for what.
#[derive(Default)]
pub(super) struct Requests {
    /// For a life to begin.
    begins: HashMap<ChildId, Vec<Answer<Option<ActorCell>>>>,
    /// For this life to be over.
    terminations: HashMap<ChildId, Vec<(Option<Incarnation>, Answer<()>)>>,
    /// Children that somebody waits for and that something has happened to.
    touched: Vec<ChildId>,
}

// === impl Requests ===

impl Requests {
    /// Something has happened to a child.
    pub(super) fn touch(&mut self, id: ChildId) {
        if self.begins.contains_key(&id) || self.terminations.contains_key(&id) {
            self.touched.push(id);
        }
    }
}

// === impl Shell ===

impl Shell {
    pub(super) fn start_child(
        &mut self,
        spec: Box<ChildSpec>,
        child: Arc<dyn ErasedChild>,
        reply: Answer<Option<ActorCell>>,
    ) {
        let refused = self.check_staying().and_then(|()| Ok(self.engine.check_add(&spec)?));
        if let Err(error) = refused {
            return drop(reply.send(Err(error)));
        }
        self.children.insert(spec.id.clone(), child);
        self.requests.begins.entry(spec.id.clone()).or_default().push(reply);
        self.step(Event::Add { spec });
    }

    pub(super) fn restart_child(&mut self, id: ChildId, reply: Answer<Option<ActorCell>>) {
        let refused = self.check_staying().and_then(|()| Ok(self.engine.check_try(&id)?));
        if let Err(error) = refused {
            return drop(reply.send(Err(error)));
        }
        self.requests.begins.entry(id.clone()).or_default().push(reply);
        self.step(Event::Try { id });
    }

    pub(super) fn terminate_child(&mut self, id: ChildId, reply: Answer<()>) {
        let Some(view) = self.engine.child(id.as_str()) else {
            return drop(reply.send(Err(AdminError::NotFound(id).into())));
        };
        self.requests.terminations.entry(id.clone()).or_default().push((view.incarnation, reply));
        self.requests.touch(id.clone());
        self.step(Event::Stop { ids: vec![id] });
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
        let actor = view.incarnation.and_then(|incarnation| self.lives.actor(&view.id, incarnation)).cloned();
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
        self.children.extend(children.0.into_iter().map(|(spec, child)| (spec.id, child)));
        self.step(Event::Upgrade { specs, groups, flags });
        Ok(())
    }

    fn check_staying(&self) -> Result<(), ChildError> {
        if self.stop.is_some() { Err(ChildError::Stopping(self.name.clone())) } else { Ok(()) }
    }

    // --- answers ---

    /// Answers those who wait for a life that has begun.
    pub(super) fn answer_begun(&mut self, id: &ChildId, incarnation: Incarnation) {
        if let Some(replies) = self.requests.begins.remove(id) {
            let actor = self.lives.actor(id, incarnation).cloned();
            answer(replies, || Ok(actor.clone()));
        }
    }

    /// There is nothing to run.
    pub(super) fn answer_ignored(&mut self, id: &ChildId) {
        answer(self.requests.begins.remove(id).unwrap_or_default(), || Ok(None));
    }

    /// The start has failed. It is tried again only if nobody asked for it, or the child is not one of OTP's.
    pub(super) fn answer_not_begun(&mut self, id: &ChildId, error: &StartError) {
        answer(self.requests.begins.remove(id).unwrap_or_default(), || Err(ChildError::Start(error.clone())));
    }

    /// Answers those whose child is where they wait for it to be, or will not get there.
    pub(super) fn answer_touched(&mut self) {
        while let Some(id) = self.requests.touched.pop() {
            let view = self.engine.child(id.as_str());
            self.answer_terminations(&id, view.as_ref());
            let is_coming = view.is_some_and(|view| view.state.is_alive() || view.state == ChildState::Pending);
            if !is_coming {
                let replies = self.requests.begins.remove(&id).unwrap_or_default();
                answer(replies, || Err(ChildError::NotStarted(id.clone())));
            }
        }
    }

    fn answer_terminations(&mut self, id: &ChildId, view: Option<&ChildView>) {
        let Some(waiting) = self.requests.terminations.remove(id) else { return };
        let mut left = Vec::new();
        for (incarnation, reply) in waiting {
            match view.filter(|view| view.state.is_alive()) {
                None => drop(reply.send(Ok(()))),
                Some(view) if view.leaving && view.incarnation == incarnation => left.push((incarnation, reply)),
                Some(_) => drop(reply.send(Err(ChildError::StartedAgain(id.clone())))),
            }
        }
        if !left.is_empty() {
            self.requests.terminations.insert(id.clone(), left);
        }
    }
}

fn answer<T: Send + 'static>(replies: Vec<Answer<T>>, result: impl Fn() -> Result<T, ChildError>) {
    for reply in replies {
        drop(reply.send(result()));
    }
}
