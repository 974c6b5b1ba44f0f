//! The end of a run: what escaped its units is looked for, everything it held is given back.

use envctl_actors::log_stream::LogStream;
use envctl_actors::process::end::Proof;
use envctl_actors::process::life::sweep;
use envctl_supervisors::Name;
use envctl_supervisors::engine;

use super::state::Project;
use super::supervisor::ProjectMessage;
use crate::journal::events::EventKind;

// === impl Project ===

impl Project {
    /// Nothing is alive any more. If nothing is wanted either, the run is over: what escaped the units is looked for.
    pub(super) fn idle(&mut self) {
        let wanted = self.engine.children().any(|child| child.desired == engine::Desired::Up);
        if wanted || !self.is_running() {
            // Everything is done or failed: the run stays, but nothing keeps the daemon.
            return (self.session.quiet)();
        }
        if let Some(run) = &mut self.run {
            run.closing = true;
        }
        let (processes, myself) = (self.session.processes.clone(), self.myself.clone());
        let proofs: Vec<(Name, Proof)> = self.units.keys().map(|id| (id.clone(), self.proof(id, None))).collect();
        self.tasks.spawn(async move {
            let sweeps = proofs.into_iter().map(|(id, proof)| {
                let processes = &processes;
                async move { (id, sweep(processes, &proof).await) }
            });
            let escaped = futures::future::join_all(sweeps).await;
            let _ = myself.cast(ProjectMessage::Swept(escaped));
        });
    }

    /// By what a unit's processes are known.
    pub(super) fn proof(&self, id: &Name, leader: Option<u32>) -> Proof {
        let unit = &self.units[id];
        let test = super::supervisor::envelope_test(&self.session.name, &self.spec.root, id);
        Proof { leader, fifos: vec![unit.out.clone(), unit.err.clone()], envelope: Some(test) }
    }

    /// The run is over and swept.
    pub async fn swept(&mut self, escaped: Vec<(Name, Vec<u32>)>) {
        for (id, pids) in escaped.into_iter().filter(|(_, pids)| !pids.is_empty()) {
            let event = EventKind::UnitEscaped.event("", format!("processes of {id} could not be ended")).unit(&id);
            self.append(event.detail("pids", pids.clone()));
            if let Some(unit) = self.units.get_mut(&id) {
                unit.escaped.extend(pids);
            }
        }
        let logs: Vec<LogStream> = self.units.values_mut().filter_map(|unit| unit.log.take()).collect();
        // Waits for the last bytes and removes the FIFOs, bounded by each stream itself.
        futures::future::join_all(logs.iter().map(|log| log.actor().stop_and_wait(None, None))).await;
        self.units.values_mut().for_each(|unit| unit.pid = None);
        let took = self.run.as_ref().map_or(0, |run| run.started.elapsed().as_millis());
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.append(EventKind::RunStopped.event("", format!("{} is down", self.spec.name)).detail("took_ms", took));
        self.ports.release();
        self.data_leases.clear();
        let _ = std::fs::remove_file(self.memory_path());
        self.run = None;
        self.publish();
        self.answer_waiting();
        self.sync_journal();
        (self.session.quiet)();
    }

    /// Makes the journal durable, beside the handler.
    pub fn sync_journal(&mut self) {
        let (journal, key) = (self.session.journal.clone(), self.key.clone());
        self.tasks.spawn(async move {
            if let Err(error) = journal.sync(&key).await {
                tracing::warn!(%error, "the journal could not be made durable");
            }
        });
    }
}
