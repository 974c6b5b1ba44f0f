//! Random specs in a random world, against what must hold whatever happens. [`Script`] checks in every step that no two
//! lives of a child overlap, that only live ones are told to end, that timers are used once, and that idle means idle.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::script::{Script, id, millis, seconds};
use crate::engine::{Cause, ChildState, Desired, Effect, Event, Options, Report, Time, What};
use crate::reason::{ExitReason, StartError};
use crate::spec::{Backoff, ChildId, ChildSpec, Condition, Edge, Incarnation, Intensity};
use crate::spec::{Readiness, Restart, Shutdown, Then};

const STARTS_MAX: usize = 2;

/// One thing that happens; the number picks the child.
#[derive(Debug, Clone)]
enum Op {
    Start(usize),
    StartAll,
    Stop(usize),
    StopAll,
    Restart(usize),
    Kill,
    Spawned(usize),
    SpawnFails(usize, bool),
    Ready(usize),
    Unready(usize),
    Hangs(usize),
    Exits(usize, i32),
    Stale(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..6usize;
    prop_oneof![
        2 => at.clone().prop_map(Op::Start),
        2 => Just(Op::StartAll),
        2 => at.clone().prop_map(Op::Stop),
        1 => Just(Op::StopAll),
        2 => at.clone().prop_map(Op::Restart),
        1 => Just(Op::Kill),
        12 => at.clone().prop_map(Op::Spawned),
        2 => (at.clone(), any::<bool>()).prop_map(|(at, retry)| Op::SpawnFails(at, retry)),
        8 => at.clone().prop_map(Op::Ready),
        2 => at.clone().prop_map(Op::Unready),
        2 => at.clone().prop_map(Op::Hangs),
        8 => (at.clone(), 0..2i32).prop_map(|(at, code)| Op::Exits(at, code)),
        2 => at.prop_map(Op::Stale),
        4 => (0..20_000u64).prop_map(Op::Pass),
    ]
}

fn spec(at: usize) -> impl Strategy<Value = ChildSpec> {
    let condition = prop_oneof![Just(Condition::Started), Just(Condition::Ready), Just(Condition::Done)];
    let then = prop_oneof![Just(Then::Ignore), Just(Then::Restart), Just(Then::Stop)];
    let needs = prop::collection::btree_map(0..at.max(1), (condition, then), 0..=at.min(3));
    let restart =
        prop_oneof![3 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    let shutdown =
        prop_oneof![Just(Shutdown::BrutalKill), Just(Shutdown::Timeout(seconds(5))), Just(Shutdown::Infinity)];
    (needs, restart, shutdown, any::<bool>(), any::<bool>(), 0..4u32).prop_map(
        move |(needs, restart, shutdown, reports, waits, restarts)| ChildSpec {
            needs: needs.into_iter().map(|(on, (is, then))| Edge { on: child(on), is, then }).collect(),
            restart,
            shutdown,
            readiness: if reports { Readiness::Within(seconds(8)) } else { Readiness::Unreported },
            backoff: if waits { crate::spec::BACKOFF_DEFAULT } else { Backoff::None },
            intensity: Intensity { restarts, period: seconds(10) },
            ..ChildSpec::new(child(at))
        },
    )
}

fn specs() -> impl Strategy<Value = Vec<ChildSpec>> {
    (1..6usize).prop_flat_map(|n| (0..n).map(spec).collect::<Vec<_>>()).prop_map(|mut specs| {
        let silent: Vec<_> = specs.iter().map(|spec| spec.readiness == Readiness::Unreported).collect();
        for edge in specs.iter_mut().flat_map(|spec| &mut spec.needs) {
            let on: usize = edge.on.as_str()[1..].parse().unwrap();
            if silent[on] && edge.is == Condition::Ready {
                edge.is = Condition::Started;
            }
        }
        specs
    })
}

fn child(at: usize) -> ChildId {
    id(&format!("c{at}"))
}

/// The script with the naive model that watches it.
struct World {
    s: Script,
    specs: Vec<ChildSpec>,
    /// Automatic restarts of each child since anybody last asked for anything.
    restarts: BTreeMap<ChildId, Vec<Time>>,
}

// === impl World ===

impl World {
    fn new(specs: Vec<ChildSpec>) -> Self {
        let options = Options { seed: 1, start_parallel_max: STARTS_MAX, ..Options::default() };
        let names = specs.iter().map(|spec| spec.id.to_string()).collect::<Vec<_>>().join(" ");
        let s = Script::of(specs.clone(), options).slow_to_start(&names).slow_to_be_ready(&names).deaf(&names);
        Self { s, specs, restarts: BTreeMap::new() }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Start(at) => self.ask(Event::Start { ids: vec![child(*at)], with_needs: at % 2 == 0 }),
            Op::StartAll => self.ask(Event::Start { ids: vec![], with_needs: true }),
            Op::Stop(at) => self.ask(Event::Stop { ids: vec![child(*at)] }),
            Op::StopAll => self.ask(Event::Stop { ids: vec![] }),
            Op::Restart(at) => self.ask(Event::Restart { ids: vec![child(*at)] }),
            Op::Kill => self.ask(Event::Kill { ids: vec![] }),
            Op::Pass(ms) => self.s.pass(millis(*ms)),
            Op::Stale(at) => self.stale(*at),
            Op::Spawned(at)
            | Op::SpawnFails(at, _)
            | Op::Ready(at)
            | Op::Unready(at)
            | Op::Hangs(at)
            | Op::Exits(at, _) => self.live(*at, op),
        }
        self.check();
    }

    fn ask(&mut self, event: Event) {
        self.restarts.clear();
        self.s.step(event);
    }

    /// An event of the child's present life, if the world allows it.
    fn live(&mut self, at: usize, op: &Op) {
        let id = child(at);
        let Some(&incarnation) = self.s.alive.get(&id) else { return };
        let starting = self.s.state(id.as_str()) == "starting";
        match op {
            Op::Spawned(_) if starting => self.s.spawned(id.as_str()),
            Op::SpawnFails(_, retry) if starting => self.s.spawn_fails(id.as_str(), *retry),
            Op::Exits(_, code) if !starting => self.s.exits(id.as_str(), *code),
            Op::Ready(_) => self.s.step(Event::Ready { id, incarnation }),
            Op::Unready(_) => self.s.unready(id.as_str()),
            Op::Hangs(_) => self.s.hangs(id.as_str()),
            _ => {}
        }
    }

    /// Messages of the life before change nothing.
    fn stale(&mut self, at: usize) {
        let id = child(at);
        let Some(Incarnation(last)) = self.s.engine.child(id.as_str()).and_then(|child| child.incarnation) else {
            return;
        };
        let incarnation = Incarnation(last - 1);
        let error = StartError { message: String::new(), hint: None, retry: false };
        for event in [
            Event::Spawned { id: id.clone(), incarnation },
            Event::SpawnFailed { id: id.clone(), incarnation, error },
            Event::Ready { id: id.clone(), incarnation },
            Event::Exited { id, incarnation, reason: ExitReason::Killed },
        ] {
            assert_eq!(self.s.engine.step(self.s.now, event), []);
        }
    }

    fn check(&mut self) {
        let views: Vec<_> = self.s.engine.children().collect();
        for view in &views {
            assert_eq!(view.state.is_alive(), self.s.alive.contains_key(&view.id), "{}", view.id);
        }
        let starting = views.iter().filter(|view| view.state == ChildState::Starting).count();
        assert!(starting <= STARTS_MAX, "{starting} starting at once");
        for (at, report) in self.s.take_reports() {
            self.check_restart(at, &report);
        }
    }

    fn check_restart(&mut self, at: Time, report: &Report) {
        if !matches!(report.what, What::RestartScheduled { .. }) {
            return;
        }
        let spec = self.specs.iter().find(|spec| spec.id == report.id).expect("a report of a known child");
        let restarts = self.restarts.entry(report.id.clone()).or_default();
        restarts.push(at);
        let within = restarts.iter().filter(|&&before| before + spec.intensity.period >= at).count();
        assert!(within <= spec.intensity.restarts as usize, "{}: {within} restarts in the window", report.id);
    }

    /// In a world that obeys, nothing is left half-way: what waits, waits for a condition that does not hold.
    fn settles(&mut self) {
        self.ask(Event::Start { ids: vec![], with_needs: true });
        self.s.obey();
        self.s.pass(seconds(3600));
        for view in self.s.engine.children() {
            match view.state {
                // What it needs was crashing already, and its edge says so.
                ChildState::Stopped if matches!(view.cause, Some(Cause::Dependency { .. })) => {}
                ChildState::Starting | ChildState::Stopping | ChildState::Backoff { .. } | ChildState::Stopped => {
                    panic!("{} is left {:?}", view.id, view.state);
                }
                ChildState::Pending => assert!(!view.blocked_by.is_empty(), "{} waits for nothing", view.id),
                ChildState::Running | ChildState::Ready => assert_eq!(view.desired, Desired::Up),
                ChildState::Done | ChildState::Failed => {}
            }
        }
    }

    fn stops(&mut self) {
        self.s.calls();
        self.ask(Event::Stop { ids: vec![] });
        self.s.obey();
        self.s.pass(seconds(3600));
        assert!(self.s.calls().ends_with("idle"));
        assert!(self.s.alive.is_empty() && self.s.engine.is_idle() && self.s.timers().next().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold_and_a_full_stop_ends_in_idle(
        specs in specs(), ops in prop::collection::vec(op(), 0..120), settle in any::<bool>()
    ) {
        let mut world = World::new(specs);
        for op in &ops {
            world.apply(op);
        }
        if settle {
            world.settles();
        }
        world.stops();
    }

    #[test]
    fn equal_events_give_equal_effects(specs in specs(), ops in prop::collection::vec(op(), 0..60)) {
        let run = || {
            let mut world = World::new(specs.clone());
            ops.iter().for_each(|op| world.apply(op));
            (world.s.calls(), world.s.states(), world.s.next_timer())
        };
        prop_assert_eq!(run(), run());
    }
}

/// A child starts only while everything it needs is as it must be, and only if it is wanted up.
pub(super) fn check_spawns(s: &Script, specs: &[ChildSpec], effects: &[Effect]) {
    for effect in effects {
        let Effect::Spawn { id, .. } = effect else { continue };
        assert_eq!(s.child(id.as_str()).desired, Desired::Up, "{id} is not wanted up");
        let needs = specs.iter().filter(|spec| spec.id == *id).flat_map(|spec| &spec.needs);
        for Edge { on, is, .. } in needs {
            let need = s.child(on.as_str());
            let holds = match is {
                Condition::Started => ["running", "ready", "done"].contains(&s.state(on.as_str())),
                Condition::Ready => need.state == ChildState::Ready,
                Condition::Done => need.state == ChildState::Done,
            };
            assert!(holds && !need.leaving, "{id} started while {on} is {}", s.state(on.as_str()));
        }
    }
}
