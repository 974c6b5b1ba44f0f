//! Who a process is: (pid, start time, boot id). Never a bare pid: numbers are reused.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::procfs;
use super::sys::child;

/// Room for a process's line: a name of 64 bytes and 51 numbers of at most 20 digits.
const STAT_MAX_BYTES: usize = 2048;
/// Set in the flags of a thread of the kernel (`PF_KTHREAD` of linux/sched.h, part of what proc_pid_stat(5) calls flags).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A process, told apart from every other one this machine ever ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: u32,
    /// `R`, `S`, `D`, `T`, `Z`, `X` …
    pub state: char,
    /// Whether it is a thread of the kernel, which has no files, no environment, and nothing to do with us.
    pub is_kernel: bool,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// User and system time it used, in clock ticks.
    pub cpu_ticks: u64,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
    /// Of a zombie: its status, as wait(2) has it; 0 also for a living one, and where we may not look.
    pub exit_code: Option<i32>,
}

// === impl Identity ===

impl Identity {
    /// The living process of that number, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid).filter(Stat::is_alive)?;
        Some(Self { pid, start_time: stat.start_time, boot_id: boot_id() })
    }

    /// A descriptor of this very process; `None` if it is gone, whoever has its number now.
    pub fn open(&self) -> Option<OwnedFd> {
        let pidfd = child::pidfd_open(self.pid).ok()?;
        // Checked after opening: from here on the descriptor cannot come to mean another process. A zombie is gone: it may
        // wait for a parent that never reaps.
        Stat::read(self.pid).filter(|stat| stat.start_time == self.start_time && stat.is_alive())?;
        Some(pidfd)
    }

    /// Signals this very process. `Ok(false)`: it is gone.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        let Some(pidfd) = self.open() else { return Ok(false) };
        match child::pidfd_signal(pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

// === impl Stat ===

impl Stat {
    /// Reads a process's line.
    pub fn read(pid: u32) -> Option<Self> {
        let mut line = [0; STAT_MAX_BYTES];
        Self::parse(pid, procfs::read_line(&format!("/proc/{pid}/stat"), &mut line).ok()?)
    }

    /// Neither a zombie nor dead.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// The command name may hold spaces, brackets and newlines, so fields are counted from the last bracket.
    pub(super) fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        let rest = &line[memchr::memrchr(b')', line)? + 1..];
        let mut fields: Vec<&str> = Vec::with_capacity(64);
        fields.extend(std::str::from_utf8(rest).ok()?.split_ascii_whitespace());
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        let id = |at: usize| u32::try_from(number(at)?).ok();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            is_kernel: number(9)? & KERNEL_THREAD != 0,
            parent: id(4)?,
            group: id(5)?,
            session: id(6)?,
            cpu_ticks: number(14)? + number(15)?,
            start_time: number(22)?,
            resident_pages: number(24)?,
            exit_code: fields.get(52 - 3).and_then(|field| field.parse().ok()),
        })
    }
}

/// Waits until a process is gone, at most this long. Blocks the thread.
pub fn until_gone(pid: u32, within: Duration) {
    let Ok(pidfd) = child::pidfd_open(pid) else { return };
    let mut wait = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // An error is no reason to wait on.
    let _ = poll(&mut wait, PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO));
}

/// This boot's id; empty where the kernel does not tell it. Read once: no process outlives its boot.
pub fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned();
    ID.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let line = b"7 (a) S 1 1 1) Z 3 4 5 0 -1 0 0 0 0 0 10 20 0 0 20 0 1 0 12345 1000 6 0\n";
        let stat = Stat::parse(7, line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), ('Z', 3, 4, 5));
        assert_eq!((stat.cpu_ticks, stat.start_time, stat.resident_pages), (30, 12345, 6));
        assert!(!stat.is_alive());
        assert!(!stat.is_kernel);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.open().is_some());
        let reused = Identity { start_time: me.start_time + 1, ..me };
        assert!(reused.open().is_none());
        assert!(!reused.signal(0).unwrap());
    }
}
