//! Which cause is named, where several events come into question.

use std::time::Duration;

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
