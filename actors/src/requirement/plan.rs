//! What is to be done for a requirement, decided before anything is touched.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::locate::Binaries;
use crate::probe::{Probe, Schedule};
use crate::process::{Command, RunAs};

/// The presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresetKind {
    /// PostgreSQL.
    Postgres,
    /// Redis or valkey.
    Redis,
}

/// What is wanted.
#[derive(Clone)]
pub struct Wanted {
    /// Which store.
    pub preset: PresetKind,
    /// Its version, as far as it matters: `15`, `7.2`.
    pub version: Option<String>,
    /// The database to have (postgres).
    pub database: String,
    /// The user to have (postgres).
    pub user: String,
    /// That user's password: [`password`](super::password) keeps it.
    pub password: String,
    /// The leased port.
    pub port: u16,
    /// The directory that belongs to this requirement.
    pub data_dir: PathBuf,
    /// The whole environment of its processes: [`base_env`].
    pub env: BTreeMap<OsString, OsString>,
    /// Whose rights they have: [`choose_rights`](super::choose_rights).
    pub run_as: RunAs,
}

/// Everything there is to do, in the order of the fields.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Exists once the first start has been prepared.
    pub marker: PathBuf,
    /// Before the main process.
    pub prepare: Vec<Step>,
    /// The main process.
    pub main: Command,
    /// The signal that ends it in order.
    pub stop_signal: i32,
    /// How its readiness is asked.
    pub probe: Probe,
    /// How often.
    pub schedule: Schedule,
    /// Once it is ready, before it may be called so.
    pub after_ready: Vec<AfterReady>,
    /// What it offers to `${…}`.
    pub attributes: BTreeMap<String, Attribute>,
}

/// One step of preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, as in "failed to …".
    pub label: &'static str,
    /// When it is due.
    pub when: When,
    /// What is done.
    pub action: Action,
}

/// When a step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While the plan's marker does not exist.
    FirstStart,
    /// At every start.
    Always,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a command to its end, which must be clean.
    Run(Box<Command>),
    /// Runs a command that prints its version, which must be the wanted one.
    CheckVersion {
        /// The command.
        command: Box<Command>,
        /// The version.
        wanted: String,
    },
    /// The data must be of this version (`PG_VERSION`), or not there yet.
    CheckData {
        /// The file.
        file: PathBuf,
        /// The version.
        version: String,
    },
    /// Makes a directory and what leads to it; sets the mode of the directory itself.
    CreateDir {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Removes a directory with all it holds, if it exists.
    RemoveTree(PathBuf),
    /// Renames.
    Rename {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
    },
    /// Gives a tree to an account, unless it has it already; links are not followed.
    Chown {
        /// The tree.
        path: PathBuf,
        /// The account's uid and gid; `None`: ourselves.
        account: Option<(u32, u32)>,
    },
    /// An account must reach a directory: tried by the account itself, as no reading of modes knows all there is.
    CheckReachable {
        /// Runs as the account; ends with code 0 if it got there.
        command: Box<Command>,
        /// What it must reach.
        path: PathBuf,
        /// The account's uid.
        uid: u32,
        /// The account's gid.
        gid: u32,
    },
    /// Removes a lock file left by a server that was killed: its pid may be anybody's by now. Kept if that process
    /// really works in `dir`.
    RemoveStaleLock {
        /// The lock file; its first line is the pid.
        file: PathBuf,
        /// The server's working directory.
        dir: PathBuf,
    },
}

/// What is done once the store answers.
#[derive(Clone, PartialEq, Eq)]
pub enum AfterReady {
    /// Creates a role that may do everything, or gives it this password.
    CreateRole {
        /// URL of the maintenance database, as its superuser.
        url: String,
        /// The role.
        name: String,
        /// Its password.
        password: String,
    },
    /// Creates a database unless it exists.
    CreateDatabase {
        /// URL of the maintenance database, as its superuser.
        url: String,
        /// The database.
        name: String,
        /// Its owner.
        owner: String,
    },
}

/// A value for `${unit.attribute}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The text.
    pub value: String,
    /// Whether it must not be shown or stand in an argument list.
    pub secret: bool,
}

/// Plans. Touches nothing, and the same input gives the same plan.
pub fn plan(wanted: &Wanted, binaries: &Binaries) -> Plan {
    match wanted.preset {
        PresetKind::Postgres => super::postgres::plan(wanted, binaries),
        PresetKind::Redis => super::redis::plan(wanted, binaries),
    }
}

/// The environment of a requirement: next to nothing, so that no `PGDATA` or `LD_PRELOAD` of a caller changes it.
pub fn base_env(path: &OsStr, home: &Path, timezone: Option<&OsStr>) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::from([
        ("PATH".into(), path.to_owned()),
        ("HOME".into(), home.as_os_str().to_owned()),
        ("LANG".into(), "C.UTF-8".into()),
    ]);
    if let Some(timezone) = timezone {
        env.insert("TZ".into(), timezone.to_owned());
    }
    env
}

// === impl PresetKind ===

impl PresetKind {
    /// Its name in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

// === impl Wanted ===

impl Wanted {
    /// The store's own directory.
    pub fn cluster(&self) -> PathBuf {
        self.data_dir.join("cluster")
    }

    /// A command of this requirement. It works in `/`: its own directory may be closed to the account it runs as.
    pub(super) fn command<A: Into<OsString>>(&self, program: &Path, args: impl IntoIterator<Item = A>) -> Command {
        Command {
            program: program.as_os_str().to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            env: self.env.clone(),
            dir: PathBuf::from("/"),
            run_as: self.run_as,
            limits: crate::process::Limits::default(),
            stdin: None,
        }
    }
}

// === impl Step ===

impl Step {
    pub(super) fn always(label: &'static str, action: Action) -> Self {
        Self { label, when: When::Always, action }
    }

    pub(super) fn first(label: &'static str, action: Action) -> Self {
        Self { label, when: When::FirstStart, action }
    }
}

// === impl Attribute ===

impl Attribute {
    pub(super) fn open(value: impl Into<String>) -> Self {
        Self { value: value.into(), secret: false }
    }

    pub(super) fn secret(value: impl Into<String>) -> Self {
        Self { value: value.into(), secret: true }
    }
}

// The three types that hold a password do not show it, not even to a developer's log.

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.secret { "(secret)" } else { &self.value })
    }
}

impl std::fmt::Debug for AfterReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateRole { name, .. } => write!(f, "CreateRole({name})"),
            Self::CreateDatabase { name, owner, .. } => write!(f, "CreateDatabase({name}, owner {owner})"),
        }
    }
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { preset, version, port, data_dir, run_as, .. } = self;
        write!(f, "Wanted({preset:?} {version:?} on {port} in {} as {run_as:?})", data_dir.display())
    }
}
