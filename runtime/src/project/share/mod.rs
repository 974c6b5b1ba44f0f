//! Servers that several projects share: one process, a database for each.
//!
//! ```text
//! worktree a ─ up ─▶ root: lease on the server ─▶ server's own project (one unit, an ordinary one) ─▶ the process
//! worktree b ─ up ─▶ root: lease ──────────────▶ the same                       ▲
//!      └ its unit: a stand-in that waits for the server, makes its database, asks ┘ whether it answers
//! ```
//!
//! A shared server is a project like any other: its configuration is written into the state directory, and everything that
//! supervises, restarts, adopts, logs and explains a project does so for it. What is special is who asks for it: runs hold
//! leases, remembered with each run, and the last one that goes takes the server down. Sharing ends at the session, which is
//! isolated as a whole.

mod attend;
mod drops;
pub(crate) mod ledger;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;

use envctl_supervisors::Name;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use attend::Seen;
pub(crate) use attend::{is_ready, ports_of};
pub use drops::{DropLater, Forgotten, drop_later, forgotten, give_up};
pub use ledger::Holder;
pub(crate) use server::Server;

use crate::control::view::{NeighbourView, ProjectView, SharedUse, SharedView};

/// What one requirement has on a shared server: also as the next daemon finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The lease that keeps the server up.
    pub lease: u64,
    /// The directory of the server's project.
    pub server: PathBuf,
    /// The name of that project.
    pub project: String,
    /// The server's unit in it.
    pub unit: String,
    /// Where it listens.
    pub ports: BTreeMap<String, u16>,
    /// The database.
    pub database: String,
    /// The database that it is a copy of.
    #[serde(default)]
    pub template: Option<String>,
    /// Whether there may be an older one of this name, which was to be dropped.
    #[serde(default)]
    pub is_stale: bool,
}

/// What a requirement was given, with the server's state now and after every change.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What it has.
    pub held: Held,
    /// The server's project.
    pub view: watch::Receiver<ProjectView>,
}

/// Everything a project was given, by unit.
pub type Grants = BTreeMap<Name, Granted>;

/// What the units of a project have on shared servers.
pub type Shared = BTreeMap<Name, Held>;

/// What people are told of a database on a shared server.
pub(crate) fn shared_view(held: &Held) -> SharedView {
    let entries = ledger::Ledger::of(&held.server).entries();
    let with = entries.into_iter().filter(|entry| !entry.is_dropped).map(|entry| NeighbourView {
        worktree: entry.holder.folder,
        root: entry.root,
        database: entry.database,
    });
    SharedView {
        server: held.project.clone(),
        unit: held.unit.clone(),
        dir: held.server.clone(),
        database: held.database.clone(),
        template: held.template.clone(),
        with: with.collect(),
    }
}

/// What everybody is told of it.
pub(crate) fn use_of(held: &Held) -> SharedUse {
    SharedUse { server: held.project.clone(), database: held.database.clone() }
}
