//! The registry of events: every kind the journal knows, what it means, and what its details hold.
//!
//! An event is a fact in the past tense. Its texts and details are built from data that is not secret: no environment
//! value, no URL with a password, no command line after templates were filled. [`Redaction`] says what `debug pack` does
//! to a detail; nothing in a journal is ever of a class that must not be shown to its owner.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use envctl_supervisors::spec::Incarnation;
use serde_json::Value;

use crate::control::view::{EventView, SCHEMA_VERSION};

/// What a bundle for others does to a detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// Kept: numbers, states, names.
    Public,
    /// Paths and hosts: the home directory and the user's name are taken out.
    Path,
    /// Texts of the user's own programs, which may say anything: masked.
    Secret,
}

/// One detail of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    /// Its name in `details`.
    pub name: &'static str,
    /// What a bundle does to it.
    pub redaction: Redaction,
    /// What it holds, with its unit.
    pub doc: &'static str,
}

/// Builds one event, its number and time left to the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct EventBuilder {
    kind: EventKind,
    view: EventView,
}

macro_rules! events {
    ($($kind:ident = $name:literal, $doc:literal, [$($detail:ident),*];)*) => {
        /// Every kind of event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind { $(#[doc = $doc] $kind),* }

        impl EventKind {
            /// All of them, in the order of the registry.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The kind as it stands in the journal.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// What has happened.
            pub fn doc(self) -> &'static str {
                match self { $(Self::$kind => $doc),* }
            }

            /// The details such an event may have.
            pub fn details(self) -> &'static [Detail] {
                match self { $(Self::$kind => &[$($detail),*]),* }
            }
        }
    };
}

macro_rules! details {
    ($($constant:ident = $name:literal, $redaction:ident, $doc:literal;)*) => {
        $(const $constant: Detail = Detail { name: $name, redaction: Redaction::$redaction, doc: $doc };)*
        #[cfg(test)]
        pub(super) const DETAILS: &[Detail] = &[$($constant),*];
    };
}

details! {
    PID = "pid", Public, "process id of the main process";
    PIDS = "pids", Public, "process ids";
    CODE = "code", Public, "exit code";
    SIGNAL = "signal", Public, "number of a signal";
    CORE = "core", Public, "whether a core was dumped";
    OOM = "oom", Public, "true: the kernel killed it because its memory limit was reached";
    MEMORY_MAX = "memory_max", Public, "the memory limit in bytes";
    UNKNOWN = "unknown", Public, "why nobody could see how it ended";
    DELAY = "delay_ms", Public, "milliseconds until the next start; 0 is at once";
    RESTART = "restart", Public, "how many restarts the window holds, this one included";
    INTENSITY = "intensity", Public, "restarts that the window allows";
    PERIOD = "period_ms", Public, "length of the window in milliseconds";
    UNSTABLE = "unstable", Public, "consecutive lives that never stayed ready";
    BLOCKED_BY = "blocked_by", Public, "names of the units that are waited for";
    CONDITION = "condition", Public, "what is waited for: started, ready, done";
    CAUSED_BY = "caused_by", Public, "name of the unit that is the reason";
    CONTEXT = "context", Public, "what the supervisor was doing, in OTP's words";
    UNITS = "units", Public, "names of units";
    LOG_RUN = "log_run", Public, "the run's number in the records of logs";
    GROUP = "group", Public, "name of a group";
    ESCALATE = "escalate", Public, "what giving up means: isolate, group or project";
    STRATEGY = "strategy", Public, "the group's strategy";
    TOOK = "took_ms", Public, "milliseconds it took";
    PORT_NAME = "port_name", Public, "the port's name in its unit";
    PORT = "port", Public, "a port number";
    WANTED = "wanted", Public, "the port that was wished for";
    HOLDER = "holder", Path, "who has it instead";
    URL = "url", Path, "how to reach it, without user or password";
    PATH = "path", Path, "a path";
    PATHS = "paths", Path, "paths, the first few of many";
    ERRNO = "errno", Public, "error number of the system";
    COUNT = "count", Public, "how many";
    BYTES = "bytes", Public, "how many bytes";
    LINES = "lines", Public, "how many lines";
    PROBE = "probe", Public, "ready or alive";
    FAILURES = "failures", Public, "consecutive failures";
    ANSWER = "answer", Secret, "what the probe was told, cut short";
    VERB = "verb", Public, "start, stop, restart, kill";
    ACTOR = "actor", Public, "an actor of the runtime";
    ERROR = "error", Path, "an error of the runtime's own";
    BUILD = "build", Public, "version of the program";
    ENDED = "ended", Public, "units whose processes had ended";
    FROM = "from", Public, "version of the program before";
    RETRY = "retry", Public, "whether it will be tried again";
}

