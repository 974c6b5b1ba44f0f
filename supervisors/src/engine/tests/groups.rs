//! Declared groups: order, strategies, shared budgets, and how far giving up reaches.

use super::script::{Script, groups, id, millis, seconds, specs};
use crate::engine::{Cause, Ending, Limit, Options, What};
use crate::spec::{Backoff, ChildSpec, Condition, Edge, Escalate, Flags, GroupSpec, Intensity, Strategy, Then};

/// Children without delays, in groups that allow this many restarts and escalate so.
fn script(children: &str, grouped: &str, restarts: u32, escalate: Escalate) -> Script {
    let budget = Intensity { restarts, period: seconds(30) };
    let groups = groups(grouped, |group| (group.intensity, group.escalate) = (budget, escalate));
    Script::grouped(undelayed(children), groups, Options::default())
}

fn undelayed(children: &str) -> Vec<ChildSpec> {
    specs(children).into_iter().map(|spec| ChildSpec { backoff: Backoff::None, ..spec }).collect()
}

fn isolated(children: &str, grouped: &str) -> Script {
    script(children, grouped, 5, Escalate::Isolate)
}

// --- order ---

#[test]
fn members_start_one_after_the_other_and_stop_in_reverse_while_others_go_in_parallel() {
    let mut s = isolated("a b c d", "g:c,a");
    s.start("");
    assert_eq!(s.calls(), "spawn b#1, spawn c#1, spawn d#1, spawn a#1");
    s.stop("");
    assert_eq!(s.calls(), "stop d#1, stop a#1, stop b#1, stop c#1, idle");
}

#[test]
fn a_member_waits_until_the_one_before_it_is_ready_if_that_reports_readiness() {
    let mut s = isolated("a! b", "g:a,b").slow_to_be_ready("a");
    s.start("");
    assert_eq!((s.states().as_str(), s.why("b").as_str()), ("a:running b:pending", "comes after a"));
    s.ready("a");
    assert_eq!(s.states(), "a:ready b:running");
}

#[test]
fn a_member_that_fails_to_start_delays_nobody_under_one_for_one() {
    let mut s = isolated("a b", "g:a,b").slow_to_start("a");
    s.start("");
    s.spawn_fails("a", true);
    assert_eq!(s.states(), "a:backoff b:running");
}

#[test]
fn all_of_a_group_comes_after_the_member_before_it_however_deep() {
    let mut s = isolated("a b c d", "outer:a,inner,d inner:b,c").slow_to_start("a b c");
    s.start("");
    assert_eq!(s.states(), "a:starting b:pending c:pending d:pending");
    s.spawned("a");
    assert_eq!(s.states(), "a:running b:starting c:pending d:pending");
    s.spawned("b");
    s.spawned("c");
    assert_eq!(s.states(), "a:running b:running c:running d:running");
    s.stop("");
    assert_eq!(
        s.calls().split(", ").filter(|call| call.starts_with("stop")).collect::<Vec<_>>(),
        ["stop d#1", "stop c#1", "stop b#1", "stop a#1"]
    );
}

#[test]
fn a_member_that_is_started_alone_waits_for_no_member() {
    let mut s = isolated("a b", "g:a,b");
    s.start("b");
    assert_eq!(s.calls(), "spawn b#1");
}

#[test]
fn members_stop_in_order_also_past_one_that_is_down() {
    let mut s = isolated("a b c", "g:a,b,c").deaf("c").up();
    s.stop("b");
    s.calls();
    s.stop("");
    assert_eq!(s.calls(), "stop c#1");
    s.exits("c", 0);
    assert_eq!(s.calls(), "stop a#1, idle");
}

// --- strategies ---

#[test]
fn under_one_for_all_a_crash_restarts_all_members_in_order_and_nobody_else() {
    let mut s = isolated("a b c x", "g*:a,b,c").up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, stop a#1, spawn a#2, spawn b#2, spawn c#2");
    assert_eq!(s.states(), "a:running b:running c:running x:running");
    assert_eq!(s.child("a").cause.unwrap().to_string(), "b crashed, and group g restarts together");
}

#[test]
fn under_rest_for_one_a_crash_restarts_those_after_it() {
    let mut s = isolated("a b c d x", "g>:a,b,c,d").up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop d#1, stop c#1, spawn b#2, spawn c#2, spawn d#2");
    s.exits("d", 1);
    assert_eq!(s.calls(), "spawn d#3");
}

