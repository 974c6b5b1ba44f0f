//! What an `up` would do, in which order and why: worked out from the project's specification alone.
//!
//! Pure: nothing is started, leased, resolved or read. Ports are wishes and `${…}` stays as it is written, because both
//! are settled when a unit starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Condition, Readiness, Restart};
use serde::Serialize;

pub use self::groups::{GroupExplained, SharedBudget};
use crate::config::MASK;
use crate::control::view::VariableView;
use crate::spec::{
    Ask, Driver, Inherit, Origin, ProbePort, ProbeSpec, ProjectSpec, Run, Sourced, Template, UnitKind, UnitSpec,
};
use crate::words::then_text;

mod groups;

/// What would happen. Also the body of `explain --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The project.
    pub project: String,
    /// Its directory.
    pub root: PathBuf,
    /// The files it comes from, lowest precedence first.
    pub files: Vec<PathBuf>,
    /// What of the caller's environment units would get.
    pub inherit: String,
    /// Units that may start together, in the order of the waves.
    pub waves: Vec<Vec<Explained>>,
    /// Units that would not be started, because they were neither named nor needed.
    pub left_out: Vec<String>,
    /// The declared groups.
    pub groups: Vec<GroupExplained>,
    /// What everything without a group shares, if `[supervision]` says so.
    pub supervision: Option<SharedBudget>,
}

/// One unit that would be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its name.
    pub unit: String,
    /// Service, requirement or task.
    pub kind: String,
    /// Why it would be started.
    pub why: String,
    /// What it waits for first.
    pub waits_for: Vec<WaitsFor>,
    /// What would be run, as written.
    pub runs: String,
    /// Where.
    pub dir: Option<PathBuf>,
    /// The ports it wishes for; a taken one is replaced by the next free one.
    pub ports: Vec<PortWished>,
    /// Its declared environment, as written, with origins; values that look secret are masked.
    pub env: Vec<VariableView>,
    /// When it counts as ready.
    pub ready: String,
    /// What happens when it ends by itself.
    pub restart: String,
    /// Its declared group.
    pub group: Option<String>,
    /// The units that start before it because of the order of its groups.
    pub after: Vec<String>,
    /// How often it may be restarted, and what follows.
    pub budget: String,
    /// Where it is configured.
    pub at: String,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitsFor {
    /// The unit that is needed.
    pub unit: String,
    /// `started`, `ready` or `done`.
    pub is: String,
    /// What follows when it is lost: `ignore`, `restart` or `stop`.
    pub then: String,
}

/// A port that would be leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortWished {
    /// Its name.
    pub name: String,
    /// The first number that is tried.
    pub base: u16,
}

/// Explains an `up` of the `named` units (none: all). Names that do not exist are left to the caller.
pub fn explain(spec: &ProjectSpec, named: &[Name], no_deps: bool) -> Explanation {
    let reasons = reasons(spec, named, no_deps);
    let order = groups::order(spec);
    let waves = waves(spec, &reasons.keys().cloned().collect(), &order);
    let explained = |name: &Name| {
        let unit = spec.units.get(name)?;
        let before = order.get(name).into_iter().flatten().filter(|unit| reasons.contains_key(*unit));
        let after = before.map(Name::to_string).collect();
        Some(Explained { after, ..explain_unit(spec, name, unit, reasons.get(name).map_or("", String::as_str)) })
    };
    Explanation {
        project: spec.name.to_string(),
        root: spec.root.clone(),
        files: spec.files.clone(),
        inherit: inherit_text(&spec.inherit),
        waves: waves.iter().map(|wave| wave.iter().filter_map(explained).collect()).collect(),
        left_out: spec.units.keys().filter(|name| !reasons.contains_key(*name)).map(Name::to_string).collect(),
        groups: groups::explained(spec),
        supervision: groups::supervision(spec),
    }
}

