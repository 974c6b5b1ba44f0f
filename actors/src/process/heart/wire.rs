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
pub const VERSION: u32 = 1;
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
    /// The exit status has been recorded: the zombie may be reaped.
    Ack {
        /// Which.
        key: Key,
    },
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
    /// The size of the terminal that is its standard input, output and error, if it is to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<WindowSize>,
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
        /// Whether it can give a process a terminal; hearts before this field cannot.
        #[serde(default)]
        terminals: bool,
    },
    /// Started.
    Spawned {
        /// Which.
        key: Key,
        /// Its process, leader of a session of that number.
        pid: u32,
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
    fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
        let mut inbox = Inbox::default();
        inbox.feed(&u32::MAX.to_be_bytes());
        assert!(matches!(inbox.take::<ToHeart>(), Err(FrameError::TooLong(_))));
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
        assert_eq!(hello, FromHeart::Hello { version: 1, pid: 2, held: Vec::new(), terminals: false });
        let spawned = heard(&Older::Spawned { key: 3, pid: 4 });
        assert_eq!(spawned, FromHeart::Spawned { key: 3, pid: 4, terminal: None });
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut inbox = Inbox::default();
            inbox.feed(&bytes);
            while let Ok(Some(_)) = inbox.take::<ToHeart>() {}
        }
    }
}
