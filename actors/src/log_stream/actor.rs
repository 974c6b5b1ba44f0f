//! The log stream of one unit: an actor that outlives the unit's incarnations.
//!
//! It makes the two FIFOs, opens the store and registers both with the pump. Which incarnation writes, and that an exit wants a drain,
//! its handle tells the pump directly: both lie on the way of a restart. Never sees a byte: those go from FIFO to file.
//!
//! FIFOs that exist are used as they are: units of a daemon that died write into them. They are unlinked when the actor is stopped, not
//! when it fails: its successor takes them over.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use regex::bytes::Regex;
use tokio::sync::{oneshot, watch};

use super::LogError;
use super::health::Health;
use super::keep::Limits;
use super::layout::Life;
use super::matcher::ReadyMatcher;
use super::pump::{Drained, Length, LogStreamId, PumpHandle, Sources};
use super::reader::{Position, Query, Reader};
use super::store::Store;
use crate::process::sys::pipe;

/// How long a stopping actor waits for the last bytes to be on disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a successor waits for a predecessor's log: its removal is in the pump's queue, or its state about to be dropped.
const SUCCESSION_TIMEOUT: Duration = Duration::from_secs(2);
const SUCCESSION_POLL: Duration = Duration::from_millis(5);

/// The actor kind.
#[derive(Debug, Clone, Copy)]
pub struct LogStreamActor;

/// What it is started with.
#[derive(Debug)]
pub struct Arguments {
    /// Where its files are.
    pub site: Site,
    /// The same, opened already by [`open_together`]; `None`: the actor opens them.
    pub opened: Option<Opened>,
    /// Its place in the session's pump.
    pub lane: Lane,
}

/// Where a unit's output comes from and goes to.
#[derive(Debug, Clone)]
pub struct Site {
    /// The FIFO that the unit gets as standard output; made if missing.
    pub fifo_out: PathBuf,
    /// The FIFO that the unit gets as standard error.
    pub fifo_err: PathBuf,
    /// `logs/<unit>`.
    pub dir: PathBuf,
    /// How much is kept.
    pub limits: Limits,
}

/// FIFOs and a log, open.
#[derive(Debug)]
pub struct Opened {
    sources: Sources,
    store: Store,
}

/// A stream's place in a pump.
#[derive(Debug, Clone)]
pub struct Lane {
    id: LogStreamId,
    pump: PumpHandle,
    run: u32,
}

/// What it is told.
#[derive(Debug)]
pub enum Message {
    /// Delete what is stored. Answers at once with a promise that is kept with the bytes that the disk got back.
    Clear(Promise<io::Result<u64>>),
    /// Answers with the length of the log, now and whenever it grows, and where the log is.
    Watch(RpcReplyPort<Watched>),
}

/// Where a promise goes: the actor answers at once, the pump keeps it later, and nobody waits in between.
pub type Promise<T> = RpcReplyPort<Result<oneshot::Receiver<T>, LogError>>;

/// What a follower of the log needs.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Changes whenever the log has grown; closes when the stream ends.
    pub length: watch::Receiver<Length>,
    /// Changes when the disk begins to refuse what the unit writes, and when that is over.
    pub health: watch::Receiver<Health>,
    /// `logs/<unit>`, for a [`Reader`].
    pub dir: PathBuf,
    /// The run's number in the records.
    pub run: u32,
}

/// The running actor's state; dropping it takes the stream from the pump, also after a panic.
#[derive(Debug)]
pub struct State {
    registration: Registration,
    watched: Watched,
    fifos: [PathBuf; 2],
}

#[derive(Debug)]
struct Registration {
    lane: Lane,
    closed: bool,
}

/// A handle to a unit's log stream.
#[derive(Debug, Clone)]
pub struct LogStream {
    actor: ActorRef<Message>,
    lane: Lane,
}

/// Why a drain did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The deadline passed: the disk stalls. What is left is stored later.
    #[error("store the last output within {0:?}")]
    Timeout(Duration),
    /// The stream or the pump could not be reached.
    #[error(transparent)]
    Log(#[from] LogError),
}

// === impl LogStreamActor ===

impl Actor for LogStreamActor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, _: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { site, opened, lane } = arguments;
        let Opened { sources, store } = match opened {
            Some(opened) => opened,
            None => open(&site).await?,
        };
        let (fifos, dir) = ([site.fifo_out, site.fifo_err], site.dir);
        lane.pump.add(lane.id, sources, store)?;
        let (id, run) = (lane.id, lane.run);
        let registration = Registration { lane, closed: false };
        let length = registration.lane.pump.length(id).ok_or(LogError::PumpEnded)?;
        let health = registration.lane.pump.health(id).ok_or(LogError::PumpEnded)?;
        Ok(State { registration, watched: Watched { length, health, dir, run }, fifos })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Lane { id, pump, .. } = &state.registration.lane;
        match message {
            // Who asked may be gone: then the answer is for nobody.
            Message::Clear(reply) => drop(reply.send(pump.clear(*id))),
            Message::Watch(reply) => drop(reply.send(state.watched.clone())),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let closed = state.registration.lane.remove()?;
        state.registration.closed = true;
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!(fifos = ?state.fifos, "the disk stalls: last output is stored later");
        }
        for fifo in &state.fifos {
            if let Err(error) = std::fs::remove_file(fifo)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %fifo.display(), %error, "fifo cannot be removed");
            }
        }
        Ok(())
    }
}

