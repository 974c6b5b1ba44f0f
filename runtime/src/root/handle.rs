//! The root as others use it, and what it is told.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::log_stream::PumpHandle;
use envctl_actors::process::Processes;
use envctl_supervisors::Name;
use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::{oneshot, watch};

use super::actor::RootActor;
use super::shares::{Leased, Start};
use crate::control::wire::{DownReply, Refusal};
use crate::journal::{Journal, ProjectKey};
use crate::leases::Leases;
use crate::places::Places;
use crate::project::memory::Files;
use crate::project::supervisor::ProjectMessage;
use crate::spec::ProjectSpec;

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
