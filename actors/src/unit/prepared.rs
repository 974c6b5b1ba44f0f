//! What differs between the kinds of unit: what is done before the main process, and what is asked while it runs.

use std::future::Future;
use std::pin::Pin;

use envctl_supervisors::reason::StartError;

use super::UnitArgs;
use crate::probe::{Probe, Purpose, Schedule};
use crate::process::{Command, Scope};

/// A kind of unit.
pub trait Kind: Send + Sync + 'static {
    /// Does everything that comes before the main process and says what the main process is.
    fn prepare(self, args: UnitArgs) -> impl Future<Output = Result<Prepared, StartError>> + Send;
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

// === impl Prepared ===

impl Prepared {
    /// A command and nothing else.
    pub fn new(command: Command) -> Self {
        Self { command, asked: Vec::new(), after_ready: None, stop: None }
    }
}
