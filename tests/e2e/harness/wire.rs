//! Raw frames, written by hand: an attacker has no library, and the library must not be the only judge of itself.
//!
//! A frame is a big-endian length and a MessagePack map `{id, kind, body}`; a body is MessagePack again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A connection that says what it likes.
#[derive(Debug)]
pub(crate) struct Raw(UnixStream);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A frame's bytes after its length.
    Frame(Vec<u8>),
    /// The other side closed.
    Closed,
    /// Nothing in time.
    Silence,
}

// === impl Raw ===

impl Raw {
    /// Connects, and says nothing yet.
    #[track_caller]
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout");
        stream.set_write_timeout(Some(ANSWER_WITHIN)).expect("a timeout");
        Self(stream)
    }

    /// Connects and greets properly.
    #[track_caller]
    pub(crate) fn greeted(socket: &Path) -> Self {
        let mut raw = Self::connect(socket);
        let _ = raw.send(&frame(0, "hello", &hello(1, 1)));
        let answer = raw.answer();
        assert!(matches!(answer, Answer::Frame(_)), "no greeting came back: {answer:?}");
        raw
    }

    /// Sends a frame; an error is the other side's right.
    pub(crate) fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(frame.len()).expect("a frame's length");
        self.send_bytes(&length.to_be_bytes())?;
        self.send_bytes(frame)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The next frame, or the end.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut length = [0; 4];
        if let Err(error) = self.0.read_exact(&mut length) {
            return of_error(&error);
        }
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("a length")];
        match self.0.read_exact(&mut frame) {
            Ok(()) => Answer::Frame(frame),
            Err(error) => of_error(&error),
        }
    }
}

fn of_error(error: &std::io::Error) -> Answer {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Answer::Silence,
        _ => Answer::Closed,
    }
}

/// A frame's map.
pub(crate) fn frame(id: u8, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x83];
    text(&mut bytes, "id");
    bytes.push(id & 0x7f);
    text(&mut bytes, "kind");
    text(&mut bytes, kind);
    text(&mut bytes, "body");
    bytes.push(0xc6);
    bytes.extend(u32::try_from(body.len()).expect("a body's length").to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The body of a greeting that speaks protocols `min` to `max`.
pub(crate) fn hello(min: u8, max: u8) -> Vec<u8> {
    let mut bytes = vec![0x85];
    for (name, number) in [("protocol_min", min), ("protocol_max", max)] {
        text(&mut bytes, name);
        bytes.push(number & 0x7f);
    }
    for (name, value) in [("build", "0.0.0-raw"), ("session", "default")] {
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    text(&mut bytes, "capabilities");
    bytes.push(0x90);
    bytes
}

/// An empty map: the body of requests that say nothing.
pub(crate) const EMPTY: &[u8] = &[0x80];

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0xd9);
    bytes.push(u8::try_from(text.len()).expect("a short text"));
    bytes.extend(text.as_bytes());
}
