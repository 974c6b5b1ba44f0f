//! What the supervisor knows of a unit beside the engine's word.

use std::path::PathBuf;

use envctl_actors::log_stream::LogStream;
use envctl_actors::process::identity::Identity;
use envctl_actors::unit::UnitMessage;
use envctl_supervisors::engine::{Report, Time, What};
use envctl_supervisors::spec::Incarnation;
use ractor::ActorRef;

use super::reports;
use crate::control::view::FailureCounts;

/// One unit's run-time facts.
#[derive(Debug)]
pub struct Unit {
    /// The actor of its present life.
    pub actor: Option<(Incarnation, ActorRef<UnitMessage>)>,
    /// Its log stream, while the run lasts.
    pub log: Option<LogStream>,
    /// FIFO for standard output.
    pub out: PathBuf,
    /// FIFO for standard error.
    pub err: PathBuf,
    /// Its main process.
    pub pid: Option<u32>,
    /// Who that is, if heart should die too.
    pub identity: Option<Identity>,
    /// What its present life was started with.
    pub fingerprint: Option<String>,
    /// When it entered its state, RFC 3339.
    pub since: String,
    /// The engine's time for `since`, to see a change.
    pub since_engine: Option<Time>,
    /// What a probe last said while nothing followed from it.
    pub cause: Option<String>,
    /// What to do about its state.
    pub hint: Option<String>,
    /// Processes that could not be ended.
    pub escaped: Vec<u32>,
    /// Limits of its present life that are not in force, one line each.
    pub warnings: Vec<String>,
    /// Why its output is not kept just now, if so.
    pub log_trouble: Option<String>,
    /// Whether the kernel has killed its present life because its memory limit was reached.
    pub oom: bool,
    /// Whether its life was taken over from a daemon that died.
    pub adopted: bool,
    /// Whether its last life ended while nobody looked after it.
    pub lost: bool,
    /// Whether the engine of its containers was last heard of as gone.
    pub engine_gone: bool,
    /// The containers of its present or last life, by short id.
    pub containers: Vec<String>,
    /// What of it failed and can be done without, one line each.
    pub degraded: Vec<String>,
    /// Ports it lost to somebody else since it was ready.
    pub port_moves: u32,
    /// Which life of the server that it shares was last seen ready.
    pub server_life: Option<u32>,
    /// What went wrong in this run, if it is a requirement.
    pub failures: FailureCounts,
    /// How often its actor failed in this life.
    pub actor_failures: u32,
}

// === impl Unit ===

impl Unit {
    /// A unit that has not lived yet.
    pub fn new(out: PathBuf, err: PathBuf, now: String) -> Self {
        Self {
            actor: None,
            log: None,
            out,
            err,
            pid: None,
            identity: None,
            fingerprint: None,
            since: now,
            since_engine: None,
            cause: None,
            hint: None,
            escaped: Vec::new(),
            warnings: Vec::new(),
            log_trouble: None,
            oom: false,
            adopted: false,
            lost: false,
            engine_gone: false,
            containers: Vec::new(),
            degraded: Vec::new(),
            port_moves: 0,
            server_life: None,
            failures: FailureCounts::default(),
            actor_failures: 0,
        }
    }

    /// The actor of this very life.
    pub fn actor_of(&self, incarnation: Incarnation) -> Option<&ActorRef<UnitMessage>> {
        self.actor.as_ref().filter(|(life, _)| *life == incarnation).map(|(_, actor)| actor)
    }

    /// It runs: what the machine was short of is there.
    pub fn no_longer_short(&mut self) {
        if self.cause.as_deref().is_some_and(|cause| cause.starts_with(super::confines::SHORT)) {
            (self.cause, self.hint) = (None, None);
        }
    }

    /// Takes note of a report: what was true of the state before is not true any more.
    pub fn note(&mut self, report: &Report) {
        match report.what {
            What::Starting | What::Restarting => {
                (self.cause, self.hint, self.adopted, self.actor_failures) = (None, None, false, 0);
                self.degraded.clear();
            }
            What::Ready => (self.cause, self.hint, self.port_moves) = (None, None, 0),
            What::Done | What::Stopped | What::Adopted => (self.cause, self.hint) = (None, None),
            What::StartFailed { .. } | What::Failed | What::GaveUp { .. } => {
                self.cause = None;
                self.hint = reports::hint(report).or(self.hint.take());
            }
            _ => {}
        }
    }
}
