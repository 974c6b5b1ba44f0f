//! Restart types and reasons: who is restarted, whose spec stays, and whose id is free again.

use super::super::script::{Script, id};
use super::{ALL_STRATEGIES, dynamic};
use crate::engine::AdminError;
use crate::reason::ExitReason;
use crate::spec::Strategy;

/// OTP's `normal` and `shutdown`: an end that nobody has to answer.
fn clean() -> [ExitReason; 2] {
    [ExitReason::Normal, ExitReason::Code(0)]
}

fn abnormal() -> [ExitReason; 5] {
    [
        ExitReason::Code(1),
        ExitReason::Killed,
        ExitReason::Signal { number: 15, core: false },
        ExitReason::Error("bad".to_owned()),
        ExitReason::Unknown("lost".to_owned()),
    ]
}

/// A world in which child `c` of this kind has ended by itself, beside another one.
fn after(kind: &str, strategy: Strategy, reason: ExitReason) -> Script {
    let mut s = Script::otp(&format!("x {kind}c"), strategy, 1).up();
    s.ends("c", reason);
    s
}

fn check(kind: &str, reasons: &[ExitReason], states: &str, counts: [usize; 4], calls: &str) {
    for strategy in ALL_STRATEGIES {
        for reason in reasons {
            let mut s = after(kind, strategy, reason.clone());
            assert_eq!(s.otp_states(), states, "{strategy:?} {reason:?}");
            assert_eq!(s.counts(), counts, "{strategy:?} {reason:?}");
            let together = if strategy == Strategy::OneForAll && !calls.is_empty() {
                "stop x#1, spawn x#2, spawn c#2"
            } else {
                calls
            };
            assert_eq!(s.calls(), together, "{strategy:?} {reason:?}");
            assert_eq!(s.engine.ending(), None, "{strategy:?} {reason:?}");
        }
    }
}

#[test]
fn permanent_normal_and_permanent_shutdown_a_permanent_child_is_restarted_after_a_clean_end() {
    check("", &clean(), "x:running c:running", [2, 2, 0, 2], "spawn c#2");
}

#[test]
fn permanent_normal_a_clean_end_uses_up_the_budget_like_a_crash() {
    let mut s = after("", Strategy::OneForOne, ExitReason::Normal);
    s.ends("c", ExitReason::Normal);
    assert!(s.engine.ending().is_some());
}

#[test]
fn permanent_abnormal_a_permanent_child_is_restarted_after_a_crash() {
    check("", &abnormal(), "x:running c:running", [2, 2, 0, 2], "spawn c#2");
}

#[test]
fn transient_normal_a_transient_child_that_ended_cleanly_stays_listed_and_down() {
    check("~", &clean(), "x:running c:undefined", [2, 1, 0, 2], "");
}

#[test]
fn transient_shutdown_a_transient_child_that_ended_cleanly_can_be_started_or_deleted_by_call() {
    for reason in clean() {
        let mut s = after("~", Strategy::OneForAll, reason.clone());
        assert_eq!(s.add("~c"), Err(AdminError::AlreadyPresent(id("c"))));
        s.try_once("c").unwrap();
        assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("spawn c#2", "x:running c:running"));
        s.ends("c", reason);
        s.remove("c").unwrap();
        assert_eq!(s.otp_states(), "x:running");
    }
}

#[test]
fn transient_abnormal_a_transient_child_is_restarted_after_a_crash() {
    check("~", &abnormal(), "x:running c:running", [2, 2, 0, 2], "spawn c#2");
}

#[test]
fn temporary_normal_and_temporary_shutdown_a_temporary_child_that_ended_cleanly_is_forgotten() {
    check("?", &clean(), "x:running", [1, 1, 0, 1], "");
}

#[test]
fn temporary_abnormal_a_temporary_child_that_crashed_is_forgotten_and_restarts_nobody() {
    check("?", &abnormal(), "x:running", [1, 1, 0, 1], "");
}

#[test]
fn temporary_abnormal_its_id_is_free_again_and_its_crashes_use_up_no_budget() {
    for strategy in ALL_STRATEGIES {
        let mut s = Script::otp("x", strategy, 0).up();
        for life in 1..=5 {
            s.add("?c").unwrap();
            assert_eq!(s.life("c").1.0, life, "no number of a life is used twice");
            s.exits("c", 1);
        }
        assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("x:running", None));
    }
}

#[test]
fn transient_normal_in_a_dynamic_supervisor_an_instance_that_ended_cleanly_is_forgotten() {
    for kind in ["~", "?"] {
        let mut s = dynamic(&format!("x {kind}c"), 1).up();
        s.ends("c", ExitReason::Normal);
        assert_eq!((s.otp_states().as_str(), s.calls().as_str()), ("x:running", ""));
    }
}

#[test]
fn temporary_bystander_a_temporary_child_that_its_siblings_crash_takes_down_is_forgotten() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let mut s = Script::otp("a ?b c", strategy, 1).up();
        s.exits("a", 1);
        assert_eq!(s.calls(), "stop c#1, stop b#1, spawn a#2, spawn c#2", "{strategy:?}");
        assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running c:running", None));
        s.add("?b").unwrap();
        assert_eq!(s.otp_states(), "a:running c:running b:running");
    }
}

#[test]
fn temporary_bystander_one_that_dies_of_its_own_while_it_is_taken_down_is_forgotten_too() {
    let mut s = Script::otp("a ?b c", Strategy::OneForAll, 1).deaf("b c").up();
    s.exits("a", 1);
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1");
    s.exits("c", 0);
    assert_eq!(s.calls(), "spawn a#2, spawn c#2");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running c:running", None));
}
