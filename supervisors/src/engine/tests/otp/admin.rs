//! Calls on single children, and what is refused.

use std::time::Duration;

use super::super::script::{Script, groups, id, millis, otp_specs, seconds};
use super::{ALL_STRATEGIES, dynamic};
use crate::engine::{AdminError, Engine, Event, SpecError};
use crate::spec::{AutoShutdown, ChildSpec, Flags, Intensity, Restart, Shutdown, Strategy};

#[test]
fn child_adm_every_call_in_every_state() {
    let mut s = Script::otp("a", Strategy::OneForOne, 1);
    s.start("");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:running", [1, 1, 0, 1]));
    assert_eq!(s.add("a"), Err(AdminError::AlreadyStarted(id("a"))));
    assert_eq!(s.try_once("a"), Err(AdminError::Running(id("a"))));
    assert_eq!(s.remove("a"), Err(AdminError::Running(id("a"))));
    assert_eq!(s.try_once("ghost"), Err(AdminError::NotFound(id("ghost"))));
    assert_eq!(s.remove("ghost"), Err(AdminError::NotFound(id("ghost"))));

    s.stop("a");
    s.stop("a");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:undefined", [1, 0, 0, 1]));
    assert_eq!(s.add("a"), Err(AdminError::AlreadyPresent(id("a"))));

    s.try_once("a").unwrap();
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:running", [1, 1, 0, 1]));
    assert_eq!(s.try_once("a"), Err(AdminError::Running(id("a"))));
    assert_eq!(s.remove("a"), Err(AdminError::Running(id("a"))));

    s.stop("a");
    s.remove("a").unwrap();
    assert_eq!((s.otp_states().as_str(), s.counts()), ("", [0, 0, 0, 0]));
    assert_eq!(s.try_once("a"), Err(AdminError::NotFound(id("a"))));
    assert_eq!(s.remove("a"), Err(AdminError::NotFound(id("a"))));

    s.add("a").unwrap();
    s.add("b").unwrap();
    assert_eq!((s.otp_states().as_str(), s.counts()), ("a:running b:running", [2, 2, 0, 2]));
    assert_eq!(s.calls(), "spawn a#1, stop a#1, idle, spawn a#2, stop a#2, idle, spawn a#3, spawn b#3");
}

#[test]
fn child_adm_a_call_that_was_not_asked_before_changes_nothing() {
    let mut s = Script::otp("a b", Strategy::OneForAll, 1).up();
    s.stop("b");
    s.calls();
    s.step(Event::Try { id: id("a") });
    s.step(Event::Remove { id: id("a") });
    s.step(Event::Add { spec: Box::new(ChildSpec::otp(id("a"))) });
    s.step(Event::Add { spec: Box::new(ChildSpec::otp(id("b"))) });
    s.step(Event::Try { id: id("ghost") });
    s.step(Event::Remove { id: id("ghost") });
    assert_eq!((s.otp_states().as_str(), s.calls().as_str()), ("a:running b:undefined", ""));
}

#[test]
fn child_adm_calls_on_one_child_touch_no_other_whatever_the_strategy() {
    for strategy in ALL_STRATEGIES {
        let mut s = Script::otp("a b c", strategy, 0).up();
        s.stop("a");
        s.try_once("a").unwrap();
        s.stop("b");
        s.remove("b").unwrap();
        s.add("b").unwrap();
        assert_eq!(s.calls(), "stop a#1, spawn a#2, stop b#1, spawn b#2", "{strategy:?}");
        assert_eq!(s.otp_states(), "a:running c:running b:running", "an added child is the last one");
    }
}

#[test]
fn child_adm_a_restart_by_call_uses_up_no_budget_and_forgives_none() {
    let mut s = Script::otp("a", Strategy::OneForOne, 1).up();
    for _ in 0..10 {
        s.stop("a");
        s.try_once("a").unwrap();
    }
    s.exits("a", 1);
    assert_eq!(s.otp_states(), "a:running");
    s.stop("a");
    s.try_once("a").unwrap();
    s.exits("a", 1);
    assert!(s.engine.ending().is_some(), "the second crash in the window");
}

#[test]
fn child_adm_a_child_that_is_stopping_runs_still() {
    let mut s = Script::otp("a", Strategy::OneForOne, 1).deaf("a").up();
    s.stop("a");
    assert_eq!(s.otp_states(), "a:running");
    assert_eq!(s.remove("a"), Err(AdminError::Running(id("a"))));
    s.exits("a", 0);
    s.remove("a").unwrap();
    assert_eq!(s.otp_states(), "");
}

#[test]
fn child_adm_a_supervisor_that_ends_takes_no_calls() {
    let mut s = Script::otp("a b c", Strategy::OneForOne, 0).deaf("a").up();
    s.stop("c");
    s.exits("b", 1);
    s.calls();
    assert_eq!(s.otp_states(), "a:running b:undefined c:undefined");
    s.step(Event::Try { id: id("c") });
    s.step(Event::Add { spec: Box::new(ChildSpec::otp(id("d"))) });
    assert_eq!((s.otp_states().as_str(), s.calls().as_str()), ("a:running b:undefined c:undefined", ""));
    s.exits("a", 0);
    assert_eq!(s.calls(), "idle");
}

