//! Requests, replies and streams of the control protocol.
//!
//! One frame is a length (u32, big endian) and a MessagePack map `{id, kind, body}`; `body` is itself MessagePack with
//! named fields, so that an unknown kind can be refused without being understood.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::view::{DaemonView, EventView, ProjectView, SharedView, VariableView};

/// The protocol this build speaks best; `Hello` settles on the highest both know.
pub const PROTOCOL_MAX: u32 = 1;
/// The oldest protocol this build still speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Longest frame a daemon accepts.
pub const FRAME_INBOUND_MAX_BYTES: usize = 1024 * 1024;
/// Longest frame a client accepts.
pub const FRAME_CLIENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Longest piece that is typed at once.
pub use envctl_actors::process::heart::wire::TYPED_MAX_BYTES;

/// A daemon that does not answer a question about its own memory within this time hangs.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A question with one answer.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// Its name on the wire.
    const KIND: &'static str;
    /// The answer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Longest wait for the answer; `None`: the work takes as long as it takes.
    const ANSWER_WITHIN: Option<Duration>;
}

/// A question with a stream of answers, until either side ends it.
pub trait Subscribe: Serialize + DeserializeOwned + Send + 'static {
    /// Its name on the wire.
    const KIND: &'static str;
    /// One answer.
    type Item: Serialize + DeserializeOwned + Send + 'static;
}

/// A frame before its body is understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Chosen by the client; every answer carries it. 0 is the greeting's.
    pub id: u64,
    /// What the body is: a request's `KIND`; in answers `reply`, `item`, `end` or `error`.
    pub kind: String,
    /// The body.
    pub body: ByteBuf,
}

/// First frame in both directions. Frozen for ever but for added fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol spoken.
    pub protocol_min: u32,
    /// Newest protocol spoken.
    pub protocol_max: u32,
    /// Version of the program.
    pub build: String,
    /// The session's name.
    pub session: String,
    /// Things that can be asked for beyond the protocol's number.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs: `unsupported`, `not-found`, `not-running`, `no-terminal`, `config`, `shutting-down`, `failed`, `timeout`.
    pub code: String,
    /// For people: names the unit, path or project.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Which project a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRef {
    /// The real path of its directory.
    pub root: PathBuf,
}

/// Start a project, or units of it. Answered as soon as the start has been decided on; [`WatchProject`] shows how it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// The project.
    pub project: ProjectRef,
    /// Its config file, if not the one found in the project's directory.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The user's own config file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_config: Option<PathBuf>,
    /// Units to start, with what they need; empty: all.
    #[serde(default)]
    pub units: Vec<String>,
    /// Without what they need.
    #[serde(default)]
    pub no_deps: bool,
    /// The environment of the caller, which units get (never the daemon's own).
    pub environment: Vec<(ByteBuf, ByteBuf)>,
}

/// Answer to [`Up`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpReply {
    /// The project's name.
    pub project: String,
    /// The run.
    pub run: String,
    /// Whether the project was up already.
    pub joined: bool,
    /// The units that this request set in motion (they were not wanted before).
    pub started: Vec<String>,
}

/// Stop a project in order. Answered when it is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// The project.
    pub project: ProjectRef,
    /// Only these units (used by a foreground `up` that ends); empty: all.
    #[serde(default)]
    pub units: Vec<String>,
    /// Milliseconds until everything left is killed; none: each unit's own grace.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Kill at once.
    #[serde(default)]
    pub kill: bool,
}

/// Answer to [`Down`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownReply {
    /// The project's name.
    pub project: String,
    /// Whether there was anything to stop.
    pub was_up: bool,
    /// Units with processes that could not be ended, and those processes.
    pub escaped: Vec<(String, Vec<u32>)>,
    /// Units that did not end when they were asked to, and had to be killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<Killed>,
}

/// A unit that had to be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The unit.
    pub unit: String,
    /// What was over, or said so: `grace` (its own), `timeout` (that of the whole stop) or `asked` (somebody).
    pub after: String,
}

/// The state of projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ps {
    /// One project, or all of the session.
    #[serde(default)]
    pub project: Option<ProjectRef>,
    /// Also measure cpu, memory and age. Costs a look at all processes of the machine, so only who shows them asks.
    #[serde(default)]
    pub usage: bool,
}

