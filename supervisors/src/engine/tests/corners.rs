//! Rare meetings of two things at once: operators, falls, batches, new specs. Ignored ones name what the engine gets wrong.

use super::script::{Script, groups, id, seconds, specs};
use crate::engine::{Effect, Ending, Event, Options, Rest};
use crate::spec::{
    Backoff, ChildSpec, Edge, Escalate, Flags, Incarnation, Intensity, Order, Readiness, Shutdown, Then,
};

/// Groups with a budget of five restarts, children with the usual delays.
fn delayed(children: &str, grouped: &str) -> Script {
    Script::grouped(specs(children), groups(grouped, |_| ()), Options::default())
}

fn undelayed(children: &str, grouped: &str) -> Script {
    let specs = specs(children).into_iter().map(|spec| ChildSpec { backoff: Backoff::None, ..spec }).collect();
    Script::grouped(specs, groups(grouped, |_| ()), Options::default())
}

/// A group of three whose second member waits in backoff and holds up the others.
fn held_up() -> Script {
    let mut s = delayed("a b c", "g*:a,b,c").up();
    s.exits("b", 1);
    s.exits("b", 1);
    assert_eq!(s.states(), "a:pending b:backoff c:pending");
    s
}

// --- the leader of a batch goes away ---

#[test]

fn a_stop_of_the_one_that_holds_up_its_group_lets_the_others_come_up() {
    let mut s = held_up();
    s.stop("b");
    assert_eq!(s.states(), "a:running b:stopped c:running");
}

#[test]

fn a_restart_of_the_one_that_holds_up_its_group_lets_the_others_come_up() {
    let mut s = held_up();
    s.restart("b");
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]
fn a_removal_of_the_one_that_holds_up_its_group_lets_the_others_come_up() {
    let mut s = held_up();
    s.regroup(specs("a c"), groups("g*:a,c", |_| ()));
    assert_eq!(s.states(), "a:running c:running");
}

#[test]

fn an_adoption_of_the_one_that_holds_up_its_group_lets_the_others_come_up() {
    let mut s = held_up();
    s.alive.insert(id("b"), Incarnation(9));
    s.step(Event::Adopt { id: id("b"), incarnation: Incarnation(9), restarts: 0, ready: false });
    assert_eq!(s.states(), "a:running b:running c:running");
}

#[test]

fn a_restored_end_of_the_one_that_holds_up_its_group_lets_the_others_come_up() {
    let mut s = held_up();
    s.step(Event::Restore { id: id("b"), incarnation: Incarnation(9), restarts: 0, rest: Some(Rest::Failed) });
    assert_eq!(s.states(), "a:running b:failed c:running");
}

#[test]
fn giving_up_the_one_that_fails_to_start_lets_the_others_come_up() {
    let mut s = undelayed("a b c", "g*:a,b,c").up().slow_to_start("b");
    s.exits("c", 1);
    for _ in 0..4 {
        s.spawn_fails("b", true);
        s.pass(seconds(0));
    }
    s.spawn_fails("b", true);
    assert_eq!(s.states(), "a:running b:failed c:running");
}

// --- a batch is wider than a group ---

#[test]

fn a_member_that_fails_to_start_holds_up_nobody_outside_of_its_group() {
    let mut s = delayed("a b y x<y", "g*:a,b").slow_to_start("a y");
    s.start("");
    s.spawn_fails("a", true);
    s.spawned("y");
    assert_eq!(s.states(), "a:backoff b:pending y:running x:running");
}

#[test]
fn a_member_that_cannot_start_holds_up_nobody_for_ever() {
    let mut s = delayed("a b y x<y", "g*:a,b").slow_to_start("y");
    s.fails_to_start.insert("a".to_owned());
    s.start("");
    s.spawned("y");
    s.pass(seconds(3600));
    assert_eq!(s.states(), "a:failed b:running y:running x:running");
}

#[test]

fn a_temporary_member_that_waits_comes_up_after_its_group_and_not_while_that_falls() {
    let mut s = undelayed("a b ?t", "g*:a,b,t").deaf("a").slow_to_start("b");
    s.start("");
    let (id, incarnation) = s.life("b");
    s.alive.remove(&id);
    s.step(Event::Exited { id, incarnation, reason: crate::reason::ExitReason::Code(1) });
    assert_eq!(s.states(), "a:stopping b:pending t:pending");
}

#[test]

