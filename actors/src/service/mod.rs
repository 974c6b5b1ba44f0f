//! Services: keep running, and are asked whether they do.

use std::sync::Arc;

use envctl_supervisors::reason::StartError;

use crate::process::Command;
use crate::unit::{Asked, Kind, Prepared, UnitActor, UnitArgs};

/// A service's one life.
#[derive(Debug, Clone)]
pub struct Service {
    /// What it runs.
    pub command: Command,
    /// What it is asked.
    pub asked: Vec<Asked>,
}

/// The actor of a service's one life.
pub type ServiceActor = UnitActor<Service>;

// === impl Service ===

impl Kind for Service {
    async fn prepare(self, _: Arc<UnitArgs>) -> Result<Prepared, StartError> {
        Ok(Prepared { asked: self.asked, ..Prepared::new(self.command) })
    }
}
