//! The session's process table: the daemon's side of heart.
//!
//! Unit actors ask it to spawn, signal and release; it answers with the exit of each process. Processes live here and in
//! heart, never in a unit actor's state: an actor that panics attaches again by tag. It never decides about a unit and
//! never waits in a handler.

mod care;
mod frames;
mod gone;
mod state;
mod tag;

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl_supervisors::reason::{ExitReason, StartError};
use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use super::command::Command;
use super::end::Proof;
use super::handover::HeartSaid;
use super::heart::wire::{Ending, FromHeart, Hold, Key};
use super::identity::Identity;
use super::spawn::SpawnError;
use super::sys::terminal::WindowSize;
use super::typing::Sent;
use gone::{Gone, KnownGone};

pub use care::Care;
pub use state::{State, TableActor};
pub use tag::{Role, Tag};

/// One look at `/proc` takes milliseconds; a process stuck in the kernel can make reading its environment hang.
const SCAN_WITHIN: Duration = Duration::from_secs(10);

/// A process to start.
#[derive(Debug)]
pub struct Order {
    /// What it is.
    pub tag: Tag,
    /// What is run.
    pub command: Arc<Command>,
    /// FIFO for standard output.
    pub out: PathBuf,
    /// FIFO for standard error.
    pub err: PathBuf,
    /// How it ends where no daemon asks it to.
    pub ending: Ending,
}

/// A process that an earlier heart started.
#[derive(Debug)]
pub struct Stray {
    /// What it is.
    pub tag: Tag,
    /// Who it is.
    pub identity: Identity,
    /// FIFO for standard output.
    pub out: PathBuf,
    /// FIFO for standard error.
    pub err: PathBuf,
    /// How it ends where no daemon asks it to.
    pub ending: Ending,
}

/// A started process.
#[derive(Debug)]
pub struct Spawned {
    /// Its number in the table.
    pub key: Key,
    /// Its pid, also its session's and its group's.
    pub pid: u32,
    /// What holds it within its limits.
    pub hold: Hold,
    /// Its end. An error means that the table is gone.
    pub exit: oneshot::Receiver<ExitReason>,
    /// When it started, if it was taken over from an earlier heart.
    pub adopted: Option<u64>,
    /// Dropped by whoever looks after it no longer: then it is anybody's who has its envelope or its FIFOs.
    pub care: Care,
}

/// Who a signal is for, from the narrowest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The main process.
    Main,
    /// Its whole process group.
    Group,
    /// Everything that belongs. The table itself reaches the group only; who belongs beside it is found by a scan.
    All,
}

/// The table as others use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Processes {
    actor: ActorRef<Message>,
    gone: KnownGone,
}

/// The table is gone: the session is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process table is gone")]
pub struct TableGone;

/// What the table is told.
#[derive(Debug)]
pub enum Message {
    /// Start a process.
    Spawn(Box<Order>, RpcReplyPort<Result<Spawned, SpawnError>>),
    /// Have heart look after a process that an earlier heart started.
    Adopt(Box<Stray>, RpcReplyPort<bool>),
    /// Take over a process that an earlier daemon or actor started.
    Attach(Tag, RpcReplyPort<Option<Spawned>>),
    /// Signal a process.
    Signal(Key, i32, Scope),
    /// Whether an ended process was killed because its memory limit was reached.
    WasOom(Key, RpcReplyPort<bool>),
    /// Type something on a process's terminal.
    Type(Tag, Vec<u8>, RpcReplyPort<Sent>),
    /// Give a process's terminal another size; answers whether it has one.
    Resize(Tag, WindowSize, RpcReplyPort<bool>),
    /// Its end has been dealt with: heart may reap it.
    Release(Key),
    /// Nobody looks after it: kill its group and let heart reap it.
    Discard(Key),
    /// Kill what serves a life of a unit; answers with those that were still alive.
    EndHelpers(Tag, RpcReplyPort<Vec<u32>>),
    /// Find what belongs to units.
    Scan(Proof, RpcReplyPort<Vec<Identity>>),
    /// Take the next scan.
    Look,
    /// A scan is through.
    Scanned,
    /// Which processes are held.
    List(RpcReplyPort<Vec<HeldProcess>>),
    /// Heart's pid.
    HeartPid(RpcReplyPort<Option<u32>>),
    /// What heart said of itself.
    HeartSaid(RpcReplyPort<HeartSaid>),
    /// Take up no start and no end any more; answered when those under way have been dealt with.
    Calm(RpcReplyPort<()>),
    /// Tell heart that this process becomes another program, by path; answered when nothing more comes from heart.
    HandOver(Vec<u8>, RpcReplyPort<()>),
    /// The program serves that took over from another.
    Keep,
    /// Heart has spoken.
    Heard(FromHeart),
    /// Heart is gone.
    HeartLost,
}

