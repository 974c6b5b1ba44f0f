//! Reads `stop`: one way to ask a unit to end, or a list of them; and `on_daemon_death`.

use std::str::FromStr;
use std::time::Duration;

use envctl_actors::process::Scope;
use envctl_supervisors::spec::{ChildSpec, SHUTDOWN_DEFAULT, Shutdown};
use nix::sys::signal::Signal;

use super::diagnostic::Findings;
use super::model::Reference;
use super::origin::At;
use super::program;
use super::reader::{Reader, Wanted, table, wrong_type};
use super::supervise::choice;
use super::tree::{Node, Value};
use crate::spec::{StopAsk, StopStep};

/// Steps in one list: more are a program, which `sh` can be.
const STEPS_MAX: usize = 16;
/// The keys that ask; a step has exactly one of them.
const WAYS: [&str; 3] = ["signal", "cmd", "sh"];
/// Signals that end nothing.
const HARMLESS: [Signal; 6] =
    [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCONT, Signal::SIGCHLD];
const SCOPES: [(&str, Scope); 3] = [("all", Scope::All), ("group", Scope::Group), ("main", Scope::Main)];

const STOP: Wanted = Wanted {
    what: "a table or a list of tables",
    example: "{ signal = \"TERM\", grace = \"5s\" } or [{ signal = \"INT\", after = \"2s\" }, { signal = \"TERM\", after = \"3s\" }]",
};

/// Reads the stop of one unit.
pub(super) struct StopReader<'a> {
    /// Where mistakes go.
    pub(super) findings: &'a mut Findings,
    /// Where references go.
    pub(super) references: &'a mut Vec<Reference>,
}

/// Reads `on_daemon_death`: whether the units end with the daemon.
pub(super) fn on_daemon_death(findings: &mut Findings, reader: &mut Reader<'_>) -> bool {
    choice(findings, reader, "on_daemon_death", &[("keep", false), ("stop", true)]).unwrap_or(false)
}

// === impl StopReader ===

