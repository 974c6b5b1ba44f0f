//! Keeps the daemon up: starts it, and starts it again at once when it dies, within an intensity of its own.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::handover::{Handover, Program};
use super::own_log;
use super::wire::Connection;
use crate::process::sys::child::{self, WaitStatus};
use crate::process::sys::spawn::{ChildFile, Signals, Spawn, Spawned, spawn};

/// Where the daemon finds its connection to heart.
pub const DAEMON_SOCKET_FD: i32 = 3;
/// Where the first daemon finds the pipe on which it says that it listens.
pub const DAEMON_READY_FD: i32 = 4;
/// More deaths than this within [`DEATHS_PERIOD`] and heart gives up.
pub const DEATHS_MAX: usize = 5;
/// The window of [`DEATHS_MAX`].
pub const DEATHS_PERIOD: Duration = Duration::from_secs(10);
/// Copies of descriptors are made above every number a child is promised, so that no copy overwrites a source.
const COPY_FLOOR: i32 = 16;

/// How the daemon is started.
#[derive(Debug)]
pub struct DaemonCommand {
    /// What is executed. `/proc/self/exe` is this very build, also when its file has been replaced or removed.
    pub program: PathBuf,
    /// The program's name, as its first argument.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where its output goes; `None`: where ours goes.
    pub log: Option<PathBuf>,
    /// Told to the first daemon only: the pipe on which it says that it listens.
    pub ready: Option<OwnedFd>,
}

/// The daemon and its deaths.
#[derive(Debug)]
pub struct Keeper {
    command: DaemonCommand,
    /// What is executed: the command's program, until an upgrade has succeeded.
    program: Program,
    daemon: Option<Daemon>,
    deaths: VecDeque<Duration>,
    /// The daemon is becoming another program.
    handover: Option<Handover>,
    /// Why the last upgrade failed, if it did.
    rescued: Option<String>,
}

#[derive(Debug)]
struct Daemon {
    pid: u32,
    pidfd: OwnedFd,
}

/// What follows the daemon's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It meant to end: so do we.
    Finish(i32),
    /// The program that took over failed: start the one of before.
    Rescue,
    /// It died: start it again.
    Restart,
    /// It died too often.
    GiveUp,
}

// === impl Keeper ===

impl Keeper {
    /// Nothing is started yet.
    pub fn new(command: DaemonCommand) -> Self {
        let program = Program::Path(command.program.clone());
        Self { command, program, daemon: None, deaths: VecDeque::new(), handover: None, rescued: None }
    }

    /// Starts the daemon; gives our end of the connection.
    pub fn start(&mut self) -> io::Result<Connection> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = copy_high(&theirs)?;
        let ready = self.command.ready.take().map(|fd| copy_high(&fd)).transpose()?;
        let Spawned { pid, pidfd } = spawn(&self.plan(&theirs, ready.as_ref())?)?;
        self.daemon = Some(Daemon { pid, pidfd });
        tracing::info!(pid, "daemon started");
        Connection::new(ours)
    }

    /// The descriptor that becomes readable when the daemon ends.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.daemon.as_ref().map(|daemon| &daemon.pidfd)
    }

    /// The daemon's number.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    /// Passes a signal on to the daemon.
    pub fn forward(&self, signal: i32) {
        if let Some(daemon) = &self.daemon {
            // A daemon that is gone has been or will be seen through its pidfd.
            let _ = child::pidfd_signal(daemon.pidfd.as_fd(), signal);
        }
    }

    /// Reaps the daemon and decides what follows. `now`: time since heart started.
    pub fn ended(&mut self, now: Duration) -> io::Result<Option<Next>> {
        let Some(daemon) = &self.daemon else { return Ok(None) };
        let Some(status) = child::reap(daemon.pid)? else { return Ok(None) };
        tracing::info!(pid = daemon.pid, ?status, "daemon ended");
        self.daemon = None;
        if let Some(handover) = self.handover.take() {
            let why = handover.failure(status);
            tracing::error!(program = ?handover.program(), why, "an upgrade failed: the program of before is started");
            self.rescued = Some(why);
            return Ok(Some(Next::Rescue));
        }
        Ok(Some(self.decide(status, now)))
    }

    /// The daemon is about to become `program`. `now`: time since heart started.
    pub fn hand_over(&mut self, program: OsString, now: Duration) {
        tracing::info!(?program, "the daemon is about to be replaced");
        self.rescued = None;
        self.handover = Some(Handover::new(program, now));
    }

    /// The program that the daemon has become serves: it is the one to start from now on.
    pub fn keep(&mut self) {
        let (Some(handover), Some(daemon)) = (self.handover.take(), &self.daemon) else { return };
        let name = handover.program().clone();
        self.program = Program::of(daemon.pid).unwrap_or_else(|error| {
            tracing::warn!(%error, "the new program cannot be held: it is found by its path");
            Program::Path(name.clone().into())
        });
        tracing::info!(program = ?name, "the daemon was replaced");
        self.command.name = name;
    }

    /// Why the last upgrade failed, if it did.
    pub fn rescued(&self) -> Option<&str> {
        self.rescued.as_deref()
    }

    /// How long the program that takes over still has; `None`: nothing is waited for.
    pub fn patience(&self, now: Duration) -> Option<Duration> {
        self.handover.as_ref()?.left(now)
    }

    /// Kills a program that took over and does not serve in time. Its end is then seen like any other.
    pub fn end_overdue(&mut self, now: Duration) {
        if self.handover.as_mut().is_some_and(|handover| handover.run_out(now)) {
            self.forward(nix::libc::SIGKILL);
        }
    }

    fn decide(&mut self, status: WaitStatus, now: Duration) -> Next {
        if let WaitStatus::Code(code @ 0..=2) = status {
            return Next::Finish(code);
        }
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|death| *death + DEATHS_PERIOD < now) {
            self.deaths.pop_front();
        }
        if self.deaths.len() > DEATHS_MAX { Next::GiveUp } else { Next::Restart }
    }

    fn plan(&self, socket: &OwnedFd, ready: Option<&OwnedFd>) -> io::Result<Spawn> {
        let mut files = vec![ChildFile::Copy { fd: DAEMON_SOCKET_FD, from: socket.as_raw_fd() }];
        if let Some(ready) = ready {
            files.push(ChildFile::Copy { fd: DAEMON_READY_FD, from: ready.as_raw_fd() });
        }
        if let Some(log) = &self.command.log {
            own_log::cap(log);
            let flags = (OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT).bits();
            let path = child::c_string(log.as_os_str())?;
            files.extend([1, 2].map(|fd| ChildFile::Open { fd, path: path.clone(), flags }));
        }
        let program = child::c_string(self.program.path().as_os_str())?;
        let args = self.command.args.iter().map(|arg| child::c_string(arg));
        let entry = |(name, value): &(OsString, OsString)| {
            let mut text = name.clone();
            text.push("=");
            text.push(value);
            child::c_string(&text)
        };
        Ok(Spawn {
            argv: std::iter::once(child::c_string(&self.command.name)).chain(args).collect::<io::Result<_>>()?,
            program,
            env: self.command.env.iter().map(entry).collect::<io::Result<_>>()?,
            dir: CString::from(c"/"),
            files,
            open_files: None,
            signals: Signals::ALL,
        })
    }
}