/// A process in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldProcess {
    /// Its number in the table.
    pub key: Key,
    /// What it is.
    pub tag: Tag,
    /// Its pid.
    pub pid: u32,
    /// Whether it has not ended yet.
    pub alive: bool,
}

// === impl Processes ===

impl Processes {
    /// Starts the table on a connection to heart, as a child of `supervisor`.
    pub async fn start(heart: StdUnixStream, supervisor: ractor::ActorCell) -> Result<Self, ractor::SpawnErr> {
        let gone = KnownGone::default();
        let (actor, _) = Actor::spawn_linked(None, TableActor, (heart, Gone::new(gone.clone())), supervisor).await?;
        Ok(Self { actor, gone })
    }

    /// Whether the table is gone, as a rule because heart is: an end that is heard of from now on may be none.
    pub fn is_gone(&self) -> bool {
        self.gone.is_set()
    }

    /// Starts a process.
    pub async fn spawn(&self, order: Order) -> Result<Spawned, SpawnError> {
        let gone = |_| StartError { message: TableGone.to_string(), hint: None, retry: false };
        let order = Box::new(order);
        self.ask(|reply| Message::Spawn(order, reply)).await.map_err(gone)?
    }

    /// Has heart look after a process that an earlier heart started, so that it can be attached to. `false`: it is gone.
    pub async fn adopt(&self, stray: Stray) -> bool {
        let stray = Box::new(stray);
        self.ask(|reply| Message::Adopt(stray, reply)).await.unwrap_or(false)
    }

    /// Takes over a held process.
    pub async fn attach(&self, tag: Tag) -> Result<Option<Spawned>, TableGone> {
        self.ask(|reply| Message::Attach(tag, reply)).await
    }

    /// Signals a process; one that is gone is no error.
    pub fn signal(&self, key: Key, signal: i32, scope: Scope) {
        // A table that is gone has nothing left to signal.
        let _ = self.actor.cast(Message::Signal(key, signal, scope));
    }

    /// Whether an ended process was killed because its memory limit was reached.
    pub async fn was_oom(&self, key: Key) -> bool {
        self.ask(|reply| Message::WasOom(key, reply)).await.unwrap_or(false)
    }

    /// Types on the terminal of a process; waits until it has taken everything.
    pub async fn type_in(&self, tag: Tag, bytes: Vec<u8>) -> Result<Sent, TableGone> {
        self.ask(|reply| Message::Type(tag, bytes, reply)).await
    }

    /// Gives the terminal of a process another size. `false`: it has none, or has ended.
    pub async fn resize(&self, tag: Tag, size: WindowSize) -> Result<bool, TableGone> {
        self.ask(|reply| Message::Resize(tag, size, reply)).await
    }

    /// Lets heart reap an ended process.
    pub fn release(&self, key: Key) {
        let _ = self.actor.cast(Message::Release(key));
    }

    /// Kills the group of a process that nobody looks after, and lets heart reap it.
    pub fn discard(&self, key: Key) {
        let _ = self.actor.cast(Message::Discard(key));
    }

    /// Kills the steps and probes of a life, whoever asked for them. Gives those that were still alive; none of their numbers is
    /// given to anybody else before they are released.
    pub async fn end_helpers(&self, life: Tag) -> Vec<u32> {
        self.ask(|reply| Message::EndHelpers(life, reply)).await.unwrap_or_default()
    }

    /// The living processes that belong to what the proof describes.
    pub async fn scan(&self, proof: Proof) -> Vec<Identity> {
        let scan = self.ask(|reply| Message::Scan(proof, reply));
        match tokio::time::timeout(SCAN_WITHIN, scan).await {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => {
                tracing::error!("a look at /proc hangs: what belongs is not known");
                let _ = self.actor.cast(Message::Scanned);
                Vec::new()
            }
        }
    }

    /// The processes held.
    pub async fn list(&self) -> Vec<HeldProcess> {
        self.ask(Message::List).await.unwrap_or_default()
    }

    /// Heart's pid, once it has greeted.
    pub async fn heart_pid(&self) -> Option<u32> {
        self.ask(Message::HeartPid).await.ok().flatten()
    }

    pub(super) fn tell(&self, message: Message) {
        // A table that is gone has nobody left to pass it on to.
        let _ = self.actor.cast(message);
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> Message,
    ) -> Result<T, TableGone> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(message(reply.into())).map_err(|_| TableGone)?;
        answer.await.map_err(|_| TableGone)
    }
}