events! {
    RunStarted = "run.started", "A run began: `up` of a project that was down.", [UNITS, LOG_RUN];
    RunJoined = "run.joined", "Another `up` joined the run.", [UNITS];
    RunUp = "run.up", "Everything wanted is up.", [TOOK];
    RunDegraded = "run.degraded", "A unit failed that the run can do without.", [CAUSED_BY];
    RunStopping = "run.stopping", "The project is on its way down.", [];
    RunStopped = "run.stopped", "The project is down; the run is over.", [TOOK, UNITS];
    RunFailed = "run.failed", "A unit failed that the run cannot do without.", [CAUSED_BY];
    RunAdopted = "run.adopted", "A new daemon took the run over from one that had gone.", [UNITS, BUILD];
    RunLost = "run.lost", "The machine was restarted under the run; nothing of it is left.", [UNITS];
    UnitBlocked = "unit.blocked", "The unit is wanted and waits for others.", [BLOCKED_BY, CONDITION];
    UnitStarting = "unit.starting", "A life of the unit began; its process is being made.", [];
    UnitStarted = "unit.started", "The unit's process runs.", [PID];
    UnitStartFailed = "unit.start_failed", "The unit's process could not be made.", [ERRNO, PATH, RETRY];
    UnitReady = "unit.ready", "The unit reported that it is ready.", [TOOK, PROBE];
    UnitUnready = "unit.unready", "The unit was ready and is no more.", [PROBE, FAILURES, ANSWER];
    UnitProbeFailed = "unit.probe_failed", "A check said no; told when its answer changes.", [PROBE, FAILURES, ANSWER];
    UnitExited = "unit.exited", "The unit's process ended.", [PID, CODE, SIGNAL, CORE, UNKNOWN, OOM, MEMORY_MAX];
    UnitRestarting = "unit.restarting", "The unit will be started again.",
        [DELAY, RESTART, INTENSITY, PERIOD, UNSTABLE, CAUSED_BY, CONTEXT, GROUP];
    UnitStopping = "unit.stopping", "The unit was asked to end.", [SIGNAL, CAUSED_BY, GROUP];
    UnitStopFailed = "unit.stop_failed", "A command that was to stop the unit failed; the next step is taken.", [ANSWER];
    UnitKilled = "unit.killed", "The unit did not end in time and was killed.", [PIDS, TOOK];
    UnitStopped = "unit.stopped", "The unit is down, as wanted.", [TOOK, CAUSED_BY];
    UnitDone = "unit.done", "The task ran to its end.", [TOOK];
    UnitIgnored = "unit.ignored", "The unit's start said that there is nothing to run just now.", [];
    UnitFailed = "unit.failed", "The unit was given up; it stays down until it is started by hand.",
        [CAUSED_BY, RESTART, INTENSITY, PERIOD, UNSTABLE, CONTEXT, GROUP];
    UnitAdopted = "unit.adopted", "The running unit was taken over, with its process as it is.", [PID];
    UnitLost = "unit.lost", "The unit's process ended while neither daemon nor heart lived; how is not known.", [PID];
    UnitEscaped = "unit.escaped", "Processes of the unit could not be ended.", [PIDS];
    UnitUnheld = "unit.unheld", "A limit of the unit is not in force on this machine, or less than asked for.", [];
    UnitPreparing = "unit.preparing", "Before the unit can start something takes a while: an image is fetched.", [];
    UnitLeft = "unit.left", "Something of a life could not be cleared away and is removed at the next start.", [];
    EngineLost = "engine.lost", "The container engine that the unit lives in does not answer any more.", [ERROR];
    EngineBack = "engine.back", "The container engine that the unit lives in answers again.", [];
    UnitChanged = "unit.changed", "Files the unit watches have changed.", [PATHS, COUNT];
    GroupRestarting = "group.restarting", "A group is restarted together.",
        [GROUP, STRATEGY, UNITS, COUNT, CAUSED_BY, RESTART, INTENSITY, PERIOD, DELAY];
    GroupFailed = "group.failed", "A group used up its restarts and was given up.",
        [GROUP, STRATEGY, UNITS, CAUSED_BY, RESTART, INTENSITY, PERIOD, UNSTABLE, ESCALATE];
    ProjectFailed = "project.failed", "A unit that was given up takes the whole project down.",
        [GROUP, STRATEGY, UNITS, CAUSED_BY, INTENSITY, PERIOD];
    PortLeased = "port.leased", "A port was leased.", [PORT_NAME, PORT, WANTED, URL];
    PortMoved = "port.moved", "Somebody took a leased port before its unit did; the unit gets another one.",
        [PORT_NAME, PORT, WANTED, HOLDER];
    PortReleased = "port.released", "A leased port was given back.", [PORT_NAME, PORT];
    PortRefused = "port.refused", "No port could be leased.", [PORT_NAME, WANTED, HOLDER];
    RequirementPrepared = "requirement.prepared", "A requirement's data directory was made.", [PATH, TOOK];
    RequirementDegraded = "requirement.degraded", "A requirement is usable, but something of it failed that it can do without.", [];
    RequirementDropped = "requirement.dropped", "The data of a requirement was dropped.", [];
    RequirementShared = "requirement.shared", "A requirement has a database on a server that others use too.", [];
    RequirementServerDown = "requirement.server_down", "The server that a requirement shares is down.", [];
    OperatorAsked = "operator.asked", "Somebody asked for something by hand.", [VERB, UNITS, SIGNAL];
    ConfigChanged = "config.changed", "The configuration was read again and differs.", [PATHS, UNITS];
    ConfigRejected = "config.rejected", "A changed configuration is not valid; the old one stays.", [PATH, ERROR];
    LogRefused = "log.refused", "The disk does not take what the unit writes: it is full, or broken.", [PATH, ERROR];
    LogGap = "log.gap", "The log is written again, and output was lost meanwhile.", [PATH, BYTES, LINES, COUNT];
    LogResumed = "log.resumed", "The log is written again; no output was lost.", [PATH, BYTES, LINES, COUNT];
    DaemonStarted = "daemon.started", "The session's daemon began.", [PID, BUILD];
    DaemonStopped = "daemon.stopped", "The session's daemon ended in order.", [PID];
    DaemonDied = "daemon.died", "The daemon before this one ended without a word.", [PID];
    DaemonUpgraded = "daemon.upgraded", "The daemon was replaced by another build.", [FROM, BUILD, PATH];
    DaemonRescued = "daemon.rescued", "An upgrade failed, and the program of before serves on.", [BUILD, PATH, ERROR];
    HeartLost = "heart.lost", "The parent of all units is gone; exit codes may be unknown until the next start.",
        [PID, UNITS, ENDED];
    ActorFailed = "actor.failed", "A part of the runtime itself failed and was restarted: a bug.", [ACTOR, ERROR];
    JournalRepaired = "journal.repaired", "Damaged lines were found in the journal and set aside.", [COUNT, BYTES, PATH];
    JournalShortened = "journal.shortened", "The journal was too long; its oldest events are gone.", [COUNT];
    JournalLost = "journal.lost", "Events could not be written, and were too many to be kept.", [COUNT, ERROR];
}

