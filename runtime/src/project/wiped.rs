//! What a project makes anew after its runtime directory was wiped.

use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;

use super::state::Project;

// === impl Project ===

impl Project {
    /// Writes down again what the next daemon must know.
    pub(super) fn remember_anew(&mut self) {
        if self.run.as_ref().is_none_or(|run| run.closing) {
            return;
        }
        if let Err(error) = self.make_runtime_dirs() {
            tracing::error!(%error, "the directories of a run cannot be made again");
        }
        if let Err(error) = self.remember_all() {
            tracing::error!(%error, "the run cannot be remembered for the next daemon");
        }
    }

    /// Before a start: a unit whose FIFOs are gone gets new ones. The life before has ended, so its log is empty by now.
    pub(super) async fn reopen_log(&mut self, id: &Name) -> Result<(), StartError> {
        let unit = &mut self.units[id];
        if unit.out.exists() && unit.err.exists() {
            return Ok(());
        }
        let Some(log) = unit.log.take() else { return Ok(()) };
        tracing::warn!(unit = %id, "its FIFOs are gone: they are made anew");
        // Waits for the last bytes, bounded by the stream itself.
        let _ = log.actor().stop_and_wait(None, None).await;
        let failed = |refusal: crate::control::wire::Refusal| StartError {
            message: refusal.message,
            hint: refusal.hint,
            retry: true,
        };
        self.open_logs().await.map_err(failed)
    }
}
