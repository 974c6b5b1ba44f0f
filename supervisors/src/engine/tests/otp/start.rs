//! Starts: of the supervisor with its first children, and of one child by a call.

use super::super::script::{Script, id, no_such_file, otp_specs, seconds};
use super::{ALL_STRATEGIES, dynamic};
use crate::Name;
use crate::engine::{AdminError, Ending, Engine, What};
use crate::spec::{ChildSpec, ChildType, Flags, Restart, Shutdown, Strategy};

#[test]
fn sup_start_normal_a_supervisor_without_children_starts_and_stops() {
    let mut s = Script::otp("", Strategy::OneForOne, 1);
    s.start("");
    assert_eq!(s.calls(), "");
    assert_eq!(s.engine.ending(), None);
    s.stop("");
    assert_eq!(s.calls(), "idle");
    assert_eq!(s.engine.ending(), None);
}

// --- ignore ---

#[test]
fn sup_start_ignore_child_is_known_without_a_life_and_the_next_one_starts() {
    let mut s = Script::otp("", Strategy::OneForOne, 1).slow_to_start("a").up();
    s.add("a").unwrap();
    s.ignores("a");
    s.add("b").unwrap();
    assert_eq!(s.otp_states(), "a:undefined b:running");
    assert_eq!(s.counts(), [2, 1, 0, 2]);
    assert_eq!(s.calls(), "spawn a#1, idle, spawn b#1");
    assert_eq!(s.add("a"), Err(AdminError::AlreadyPresent(id("a"))));
}

#[test]
fn sup_start_ignore_child_in_the_first_start_counts_as_a_success() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 1).slow_to_start("b");
    s.start("");
    assert_eq!(s.calls(), "spawn a#1, spawn b#1");
    s.ignores("b");
    assert_eq!(s.calls(), "spawn c#1");
    assert_eq!(s.otp_states(), "a:running b:undefined c:running");
    assert_eq!(s.engine.ending(), None);
    s.try_once("b").unwrap();
    s.spawned("b");
    assert_eq!(s.otp_states(), "a:running b:running c:running");
}

#[test]
fn sup_start_ignore_temporary_child_in_the_first_start_is_not_kept() {
    let mut s = Script::otp("?a b", Strategy::OneForOne, 1).slow_to_start("a");
    s.start("");
    s.ignores("a");
    assert_eq!(s.calls(), "spawn a#1, spawn b#1");
    assert_eq!(s.otp_states(), "b:running");
    assert_eq!(s.counts(), [1, 1, 0, 1]);
}

#[test]
fn sup_start_ignore_temporary_child_start_child_is_not_kept() {
    let mut s = Script::otp("", Strategy::OneForOne, 1).slow_to_start("a").up();
    s.add("?a").unwrap();
    s.ignores("a");
    s.add("b").unwrap();
    assert_eq!(s.otp_states(), "b:running");
    assert_eq!(s.counts(), [1, 1, 0, 1]);
    s.add("?a").unwrap();
    s.spawned("a");
    assert_eq!(s.otp_states(), "b:running a:running");
}

#[test]
fn sup_start_ignore_temporary_child_start_child_simple_nothing_is_kept() {
    let mut s = dynamic("", 1).slow_to_start("a").up();
    s.add("?a").unwrap();
    s.ignores("a");
    s.add("?b").unwrap();
    assert_eq!(s.otp_states(), "b:running");
    assert_eq!(s.counts(), [1, 1, 0, 1]);
}

#[test]
fn sup_start_ignore_permanent_child_start_child_simple_nothing_is_kept_and_the_supervisor_stops_cleanly() {
    let mut s = dynamic("", 1).slow_to_start("a").up();
    s.add("a").unwrap();
    s.ignores("a");
    assert_eq!(s.counts(), [0, 0, 0, 0]);
    s.add("b").unwrap();
    s.calls();
    s.stop("");
    assert_eq!(s.calls(), "stop b#2, idle");
    assert_eq!(s.engine.ending(), None);
}

// --- failures ---

#[test]
fn sup_start_child_returns_error_nothing_is_kept_and_nothing_tried_again() {
    for strategy in ALL_STRATEGIES {
        for retry in [true, false] {
            let mut s = Script::otp("x", strategy, 1).slow_to_start("a").up();
            s.add("a").unwrap();
            s.spawn_fails("a", retry);
            s.pass(seconds(60));
            assert_eq!(s.calls(), "spawn a#1", "{strategy:?}");
            assert_eq!(s.otp_states(), "x:running", "{strategy:?}");
            assert_eq!(s.engine.ending(), None);
            s.add("a").unwrap();
            s.spawned("a");
            assert_eq!(s.otp_states(), "x:running a:running", "the id is free again");
        }
    }
}