fn a_group_restart_also_waits_for_a_member_that_is_being_stopped() {
    let mut s = undelayed("a b c", "g*:a,b,c").deaf("b").up();
    s.stop("b");
    s.exits("a", 1);
    assert_eq!(s.states(), "a:pending b:stopping c:pending");
    s.exits("b", 0);
    assert_eq!(s.states(), "a:running b:stopped c:running");
}

#[test]

fn a_child_that_waits_only_for_a_place_does_not_start_in_the_step_that_takes_what_it_needs() {
    let options = Options { start_parallel_max: 1, ..Options::default() };
    let mut s = Script::of(specs("z b<z/restart w<b"), options).slow_to_start("z").deaf("b");
    s.alive.insert(id("b"), Incarnation(1));
    s.step(Event::Adopt { id: id("b"), incarnation: Incarnation(1), restarts: 0, ready: false });
    s.start("");
    let (id, incarnation) = s.life("z");
    s.alive.remove(&id);
    let error = super::script::no_such_file("z", true);
    let effects = s.engine.step(s.now, Event::SpawnFailed { id, incarnation, error });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Spawn { .. })), "w starts while b goes down");
}

// --- new specs ---

#[test]

fn flags_that_give_up_the_order_of_the_list_let_those_start_that_waited_for_it() {
    let flags = Flags { order: Order::List, ..Flags::default() };
    let mut s = Script::flagged("a b", flags).slow_to_start("a");
    s.start("");
    s.step(Event::Reflag { flags: Flags::default() });
    assert_eq!(s.states(), "a:starting b:running");
}

#[test]

fn a_child_that_need_not_report_readiness_any_more_holds_up_nobody() {
    let mut s = undelayed("a! b w<a", "g:a,b").slow_to_be_ready("a").deaf("w");
    s.start("a b");
    s.start("w");
    s.stop("");
    s.regroup(specs("a b w<a"), groups("g:a,b", |_| ()));
    s.start("");
    assert_eq!(s.states(), "a:running b:running w:stopping");
    assert!(s.engine.batches.is_empty(), "a batch waits for a still");
}

#[test]

fn a_group_may_take_the_name_of_a_child_that_is_still_going_down() {
    let mut s = undelayed("a b", "").deaf("a").up();
    s.regroup(specs("b"), groups("a:b", |_| ()));
    s.exits("a", 0);
    assert_eq!(s.states(), "b:running");
}

#[test]

fn flags_that_order_the_list_are_taken_while_removed_children_go_down_against_it() {
    let mut s = undelayed("a<b b c", "").deaf("a b").up();
    s.replace(specs("c"));
    let flags = Flags { order: Order::List, ..Flags::default() };
    s.step(Event::Upgrade { specs: specs("c"), groups: Vec::new(), flags });
    assert!(s.states().starts_with("c:running a:stopping b:"));
}

#[test]

fn children_that_trade_places_while_they_fall_still_come_down() {
    let mut s = undelayed("z y<z/restart w<y/restart", "").deaf("w").up();
    s.restart("z");
    assert_eq!(s.calls(), "stop w#1");
    let new = specs("z<y/restart y w<y/restart").into_iter().map(|spec| ChildSpec { backoff: Backoff::None, ..spec });
    s.replace(new.collect());
    s.exits("w", 0);
    s.pass(seconds(3600));
    assert_eq!(s.states(), "z:running y:running w:running");
}

#[test]

fn children_that_traded_places_while_everything_fell_can_be_stopped_by_all_means() {
    let mut s = undelayed("z y<z w<y", "").deaf("w").up();
    s.stop("");
    s.replace(specs("z<y y w<y"));
    s.stop("");
    s.exits("w", 0);
    s.kill("");
    s.pass(seconds(3600));
    assert_eq!(s.states(), "z:stopped y:stopped w:stopped");
}

// --- a start meets a life on its way down ---

#[test]

fn a_child_that_is_kept_is_ready_if_it_said_so_on_its_way_down() {
    let mut s = undelayed("db! api<db/restart", "").slow_to_be_ready("db").deaf("api").up();
    s.stop("");
    s.ready("db");
    s.start("db");
    assert_eq!(s.state("db"), "ready");
    s.pass(seconds(120));
    assert_eq!(s.child("db").incarnation, Some(Incarnation(1)));
}

#[test]

fn a_start_while_a_hung_child_goes_down_still_restarts_its_group() {
    let mut s = undelayed("a b", "g*:a,b").deaf("b").up();
    s.hangs("b");
    s.start("");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop b#1, stop a#1, spawn a#2, spawn b#2");
}

#[test]

