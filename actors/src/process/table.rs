//! The session's process table: the daemon's side of heart.
//!
//! Unit actors ask it to spawn, signal and release; it answers with the exit of each process. Processes live here and in
//! heart, never in a unit actor's state: an actor that panics attaches again by tag. It never decides about a unit and
//! never waits in a handler.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::reason::{ExitReason, StartError};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::command::Command;
use super::end::{Batch, Proof};
use super::handover::{Handover, HeartSaid};
use super::heart::wire::{Adoption, Ending, FromHeart, Held, Hold, Inbox, Key, ToHeart, VERSION, encode};
use super::identity::Identity;
use super::spawn::{self, SpawnError};
use super::sys::child::WaitStatus;
use super::sys::terminal::WindowSize;
use super::typing::{Sent, Typing};

/// Frames waiting for heart; heart reads at once, so a full queue means that it hangs.
const HEART_QUEUE_MAX: usize = 4096;
const READ_BYTES: usize = 64 * 1024;
/// One look at `/proc` takes milliseconds; a process stuck in the kernel can make reading its environment hang.
const SCAN_WITHIN: Duration = Duration::from_secs(10);

/// What a process is to the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The project's key in the session.
    pub project: String,
    /// The unit.
    pub unit: Name,
    /// The unit's life.
    pub incarnation: u32,
    /// What it does for the unit.
    pub role: Role,
}

/// What a process does for its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is the unit.
    Main,
    /// It prepares the unit (`initdb`).
    Step,
    /// It asks about the unit's health.
    Probe,
}

/// A process to start.
#[derive(Debug)]
pub struct Order {
    /// What it is.
    pub tag: Tag,
    /// What is run.
    pub command: Command,
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
    /// Find what belongs to units.
    Scan(Proof, RpcReplyPort<Vec<Identity>>),
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

/// The actor.
#[derive(Debug)]
pub struct TableActor;

/// Its state.
#[derive(Debug)]
pub struct State {
    to_heart: mpsc::Sender<Vec<u8>>,
    heart_pid: Option<u32>,
    heart_said: HeartSaid,
    handover: Handover,
    /// What came before heart's greeting, which tells what is held; taken up after it.
    early: Vec<Message>,
    next_key: Key,
    entries: BTreeMap<Key, Entry>,
    starting: BTreeMap<Key, Starting>,
    adopting: BTreeMap<Key, Adopting>,
    /// Whether heart can give a process a terminal.
    terminals: bool,
    typing: Typing,
    scans: Batch,
    /// Reader and writer of heart's connection, and the running scan; ended with the actor.
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Entry {
    tag: Tag,
    pid: u32,
    adopted: Option<u64>,
    exit: Option<ExitReason>,
    hold: Hold,
    waiting: Option<oneshot::Sender<ExitReason>>,
    terminal: Option<PathBuf>,
}

#[derive(Debug)]
struct Starting {
    tag: Tag,
    command: Command,
    reply: RpcReplyPort<Result<Spawned, SpawnError>>,
}

#[derive(Debug)]
struct Adopting {
    tag: Tag,
    start_time: u64,
    reply: RpcReplyPort<bool>,
}

// === impl Processes ===

impl Processes {
    /// Starts the table on a connection to heart, as a child of `supervisor`.
    pub async fn start(heart: StdUnixStream, supervisor: ractor::ActorCell) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, TableActor, heart, supervisor).await?;
        Ok(Self { actor })
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

// === impl Tag ===

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Main => "main",
            Role::Step => "step",
            Role::Probe => "probe",
        };
        write!(f, "{}#{}#{}#{role}", self.project, self.unit, self.incarnation)
    }
}

impl FromStr for Tag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("not a tag: {text:?}");
        let mut parts = text.rsplitn(4, '#');
        let role = match parts.next() {
            Some("main") => Role::Main,
            Some("step") => Role::Step,
            Some("probe") => Role::Probe,
            _ => return Err(bad()),
        };
        let incarnation = parts.next().and_then(|part| part.parse().ok()).ok_or_else(bad)?;
        let unit = parts.next().and_then(|part| Name::new(part).ok()).ok_or_else(bad)?;
        let project = parts.next().ok_or_else(bad)?.to_owned();
        Ok(Self { project, unit, incarnation, role })
    }
}

// === impl TableActor ===

impl Actor for TableActor {
    type Msg = Message;
    type State = State;
    type Arguments = StdUnixStream;