#[test]
fn e3_nobody_of_a_group_comes_up_before_all_are_down_for_real_and_it_is_one_restart() {
    let mut s = script("a b c", "g*:a,b,c", 1, Escalate::Isolate).deaf("a").up();
    s.exits("c", 1);
    assert_eq!(s.calls(), "stop b#1, stop a#1");
    assert_eq!(s.states(), "a:stopping b:pending c:pending");
    s.exits("a", 0);
    assert_eq!(s.calls(), "spawn a#2, spawn b#2, spawn c#2");
    assert_eq!(s.engine.groups().next().unwrap().used, 1);
}

#[test]
fn e5_two_members_that_crash_in_one_moment_are_one_restart() {
    let mut s = script("a b c", "g*:a,b,c", 1, Escalate::Isolate).deaf("a b c").up();
    s.exits("a", 1);
    s.exits("b", 1);
    s.exits("c", 1);
    assert_eq!(s.states(), "a:running b:running c:running");
    assert_eq!(s.engine.groups().next().unwrap().used, 1);
}

#[test]
fn a_group_restart_waits_for_the_delay_of_the_one_that_crashed() {
    let mut s = Script::grouped(specs("a b c"), groups("g*:a,b,c", |_| ()), Options::default()).up();
    s.exits("b", 1);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:pending b:backoff c:pending");
    assert_eq!(s.why("a"), "comes after b");
    s.wait_out_backoff("b");
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]
fn one_for_all_other_child_fails_restart_what_had_come_up_goes_down_again() {
    let mut s = isolated("a b c", "g*:a,b,c").up().slow_to_start("b");
    s.exits("c", 1);
    s.spawn_fails("b", true);
    assert_eq!(s.calls(), "stop b#1, stop a#1, spawn a#2, spawn b#2");
    assert_eq!(s.states(), "a:running b:backoff c:pending");
    s.pass(seconds(0));
    assert_eq!(s.calls(), "stop a#2, spawn a#3, spawn b#3");
    s.spawned("b");
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]
fn rest_for_one_other_child_fails_restart_only_that_one_is_tried_again() {
    let mut s = isolated("a b c", "g>:a,b,c").up().slow_to_start("b");
    s.exits("a", 1);
    s.spawn_fails("b", true);
    s.pass(seconds(0));
    assert_eq!(s.calls(), "stop c#1, stop b#1, spawn a#2, spawn b#2, spawn b#3");
    s.spawned("b");
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]
fn e23_what_an_operator_stopped_stays_down_when_its_group_is_restarted() {
    let mut s = isolated("a b c", "g*:a,b,c").up();
    s.stop("b");
    s.exits("a", 1);
    assert_eq!(s.states(), "a:running b:stopped c:running");
}

#[test]
fn temporary_bystander_a_temporary_member_goes_down_with_its_group_and_stays_down() {
    for strategy in ["g*:a,b", "g>:a,b"] {
        let mut s = isolated("a ?b", strategy).up();
        s.exits("a", 1);
        assert_eq!(s.states(), "a:running b:stopped", "{strategy}");
    }
}

#[test]
fn a_task_that_is_done_stays_done_when_its_group_is_restarted() {
    let mut s = isolated("~a b", "g*:a,b").up();
    s.exits("a", 0);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:done b:running");
}

#[test]
fn a_restart_leaves_its_group_only_over_edges_that_say_so() {
    let mut s = isolated("a b x<b/restart y<b", "g*:a,b").up();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop x#1, stop b#1, spawn a#2, spawn b#2, spawn x#2");
}

#[test]
fn an_edge_that_says_stop_holds_against_the_restart_of_the_group() {
    let mut s = isolated("a b<a/stop", "g*:a,b").up();
    s.exits("a", 1);
    assert_eq!(s.states(), "a:running b:stopped");
}

// --- giving up ---

#[test]
fn members_share_one_budget() {
    let mut s = script("a b c", "g:a,b", 2, Escalate::Isolate).up();
    s.exits("a", 1);
    s.exits("b", 1);
    s.exits("a", 1);
    assert_eq!(s.states(), "a:failed b:running c:running");
    assert_eq!(s.why("a"), "more than 2 restarts within 30s");
}

#[test]
fn isolate_fails_the_child_alone_and_touches_no_other() {
    let mut s = script("a b c", "g*:a,b", 0, Escalate::Isolate).up();
    s.exits("a", 1);
    assert_eq!((s.states().as_str(), s.calls().as_str()), ("a:failed b:running c:running", ""));
}

