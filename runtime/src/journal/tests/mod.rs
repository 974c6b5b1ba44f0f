//! The journal's specification, and what its tests share.

use envctl_supervisors::Name;
use envctl_supervisors::spec::Incarnation;

use super::events::EventKind;
use super::store::EventLog;
use crate::control::view::{Desired, EventView, ProjectState, ProjectView, UnitState, UnitView};

mod actor;
mod shorten;
mod store;
mod views;
mod why;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A new journal and the folder it is in.
fn journal() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    (dir, path)
}

/// The n-th event of a series; its text is different each time.
fn numbered(n: u64) -> EventView {
    let pid = n + 100;
    EventKind::UnitStarted
        .event("run-1", format!("api started for the {n}th time"))
        .unit(&name("api"))
        .incarnation(Incarnation(u32::try_from(n).unwrap()))
        .detail("pid", pid)
        .build()
}

/// A journal with `count` events.
fn written(count: u64) -> (tempfile::TempDir, std::path::PathBuf) {
    let (dir, path) = journal();
    let (mut log, _) = EventLog::open(&path).unwrap();
    for n in 1..=count {
        log.append(numbered(n));
    }
    (dir, path)
}

fn seqs(path: &std::path::Path) -> Vec<u64> {
    super::events(path).unwrap().map(|event| event.seq).collect()
}

fn unit(name: &str, state: UnitState) -> UnitView {
    UnitView {
        name: name.to_owned(),
        kind: "service".to_owned(),
        state,
        desired: Desired::Up,
        ready: state == UnitState::Ready,
        probed: true,
        pid: None,
        incarnation: 1,
        restarts: 0,
        since: "2026-11-21T10:20:31.000000Z".to_owned(),
        exit: None,
        group: None,
        ports: Vec::new(),
        blocked_by: Vec::new(),
        cause: None,
        hint: None,
        critical: true,
        cpu_ms: None,
        memory: None,
        uptime_ms: None,
        adopted: false,
        containers: Vec::new(),
        escaped: Vec::new(),
        degraded: false,
        warnings: Vec::new(),
        driver: None,
        shared: None,
        failures: Default::default(),
    }
}

fn project(units: Vec<UnitView>) -> ProjectView {
    let run = Some("run-1".to_owned());
    let (state, cause, caused_by) = (ProjectState::Up, None, None);
    ProjectView { name: "shop".to_owned(), root: "/src/shop".into(), run, state, units, cause, caused_by }
}
