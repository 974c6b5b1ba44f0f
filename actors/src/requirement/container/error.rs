//! What the engine refused, in words: what happened, and what to do about it.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use envctl_supervisors::reason::StartError;

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no socket of any engine.
    #[error("find a container engine: no socket at {}", list(looked))]
    NotInstalled {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// An address that cannot be used.
    #[error("use the container engine `{address}` of {from}: {why}")]
    BadAddress {
        /// The address.
        address: String,
        /// Who named it.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// A context of docker's that is not there.
    #[error("find docker's context `{context}`: there is none of this name")]
    NoContext {
        /// Its name.
        context: String,
    },
    /// Nobody listens.
    #[error("reach the container engine at {address}: {why}")]
    NotRunning {
        /// Where it should be.
        address: String,
        /// What the system said.
        why: String,
    },
    /// The socket is closed to us.
    #[error("reach the container engine at {address}: permission denied")]
    NoPermission {
        /// The socket.
        address: String,
    },
    /// It takes too long.
    #[error("{what}: the container engine did not answer within {within:?}")]
    Timeout {
        /// What was asked.
        what: String,
        /// The deadline.
        within: Duration,
    },
    /// There is no such image, here or in its registry.
    #[error("get the image {image}: {said}")]
    ImageMissing {
        /// The image.
        image: String,
        /// What the engine said.
        said: String,
    },
    /// The name belongs to another container.
    #[error("{what}: the name is taken by another container: {said}")]
    NameTaken {
        /// What was asked.
        what: String,
        /// What the engine said.
        said: String,
    },
    /// Somebody else listens on the port.
    #[error("{what}: the port is taken: {said}")]
    PortTaken {
        /// What was asked.
        what: String,
        /// What the engine said.
        said: String,
    },
    /// The engine's disk is full.
    #[error("{what}: the container engine's disk is full: {said}")]
    DiskFull {
        /// What was asked.
        what: String,
        /// What the engine said.
        said: String,
    },
    /// A volume or network of this name exists and is not ours.
    #[error("{what}: {name} exists and was not made by envctl for this project")]
    Foreign {
        /// What was asked.
        what: String,
        /// Its name.
        name: String,
    },
    /// There is none.
    #[error("{what}: {said}")]
    NotFound {
        /// What was asked.
        what: String,
        /// What the engine said.
        said: String,
    },
    /// Anything else that it said.
    #[error("{what}: {said}")]
    Refused {
        /// What was asked.
        what: String,
        /// What the engine said.
        said: String,
        /// The HTTP status, or 0.
        status: u16,
    },
}

// === impl EngineError ===

impl EngineError {
    /// Puts an error of the client into words. `what` is what was asked, as in "failed to …".
    pub(super) fn of(error: &Error, what: &str, address: &str) -> Self {
        let what = what.to_owned();
        match error {
            Error::DockerResponseServerError { status_code, message } => refused(*status_code, message, what),
            Error::DockerStreamError { error } => refused(0, error, what),
            Error::RequestTimeoutError => Self::Timeout { what, within: super::engine::ANSWER_WITHIN },
            Error::SocketNotFoundError(_) => {
                Self::NotRunning { address: address.to_owned(), why: "there is no such socket".to_owned() }
            }
            other => unreachable_or(other, what, address),
        }
    }

    /// Whether the engine itself is not there: nothing is wrong with what was asked.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Timeout { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotInstalled { .. } => {
                "install docker (`apt install docker.io`) or podman, start it, or name it in `container.engine`"
            }
            Self::BadAddress { .. } => {
                "name a socket of this machine: `container = { engine = \"unix:///var/run/docker.sock\" }`"
            }
            Self::NoContext { .. } => "`docker context ls` shows those there are",
            Self::NotRunning { .. } => "start it: `systemctl start docker`, or `systemctl --user start podman.socket`",
            Self::NoPermission { .. } => {
                "join its group (`sudo usermod -aG docker $USER`, then log in again), or use rootless docker or podman"
            }
            Self::Timeout { .. } => "`docker info` tells whether the engine is well",
            Self::ImageMissing { .. } => {
                "check its name and tag, and that the registry can be reached: `docker pull` tells more"
            }
            Self::NameTaken { .. } => "`docker ps -a` shows who has it",
            Self::PortTaken { .. } => "`ss -ltnp` shows who listens; another base may be given as `port`",
            Self::DiskFull { .. } => "`docker system df` shows what takes the space",
            Self::Foreign { .. } => {
                "remove or rename it if it is not needed: envctl never touches what it has not made"
            }
            Self::NotFound { .. } | Self::Refused { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// As the failure of a start. Another try makes sense where the world may have changed by then.
    pub fn into_start_error(self) -> StartError {
        let retry = match &self {
            Self::NotRunning { .. } | Self::Timeout { .. } | Self::PortTaken { .. } | Self::NameTaken { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 0,
            Self::NotInstalled { .. }
            | Self::BadAddress { .. }
            | Self::NoContext { .. }
            | Self::NoPermission { .. }
            | Self::ImageMissing { .. }
            | Self::DiskFull { .. }
            | Self::Foreign { .. }
            | Self::NotFound { .. } => false,
        };
        StartError { message: self.to_string(), hint: self.hint(), retry }
    }
}

/// The engine's statuses are coarse (500 for a taken port and for a full disk alike): its words decide.
fn refused(status: u16, message: &str, what: String) -> EngineError {
    let said = message.trim().to_owned();
    let says = |words: &str| said.to_ascii_lowercase().contains(words);
    if says("no space left on device") {
        EngineError::DiskFull { what, said }
    } else if says("port is already allocated") || says("address already in use") || says("ports are not available") {
        EngineError::PortTaken { what, said }
    } else if status == 409 && says("name") && says("in use") {
        EngineError::NameTaken { what, said }
    } else if says("no such image") {
        EngineError::ImageMissing { image: said.rsplit(": ").next().unwrap_or_default().to_owned(), said }
    } else if status == 404 {
        EngineError::NotFound { what, said }
    } else {
        EngineError::Refused { what, said, status }
    }
}

/// A connection that fails has its reason somewhere below.
fn unreachable_or(error: &Error, what: String, address: &str) -> EngineError {
    let mut below: Option<&(dyn StdError + 'static)> = match error {
        Error::IOError { err } => Some(err),
        _ => Some(error),
    };
    let mut last = error.to_string();
    while let Some(one) = below {
        if let Some(io) = one.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::PermissionDenied => EngineError::NoPermission { address: address.to_owned() },
                _ => EngineError::NotRunning { address: address.to_owned(), why: io.to_string() },
            };
        }
        last = one.to_string();
        below = one.source();
    }
    match error {
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {
            EngineError::NotRunning { address: address.to_owned(), why: last }
        }
        _ => EngineError::Refused { what, said: error.to_string(), status: 0 },
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
