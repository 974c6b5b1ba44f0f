//! Restarts: OTP's restart types, the intensity window, backoff, and giving up.

use super::script::{Script, millis, seconds};
use crate::engine::{Cause, ChildState, Limit, Options, What};
use crate::reason::ExitReason;
use crate::spec::{Backoff, ChildSpec, Escalate, Incarnation, Intensity};

/// As in OTP: no delay, and a window.
fn otp(restarts: u32, period_seconds: u64) -> impl Fn(&mut ChildSpec) {
    move |spec| {
        spec.backoff = Backoff::None;
        spec.intensity = Intensity { restarts, period: seconds(period_seconds) };
    }
}

fn state_after(child: &str, reason: ExitReason) -> String {
    let mut s = Script::new(child).up();
    s.ends("a", reason);
    s.states()
}

#[test]
fn permanent_normal_a_permanent_child_is_restarted_after_a_clean_end() {
    assert_eq!(state_after("a", ExitReason::Code(0)), "a:running");
    assert_eq!(state_after("a", ExitReason::Normal), "a:running");
}

#[test]
fn permanent_abnormal_a_permanent_child_is_restarted_after_a_crash() {
    assert_eq!(state_after("a", ExitReason::Code(1)), "a:running");
    assert_eq!(state_after("a", ExitReason::Unknown("lost".to_owned())), "a:running");
}

#[test]
fn transient_normal_a_transient_child_is_done_after_a_clean_end() {
    assert_eq!(state_after("~a", ExitReason::Code(0)), "a:done");
    assert_eq!(state_after("~a", ExitReason::Normal), "a:done");
}

#[test]
fn transient_abnormal_a_transient_child_is_restarted_after_a_crash() {
    assert_eq!(state_after("~a", ExitReason::Code(1)), "a:running");
    assert_eq!(state_after("~a", ExitReason::Error("panic".to_owned())), "a:running");
}

#[test]
fn e4_a_transient_child_that_is_killed_is_restarted() {
    assert_eq!(state_after("~a", ExitReason::Signal { number: 9, core: false }), "a:running");
    assert_eq!(state_after("~a", ExitReason::Killed), "a:running");
}

#[test]
fn temporary_normal_and_temporary_abnormal_a_temporary_child_is_never_restarted() {
    assert_eq!(state_after("?a", ExitReason::Code(0)), "a:done");
    assert_eq!(state_after("?a", ExitReason::Code(1)), "a:failed");
    assert_eq!(state_after("?a", ExitReason::Killed), "a:failed");
}

#[test]
fn transient_shutdown_a_child_that_was_stopped_can_be_started_again() {
    let mut s = Script::new("~a").up();
    s.stop("a");
    assert_eq!(s.state("a"), "stopped");
    s.start("a");
    assert_eq!(s.state("a"), "running");
}

#[test]
fn one_for_one_only_the_crashed_child_is_replaced() {
    let mut s = Script::new("a b c<b").up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "spawn b#2");
}

#[test]
fn one_for_one_the_third_crash_with_an_intensity_of_two_is_one_too_many() {
    let mut s = Script::with("a b", otp(2, 3600)).up();
    s.exits("a", 1);
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2, spawn a#3");
    s.exits("a", 1);
    assert_eq!(s.states(), "a:failed b:running", "isolated: the rest runs on");
    assert_eq!(s.why("a"), "more than 2 restarts within 3600s");
    assert_eq!(s.child("a").restarts, 2);
    let limit = Limit::Intensity { restarts: 2, period: seconds(3600) };
    let last = Box::new(Cause::Exit(ExitReason::Code(1)));
    assert!(s.reports("a").contains(&What::GaveUp { limit, last }));
}

#[test]
fn one_for_one_escalation_with_escalate_project_the_rest_is_stopped_in_order() {
    let mut s = Script::with("db api<db a", |spec| {
        otp(0, 5)(spec);
        spec.escalate = Escalate::Project;
    })
    .deaf("api")
    .up();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop api#1");
    s.exits("api", 0);
    assert_eq!(s.calls(), "stop db#1, idle");
    assert_eq!(s.states(), "db:stopped api:stopped a:failed");
    assert_eq!(s.why("db"), "a was given up, which stops everything");
}

