//! What clients see: the shapes of `--json`, of the control protocol and of the artifacts.
//!
//! Additive only: every new field has a default, none is ever reused. `docs/decisions/0001-wire-codec.md` says why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of every JSON shape in this module.
pub const SCHEMA_VERSION: u32 = 1;

/// One project of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectView {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub root: PathBuf,
    /// The run's id, if it is or was up.
    #[serde(default)]
    pub run: Option<String>,
    /// The whole project's state.
    pub state: ProjectState,
    /// Its units, in the order of the file.
    pub units: Vec<UnitView>,
    /// Why its run ends, or has ended, by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The unit that made it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<String>,
}

/// A project's state, summed up from its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectState {
    /// Everything wanted is up.
    Up,
    /// Something wanted is not up yet.
    Starting,
    /// A non-critical unit failed; the rest is up.
    Degraded,
    /// It is on its way down.
    Stopping,
    /// Nothing runs and nothing is wanted.
    Down,
    /// A critical unit failed for good, or the run has ended by itself.
    Failed,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitView {
    /// Its name.
    pub name: String,
    /// `service`, `requirement` or `task`.
    pub kind: String,
    /// Actual state.
    pub state: UnitState,
    /// Wanted state.
    pub desired: Desired,
    /// Whether it is ready (for a unit without a probe: running).
    pub ready: bool,
    /// Whether anything will ever report readiness.
    #[serde(default)]
    pub probed: bool,
    /// Its main process.
    pub pid: Option<u32>,
    /// The life it is in, from 1; 0 before the first.
    pub incarnation: u32,
    /// Automatic restarts in this run.
    pub restarts: u32,
    /// When it entered its state, RFC 3339.
    pub since: String,
    /// How its last life ended.
    pub exit: Option<ExitView>,
    /// Its group, if declared.
    pub group: Option<String>,
    /// Its leased ports.
    pub ports: Vec<PortView>,
    /// The units it waits for.
    pub blocked_by: Vec<String>,
    /// Why it is in its state, in one line.
    pub cause: Option<String>,
    /// What to do about it, where something can be done.
    #[serde(default)]
    pub hint: Option<String>,
    /// Whether its failure fails the run.
    #[serde(default = "yes")]
    pub critical: bool,
    /// CPU time of its process tree since its main process began, in milliseconds; only when asked for ([`Ps::usage`]).
    ///
    /// [`Ps::usage`]: super::wire::Ps::usage
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// Resident memory of its process tree, in bytes, shared pages counted in each process; only when asked for.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Age of its main process in milliseconds, whatever daemon started it; only when asked for.
    #[serde(default)]
    pub uptime_ms: Option<u64>,
    /// Its containers by short id, in the order of their start; then it has no `pid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Whether it was taken over from a daemon that died.
    #[serde(default)]
    pub adopted: bool,
    /// Processes of it that could not be ended.
    #[serde(default)]
    pub escaped: Vec<u32>,
    /// Whether it is up but less than whole.
    #[serde(default)]
    pub degraded: bool,
    /// What is less than asked for, one line each: limits that this machine cannot hold, output that its disk does not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Of a requirement how it is run: `auto` (natively, unless told otherwise), `native`, `container`, `external` or
    /// `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Of a requirement with a database on a server that is shared: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedUse>,
    /// Of a requirement: what went wrong in this run, by class.
    #[serde(default, skip_serializing_if = "FailureCounts::is_none")]
    pub failures: FailureCounts,
}

/// What went wrong with a requirement in one run, by what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FailureCounts {
    /// Somebody else had its port: it got the next one.
    #[serde(default)]
    pub bind_conflict: u32,
    /// A check had no good answer: it was asked again at the same place.
    #[serde(default)]
    pub transient_probe: u32,
    /// Work after the start failed that can be done without: it is degraded.
    #[serde(default)]
    pub soft: u32,
    /// A start failed that no further one could mend: it is failed.
    #[serde(default)]
    pub hard: u32,
}

/// A database on a shared server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedUse {
    /// The name of the server's project.
    pub server: String,
    /// The database.
    pub database: String,
}

/// What a requirement has on a shared server, and who else has something there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedView {
    /// The name of the server's project.
    pub server: String,
    /// The server's unit in it.
    pub unit: String,
    /// The directory of that project.
    pub dir: PathBuf,
    /// The database.
    pub database: String,
    /// The database that it was made from.
    pub template: Option<String>,
    /// All databases with owners, its own too.
    pub with: Vec<NeighbourView>,
}

/// Somebody's database on a shared server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourView {
    /// The worktree: `main`, or as git knows it.
    pub worktree: String,
    /// Its directory.
    pub root: PathBuf,
    /// The database.
    pub database: String,
}