/// Answer to [`Ps`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PsReply {
    /// The projects.
    pub projects: Vec<ProjectView>,
}

/// What to do with units of a running project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start, with what they need.
    Start,
    /// Stop; they stay stopped until started again.
    Stop,
    /// Stop and start.
    Restart,
}

/// An operator's word about units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operate {
    /// The project.
    pub project: ProjectRef,
    /// What to do.
    pub verb: Verb,
    /// The units; empty: all.
    pub units: Vec<String>,
}

/// Send a signal to units' main processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The project.
    pub project: ProjectRef,
    /// The signal's number.
    pub signal: i32,
    /// The units.
    pub units: Vec<String>,
}

/// Answer to requests that only need to be taken: the units meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The units.
    pub units: Vec<String>,
}

/// Take part in a unit's terminal: it gets this size, and what it shows is in its log. Asked again when the size changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The project.
    pub project: ProjectRef,
    /// The unit.
    pub unit: String,
    /// Lines of the client's terminal.
    pub rows: u16,
    /// Characters in a line of it.
    pub columns: u16,
}

/// Answer to [`Attach`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachReply {
    /// The life that has the terminal.
    pub incarnation: u32,
    /// The run's number in the records of the log.
    pub run: u32,
}

/// Type on a unit's terminal. Answered when the unit has room for it, so that a client that waits never types too fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeIn {
    /// The project.
    pub project: ProjectRef,
    /// The unit.
    pub unit: String,
    /// The life that is meant; another one gets nothing.
    pub incarnation: u32,
    /// What is typed, at most [`TYPED_MAX_BYTES`].
    pub bytes: ByteBuf,
}

/// Answer to [`TypeIn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInReply {
    /// Whether the terminal took it; if not, the unit does not read, or has ended.
    pub taken: bool,
}

/// Delete what is stored of units' logs; the units run on, and so do their logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearLogs {
    /// The project.
    pub project: ProjectRef,
    /// The units.
    pub units: Vec<String>,
}

/// Answer to [`ClearLogs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearLogsReply {
    /// The units whose logs are written by this daemon, and how many bytes the disk got back. Others are nobody's to ask.
    pub cleared: Vec<(String, u64)>,
}

/// The resolved environment of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitEnv {
    /// The project.
    pub project: ProjectRef,
    /// The unit.
    pub unit: String,
    /// Show secrets.
    #[serde(default)]
    pub reveal: bool,
}

/// Answer to [`UnitEnv`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitEnvReply {
    /// The variables by name.
    pub variables: Vec<VariableView>,
    /// The unit's working directory.
    pub dir: PathBuf,
}

/// What a program beside a unit needs to be a guest of it: asked by `exec`, which starts that program itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The project; it has to be up, the unit need not run.
    pub project: ProjectRef,
    /// The unit.
    pub unit: String,
}

/// Answer to [`Exec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReply {
    /// The unit's whole environment as its next life would get it, secrets included, under a guest's envelope.
    pub environment: Vec<(ByteBuf, ByteBuf)>,
    /// The unit's working directory.
    pub dir: PathBuf,
}

/// What a requirement is, offers, and can be talked to with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequirementInfo {
    /// The project.
    pub project: ProjectRef,
    /// The requirement.
    pub unit: String,
    /// Show secrets, and give clients their credentials.
    #[serde(default)]
    pub reveal: bool,
}

/// Answer to [`RequirementInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequirementReply {
    /// The preset's name.
    pub preset: String,
    /// The preset, for people.
    pub title: String,
    /// `auto`, `native`, `container` or `external`.
    pub driver: String,
    /// The directory that belongs to it; none for somebody else's server.
    pub data: Option<PathBuf>,
    /// What it offers to `${…}`, masked unless revealed.
    pub attributes: Vec<VariableView>,
    /// What units get that need it, masked unless revealed.
    pub variables: Vec<VariableView>,
    /// The clients that its preset declares.
    pub clients: Vec<ClientView>,
    /// What it has on a server that is shared.
    #[serde(default)]
    pub shared: Option<SharedView>,
}

