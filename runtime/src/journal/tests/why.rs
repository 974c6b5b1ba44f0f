use envctl_supervisors::engine::Cause;
use serde_json::json;

use super::super::why::why;
use super::*;

mod causes;

/// A journal in the making: each event comes a second after the one before.
#[derive(Default)]
struct Story(Vec<EventView>);

impl Story {
    fn tell(
        &mut self,
        kind: EventKind,
        of: &str,
        incarnation: u32,
        details: &[(&str, serde_json::Value)],
    ) -> &mut EventView {
        let mut event = kind.event("run-1", format!("{of}: {}", kind.as_str()));
        if !of.is_empty() {
            event = event.unit(&name(of)).incarnation(Incarnation(incarnation));
        }
        for (detail, value) in details {
            event = event.detail(detail, value.clone());
        }
        let mut event = event.build();
        event.seq = self.0.len() as u64 + 1;
        event.time = format!("2026-11-21T10:20:{:02}.000000Z", event.seq);
        self.0.push(event);
        self.0.last_mut().unwrap()
    }

    fn start(&mut self, of: &str, incarnation: u32) {
        self.tell(EventKind::UnitStarting, of, incarnation, &[]);
        self.tell(EventKind::UnitStarted, of, incarnation, &[("pid", json!(40))]);
    }

    fn restart(&mut self, of: &str, incarnation: u32, restart: u32, delay_ms: u64) {
        let budget = [("restart", json!(restart)), ("intensity", json!(5)), ("period_ms", json!(30_000))];
        let details = [&budget[..], &[("delay_ms", json!(delay_ms))]].concat();
        self.tell(EventKind::UnitRestarting, of, incarnation, &details);
    }

    fn because(&mut self, kind: EventKind, of: &str, incarnation: u32, cause: &Cause) {
        self.tell(kind, of, incarnation, &[]).cause = Some(cause.to_string());
    }

    fn asked(&mut self, verb: &str, of: &str, details: &[(&str, serde_json::Value)]) {
        let asked = [("verb", json!(verb)), ("units", json!([of]))];
        self.tell(EventKind::OperatorAsked, "", 0, &[&asked[..], details].concat());
    }

    /// A whole life that somebody ended with `stop`.
    fn stop(&mut self, of: &str, incarnation: u32) {
        self.asked("stop", of, &[]);
        self.go_down(of, incarnation, &Cause::Operator);
    }

    fn go_down(&mut self, of: &str, incarnation: u32, cause: &Cause) {
        self.because(EventKind::UnitStopping, of, incarnation, cause);
        self.tell(EventKind::UnitExited, of, incarnation, &[("signal", json!(15))]);
        self.because(EventKind::UnitStopped, of, incarnation, cause);
    }

    /// A life that its supervisor ended because of `cause`.
    fn condemn(&mut self, of: &str, incarnation: u32, cause: &Cause) {
        let probe = if matches!(cause, Cause::Liveness(_)) { "alive" } else { "ready" };
        self.tell(EventKind::UnitProbeFailed, of, incarnation, &[("probe", json!(probe))]);
        self.because(EventKind::UnitStopping, of, incarnation, cause);
        self.tell(EventKind::UnitExited, of, incarnation, &[("signal", json!(15))]);
    }

    /// What follows belongs to another run.
    fn next_run(&mut self, run: &str) {
        let from = self.0.len();
        self.tell(EventKind::RunStarted, "", 0, &[]);
        self.start("api", 1);
        self.0[from..].iter_mut().for_each(|event| event.run = run.to_owned());
    }

    fn check(&self, unit: &UnitView, lines: &[&str]) -> Vec<u64> {
        let told = why(&self.0, unit);
        assert_eq!(told.lines, lines);
        told.chain.iter().map(|event| event.seq).collect()
    }
}