#[test]
fn child_adm_simple_an_instance_that_is_terminated_is_not_known_any_more() {
    let mut s = dynamic("", 1).up();
    s.add("a").unwrap();
    s.add("b").unwrap();
    assert_eq!(s.counts(), [2, 2, 0, 2]);
    assert_eq!(s.try_once("a"), Err(AdminError::Running(id("a"))));
    s.calls();
    s.stop("a");
    s.stop("a");
    s.stop("ghost");
    assert_eq!(s.calls(), "stop a#1");
    assert_eq!((s.otp_states().as_str(), s.counts()), ("b:running", [1, 1, 0, 1]));
    assert_eq!(s.try_once("a"), Err(AdminError::NotFound(id("a"))));
    assert_eq!(s.remove("a"), Err(AdminError::NotFound(id("a"))));
}

#[test]
fn child_specs_every_mistake_has_an_error_of_its_own_in_the_check_and_in_the_call() {
    let flags = Flags::otp(Strategy::OneForOne);
    let check = |line: &str| Engine::check_with(&otp_specs(line), &[], &flags);
    let unknown = SpecError::UnknownNeed { child: id("b"), need: id("ghost") };
    let never_ready = SpecError::NeverReady { child: id("b"), need: id("a") };
    assert_eq!(check("a a"), Err(SpecError::DuplicateId(id("a"))));
    for (word, error) in [
        ("b<ghost", unknown),
        ("b<b", SpecError::UnknownNeed { child: id("b"), need: id("b") }),
        ("b<a=ready", never_ready),
        ("?b+", SpecError::BadSignificant(id("b"))),
    ] {
        let mut s = Script::otp("a", Strategy::OneForOne, 1).up();
        assert_eq!(s.add(word), Err(AdminError::Spec(error.clone())), "{word}");
        assert_eq!((s.states().as_str(), s.calls().as_str()), ("a:running", ""), "{word}");
        if word != "b<b" {
            assert_eq!(check(&format!("a {word}")), Err(error), "{word}");
        }
    }
}

#[test]
fn child_specs_every_sound_combination_is_taken() {
    let shutdowns = [Shutdown::BrutalKill, Shutdown::Timeout(Duration::ZERO), Shutdown::Infinity];
    let mut specs = Vec::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for shutdown in shutdowns {
            let id = id(&format!("c{}", specs.len()));
            specs.push(ChildSpec { restart, shutdown, ..ChildSpec::otp(id) });
        }
    }
    for strategy in ALL_STRATEGIES {
        assert_eq!(Engine::check_with(&specs, &[], &Flags::otp(strategy)), Ok(()));
        let mut s = Script::otp("", strategy, 1).up();
        specs.iter().for_each(|spec| s.add_spec(spec.clone()).unwrap());
        assert_eq!(s.counts(), [9, 9, 0, 9]);
    }
}

#[test]
fn child_specs_a_name_of_a_group_is_taken_too() {
    let options = crate::engine::Options { flags: Flags::otp(Strategy::OneForOne), ..Default::default() };
    let mut s = Script::grouped(otp_specs("a b"), groups("g:a,b", |_| ()), options).up();
    assert_eq!(s.add("g"), Err(AdminError::Spec(SpecError::DuplicateId(id("g")))));
}

#[test]
fn child_specs_map_a_significant_child_is_not_permanent_and_its_supervisor_may_end_by_itself() {
    let modes = [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    for auto_shutdown in modes {
        let flags = Flags { auto_shutdown, ..Flags::otp(Strategy::OneForOne) };
        for (word, allowed) in [
            ("a", true),
            ("~a", true),
            ("?a", true),
            ("a+", false),
            ("~a+", auto_shutdown != AutoShutdown::Never),
            ("?a+", auto_shutdown != AutoShutdown::Never),
        ] {
            let error = || SpecError::BadSignificant(id("a"));
            let expected = if allowed { Ok(()) } else { Err(error()) };
            assert_eq!(Engine::check_with(&otp_specs(word), &[], &flags), expected, "{word} {auto_shutdown:?}");
            let mut s = Script::flagged("", flags).up();
            assert_eq!(s.add(word), expected.map_err(AdminError::Spec), "{word} {auto_shutdown:?}");
        }
    }
}

#[test]
fn sup_flags_a_window_of_no_length_is_refused() {
    let zero = Intensity { restarts: 1, period: Duration::ZERO };
    for strategy in ALL_STRATEGIES {
        let flags = Flags { intensity: Some(zero), ..Flags::otp(strategy) };
        assert_eq!(Engine::check_with(&[], &[], &flags), Err(SpecError::ZeroPeriod));
        let none = Intensity { restarts: 0, period: millis(1) };
        assert_eq!(Engine::check_with(&[], &[], &Flags { intensity: Some(none), ..flags }), Ok(()));
    }
}

#[test]
fn sup_flags_have_otp_s_defaults() {
    for strategy in ALL_STRATEGIES {
        let flags = Flags::otp(strategy);
        assert_eq!(flags.intensity, Some(Intensity { restarts: 1, period: seconds(5) }));
        assert_eq!((flags.strategy, flags.auto_shutdown), (strategy, AutoShutdown::Never));
    }
}

#[test]
fn multiple_restarts_crashes_further_apart_than_the_period_never_give_up() {
    for strategy in ALL_STRATEGIES {
        let budget = Some(Intensity { restarts: 1, period: seconds(1) });
        let mut s = Script::flagged("a", Flags { intensity: budget, ..Flags::otp(strategy) }).up();
        for _ in 0..20 {
            s.exits("a", 1);
            s.pass(millis(2100));
        }
        assert_eq!((s.otp_states().as_str(), s.engine.ending()), ("a:running", None), "{strategy:?}");
        s.exits("a", 1);
        s.pass(seconds(1));
        s.exits("a", 1);
        assert!(s.engine.ending().is_some(), "exactly one period apart is within it");
    }
}
