//! The inner processes of a session: heart, the daemon, and the exec stub. Not commands for people.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use envctl_actors::process::heart::keeper::{DAEMON_READY_FD, DAEMON_SOCKET_FD, DaemonCommand};
use envctl_actors::process::heart::limits::OpenFiles;
use envctl_actors::process::heart::run::{End, as_process};
use envctl_actors::process::heart::stub;
use envctl_actors::process::sys::{child, memory};
use envctl_supervisors::Name;
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::launch::replace_heart;
use super::upgrade::{Descriptors, check};
use super::{Session, SessionError, SessionOptions, Spawner, lock};
use crate::places::{Places, PlacesInput};
use crate::root::Life;

/// The hidden subcommand of heart.
pub const HEART_SUBCOMMAND: &str = "heart";
/// The hidden subcommand of the daemon.
pub const DAEMON_SUBCOMMAND: &str = "daemon-serve";
/// Where heart finds the pipe on which the first daemon says that it listens.
pub const HEART_READY_FD: i32 = 3;
/// A second word to end that comes so soon is the first one over again: whoever signals all processes of a session (a
/// service manager, a shutdown) reaches the daemon directly and through heart.
const ECHO: Duration = Duration::from_millis(500);
/// An idle daemon ends after this time without runs and clients.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// A daemon that loses its heart sooner does not start another: something is wrong that a new one does not mend.
const SERVED_MIN: Duration = Duration::from_secs(1);
/// Threads that run actors; the work is waiting.
const WORKERS: usize = 2;
/// The daemon meant to end.
const EXIT_DONE: u8 = 0;
/// Another daemon serves this session.
const EXIT_SERVED: u8 = 2;
/// The daemon failed: heart starts it again.
const EXIT_FAILED: u8 = 70;

/// What the daemon listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// When it was told to end, if it was.
    ending: Option<Instant>,
}

/// What a signal means to the daemon.
enum Word {
    /// It is to end.
    Stop,
    /// A terminal has gone.
    HungUp,
}

/// What an inner process is told: everything, for it reads no environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inner {
    session: String,
    runtime_dir: Option<PathBuf>,
    state_home: PathBuf,
    state_override: Option<PathBuf>,
    program: PathBuf,
    foreground: bool,
}

// === impl Inner ===

impl Inner {
    /// What the inner processes of this session are told.
    pub fn new(places: &Places, program: &Path, foreground: bool) -> Self {
        let PlacesInput { session, runtime_dir, state_home, state_override, .. } = places.input().clone();
        Self {
            session: session.to_string(),
            runtime_dir,
            state_home,
            state_override,
            program: program.to_owned(),
            foreground,
        }
    }

    /// As arguments.
    pub fn to_args(&self) -> Vec<OsString> {
        let text =
            serde_json::to_string(self).expect("invariant: paths from arguments and variables are checked as text");
        vec![text.into()]
    }

    /// The same session, served by another program.
    pub(super) fn for_program(&self, program: &Path) -> Self {
        Self { program: program.to_owned(), ..self.clone() }
    }

    pub(super) fn from_args(args: &[OsString]) -> Option<Self> {
        serde_json::from_str(args.first()?.to_str()?).ok()
    }

    pub(super) fn places(&self) -> Result<Places, String> {
        let input = PlacesInput {
            uid: nix::unistd::geteuid().as_raw(),
            session: Name::new(&self.session).map_err(|error| error.to_string())?,
            runtime_dir: self.runtime_dir.clone(),
            state_home: self.state_home.clone(),
            state_override: self.state_override.clone(),
        };
        Places::resolve(&input).map_err(|error| error.to_string())
    }
}

/// Runs heart as this process.
pub fn heart_main(args: Vec<OsString>) -> ExitCode {
    memory::keep_small();
    child::ensure_standard_files();
    let Some(inner) = Inner::from_args(&args) else { return told("heart is not started by hand") };
    let ready = if inner.foreground { None } else { child::inherited(HEART_READY_FD) };
    forget_caller();
    let places = match inner.places() {
        Ok(places) => places,
        Err(error) => return told(&error),
    };
    let _lock = match lock(&places.heart_lock()) {
        Ok(lock) => lock,
        Err(error) => return told(&error.to_string()),
    };
    let command = DaemonCommand {
        program: PathBuf::from("/proc/self/exe"),
        name: inner.program.clone().into(),
        args: std::iter::once(OsString::from(DAEMON_SUBCOMMAND)).chain(inner.to_args()).collect(),
        env: Vec::new(),
        log: (!inner.foreground).then(|| places.daemon_log()),
        ready,
    };
    match as_process(command) {
        Ok(End::Finished(code)) => ExitCode::from(u8::try_from(code).unwrap_or(EXIT_FAILED)),
        Ok(End::GaveUp) => ExitCode::from(EXIT_FAILED),
        Err(error) => told(&format!("heart stopped: {error}")),
    }
}

