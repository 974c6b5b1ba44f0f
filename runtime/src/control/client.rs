//! The client's side of the control protocol.
//!
//! ```text
//! request, subscribe ──mpsc──▶ writer task ──▶ socket ──▶ reader task ──by id──▶ oneshot (reply) │ mpsc (items)
//! ```
//!
//! Both tasks belong to the [`Client`] and end with it. Every channel is bounded: a subscription that is not read holds its
//! connection up, the socket fills, and the daemon sees a slow client. So whoever waits for a reply and holds a
//! subscription reads both, or drops one. A client never starts a daemon: that is `session::launch`.

mod connect;
mod waiting;

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::frame::{self, KIND_END, KIND_ERROR, KIND_ITEM, KIND_REPLY, WireError};
use super::wire::{
    FRAME_INBOUND_MAX_BYTES, Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, READ_ONLY_KINDS, Refusal, Request, Subscribe,
};
use connect::{check_socket, connect_until, greet};
use waiting::{Forget, Waiter, Waiting, read_frames, write_frames};

/// Frames waiting to be written. A client has a handful of questions open, never hundreds.
const OUTBOX_MAX: usize = 32;
/// Items of a subscription waiting to be read; beyond it the connection waits.
const ITEMS_MAX: usize = 64;
/// Time between attempts while a daemon's queue of connections is full.
const CONNECT_RETRY: Duration = Duration::from_millis(5);

/// A question that changes nothing is asked again of the next daemon, if one answers within this time: an upgrade leaves
/// clients waiting for some 100 ms, a death for some 50 ms. A daemon that ended on purpose has no successor.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(3);

/// A connection to a session's daemon. Cheap questions and streams share it.
#[derive(Debug)]
pub struct Client {
    hello: Hello,
    peer_pid: Option<u32>,
    /// Where the next daemon is found; none for a stream that was not made here.
    socket: Option<PathBuf>,
    ids: AtomicU64,
    outbox: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    /// Reader and writer; dropping the client aborts them.
    _tasks: JoinSet<()>,
}

/// A stream of answers. Dropping it tells the daemon to stop.
#[derive(Debug)]
pub struct Subscription<T> {
    id: u64,
    frames: mpsc::Receiver<Frame>,
    outbox: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    ended: bool,
    item: PhantomData<fn() -> T>,
}

