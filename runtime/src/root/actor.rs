//! The root actor.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::log_stream::{Pump, PumpHandle};
use envctl_actors::process::end::gone;
use envctl_actors::process::identity::Identity;
use envctl_actors::process::{Processes, Scope};
use envctl_actors::registry::Registry;
use envctl_supervisors::Name;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{self, Diagnostics, Source};
use crate::control::wire::{DownReply, Refusal};
use crate::journal::views::Facts;
use crate::journal::{EventKind, Journal, ProjectKey};
use crate::leases::Leases;
use crate::places::Places;
use crate::project::memory::{Files, Memory};
use crate::project::share::server::is_server;
use crate::project::state::Session;
use crate::project::supervisor::{DownOrder, ProjectActor, ProjectArgs, ProjectMessage};
use crate::root::shares::{Leased, Servers, Start};
use crate::spec::ProjectSpec;

/// How long the processes of a run that nobody could take over have to end in order.
const ORPHANS_GRACE: Duration = Duration::from_secs(5);

/// The root as others use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    pub(super) actor: ActorRef<RootMessage>,
}

/// What the root is started with.
#[derive(Debug)]
pub struct RootArgs {
    /// The session's name.
    pub name: Name,
    /// Its directories.
    pub places: Arc<Places>,
    /// The machine's leases.
    pub leases: Arc<Leases>,
    /// The connection to heart.
    pub heart: UnixStream,
    /// An `envctl` program, which looks after containers.
    pub program: Option<PathBuf>,
    /// End by itself after so long without runs and clients.
    pub idle_after: Option<Duration>,
    /// Set when the session has ended.
    pub ended: watch::Sender<Life>,
}

/// Whether a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Living,
    /// It ended in order.
    Ended,
    /// A part of it failed: a new daemon takes over what it left.
    Failed,
}

/// Units with processes that could not be ended, and those processes.
pub type Escaped = Vec<(String, Vec<u32>)>;

/// A project as the root knows it.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name.
    pub name: Name,
    /// Its directory.
    pub root: PathBuf,
    /// Its supervisor.
    pub actor: ActorRef<ProjectMessage>,
}

/// What an upgrade brings to rest.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The process table.
    pub processes: Processes,
    /// The logs' pump.
    pub pump: PumpHandle,
    /// The journal.
    pub journal: Journal,
}

/// A run of an earlier daemon that could not be taken over yet.
#[derive(Debug)]
struct Orphan {
    /// The file it is remembered in.
    path: PathBuf,
    memory: Memory,
}

/// What the root is told.
#[derive(Debug)]
pub enum RootMessage {
    /// The project of this specification; it is made if it is new.
    Project(Arc<ProjectSpec>, Files, RpcReplyPort<Result<Project, Refusal>>),
    /// All projects.
    Projects(RpcReplyPort<Vec<Project>>),
    /// Take over what an earlier daemon left.
    Recover(RpcReplyPort<()>),
    /// The project in this directory, also if it still has to be taken over from an earlier daemon.
    Find(PathBuf, RpcReplyPort<Result<Option<Project>, Refusal>>),
    /// A client has come (`true`) or gone.
    Client(bool),
    /// A project has come to rest.
    Quiet,
    /// Time to look whether anything still needs this session.
    IdleCheck,
    /// Nothing needs it: said by the task that looked.
    Idle(bool),
    /// Stop everything in order, then end.
    Shutdown(RpcReplyPort<Escaped>),
    /// Kill what the shutdown still waits for.
    Hurry,
    /// Everything is down.
    Down(Vec<DownReply>),
    /// Heart's pid.
    HeartPid(RpcReplyPort<Option<u32>>),
    /// The session's journal.
    Journal(RpcReplyPort<Journal>),
    /// What an upgrade brings to rest; refused by a session that ends.
    Parts(RpcReplyPort<Result<Parts, Refusal>>),
    /// A lease on the shared server of a requirement.
    Lease(Arc<ProjectSpec>, Name, Start, RpcReplyPort<Result<Option<Leased>, Refusal>>),
    /// Leases that are given back.
    Release(Vec<u64>),
    /// Say when the servers that go down are down.
    Settle(RpcReplyPort<()>),
    /// Drop the data of a requirement's shared server if nobody has any there.
    Sweep(Arc<ProjectSpec>, Name, RpcReplyPort<()>),
}