#[test]
fn a_unit_restarted_after_a_kill_says_so_in_two_lines() {
    let mut story = Story::default();
    story.tell(EventKind::RunStarted, "", 0, &[]);
    story.start("api", 1);
    story.tell(EventKind::UnitReady, "api", 1, &[]);
    story.tell(EventKind::UnitExited, "api", 1, &[("signal", json!(9))]);
    story.restart("api", 1, 1, 0);
    story.start("api", 2);
    story.tell(EventKind::UnitReady, "api", 2, &[]);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    let lines = [
        "api is ready (incarnation 2) since 10:20:31",
        "restarted automatically after it was ended by SIGKILL; first restart is immediate (restart 1 of 5 in 30 s)",
    ];
    assert_eq!(story.check(&view, &lines), [5, 6, 8, 9]);
}

#[test]
fn a_unit_that_never_crashed_came_with_the_run() {
    let mut story = Story::default();
    story.tell(EventKind::RunStarted, "", 0, &[]);
    story.start("api", 1);
    let view = UnitView { probed: false, ready: true, ..unit("api", UnitState::Running) };
    story.check(&view, &["api is running (incarnation 1) since 10:20:31", "started with the run run-1 at 10:20:01"]);
}

#[test]
fn an_operators_restart_is_not_told_as_a_crash() {
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "api", 1, &[("code", json!(1))]);
    story.restart("api", 1, 1, 0);
    story.start("api", 2);
    story.tell(EventKind::OperatorAsked, "", 0, &[("verb", json!("restart")), ("units", json!(["api"]))]);
    story.tell(EventKind::UnitExited, "api", 2, &[("signal", json!(15))]);
    story.start("api", 3);
    let view = UnitView { incarnation: 3, ..unit("api", UnitState::Ready) };
    story.check(&view, &["api is ready (incarnation 3) since 10:20:31", "asked for by hand at 10:20:07: restart"]);
}

#[test]
fn a_unit_in_backoff_tells_the_delay_and_the_budget() {
    let mut story = Story::default();
    story.start("api", 3);
    story.tell(EventKind::UnitExited, "api", 3, &[("code", json!(1))]);
    story.restart("api", 3, 3, 1500);
    story.check(
        &unit("api", UnitState::Backoff),
        &[
            "api is down and waits for its next start since 10:20:31",
            "it is started again after it ended with exit code 1; after a delay of 1.5 s (restart 3 of 5 in 30 s)",
        ],
    );
}

#[test]
fn a_blocked_unit_explains_the_units_it_waits_for_down_to_the_root() {
    let mut story = Story::default();
    story.tell(EventKind::UnitBlocked, "web", 0, &[("blocked_by", json!(["api"]))]);
    story.tell(EventKind::UnitBlocked, "api", 0, &[("blocked_by", json!(["postgres", "redis"]))]);
    let failed = story.tell(EventKind::UnitFailed, "postgres", 1, &[]);
    failed.cause = Some("no `initdb` in PATH".to_owned());
    failed.hint = Some("install postgresql".to_owned());
    let view = UnitView { blocked_by: vec!["api".to_owned()], ..unit("web", UnitState::Pending) };
    let lines = [
        "web waits for api since 10:20:31",
        "api waits for postgres, redis since 10:20:02",
        "postgres has failed since 10:20:03: no `initdb` in PATH",
        "hint: install postgresql",
        "redis has not been started",
    ];
    assert_eq!(story.check(&view, &lines), [2, 3]);
}

#[test]
fn units_that_wait_for_each_other_do_not_make_it_talk_for_ever() {
    let mut story = Story::default();
    story.tell(EventKind::UnitBlocked, "a", 0, &[("blocked_by", json!(["b"]))]);
    story.tell(EventKind::UnitBlocked, "b", 0, &[("blocked_by", json!(["a"]))]);
    let view = UnitView { blocked_by: vec!["b".to_owned()], ..unit("a", UnitState::Pending) };
    story.check(&view, &["a waits for b since 10:20:31", "b waits for a since 10:20:02"]);
}

