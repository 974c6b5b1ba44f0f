//! The end of a run, asked for or by itself: what escaped its units is looked for, everything it held is given back.

use envctl_actors::log_stream::LogStream;
use envctl_actors::process::Scope;
use envctl_actors::process::end::Proof;
use envctl_actors::process::life::sweep;
use envctl_supervisors::Name;
use envctl_supervisors::engine::{self, Cause, Ending, Report, What};

use super::memory::Failure;
use super::state::{Hurry, Project};
use super::supervisor::ProjectMessage;
use crate::control::wire::Killed;
use crate::journal::events::EventKind;
use crate::journal::store::JournalError;

// === impl Project ===

impl Project {
    /// Nothing is alive any more. If nothing is wanted either, the run is over: what escaped the units is looked for.
    pub(super) fn idle(&mut self) {
        self.note_ending();
        let wanted = self.engine.children().any(|child| child.desired == engine::Desired::Up);
        if (wanted && self.failure.is_none()) || !self.is_running() {
            // Everything is done or failed: the run stays, but nothing keeps the daemon.
            return (self.session.quiet)();
        }
        if let Some(run) = &mut self.run {
            run.closing = true;
        }
        let (processes, myself) = (self.session.processes.clone(), self.myself.clone());
        // Of a unit that may leave processes behind, they are no escape.
        let swept = self.units.keys().filter(|id| self.reach(id) == Scope::All);
        let proofs: Vec<(Name, Proof)> = swept.map(|id| (id.clone(), self.proof(id, None))).collect();
        let cleared = self.clear_containers();
        self.tasks.spawn(async move {
            let sweeps = proofs.into_iter().map(|(id, proof)| {
                let processes = &processes;
                async move { (id, sweep(processes, &proof, Scope::All).await) }
            });
            let (escaped, ()) = futures::future::join(futures::future::join_all(sweeps), cleared).await;
            let _ = myself.cast(ProjectMessage::Swept(escaped));
        });
    }

    /// The run ends by itself, as failed, because of a unit. The first reason is the one that is told.
    pub(super) fn fail(&mut self, unit: &Name, why: &Ending) {
        let ending = Cause::Ending { by: unit.clone(), why: Box::new(why.clone()) };
        let because = self.engine.child(unit.as_str()).and_then(|child| child.cause);
        let cause = match because {
            Some(Cause::Ending { .. }) | None => ending.to_string(),
            Some(because) => format!("{ending}: {because}"),
        };
        self.failure.get_or_insert_with(|| Failure { unit: unit.to_string(), cause });
    }

    /// Takes over from the engine that the run ends by itself, also where no report said so.
    pub(super) fn note_ending(&mut self) {
        let ending = self.engine.ending().map(|(unit, why)| (unit.clone(), why.clone()));
        if let Some((unit, why)) = ending.filter(|_| self.failure.is_none()) {
            self.fail(&unit, &why);
        }
    }

    /// Remembers who had to be killed, for whoever waits for the end.
    pub(super) fn note_killed(&mut self, report: &Report) {
        let unit = report.id.to_string();
        if report.what != What::Killing || self.waiting.is_empty() || self.killed.iter().any(|one| one.unit == unit) {
            return;
        }
        let after = match self.hurry {
            Some(Hurry::Timeout) => "timeout",
            Some(Hurry::Asked) => "asked",
            None => "grace",
        };
        self.killed.push(Killed { unit, after: after.to_owned() });
    }

    /// By what a unit's processes are known.
    pub(super) fn proof(&self, id: &Name, leader: Option<u32>) -> Proof {
        let unit = &self.units[id];
        let claim = super::supervisor::claim(&self.session.name, &self.spec.root, id);
        let fifos = vec![unit.out.clone(), unit.err.clone()];
        Proof { leader, fifos, envelope: Some(claim), ..Proof::default() }
    }

    /// The run is over and swept.
    pub async fn swept(&mut self, escaped: Vec<(Name, Vec<u32>)>) {
        for (id, pids) in escaped.into_iter().filter(|(_, pids)| !pids.is_empty()) {
            let event = EventKind::UnitEscaped.event("", format!("processes of {id} could not be ended")).unit(&id);
            self.append(event.detail("pids", pids.clone()));
            if let Some(unit) = self.units.get_mut(&id) {
                // What was found when its life ended is found again: it is one escape, and the last look is the truth.
                unit.escaped = pids;
            }
        }
        let logs: Vec<LogStream> = self.units.values_mut().filter_map(|unit| unit.log.take()).collect();
        // Waits for the last bytes and removes the FIFOs, bounded by each stream itself.
        futures::future::join_all(logs.iter().map(|log| log.actor().stop_and_wait(None, None))).await;
        self.units.values_mut().for_each(|unit| unit.pid = None);
        let took = self.run.as_ref().map_or(0, |run| run.started.elapsed().as_millis());
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        let how = if self.failure.is_some() { "has failed and is down" } else { "is down" };
        self.append(EventKind::RunStopped.event("", format!("{} {how}", self.spec.name)).detail("took_ms", took));
        self.ports.release();
        self.let_all_go();
        self.data_leases.clear();
        self.forget_memory();
        self.run = None;
        self.is_stale = true;
        self.publish();
        self.answer_waiting();
        self.sync_journal();
        (self.session.quiet)();
    }

    /// Makes the journal durable, beside the handler.
    pub fn sync_journal(&mut self) {
        let (journal, key) = (self.session.journal.clone(), self.key.clone());
        self.tasks.spawn(async move {
            match journal.sync(&key).await {
                // At the end of a session it may be gone already: then it has made durable what it held.
                Ok(()) | Err(JournalError::Gone) => {}
                Err(error) => tracing::warn!(%error, "the journal could not be made durable"),
            }
        });
    }
}
