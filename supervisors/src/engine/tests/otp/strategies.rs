//! Who is restarted with a crashed child, in what order, and when the supervisor gives up.

use super::super::script::{Script, millis, seconds};
use super::{ALL_STRATEGIES, dynamic};
use crate::engine::{Ending, Limit, What};
use crate::spec::{Flags, Shutdown, Strategy};

fn gave_up(s: &Script, name: &str) -> bool {
    s.engine.ending() == Some((&super::super::script::id(name), &Ending::GaveUp))
}

/// The next start of a child fails, after what was called for until then.
fn fails_again(s: &mut Script, name: &str) -> String {
    s.spawn_fails(name, true);
    s.pass(seconds(0));
    s.calls()
}

// --- one_for_one ---

#[test]
fn one_for_one_only_the_crashed_child_is_replaced_and_the_third_crash_ends_the_supervisor() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 2).up();
    s.exits("b", 1);
    s.exits("b", 1);
    assert_eq!(s.calls(), "spawn b#2, spawn b#3");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, stop a#1, idle");
    assert!(gave_up(&s, "b"));
    let limit = Limit::Intensity { restarts: 2, period: seconds(5) };
    assert!(s.reports("b").iter().any(|what| matches!(what, What::GaveUp { limit: known, .. } if *known == limit)));
}

#[test]
fn one_for_one_all_children_share_one_budget() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 2).up();
    s.exits("a", 1);
    s.exits("b", 1);
    s.exits("c", 1);
    assert!(gave_up(&s, "c"));
}

#[test]
fn one_for_one_escalation_every_failed_retry_counts_until_the_supervisor_ends() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 4).up().slow_to_start("a");
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2");
    for life in 3..=5 {
        assert_eq!(fails_again(&mut s, "a"), format!("spawn a#{life}"));
    }
    assert_eq!(s.otp_states(), "a:running b:running", "a life of a is being started");
    assert_eq!(fails_again(&mut s, "a"), "stop b#1, idle");
    assert!(gave_up(&s, "a"));
}

#[test]
fn one_for_one_escalation_between_two_tries_everybody_else_has_a_turn() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 4).up().slow_to_start("a");
    s.exits("a", 1);
    s.spawn_fails("a", true);
    assert_eq!(s.otp_states(), "a:restarting b:running");
    let (_, due) = s.next_timer().unwrap();
    assert_eq!(due, s.now, "without any delay");
    s.exits("b", 1);
    assert_eq!(s.calls(), "spawn a#2, spawn b#2");
}

#[test]
fn one_for_one_escalation_a_start_that_cannot_succeed_is_tried_again_like_any_other() {
    for strategy in ALL_STRATEGIES {
        let mut s = Script::otp("a b", strategy, 2).up().slow_to_start("a");
        s.exits("a", 1);
        s.spawn_fails("a", false);
        assert_eq!(s.otp_state("a"), "restarting", "{strategy:?}");
        s.pass(seconds(0));
        s.spawn_fails("a", false);
        s.pass(seconds(0));
        assert!(gave_up(&s, "a"), "{strategy:?}");
    }
}

// --- one_for_all ---

#[test]
fn one_for_all_one_crash_replaces_all_and_costs_one_restart() {
    let mut s = Script::otp("a b c", Strategy::OneForAll, 2).up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, stop a#1, spawn a#2, spawn b#2, spawn c#2");
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop c#2, stop b#2, spawn a#3, spawn b#3, spawn c#3");
    s.exits("c", 1);
    assert_eq!(s.calls(), "stop b#3, stop a#3, idle");
    assert!(gave_up(&s, "c"));
}

#[test]
fn one_for_all_also_starts_those_that_had_finished_or_were_terminated() {
    let mut s = Script::otp("a ~b c d", Strategy::OneForAll, 2).up();
    s.exits("b", 0);
    s.stop("c");
    assert_eq!(s.otp_states(), "a:running b:undefined c:undefined d:running");
    s.calls();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop d#1, spawn a#2, spawn b#2, spawn c#2, spawn d#2");
    assert_eq!(s.otp_states(), "a:running b:running c:running d:running");
    s.exits("c", 1);
    assert_eq!(s.otp_states(), "a:running b:running c:running d:running", "c is wanted again");
}

#[test]
fn one_for_all_also_starts_what_was_added_and_not_what_was_deleted() {
    let mut s = Script::otp("a b", Strategy::OneForAll, 2).up();
    s.stop("b");
    s.remove("b").unwrap();
    s.add("c").unwrap();
    s.calls();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop c#2, spawn a#2, spawn c#3");
}

