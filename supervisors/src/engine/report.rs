//! Every decision as an event: OTP's four fields (supervisor, context, reason, offender), typed.
//!
//! The supervisor is added by the shell, which knows its own name. [`Report::what`] is the context, [`Report::cause`] the
//! reason, and `id` with `incarnation` the offender.

use std::fmt;
use std::time::Duration;

use super::child::Birth;
use crate::reason::{ExitReason, StartError, brief};
use crate::spec::{ChildId, Condition, Escalate, GroupId, Incarnation, Strategy};

/// One decision or observation about one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The child.
    pub id: ChildId,
    /// Its life, present or last.
    pub incarnation: Option<Incarnation>,
    /// What happened.
    pub what: What,
    /// Why.
    pub cause: Option<Cause>,
}

/// What happened to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is wanted up but must wait.
    Blocked {
        /// For these.
        by: Vec<ChildId>,
    },
    /// Its first life, or one that was asked for, is being started.
    Starting,
    /// A life has begun.
    Started,
    /// A life could not begin.
    StartFailed {
        /// Why.
        error: StartError,
    },
    /// A life that ran already was taken over.
    Adopted,
    /// It is ready.
    Ready,
    /// It is not ready any more.
    Unready {
        /// What was seen.
        detail: String,
    },
    /// It does not answer any more.
    LivenessLost {
        /// What was seen.
        detail: String,
    },
    /// It did not become ready in time.
    ReadyTimeout {
        /// The time it had.
        within: Duration,
    },
    /// A life is over.
    Exited {
        /// How it ended.
        reason: ExitReason,
        /// Whether it had been told to end, or was about to be.
        expected: bool,
    },
    /// The next life comes after a delay (which may be zero).
    RestartScheduled {
        /// The delay.
        delay: Duration,
        /// Failed lives in a row.
        failures: u32,
    },
    /// The next life is being started.
    Restarting,
    /// It was asked to end.
    Stopping,
    /// It is ended at once.
    Killing,
    /// It is down, as wanted.
    Stopped,
    /// It ended cleanly and needs no further life.
    Done,
    /// It has failed for good; [`What::GaveUp`] before it tells of used-up budgets.
    Failed,
    /// Its budget is used up.
    GaveUp {
        /// Which one.
        limit: Limit,
        /// How its last life ended, or why it could not start.
        last: Box<Cause>,
    },
    /// It was removed from the supervisor.
    Removed,
    /// There is nothing to run in it just now: its start said so.
    Ignored,
    /// Its failure restarts members of its group together.
    GroupRestarting {
        /// The group; `None`: all that have none.
        group: Option<GroupId>,
        /// Who is concerned.
        strategy: Strategy,
        /// How many go down and come up with it.
        members: usize,
    },
    /// A group is given up, because of this child.
    GroupGaveUp {
        /// The group; `None`: all that have none.
        group: Option<GroupId>,
        /// The budget that is used up: its own, or that of a group in it.
        limit: Limit,
        /// What follows.
        escalate: Escalate,
    },
    /// The supervisor ends, because of this child.
    Ending(Ending),
}

/// Why a supervisor ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A budget is used up whose `escalate` says so: OTP's `reached_max_restart_intensity`.
    GaveUp,
    /// A significant child ended: OTP's auto-shutdown.
    AutoShutdown,
    /// A child failed to start while all were started for the first time: OTP's `failed_to_start_child`.
    FirstStart(StartError),
}

/// A used-up budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// More than `restarts` within `period`.
    Intensity {
        /// Restarts allowed.
        restarts: u32,
        /// The window.
        period: Duration,
    },
    /// So many lives in a row that never became stable.
    Unstable {
        /// The lives.
        lives: u32,
    },
    /// None: a start failed that no further try can help.
    Hopeless,
}

/// Why something happened. Displays as one plain line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it.
    Operator,
    /// A life ended.
    Exit(ExitReason),
    /// A life ended normally before it had ever been ready, which it was to report.
    ExitUnready(ExitReason),
    /// A life could not begin.
    StartError(StartError),
    /// A life did not become ready in time.
    ReadyTimeout {
        /// The time it had.
        within: Duration,
    },
    /// A life stopped answering.
    Liveness(String),
    /// Something happened to a child that this one needs, or that it must wait for.
    Dependency {
        /// That child.
        on: ChildId,
        /// What happened to it.
        how: How,
    },
    /// Too many restarts in too short a time.
    Intensity {
        /// Restarts allowed.
        restarts: u32,
        /// The window.
        period: Duration,
    },
    /// Too many lives in a row that never became stable.
    Unstable {
        /// The lives.
        lives: u32,
    },
    /// A start failed that no further try can help.
    Hopeless,
    /// Its spec changed.
    SpecChange,
    /// Everything goes down.
    Shutdown,
    /// Another child ends the supervisor.
    Ending {
        /// That child.
        by: ChildId,
        /// Why.
        why: Box<Ending>,
    },
    /// Something happened to a member of its group that concerns it too.
    Group {
        /// The group; `None`: all that have none.
        group: Option<GroupId>,
        /// That member.
        by: ChildId,
        /// What happened to it.
        how: How,
    },
    /// Its group was given up.
    GroupGaveUp {
        /// The group.
        group: GroupId,
        /// The member that made it so.
        by: ChildId,
    },
    /// Its life was taken over from a supervisor that died.
    Adopted,
}

