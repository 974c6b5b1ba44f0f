//! A session: one isolated runtime, in this process.
//!
//! The daemon is a session with a heart of its own process; an embedding program or a test has one in a thread. Everything
//! else is the same code, and whoever wants something of a session is a [`Client`] of its control socket.

pub mod launch;
pub mod serve;
mod watchman;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envctl_actors::process::heart::run;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::watchman::{Gateways, Watchman, for_heart};
use crate::control::client::{Client, ClientError};
use crate::control::gateway::Gateway;
use crate::control::handlers::Handlers;
use crate::control::wire::Refusal;
use crate::leases::{LeaseError, Leases};
use crate::places::{Places, PlacesError};
use crate::root::{Life, Root, RootArgs};
use crate::usage::Meter;

/// Connections have this long to take their last answers when a session ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a client of a session in the same process waits to be greeted.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How a session is started.
#[derive(Debug)]
pub struct SessionOptions {
    /// Its directories, its name among them.
    pub places: Places,
    /// Who starts processes.
    pub spawner: Spawner,
    /// End by itself after so long without runs and clients; `None`: never.
    pub idle_after: Option<Duration>,
}

/// Who starts processes, and whose children they are.
#[derive(Debug)]
pub enum Spawner {
    /// A thread of this process: they end with it.
    Direct {
        /// An `envctl` binary, for units that need its exec stub (PostgreSQL as root).
        stub: Option<PathBuf>,
    },
    /// A heart process, over this connection: they survive this process.
    Heart(UnixStream),
}

/// A running session. Dropped without [`Session::shutdown`], a direct one kills its processes.
#[derive(Debug)]
pub struct Session {
    root: Root,
    socket: PathBuf,
    gateways: Gateways,
    /// Ends the watch over the runtime directory.
    stop: CancellationToken,
    tracker: TaskTracker,
    life: watch::Receiver<Life>,
    /// Held while the session lives: there is one per name.
    _lock: File,
    /// Heart's lock, where heart has lost it.
    _heart_lock: Option<File>,
}

/// Why a session could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another one of the same name lives.
    #[error("start the session: another process serves it already ({0})")]
    Locked(PathBuf),
    /// A directory is missing or not to be trusted.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// The leases cannot be used.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// The system said no.
    #[error("start the session: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The root actor could not be started.
    #[error("start the root actor: {0}")]
    Root(#[from] ractor::SpawnErr),
    /// The session ended at once.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

// === impl Session ===

impl Session {
    /// Starts a session and takes over what an earlier one of its name left running.
    pub async fn start(options: SessionOptions) -> Result<Self, SessionError> {
        let SessionOptions { places, spawner, idle_after } = options;
        let lock = lock(&places.daemon_lock())?;
        let (heart, heart_lock) = match spawner {
            Spawner::Heart(stream) => (stream, for_heart(&places)),
            Spawner::Direct { stub } => (run::in_thread(stub).map_err(io_error("start heart"))?, None),
        };
        let socket = places.socket()?;
        let leases = Arc::new(Leases::open(&Places::leases_dir(nix::unistd::geteuid().as_raw())?)?);
        let (ended, life) = watch::channel(Life::Living);
        let name = places.session().clone();
        let places = Arc::new(places);
        let args = RootArgs { name: name.clone(), places: places.clone(), leases, heart, idle_after, ended };
        let root = Root::start(args).await?;
        root.recover().await?;
        let journal = root.journal().await?;
        let tracker = TaskTracker::new();
        let handlers = Handlers {
            root: root.clone(),
            meter: Meter::new(name.clone()),
            session: name,
            journal,
            socket: socket.clone(),
            started: Instant::now(),
        };
        let listened = Gateway::listen(&socket, handlers.clone(), &tracker);
        let gateways: Gateways =
            Arc::new(Mutex::new(vec![listened.map_err(io_error("listen on the control socket"))?]));
        let (stop, of_watch) = (CancellationToken::new(), gateways.clone());
        let watchman = Watchman {
            places,
            socket: socket.clone(),
            handlers,
            tracker: tracker.clone(),
            gateways: of_watch,
            stop: stop.clone(),
        };
        tracker.spawn(watchman.watch());
        Ok(Self { root, socket, gateways, stop, tracker, life, _lock: lock, _heart_lock: heart_lock })
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of this session.
    pub async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket, CONNECT_WITHIN).await
    }

    /// Stops everything in order and ends. Gives the units with processes that could not be ended.
    pub async fn shutdown(mut self) -> Result<Vec<(String, Vec<u32>)>, Refusal> {
        let escaped = self.root.shutdown().await;
        self.wait().await;
        escaped
    }

    /// Asks for an orderly end without waiting for it.
    pub fn end(&self) {
        let root = self.root.clone();
        // Whoever waits for the end does so by `wait`.
        self.tracker.spawn(async move { drop(root.shutdown().await) });
    }

    /// Kills what an orderly end still waits for.
    pub fn hurry(&self) {
        self.root.hurry();
    }

    /// Waits until the session has ended, and how.
    pub async fn wait(&mut self) -> Life {
        let life = match self.life.wait_for(|life| *life != Life::Living).await {
            Ok(life) => *life,
            Err(_) => Life::Failed,
        };
        self.stop.cancel();
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tracker.close();
        // A client that takes nothing must not keep the session.
        let _ = tokio::time::timeout(LAST_WORDS, self.tracker.wait()).await;
        life
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The watch holds a gateway's worth of things; it must not outlive the session.
        self.stop.cancel();
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Takes a lock file; it is released by the kernel when its holder dies.
pub(crate) fn lock(path: &Path) -> Result<File, SessionError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(io_error("open the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SessionError::Locked(path.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(SessionError::Io { what: "lock the lock file", source }),
    }
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> SessionError {
    move |source| SessionError::Io { what, source }
}
