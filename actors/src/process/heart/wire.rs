//! Frames between daemon and heart: a length (u32, big endian), then MessagePack with named fields.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::process::sys::child::WaitStatus;
use crate::process::sys::terminal::WindowSize;

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
const LENGTH_BYTES: usize = 4;
const READ_BYTES: usize = 64 * 1024;

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
    /// What posix_spawn cannot do, done by the exec stub in the child.
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

/// A frame that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_MAX_BYTES`].
    #[error("a frame of {0} bytes is over the limit of {FRAME_MAX_BYTES}")]
    TooLong(usize),
    /// Not what was expected.
    #[error("a frame cannot be understood: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// Cannot be written.
    #[error("a frame cannot be written: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// Bytes on their way in: fed in any pieces, gives whole frames.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

/// The connection as heart uses it: never blocks, keeps what the other side is too slow for.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    outbox: Vec<u8>,
}

/// Encodes one message with its length.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = rmp_serde::to_vec_named(message)?;
    if body.len() > FRAME_MAX_BYTES {
        return Err(FrameError::TooLong(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong(body.len()))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

// === impl Inbox ===

impl Inbox {
    /// Takes in bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let waiting = &self.bytes[self.start..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_MAX_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = rmp_serde::from_slice(body)?;
        self.start += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

// === impl Connection ===

impl Connection {
    /// Wraps a stream; makes it non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, inbox: Inbox::default(), outbox: Vec::new() })
    }

    /// The stream, to wait on.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads what is there. `false`: the other side is gone.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.inbox.feed(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message that has come in whole.
    pub fn take(&mut self) -> Result<Option<ToHeart>, FrameError> {
        self.inbox.take()
    }

    /// Sends, or keeps for [`Connection::flush`].
    pub fn send(&mut self, message: &FromHeart) -> io::Result<()> {
        let frame = encode(message).map_err(io::Error::other)?;
        self.outbox.extend_from_slice(&frame);
        self.flush()
    }

    /// Sends what is kept, as far as the other side takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something waits to be sent.
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_comes_out_whole_however_it_is_cut() {
        let message = ToHeart::Signal { key: 7, signal: 15, group: true };
        let frame = encode(&message).unwrap();
        for cut in 0..frame.len() {
            let mut inbox = Inbox::default();
            inbox.feed(&frame[..cut]);
            assert_eq!(inbox.take::<ToHeart>().unwrap(), None);
            inbox.feed(&frame[cut..]);
            assert_eq!(inbox.take::<ToHeart>().unwrap(), Some(message.clone()));
            assert_eq!(inbox.take::<ToHeart>().unwrap(), None);
        }
    }

    #[test]
    fn what_an_older_daemon_or_heart_does_not_know_is_not_there() {
        #[derive(Serialize)]
        enum Older {
            Spawned { key: Key, pid: u32 },
            Exited { key: Key, status: WaitStatus },
        }
        let read = |older: &Older| {
            let mut inbox = Inbox::default();
            inbox.feed(&encode(older).unwrap());
            inbox.take::<FromHeart>().unwrap().unwrap()
        };
        assert_eq!(
            read(&Older::Spawned { key: 1, pid: 2 }),
            FromHeart::Spawned { key: 1, pid: 2, hold: None, terminal: None }
        );
        let status = WaitStatus::Code(0);
        assert_eq!(read(&Older::Exited { key: 1, status }), FromHeart::Exited { key: 1, status, oom: false });
        let newer = StubOrder { nice: Some(5), user: Some((33, 33)), ..StubOrder::default() };
        let text = serde_json::to_string(&newer).unwrap();
        assert_eq!(serde_json::from_str::<StubOrder>(&text).unwrap(), newer);
        assert_eq!(serde_json::from_str::<StubOrder>("{}").unwrap(), StubOrder::default());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
        let mut inbox = Inbox::default();
        inbox.feed(&u32::MAX.to_be_bytes());
        assert!(matches!(inbox.take::<ToHeart>(), Err(FrameError::TooLong(_))));
    }

    fn upgrade_orders() -> impl Strategy<Value = ToHeart> {
        let program = proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            program.prop_map(|program| ToHeart::HandOver { program: ByteBuf::from(program) }),
            Just(ToHeart::Greet),
            Just(ToHeart::Keep),
            any::<Key>().prop_map(|key| ToHeart::Ack { key }),
        ]
    }

    #[test]
    fn a_greeting_of_an_older_heart_is_understood_and_one_of_this_heart_by_an_older_daemon() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum First {
            Hello { version: u32, pid: u32, held: Vec<Held> },
        }
        let old = rmp_serde::to_vec_named(&First::Hello { version: 1, pid: 7, held: Vec::new() }).unwrap();
        let hello = |version, build, rescued| FromHeart::Hello {
            version,
            pid: 7,
            held: Vec::new(),
            build,
            rescued,
            terminals: false,
            replaced: false,
        };
        assert_eq!(rmp_serde::from_slice::<FromHeart>(&old).unwrap(), hello(1, None, None));
        let new = hello(VERSION, Some("9".to_owned()), Some("it ended".to_owned()));
        let new = rmp_serde::to_vec_named(&new).unwrap();
        let read = rmp_serde::from_slice::<First>(&new).unwrap();
        assert_eq!(read, First::Hello { version: VERSION, pid: 7, held: Vec::new() });
    }

    #[test]
    fn what_was_said_before_there_were_terminals_is_understood() {
        #[derive(Serialize)]
        enum Older {
            Hello { version: u32, pid: u32, held: Vec<u32> },
            Spawned { key: Key, pid: u32 },
        }
        let heard = |older: &Older| {
            let mut inbox = Inbox::default();
            inbox.feed(&encode(older).unwrap());
            inbox.take::<FromHeart>().unwrap().unwrap()
        };
        let hello = heard(&Older::Hello { version: 1, pid: 2, held: Vec::new() });
        assert_eq!(
            hello,
            FromHeart::Hello {
                version: 1,
                pid: 2,
                held: Vec::new(),
                build: None,
                rescued: None,
                terminals: false,
                replaced: false
            }
        );
        let spawned = heard(&Older::Spawned { key: 3, pid: 4 });
        assert_eq!(spawned, FromHeart::Spawned { key: 3, pid: 4, hold: None, terminal: None });
    }

    proptest! {
        #[test]
        fn orders_come_out_as_they_went_in_however_they_are_cut(
            orders in proptest::collection::vec(upgrade_orders(), 1..8),
            cuts in proptest::collection::vec(1usize..40, 1..40),
        ) {
            let bytes: Vec<u8> = orders.iter().flat_map(|order| encode(order).unwrap()).collect();
            let (mut inbox, mut rest, mut came) = (Inbox::default(), bytes.as_slice(), Vec::new());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                inbox.feed(now);
                while let Some(order) = inbox.take::<ToHeart>().unwrap() {
                    came.push(order);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(came, orders);
        }

        #[test]
        fn a_damaged_order_never_panics(order in upgrade_orders(), at in 0usize..64, byte in any::<u8>()) {
            let mut bytes = encode(&order).unwrap();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let mut inbox = Inbox::default();
            inbox.feed(&bytes);
            while let Ok(Some(_)) = inbox.take::<ToHeart>() {}
            let mut inbox = Inbox::default();
            inbox.feed(&bytes);
            while let Ok(Some(_)) = inbox.take::<FromHeart>() {}
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut inbox = Inbox::default();
            inbox.feed(&bytes);
            while let Ok(Some(_)) = inbox.take::<ToHeart>() {}
        }
    }
}
