//! What is to be run: fully resolved, so that spawning decides nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::sys::terminal::WindowSize;

/// A program with its whole surroundings. The environment is complete: nothing is inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to run: a path, or a bare name that is looked up in this command's own `PATH`.
    pub program: OsString,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Working directory, absolute.
    pub dir: PathBuf,
    /// Whose rights it has.
    pub run_as: RunAs,
    /// File mode mask, and other limits.
    pub limits: Limits,
    /// What it reads as standard input: a regular file; `None`: nothing (`/dev/null`).
    pub stdin: Option<PathBuf>,
}

/// Whose rights a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAs {
    /// Ours.
    #[default]
    Caller,
    /// Ours towards the file system, but seen by the program as this uid and gid: a user namespace that maps them to us.
    /// For programs that refuse to run as root.
    MappedUser {
        /// The uid the program sees; one that exists in passwd.
        uid: u32,
        /// The gid the program sees.
        gid: u32,
    },
    /// Another account altogether; only root can ask for it.
    Account {
        /// Its uid.
        uid: u32,
        /// Its gid.
        gid: u32,
    },
    /// Another account, with its groups and with none of our rights; only root can ask for it.
    User {
        /// Its uid.
        uid: u32,
        /// Its gid.
        gid: u32,
    },
}

/// What a process may use and what it is given; `None` leaves the default of the machine, never that of whoever typed the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// File mode mask; default 022.
    pub umask: Option<u32>,
    /// Niceness, from -20 (only root) to 19; default 0.
    pub nice: Option<i32>,
    /// Bytes of memory of the whole unit (cgroups(7), `memory.max`).
    pub memory: Option<u64>,
    /// Thousandths of one processor, of the whole unit (`cpu.max`).
    pub cpu_milli: Option<u64>,
    /// Processes and threads of the whole unit (`pids.max`).
    pub processes: Option<u64>,
    /// Open files of each process (getrlimit(2), `RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Bytes of a core dump (`RLIMIT_CORE`); the largest number is no limit.
    pub core: Option<u64>,
    /// Bytes of each file it writes (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
    /// The size of the terminal that is its standard input, output and error; default: no terminal.
    pub tty: Option<WindowSize>,
}

// === impl Limits ===

impl Limits {
    /// Whether a limit is set that holds for all processes of the unit together, which only a cgroup can do.
    pub fn are_shared(&self) -> bool {
        self.memory.is_some() || self.cpu_milli.is_some() || self.processes.is_some()
    }
}
