//! A project's state and what follows from each event: the engine decides, this carries out.
//!
//! Only the supervisor actor touches it. Its methods never wait for anything slow: what takes time is a unit actor's, the
//! table's, or a tracked task that reports back by message.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use envctl_actors::log_stream::{Arguments, Limits, LogStream, LogStreamActor, PumpHandle};
use envctl_actors::process::Processes;
use envctl_actors::process::end::Proof;
use envctl_actors::process::life::sweep;
use envctl_actors::registry::{Address, Endpoint, Registration, Registry};
use envctl_actors::unit::{Begin, UnitMessage, UnitReport};
use envctl_supervisors::Name;
use envctl_supervisors::engine::{Effect, Engine, Event, Options, Report, TimerKey};
use envctl_supervisors::reason::{ExitReason, StartError};
use envctl_supervisors::spec::Incarnation;
use indexmap::IndexMap;
use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::attributes::port_views;
use super::environment::Capture;
use super::memory::{Files, Memory, UnitMemory};
use super::ports::HeldPorts;
use super::reports::{self, Facts};
use super::supervisor::ProjectMessage;
use super::units::Unit;
use super::views::{self, Sources};
use crate::control::view::{Desired, ProjectState, ProjectView, UnitState};
use crate::control::wire::{DownReply, Refusal};
use crate::journal::events::{EventBuilder, EventKind};
use crate::journal::{Journal, ProjectKey, now};
use crate::leases::{DirLease, Leases};
use crate::places::{Places, ProjectPlaces};
use crate::spec::{Attributes, ProjectSpec};

/// What all projects of a session share.
#[derive(Clone)]
pub struct Session {
    /// The session's name.
    pub name: Name,
    /// Its directories.
    pub places: Arc<Places>,
    /// Its process table.
    pub processes: Processes,
    /// Its pump.
    pub pump: PumpHandle,
    /// Its journal.
    pub journal: Journal,
    /// Its registry.
    pub registry: Registry,
    /// The machine's leases.
    pub leases: Arc<Leases>,
    /// Called when a project has come to rest.
    pub quiet: Arc<dyn Fn() + Send + Sync>,
}

/// A project's run, from `up` to `down`.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its number in log records: the second it began in.
    pub number: u32,
    /// When it began.
    pub started: Instant,
    /// Who asked for an orderly end and waits for it.
    pub closing: bool,
}

/// Everything a project supervisor knows.
pub struct Project {
    pub(super) session: Session,
    pub(super) myself: ActorRef<ProjectMessage>,
    pub(super) places: ProjectPlaces,
    pub(super) key: ProjectKey,
    pub(super) spec: Arc<ProjectSpec>,
    pub(super) files: Files,
    pub(super) engine: Engine,
    pub(super) epoch: Instant,
    pub(super) run: Option<Run>,
    pub(super) capture: Capture,
    pub(super) ports: HeldPorts,
    pub(super) data_leases: Vec<DirLease>,
    pub(super) attributes: Attributes,
    pub(super) passwords: BTreeMap<Name, String>,
    pub(super) units: IndexMap<Name, Unit>,
    pub(super) view: watch::Sender<ProjectView>,
    timers: BTreeMap<TimerKey, AbortHandle>,
    pub(super) waiting: Vec<Waiting>,
    /// Requests that came while the last run was being closed; taken up when it is.
    pub(super) later: VecDeque<ProjectMessage>,
    pub(super) tasks: JoinSet<()>,
}

/// Somebody who waits until units are down.
#[derive(Debug)]
pub struct Waiting {
    /// The units; empty: the whole run.
    pub units: Vec<Name>,
    /// Where the answer goes.
    pub reply: RpcReplyPort<Result<DownReply, Refusal>>,
}

// === impl Project ===