fn copy_high(fd: &impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(COPY_FLOOR)).map_err(io::Error::from)?;
    child::inherited(copy).ok_or_else(|| io::Error::other("a copied descriptor is closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> Keeper {
        let command = DaemonCommand {
            program: "/nowhere".into(),
            name: "nowhere".into(),
            args: vec![],
            env: vec![],
            log: None,
            ready: None,
        };
        Keeper::new(command)
    }

    #[test]
    fn a_daemon_that_means_to_end_is_not_started_again() {
        assert_eq!(keeper().decide(WaitStatus::Code(0), Duration::ZERO), Next::Finish(0));
    }

    #[test]
    fn b14_a_program_that_ends_before_it_serves_is_no_death_and_no_orderly_end() {
        let mut keeper = keeper();
        let mut end = |code: &str| {
            let Spawned { pid, pidfd } = spawn(&shell(code)).unwrap();
            keeper.daemon = Some(Daemon { pid, pidfd });
            keeper.hand_over("new".into(), Duration::ZERO);
            let mut wait = [nix::poll::PollFd::new(keeper.pidfd().unwrap().as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut wait, 5_000_u16).unwrap();
            let next = keeper.ended(Duration::ZERO).unwrap();
            (next, keeper.rescued().unwrap_or_default().to_owned(), keeper.deaths.len())
        };
        let told = |text: &str| (Some(Next::Rescue), text.to_owned(), 0);
        assert_eq!(end("exit 0"), told("it ended with exit code 0 before it served"));
        assert_eq!(end("kill -9 $$"), told("it was ended by signal 9 before it served"));
    }

    fn shell(code: &str) -> Spawn {
        let argv = ["sh", "-c", code].map(|arg| CString::new(arg).unwrap()).to_vec();
        let (program, dir, signals) = (c"/bin/sh".into(), c"/".into(), Signals::ALL);
        Spawn { program, argv, env: vec![], dir, files: vec![], open_files: None, signals }
    }

    #[test]
    fn a_killed_daemon_is_started_again_until_it_dies_too_often() {
        let mut keeper = keeper();
        let killed = WaitStatus::Signal(9, false);
        for at in 0..DEATHS_MAX as u64 {
            assert_eq!(keeper.decide(killed, Duration::from_secs(at)), Next::Restart);
        }
        assert_eq!(keeper.decide(killed, Duration::from_secs(5)), Next::GiveUp);
        assert_eq!(keeper.decide(killed, Duration::from_secs(60)), Next::Restart, "old deaths are forgotten");
    }
}
