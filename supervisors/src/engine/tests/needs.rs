//! What happens to dependents when what they need crashes, restarts, stops, fails or is not ready any more.

use super::script::{Script, seconds};
use crate::engine::{Cause, Desired, How, What};
use crate::spec::{Incarnation, Intensity};

#[test]
fn e10_a_dependent_waits_for_what_it_needs_and_says_so() {
    let mut s = Script::new("db! api<db=ready").slow_to_be_ready("db");
    s.start("");
    assert_eq!(s.states(), "db:running api:pending");
    assert_eq!(s.child("api").blocked_by, [super::script::id("db")]);
    assert_eq!(s.why("api"), "waits for db to be ready");
    s.ready("db");
    assert_eq!(s.child("api").blocked_by, []);
    assert_eq!(s.why("api"), "asked for");
}

#[test]
fn e10_dependents_of_a_failed_child_wait_with_a_cause_and_burn_nothing() {
    let mut s = Script::with("db! api<db=ready web<api", |spec| spec.intensity.restarts = 0);
    s.slow_to_be_ready.insert("db".to_owned());
    s.start("");
    s.exits("db", 1);
    assert_eq!(s.states(), "db:failed api:pending web:pending");
    assert_eq!(s.why("api"), "db failed");
    assert_eq!(s.why("web"), "waits for api to start");
    assert_eq!((s.child("api").restarts, s.child("api").incarnation), (0, None));
    s.slow_to_be_ready.clear();
    s.start("db");
    assert_eq!(s.states(), "db:ready api:running web:running", "the way is free again");
}

#[test]
fn e10_a_block_is_reported_once_and_again_only_when_it_gets_worse() {
    let mut s = Script::with("db! cache! api<db=ready,cache=ready", |spec| spec.intensity.restarts = 0);
    s.slow_to_be_ready.extend(["db".to_owned(), "cache".to_owned()]);
    s.start("");
    s.ready("cache");
    s.pass(seconds(1));
    let blocked = |what: &What| matches!(what, What::Blocked { .. });
    assert_eq!(s.reports("api").iter().filter(|what| blocked(what)).count(), 1);
    s.exits("db", 1);
    assert_eq!(s.reports("api").iter().filter(|what| blocked(what)).count(), 1);
}

#[test]
fn e11_a_dependent_is_left_alone_by_a_restart_of_its_need_unless_its_edge_says_otherwise() {
    let mut s = Script::new("db! api<db=ready web<db=ready/restart").up();
    s.exits("db", 1);
    assert_eq!(s.calls(), "stop web#1, spawn db#2, spawn web#2");
    assert_eq!(s.child("web").restarts, 1);
    assert_eq!(s.child("api").incarnation, Some(Incarnation(1)));
}

#[test]
fn e11_restarts_follow_chains_of_edges_in_order() {
    let mut s = Script::new("db! api!<db=ready/restart web<api=ready/restart").deaf("api web").up();
    s.restart("db");
    assert_eq!(s.calls(), "stop web#1");
    s.exits("web", 0);
    assert_eq!(s.calls(), "stop api#1");
    s.exits("api", 0);
    assert_eq!(s.calls(), "stop db#1, spawn db#2, spawn api#2, spawn web#2");
    assert_eq!(s.child("web").restarts, 0, "a restart by hand is not an automatic one");
}

#[test]
fn e3_all_are_down_for_real_before_the_first_comes_up_and_it_costs_one_restart() {
    let mut s = Script::with("db api<db/restart web<db/restart", |spec| {
        spec.intensity = Intensity { restarts: 1, period: seconds(30) };
    })
    .deaf("api web")
    .up();
    s.exits("db", 1);
    assert_eq!(s.calls(), "stop web#1, stop api#1");
    s.exits("web", 1);
    assert_eq!(s.calls(), "", "api is not down yet");
    assert_eq!(s.why("db"), "waits for api to be down");
    s.exits("api", 1);
    assert_eq!(s.calls(), "spawn db#2, spawn api#2, spawn web#2");
    s.exits("api", 1);
    assert_eq!(s.calls(), "spawn api#3", "the restart for db was charged to db alone");
}

#[test]
fn e5_two_crashes_of_one_set_in_one_moment_are_one_restart_of_the_dependent() {
    let mut s = Script::new("db api<db/restart").deaf("api").up();
    s.exits("db", 1);
    s.exits("api", 1);
    assert_eq!(s.calls(), "stop api#1, spawn db#2, spawn api#2");
    assert_eq!(s.child("api").restarts, 1);
}

#[test]
fn a_dependent_comes_up_again_only_when_its_need_is_there_again() {
    let mut s = Script::new("db! api<db=ready/restart").up();
    s.slow_to_be_ready.insert("db".to_owned());
    s.exits("db", 1);
    assert_eq!(s.states(), "db:running api:pending");
    s.ready("db");
    assert_eq!(s.states(), "db:ready api:running");
}

