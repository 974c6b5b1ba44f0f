//! Stops: order, grace, kill, what a stop wins over, and when everything is idle.

use super::script::{Script, millis, seconds};
use crate::engine::{Desired, What};
use crate::reason::ExitReason;
use crate::spec::Shutdown;

#[test]
fn e15_everything_stops_against_the_order_of_needs_and_in_parallel_where_it_may() {
    let mut s = Script::new("db cache api<db,cache worker<db web<api").deaf("db cache api worker web").up();
    s.stop("");
    assert_eq!(s.calls(), "stop web#1, stop worker#1");
    s.exits("web", 0);
    assert_eq!(s.calls(), "stop api#1");
    s.exits("api", 0);
    assert_eq!(s.calls(), "stop cache#1", "db still has the worker");
    s.exits("worker", 0);
    assert_eq!(s.calls(), "stop db#1");
    s.exits("db", 0);
    s.exits("cache", 0);
    assert_eq!(s.calls(), "idle");
}

#[test]
fn e15_a_full_stop_takes_no_longer_than_the_longest_chain() {
    let mut s = Script::new("a b<a c<b x y<x z").deaf("a b c x y z").up();
    s.stop("");
    s.pass(seconds(15) - millis(1));
    assert_eq!(s.state("a"), "stopping", "three graces of five seconds are not over");
    s.pass(millis(1));
    assert!(s.calls().ends_with("kill a#1, idle"));
}

#[test]
fn the_order_of_stops_holds_across_a_child_that_is_not_running() {
    let mut s = Script::new("db ?job<db web<job=done").deaf("db web");
    s.start("");
    s.exits("job", 0);
    s.calls();
    s.stop("");
    assert_eq!(s.calls(), "stop web#1", "web needs db by way of the finished job");
    s.exits("web", 0);
    assert_eq!(s.calls(), "stop db#1");
}

#[test]
fn sup_stop_timeout_a_child_that_ignores_the_request_is_killed_after_its_grace() {
    let mut s = Script::new("api").deaf("api").up();
    s.stop("");
    s.pass(seconds(5) - millis(1));
    assert_eq!(s.calls(), "stop api#1");
    s.pass(millis(1));
    assert_eq!(s.calls(), "kill api#1, idle");
    assert!(s.reports("api").contains(&What::Killing));
}

#[test]
fn sup_stop_infinity_a_child_without_limit_is_waited_for() {
    let mut s = Script::with("api", |spec| spec.shutdown = Shutdown::Infinity).deaf("api").up();
    s.stop("");
    s.pass(seconds(100_000));
    assert_eq!(s.calls(), "stop api#1");
}

#[test]
fn sup_stop_brutal_kill_a_child_is_killed_without_being_asked() {
    let mut s = Script::with("api", |spec| spec.shutdown = Shutdown::BrutalKill).up();
    s.stop("");
    assert_eq!(s.calls(), "kill api#1, idle");
}

#[test]
fn sup_stop_race_children_that_end_by_themselves_during_a_stop_are_not_restarted() {
    let mut s = Script::new("a b<a ~c<b").deaf("a b c").up();
    s.stop("");
    assert_eq!(s.calls(), "stop c#1");
    s.exits("a", 1);
    s.ends("b", ExitReason::Signal { number: 11, core: true });
    s.exits("c", 3);
    assert_eq!(s.calls(), "idle");
    assert_eq!(s.states(), "a:stopped b:stopped c:stopped");
}

#[test]
fn a_killed_life_is_not_taken_for_dead_before_its_end_is_told() {
    let mut s = Script::with("api", |spec| spec.shutdown = Shutdown::BrutalKill).up();
    let (id, incarnation) = s.life("api");
    let effects = s.engine.step(s.now, crate::engine::Event::Stop { ids: vec![] });
    let is_kill = |effect: &crate::engine::Effect| matches!(effect, crate::engine::Effect::Kill { id: who, incarnation: life, .. } if *who == id && *life == incarnation);
    assert!(effects.iter().any(is_kill));
    assert_eq!(s.state("api"), "stopping");
    assert!(!s.engine.is_idle());
}

