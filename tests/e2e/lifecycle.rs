//! From `up` to `down`: order, joining, operators, waiting.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Project, TestEnvironment, proc, until};

/// Three services in a chain that write down when they start and stop, and one beside them.
const CHAIN: &str = r#"
    [services.low]
    cmd = ["FX", "record", "order", "low"]
    [services.middle]
    cmd = ["FX", "record", "order", "middle"]
    needs = { low = "started" }
    [services.high]
    cmd = ["FX", "record", "order", "high"]
    needs = { middle = "started" }
    [services.aside]
    cmd = ["FX", "run"]
"#;

fn chain(env: &TestEnvironment) -> Project<'_> {
    let project = env.project(CHAIN);
    project.up();
    project.until_lines("order", 3);
    project
}

#[test]
fn units_start_after_what_they_need() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.first]
        sh = "echo first >> order"
        [services.listener]
        cmd = ["FX", "listen", "${listener.port}", "200"]
        port = 21000
        needs = { first = "done" }
        [tasks.last]
        sh = "echo last >> order"
        needs = { listener = "ready" }
    "#,
    );
    project.up();
    assert_eq!(project.read("order"), "first\nlast\n");
    let events = project.events();
    let at = |unit: &str, event: &str| {
        let found = events.iter().position(|one| one["unit"] == unit && one["event"] == event);
        found.unwrap_or_else(|| panic!("no {event} of {unit} in {events:#?}"))
    };
    assert!(at("first", "unit.done") < at("listener", "unit.started"));
    assert!(at("listener", "unit.ready") < at("last", "unit.started"));
}

#[test]
fn g11_down_stops_dependents_first() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    project.down();
    let order = project.read("order");
    // Which of three running programs writes first is the kernel's choice; they are stopped one after the other.
    assert!(order.ends_with("stop high\nstop middle\nstop low\n"), "{order}");
    assert_eq!(order.lines().count(), 6, "{order}");
}

#[test]
fn g11_units_that_do_not_need_each_other_stop_at_the_same_time() {
    let env = TestEnvironment::new();
    let mut toml = String::new();
    for name in ["a", "b", "c", "d"] {
        toml.push_str(&format!(
            "[services.{name}]\ncmd = [\"FX\", \"slow-term\", \"700\"]\nready = {{ log = \"up\" }}\n"
        ));
    }
    let project = env.project(&toml);
    project.up();
    let down = project.down();
    assert!(down.took < Duration::from_millis(2000), "four stops of 0.7 s took {:?}", down.took);
}

#[test]
fn ps_json_has_every_field_of_the_contract() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let all = project.envctl(&["ps", "--json"]).ok().json();
    assert_eq!((&all["schema_version"], &all["kind"], &all["ok"]), (&json!(1), &json!("ps"), &json!(true)), "{all:#}");
    assert_eq!(all["session"], "default", "{all:#}");
    let one = &all["projects"][0];
    assert_eq!((&one["name"], &one["state"]), (&json!("project"), &json!("up")), "{one:#}");
    assert_eq!(one["root"], json!(project.dir().canonicalize().expect("a real path")), "{one:#}");
    let unit = project.unit("middle");
    for field in ["kind", "state", "desired", "ready", "pid", "incarnation", "restarts", "since", "exit", "group"] {
        assert!(unit.get(field).is_some(), "no {field} in {unit:#}");
    }
    for field in ["ports", "blocked_by", "cause", "adopted", "escaped", "degraded"] {
        assert!(unit.get(field).is_some(), "no {field} in {unit:#}");
    }
    assert_eq!((&unit["kind"], &unit["state"], &unit["desired"]), (&json!("service"), &json!("running"), &json!("up")));
    let names: Vec<&Value> = one["units"].as_array().expect("units").iter().map(|unit| &unit["name"]).collect();
    assert_eq!(names, ["low", "middle", "high", "aside"], "units stand in the order of the file");
}

#[test]
fn a_stopped_unit_stays_down_until_it_is_started_again() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let before = project.pid("aside");
    project.envctl(&["stop", "aside"]).ok();
    let stopped = project.until_state("aside", "stopped");
    assert_eq!((&stopped["desired"], &stopped["pid"]), (&json!("down"), &Value::Null), "{stopped:#}");
    assert!(!proc::alive(before));
    assert_eq!(project.state("high"), "running", "the others run on");

    project.envctl(&["start", "aside"]).ok();
    let again = project.until_state("aside", "running");
    assert_eq!((&again["incarnation"], &again["restarts"]), (&json!(2), &json!(0)), "{again:#}");
}

#[test]
fn an_operators_restart_is_a_new_life_and_not_an_automatic_restart() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let before = project.pid("aside");
    project.envctl(&["restart", "aside"]).ok();
    let after = project.until("aside", "in its second life", |unit| unit["incarnation"] == 2 && unit["pid"].is_u64());
    assert_ne!(after["pid"], json!(before));
    assert_eq!(after["restarts"], 0, "{after:#}");
    assert!(!proc::alive(before), "two lives at once");
}

