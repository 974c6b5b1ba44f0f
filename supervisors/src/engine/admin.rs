//! OTP's calls on single children: adding, starting once, forgetting, and what is wrong with a call.

use super::child::{Birth, Child, Link, State, Trial};
use super::event::Time;
use super::order::{SpecError, check_edge, check_significant, unknown};
use super::table::{ChildKey, Key};
use super::{Cause, Desired, Effect, Engine, What};
use crate::spec::{ChildId, ChildSpec, Ended};

/// Why OTP refuses a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No such child (`not_found`).
    #[error("there is no child {0}")]
    NotFound(ChildId),
    /// There is such a child, and it is not running (`already_present`).
    #[error("there is a child {0} already, which does not run")]
    AlreadyPresent(ChildId),
    /// There is such a child, and it runs (`already_started`).
    #[error("there is a child {0} already, which runs")]
    AlreadyStarted(ChildId),
    /// It must be down for that (`running`).
    #[error("child {0} runs")]
    Running(ChildId),
    /// It is between two lives (`restarting`).
    #[error("child {0} is being restarted")]
    Restarting(ChildId),
    /// Others need it.
    #[error("child {0} is needed by others")]
    Needed(ChildId),
    /// The specs that would result cannot be supervised.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// A child in OTP's three words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtpState {
    /// It has a pid.
    Running,
    /// `restarting`.
    Restarting,
    /// `undefined`.
    Undefined,
}

// === impl Engine ===