// === impl EventKind ===

impl EventKind {
    /// The kind called `name`; `None` for one of another build.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether such an event belongs into the error report.
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::RunFailed
                | Self::UnitStartFailed
                | Self::UnitFailed
                | Self::UnitEscaped
                | Self::GroupFailed
                | Self::ProjectFailed
                | Self::PortRefused
                | Self::ConfigRejected
                | Self::LogRefused
                | Self::LogGap
                | Self::HeartLost
                | Self::ActorFailed
                | Self::JournalRepaired
                | Self::JournalLost
        )
    }

    /// Begins an event of this kind. `message` is one line for people.
    pub fn event(self, run: &str, message: impl Into<String>) -> EventBuilder {
        let view = EventView {
            schema_version: SCHEMA_VERSION,
            seq: 0,
            time: String::new(),
            run: run.to_owned(),
            event: self.as_str().to_owned(),
            unit: None,
            incarnation: None,
            message: message.into(),
            cause: None,
            hint: None,
            details: BTreeMap::new(),
        };
        EventBuilder { kind: self, view }
    }
}

// === impl EventBuilder ===

impl EventBuilder {
    /// The unit it is about.
    #[must_use]
    pub fn unit(mut self, unit: &Name) -> Self {
        self.view.unit = Some(unit.to_string());
        self
    }

