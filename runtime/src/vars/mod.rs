//! Runtime vars: the envelope `ENVCTL_RT_VARS` in a child's environment.
//!
//! One line of ASCII JSON that says which session, project, unit and life a process belongs to. It is a hint, never an
//! authority: what is loaded is checked ([`RtVars::load`]: shape; [`RtVars::validate`]: what stands at its paths), and the
//! session at the other end must still answer to the name. It has no field for a secret, because every descendant and
//! every process of the same user can read it. Our own environment is never changed; an envelope is only given to children.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use envctl_supervisors::Name;
use envctl_supervisors::spec::Incarnation;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::places::is_normal;

mod derived;
mod process;
#[cfg(test)]
mod tests;

pub use derived::{derived, urls};

/// The variable's name.
pub const RT_VARS: &str = "ENVCTL_RT_VARS";
/// The version this build writes, and the highest it reads.
pub const VERSION: u16 = 1;
/// Beyond this an envelope is unusual, and whoever dumps it should say so.
pub const DUMP_WARN_BYTES: usize = 4 * 1024;
/// Longest envelope that is written: an eighth of what Linux takes in one string.
pub const DUMP_MAX_BYTES: usize = 16 * 1024;
/// Longest text that is looked at; longer ones are refused before parsing.
pub const LOAD_MAX_BYTES: usize = 64 * 1024;
/// Sessions inside sessions; deeper is a loop.
pub const DEPTH_MAX: u8 = 8;

/// The envelope. Fields that a newer build added are kept in `unknown` and handed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RtVars {
    /// Version of this shape.
    pub v: u16,
    /// The session's name.
    pub sid: WireName,
    /// The enclosing session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psid: Option<WireName>,
    /// How many sessions enclose this one.
    #[serde(default)]
    pub depth: u8,
    /// The control socket.
    pub ctl: PathBuf,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proj: Option<ProjectVars>,
    /// The unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitVars>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Whether the process is the unit's, or merely inside its environment.
    #[serde(default)]
    pub role: Role,
    /// The unit's leased ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Log level for nested `envctl` calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ll: Option<String>,
    /// W3C `traceparent` of whatever asked for the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What other builds put there.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A [`Name`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireName(pub Name);

/// The project in an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectVars {
    /// Its name.
    pub name: WireName,
    /// Its directory.
    pub root: PathBuf,
}

/// The unit in an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitVars {
    /// Its name.
    pub name: WireName,
    /// Its life, from 1.
    pub inc: u32,
}

/// What a process is to the unit whose envelope it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Part of the unit: ended with it.
    Unit,
    /// A visitor (`exec`, `run`, `attach`): never ended with it. What an unclear envelope is taken for.
    #[default]
    Guest,
}

/// A change to an envelope; `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patch {
    /// The project.
    pub proj: Option<ProjectVars>,
    /// The run.
    pub run: Option<String>,
    /// The role.
    pub role: Option<Role>,
    /// Log level.
    pub ll: Option<String>,
    /// `traceparent`.
    pub trace: Option<String>,
}

/// Why an envelope is refused.
#[derive(Debug, thiserror::Error)]
pub enum VarsError {
    /// Too long to be looked at, or to be handed to a child.
    #[error("{RT_VARS} has {bytes} bytes, at most {max} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Written by a newer build.
    #[error("{RT_VARS} has version {found}, this build knows up to {VERSION}")]
    Newer {
        /// Its version.
        found: u64,
    },
    /// Not an envelope.
    #[error("{RT_VARS} cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// A field holds what it may not.
    #[error("{RT_VARS} field `{field}`: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u64,
}

// === impl RtVars ===

impl RtVars {
    /// The envelope of a session, before it names a project or a unit.
    pub fn new(session: Name, ctl: PathBuf) -> Self {
        Self {
            v: VERSION,
            sid: WireName(session),
            psid: None,
            depth: 0,
            ctl,
            proj: None,
            unit: None,
            run: None,
            role: Role::Guest,
            ports: BTreeMap::new(),
            ll: None,
            trace: None,
            unknown: Map::new(),
        }
    }

    /// The variable and its value: one line of printable ASCII.
    pub fn dump(&self) -> Result<(String, String), VarsError> {
        self.check()?;
        let value = ascii(&serde_json::to_string(self).map_err(VarsError::Malformed)?);
        if value.len() > DUMP_MAX_BYTES {
            return Err(VarsError::TooLong { bytes: value.len(), max: DUMP_MAX_BYTES });
        }
        if value.len() > DUMP_WARN_BYTES {
            tracing::warn!(bytes = value.len(), "{RT_VARS} is unusually long");
        }
        Ok((RT_VARS.to_owned(), value))
    }

