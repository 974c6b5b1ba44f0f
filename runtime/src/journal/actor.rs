//! The journal's actor: the one owner of every project's `events.jsonl` and derived files in a session.
//!
//! The projects send it [`JournalMessage::Append`] and [`JournalMessage::Snapshot`]; the gateway follows. Appending is one
//! plain `write(2)` into the page cache and is done in the handler; opening, syncing and derived files run on blocking
//! threads that report back. It never reads a journal to decide anything, and log bytes never come here.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use super::follow::Follower;
use super::project::{Derivation, OpenProject, Scopes};
use super::store::{JournalError, Recovery};
use super::views::Facts;
use crate::control::view::{EventView, ProjectView};
use crate::places::ProjectPlaces;
use crate::pulse::Pulse;

/// Derived files of a project are written at least this far apart.
pub const DERIVE_INTERVAL: Duration = Duration::from_millis(100);
/// Pause after a derivation, in times of what it took: a project of a thousand units that is just starting would else have half
/// a core write files that the next change makes old.
const DERIVE_PAUSE_FACTOR: u32 = 30;
/// The longest pause: whoever reads the files of a large project sees them at most so old.
const DERIVE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time between attempts to write events that the disk did not take.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Which project of the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectKey(Arc<str>);

/// What the journal is asked.
#[derive(Debug)]
pub enum JournalMessage {
    /// Open a project's journal, or learn that it is open; new facts replace the old ones.
    Open {
        /// Where it is.
        places: Box<ProjectPlaces>,
        /// What the derived files need to know.
        facts: Box<Facts>,
        /// What was found.
        reply: RpcReplyPort<Result<Recovery, JournalError>>,
    },
    /// Close it; its followers end after the last event.
    Close(ProjectKey),
    /// Something has happened. Number and time are given here.
    Append(ProjectKey, Box<EventView>),
    /// The project's state now. Only the newest is used.
    Snapshot(ProjectKey, watch::Receiver<ProjectView>),
    /// Follow the events.
    Subscribe(ProjectKey, RpcReplyPort<Option<Subscription>>),
    /// Answer when events and derived files are on disk.
    Sync(ProjectKey, RpcReplyPort<Result<(), JournalError>>),
    /// A blocking thread has opened a journal.
    #[doc(hidden)]
    Opened(Box<Opened>),
    /// All events have been taken that came at the same time.
    #[doc(hidden)]
    BurstOver,
    /// It is time to write derived files, or to try events again.
    #[doc(hidden)]
    Tick(ProjectKey),
    /// A blocking thread has written derived files, and that took so long.
    #[doc(hidden)]
    Derived(ProjectKey, Duration),
}

/// A place in the broadcast and the file to read before it.
#[derive(Debug)]
pub struct Subscription {
    path: std::path::PathBuf,
    live: broadcast::Receiver<EventView>,
}

/// A journal that was opened on a blocking thread.
#[derive(Debug)]
pub struct Opened {
    key: ProjectKey,
    result: Result<(OpenProject, Recovery), JournalError>,
    reply: OpenReply,
}

type OpenReply = RpcReplyPort<Result<Recovery, JournalError>>;

/// The actor.
#[derive(Debug, Default)]
pub struct JournalActor;

/// The actor's state.
#[derive(Debug)]
pub struct JournalState {
    projects: HashMap<ProjectKey, OpenProject>,
    /// Projects that are being opened, with those who asked meanwhile.
    opening: HashMap<ProjectKey, Vec<(ProjectPlaces, Facts, OpenReply)>>,
    scopes: Scopes,
    tasks: TaskTracker,
    /// Events are coming that others wait behind.
    in_burst: bool,
}

/// The way to the actor.
#[derive(Debug, Clone)]
pub struct Journal {
    actor: ActorRef<JournalMessage>,
    pulse: Pulse,
}

// === impl ProjectKey ===

impl From<&ProjectPlaces> for ProjectKey {
    fn from(places: &ProjectPlaces) -> Self {
        Self(places.key().into())
    }
}

impl fmt::Display for ProjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Journal ===

impl Journal {
    /// Starts the actor under `supervisor`.
    pub async fn start_linked(supervisor: ActorCell) -> Result<(Self, JoinHandle<()>), SpawnErr> {
        let (actor, task) = Actor::spawn_linked(None, JournalActor, (), supervisor).await?;
        Ok((Self { actor, pulse: Pulse::default() }, task))
    }

    /// Starts the actor by itself.
    pub async fn start() -> Result<(Self, JoinHandle<()>), SpawnErr> {
        let (actor, task) = Actor::spawn(None, JournalActor, ()).await?;
        Ok((Self { actor, pulse: Pulse::default() }, task))
    }

    /// Beats with every event, and with whatever else is done in the session.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The actor, for supervision.
    pub fn actor(&self) -> &ActorRef<JournalMessage> {
        &self.actor
    }

