//! A project as it is to be run: the checked result of its configuration.
//!
//! Texts that may contain `${unit.attribute}` are kept as [`Template`]s until their unit starts, because ports and URLs
//! are only known then. Everything else is final. Core types: nothing here is serializable.

mod logs;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::process::{Limits, Scope, WindowSize};
use envctl_actors::requirement::Preset;
use envctl_supervisors::Name;
use envctl_supervisors::spec::{ChildSpec, Flags, GroupSpec};
use indexmap::IndexMap;

pub use logs::{LogSpec, LogWish};

/// One project, checked.
#[derive(Debug, Clone)]
pub struct ProjectSpec {
    /// The project's name.
    pub name: Name,
    /// Where its files are: absolute, real path of the directory with the config file.
    pub root: PathBuf,
    /// The configuration files it came from, in order of precedence (lowest first).
    pub files: Vec<PathBuf>,
    /// Units in the order of the file.
    pub units: IndexMap<Name, UnitSpec>,
    /// Declared groups in the order of the file.
    pub groups: Vec<GroupSpec>,
    /// What its supervisor is told of itself: `[supervision]`, or the defaults.
    pub flags: Flags,
    /// Log limits per unit.
    pub logs: LogSpec,
    /// Project-wide environment.
    pub env: IndexMap<String, Sourced<Template>>,
    /// What of the caller's environment reaches units.
    pub inherit: Inherit,
    /// Whether its units end with the daemon, where they would else be kept for the next one.
    pub end_with_daemon: bool,
}

/// One unit.
#[derive(Debug, Clone)]
pub struct UnitSpec {
    /// What the engine knows of it: restart, needs, budgets.
    pub child: ChildSpec,
    /// Service, requirement or task, with what only that kind has.
    pub kind: UnitKind,
    /// Environment of this unit, over the project's.
    pub env: IndexMap<String, Sourced<Template>>,
    /// Ports to lease: name → wish. The single unnamed `port` is called `port`.
    pub ports: IndexMap<Name, PortWish>,
    /// Readiness probe, if any. `None` with a port: the default TCP probe has been filled in already.
    pub ready: Option<ProbeSpec>,
    /// Liveness probe, if any.
    pub alive: Option<ProbeSpec>,
    /// How it is asked to end, step by step; never empty. A requirement is asked in its preset's way instead.
    pub stop: Vec<StopStep>,
    /// What it may use, whose rights it has, what it reads.
    pub confines: Confines,
    /// What of its output is kept, where it differs from the project's.
    pub logs: LogWish,
    /// Where the unit stands in its file, for messages.
    pub at: Position,
}

/// What a unit is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confines {
    /// What it may use, its niceness and its file mode mask.
    pub limits: Limits,
    /// The account it runs as, if not ours.
    pub user: Option<String>,
    /// The file it reads as standard input, absolute; `None`: nothing.
    pub stdin: Option<PathBuf>,
}

/// The three kinds of unit.
#[derive(Debug, Clone)]
pub enum UnitKind {
    /// Keeps running.
    Service(Program),
    /// Runs to an end.
    Task(Program),
    /// A dependency brought by a preset.
    Requirement(RequirementSpec),
}

/// What a service or a task runs.
#[derive(Debug, Clone)]
pub struct Program {
    /// The command.
    pub run: Run,
    /// Working directory, absolute, inside the project.
    pub dir: PathBuf,
    /// The size of its terminal, if it has one.
    pub tty: Option<WindowSize>,
}

/// The two ways to say what is run.
#[derive(Debug, Clone)]
pub enum Run {
    /// An argument list; each element may hold `${unit.attribute}`.
    Command(Vec<Sourced<Template>>),
    /// A line for `/bin/sh -c`; never touched, the shell has the variables.
    Shell(String),
}

/// One step of asking a unit to end.
#[derive(Debug, Clone)]
pub struct StopStep {
    /// What is done.
    pub ask: StopAsk,
    /// Who is signalled, and at least how far the kill after the last step reaches.
    pub scope: Scope,
    /// How long it lasts.
    pub after: Duration,
}

