//! Significant children, and supervisors that end with them.

use super::super::script::{Script, id, otp_specs, seconds};
use super::ALL_STRATEGIES;
use crate::engine::{AdminError, Ending, Engine, Event, SpecError};
use crate::reason::ExitReason;
use crate::spec::{AutoShutdown, ChildType, Flags, Intensity, Strategy};

use AutoShutdown::{AllSignificant, AnySignificant, Never};

fn flags(strategy: Strategy, auto_shutdown: AutoShutdown) -> Flags {
    let intensity = Some(Intensity { restarts: 10, period: seconds(5) });
    Flags { auto_shutdown, intensity, ..Flags::otp(strategy) }
}

fn world(line: &str, auto_shutdown: AutoShutdown) -> Script {
    Script::flagged(line, flags(Strategy::OneForOne, auto_shutdown)).up()
}

fn reasons() -> [ExitReason; 4] {
    [ExitReason::Normal, ExitReason::Killed, ExitReason::Code(1), ExitReason::Error("bad".to_owned())]
}

fn ended_by(s: &Script, name: &str) -> bool {
    s.engine.ending() == Some((&id(name), &Ending::AutoShutdown))
}

#[test]
fn nonsignificant_temporary_no_end_of_it_ends_the_supervisor() {
    for auto_shutdown in [Never, AnySignificant, AllSignificant] {
        for reason in reasons() {
            let mut s = world("?a b", auto_shutdown);
            s.ends("a", reason.clone());
            assert_eq!(s.otp_states(), "b:running", "{auto_shutdown:?} {reason:?}");
            assert_eq!((s.calls().as_str(), s.engine.ending()), ("", None));
        }
        let mut s = world("?a", auto_shutdown);
        s.stop("a");
        assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("", None));
    }
}

#[test]
fn nonsignificant_transient_no_end_of_it_ends_the_supervisor_and_crashes_restart_it() {
    for auto_shutdown in [Never, AnySignificant, AllSignificant] {
        for reason in reasons() {
            let mut s = world("~a b", auto_shutdown);
            s.ends("a", reason.clone());
            let state = if reason.is_normal() { "undefined" } else { "running" };
            assert_eq!(s.otp_states(), format!("a:{state} b:running"), "{auto_shutdown:?} {reason:?}");
            assert_eq!(s.engine.ending(), None);
        }
    }
}

#[test]
fn significant_temporary_under_any_each_end_of_its_own_ends_all_in_reverse_order() {
    for reason in reasons() {
        let mut s = world("a ?b+ ?c+ d", AnySignificant);
        s.ends("b", reason);
        assert_eq!(s.calls(), "stop d#1, stop c#1, stop a#1, idle");
        assert!(ended_by(&s, "b"));
        assert_eq!(s.otp_states(), "a:undefined d:undefined");
    }
}

#[test]
fn significant_temporary_under_any_a_termination_by_call_ends_nobody_else() {
    let mut s = world("a ?b+", AnySignificant);
    s.stop("b");
    assert_eq!(s.calls(), "stop b#1");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running", None));
}

#[test]
fn significant_temporary_under_all_only_the_end_of_the_last_one_ends_the_supervisor() {
    for reason in reasons() {
        let mut s = world("a ?b+ ?c+ ?d+ ?e", AllSignificant);
        s.ends("c", reason.clone());
        s.ends("e", reason.clone());
        s.stop("b");
        assert_eq!((s.calls().as_str(), s.engine.ending()), ("stop b#1", None));
        s.ends("d", reason);
        assert!(ended_by(&s, "d"));
        assert_eq!(s.calls(), "stop a#1, idle");
    }
}

#[test]
fn significant_temporary_under_all_a_termination_of_the_last_one_by_call_ends_nobody_else() {
    let mut s = world("a ?b+ ?c+", AllSignificant);
    s.exits("b", 0);
    s.stop("c");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running", None));
    s.add("?d+").unwrap();
    s.exits("d", 0);
    assert!(ended_by(&s, "d"));
}

#[test]
fn significant_transient_under_any_only_a_clean_end_ends_the_supervisor() {
    for reason in reasons() {
        let mut s = world("a ~b+ c", AnySignificant);
        s.ends("b", reason.clone());
        if reason.is_normal() {
            assert_eq!(s.calls(), "stop c#1, stop a#1, idle");
            assert!(ended_by(&s, "b"));
        } else {
            assert_eq!((s.calls().as_str(), s.engine.ending()), ("spawn b#2", None), "{reason:?}");
        }
    }
    let mut s = world("a ~b+", AnySignificant);
    s.stop("b");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:undefined", None));
}

