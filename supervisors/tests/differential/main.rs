//! Random scripts, run by OTP's own supervisor and by ours: what is seen must be the same, line by line.
//!
//! - `script.rs`: what is done (`random.rs` draws, `shrink.rs` makes smaller, `erlang.rs` writes for OTP)
//! - `trace.rs`: what is seen
//! - `system.rs`: who does it: `otp.rs` with `driver.escript`, `naive/`, and any other `fn(&Script) -> Trace` as a `Function`
//!
//! Needs `escript`, and is written against Erlang/OTP 25; without it the tests that need it say so and pass, except where the
//! environment variable `CI` is set.

mod engine;
mod erlang;
mod naive;
mod otp;
mod random;
mod script;
mod shrink;
mod system;
mod trace;

use std::io::Write;

use naive::BrokenRule;
use otp::Otp;
use script::Script;
use system::{Function, System, disagreement, first_difference};
use trace::Trace;

/// Scripts without time that OTP is asked about; each run of the tests asks the same ones.
const SCRIPTS: u64 = 10_000;
/// Further scripts that the engine and the naive model are compared on.
const MODEL_SCRIPTS: u64 = 40_000;
/// Scripts that take real seconds, all at once.
const TIMED_SCRIPTS: u64 = 300;
/// Within so many scripts a broken rule must have been noticed.
const SCRIPTS_TO_CATCH: u64 = 1_000;
/// Scripts OTP runs at the same time, so that waiting for deaf children costs nothing.
const AT_ONCE: usize = 64;
const SKIPPED: &[u8] = b"SKIPPED: Erlang/OTP is not installed, so nothing was compared with it\n";

/// The rules whose breaking no passing of time is needed to see.
const BROKEN_RULES: [BrokenRule; 7] = [
    BrokenRule::IntensityIsOffByOne,
    BrokenRule::RestForOneStopsInStartOrder,
    BrokenRule::TransientIsRestartedAfterShutdown,
    BrokenRule::AnyAndAllAreSwapped,
    BrokenRule::RetriesAreFree,
    BrokenRule::TheWrongChildIsRetried,
    BrokenRule::StoppedSiblingsStayDown,
];

fn scripts(count: u64) -> Vec<Script> {
    (0..count).map(Script::random).collect()
}

fn timed_scripts() -> Vec<Script> {
    (0..TIMED_SCRIPTS).map(Script::random_timed).collect()
}

fn naive(broken: Option<BrokenRule>) -> Function<impl FnMut(&Script) -> Trace> {
    let name = broken.map_or("the naive model".to_owned(), |rule| format!("the naive model with {rule:?}"));
    Function { name, run: move |script: &Script| naive::run(script, broken) }
}

/// Our engine, whose supervisors give up one restart too late per `too_many`.
fn engine(too_many: u32) -> Function<impl FnMut(&Script) -> Trace> {
    Function { name: "the engine".to_owned(), run: move |script: &Script| engine::run(script, too_many) }
}

/// Said past the test harness, which keeps what a passing test prints to itself.
fn skipped() {
    std::io::stderr().write_all(SKIPPED).expect("a test can write to its error output");
}

/// The comparison sees each mistake that a model could make and `reference` does not.
fn assert_broken_rules_are_caught(reference: &mut dyn System) {
    let scripts = scripts(SCRIPTS_TO_CATCH);
    for rule in BROKEN_RULES {
        let caught = first_difference(&mut naive(Some(rule)), reference, &scripts);
        assert!(caught.is_some(), "{rule:?} is not caught within {SCRIPTS_TO_CATCH} scripts");
    }
}

#[test]
fn the_naive_model_and_otp_agree_on_random_scripts() {
    let Some(mut otp) = Otp::start(AT_ONCE) else { return skipped() };
    if let Some(difference) = disagreement(&mut naive(None), &mut otp, &scripts(SCRIPTS)) {
        panic!("{difference}");
    }
}

#[test]
fn the_naive_model_and_otp_agree_on_restarts_in_a_sliding_window() {
    let Some(mut otp) = Otp::start(TIMED_SCRIPTS as usize) else { return skipped() };
    if let Some(difference) = disagreement(&mut naive(None), &mut otp, &timed_scripts()) {
        panic!("{difference}");
    }
}

#[test]
fn a_broken_rule_is_caught_within_a_thousand_scripts() {
    match Otp::start(AT_ONCE) {
        Some(mut otp) => assert_broken_rules_are_caught(&mut otp),
        None => assert_broken_rules_are_caught(&mut naive(None)),
    }
}

#[test]
fn a_window_that_never_slides_is_caught_by_the_timed_scripts() {
    let mut broken = naive(Some(BrokenRule::RestartsAreNeverForgotten));
    assert!(first_difference(&mut broken, &mut naive(None), &timed_scripts()).is_some());
}

#[test]
fn a_script_is_made_as_small_as_the_difference_it_shows() {
    let rule = BrokenRule::IntensityIsOffByOne;
    let scripts = scripts(SCRIPTS_TO_CATCH);
    let at = first_difference(&mut naive(Some(rule)), &mut naive(None), &scripts).expect("caught, see above");
    let first_failing = |some: &[Script]| first_difference(&mut naive(Some(rule)), &mut naive(None), some);
    let small = shrink::shrink(scripts[at].clone(), first_failing);
    assert!(small.ops.len() <= small.flags.intensity as usize + 2, "{small}");
}

#[test]
fn equal_seeds_draw_equal_scripts_and_all_are_sound() {
    assert_eq!(scripts(SCRIPTS_TO_CATCH), scripts(SCRIPTS_TO_CATCH));
    assert!(scripts(SCRIPTS_TO_CATCH).iter().chain(&timed_scripts()).all(Script::is_sound));
}

#[test]
fn the_engine_and_otp_agree_on_random_scripts() {
    let Some(mut otp) = Otp::start(AT_ONCE) else { return skipped() };
    if let Some(difference) = disagreement(&mut engine(0), &mut otp, &scripts(SCRIPTS)) {
        panic!("{difference}");
    }
}

#[test]
fn the_engine_and_otp_agree_on_restarts_in_a_sliding_window() {
    let Some(mut otp) = Otp::start(TIMED_SCRIPTS as usize) else { return skipped() };
    if let Some(difference) = disagreement(&mut engine(0), &mut otp, &timed_scripts()) {
        panic!("{difference}");
    }
}

#[test]
fn the_engine_and_the_naive_model_agree_on_more_scripts_than_otp_has_time_for() {
    let more: Vec<_> = (SCRIPTS..SCRIPTS + MODEL_SCRIPTS).map(Script::random).collect();
    if let Some(difference) = disagreement(&mut engine(0), &mut naive(None), &more) {
        panic!("{difference}");
    }
}

#[test]
fn the_engine_differs_from_every_broken_rule_within_a_thousand_scripts() {
    assert_broken_rules_are_caught(&mut engine(0));
}

#[test]
fn an_engine_that_gives_up_one_restart_too_late_is_caught_within_a_thousand_scripts() {
    let scripts = scripts(SCRIPTS_TO_CATCH);
    let caught = match Otp::start(AT_ONCE) {
        Some(mut otp) => first_difference(&mut engine(1), &mut otp, &scripts),
        None => first_difference(&mut engine(1), &mut naive(None), &scripts),
    };
    assert!(caught.is_some());
}
