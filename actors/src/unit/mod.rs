//! One life of a unit: what services, tasks and requirements have in common.
//!
//! ```text
//! project supervisor ──Stop, Kill──▶ unit actor ──▶ life task: prepare → spawn → live → drain → release
//!                    ◀─UnitReport───            ──▶ probe actors, while the main process lives
//! ```
//!
//! The actor is one incarnation: it ends with it. The process is not its property: an actor that panics is started again
//! with [`Begin::Attach`] and finds the process in the table. It never decides about restarts and never waits in a handler.

mod actor;
mod patience;
mod prepared;

use std::sync::Arc;

use envctl_supervisors::reason::{ExitReason, StartError};
use futures::future::{BoxFuture, Shared};
use std::path::PathBuf;

use crate::log_stream::LogStream;
use crate::process::exec::Runner;
use crate::process::life::Manners;
use crate::process::{Processes, Tag};

pub use actor::{UnitActor, UnitMessage};
pub use prepared::{After, AfterReady, Aftermath, Asked, Beside, Kind, Launch, Prepared};

/// What a unit actor is started with, whatever its kind. Shared with the life that it looks after.
pub struct UnitArgs {
    /// Project, unit and life; the role is the main process's.
    pub tag: Tag,
    /// Whether the process is to be started or is running already.
    pub begin: Begin,
    /// The session's process table.
    pub processes: Processes,
    /// The unit's log stream.
    pub log: LogStream,
    /// The log knows that this life writes: said when the life was decided on, waited for before anything of it can write.
    pub told: Told,
    /// FIFO for standard output.
    pub out: PathBuf,
    /// FIFO for standard error.
    pub err: PathBuf,
    /// Runs commands for this life.
    pub runner: Arc<Runner>,
    /// How it is asked to end.
    pub manners: Manners,
    /// Where reports go; called from the actor, so it must not block.
    pub report: Reporter,
}

/// A promise that several may wait for; its error in words.
pub type Told = Shared<BoxFuture<'static, Result<(), String>>>;

/// Where reports go.
pub type Reporter = Arc<dyn Fn(UnitReport) + Send + Sync>;

/// How a life's actor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With a new process.
    Spawn,
    /// With the process that an earlier actor or daemon started.
    Attach,
}

/// What a unit actor tells its supervisor about its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitReport {
    /// The main process runs.
    Spawned {
        /// Its pid.
        pid: u32,
    },
    /// It cannot be started yet: this machine is short of something. It is tried again without end.
    Short(StartError),
    /// Limits that are not in force, or less than asked for: one line each.
    Unheld(Vec<String>),
    /// Somebody else has a port that it was to have; that it could not be started is told next.
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it, for people.
        owner: String,
    },
    /// It is usable, and less than whole: one line for each thing that failed.
    Degraded(Vec<String>),
    /// The kernel killed it because its memory limit was reached; its end is told next.
    OutOfMemory,
    /// It is being prepared, and that takes a while (an image is fetched).
    Preparing {
        /// What is done.
        text: String,
        /// Whether that belongs into the journal; else it only tells how far it is.
        is_news: bool,
    },
    /// The containers of this life, by id, in the order of their start.
    Contained {
        /// Their ids.
        containers: Vec<String>,
    },
    /// The container engine has gone, and why one thinks so; `None`: it is back.
    Engine(Option<StartError>),
    /// Something of this life could not be cleared away.
    Left(String),
    /// It could not be started.
    SpawnFailed(StartError),
    /// It is ready.
    Ready,
    /// It is not ready any more.
    Unready(String),
    /// It stopped answering.
    LivenessLost(String),
    /// A check said no; nothing follows from it yet, but `why` wants to know.
    Failing(String),
    /// A command of its stop failed; the next step is taken at once.
    StopFailed(String),
    /// Nothing of it is left, and its output is in the log.
    Exited {
        /// The process's number in the table, to be released once its end has been recorded; `None` if there was none.
        key: Option<u64>,
        /// How the main process ended.
        reason: ExitReason,
        /// Processes that could not be ended.
        escaped: Vec<u32>,
    },
}