    /// Reads a value. Nothing on the file system is looked at: see [`Self::validate`].
    pub fn load(text: &str) -> Result<Self, VarsError> {
        if text.len() > LOAD_MAX_BYTES {
            return Err(VarsError::TooLong { bytes: text.len(), max: LOAD_MAX_BYTES });
        }
        // The version comes first: a newer shape may not parse as ours, and "malformed" would be the wrong answer.
        let VersionOnly { v } = serde_json::from_str(text).map_err(VarsError::Malformed)?;
        if v > u64::from(VERSION) {
            return Err(VarsError::Newer { found: v });
        }
        let vars: Self = serde_json::from_str(text).map_err(VarsError::Malformed)?;
        vars.check()?;
        Ok(vars)
    }

    /// The envelope another process was started with, if it has a readable one.
    ///
    /// `None` says nothing about the process: many programs overwrite their environment with a title. The process is
    /// checked to be the same one before and after, so a reused pid never answers for its predecessor.
    pub fn get(pid: u32) -> io::Result<Option<Self>> {
        process::envelope(pid)
    }

    /// This envelope with some fields changed; what is unknown to this build is kept.
    #[must_use]
    pub fn update(&self, patch: Patch) -> Self {
        let mut next = self.clone();
        next.proj = patch.proj.or(next.proj);
        next.run = patch.run.or(next.run);
        next.role = patch.role.unwrap_or(next.role);
        next.ll = patch.ll.or(next.ll);
        next.trace = patch.trace.or(next.trace);
        next
    }

    /// The envelope of one life of a unit.
    #[must_use]
    pub fn for_child(&self, unit: &Name, incarnation: Incarnation, ports: &IndexMap<Name, u16>) -> Self {
        let mut next = self.update(Patch { role: Some(Role::Unit), ..Patch::default() });
        next.unit = Some(UnitVars { name: WireName(unit.clone()), inc: incarnation.0 });
        next.ports = ports.iter().map(|(name, port)| (name.to_string(), *port)).collect();
        next
    }

    /// The envelope of a session started inside this one.
    pub fn nested(&self, session: Name, ctl: PathBuf) -> Result<Self, VarsError> {
        if self.depth >= DEPTH_MAX {
            return Err(field("depth", format!("sessions nest at most {DEPTH_MAX} deep")));
        }
        let mut next = Self::new(session, ctl);
        next.psid = Some(self.sid.clone());
        next.depth = self.depth + 1;
        next.ll.clone_from(&self.ll);
        next.trace.clone_from(&self.trace);
        Ok(next)
    }

    /// Looks at what stands at the control socket's path: a socket of `uid`'s in a directory that only `uid` can enter.
    /// Whoever connects still has to check the peer's credentials and the session's answer.
    pub fn validate(&self, uid: u32) -> Result<(), VarsError> {
        self.check()?;
        let refuse = |reason: &str| field("ctl", format!("{}: {reason}", self.ctl.display()));
        let socket = self.ctl.symlink_metadata().map_err(|error| refuse(&error.to_string()))?;
        // `symlink_metadata` looks at the last component itself: a link there is not a socket.
        if !socket.file_type().is_socket() {
            return Err(refuse("it is not a socket"));
        }
        if socket.uid() != uid {
            return Err(refuse("it belongs to somebody else"));
        }
        let parent = self.ctl.parent().ok_or_else(|| refuse("it has no directory"))?;
        let dir = parent.symlink_metadata().map_err(|error| refuse(&error.to_string()))?;
        if !dir.is_dir() || dir.uid() != uid || dir.mode() & 0o077 != 0 {
            return Err(refuse("its directory is not this user's alone"));
        }
        Ok(())
    }

    /// The rules for fields that their types do not carry.
    fn check(&self) -> Result<(), VarsError> {
        check_path("ctl", &self.ctl)?;
        if let Some(project) = &self.proj {
            check_path("proj.root", &project.root)?;
        }
        if self.depth > DEPTH_MAX {
            return Err(field("depth", format!("sessions nest at most {DEPTH_MAX} deep")));
        }
        if self.v == 0 {
            return Err(field("v", "versions start at 1".to_owned()));
        }
        Ok(())
    }
}

fn check_path(name: &'static str, path: &Path) -> Result<(), VarsError> {
    let text = path.to_str().ok_or_else(|| field(name, "it is not UTF-8".to_owned()))?;
    if text.chars().any(char::is_control) {
        return Err(field(name, "it holds a control character".to_owned()));
    }
    if !is_normal(path) {
        return Err(field(name, format!("{text:?} is not an absolute path without `.` and `..`")));
    }
    Ok(())
}

fn field(field: &'static str, reason: String) -> VarsError {
    VarsError::Field { field, reason }
}

/// Escapes everything outside printable ASCII. JSON's own escaping has dealt with control characters, and what is left
/// can only stand inside strings, so UTF-16 escapes are right everywhere.
fn ascii(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            line.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            line.push_str(&format!("\\u{unit:04x}"));
        }
    }
    line
}

// === impl WireName ===

impl Serialize for WireName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for WireName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::new(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
