//! Leases: ports and data directories that belong to one owner at a time, machine-wide for this user.
//!
//! A lease is a locked file. The kernel drops the lock with the last descriptor, so the lease of an owner that was killed
//! is free at once, without clocks, pids or cleaning up. A port is leased *and* tried: other programs know nothing of leases.
//!
//! ```text
//! lease_port ─▶ candidates ─▶ flock port-<n> ─▶ bind 127.0.0.1, 0.0.0.0, [::1], [::] ─▶ sign ─▶ PortLease
//! ```

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::PortWish;

mod bind;
mod file;
#[cfg(test)]
mod tests;

/// Ports tried for one wish before it fails: more than a machine full of worktrees needs, less than a noticeable delay.
pub const CANDIDATES_MAX: usize = 500;
/// The lock file inside a leased directory.
pub const DIR_LEASE_FILE: &str = ".lease";
/// Where Linux says which ports it hands out to outgoing connections.
const EPHEMERAL_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The directory of leases.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
    ephemeral: Option<RangeInclusive<u16>>,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOwner {
    /// The session.
    pub session: String,
    /// The project.
    pub project: String,
    /// The unit.
    pub unit: String,
    /// What is leased, in the unit's words: a port's name, or `data`.
    pub name: String,
}

/// A leased port. Dropping it gives the port back.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    file: File,
}

/// A leased directory. Dropping it gives the directory back.
#[derive(Debug)]
pub struct DirLease {
    path: PathBuf,
    file: File,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Every candidate is taken.
    #[error("lease a port for {unit}: none of {tried} ports from {base} on is free{first}")]
    Exhausted {
        /// The unit.
        unit: String,
        /// The first port wished for.
        base: u16,
        /// How many were tried.
        tried: usize,
        /// `, <base> is held by …`, where that is known.
        first: String,
    },
    /// This very port or directory is needed, and somebody has it.
    #[error("lease {what} for {unit}: it is held by {holder}")]
    Held {
        /// The unit.
        unit: String,
        /// The port or directory.
        what: String,
        /// Its holder, as far as known.
        holder: String,
    },
    /// The file system or the network said no.
    #[error("lease {what}")]
    Io {
        /// The port or path.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

// === impl Leases ===

impl Leases {
    /// Leases kept in `dir`, which must exist and be this user's alone (see `Places::leases_dir`).
    pub fn open(dir: &Path) -> Result<Self, LeaseError> {
        let dir = fs::canonicalize(dir).map_err(|source| io_error(dir.display(), source))?;
        let ephemeral = fs::read_to_string(EPHEMERAL_FILE).ok().and_then(|text| parse_range(&text));
        Ok(Self { dir, ephemeral })
    }

    /// Leases the first port that is free: the preferred one (that of the last run), the base, and those after it.
    pub fn lease_port(
        &self,
        wish: PortWish,
        owner: &LeaseOwner,
        preferred: Option<u16>,
    ) -> Result<PortLease, LeaseError> {
        let mut tried = 0;
        for port in self.candidates(wish.base, preferred) {
            tried += 1;
            if let Some(file) = self.try_port(port, owner)? {
                return Ok(PortLease { port, file });
            }
        }
        let first = self.port_owner(wish.base).map(|owner| format!(", {} is held by {owner}", wish.base));
        let first = first.unwrap_or_default();
        Err(LeaseError::Exhausted { unit: owner.unit.clone(), base: wish.base, tried, first })
    }

    /// Leases exactly `port`, without asking whether somebody listens on it: the listener is the unit that is taken over.
    pub fn readopt_port(&self, port: u16, owner: &LeaseOwner) -> Result<PortLease, LeaseError> {
        let path = self.port_file(port);
        match file::try_hold(&path, owner).map_err(|source| io_error(path.display(), source))? {
            Some(file) => Ok(PortLease { port, file }),
            None => Err(held(format!("port {port}"), owner, file::signed_by(&path))),
        }
    }

    /// Who signed the lease of `port` last. It may have been given back since.
    pub fn port_owner(&self, port: u16) -> Option<LeaseOwner> {
        file::signed_by(&self.port_file(port))
    }

    fn try_port(&self, port: u16, owner: &LeaseOwner) -> Result<Option<File>, LeaseError> {
        let path = self.port_file(port);
        let held = file::try_hold(&path, owner).map_err(|source| io_error(path.display(), source))?;
        let Some(file) = held else { return Ok(None) };
        // The lock comes first: of all sessions only its holder touches the port, so no two probes meet.
        match bind::is_free(port) {
            Ok(true) => Ok(Some(file)),
            Ok(false) => Ok(None),
            Err(source) => Err(io_error(format!("port {port}"), source)),
        }
    }

    fn port_file(&self, port: u16) -> PathBuf {
        self.dir.join(format!("port-{port}"))
    }

    /// The ports to try, in order. The ephemeral range is left out, because any outgoing connection may take a port there
    /// between the lease and the unit's own bind; a wish inside it is taken at its word.
    fn candidates(&self, base: u16, preferred: Option<u16>) -> impl Iterator<Item = u16> {
        let base = base.max(1);
        let avoid = self.ephemeral.clone().filter(|range| !range.contains(&base));
        let usable = move |port: &u16| avoid.as_ref().is_none_or(|range| !range.contains(port));
        let rest = (base..=u16::MAX).filter(usable).filter(move |port| Some(*port) != preferred);
        preferred.into_iter().filter(|port| *port > 0).chain(rest).take(CANDIDATES_MAX)
    }
}

/// Leases a data directory, which must exist, so that no two daemons run one.
pub fn lease_dir(path: &Path, owner: &LeaseOwner) -> Result<DirLease, LeaseError> {
    let lock = path.join(DIR_LEASE_FILE);
    match file::try_hold(&lock, owner).map_err(|source| io_error(lock.display(), source))? {
        Some(file) => Ok(DirLease { path: path.to_owned(), file }),
        None => Err(held(path.display().to_string(), owner, file::signed_by(&lock))),
    }
}

fn held(what: String, owner: &LeaseOwner, holder: Option<LeaseOwner>) -> LeaseError {
    let holder = holder.map_or_else(|| "somebody else".to_owned(), |holder| holder.to_string());
    LeaseError::Held { unit: owner.unit.clone(), what, holder }
}

fn io_error(what: impl ToString, source: io::Error) -> LeaseError {
    LeaseError::Io { what: what.to_string(), source }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) => Some(first..=last),
        (Err(_), _) | (_, Err(_)) => None,
    }
}

// === impl PortLease ===

impl PortLease {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The locked file: a process that is given a duplicate keeps the lease alive.
    pub fn file(&self) -> &File {
        &self.file
    }
}

// === impl DirLease ===

impl DirLease {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file: a process that is given a duplicate keeps the lease alive.
    pub fn file(&self) -> &File {
        &self.file
    }
}

// === impl LeaseOwner ===

impl std::fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({}, session {})", self.project, self.unit, self.name, self.session)
    }
}
