//! How children go down together: who, in which order, and what each one waits for.

use super::child::{Leaving, LifeId, Next, Pending, State};
use super::strategy::{self, Loss};
use super::{Cause, Desired, Engine, How};

/// A child of a fall: who, what follows, and why.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) at: usize,
    pub(super) next: Next,
    pub(super) cause: Cause,
}

// === impl Engine ===

impl Engine {
    /// Brings down the dependents whose edges say so. The child itself waits for their lives to be over.
    pub(super) fn take_along(&mut self, at: usize, loss: Loss, how: How) {
        let members = self.members_following(&[at], loss, how);
        let lives: Vec<_> = members.iter().filter_map(|member| self.children[member.at].life_id()).collect();
        self.bring_down(members);
        self.children[at].barrier.extend(lives);
    }

    /// The followers of `roots` as members of their fall.
    pub(super) fn members_following(&self, roots: &[usize], loss: Loss, how: How) -> Vec<Member> {
        let member = |(at, follower): (usize, strategy::Follower)| Member {
            at,
            next: if follower.again { Next::Again(how.birth()) } else { Next::Down },
            cause: Cause::Dependency { on: self.id(follower.on), how },
        };
        strategy::followers(&self.order, &self.children, roots, loss).into_iter().map(member).collect()
    }

    /// Brings children down together: each after its dependents among them, and those that come up again only when all
    /// are down for real.
    pub(super) fn bring_down(&mut self, members: Vec<Member>) {
        let lives: Vec<_> =
            members.iter().filter_map(|member| Some((member.at, self.children[member.at].life_id()?))).collect();
        for Member { at, next, cause } in members {
            let dependents = self.order.all_dependents(at);
            let after = lives.iter().filter(|(other, _)| dependents.contains(other)).map(|(_, life)| life.clone());
            let after = after.collect();
            let child = &mut self.children[at];
            match next {
                Next::Down => child.desired = Desired::Down,
                Next::Again(_) | Next::Crash(_) => {
                    let others = lives.iter().filter(|(other, _)| *other != at).map(|(_, life)| life.clone());
                    child.barrier.extend(others);
                }
            }
            if child.life().is_some() { self.leave(at, after, next, cause) } else { self.settle(at, next, cause) }
        }
    }

    /// Puts a life on its way down.
    fn leave(&mut self, at: usize, after: Vec<LifeId>, next: Next, cause: Cause) {
        let child = &mut self.children[at];
        let Some(life) = child.life_mut() else { return };
        let changed = match &mut life.leaving {
            Some(leaving) => leaving.merge(after, next),
            None => {
                life.leaving = Some(Leaving { after, next, kill: false });
                true
            }
        };
        if changed {
            child.cause = Some(cause);
        }
    }

    /// What being brought down means for a child that is not alive.
    fn settle(&mut self, at: usize, next: Next, cause: Cause) {
        let child = &mut self.children[at];
        match (&child.state, next) {
            (State::Pending(_) | State::Backoff { .. }, Next::Down) => {
                child.cause = Some(cause);
                self.down(at);
            }
            (State::Backoff { .. } | State::Stopped | State::Done | State::Failed, Next::Again(birth)) => {
                child.cause = Some(cause);
                self.enter(at, State::Pending(Pending::new(birth)));
            }
            (State::Pending(_), Next::Again(_) | Next::Crash(_))
            | (State::Stopped | State::Done | State::Failed, Next::Down | Next::Crash(_))
            | (State::Backoff { .. }, Next::Crash(_))
            | (State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_), _) => {}
        }
    }

    /// Ends a life that has failed; its end is judged as a crash.
    pub(super) fn condemn(&mut self, at: usize, cause: Cause) {
        self.leave(at, Vec::new(), Next::Crash(cause.clone()), cause);
    }
}
