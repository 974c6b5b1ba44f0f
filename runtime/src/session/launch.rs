//! Starts a session's daemon on first need: exactly one, however many ask at the same moment.
//!
//! ```text
//! connect ──answers──▶ done
//!    └─ nobody ─▶ lock start.lock ─▶ connect again ─▶ spawn heart ─▶ wait for the daemon's word on a pipe ─▶ connect
//! ```

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use envctl_actors::process::heart::own_log;
use envctl_actors::process::sys::child;
use envctl_actors::process::sys::spawn::{ChildFile, Signals, Spawn, spawn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::serve::{HEART_READY_FD, HEART_SUBCOMMAND, Inner};
use crate::control::client::{Client, ClientError};
use crate::places::Places;

/// Bytes of the daemon's log shown when it does not come up.
const LOG_TAIL_BYTES: u64 = 2048;
/// A daemon that is there answers within this time, or hangs: it greets in under a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Pause between attempts while heart brings a daemon back, which takes it some 10 ms.
const REVIVE_RETRY: Duration = Duration::from_millis(5);
/// How long a heart that replaces a dead one has for its first daemon, which takes everything over.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// How long a heart that has died may go on holding its lock: the kernel closes the files of a dying process one after the
/// other, and the daemon hears of the first.
const HEART_ENDS_WITHIN: Duration = Duration::from_secs(2);
/// This very build, also when its file has been replaced or removed.
const SELF: &str = "/proc/self/exe";
/// Copies of descriptors are made above every number a child is promised.
const COPY_FLOOR: i32 = 16;

/// How a daemon is started.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The `envctl` binary.
    pub program: PathBuf,
    /// Everything together takes at most this long.
    pub deadline: Duration,
}

/// Why there is no daemon to talk to.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is one, but it cannot be talked to.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It ended before it listened.
    #[error("the daemon ended before it listened{}", said(.tail))]
    Died {
        /// The end of its log.
        tail: String,
    },
    /// It took too long.
    #[error("the daemon did not listen within {0:?}")]
    Timeout(Duration),
    /// A directory is not to be trusted.
    #[error(transparent)]
    Places(#[from] crate::places::PlacesError),
    /// The system said no.
    #[error("start the daemon: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A client of the session's daemon, which is started if nobody answers.
pub async fn ensure_daemon(places: &Places, options: LaunchOptions) -> Result<Client, LaunchError> {
    let socket = places.socket()?;
    let until = Instant::now() + options.deadline;
    match Client::connect(&socket, ANSWER_WITHIN).await {
        Err(error) if is_gone(&error) => {}
        answered => return Ok(answered?),
    }
    let late = || LaunchError::Timeout(options.deadline);
    let _starting = timeout_at(until, lock_start(places.start_lock())).await.map_err(|_| late())??;
    // Whoever held the lock before us has probably started it; or heart lives and is bringing it back, or it is ending.
    loop {
        match Client::connect(&socket, ANSWER_WITHIN).await {
            Err(error) if is_gone(&error) && !heart_lives(places) && !daemon_lives(places) => {
                match launch(places, &options.program, until).await {
                    // A daemon that died while it was starting a heart has left us the lock, and that heart was quicker.
                    Err(LaunchError::Died { .. }) if heart_lives(places) => {}
                    launched => return launched,
                }
            }
            Err(error) if is_gone(&error) && Instant::now() < until => tokio::time::sleep(REVIVE_RETRY).await,
            Err(error) if is_gone(&error) => return Err(late()),
            answered => return Ok(answered?),
        }
    }
}

/// Starts heart, and with it the daemon.
async fn launch(places: &Places, program: &Path, until: Instant) -> Result<Client, LaunchError> {
    let begun = Instant::now();
    let late = || LaunchError::Timeout(until - begun);
    own_log::cap(&places.daemon_log());
    let log_start = std::fs::metadata(places.daemon_log()).map_or(0, |meta| meta.len());
    let ready = spawn_heart(places, program, program)?;
    let listening = timeout_at(until, heard(ready)).await.map_err(|_| late())??;
    if !listening {
        return Err(LaunchError::Died { tail: tail(&places.daemon_log(), log_start) });
    }
    Ok(Client::connect(&places.socket()?, until - Instant::now()).await?)
}

/// Starts another heart in place of one that has died; called by its last daemon, so that the units are not left alone until
/// somebody types a command. Nothing is done where a heart lives, or where a client is starting one.
pub(super) async fn replace_heart(places: &Places, program: &Path) -> Result<(), LaunchError> {
    let Ok(_starting) = super::lock(&places.start_lock()) else {
        tracing::info!("heart has died; a client is starting another");
        return Ok(());
    };
    if !heart_has_ended(places).await {
        tracing::info!("heart hung up, but lives: it brings a daemon back");
        return Ok(());
    }
    tracing::info!("heart has died: another is started");
    let ready = spawn_heart(places, program, Path::new(SELF))?;
    let listening = tokio::time::timeout(REPLACED_WITHIN, heard(ready)).await;
    match listening.map_err(|_| LaunchError::Timeout(REPLACED_WITHIN))?? {
        true => Ok(()),
        false => Err(LaunchError::Died { tail: String::new() }),
    }
}

/// Whether nobody serves the session: there is no daemon, or it died while it was being greeted.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::NotRunning { .. } | ClientError::Lost)
}