    /// Opens a project's journal. Asking again is fine, and how changed facts are told.
    pub async fn open(&self, places: &ProjectPlaces, facts: Facts) -> Result<(ProjectKey, Recovery), JournalError> {
        let (places, facts) = (Box::new(places.clone()), Box::new(facts));
        let key = ProjectKey::from(&*places);
        let recovery = self.call(|reply| JournalMessage::Open { places, facts, reply }).await??;
        Ok((key, recovery))
    }

    /// Closes a project's journal; what was sent before is written.
    pub fn close(&self, key: &ProjectKey) {
        self.send(JournalMessage::Close(key.clone()));
    }

    /// Records an event.
    pub fn append(&self, key: &ProjectKey, event: impl Into<EventView>) {
        self.pulse.beat();
        self.send(JournalMessage::Append(key.clone(), Box::new(event.into())));
    }

    /// Tells that a project's state has changed, for the derived files, which are made of what it is when they are written.
    /// Views are not sent: a thousand of them may be told before one is written.
    pub fn snapshot(&self, key: &ProjectKey, project: watch::Receiver<ProjectView>) {
        self.send(JournalMessage::Snapshot(key.clone(), project));
    }

    /// Waits until everything sent before is on disk, derived files included: at the end of `up` and `down`.
    pub async fn sync(&self, key: &ProjectKey) -> Result<(), JournalError> {
        self.call(|reply| JournalMessage::Sync(key.clone(), reply)).await?
    }

    /// The events after number `after` (0: all), then those that come.
    pub async fn follow(&self, key: &ProjectKey, after: u64) -> Result<Follower, JournalError> {
        let subscription = self.call(|reply| JournalMessage::Subscribe(key.clone(), reply)).await?;
        let Subscription { path, live } = subscription.ok_or_else(|| not_open(key))?;
        Follower::new(&path, live, after).map_err(|source| JournalError::Io { path, source })
    }

    async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> JournalMessage,
    ) -> Result<T, JournalError> {
        match self.actor.call(message, None).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => Err(JournalError::Gone),
        }
    }

    fn send(&self, message: JournalMessage) {
        // A journal that has ended is its supervisor's business; the sender has nothing better to do than go on.
        if let Err(error) = self.actor.send_message(message) {
            tracing::warn!(%error, "the journal was not reached");
        }
    }
}

fn not_open(key: &ProjectKey) -> JournalError {
    JournalError::NotOpen { project: key.to_string() }
}

// === impl Actor for JournalActor ===

impl Actor for JournalActor {
    type Msg = JournalMessage;
    type State = JournalState;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Self::Msg>, _: ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(JournalState {
            projects: HashMap::new(),
            opening: HashMap::new(),
            scopes: Scopes::default(),
            tasks: TaskTracker::new(),
            in_burst: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JournalMessage::Open { places, facts, reply } => state.open(&myself, *places, *facts, reply),
            JournalMessage::Opened(opened) => state.opened(&myself, *opened),
            JournalMessage::Close(key) => state.close(&key),
            JournalMessage::Append(key, event) => {
                if !std::mem::replace(&mut state.in_burst, true) {
                    // What is told of goes on first, and what is told with it is written in the same breath.
                    let _ = myself.cast(JournalMessage::BurstOver);
                    tokio::task::yield_now().await;
                }
                state.append(&myself, &key, *event);
            }
            JournalMessage::BurstOver => state.in_burst = false,
            JournalMessage::Snapshot(key, project) => state.snapshot(&myself, &key, project),
            JournalMessage::Subscribe(key, reply) => answer(reply, state.subscribe(&key)),
            JournalMessage::Sync(key, reply) => state.sync(&key, reply),
            JournalMessage::Tick(key) => state.tick(&myself, &key),
            JournalMessage::Derived(key, took) => state.derived(&myself, &key, took),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        let keys: Vec<ProjectKey> = state.projects.keys().cloned().collect();
        for key in keys {
            state.close(&key);
        }
        state.tasks.close();
        state.tasks.wait().await;
        Ok(())
    }
}

// === impl JournalState ===

impl JournalState {
    fn open(&mut self, myself: &ActorRef<JournalMessage>, places: ProjectPlaces, facts: Facts, reply: OpenReply) {
        let key = ProjectKey::from(&places);
        if let Some(project) = self.projects.get_mut(&key) {
            project.describe(facts);
            return answer(reply, Ok(Recovery::default()));
        }
        // Opening repairs the file: two at a time would undo each other.
        if let Some(waiting) = self.opening.get_mut(&key) {
            return waiting.push((places, facts, reply));
        }
        self.opening.insert(key.clone(), Vec::new());
        let (myself, scopes) = (myself.clone(), self.scopes.clone());
        self.tasks.spawn_blocking(move || {
            let result = make_dir(&places).and_then(|()| OpenProject::open(places, facts, scopes));
            // Only an actor that has ended does not take it: then nobody waits for the answer either.
            let _ = myself.send_message(JournalMessage::Opened(Box::new(Opened { key, result, reply })));
        });
    }