#[test]
fn one_for_all_escalation_a_sibling_whose_restart_always_fails_ends_the_supervisor() {
    let mut s = Script::otp("a b", Strategy::OneForAll, 4).up().slow_to_start("b");
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop b#1, spawn a#2, spawn b#2");
    for (before, life) in (2..).zip(3..=5) {
        assert_eq!(fails_again(&mut s, "b"), format!("stop a#{before}, spawn a#{life}, spawn b#{life}"));
    }
    assert_eq!(fails_again(&mut s, "b"), "stop a#5, idle");
    assert!(gave_up(&s, "b"));
}

#[test]
fn one_for_all_other_child_fails_restart_what_had_come_up_is_stopped_again_and_all_are_tried_again() {
    let mut s = Script::otp("a b c", Strategy::OneForAll, 2).up().slow_to_start("b");
    s.exits("c", 1);
    assert_eq!(s.calls(), "stop b#1, stop a#1, spawn a#2, spawn b#2");
    s.spawn_fails("b", true);
    assert_eq!(s.otp_states(), "a:running b:restarting c:undefined");
    assert_eq!(s.counts(), [3, 1, 0, 3]);
    s.pass(seconds(0));
    assert_eq!(s.calls(), "stop a#2, spawn a#3, spawn b#3");
    s.spawned("b");
    assert_eq!(s.calls(), "spawn c#2");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:running c:running", None));
}

#[test]
fn one_for_all_other_child_fails_restart_and_meanwhile_one_that_had_come_up_crashes() {
    let mut s = Script::otp("a b c", Strategy::OneForAll, 2).up().slow_to_start("b");
    s.exits("c", 1);
    s.spawn_fails("b", true);
    s.calls();
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#3, spawn b#3", "one restart of all, the second of two");
    s.spawned("b");
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("spawn c#2", "a:running b:running c:running"));
    s.pass(seconds(0));
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("", None), "the try that was due is not made any more");
}

#[test]
fn e3_one_for_all_nobody_comes_up_before_the_slowest_is_really_down_and_it_is_one_restart() {
    let mut s = Script::otp("a b c", Strategy::OneForAll, 1).deaf("a").up();
    s.exits("c", 1);
    s.pass(millis(200));
    assert_eq!(s.calls(), "stop b#1, stop a#1");
    s.exits("a", 0);
    assert_eq!(s.calls(), "spawn a#2, spawn b#2, spawn c#2");
    assert_eq!(s.engine.ending(), None);
}

#[test]
fn e5_one_for_all_two_that_crash_in_one_moment_are_one_restart() {
    let mut s = Script::otp("a b c", Strategy::OneForAll, 1).deaf("a b c").up();
    s.exits("a", 1);
    s.exits("b", 1);
    s.exits("c", 1);
    assert_eq!(s.calls(), "stop c#1, spawn a#2, spawn b#2, spawn c#2");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:running c:running", None));
}

// --- rest_for_one ---

#[test]
fn rest_for_one_the_crashed_child_and_those_after_it_are_replaced() {
    let mut s = Script::otp("a b c", Strategy::RestForOne, 2).up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, spawn b#2, spawn c#2");
    s.exits("c", 1);
    assert_eq!(s.calls(), "spawn c#3");
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop c#3, stop b#2, idle");
    assert!(gave_up(&s, "a"));
}

#[test]
fn rest_for_one_also_starts_those_after_it_that_had_finished_or_were_terminated_and_none_before_it() {
    let mut s = Script::otp("x ~y a ~b c d", Strategy::RestForOne, 2).up();
    s.stop("x");
    s.exits("y", 0);
    s.exits("b", 0);
    s.stop("c");
    s.calls();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop d#1, spawn a#2, spawn b#2, spawn c#2, spawn d#2");
    assert_eq!(s.otp_states(), "x:undefined y:undefined a:running b:running c:running d:running");
}

#[test]
fn rest_for_one_escalation_a_later_child_whose_restart_always_fails_ends_the_supervisor() {
    let mut s = Script::otp("a b c", Strategy::RestForOne, 4).up().slow_to_start("c");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, spawn b#2, spawn c#2");
    for life in 3..=5 {
        assert_eq!(fails_again(&mut s, "c"), format!("spawn c#{life}"), "b is not touched again");
    }
    assert_eq!(fails_again(&mut s, "c"), "stop b#2, stop a#1, idle");
    assert!(gave_up(&s, "c"));
}