/// Runs the daemon as this process.
pub fn daemon_main(args: Vec<OsString>) -> ExitCode {
    memory::keep_small();
    if args.first().is_some_and(|arg| arg == check::CHECK_OPTION) {
        return check::main(&args[1..]);
    }
    let Some(inner) = Inner::from_args(&args) else { return told("the daemon is not started by hand") };
    let (spawner, ready) = match args.get(1) {
        None => (from_heart(), child::inherited(DAEMON_READY_FD).map(fs::File::from)),
        Some(descriptors) => (from_predecessor(descriptors), None),
    };
    let Some(spawner) = spawner else { return told("the daemon is started by heart") };
    // Logs, clients and databases; it starts no process that could inherit this.
    if let Err(error) = OpenFiles::raise() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    if let Err(error) = OpenFiles::make_room() {
        tracing::debug!(%error, "room for open files is made as it is needed");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let served = match (runtime, inner.places()) {
        (Ok(runtime), Ok(places)) => runtime.block_on(serve(inner, places, spawner, ready)),
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(error),
    };
    match served {
        Ok(code) => ExitCode::from(code),
        Err(error) => told(&error),
    }
}

/// Runs the exec stub as this process; it becomes the program.
pub fn exec_stub_main(args: Vec<OsString>) -> ExitCode {
    ExitCode::from(stub::main(args))
}

fn from_heart() -> Option<Spawner> {
    Some(Spawner::Heart(UnixStream::from(child::inherited(DAEMON_SOCKET_FD)?)))
}

/// What the program left open that this one replaced.
fn from_predecessor(descriptors: &OsString) -> Option<Spawner> {
    let Descriptors { heart, listener } = serde_json::from_str(descriptors.to_str()?).ok()?;
    let heart = UnixStream::from(child::inherited(heart)?);
    Some(Spawner::HandedOver { heart, listener: child::inherited(listener)? })
}

async fn serve(inner: Inner, places: Places, spawner: Spawner, ready: Option<fs::File>) -> Result<u8, String> {
    let idle_after = (!inner.foreground).then_some(IDLE_AFTER);
    let (own_places, started) = (places.clone(), Instant::now());
    let options = SessionOptions { places, spawner, idle_after };
    // From before anything is taken over: a signal that came meanwhile must not look like a death.
    let mut signals = Signals::new().map_err(|error| error.to_string())?;
    let mut session = match Session::start(options).await {
        Ok(session) => session,
        Err(SessionError::Locked(path)) => {
            tracing::warn!(path = %path.display(), "another daemon serves this session");
            return Ok(EXIT_SERVED);
        }
        Err(error) => return Err(error.to_string()),
    };
    tracing::info!(socket = %session.socket().display(), pid = std::process::id(), "daemon listens");
    if let Some(mut ready) = ready {
        // A launcher that is gone has nobody to tell.
        let _ = ready.write_all(b"1");
    }
    let (foreground, program) = (inner.foreground, inner.program.clone());
    let mut upgrades = session.allow_upgrades(inner);
    // What the last work has left is given back; a client that comes next waits no longer for it than for a page fault.
    let pulse = session.pulse.clone();
    let tidying = pulse.in_pauses(memory::give_back);
    tokio::pin!(tidying);
    let life = loop {
        tokio::select! {
            life = session.wait() => break life,
            Some(order) = upgrades.recv() => session.replace(order).await?,
            word = signals.next() => signals.act(word, foreground, &session),
            never = &mut tidying => match never {},
        }
    };
    if life != Life::Failed {
        return Ok(EXIT_DONE);
    }
    // The next daemon takes over from here, and needs its lock.
    drop(session);
    if !foreground && started.elapsed() >= SERVED_MIN {
        replace_heart(&own_places, &program).await.map_err(|error| error.to_string())?;
    }
    Ok(EXIT_FAILED)
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup?, ending: None })
    }

    /// The next one. Cancel-safe.
    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Stop,
            _ = self.interrupt.recv() => Word::Stop,
            _ = self.hangup.recv() => Word::HungUp,
        }
    }

    /// The first word to stop ends everything in order, the second kills what is left. Nothing takes a stop back.
    fn act(&mut self, word: Word, foreground: bool, session: &Session) {
        match word {
            Word::Stop if self.ending.is_some_and(|since| since.elapsed() < ECHO) => {}
            Word::Stop if self.ending.is_some() => session.hurry(),
            Word::HungUp if self.ending.is_some() || !foreground => tracing::info!("a hang-up changes nothing"),
            // In the foreground the terminal is all there is.
            Word::Stop | Word::HungUp => {
                self.ending = Some(Instant::now());
                session.end();
            }
        }
    }
}

/// Whoever typed the first command leaves no trace on what runs for days: mask, niceness, limits and how soon the kernel
/// kills it when memory is short are the machine's.
fn forget_caller() {
    umask(Mode::from_bits_truncate(0o022));
    child::reset_nice();
    // proc_pid_oom_score_adj(5); where it was set by root, only root can take it back, and it stays.
    let score = fs::OpenOptions::new().write(true).open("/proc/self/oom_score_adj");
    let _ = score.and_then(|mut file| file.write_all(b"0"));
    for (resource, soft, hard) in machine_limits() {
        if let Err(error) = child::set_limit(resource, soft, hard) {
            tracing::debug!(resource, %error, "a limit stays as it is");
        }
    }
}

/// The limits of process 1 (proc_pid_limits(5)), which are those of a fresh login.
fn machine_limits() -> Vec<(u32, u64, u64)> {
    const NAMES: [(&str, u32); 8] = [
        ("Max cpu time", nix::libc::RLIMIT_CPU),
        ("Max file size", nix::libc::RLIMIT_FSIZE),
        ("Max data size", nix::libc::RLIMIT_DATA),
        ("Max stack size", nix::libc::RLIMIT_STACK),
        ("Max address space", nix::libc::RLIMIT_AS),
        ("Max open files", nix::libc::RLIMIT_NOFILE),
        ("Max core file size", nix::libc::RLIMIT_CORE),
        ("Max processes", nix::libc::RLIMIT_NPROC),
    ];
    let text = fs::read_to_string("/proc/1/limits").unwrap_or_default();
    let value = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
    let line = |(name, resource): &(&str, u32)| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut fields = rest.split_ascii_whitespace();
        Some((*resource, value(fields.next()?)?, value(fields.next()?)?))
    };
    NAMES.iter().filter_map(line).collect()
}

/// Inner processes have no user: what they say goes to the daemon's log.
fn told(error: &str) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(EXIT_FAILED)
}
