//! The table's actor: what is held, what is on its way, and what is done about each word of heart's.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl_supervisors::reason::{ExitReason, StartError};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_bytes::ByteBuf;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::care::{Cared, Discarded};
use super::frames::{Outlet, read_frames};
use super::gone::Gone;
use super::{HeldProcess, Message, Order, Role, Scope, Spawned, Stray, Tag};
use crate::process::command::Command;
use crate::process::end::{Batch, Leader, Proof};
use crate::process::handover::{Handover, HeartSaid};
use crate::process::heart::wire::{Adoption, FromHeart, Held, Hold, Key, ToHeart, VERSION, encode};
use crate::process::identity::Identity;
use crate::process::spawn::{self, SpawnError};
use crate::process::sys::child::WaitStatus;
use crate::process::sys::terminal::WindowSize;
use crate::process::typing::{Sent, Typing};

/// The actor.
#[derive(Debug)]
pub struct TableActor;

/// Its state.
#[derive(Debug)]
pub struct State {
    /// Stands first, so that nobody hears of a dropped entry before this says why.
    gone: Gone,
    myself: ActorRef<Message>,
    to_heart: Outlet,
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
    /// It has ended, and left nobody who could be signalled.
    alone: bool,
    cared: Cared,
    waiting: Option<oneshot::Sender<ExitReason>>,
    terminal: Option<PathBuf>,
}

#[derive(Debug)]
struct Starting {
    tag: Tag,
    command: Arc<Command>,
    reply: RpcReplyPort<Result<Spawned, SpawnError>>,
    /// Its unit has ended while it is being made.
    is_unwanted: bool,
}

#[derive(Debug)]
struct Adopting {
    tag: Tag,
    start_time: u64,
    reply: RpcReplyPort<bool>,
}

// === impl TableActor ===

