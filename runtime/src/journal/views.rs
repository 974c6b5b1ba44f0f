//! The files derived from a project's state and journal. Pure: the state in, JSON out; names follow the original tool's
//! artifacts where the meaning fits, and whatever is our own is added beside them.
//!
//! None of them is ever read back to decide anything. They hold no secret: URLs are those of [`PortView`], which have no user
//! and no password.
//!
//! [`PortView`]: crate::control::view::PortView

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use envctl_supervisors::Name;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::control::view::{Desired, EventView, ExitView, PortView, ProjectView, UnitState, UnitView};
use crate::places::{MAIN_FOLDER, ProjectPlaces};
use crate::spec::{ProjectSpec, UnitKind};

/// Version of every derived file's shape.
pub const ARTIFACT_VERSION: u32 = 1;
/// Errors kept for the report; older ones are in the journal.
pub const ERRORS_MAX: usize = 100;

/// What the specification knows and the state does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The folder of the project's state: `main`, or a worktree's.
    pub folder: String,
    /// By unit.
    pub units: BTreeMap<String, UnitFacts>,
}

/// What the specification knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitFacts {
    /// Its working directory.
    pub dir: Option<PathBuf>,
    /// Where its log segments are.
    pub logs: PathBuf,
    /// Ports wished for, by name.
    pub wanted: BTreeMap<String, u16>,
}

/// Everything the derived files follow from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The project's state.
    pub project: &'a ProjectView,
    /// What its specification adds.
    pub facts: &'a Facts,
    /// Error events of the run, oldest first.
    pub errors: &'a [EventView],
    /// Number of the last event this follows.
    pub seq: u64,
    /// When it was derived.
    pub now: &'a str,
}

// === impl Facts ===

impl Facts {
    /// Picks them out of a specification.
    pub fn of(spec: &ProjectSpec, places: &ProjectPlaces) -> Self {
        let unit = |(name, unit): (&Name, &crate::spec::UnitSpec)| {
            let dir = match &unit.kind {
                UnitKind::Service(program) | UnitKind::Task(program) => Some(program.dir.clone()),
                UnitKind::Requirement(_) => None,
            };
            let wanted = unit.ports.iter().map(|(name, wish)| (name.to_string(), wish.base)).collect();
            (name.to_string(), UnitFacts { dir, logs: places.logs(name), wanted })
        };
        Self { folder: places.folder().to_owned(), units: spec.units.iter().map(unit).collect() }
    }
}

/// `run_state.json`: every unit with its state and process.
pub fn run_state(from: &Sources<'_>) -> Value {
    let services = of_kinds(from, |kind| kind != "requirement", service);
    let requirements = of_kinds(from, |kind| kind == "requirement", requirement);
    json!({
        "schema_version": ARTIFACT_VERSION,
        "run_id": from.project.run,
        "mode": mode(from),
        "state": from.project.state.as_str(),
        "cause": from.project.cause,
        "caused_by": from.project.caused_by,
        "services": services,
        "requirements": requirements,
        "pointers": {},
        "metadata": {
            "project_names": [from.project.name],
            "project_roots": { from.project.name.as_str(): from.project.root },
            "failed": !failed_units(from).is_empty(),
            "failed_units": failed_units(from),
            "seq": from.seq,
            "generated_at": from.now,
        },
    })
}

/// `runtime_map.json`: which port is whose, and how to reach it.
pub fn runtime_map(from: &Sources<'_>) -> Value {
    let mut port_to_service = Map::new();
    let (mut service_to_port, mut service_to_url) = (Map::new(), Map::new());
    for unit in &from.project.units {
        for port in &unit.ports {
            port_to_service.insert(port.port.to_string(), json!(unit.name));
        }
        if let Some(port) = main_port(unit) {
            service_to_port.insert(unit.name.clone(), json!(port.port));
            if is_reachable(unit) {
                service_to_url.insert(unit.name.clone(), json!(port.url));
            }
        }
    }
    let services = of_kinds(from, |_| true, service);
    json!({
        "schema_version": ARTIFACT_VERSION,
        "run_id": from.project.run,
        "mode": mode(from),
        "projects": { from.project.name.as_str(): { "root": from.project.root, "services": services } },
        "port_to_service": port_to_service,
        "service_to_actual_port": service_to_port,
        "service_to_url": service_to_url,
        "generated_at": from.now,
    })
}

/// The scope's `runtime_map.json`: the maps of all of its projects that are open, by folder.
pub fn scope_map(maps: &BTreeMap<String, Value>, now: &str) -> Value {
    let mut port_to_service = Map::new();
    for (folder, map) in maps {
        for (port, unit) in map["port_to_service"].as_object().into_iter().flatten() {
            port_to_service.insert(port.clone(), json!(format!("{folder}/{}", unit.as_str().unwrap_or_default())));
        }
    }
    json!({
        "schema_version": ARTIFACT_VERSION,
        "projects": maps,
        "port_to_service": port_to_service,
        "generated_at": now,
    })
}

