//! From an order to a process: what a unit is given, and the words for what went wrong.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::limits::OpenFiles;
use super::stub;
use super::terminal::Terminal;
use super::wire::{Order, StubOrder};
use crate::process::sys::child;
use crate::process::sys::pipe;
use crate::process::sys::spawn::{ChildFile, Signals, Spawn, SpawnError, Spawned, Step, spawn};

/// How long a stub may take to become its program; it does a few system calls.
const STUB_MAX_MS: u16 = 5_000;

/// Starts units, with nothing of what is heart's alone.
#[derive(Debug)]
pub struct Starter {
    /// The program whose `exec-stub` subcommand serves orders that need one.
    stub: Option<PathBuf>,
    /// Heart's own limit, where it has raised it.
    open_files: Option<OpenFiles>,
    /// The signals that are reset.
    signals: Signals,
}

/// Why a process was not started.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why.
    pub(super) errno: i32,
    /// What could not be done; `None`: run the program itself.
    pub(super) step: Option<String>,
}

// === impl Starter ===

impl Starter {
    /// Starts units of any program. `stub`: the program whose `exec-stub` subcommand serves orders that need one.
    pub fn new(stub: Option<PathBuf>) -> Self {
        Self { stub, open_files: None, signals: Signals::ALL }
    }

    /// Raises our own limit of open files; units still get the one there was. Only for a process of one thread.
    pub fn raise_open_files(&mut self) -> io::Result<()> {
        self.open_files = Some(OpenFiles::raise()?);
        Ok(())
    }

    /// No signal is given another disposition from now on: only those that have one are reset. Only for a process of its own.
    pub fn settle_signals(&mut self) {
        self.signals = Signals::changed();
    }

    /// Starts it, with what the stub has to do if anything.
    pub(super) fn start(
        &self,
        order: &Order,
        stub: Option<&StubOrder>,
        terminal: Option<&Terminal>,
    ) -> Result<Spawned, Failure> {
        // Open until the child has its copy.
        let stdin = order.stdin.as_deref().map(|path| open_stdin(path)).transpose()?;
        let mut plan = plan(order, terminal)?;
        plan.signals = self.signals;
        plan.open_files = self.open_files.as_ref().map(OpenFiles::of_units);
        if let Some(stdin) = stdin.as_ref().filter(|_| terminal.is_none()) {
            plan.files[0] = ChildFile::Copy { fd: 0, from: stdin.as_raw_fd() };
        }
        match stub {
            None => spawn(&plan).map_err(|error| refused(&plan, error)),
            Some(wanted) => self.start_stub(order, wanted, plan),
        }
    }

    fn start_stub(&self, order: &Order, wanted: &StubOrder, mut plan: Spawn) -> Result<Spawned, Failure> {
        let program = self.stub.as_deref().ok_or_else(|| Failure {
            errno: nix::libc::ENOSYS,
            step: Some("find the exec stub: this session has none".to_owned()),
        })?;
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        plan.argv = stub_argv(program, wanted, order)?;
        plan.program = child::c_string(program.as_os_str())?;
        plan.files.push(ChildFile::Copy { fd: stub::ERROR_FD, from: write.as_raw_fd() });
        let spawned = spawn(&plan).map_err(|error| refused(&plan, error))?;
        drop(write);
        match told_by_stub(read) {
            None => Ok(spawned),
            Some((errno, step)) => {
                let _ = child::signal_group(spawned.pid, nix::libc::SIGKILL);
                let _ = child::reap_blocking(spawned.pid);
                Err(Failure { errno, step: (step != stub::EXEC).then_some(step) })
            }
        }
    }
}

// === impl Failure ===

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL), step: None }
    }
}

pub(super) fn open_fifo(path: &[u8]) -> Result<OwnedFd, Failure> {
    let path = Path::new(OsStr::from_bytes(path));
    pipe::open_fifo(path).map_err(|error| Failure {
        errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL),
        step: Some(format!("open {}", path.display())),
    })
}