#[test]
fn significant_transient_under_all_only_the_last_clean_end_ends_the_supervisor() {
    let mut s = world("a ~b+ ~c+ ~d+", AllSignificant);
    s.exits("b", 0);
    s.stop("c");
    s.exits("d", 1);
    assert_eq!(s.otp_states(), "a:running b:undefined c:undefined d:running");
    assert_eq!(s.engine.ending(), None);
    s.exits("d", 0);
    assert!(ended_by(&s, "d"));
}

#[test]
fn significant_transient_one_that_is_being_restarted_is_not_gone() {
    let mut s = world("~a+ ~b+", AllSignificant).slow_to_start("b");
    s.exits("b", 1);
    s.spawn_fails("b", true);
    s.exits("a", 0);
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:undefined b:restarting", None));
    s.stop("b");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:undefined b:undefined", None));
}

#[test]
fn significant_transient_one_that_waits_for_its_start_is_not_gone() {
    let mut s = Script::flagged("~a+ b ~c+", flags(Strategy::OneForOne, AllSignificant)).slow_to_start("b");
    s.start("");
    s.exits("a", 0);
    assert_eq!(s.engine.ending(), None, "c is about to be started");
    s.spawned("b");
    assert_eq!(s.otp_states(), "a:undefined b:running c:running");
    s.exits("c", 0);
    assert!(ended_by(&s, "c"));
}

#[test]
fn significant_transient_one_that_waits_for_the_end_of_its_companions_is_not_gone() {
    let mut s = Script::flagged("~a+ ~b+ c", flags(Strategy::RestForOne, AllSignificant)).deaf("c").up();
    s.exits("b", 1);
    assert_eq!(s.otp_states(), "a:running b:restarting c:running");
    s.exits("a", 0);
    assert_eq!(s.engine.ending(), None, "b comes up again");
    s.exits("c", 0);
    assert_eq!(s.otp_states(), "a:undefined b:running c:running");
}

#[test]
fn significant_transient_one_behind_a_failing_restart_does_not_count() {
    let mut s = Script::flagged("~a+ b ~c+", flags(Strategy::RestForOne, AllSignificant)).up().slow_to_start("b");
    s.exits("b", 1);
    s.spawn_fails("b", true);
    assert_eq!(s.otp_states(), "a:running b:restarting c:undefined");
    s.exits("a", 0);
    assert!(ended_by(&s, "a"), "c is down, and nobody knows whether it comes up again");
}

#[test]
fn significant_transient_a_restart_that_finds_nothing_to_run_ends_nobody_else() {
    for auto_shutdown in [AnySignificant, AllSignificant] {
        let mut s = world("~a+ b", auto_shutdown).slow_to_start("a");
        s.exits("a", 1);
        s.ignores("a");
        assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:undefined b:running", None));
    }
}

#[test]
fn significant_simple_a_dynamic_supervisor_does_not_end_by_itself() {
    for auto_shutdown in [AnySignificant, AllSignificant] {
        let flags = Flags { auto_shutdown, ..Flags::dynamic() };
        assert_eq!(Engine::check_with(&otp_specs(""), &[], &flags), Err(SpecError::BadAutoShutdown));
    }
    let mut s = Script::flagged("", Flags::dynamic()).up();
    assert_eq!(s.add("?a+"), Err(AdminError::Spec(SpecError::BadSignificant(id("a")))));
}

#[test]
fn significant_bystander_one_that_goes_down_with_a_sibling_ends_nobody_else() {
    for strategy in ALL_STRATEGIES {
        for auto_shutdown in [AnySignificant, AllSignificant] {
            let mut s = Script::flagged("a ~b+ ?c+", flags(strategy, auto_shutdown)).up();
            s.exits("a", 1);
            let states = match strategy {
                Strategy::OneForOne => "a:running b:running c:running",
                Strategy::OneForAll | Strategy::RestForOne => "a:running b:running",
            };
            assert_eq!(s.otp_states(), states, "{strategy:?} {auto_shutdown:?}");
            assert_eq!(s.engine.ending(), None, "{strategy:?} {auto_shutdown:?}");
        }
    }
}

#[test]
fn significant_bystander_a_clean_end_on_its_way_down_ends_nobody_else() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        for auto_shutdown in [AnySignificant, AllSignificant] {
            let mut s = Script::flagged("a ~b+ ?c+", flags(strategy, auto_shutdown)).deaf("b c").up();
            s.exits("a", 1);
            s.ends("c", ExitReason::Normal);
            s.ends("b", ExitReason::Normal);
            assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:running", None));
        }
    }
}

/// What becomes of an outer supervisor when the one inside it has ended with its significant child.
fn escalation(inner: &str) -> Script {
    let mut below = world("~w+", AnySignificant);
    below.exits("w", 0);
    assert!(ended_by(&below, "w"));
    let mut s = Script::flagged_with(&format!("a {inner}"), flags(Strategy::OneForOne, AnySignificant), |spec| {
        if spec.id.as_str() == "in" {
            spec.child_type = ChildType::Supervisor;
        }
    })
    .up();
    s.ends("in", ExitReason::Normal);
    s
}