fn a_start_while_a_hung_child_goes_down_still_restarts_its_dependents() {
    let mut s = undelayed("db api<db/restart", "").deaf("db").up();
    s.hangs("db");
    s.start("");
    s.exits("db", 1);
    assert_eq!(s.calls(), "stop db#1, stop api#1, spawn db#2, spawn api#2");
}

#[test]
fn a_restart_while_a_hung_child_goes_down_still_restarts_its_group() {
    let mut s = undelayed("a b", "g*:a,b").deaf("b").up();
    s.hangs("b");
    s.restart("b");
    s.exits("b", 1);
    assert_eq!(s.calls(), "stop b#1, spawn b#2", "the operator asked for a new life of this one only");
}

#[test]

fn a_group_of_which_a_member_is_kept_has_not_failed() {
    let budget = Intensity { restarts: 0, period: seconds(30) };
    let grouped = groups("g:a,b", |group| (group.intensity, group.escalate) = (budget, Escalate::Group));
    let mut s = Script::grouped(specs("a b"), grouped, Options::default()).deaf("a").up();
    s.exits("b", 1);
    s.start("a");
    s.exits("a", 0);
    assert_eq!(s.states(), "a:running b:failed");
    assert!(!s.engine.groups().next().unwrap().failed);
}

#[test]

fn a_group_of_which_a_stopped_member_is_started_has_not_failed() {
    let budget = Intensity { restarts: 0, period: seconds(30) };
    let grouped = groups("g:a,b", |group| (group.intensity, group.escalate) = (budget, Escalate::Group));
    let mut s = Script::grouped(specs("a b"), grouped, Options::default()).up();
    s.stop("a");
    s.exits("b", 1);
    s.start("a");
    assert_eq!(s.states(), "a:running b:failed");
    assert!(!s.engine.groups().next().unwrap().failed);
}

// --- the end, and after it ---

#[test]

fn a_start_while_everything_ends_changes_nothing() {
    let budget = Intensity { restarts: 0, period: seconds(30) };
    let grouped = groups("g:a,b", |group| (group.intensity, group.escalate) = (budget, Escalate::Project));
    let mut s = Script::grouped(specs("a b x"), grouped, Options::default()).deaf("x").up();
    s.exits("a", 1);
    assert_eq!(s.engine.ending(), Some((&id("a"), &Ending::GaveUp)));
    s.start("");
    s.exits("x", 0);
    assert_eq!(s.states(), "a:failed b:stopped x:stopped");
}

#[test]

fn children_that_end_by_themselves_before_they_are_asked_leave_nothing_behind() {
    let mut s = undelayed("a b w<a/restart,b/restart", "").deaf("w").up();
    s.restart("a b");
    s.stop("a b");
    s.exits("a", 0);
    s.exits("b", 0);
    s.exits("w", 0);
    s.stop("");
    assert!(s.engine.batches.is_empty() && s.engine.falls.is_empty());
}

// --- what must stay as it is ---

#[test]
fn a_start_of_a_stopped_member_while_its_group_falls_waits_for_nobody() {
    let mut s = undelayed("a b c", "g*:a,b,c").deaf("a").up();
    s.stop("c");
    s.exits("b", 1);
    s.start("c");
    assert_eq!(s.states(), "a:stopping b:pending c:running");
}

#[test]

fn a_member_whose_binary_is_gone_escalates_like_one_that_is_given_up() {
    let grouped = groups("g:a,b", |group| group.escalate = Escalate::Group);
    let mut s = Script::grouped(specs("a b"), grouped, Options::default()).up().slow_to_start("a");
    s.exits("a", 1);
    s.spawn_fails("a", false);
    assert_eq!(s.states(), "a:failed b:failed");
}

#[test]

fn what_is_removed_stops_before_what_it_needs_is_restarted() {
    let mut s = undelayed("db api<db", "").deaf("api").up();
    let mut new = specs("db");
    new[0].readiness = Readiness::Within(seconds(9));
    s.replace(new);
    assert_eq!(s.calls(), "stop api#1");
}

#[test]
fn an_edge_that_says_stop_wins_over_a_start_of_the_dependent_alone() {
    let spec = |spec: ChildSpec| ChildSpec { shutdown: Shutdown::Infinity, ..spec };
    let mut all: Vec<_> = specs("db api<db").into_iter().map(spec).collect();
    all[1].needs = vec![Edge { then: Then::Stop, ..all[1].needs[0].clone() }];
    let mut s = Script::of(all, Options::default()).deaf("api").up();
    s.stop("db");
    s.step(Event::Start { ids: vec![id("api")], with_needs: false });
    s.exits("api", 0);
    assert_eq!(s.states(), "db:stopped api:pending");
}