impl Actor for TableActor {
    type Msg = Message;
    type State = State;
    type Arguments = (StdUnixStream, Gone);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (heart, gone): (StdUnixStream, Gone),
    ) -> Result<State, ActorProcessingErr> {
        heart.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(heart)?.into_split();
        let (to_heart, writing) = Outlet::new(write, gone.known());
        let mut tasks = JoinSet::new();
        tasks.spawn(writing);
        tasks.spawn(read_frames(read, myself.clone()));
        Ok(State {
            gone,
            myself,
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
            Message::Signal(key, signal, scope) => state.signal(key, signal, scope),
            Message::WasOom(key, reply) => {
                let _ = reply.send(state.entries.get(&key).is_some_and(|entry| entry.hold.oom));
            }
            Message::Type(tag, bytes, reply) => state.type_in(&tag, bytes, reply),
            Message::Resize(tag, size, reply) => drop(reply.send(state.resize(&tag, size))),
            Message::Release(key) => state.release(key),
            Message::Discard(key) => state.discard(key),
            Message::EndHelpers(tag, reply) => drop(reply.send(state.end_helpers(&tag))),
            Message::Scan(mut proof, reply) => {
                state.add_terminal(&mut proof);
                if state.scans.push(proof, reply) {
                    state.scan_soon(myself);
                }
            }
            Message::Look => state.scan(myself),
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
            Message::HeartLost => {
                state.gone.known().set();
                return Err("heart is gone".into());
            }
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
                self.starting.insert(key, Starting { tag, command, reply, is_unwanted: false });
                if let Err(message) = self.send(&ToHeart::Spawn(Box::new(order)))
                    && let Some(starting) = self.starting.remove(&key)
                {
                    let _ = starting.reply.send(Err(StartError { message, hint: None, retry: true }.into()));
                }
            }
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// Heart is not woken for a process that has ended and left nobody: its successor is asked for in a moment.
    fn signal(&mut self, key: Key, signal: i32, scope: Scope) {
        if self.entries.get(&key).is_none_or(|entry| !entry.alone) {
            self.order(&ToHeart::Signal { key, signal, group: scope != Scope::Main });
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
        Some(Spawned { key: *key, pid, hold: entry.hold.clone(), exit, adopted, care: entry.cared.hand_over() })
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

    /// Kills what serves a life that has ended. Gives those that were still alive.
    fn end_helpers(&mut self, life: &Tag) -> Vec<u32> {
        let serves = |tag: &Tag| tag.role != Role::Main && tag.is_of_life(life);
        self.starting.values_mut().filter(|starting| serves(&starting.tag)).for_each(|it| it.is_unwanted = true);
        let mine = self.entries.iter().filter(|(_, entry)| serves(&entry.tag) && entry.exit.is_none());
        let found: Vec<(Key, u32)> = mine.map(|(key, entry)| (*key, entry.pid)).collect();
        for (key, _) in &found {
            self.order(&ToHeart::Signal { key: *key, signal: nix::libc::SIGKILL, group: true });
        }
        found.into_iter().map(|(_, pid)| pid).collect()
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
            FromHeart::Exited { key, status, oom, alone } => self.exited(key, status, (oom, alone)),
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
                    let (pid, alone, waiting, terminal) = (held.pid, false, None, held.terminal);
                    let cared = Cared::default();
                    let entry = Entry { tag, pid, adopted, exit, hold, alone, cared, waiting, terminal };
                    self.entries.insert(held.key, entry);
                }
                Err(error) => tracing::error!(error, pid = held.pid, "heart holds a process that nobody knows"),
            }
        }
    }

    fn spawned(&mut self, key: Key, pid: u32, hold: Option<Hold>, terminal: Option<PathBuf>) {
        if let Some(Adopting { tag, start_time, reply }) = self.adopting.remove(&key) {
            let (adopted, hold) = (Some(start_time), hold.unwrap_or_default());
            self.entries.insert(
                key,
                Entry {
                    tag,
                    pid,
                    adopted,
                    exit: None,
                    hold,
                    alone: false,
                    cared: Cared::default(),
                    waiting: None,
                    terminal,
                },
            );
            return drop(reply.send(true));
        }
        let Some(starting) = self.starting.remove(&key) else { return };
        let hold = hold.unwrap_or_else(|| unheard(&starting.command));
        let (waiting, exit) = oneshot::channel();
        // Who asked for a main process and is gone attaches again by tag; a step or a probe is of no use to anybody else.
        let is_helper = starting.tag.role != Role::Main;
        let after = is_helper.then(|| Discarded { table: self.myself.clone(), key });
        let (tag, alone, waiting, mut cared) = (starting.tag, false, Some(waiting), Cared::default());
        let care = cared.hand_over_until(after);
        let entry = Entry { tag, pid, adopted: None, exit: None, hold: hold.clone(), alone, cared, waiting, terminal };
        self.entries.insert(key, entry);
        if starting.is_unwanted {
            return self.discard(key);
        }
        let _ = starting.reply.send(Ok(Spawned { key, pid, hold, exit, adopted: None, care }));
    }

    fn exited(&mut self, key: Key, status: WaitStatus, (oom, alone): (bool, bool)) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.hold.oom |= oom;
        entry.alone = alone;
        let reason = reason(status);
        entry.exit = Some(reason.clone());
        if let Some(waiting) = entry.waiting.take() {
            let _ = waiting.send(reason);
        }
    }

    /// Units that stop together ask together: behind what is ready to run now, one look serves them all.
    fn scan_soon(&mut self, myself: ActorRef<Message>) {
        self.tasks.spawn(async move {
            tokio::task::yield_now().await;
            let _ = myself.cast(Message::Look);
        });
    }

    fn scan(&mut self, myself: ActorRef<Message>) {
        let spare = self.heart_pid.into_iter().chain([std::process::id()]).collect();
        let leader = |entry: &Entry| Leader { pid: entry.pid, start_time: entry.adopted };
        // Of a process that nobody looks after the whole family is asked for by its marks.
        let held = || self.entries.values().filter(|entry| entry.cared.is_held()).map(leader).collect();
        if let Some(scan) = self.scans.next(spare, held) {
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
        self.to_heart.send(frame).map_err(|error| format!("tell heart: {error}"))
    }
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
