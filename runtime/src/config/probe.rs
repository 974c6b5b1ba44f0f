//! `ready` and `alive`: one question each, and how often it is asked.

use std::time::Duration;

use envctl_actors::probe::spec::{EVERY_DEFAULT, FAILURES_DEFAULT, TIMEOUT_DEFAULT, WITHIN_DEFAULT};
use envctl_supervisors::Name;
use indexmap::IndexMap;

use super::diagnostic::Findings;
use super::model::{Reference, UNNAMED_PORT};
use super::nearest::nearest;
use super::origin::{At, Place};
use super::program;
use super::reader::{Reader, Wanted, table, text, wrong_type};
use super::template;
use super::tree::{Node, Value};
use crate::spec::{Ask, Piece, PortWish, ProbePort, ProbeSpec};

/// The keys that ask; exactly one of them stands in a probe.
const QUESTIONS: [&str; 5] = ["http", "tcp", "exec", "sh", "log"];

const PROBE: Wanted = Wanted {
    what: "a path or a table",
    example: "a path such as \"/healthz\", or { tcp = true }, { exec = [\"check\"] }, { log = \"ready\" }",
};

const TCP: Wanted =
    Wanted { what: "true, a port number or the name of a port", example: "{ tcp = true } for the unit's own port" };

const PORT: Wanted = Wanted { what: "an integer from 1 to 65535", example: "a port number such as 8000" };

/// Which probe is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `ready`.
    Ready,
    /// `alive`.
    Alive,
}

/// Reads the probes of one unit.
pub(super) struct ProbeReader<'a> {
    /// Where mistakes go.
    pub(super) findings: &'a mut Findings,
    /// The unit's ports.
    pub(super) ports: &'a IndexMap<Name, PortWish>,
    /// Where references go.
    pub(super) references: &'a mut Vec<Reference>,
    /// Which probe.
    pub(super) purpose: Purpose,
}

/// The probe of a unit that has a port and no `ready`: TCP on the unnamed port, else on the first.
pub(super) fn default_probe(ports: &IndexMap<Name, PortWish>) -> Option<ProbeSpec> {
    let port = unnamed(ports).or_else(|| ports.keys().next())?;
    Some(schedule(Ask::Tcp(ProbePort::Own(port.clone()))))
}

// === impl ProbeReader ===

