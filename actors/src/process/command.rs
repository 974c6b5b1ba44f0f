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
}

/// What a process may use and what it is given; `None` leaves the default of the machine, never that of whoever typed the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// File mode mask; default 022.
    pub umask: Option<u32>,
    /// The size of the terminal that is its standard input, output and error; default: no terminal.
    pub tty: Option<WindowSize>,
}
