//! How a message becomes bytes and bytes a message: a length before each.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FRAME_MAX_BYTES, FromHeart, ToHeart};

/// The length of a frame comes before it, big endian.
const LENGTH_BYTES: usize = 4;
/// Read in one go.
const READ_BYTES: usize = 64 * 1024;

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
    ///
    /// Who goes with something unread resets the connection: told after all that it has written, an end like another.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
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

    /// Gives up what is kept. The other side, should it live, sees that nothing more comes.
    pub fn say_no_more(&mut self) {
        self.outbox.clear();
        // One that is gone already is no loss.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Whether something waits to be sent.
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }
}