#[test]
fn multiple_restarts_crashes_further_apart_than_the_period_never_give_up() {
    let mut s = Script::with("a", otp(1, 1)).up();
    for _ in 0..20 {
        s.exits("a", 1);
        s.pass(millis(2100));
    }
    assert_eq!(s.state("a"), "running");
    assert_eq!(s.child("a").restarts, 20);
}

#[test]
fn h01_a_crash_exactly_one_period_after_the_first_still_counts() {
    let mut s = Script::with("a", otp(1, 5)).up();
    s.exits("a", 1);
    s.pass(seconds(5));
    s.exits("a", 1);
    assert_eq!(s.state("a"), "failed");
}

#[test]
fn h01_intensity_zero_gives_up_at_the_first_crash() {
    let mut s = Script::with("a", otp(0, 5)).up();
    s.exits("a", 1);
    assert_eq!(s.state("a"), "failed");
}

#[test]
fn h01_every_child_outside_a_group_has_a_window_of_its_own() {
    let mut s = Script::with("a b", otp(1, 5)).up();
    s.exits("a", 1);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:running b:running");
}

#[test]
fn h01_every_failed_start_counts_again() {
    let mut s = Script::with("a", otp(2, 5)).slow_to_start("a");
    s.start("");
    s.spawn_fails("a", true);
    s.pass(seconds(0));
    s.spawn_fails("a", true);
    s.pass(seconds(0));
    assert_eq!(s.state("a"), "starting");
    s.spawn_fails("a", true);
    assert_eq!(s.state("a"), "failed");
}

#[test]
fn h01_a_restart_by_hand_is_not_counted_and_resets_the_count() {
    let mut s = Script::with("a", otp(1, 3600)).up();
    for _ in 0..10 {
        s.exits("a", 1);
        s.restart("a");
    }
    assert_eq!(s.state("a"), "running");
    assert_eq!(s.child("a").restarts, 10, "the automatic ones");
}

#[test]
fn a_failed_child_that_is_started_by_hand_has_its_whole_budget_again() {
    let mut s = Script::with("a", otp(1, 3600)).up();
    s.exits("a", 1);
    s.exits("a", 1);
    assert_eq!(s.state("a"), "failed");
    s.start("a");
    s.exits("a", 1);
    assert_eq!(s.state("a"), "running");
}

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait_twice_as_long_each() {
    let mut s = Script::with("a", |spec| spec.intensity.restarts = 100).up();
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2");
    for (failures, full) in [(2, 200), (3, 400), (4, 800)] {
        s.exits("a", 1);
        let ChildState::Backoff { until, failures: shown } = s.child("a").state else { panic!("{}", s.states()) };
        assert_eq!(shown, failures);
        let delay = until - s.now;
        assert!(millis(full) / 2 <= delay && delay <= millis(full), "failure {failures}: {delay:?}");
        s.pass(delay - millis(1));
        assert_eq!(s.state("a"), "backoff");
        s.pass(millis(1));
        assert_eq!(s.state("a"), "running");
    }
}

#[test]
fn e7_the_delay_is_reset_by_a_life_that_stayed_ready_long_enough_and_by_no_other() {
    let mut s = Script::with("a!", |spec| spec.intensity.restarts = 100).up();
    s.exits("a", 1);
    s.pass(seconds(10) - millis(1));
    s.exits("a", 1);
    assert_eq!(s.state("a"), "backoff", "9.999 s are not enough");
    s.pass(seconds(1));
    s.pass(seconds(10));
    s.calls();
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#4", "at once");
}

#[test]
fn e7_time_that_is_not_spent_ready_does_not_make_a_life_stable() {
    let mut s = Script::new("a!").slow_to_be_ready("a").up();
    s.exits("a", 1);
    s.pass(seconds(30));
    s.ready("a");
    s.pass(seconds(6));
    s.unready("a");
    s.pass(seconds(6));
    s.ready("a");
    s.pass(seconds(6));
    s.exits("a", 1);
    assert_eq!(s.state("a"), "backoff", "never ten seconds in one piece");
}