    async fn pre_start(&self, myself: ActorRef<Message>, heart: StdUnixStream) -> Result<State, ActorProcessingErr> {
        heart.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(heart)?.into_split();
        let (to_heart, queue) = mpsc::channel(HEART_QUEUE_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(write_frames(write, queue));
        tasks.spawn(read_frames(read, myself));
        Ok(State {
            to_heart,
            heart_pid: None,
            heart_said: HeartSaid::default(),
            handover: Handover::default(),
            early: Vec::new(),
            next_key: 1,
            entries: BTreeMap::new(),
            starting: BTreeMap::new(),
            adopting: BTreeMap::new(),
            terminals: false,
            typing: Typing::default(),
            scans: Batch::default(),
            tasks,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(message) = state.hold_back(message) else { return Ok(()) };
        match message {
            Message::Spawn(..)
            | Message::Adopt(..)
            | Message::Attach(..)
            | Message::Type(..)
            | Message::Resize(..)
            | Message::List(_)
            | Message::HeartPid(_)
            | Message::HeartSaid(_)
                if state.heart_pid.is_none() =>
            {
                state.early.push(message);
            }
            Message::Spawn(order, reply) => state.spawn(*order, reply),
            Message::Adopt(stray, reply) => state.adopt(*stray, reply),
            Message::Attach(tag, reply) => drop(reply.send(state.attach(&tag))),
            Message::Signal(key, signal, scope) => {
                state.order(&ToHeart::Signal { key, signal, group: scope != Scope::Main });
            }
            Message::WasOom(key, reply) => {
                let _ = reply.send(state.entries.get(&key).is_some_and(|entry| entry.hold.oom));
            }
            Message::Type(tag, bytes, reply) => state.type_in(&tag, bytes, reply),
            Message::Resize(tag, size, reply) => drop(reply.send(state.resize(&tag, size))),
            Message::Release(key) => state.release(key),
            Message::Discard(key) => state.discard(key),
            Message::Scan(mut proof, reply) => {
                state.add_terminal(&mut proof);
                state.scans.push(proof, reply);
                state.scan(myself);
            }
            Message::Scanned => {
                state.scans.finished();
                state.scan(myself);
            }
            Message::List(reply) => drop(reply.send(state.list())),
            Message::HeartPid(reply) => drop(reply.send(state.heart_pid)),
            Message::HeartSaid(reply) => drop(reply.send(state.heart_said.clone())),
            Message::Calm(reply) => state.handover = Handover::Calming(reply),
            Message::HandOver(program, reply) => state.hand_over(program, reply),
            Message::Keep => state.order(&ToHeart::Keep),
            Message::Heard(heard) => {
                state.hear(heard);
                for message in std::mem::take(&mut state.early) {
                    myself.cast(message)?;
                }
            }
            Message::HeartLost => return Err("heart is gone".into()),
        }
        state.tell_calm();
        // Finished tasks are only counted out here; none of them returns anything.
        while state.tasks.try_join_next().is_some() {}
        Ok(())
    }
}

// === impl State ===

impl State {
    fn spawn(&mut self, order: Order, reply: RpcReplyPort<Result<Spawned, SpawnError>>) {
        let key = self.next_key;
        self.next_key += 1;
        let Order { tag, command, out, err, ending } = order;
        match spawn::order(key, tag.to_string(), &command, &out, &err) {
            Ok(order) if order.tty.is_some() && !self.terminals => drop(reply.send(Err(spawn::no_terminals().into()))),
            Ok(mut order) => {
                order.ending = ending;
                self.starting.insert(key, Starting { tag, command, reply });
                if let Err(message) = self.send(&ToHeart::Spawn(Box::new(order)))
                    && let Some(starting) = self.starting.remove(&key)
                {
                    let _ = starting.reply.send(Err(StartError { message, hint: None, retry: true }.into()));
                }
            }
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    fn adopt(&mut self, stray: Stray, reply: RpcReplyPort<bool>) {
        let key = self.next_key;
        self.next_key += 1;
        let Stray { tag, identity, out, err, ending } = stray;
        let Identity { pid, start_time, .. } = identity;
        let path = |path: &Path| ByteBuf::from(path.as_os_str().as_bytes());
        let (out, err) = (path(&out), path(&err));
        let order = Adoption { key, tag: tag.to_string(), pid, start_time, out, err, ending };
        self.adopting.insert(key, Adopting { tag, start_time, reply });
        if let Err(error) = self.send(&ToHeart::Adopt(Box::new(order))) {
            tracing::error!(error, "a process cannot be taken over");
            // Dropped without an answer: it counts as gone.
            self.adopting.remove(&key);
        }
    }

    fn attach(&mut self, tag: &Tag) -> Option<Spawned> {
        let (key, entry) = self.entries.iter_mut().find(|(_, entry)| entry.tag == *tag)?;
        let (waiting, exit) = oneshot::channel();
        match entry.exit.clone() {
            Some(reason) => drop(waiting.send(reason)),
            None => entry.waiting = Some(waiting),
        }
        let Entry { pid, adopted, .. } = *entry;
        Some(Spawned { key: *key, pid, hold: entry.hold.clone(), exit, adopted })
    }

    /// Passes a message on, unless it has to wait for the next program or is for nobody any more.
    fn hold_back(&mut self, message: Message) -> Option<Message> {
        let message = self.handover.pass(message)?;
        if self.handover.is_on() && matches!(message, Message::Spawn(..)) {
            // Never answered: whoever asked ends with this program, and the next one starts what is wanted.
            self.early.push(message);
            return None;
        }
        Some(message)
    }

    fn tell_calm(&mut self) {
        if self.starting.is_empty() && self.entries.values().all(|entry| entry.exit.is_none()) {
            self.handover.calm();
        }
    }

    fn hand_over(&mut self, program: Vec<u8>, reply: RpcReplyPort<()>) {
        self.order(&ToHeart::HandOver { program: program.into() });
        self.handover = Handover::Asked(reply);
    }

    fn type_in(&mut self, tag: &Tag, bytes: Vec<u8>, reply: RpcReplyPort<Sent>) {
        let Some(key) = self.terminal_of(tag) else { return drop(reply.send(Sent::NoTerminal)) };
        let number = self.typing.begin(reply);
        if let Err(error) = self.send(&ToHeart::Type { key, number, bytes: bytes.into() }) {
            tracing::error!(error, "heart cannot be told");
            self.typing.answered(number, false);
        }
    }

    fn resize(&mut self, tag: &Tag, size: WindowSize) -> bool {
        let Some(key) = self.terminal_of(tag) else { return false };
        self.order(&ToHeart::Resize { key, size });
        true
    }

    fn terminal_of(&self, tag: &Tag) -> Option<Key> {
        let is = |entry: &Entry| entry.tag == *tag && entry.exit.is_none() && entry.terminal.is_some();
        self.entries.iter().find(|(_, entry)| is(entry)).map(|(key, _)| *key)
    }

    /// Whoever has a unit's terminal open belongs to it, as whoever has its FIFO open.
    fn add_terminal(&self, proof: &mut Proof) {
        let of_leader = self.entries.values().find(|entry| Some(entry.pid) == proof.leader);
        proof.fifos.extend(of_leader.and_then(|entry| entry.terminal.clone()));
    }

    fn release(&mut self, key: Key) {
        if self.entries.remove(&key).is_some() {
            self.order(&ToHeart::Ack { key });
        }
    }

    fn discard(&mut self, key: Key) {
        let Some(entry) = self.entries.get(&key) else { return };
        tracing::warn!(tag = %entry.tag, pid = entry.pid, "a process that nobody looks after is ended");
        self.order(&ToHeart::Signal { key, signal: nix::libc::SIGKILL, group: true });
        // Not seen to end yet, it is reaped by heart when it does.
        self.release(key);
    }

    fn list(&self) -> Vec<HeldProcess> {
        let held = |(key, entry): (&Key, &Entry)| HeldProcess {
            key: *key,
            tag: entry.tag.clone(),
            pid: entry.pid,
            alive: entry.exit.is_none(),
        };
        self.entries.iter().map(held).collect()
    }

    fn hear(&mut self, heard: FromHeart) {
        match heard {
            FromHeart::Hello { version, pid, held, build, rescued, terminals, replaced } => {
                self.heart_said = HeartSaid { version, build, rescued, replaced };
                self.terminals = terminals;
                self.greet(version, pid, held);
            }
            FromHeart::HandingOver => self.handover.heard(),
            FromHeart::Spawned { key, pid, hold, terminal } => self.spawned(key, pid, hold, terminal),
            FromHeart::Typed { number, taken, .. } => self.typing.answered(number, taken),
            FromHeart::SpawnFailed { key, errno, step } => {
                if let Some(adopting) = self.adopting.remove(&key) {
                    tracing::info!(tag = %adopting.tag, errno, ?step, "a process of an earlier heart is gone");
                    let _ = adopting.reply.send(false);
                }
                if let Some(starting) = self.starting.remove(&key) {
                    let error = spawn::refused(&starting.command, errno, step);
                    let _ = starting.reply.send(Err(error));
                }
            }
            FromHeart::Exited { key, status, oom } => self.exited(key, status, oom),
        }
    }

    fn greet(&mut self, version: u32, pid: u32, held: Vec<Held>) {
        if version != VERSION {
            tracing::warn!(version, ours = VERSION, "heart speaks another version");
        }
        self.heart_pid = Some(pid);
        for held in held {
            self.next_key = self.next_key.max(held.key + 1);
            match held.tag.parse() {
                Ok(tag) => {
                    let exit = held.exit.map(reason);
                    let (adopted, hold) = (held.adopted, held.hold.unwrap_or_default());
                    let (pid, waiting, terminal) = (held.pid, None, held.terminal);
                    let entry = Entry { tag, pid, adopted, exit, hold, waiting, terminal };
                    self.entries.insert(held.key, entry);
                }
                Err(error) => tracing::error!(error, pid = held.pid, "heart holds a process that nobody knows"),
            }
        }
    }

    fn spawned(&mut self, key: Key, pid: u32, hold: Option<Hold>, terminal: Option<PathBuf>) {
        if let Some(Adopting { tag, start_time, reply }) = self.adopting.remove(&key) {
            let (adopted, hold) = (Some(start_time), hold.unwrap_or_default());
            self.entries.insert(key, Entry { tag, pid, adopted, exit: None, hold, waiting: None, terminal });
            return drop(reply.send(true));
        }
        let Some(starting) = self.starting.remove(&key) else { return };
        let hold = hold.unwrap_or_else(|| unheard(&starting.command));
        let (waiting, exit) = oneshot::channel();
        let helper = starting.tag.role != Role::Main;
        let (tag, waiting) = (starting.tag, Some(waiting));
        let entry = Entry { tag, pid, adopted: None, exit: None, hold: hold.clone(), waiting, terminal };
        self.entries.insert(key, entry);
        // Who asked for a main process and is gone attaches again by tag; a step or a probe is of no use to anybody else.
        if starting.reply.send(Ok(Spawned { key, pid, hold, exit, adopted: None })).is_err() && helper {
            self.discard(key);
        }
    }

    fn exited(&mut self, key: Key, status: WaitStatus, oom: bool) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.hold.oom |= oom;
        let reason = reason(status);
        entry.exit = Some(reason.clone());
        if let Some(waiting) = entry.waiting.take() {
            let _ = waiting.send(reason);
        }
    }

    fn scan(&mut self, myself: ActorRef<Message>) {
        let spare = self.heart_pid.into_iter().chain([std::process::id()]).collect();
        if let Some(scan) = self.scans.next(spare) {
            self.tasks.spawn_blocking(move || {
                scan.run();
                let _ = myself.cast(Message::Scanned);
            });
        }
    }

    fn order(&mut self, message: &ToHeart) {
        if let Err(error) = self.send(message) {
            tracing::error!(error, "heart cannot be told");
        }
    }

    fn send(&mut self, message: &ToHeart) -> Result<(), String> {
        let frame = encode(message).map_err(|error| format!("tell heart: {error}"))?;
        self.to_heart.try_send(frame).map_err(|error| format!("tell heart: {error}"))
    }
}

async fn write_frames(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = write.write_all(&frame).await {
            tracing::error!(%error, "heart cannot be told");
            return;
        }
    }
}

async fn read_frames(mut read: OwnedReadHalf, table: ActorRef<Message>) {
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        inbox.feed(&buffer[..count]);
        if let Err(error) = hand_on(&mut inbox, &table) {
            tracing::error!(%error, "heart cannot be understood");
            break;
        }
    }
    let _ = table.cast(Message::HeartLost);
}

fn hand_on(inbox: &mut Inbox, table: &ActorRef<Message>) -> io::Result<()> {
    while let Some(heard) = inbox.take().map_err(io::Error::other)? {
        table.cast(Message::Heard(heard)).map_err(io::Error::other)?;
    }
    Ok(())
}

/// A heart that says nothing of limits that were asked for is older than they are.
fn unheard(command: &Command) -> Hold {
    let missing = match command.limits.are_shared() {
        true => vec!["limits are not in force: heart is older than they are; `envctl daemon stop` ends it".to_owned()],
        false => Vec::new(),
    };
    Hold { missing, ..Hold::default() }
}

fn reason(status: WaitStatus) -> ExitReason {
    match status {
        WaitStatus::Code(code) => ExitReason::Code(code),
        WaitStatus::Signal(number, core) => ExitReason::Signal { number, core },
        WaitStatus::Unknown => ExitReason::Unknown("it had been taken over, and the kernel does not tell".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_way_to_heart_and_back() {
        let tag = Tag {
            project: "repo-0123456789ab/feature#1".to_owned(),
            unit: Name::new("api").unwrap(),
            incarnation: 12,
            role: Role::Probe,
        };
        assert_eq!(tag.to_string().parse(), Ok(tag));
        assert!("a#b".parse::<Tag>().is_err());
    }
}
