//! The daemon's side of the control socket: one task per client, each with a reader and a writer.
//!
//! A connection is bounded in everything: time to greet, frames waiting to be written, requests in flight. A client that
//! does not read is dropped; what it asked for goes on. The gateway has no state of its own and decides nothing.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envctl_actors::process::reserve::{Reserve, is_exhausted};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::{self, KIND_END, KIND_ERROR, KIND_HELLO};
use super::handlers::Handlers;
use super::room::Room;
use super::wire::{Frame, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal};

/// A client has this long to greet.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// A frame must be taken by the client within this time, or the client is dropped.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Requests and streams of one client at once; more are refused.
const IN_FLIGHT_MAX: usize = 64;
/// Frames waiting for one client.
const OUTBOX_MAX: usize = 64;
/// Pause after `accept` failed for want of descriptors: trying at once again would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Descriptors kept back for clients when there are no others: somebody must be able to ask what is wrong.
const RESERVED_FDS: usize = 8;

/// A listening control socket. Dropping it ends every connection and removes the socket.
#[derive(Debug)]
pub struct Gateway {
    socket: PathBuf,
    stop: CancellationToken,
    /// A copy of the listener, for the program that replaces this one.
    listener: OwnedFd,
    /// The socket is somebody else's now.
    handed_over: bool,
}

/// A control socket that listens: clients may connect, and wait until they are served.
#[derive(Debug)]
pub struct Listening {
    socket: PathBuf,
    listener: UnixListener,
}

/// One client.
struct Connection {
    handlers: Arc<Handlers>,
    room: Room,
    outbox: mpsc::Sender<Bytes>,
    in_flight: Arc<Semaphore>,
    tasks: TaskTracker,
    streams: std::collections::HashMap<u64, CancellationToken>,
    stop: CancellationToken,
}

type Reading = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;
type Writing = FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>;

// === impl Gateway ===

impl Gateway {
    /// Listens, on the listener that the program before left or on a new one. The caller holds the session's lock, so a
    /// socket that nobody answers on is a dead daemon's.
    pub fn open(socket: &Path, left: Option<OwnedFd>) -> io::Result<Listening> {
        let listener = match left.and_then(|left| take_over(socket, left)) {
            Some(listener) => UnixListener::from_std(listener)?,
            None => {
                remove_stale(socket)?;
                let listener = UnixListener::bind(socket)?;
                fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
                listener
            }
        };
        Ok(Listening { socket: socket.to_owned(), listener })
    }

    /// Serves whoever connects.
    pub fn serve(listening: Listening, handlers: Handlers, tracker: &TaskTracker) -> io::Result<Self> {
        let Listening { socket, listener } = listening;
        let copy = listener.as_fd().try_clone_to_owned()?;
        let stop = CancellationToken::new();
        tracker.spawn(accept(listener, Arc::new(handlers), stop.clone(), tracker.clone()));
        Ok(Self { socket, stop, listener: copy, handed_over: false })
    }

    /// Ends every connection and accepts no more; whoever connects waits in the listener's queue for the next program.
    /// `None`: the listener cannot be copied.
    pub fn hand_over(&mut self) -> Option<OwnedFd> {
        let listener = self.listener.try_clone().ok()?;
        self.handed_over = true;
        self.stop.cancel();
        Some(listener)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.handed_over {
            return;
        }
        // Left behind, it would only be found stale by the next daemon.
        let _ = fs::remove_file(&self.socket);
    }
}

/// The listener of the program before, if clients still find it by its path.
fn take_over(socket: &Path, left: OwnedFd) -> Option<std::os::unix::net::UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(left);
    let is_ours = listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(socket)) && socket.exists();
    is_ours.then_some(listener)
}

/// A socket left by a daemon that died is removed; one that answers belongs to somebody and stays.
fn remove_stale(socket: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody else listens on the control socket")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(socket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn accept(listener: UnixListener, handlers: Arc<Handlers>, stop: CancellationToken, tracker: TaskTracker) {
    let room = Room::new();
    let mut reserve = Reserve::new(RESERVED_FDS);
    loop {
        // Whoever finds none waits in the kernel's queue.
        let Some(permit) = room.enter().await else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                reserve.refill();
                let (handlers, stop, room) = (handlers.clone(), stop.child_token(), room.clone());
                tracker.spawn(async move {
                    serve(stream, handlers, room, stop).await;
                    drop(permit);
                });
            }
            // The next attempt gets the one that is given up; its client goes before the next comes, as a rule.
            Err(error) if is_exhausted(&error) && reserve.give_one() => {}
            Err(error) => {
                reserve.refill();
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, handlers: Arc<Handlers>, room: Room, stop: CancellationToken) {
    let ours = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == ours => {}
        peer => return tracing::warn!(?peer, "a client of another user was refused"),
    }
    let (read, write) = stream.into_split();
    let mut reading = FramedRead::new(read, frame::daemon_inbound());
    let mut writing = FramedWrite::new(write, frame::daemon_outbound());
    let greeted = timeout(HELLO_WITHIN, greet(&mut reading, &mut writing, &handlers)).await;
    if !matches!(greeted, Ok(Ok(()))) {
        return;
    }
    handlers.root.client(true);
    converse(reading, writing, (handlers.clone(), room), stop).await;
    handlers.root.client(false);
}