/// Why a daemon could not be asked, or how it said no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens: no socket, or one left by a daemon that died.
    #[error("no daemon answers at {socket}")]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// What stands in the socket's place is not a socket of ours. Nothing was sent to it.
    #[error("{path} is not to be trusted: {why}")]
    Untrusted {
        /// The path.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Somebody holds the socket and does not answer.
    #[error("the daemon {} does not answer", pid_text(*pid))]
    Hung {
        /// Its process, where the kernel tells.
        pid: Option<u32>,
    },
    /// No protocol that both sides speak.
    #[error(
        "the daemon ({daemon}) speaks protocols {daemon_min} to {daemon_max}, this envctl {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    )]
    Version {
        /// The daemon's version.
        daemon: String,
        /// Its oldest protocol.
        daemon_min: u32,
        /// Its newest protocol.
        daemon_max: u32,
    },
    /// The daemon said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection ended before the answer came.
    #[error("the connection to the daemon was lost")]
    Lost,
    /// A frame could not be made or understood.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The socket could not be used.
    #[error("connect to {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

// === impl Client ===

impl Client {
    /// Connects to the daemon behind `socket` and greets it, all within `deadline`.
    ///
    /// The path must be a socket of this user, not a link to one, and its listener must run as this user: otherwise nothing
    /// is sent, for an `Up` carries the caller's whole environment.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, ClientError> {
        let until = Instant::now() + deadline;
        loop {
            match Self::connect_once(socket, until).await {
                // It went while it greeted; its successor may have the socket already.
                Err(ClientError::Lost) if Instant::now() < until => tokio::time::sleep(CONNECT_RETRY).await,
                answered => return answered,
            }
        }
    }

    async fn connect_once(socket: &Path, until: Instant) -> Result<Self, ClientError> {
        let uid = nix::unistd::geteuid().as_raw();
        check_socket(socket, uid)?;
        let stream = connect_until(socket, until).await?;
        let peer = stream.peer_cred().map_err(|source| ClientError::Io { path: socket.to_owned(), source })?;
        if peer.uid() != uid {
            let why = format!("its listener belongs to uid {}", peer.uid());
            return Err(ClientError::Untrusted { path: socket.to_owned(), why });
        }
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        match Self::over(stream, until.saturating_duration_since(Instant::now())).await {
            Ok(client) => Ok(Self { peer_pid: pid, socket: Some(socket.to_owned()), ..client }),
            Err(ClientError::Hung { .. }) => Err(ClientError::Hung { pid }),
            Err(error) => Err(error),
        }
    }

    /// Greets whoever is at the other end of `stream`.
    pub async fn over<S>(stream: S, deadline: Duration) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let mut reading = FramedRead::new(read, frame::client_codec());
        let mut writing = FramedWrite::new(write, frame::client_codec());
        let hello = tokio::time::timeout(deadline, greet(&mut reading, &mut writing))
            .await
            .map_err(|_| ClientError::Hung { pid: None })??;
        let (outbox, queued) = mpsc::channel(OUTBOX_MAX);
        let waiting = Arc::new(Waiting::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(write_frames(writing, queued));
        tasks.spawn(read_frames(reading, Arc::clone(&waiting)));
        Ok(Self { hello, peer_pid: None, socket: None, ids: AtomicU64::new(1), outbox, waiting, _tasks: tasks })
    }

    /// What the daemon said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The daemon's process, as the kernel knows it.
    pub fn peer_pid(&self) -> Option<u32> {
        self.peer_pid
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.waiting.over.cancelled().await;
    }

    /// Asks, and waits for the answer as long as it takes.
    ///
    /// A daemon that goes before it has answered may have done what was asked: only what changes nothing
    /// ([`READ_ONLY_KINDS`]) is asked again of the next one. Everything else is [`ClientError::Lost`].
    pub async fn request<R: Request>(&self, request: R) -> Result<R::Reply, ClientError> {
        match (self.ask(&request).await, &self.socket) {
            (Err(ClientError::Lost), Some(socket)) if READ_ONLY_KINDS.contains(&R::KIND) => {
                Box::pin(Self::ask_successor(socket, &request)).await
            }
            (answered, _) => answered,
        }
    }

    /// The daemon that comes after one that went, as soon as there is one. One that is not there in time is
    /// [`ClientError::NotRunning`]; none is started.
    pub async fn successor(socket: &Path) -> Result<Self, ClientError> {
        let until = Instant::now() + SUCCESSOR_WITHIN;
        loop {
            match Self::connect(socket, until.saturating_duration_since(Instant::now())).await {
                // Its socket is not there yet, and nothing tells when it will be.
                Err(ClientError::NotRunning { .. }) if Instant::now() < until => {
                    tokio::time::sleep(CONNECT_RETRY).await
                }
                answered => return answered,
            }
        }
    }

    async fn ask_successor<R: Request>(socket: &Path, request: &R) -> Result<R::Reply, ClientError> {
        match Self::successor(socket).await {
            Ok(client) => client.ask(request).await,
            Err(ClientError::NotRunning { .. }) => Err(ClientError::Lost),
            Err(error) => Err(error),
        }
    }

    async fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, ClientError> {
        let (answer, answered) = oneshot::channel();
        let id = self.send(R::KIND, request, Waiter::Reply(answer)).await?;
        // A caller that gives up waiting leaves no entry behind.
        let _forget = Forget { id, waiting: &self.waiting };
        let frame = match R::ANSWER_WITHIN {
            None => answered.await,
            Some(within) => {
                let hung = |_| ClientError::Hung { pid: self.peer_pid };
                tokio::time::timeout(within, answered).await.map_err(hung)?
            }
        };
        let frame = frame.map_err(|_| ClientError::Lost)?;
        match frame.kind.as_str() {
            KIND_REPLY => Ok(frame::decode_body(&frame)?),
            _ => Err(refusal(&frame)),
        }
    }

    /// Asks for a stream of answers. Refusals come as its first item.
    pub async fn subscribe<S: Subscribe>(&self, subscribe: S) -> Result<Subscription<S::Item>, ClientError> {
        let (sender, frames) = mpsc::channel(ITEMS_MAX);
        let id = self.send(S::KIND, &subscribe, Waiter::Items(sender)).await?;
        let (outbox, waiting) = (self.outbox.clone(), Arc::clone(&self.waiting));
        Ok(Subscription { id, frames, outbox, waiting, ended: false, item: PhantomData })
    }

    async fn send<T: serde::Serialize>(&self, kind: &str, body: &T, waiter: Waiter) -> Result<u64, ClientError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let bytes = frame::encode(id, kind, body)?;
        frame::check_length(kind, bytes.len(), FRAME_INBOUND_MAX_BYTES)?;
        self.waiting.add(id, waiter)?;
        if self.outbox.send(bytes).await.is_err() {
            self.waiting.take(id);
            return Err(ClientError::Lost);
        }
        Ok(id)
    }
}

// === impl Subscription ===

impl<T: serde::de::DeserializeOwned> Subscription<T> {
    /// The next answer; `None` after the daemon ended the stream. After an error there is nothing more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        if self.ended {
            return None;
        }
        let answer = match self.frames.recv().await {
            None => Err(ClientError::Lost),
            Some(frame) if frame.kind == KIND_END => {
                self.ended = true;
                return None;
            }
            Some(frame) if frame.kind == KIND_ITEM => frame::decode_body(&frame).map_err(ClientError::from),
            Some(frame) => Err(refusal(&frame)),
        };
        self.ended = answer.is_err();
        Some(answer)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        if self.waiting.take(self.id).is_none() {
            return;
        }
        // Only a courtesy: items of an id that nobody waits for are thrown away.
        if let Ok(bytes) = frame::encode(self.id, KIND_END, &()) {
            let _ = self.outbox.try_send(bytes);
        }
    }
}

fn refusal(frame: &Frame) -> ClientError {
    if frame.kind != KIND_ERROR {
        let detail = "not an answer to this question".to_owned();
        return ClientError::Wire(WireError::Decode { kind: frame.kind.chars().take(32).collect(), detail });
    }
    match frame::decode_body::<Refusal>(frame) {
        Ok(refusal) => ClientError::Refused(refusal),
        Err(error) => ClientError::Wire(error),
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "behind the socket".to_owned(), |pid| format!("with pid {pid}"))
}

#[cfg(test)]
pub(super) mod tests;
