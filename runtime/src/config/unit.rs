//! Reads one unit: the keys all kinds share, and those of services, tasks and requirements.

use envctl_supervisors::Name;
use envctl_supervisors::spec::{ChildSpec, Readiness, Restart};
use indexmap::IndexMap;

use super::diagnostic::Findings;
use super::model::{Draft, Reference, UNNAMED_PORT};
use super::origin::{At, Place};
use super::presets::Catalog;
use super::probe::{ProbeReader, Purpose, default_probe, port_number};
use super::project::name;
use super::reader::{Reader, table};
use super::requirement::{self, RequirementReader, further_ports};
use super::stop::StopReader;
use super::tree::{Entry, Node, Value};
use super::{confine, environment, logs, needs, program, supervise, terminal};
use crate::spec::{Driver, PortWish, ProbeSpec, RequirementSpec, UnitKind, UnitSpec};

/// Keys of the design that are accepted and not carried out in this build.
const LATER: [&str; 2] = ["watch", "prepare"];

/// The three tables of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// `[services]`.
    Services,
    /// `[tasks]`.
    Tasks,
    /// `[requirements]`.
    Requirements,
}

/// Reads a unit one key after the other.
struct UnitReader<'a> {
    findings: &'a mut Findings,
    reader: Reader<'a>,
    name: Name,
    at: &'a Place,
    references: Vec<Reference>,
    bases: Vec<At<u16>>,
}

/// Reads `entry` as the unit `name`. `None` if it is no table or has no command: its mistakes have been noted.
pub(super) fn read(
    findings: &mut Findings,
    of: Table,
    (name, entry): (&Name, &Entry),
    presets: &Catalog,
) -> Option<Draft> {
    let label = format!("{} `{name}`", of.kind());
    let (keys, _) = table(findings, &entry.node, &label)?;
    let mut unit = UnitReader {
        findings,
        reader: Reader::new(label, keys),
        name: name.clone(),
        at: &entry.key_at,
        references: Vec::new(),
        bases: Vec::new(),
    };
    let draft = unit.draft(of, presets);
    unit.reader.finish(unit.findings);
    draft
}

// === impl Table ===

impl Table {
    /// All of them, with their keys.
    pub(super) const ALL: [(&str, Self); 3] =
        [("requirements", Self::Requirements), ("tasks", Self::Tasks), ("services", Self::Services)];

    fn kind(self) -> &'static str {
        match self {
            Self::Services => "service",
            Self::Tasks => "task",
            Self::Requirements => "requirement",
        }
    }
}

// === impl UnitReader ===

