//! OTP's supervisor as plainly as it can be written, and random worlds in which the engine must do the same.
//!
//! The model knows no time between a call and its answer: a start works, fails or finds nothing to run at once, and
//! whoever is asked to end does. It differs from OTP in one thing: a child that waits for its next try waits for one only,
//! also when the restart of its group has tried it meanwhile.

use proptest::prelude::*;

use super::super::script::{Script, id, otp_specs, seconds};
use crate::reason::ExitReason;
use crate::spec::{AutoShutdown, Ended, Flags, Intensity, Restart, Strategy as Together};

pub(super) const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const PERIOD_SECONDS: u64 = 5;

// === what happens ===

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Works,
    Fails,
    Ignores,
}

/// One thing that happens; the number picks the child.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// From now on its starts end so.
    Starts(usize, Start),
    Ends(usize, bool),
    StartChild(usize),
    RestartChild(usize),
    TerminateChild(usize),
    DeleteChild(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..NAMES.len();
    let start = prop_oneof![2 => Just(Start::Works), 2 => Just(Start::Fails), 1 => Just(Start::Ignores)];
    prop_oneof![
        3 => (at(), start).prop_map(|(at, start)| Op::Starts(at, start)),
        6 => (at(), any::<bool>()).prop_map(|(at, cleanly)| Op::Ends(at, cleanly)),
        2 => at().prop_map(Op::StartChild),
        2 => at().prop_map(Op::RestartChild),
        2 => at().prop_map(Op::TerminateChild),
        1 => at().prop_map(Op::DeleteChild),
        3 => (0..PERIOD_SECONDS + 2).prop_map(Op::Pass),
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

pub(super) fn worlds() -> impl Strategy<Value = (Flags, Vec<String>, usize)> {
    flags().prop_flat_map(|flags| {
        let first = if flags.ended == Ended::Dropped { 0..=0 } else { 0..=NAMES.len() };
        (Just(flags), words(flags.auto_shutdown), first)
    })
}

// === the model ===

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pid {
    Running,
    Restarting,
    Undefined,
}

#[derive(Debug, Clone)]
struct Child {
    name: usize,
    restart: Restart,
    significant: bool,
    pid: Pid,
    lives: u32,
}

struct Model {
    flags: Flags,
    words: Vec<String>,
    /// In the order of starts.
    children: Vec<Child>,
    starts: [Start; NAMES.len()],
    /// When restarts were made, in seconds.
    restarts: Vec<u64>,
    now: u64,
    /// The names of those to be tried again, in order.
    tries: Vec<usize>,
    /// The highest number of a life of anybody who is not known any more.
    retired: u32,
    has_ended: bool,
    calls: Vec<String>,
}

// === impl Model ===

impl Model {
    fn new(flags: Flags, words: Vec<String>) -> Self {
        Self {
            flags,
            words,
            children: Vec::new(),
            starts: [Start::Works; NAMES.len()],
            restarts: Vec::new(),
            now: 0,
            tries: Vec::new(),
            retired: 0,
            has_ended: false,
            calls: Vec::new(),
        }
    }

    fn child(&self, name: usize) -> Child {
        let spec = otp_specs(&self.words[name]).remove(0);
        let (restart, significant) = (spec.restart, spec.significant);
        Child { name, restart, significant, pid: Pid::Undefined, lives: self.retired }
    }

    /// All children at once, or none.
    fn init(&mut self, count: usize) {
        self.children = (0..count).map(|name| self.child(name)).collect();
        if self.start_from(0).is_some() {
            self.end();
        }
    }

    fn at(&self, name: usize) -> Option<usize> {
        self.children.iter().position(|child| child.name == name)
    }

    fn pid(&self, name: usize) -> Option<Pid> {
        self.at(name).map(|at| self.children[at].pid)
    }

    fn start(&mut self, at: usize) -> Start {
        let child = &mut self.children[at];
        child.lives += 1;
        self.calls.push(format!("spawn {}#{}", NAMES[child.name], child.lives));
        let start = self.starts[child.name];
        child.pid = if start == Start::Works { Pid::Running } else { Pid::Undefined };
        start
    }

    /// Starts this one and all after it; returns the one that fails.
    fn start_from(&mut self, from: usize) -> Option<usize> {
        let mut at = from;
        while at < self.children.len() {
            match self.start(at) {
                Start::Works => at += 1,
                Start::Fails => return Some(at),
                Start::Ignores if self.keeps(at) => at += 1,
                Start::Ignores => self.forget(at),
            }
        }
        None
    }

    fn stop(&mut self, at: usize) {
        let child = &mut self.children[at];
        if child.pid == Pid::Running {
            self.calls.push(format!("stop {}#{}", NAMES[child.name], child.lives));
        }
        child.pid = Pid::Undefined;
        let name = child.name;
        self.tries.retain(|&other| other != name);
    }

    /// Stops this one and all after it, the last first; temporary ones are forgotten.
    fn stop_from(&mut self, from: usize) {
        for at in (from..self.children.len()).rev() {
            self.stop(at);
            if self.children[at].restart == Restart::Temporary {
                self.forget(at);
            }
        }
    }

    /// Whether one that is down stays known.
    fn keeps(&self, at: usize) -> bool {
        self.flags.ended != Ended::Dropped && self.children[at].restart != Restart::Temporary
    }

    fn forget(&mut self, at: usize) {
        self.retired = self.retired.max(self.children.remove(at).lives);
    }

    fn rest(&mut self, at: usize) {
        self.children[at].pid = Pid::Undefined;
        if !self.keeps(at) {
            self.forget(at);
        }
    }

    fn end(&mut self) {
        self.stop_from(0);
        self.has_ended = true;
    }

    fn restart(&mut self, at: usize) {
        let Some(Intensity { restarts, .. }) = self.flags.intensity else { return };
        self.children[at].pid = Pid::Undefined;
        self.restarts.retain(|then| then + PERIOD_SECONDS >= self.now);
        self.restarts.push(self.now);
        if self.restarts.len() > restarts as usize {
            return self.end();
        }
        let failed = match self.flags.strategy {
            Together::OneForOne => match self.start(at) {
                Start::Works => None,
                Start::Fails => Some(at),
                Start::Ignores => {
                    self.rest(at);
                    None
                }
            },
            Together::OneForAll => {
                self.stop_from(0);
                self.start_from(0)
            }
            Together::RestForOne => {
                self.stop_from(at);
                self.start_from(at)
            }
        };
        if let Some(at) = failed {
            self.children[at].pid = Pid::Restarting;
            self.tries.push(self.children[at].name);
        }
    }

    fn ends(&mut self, at: usize, cleanly: bool) {
        match (self.children[at].restart, cleanly) {
            (Restart::Permanent, _) | (Restart::Transient, false) => self.restart(at),
            (Restart::Transient, true) | (Restart::Temporary, _) => {
                let is_significant = self.children[at].significant;
                self.rest(at);
                let is_left = |child: &Child| child.significant && child.pid != Pid::Undefined;
                let is_due = match self.flags.auto_shutdown {
                    AutoShutdown::Never => false,
                    AutoShutdown::AnySignificant => true,
                    AutoShutdown::AllSignificant => !self.children.iter().any(is_left),
                };
                if is_significant && is_due {
                    self.end();
                }
            }
        }
    }

    fn start_child(&mut self, name: usize) {
        self.children.push(self.child(name));
        let at = self.children.len() - 1;
        match self.start(at) {
            Start::Works => {}
            Start::Fails => self.forget(at),
            Start::Ignores => self.rest(at),
        }
    }

    fn pass(&mut self, seconds: u64) {
        while !self.tries.is_empty() && !self.has_ended {
            let name = self.tries.remove(0);
            if let Some(at) = self.at(name) {
                self.restart(at);
            }
        }
        self.now += seconds;
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Starts(name, start) => self.starts[name] = start,
            Op::Pass(seconds) => self.pass(seconds),
            Op::Ends(name, cleanly) if self.pid(name) == Some(Pid::Running) => {
                let at = self.at(name).expect("it runs");
                self.ends(at, cleanly);
            }
            Op::StartChild(name) if self.pid(name).is_none() => self.start_child(name),
            Op::RestartChild(name) if self.pid(name) == Some(Pid::Undefined) => {
                let at = self.at(name).expect("it is known");
                self.start(at);
            }
            Op::TerminateChild(name) => {
                if let Some(at) = self.at(name) {
                    self.stop(at);
                    self.rest(at);
                }
            }
            Op::DeleteChild(name) if self.pid(name) == Some(Pid::Undefined) => {
                let at = self.at(name).expect("it is known");
                self.forget(at);
            }
            Op::Ends(..) | Op::StartChild(_) | Op::RestartChild(_) | Op::DeleteChild(_) => {}
        }
    }

    fn states(&self) -> String {
        let state = |child: &Child| {
            let pid = match child.pid {
                Pid::Running => "running",
                Pid::Restarting => "restarting",
                Pid::Undefined => "undefined",
            };
            format!("{}:{pid}", NAMES[child.name])
        };
        self.children.iter().map(state).collect::<Vec<_>>().join(" ")
    }

    fn calls(&mut self) -> String {
        std::mem::take(&mut self.calls).join(", ")
    }
}

// === the engine in the same world ===

fn apply(s: &mut Script, words: &[String], op: Op) {
    match op {
        Op::Starts(at, start) => {
            let name = NAMES[at].to_owned();
            s.fails_to_start.remove(&name);
            s.ignoring.remove(&name);
            match start {
                Start::Works => false,
                Start::Fails => s.fails_to_start.insert(name),
                Start::Ignores => s.ignoring.insert(name),
            };
        }
        Op::Ends(at, cleanly) if s.alive.contains_key(&id(NAMES[at])) => {
            s.ends(NAMES[at], if cleanly { ExitReason::Normal } else { ExitReason::Code(1) });
        }
        Op::Ends(..) => {}
        Op::StartChild(at) => drop(s.add(&words[at])),
        Op::RestartChild(at) => drop(s.try_once(NAMES[at])),
        Op::TerminateChild(at) => s.stop(NAMES[at]),
        Op::DeleteChild(at) => drop(s.remove(NAMES[at])),
        Op::Pass(n) => s.pass(seconds(n)),
    }
}

fn calls(s: &mut Script) -> String {
    s.calls().split(", ").filter(|call| *call != "idle").collect::<Vec<_>>().join(", ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_otp_s_supervisor_does(
        (flags, words, first) in worlds(), before in prop::collection::vec(op(), 0..3),
        ops in prop::collection::vec(op(), 0..60)
    ) {
        let mut model = Model::new(flags, words.clone());
        let mut s = Script::flagged(&words[..first].join(" "), flags);
        for op in before.into_iter().filter(|op| matches!(op, Op::Starts(..))) {
            model.apply(op);
            apply(&mut s, &words, op);
        }
        model.init(first);
        s.start("");
        prop_assert_eq!(calls(&mut s), model.calls());
        for op in ops {
            if model.has_ended {
                break;
            }
            model.apply(op);
            apply(&mut s, &words, op);
            prop_assert_eq!(calls(&mut s), model.calls(), "{:?}", op);
            prop_assert_eq!(s.engine.ending().is_some(), model.has_ended, "{:?}", op);
            if !model.has_ended {
                prop_assert_eq!(s.otp_states(), model.states(), "{:?}", op);
            }
        }
        prop_assert_eq!(s.engine.ending().is_some(), model.has_ended);
    }
}