/// Opens what many units need, in one go beside the runtime's threads: a thread for each of a hundred would be woken for less work
/// than waking it is. What cannot be opened is left to its actor, which has patience and tells why.
pub async fn open_together(sites: Vec<Site>) -> Result<Vec<Option<Opened>>, LogError> {
    blocking(move || sites.iter().map(|site| Opened::open(site).ok()).collect()).await
}

/// Opens FIFOs and log; a predecessor that failed may have to let go of the log first.
async fn open(site: &Site) -> Result<Opened, LogError> {
    let patience_ends = tokio::time::Instant::now() + SUCCESSION_TIMEOUT;
    loop {
        let site = site.clone();
        match blocking(move || Opened::open(&site)).await? {
            Err(LogError::Locked(_)) if tokio::time::Instant::now() < patience_ends => {
                tokio::time::sleep(SUCCESSION_POLL).await;
            }
            opened => return opened,
        }
    }
}

impl Opened {
    fn open(site: &Site) -> Result<Self, LogError> {
        let sources = Sources { out: open_fifo(&site.fifo_out)?, err: open_fifo(&site.fifo_err)? };
        Ok(Self { sources, store: Store::open(&site.dir, site.limits)? })
    }
}

fn open_fifo(path: &Path) -> Result<std::os::fd::OwnedFd, LogError> {
    match pipe::mkfifo(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(LogError::io("create", path)(error)),
        _ => {}
    }
    pipe::open_fifo(path).map_err(LogError::io("open", path))
}

/// Files may block, so they are read beside the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LogError::StreamEnded)
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.closed {
            // An error means that the pump has ended and closed everything.
            drop(self.lane.remove());
        }
    }
}

// === impl Lane ===

impl Lane {
    /// A new place in `pump`. `run`: a number for the run, kept in each record; 0: none.
    pub fn new(pump: PumpHandle, run: u32) -> Self {
        Self { id: pump.new_id(), pump, run }
    }

    fn remove(&self) -> Result<oneshot::Receiver<()>, LogError> {
        self.pump.remove(self.id)
    }
}

// === impl LogStream ===

impl LogStream {
    /// A handle to this actor, which was started with this lane.
    pub fn new(actor: ActorRef<Message>, lane: Lane) -> Self {
        Self { actor, lane }
    }

    /// The actor itself, to be stopped or linked.
    pub fn actor(&self) -> &ActorRef<Message> {
        &self.actor
    }

    /// What comes from now on is written by this incarnation. Told at once; to be awaited before the spawn, or the first lines may
    /// still be taken for the last life's.
    pub fn incarnation(&self, incarnation: u32) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        let promise = self.lane.pump.life(self.lane.id, Life { run: self.lane.run, incarnation });
        async move { promise?.await.map_err(|_| LogError::PumpEnded) }
    }

    /// After an exit: waits until what was written is stored, at most `timeout`.
    pub async fn drain(&self, timeout: Duration) -> Result<Drained, DrainError> {
        let drained = async { self.lane.pump.drain(self.lane.id)?.await.map_err(|_| LogError::PumpEnded) };
        match tokio::time::timeout(timeout, drained).await {
            Ok(drained) => Ok(drained?),
            Err(_) => Err(DrainError::Timeout(timeout)),
        }
    }

    /// The length of the log, now and whenever it grows: the signal for a [`super::Follower`] to read on.
    pub async fn length(&self) -> Result<watch::Receiver<Length>, LogError> {
        Ok(self.watch().await?.length)
    }

    /// The length with the place of the log.
    pub async fn watch(&self) -> Result<Watched, LogError> {
        self.ask(Message::Watch).await
    }

    /// Deletes what is stored, the unit's life goes on; returns how many bytes the disk got back.
    pub async fn clear(&self) -> Result<u64, LogError> {
        let dir = self.watch().await?.dir;
        let promise = self.ask(Message::Clear).await??;
        promise.await.map_err(|_| LogError::PumpEnded)?.map_err(LogError::io("clear", &dir))
    }

    /// Waits until a line of this incarnation matches, unfinished lines and those already written included.
    pub async fn matches(&self, pattern: Regex, incarnation: u32) -> Result<(), LogError> {
        let Watched { mut length, dir, run, .. } = self.watch().await?;
        let life = Life { run, incarnation };
        let query = Query { run: Some(run), incarnation: Some(incarnation), ..Query::default() };
        let open = move || Reader::open(&dir).follow(Position::Life(life), query);
        let mut follower = blocking(open).await??;
        let mut matcher = ReadyMatcher::new(pattern);
        loop {
            length.borrow_and_update();
            let found;
            (follower, matcher, found) = blocking(move || {
                let found = matcher.poll(&mut follower);
                (follower, matcher, found)
            })
            .await?;
            if found? {
                return Ok(());
            }
            length.changed().await.map_err(|_| LogError::StreamEnded)?;
        }
    }

    async fn ask<T: Send + 'static>(&self, message: impl FnOnce(RpcReplyPort<T>) -> Message) -> Result<T, LogError> {
        let (sender, receiver) = ractor::concurrency::oneshot();
        self.actor.send_message(message(sender.into())).map_err(|_| LogError::StreamEnded)?;
        receiver.await.map_err(|_| LogError::StreamEnded)
    }
}