/// `ports_manifest.json`: ports asked for and got.
pub fn ports_manifest(from: &Sources<'_>) -> Value {
    let mut ports = Map::new();
    for unit in &from.project.units {
        for port in &unit.ports {
            let requested = wanted(from, unit, port);
            let source = if requested == Some(port.port) { "planner" } else { "retry" };
            let key = if port.name == "port" { unit.name.clone() } else { format!("{}.{}", unit.name, port.name) };
            let entry = json!({
                "requested": requested, "assigned": port.port, "final": port.port, "source": source, "url": port.url,
            });
            ports.insert(key, entry);
        }
    }
    json!({
        "schema_version": ARTIFACT_VERSION,
        "run_id": from.project.run,
        "mode": mode(from),
        "projects": [{ "project": from.project.name, "root": from.project.root, "ports": ports }],
        "generated_at": from.now,
    })
}

/// The ports in the manifest at `path`, by unit and name, of those wishes that are still the same: a preference for the next
/// run, never more than that. `None` if the file is not there or cannot be understood.
pub fn last_ports(
    path: &Path,
    wish: impl Fn(&Name, &Name) -> Option<u16>,
) -> Option<BTreeMap<Name, IndexMap<Name, u16>>> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let mut ports: BTreeMap<Name, IndexMap<Name, u16>> = BTreeMap::new();
    for (key, entry) in manifest["projects"][0]["ports"].as_object()? {
        let (unit, port) = key.split_once('.').unwrap_or((key, "port"));
        let number = entry["final"].as_u64().and_then(|number| u16::try_from(number).ok());
        let (Ok(unit), Ok(port), Some(number)) = (Name::new(unit), Name::new(port), number) else { continue };
        let same = wish(&unit, &port).is_some_and(|wish| entry["requested"].as_u64() == Some(wish.into()));
        if !same {
            continue;
        }
        ports.entry(unit).or_default().insert(port, number);
    }
    Some(ports)
}

/// `error_report.json`: what failed in this run, and what is failed now.
pub fn error_report(from: &Sources<'_>) -> Value {
    let of_run = from.errors.iter().filter(|event| Some(&event.run) == from.project.run.as_ref());
    let errors: Vec<Value> = of_run.map(|event| json!(event)).collect();
    json!({
        "schema_version": ARTIFACT_VERSION,
        "run_id": from.project.run,
        "errors": errors,
        "failed_units": failed_units(from),
        "generated_at": from.now,
    })
}

/// `runtime_readiness_report.json`: whether everything wanted is as it should be, and what is not.
pub fn readiness_report(from: &Sources<'_>) -> Value {
    let wanted: Vec<&UnitView> = from.project.units.iter().filter(|unit| unit.desired == Desired::Up).collect();
    let failed = |unit: &&&UnitView| unit.state == UnitState::Failed;
    let lines = |critical: bool| -> Vec<String> {
        wanted.iter().filter(failed).filter(|unit| unit.critical == critical).map(|unit| complaint(unit)).collect()
    };
    let waiting: Vec<&str> = wanted
        .iter()
        .filter(|unit| !unit.is_settled() && unit.state != UnitState::Failed)
        .map(|unit| unit.name.as_str())
        .collect();
    let (errors, warnings) = (lines(true), lines(false));
    let passed = if waiting.is_empty() || !errors.is_empty() { json!(errors.is_empty()) } else { Value::Null };
    let units: Map<String, Value> = wanted
        .iter()
        .map(|unit| {
            (unit.name.clone(), json!({ "state": unit.state.as_str(), "ready": unit.ready, "cause": unit.cause }))
        })
        .collect();
    json!({
        "schema_version": ARTIFACT_VERSION,
        "run_id": from.project.run,
        "passed": passed,
        "pending": passed.is_null(),
        "waiting": waiting,
        "errors": errors,
        "warnings": warnings,
        "units": units,
        "summary": { "total": wanted.len(), "blocking_gap_count": errors.len() },
        "generated_at": from.now,
    })
}

/// Those that are due, each with its path. The ports manifest of the last run stays while none is up: the next run tries the
/// same ports first.
pub fn all(from: &Sources<'_>, places: &ProjectPlaces) -> Vec<(PathBuf, Value)> {
    let mut views = vec![
        (places.run_state(), run_state(from)),
        (places.runtime_map(), runtime_map(from)),
        (places.error_report(), error_report(from)),
        (places.readiness_report(), readiness_report(from)),
    ];
    if from.project.run.is_some() {
        views.push((places.ports_manifest(), ports_manifest(from)));
    }
    views
}