#[test]
fn a_dependent_that_is_to_stop_with_its_need_stays_down() {
    let mut s = Script::new("db! api<db=ready/stop").up();
    s.exits("db", 1);
    assert_eq!(s.states(), "db:ready api:stopped");
    assert_eq!(s.why("api"), "db crashed");
    assert_eq!(s.child("api").desired, Desired::Down);
}

#[test]
fn where_one_edge_says_restart_and_another_stop_the_stop_holds() {
    let mut s = Script::new("db x<db/restart y<db/restart z<x/restart,y/stop").up();
    s.exits("db", 1);
    assert_eq!(s.states(), "db:running x:running y:running z:stopped");
}

#[test]
fn a_dependent_that_never_started_is_not_stopped_by_a_crash_of_its_need() {
    let mut s = Script::new("db! api<db=ready/stop").slow_to_be_ready("db");
    s.start("");
    s.exits("db", 1);
    s.ready("db");
    assert_eq!(s.states(), "db:ready api:running");
}

#[test]
fn loss_of_readiness_concerns_dependents_that_need_it_ready_and_say_so() {
    let mut s = Script::new("db! a<db=ready b<db=ready/restart c<db=ready/stop d<db/restart").up();
    s.unready("db");
    assert_eq!(s.states(), "db:running a:running b:pending c:stopped d:running");
    assert_eq!(s.why("c"), "db is not ready any more");
    s.ready("db");
    assert_eq!(s.states(), "db:ready a:running b:running c:stopped d:running");
}

#[test]
fn the_clean_end_of_a_need_is_a_loss_of_readiness_and_no_crash() {
    let mut s = Script::new("~db! a<db=ready b<db=ready/restart c<db/restart").up();
    s.exits("db", 0);
    assert_eq!(s.states(), "db:done a:running b:pending c:running");
    assert_eq!(s.why("b"), "db has ended");
}

#[test]
fn a_stop_by_hand_takes_dependents_along_as_a_crash_would_but_first() {
    let mut s = Script::new("db a<db b<db/restart c<db/stop").deaf("b c").up();
    s.stop("db");
    assert_eq!(s.calls(), "stop c#1, stop b#1");
    s.exits("b", 0);
    s.exits("c", 0);
    assert_eq!(s.calls(), "stop db#1");
    assert_eq!(s.states(), "db:stopped a:running b:pending c:stopped");
    assert_eq!(s.why("b"), "db was stopped");
    s.start("db");
    assert_eq!(s.states(), "db:running a:running b:running c:stopped");
    assert_eq!(s.child("b").restarts, 0);
}

#[test]
fn temporary_bystander_a_temporary_dependent_goes_down_with_its_need_and_is_not_started_again() {
    let mut s = Script::new("db ?job<db/restart").up();
    s.exits("db", 1);
    assert_eq!(s.states(), "db:running job:stopped");
}

#[test]
fn a_dependent_of_a_temporary_child_that_failed_follows_its_edge() {
    let mut s = Script::new("?db a<db/restart b<db").up();
    s.exits("db", 1);
    assert_eq!(s.states(), "db:failed a:pending b:running");
    assert_eq!(s.child("a").cause, Some(Cause::Dependency { on: super::script::id("db"), how: How::Failed }));
}

#[test]
fn nobody_waits_for_a_life_that_turned_out_to_stay() {
    let mut s = Script::new("db api<db/restart web<api").deaf("web api").up();
    s.stop("web api");
    s.restart("db");
    assert_eq!(s.calls(), "stop web#1, stop db#1, spawn db#2");
    s.start("api");
    s.exits("web", 0);
    assert_eq!(s.states(), "db:running api:running web:stopped");
    assert_eq!(s.calls(), "", "the stop of api was taken back before it began");
    assert_eq!(s.timers().count(), 2, "one stability timer for each of db and api");
}

#[test]
fn every_restart_has_a_cause_that_can_be_asked_for() {
    let mut s = Script::new("db api<db/restart").up();
    s.exits("db", 137);
    assert_eq!(s.why("db"), "exited with exit code 137");
    assert_eq!(s.why("api"), "db crashed");
    s.restart("db");
    assert_eq!((s.why("db"), s.why("api")), ("asked for".to_owned(), "db was restarted".to_owned()));
}

#[test]
fn e3_members_of_one_fall_wait_for_each_other_also_when_their_need_stays_up() {
    let mut s = Script::new("db! x<db=ready/restart y<db=ready/restart").deaf("x").up();
    s.unready("db");
    s.ready("db");
    assert_eq!(s.states(), "db:ready x:stopping y:pending");
    assert_eq!(s.why("y"), "waits for x to be down");
    s.exits("x", 0);
    assert_eq!(s.states(), "db:ready x:running y:running");
}
