//! Frames between daemon and heart: a length (u32, big endian), then MessagePack with named fields.

mod framing;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::process::sys::child::WaitStatus;
use crate::process::sys::terminal::WindowSize;

pub use framing::{Connection, FrameError, Inbox, encode};

/// Version of these frames. Heart outlives daemons, so a newer daemon may meet an older heart.
pub const VERSION: u32 = 2;
/// This build, as heart tells it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
/// From this version on heart knows [`ToHeart::HandOver`], [`ToHeart::Greet`] and [`ToHeart::Keep`].
pub const HANDOVER_SINCE: u32 = 2;
/// The oldest heart that a daemon of this build can work with.
pub const VERSION_MIN: u32 = 1;
/// Longest frame: an environment of the largest size the kernel takes (2 MiB), and as much again for the rest.
pub const FRAME_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Longest piece that is typed at once: what a terminal keeps of a line (N_TTY_BUF_SIZE).
pub const TYPED_MAX_BYTES: usize = 4096;

/// A process in heart's care, by the daemon's number for it.
pub type Key = u64;

/// What the daemon asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHeart {
    /// Start a process.
    Spawn(Box<Order>),
    /// Signal a process, or its whole group; the group also while the leader is a zombie.
    Signal {
        /// Which.
        key: Key,
        /// The signal's number.
        signal: i32,
        /// The whole group.
        group: bool,
    },
    /// Look after a process that an earlier heart has started: that heart is dead, the process is not.
    Adopt(Box<Adoption>),
    /// The exit status has been recorded: the zombie may be reaped.
    Ack {
        /// Which.
        key: Key,
    },
    /// This daemon is about to become another program. Answered by [`FromHeart::HandingOver`]; then heart is silent until
    /// [`ToHeart::Greet`], so that no frame is cut in two by the exec.
    HandOver {
        /// Path of the program, as it is called in `ps`.
        program: ByteBuf,
    },
    /// A new program has taken the connection over: greet it as every daemon is greeted.
    Greet,
    /// The new program serves: it is the one to start from now on.
    Keep,
    /// Type something on a process's terminal; answered by [`FromHeart::Typed`]. Only to a heart that has terminals.
    Type {
        /// Which.
        key: Key,
        /// The daemon's number for this piece.
        number: u64,
        /// What is typed, at most [`TYPED_MAX_BYTES`].
        bytes: ByteBuf,
    },
    /// Give a process's terminal another size. Only to a heart that has terminals.
    Resize {
        /// Which.
        key: Key,
        /// The size.
        size: WindowSize,
    },
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The daemon's number for it, never used before.
    pub key: Key,
    /// What it is, for the daemon that comes after this one.
    pub tag: String,
    /// Absolute path of the program.
    pub program: ByteBuf,
    /// Arguments, the program's name first.
    pub argv: Vec<ByteBuf>,
    /// `NAME=value`.
    pub env: Vec<ByteBuf>,
    /// Working directory.
    pub dir: ByteBuf,
    /// FIFO for standard output.
    pub out: ByteBuf,
    /// FIFO for standard error.
    pub err: ByteBuf,
    /// What only some units want, done by the exec stub in the child.
    pub stub: Option<StubOrder>,
    /// Limits of all its processes together.
    #[serde(default)]
    pub limits: Option<LimitsOrder>,
    /// A regular file for standard input.
    #[serde(default)]
    pub stdin: Option<ByteBuf>,
    /// How it ends where no daemon asks it to.
    #[serde(default)]
    pub ending: Ending,
    /// The size of the terminal that is its standard input, output and error, if it is to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<WindowSize>,
}

/// Limits of all processes of a life together, as far as this machine can hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitsOrder {
    /// Bytes of memory.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Thousandths of one processor.
    #[serde(default)]
    pub cpu_milli: Option<u64>,
    /// Processes and threads.
    #[serde(default)]
    pub processes: Option<u64>,
}

/// What holds a process within its limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hold {
    /// The directory of its cgroup, if it has one.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Limits that are not in force, or less than asked for: one line each.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Whether the kernel killed it because its memory limit was reached.
    #[serde(default)]
    pub oom: bool,
}

/// A limit of one process, soft and hard (setrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    pub resource: u32,
    /// The value; the largest number is no limit.
    pub value: u64,
    /// How the user calls it, as in `limits.open_files`.
    pub name: String,
}