/// The bytes of a derived file: keys sorted whatever the JSON library was built with, so that two of them can be compared.
pub fn to_bytes(mut value: Value) -> Vec<u8> {
    value.sort_all_objects();
    let mut bytes = serde_json::to_vec_pretty(&value).expect("invariant: JSON values can be written");
    bytes.push(b'\n');
    bytes
}

fn of_kinds(
    from: &Sources<'_>,
    wanted: impl Fn(&str) -> bool,
    entry: impl Fn(&Sources<'_>, &UnitView) -> Value,
) -> Map<String, Value> {
    let units = from.project.units.iter().filter(|unit| wanted(&unit.kind));
    units.map(|unit| (unit.name.clone(), entry(from, unit))).collect()
}

fn service(from: &Sources<'_>, unit: &UnitView) -> Value {
    let facts = from.facts.units.get(&unit.name);
    let port = main_port(unit);
    json!({
        "name": unit.name,
        "type": unit.kind,
        "project": from.project.name,
        "service_slug": unit.name,
        "cwd": facts.and_then(|facts| facts.dir.as_ref()),
        "pid": unit.pid,
        "requested_port": port.and_then(|port| wanted(from, unit, port)),
        "actual_port": port.map(|port| port.port),
        "listener_expected": port.is_some(),
        "url": port.filter(|_| is_reachable(unit)).map(|port| &port.url),
        "log_path": facts.map(|facts| &facts.logs),
        "status": status(unit),
        "state": unit.state.as_str(),
        "desired": match unit.desired { Desired::Up => "up", Desired::Down => "down" },
        "started_at": unit.pid.map(|_| &unit.since),
        "incarnation": unit.incarnation,
        "restarts": unit.restarts,
        "exit": unit.exit.as_ref().map(exit),
        "failure_detail": if unit.state == UnitState::Failed { unit.cause.as_deref() } else { None },
        "group": unit.group,
        "critical": unit.critical,
        "degraded": unit.degraded,
        "runtime_kind": "process",
    })
}

fn requirement(from: &Sources<'_>, unit: &UnitView) -> Value {
    let mut entry = service(from, unit);
    if let Value::Object(fields) = &mut entry {
        fields.insert("id".to_owned(), json!(unit.name));
        fields.insert("enabled".to_owned(), json!(unit.desired == Desired::Up));
        fields.insert("success".to_owned(), json!(unit.ready));
        fields.insert("health".to_owned(), json!(status(unit)));
        fields.insert("error".to_owned(), json!(unit.cause.as_deref().filter(|_| !unit.ready)));
    }
    entry
}

/// The original's word for a state, where it had one.
fn status(unit: &UnitView) -> &'static str {
    if !unit.escaped.is_empty() {
        return "termination_failed";
    }
    match unit.state {
        UnitState::Ready => "healthy",
        UnitState::Running if unit.degraded => "degraded",
        UnitState::Running => "running",
        UnitState::Pending | UnitState::Starting | UnitState::Backoff => "starting",
        UnitState::Stopping => "stopping",
        UnitState::Stopped => "stopped",
        UnitState::Done => "done",
        UnitState::Failed => "failed",
    }
}

fn exit(exit: &ExitView) -> Value {
    match exit {
        ExitView::Code(code) => json!({ "code": code }),
        ExitView::Signal { signal, core } => json!({ "signal": signal, "core": core }),
        ExitView::Unknown(reason) => json!({ "unknown": reason }),
    }
}

fn mode(from: &Sources<'_>) -> &'static str {
    if from.facts.folder.is_empty() || from.facts.folder == MAIN_FOLDER { "main" } else { "trees" }
}

fn failed_units<'a>(from: &Sources<'a>) -> Vec<&'a str> {
    let failed = from.project.units.iter().filter(|unit| unit.state == UnitState::Failed);
    failed.map(|unit| unit.name.as_str()).collect()
}

fn main_port(unit: &UnitView) -> Option<&PortView> {
    unit.ports.iter().find(|port| port.name == "port").or_else(|| unit.ports.first())
}

fn wanted(from: &Sources<'_>, unit: &UnitView, port: &PortView) -> Option<u16> {
    from.facts.units.get(&unit.name)?.wanted.get(&port.name).copied()
}

fn is_reachable(unit: &UnitView) -> bool {
    matches!(unit.state, UnitState::Starting | UnitState::Running | UnitState::Ready)
}

fn complaint(unit: &UnitView) -> String {
    match &unit.cause {
        Some(cause) => format!("{}: {cause}", unit.name),
        None => format!("{} failed", unit.name),
    }
}
