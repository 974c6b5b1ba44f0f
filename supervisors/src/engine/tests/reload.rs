//! New specs for a running supervisor.

use super::script::{Script, specs};
use crate::spec::{Incarnation, Shutdown};

#[test]
fn unchanged_children_are_untouched_and_added_ones_wait_for_a_start() {
    let mut s = Script::new("db api<db").up();
    s.replace(specs("cache db api<db"));
    assert_eq!(s.calls(), "");
    assert_eq!(s.states(), "cache:stopped db:running api:running");
    s.start("");
    assert_eq!(s.calls(), "spawn cache#1");
}

#[test]
fn changed_children_are_restarted_uncounted_and_their_dependents_follow_their_edges() {
    let mut s = Script::new("db api<db web<db/restart").up();
    s.replace(specs("db! api<db web<db/restart"));
    assert_eq!(s.calls(), "stop web#1, stop db#1, spawn db#2, spawn web#2");
    assert_eq!(s.why("db"), "its configuration changed");
    assert_eq!(s.child("db").restarts, 0);
}

#[test]
fn a_changed_child_that_failed_or_waits_gets_another_chance_and_a_stopped_one_stays_down() {
    let mut s = Script::with("bad off", |spec| spec.intensity.restarts = 0).up();
    s.exits("bad", 1);
    s.stop("off");
    s.calls();
    s.replace(specs("bad off"));
    assert_eq!(s.calls(), "spawn bad#2");
    assert_eq!(s.states(), "bad:running off:stopped");
}

#[test]
fn removed_children_stop_in_order_and_are_gone_when_they_are_down() {
    let mut s = Script::new("db api<db web<api").deaf("db api").up();
    s.replace(specs("web"));
    assert_eq!(s.calls(), "stop api#1, stop web#1");
    assert_eq!(s.states(), "web:pending db:running api:stopping");
    s.exits("api", 0);
    assert_eq!(s.calls(), "stop db#1");
    s.exits("db", 0);
    assert_eq!((s.calls().as_str(), s.states().as_str()), ("spawn web#2", "web:running"));
}

#[test]
fn a_removed_child_cannot_be_started_again() {
    let mut s = Script::new("a b").deaf("a").up();
    s.replace(specs("b"));
    s.start("a");
    s.start("");
    s.exits("a", 1);
    assert_eq!((s.states().as_str(), s.calls().as_str()), ("b:running", "stop a#1"));
}

#[test]
fn h08_a_name_that_comes_back_never_repeats_the_number_of_a_life() {
    let mut s = Script::new("a b").up();
    s.replace(specs("b"));
    s.replace(specs("a b"));
    s.start("a");
    assert_eq!(s.child("a").incarnation, Some(Incarnation(2)));
}

#[test]
fn a_child_that_is_removed_and_comes_back_while_it_stops_is_down_until_it_is_started() {
    let mut s = Script::with("a b", |spec| spec.shutdown = Shutdown::Infinity).deaf("a").up();
    s.replace(specs("b"));
    s.replace(specs("a b"));
    s.exits("a", 0);
    assert_eq!(s.state("a"), "stopped");
}

#[test]
fn specs_that_cannot_be_supervised_change_nothing() {
    let mut s = Script::new("a b<a").up();
    for bad in ["a a", "a<b b<a", "a<ghost", "a b<a=ready"] {
        assert!(crate::engine::Engine::check(&specs(bad), &[]).is_err());
        s.replace(specs(bad));
        assert_eq!((s.states().as_str(), s.calls().as_str()), ("a:running b:running", ""), "{bad}");
    }
}