#[test]
fn e6_a_crash_loop_whose_delays_outgrow_the_window_is_given_up_after_so_many_unstable_lives() {
    let mut s = Script::with("a", |spec| {
        spec.backoff = Backoff::Exponential { base: seconds(60), max: seconds(60) };
        spec.intensity = Intensity { restarts: 2, period: seconds(5) };
    })
    .up();
    for life in 1..=8 {
        assert_eq!(s.state("a"), "running", "life {life}");
        s.exits("a", 1);
        s.wait_out_backoff("a");
    }
    assert_eq!(s.state("a"), "failed");
    assert_eq!(s.why("a"), "8 lives in a row never became stable");
}

#[test]
fn without_backoff_a_child_may_be_unstable_for_ever() {
    let mut s = Script::with("a", otp(1, 1)).up();
    for _ in 0..50 {
        s.exits("a", 1);
        s.pass(seconds(2));
    }
    assert_eq!(s.state("a"), "running");
}

#[test]
fn a_start_by_hand_skips_the_delay() {
    let mut s = Script::new("a").up();
    s.exits("a", 1);
    s.exits("a", 1);
    assert_eq!(s.state("a"), "backoff");
    s.start("a");
    assert_eq!((s.state("a"), s.timers().count()), ("running", 1));
    s.exits("a", 1);
    assert_eq!(s.state("a"), "running", "and the next restart is a first one again");
}

#[test]
fn e24_equal_seeds_give_equal_delays() {
    let delays = |seed| {
        let mut specs = super::script::specs("a");
        specs[0].intensity.restarts = 100;
        let mut s = Script::of(specs, Options { seed, ..Options::default() });
        s.start("");
        let mut delays = Vec::new();
        for _ in 0..7 {
            s.exits("a", 1);
            delays.push(s.wait_out_backoff("a"));
        }
        delays
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
}

#[test]
fn e9_a_life_that_stops_answering_is_stopped_first_and_then_counted_as_a_crash() {
    let mut s = Script::with("a!", otp(1, 3600)).deaf("a").up();
    s.hangs("a");
    assert_eq!((s.calls().as_str(), s.state("a")), ("stop a#1", "stopping"));
    assert_eq!(s.why("a"), "stopped answering: no answer");
    s.pass(seconds(5));
    assert_eq!(s.calls(), "kill a#1, spawn a#2");
    s.hangs("a");
    s.exits("a", 0);
    assert_eq!(s.state("a"), "failed", "also when it ends cleanly then");
}

#[test]
fn a_child_that_is_not_ready_any_more_is_not_restarted() {
    let mut s = Script::new("a!").up();
    s.unready("a");
    s.pass(seconds(600));
    assert_eq!((s.calls().as_str(), s.state("a")), ("", "running"));
    s.ready("a");
    assert_eq!(s.state("a"), "ready");
}

#[test]
fn a_restart_by_hand_starts_what_is_stopped_done_or_failed() {
    let mut s = Script::new("a ?b ?c").up();
    s.stop("a");
    s.exits("b", 0);
    s.exits("c", 1);
    s.restart("a b c");
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]
fn a_restart_of_everything_leaves_alone_what_is_done_or_stopped_by_hand() {
    let mut s = Script::new("?job db api<db off").up();
    s.exits("job", 0);
    s.stop("off");
    s.calls();
    s.restart("");
    assert_eq!(s.calls(), "stop api#1, stop db#1, spawn db#2, spawn api#2");
    assert_eq!(s.states(), "job:done db:running api:running off:stopped");
}

#[test]
fn a_child_that_ends_before_its_start_was_told_is_judged_as_any_other() {
    let mut s = Script::new("a").slow_to_start("a");
    s.start("");
    s.exits("a", 1);
    assert_eq!(s.child("a").incarnation, Some(Incarnation(2)));
}
