//! Starts: order, conditions, parallelism, and starts that fail.

use super::script::{Script, id, millis, seconds, specs};
use crate::engine::{Event, Options, What};
use crate::spec::{Backoff, Incarnation, Shutdown};

#[test]
fn children_start_in_the_order_of_their_needs_and_in_parallel_where_they_may() {
    let mut s = Script::new("web<api=ready api!<db=ready,cache=ready db! cache!").slow_to_start("db cache api web");
    s.start("");
    assert_eq!(s.calls(), "spawn db#1, spawn cache#1");
    s.spawned("cache");
    s.ready("cache");
    assert_eq!(s.calls(), "", "api needs both");
    s.spawned("db");
    assert_eq!(s.calls(), "", "running is not ready");
    s.ready("db");
    assert_eq!(s.calls(), "spawn api#1");
    assert_eq!(s.states(), "web:pending api:starting db:ready cache:ready");
}

#[test]
fn the_start_order_is_shown_in_waves() {
    let s = Script::new("web<api api<db,cache db cache");
    let waves: Vec<Vec<String>> =
        s.engine.start_order().iter().map(|wave| wave.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(waves, [vec!["db", "cache"], vec!["api"], vec!["web"]]);
}

#[test]
fn a_need_that_is_started_holds_while_it_runs_and_after_it_is_done() {
    let mut s = Script::new("?init api<init").slow_to_start("init");
    s.start("");
    assert_eq!(s.state("api"), "pending");
    s.spawned("init");
    assert_eq!(s.state("api"), "running");
    s.exits("init", 0);
    s.restart("api");
    assert_eq!(s.states(), "init:done api:running");
}

#[test]
fn a_need_that_is_to_be_done_holds_only_after_a_clean_end() {
    let mut s = Script::new("?migrate api<migrate=done");
    s.start("");
    assert_eq!(s.states(), "migrate:running api:pending");
    s.exits("migrate", 1);
    assert_eq!(s.states(), "migrate:failed api:pending");
    s.start("migrate");
    s.exits("migrate", 0);
    assert_eq!(s.states(), "migrate:done api:running");
}

#[test]
fn a_temporary_child_that_ends_normally_before_it_was_ready_has_failed_and_after_it_is_done() {
    let mut s = Script::new("?db! api<db=ready").slow_to_start("db");
    s.start("");
    s.spawned("db");
    s.exits("db", 0);
    assert_eq!(s.states(), "db:failed api:pending");
    s.start("db");
    s.spawned("db");
    s.ready("db");
    s.exits("db", 0);
    assert_eq!(s.states(), "db:done api:running");
}

#[test]
fn a_named_start_brings_up_what_it_needs_and_nothing_else() {
    let mut s = Script::new("db! api<db=ready other");
    s.start("api");
    assert_eq!(s.states(), "db:ready api:running other:stopped");
}

#[test]
fn a_start_without_needs_waits_for_them_to_be_started_by_somebody() {
    let mut s = Script::new("db! api<db=ready");
    s.step(Event::Start { ids: vec![id("api")], with_needs: false });
    assert_eq!(s.states(), "db:stopped api:pending");
    assert_eq!(s.why("api"), "db was stopped");
    s.start("db");
    assert_eq!(s.states(), "db:ready api:running");
}

#[test]
fn starting_everything_again_does_not_repeat_what_is_done_but_naming_it_does() {
    let mut s = Script::new("?migrate api<migrate=done").up();
    s.exits("migrate", 0);
    s.calls();
    s.start("");
    s.start("api");
    assert_eq!(s.calls(), "", "joining a run repeats nothing");
    s.start("migrate");
    assert_eq!(s.calls(), "spawn migrate#2");
}

#[test]
fn what_was_done_runs_again_when_everything_is_started_after_everything_was_stopped() {
    let mut s = Script::new("?migrate").up();
    s.exits("migrate", 0);
    s.stop("");
    assert_eq!(s.state("migrate"), "done");
    s.start("");
    assert_eq!(s.child("migrate").incarnation, Some(Incarnation(2)));
}

#[test]
fn an_ended_need_runs_again_for_a_dependent_that_needs_it_ready() {
    let mut s = Script::new("~broker! api<broker=ready").up();
    s.exits("broker", 0);
    s.stop("api");
    s.start("api");
    assert_eq!(s.states(), "broker:ready api:running");
}

#[test]
fn e6_a_start_that_always_fails_is_given_up_after_so_many_lives_although_the_delays_outgrow_the_window() {
    let mut s = Script::with("api", |spec| {
        spec.backoff = Backoff::Exponential { base: seconds(60), max: seconds(600) };
        spec.unstable_max = Some(4);
    })
    .slow_to_start("api");
    s.start("");
    for failures in 1..=4 {
        assert_eq!(s.state("api"), "starting", "before failure {failures}");
        s.spawn_fails("api", true);
        s.pass(seconds(600));
    }
    assert_eq!(s.state("api"), "failed");
    assert_eq!(s.why("api"), "4 lives in a row never became stable");
}

#[test]
fn a_start_that_cannot_succeed_fails_at_once_and_is_no_crash_loop() {
    let mut s = Script::new("api web<api").slow_to_start("api");
    s.start("");
    s.spawn_fails("api", false);
    assert_eq!(s.states(), "api:failed web:pending");
    assert_eq!(s.why("api"), "failed to start api: no such file");
    assert_eq!(s.child("api").restarts, 0);
    assert_eq!(s.timers().count(), 0);
}

#[test]
fn a_start_that_failed_is_never_tried_again_at_once() {
    let mut s = Script::new("api").slow_to_start("api");
    s.start("");
    s.spawn_fails("api", true);
    assert_eq!(s.state("api"), "backoff");
    let (_, due) = s.next_timer().unwrap();
    assert!(due >= millis(100), "{due:?} is less than half of the base delay");
}

#[test]
fn e8_a_child_that_does_not_become_ready_in_time_is_stopped_first_and_then_counted_as_failed() {
    let mut s = Script::new("api!").slow_to_be_ready("api").deaf("api").up();
    s.pass(seconds(60));
    assert_eq!(s.calls(), "stop api#1");
    assert_eq!(s.state("api"), "stopping");
    assert_eq!(s.why("api"), "not ready within 60s");
    s.pass(seconds(5));
    assert_eq!(s.calls(), "kill api#1, spawn api#2", "the grace is over, and only then the next life begins");
    assert_eq!(s.child("api").restarts, 1);
}

#[test]
fn e8_readiness_that_never_comes_is_given_up() {
    let mut s = Script::with("api!", |spec| spec.unstable_max = Some(3)).slow_to_be_ready("api").up();
    s.pass(seconds(600));
    assert_eq!(s.state("api"), "failed");
    assert_eq!(s.child("api").incarnation, Some(Incarnation(3)));
}

#[test]
fn a_temporary_child_that_does_not_become_ready_fails() {
    let mut s = Script::new("?api!").slow_to_be_ready("api").up();
    s.pass(seconds(60));
    assert_eq!(s.state("api"), "failed");
}

#[test]
fn readiness_in_time_disarms_the_deadline() {
    let mut s = Script::new("api!").up();
    s.pass(seconds(600));
    assert_eq!((s.state("api"), s.calls().as_str()), ("ready", ""));
}

#[test]
fn e13_a_stop_while_a_life_is_being_started_ends_it_as_soon_as_it_has_begun() {
    let mut s = Script::new("api").slow_to_start("api");
    s.start("");
    s.stop("");
    assert_eq!(s.calls(), "spawn api#1", "there is nothing to stop yet, and nobody is idle yet");
    s.spawned("api");
    assert_eq!(s.calls(), "stop api#1, idle");
    assert_eq!(s.state("api"), "stopped");
}

#[test]
fn e13_a_stop_while_a_start_fails_leaves_the_child_stopped_not_failed() {
    let mut s = Script::new("api").slow_to_start("api");
    s.start("");
    s.stop("api");
    s.spawn_fails("api", true);
    assert_eq!(s.state("api"), "stopped");
    assert_eq!(s.calls(), "spawn api#1, idle");
}

#[test]
fn a_start_takes_back_a_stop_that_has_not_begun() {
    let mut s = Script::with("api", |spec| spec.shutdown = Shutdown::Infinity).slow_to_start("api");
    s.start("");
    s.stop("api");
    s.start("api");
    s.spawned("api");
    assert_eq!(s.calls(), "spawn api#1");
    assert_eq!(s.state("api"), "running");
    assert_eq!(s.timers().count(), 1, "the life counts towards stability again");
}

#[test]
fn a_start_while_stopping_brings_the_next_life_after_this_one() {
    let mut s = Script::new("api").deaf("api").up();
    s.stop("api");
    s.start("api");
    assert_eq!(s.calls(), "stop api#1");
    s.exits("api", 0);
    assert_eq!(s.calls(), "spawn api#2");
}

#[test]
fn e16_other_children_are_served_while_one_takes_a_minute_to_start() {
    let mut s = Script::new("slow quick").slow_to_start("slow");
    s.start("");
    s.pass(seconds(60));
    s.restart("quick");
    s.stop("quick");
    assert_eq!(s.states(), "slow:starting quick:stopped");
}

#[test]
fn e25_no_more_children_are_starting_at_once_than_allowed() {
    let line: String = (0..50).map(|n| format!("s{n}<db=ready/restart ")).collect();
    let options = Options { start_parallel_max: 4, ..Options::default() };
    let mut s = Script::of(specs(&format!("db! {line}")), options);
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    s.slow_to_start.extend(names.iter().cloned());
    s.start("");
    let mut most = 0;
    while let Some(name) = names.iter().find(|name| s.state(name) == "starting").cloned() {
        most = most.max(names.iter().filter(|name| s.state(name) == "starting").count());
        s.spawned(&name);
    }
    assert_eq!(most, 4);
    s.exits("db", 1);
    assert_eq!(names.iter().filter(|name| s.state(name) == "starting").count(), 4, "after the common need died, too");
    assert_eq!(names.iter().filter(|name| s.state(name) == "pending").count(), 46);
}

#[test]
fn an_adopted_life_is_not_started_again_and_its_end_is_judged() {
    let mut s = Script::new("db! api<db=ready");
    s.alive.insert(id("db"), Incarnation(7));
    s.step(Event::Adopt { id: id("db"), incarnation: Incarnation(7), restarts: 3, ready: true });
    assert_eq!(s.states(), "db:ready api:stopped");
    s.start("");
    assert_eq!(s.calls(), "spawn api#1");
    s.exits("db", 1);
    assert_eq!(s.calls(), "spawn db#8");
    assert_eq!(s.child("db").restarts, 4);
}

#[test]
fn an_adopted_life_that_was_not_ready_has_its_full_time_to_become_so() {
    let mut s = Script::new("db!").slow_to_be_ready("db");
    s.pass(seconds(1000));
    s.alive.insert(id("db"), Incarnation(1));
    s.step(Event::Adopt { id: id("db"), incarnation: Incarnation(1), restarts: 0, ready: false });
    s.pass(seconds(59));
    assert_eq!(s.state("db"), "running");
    s.pass(seconds(1));
    assert!(s.reports("db").contains(&What::ReadyTimeout { within: seconds(60) }));
}

#[test]
fn events_for_a_child_that_does_not_exist_change_nothing() {
    let mut s = Script::new("api");
    s.start("ghost");
    s.restart("ghost");
    s.stop("ghost");
    s.kill("ghost");
    s.step(Event::Spawned { id: id("ghost"), incarnation: Incarnation(1) });
    assert_eq!((s.states().as_str(), s.calls().as_str()), ("api:stopped", ""));
}
