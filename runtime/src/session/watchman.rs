//! Sees when the session's runtime directory is wiped under a living daemon (a tmp cleaner, a careless `rm -rf`), and makes
//! what stood in it anew: locks, the control socket, the memory of each run. The kernel tells it; nothing is polled.
//!
//! FIFOs are made anew when their unit starts again: what runs has them open. If the directory cannot be made again, or
//! another daemon has taken the session meanwhile, everything is stopped in order: nobody could ask us any more.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envctl_actors::process::sys::child;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lock;
use crate::control::gateway::Gateway;
use crate::control::handlers::Handlers;
use crate::places::Places;

/// A wipe is over when nothing more has gone for so long.
const WIPE_QUIET: Duration = Duration::from_millis(50);

/// The gateways of a session: the present one, and those whose socket file was removed under them but whose clients stay.
pub(super) type Gateways = Arc<Mutex<Vec<Gateway>>>;

/// What it needs to make things anew.
pub(super) struct Watchman {
    /// The session's directories.
    pub(super) places: Arc<Places>,
    /// The control socket.
    pub(super) socket: PathBuf,
    /// What a new gateway serves with.
    pub(super) handlers: Handlers,
    /// Runs the new gateway's connections.
    pub(super) tracker: TaskTracker,
    /// Where the new gateway goes.
    pub(super) gateways: Gateways,
    /// Ends it.
    pub(super) stop: CancellationToken,
}

/// The kernel's word about the directory.
struct Watch {
    inotify: Inotify,
    readable: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

/// Why a wiped directory could not be made anew.
#[derive(Debug, thiserror::Error)]
enum HealError {
    #[error(transparent)]
    Places(#[from] crate::places::PlacesError),
    #[error("make {0} again: the directory above it is gone too")]
    Elsewhere(PathBuf),
    #[error(transparent)]
    Session(#[from] super::SessionError),
    #[error("listen on the control socket: {0}")]
    Listen(#[from] io::Error),
}

// === impl Watchman ===

impl Watchman {
    /// Watches until the session ends.
    pub(super) async fn watch(self) {
        // Held as long as we watch; the locks of before are on files that nobody finds any more.
        let mut locks: Vec<File> = Vec::new();
        while !self.stop.is_cancelled() {
            let watch = match Watch::new(&self.places) {
                Ok(watch) => watch,
                Err(error) => {
                    tracing::warn!(%error, "the runtime directory cannot be watched: a wipe will not be noticed");
                    return;
                }
            };
            // What went before the watch was there is seen now.
            while self.socket.exists() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    seen = watch.next() => if seen.is_err() { return },
                }
            }
            // Whoever wipes is let finish: what is made too early goes as well. Another daemon could come meanwhile, so it
            // is not for long.
            while let Ok(Ok(())) = tokio::time::timeout(WIPE_QUIET, watch.next()).await {}
            if self.stop.is_cancelled() {
                return;
            }
            match self.heal().await {
                Ok(fresh) => locks.extend(fresh),
                Err(error) => {
                    tracing::error!(%error, "the runtime directory was wiped; everything is stopped in order");
                    return drop(self.handlers.root.shutdown().await);
                }
            }
        }
    }

    async fn heal(&self) -> Result<Vec<File>, HealError> {
        tracing::warn!(dir = %self.places.runtime_dir().display(), "the runtime directory was wiped: it is made anew");
        let places = Places::resolve(self.places.input())?;
        if places.runtime_dir() != self.places.runtime_dir() {
            return Err(HealError::Elsewhere(self.places.runtime_dir().to_owned()));
        }
        // The daemon's lock file may have survived; then it is still ours.
        let mut locks = Vec::new();
        if !self.places.daemon_lock().exists() {
            locks.push(lock(&self.places.daemon_lock())?);
        }
        locks.extend(for_heart(&self.places));
        let gateway = Gateway::serve(Gateway::open(&self.socket, None)?, self.handlers.clone(), &self.tracker)?;
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).push(gateway);
        self.handlers.root.remember().await;
        Ok(locks)
    }
}

// === impl Watch ===

impl Watch {
    fn new(places: &Places) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let gone = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        // One that is gone already is no error: its socket is missed at the first look.
        match inotify.add_watch(places.runtime_dir(), gone) {
            Ok(_) | Err(nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let readable = child::readable(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, readable })
    }

    /// Waits until something has gone from the directory.
    async fn next(&self) -> io::Result<()> {
        let mut ready = self.readable.readable().await?;
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

/// Heart's lock where heart has lost it, held in its place: whoever looks must see that it lives.
pub(super) fn for_heart(places: &Places) -> Option<File> {
    lock(&places.heart_lock()).ok()
}