impl UnitReader<'_> {
    fn draft(&mut self, of: Table, presets: &Catalog) -> Option<Draft> {
        let mut child = ChildSpec::new(self.name.clone());
        if of == Table::Tasks {
            child.restart = Restart::Temporary;
        }
        supervise::read(self.findings, &mut self.reader, &mut child);
        let mut stop = StopReader { findings: self.findings, references: &mut self.references };
        let mut stop = match of {
            Table::Requirements => stop.grace_alone(&mut self.reader, &mut child),
            Table::Services | Table::Tasks => stop.read(&mut self.reader, &mut child),
        };
        let env = environment::read(self.findings, &mut self.reader, &mut self.references);
        let needs = needs::read(self.findings, &mut self.reader);
        self.reader.text(self.findings, "description");
        self.unit_inherit();
        let logs = logs::read(self.findings, &mut self.reader);
        let mut confines = confine::shared(self.findings, &mut self.reader);
        if of != Table::Requirements {
            confine::own(self.findings, &mut self.reader, &mut confines);
        }
        let kind = match of {
            Table::Requirements => self.requirement(presets).map(UnitKind::Requirement),
            Table::Services => self.program().map(UnitKind::Service),
            Table::Tasks => self.program().map(UnitKind::Task),
        };
        let ports = self.ports(kind.as_ref());
        if let Some(UnitKind::Requirement(requirement)) = &kind {
            requirement::usual_grace(&self.reader, &requirement.preset.preset, &mut child, &mut stop);
        }
        let (ready, alive) = self.probes(of, &ports);
        child.readiness = match (of, &ready) {
            (Table::Requirements, _) => Readiness::Within(self.requirement_within(kind.as_ref())),
            (_, Some(probe)) => Readiness::Within(probe.within),
            (_, None) => Readiness::Unreported,
        };
        let at = self.findings.files.position(self.at);
        let shell = if of == Table::Requirements { None } else { self.shell() };
        let spec = UnitSpec { child, kind: kind?, env, ports, ready, alive, stop, confines, logs, at };
        Some(Draft {
            spec,
            at: self.at.clone(),
            needs,
            references: std::mem::take(&mut self.references),
            bases: std::mem::take(&mut self.bases),
            shell,
            budget: supervise::budget_keys(&self.reader),
        })
    }

    fn program(&mut self) -> Option<crate::spec::Program> {
        for key in LATER {
            if let Some(node) = self.reader.node(key) {
                let message = format!("{} is not supported yet and ignored", self.reader.path(key));
                self.findings.warning("unsupported", &node.at, message);
            }
        }
        let tty = terminal::read(self.findings, &mut self.reader);
        let program = program::read(self.findings, &mut self.reader, self.at, &mut self.references)?;
        Some(crate::spec::Program { tty, ..program })
    }

    /// Narrowing the environment of one unit is not carried out yet; ignoring it would hand out what was to be kept back.
    fn unit_inherit(&mut self) {
        let inherit = environment::inherit(self.findings, &mut self.reader);
        if let (Some(_), Some(at)) = (inherit, self.reader.key_at("inherit")) {
            let message = format!("{} is not supported yet", self.reader.path("inherit"));
            self.findings.error("unsupported", at, message).hint("set `inherit` once, for the whole project");
        }
    }

    fn requirement(&mut self, presets: &Catalog) -> Option<RequirementSpec> {
        terminal::refuse(self.findings, &mut self.reader);
        RequirementReader { findings: self.findings, presets, name: &self.name, at: self.at }.read(&mut self.reader)
    }

    /// A preset asks its own question; only its time can be set.
    fn requirement_within(&mut self, kind: Option<&UnitKind>) -> std::time::Duration {
        let within = self.reader.table(self.findings, "ready").and_then(|(keys, _)| {
            let mut inner = Reader::new(self.reader.path("ready"), keys);
            let within = inner.span(self.findings, "within");
            inner.finish(self.findings);
            within
        });
        let usual = match kind {
            Some(UnitKind::Requirement(spec)) => requirement::within(&spec.preset.preset, spec.driver),
            _ => envctl_actors::probe::spec::WITHIN_DEFAULT,
        };
        within.unwrap_or(usual)
    }

    fn ports(&mut self, kind: Option<&UnitKind>) -> IndexMap<Name, PortWish> {
        let mut ports = IndexMap::new();
        let unnamed = Name::new(UNNAMED_PORT).expect("invariant: a valid name");
        if let Some(node) = self.reader.node("port") {
            if let Some(base) = self.base(node, &self.reader.path("port")) {
                ports.insert(unnamed.clone(), PortWish { base });
            }
        } else if let Some(UnitKind::Requirement(requirement)) = kind {
            let base = requirement.preset.preset.ports.get(UNNAMED_PORT);
            ports.extend(base.map(|base| (unnamed.clone(), PortWish { base: *base })));
        }
        if let Some(UnitKind::Requirement(requirement)) = kind {
            ports.extend(further_ports(&requirement.preset.preset).map(|(name, base)| (name, PortWish { base })));
            if matches!(requirement.driver, Driver::External | Driver::Shared) {
                // Nothing of ours listens. Where the other server does is told by the requirement itself.
                return IndexMap::new();
            }
        }
        if !matches!(kind, Some(UnitKind::Requirement(_))) {
            self.named_ports(&unnamed, &mut ports);
        }
        ports
    }

    fn named_ports(&mut self, unnamed: &Name, ports: &mut IndexMap<Name, PortWish>) {
        let path = self.reader.path("ports");
        let Some((entries, _)) = self.reader.table(self.findings, "ports") else {
            return;
        };
        for (key, entry) in entries {
            let base = self.base(&entry.node, &format!("`{key}` in {path}"));
            let Some(name) = name(self.findings, key, &entry.key_at) else {
                continue;
            };
            if name == *unnamed {
                let message = format!("`{key}` is the name of the unnamed port");
                self.findings.error("bad-name", &entry.key_at, message).hint("write `port = 8000` beside `ports`");
            } else {
                ports.extend(base.map(|base| (name, PortWish { base })));
            }
        }
    }

    fn base(&mut self, node: &Node, path: &str) -> Option<u16> {
        let base = port_number(self.findings, node, path)?;
        self.bases.push(At { value: base, at: node.at.clone() });
        Some(base)
    }

    fn probes(&mut self, of: Table, ports: &IndexMap<Name, PortWish>) -> (Option<ProbeSpec>, Option<ProbeSpec>) {
        match of {
            Table::Services => {
                let ready = self.probe("ready", Purpose::Ready, ports).or_else(|| default_probe(ports));
                (ready, self.probe("alive", Purpose::Alive, ports))
            }
            Table::Tasks => {
                self.no_probe();
                (None, None)
            }
            // A preset asks its own question.
            Table::Requirements => (None, None),
        }
    }

    fn probe(&mut self, key: &'static str, purpose: Purpose, ports: &IndexMap<Name, PortWish>) -> Option<ProbeSpec> {
        let node = self.reader.node(key)?;
        let path = self.reader.path(key);
        ProbeReader { findings: self.findings, ports, references: &mut self.references, purpose }.read(node, &path)
    }

    fn no_probe(&mut self) {
        for key in ["ready", "alive"] {
            if let (Some(_), Some(at)) = (self.reader.node(key), self.reader.key_at(key)) {
                self.findings
                    .error("bad-probe", at, format!("a task has no `{key}`: it is done when it ends"))
                    .hint(format!("others wait for it with needs = {{ {} = \"done\" }}", self.name));
            }
        }
    }

    fn shell(&mut self) -> Option<At<String>> {
        match self.reader.node("sh") {
            Some(Node { value: Value::Text(line), at }) => Some(At { value: line.clone(), at: at.clone() }),
            _ => None,
        }
    }
}
