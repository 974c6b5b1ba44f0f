//! Random worlds in which starts and ends take their time, which OTP's supervisor waits for and ours does not: whatever is
//! asked for meanwhile, nothing is left half-way. [`Script`] watches every step, as it does for all properties.

use proptest::prelude::*;

use super::super::script::{Script, seconds};
use crate::reason::ExitReason;
use crate::spec::{AutoShutdown, Ended, Flags, Intensity, Rules, Strategy as Together};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const PERIOD_SECONDS: u64 = 5;

/// One thing that happens; the number picks the child.
#[derive(Debug, Clone, Copy)]
enum Op {
    Begins(usize),
    Fails(usize, bool),
    Ignores(usize),
    Ends(usize, bool),
    StartChild(usize),
    RestartChild(usize),
    TerminateChild(usize),
    DeleteChild(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..NAMES.len();
    prop_oneof![
        10 => at().prop_map(Op::Begins),
        3 => (at(), any::<bool>()).prop_map(|(at, retry)| Op::Fails(at, retry)),
        1 => at().prop_map(Op::Ignores),
        10 => (at(), any::<bool>()).prop_map(|(at, cleanly)| Op::Ends(at, cleanly)),
        2 => at().prop_map(Op::StartChild),
        2 => at().prop_map(Op::RestartChild),
        3 => at().prop_map(Op::TerminateChild),
        1 => at().prop_map(Op::DeleteChild),
        3 => (0..7u64).prop_map(Op::Pass),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    let together = prop_oneof![Just(Together::OneForOne), Just(Together::OneForAll), Just(Together::RestForOne)]
        .prop_map(Flags::otp);
    let mode =
        prop_oneof![Just(AutoShutdown::Never), Just(AutoShutdown::AnySignificant), Just(AutoShutdown::AllSignificant)];
    let list = (together, mode).prop_map(|(flags, auto_shutdown)| Flags { auto_shutdown, ..flags });
    (prop_oneof![4 => list, 1 => Just(Flags::dynamic())], 0..6u32).prop_map(|(flags, restarts)| Flags {
        intensity: Some(Intensity { restarts, period: seconds(PERIOD_SECONDS) }),
        ..flags
    })
}

/// A kind of child for each name, as [`super::super::script::specs`] writes it.
fn words(auto_shutdown: AutoShutdown) -> impl Strategy<Value = Vec<String>> {
    let kinds: &[(&str, &str)] = match auto_shutdown {
        AutoShutdown::Never => &[("", ""), ("~", ""), ("?", "")],
        AutoShutdown::AnySignificant | AutoShutdown::AllSignificant => {
            &[("", ""), ("~", ""), ("~", "+"), ("~", "+"), ("?", "+")]
        }
    };
    let kind = prop::sample::select(kinds.to_vec());
    prop::collection::vec(kind, NAMES.len()).prop_map(|kinds| {
        kinds.into_iter().zip(NAMES).map(|((before, after), name)| format!("{before}{name}{after}")).collect()
    })
}

fn worlds() -> impl Strategy<Value = (Flags, Vec<String>, usize)> {
    flags().prop_flat_map(|flags| {
        let first = if flags.ended == Ended::Dropped { 0..=0 } else { 0..=NAMES.len() };
        (Just(flags), words(flags.auto_shutdown), first)
    })
}

fn apply(s: &mut Script, words: &[String], op: Op) {
    let is_in = |s: &Script, at: usize, states: &[&str]| {
        s.engine.child(NAMES[at]).is_some() && states.contains(&s.state(NAMES[at]))
    };
    match op {
        Op::Begins(at) if is_in(s, at, &["starting"]) => s.spawned(NAMES[at]),
        Op::Fails(at, retry) if is_in(s, at, &["starting"]) => s.spawn_fails(NAMES[at], retry),
        Op::Ignores(at) if is_in(s, at, &["starting"]) => s.ignores(NAMES[at]),
        Op::Ends(at, cleanly) if is_in(s, at, &["running", "stopping"]) => {
            s.ends(NAMES[at], if cleanly { ExitReason::Normal } else { ExitReason::Code(1) });
        }
        Op::Begins(_) | Op::Fails(..) | Op::Ignores(_) | Op::Ends(..) => {}
        Op::StartChild(at) => drop(s.add(&words[at])),
        Op::RestartChild(at) => drop(s.try_once(NAMES[at])),
        Op::TerminateChild(at) => s.stop(NAMES[at]),
        Op::DeleteChild(at) => drop(s.remove(NAMES[at])),
        Op::Pass(n) => s.pass(seconds(n)),
    }
}

/// Nobody is on the way anywhere, and nothing is remembered of who was.
fn assert_settled(s: &Script) {
    for view in s.engine.children() {
        let state = s.state(view.id.as_str());
        assert!(["running", "stopped", "done", "failed"].contains(&state), "{} is left {state}", view.id);
        assert!(!view.leaving, "{} is left on its way down", view.id);
    }
    assert!(s.engine.falls.is_empty(), "falls: {:?}", s.engine.falls);
    assert!(s.engine.batches.is_empty(), "batches: {:?}", s.engine.batches);
    assert_eq!(s.engine.starting, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_while_starts_and_ends_take_their_time_all_comes_to_rest(
        (flags, words, first) in worlds(), ops in prop::collection::vec(op(), 0..80)
    ) {
        let names = NAMES.join(" ");
        let mut s = Script::flagged(&words[..first].join(" "), flags).slow_to_start(&names).deaf(&names);
        assert_eq!(flags.rules, Rules::Otp);
        s.start("");
        for op in ops {
            apply(&mut s, &words, op);
        }
        s.obey();
        s.pass(seconds(60));
        s.obey();
        assert_settled(&s);
        if s.engine.ending().is_some() {
            prop_assert!(s.alive.is_empty());
        }
        s.calls();
        s.stop("");
        prop_assert!(s.calls().ends_with("idle"));
        assert_settled(&s);
        prop_assert!(s.alive.is_empty() && s.engine.is_idle() && s.timers().next().is_none());
    }
}