/// The actor.
#[derive(Debug)]
struct RootActor;

/// Its state.
pub(super) struct State {
    pub(super) session: Session,
    pub(super) projects: BTreeMap<PathBuf, Project>,
    /// Who has leases on shared servers, and which of those are going down.
    pub(super) servers: Servers,
    /// Runs of an earlier daemon that could not be taken over yet, because their configuration is broken.
    orphans: BTreeMap<PathBuf, Orphan>,
    clients: usize,
    idle_after: Option<Duration>,
    idle_timer: Option<AbortHandle>,
    pub(super) shutdown: Option<Vec<RpcReplyPort<Escaped>>>,
    ended: watch::Sender<Life>,
    pub(super) tasks: JoinSet<()>,
    /// Ends with the root.
    _pump: Pump,
}

// === impl Root ===

impl Root {
    /// Starts a root and its system actors.
    pub async fn start(args: RootArgs) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) = Actor::spawn(None, RootActor, args).await?;
        Ok(Self { actor })
    }

    /// The project of this specification.
    pub async fn project(&self, spec: Arc<ProjectSpec>, files: Files) -> Result<Project, Refusal> {
        self.ask(|reply| RootMessage::Project(spec, files, reply)).await?
    }

    /// All projects.
    pub async fn projects(&self) -> Result<Vec<Project>, Refusal> {
        self.ask(RootMessage::Projects).await
    }

    /// The project in this directory, also if it still has to be taken over from an earlier daemon.
    pub async fn find(&self, root: PathBuf) -> Result<Option<Project>, Refusal> {
        self.ask(|reply| RootMessage::Find(root, reply)).await?
    }

    /// Takes over what an earlier daemon left.
    pub async fn recover(&self) -> Result<(), Refusal> {
        self.ask(RootMessage::Recover).await
    }

    /// Stops everything in order, then ends the session. Gives what could not be ended.
    pub async fn shutdown(&self) -> Result<Escaped, Refusal> {
        self.ask(RootMessage::Shutdown).await
    }

    /// Heart's pid.
    pub async fn heart_pid(&self) -> Option<u32> {
        self.ask(RootMessage::HeartPid).await.ok().flatten()
    }

    /// The session's journal.
    pub async fn journal(&self) -> Result<Journal, Refusal> {
        self.ask(RootMessage::Journal).await
    }

    /// Kills what a shutdown still waits for.
    pub fn hurry(&self) {
        let _ = self.actor.cast(RootMessage::Hurry);
    }

    /// Has every project write down anew what the next daemon must know.
    pub async fn remember(&self) {
        for project in self.projects().await.unwrap_or_default() {
            let _ = project.actor.cast(ProjectMessage::Remember);
        }
    }

    /// What an upgrade brings to rest; refused by a session that ends.
    pub async fn parts(&self) -> Result<Parts, Refusal> {
        self.ask(RootMessage::Parts).await?
    }

    /// Counts a client in or out.
    pub fn client(&self, here: bool) {
        // A root that is gone counts nobody.
        let _ = self.actor.cast(RootMessage::Client(here));
    }

    /// The actor, as the supervisor of the gateway's.
    pub fn cell(&self) -> ractor::ActorCell {
        self.actor.get_cell()
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> RootMessage,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(message(reply.into())).map_err(|_| shutting_down())?;
        answer.await.map_err(|_| shutting_down())
    }
}

/// The refusal of a session that ends.
pub(crate) fn shutting_down() -> Refusal {
    Refusal {
        code: "shutting-down".to_owned(),
        message: "the session is shutting down".to_owned(),
        hint: Some("try again: the next command starts a new daemon".to_owned()),
    }
}

// === impl Project ===

impl Project {
    /// Its journal, once it has dealt with everything that it was told before; `None`: it is gone.
    pub async fn key(&self) -> Option<ProjectKey> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(ProjectMessage::Key(reply.into())).ok()?;
        answer.await.ok()
    }
}

// === impl RootActor ===

impl Actor for RootActor {
    type Msg = RootMessage;
    type State = State;
    type Arguments = RootArgs;