/// Standard input: a regular file, so that opening it cannot wait for anybody, in heart least of all.
fn open_stdin(path: &[u8]) -> Result<OwnedFd, Failure> {
    let path = Path::new(OsStr::from_bytes(path));
    let failure = |errno| Failure { errno, step: Some(format!("open its standard input {}", path.display())) };
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(|error| failure(error.raw_os_error().unwrap_or(nix::libc::EINVAL)))?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file.into()),
        _ => Err(failure(nix::libc::EINVAL)),
    }
}

pub(super) fn no_terminal(error: io::Error) -> Failure {
    Failure { errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL), step: Some("open a terminal".to_owned()) }
}

fn plan(order: &Order, terminal: Option<&Terminal>) -> io::Result<Spawn> {
    let open = |fd, path: &[u8], flags| {
        let path = child::c_string(OsStr::from_bytes(path))?;
        Ok::<_, io::Error>(ChildFile::Open { fd, path, flags })
    };
    // Read-write, so that neither our death nor the daemon's ever gives the unit SIGPIPE.
    let fifo = OFlag::O_RDWR.bits();
    Ok(Spawn {
        program: c_text(&order.program)?,
        argv: order.argv.iter().map(|arg| c_text(arg)).collect::<io::Result<_>>()?,
        env: order.env.iter().map(|entry| c_text(entry)).collect::<io::Result<_>>()?,
        dir: c_text(&order.dir)?,
        files: match terminal {
            // Without O_NOCTTY: the leader of a new session gets it as its controlling terminal (tty_ioctl(4)).
            Some(terminal) => vec![
                open(0, terminal.path().as_os_str().as_bytes(), OFlag::O_RDWR.bits())?,
                ChildFile::Copy { fd: 1, from: 0 },
                ChildFile::Copy { fd: 2, from: 0 },
            ],
            None => vec![
                open(0, b"/dev/null", OFlag::O_RDONLY.bits())?,
                open(1, &order.out, fifo)?,
                open(2, &order.err, fifo)?,
            ],
        },
        open_files: None,
        signals: Signals::ALL,
    })
}

/// The step is named unless it is the program itself.
fn refused(plan: &Spawn, error: SpawnError) -> Failure {
    let step = match error.step {
        Step::Clone | Step::Exec => None,
        Step::Session => Some("give it a session of its own".to_owned()),
        Step::Descriptors => Some("give it descriptors of its own".to_owned()),
        Step::File(place) => Some(match plan.files.get(place) {
            Some(ChildFile::Open { path, .. }) => format!("open {}", path.to_string_lossy()),
            _ => "give it its files".to_owned(),
        }),
        Step::Limit => Some("set its limit of open files".to_owned()),
        Step::Directory => Some(format!("enter {}", plan.dir.to_string_lossy())),
    };
    Failure { errno: error.errno, step }
}

fn stub_argv(program: &Path, wanted: &StubOrder, order: &Order) -> io::Result<Vec<CString>> {
    let wanted = serde_json::to_string(wanted).map_err(io::Error::other)?;
    let head = [program.as_os_str().as_bytes(), stub::SUBCOMMAND.as_bytes(), wanted.as_bytes(), &order.program];
    let argv = order.argv.iter().map(|arg| arg.as_slice());
    head.into_iter().chain(argv).map(c_text).collect()
}

/// Waits until the stub has become its program (`None`) or says what failed.
fn told_by_stub(read: OwnedFd) -> Option<(i32, String)> {
    let mut wait = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, PollTimeout::from(STUB_MAX_MS)) == Ok(0) {
        return Some((nix::libc::ETIMEDOUT, "become its program in time: the exec stub hangs".to_owned()));
    }
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).ok()?;
    stub::parse_failure(&text)
}

fn c_text(bytes: &[u8]) -> io::Result<CString> {
    child::c_string(OsStr::from_bytes(bytes))
}
