//! Budgets that are used up: who is taken down, and how it is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::{at, lives, told};
use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// A crash loop in a group with a service that is well, and one outside of it. What giving up means is added.
const LOOP: &str = r#"
    [services.well]
    cmd = ["FX", "run", "well"]
    [services.loop]
    cmd = ["FX", "exit", "3", "30"]
    backoff = "none"
    [services.outside]
    cmd = ["FX", "run", "outside"]
    [groups.core]
    members = ["well", "loop"]
    intensity = 2
"#;

/// Services that write down when they start and stop, and a crash loop that ends the project.
const ENDING: &str = r#"
    [services.low]
    cmd = ["FX", "record", "order", "low"]
    [services.high]
    cmd = ["FX", "record", "order", "high"]
    needs = { low = "started" }
    [services.loop]
    cmd = ["FX", "exit", "3", "300"]
    backoff = "none"
    needs = { high = "started" }
    [groups.core]
    members = ["loop"]
    intensity = 1
    escalate = "project"
"#;

fn escalating<'e>(env: &'e TestEnvironment, escalate: &str) -> Project<'e> {
    let project = env.project(&format!("{LOOP}escalate = \"{escalate}\"\n"));
    project.envctl(&["up", "-d"]).ok();
    project
}

/// Waits until the project has come to this.
#[track_caller]
fn until_project(project: &Project<'_>, state: &str) -> Value {
    until(Duration::from_secs(20), &format!("the project to be {state}"), || {
        let ps = project.ps();
        if ps["state"] == state { Ok(ps) } else { Err(ps) }
    })
}

/// Both ran, and were stopped one after the other; which of them wrote first that it runs is the kernel's choice.
#[track_caller]
fn check_order(project: &Project<'_>) {
    let order = project.read("order");
    assert!(order.ends_with("stop high\nstop low\n") && order.lines().count() == 4, "{order}");
}

#[test]
fn a_crash_loop_that_is_isolated_fails_alone_and_leaves_the_rest_as_it_is() {
    let env = TestEnvironment::new();
    let project = escalating(&env, "isolate");
    project.until_state("well", "running");
    let before = lives(&project, &["well", "outside"]);
    let failed = project.until_state("loop", "failed");
    assert_eq!((&failed["incarnation"], &failed["exit"]["code"]), (&json!(3), &json!(3)), "{failed:#}");
    assert_eq!(failed["cause"], "more than 2 restarts within 30s");
    assert_eq!(lives(&project, &["well", "outside"]), before, "others were touched");
    assert_eq!(before["well"].1, 1);
    let why = project.envctl(&["why", "loop"]).ok();
    why.says(&["group core has no restart left: more than 2 restarts within 30s", "exit code 3"]);
    assert_eq!(told(&project, "group.failed"), Vec::<Value>::new(), "the group goes on");
    let restarts: Vec<Value> = told(&project, "unit.restarting").iter().map(|one| one["details"].clone()).collect();
    let used: Vec<&Value> = restarts.iter().map(|details| &details["restart"]).collect();
    assert_eq!(used, [&json!(1), &json!(2)], "{restarts:#?}");
    assert!(restarts.iter().all(|details| details["group"] == "core" && details["intensity"] == 2));
    project.envctl(&["health"]).exits(1);
}

#[test]
fn a_unit_without_a_group_has_a_budget_of_its_own() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.loop]\ncmd = [\"FX\", \"exit\", \"3\", \"30\"]\nbackoff = \"none\"\nintensity = 1\n\
         [services.well]\ncmd = [\"FX\", \"run\"]\n",
    );
    project.envctl(&["up", "-d"]).ok();
    let failed = project.until_state("loop", "failed");
    assert_eq!((&failed["incarnation"], &failed["cause"]), (&json!(2), &json!("more than 1 restart within 30s")));
    assert_eq!(project.unit("well")["incarnation"], 1);
    let restarting = told(&project, "unit.restarting");
    let details = &restarting[0]["details"];
    assert_eq!((&details["restart"], &details["intensity"]), (&json!(1), &json!(1)), "{restarting:#?}");
}

