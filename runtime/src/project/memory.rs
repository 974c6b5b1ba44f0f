//! What the next daemon must know of a run if this one dies: kept in the runtime directory, so it dies with the boot.
//!
//! Holds the captured environment, which may hold secrets: 0600, on tmpfs, never under the state directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use envctl_actors::process::identity::{Identity, boot_id};
use envctl_supervisors::Name;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::attributes::Ports;
use super::environment::Capture;
use super::memory_file;
use super::share::{Held, Shared};
use crate::journal::{Durability, atomic_write};

/// Version of the file.
const VERSION: u32 = 1;
/// The files' extension.
const EXTENSION: &str = "run";
/// The extension of those that cannot be read.
const SET_ASIDE: &str = "bad";

/// A run, as the next daemon finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    /// The project's key: its processes carry it.
    pub key: String,
    /// The project's directory.
    pub root: PathBuf,
    /// Its config file, if one was named.
    pub file: Option<PathBuf>,
    /// The user's own config file.
    pub user_config: Option<PathBuf>,
    /// The run's id.
    pub run: String,
    /// The run's number in log records.
    pub run_number: u32,
    /// The caller's environment.
    pub environment: Vec<(ByteBuf, ByteBuf)>,
    /// Leased ports by unit and name.
    pub ports: BTreeMap<String, BTreeMap<String, u16>>,
    /// Its units.
    pub units: Vec<UnitMemory>,
    /// Why it ends by itself, if it does.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// The boot that its processes belong to.
    #[serde(default)]
    pub boot: String,
    /// Whether its units end with the daemon.
    #[serde(default)]
    pub end_with_daemon: bool,
    /// What its requirements have on shared servers, by unit.
    #[serde(default)]
    pub shared: BTreeMap<String, Held>,
}

/// Why a run ends, or has ended, by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The unit that made it so.
    pub unit: String,
    /// What happened, in one line.
    pub cause: String,
}

/// Which files a project's configuration is read from, beside the one in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The config file, if one was named.
    pub file: Option<PathBuf>,
    /// The user's own config file.
    pub user_config: Option<PathBuf>,
}

/// Whose memory it is.
#[derive(Debug)]
pub struct Of<'a> {
    /// The project's key.
    pub key: String,
    /// Its directory.
    pub root: &'a Path,
    /// Where its configuration is read from.
    pub files: &'a Files,
}

/// A unit of a remembered run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitMemory {
    /// Its name.
    pub name: String,
    /// Whether it is wanted up.
    pub wanted: bool,
    /// Its present or last life; 0 before the first.
    pub incarnation: u32,
    /// Automatic restarts so far.
    pub restarts: u32,
    /// What its present life was started with.
    pub fingerprint: Option<String>,
    /// Whether it was ready.
    pub ready: bool,
    /// Whether it had ended and needs no further life.
    pub done: bool,
    /// Whether it had been given up.
    pub failed: bool,
    /// Its process, if it lived.
    #[serde(default)]
    pub process: Option<ProcessMemory>,
}

/// A process of a remembered unit; which boot it belongs to is remembered once for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

// === impl Memory ===

impl Memory {
    /// A run with nothing in it yet.
    pub fn new(of: Of<'_>, run: String, run_number: u32, capture: &Capture) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let bytes = |text: &std::ffi::OsStr| ByteBuf::from(text.as_bytes());
        let environment = capture.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        let Files { file, user_config } = of.files.clone();
        let (key, root) = (of.key, of.root.to_owned());
        let (ports, units) = (BTreeMap::new(), Vec::new());
        let (version, failure, boot, end_with_daemon) = (VERSION, None, boot_id(), false);
        let shared = BTreeMap::new();
        Self {
            version,
            key,
            root,
            file,
            user_config,
            run,
            run_number,
            environment,
            ports,
            units,
            failure,
            boot,
            end_with_daemon,
            shared,
        }
    }

    /// Whether the machine has been restarted since: then nothing of the run lives, whoever has its processes' numbers.
    pub fn is_of_another_boot(&self) -> bool {
        !self.boot.is_empty() && self.boot != boot_id()
    }