/// What a step of a stop does.
#[derive(Debug, Clone)]
pub enum StopAsk {
    /// Sends a signal.
    Signal(i32),
    /// Runs a command in the unit's directory and environment.
    Run(Run),
}

/// A requirement from a preset.
#[derive(Debug, Clone)]
pub struct RequirementSpec {
    /// The preset.
    pub preset: PresetSpec,
    /// Wanted version, if any.
    pub version: Option<String>,
    /// Options of the preset that are set.
    pub options: BTreeMap<String, String>,
    /// How it is run. Never [`Driver::Auto`] where somebody else's server is configured.
    pub driver: Driver,
    /// What is wanted of its container, where it has one.
    pub container: ContainerWish,
    /// Where somebody else's server is, if that is written.
    pub whereabouts: Option<Whereabouts>,
    /// What the project does to it once it answers.
    pub init: Vec<InitSpec>,
    /// Who shares its server, with [`Driver::Shared`].
    pub share: Option<Box<ShareSpec>>,
}

/// A server that is shared, as one of those asks for it who share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSpec {
    /// Who shares it.
    pub among: Among,
    /// Whose database is copied for a new one: a worktree's name, `main` for the main checkout.
    pub template: Option<String>,
    /// How the server is run: never [`Driver::Shared`] or [`Driver::External`].
    pub driver: Driver,
    /// The port it wishes for, if not the preset's.
    pub port: Option<u16>,
}

/// Who shares a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// The worktrees of a repository.
    Project,
    /// All projects of the session.
    Machine,
}

/// What is wanted of a requirement's container, beside its preset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerWish {
    /// Another image.
    pub image: Option<String>,
    /// Where it is found.
    pub network: envctl_actors::requirement::container::Network,
    /// The engine's address; default: as docker's command line finds it.
    pub engine: Option<String>,
}

/// A preset and the name it was found by.
#[derive(Debug, Clone)]
pub struct PresetSpec {
    /// The name.
    pub name: String,
    /// The preset.
    pub preset: Arc<Preset>,
    /// The text of its file, unless it is built in.
    pub text: Option<Arc<str>>,
}

/// How a requirement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// Natively if its programs are there, else in a container.
    #[default]
    Auto,
    /// From the binaries of this machine.
    Native,
    /// In a container.
    Container,
    /// Somebody else's server: never started or stopped.
    External,
    /// A database on a server of ours that others use too.
    Shared,
}

/// Where somebody else's server is.
#[derive(Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this URL.
    Url(String),
    /// At the URL in this variable of the unit's `.env` files or of the caller's environment.
    Variable(String),
    /// On this host, with the options of the requirement.
    Parts {
        /// The host.
        host: String,
        /// The port, if it is not the usual one.
        port: Option<u16>,
        /// The password, if there is one.
        password: Option<String>,
    },
}

/// One step of a requirement's `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitSpec {
    /// A file of SQL statements, absolute.
    Sql(PathBuf),
    /// A line for `/bin/sh -c`.
    Shell {
        /// The line.
        line: String,
        /// Files whose change makes it due again, absolute.
        inputs: Vec<PathBuf>,
    },
}

/// A wish for a leased port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortWish {
    /// The first port to try; the lease takes the next free one after it.
    pub base: u16,
}

/// A probe as configured; ports and texts are resolved when the unit starts.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// The question.
    pub ask: Ask,
    /// Time to become ready (readiness only).
    pub within: Duration,
    /// Time between checks.
    pub every: Duration,
    /// Time one check may take.
    pub timeout: Duration,
    /// Consecutive failures that count.
    pub failures: u32,
}

/// What a configured probe asks.
#[derive(Debug, Clone)]
pub enum Ask {
    /// TCP on a port: a leased one by name, or a number.
    Tcp(ProbePort),
    /// HTTP GET.
    Http {
        /// The port.
        port: ProbePort,
        /// Path with query.
        path: String,
    },
    /// A command.
    Exec(Run),
    /// A line of output (regular expression).
    Log(regex::bytes::Regex),
}

/// The port a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbePort {
    /// One of the unit's own leased ports.
    Own(Name),
    /// A fixed port of this machine.
    Fixed(u16),
}

