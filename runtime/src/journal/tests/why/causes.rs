//! Which cause is named, where several events come into question.

use std::time::Duration;

use envctl_supervisors::engine::Ending;

use super::*;

#[test]
fn a_kill_never_explains_a_start() {
    let mut story = Story::default();
    story.tell(EventKind::RunStarted, "", 0, &[]);
    story.start("api", 1);
    story.stop("api", 1);
    story.asked("kill", "api", &[("signal", json!(15))]);
    story.tell(EventKind::RunJoined, "", 0, &[]);
    story.start("api", 2);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    let lines =
        ["api is ready (incarnation 2) since 10:20:31", "started by an `up` that joined the run run-1 at 10:20:09"];
    story.check(&view, &lines);
}

#[test]
fn a_kill_never_explains_a_stop() {
    let mut story = Story::default();
    story.start("api", 1);
    story.stop("api", 1);
    story.asked("kill", "api", &[("signal", json!(15))]);
    let lines = ["api is stopped since 10:20:31", "asked for by hand at 10:20:03: stop"];
    story.check(&unit("api", UnitState::Stopped), &lines);
}

#[test]
fn a_kill_explains_the_exit_by_its_signal_right_after_and_no_other() {
    for (sent, told) in [(9, "it was ended by SIGKILL, sent by hand at 10:20:03"), (10, "it was ended by SIGKILL")] {
        let mut story = Story::default();
        story.start("api", 1);
        story.asked("kill", "api", &[("signal", json!(sent))]);
        story.tell(EventKind::UnitExited, "api", 1, &[("signal", json!(9))]);
        story.restart("api", 1, 1, 0);
        story.start("api", 2);
        let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
        let line = format!("restarted automatically after {told}; first restart is immediate (restart 1 of 5 in 30 s)");
        story.check(&view, &["api is ready (incarnation 2) since 10:20:31", &line]);
    }
}

#[test]
fn after_down_everything_was_stopped_whatever_was_asked_before() {
    let mut story = Story::default();
    story.start("api", 1);
    story.stop("api", 1);
    story.asked("start", "api", &[]);
    story.start("api", 2);
    story.go_down("api", 2, &Cause::Shutdown);
    story.tell(EventKind::RunStopping, "", 0, &[]);
    let lines = ["api is stopped since 10:20:31", "because everything was stopped at 10:20:12"];
    story.check(&unit("api", UnitState::Stopped), &lines);
}

#[test]
fn a_unit_stopped_by_hand_before_down_tells_both() {
    let mut story = Story::default();
    story.start("api", 1);
    story.start("web", 1);
    story.stop("api", 1);
    let by_hand = "asked for by hand at 10:20:05: stop";
    story.check(&unit("api", UnitState::Stopped), &["api is stopped since 10:20:31", by_hand]);
    story.go_down("web", 1, &Cause::Shutdown);
    let both = "because everything was stopped at 10:20:09; before that it was stopped by hand at 10:20:05";
    story.check(&unit("api", UnitState::Stopped), &["api is stopped since 10:20:31", both]);
}

#[test]
fn a_request_of_an_earlier_run_explains_nothing() {
    let mut story = Story::default();
    story.tell(EventKind::RunStarted, "", 0, &[]);
    story.start("api", 1);
    story.asked("restart", "api", &[]);
    story.tell(EventKind::RunStopped, "", 0, &[]);
    story.next_run("run-2");
    let lines = ["api is ready (incarnation 1) since 10:20:31", "started with the run run-2 at 10:20:06"];
    story.check(&unit("api", UnitState::Ready), &lines);
}

#[test]
fn an_answer_to_an_earlier_life_says_nothing_of_this_one() {
    let mut story = Story::default();
    story.tell(EventKind::UnitProbeFailed, "api", 1, &[("answer", json!("503"))]);
    story.next_run("run-2");
    let lines = ["api runs but is not ready (incarnation 1) since 10:20:31", "started with the run run-2 at 10:20:02"];
    story.check(&unit("api", UnitState::Running), &lines);
}

#[test]
fn a_life_that_its_supervisor_ended_tells_its_fault_and_not_the_signal() {
    let faults = [
        (Cause::ReadyTimeout { within: Duration::from_secs(3) }, "was not ready within 3s"),
        (Cause::Liveness("503 Service Unavailable".to_owned()), "stopped answering: 503 Service Unavailable"),
    ];
    for (cause, told) in faults {
        let mut story = Story::default();
        story.start("api", 1);
        story.condemn("api", 1, &cause);
        story.restart("api", 1, 1, 0);
        story.start("api", 2);
        let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
        let line = format!("restarted because it {told}; first restart is immediate (restart 1 of 5 in 30 s)");
        let chain = story.check(&view, &["api is ready (incarnation 2) since 10:20:31", &line]);
        assert_eq!(chain, [3, 4, 5, 6, 8], "the failed check is part of the chain");
    }
}