/// A process to take over. Answered like an order: `Spawned`, or `SpawnFailed` with `ESRCH` if it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The daemon's number for it, never used before.
    pub key: Key,
    /// What it is.
    pub tag: String,
    /// Its process.
    pub pid: u32,
    /// When that started, in clock ticks since boot: another one of its number is another process.
    pub start_time: u64,
    /// FIFO for standard output.
    pub out: ByteBuf,
    /// FIFO for standard error.
    pub err: ByteBuf,
    /// How it ends where no daemon asks it to.
    #[serde(default)]
    pub ending: Ending,
}

/// How far the end of a process reaches, and whether it ends with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ending {
    /// Who is killed with it.
    #[serde(default)]
    pub reach: Reach,
    /// How it is ended when the daemon dies; `None`: it lives on for the next one.
    #[serde(default)]
    pub with_daemon: Option<WithDaemon>,
}

/// Who is killed with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Reach {
    /// Nobody else.
    Main,
    /// Its process group.
    Group,
    /// Its group, and the orphans that carry its envelope.
    #[default]
    All,
}

/// How a process is ended when the daemon dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithDaemon {
    /// The signal that asks.
    pub signal: i32,
    /// Whether its whole group is asked.
    pub group: bool,
    /// Milliseconds until it is killed.
    pub grace_ms: u64,
}

/// What the exec stub does before it becomes the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StubOrder {
    /// File mode mask.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Uid and gid to be seen as, in a user namespace that maps them to ours.
    #[serde(default)]
    pub map: Option<(u32, u32)>,
    /// Uid and gid to become.
    #[serde(default)]
    pub account: Option<(u32, u32)>,
    /// Uid and gid to become with their groups, keeping nothing of ours.
    #[serde(default)]
    pub user: Option<(u32, u32)>,
    /// Niceness.
    #[serde(default)]
    pub nice: Option<i32>,
    /// Limits of each process.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// The directory of the cgroup to join.
    #[serde(default)]
    pub cgroup: Option<String>,
}

/// What heart says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHeart {
    /// First word to every daemon.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Heart's process.
        pid: u32,
        /// What it holds.
        held: Vec<Held>,
        /// Heart's build; none: one that did not tell yet.
        #[serde(default)]
        build: Option<String>,
        /// What became of the last upgrade, if it failed: why this daemon was started again in place of the new one.
        #[serde(default)]
        rescued: Option<String>,
        /// Whether this daemon takes the place of one that did not die: after an upgrade, or after one that failed.
        #[serde(default)]
        replaced: bool,
        /// Whether it can give a process a terminal; hearts before this field cannot.
        #[serde(default)]
        terminals: bool,
    },
    /// The last word before a daemon's exec.
    HandingOver,
    /// Started.
    Spawned {
        /// Which.
        key: Key,
        /// Its process, leader of a session of that number.
        pid: u32,
        /// What holds it within its limits; `None` if it has none, or heart is of a build that knows of none.
        #[serde(default)]
        hold: Option<Hold>,
        /// Path of its terminal, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<PathBuf>,
    },
    /// Not started; nothing is left of it.
    SpawnFailed {
        /// Which.
        key: Key,
        /// The kernel's reason.
        errno: i32,
        /// What was tried, if it was not the exec itself.
        step: Option<String>,
    },
    /// Ended. Its number stays taken until acknowledged.
    Exited {
        /// Which.
        key: Key,
        /// How.
        status: WaitStatus,
        /// Whether the kernel killed it because its memory limit was reached.
        #[serde(default)]
        oom: bool,
        /// Whether it left nobody for certain: no process that came to heart as an orphan.
        #[serde(default)]
        alone: bool,
    },
    /// The answer to [`ToHeart::Type`].
    Typed {
        /// Which process.
        key: Key,
        /// The daemon's number for the piece.
        number: u64,
        /// Whether its terminal has taken it; if not, nothing of it was typed or the process ended over it.
        taken: bool,
    },
}

/// A process in heart's care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The number a daemon gave it.
    pub key: Key,
    /// What it is.
    pub tag: String,
    /// Its process.
    pub pid: u32,
    /// Its end, if it has ended.
    pub exit: Option<WaitStatus>,
    /// When it started, if it is no child of this heart: its number is not kept for it.
    #[serde(default)]
    pub adopted: Option<u64>,
    /// What holds it within its limits.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Path of its terminal, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