    async fn pre_start(&self, myself: ActorRef<RootMessage>, args: RootArgs) -> Result<State, ActorProcessingErr> {
        let RootArgs { name, places, leases, heart, program, idle_after, ended } = args;
        let registry = Registry::start(myself.get_cell()).await?;
        let (journal, _) = Journal::start_linked(myself.get_cell()).await?;
        let processes = Processes::start(heart, myself.get_cell()).await?;
        let pump = Pump::start()?;
        let (quiet, released) = (myself.clone(), myself.clone());
        let session = Session {
            name,
            places,
            processes,
            pump: pump.handle(),
            journal,
            registry,
            leases,
            program,
            released: Arc::new(move |leases| drop(released.cast(RootMessage::Release(leases)))),
            quiet: Arc::new(move || drop(quiet.cast(RootMessage::Quiet))),
        };
        let mut state = State {
            session,
            projects: BTreeMap::new(),
            servers: Servers::default(),
            orphans: BTreeMap::new(),
            clients: 0,
            idle_after,
            idle_timer: None,
            shutdown: None,
            ended,
            tasks: JoinSet::new(),
            _pump: pump,
        };
        state.arm_idle(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Project(spec, files, reply) => drop(reply.send(state.project(&myself, spec, files).await)),
            RootMessage::Projects(reply) => drop(reply.send(state.projects.values().cloned().collect())),
            RootMessage::Recover(reply) => {
                state.recover(&myself).await;
                let _ = reply.send(());
            }
            RootMessage::Find(root, reply) => drop(reply.send(state.find(&myself, root).await)),
            RootMessage::Client(true) => {
                state.clients += 1;
                state.disarm_idle();
            }
            RootMessage::Client(false) => {
                state.clients = state.clients.saturating_sub(1);
                state.arm_idle(&myself);
            }
            RootMessage::Quiet => state.arm_idle(&myself),
            RootMessage::IdleCheck => state.check_idle(&myself),
            RootMessage::Idle(true) if state.clients == 0 => myself.stop(None),
            RootMessage::Idle(_) => {}
            RootMessage::Shutdown(reply) => state.shut_down(&myself, reply),
            RootMessage::Hurry => state.hurry(),
            RootMessage::Down(replies) => {
                state.answer_shutdown(replies);
                myself.stop(None);
            }
            RootMessage::Journal(reply) => drop(reply.send(state.session.journal.clone())),
            RootMessage::HeartPid(reply) => state.tell_heart_pid(reply),
            RootMessage::Parts(reply) => drop(reply.send(state.parts())),
            RootMessage::Lease(spec, unit, start, reply) => {
                drop(reply.send(state.lease(&myself, &spec, &unit, start).await))
            }
            RootMessage::Release(leases) => state.release(&leases),
            RootMessage::Settle(reply) => state.settle(reply),
            RootMessage::Sweep(spec, unit, reply) => state.sweep(&spec, &unit, reply),
        }
        while state.tasks.try_join_next().is_some() {}
        Ok(())
    }

    /// A system actor that fails takes the session with it: heart then starts a new daemon, which takes everything over.
    /// A project supervisor that fails is made anew by the same way back.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            tracing::error!(actor = %actor.get_id(), %error, "an actor of the session failed: the daemon starts anew");
            state.ended.send_replace(Life::Failed);
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<RootMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.ended.send_if_modified(|life| {
            let ended = *life == Life::Living;
            if ended {
                *life = Life::Ended;
            }
            ended
        });
        Ok(())
    }
}

// === impl State ===