    fn opened(&mut self, myself: &ActorRef<JournalMessage>, Opened { key, result, reply }: Opened) {
        let waiting = self.opening.remove(&key).unwrap_or_default();
        let recovery = result.map(|(project, recovery)| {
            self.projects.insert(key, project);
            recovery
        });
        answer(reply, recovery);
        for (places, facts, reply) in waiting {
            self.open(myself, places, facts, reply);
        }
    }

    /// Forgets a project; what was told of it is made durable beside.
    fn close(&mut self, key: &ProjectKey) {
        let Some(mut project) = self.projects.remove(key) else { return };
        project.retry();
        let (derivation, log, key) = (project.derive(), project.log_file(), key.clone());
        self.tasks.spawn_blocking(move || {
            if let Err(error) = make_durable(derivation, &log) {
                tracing::warn!(project = %key, %error, "the journal could not be made durable");
            }
        });
    }

    fn append(&mut self, myself: &ActorRef<JournalMessage>, key: &ProjectKey, event: EventView) {
        let Some(project) = self.projects.get_mut(key) else {
            tracing::warn!(project = %key, event = event.event, "an event of a project whose journal is not open");
            return;
        };
        project.append(event);
        if project.has_fault() && project.arm() {
            myself.send_after(RETRY_INTERVAL, tick(key));
        }
    }

    fn snapshot(&mut self, myself: &ActorRef<JournalMessage>, key: &ProjectKey, view: watch::Receiver<ProjectView>) {
        let Some(project) = self.projects.get_mut(key) else { return };
        project.snapshot(view);
        if project.arm() {
            myself.send_after(DERIVE_INTERVAL, tick(key));
        }
    }

    fn subscribe(&self, key: &ProjectKey) -> Option<Subscription> {
        let (path, live) = self.projects.get(key)?.subscribe();
        Some(Subscription { path, live })
    }

    fn sync(&mut self, key: &ProjectKey, reply: RpcReplyPort<Result<(), JournalError>>) {
        let Some(project) = self.projects.get_mut(key) else { return answer(reply, Err(not_open(key))) };
        project.retry();
        let (derivation, log, fault) = (project.derive(), project.log_file(), project.fault());
        let key = key.clone();
        self.tasks.spawn_blocking(move || {
            let synced = make_durable(derivation, &log).map_err(|error| error.to_string());
            let result = fault.map_or(synced, Err);
            let project = key.to_string();
            answer(reply, result.map_err(|reason| JournalError::Unwritten { project, reason }));
        });
    }

    fn tick(&mut self, myself: &ActorRef<JournalMessage>, key: &ProjectKey) {
        let Some(project) = self.projects.get_mut(key) else { return };
        project.disarm();
        project.retry();
        if project.has_fault() && project.arm() {
            myself.send_after(RETRY_INTERVAL, tick(key));
        }
        if let Some(derivation) = project.derive_in_turn() {
            self.write(myself, key, derivation);
        }
    }

    fn derived(&mut self, myself: &ActorRef<JournalMessage>, key: &ProjectKey, took: Duration) {
        let Some(project) = self.projects.get_mut(key) else { return };
        if project.derivation_ended() && project.arm() {
            myself.send_after(pause_after(took), tick(key));
        }
    }

    fn write(&self, myself: &ActorRef<JournalMessage>, key: &ProjectKey, derivation: Derivation) {
        let (myself, key) = (myself.clone(), key.clone());
        self.tasks.spawn_blocking(move || {
            let begun = Instant::now();
            if let Err(error) = derivation.write(super::Durability::Unsynced) {
                tracing::warn!(project = %key, %error, "derived files cannot be written");
            }
            drop(derivation);
            let _ = myself.send_message(JournalMessage::Derived(key, begun.elapsed()));
        });
    }
}

fn make_durable(derivation: Option<Derivation>, log: &File) -> io::Result<()> {
    derivation.map_or(Ok(()), |derivation| derivation.write(super::Durability::Synced))?;
    log.sync_data()
}

/// How long the next derivation waits after one that took so long.
pub(super) fn pause_after(took: Duration) -> Duration {
    (took * DERIVE_PAUSE_FACTOR).clamp(DERIVE_INTERVAL, DERIVE_PAUSE_MAX)
}

fn tick(key: &ProjectKey) -> impl FnOnce() -> JournalMessage + Send + 'static {
    let key = key.clone();
    move || JournalMessage::Tick(key)
}

fn answer<T>(reply: RpcReplyPort<T>, value: T) {
    // Whoever asked may have gone.
    let _ = reply.send(value);
}

fn make_dir(places: &ProjectPlaces) -> Result<(), JournalError> {
    let path = places.dir();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| JournalError::Io { path, source })
}