/// What happened to a child that another one needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It has not got there yet.
    Awaited(Condition),
    /// It comes first, and is not up yet.
    Ordered,
    /// It is still going down.
    GoingDown,
    /// It crashed.
    Crashed,
    /// It was restarted.
    Restarted,
    /// It was stopped.
    Stopped,
    /// It lost its readiness.
    Unready,
    /// It ended, and will not be what is waited for.
    Ended,
    /// It failed for good.
    Failed,
}

// === impl Limit ===

impl From<Limit> for Cause {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Intensity { restarts, period } => Self::Intensity { restarts, period },
            Limit::Unstable { lives } => Self::Unstable { lives },
            Limit::Hopeless => Self::Hopeless,
        }
    }
}

// === impl Cause ===

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("asked for"),
            Self::Exit(reason) => write_exit(f, reason),
            Self::ExitUnready(reason) => {
                write_exit(f, reason)?;
                f.write_str(" before it was ready")
            }
            Self::StartError(error) => write!(f, "failed to {error}"),
            Self::ReadyTimeout { within } => write!(f, "not ready within {within:?}"),
            Self::Liveness(detail) => write!(f, "stopped answering: {detail}"),
            Self::Dependency { on, how } => how.write(on, f),
            Self::Intensity { restarts: 1, period } => write!(f, "more than 1 restart within {period:?}"),
            Self::Intensity { restarts, period } => write!(f, "more than {restarts} restarts within {period:?}"),
            Self::Unstable { lives } => write!(f, "{lives} lives in a row never became stable"),
            Self::Hopeless => f.write_str("a start that no further try can help"),
            Self::SpecChange => f.write_str("its configuration changed"),
            Self::Shutdown => f.write_str("everything was stopped"),
            Self::Ending { by, why } => match &**why {
                Ending::GaveUp => write!(f, "{by} was given up, which stops everything"),
                Ending::AutoShutdown => write!(f, "{by} ended, which stops everything"),
                Ending::FirstStart(_) => write!(f, "{by} failed to start, which stops everything"),
            },
            Self::Group { group: Some(group), by, how } => {
                how.write(by, f)?;
                write!(f, ", and group {group} restarts together")
            }
            Self::Group { group: None, by, how } => {
                how.write(by, f)?;
                f.write_str(", which restarts others with it")
            }
            Self::GroupGaveUp { group, by } => write!(f, "group {group} was given up because of {by}"),
            Self::Adopted => f.write_str("taken over while running"),
        }
    }
}

fn write_exit(f: &mut fmt::Formatter<'_>, reason: &ExitReason) -> fmt::Result {
    match reason {
        ExitReason::Code(_) => write!(f, "exited with {reason}"),
        ExitReason::Signal { .. } => write!(f, "ended by {reason}"),
        ExitReason::Normal => f.write_str("ended normally"),
        ExitReason::Shutdown => f.write_str("shut down by itself"),
        ExitReason::Killed => f.write_str("was killed"),
        ExitReason::Error(text) => write!(f, "ended with an error: {}", brief(text)),
        ExitReason::Unknown(why) => write!(f, "ended, nobody saw how ({why})"),
    }
}

// === impl How ===

impl How {
    /// What kind of life a dependent gets that goes down for this reason: automatic restarts are counted, others not.
    pub(super) fn birth(self) -> Birth {
        match self {
            Self::Restarted | Self::Stopped => Birth::Manual,
            Self::Crashed
            | Self::Unready
            | Self::Ended
            | Self::Failed
            | Self::Awaited(_)
            | Self::Ordered
            | Self::GoingDown => Birth::Automatic,
        }
    }

    /// Whether waiting for it may help: 0 not without somebody's help, 2 soon. The least hopeful wait is shown first.
    pub(super) fn hope(self) -> u8 {
        match self {
            Self::Failed | Self::Stopped | Self::Ended => 0,
            Self::Awaited(_) | Self::Ordered | Self::Crashed | Self::Restarted | Self::Unready => 1,
            Self::GoingDown => 2,
        }
    }

    fn write(self, on: &ChildId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awaited(Condition::Started) => write!(f, "waits for {on} to start"),
            Self::Awaited(Condition::Ready) => write!(f, "waits for {on} to be ready"),
            Self::Awaited(Condition::Done) => write!(f, "waits for {on} to be done"),
            Self::Ordered => write!(f, "comes after {on}"),
            Self::GoingDown => write!(f, "waits for {on} to be down"),
            Self::Crashed => write!(f, "{on} crashed"),
            Self::Restarted => write!(f, "{on} was restarted"),
            Self::Stopped => write!(f, "{on} was stopped"),
            Self::Unready => write!(f, "{on} is not ready any more"),
            Self::Ended => write!(f, "{on} has ended"),
            Self::Failed => write!(f, "{on} failed"),
        }
    }
}