async fn greet(reading: &mut Reading, writing: &mut Writing, handlers: &Handlers) -> Result<(), ()> {
    let bytes = reading.next().await.ok_or(())?.map_err(drop)?;
    let hello = frame::decode_frame(&bytes).map_err(drop)?;
    let theirs: Hello = frame::decode_body(&hello).map_err(drop)?;
    let ours = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: crate::BUILD.to_owned(),
        session: handlers.session.to_string(),
        capabilities: Vec::new(),
    };
    // The greeting is answered also when no protocol is shared: only so can the client say which versions met.
    let bytes = frame::encode(0, KIND_HELLO, &ours).map_err(drop)?;
    writing.send(bytes).await.map_err(drop)?;
    let shared = theirs.protocol_min <= PROTOCOL_MAX && theirs.protocol_max >= PROTOCOL_MIN;
    if shared { Ok(()) } else { Err(()) }
}

async fn converse(
    mut reading: Reading,
    writing: Writing,
    (handlers, room): (Arc<Handlers>, Room),
    stop: CancellationToken,
) {
    let (outbox, queued) = mpsc::channel(OUTBOX_MAX);
    let tasks = TaskTracker::new();
    let gone = stop.child_token();
    tasks.spawn(write(writing, queued, gone.clone()));
    let mut connection = Connection {
        handlers,
        room,
        outbox,
        in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        tasks: tasks.clone(),
        streams: std::collections::HashMap::new(),
        stop: gone.clone(),
    };
    loop {
        let bytes = tokio::select! {
            () = gone.cancelled() => break,
            bytes = reading.next() => bytes,
        };
        let Some(Ok(bytes)) = bytes else { break };
        let Ok(frame) = frame::decode_frame(&bytes) else { break };
        connection.take(frame).await;
    }
    gone.cancel();
    drop(connection);
    tasks.close();
    tasks.wait().await;
}

async fn write(mut writing: Writing, mut queued: mpsc::Receiver<Bytes>, gone: CancellationToken) {
    while let Some(bytes) = queued.recv().await {
        if !matches!(timeout(WRITE_WITHIN, writing.send(bytes)).await, Ok(Ok(()))) {
            gone.cancel();
            return;
        }
    }
}

// === impl Connection ===

impl Connection {
    async fn take(&mut self, frame: Frame) {
        if frame.kind == KIND_END {
            if let Some(stream) = self.streams.remove(&frame.id) {
                stream.cancel();
            }
            return;
        }
        if let Err(refusal) = self.room.admit(&frame.kind) {
            return say_no(frame.id, refusal, &self.outbox).await;
        }
        // Waiting here would also stop the reading of `end` and of the client's end.
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            let refusal = Refusal {
                code: "busy".to_owned(),
                message: format!("{IN_FLIGHT_MAX} requests of this client are being answered already"),
                hint: Some("wait for answers, or end a stream".to_owned()),
            };
            return say_no(frame.id, refusal, &self.outbox).await;
        };
        self.handlers.journal.pulse().beat();
        let (handlers, outbox) = (self.handlers.clone(), self.outbox.clone());
        let stop = self.stop.child_token();
        self.streams.retain(|_, stream| !stream.is_cancelled());
        self.streams.insert(frame.id, stop.clone());
        self.tasks.spawn(async move {
            let id = frame.id;
            tokio::select! {
                // An answer that is there is given, also by a session that is ending.
                biased;
                answered = handlers.answer(frame, &outbox) => {
                    if let Err(refusal) = answered {
                        say_no(id, refusal, &outbox).await;
                    }
                }
                () = stop.cancelled() => {}
            }
            stop.cancel();
            drop(permit);
        });
    }
}

async fn say_no(id: u64, refusal: Refusal, outbox: &mpsc::Sender<Bytes>) {
    if let Ok(bytes) = frame::encode(id, KIND_ERROR, &refusal) {
        // A client that is gone wants no answer.
        let _ = outbox.send(bytes).await;
    }
}
