//! An operator's stop wins over everything that would bring a unit up, in whatever state it meets it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// A unit for each state; `clock` runs for longer than any delay here. Names are last arguments, so that processes can be
/// told apart.
const STATES: &str = r#"
    [tasks.gate]
    sh = "until [ -e open ]; do sleep 0.02; done"
    [services.waiting]
    cmd = ["FX", "run", "waiting"]
    needs = { gate = "done" }
    [services.probing]
    cmd = ["FX", "run", "probing"]
    ready = { log = "never", within = "60s" }
    [services.well]
    cmd = ["FX", "run", "well"]
    ready = { log = "up" }
    [services.failing]
    sh = "[ -e fixed ] || exit 1; exec $FIXTURE run failing"
    env = { FIXTURE = "FX" }
    backoff = { base = "900ms", max = "900ms" }
    [services.slow]
    cmd = ["FX", "slow-term", "500", "slow"]
    ready = { log = "up" }
    [tasks.clock]
    cmd = ["FX", "exit", "0", "1500"]
"#;

/// Lets longer pass than any restart would take, by the clock of a task of the project.
#[track_caller]
fn let_time_pass(project: &Project<'_>) {
    let before = project.unit("clock")["incarnation"].as_u64();
    project.envctl(&["restart", "clock"]).ok();
    project.until("clock", "done once more", |unit| unit["state"] == "done" && unit["incarnation"].as_u64() > before);
}

/// Stops a unit and sees it stopped for good: no life begins after the last word about its end.
#[track_caller]
fn stop_for_good(project: &Project<'_>, name: &str) {
    project.envctl(&["stop", name]).ok();
    let stopped = project.until_state(name, "stopped");
    assert_eq!((&stopped["desired"], &stopped["pid"]), (&json!("down"), &Value::Null), "{stopped:#}");
    let_time_pass(project);
    let events = project.events_of(name);
    let end = events.iter().rposition(|event| event["event"] == "unit.stopped").expect("its end");
    let again =
        events[end..].iter().find(|event| matches!(event["event"].as_str(), Some("unit.starting" | "unit.started")));
    assert_eq!(again, None, "{name} came back");
    assert_eq!(project.state(name), "stopped");
}

/// Starts a unit again and finds exactly one process of it.
#[track_caller]
fn start_once(env: &TestEnvironment, project: &Project<'_>, name: &str) {
    project.envctl(&["start", name]).ok();
    let unit = project.until(name, "alive again", |unit| matches!(unit["state"].as_str(), Some("running" | "ready")));
    let of_unit = || {
        let all = env.processes();
        all.into_iter()
            .filter(|one| one.command.ends_with(&format!(" {name}")))
            .map(|one| one.pid)
            .collect::<Vec<u32>>()
    };
    let pid = until(Duration::from_secs(5), &format!("the process of {name}"), || match of_unit().as_slice() {
        [only] => Ok(*only),
        others => Err(others.to_vec()),
    });
    assert_eq!(unit["pid"], json!(pid), "{unit:#}");
}

fn in_states(env: &TestEnvironment) -> Project<'_> {
    let project = env.project(STATES);
    project.envctl(&["up", "-d"]).ok();
    project
}

#[test]
fn a_unit_that_waits_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = in_states(&env);
    project.until_state("waiting", "pending");
    stop_for_good(&project, "waiting");
    project.write("open", "");
    project.until_state("gate", "done");
    let_time_pass(&project);
    assert_eq!(project.state("waiting"), "stopped", "the end of its wait brought it up");
    start_once(&env, &project, "waiting");
}

#[test]
fn a_unit_that_is_being_probed_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = in_states(&env);
    project.until_state("probing", "running");
    stop_for_good(&project, "probing");
    start_once(&env, &project, "probing");
}

#[test]
fn a_unit_that_is_ready_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = in_states(&env);
    project.until_state("well", "ready");
    stop_for_good(&project, "well");
    start_once(&env, &project, "well");
}

#[test]
fn a_unit_in_backoff_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = in_states(&env);
    project.until_state("failing", "backoff");
    stop_for_good(&project, "failing");
    project.write("fixed", "");
    start_once(&env, &project, "failing");
}

#[test]
fn a_unit_that_stops_to_start_again_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = in_states(&env);
    project.until_state("slow", "ready");
    project.envctl(&["restart", "slow"]).ok();
    project.until_state("slow", "stopping");
    stop_for_good(&project, "slow");
    assert_eq!(project.unit("slow")["incarnation"], 1);
    start_once(&env, &project, "slow");
}

#[test]
fn a_requirement_that_is_being_prepared_is_stopped_for_good_and_starts_once() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.postgres]\n[tasks.clock]\ncmd = [\"FX\", \"exit\", \"0\", \"1500\"]\n");
    project.envctl(&["up", "-d"]).ok();
    project.until_state("postgres", "starting");
    stop_for_good(&project, "postgres");
    project.envctl(&["start", "postgres"]).ok();
    let ready = project.until_state("postgres", "ready");
    let pid = ready["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    assert!(proc::alive(pid));
    let lives = project.events_of("postgres").iter().filter(|event| event["event"] == "unit.started").count();
    assert_eq!(lives, 1, "it was started more than once");
}

#[test]
fn down_names_who_had_to_be_killed_and_why() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.deaf]
        cmd = ["FX", "ignore-term"]
        ready = { log = "up" }
        stop = { grace = "200ms" }
        [services.slow]
        cmd = ["FX", "slow-term", "60000"]
        ready = { log = "up" }
        stop = { grace = "50s" }
        [services.well]
        cmd = ["FX", "slow-term", "1"]
        ready = { log = "up" }
    "#,
    );
    project.envctl(UP_WAIT).ok();
    let down = project.envctl(&["down", "--timeout", "1s", "--json"]).ok().json();
    let expected = json!([{ "unit": "deaf", "after": "grace" }, { "unit": "slow", "after": "timeout" }]);
    assert_eq!(down["killed"], expected, "{down:#}");

    project.envctl(UP_WAIT).ok();
    let down = project.envctl(&["down", "--timeout", "1s"]).ok();
    down.complains(&[
        "deaf was killed: it did not end within its grace",
        "slow was killed: the time for the whole stop",
    ]);
    assert!(!down.stderr.contains("well was killed"), "{down}");
}