/// A unit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the engine's ChildState documents each of them")]
pub enum UnitState {
    Pending,
    Starting,
    Running,
    Ready,
    Stopping,
    Backoff,
    Stopped,
    Done,
    Failed,
}

/// What the operator wants of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Running (a task: done).
    Up,
    /// Not running.
    Down,
}

/// How a life ended: `{code}`, `{signal, core}` or `{unknown: reason}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ExitShape", into = "ExitShape")]
pub enum ExitView {
    /// Exit code.
    Code(i32),
    /// Ended by a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// Nobody could see how.
    Unknown(String),
}

/// [`ExitView`] on the wire: flat, so that it reads the same in every language.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExitShape {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

/// A leased port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// `port`, or the name in `ports`.
    pub name: String,
    /// The number.
    pub port: u16,
    /// How to reach it.
    pub url: String,
}

/// One event of the journal, as in `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Version of this shape.
    pub schema_version: u32,
    /// Number in this project's journal, gap-free, from 1.
    pub seq: u64,
    /// Wall-clock time, RFC 3339 with microseconds.
    pub time: String,
    /// The run.
    pub run: String,
    /// `unit.started`, `unit.exited`, `run.up` …
    pub event: String,
    /// The unit it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The life it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u32>,
    /// What happened, in one line for people.
    pub message: String,
    /// Why, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Details by name: pid, delay_ms, path, errno …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}

/// A variable of a unit's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableView {
    /// Its name.
    pub name: String,
    /// Its value; masked unless asked for.
    pub value: String,
    /// Where it came from, for people: `envctl.toml:12:9`, `caller`, `derived`, `default`.
    pub origin: String,
    /// Whether the value was or would be masked.
    pub secret: bool,
}

/// The state of the session's daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Its process.
    pub pid: u32,
    /// The parent of all units.
    pub heart_pid: Option<u32>,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// The session's name.
    pub session: String,
    /// Isolated sessions known on this machine, this one included.
    pub sessions: Vec<String>,
    /// The control socket.
    pub socket: PathBuf,
    /// Projects with a run that is up.
    pub projects: Vec<String>,
    /// The file that the daemon runs from.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// Heart's version, if it tells.
    #[serde(default)]
    pub heart_version: Option<String>,
    /// The last upgrade, if there was one since the machine started.
    #[serde(default)]
    pub upgrade: Option<UpgradeView>,
}

/// An upgrade of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// Its id.
    pub id: String,
    /// When it began, RFC 3339.
    pub at: String,
    /// The new program.
    pub program: PathBuf,
    /// Version of the daemon before.
    pub from: String,
    /// Version of the new program.
    pub to: String,
    /// What became of it.
    pub outcome: UpgradeOutcome,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
}

/// What became of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeOutcome {
    /// It is under way.
    Begun,
    /// The new program serves.
    Done,
    /// The program of before serves on.
    Failed,
}

// === impl FailureCounts ===

impl FailureCounts {
    /// Whether nothing went wrong.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What did, in words; empty if nothing.
    pub fn text(&self) -> String {
        let one = |count: u32, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let parts = [
            one(self.bind_conflict, "bind conflict (next port)"),
            one(self.transient_probe, "transient probe (asked again)"),
            one(self.soft, "soft (degraded)"),
            one(self.hard, "hard (failed)"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

// === impl UnitState ===

impl UnitState {
    /// The state's name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

// === impl ExitView ===

impl From<ExitShape> for ExitView {
    fn from(shape: ExitShape) -> Self {
        match shape {
            ExitShape { code: Some(code), .. } => Self::Code(code),
            ExitShape { signal: Some(signal), core, .. } => Self::Signal { signal, core: core.unwrap_or(false) },
            ExitShape { unknown, .. } => Self::Unknown(unknown.unwrap_or_default()),
        }
    }
}

impl From<ExitView> for ExitShape {
    fn from(exit: ExitView) -> Self {
        let empty = Self::default();
        match exit {
            ExitView::Code(code) => Self { code: Some(code), ..empty },
            ExitView::Signal { signal, core } => Self { signal: Some(signal), core: Some(core), ..empty },
            ExitView::Unknown(why) => Self { unknown: Some(why), ..empty },
        }
    }
}

// === impl ProjectState ===

impl ProjectState {
    /// The state's name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Down => "down",
            Self::Failed => "failed",
        }
    }
}

// === impl UnitView ===

impl UnitView {
    /// Whether it is where `up --wait` wants it: ready, or running without a probe, or done.
    pub fn is_settled(&self) -> bool {
        match self.state {
            UnitState::Ready | UnitState::Done => true,
            UnitState::Running => !self.probed && self.kind != "task",
            UnitState::Pending
            | UnitState::Starting
            | UnitState::Stopping
            | UnitState::Backoff
            | UnitState::Stopped
            | UnitState::Failed => false,
        }
    }
}

fn yes() -> bool {
    true
}
