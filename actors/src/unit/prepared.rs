//! What differs between the kinds of unit: what is done before the main process, and what is asked while it runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use envctl_supervisors::reason::{ExitReason, StartError};

use super::UnitArgs;
use crate::probe::{Probe, Purpose, Schedule};
use crate::process::{Command, Scope};

/// A kind of unit.
pub trait Kind: Send + Sync + 'static {
    /// Does everything that comes before the main process and says what the main process is.
    fn prepare(self, args: Arc<UnitArgs>) -> impl Future<Output = Result<Prepared, StartError>> + Send;
}

/// A unit that is about to start.
pub struct Prepared {
    /// The main process.
    pub command: Command,
    /// What is asked while it runs.
    pub asked: Vec<Asked>,
    /// What is still to be done between the first readiness and calling it ready.
    pub after_ready: Option<AfterReady>,
    /// The signal that asks it to end and who gets it, where the kind of program knows better than the configuration.
    pub stop: Option<(i32, Scope)>,
    /// What the main process waits for before the life counts as started; a failure is a failed start.
    pub launch: Option<Launch>,
    /// What is done beside the main process while it lives; ended with it.
    pub beside: Option<Beside>,
    /// What is still to be done when the main process has ended, before the end is told.
    pub aftermath: Option<Aftermath>,
    /// Whether the main process only stands for containers: what they listen on is not its own.
    pub is_contained: bool,
}

/// A question and what it is for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Readiness or liveness.
    pub purpose: Purpose,
    /// The question.
    pub probe: Probe,
    /// How often.
    pub schedule: Schedule,
}

/// Work between the first readiness and calling a unit ready (creating a database).
pub type AfterReady = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Work between the start of the main process and the life that counts as started (the start of its containers).
pub type Launch = Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>;

/// Work beside the main process; reports for itself.
pub type Beside = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work after the end of the main process. Must end by itself, in bounded time.
pub type Aftermath = Box<dyn FnOnce(ExitReason) -> Pin<Box<dyn Future<Output = After> + Send>> + Send>;

/// What has become of a life, after a look at what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// How it ended.
    pub reason: ExitReason,
    /// Whether it was killed because its memory limit was reached.
    pub oom: bool,
    /// What could not be cleared away, in words.
    pub left: Option<String>,
}

// === impl Prepared ===

impl Prepared {
    /// A command and nothing else.
    pub fn new(command: Command) -> Self {
        let (asked, after_ready, stop) = (Vec::new(), None, None);
        let (launch, beside, aftermath, is_contained) = (None, None, None, false);
        Self { command, asked, after_ready, stop, launch, beside, aftermath, is_contained }
    }
}
