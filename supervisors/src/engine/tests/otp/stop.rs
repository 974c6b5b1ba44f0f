//! The end of a supervisor: order, grace, kill, and what children do meanwhile.

use std::time::Duration;

use super::super::script::{Script, millis, seconds};
use super::ALL_STRATEGIES;
use crate::engine::What;
use crate::reason::ExitReason;
use crate::spec::{ChildType, Flags, Shutdown, Strategy};

const SECOND: Duration = Duration::from_secs(1);

/// Ten instances that end so, all up.
fn ten(shutdown: Shutdown) -> Script {
    let names = (0..10).map(|n| format!("?c{n}")).collect::<Vec<_>>().join(" ");
    Script::flagged_with(&names, Flags::dynamic(), |spec| spec.shutdown = shutdown).up()
}

fn each(call: &str) -> String {
    (0..10).rev().map(|n| format!("{call} c{n}#1")).collect::<Vec<_>>().join(", ")
}

#[test]
fn sup_stop_infinity_a_worker_and_a_supervisor_are_waited_for_one_after_the_other() {
    let mut s = Script::flagged_with("a b", Flags::otp(Strategy::OneForOne), |spec| {
        spec.shutdown = Shutdown::Infinity;
        spec.child_type = if spec.id.as_str() == "a" { ChildType::Supervisor } else { ChildType::Worker };
    })
    .deaf("a b")
    .up();
    s.stop("");
    s.pass(seconds(100_000));
    assert_eq!(s.calls(), "stop b#1");
    s.ends("b", ExitReason::Normal);
    s.pass(seconds(100_000));
    assert_eq!(s.calls(), "stop a#1");
    s.ends("a", ExitReason::Normal);
    assert_eq!(s.calls(), "idle");
}

#[test]
fn sup_stop_timeout_a_child_that_does_not_hear_is_killed_and_only_then_the_one_before_it_is_asked() {
    let mut s = Script::flagged_with("a b c", Flags::otp(Strategy::OneForOne), |spec| {
        spec.shutdown = Shutdown::Timeout(SECOND);
    })
    .deaf("b")
    .up();
    s.stop("");
    s.pass(SECOND - millis(1));
    assert_eq!(s.calls(), "stop c#1, stop b#1");
    s.pass(millis(1));
    assert_eq!(s.calls(), "kill b#1, stop a#1, idle");
    assert!(s.reports("b").contains(&What::Killing));
}

#[test]
fn sup_stop_timeout_a_killed_life_is_waited_for_without_limit() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 1).deaf("b").up();
    let (id, incarnation) = s.life("b");
    s.stop("");
    let (due, at) = s.next_timer().unwrap();
    // The kill is not carried out: nothing may follow from having asked for it.
    let effects = s.engine.step(at, crate::engine::Event::Timer(due));
    let is_kill = |effect: &crate::engine::Effect| matches!(effect, crate::engine::Effect::Kill { id: who, incarnation: life, .. } if *who == id && *life == incarnation);
    assert!(effects.iter().any(is_kill));
    assert_eq!(s.engine.step(at + seconds(100_000), crate::engine::Event::Stop { ids: vec![] }), []);
    assert_eq!(s.states(), "a:running b:stopping");
}

#[test]
fn sup_stop_timeout_dynamic_all_are_asked_at_once_and_share_one_time() {
    let mut s = ten(Shutdown::Timeout(SECOND)).deaf("c0 c5 c9");
    s.stop("");
    assert_eq!(s.calls(), each("stop"));
    s.pass(SECOND - millis(1));
    assert_eq!(s.calls(), "");
    s.pass(millis(1));
    assert_eq!(s.calls(), "kill c9#1, kill c5#1, kill c0#1, idle");
    assert_eq!(s.counts(), [0, 0, 0, 0]);
}

#[test]
fn sup_stop_brutal_kill_a_child_is_killed_without_being_asked_and_the_other_is_asked() {
    let mut s = Script::flagged_with("a b", Flags::otp(Strategy::OneForOne), |spec| {
        if spec.id.as_str() == "b" {
            spec.shutdown = Shutdown::BrutalKill;
        }
    })
    .deaf("b")
    .up();
    s.stop("");
    assert_eq!(s.calls(), "kill b#1, stop a#1, idle");
}

#[test]
fn sup_stop_brutal_kill_dynamic_ten_are_killed_at_once() {
    let mut s = ten(Shutdown::BrutalKill);
    s.stop("");
    assert_eq!(s.calls(), format!("{}, idle", each("kill")));
    assert_eq!(s.counts(), [0, 0, 0, 0]);
}

#[test]
fn sup_stop_race_children_that_end_by_themselves_in_a_stop_are_not_restarted_whatever_they_are() {
    let reasons = [
        ExitReason::Normal,
        ExitReason::Killed,
        ExitReason::Code(1),
        ExitReason::Error("bad".to_owned()),
        ExitReason::Signal { number: 11, core: true },
    ];
    for strategy in ALL_STRATEGIES {
        for reason in &reasons {
            let mut s = Script::otp("a ~b ?c d", strategy, 10).deaf("a b c d").up();
            s.stop("");
            assert_eq!(s.calls(), "stop d#1");
            for name in ["a", "b", "c"] {
                s.ends(name, reason.clone());
            }
            assert_eq!(s.calls(), "");
            s.exits("d", 0);
            assert_eq!(s.calls(), "idle", "{strategy:?} {reason:?}");
            assert_eq!(s.otp_states(), "a:undefined b:undefined d:undefined");
            assert_eq!(s.engine.ending(), None);
        }
    }
}

#[test]
fn sup_stop_race_the_middle_child_that_ended_is_passed_over_and_the_order_holds() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 10).deaf("a b c").up();
    s.stop("");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1");
    s.exits("c", 0);
    assert_eq!(s.calls(), "stop a#1");
    s.exits("a", 0);
    assert_eq!(s.calls(), "idle");
}

#[test]
fn sup_stop_non_shutdown_exit_dynamic_odd_reasons_hold_nobody_up() {
    let mut s = ten(Shutdown::Infinity).deaf("c0 c1 c2");
    s.stop("");
    assert_eq!(s.calls(), each("stop"));
    s.ends("c1", ExitReason::Error("not what was asked for".to_owned()));
    s.ends("c0", ExitReason::Unknown("lost".to_owned()));
    assert_eq!(s.calls(), "");
    s.exits("c2", 77);
    assert_eq!(s.calls(), "idle");
    assert_eq!(s.counts(), [0, 0, 0, 0]);
}
