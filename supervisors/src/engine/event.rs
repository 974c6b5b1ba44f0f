//! What goes into the engine and what comes out of it. Types only: [`super::Engine`] gives them their meaning.

use std::time::Duration;

use super::report::Report;
use super::table::ChildKey;
use crate::reason::{ExitReason, StartError};
use crate::spec::{ChildId, ChildSpec, Flags, GroupSpec, Incarnation};

/// Monotonic time since the supervisor's epoch. The engine has no clock: every step is told the time.
pub type Time = Duration;

/// Something that happened, or that somebody asks for.
///
/// Events of a life carry its incarnation; those of another life than the child's present one are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Wants children up. Skips their backoff and resets their counts.
    ///
    /// A named child that is done, failed or stopped starts again. With empty `ids`, or as a need of a named one, a
    /// child that is done stays so, unless it was stopped in between or its dependent needs it `ready`.
    Start {
        /// The children; empty: all.
        ids: Vec<ChildId>,
        /// Whether what they need is wanted up too.
        with_needs: bool,
    },
    /// The operator wants children down. Wins over every automatic restart.
    ///
    /// Named: dependents follow their edge's `then`, as after a crash. All: against the order, in parallel where it may.
    Stop {
        /// The children; empty: all, which always ends in [`Effect::Idle`].
        ids: Vec<ChildId>,
    },
    /// The operator wants new lives. Not counted in the intensity; resets counts. Dependents over `then = restart`
    /// edges follow.
    Restart {
        /// The children; empty: all that are wanted up and not done.
        ids: Vec<ChildId>,
    },
    /// Adds a child after the others and starts it once (OTP's `start_child`): a start that fails is not tried again, and
    /// the child is dropped. An id that is taken, or a need of somebody unknown, changes nothing: ask
    /// [`super::Engine::check_add`] before.
    Add {
        /// The child.
        spec: Box<ChildSpec>,
    },
    /// Starts a child that is down, once and at once (OTP's `restart_child`): a start that fails leaves it down and is not
    /// tried again. Changes no budget. A child that is not down is left alone: ask [`super::Engine::check_try`] before.
    Try {
        /// The child.
        id: ChildId,
    },
    /// Forgets a child that is down (OTP's `delete_child`). One that is not down, or that another one needs, is left alone:
    /// ask [`super::Engine::check_remove`] before.
    Remove {
        /// The child.
        id: ChildId,
    },
    /// Cuts short the grace of children that are stopping, or are about to be.
    Kill {
        /// The children; empty: all.
        ids: Vec<ChildId>,
    },
    /// A life has begun: answer to [`Effect::Spawn`].
    Spawned {
        /// The child.
        id: ChildId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A life could not begin: the other answer to [`Effect::Spawn`].
    SpawnFailed {
        /// The child.
        id: ChildId,
        /// The life that never was.
        incarnation: Incarnation,
        /// Why.
        error: StartError,
    },
    /// There is nothing to run just now (OTP's `ignore`): the third answer to [`Effect::Spawn`]. Counts as a success.
    Ignored {
        /// The child.
        id: ChildId,
        /// The life that is not needed.
        incarnation: Incarnation,
    },
    /// A life is ready.
    Ready {
        /// The child.
        id: ChildId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A life is not ready any more; it may become so again.
    Unready {
        /// The child.
        id: ChildId,
        /// Its life.
        incarnation: Incarnation,
        /// What was seen.
        detail: String,
    },
    /// A life does not answer any more: it is to be ended and counts as a crash.
    LivenessLost {
        /// The child.
        id: ChildId,
        /// Its life.
        incarnation: Incarnation,
        /// What was seen.
        detail: String,
    },
    /// A life is over: really gone, nothing of it is left.
    Exited {
        /// The child.
        id: ChildId,
        /// Its life.
        incarnation: Incarnation,
        /// How it ended.
        reason: ExitReason,
    },
    /// A timer armed by [`Effect::Arm`] has come due. Cancelled and replaced ones are recognised and ignored.
    Timer(TimerKey),
    /// A life that runs already is taken over from a supervisor that died: it is wanted up.
    Adopt {
        /// The child.
        id: ChildId,
        /// Its life; the next one has the next number.
        incarnation: Incarnation,
        /// Automatic restarts so far.
        restarts: u32,
        /// Whether it has reported that it is ready.
        ready: bool,
    },
    /// What is known of a child that does not live now, from a supervisor that died: its next life has the next number.
    Restore {
        /// The child.
        id: ChildId,
        /// Its last life; 0 if it never lived.
        incarnation: Incarnation,
        /// Automatic restarts so far.
        restarts: u32,
        /// Where it had come to rest while it was wanted up; `None`: it had not, or is not wanted.
        rest: Option<Rest>,
    },
    /// New specs. Unchanged children are untouched, changed ones restarted, removed ones stopped and then dropped, added
    /// ones down until they are started. Specs that [`super::Engine::check`] refuses change nothing.
    Replace {
        /// All specs, in order.
        specs: Vec<ChildSpec>,
        /// All groups.
        groups: Vec<GroupSpec>,
    },
    /// New flags and specs at once.
    Upgrade {
        /// All specs, in order.
        specs: Vec<ChildSpec>,
        /// All groups.
        groups: Vec<GroupSpec>,
        /// The flags.
        flags: Flags,
    },
    /// New flags (OTP's `code_change`); they hold from the next event on.
    Reflag {
        /// The flags.
        flags: Flags,
    },
}

/// What happens to a life: the events of lives, for [`super::Engine::step_life`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeEvent {
    /// [`Event::Spawned`].
    Spawned,
    /// [`Event::SpawnFailed`].
    SpawnFailed(StartError),
    /// [`Event::Ignored`].
    Ignored,
    /// [`Event::Ready`].
    Ready,
    /// [`Event::Unready`], and what was seen.
    Unready(String),
    /// [`Event::LivenessLost`], and what was seen.
    LivenessLost(String),
    /// [`Event::Exited`].
    Exited(ExitReason),
}

