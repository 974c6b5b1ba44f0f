//! Declared groups: who restarts with whom, in which order, and who is left alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Project, TestEnvironment, proc};

mod giving_up;
mod stopping;

/// Three services of a group with their names as last arguments; the file has them in another order than the group.
const THREE: &str = r#"
    [services.a]
    cmd = ["FX", "run", "a"]
    ready = { log = "up" }
    [services.b]
    cmd = ["FX", "run", "b"]
    ready = { log = "up" }
    [services.c]
    cmd = ["FX", "run", "c"]
    ready = { log = "up" }
    [services.outside]
    cmd = ["FX", "run", "outside"]
    ready = { log = "up" }
    [groups.core]
    members = ["c", "a", "b"]
"#;

fn three<'e>(env: &'e TestEnvironment, rest: &str) -> Project<'e> {
    let project = env.project(&format!("{THREE}{rest}"));
    project.up();
    project
}

/// Pid and incarnation of units.
#[track_caller]
fn lives(project: &Project<'_>, names: &[&str]) -> BTreeMap<String, (Value, Value)> {
    let ps = project.ps();
    let units = ps["units"].as_array().cloned().unwrap_or_default();
    let life = |name: &&str| {
        let unit = units.iter().find(|unit| unit["name"] == **name).unwrap_or_else(|| panic!("no {name} in {ps:#}"));
        (name.to_string(), (unit["pid"].clone(), unit["incarnation"].clone()))
    };
    names.iter().map(life).collect()
}

/// Waits until a unit is ready in this life.
#[track_caller]
fn until_ready(project: &Project<'_>, name: &str, incarnation: u32) {
    let is = |unit: &Value| unit["state"] == "ready" && unit["incarnation"] == incarnation;
    project.until(name, &format!("ready in life {incarnation}"), is);
}

/// The journal's events of one kind.
#[track_caller]
fn told(project: &Project<'_>, kind: &str) -> Vec<Value> {
    project.events().into_iter().filter(|event| event["event"] == kind).collect()
}

/// Where a life of a unit comes to this in the journal.
#[track_caller]
fn at(events: &[Value], unit: &str, kind: &str, incarnation: u32) -> usize {
    let is = |event: &Value| event["unit"] == unit && event["event"] == kind && event["incarnation"] == incarnation;
    events.iter().position(is).unwrap_or_else(|| panic!("no {kind} of {unit} in life {incarnation}: {events:#?}"))
}

#[test]
fn a_crash_under_one_for_all_restarts_all_members_in_their_order_and_counts_once() {
    let env = TestEnvironment::new();
    let project = three(&env, "strategy = \"one_for_all\"\n");
    let before = lives(&project, &["a", "b", "c", "outside"]);
    assert_eq!(project.unit("a")["group"], "core");
    assert_eq!(project.unit("outside")["group"], Value::Null);
    proc::kill_hard(project.pid("a"));
    for name in ["a", "b", "c"] {
        until_ready(&project, name, 2);
    }
    let after = lives(&project, &["a", "b", "c", "outside"]);
    assert_eq!(after["outside"], before["outside"], "a restart left its group");

    let events = project.events();
    for name in ["a", "b", "c"] {
        assert_ne!(after[name].0, before[name].0);
        assert!(at(&events, name, "unit.exited", 1) < at(&events, "c", "unit.starting", 2), "{name} was still alive");
    }
    assert!(at(&events, "c", "unit.ready", 2) < at(&events, "a", "unit.started", 2), "a came before c");
    assert!(at(&events, "a", "unit.ready", 2) < at(&events, "b", "unit.started", 2), "b came before a");

    let together = told(&project, "group.restarting");
    assert_eq!(together.len(), 1, "{together:#?}");
    let details = &together[0]["details"];
    assert_eq!((&details["group"], &details["strategy"]), (&json!("core"), &json!("one_for_all")));
    assert_eq!((&details["units"], &details["caused_by"]), (&json!(["c", "a", "b"]), &json!("a")));
    assert_eq!((&details["restart"], &details["intensity"]), (&json!(1), &json!(5)), "one restart of several is one");

    let why = project.envctl(&["why", "b"]).ok();
    why.says(&["group core restarts together (one_for_all): a crashed", "1 of 5 restarts in 30 s"]);
    let why = project.envctl(&["why", "a"]).ok();
    why.says(&["SIGKILL", "restart 1 of 5 in 30 s, shared by group core", "group core restarts together"]);
    project.envctl(&["events", "b"]).ok().says(&["group.restarting"]);
    let table = project.envctl(&["ps"]).ok();
    assert!(table.stdout.lines().next().is_some_and(|titles| titles.contains("GROUP")), "{table}");
}

