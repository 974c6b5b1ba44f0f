//! What follows when a child ends by itself.

use super::{BrokenRule, Entry, Naive, State, started};
use crate::naive::world::{Message, Pid};
use crate::script::{Id, Reason, Restart, Strategy};

// === impl Naive ===

impl Naive<'_> {
    /// The end of a process that is nobody's is ignored.
    pub(super) fn child_exited(&mut self, pid: Pid, reason: Reason) {
        let Some(at) = self.children.iter().position(|entry| entry.state == State::Running(pid)) else { return };
        if self.wants_restart(self.children[at].spec.restart, reason) {
            self.restart(at);
        } else {
            let spec = self.children[at].spec.clone();
            self.forget_process(at);
            self.after_end_of(&spec);
        }
    }

    fn wants_restart(&self, restart: Restart, reason: Reason) -> bool {
        let abnormal = match reason {
            Reason::Normal => false,
            Reason::Shutdown | Reason::ShutdownWith => self.is_broken(BrokenRule::TransientIsRestartedAfterShutdown),
            Reason::Crash | Reason::Kill => true,
        };
        match restart {
            Restart::Permanent => true,
            Restart::Transient => abnormal,
            Restart::Temporary => false,
        }
    }

    /// A failed start is tried again when the supervisor comes to it, unless the child was stopped meanwhile.
    pub(super) fn try_again(&mut self, id: Id) {
        if let Some(at) = self.position(id)
            && matches!(self.children[at].state, State::Restarting(_))
        {
            self.restart(at);
        }
    }

    fn restart(&mut self, at: usize) {
        if !self.may_restart(at) {
            self.forget_process(at);
            return self.shutdown();
        }
        match self.script.flags.strategy {
            Strategy::OneForOne | Strategy::SimpleOneForOne => self.restart_alone(at),
            Strategy::RestForOne => self.restart_group(at, at),
            Strategy::OneForAll => self.restart_group(0, at),
        }
    }

    /// Counts this restart, or the whole group's: one counter for all children.
    fn may_restart(&mut self, at: usize) -> bool {
        let is_retry = matches!(self.children[at].state, State::Restarting(_));
        if is_retry && self.is_broken(BrokenRule::RetriesAreFree) {
            return true;
        }
        let now = self.now_ms / 1_000;
        let period = self.script.flags.period;
        if !self.is_broken(BrokenRule::RestartsAreNeverForgotten) {
            self.restarts.retain(|restart| restart + period >= now);
        }
        self.restarts.push(now);
        let allowed = self.script.flags.intensity as usize;
        self.restarts.len() <= allowed + usize::from(self.is_broken(BrokenRule::IntensityIsOffByOne))
    }

    fn restart_alone(&mut self, at: usize) {
        let Entry { spec, state } = self.children[at].clone();
        self.children[at].state = match self.world.start(&spec) {
            Ok(process) => started(process),
            Err(_) => {
                self.world.mailbox.push_back(Message::TryAgain(spec.id));
                State::Restarting(match state {
                    State::Running(pid) => Some(pid),
                    State::Restarting(process) => process,
                    State::Undefined => None,
                })
            }
        };
    }

    /// Everybody from `first` on is terminated and started again: also those who were not running. Temporary ones are not.
    fn restart_group(&mut self, first: usize, culprit: usize) {
        let culprit = self.children[culprit].spec.id;
        let group = self.children.split_off(first);
        let mut stopping = group.iter().filter(|entry| entry.spec.id != culprit).collect::<Vec<_>>();
        let in_start_order = self.script.flags.strategy == Strategy::RestForOne
            && self.is_broken(BrokenRule::RestForOneStopsInStartOrder);
        if !in_start_order {
            stopping.reverse();
        }
        stopping.into_iter().for_each(|entry| self.terminate(entry));
        self.start_group(group, culprit);
    }

    /// The first that fails ends it: those after it wait until it is tried again.
    fn start_group(&mut self, group: Vec<Entry>, culprit: Id) {
        let mut retried = None;
        for Entry { spec, state } in group.into_iter().filter(|entry| entry.spec.restart != Restart::Temporary) {
            let was_stopped = state == State::Undefined;
            let stays_down = was_stopped && self.is_broken(BrokenRule::StoppedSiblingsStayDown);
            let state = match retried {
                None if !stays_down => self.world.start(&spec).map_or(State::Restarting(None), started),
                None | Some(_) => State::Undefined,
            };
            if state == State::Restarting(None) {
                retried = Some(spec.id);
            }
            self.children.push(Entry { spec, state });
        }
        if let Some(id) = retried {
            self.try_later(id, culprit);
        }
    }

    fn try_later(&mut self, id: Id, culprit: Id) {
        if self.is_broken(BrokenRule::TheWrongChildIsRetried)
            && let Some(at) = self.position(id)
            && let Some(wrong) = self.position(culprit)
        {
            self.children[at].state = State::Undefined;
            self.children[wrong].state = State::Restarting(None);
        }
        let wrong = self.is_broken(BrokenRule::TheWrongChildIsRetried);
        self.world.mailbox.push_back(Message::TryAgain(if wrong { culprit } else { id }));
    }
}
