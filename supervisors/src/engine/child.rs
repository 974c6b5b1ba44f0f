//! One child inside the engine: its spec, its state, its counts and its armed timers. It decides nothing.

use super::budget::Budget;
use super::event::{Time, TimerKind};
use super::report::Cause;
use super::view::{ChildState, ChildView, Desired};
use crate::reason::ExitReason;
use crate::spec::{ChildId, ChildSpec, Condition, Incarnation, Readiness};

/// A child.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) desired: Desired,
    pub(super) state: State,
    /// When the state was entered.
    pub(super) since: Time,
    /// The number of its last life; 0 before the first.
    pub(super) lives: u32,
    /// Automatic restarts.
    pub(super) restarts: u32,
    pub(super) budget: Budget,
    pub(super) last_exit: Option<ExitReason>,
    /// Why it is in its state.
    pub(super) cause: Option<Cause>,
    /// Lives that must be over before its next one; those that turn out to stay do not count.
    pub(super) barrier: Vec<LifeId>,
    /// Armed timers: at most one of each kind, all belonging to the present state.
    pub(super) timers: Vec<(TimerKind, u64)>,
    /// Its spec is gone; it is dropped as soon as it is down.
    pub(super) removed: bool,
}

/// What a child is doing; each state owns what is valid only in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Pending(Pending),
    Starting(Life),
    Running(Life),
    Ready(Life),
    Stopping(Life),
    Backoff { until: Time },
    Stopped,
    Done,
    Failed,
}

/// Waiting to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) birth: Birth,
    /// What it was last seen waiting for, and the cause to show for it.
    pub(super) blocked_by: Vec<ChildId>,
    pub(super) blocked_cause: Option<Cause>,
}

/// What kind of life comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Birth {
    /// A start.
    Start,
    /// A restart that somebody asked for.
    Manual,
    /// A restart decided here.
    Automatic,
}

/// One life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) incarnation: Incarnation,
    /// It has been ready once; the time to become so is over then.
    pub(super) was_ready: bool,
    /// It was ready (or, if it never says so, running) for `stable_after`.
    pub(super) stable: bool,
    /// Set once it is on its way down; it is asked to end when all of `after` are over.
    pub(super) leaving: Option<Leaving>,
}

/// How a life is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Lives of dependents that must be over before it is asked to end.
    pub(super) after: Vec<LifeId>,
    pub(super) next: Next,
    /// Do not ask, kill.
    pub(super) kill: bool,
}

/// What follows the end of a life that was told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one.
    Again(Birth),
    /// It counts as a crash.
    Crash(Cause),
    /// Nothing.
    Down,
}

/// One life of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LifeId {
    pub(super) id: ChildId,
    pub(super) incarnation: Incarnation,
}

// === impl Child ===

impl Child {
    pub(super) fn new(spec: ChildSpec) -> Self {
        Self {
            spec,
            desired: Desired::Down,
            state: State::Stopped,
            since: Time::ZERO,
            lives: 0,
            restarts: 0,
            budget: Budget::default(),
            last_exit: None,
            cause: None,
            barrier: Vec::new(),
            timers: Vec::new(),
            removed: false,
        }
    }

    /// The number of the present or last life.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        (self.lives > 0).then_some(Incarnation(self.lives))
    }

    pub(super) fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Starting(life) | State::Running(life) | State::Ready(life) | State::Stopping(life) => Some(life),
            State::Pending(_) | State::Backoff { .. } | State::Stopped | State::Done | State::Failed => None,
        }
    }

    pub(super) fn life_mut(&mut self) -> Option<&mut Life> {
        match &mut self.state {
            State::Starting(life) | State::Running(life) | State::Ready(life) | State::Stopping(life) => Some(life),
            State::Pending(_) | State::Backoff { .. } | State::Stopped | State::Done | State::Failed => None,
        }
    }

    pub(super) fn life_id(&self) -> Option<LifeId> {
        self.life().map(|life| LifeId { id: self.spec.id.clone(), incarnation: life.incarnation })
    }

    /// Whether it is alive and not on its way down.
    pub(super) fn stays(&self) -> bool {
        self.life().is_some_and(|life| life.leaving.is_none())
    }

    /// Whether its present life is on its way down.
    pub(super) fn leaves(&self) -> bool {
        self.life().is_some_and(|life| life.leaving.is_some())
    }

    pub(super) fn never_reports_readiness(&self) -> bool {
        self.spec.readiness == Readiness::Unreported
    }

    /// Whether a dependent that waits for `condition` may start. What is on its way down is not there any more.
    pub(super) fn satisfies(&self, condition: Condition) -> bool {
        match &self.state {
            State::Running(life) => condition == Condition::Started && life.leaving.is_none(),
            State::Ready(life) => condition != Condition::Done && life.leaving.is_none(),
            State::Done => condition != Condition::Ready,
            State::Pending(_)
            | State::Starting(_)
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Stopped
            | State::Failed => false,
        }
    }

    pub(super) fn view(&self) -> ChildView {
        let (blocked_by, blocked_cause) = match &self.state {
            State::Pending(pending) => (pending.blocked_by.clone(), pending.blocked_cause.clone()),
            State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping(_)
            | State::Backoff { .. }
            | State::Stopped
            | State::Done
            | State::Failed => (Vec::new(), None),
        };
        ChildView {
            id: self.spec.id.clone(),
            state: self.view_state(),
            desired: self.desired,
            incarnation: self.incarnation(),
            restarts: self.restarts,
            since: self.since,
            blocked_by,
            last_exit: self.last_exit.clone(),
            cause: blocked_cause.or_else(|| self.cause.clone()),
            leaving: self.leaves(),
        }
    }

    fn view_state(&self) -> ChildState {
        match &self.state {
            State::Pending(_) => ChildState::Pending,
            State::Starting(_) => ChildState::Starting,
            State::Running(_) => ChildState::Running,
            State::Ready(_) => ChildState::Ready,
            State::Stopping(_) => ChildState::Stopping,
            State::Backoff { until } => ChildState::Backoff { until: *until, failures: self.budget.failures() },
            State::Stopped => ChildState::Stopped,
            State::Done => ChildState::Done,
            State::Failed => ChildState::Failed,
        }
    }
}

// === impl Pending ===

impl Pending {
    pub(super) fn new(birth: Birth) -> Self {
        Self { birth, blocked_by: Vec::new(), blocked_cause: None }
    }
}

// === impl Life ===

impl Life {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, was_ready: false, stable: false, leaving: None }
    }
}

// === impl Leaving ===

impl Leaving {
    /// Told to go down twice: the stronger word holds. Down beats a crash to be judged, which beats a plain restart; a
    /// restart somebody asked for beats one decided here, because it is not counted.
    pub(super) fn merge(&mut self, after: Vec<LifeId>, next: Next) -> bool {
        self.after.extend(after);
        let stronger = next.strength() > self.next.strength();
        if stronger {
            self.next = next;
        }
        stronger
    }
}

// === impl Next ===

impl Next {
    fn strength(&self) -> u8 {
        match self {
            Self::Again(Birth::Automatic) => 0,
            Self::Again(Birth::Start | Birth::Manual) => 1,
            Self::Crash(_) => 2,
            Self::Down => 3,
        }
    }
}
