//! A child as others see it. The engine's own states hold more; none of it leaves the engine.

use super::Engine;
use super::advance::{waiting_for, worst};
use super::child::State;
use super::event::Time;
use super::groups::{Group, Member};
use super::report::Cause;
use super::table::Key;
use crate::Name;
use crate::reason::ExitReason;
use crate::spec::{ChildId, Escalate, GroupId, Incarnation, Intensity, Strategy};

/// What the operator wants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// Running (or done, where it may end by itself).
    Up,
    /// Not running.
    Down,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// Wanted up, and waiting: for what it needs, for lives that must end first, or for a start slot.
    Pending,
    /// A life was asked for.
    Starting,
    /// Alive; not ready, or never says so.
    Running,
    /// Alive and ready.
    Ready,
    /// Asked to end.
    Stopping,
    /// Waiting before the next life.
    Backoff {
        /// When the wait ends.
        until: Time,
        /// Failed lives in a row.
        failures: u32,
    },
    /// Down, because it is wanted so.
    Stopped,
    /// Ended cleanly, and needs no further life.
    Done,
    /// Given up, until it is started by hand.
    Failed,
}

/// A child at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildView {
    /// The child.
    pub id: ChildId,
    /// What it is doing.
    pub state: ChildState,
    /// Its group, if it has one.
    pub group: Option<GroupId>,
    /// What is wanted of it.
    pub desired: Desired,
    /// Its present life, else its last one; `None` before the first.
    pub incarnation: Option<Incarnation>,
    /// Automatic restarts.
    pub restarts: u32,
    /// When it entered its state.
    pub since: Time,
    /// What a pending child waits for.
    pub blocked_by: Vec<ChildId>,
    /// How its last life ended.
    pub last_exit: Option<ExitReason>,
    /// Why it is in its state.
    pub cause: Option<Cause>,
    /// Whether it is alive but on its way down, also before it was asked to end.
    pub leaving: bool,
}

/// What of a child is looked at often and by many: nothing in it is copied, so a look at a thousand children costs little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildGlance<'a> {
    /// The child.
    pub id: &'a ChildId,
    /// What it is doing.
    pub state: ChildState,
    /// What is wanted of it.
    pub desired: Desired,
    /// Its present life, else its last one; `None` before the first.
    pub incarnation: Option<Incarnation>,
    /// Automatic restarts.
    pub restarts: u32,
    /// When it entered its state.
    pub since: Time,
}

/// A group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub id: GroupId,
    /// The group above it.
    pub parent: Option<GroupId>,
    /// Children and groups in it, in order.
    pub members: Vec<Name>,
    /// Who is restarted together.
    pub strategy: Strategy,
    /// Its budget.
    pub intensity: Intensity,
    /// Restarts charged to it within the window that ends now.
    pub used: u32,
    /// What giving up means.
    pub escalate: Escalate,
    /// Whether it was given up, and none of it has been started since.
    pub failed: bool,
}

// === impl ChildState ===

impl ChildState {
    /// Whether a life exists, or was asked for.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Ready | Self::Stopping => true,
            Self::Pending | Self::Backoff { .. } | Self::Stopped | Self::Done | Self::Failed => false,
        }
    }
}

// === impl Engine ===

impl Engine {
    /// A glance at every child, in the order of the specs.
    pub fn glances(&self) -> impl Iterator<Item = ChildGlance<'_>> {
        self.children.iter().map(|(_, child)| ChildGlance {
            id: &child.spec.id,
            state: child.view_state(),
            desired: child.desired,
            incarnation: child.incarnation(),
            restarts: child.restarts,
            since: child.since,
        })
    }

    pub(super) fn view(&self, at: Key) -> ChildView {
        let child = &self.children[at];
        let blockers = match child.state {
            State::Pending(_) => self.blockers(at),
            State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_) => Vec::new(),
            State::Backoff { .. } | State::Stopped | State::Done | State::Failed => Vec::new(),
        };
        ChildView {
            id: child.spec.id.clone(),
            state: child.view_state(),
            group: self.groups.get(child.seat.group).id.clone(),
            desired: child.desired,
            incarnation: child.incarnation(),
            restarts: child.restarts,
            since: child.since,
            cause: worst(&blockers).map(waiting_for).or_else(|| child.cause.clone()),
            blocked_by: blockers.into_iter().map(|(id, _)| id).collect(),
            last_exit: child.last_exit.clone(),
            leaving: child.leaves(),
        }
    }

    pub(super) fn group_view(&self, group: &Group<Key>) -> GroupView {
        let member = |member: &Member<Key>| match member {
            Member::Child(at) => self.id(*at),
            Member::Group(inner) => self.group_id(*inner),
        };
        GroupView {
            id: group.id.clone().expect("invariant: a declared group has a name"),
            parent: group.parent.and_then(|parent| self.groups.get(parent).id.clone()),
            members: group.members().map(member).collect(),
            strategy: group.strategy,
            intensity: group.intensity.expect("invariant: a declared group has a budget"),
            used: group.used(self.now),
            escalate: group.escalate,
            failed: group.record.failed,
        }
    }

    fn group_id(&self, at: usize) -> GroupId {
        self.groups.get(at).id.clone().expect("invariant: only the supervisor's own group has no name")
    }
}
