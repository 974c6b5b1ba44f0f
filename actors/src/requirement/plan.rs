//! What is to be done for a requirement, decided before anything is touched.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::preset::{Preset, Scope, Value};
use crate::probe::{Probe, Schedule};
use crate::process::{Command, RunAs, Scope as StopScope};

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which server.
    pub preset: Arc<Preset>,
    /// The preset's name.
    pub name: String,
    /// Its version, as far as it matters: `15`, `7.2`.
    pub version: Option<String>,
    /// What its texts stand for before anything starts: [`Preset::scope`].
    pub scope: Scope,
    /// The leased ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// The directory that belongs to this requirement.
    pub data_dir: PathBuf,
    /// Where data that is the same for everybody is kept, to be copied; `None`: nothing is kept.
    pub cache: Option<PathBuf>,
    /// The whole environment of its processes: [`base_env`].
    pub env: BTreeMap<OsString, OsString>,
    /// Whose rights they have: [`choose_rights`](super::choose_rights).
    pub run_as: RunAs,
    /// What else is done once it answers, in the words of the project.
    pub init: Vec<Init>,
}

/// A step of the project's own, done once for the data and again when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// A file of SQL statements.
    Sql(PathBuf),
    /// A command in the project's directory and the environment of units that need the requirement.
    Run {
        /// What it is called in messages: the line, as it was written.
        label: String,
        /// The command.
        command: Box<Command>,
        /// Files whose change makes it due again.
        inputs: Vec<PathBuf>,
    },
}

/// Everything there is to do, in the order of the fields.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Exists once the first start has been prepared; `None`: there is no first start.
    pub marker: Option<PathBuf>,
    /// Before the main process.
    pub prepare: Vec<Step>,
    /// The main process.
    pub main: Command,
    /// The signal that ends it in order, and who gets it.
    pub stop: (i32, StopScope),
    /// How its readiness is asked.
    pub probe: Probe,
    /// How often.
    pub schedule: Schedule,
    /// Once it is ready, before it may be called so.
    pub after_ready: Vec<After>,
}

/// One step of preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, as in "failed to …".
    pub label: String,
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
    /// Makes data by a command, or copies what the same command made before.
    Make {
        /// The command; it works in `into`.
        command: Box<Command>,
        /// Where the data is made.
        into: PathBuf,
        /// The program whose version the data is of.
        server: PathBuf,
        /// Where results are kept; `None`: it is always made anew.
        cache: Option<PathBuf>,
    },
    /// Runs a command that prints its version, which must be the wanted one.
    CheckVersion {
        /// The command.
        command: Box<Command>,
        /// The version.
        wanted: String,
    },
    /// The data must be of this version, or not there yet.
    CheckData {
        /// The file that says so (`PG_VERSION`).
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
    /// Writes a file, 0600.
    Write {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        text: Value,
        /// Whose it is; `None`: ours.
        account: Option<(u32, u32)>,
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
    /// Removes a lock file left by a server that was killed. Its pid may be anybody's by now; one whose owner lives is an obstacle.
    RemoveStaleLock {
        /// The lock file; its first line is the pid.
        file: PathBuf,
        /// The server's working directory, if that tells it from others.
        dir: Option<PathBuf>,
        /// Files that go with it.
        with: Vec<PathBuf>,
    },
    /// Nobody may listen on these ports yet.
    CheckPorts(Vec<u16>),
}

/// What is done once the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// What it does, as in "failed to …".
    pub label: String,
    /// What is done.
    pub work: Work,
    /// Whether the requirement is usable without it.
    pub soft: bool,
    /// When it is due.
    pub due: Due,
}

/// When work is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// At every start.
    Always,
    /// Once for the data, and again when it changes.
    Once {
        /// Keeps what was done.
        record: PathBuf,
        /// The name it is kept under.
        name: String,
        /// Files whose content counts, beside the work itself.
        inputs: Vec<PathBuf>,
    },
}

/// Work on a server that answers.
#[derive(Clone, PartialEq, Eq)]
pub enum Work {
    /// Statements for PostgreSQL.
    Postgres {
        /// The URL.
        url: String,
        /// Not due if this query gives a row.
        unless: Option<String>,
        /// What is executed.
        sql: String,
        /// What is executed if it is not due.
        otherwise: Option<String>,
    },
    /// A file of statements for PostgreSQL.
    PostgresFile {
        /// The URL.
        url: String,
        /// The file.
        file: PathBuf,
    },
    /// A command that must end well.
    Run(Box<Command>),
    /// The first of these that works, each with what it does; takes longer than other work.
    FirstOf(Vec<(String, Work)>),
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

// === impl Wanted ===

impl Wanted {
    /// The directory of the server's own data.
    pub fn data(&self) -> Option<PathBuf> {
        self.preset.data.as_ref().map(|name| self.data_dir.join(name))
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

    /// The account its processes run as, where that is another one.
    pub(super) fn account(&self) -> Option<(u32, u32)> {
        match self.run_as {
            RunAs::Account { uid, gid } => Some((uid, gid)),
            RunAs::Caller | RunAs::MappedUser { .. } | RunAs::User { .. } => None,
        }
    }
}

// === impl Step ===

impl Step {
    pub(super) fn always(label: impl Into<String>, action: Action) -> Self {
        Self { label: label.into(), when: When::Always, action }
    }

    pub(super) fn first(label: impl Into<String>, action: Action) -> Self {
        Self { label: label.into(), when: When::FirstStart, action }
    }
}

// === impl Work ===

impl std::fmt::Debug for Work {
    /// Its kind: statements and URLs may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres { .. } => f.write_str("statements for PostgreSQL"),
            Self::PostgresFile { file, .. } => write!(f, "{} for PostgreSQL", file.display()),
            Self::Run(command) => write!(f, "{:?} {:?}", command.program, command.args),
            Self::FirstOf(ways) => f.debug_list().entries(ways).finish(),
        }
    }
}