impl Engine {
    /// What `which_children` of OTP calls the state of a child.
    pub fn otp_state(&self, id: &str) -> Option<OtpState> {
        let at = self.children.find(id)?;
        Some(match &self.children[at].state {
            State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_) => OtpState::Running,
            State::Backoff { .. } => OtpState::Restarting,
            State::Pending(_) if self.is_stalled(at) => OtpState::Undefined,
            State::Pending(_) => OtpState::Restarting,
            State::Stopped | State::Done | State::Failed => OtpState::Undefined,
        })
    }

    /// Whether [`super::Event::Add`] of this spec would add a child.
    pub fn check_add(&self, spec: &ChildSpec) -> Result<(), AdminError> {
        match self.otp_state(spec.id.as_str()) {
            Some(OtpState::Running) => return Err(AdminError::AlreadyStarted(spec.id.clone())),
            Some(OtpState::Restarting | OtpState::Undefined) => {
                return Err(AdminError::AlreadyPresent(spec.id.clone()));
            }
            None => {}
        }
        if self.groups.declared().any(|group| group.id.as_ref() == Some(&spec.id)) {
            return Err(SpecError::DuplicateId(spec.id.clone()).into());
        }
        check_significant(spec, &self.options.flags)?;
        for edge in &spec.needs {
            let need = self.children.find(edge.on.as_str()).ok_or_else(|| unknown(spec, &edge.on))?;
            check_edge(spec, &self.children[need].spec, edge.is)?;
        }
        Ok(())
    }

    /// Whether [`super::Event::Try`] of this child would start it.
    pub fn check_try(&self, id: &ChildId) -> Result<(), AdminError> {
        self.check_down(id).map(drop)
    }

    /// Whether [`super::Event::Remove`] of this child would forget it.
    pub fn check_remove(&self, id: &ChildId) -> Result<(), AdminError> {
        let at = self.check_down(id)?;
        if self.children[at].dependents.is_empty() { Ok(()) } else { Err(AdminError::Needed(id.clone())) }
    }

    fn check_down(&self, id: &ChildId) -> Result<Key, AdminError> {
        let at = self.children.find(id.as_str()).filter(|&at| !self.children[at].removed);
        let at = at.ok_or_else(|| AdminError::NotFound(id.clone()))?;
        match self.otp_state(id.as_str()) {
            Some(OtpState::Running) => Err(AdminError::Running(id.clone())),
            Some(OtpState::Restarting) => Err(AdminError::Restarting(id.clone())),
            Some(OtpState::Undefined) | None => Ok(at),
        }
    }

    // --- events ---

    pub(super) fn add(&mut self, spec: ChildSpec) {
        if self.ending.is_none() && self.check_add(&spec).is_ok() {
            self.add_checked(spec);
        }
    }

    /// [`super::Event::Add`] for who wants to know what is wrong, or the key.
    pub fn step_add(&mut self, now: Time, spec: ChildSpec, effects: &mut Vec<Effect>) -> Result<ChildKey, AdminError> {
        self.check_add(&spec)?;
        self.begin_step(now, effects);
        let key = self.add_checked(spec);
        self.end_step(effects);
        Ok(key)
    }

    fn add_checked(&mut self, spec: ChildSpec) -> Key {
        let at = self.insert_last(spec);
        self.children[at].desired = Desired::Up;
        self.children[at].trial = Some(Trial::Drop);
        self.pend(at, Birth::Start);
        at
    }

    /// One more child after the others: nothing needs it yet, so the order of the others stays.
    fn insert_last(&mut self, spec: ChildSpec) -> Key {
        let lives = self.last_life_of(&spec.id);
        let needs: Vec<_> = spec.needs.clone();
        let at = self.children.push(Child { lives, topo: self.topo_end, ..Child::new(spec) });
        self.topo_end += 1;
        self.children[at].seat = self.groups.append(at);
        for edge in needs {
            let Some(to) = self.children.find(edge.on.as_str()) else { continue };
            self.children[at].needs.push(Link { to, is: edge.is, then: edge.then });
            self.children[to].dependents.push(Link { to: at, is: edge.is, then: edge.then });
        }
        at
    }

    pub(super) fn try_once(&mut self, id: &ChildId) {
        if self.ending.is_some() || self.check_try(id).is_err() {
            return;
        }
        let Some(at) = self.children.find(id.as_str()) else { return };
        self.children[at].desired = Desired::Up;
        self.children[at].trial = Some(Trial::Keep);
        self.forget_failed_groups(at);
        self.pend(at, Birth::Manual);
    }

    /// A start that was to be tried once has failed.
    pub(super) fn trial_failed(&mut self, at: Key, trial: Trial) {
        self.children[at].desired = Desired::Down;
        self.down(at);
        if trial == Trial::Drop {
            self.ended.push(at);
        }
    }

    pub(super) fn remove(&mut self, id: &ChildId) {
        if self.check_remove(id).is_ok()
            && let Some(at) = self.children.find(id.as_str())
        {
            if matches!(self.children[at].state, State::Pending(_)) {
                self.down(at);
            }
            self.ended.push(at);
        }
    }

    /// Forgets the children that have ended in this step and are not to be kept. One that others need stays.
    pub(super) fn drop_ended(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        for at in ended.drain(..) {
            let child = self.children.get(at);
            let is_at_rest = |child: &Child| matches!(child.state, State::Stopped | State::Done | State::Failed);
            if child.is_some_and(|child| is_at_rest(child) && (child.dependents.is_empty() || child.removed)) {
                self.drop_child(at);
            }
        }
        // For its memory.
        self.ended = ended;
    }

    fn drop_child(&mut self, at: Key) {
        self.forget_work(at);
        self.leave_batch(at);
        if self.children[at].removed {
            self.report(at, What::Removed, Some(Cause::SpecChange));
        }
        for link in std::mem::take(&mut self.children[at].needs) {
            self.children[link.to].dependents.retain(|dependent| dependent.to != at);
        }
        for link in std::mem::take(&mut self.children[at].dependents) {
            self.children[link.to].needs.retain(|need| need.to != at);
            self.wake(link.to);
        }
        self.groups.remove(self.children[at].seat);
        let Some(child) = self.children.remove(at) else { return };
        self.effect(Effect::Dropped { id: child.spec.id.clone(), key: at });
        self.retire(child);
    }

    /// Remembers the number of a last life, so that an id that comes back never repeats one: for each, where ids are few
    /// and known to people, else the highest of all.
    fn retire(&mut self, child: Child) {
        match self.options.flags.ended {
            Ended::Kept => drop(self.retired.insert(child.spec.id, child.lives)),
            Ended::TemporaryDropped | Ended::Dropped => self.retired_highest = self.retired_highest.max(child.lives),
        }
    }

    /// The number of the last life that somebody of this id had.
    pub(super) fn last_life_of(&mut self, id: &ChildId) -> u32 {
        self.retired.remove(id).unwrap_or(self.retired_highest)
    }
}