#[test]
fn a_failed_unit_gives_its_cause_and_its_hint() {
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "api", 1, &[("code", json!(1))]);
    story.tell(EventKind::UnitFailed, "api", 1, &[]);
    let view = UnitView {
        cause: Some("more than 5 restarts within 30 s".to_owned()),
        hint: Some("envctl logs api".to_owned()),
        ..unit("api", UnitState::Failed)
    };
    let lines = [
        "api has failed and stays down since 10:20:31",
        "because more than 5 restarts within 30 s; its last life ended with exit code 1",
        "hint: envctl logs api",
    ];
    assert_eq!(story.check(&view, &lines), [3, 4]);
    // Without a word of the engine the end of the last life is the cause.
    story.check(
        &unit("api", UnitState::Failed),
        &["api has failed and stays down since 10:20:31", "because it ended with exit code 1"],
    );
}

#[test]
fn a_unit_that_runs_but_is_not_ready_tells_its_last_check() {
    let mut story = Story::default();
    story.tell(EventKind::RunStarted, "", 0, &[]);
    story.start("api", 1);
    let failed = [("probe", json!("ready")), ("failures", json!(3)), ("answer", json!("503 Service Unavailable"))];
    story.tell(EventKind::UnitProbeFailed, "api", 1, &failed);
    story.check(
        &unit("api", UnitState::Running),
        &[
            "api runs but is not ready (incarnation 1) since 10:20:31",
            "started with the run run-1 at 10:20:01",
            "its last check at 10:20:04 said: 503 Service Unavailable",
        ],
    );
}

#[test]
fn a_unit_restarted_with_another_explains_the_other_one() {
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "postgres", 1, &[("signal", json!(11)), ("core", json!(true))]);
    story.tell(EventKind::UnitRestarting, "api", 1, &[("caused_by", json!("postgres")), ("restart", json!(1))]);
    story.start("api", 2);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    story.check(
        &view,
        &[
            "api is ready (incarnation 2) since 10:20:31",
            "restarted automatically together with postgres, which it needs or shares a group with; \
             first restart is immediate (restart 1)",
            "postgres is down (it was ended by SIGSEGV (core dumped)) since 10:20:03",
        ],
    );
}

#[test]
fn an_adopted_unit_says_that_its_process_ran_on() {
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitAdopted, "api", 1, &[("pid", json!(40))]);
    story.check(
        &unit("api", UnitState::Ready),
        &["api is ready (incarnation 1) since 10:20:31", "taken over from a daemon that had gone; its process runs on"],
    );
}

#[test]
fn a_unit_that_was_taken_over_still_tells_how_its_life_began() {
    let mut story = Story::default();
    story.start("api", 1);
    story.tell(EventKind::UnitExited, "api", 1, &[("signal", json!(9))]);
    story.restart("api", 1, 1, 0);
    story.start("api", 2);
    story.because(EventKind::UnitAdopted, "api", 2, &Cause::Adopted);
    let view = UnitView { incarnation: 2, ..unit("api", UnitState::Ready) };
    story.check(
        &view,
        &[
            "api is ready (incarnation 2) since 10:20:31",
            "taken over from a daemon that had gone; its process runs on",
            "restarted automatically after it was ended by SIGKILL; first restart is immediate (restart 1 of 5 in 30 s)",
        ],
    );
}

#[test]
fn every_state_has_an_answer_even_without_a_journal() {
    let states = [
        UnitState::Pending,
        UnitState::Starting,
        UnitState::Running,
        UnitState::Ready,
        UnitState::Stopping,
        UnitState::Backoff,
        UnitState::Stopped,
        UnitState::Done,
        UnitState::Failed,
    ];
    let answers: std::collections::BTreeSet<_> =
        states.map(|state| why(&[], &unit("api", state)).lines[0].clone()).into();
    assert_eq!(answers.len(), states.len());
}
