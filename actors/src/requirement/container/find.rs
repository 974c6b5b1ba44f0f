//! Where the container engine listens: what was configured, what the variables of docker say, else the usual sockets.
//!
//! Reads files (docker's contexts, which sockets are there), never the environment: its values come from the caller.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::EngineError;

/// The context that stands for no context at all.
const NO_CONTEXT: &str = "default";
/// Longest file of docker's that is read; they hold a few lines.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// What the caller knows of the engine: each value as in its environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The address that the configuration names.
    pub configured: Option<String>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP on this machine: `127.0.0.1:2375`.
    Http(String),
}

/// Docker's `config.json`, as far as it matters here.
#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

/// A context's `meta.json`.
#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: ContextEndpoint,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host")]
    host: String,
}

/// The addresses to try, best first; never empty. One that somebody has named is the only one.
///
/// # Errors
/// A name that means nothing, or that no socket is anywhere.
pub fn find(around: &Surroundings) -> Result<Vec<Address>, EngineError> {
    if let Some(text) = &around.configured {
        return Ok(vec![parse(text, "the configuration")?]);
    }
    if let Some(text) = around.docker_host.as_deref().filter(|text| !text.is_empty()) {
        return Ok(vec![parse(text, "DOCKER_HOST")?]);
    }
    if let Some(context) = context(around) {
        return Ok(vec![of_context(around, &context)?]);
    }
    let usual = usual_sockets(around);
    let there: Vec<Address> = usual.iter().filter(|path| is_socket(path)).cloned().map(Address::Unix).collect();
    if there.is_empty() { Err(EngineError::NotInstalled { looked: usual }) } else { Ok(there) }
}

/// Reads an address; `from` says in errors who named it.
fn parse(text: &str, from: &str) -> Result<Address, EngineError> {
    let bad =
        |why: &str| EngineError::BadAddress { address: text.to_owned(), from: from.to_owned(), why: why.to_owned() };
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text)) {
        return Ok(Address::Unix(path.into()));
    }
    let Some(host) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) else {
        return Err(bad("it must begin with `unix://` or `tcp://`"));
    };
    let name = host.trim_end_matches('/').rsplit_once(':').map_or(host, |(name, _)| name);
    // Ports are published on the loopback of the machine that the engine runs on: it has to be this one.
    if !matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
        return Err(bad("an engine on another machine cannot give its containers ports of this one"));
    }
    Ok(Address::Http(host.trim_end_matches('/').to_owned()))
}

fn context(around: &Surroundings) -> Option<String> {
    let named = around.docker_context.clone().filter(|name| !name.is_empty());
    let current = || {
        let config: ConfigFile = read_json(&around.docker_dir()?.join("config.json"))?;
        config.current_context
    };
    named.or_else(current).filter(|name| name != NO_CONTEXT)
}

/// A context is kept under the digest of its name (docker's own layout).
fn of_context(around: &Surroundings, context: &str) -> Result<Address, EngineError> {
    let digest: String = Sha256::digest(context).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = around.docker_dir().map(|dir| dir.join("contexts/meta").join(digest).join("meta.json"));
    let found: Option<ContextFile> = file.as_deref().and_then(read_json);
    match found {
        Some(found) => parse(&found.endpoints.docker.host, &format!("docker's context `{context}`")),
        None => Err(EngineError::NoContext { context: context.to_owned() }),
    }
}

/// Docker's socket for everybody, those of one user, and podman's.
fn usual_sockets(around: &Surroundings) -> Vec<PathBuf> {
    let system = ["/var/run/docker.sock"].map(PathBuf::from).into_iter();
    let home = around.home.iter().flat_map(|home| {
        [".docker/run/docker.sock", ".docker/desktop/docker.sock", ".colima/default/docker.sock"]
            .map(|path| home.join(path))
    });
    let runtime = around.runtime_dir.iter().flat_map(|dir| ["docker.sock", "podman/podman.sock"].map(|p| dir.join(p)));
    system.chain(runtime).chain(home).chain([PathBuf::from("/run/podman/podman.sock")]).collect()
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let length = fs::metadata(path).ok()?.len();
    (length <= FILE_MAX_BYTES).then(|| serde_json::from_slice(&fs::read(path).ok()?).ok())?
}

// === impl Surroundings ===

impl Surroundings {
    /// Picks the values out of somebody's environment.
    pub fn of(configured: Option<String>, get: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| get(name).and_then(|value| value.into_string().ok());
        let path = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            configured,
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: path("DOCKER_CONFIG"),
            home: path("HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
        }
    }

    fn docker_dir(&self) -> Option<PathBuf> {
        self.docker_config.clone().or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Http(host) => f.write_str(host),
        }
    }
}