impl Project {
    /// A project that is down.
    pub fn new(
        session: Session,
        myself: ActorRef<ProjectMessage>,
        places: ProjectPlaces,
        key: ProjectKey,
        spec: Arc<ProjectSpec>,
        files: Files,
    ) -> Self {
        let engine = new_engine(&spec);
        let view = ProjectView {
            name: spec.name.to_string(),
            root: spec.root.clone(),
            run: None,
            state: ProjectState::Down,
            units: Vec::new(),
        };
        let mut this = Self {
            session,
            myself,
            places,
            key,
            spec,
            files,
            engine,
            epoch: Instant::now(),
            run: None,
            capture: Capture::new(),
            ports: HeldPorts::default(),
            data_leases: Vec::new(),
            attributes: Attributes::new(),
            passwords: BTreeMap::new(),
            units: IndexMap::new(),
            view: watch::Sender::new(view),
            timers: BTreeMap::new(),
            waiting: Vec::new(),
            later: VecDeque::new(),
            tasks: JoinSet::new(),
        };
        this.set_units();
        let view = this.project_view();
        this.view.send_replace(view);
        this
    }

    /// Gives the engine an event and carries out what follows, until nothing more does.
    pub async fn drive(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.engine.step(self.epoch.elapsed(), event);
            for effect in effects {
                events.extend(self.carry_out(effect).await);
            }
        }
        self.publish();
        self.answer_waiting();
    }

    /// A report from a unit's actor about one life.
    pub async fn reported(&mut self, id: Name, incarnation: Incarnation, report: UnitReport) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        if unit.actor_of(incarnation).is_none() {
            return;
        }
        let event = match report {
            UnitReport::Spawned { pid } => {
                unit.pid = Some(pid);
                self.register(&id, incarnation, pid);
                Event::Spawned { id, incarnation }
            }
            UnitReport::SpawnFailed(error) => {
                unit.actor = None;
                Event::SpawnFailed { id, incarnation, error }
            }
            UnitReport::Ready => Event::Ready { id, incarnation },
            UnitReport::Unready(detail) => Event::Unready { id, incarnation, detail },
            UnitReport::LivenessLost(detail) => Event::LivenessLost { id, incarnation, detail },
            UnitReport::Failing(detail) => return self.failing(&id, incarnation, detail),
            UnitReport::Exited { key, reason, escaped } => {
                self.exited(id, incarnation, reason, escaped).await;
                // Only now is the end remembered: until then heart keeps it for the next daemon.
                return self.session.processes.release(key);
            }
        };
        self.drive(event).await;
    }

    /// The actor of a life failed: a bug of ours. The process stays and gets a new actor, within limits.
    pub async fn actor_failed(&mut self, actor: ractor::ActorId, error: &str) {
        let found = self.units.iter().find_map(|(id, unit)| {
            let (incarnation, failed) = unit.actor.as_ref()?;
            (failed.get_id() == actor).then(|| (id.clone(), *incarnation))
        });
        let Some((id, incarnation)) = found else { return };
        let message = format!("the actor of {id} failed");
        self.append(EventKind::ActorFailed.event("", message).unit(&id).detail("actor", "unit").detail("error", error));
        let unit = &mut self.units[&id];
        unit.actor = None;
        unit.actor_failures += 1;
        let attached =
            unit.actor_failures <= ACTOR_FAILURES_MAX && self.spawn_unit(&id, incarnation, Begin::Attach).await.is_ok();
        if !attached {
            let reason = ExitReason::Error(format!("its actor failed: {error}"));
            self.exited(id, incarnation, reason, Vec::new()).await;
        }
    }

    /// Whether anything lives or will come up by itself.
    pub fn is_active(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.closing) || (self.run.is_some() && !self.engine.is_idle())
    }

    /// Appends an event of this run.
    pub fn append(&self, event: EventBuilder) {
        let mut event = event.build();
        event.run = self.run.as_ref().map(|run| run.id.clone()).unwrap_or_default();
        self.session.journal.append(&self.key, event);
    }

    /// Whether a run is up, and not on its way down as a whole.
    pub fn is_running(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.closing)
    }

    /// Whether units are being stopped for somebody who waits, or the last run is still being closed.
    pub fn is_stopping(&self) -> bool {
        self.is_closing() || !self.waiting.is_empty()
    }

    /// Whether the last run is still being closed.
    pub fn is_closing(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.closing)
    }

    /// Makes the unit table fit the specification; known units stay as they are.
    pub fn set_units(&mut self) {
        let fifos = self.session.places.fifos(&self.places);
        let mut units = IndexMap::new();
        for name in self.spec.units.keys() {
            let fresh = || {
                let path = |extension| fifos.join(name.as_str()).with_extension(extension);
                Unit::new(path("out"), path("err"), now())
            };
            units.insert(name.clone(), self.units.shift_remove(name).unwrap_or_else(fresh));
        }
        self.units = units;
    }

    /// Opens the log streams of all units that have none.
    pub async fn open_logs(&mut self) -> Result<(), Refusal> {
        let number = self.run.as_ref().map_or(0, |run| run.number);
        self.make_runtime_dirs().map_err(|error| Refusal {
            code: "failed".to_owned(),
            message: format!("failed to make the directories of the run: {error}"),
            hint: Some("`envctl show-state` prints the paths; check their permissions".to_owned()),
        })?;
        let limits = Limits { segment_bytes: self.spec.logs.segment_bytes, max_bytes: self.spec.logs.max_bytes };
        let (pump, places) = (self.session.pump.clone(), self.places.clone());
        let supervisor = self.myself.get_cell();
        let open = |(name, unit): (&Name, &Unit)| {
            let arguments = Arguments {
                fifo_out: unit.out.clone(),
                fifo_err: unit.err.clone(),
                dir: places.logs(name),
                limits,
                run: number,
                pump: pump.clone(),
            };
            let (name, supervisor) = (name.clone(), supervisor.clone());
            async move { (name, LogStreamActor::spawn_linked(None, LogStreamActor, arguments, supervisor).await) }
        };
        let opened =
            futures::future::join_all(self.units.iter().filter(|(_, unit)| unit.log.is_none()).map(open)).await;
        for (name, opened) in opened {
            let (actor, _) = opened.map_err(|error| Refusal {
                code: "failed".to_owned(),
                message: format!("open the log of {name}: {error}"),
                hint: Some("`envctl show-state` prints the paths; `df` and their permissions tell the rest".to_owned()),
            })?;
            self.units[&name].log = Some(LogStream::new(actor));
        }
        Ok(())
    }

    fn make_runtime_dirs(&self) -> std::io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(self.session.places.fifos(&self.places))?;
        self.memory_path().parent().map_or(Ok(()), |dir| builder.create(dir))
    }

    /// A fresh engine: the start of a run.
    pub fn reset_engine(&mut self) {
        for (_, timer) in std::mem::take(&mut self.timers) {
            timer.abort();
        }
        self.engine = new_engine(&self.spec);
        self.epoch = Instant::now();
        for unit in self.units.values_mut() {
            (unit.since_engine, unit.cause, unit.hint) = (None, None, None);
            unit.escaped.clear();
        }
    }

    /// The view as it is now.
    pub fn project_view(&self) -> ProjectView {
        let view = |child: envctl_supervisors::engine::ChildView| {
            let spec = self.spec.units.get(&child.id)?;
            let unit = self.units.get(&child.id)?;
            let empty = BTreeMap::new();
            let attributes = self.attributes.get(&child.id).unwrap_or(&empty);
            let numbers = self.ports.numbers();
            let ports = port_views(numbers.get(&child.id), &spec.kind, attributes);
            Some(views::unit_view(&child, Sources { spec, unit }, ports))
        };
        let units = self.engine.children().filter_map(view).collect();
        let run = self.run.as_ref().map(|run| run.id.clone());
        views::project_view(self.spec.name.as_str(), &self.spec.root, run, self.is_closing(), units)
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn { id, incarnation } => {
                let error = self.spawn_unit(&id, incarnation, Begin::Spawn).await.err()?;
                return Some(Event::SpawnFailed { id, incarnation, error });
            }
            Effect::Stop { id, incarnation } => self.tell(&id, incarnation, UnitMessage::Stop),
            Effect::Kill { id, incarnation } => self.tell(&id, incarnation, UnitMessage::Kill),
            Effect::Arm { key, at } => self.arm(key, at),
            Effect::Cancel { key } => {
                if let Some(timer) = self.timers.remove(&key) {
                    timer.abort();
                }
            }
            Effect::Report(report) => self.report(&report),
            Effect::Idle => self.idle(),
        }
        None
    }

    /// Starts the actor of a life.
    pub(super) async fn spawn_unit(
        &mut self,
        id: &Name,
        incarnation: Incarnation,
        begin: Begin,
    ) -> Result<(), StartError> {
        if begin == Begin::Spawn {
            // The pid of the life before is nobody's any more; the new one has none yet.
            self.units[id].pid = None;
        }
        let actor = super::supervisor::spawn_actor(self, id, incarnation, begin).await?;
        self.units[id].actor = Some((incarnation, actor));
        Ok(())
    }

    fn tell(&self, id: &Name, incarnation: Incarnation, message: UnitMessage) {
        if let Some(actor) = self.units.get(id).and_then(|unit| unit.actor_of(incarnation)) {
            // An actor that is gone has reported its end, or its failure is being dealt with.
            let _ = actor.cast(message);
        }
    }

    fn arm(&mut self, key: TimerKey, at: envctl_supervisors::engine::Time) {
        let (myself, due) = (self.myself.clone(), self.epoch + at);
        let message = key.clone();
        let timer = self.tasks.spawn(async move {
            tokio::time::sleep_until(due).await;
            let _ = myself.cast(ProjectMessage::Timer(message));
        });
        self.timers.insert(key, timer);
    }

    /// A timer has fired.
    pub async fn timer(&mut self, key: TimerKey) {
        self.timers.remove(&key);
        self.drive(Event::Timer(key)).await;
    }

    fn report(&mut self, report: &Report) {
        let restarts = self.engine.child(report.id.as_str()).map_or(0, |child| child.restarts);
        if let Some(unit) = self.units.get_mut(&report.id) {
            unit.note(report);
            let facts = Facts { pid: unit.pid, restart: restarts };
            let run = self.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
            self.session.journal.append(&self.key, reports::event(run, report, facts));
        }
    }

    fn failing(&mut self, id: &Name, incarnation: Incarnation, detail: String) {
        let message = format!("a check of {id} says no");
        let event = EventKind::UnitProbeFailed.event("", message).unit(id).incarnation(incarnation);
        self.append(event.detail("answer", detail.as_str()));
        self.units[id].cause = Some(format!("not ready yet: {detail}"));
        self.publish();
    }

    async fn exited(&mut self, id: Name, incarnation: Incarnation, reason: ExitReason, escaped: Vec<u32>) {
        self.session.registry.deregister(self.address(&id), incarnation);
        if !escaped.is_empty() {
            let message = format!("{} processes of {id} could not be ended", escaped.len());
            let event = EventKind::UnitEscaped.event("", message).unit(&id).incarnation(incarnation);
            self.append(event.detail("pids", escaped.clone()));
        }
        let unit = &mut self.units[&id];
        (unit.actor, unit.escaped) = (None, escaped);
        self.drive(Event::Exited { id: id.clone(), incarnation, reason }).await;
        if let Some(unit) = self.units.get_mut(&id).filter(|unit| unit.actor.is_none()) {
            unit.pid = None;
            self.publish();
        }
    }

    fn register(&self, id: &Name, incarnation: Incarnation, pid: u32) {
        let ports = self.ports.numbers().remove(id).unwrap_or_default();
        let endpoints = ports.into_iter().map(|(name, port)| Endpoint { name, port }).collect();
        self.session.registry.register(self.address(id), Registration { incarnation, pid, endpoints });
    }

    fn address(&self, id: &Name) -> Address {
        Address { project: self.places.key(), unit: id.clone() }
    }

    /// Nothing is alive any more. If nothing is wanted either, the run is over: what escaped the units is looked for.
    fn idle(&mut self) {
        let wanted = self.engine.children().any(|child| child.desired == envctl_supervisors::engine::Desired::Up);
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

    /// Tells everybody the state, if it has changed.
    pub fn publish(&mut self) {
        for child in self.engine.children() {
            let Some(unit) = self.units.get_mut(&child.id) else { continue };
            if unit.since_engine != Some(child.since) {
                (unit.since, unit.since_engine) = (now(), Some(child.since));
            }
        }
        let view = self.project_view();
        let before = self.view.borrow().state;
        if *self.view.borrow() == view {
            return;
        }
        self.note_state(before, &view);
        self.session.journal.snapshot(&self.key, view.clone());
        self.view.send_replace(view);
        self.remember();
        while self.tasks.try_join_next().is_some() {}
    }

    fn note_state(&self, before: ProjectState, view: &ProjectView) {
        let now = view.state;
        if before == now || self.run.is_none() {
            return;
        }
        let failed = || view.units.iter().find(|unit| unit.state == UnitState::Failed && unit.desired == Desired::Up);
        let name = &self.spec.name;
        let with_unit = |event: EventBuilder| match failed() {
            Some(unit) => event.detail("caused_by", unit.name.as_str()),
            None => event,
        };
        match now {
            ProjectState::Up => {
                let took = self.run.as_ref().map_or(0, |run| run.started.elapsed().as_millis());
                let event = EventKind::RunUp.event("", format!("{name} is up"));
                self.append(event.detail("took_ms", u64::try_from(took).unwrap_or(u64::MAX)));
            }
            ProjectState::Failed => {
                self.append(with_unit(EventKind::RunFailed.event("", format!("{name} has failed"))))
            }
            ProjectState::Degraded => {
                self.append(with_unit(EventKind::RunDegraded.event("", format!("{name} is degraded"))));
            }
            ProjectState::Stopping => self.append(EventKind::RunStopping.event("", format!("{name} is going down"))),
            ProjectState::Starting | ProjectState::Down => {}
        }
    }

    /// Answers those whose units are down by now.
    fn answer_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for wait in waiting {
            let down = match wait.units.as_slice() {
                [] => self.run.is_none(),
                units => {
                    units.iter().all(|id| self.engine.child(id.as_str()).is_none_or(|child| !child.state.is_alive()))
                }
            };
            if !down {
                self.waiting.push(wait);
                continue;
            }
            let escaped = self.units.iter().filter(|(_, unit)| !unit.escaped.is_empty());
            let escaped = escaped.map(|(id, unit)| (id.to_string(), unit.escaped.clone())).collect();
            let reply = DownReply { project: self.spec.name.to_string(), was_up: true, escaped };
            let _ = wait.reply.send(Ok(reply));
        }
        if !self.is_stopping() {
            while let Some(message) = self.later.pop_front() {
                let _ = self.myself.cast(message);
            }
        }
    }

    pub(super) fn memory_path(&self) -> PathBuf {
        Memory::path(self.session.places.runtime_dir(), &self.places.short())
    }

    /// Keeps what the next daemon must know.
    fn remember(&self) {
        let Some(run) = self.run.as_ref().filter(|run| !run.closing) else { return };
        let root = self.spec.root.clone();
        let mut memory = Memory::new(root, &self.files, run.id.clone(), run.number, &self.capture);
        memory.set_ports(&self.ports.numbers());
        memory.units = self
            .engine
            .children()
            .map(|child| UnitMemory {
                name: child.id.to_string(),
                wanted: child.desired == envctl_supervisors::engine::Desired::Up,
                incarnation: child.incarnation.map_or(0, |incarnation| incarnation.0),
                restarts: child.restarts,
                ready: child.state == envctl_supervisors::engine::ChildState::Ready,
                done: child.state == envctl_supervisors::engine::ChildState::Done,
            })
            .collect();
        if let Err(error) = memory.store(&self.memory_path()) {
            tracing::error!(%error, "the run cannot be remembered for the next daemon");
        }
    }
}

/// Actors of one life that fail more often than this take the life with them.
const ACTOR_FAILURES_MAX: u32 = 3;

fn new_engine(spec: &ProjectSpec) -> Engine {
    let children = spec.units.values().map(|unit| unit.child.clone()).collect();
    let options = Options { seed: fastrand::u64(..), ..Options::default() };
    Engine::new(children, options)
        .expect("invariant: the configuration has refused duplicate, unknown and cyclic needs")
}