#[test]
fn significant_escalation_an_inner_supervisor_that_ends_takes_the_outer_along_only_if_it_is_significant_itself() {
    for inner in ["~in+", "?in+"] {
        let mut s = escalation(inner);
        assert!(ended_by(&s, "in"), "{inner}");
        assert_eq!(s.calls(), "stop a#1, idle", "{inner}");
    }
    for inner in ["~in", "?in"] {
        assert_eq!(escalation(inner).engine.ending(), None, "{inner}");
    }
    let mut s = escalation("in");
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("spawn in#2", None), "a permanent one is restarted");
}

// --- upgrades ---

/// Two transient children, `significant` or not, under a mode that then changes to another.
fn upgraded(significant: bool, from: AutoShutdown, to: AutoShutdown) -> Script {
    let line = if significant { "a ~b+ ~c+" } else { "a ~b ~c" };
    let mut s = world(line, from);
    s.step(Event::Reflag { flags: flags(Strategy::OneForOne, to) });
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("", "a:running b:running c:running"));
    s
}

/// Makes both significant, or neither; their lives go on.
fn mark(s: &mut Script, line: &str) {
    s.replace(otp_specs(line));
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("", "a:running b:running c:running"));
}

#[test]
fn significant_upgrade_never_any_the_new_mode_holds_for_children_that_run() {
    let mut s = upgraded(false, Never, AnySignificant);
    mark(&mut s, "a ~b+ ~c+");
    s.exits("b", 0);
    assert!(ended_by(&s, "b"));
    assert_eq!(s.calls(), "stop c#1, stop a#1, idle");
}

#[test]
fn significant_upgrade_any_never_nobody_ends_the_supervisor_any_more() {
    let mut s = world("a ~b+ ~c+", AnySignificant);
    mark(&mut s, "a ~b ~c");
    s.step(Event::Reflag { flags: flags(Strategy::OneForOne, Never) });
    s.exits("b", 0);
    s.exits("c", 0);
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:undefined c:undefined", None));
    assert_eq!(s.add("~d+"), Err(AdminError::Spec(SpecError::BadSignificant(id("d")))));
}

#[test]
fn significant_upgrade_any_never_is_refused_while_there_are_significant_children() {
    for from in [AnySignificant, AllSignificant] {
        let mut s = world("a ~b+ ~c+", from);
        s.step(Event::Reflag { flags: flags(Strategy::OneForAll, Never) });
        s.exits("a", 1);
        assert_eq!(s.calls(), "spawn a#2", "nothing of the refused flags holds");
        s.exits("b", 0);
        if from == AllSignificant {
            s.exits("c", 0);
        }
        assert!(s.engine.ending().is_some());
    }
}

#[test]
fn significant_upgrade_never_all_the_new_mode_holds_for_children_that_run() {
    let mut s = upgraded(false, Never, AllSignificant);
    mark(&mut s, "a ~b+ ~c+");
    s.exits("b", 0);
    assert_eq!(s.engine.ending(), None);
    s.exits("c", 0);
    assert!(ended_by(&s, "c"));
}

#[test]
fn significant_upgrade_all_never_nobody_ends_the_supervisor_any_more() {
    let mut s = world("a ~b+ ~c+", AllSignificant);
    mark(&mut s, "a ~b ~c");
    s.step(Event::Reflag { flags: flags(Strategy::OneForOne, Never) });
    s.exits("b", 0);
    s.exits("c", 0);
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:undefined c:undefined", None));
}

#[test]
fn significant_upgrade_any_all_the_first_end_is_not_enough_any_more() {
    let mut s = upgraded(true, AnySignificant, AllSignificant);
    s.exits("b", 0);
    assert_eq!(s.engine.ending(), None);
    s.exits("c", 0);
    assert!(ended_by(&s, "c"));
}

#[test]
fn significant_upgrade_all_any_the_first_end_is_enough() {
    let mut s = upgraded(true, AllSignificant, AnySignificant);
    s.exits("b", 0);
    assert!(ended_by(&s, "b"));
}

#[test]
fn significant_upgrade_child_one_child_changes_and_keeps_its_life() {
    let mut s = world("a ~b ~c", AnySignificant);
    mark(&mut s, "a ~b+ ~c");
    s.exits("c", 0);
    assert_eq!(s.engine.ending(), None);
    s.exits("b", 0);
    assert!(ended_by(&s, "b"));
}

#[test]
fn significant_upgrade_child_is_refused_under_never_and_changes_nothing() {
    let mut s = world("a ~b ~c", Never);
    mark(&mut s, "a ~b+ ~c");
    assert!(!s.engine.spec("b").unwrap().significant);
    s.exits("b", 0);
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:undefined c:running", None));
}