/// The arguments of a daemon that serves in the foreground, under a heart in the foreground.
pub fn foreground_arguments(places: &Places, program: &Path) -> Vec<OsString> {
    Inner::new(places, program, true).to_args()
}

/// Whether a heart holds the session: then the daemon has just died and heart is bringing it back, or both are ending.
/// There is nothing to wait on before the new daemon has made its socket, so this is asked again and again, for 10 ms.
fn heart_lives(places: &Places) -> bool {
    matches!(super::lock(&places.heart_lock()), Err(super::SessionError::Locked(_)))
}

/// Waits until nothing holds the session as its heart; `false`: it goes on living.
async fn heart_has_ended(places: &Places) -> bool {
    let path = places.heart_lock();
    let (ended, hears) = oneshot::channel();
    // Not the runtime's own thread for such work: it would wait at its end for a lock that is never given up.
    let waiting = std::thread::Builder::new().name("heart-lock".to_owned()).spawn(move || {
        let taken = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        // Nobody waits for the answer any more if it comes late.
        let _ = ended.send(taken.and_then(|file| file.lock()).is_ok());
    });
    let Ok(_) = waiting else { return !heart_lives(places) };
    matches!(tokio::time::timeout(HEART_ENDS_WITHIN, hears).await, Ok(Ok(true)))
}

/// Whether a daemon holds the session that does not answer any more: it is ending, its heart perhaps gone already.
fn daemon_lives(places: &Places) -> bool {
    matches!(super::lock(&places.daemon_lock()), Err(super::SessionError::Locked(_)))
}

async fn lock_start(path: PathBuf) -> Result<File, LaunchError> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok::<_, io::Error>(file)
    });
    let locked = locked.await.map_err(|error| failed("lock start.lock")(io::Error::other(error)))?;
    locked.map_err(failed("lock start.lock"))
}

/// Starts heart in a session of its own, with nothing of ours but a pipe on which the daemon says that it listens: what a caller's
/// shell has open must not be held by a daemon for ever. `exe`: what is executed under the name of `program`.
fn spawn_heart(places: &Places, program: &Path, exe: &Path) -> Result<OwnedFd, LaunchError> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("make a pipe")(errno.into()))?;
    let high =
        fcntl(&write, FcntlArg::F_DUPFD_CLOEXEC(COPY_FLOOR)).map_err(|errno| failed("copy a pipe")(errno.into()))?;
    let high = child::inherited(high).ok_or_else(|| failed("copy a pipe")(io::Error::other("it is closed")))?;
    let plan = heart_plan(places, program, exe, &high).map_err(failed("name its files"))?;
    spawn(&plan).map_err(|error| failed("run it")(error.into()))?;
    Ok(read)
}

fn heart_plan(places: &Places, program: &Path, exe: &Path, ready: &OwnedFd) -> io::Result<Spawn> {
    let append = (OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT).bits();
    let open = |fd, path: &Path, flags| {
        Ok::<_, io::Error>(ChildFile::Open { fd, path: child::c_string(path.as_os_str())?, flags })
    };
    let log = places.daemon_log();
    let program_text = child::c_string(program.as_os_str())?;
    let args = Inner::new(places, program, false).to_args();
    let mut argv = vec![program_text, CString::new(HEART_SUBCOMMAND)?];
    for arg in args {
        argv.push(child::c_string(&arg)?);
    }
    Ok(Spawn {
        program: child::c_string(exe.as_os_str())?,
        argv,
        env: Vec::new(),
        dir: CString::from(c"/"),
        files: vec![
            ChildFile::Copy { fd: HEART_READY_FD, from: ready.as_raw_fd() },
            open(0, Path::new("/dev/null"), OFlag::O_RDONLY.bits())?,
            open(1, &log, append)?,
            open(2, &log, append)?,
        ],
        open_files: None,
        signals: Signals::ALL,
    })
}

/// Whether the daemon says that it listens; `false`: every holder of the pipe is gone.
async fn heard(ready: OwnedFd) -> Result<bool, LaunchError> {
    let read = async {
        let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(ready)?;
        let mut word = [0; 1];
        Ok::<_, io::Error>(pipe.read(&mut word).await? > 0)
    };
    read.await.map_err(failed("wait for it"))
}

fn tail(log: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}

fn said(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; its last words:\n{tail}") }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}