#[test]
fn group_fails_all_of_the_group_in_order_and_nobody_else() {
    let mut s = script("a b c x", "g:a,b,c", 0, Escalate::Group).up();
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, stop a#1");
    assert_eq!(s.states(), "a:failed b:failed c:failed x:running");
    assert_eq!(s.why("a"), "group g was given up because of b");
    assert!(s.engine.groups().next().unwrap().failed);
    let what = s.reports("b");
    let limit = Limit::Intensity { restarts: 0, period: seconds(30) };
    assert!(what.contains(&What::GroupGaveUp { group: Some(id("g")), limit, escalate: Escalate::Group }), "{what:?}");
}

#[test]
fn a_failed_group_can_be_started_again_with_a_new_budget() {
    let mut s = script("a b", "g:a,b", 1, Escalate::Group).up();
    s.exits("a", 1);
    s.exits("a", 1);
    assert_eq!(s.states(), "a:failed b:failed");
    s.start("");
    s.exits("a", 1);
    assert_eq!(s.states(), "a:running b:running");
}

#[test]
fn project_stops_everything_in_order() {
    let mut s = script("a b x y<x", "g:a,b", 0, Escalate::Project).up();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop y#1, stop b#1, stop x#1, idle");
    assert_eq!(s.states(), "a:failed b:stopped x:stopped y:stopped");
    assert_eq!(s.engine.ending(), Some((&id("a"), &Ending::GaveUp)));
    assert_eq!(s.why("x"), "a was given up, which stops everything");
}

#[test]
fn a_child_that_is_not_critical_takes_nobody_along() {
    for escalate in [Escalate::Group, Escalate::Project] {
        let budget = Intensity { restarts: 0, period: seconds(30) };
        let groups = groups("g:a,b", |group| (group.intensity, group.escalate) = (budget, escalate));
        let specs = undelayed("a b").into_iter().map(|spec| ChildSpec { critical: false, ..spec }).collect();
        let mut s = Script::grouped(specs, groups, Options::default()).up();
        s.exits("a", 1);
        assert_eq!(s.states(), "a:failed b:running", "{escalate:?}");
    }
}

fn nested(outer: &str, inner_restarts: u32, outer_restarts: u32, outer_escalate: Escalate) -> Script {
    let groups = groups(&format!("{outer}:a,in,d in:b,c"), |group| {
        let is_inner = group.id == id("in");
        let restarts = if is_inner { inner_restarts } else { outer_restarts };
        group.intensity = Intensity { restarts, period: seconds(30) };
        group.escalate = if is_inner { Escalate::Group } else { outer_escalate };
    });
    Script::grouped(undelayed("a b c d x"), groups, Options::default()).up()
}

#[test]
fn tree_a_crash_in_an_inner_group_stays_inside_it() {
    let mut s = nested("out*", 5, 5, Escalate::Project);
    s.exits("b", 1);
    assert_eq!(s.calls(), "spawn b#2");
}

#[test]
fn tree_a_group_that_gives_up_is_one_crash_in_the_group_above_which_restarts_by_its_own_strategy() {
    for (outer, calls) in [
        ("out", "stop c#1, spawn b#2, spawn c#2"),
        ("out>", "stop d#1, stop c#1, spawn b#2, spawn c#2, spawn d#2"),
        ("out*", "stop d#1, stop c#1, stop a#1, spawn a#2, spawn b#2, spawn c#2, spawn d#2"),
    ] {
        let mut s = nested(outer, 0, 1, Escalate::Project);
        s.exits("b", 1);
        assert_eq!(s.calls(), calls, "{outer}");
        assert_eq!(s.states(), "a:running b:running c:running d:running x:running");
        s.exits("b", 1);
        assert_eq!(s.engine.ending(), Some((&id("b"), &Ending::GaveUp)), "{outer}");
    }
}

#[test]
fn tree_giving_up_climbs_as_far_as_escalation_says() {
    let mut s = nested("out*", 0, 0, Escalate::Isolate);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:running b:failed c:failed d:running x:running");
    let mut s = nested("out*", 0, 0, Escalate::Group);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:failed b:failed c:failed d:failed x:running");
}

#[test]
fn e6_a_group_whose_restarts_are_delayed_beyond_the_window_is_given_up_all_the_same() {
    let groups = groups("out:in in:a,b", |group| {
        group.intensity = Intensity { restarts: 0, period: millis(1) };
        group.escalate = Escalate::Group;
        if group.id == id("out") {
            group.intensity.restarts = 1;
        }
    });
    let mut s = Script::grouped(specs("a b"), groups, Options::default()).up();
    for _ in 0..40 {
        if s.state("a") == "running" {
            s.exits("a", 1);
        }
        s.wait_out_backoff("a");
    }
    assert_eq!(s.states(), "a:failed b:failed");
}