#[test]
fn a_crash_under_rest_for_one_leaves_the_members_before_it_alone() {
    let env = TestEnvironment::new();
    let project = three(&env, "strategy = \"rest_for_one\"\n");
    let before = lives(&project, &["a", "b", "c", "outside"]);
    proc::kill_hard(project.pid("a"));
    until_ready(&project, "a", 2);
    until_ready(&project, "b", 2);
    let after = lives(&project, &["a", "b", "c", "outside"]);
    assert_eq!((&after["c"], &after["outside"]), (&before["c"], &before["outside"]));
    let events = project.events();
    assert!(at(&events, "b", "unit.exited", 1) < at(&events, "a", "unit.starting", 2), "b was still alive");
    assert!(at(&events, "a", "unit.ready", 2) < at(&events, "b", "unit.started", 2), "b came before a");
}

#[test]
fn a_crash_under_one_for_one_is_nobody_elses() {
    let env = TestEnvironment::new();
    let project = three(&env, "");
    let before = lives(&project, &["b", "c", "outside"]);
    proc::kill_hard(project.pid("a"));
    until_ready(&project, "a", 2);
    assert_eq!(lives(&project, &["b", "c", "outside"]), before);
    assert_eq!(told(&project, "group.restarting"), Vec::<Value>::new());
}

#[test]
fn members_start_in_order_and_stop_against_it() {
    let env = TestEnvironment::new();
    let project = three(&env, "");
    let events = project.events();
    assert!(at(&events, "c", "unit.ready", 1) < at(&events, "a", "unit.started", 1));
    assert!(at(&events, "a", "unit.ready", 1) < at(&events, "b", "unit.started", 1));
    project.down();
    let events = project.events();
    assert!(at(&events, "b", "unit.stopped", 1) < at(&events, "a", "unit.stopping", 1));
    assert!(at(&events, "a", "unit.stopped", 1) < at(&events, "c", "unit.stopping", 1));
}

#[test]
fn a_crash_in_an_inner_group_stays_there_until_that_is_given_up_to_the_outer_one() {
    let env = TestEnvironment::new();
    let inner = "strategy = \"one_for_all\"\nintensity = 1\nescalate = \"group\"\n\
        [groups.all]\nmembers = [\"core\", \"outside\"]\nstrategy = \"one_for_all\"\n";
    let project = three(&env, inner);
    let before = lives(&project, &["outside"]);
    proc::kill_hard(project.pid("b"));
    for name in ["a", "b", "c"] {
        until_ready(&project, name, 2);
    }
    assert_eq!(lives(&project, &["outside"]), before, "the crash was felt outside");

    proc::kill_hard(project.pid("b"));
    for name in ["a", "b", "c"] {
        until_ready(&project, name, 3);
    }
    until_ready(&project, "outside", 2);
    let failed = told(&project, "group.failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["message"], "group core was given up: more than 1 restart within 30s");
    assert_eq!(failed[0]["details"]["escalate"], "group");
    let outer = told(&project, "group.restarting").pop().expect("the outer group");
    assert_eq!(outer["details"]["group"], "all", "{outer:#}");
    assert_eq!(outer["message"], "group all restarts together (one_for_all): group core was given up because of b");
    assert_eq!(outer["details"]["restart"], 1, "one crash in the group above: {outer:#}");
    assert_eq!(told(&project, "unit.failed"), Vec::<Value>::new(), "nobody stayed down");
    project.envctl(&["why", "outside"]).ok().says(&["group all restarts together", "group core was given up"]);
    project.envctl(&["health"]).ok();
}

#[test]
fn a_killed_postgres_restarts_exactly_the_dependents_whose_edges_say_so_in_order() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [requirements.postgres]
        [services.api]
        cmd = ["FX", "run", "api"]
        ready = { log = "up" }
        needs = { postgres = { is = "ready", then = "restart" } }
        [services.web]
        cmd = ["FX", "run", "web"]
        ready = { log = "up" }
        needs = { api = { is = "ready", then = "restart" } }
        [services.patient]
        cmd = ["FX", "run", "patient"]
        needs = { postgres = "ready" }
        [services.outside]
        cmd = ["FX", "run", "outside"]
    "#,
    );
    project.up();
    let before = lives(&project, &["patient", "outside"]);
    proc::kill_hard(project.pid("postgres"));
    until_ready(&project, "web", 2);
    assert_eq!(lives(&project, &["patient", "outside"]), before);
    let events = project.events();
    assert!(at(&events, "web", "unit.exited", 1) < at(&events, "postgres", "unit.starting", 2), "web was still alive");
    assert!(at(&events, "postgres", "unit.ready", 2) < at(&events, "api", "unit.starting", 2), "api did not wait");
    assert!(at(&events, "api", "unit.ready", 2) < at(&events, "web", "unit.starting", 2), "web did not wait");
    let edge = "postgres crashed; edge then = restart took api along";
    project.envctl(&["why", "api"]).ok().says(&[edge]);
    project.envctl(&["events", "api"]).ok().says(&[edge]);
}

