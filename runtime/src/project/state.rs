//! A project's state and what follows from each event: the engine decides, this carries out.
//!
//! Only the supervisor actor touches it. Its methods never wait for anything slow: what takes time is a unit actor's, the
//! table's, or a tracked task that reports back by message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use envctl_actors::log_stream::{Arguments, Lane, LogStream, LogStreamActor, PumpHandle, Site, open_together};
use envctl_actors::process::Processes;
use envctl_actors::process::identity::Identity;
use envctl_actors::process::life::sweep;
use envctl_actors::registry::{Address, Endpoint, Registration, Registry};
use envctl_actors::unit::{Begin, UnitMessage, UnitReport};
use envctl_supervisors::Name;
use envctl_supervisors::engine::{Effect, Engine, Event, Options, TimerKey};
use envctl_supervisors::reason::{ExitReason, StartError};
use envctl_supervisors::spec::Incarnation;
use futures::stream::{self, StreamExt};
use indexmap::IndexMap;
use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::budgets::Windows;
use super::environment::Capture;
use super::fingerprint::fingerprint;
use super::memory::{Failure, Files};
use super::memory_file::MemoryFile;
use super::ports::HeldPorts;
use super::publish::Telling;
use super::requirements::Secrets;
use super::share::Shared;
use super::supervisor::ProjectMessage;
use super::units::Unit;
use super::views::{Whole, project_view};
use crate::control::view::{FailureCounts, ProjectView};
use crate::control::wire::{DownReply, Killed, Refusal};
use crate::journal::events::{EventBuilder, EventKind};
use crate::journal::{Journal, ProjectKey, now};
use crate::leases::{DirLease, Leases};
use crate::places::{Places, ProjectPlaces};
use crate::spec::{Attributes, ProjectSpec, UnitKind};

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
    /// An `envctl` program, which looks after containers; none: there can be no containers.
    pub program: Option<std::path::PathBuf>,
    /// Called with the leases on shared servers that a run has given back.
    pub released: Arc<dyn Fn(Vec<u64>) + Send + Sync>,
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
    pub(super) data_leases: BTreeMap<Name, DirLease>,
    pub(super) attributes: Attributes,
    /// What every unit is told of the others; made of the attributes.
    pub(super) urls: Vec<(String, String)>,
    pub(super) secrets: Secrets,
    /// What requirements have on shared servers.
    pub(super) shared: Shared,
    /// Those servers' projects, as far as they are heard of.
    pub(super) servers: BTreeMap<Name, watch::Receiver<ProjectView>>,
    /// Who hears of them.
    pub(super) attending: BTreeMap<Name, AbortHandle>,
    pub(super) units: IndexMap<Name, Unit>,
    pub(super) view: watch::Sender<ProjectView>,
    timers: BTreeMap<TimerKey, AbortHandle>,
    pub(super) waiting: Vec<Waiting>,
    /// The number of the last run in log records.
    pub(super) last_run_number: u32,
    /// How many `down`s have been asked for.
    pub(super) downs: u64,
    /// Units that had to be killed while somebody waits for their end.
    pub(super) killed: Vec<Killed>,
    /// Who cuts the stop short that somebody waits for, if anybody does.
    pub(super) hurry: Option<Hurry>,
    /// Why the run ends, or has ended, by itself.
    pub(super) failure: Option<Failure>,
    /// Whether heart has asked all units to end, because the daemon before this one died.
    pub(super) ended_with_daemon: bool,
    /// How much of each budget is used.
    pub(super) windows: Windows,
    /// Requests that came while the last run was being closed; taken up when it is.
    pub(super) later: VecDeque<ProjectMessage>,
    /// Whether something may have changed that nobody has been told.
    pub(super) is_stale: bool,
    /// When they are told next.
    pub(super) telling: Telling,
    /// What the next daemon would find.
    pub(super) memory_file: Option<MemoryFile>,
    /// Ended processes that heart need not keep once this state is remembered.
    pub(super) recorded: Vec<u64>,
    pub(super) tasks: JoinSet<()>,
}