impl State {
    pub(super) async fn project(
        &mut self,
        myself: &ActorRef<RootMessage>,
        spec: Arc<ProjectSpec>,
        files: Files,
    ) -> Result<Project, Refusal> {
        if self.shutdown.is_some() {
            return Err(shutting_down());
        }
        if let Some(project) = self.projects.get(&spec.root) {
            return Ok(project.clone());
        }
        let (name, root) = (spec.name.clone(), spec.root.clone());
        let failed = |error: String| Refusal {
            code: "failed".to_owned(),
            message: format!("failed to set up {}: {error}", spec.name),
            hint: Some("`envctl show-state` prints the paths; check their permissions".to_owned()),
        };
        let places = self.session.places.for_project(&root, &name).map_err(|error| failed(error.to_string()))?;
        let opened = self.session.journal.open(&places, Facts::of(&spec, &places)).await;
        let (key, recovery) = opened.map_err(|error| failed(error.to_string()))?;
        if recovery.corrupt_lines > 0 || recovery.cut_bytes > 0 {
            let text = format!("the journal was damaged; {} events could be read", recovery.events);
            let event = EventKind::JournalRepaired.event("", text).detail("count", recovery.corrupt_lines);
            self.session.journal.append(&key, event.detail("bytes", recovery.cut_bytes));
        }
        if recovery.dropped > 0 {
            let text = format!("the journal was too long: its {} oldest events are gone", recovery.dropped);
            self.session
                .journal
                .append(&key, EventKind::JournalShortened.event("", text).detail("count", recovery.dropped));
        }
        let args = ProjectArgs { session: self.session.clone(), places, key, spec: spec.clone(), files };
        let (actor, _) = ProjectActor::spawn_linked(None, ProjectActor, args, myself.get_cell())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let project = Project { name, root: root.clone(), actor };
        self.projects.insert(root.clone(), project.clone());
        if let Some(orphan) = self.orphans.remove(&root) {
            take_over(&project, orphan.memory).await;
        }
        Ok(project)
    }

    async fn find(&mut self, myself: &ActorRef<RootMessage>, root: PathBuf) -> Result<Option<Project>, Refusal> {
        if let Some(project) = self.projects.get(&root) {
            return Ok(Some(project.clone()));
        }
        let Some(orphan) = self.orphans.get(&root) else { return Ok(None) };
        let files = orphan.memory.files();
        let spec = load(&root, &files).map_err(|error| Refusal {
            code: "config".to_owned(),
            message: format!(
                "an earlier daemon left units running here, and their configuration is broken now:\n{error}"
            ),
            hint: Some("correct it; then they can be asked about and stopped again".to_owned()),
        })?;
        self.project(myself, Arc::new(spec), files).await.map(Some)
    }