#[test]
fn a_member_that_was_stopped_by_hand_stays_down_when_its_group_restarts() {
    let env = TestEnvironment::new();
    let project = three(&env, "strategy = \"one_for_all\"\n");
    project.envctl(&["stop", "c"]).ok();
    project.until_state("c", "stopped");
    proc::kill_hard(project.pid("a"));
    until_ready(&project, "a", 2);
    until_ready(&project, "b", 2);
    let stopped = project.unit("c");
    assert_eq!((&stopped["state"], &stopped["desired"]), (&json!("stopped"), &json!("down")), "{stopped:#}");
    assert_eq!(stopped["incarnation"], 1);
    project.envctl(&["start", "c"]).ok();
    until_ready(&project, "c", 2);
}

#[test]
fn other_groups_and_budgets_in_the_file_restart_nobody() {
    let env = TestEnvironment::new();
    let project = three(&env, "");
    let before = lives(&project, &["a", "b", "c", "outside"]);
    let changed = format!("{}strategy = \"one_for_all\"\n[supervision]\nintensity = 9\n", project.read("envctl.toml"));
    project.write("envctl.toml", changed);
    project.up();
    assert_eq!(lives(&project, &["a", "b", "c", "outside"]), before);
    proc::kill_hard(project.pid("a"));
    until_ready(&project, "b", 2);
    until_ready(&project, "c", 2);
    assert_eq!(told(&project, "group.restarting").len(), 1, "the new strategy holds");
}

#[test]
fn explain_and_config_show_tell_groups_without_starting_anything() {
    let env = TestEnvironment::new();
    let project = env.project(&format!("{THREE}escalate = \"project\"\n[supervision]\nintensity = 2\n"));
    let explained = project.envctl(&["explain"]).ok();
    explained.says(&["core: c, then a, then b", "5 restarts in 30s, then the project ends", "2 restarts in 30s"]);
    let explained = project.envctl(&["explain", "--json"]).ok().json();
    assert_eq!(explained["groups"][0]["members"], json!(["c", "a", "b"]), "{explained:#}");
    let first: Vec<&Value> =
        explained["waves"][0].as_array().expect("a wave").iter().map(|unit| &unit["unit"]).collect();
    assert_eq!(first, [&json!("c"), &json!("outside")], "{explained:#}");
    let shown = project.envctl(&["config", "show"]).ok();
    shown.says(&[
        "groups.core.escalate = \"project\"",
        "groups.core.intensity = 5  # default",
        "supervision.intensity = 2",
    ]);
    assert_eq!(env.sockets(), Vec::<std::path::PathBuf>::new(), "looking started a daemon");
}