/// Why units are killed before their grace is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurry {
    /// The time for the whole stop is over.
    Timeout,
    /// Somebody asked for it.
    Asked,
}

/// Somebody who waits until units are down.
#[derive(Debug)]
pub struct Waiting {
    /// Its number, to tell its deadline from another's.
    pub number: u64,
    /// The units; empty: the whole run.
    pub units: Vec<Name>,
    /// Where the answer goes.
    pub reply: RpcReplyPort<Result<DownReply, Refusal>>,
}

// === impl Waiting ===

impl Waiting {
    /// Whether the end of this unit is waited for.
    pub fn concerns(&self, unit: &str) -> bool {
        self.units.is_empty() || self.units.iter().any(|id| id.as_str() == unit)
    }
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
        let view = project_view(Whole { spec: &spec, run: None, failure: None }, Vec::new());
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
            data_leases: BTreeMap::new(),
            attributes: Attributes::new(),
            urls: Vec::new(),
            secrets: Secrets::new(),
            shared: Shared::new(),
            servers: BTreeMap::new(),
            attending: BTreeMap::new(),
            units: IndexMap::new(),
            view: watch::Sender::new(view),
            timers: BTreeMap::new(),
            waiting: Vec::new(),
            last_run_number: 0,
            downs: 0,
            killed: Vec::new(),
            hurry: None,
            failure: None,
            ended_with_daemon: false,
            windows: Windows::default(),
            later: VecDeque::new(),
            is_stale: false,
            telling: Telling::default(),
            memory_file: None,
            recorded: Vec::new(),
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
            self.announce(&effects);
            for effect in effects {
                events.extend(self.carry_out(effect).await);
            }
        }
        self.note_ending();
        self.interrupt_starts();
        self.publish_soon();
        self.answer_waiting();
    }

    /// A life that is being prepared has no process yet that the engine could ask to end; its actor can stop preparing.
    fn interrupt_starts(&self) {
        for (id, incarnation) in self.engine.unwanted_starts() {
            self.tell(id, incarnation, UnitMessage::Stop);
        }
    }

    /// A report from a unit's actor about one life.
    pub async fn reported(&mut self, id: Name, incarnation: Incarnation, report: UnitReport) {
        let is_requirement = self.is_requirement(&id);
        let Some(unit) = self.units.get_mut(&id) else { return };
        // Without the process table everything seems to end; the next daemon finds out what really has.
        if unit.actor_of(incarnation).is_none() || self.session.processes.is_gone() {
            return;
        }
        let event = match report {
            UnitReport::Spawned { pid } => {
                (unit.pid, unit.identity, unit.lost) = (Some(pid), Identity::of(pid), false);
                unit.no_longer_short();
                self.register(&id, incarnation, pid);
                Event::Spawned { id, incarnation }
            }
            UnitReport::Short(error) => return self.short(&id, incarnation, &error),
            UnitReport::Unheld(lines) => return self.unheld(&id, incarnation, lines),
            UnitReport::PortTaken { port, owner } => return self.port_taken(&id, incarnation, port, &owner).await,
            UnitReport::Degraded(lines) => return self.degraded(&id, incarnation, lines),
            UnitReport::OutOfMemory => return self.out_of_memory(&id),
            UnitReport::Preparing { text, is_news } => return self.preparing(&id, incarnation, text, is_news),
            UnitReport::Contained { containers } => return self.in_containers(&id, incarnation, containers),
            UnitReport::Engine(gone) => return self.engine(&id, incarnation, gone),
            UnitReport::Left(text) => return self.left_behind(&id, incarnation, &text),
            UnitReport::SpawnFailed(error) => {
                unit.actor = None;
                unit.failures.hard += u32::from(is_requirement && !error.retry);
                Event::SpawnFailed { id, incarnation, error }
            }
            UnitReport::Ready => Event::Ready { id, incarnation },
            UnitReport::Unready(detail) => Event::Unready { id, incarnation, detail },
            UnitReport::LivenessLost(detail) => Event::LivenessLost { id, incarnation, detail },
            UnitReport::Failing(detail) => return self.failing(&id, incarnation, detail),
            UnitReport::StopFailed(error) => return self.stop_failed(&id, incarnation, &error),
            UnitReport::Exited { key, reason, escaped } => {
                self.exited(id, incarnation, reason, escaped).await;
                // Heart keeps it for the next daemon until it is remembered here.
                self.recorded.extend(key);
                return;
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
            // Nobody looks after its process any more: it goes before a successor comes.
            sweep(&self.session.processes, &self.proof(&id, self.units[&id].pid), self.reach(&id)).await;
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

    /// Whether units are being stopped for somebody who waits, the run ends by itself, or the last one is still being
    /// closed.
    pub fn is_stopping(&self) -> bool {
        let ends = self.run.is_some() && self.failure.is_some();
        self.is_closing() || ends || !self.waiting.is_empty()
    }

    /// Whether the last run is still being closed.
    pub fn is_closing(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.closing)
    }

    /// Makes the unit table fit the specification; known units stay as they are, and so do removed ones that the engine
    /// has still to stop.
    pub fn set_units(&mut self) {
        let fifos = self.session.places.fifos(&self.places);
        // Taken out one by one without closing the gaps: in a project of a thousand units that would move each a thousand times.
        let mut before: IndexMap<_, _> =
            std::mem::take(&mut self.units).into_iter().map(|(name, unit)| (name, Some(unit))).collect();
        let mut units = IndexMap::with_capacity(self.spec.units.len());
        for name in self.spec.units.keys() {
            let fresh = || {
                let path = |extension| fifos.join(name.as_str()).with_extension(extension);
                Unit::new(path("out"), path("err"), now())
            };
            units.insert(name.clone(), before.get_mut(name).and_then(Option::take).unwrap_or_else(fresh));
        }
        for (name, unit) in before.into_iter().filter_map(|(name, unit)| Some((name, unit?))) {
            match &unit.log {
                _ if unit.actor.is_some() => drop(units.insert(name, unit)),
                Some(log) => log.actor().stop(None),
                None => {}
            }
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
        let closed = self.units.iter().filter(|(_, unit)| unit.log.is_none());
        let site = |(name, unit): (&Name, &Unit)| {
            let (fifo_out, fifo_err) = (unit.out.clone(), unit.err.clone());
            (name.clone(), Site { fifo_out, fifo_err, dir: self.places.logs(name), limits: self.log_limits(name) })
        };
        let (names, sites): (Vec<Name>, Vec<Site>) = closed.map(site).unzip();
        let files = open_together(sites.clone()).await.unwrap_or_default();
        let files = files.into_iter().chain(std::iter::repeat_with(|| None));
        let (pump, supervisor) = (self.session.pump.clone(), self.myself.get_cell());
        let start = |((name, site), opened)| {
            let (lane, supervisor) = (Lane::new(pump.clone(), number), supervisor.clone());
            async move {
                let arguments = Arguments { site, opened, lane: lane.clone() };
                let started = LogStreamActor::spawn_linked(None, LogStreamActor, arguments, supervisor).await;
                (name, started.map(|(actor, _)| LogStream::new(actor, lane)))
            }
        };
        let starts = names.into_iter().zip(sites).zip(files).map(start);
        let opened: Vec<_> = stream::iter(starts).buffered(LOGS_OPENED_AT_ONCE).collect().await;
        let mut refused = None;
        // All that could be opened are kept before the first refusal is told: one that is forgotten holds its log for ever.
        for (name, opened) in opened {
            let opened = opened.map_err(|error| Refusal {
                code: "failed".to_owned(),
                message: format!("open the log of {name}: {error}"),
                hint: Some("`envctl show-state` prints the paths; `df` and their permissions tell the rest".to_owned()),
            });
            match opened {
                Ok(log) => self.keep_log(&name, log),
                Err(refusal) => refused = Some(refusal),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    pub(super) fn make_runtime_dirs(&self) -> std::io::Result<()> {
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
        (self.failure, self.ended_with_daemon, self.windows) = (None, false, Windows::default());
        for unit in self.units.values_mut() {
            (unit.since_engine, unit.cause, unit.hint) = (None, None, None);
            unit.failures = FailureCounts::default();
            unit.escaped.clear();
        }
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn { id, incarnation, .. } => {
                let error = self.spawn_unit(&id, incarnation, Begin::Spawn).await.err()?;
                return Some(Event::SpawnFailed { id, incarnation, error });
            }
            Effect::Stop { id, incarnation, .. } => self.tell(&id, incarnation, UnitMessage::Stop),
            Effect::Kill { id, incarnation, .. } => self.tell(&id, incarnation, UnitMessage::Kill),
            Effect::Arm { key, at } => self.arm(key, at),
            Effect::Cancel { key, .. } => {
                if let Some(timer) = self.timers.remove(&key) {
                    timer.abort();
                }
            }
            Effect::Report(report) => self.report(&report),
            Effect::Dropped { .. } => {}
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
            self.reopen_log(id).await?;
            (self.units[id].pid, self.units[id].identity) = (None, None);
            self.units[id].oom = false;
            if !self.spec.units.get(id).is_some_and(|unit| unit.confines.limits.are_shared()) {
                self.units[id].warnings.clear();
            }
            self.units[id].fingerprint = self.spec.units.get(id).map(|unit| fingerprint(&self.spec, unit));
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
        let timer = self.tasks.spawn(async move {
            tokio::time::sleep_until(due).await;
            let _ = myself.cast(ProjectMessage::Timer(key));
        });
        self.timers.insert(key, timer);
    }

    /// A timer has fired.
    pub async fn timer(&mut self, key: TimerKey) {
        self.timers.remove(&key);
        self.drive(Event::Timer(key)).await;
    }

    fn is_requirement(&self, id: &Name) -> bool {
        self.spec.units.get(id).is_some_and(|unit| matches!(unit.kind, UnitKind::Requirement(_)))
    }

    fn failing(&mut self, id: &Name, incarnation: Incarnation, detail: String) {
        let message = format!("a check of {id} says no");
        let event = EventKind::UnitProbeFailed.event("", message).unit(id).incarnation(incarnation);
        self.append(event.detail("answer", detail.as_str()));
        if self.is_requirement(id) {
            self.units[id].failures.transient_probe += 1;
        }
        self.units[id].cause = Some(format!("not ready yet: {detail}"));
        self.publish_soon();
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
            self.publish_soon();
        }
    }

    fn register(&self, id: &Name, incarnation: Incarnation, pid: u32) {
        let ports = self.ports.of_unit(id);
        let endpoints = ports.into_iter().map(|(name, port)| Endpoint { name, port }).collect();
        self.session.registry.register(self.address(id), Registration { incarnation, pid, endpoints });
    }

    fn address(&self, id: &Name) -> Address {
        Address { project: self.places.key(), unit: id.clone() }
    }
}

/// Actors of logs that are started at the same time, so that those that must wait for a predecessor's log wait together.
const LOGS_OPENED_AT_ONCE: usize = 8;
/// Actors of one life that fail more often than this take the life with them.
const ACTOR_FAILURES_MAX: u32 = 3;

fn new_engine(spec: &ProjectSpec) -> Engine {
    let children = spec.units.values().map(|unit| unit.child.clone()).collect();
    let options = Options { seed: fastrand::u64(..), flags: spec.flags, ..Options::default() };
    Engine::new(children, spec.groups.clone(), options)
        .expect("invariant: the configuration has asked the engine whether it can supervise them")
}
