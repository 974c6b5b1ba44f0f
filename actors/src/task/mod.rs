//! Tasks: run to an end. Nothing is asked of them but their exit.

use std::sync::Arc;

use envctl_supervisors::reason::StartError;

use crate::process::Command;
use crate::unit::{Kind, Prepared, UnitActor, UnitArgs};

/// A task's one life.
#[derive(Debug, Clone)]
pub struct Task {
    /// What it runs.
    pub command: Command,
}

/// The actor of a task's one life.
pub type TaskActor = UnitActor<Task>;

// === impl Task ===

impl Kind for Task {
    async fn prepare(self, _: Arc<UnitArgs>) -> Result<Prepared, StartError> {
        Ok(Prepared::new(self.command))
    }
}
