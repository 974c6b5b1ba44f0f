//! Restart loops, counting, order, trees, and new code.

use std::time::Duration;

use super::super::script::{Script, groups, id, otp_specs, seconds};
use super::{ALL_STRATEGIES, dynamic};
use crate::engine::{AdminError, Engine, Event, Options, SpecError};
use crate::reason::ExitReason;
use crate::spec::{AutoShutdown, ChildSpec, ChildType, Escalate, Flags, Intensity, Restart, Strategy};

/// More than any test here uses up.
const PLENTY: u32 = 1000;

// --- restart loops ---

/// A child whose restart fails, with what must be so while it does.
fn hanging(mut s: Script, name: &str) -> Script {
    s.slow_to_start.insert(name.to_owned());
    s.exits(name, 1);
    for _ in 0..3 {
        s.spawn_fails(name, true);
        assert_eq!(s.otp_state(name), "restarting");
        s.pass(seconds(0));
    }
    s.spawn_fails(name, true);
    s.calls();
    s
}

#[test]
fn hanging_restart_loop_every_call_is_answered_and_a_termination_ends_the_loop() {
    for strategy in ALL_STRATEGIES {
        let mut s = hanging(Script::otp("a", strategy, PLENTY).up(), "a");
        assert_eq!(s.add("a"), Err(AdminError::AlreadyPresent(id("a"))));
        assert_eq!(s.try_once("a"), Err(AdminError::Restarting(id("a"))));
        assert_eq!(s.remove("a"), Err(AdminError::Restarting(id("a"))));
        assert_eq!((s.otp_states().as_str(), s.counts()), ("a:restarting", [1, 0, 0, 1]));
        s.stop("a");
        assert_eq!((s.otp_states().as_str(), s.timers().count()), ("a:undefined", 0), "{strategy:?}");
        s.pass(seconds(60));
        assert_eq!(s.calls(), "idle", "nothing comes back");

        s.slow_to_start.clear();
        s.try_once("a").unwrap();
        assert_eq!((s.otp_states().as_str(), s.counts()), ("a:running", [1, 1, 0, 1]));
        let mut s = hanging(s, "a");
        s.stop("");
        assert_eq!((s.calls().as_str(), s.engine.ending()), ("idle", None), "{strategy:?}");
    }
}

#[test]
fn hanging_restart_loop_a_termination_while_a_try_is_under_way_ends_the_loop_too() {
    let mut s = hanging(Script::otp("a", Strategy::OneForOne, PLENTY).up(), "a");
    s.pass(seconds(0));
    s.stop("a");
    s.spawn_fails("a", true);
    s.pass(seconds(60));
    assert_eq!((s.otp_states().as_str(), s.timers().count()), ("a:undefined", 0));
}

#[test]
fn hanging_restart_loop_a_terminated_child_uses_up_no_more_of_the_budget() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 1).up().slow_to_start("a");
    s.exits("a", 1);
    s.spawn_fails("a", true);
    s.stop("a");
    s.pass(seconds(6));
    s.exits("b", 1);
    assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:undefined b:running", None));
}

#[test]
fn hanging_restart_loop_rest_for_one_those_before_run_and_those_after_are_down() {
    let mut s = hanging(Script::otp("a b c", Strategy::RestForOne, PLENTY).up(), "b");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:running b:restarting c:undefined", [3, 1, 0, 3]));
    assert_eq!(s.add("b"), Err(AdminError::AlreadyPresent(id("b"))));
    assert_eq!(s.add("c"), Err(AdminError::AlreadyPresent(id("c"))));
    assert_eq!(s.try_once("b"), Err(AdminError::Restarting(id("b"))));
    assert_eq!(s.remove("b"), Err(AdminError::Restarting(id("b"))));
    s.stop("b");
    s.pass(seconds(60));
    assert_eq!((s.otp_states().as_str(), s.calls().as_str()), ("a:running b:undefined c:undefined", ""));
    s.slow_to_start.clear();
    s.try_once("b").unwrap();
    assert_eq!((s.calls().as_str(), s.otp_state("c")), ("spawn b#6", "undefined"), "b alone");
    s.try_once("c").unwrap();
    assert_eq!(s.otp_states(), "a:running b:running c:running");
    assert_eq!(s.child("a").incarnation.map(|life| life.0), Some(1));
    let mut s = hanging(s, "b");
    s.stop("");
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("stop a#1, idle", None));
}