/// A program that talks to a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// What it is called: `psql`.
    pub name: String,
    /// Names of the program, the first that is installed.
    pub programs: Vec<String>,
    /// Its first arguments.
    pub args: Vec<String>,
    /// Its credentials, if they were asked for.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}

/// Drop the data of requirements that are down. Answered when it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropData {
    /// The project.
    pub project: ProjectRef,
    /// The requirements; empty: all.
    pub units: Vec<String>,
}

/// The daemon about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {}

/// End the daemon after stopping every project in order. Answered when all are down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStop {}

/// Answer to [`DaemonStop`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStopReply {
    /// Units with processes that could not be ended.
    pub escaped: Vec<(String, Vec<u32>)>,
}

/// Replace the daemon by another program, in place. Answered when that program has proved that it can take over; the
/// connection ends soon after, and the next one is the new program's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonUpgrade {
    /// Absolute path of the program.
    pub program: PathBuf,
}

/// Answer to [`DaemonUpgrade`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonUpgradeReply {
    /// The upgrade's id: [`DaemonStatus`] tells what became of it.
    pub id: String,
    /// Version of the daemon.
    pub from: String,
    /// Version of the new program.
    pub to: String,
}

/// A project's state now and after every change. A slow reader sees the newest state, not every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchProject {
    /// The project.
    pub project: ProjectRef,
}

/// A project's journal: what is there, then what comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowEvents {
    /// The project.
    pub project: ProjectRef,
    /// Events after this number; 0: from the start of the journal.
    pub after: u64,
}

/// Word that logs have grown: the reader reads the files itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchLogs {
    /// The project.
    pub project: ProjectRef,
    /// The units; empty: all.
    pub units: Vec<String>,
}

/// An item of [`WatchLogs`]. The first one comes at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsGrown {
    /// Whether any of the units can still write.
    pub live: bool,
}

/// Requests that change nothing: asked again of the next daemon when one goes before it has answered.
pub const READ_ONLY_KINDS: &[&str] = &[Ps::KIND, UnitEnv::KIND, Exec::KIND, RequirementInfo::KIND, DaemonStatus::KIND];

macro_rules! requests {
    ($($request:ident = $kind:literal => $reply:ty, $within:expr;)*) => {
        $(impl Request for $request {
            const KIND: &'static str = $kind;
            const ANSWER_WITHIN: Option<Duration> = $within;
            type Reply = $reply;
        })*
        /// Every request kind, in the order of this file; the golden frames of the tests cover each.
        pub const REQUEST_KINDS: &[&str] = &[$($kind),*];
    };
}

macro_rules! subscriptions {
    ($($subscribe:ident = $kind:literal => $item:ty;)*) => {
        $(impl Subscribe for $subscribe {
            const KIND: &'static str = $kind;
            type Item = $item;
        })*
        /// Every subscription kind.
        pub const SUBSCRIBE_KINDS: &[&str] = &[$($kind),*];
    };
}

requests! {
    Up = "up" => UpReply, None;
    Down = "down" => DownReply, None;
    Ps = "ps" => PsReply, Some(AT_ONCE);
    Operate = "operate" => Accepted, None;
    Kill = "kill" => Accepted, Some(AT_ONCE);
    UnitEnv = "unit-env" => UnitEnvReply, Some(AT_ONCE);
    Exec = "exec" => ExecReply, Some(AT_ONCE);
    RequirementInfo = "requirement-info" => RequirementReply, Some(AT_ONCE);
    DropData = "drop-data" => Accepted, None;
    Attach = "attach" => AttachReply, Some(AT_ONCE);
    TypeIn = "type-in" => TypeInReply, None;
    ClearLogs = "clear-logs" => ClearLogsReply, None;
    DaemonStatus = "daemon-status" => DaemonView, Some(AT_ONCE);
    DaemonStop = "daemon-stop" => DaemonStopReply, None;
    DaemonUpgrade = "daemon-upgrade" => DaemonUpgradeReply, None;
}

subscriptions! {
    WatchProject = "watch-project" => ProjectView;
    FollowEvents = "follow-events" => EventView;
    WatchLogs = "watch-logs" => LogsGrown;
}
