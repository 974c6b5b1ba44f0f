//! One process in heart's care.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::Epoll;

use super::stranger;
use super::terminal::Terminal;
use super::wire::{Ending, Hold};
use crate::process::cgroup::Cgroup;
use crate::process::sys::child::{self, WaitStatus};

/// One process.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) tag: String,
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) exit: Option<WaitStatus>,
    /// The envelope it was started with, as it stands in its environment: its orphans carry the same.
    pub(super) envelope: Option<Vec<u8>>,
    /// How far its end reaches, and whether it ends with the daemon.
    pub(super) ending: Ending,
    /// Whether it was asked to end because the daemon died.
    pub(super) doomed: bool,
    /// Acknowledged before it had ended: nobody will ask again, so it is reaped as soon as it ends.
    pub(super) forsaken: bool,
    /// When it started, if an earlier heart has started it: then it is no child of ours, and never reaped by us.
    pub(super) adopted: Option<u64>,
    /// What holds it within its limits.
    pub(super) hold: Option<Hold>,
    /// Its FIFOs, held until its end is acknowledged: what it wrote while no daemon lived stays in them.
    pub(super) fifos: [OwnedFd; 2],
    /// Held as long as the FIFOs: whatever is still on it then is told by SIGHUP.
    pub(super) terminal: Option<Terminal>,
    /// Its end has been told, or would have been if there had been a daemon.
    pub(super) told: bool,
}

// === impl Child ===

impl Child {
    /// Lives, and has nothing of what only some have.
    pub(super) fn new(tag: String, pid: u32, pidfd: OwnedFd, fifos: [OwnedFd; 2]) -> Self {
        Self {
            tag,
            pid,
            pidfd,
            exit: None,
            envelope: None,
            ending: Ending::default(),
            doomed: false,
            forsaken: false,
            adopted: None,
            hold: None,
            fifos,
            terminal: None,
            told: false,
        }
    }

    /// Moves what its terminal shows. `true`: after its end, that was all.
    pub(super) fn relay(&mut self, epoll: &Epoll, token: u64) -> io::Result<bool> {
        let Some(terminal) = &mut self.terminal else { return Ok(true) };
        let fifo = self.fifos[0].as_fd();
        terminal.relay(fifo)?;
        let has_shown_all = self.exit.is_none() || terminal.is_told(fifo)?;
        terminal.watch(epoll, token, fifo)?;
        Ok(has_shown_all)
    }

    /// Signals the whole group; also while the leader is a zombie.
    pub(super) fn signal_group(&self, signal: i32) -> io::Result<()> {
        match self.adopted {
            None => child::signal_group(self.pid, signal),
            Some(start_time) => stranger::signal_group(self.pidfd.as_fd(), self.pid, start_time, signal),
        }
    }

    pub(super) fn cgroup(&self) -> Option<Cgroup> {
        self.hold.as_ref()?.cgroup.as_deref().map(Cgroup::in_dir)
    }
}