#[test]
fn hanging_restart_loop_rest_for_one_one_that_is_down_behind_it_can_be_started_deleted_and_terminated() {
    let mut s = hanging(Script::otp("a b c d e", Strategy::RestForOne, PLENTY).up(), "b");
    s.try_once("c").unwrap();
    s.remove("d").unwrap();
    s.stop("e");
    assert_eq!(s.otp_states(), "a:running b:restarting c:running e:undefined");
    s.pass(seconds(0));
    assert_eq!(s.calls(), "spawn c#2, stop c#2, spawn b#6", "the next try is one of all that come after");
    s.spawned("b");
    assert_eq!(s.otp_states(), "a:running b:running c:running e:running", "a terminated one too");
}

#[test]
fn hanging_restart_loop_simple_an_instance_can_be_terminated_and_the_supervisor_stopped() {
    let mut s = hanging(dynamic("a b", PLENTY).up(), "a");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:restarting b:running", [2, 1, 0, 2]));
    s.stop("a");
    s.pass(seconds(60));
    assert_eq!((s.otp_states().as_str(), s.calls().as_str(), s.timers().count()), ("b:running", "", 0));
    let mut s = hanging(s, "b");
    s.stop("");
    assert_eq!((s.calls().as_str(), s.engine.ending()), ("idle", None));
}

// --- counting ---

#[test]
fn count_restarting_children_they_are_present_and_not_active_until_their_starts_work_again() {
    for s in [dynamic("a b c", PLENTY), Script::otp("a b c", Strategy::OneForOne, PLENTY)] {
        let is_dynamic = s.engine.options.flags == dynamic("", PLENTY).engine.options.flags;
        let mut s = s.up().slow_to_start("a b c");
        for (nth, name) in (1..).zip(["a", "b", "c"]) {
            s.exits(name, 1);
            s.spawn_fails(name, true);
            assert_eq!(s.counts(), [3, 3 - nth, 0, 3]);
        }
        s.stop("b");
        let left = if is_dynamic { 2 } else { 3 };
        assert_eq!(s.counts(), [left, 0, 0, left], "terminated while it is being restarted");
        s.slow_to_start.clear();
        s.pass(seconds(0));
        assert_eq!(s.counts(), [left, 2, 0, left]);
        s.stop("a");
        let left = if is_dynamic { 1 } else { 3 };
        assert_eq!(s.counts(), [left, 1, 0, left], "terminated while it runs");
    }
}

fn counted(child_type: ChildType) -> Vec<[usize; 4]> {
    let mut s = dynamic("", 1).up();
    let mut counts = Vec::new();
    for n in 1..=2000 {
        let spec = ChildSpec { restart: Restart::Temporary, child_type, ..ChildSpec::otp(id(&format!("c{n}"))) };
        s.add_spec(spec).unwrap();
        if n % 1000 == 0 {
            counts.push(s.counts());
        }
    }
    for n in 1..=2000 {
        s.ends(&format!("c{n}"), ExitReason::Killed);
    }
    counts.push(s.counts());
    counts
}

#[test]
fn count_children_thousands_of_workers_are_counted_exactly_and_all_are_gone_after_a_kill() {
    assert_eq!(counted(ChildType::Worker), [[1000, 1000, 0, 1000], [2000, 2000, 0, 2000], [0, 0, 0, 0]]);
}

#[test]
fn count_children_supervisor_thousands_of_supervisors_are_counted_as_such() {
    assert_eq!(counted(ChildType::Supervisor), [[1000, 1000, 1000, 0], [2000, 2000, 2000, 0], [0, 0, 0, 0]]);
}