#[test]
fn a_unit_that_was_given_up_tells_how_its_last_life_ended() {
    let limits = [
        (Cause::Intensity { restarts: 5, period: Duration::from_secs(30) }, "more than 5 restarts within 30s"),
        (Cause::Unstable { lives: 8 }, "8 lives in a row never became stable"),
    ];
    for (limit, told) in limits {
        let mut story = Story::default();
        story.start("api", 6);
        story.tell(EventKind::UnitExited, "api", 6, &[("code", json!(3))]);
        story.because(EventKind::UnitFailed, "api", 6, &limit);
        story.because(EventKind::UnitFailed, "api", 6, &limit);
        let line = format!("because {told}; its last life ended with exit code 3");
        story.check(&unit("api", UnitState::Failed), &["api has failed and stays down since 10:20:31", &line]);
    }
}

#[test]
fn a_unit_given_up_for_its_readiness_does_not_name_the_signal_of_its_supervisor() {
    let mut story = Story::default();
    story.start("api", 6);
    story.condemn("api", 6, &Cause::ReadyTimeout { within: Duration::from_secs(3) });
    let limit = Cause::Intensity { restarts: 5, period: Duration::from_secs(30) };
    story.because(EventKind::UnitFailed, "api", 6, &limit);
    let line = "because more than 5 restarts within 30s; its last life was not ready within 3s";
    story.check(&unit("api", UnitState::Failed), &["api has failed and stays down since 10:20:31", line]);
}

#[test]
fn a_changed_configuration_explains_a_restart() {
    let mut story = Story::default();
    story.start("api", 1);
    story.because(EventKind::UnitStopping, "api", 1, &Cause::SpecChange);
    story.start("api", 2);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    let line = "restarted at 10:20:03 because its configuration changed";
    story.check(&view, &["api is ready (incarnation 2) since 10:20:31", line]);
}

#[test]
fn a_unit_taken_along_over_an_edge_tells_the_edge() {
    let mut story = Story::default();
    story.start("db", 1);
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "db", 1, &[("signal", json!(9))]);
    let stopping = story.tell(EventKind::UnitStopping, "api", 1, &[("caused_by", json!("db"))]);
    stopping.cause = Some("db crashed; edge then = restart took api along".to_owned());
    story.start("db", 2);
    story.start("api", 2);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    let lines = [
        "api is ready (incarnation 2) since 10:20:31",
        "restarted at 10:20:06: db crashed; edge then = restart took api along",
        "db runs since 10:20:08",
    ];
    story.check(&view, &lines);
}

/// `worker` of group `core` crashes for the second time, and takes `api` along.
fn together() -> Story {
    let mut story = Story::default();
    story.start("api", 1);
    story.start("worker", 1);
    story.tell(EventKind::UnitExited, "worker", 1, &[("code", json!(3))]);
    let budget = [("restart", json!(2)), ("intensity", json!(5)), ("period_ms", json!(30_000))];
    let group = [("group", json!("core")), ("units", json!(["api", "worker"]))];
    story.tell(EventKind::UnitRestarting, "worker", 1, &[&budget[..], &group[..1], &[("delay_ms", json!(0))]].concat());
    let restarting = story.tell(EventKind::GroupRestarting, "worker", 1, &[&budget[..], &group[..]].concat());
    restarting.message = "group core restarts together (one_for_all): worker crashed".to_owned();
    let details = [("caused_by", json!("worker")), ("group", json!("core"))];
    let stopping = story.tell(EventKind::UnitStopping, "api", 1, &details);
    stopping.cause = Some("group core restarts together (one_for_all): worker crashed".to_owned());
    story.start("api", 2);
    story.start("worker", 2);
    story
}

#[test]
fn a_unit_taken_along_by_its_group_tells_the_group_and_its_budget() {
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    let lines = [
        "api is ready (incarnation 2) since 10:20:31",
        "restarted at 10:20:08: group core restarts together (one_for_all): worker crashed",
        "group core had used 2 of 5 restarts in 30 s",
        "worker runs since 10:20:12",
    ];
    together().check(&view, &lines);
}

#[test]
fn a_unit_that_took_its_group_along_tells_that_too() {
    let view = UnitView { incarnation: 2, ..unit("worker", UnitState::Ready) };
    let lines = [
        "worker is ready (incarnation 2) since 10:20:31",
        "restarted automatically after it ended with exit code 3; \
         without delay (restart 2 of 5 in 30 s, shared by group core)",
        "group core restarts together (one_for_all): worker crashed",
    ];
    together().check(&view, &lines);
}