impl ProbeReader<'_> {
    /// Reads `node`, called `path` in messages.
    pub(super) fn read(&mut self, node: &Node, path: &str) -> Option<ProbeSpec> {
        if let Value::Text(_) = &node.value {
            let url = text(self.findings, node, path)?;
            return Some(schedule(self.http(&url, None)?));
        }
        let Value::Table(_) = &node.value else {
            return wrong_type(self.findings, node, path, &PROBE);
        };
        let (entries, at) = table(self.findings, node, path)?;
        let mut reader = Reader::new(path.to_owned(), entries);
        let question = self.question(&mut reader, at);
        let mut probe = schedule(question.clone().unwrap_or(Ask::Tcp(ProbePort::Fixed(0))));
        if self.purpose == Purpose::Ready {
            self.span(&mut reader, "within", &mut probe.within);
        }
        self.span(&mut reader, "every", &mut probe.every);
        self.span(&mut reader, "timeout", &mut probe.timeout);
        if let Some(failures) = reader.count(self.findings, "failures") {
            probe.failures = failures.max(1);
        }
        reader.finish(self.findings);
        question.map(|_| probe)
    }

    fn span(&mut self, reader: &mut Reader<'_>, key: &'static str, into: &mut Duration) {
        if let Some(duration) = reader.span(self.findings, key) {
            *into = duration;
        }
    }

    fn question(&mut self, reader: &mut Reader<'_>, at: &Place) -> Option<Ask> {
        let asked: Vec<(&'static str, &Node)> =
            QUESTIONS.iter().filter_map(|key| reader.node(key).map(|node| (*key, node))).collect();
        let port = reader.node("port");
        let path = reader.what().to_owned();
        let [(key, node)] = asked[..] else {
            let at = asked.get(1).map_or(at, |(_, node)| &node.at).clone();
            let message = if asked.is_empty() { "asks nothing" } else { "asks more than one question" };
            self.bad(&at, format!("{path} {message}")).hint(format!("exactly one of {}", QUESTIONS.join(", ")));
            return None;
        };
        if let Some(port) = port.filter(|_| key != "http") {
            self.bad(&port.at, format!("`port` of {path} goes with `http` only")).hint("write { tcp = 8000 }");
        }
        self.ask(reader, key, node, port)
    }

    fn ask(&mut self, reader: &mut Reader<'_>, key: &'static str, node: &Node, port: Option<&Node>) -> Option<Ask> {
        let path = reader.path(key);
        match key {
            "http" => {
                let url = text(self.findings, node, &path)?;
                self.http(&url, port)
            }
            "tcp" => self.tcp(node, &path),
            "exec" => program::command(self.findings, node, &path, self.references).map(Ask::Exec),
            "sh" => program::shell(self.findings, node, &path).map(Ask::Exec),
            _ => {
                let pattern = text(self.findings, node, &path)?;
                self.log(&pattern)
            }
        }
    }

    fn http(&mut self, path: &At<&str>, port: Option<&Node>) -> Option<Ask> {
        if !path.value.starts_with('/') || path.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("\"{}\" is not an HTTP path", path.value);
            self.bad(&path.at, message)
                .hint("write the path alone, as in \"/healthz\"; the port is the unit's own or `port`");
            return None;
        }
        let path = At { value: self.literal(path)?, at: path.at.clone() };
        let port = match port {
            Some(node) => self.port(node)?,
            None => ProbePort::Own(self.own_port(&path.at)?),
        };
        Some(Ask::Http { port, path: path.value })
    }

    /// The path with `$$` as `$`. References have no place in it: only the unit's own port is asked.
    fn literal(&mut self, path: &At<&str>) -> Option<String> {
        let parsed = template::parse(path.value).ok();
        match parsed.as_ref().map(|template| template.pieces.as_slice()) {
            Some([Piece::Text(text)]) => Some(text.clone()),
            _ => {
                self.bad(&path.at, "references are not supported in the path of a probe")
                    .hint("`$${` is a literal `${`");
                None
            }
        }
    }

    fn tcp(&mut self, node: &Node, path: &str) -> Option<Ask> {
        match &node.value {
            Value::Boolean(true) => self.own_port(&node.at).map(|name| Ask::Tcp(ProbePort::Own(name))),
            Value::Integer(_) | Value::Text(_) => self.port(node).map(Ask::Tcp),
            _ => wrong_type(self.findings, node, path, &TCP),
        }
    }

    fn log(&mut self, pattern: &At<&str>) -> Option<Ask> {
        if self.purpose == Purpose::Alive {
            self.bad(&pattern.at, "`log` can tell that a unit is ready, not that it is alive")
                .hint("ask with http, tcp or exec");
            return None;
        }
        match regex::bytes::Regex::new(pattern.value) {
            Ok(regex) => Some(Ask::Log(regex)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.findings
                    .error("bad-regex", &pattern.at, format!("`log` is not a regular expression: {reason}"))
                    .hint("a '…' string needs no doubled backslashes");
                None
            }
        }
    }

    /// A port by name or number. A number that is one of the unit's own bases means that port, wherever it is leased.
    fn port(&mut self, node: &Node) -> Option<ProbePort> {
        match &node.value {
            Value::Text(name) => match self.ports.keys().find(|port| port.as_str() == name) {
                Some(port) => Some(ProbePort::Own(port.clone())),
                None => {
                    let known: Vec<&str> = self.ports.keys().map(Name::as_str).collect();
                    let hint = match nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!(
                            "ports of this unit: {}",
                            if known.is_empty() { "none".into() } else { known.join(", ") }
                        ),
                    };
                    self.bad(&node.at, format!("the unit has no port \"{name}\"")).hint(hint);
                    None
                }
            },
            _ => {
                let number = port_number(self.findings, node, "`port`")?;
                let own = self.ports.iter().find(|(_, wish)| wish.base == number).map(|(name, _)| name.clone());
                Some(own.map_or(ProbePort::Fixed(number), ProbePort::Own))
            }
        }
    }

    fn own_port(&mut self, at: &Place) -> Option<Name> {
        let only = self.ports.keys().next().filter(|_| self.ports.len() == 1);
        let port = unnamed(self.ports).or(only).cloned();
        if port.is_none() {
            let what = if self.ports.is_empty() { "has no port" } else { "has several ports" };
            self.bad(at, format!("the probe names no port and the unit {what}"))
                .hint("give the unit `port = 8000`, or the probe a port: { http = \"/healthz\", port = 8000 }");
        }
        port
    }

    fn bad(&mut self, at: &Place, message: impl Into<String>) -> &mut super::diagnostic::Diagnostic {
        self.findings.error("bad-probe", at, message)
    }
}

/// A port number from 1.
pub(super) fn port_number(findings: &mut Findings, node: &Node, path: &str) -> Option<u16> {
    let Value::Integer(number) = node.value else {
        return wrong_type(findings, node, path, &PORT);
    };
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    if port.is_none() {
        findings
            .error("out-of-range", &node.at, format!("{path} must be from 1 to 65535"))
            .hint(format!("write {}", PORT.example));
    }
    port
}

fn unnamed(ports: &IndexMap<Name, PortWish>) -> Option<&Name> {
    ports.keys().find(|name| name.as_str() == UNNAMED_PORT)
}

fn schedule(ask: Ask) -> ProbeSpec {
    ProbeSpec {
        ask,
        within: WITHIN_DEFAULT,
        every: EVERY_DEFAULT,
        timeout: TIMEOUT_DEFAULT,
        failures: FAILURES_DEFAULT,
    }
}