#[test]
fn rest_for_one_other_child_fails_restart_only_the_failed_child_is_retried() {
    let mut s = Script::otp("a b c", Strategy::RestForOne, 3).up().slow_to_start("b c");
    s.exits("a", 1);
    s.spawn_fails("b", true);
    assert_eq!(s.calls(), "stop c#1, stop b#1, spawn a#2, spawn b#2");
    assert_eq!(s.otp_states(), "a:running b:restarting c:undefined");
    s.pass(seconds(0));
    assert_eq!(s.calls(), "spawn b#3");
    s.spawned("b");
    s.spawn_fails("c", true);
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("spawn c#2", "a:running b:running c:restarting"));
    s.pass(seconds(0));
    s.spawned("c");
    assert_eq!(s.calls(), "spawn c#3");
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running b:running c:running", None));
}

#[test]
fn rest_for_one_other_child_fails_restart_and_meanwhile_an_earlier_one_crashes() {
    let mut s = Script::otp("a b c", Strategy::RestForOne, 2).up().slow_to_start("b");
    s.exits("b", 1);
    s.spawn_fails("b", true);
    assert_eq!(s.calls(), "stop c#1, spawn b#2");
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2, spawn b#3");
    s.spawned("b");
    s.pass(seconds(0));
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("spawn c#2", None));
}

// --- simple_one_for_one ---

#[test]
fn simple_one_for_one_only_the_crashed_instance_is_replaced_and_the_third_crash_ends_the_supervisor() {
    let mut s = dynamic("", 2).up();
    s.add("a").unwrap();
    s.add("b").unwrap();
    s.calls();
    s.exits("b", 1);
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn b#2, spawn a#2");
    assert_eq!(s.counts(), [2, 2, 0, 2]);
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop a#2, idle");
    assert!(gave_up(&s, "b"));
    assert_eq!(s.counts(), [0, 0, 0, 0]);
}

#[test]
fn simple_one_for_one_shutdown_takes_as_long_as_the_longest_and_not_as_all_together() {
    let mut s = Script::flagged_with("a b c d", Flags::dynamic(), |spec| {
        let n = u64::from(spec.id.as_str().as_bytes()[0] - b'a' + 1);
        spec.shutdown = Shutdown::Timeout(seconds(n));
    })
    .deaf("a b c d")
    .up();
    s.stop("");
    s.pass(seconds(4) - millis(1));
    assert_eq!(s.states(), "d:stopping");
    s.pass(millis(1));
    assert!(s.calls().ends_with("kill d#1, idle"));
}

#[test]
fn simple_one_for_one_extra_an_instance_keeps_its_spec_over_its_restarts() {
    let mut s = dynamic("", 5).up();
    s.add("~a").unwrap();
    let before = s.engine.spec("a").cloned();
    s.exits("a", 1);
    assert_eq!((s.engine.spec("a").cloned(), s.otp_state("a")), (before, "running"));
}

#[test]
fn simple_one_for_one_escalation_an_instance_whose_restart_always_fails_ends_the_supervisor() {
    let mut s = dynamic("a b", 4).up().slow_to_start("a");
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2");
    for life in 3..=5 {
        assert_eq!(fails_again(&mut s, "a"), format!("spawn a#{life}"));
    }
    assert_eq!(fails_again(&mut s, "a"), "stop b#1, idle");
    assert!(gave_up(&s, "a"));
}

#[test]
fn simple_one_for_one_corruption_nothing_is_kept_of_temporary_instances_that_ended() {
    let mut s = dynamic("", 1).up();
    for n in 0..100 {
        let name = format!("c{n}");
        s.add(&format!("?{name}")).unwrap();
        match n % 3 {
            0 => s.exits(&name, 0),
            1 => s.exits(&name, 1),
            _ => s.stop(&name),
        }
    }
    assert_eq!(s.counts(), [0, 0, 0, 0]);
    assert!(s.engine.is_empty() && s.engine.is_idle() && s.timers().next().is_none());
    assert!(s.engine.retired.is_empty(), "not even the numbers of their lives, one by one");
    s.add("?c0").unwrap();
    assert_eq!(s.child("c0").incarnation.map(|life| life.0), Some(101), "and yet none is used twice");
}

#[test]
fn simple_one_for_one_restart_ignore_the_instance_is_gone_and_the_supervisor_stops_cleanly() {
    let mut s = dynamic("", 1).up();
    s.add("a").unwrap();
    s.slow_to_start.insert("a".to_owned());
    s.exits("a", 1);
    s.ignores("a");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("", [0, 0, 0, 0]));
    s.calls();
    s.stop("");
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("idle", None));
}