#[test]
fn which_children_follows_every_call() {
    let mut s = Script::otp("", Strategy::OneForOne, 1).up();
    assert_eq!((s.otp_states().as_str(), s.otp_state("a")), ("", "gone"));
    s.add("a").unwrap();
    s.add("b").unwrap();
    assert_eq!(s.otp_states(), "a:running b:running");
    s.stop("a");
    assert_eq!((s.otp_states().as_str(), s.otp_state("a")), ("a:undefined b:running", "undefined"));
    s.remove("a").unwrap();
    assert_eq!((s.otp_states().as_str(), s.otp_state("a")), ("b:running", "gone"));
    s.add("a").unwrap();
    assert_eq!(s.otp_states(), "b:running a:running");
}

#[test]
fn which_children_simple_one_for_one_knows_living_instances_only() {
    let mut s = dynamic("", 1).up();
    s.add("a").unwrap();
    s.add("b").unwrap();
    assert_eq!(s.otp_states(), "a:running b:running");
    s.stop("a");
    assert_eq!((s.otp_states().as_str(), s.otp_state("a"), s.engine.child("a")), ("b:running", "gone", None));
}

#[test]
fn do_not_save_child_specs_for_temporary_children_their_ids_are_free_after_any_end_and_others_are_not() {
    let ends: [fn(&mut Script); 4] =
        [|s| s.exits("c", 0), |s| s.exits("c", 1), |s| s.ends("c", ExitReason::Killed), |s| s.stop("c")];
    for (nth, end) in ends.iter().enumerate() {
        let mut s = Script::otp("", Strategy::OneForOne, 1).up();
        s.add("?c").unwrap();
        assert_eq!(s.add("?c"), Err(AdminError::AlreadyStarted(id("c"))));
        end(&mut s);
        assert_eq!(s.otp_states(), "", "end {nth}");
        assert_eq!(s.add("?c"), Ok(()), "end {nth}");

        let mut s = Script::otp("~c", Strategy::OneForOne, 1).up();
        end(&mut s);
        let is_down = nth == 0 || nth == 3;
        let error = if is_down { AdminError::AlreadyPresent(id("c")) } else { AdminError::AlreadyStarted(id("c")) };
        assert_eq!(s.add("~c"), Err(error), "end {nth}");

        let mut s = Script::otp("c", Strategy::OneForOne, 1).up();
        end(&mut s);
        let error = if nth == 3 { AdminError::AlreadyPresent(id("c")) } else { AdminError::AlreadyStarted(id("c")) };
        assert_eq!(s.add("c"), Err(error), "end {nth}");
    }
}

// --- order ---

#[test]
fn order_of_children_is_that_of_the_list_and_stops_go_exactly_against_it() {
    let mut s = Script::otp("d b e a c", Strategy::RestForOne, 1);
    s.start("");
    assert_eq!(s.calls(), "spawn d#1, spawn b#1, spawn e#1, spawn a#1, spawn c#1");
    s.exits("e", 1);
    assert_eq!(s.calls(), "stop c#1, stop a#1, spawn e#2, spawn a#2, spawn c#2");
    s.stop("");
    assert_eq!(s.calls(), "stop c#2, stop a#2, stop e#2, stop b#1, stop d#1, idle");
}

#[test]
fn order_of_children_each_waits_for_the_one_before_it() {
    let mut s = Script::otp("d b e", Strategy::OneForOne, 1).slow_to_start("d b e").deaf("d b e");
    s.start("");
    for (name, calls) in [("d", "spawn d#1"), ("b", "spawn b#1"), ("e", "spawn e#1")] {
        assert_eq!(s.calls(), calls);
        s.spawned(name);
    }
    s.stop("");
    for (name, calls) in [("e", "stop e#1"), ("b", "stop b#1"), ("d", "stop d#1")] {
        assert_eq!(s.calls(), calls);
        s.exits(name, 0);
    }
    assert_eq!(s.calls(), "idle");
}

#[test]
fn tree_a_group_that_gives_up_is_restarted_by_the_supervisor_and_its_second_giving_up_ends_it() {
    let groups = groups("in*:b,c", |group| {
        group.intensity = Intensity { restarts: 0, period: seconds(5) };
        group.escalate = Escalate::Group;
    });
    let options = Options { flags: Flags::otp(Strategy::OneForOne), ..Options::default() };
    let mut s = Script::grouped(otp_specs("a b c d"), groups, options).up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, spawn b#2, spawn c#2");
    s.exits("c", 1);
    assert_eq!(s.calls(), "stop d#1, stop b#2, stop a#1, idle");
    assert!(s.engine.ending().is_some());
}

