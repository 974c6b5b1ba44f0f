//! A session: one isolated runtime, in this process.
//!
//! The daemon is a session with a heart of its own process; an embedding program or a test has one in a thread. Everything
//! else is the same code, and whoever wants something of a session is a [`Client`] of its control socket.

pub mod launch;
mod logs;
pub mod serve;
pub mod upgrade;
mod watchman;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envctl_actors::process::heart::run;
use envctl_actors::process::heart::wire::{ToHeart, encode};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::serve::Inner;
use self::upgrade::replace::{Replaced, replace};
use self::upgrade::{Order, Upgrades, record};
use self::watchman::{Gateways, Watchman, for_heart};
use crate::control::client::{Client, ClientError};
use crate::control::gateway::Gateway;
use crate::control::handlers::Handlers;
use crate::control::view::UpgradeView;
use crate::control::wire::Refusal;
use crate::leases::{LeaseError, Leases};
use crate::places::{Places, PlacesError};
use crate::pulse::Pulse;
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
    /// The same, taken over from the program that this process was before.
    HandedOver {
        /// The connection to heart.
        heart: UnixStream,
        /// The listening control socket.
        listener: OwnedFd,
    },
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
    places: Arc<Places>,
    pulse: Pulse,
    upgrades: Upgrades,
    /// A copy of the connection to heart, for the program that replaces this one; none if heart is a thread.
    heart: Option<OwnedFd>,
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
        let heart_lock = match spawner {
            Spawner::Heart(_) | Spawner::HandedOver { .. } => for_heart(&places),
            Spawner::Direct { .. } => None,
        };
        let program = match &spawner {
            Spawner::Heart(_) | Spawner::HandedOver { .. } => Some(crate::project::containers::own_program()),
            Spawner::Direct { stub } => stub.clone(),
        };
        let (heart, copy, listener) = connect(spawner)?;
        let socket = places.socket()?;
        let leases = Arc::new(Leases::open(&Places::leases_dir(nix::unistd::geteuid().as_raw())?)?);
        let (ended, life) = watch::channel(Life::Living);
        let (name, places) = (places.session().clone(), Arc::new(places));
        let args = RootArgs { name: name.clone(), places: places.clone(), leases, heart, program, idle_after, ended };
        let root = Root::start(args).await?;
        root.recover().await?;
        let journal = root.journal().await?;
        let pulse = journal.pulse().clone();
        let (tracker, upgrades) = (TaskTracker::new(), Upgrades::default());
        let taken_over = listener.is_some();
        let listening = Gateway::open(&socket, listener).map_err(io_error("listen on the control socket"))?;
        let upgrade = settle_upgrade(&root, &places, taken_over).await?;
        let handlers = Handlers {
            root: root.clone(),
            meter: Meter::new(name.clone()),
            session: name,
            journal,
            socket: socket.clone(),
            started: Instant::now(),
            log_followers: Arc::default(),
            upgrades: upgrades.clone(),
            upgrade,
        };
        let served = Gateway::serve(listening, handlers.clone(), &tracker);
        let gateways: Gateways = Arc::new(Mutex::new(vec![served.map_err(io_error("listen on the control socket"))?]));
        let (stop, of_watch) = (CancellationToken::new(), gateways.clone());
        let watchman = Watchman {
            places: places.clone(),
            socket: socket.clone(),
            handlers,
            tracker: tracker.clone(),
            gateways: of_watch,
            stop: stop.clone(),
        };
        tracker.spawn(watchman.watch());
        let (_lock, _heart_lock) = (lock, heart_lock);
        Ok(Self {
            root,
            socket,
            gateways,
            stop,
            tracker,
            life,
            places,
            pulse,
            upgrades,
            heart: copy,
            _lock,
            _heart_lock,
        })
    }

    /// Lets this process be replaced by another program: whoever runs it passes the orders on to [`Session::replace`].
    fn allow_upgrades(&self, inner: Inner) -> mpsc::Receiver<Order> {
        self.upgrades.allow(inner)
    }

    /// Becomes another program. Returns if it does not: `Ok` when nothing has happened and this one serves on, an error when
    /// the process is to end at once, as a failure.
    async fn replace(&mut self, order: Order) -> Result<(), String> {
        let parts = match self.root.parts().await {
            Ok(parts) => parts,
            // It ends, and an end that was asked for comes first.
            Err(refusal) => {
                tracing::warn!(%refusal, "the daemon is not replaced");
                return Ok(());
            }
        };
        if let Err(error) = record::store(&self.places, &order.upgrade) {
            tracing::error!(%error, "the daemon is not replaced: the upgrade cannot be recorded");
            return Ok(());
        }
        // The present one is the last; the others have only clients of a socket that is gone.
        let gateway = self.gateways.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (Some(gateway), Some(heart)) = (gateway, self.heart.take()) else { return Ok(()) };
        self.stop.cancel();
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (root, tracker) = (&self.root, &self.tracker);
        Err(replace(Replaced { root, parts, gateway, tracker, heart }, order).await)
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

/// The connection to heart; a copy of it for an upgrade, and the listener that an upgrade left.
fn connect(spawner: Spawner) -> Result<(UnixStream, Option<OwnedFd>, Option<OwnedFd>), SessionError> {
    let copy = |stream: &UnixStream| stream.try_clone().map(OwnedFd::from).map_err(io_error("copy a descriptor"));
    match spawner {
        Spawner::Direct { stub } => Ok((run::in_thread(stub).map_err(io_error("start heart"))?, None, None)),
        Spawner::Heart(heart) => {
            let copy = copy(&heart)?;
            Ok((heart, Some(copy), None))
        }
        Spawner::HandedOver { heart, listener } => {
            let greet = encode(&ToHeart::Greet).map_err(io::Error::other);
            // Nobody else writes on it yet, and the few bytes find room.
            greet.and_then(|frame| (&heart).write_all(&frame)).map_err(io_error("greet heart"))?;
            let copy = copy(&heart)?;
            Ok((heart, Some(copy), Some(listener)))
        }
    }
}

/// The last upgrade, with what became of it; told to the journals if that is news.
async fn settle_upgrade(root: &Root, places: &Places, taken_over: bool) -> Result<Option<UpgradeView>, SessionError> {
    let parts = root.parts().await?;
    if taken_over {
        parts.processes.keep();
    }
    let last = record::load(places);
    let rescued = parts.processes.heart_said().await.ok().and_then(|said| said.rescued);
    let Some(news) = record::settle(last.clone(), taken_over, rescued.as_deref()) else { return Ok(last) };
    if let Err(error) = record::store(places, &news) {
        tracing::warn!(%error, "what became of the upgrade cannot be recorded");
    }
    for project in root.projects().await? {
        if let Some(key) = project.key().await {
            parts.journal.append(&key, record::event(&news));
        }
    }
    Ok(Some(news))
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

#[cfg(test)]
mod tests;
