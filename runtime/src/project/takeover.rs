//! What a new daemon does with a run that an earlier one began: its processes live on, and are looked after again.
//!
//! ```text
//! heart lived on:   the table holds the processes ──▶ their actors attach
//! heart died too:   the run's memory names them ──▶ heart takes them over by identity ──▶ as above
//!                                                └▶ gone meanwhile: `unit.lost`, and the engine decides
//! ```

use envctl_actors::process::end::envelope_of;
use envctl_actors::process::heart::wire::Ending;
use envctl_actors::process::life::{end_strays, sweep};
use envctl_actors::process::{Role, Scope, Stray, Tag};
use envctl_actors::unit::Begin;
use envctl_supervisors::Name;
use envctl_supervisors::engine::{Event, Rest};
use envctl_supervisors::spec::Incarnation;
use tokio::time::Instant;

use super::environment::capture_from_bytes;
use super::memory::{Memory, UnitMemory};
use super::state::{Project, Run};
use super::units::Unit;
use crate::journal::events::EventKind;

/// What became of the processes of an earlier heart.
struct TakenOver {
    /// Units whose process is gone, or is another one.
    lost: Vec<Name>,
    /// Units whose process has ended but is not gone yet: nobody has reaped it, and its status can still be told.
    ended: Vec<Name>,
}

// === impl Project ===

impl Project {
    /// Takes a run over from a daemon that died: its processes are in the table already, unless heart died too.
    pub async fn recover(&mut self, memory: Memory) {
        if memory.is_of_another_boot() {
            return self.forget_run(&memory);
        }
        self.capture =
            capture_from_bytes(memory.environment.iter().map(|(name, value)| (name.to_vec(), value.to_vec())));
        self.reset_engine();
        let run = Run { id: memory.run.clone(), number: memory.run_number, started: Instant::now(), closing: false };
        self.run = Some(run);
        self.shared = memory.shared();
        let holder = self.holder();
        self.ports.readopt(&self.spec, &self.session.leases.clone(), &holder, &memory.ports());
        if let Err(refusal) = self.equip().await {
            tracing::error!(error = %refusal, project = %self.spec.name, "a run could not be taken over: it is ended");
            let key = self.places.key();
            for held in self.session.processes.list().await.iter().filter(|held| held.tag.project == key) {
                self.session.processes.discard(held.key);
            }
            self.forget_memory();
            return self.abandon();
        }
        let names: Vec<String> = memory.units.iter().map(|unit| unit.name.clone()).collect();
        let text = format!("a new daemon took {} over", self.spec.name);
        self.append(EventKind::RunAdopted.event("", text).detail("units", names).detail("build", crate::BUILD));
        self.failure.clone_from(&memory.failure);
        if memory.end_with_daemon {
            self.note_daemon_death();
        }
        self.adopt(&memory).await;
    }

    /// The machine was restarted: nothing of the run is left, and nobody asked for another one.
    fn forget_run(&mut self, memory: &Memory) {
        let names: Vec<String> = memory.units.iter().map(|unit| unit.name.clone()).collect();
        let text = format!("the machine was restarted while {} was up", self.spec.name);
        let mut event = EventKind::RunLost.event(&memory.run, text).detail("units", names).build();
        event.hint = Some("`envctl up` starts it again".to_owned());
        self.session.journal.append(&self.key, event);
        self.forget_memory();
    }