// --- new specs and flags ---

#[test]
fn code_change_new_flags_hold_from_the_next_event_on() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 1).up();
    let budget = Some(Intensity { restarts: 3, period: seconds(10) });
    s.step(Event::Reflag { flags: Flags { intensity: budget, ..Flags::otp(Strategy::RestForOne) } });
    assert_eq!(s.calls(), "");
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop b#1, spawn a#2, spawn b#2");
    s.exits("a", 1);
    s.exits("a", 1);
    assert_eq!(s.engine.ending(), None);
    s.exits("a", 1);
    assert!(s.engine.ending().is_some());
}

#[test]
fn code_change_what_was_used_of_the_old_budget_counts_in_the_new_one() {
    let mut s = Script::otp("a", Strategy::OneForOne, 5).up();
    s.exits("a", 1);
    s.exits("a", 1);
    let budget = Some(Intensity { restarts: 2, period: seconds(5) });
    s.step(Event::Reflag { flags: Flags { intensity: budget, ..Flags::otp(Strategy::OneForOne) } });
    assert_eq!(s.engine.ending(), None);
    s.exits("a", 1);
    assert!(s.engine.ending().is_some());
}

#[test]
fn code_change_map_specs_are_replaced_by_id_new_ones_are_not_started_and_lives_go_on() {
    let mut s = Script::otp("a b", Strategy::OneForAll, 1).up();
    let mut specs = otp_specs("c ~b a");
    specs[2].shutdown = crate::spec::Shutdown::BrutalKill;
    s.replace(specs.clone());
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("", "c:undefined b:running a:running"));
    for spec in &specs {
        assert_eq!(s.engine.spec(spec.id.as_str()), Some(spec));
    }
    s.exits("b", 1);
    assert_eq!(s.calls(), "kill a#1, spawn c#1, spawn b#2, spawn a#2", "the new order, types and shutdowns");
}

#[test]
fn code_change_map_what_is_left_out_is_stopped_and_forgotten() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 1).up();
    s.replace(otp_specs("b"));
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("stop c#1, stop a#1", "b:running"));
}

#[test]
fn code_change_specs_or_flags_that_cannot_be_supervised_change_nothing() {
    let mut s = Script::otp("a b", Strategy::OneForOne, 1).up();
    for bad in ["a a", "b<a a<b", "a<ghost", "~a+"] {
        s.replace(otp_specs(bad));
        assert_eq!((s.calls().as_str(), s.states().as_str()), ("", "a:running b:running"), "{bad}");
    }
    let zero = Some(Intensity { restarts: 9, period: Duration::ZERO });
    s.step(Event::Reflag { flags: Flags { intensity: zero, ..Flags::otp(Strategy::OneForAll) } });
    s.exits("a", 1);
    assert_eq!(s.calls(), "spawn a#2", "one_for_one as before");
    s.exits("a", 1);
    assert!(s.engine.ending().is_some(), "and the budget of before");
}

#[test]
fn code_change_simple_a_dynamic_supervisor_takes_a_new_budget_and_refuses_to_end_by_itself() {
    let mut s = dynamic("a", 1).up();
    let flags = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::dynamic() };
    assert_eq!(Engine::check_with(&[], &[], &flags), Err(SpecError::BadAutoShutdown));
    s.step(Event::Reflag { flags: Flags { intensity: Some(Intensity { restarts: 9, period: seconds(5) }), ..flags } });
    let none = Some(Intensity { restarts: 0, period: seconds(5) });
    s.step(Event::Reflag { flags: Flags { intensity: none, ..Flags::dynamic() } });
    s.exits("a", 1);
    assert!(s.engine.ending().is_some(), "the refused budget does not hold, the other one does");
}

#[test]
fn code_change_simple_map_an_instance_gets_the_new_spec_and_keeps_its_life() {
    let mut s = dynamic("a b", 1).up();
    s.replace(otp_specs("~a ~b"));
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("", "a:running b:running"));
    s.ends("a", ExitReason::Normal);
    assert_eq!((s.calls().as_str(), s.otp_states().as_str()), ("", "b:running"));
}
