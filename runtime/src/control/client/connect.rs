//! The way to a daemon: the socket that may be trusted, the connection, the greeting.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::{CONNECT_RETRY, ClientError, refusal};
use crate::control::frame::{self, KIND_ERROR, KIND_HELLO};
use crate::control::wire::{Hello, PROTOCOL_MAX, PROTOCOL_MIN};

/// Frames of the daemon.
pub(super) type Reading<S> = FramedRead<ReadHalf<S>, LengthDelimitedCodec>;
/// Frames for it.
pub(super) type Writing<S> = FramedWrite<WriteHalf<S>, LengthDelimitedCodec>;

// === the socket ===

/// It must be a socket, not a link to one, and of this user.
pub(super) fn check_socket(socket: &Path, uid: u32) -> Result<(), ClientError> {
    let untrusted = |why: String| ClientError::Untrusted { path: socket.to_owned(), why };
    let found = match std::fs::symlink_metadata(socket) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ClientError::NotRunning { socket: socket.to_owned() });
        }
        Err(source) => return Err(ClientError::Io { path: socket.to_owned(), source }),
    };
    if !found.file_type().is_socket() {
        return Err(untrusted("it is not a socket".to_owned()));
    }
    if found.uid() != uid {
        return Err(untrusted(format!("it belongs to uid {}", found.uid())));
    }
    Ok(())
}

/// Connects; waits while the queue of connections is full.
pub(super) async fn connect_until(socket: &Path, until: Instant) -> Result<UnixStream, ClientError> {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            // The queue of connections is full: whoever listens does not accept (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    return Err(ClientError::Hung { pid: None });
                }
                tokio::time::sleep(CONNECT_RETRY).await;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
                return Err(ClientError::NotRunning { socket: socket.to_owned() });
            }
            // It died with us in its queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(ClientError::Lost),
            Err(source) => return Err(ClientError::Io { path: socket.to_owned(), source }),
        }
    }
}

// === greeting ===

/// Both say what they speak.
pub(super) async fn greet<S>(reading: &mut Reading<S>, writing: &mut Writing<S>) -> Result<Hello, ClientError>
where
    S: AsyncRead + AsyncWrite,
{
    let ours = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        session: String::new(),
        capabilities: Vec::new(),
    };
    let bytes = frame::encode(0, KIND_HELLO, &ours)?;
    writing.send(bytes).await.map_err(|_| ClientError::Lost)?;
    let Some(Ok(bytes)) = reading.next().await else { return Err(ClientError::Lost) };
    let answer = frame::decode_frame(&bytes)?;
    if answer.kind == KIND_ERROR {
        return Err(refusal(&answer));
    }
    let theirs: Hello = frame::decode_body(&answer)?;
    if theirs.protocol_min > PROTOCOL_MAX || theirs.protocol_max < PROTOCOL_MIN {
        let (daemon_min, daemon_max) = (theirs.protocol_min, theirs.protocol_max);
        return Err(ClientError::Version { daemon: theirs.build, daemon_min, daemon_max });
    }
    Ok(theirs)
}
