//! `envctl show-state`, and reading what a run left behind.

use std::path::{Path, PathBuf};

use envctl_runtime::control::view::{Desired, ExitView, ProjectState, ProjectView, UnitState, UnitView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Largest state file that is read; ours stay far below.
const STATE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Show where state is kept and what is recorded there; starts nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Body {
    found: bool,
    session: String,
    project: Option<String>,
    paths: Vec<Place>,
    state: Option<Value>,
    runtime_map: Option<Value>,
}

#[derive(Serialize)]
struct Place {
    name: &'static str,
    path: PathBuf,
    exists: bool,
}

/// A unit in `run_state.json`, as far as it is read back.
#[derive(Debug, Deserialize)]
struct Recorded {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    restarts: u32,
    #[serde(default)]
    incarnation: u32,
    state: UnitState,
    #[serde(default)]
    exit: Option<ExitView>,
    #[serde(default)]
    failure_detail: Option<String>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default = "yes")]
    critical: bool,
}

/// Units recorded by a build that did not say so are critical.
fn yes() -> bool {
    true
}

pub(crate) async fn run(context: &Context, _args: Args) -> Result<Exit, CliError> {
    let body = gather(context).await?;
    if context.output.json {
        context.output.object("show-state", true, &body)?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for place in &body.paths {
        let missing = if place.exists { "" } else { "  (not there)" };
        text.push_str(&format!("{:13} {}{missing}\n", place.name, place.path.display()));
    }
    if let Some(state) = &body.state {
        text.push_str(&format!("\n{}\n", serde_json::to_string_pretty(state)?));
    }
    context.output.write(&text)?;
    if !body.found {
        context.output.say(if body.project.is_some() { "no run is recorded" } else { "no project is configured here" });
    }
    Ok(Exit::Ok)
}

async fn gather(context: &Context) -> Result<Body, CliError> {
    let places = context.places()?;
    let mut paths = vec![
        place("state", places.state_dir().to_owned()),
        place("runtime", places.runtime_dir().to_owned()),
        place("socket", context.socket()?),
        place("daemon log", places.daemon_log()),
    ];
    let target = match context.source() {
        Ok(_) => Some(context.locate().await?),
        Err(_) if context.names_a_project() => Some(context.locate().await?),
        Err(_) => None,
    };
    let mut body = Body {
        found: false,
        session: context.session().to_string(),
        project: None,
        paths: Vec::new(),
        state: None,
        runtime_map: None,
    };
    if let Some(target) = target {
        let of_project = context.target_places(&target)?;
        paths.push(place("project", of_project.dir()));
        paths.push(place("run state", of_project.run_state()));
        paths.push(place("runtime map", of_project.runtime_map()));
        paths.push(place("events", of_project.events()));
        body.state = read_json(&of_project.run_state());
        body.runtime_map = read_json(&of_project.runtime_map());
        body.found = body.state.is_some();
        body.project = Some(target.name);
    }
    body.paths = paths;
    Ok(body)
}

fn place(name: &'static str, path: PathBuf) -> Place {
    let exists = path.exists();
    Place { name, path, exists }
}

/// The last state of a project that no daemon knows any more. Nothing in it runs, whatever was recorded.
pub(crate) fn recorded_view(run_state: &Path) -> Option<ProjectView> {
    let value = read_json(run_state)?;
    let since = value.pointer("/metadata/generated_at").and_then(Value::as_str).unwrap_or_default();
    let name = value.pointer("/metadata/project_names/0")?.as_str()?.to_owned();
    let root = value.pointer("/metadata/project_roots")?.get(&name)?.as_str()?.into();
    let run = value.get("run_id").and_then(Value::as_str).map(str::to_owned);
    let entries = ["requirements", "services"].into_iter().filter_map(|table| value.get(table)?.as_object());
    let units = entries.flat_map(|table| table.values()).filter_map(|entry| unit(entry, since)).collect();
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let (cause, caused_by) = (text("cause"), text("caused_by"));
    let state = if cause.is_some() { ProjectState::Failed } else { ProjectState::Down };
    // A run that was recorded while it ended by itself is over too.
    let run = run.filter(|_| cause.is_none());
    Some(ProjectView { name, root, run, state, units, cause, caused_by })
}

fn unit(entry: &Value, since: &str) -> Option<UnitView> {
    let recorded: Recorded = serde_json::from_value(entry.clone()).ok()?;
    let state = match recorded.state {
        over @ (UnitState::Done | UnitState::Failed) => over,
        UnitState::Pending
        | UnitState::Starting
        | UnitState::Running
        | UnitState::Ready
        | UnitState::Stopping
        | UnitState::Backoff
        | UnitState::Stopped => UnitState::Stopped,
    };
    Some(UnitView {
        name: recorded.name,
        kind: recorded.kind,
        state,
        desired: Desired::Down,
        ready: false,
        probed: false,
        pid: None,
        incarnation: recorded.incarnation,
        restarts: recorded.restarts,
        since: since.to_owned(),
        exit: recorded.exit,
        group: recorded.group,
        ports: Vec::new(),
        blocked_by: Vec::new(),
        cause: recorded.failure_detail,
        hint: None,
        critical: recorded.critical,
        cpu_ms: None,
        memory: None,
        uptime_ms: None,
        adopted: false,
        escaped: Vec::new(),
        degraded: false,
        containers: Vec::new(),
        warnings: Vec::new(),
        driver: None,
        shared: None,
        failures: Default::default(),
    })
}

fn read_json(path: &Path) -> Option<Value> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > STATE_MAX_BYTES {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_recorded_run_is_shown_with_nothing_running() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"schema_version":1,"run_id":"r1","state":"up","services":{
            "api":{"name":"api","type":"service","state":"ready","pid":7,"restarts":2,"incarnation":3,"exit":{"signal":9,"core":false}},
            "web":{"name":"web","type":"service","state":"failed","exit":{"code":1},"failure_detail":"exited with exit code 1"}},
            "requirements":{},"metadata":{"project_names":["shop"],"project_roots":{"shop":"/p"},"generated_at":"2026-01-01T00:00:00Z"}}"#;
        file.write_all(text.as_bytes()).unwrap();
        let view = recorded_view(file.path()).unwrap();
        assert_eq!((view.name.as_str(), view.units[0].state, view.units[0].pid), ("shop", UnitState::Stopped, None));
        assert_eq!(view.units[0].exit, Some(ExitView::Signal { signal: 9, core: false }));
        assert_eq!(view.units[1].exit, Some(ExitView::Code(1)));
    }

    #[test]
    fn a_recorded_run_that_ended_by_itself_says_why() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"run_id":null,"state":"failed","cause":"api was given up","caused_by":"api","services":{
            "api":{"name":"api","type":"service","state":"failed","group":"core","critical":false}},
            "metadata":{"project_names":["shop"],"project_roots":{"shop":"/p"}}}"#;
        file.write_all(text.as_bytes()).unwrap();
        let view = recorded_view(file.path()).unwrap();
        assert_eq!((view.state, view.cause.as_deref()), (ProjectState::Failed, Some("api was given up")));
        assert_eq!((view.units[0].group.as_deref(), view.units[0].critical), (Some("core"), false));
    }

    #[test]
    fn a_broken_state_file_is_as_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"state\":").unwrap();
        assert!(recorded_view(file.path()).is_none());
        assert!(recorded_view(Path::new("/nonexistent")).is_none());
    }
}