#[test]
fn a_group_that_is_given_up_fails_as_a_whole_and_leaves_the_rest_as_it_is() {
    let env = TestEnvironment::new();
    let project = escalating(&env, "group");
    project.until_state("loop", "failed");
    let well = project.until_state("well", "failed");
    assert_eq!(well["cause"], "group core was given up because of loop", "{well:#}");
    let outside = project.unit("outside");
    assert_eq!((&outside["state"], &outside["incarnation"]), (&json!("running"), &json!(1)), "{outside:#}");

    let failed = told(&project, "group.failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let text = "group core was given up: more than 2 restarts within 30s";
    assert_eq!((&failed[0]["message"], &failed[0]["unit"]), (&json!(text), &json!("loop")));
    assert_eq!(failed[0]["details"]["units"], json!(["well", "loop"]));
    project.envctl(&["why", "well"]).ok().says(&[text, "loop"]);
    project.envctl(&["why", "loop"]).ok().says(&[text, "exit code 3"]);
    project.envctl(&["errors"]).without_panic().says(&["group core was given up"]);
    assert_eq!(until_project(&project, "failed")["cause"], Value::Null, "the run itself goes on");

    project.envctl(&["start", "well"]).ok();
    project.until("well", "tried again", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
}

#[test]
fn a_budget_that_ends_the_project_stops_everything_in_order_and_up_exits_1() {
    let env = TestEnvironment::new();
    let project = env.project(ENDING);
    let up = project.start(&["up"]).wait(Duration::from_secs(30)).exits(1);
    let cause = "loop was given up, which stops everything: more than 1 restart within 30s";
    up.complains(&[&format!("project has failed: {cause}"), "hint", "envctl why loop"]);
    check_order(&project);

    let ps = project.ps();
    assert_eq!((&ps["state"], &ps["cause"], &ps["run"]), (&json!("failed"), &json!(cause), &Value::Null), "{ps:#}");
    assert_eq!(ps["caused_by"], "loop");
    assert_eq!((project.state("loop"), project.state("low")), ("failed".to_owned(), "stopped".to_owned()));
    project.envctl(&["ps"]).ok().says(&["project has failed", "loop was given up"]);
    project.envctl(&["ps", "--check"]).exits(1);
    let health = project.envctl(&["health", "--json"]).exits(1).json();
    assert_eq!((&health["overall"], &health["cause"]), (&json!("unhealthy"), &json!(cause)), "{health:#}");
    project.envctl(&["why", "low"]).ok().says(&["loop was given up", "ends as a whole"]);
    project.envctl(&["why", "loop"]).ok().says(&["group core has no restart left", "project ends as a whole"]);

    let ends = told(&project, "project.failed");
    assert_eq!(ends.len(), 1, "{ends:#?}");
    let details = &ends[0]["details"];
    assert_eq!(
        (&details["group"], &details["caused_by"], &details["units"]),
        (&json!("core"), &json!("loop"), &json!(["loop"]))
    );
    assert_eq!((&details["intensity"], &details["period_ms"]), (&json!(1), &json!(30_000)));
    let events = project.events();
    let stopped = events.iter().rposition(|event| event["event"] == "run.stopped").expect("the end of the run");
    assert!(at(&events, "low", "unit.stopped", 1) < stopped);
}

#[test]
fn what_is_told_of_a_project_that_ended_outlives_its_daemon_and_the_next_up_begins_anew() {
    let env = TestEnvironment::new();
    let project = env.project(&ENDING.replace("\"300\"", "\"0\""));
    project.envctl(UP_WAIT).exits(1).complains(&["loop was given up"]);
    until_project(&project, "failed");
    project.envctl(&["daemon", "stop"]).ok();
    let ps = project.ps();
    assert_eq!((&ps["state"], &ps["caused_by"]), (&json!("failed"), &json!("loop")), "{ps:#}");
    project.envctl(&["health"]).exits(1).complains(&["loop was given up"]);
    project.envctl(&["why", "loop"]).ok().says(&["project ends as a whole"]);

    let healed = project.read("envctl.toml").replace("\"exit\", \"3\", \"0\"", "\"run\"");
    project.write("envctl.toml", healed);
    project.up();
    let ps = project.ps();
    assert_eq!((&ps["state"], &ps["cause"]), (&json!("up"), &Value::Null), "{ps:#}");
    project.envctl(&["health"]).ok();
}

#[test]
fn a_run_that_ends_after_up_has_returned_is_told_by_ps_and_health() {
    let env = TestEnvironment::new();
    let project = env.project(ENDING);
    project.envctl(&["up", "-d"]).ok();
    assert_eq!(until_project(&project, "failed")["caused_by"], "loop");
    project.envctl(&["health"]).exits(1);
    project.envctl(&["down"]).ok();
}

#[test]
fn a_daemon_that_dies_while_the_project_ends_is_followed_by_one_that_ends_it_as_failed() {
    let env = TestEnvironment::new();
    let project = env.project(&ENDING.replace("\"order\", \"high\"]", "\"order\", \"high\", \"1500\"]"));
    project.envctl(&["up", "-d"]).ok();
    let ending = until_project(&project, "stopping");
    assert_eq!(ending["caused_by"], "loop", "{ending:#}");
    proc::kill_hard(env.daemon_pid());
    let ended = until_project(&project, "failed");
    assert_eq!((&ended["caused_by"], &ended["run"]), (&json!("loop"), &Value::Null), "{ended:#}");
    check_order(&project);
}

#[test]
fn everything_without_a_group_shares_the_budget_of_supervision() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.one]
        cmd = ["FX", "run", "one"]
        [services.two]
        cmd = ["FX", "run", "two"]
        [supervision]
        intensity = 1
        escalate = "project"
    "#,
    );
    project.up();
    proc::kill_hard(project.pid("one"));
    project.until("one", "in its second life", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
    proc::kill_hard(project.pid("two"));
    assert_eq!(until_project(&project, "failed")["caused_by"], "two", "its first crash was one too many for both");
}

#[test]
fn a_unit_that_is_not_critical_only_degrades_the_run_whatever_its_group_says() {
    let env = TestEnvironment::new();
    let project = env.project(
        &format!("{LOOP}escalate = \"project\"\n")
            .replace("backoff = \"none\"", "backoff = \"none\"\n    critical = false"),
    );
    project.envctl(UP_WAIT).ok();
    project.until_state("loop", "failed");
    assert_eq!(until_project(&project, "degraded")["cause"], Value::Null);
    assert_eq!((project.state("well"), project.state("outside")), ("running".to_owned(), "running".to_owned()));
    let health = project.envctl(&["health", "--json"]).ok().json();
    assert_eq!(health["overall"], "degraded", "{health:#}");
    project.envctl(&["health", "--strict"]).exits(1);
    let strict = [UP_WAIT, &["--strict"]].concat();
    project.envctl(&strict).exits(1).complains(&["loop"]);
}
