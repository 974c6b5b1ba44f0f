//! The read side: address → the living incarnation and its endpoints.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use envctl_supervisors::Name;
use envctl_supervisors::spec::Incarnation;

/// `project/unit` in one session; the project by its key, which is unique where names may not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The project's key.
    pub project: String,
    /// The unit.
    pub unit: Name,
}

/// A way to reach a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The port's name in its unit.
    pub name: Name,
    /// The port on loopback.
    pub port: u16,
}

/// A living incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Which life.
    pub incarnation: Incarnation,
    /// Its main process.
    pub pid: u32,
    /// How to reach it.
    pub endpoints: Vec<Endpoint>,
}

/// All addresses of a session. Cheap to clone; values are copied out, so no lock is ever held by a reader.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    entries: Arc<DashMap<Address, Registration>>,
}

// === impl Directory ===

impl Directory {
    /// The living incarnation at an address.
    pub fn lookup(&self, address: &Address) -> Option<Registration> {
        self.entries.get(address).map(|entry| entry.value().clone())
    }

    /// How many units live.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing lives.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn insert(&self, address: Address, registration: Registration) {
        self.entries.insert(address, registration);
    }

    /// Removes an address if it still means this life: a late word about an old one changes nothing.
    pub(super) fn remove(&self, address: &Address, incarnation: Incarnation) {
        self.entries.remove_if(address, |_, registration| registration.incarnation == incarnation);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.unit)
    }
}