    /// The life it is about.
    #[must_use]
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.view.incarnation = Some(incarnation.0);
        self
    }

    /// Why, in one line.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.view.cause = Some(cause.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.view.hint = Some(hint.into());
        self
    }

    /// A detail. It must stand in the registry for this kind; one that does not is left out (and fails a debug build).
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        let known = self.kind.details().iter().any(|detail| detail.name == name);
        debug_assert!(known, "invariant: `{}` has no detail `{name}` in the registry", self.kind.as_str());
        if known {
            self.view.details.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The event, for the journal to number and date.
    pub fn build(self) -> EventView {
        self.view
    }
}

impl From<EventBuilder> for EventView {
    fn from(builder: EventBuilder) -> Self {
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_says_what_it_means() {
        let mut names = BTreeSet::new();
        for kind in EventKind::ALL {
            let name = kind.as_str();
            assert!(names.insert(name), "{name} stands twice in the registry");
            let (area, fact) = name.split_once('.').expect(name);
            let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(area) && plain(fact), "{name}");
            assert!(kind.doc().ends_with('.') && kind.doc().len() > 15, "{name} is not documented");
            assert_eq!(EventKind::parse(name), Some(*kind));
        }
        assert_eq!(EventKind::parse("unit.exploded"), None);
    }

    #[test]
    fn every_detail_is_documented_used_and_has_one_meaning() {
        let names: BTreeSet<_> = DETAILS.iter().map(|detail| detail.name).collect();
        assert_eq!(names.len(), DETAILS.len());
        for detail in DETAILS {
            assert!(detail.doc.len() > 5, "{} is not documented", detail.name);
            let used = EventKind::ALL.iter().any(|kind| kind.details().contains(detail));
            assert!(used, "{} is used by no kind", detail.name);
        }
    }

    #[test]
    fn no_detail_has_the_name_of_a_secret() {
        for detail in DETAILS {
            for word in ["password", "secret", "token", "env", "argv", "command"] {
                assert!(!detail.name.contains(word), "{}", detail.name);
            }
        }
    }

    #[test]
    #[should_panic(expected = "has no detail `password`")]
    fn a_detail_outside_the_registry_fails_a_debug_build() {
        let _ = EventKind::UnitStarted.event("r", "api started").detail("password", "x");
    }
}