    async fn recover(&mut self, myself: &ActorRef<RootMessage>) {
        let (memories, whole) = Memory::load_all(self.session.places.runtime_dir());
        let known: Vec<String> = memories.iter().map(|(_, memory)| memory.key.clone()).collect();
        // What ends with the daemon does not end with a program that was replaced.
        let has_died = !self.session.processes.heart_said().await.is_ok_and(|said| said.replaced);
        for (path, mut memory) in memories {
            memory.end_with_daemon &= has_died;
            self.servers.remember(&memory);
            let (root, files) = (memory.root.clone(), memory.files());
            let loaded = load(&root, &files);
            self.orphans.insert(root, Orphan { path: path.clone(), memory });
            let taken = match loaded {
                Ok(spec) => self.project(myself, Arc::new(spec), files).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = taken {
                tracing::error!(path = %path.display(), error, "a run cannot be taken over yet");
            }
        }
        self.resume_servers();
        for stray in self.session.processes.list().await {
            // Whose memory cannot be read may be anybody: then nobody is taken for a stray.
            if whole && !known.contains(&stray.tag.project) {
                self.session.processes.discard(stray.key);
            }
        }
    }

    fn arm_idle(&mut self, myself: &ActorRef<RootMessage>) {
        self.disarm_idle();
        if let Some(after) = self.idle_after.filter(|_| self.clients == 0) {
            let myself = myself.clone();
            self.idle_timer = Some(self.tasks.spawn(async move {
                tokio::time::sleep(after).await;
                let _ = myself.cast(RootMessage::IdleCheck);
            }));
        }
    }

    fn disarm_idle(&mut self) {
        if let Some(timer) = self.idle_timer.take() {
            timer.abort();
        }
    }

    fn check_idle(&mut self, myself: &ActorRef<RootMessage>) {
        // Runs that wait for their configuration to be corrected live, and nobody else looks after them.
        if self.clients > 0 || self.shutdown.is_some() || !self.orphans.is_empty() {
            return;
        }
        let (myself, projects) = (myself.clone(), self.projects.values().cloned().collect::<Vec<_>>());
        self.tasks.spawn(async move {
            let active = futures::future::join_all(projects.iter().map(|project| async {
                let (reply, answer) = oneshot::channel();
                let _ = project.actor.cast(ProjectMessage::IsActive(reply.into()));
                answer.await.unwrap_or(false)
            }));
            let idle = !active.await.into_iter().any(|active| active);
            let _ = myself.cast(RootMessage::Idle(idle));
        });
    }

    fn shut_down(&mut self, myself: &ActorRef<RootMessage>, reply: RpcReplyPort<Escaped>) {
        if let Some(waiting) = &mut self.shutdown {
            return waiting.push(reply);
        }
        self.shutdown = Some(vec![reply]);
        let orphans = std::mem::take(&mut self.orphans).into_values().collect();
        let processes = self.session.processes.clone();
        let (myself, projects) = (myself.clone(), self.projects.values().cloned().collect::<Vec<_>>());
        let places = self.session.places.clone();
        self.tasks.spawn(async move {
            // What others use goes last.
            let (servers, users): (Vec<_>, Vec<_>) =
                projects.into_iter().partition(|project| is_server(&places, &project.root));
            let mut replies = all_down(&users).await;
            replies.extend(all_down(&servers).await);
            end_orphans(&processes, orphans).await;
            let _ = myself.cast(RootMessage::Down(replies));
        });
    }

    /// A shutdown that somebody is impatient about: every unit is killed, whatever its grace.
    fn hurry(&self) {
        if self.shutdown.is_none() {
            return;
        }
        tracing::info!("asked to end a second time: what is left is killed");
        for project in self.projects.values() {
            // The first `down` gets the answer that counts; nobody waits for this one.
            let (reply, _) = oneshot::channel();
            let order = DownOrder { units: Vec::new(), timeout: None, kill: true };
            let _ = project.actor.cast(ProjectMessage::Down(order, reply.into()));
        }
    }

    fn answer_shutdown(&mut self, replies: Vec<DownReply>) {
        let escaped: Escaped = replies.into_iter().flat_map(|reply| reply.escaped).collect();
        for reply in self.shutdown.take().into_iter().flatten() {
            let _ = reply.send(escaped.clone());
        }
    }

    fn parts(&self) -> Result<Parts, Refusal> {
        if self.shutdown.is_some() {
            return Err(shutting_down());
        }
        let Session { processes, pump, journal, .. } = self.session.clone();
        Ok(Parts { processes, pump, journal })
    }

    fn tell_heart_pid(&mut self, reply: RpcReplyPort<Option<u32>>) {
        let processes = self.session.processes.clone();
        self.tasks.spawn(async move {
            let _ = reply.send(processes.heart_pid().await);
        });
    }
}

async fn all_down(projects: &[Project]) -> Vec<DownReply> {
    let downs = futures::future::join_all(projects.iter().map(|project| async {
        let (reply, answer) = oneshot::channel();
        let order = DownOrder { units: Vec::new(), timeout: None, kill: false };
        let _ = project.actor.cast(ProjectMessage::Down(order, reply.into()));
        answer.await.ok().and_then(Result::ok)
    }));
    downs.await.into_iter().flatten().collect()
}

/// Ends the processes of runs that nobody could take over: asks first, then kills.
async fn end_orphans(processes: &Processes, orphans: Vec<Orphan>) {
    let held = processes.list().await;
    let is_orphan = |project: &str| orphans.iter().any(|orphan| orphan.memory.key == project);
    let mine: Vec<_> = held.iter().filter(|held| is_orphan(&held.tag.project)).collect();
    for held in &mine {
        processes.signal(held.key, nix::libc::SIGTERM, Scope::Group);
    }
    gone(mine.iter().filter_map(|held| Identity::of(held.pid)).collect(), ORPHANS_GRACE).await;
    for held in mine {
        processes.discard(held.key);
    }
    for orphan in orphans {
        // The run is over: the next daemon must not begin it anew.
        let _ = std::fs::remove_file(orphan.path);
    }
}

async fn take_over(project: &Project, memory: Memory) {
    let (reply, done) = oneshot::channel();
    let _ = project.actor.cast(ProjectMessage::Recover(Box::new(memory), reply.into()));
    // An error means that its actor is gone, which the root hears of anyway.
    let _ = done.await;
}

/// Reads a project's configuration. Blocks for as long as a few small files take.
pub(crate) fn load(root: &Path, files: &Files) -> Result<ProjectSpec, Diagnostics> {
    let source = config::discover(root, files.file.as_deref())?;
    let source = Source { user_config: files.user_config.clone(), ..source };
    config::load(&source).map(|loaded| loaded.spec)
}