#[test]
fn start_brings_what_the_unit_needs() {
    let env = TestEnvironment::new();
    let project = env.project(CHAIN);
    project.envctl(&["start", "middle"]).ok();
    project.until_state("middle", "running");
    assert_eq!(project.state("low"), "running");
    assert_eq!(project.unit("high")["pid"], Value::Null, "nobody asked for it");
}

#[test]
fn up_without_deps_starts_the_unit_alone() {
    let env = TestEnvironment::new();
    let project = env.project(CHAIN);
    project.envctl(&["up", "-d", "--no-deps", "aside"]).ok();
    project.until_state("aside", "running");
    assert_eq!(project.unit("low")["pid"], Value::Null);
}

#[test]
fn a_second_up_joins_the_run() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let (run, pid) = (project.ps()["run"].clone(), project.pid("low"));
    assert!(run.is_string(), "{run}");
    project.up();
    assert_eq!((project.ps()["run"].clone(), project.pid("low")), (run.clone(), pid), "the run goes on untouched");

    project.down();
    project.up();
    assert_ne!(project.ps()["run"], run, "a new run after a down");
}

#[test]
fn a_done_task_is_not_run_again_by_joining_and_is_by_a_new_run() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.once]
        sh = "echo ran >> ran"
        [services.s]
        cmd = ["FX", "run"]
    "#,
    );
    project.up();
    project.up();
    assert_eq!(project.read("ran"), "ran\n");
    project.down();
    project.up();
    assert_eq!(project.read("ran"), "ran\nran\n");
}

#[test]
fn an_unknown_unit_is_an_error_with_the_nearest_name_and_nothing_is_touched() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let pids = [project.pid("low"), project.pid("aside")];
    for arguments in [
        ["stop", "aside", "midle"].as_slice(),
        &["restart", "aside", "midle"],
        &["start", "aside", "midle"],
        &["kill", "-s", "TERM", "aside", "midle"],
        &["logs", "midle"],
        &["why", "midle"],
        &["up", "-d", "midle"],
    ] {
        let output = project.envctl(arguments).exits(1);
        output.complains(&["midle", "middle"]);
    }
    assert_eq!([project.pid("low"), project.pid("aside")], pids);
}

#[test]
fn wait_returns_when_the_state_comes_and_124_when_it_does_not() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.slow]
        cmd = ["FX", "listen", "${slow.port}", "400"]
        port = 21000
        [services.never]
        cmd = ["FX", "run"]
        ready = { log = "this line never comes", within = "60s" }
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.envctl(&["wait", "slow", "--for", "ready", "--timeout", "20s"]).ok();
    assert_eq!(project.state("slow"), "ready");
    let timed_out = project.envctl(&["wait", "never", "--for", "ready", "--timeout", "300ms"]).exits(124);
    timed_out.complains(&["never"]);
    project.envctl(&["stop", "slow"]).ok();
    project.envctl(&["wait", "slow", "--for", "stopped", "--timeout", "20s"]).ok();
}

#[test]
fn endpoints_lists_every_port_with_its_url() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.web]
        cmd = ["FX", "http", "${web.port}", "ok"]
        port = 21000
        [services.many]
        cmd = ["FX", "run"]
        ports = { http = 22000, admin = 23000 }
        ready = { log = "up" }
    "#,
    );
    project.up();
    let endpoints = project.envctl(&["endpoints", "--json"]).ok().json();
    let text = endpoints.to_string();
    assert!(text.contains(&format!("http://127.0.0.1:{}", project.port("web"))), "{endpoints:#}");
    for name in ["http", "admin"] {
        assert!(text.contains(name), "no {name} in {endpoints:#}");
    }
}

#[test]
fn down_of_a_project_that_is_not_up_is_no_failure() {
    let env = TestEnvironment::new();
    let project = env.project(CHAIN);
    project.down();
    project.up();
    project.down();
    project.down();
}

#[test]
fn the_state_is_on_disk_from_the_first_day() {
    let env = TestEnvironment::new();
    let project = chain(&env);
    let shown = project.envctl(&["show-state", "--json"]).ok();
    shown.says(&["run_state.json", "runtime_map.json"]);
    for name in ["run_state.json", "runtime_map.json", "events.jsonl"] {
        // Derived files follow the journal within a moment: they are written together, and never on the start path.
        let path = until(Duration::from_secs(5), name, || {
            let mut found = Vec::new();
            find_files(&env.root().join("state"), &mut found);
            found.iter().find(|path| path.ends_with(name)).cloned().ok_or(found)
        });
        let text = std::fs::read_to_string(path).expect("the file");
        for document in if name.ends_with('l') { text.lines().collect() } else { vec![text.as_str()] } {
            let value: Value =
                serde_json::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}\n{document}"));
            assert!(value["schema_version"].is_u64(), "{name} has no schema version: {value:#}");
        }
    }
}

fn find_files(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