/// Where a child that is wanted up has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It ended cleanly and needs no further life.
    Done,
    /// It was given up.
    Failed,
}

/// Something to be done, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Begin a life; answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// The child.
        id: ChildId,
        /// The child again, for [`super::Engine::step_life`].
        key: ChildKey,
        /// Its new life.
        incarnation: Incarnation,
    },
    /// Ask a life to end; [`Event::Exited`] is awaited.
    Stop {
        /// The child.
        id: ChildId,
        /// The child again.
        key: ChildKey,
        /// Its life.
        incarnation: Incarnation,
    },
    /// End a life at once; [`Event::Exited`] is awaited still.
    Kill {
        /// The child.
        id: ChildId,
        /// The child again.
        key: ChildKey,
        /// Its life.
        incarnation: Incarnation,
    },
    /// Send [`Event::Timer`] with this key at this time.
    Arm {
        /// The key to send.
        key: TimerKey,
        /// When.
        at: Time,
    },
    /// The timer is not needed any more.
    Cancel {
        /// Its key.
        key: TimerKey,
        /// When it would have been due.
        at: Time,
    },
    /// A child is not known any more.
    Dropped {
        /// The child.
        id: ChildId,
        /// The child again.
        key: ChildKey,
    },
    /// Tell whoever listens.
    Report(Box<Report>),
    /// Nothing is alive any more and nothing can come up without a new event from outside.
    Idle,
}

/// Names one arming of one timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// The child.
    pub child: ChildKey,
    /// What it is for.
    pub kind: TimerKind,
    /// Never used twice in one engine.
    pub generation: u64,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The delay before a restart.
    Backoff,
    /// The time within which a life must become ready.
    Ready,
    /// The time after which a life counts as stable.
    Stable,
    /// The time a life has to end after it was asked to.
    Grace,
}
