//! Handles to units' logs, for those who work with them beside the project's actor.

use envctl_actors::log_stream::LogStream;
use envctl_supervisors::Name;

use super::operate::check_names;
use super::state::Project;
use crate::control::wire::Refusal;

// === impl Project ===

impl Project {
    /// The streams of these units that are open, of all without names.
    pub fn log_streams(&self, units: &[String]) -> Result<Vec<(Name, LogStream)>, Refusal> {
        let ids = check_names(&self.spec, units)?;
        let wanted = |id: &Name| ids.is_empty() || ids.contains(id);
        let open = self.units.iter().filter(|(id, _)| wanted(id));
        Ok(open.filter_map(|(id, unit)| Some((id.clone(), unit.log.clone()?))).collect())
    }
}