#[test]
fn a_second_stop_kills_what_is_stopping_and_what_would_have_been_asked_next() {
    let mut s = Script::new("db api<db").deaf("db api").up();
    s.stop("");
    s.kill("");
    assert_eq!(s.calls(), "stop api#1, kill api#1, kill db#1, idle");
    assert_eq!(s.timers().count(), 0);
}

#[test]
fn a_kill_leaves_alone_what_is_not_on_its_way_down() {
    let mut s = Script::new("api").up();
    s.kill("api");
    assert_eq!((s.calls().as_str(), s.state("api")), ("", "running"));
}

#[test]
fn e1_stop_during_backoff_cancels_the_timer() {
    let mut s = Script::new("api").up();
    s.exits("api", 1);
    s.exits("api", 1);
    assert_eq!(s.state("api"), "backoff");
    let (due, _) = s.next_timer().unwrap();
    s.calls();
    s.stop("api");
    assert_eq!(s.timers().count(), 0);
    s.step(crate::engine::Event::Timer(due));
    s.pass(seconds(60));
    assert_eq!((s.calls().as_str(), s.state("api")), ("idle", "stopped"), "it does not come back");
}

#[test]
fn e14_a_full_stop_during_backoff_is_immediate() {
    let mut s = Script::new("api web<api").up();
    s.stop("web");
    s.exits("api", 1);
    s.exits("api", 1);
    s.calls();
    s.stop("");
    assert_eq!(s.calls(), "idle");
}

#[test]
fn h02_hanging_restart_loop_a_child_that_never_starts_can_be_stopped_and_started_again() {
    let mut s = Script::new("api").slow_to_start("api");
    s.start("");
    s.spawn_fails("api", true);
    s.stop("api");
    assert_eq!((s.state("api"), s.timers().count()), ("stopped", 0));
    s.start("api");
    s.spawned("api");
    assert_eq!(s.state("api"), "running");
    assert_eq!(s.child("api").restarts, 0, "starts by hand are not counted");
}

#[test]
fn e23_a_manual_stop_survives_the_restart_of_what_the_child_needs() {
    let mut s = Script::new("db api<db/restart").up();
    s.stop("api");
    s.exits("db", 1);
    s.restart("db");
    assert_eq!(s.states(), "db:running api:stopped");
    assert_eq!(s.child("api").desired, Desired::Down);
}

#[test]
fn e23_a_manual_stop_wins_over_a_restart_that_is_under_way() {
    let mut s = Script::new("db api<db/restart").deaf("api").up();
    s.exits("db", 1);
    assert_eq!(s.states(), "db:pending api:stopping");
    s.stop("api");
    s.exits("api", 0);
    assert_eq!(s.states(), "db:running api:stopped");
}

#[test]
fn a_stop_of_everything_that_is_down_already_still_ends_in_idle() {
    let mut s = Script::new("api");
    s.stop("");
    s.stop("");
    assert_eq!(s.calls(), "idle, idle");
}

#[test]
fn everything_is_idle_when_the_last_task_is_done() {
    let mut s = Script::new("?a ?b<a=done").up();
    s.exits("a", 0);
    assert_eq!(s.calls(), "spawn b#1");
    s.exits("b", 0);
    assert_eq!(s.calls(), "idle");
}

#[test]
fn everything_is_idle_when_what_is_left_waits_for_a_child_that_failed() {
    let mut s = Script::new("?migrate api<migrate=done").up();
    s.exits("migrate", 1);
    assert_eq!(s.calls(), "idle");
    assert_eq!(s.states(), "migrate:failed api:pending");
}

#[test]
fn e2_h08_messages_of_an_earlier_life_are_ignored() {
    let mut s = Script::new("api!").up();
    let (id, incarnation) = s.life("api");
    s.restart("api");
    assert_eq!(s.calls(), "stop api#1, spawn api#2");
    let stale = [
        crate::engine::Event::Exited { id: id.clone(), incarnation, reason: ExitReason::Code(1) },
        crate::engine::Event::Unready { id: id.clone(), incarnation, detail: String::new() },
        crate::engine::Event::LivenessLost { id, incarnation, detail: String::new() },
    ];
    for event in stale {
        assert_eq!(s.engine.step(s.now, event.clone()), [], "{event:?}");
    }
    assert_eq!(s.state("api"), "ready");
}