impl StopReader<'_> {
    /// Reads `stop`; the time of all steps becomes the child's shutdown time.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, child: &mut ChildSpec) -> Vec<StopStep> {
        let node = reader.node("stop");
        let steps = node.map_or_else(Vec::new, |node| self.steps(node, &reader.path("stop")));
        let steps = if steps.is_empty() { vec![usual(grace_of(child))] } else { steps };
        child.shutdown = Shutdown::Timeout(steps.iter().map(|step| step.after).sum());
        steps
    }

    /// Reads the `stop` of a requirement: its preset knows how it is asked, so only the time is open.
    pub(super) fn grace_alone(&mut self, reader: &mut Reader<'_>, child: &mut ChildSpec) -> Vec<StopStep> {
        let path = reader.path("stop");
        if let Some((keys, _)) = reader.table(self.findings, "stop") {
            let mut inner = Reader::new(path, keys);
            if let Some(grace) = inner.duration(self.findings, "grace") {
                child.shutdown = Shutdown::Timeout(grace);
            }
            inner.finish(self.findings);
        }
        vec![usual(grace_of(child))]
    }

    fn steps(&mut self, node: &Node, path: &str) -> Vec<StopStep> {
        match &node.value {
            Value::Table(_) => self.step(node, path, "grace").into_iter().collect(),
            Value::Array(items) => self.list(node, items, path),
            _ => wrong_type(self.findings, node, path, &STOP).unwrap_or_default(),
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], path: &str) -> Vec<StopStep> {
        if items.is_empty() || items.len() > STEPS_MAX {
            let message = match items.len() {
                0 => format!("{path} has no step"),
                count => format!("{path} has {count} steps, at most {STEPS_MAX} are supported"),
            };
            self.findings
                .error("bad-stop", &node.at, message)
                .hint("write [{ signal = \"INT\", after = \"2s\" }, { signal = \"TERM\", after = \"3s\" }]");
            return Vec::new();
        }
        let label = |at: usize| format!("step {} of {path}", at + 1);
        items.iter().enumerate().filter_map(|(at, item)| self.step(item, &label(at), "after")).collect()
    }

    /// One step; `time` is the key of its duration.
    fn step(&mut self, node: &Node, path: &str, time: &'static str) -> Option<StopStep> {
        let (keys, at) = table(self.findings, node, path)?;
        let mut inner = Reader::new(path, keys);
        let written = WAYS.map(|way| inner.node(way).map(|node| (way, node)));
        let mut written = written.into_iter().flatten();
        let ask = match (written.next(), written.next()) {
            (Some((way, node)), None) => self.ask(way, node, &mut inner),
            (Some(_), Some((_, second))) => {
                let message = format!("{path} asks in more than one way");
                let hint = format!("one of {} in each step; a list takes one step after the other", WAYS.join(", "));
                self.findings.error("bad-stop", &second.at, message).hint(hint);
                None
            }
            (None, _) if time == "grace" => Some(StopAsk::Signal(Signal::SIGTERM as i32)),
            (None, _) => {
                let message = format!("{path} does nothing");
                self.findings.error("bad-stop", at, message).hint("write { signal = \"TERM\", after = \"3s\" }");
                None
            }
        };
        let scope = choice(self.findings, &mut inner, "scope", &SCOPES).unwrap_or(Scope::All);
        let after = self.time(&mut inner, at, time);
        inner.finish(self.findings);
        Some(StopStep { ask: ask?, scope, after: after? })
    }

    fn time(&mut self, inner: &mut Reader<'_>, at: &super::origin::Place, key: &'static str) -> Option<Duration> {
        if inner.node(key).is_some() {
            return inner.duration(self.findings, key);
        }
        if key == "grace" {
            return Some(SHUTDOWN_DEFAULT);
        }
        let message = format!("{} does not say how long it lasts", inner.what());
        self.findings.error("bad-stop", at, message).hint("add after = \"3s\": the next step comes then");
        None
    }

    fn ask(&mut self, way: &str, node: &Node, inner: &mut Reader<'_>) -> Option<StopAsk> {
        match way {
            "signal" => {
                let name = inner.text(self.findings, "signal")?;
                signal(self.findings, &name).map(|signal| StopAsk::Signal(signal as i32))
            }
            "cmd" => {
                let path = inner.path("cmd");
                program::command(self.findings, node, &path, self.references).map(StopAsk::Run)
            }
            _ => program::shell(self.findings, node, &inner.path("sh")).map(StopAsk::Run),
        }
    }
}

/// What is done where nothing is written.
fn usual(after: Duration) -> StopStep {
    StopStep { ask: StopAsk::Signal(Signal::SIGTERM as i32), scope: Scope::All, after }
}

fn grace_of(child: &ChildSpec) -> Duration {
    match child.shutdown {
        Shutdown::Timeout(grace) => grace,
        Shutdown::BrutalKill => Duration::ZERO,
        Shutdown::Infinity => SHUTDOWN_DEFAULT,
    }
}

fn signal(findings: &mut Findings, name: &At<&str>) -> Option<Signal> {
    let full = format!("SIG{}", name.value.strip_prefix("SIG").unwrap_or(name.value));
    match Signal::from_str(&full) {
        Ok(signal) if HARMLESS.contains(&signal) => {
            findings
                .error("bad-value", &name.at, format!("\"{}\" does not end a program", name.value))
                .hint("TERM, INT, QUIT, HUP, USR1, USR2 …; `envctl kill -s` sends any signal by hand");
            None
        }
        Ok(signal) => Some(signal),
        Err(_) => {
            findings
                .error("bad-value", &name.at, format!("\"{}\" is not a signal", name.value))
                .hint("TERM, INT, QUIT, HUP, USR1, USR2 … with or without SIG");
            None
        }
    }
}