#[test]
fn a_group_that_was_given_up_is_told_to_each_of_its_members() {
    let mut story = together();
    story.tell(EventKind::UnitExited, "worker", 2, &[("code", json!(3))]);
    let limit = Cause::Intensity { restarts: 5, period: Duration::from_secs(30) };
    story.tell(EventKind::UnitFailed, "worker", 2, &[("group", json!("core"))]).cause = Some(limit.to_string());
    let failed = story.tell(EventKind::GroupFailed, "worker", 2, &[("group", json!("core"))]);
    failed.message = "group core was given up: more than 5 restarts within 30s".to_owned();
    let cause = Cause::GroupGaveUp { group: name("core"), by: name("worker") };
    let details = [("group", json!("core")), ("caused_by", json!("worker"))];
    story.tell(EventKind::UnitFailed, "api", 2, &details).cause = Some(cause.to_string());
    let lines = [
        "worker has failed and stays down since 10:20:31",
        "because group core has no restart left: more than 5 restarts within 30s; its last life ended with exit code 3",
        "group core was given up: more than 5 restarts within 30s",
    ];
    story.check(&unit("worker", UnitState::Failed), &lines);
    let lines = [
        "api has failed and stays down since 10:20:31",
        "group core was given up because of worker",
        "group core was given up: more than 5 restarts within 30s",
        "worker has failed since 10:20:14: more than 5 restarts within 30s",
    ];
    story.check(&unit("api", UnitState::Failed), &lines);
}

#[test]
fn a_unit_that_went_down_with_the_whole_project_tells_who_was_given_up() {
    let mut story = Story::default();
    story.start("api", 1);
    story.start("web", 1);
    story.tell(EventKind::UnitExited, "api", 1, &[("code", json!(3))]);
    let limit = Cause::Intensity { restarts: 0, period: Duration::from_secs(30) };
    story.because(EventKind::UnitFailed, "api", 1, &limit);
    let ends = "shop ends as a whole: api was given up".to_owned();
    story.tell(EventKind::ProjectFailed, "api", 1, &[("caused_by", json!("api"))]).message = ends.clone();
    let cause = Cause::Ending { by: name("api"), why: Box::new(Ending::GaveUp) };
    let details = [("caused_by", json!("api"))];
    story.tell(EventKind::UnitStopping, "web", 1, &details).cause = Some(cause.to_string());
    story.tell(EventKind::UnitStopped, "web", 1, &details).cause = Some(cause.to_string());
    let lines = [
        "web is stopped since 10:20:31",
        "because api was given up, which stops everything",
        "shop ends as a whole: api was given up",
        "api has failed since 10:20:06: more than 0 restarts within 30s",
    ];
    story.check(&unit("web", UnitState::Stopped), &lines);
    let lines = [
        "api has failed and stays down since 10:20:31",
        "because more than 0 restarts within 30s; its last life ended with exit code 3",
        &ends,
    ];
    story.check(&unit("api", UnitState::Failed), &lines);
}

#[test]
fn b09_a_life_that_the_kernel_killed_for_its_memory_is_told_apart() {
    let text = "it was killed by the kernel: out of memory (limit 512MiB)";
    let killed = [("signal", json!(9)), ("core", json!(false)), ("oom", json!(true)), ("memory_max", json!(512 << 20))];
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "api", 1, &killed);
    story.restart("api", 1, 1, 0);
    let told = why(&story.0, &unit("api", UnitState::Backoff));
    assert!(told.lines.iter().any(|line| line.contains(text)), "{:#?}", told.lines);
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "api", 1, &killed);
    story.tell(EventKind::UnitFailed, "api", 1, &[]).cause = Some("it was ended by SIGKILL".to_owned());
    let told = why(&story.0, &unit("api", UnitState::Failed));
    assert!(told.lines.contains(&format!("because {text}")), "{:#?}", told.lines);
}

#[test]
fn a_limit_that_is_not_in_force_is_told_with_the_unit() {
    let mut story = Story::default();
    story.tell(EventKind::UnitUnheld, "api", 1, &[]);
    story.start("api", 1);
    let line = "limits.cpu is not in force: no cgroup v2 delegation".to_owned();
    let told = why(&story.0, &UnitView { warnings: vec![line.clone()], ..unit("api", UnitState::Ready) });
    assert!(told.lines.contains(&line), "{:#?}", told.lines);
    assert!(told.chain.iter().any(|event| event.event == "unit.unheld"), "{:#?}", told.chain);
}