    /// Who the process of a unit is, if it lived.
    pub fn identity(&self, unit: &UnitMemory) -> Option<Identity> {
        let ProcessMemory { pid, start_time } = unit.process?;
        Some(Identity { pid, start_time, boot_id: self.boot.clone() })
    }

    /// Where the memory of a project is kept.
    pub fn path(runtime_dir: &Path, project: &str) -> PathBuf {
        runtime_dir.join("projects").join(project).with_extension(EXTENSION)
    }

    /// Writes it, and says how long it is. Without fsync: process facts die with the boot.
    pub(super) fn store(&self, path: &Path) -> io::Result<u64> {
        let bytes = rmp_serde::to_vec_named(self).map_err(io::Error::other)?;
        atomic_write(path, &bytes, Durability::Unsynced)?;
        Ok(bytes.len() as u64)
    }

    /// Whether it is of this configuration.
    pub(super) fn is_of_files(&self, files: &Files) -> bool {
        (&self.file, &self.user_config) == (&files.file, &files.user_config)
    }

    /// Whether it is of this environment.
    pub(super) fn is_of_capture(&self, capture: &Capture) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let is = |((name, value), (known, kept)): ((&std::ffi::OsString, &std::ffi::OsString), &(ByteBuf, ByteBuf))| {
            name.as_bytes() == known.as_slice() && value.as_bytes() == kept.as_slice()
        };
        capture.len() == self.environment.len() && capture.iter().zip(&self.environment).all(is)
    }

    /// Everything remembered in a runtime directory, and whether all of it could be read. What could not is set aside.
    pub fn load_all(runtime_dir: &Path) -> (Vec<(PathBuf, Self)>, bool) {
        let mut whole = true;
        let load = |(path, memory): (PathBuf, io::Result<Self>)| match memory {
            Ok(memory) => Some((path, memory)),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "what an earlier daemon left cannot be read: set aside");
                whole = false;
                let _ = fs::rename(&path, path.with_extension(SET_ASIDE));
                None
            }
        };
        (Self::peek_all(runtime_dir).into_iter().filter_map(load).collect(), whole)
    }

    /// Everything remembered in a runtime directory, and what cannot be read of it. Changes nothing.
    pub fn peek_all(runtime_dir: &Path) -> Vec<(PathBuf, io::Result<Self>)> {
        let entries = fs::read_dir(runtime_dir.join("projects")).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
        paths.map(|path| (path.clone(), Self::load(&path))).collect()
    }

    /// What its requirements have on shared servers.
    pub fn shared(&self) -> Shared {
        self.shared.iter().filter_map(|(unit, held)| Some((Name::new(unit).ok()?, held.clone()))).collect()
    }

    /// The files it was configured by.
    pub fn files(&self) -> Files {
        Files { file: self.file.clone(), user_config: self.user_config.clone() }
    }

    /// The ports by checked names.
    pub fn ports(&self) -> Ports {
        let checked = |ports: &BTreeMap<String, u16>| -> IndexMap<Name, u16> {
            ports.iter().filter_map(|(name, port)| Some((Name::new(name).ok()?, *port))).collect()
        };
        self.ports.iter().filter_map(|(unit, ports)| Some((Name::new(unit).ok()?, checked(ports)))).collect()
    }

    /// Takes note of the ports.
    pub fn set_ports(&mut self, ports: &Ports) {
        let plain = |ports: &IndexMap<Name, u16>| ports.iter().map(|(name, port)| (name.to_string(), *port)).collect();
        self.ports = ports.iter().map(|(unit, ports)| (unit.to_string(), plain(ports))).collect();
    }

    fn load(path: &Path) -> io::Result<Self> {
        let memory = memory_file::read(&fs::read(path)?).map_err(io::Error::other)?;
        if memory.version > VERSION {
            return Err(io::Error::other(format!("version {} is newer than this build's {VERSION}", memory.version)));
        }
        Ok(memory)
    }
}