/// What of the caller's environment reaches a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inherit {
    /// Everything.
    All,
    /// Nothing but what is declared.
    Nothing,
    /// These names.
    Names(Vec<String>),
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Its origin, for `env` and `config show`.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A place in a file.
    File(Position),
    /// The environment of whoever ran `up`.
    Caller,
    /// Derived by the runtime (ports, the envelope).
    Derived,
}

/// A place in a file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: PathBuf,
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A text with `${unit.attribute}` in it. `$$` is a dollar sign; any other `$` stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The pieces in order.
    pub pieces: Vec<Piece>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// `${unit.attribute}` or `${unit.ports.name}`.
    Attribute {
        /// The unit.
        unit: Name,
        /// The attribute: `port`, `url`, `host`, `ports.admin` …
        attribute: String,
    },
}

/// The attributes of running units, by unit and attribute: what templates are filled from.
pub type Attributes = BTreeMap<Name, BTreeMap<String, Attribute>>;

/// One attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The text.
    pub value: String,
    /// Whether it must not be shown or stand in an argument list.
    pub secret: bool,
}

// === impl ProjectSpec ===

impl ProjectSpec {
    /// The declared group that a unit or a group is a direct member of.
    pub fn group_of(&self, member: &Name) -> Option<&GroupSpec> {
        self.groups.iter().find(|group| group.members.contains(member))
    }

    /// The declared group of this name.
    pub fn group(&self, id: &Name) -> Option<&GroupSpec> {
        self.groups.iter().find(|group| group.id == *id)
    }

    /// The units in a member, in order: itself, or those of the groups below it at any depth.
    pub fn units_in(&self, member: &Name) -> Vec<Name> {
        let mut units = Vec::new();
        let mut open = vec![member];
        while let Some(member) = open.pop() {
            match self.group(member) {
                Some(group) => open.extend(group.members.iter().rev()),
                None => units.push(member.clone()),
            }
        }
        units
    }
}

// === impl UnitKind ===

impl UnitKind {
    /// The size of its terminal, if it has one.
    pub fn tty(&self) -> Option<WindowSize> {
        match self {
            Self::Service(program) | Self::Task(program) => program.tty,
            Self::Requirement(_) => None,
        }
    }

    /// The kind's name as users see it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Service(_) => "service",
            Self::Task(_) => "task",
            Self::Requirement(_) => "requirement",
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Its name in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Container => "container",
            Self::External => "external",
            Self::Shared => "shared",
        }
    }
}

// === impl Among ===

impl Among {
    /// Its name in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Machine => "machine",
        }
    }
}

// === impl Whereabouts ===

impl fmt::Debug for Whereabouts {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url"),
            Self::Variable(name) => write!(f, "Variable({name})"),
            Self::Parts { host, .. } => write!(f, "Parts({host})"),
        }
    }
}

// === impl Template ===

impl Template {
    /// A text without references.
    pub fn literal(text: impl Into<String>) -> Self {
        Self { pieces: vec![Piece::Text(text.into())] }
    }

    /// The units this text refers to.
    pub fn units(&self) -> impl Iterator<Item = &Name> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Attribute { unit, .. } => Some(unit),
            Piece::Text(_) => None,
        })
    }

    /// Fills the references. Fails with the first one that has no value.
    pub fn fill(&self, attributes: &Attributes) -> Result<String, MissingAttribute> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Attribute { unit, attribute } => {
                    let found = attributes.get(unit).and_then(|of_unit| of_unit.get(attribute));
                    let Some(found) = found else {
                        return Err(MissingAttribute { unit: unit.clone(), attribute: attribute.clone() });
                    };
                    text.push_str(&found.value);
                }
            }
        }
        Ok(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('$', "$$"))?,
                Piece::Attribute { unit, attribute } => write!(f, "${{{unit}.{attribute}}}")?,
            }
        }
        Ok(())
    }
}

/// A reference that has no value (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`${{{unit}.{attribute}}}` has no value")]
pub struct MissingAttribute {
    /// The unit named.
    pub unit: Name,
    /// The attribute named.
    pub attribute: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
