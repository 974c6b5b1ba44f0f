//! What can go wrong with a log stream.

use std::io;
use std::path::{Path, PathBuf};

/// Why a log stream could not be opened, read or reached.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system said no.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `create`.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("write the log in {}: another process writes it", .0.display())]
    Locked(PathBuf),
    /// The pump has ended.
    #[error("reach the log pump: it has ended")]
    PumpEnded,
    /// Too many commands wait for the pump: the disk stalls.
    #[error("reach the log pump: too many commands wait")]
    PumpBusy,
    /// The stream's actor has ended.
    #[error("reach the log stream: it has ended")]
    StreamEnded,
}

// === impl LogError ===

impl LogError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}
