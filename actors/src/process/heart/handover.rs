//! An upgrade as heart sees it: the daemon becomes another program, and serves in time or is rescued.
//!
//! ```text
//! old daemon ──HandOver──▶ heart ──HandingOver──▶ old daemon, which execs
//! new daemon ──Greet─────▶ heart ──Hello────────▶ new daemon, which takes everything over
//!            ──Keep──────▶ from now on the new program is started when the daemon dies
//!        dies, or is late: the program of before is started again, and told why
//! ```
//!
//! Decides nothing about units, and never looks at the new program: that the old daemon has done.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::process::sys::child::WaitStatus;

/// How long the new program may take until it serves. It takes some 50 ms; a machine that swaps takes seconds, and a
/// program that hangs must not keep a session without a daemon for longer than a user waits.
pub const SERVES_WITHIN: Duration = Duration::from_secs(10);

/// A handover under way.
#[derive(Debug)]
pub struct Handover {
    program: OsString,
    until: Duration,
    overdue: bool,
}

/// What is executed to start a daemon.
#[derive(Debug)]
pub enum Program {
    /// By path.
    Path(PathBuf),
    /// The very file that a daemon ran from, also when another has taken its place.
    Held(OwnedFd),
}

// === impl Handover ===

impl Handover {
    /// Begins at `now`, the time since heart started.
    pub fn new(program: OsString, now: Duration) -> Self {
        Self { program, until: now + SERVES_WITHIN, overdue: false }
    }

    /// The new program's name.
    pub fn program(&self) -> &OsString {
        &self.program
    }

    /// What is left of its time; `None` after it was over.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        (!self.overdue).then(|| self.until.saturating_sub(now))
    }

    /// Whether its time is over. Says so once: then the new program is to be killed.
    pub fn run_out(&mut self, now: Duration) -> bool {
        let over = !self.overdue && now >= self.until;
        self.overdue |= over;
        over
    }

    /// Why it failed, for people: the new program's end is `status`.
    pub fn failure(&self, status: WaitStatus) -> String {
        match status {
            _ if self.overdue => format!("it did not serve within {} s", SERVES_WITHIN.as_secs()),
            WaitStatus::Code(code) => format!("it ended with exit code {code} before it served"),
            WaitStatus::Signal(signal, _) => format!("it was ended by signal {signal} before it served"),
            WaitStatus::Unknown => "it ended before it served".to_owned(),
        }
    }
}

// === impl Program ===

impl Program {
    /// The file that process `pid` runs (proc_pid_exe(5)), held from now on.
    pub fn of(pid: u32) -> io::Result<Self> {
        let link = format!("/proc/{pid}/exe");
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        Ok(Self::Held(open(Path::new(&link), flags, Mode::empty()).map_err(io::Error::from)?))
    }

    /// A path that a child of this process can execute: the child has our descriptors until its exec.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Held(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_serve_runs_out_once() {
        let mut handover = Handover::new("new".into(), Duration::from_secs(5));
        let end = Duration::from_secs(5) + SERVES_WITHIN;
        assert_eq!(handover.left(Duration::from_secs(5)), Some(SERVES_WITHIN));
        assert!(!handover.run_out(end - Duration::from_millis(1)));
        assert!(handover.run_out(end));
        assert!(!handover.run_out(end), "it is killed once");
        assert_eq!(handover.left(end), None, "nothing more is waited for than its end");
        assert!(handover.failure(WaitStatus::Signal(9, false)).contains("did not serve within 10 s"));
    }

    #[test]
    fn the_program_of_a_process_is_held_by_its_file() {
        use std::os::unix::fs::MetadataExt;
        let held = Program::of(std::process::id()).unwrap();
        let (ours, theirs) = (std::fs::metadata("/proc/self/exe").unwrap(), std::fs::metadata(held.path()).unwrap());
        assert_eq!((ours.dev(), ours.ino()), (theirs.dev(), theirs.ino()));
        assert!(Program::of(u32::MAX / 2).is_err());
    }
}