/// The units that `named` ones stand on, themselves included (none named: all), in the order of the file.
pub fn closure(spec: &ProjectSpec, named: &[Name], no_deps: bool) -> Vec<Name> {
    let reasons = reasons(spec, named, no_deps);
    spec.units.keys().filter(|name| reasons.contains_key(*name)).cloned().collect()
}

/// Whether a variable's name says that its value must not be shown.
pub fn sounds_secret(variable: &str) -> bool {
    const WORDS: [&str; 8] =
        ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "API_KEY", "PRIVATE_KEY", "CREDENTIAL"];
    let variable = variable.to_ascii_uppercase();
    WORDS.iter().any(|word| variable.contains(word))
}

fn reasons(spec: &ProjectSpec, named: &[Name], no_deps: bool) -> BTreeMap<Name, String> {
    let mut reasons = BTreeMap::new();
    if named.is_empty() {
        reasons.extend(spec.units.keys().map(|name| (name.clone(), "part of the project".to_owned())));
        return reasons;
    }
    reasons.extend(named.iter().map(|name| (name.clone(), "named".to_owned())));
    let mut open: Vec<Name> = if no_deps { Vec::new() } else { named.to_vec() };
    while let Some(name) = open.pop() {
        let needs = spec.units.get(&name).map(|unit| unit.child.needs.as_slice()).unwrap_or_default();
        for edge in needs {
            if !reasons.contains_key(&edge.on) {
                reasons.insert(edge.on.clone(), format!("needed by {name}"));
                open.push(edge.on.clone());
            }
        }
    }
    reasons
}

/// Every unit one wave after the last of those it needs or follows in a group. Units that are not wanted do not count: they
/// are up, or the caller asked not to care.
fn waves(spec: &ProjectSpec, wanted: &BTreeSet<Name>, order: &BTreeMap<Name, Vec<Name>>) -> Vec<Vec<Name>> {
    let mut placed: BTreeSet<&Name> = BTreeSet::new();
    let mut waves = Vec::new();
    while placed.len() < wanted.len() {
        let is_up = |other: &Name| !wanted.contains(other) || placed.contains(other);
        let free = |name: &Name, unit: &UnitSpec| {
            wanted.contains(name)
                && !placed.contains(name)
                && unit.child.needs.iter().all(|edge| is_up(&edge.on))
                && order.get(name).into_iter().flatten().all(is_up)
        };
        let wave: Vec<&Name> =
            spec.units.iter().filter(|(name, unit)| free(name, unit)).map(|(name, _)| name).collect();
        // A checked spec has no cycle and no unknown unit; an unchecked one must not hang us.
        if wave.is_empty() {
            break;
        }
        placed.extend(&wave);
        waves.push(wave.into_iter().cloned().collect());
    }
    waves
}

fn explain_unit(spec: &ProjectSpec, name: &Name, unit: &UnitSpec, why: &str) -> Explained {
    let (runs, dir) = match &unit.kind {
        UnitKind::Service(program) | UnitKind::Task(program) => (run_text(&program.run), Some(program.dir.clone())),
        UnitKind::Requirement(wanted) => {
            let version = wanted.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
            (format!("{}{version}, {}", wanted.preset.name, driver_text(wanted.driver)), None)
        }
    };
    Explained {
        unit: name.to_string(),
        kind: unit.kind.as_str().to_owned(),
        why: why.to_owned(),
        waits_for: waits_for(unit),
        runs,
        dir,
        ports: unit.ports.iter().map(|(name, wish)| PortWished { name: name.to_string(), base: wish.base }).collect(),
        env: declared_env(spec, unit),
        ready: ready_text(unit),
        restart: restart_text(unit.child.restart).to_owned(),
        group: spec.group_of(name).map(|group| group.id.to_string()),
        after: Vec::new(),
        budget: groups::budget_text(spec, unit),
        at: unit.at.to_string(),
    }
}