#[test]
fn sup_start_child_returns_error_changes_no_budget() {
    let mut s = Script::otp("x", Strategy::OneForOne, 1).slow_to_start("a").up();
    for _ in 0..5 {
        s.add("a").unwrap();
        s.spawn_fails("a", true);
    }
    s.exits("x", 1);
    assert_eq!(s.otp_states(), "x:running");
}

#[test]
fn sup_start_child_returns_error_only_as_long_as_the_first_life_has_not_begun() {
    let mut s = Script::otp("", Strategy::OneForOne, 2).slow_to_start("a").up();
    s.add("a").unwrap();
    s.exits("a", 1);
    s.spawn_fails("a", true);
    assert_eq!(s.otp_states(), "a:restarting", "its first life had begun before it ended");
}

#[test]
fn sup_start_restart_child_returns_error_leaves_it_listed_and_down_without_a_retry() {
    for retry in [true, false] {
        let mut s = Script::otp("a", Strategy::OneForOne, 1).up().slow_to_start("a");
        s.stop("a");
        s.try_once("a").unwrap();
        s.spawn_fails("a", retry);
        s.pass(seconds(60));
        assert_eq!(s.otp_states(), "a:undefined");
        assert_eq!(s.calls(), "stop a#1, idle, spawn a#2, idle");
        assert_eq!(s.engine.ending(), None);
        s.try_once("a").unwrap();
        s.spawned("a");
        assert_eq!(s.otp_states(), "a:running");
    }
}

#[test]
fn sup_start_child_returns_error_simple_nothing_is_kept_and_nothing_tried_again() {
    let mut s = dynamic("", 1).slow_to_start("a").up();
    s.add("a").unwrap();
    s.spawn_fails("a", true);
    s.pass(seconds(60));
    assert_eq!(s.calls(), "spawn a#1, idle");
    assert_eq!(s.counts(), [0, 0, 0, 0]);
    assert_eq!(s.engine.ending(), None);
}

#[test]
fn faulty_application_shutdown_a_failed_first_start_stops_what_was_up_in_reverse_and_keeps_its_cause() {
    for strategy in ALL_STRATEGIES {
        let mut s = Script::otp("a b c d", strategy, 10).slow_to_start("c");
        s.start("");
        s.spawn_fails("c", true);
        assert_eq!(s.calls(), "spawn a#1, spawn b#1, spawn c#1, stop b#1, stop a#1, idle", "{strategy:?}");
        let ending = Ending::FirstStart(no_such_file("c", true));
        assert_eq!(s.engine.ending(), Some((&id("c"), &ending)));
        let reports = s.reports("c");
        assert!(
            reports.contains(&What::Ending(ending))
                && reports.contains(&What::StartFailed { error: no_such_file("c", true) })
        );
        s.pass(seconds(60));
        assert_eq!((s.calls().as_str(), s.timers().count()), ("", 0), "nothing is tried again");
    }
}

#[test]
fn faulty_application_shutdown_the_first_start_alone_is_all_or_nothing() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 10).slow_to_start("b");
    s.start("");
    s.spawned("b");
    s.exits("b", 1);
    s.spawn_fails("b", true);
    assert_eq!(s.otp_states(), "a:running b:restarting");
    assert_eq!(s.engine.ending(), None);
}

// --- specs ---

#[test]
fn sup_start_map_specs_can_be_read_back_with_their_defaults() {
    let mut s = Script::otp("a", Strategy::OneForOne, 1).up();
    s.add("~b").unwrap();
    let a = s.engine.spec("a").unwrap();
    assert_eq!((a.restart, a.significant, a.child_type), (Restart::Permanent, false, ChildType::Worker));
    assert_eq!(a.shutdown, Shutdown::Timeout(seconds(5)));
    assert_eq!(*a, ChildSpec::otp(id("a")));
    assert_eq!(s.engine.spec("b"), Some(&ChildSpec { restart: Restart::Transient, ..ChildSpec::otp(id("b")) }));
    assert_eq!(s.engine.spec("ghost"), None);
}

#[test]
fn sup_start_map_simple_every_instance_has_its_spec_and_a_foreign_one_none() {
    let mut s = dynamic("", 1).up();
    s.add("?a").unwrap();
    s.add("?b").unwrap();
    for name in ["a", "b"] {
        let spec = ChildSpec { restart: Restart::Temporary, ..ChildSpec::otp(id(name)) };
        assert_eq!(s.engine.spec(name), Some(&spec));
    }
    assert_eq!(s.engine.spec("ghost"), None);
    s.stop("a");
    assert_eq!(s.engine.spec("a"), None);
}

#[test]
fn sup_start_map_faulty_specs_cannot_be_written_down_but_for_their_names() {
    for faulty in ["", "-a", "A", "a b", "a/b"] {
        assert!(Name::new(faulty).is_err(), "{faulty:?}");
    }
    let twice = otp_specs("a a");
    assert!(Engine::check_with(&twice, &[], &Flags::otp(Strategy::OneForOne)).is_err());
}