    /// Has heart look after what an earlier heart started.
    async fn take_over_strays(&self, memory: &Memory) -> TakenOver {
        let held = self.session.processes.list().await;
        let key = self.places.key();
        let is_held = |tag: &Tag| held.iter().any(|held| held.tag == *tag);
        let (mut lost, mut found, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for remembered in &memory.units {
            let Some(identity) = memory.identity(remembered) else { continue };
            let Ok(unit) = Name::new(&remembered.name) else { continue };
            let incarnation = remembered.incarnation;
            let tag = Tag { project: key.clone(), unit: unit.clone(), incarnation, role: Role::Main };
            if is_held(&tag) || !self.units.contains_key(&unit) {
                continue;
            }
            let Unit { out, err, .. } = &self.units[&unit];
            let (out, err) = (out.clone(), err.clone());
            // Its environment may say that it is somebody else's; one that says nothing proves nothing.
            let claim = super::supervisor::claim(&self.session.name, &self.spec.root, &unit);
            let is_refuted =
                envelope_of(identity.pid).is_some_and(|envelope| (claim.read)(&envelope).as_ref() != Some(&claim.of));
            let ending = self.ending_of(&unit, Incarnation(incarnation));
            let stray = Stray { tag, identity: identity.clone(), out, err, ending };
            let is_found = !is_refuted && self.session.processes.adopt(stray).await;
            if is_found && identity.open().is_none() {
                ended.push(unit.clone());
            }
            if is_found { found.push(unit) } else { lost.push(unit) }
        }
        if !(found.is_empty() && lost.is_empty()) {
            let text = format!("heart had died too: {} units were found again, {} had ended", found.len(), lost.len());
            let names = |units: &[Name]| units.iter().map(ToString::to_string).collect::<Vec<_>>();
            let event = EventKind::HeartLost.event("", text).detail("units", names(&found));
            self.append(
                event.detail("ended", names(&lost)).hint("`envctl daemon logs` tells how they ended, if they could"),
            );
        }
        TakenOver { lost, ended }
    }

    /// How heart ends a unit when it has to by itself; as an ordinary one if that cannot be resolved any more.
    fn ending_of(&self, id: &Name, incarnation: Incarnation) -> Ending {
        let manners = self.spec.units.get(id).and_then(|spec| self.manners(id, spec, Begin::Attach, incarnation).ok());
        manners.map(|manners| manners.plan.for_heart()).unwrap_or_default()
    }

    /// A life that ended while nobody looked: its successor is the engine's decision, as after any other end.
    async fn adopt_lost(&mut self, id: Name, remembered: &UnitMemory) {
        let (incarnation, restarts, ready) =
            (Incarnation(remembered.incarnation), remembered.restarts, remembered.ready);
        let text = format!("{id} ended while neither the daemon nor heart lived: how is not known");
        let event = EventKind::UnitLost.event("", text).unit(&id);
        self.append(match remembered.process {
            Some(process) => event.detail("pid", process.pid),
            None => event,
        });
        self.units[&id].lost = true;
        if self.spawn_unit(&id, incarnation, Begin::Attach).await.is_ok() {
            self.drive(Event::Adopt { id, incarnation, restarts, ready }).await;
        }
    }

    async fn adopt(&mut self, memory: &Memory) {
        let TakenOver { lost, ended } = self.take_over_strays(memory).await;
        // What their processes left may hold the ports of their successors. And a successor may live already: the daemon
        // that started it died before it could write so down.
        let over: Vec<Name> = lost.iter().chain(&ended).cloned().collect();
        if !over.is_empty() {
            self.clear_strays(&over).await;
        }
        let held = self.session.processes.list().await;
        let key = self.places.key();
        let (mut rest, mut claimed, mut unwanted, mut unseen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for remembered in &memory.units {
            let Ok(id) = Name::new(&remembered.name) else { continue };
            if !self.spec.units.contains_key(&id) {
                continue;
            }
            let mine = held.iter().filter(|held| held.tag.project == key && held.tag.unit == id);
            let main = mine.filter(|held| held.tag.role == Role::Main).max_by_key(|held| held.tag.incarnation);
            if main.is_none() && lost.contains(&id) && remembered.wanted {
                self.adopt_lost(id, remembered).await;
                continue;
            }
            let Some(main) = main else {
                let (incarnation, restarts) = (Incarnation(remembered.incarnation), remembered.restarts);
                // What had come to rest stays there, and nothing else that is wanted may be left down.
                let at_rest = at_rest(remembered);
                self.drive(Event::Restore { id: id.clone(), incarnation, restarts, rest: at_rest }).await;
                // What was remembered last may have been the loss of heart, and a process of it may live on, unseen.
                if at_rest != Some(Rest::Done) {
                    unseen.push(id.clone());
                }
                if remembered.wanted && at_rest.is_none() {
                    rest.push(id);
                }
                continue;
            };
            claimed.push(main.key);
            let incarnation = Incarnation(main.tag.incarnation);
            let identity = memory.identity(remembered).filter(|identity| identity.pid == main.pid);
            (self.units[&id].pid, self.units[&id].identity) = (Some(main.pid), identity);
            self.units[&id].fingerprint.clone_from(&remembered.fingerprint);
            self.units[&id].adopted = true;
            let (restarts, ready) = (remembered.restarts, remembered.ready);
            if self.spawn_unit(&id, incarnation, Begin::Attach).await.is_ok() {
                if !remembered.wanted {
                    unwanted.push(id.clone());
                }
                self.drive(Event::Adopt { id, incarnation, restarts, ready }).await;
            }
        }
        // Steps and probes of the daemon that died, units that are no longer configured, lives before the last.
        for forgotten in held.iter().filter(|held| held.tag.project == key && !claimed.contains(&held.key)) {
            self.session.processes.discard(forgotten.key);
        }
        // What was on its way down goes on going down.
        if memory.failure.is_some() || self.ended_with_daemon || memory.units.iter().all(|unit| !unit.wanted) {
            self.drive(Event::Stop { ids: Vec::new() }).await;
        } else if !unwanted.is_empty() {
            self.drive(Event::Stop { ids: unwanted }).await;
        }
        if !unseen.is_empty() {
            self.clear_strays(&unseen).await;
        }
        if !rest.is_empty() && self.failure.is_none() && !self.ended_with_daemon {
            self.drive(Event::Start { ids: rest, with_needs: true }).await;
        }
        self.is_stale = true;
        self.publish();
    }

    /// Ends what an earlier life left if heart died too: never two instances of a unit.
    async fn clear_strays(&self, units: &[Name]) {
        let sweeps = units.iter().map(|id| {
            let (processes, proof) = (self.session.processes.clone(), self.proof(id, None));
            async move {
                end_strays(&processes, &proof).await;
                sweep(&processes, &proof, Scope::All).await
            }
        });
        for (id, left) in units.iter().zip(futures::future::join_all(sweeps).await) {
            if !left.is_empty() {
                tracing::error!(unit = %id, ?left, "processes of an earlier life cannot be ended");
            }
        }
    }
}

fn at_rest(remembered: &UnitMemory) -> Option<Rest> {
    match remembered {
        UnitMemory { wanted: true, done: true, .. } => Some(Rest::Done),
        UnitMemory { wanted: true, failed: true, .. } => Some(Rest::Failed),
        _ => None,
    }
}