fn driver_text(driver: Driver) -> &'static str {
    match driver {
        Driver::Auto | Driver::Native => "run natively",
        Driver::Container => "run in a container",
        Driver::External => "run by somebody else: only asked whether it answers",
        Driver::Shared => "a database on a server that is shared",
    }
}

/// The environment that files declare for a unit, its own values over the project's, unresolved and masked.
pub fn declared_env(spec: &ProjectSpec, unit: &UnitSpec) -> Vec<VariableView> {
    let mut variables = BTreeMap::new();
    variables.extend(&spec.env);
    variables.extend(&unit.env);
    variables.into_iter().map(|(name, value)| variable(name, value)).collect()
}

fn variable(name: &str, value: &Sourced<Template>) -> VariableView {
    let secret = sounds_secret(name);
    let shown = if secret { MASK.to_owned() } else { value.value.to_string() };
    VariableView { name: name.to_owned(), value: shown, origin: origin_text(&value.origin), secret }
}

/// An origin for people.
pub fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(position) => position.to_string(),
        Origin::Caller => "caller".to_owned(),
        Origin::Derived => "derived".to_owned(),
    }
}

fn waits_for(unit: &UnitSpec) -> Vec<WaitsFor> {
    let one = |edge: &envctl_supervisors::spec::Edge| WaitsFor {
        unit: edge.on.to_string(),
        is: condition_text(edge.is).to_owned(),
        then: then_text(edge.then).to_owned(),
    };
    unit.child.needs.iter().map(one).collect()
}

fn run_text(run: &Run) -> String {
    match run {
        Run::Command(words) => {
            let words: Vec<String> = words.iter().map(|word| word.value.to_string()).collect();
            words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        }
        Run::Shell(line) => line.clone(),
    }
}

/// A word as it could be typed; `${…}` is left readable.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,${}".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { shell_words::quote(word).into_owned() }
}

fn ready_text(unit: &UnitSpec) -> String {
    if let Some(probe) = &unit.ready {
        return format!("{}, within {:?}", ask_text(probe), probe.within);
    }
    match (&unit.kind, unit.child.readiness) {
        (UnitKind::Task(_), _) => "done when it ends with 0".to_owned(),
        (UnitKind::Requirement(_), Readiness::Within(within)) => {
            format!("it answers its own protocol, within {within:?}")
        }
        (UnitKind::Service(_), Readiness::Within(within)) => format!("it says so, within {within:?}"),
        (UnitKind::Service(_) | UnitKind::Requirement(_), Readiness::Unreported) => {
            "never reported: running is enough".to_owned()
        }
    }
}

fn ask_text(probe: &ProbeSpec) -> String {
    match &probe.ask {
        Ask::Tcp(port) => format!("{} accepts connections", port_text(port)),
        Ask::Http { port, path } => format!("GET {path} on {} answers", port_text(port)),
        Ask::Exec(run) => format!("`{}` ends with 0", run_text(run)),
        Ask::Log(pattern) => format!("it prints a line like /{}/", pattern.as_str()),
    }
}

fn port_text(port: &ProbePort) -> String {
    match port {
        ProbePort::Own(name) if name.as_str() == "port" => "its port".to_owned(),
        ProbePort::Own(name) => format!("its port {name}"),
        ProbePort::Fixed(number) => format!("port {number}"),
    }
}

fn inherit_text(inherit: &Inherit) -> String {
    match inherit {
        Inherit::All => "all variables of the caller".to_owned(),
        Inherit::Nothing => "nothing of the caller's variables".to_owned(),
        Inherit::Names(names) => format!("of the caller's variables only {}", names.join(", ")),
    }
}

fn restart_text(restart: Restart) -> &'static str {
    match restart {
        Restart::Permanent => "always restarted (permanent)",
        Restart::Transient => "restarted after a failure (transient)",
        Restart::Temporary => "never restarted (temporary)",
    }
}

fn condition_text(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Ready => "ready",
        Condition::Done => "done",
    }
}

#[cfg(test)]
mod tests;
