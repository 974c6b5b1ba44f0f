//! One child inside the engine: its spec, its state, its counts and its armed timer. It decides nothing.

use smallvec::SmallVec;

use super::batch::BatchId;
use super::budget::Budget;
use super::event::{Time, TimerKind};
use super::fall::{FallId, Place};
use super::groups::Seat;
use super::report::Cause;
use super::table::Key;
use super::view::{ChildState, Desired};
use crate::reason::ExitReason;
use crate::spec::{ChildId, ChildSpec, Condition, Incarnation, Readiness, Then};

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
    /// What it needs.
    pub(super) needs: Vec<Link>,
    /// What needs it.
    pub(super) dependents: Vec<Link>,
    /// Where it stands in the tree of groups.
    pub(super) seat: Seat,
    /// Its place in the order of the specs.
    pub(super) rank: u64,
    /// Its place in the order of starts.
    pub(super) topo: u64,
    /// Its places in the falls that its present life is part of: one, as a rule.
    pub(super) falls: SmallVec<[Place; 1]>,
    /// Falls that must be over before its next life.
    pub(super) barrier: Vec<FallId>,
    /// The children it comes up with.
    pub(super) batch: Option<BatchId>,
    /// Whether those of its batch that come after it must wait for it still.
    pub(super) is_coming: bool,
    /// The start under way is tried once only.
    pub(super) trial: Option<Trial>,
    /// The armed timer, if any, which belongs to the present state.
    pub(super) timer: Option<Armed>,
    /// Its spec is gone; it is dropped as soon as it is down.
    pub(super) removed: bool,
}

/// An armed timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) kind: TimerKind,
    pub(super) generation: u64,
    pub(super) due: Time,
}

/// What a child is doing; each state owns what is valid only in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Pending(Pending),
    Starting(Life),
    Running(Life),
    Ready(Life),
    Stopping(Life),
    Backoff { until: Time, charge: Charge },
    Stopped,
    Done,
    Failed,
}

/// When a failure is charged to the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charge {
    /// It has been.
    Paid,
    /// When it is tried again: so OTP counts a start that failed, and forgets it if nobody wants the child any more.
    Due,
}

/// What becomes of a child whose start is tried once and fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// The supervisor ends (OTP's `failed_to_start_child`).
    End,
    /// It stays, down (OTP's `restart_child`).
    Keep,
    /// It is dropped (OTP's `start_child`).
    Drop,
}

/// An edge, seen from either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The child at the other end.
    pub(super) to: Key,
    /// What is waited for.
    pub(super) is: Condition,
    /// What follows when it is lost.
    pub(super) then: Then,
}

/// Waiting to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) birth: Birth,
    /// What it was last reported to wait for, and why.
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
    /// Set once it is on its way down; it is asked to end when its turn has come in all its falls.
    pub(super) leaving: Option<Leaving>,
}

/// How a life is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
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
    Crash(Box<Cause>),
    /// It has failed with its group.
    Fail,
    /// Nothing.
    Down,
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
            needs: Vec::new(),
            dependents: Vec::new(),
            seat: Seat::default(),
            rank: 0,
            topo: 0,
            falls: SmallVec::new(),
            barrier: Vec::new(),
            batch: None,
            is_coming: false,
            trial: None,
            timer: None,
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

    /// Whether something of it lives, or will without a new event from outside.
    pub(super) fn is_active(&self) -> bool {
        match self.state {
            State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_) | State::Backoff { .. } => {
                true
            }
            State::Pending(_) | State::Stopped | State::Done | State::Failed => false,
        }
    }

    /// Whether it has not got yet where those that come after it wait for it to be: ready, or running if it never says so.
    pub(super) fn is_on_its_way(&self) -> bool {
        match &self.state {
            State::Pending(_) | State::Starting(_) | State::Stopping(_) | State::Backoff { .. } => true,
            State::Running(life) => !life.was_ready && !self.never_reports_readiness(),
            State::Ready(_) | State::Stopped | State::Done | State::Failed => false,
        }
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

    pub(super) fn view_state(&self) -> ChildState {
        match &self.state {
            State::Pending(_) => ChildState::Pending,
            State::Starting(_) => ChildState::Starting,
            State::Running(_) => ChildState::Running,
            State::Ready(_) => ChildState::Ready,
            State::Stopping(_) => ChildState::Stopping,
            State::Backoff { until, .. } => ChildState::Backoff { until: *until, failures: self.budget.failures() },
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
    /// Told to go down twice: the stronger word holds. Down beats failed, which beats a crash to be judged, which beats a
    /// plain restart; a restart somebody asked for beats one decided here, because it is not counted.
    pub(super) fn merge(&mut self, next: Next) -> bool {
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
            Self::Fail => 3,
            Self::Down => 4,
        }
    }
}