#[test]
fn e7_a_group_whose_offender_became_stable_is_forgiven() {
    let mut s = nested("out", 0, 100, Escalate::Group);
    for _ in 0..20 {
        s.exits("b", 1);
        s.pass(seconds(11));
    }
    assert_eq!(s.states(), "a:running b:running c:running d:running x:running");
}

// --- the supervisor's own group ---

#[test]
fn without_a_shared_budget_each_child_outside_a_group_has_its_own() {
    let mut s = script("a b", "", 0, Escalate::Isolate).up();
    for _ in 0..5 {
        s.exits("a", 1);
        s.exits("b", 1);
    }
    assert_eq!(s.states(), "a:running b:running");
}

#[test]
fn with_a_shared_budget_all_children_outside_a_group_use_it_up_together() {
    let budget = Some(Intensity { restarts: 2, period: seconds(30) });
    for (escalate, states) in [
        (Escalate::Isolate, "a:failed b:running"),
        (Escalate::Group, "a:failed b:stopped"),
        (Escalate::Project, "a:failed b:stopped"),
    ] {
        let mut s = Script::flagged("a b", Flags { intensity: budget, escalate, ..Flags::default() }).up();
        s.exits("a", 1);
        s.exits("b", 1);
        s.exits("a", 1);
        assert_eq!(s.states(), states, "{escalate:?}");
    }
}

#[test]
fn the_rest_of_a_supervisor_without_order_are_those_that_need_the_crashed_one() {
    let budget = Some(Intensity { restarts: 5, period: seconds(30) });
    let flags = Flags { intensity: budget, strategy: Strategy::RestForOne, ..Flags::default() };
    let mut s = Script::flagged("a b<a c d<b", flags).up();
    s.exits("a", 1);
    assert_eq!(s.calls(), "stop d#1, stop b#1, spawn a#2, spawn b#2, spawn d#2");
}

// --- operators and new specs ---

#[test]
fn a_stop_of_everything_during_a_group_restart_ends_it() {
    let mut s = isolated("a b c", "g*:a,b,c").deaf("a").up();
    s.exits("c", 1);
    s.stop("");
    s.exits("a", 0);
    assert_eq!(s.states(), "a:stopped b:stopped c:stopped");
}

#[test]
fn a_start_of_one_member_while_another_holds_up_the_group_begins_it_at_once() {
    let mut s = isolated("a b c", "g>:a,b,c").up().slow_to_start("b");
    s.exits("a", 1);
    s.spawn_fails("b", true);
    s.start("c");
    assert_eq!(s.states(), "a:running b:backoff c:running");
}

#[test]
fn a_change_of_groups_restarts_nobody() {
    let mut s = isolated("a b c", "g*:a,b").up();
    s.regroup(undelayed("a b c"), groups("g*:b,c", |_| ()));
    assert_eq!(s.calls(), "");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop c#1, spawn b#2, spawn c#2");
    assert_eq!(s.child("a").group, None);
    assert_eq!(s.child("b").group, Some(id("g")));
}

#[test]
fn a_budget_and_an_edge_that_change_restart_nobody_and_hold_from_now_on() {
    let mut s = isolated("a b<a", "").up();
    let mut new = undelayed("a b<a");
    new[0].intensity.restarts = 0;
    new[1].needs = vec![Edge { on: id("a"), is: Condition::Started, then: Then::Stop }];
    s.replace(new);
    assert_eq!(s.calls(), "");
    s.exits("a", 1);
    assert_eq!(s.states(), "a:failed b:stopped");
}

#[test]
fn a_view_of_a_group_tells_its_tree_and_its_budget() {
    let s = nested("out*", 3, 4, Escalate::Project);
    let views: Vec<_> = s.engine.groups().collect();
    assert_eq!(views[0].members, [id("a"), id("in"), id("d")]);
    assert_eq!((views[1].parent.clone(), views[1].strategy), (Some(id("out")), Strategy::OneForOne));
    assert_eq!(views[0].intensity.restarts, 4);
}

#[test]
fn causes_speak_of_groups() {
    let group = |how| Cause::Group { group: Some(id("g")), by: id("a"), how };
    assert_eq!(group(crate::engine::How::Failed).to_string(), "a failed, and group g restarts together");
    let spec = GroupSpec::new(id("g"), vec![id("a")]);
    assert_eq!((spec.strategy, spec.escalate), (Strategy::OneForOne, Escalate::Isolate));
}
