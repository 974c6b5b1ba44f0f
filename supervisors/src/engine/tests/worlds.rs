//! A world that answers when and how it likes, and checks after every step what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::script::seconds;
use super::setups::Setup;
use crate::engine::child::State;
use crate::engine::fall::FallId;
use crate::engine::table::Key;
use crate::engine::{ChildState, Desired, Effect, Engine, Event, Options, Report, Time, TimerKey, What};
use crate::reason::{ExitReason, StartError};
use crate::spec::{ChildId, ChildSpec, Condition, Incarnation, Readiness, Rules, Strategy, Then};

/// Fewer than there are children: a place among those that start is worth waiting for.
pub(super) const STARTS_MAX: usize = 2;
/// More answers than any world needs to settle.
const ANSWERS_MAX: usize = 10_000;

/// An engine and everything outside of it.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Time,
    /// Lives asked for and not over.
    pub(super) alive: BTreeMap<ChildId, Incarnation>,
    pub(super) log: Vec<String>,
    timers: BTreeMap<TimerKey, Time>,
    generation: u64,
    /// Everything was stopped, and nobody has asked for anything since.
    quiet: bool,
    was_idle: bool,
    /// Falls up to this one were ordered by other specs.
    old_falls: u64,
    /// Groups that had failed before they were given other members.
    old_failures: BTreeSet<ChildId>,
    /// Charged restarts of each budget since anybody last asked for anything.
    charged: BTreeMap<String, Vec<Time>>,
    /// Lives that had to be over when a group restarted, for each of its members that nobody asked for since.
    barriers: BTreeMap<ChildId, BTreeMap<ChildId, Incarnation>>,
}

/// One line for an event, also for one that brings a whole setup.
fn short(event: &Event) -> String {
    match event {
        Event::Replace { specs, groups } => format!("Replace {}", Setup::line(specs, groups)),
        other => format!("{other:?}"),
    }
}

// === impl World ===

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let options = Options { seed: 1, start_parallel_max: STARTS_MAX, ..Options::default() };
        Self {
            engine: Engine::new(setup.specs, setup.groups, options).unwrap(),
            now: Time::ZERO,
            alive: BTreeMap::new(),
            log: Vec::new(),
            timers: BTreeMap::new(),
            generation: 0,
            quiet: false,
            was_idle: true,
            old_falls: 0,
            old_failures: BTreeSet::new(),
            charged: BTreeMap::new(),
            barriers: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self, event: Event) {
        self.log.push(format!("{:?} {}", self.now, short(&event)));
        let is_stop_all = matches!(&event, Event::Stop { ids } if ids.is_empty());
        self.note_request(&event, is_stop_all);
        let views = self.engine.children().filter(|view| view.leaving);
        let leaving: BTreeSet<ChildId> = views.map(|view| view.id).collect();
        let effects = self.engine.step(self.now, event);
        self.log.extend(effects.iter().filter(|e| !matches!(e, Effect::Report(_))).map(|e| format!("    {e:?}")));
        let report = |effect: &Effect| match effect {
            Effect::Report(report) => Some((**report).clone()),
            _ => None,
        };
        let reports: Vec<Report> = effects.iter().filter_map(report).collect();
        let idles = effects.iter().filter(|effect| **effect == Effect::Idle).count();
        let is_idle = self.engine.is_idle();
        assert_eq!(idles, usize::from(is_idle && (!self.was_idle || is_stop_all)), "idle is told once");
        self.was_idle = is_idle;
        self.check_isolation(&reports, &effects, leaving);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        self.note_barriers(&reports);
        self.check_budgets(&reports);
        self.check_counts();
    }

    /// Somebody asks: counts begin anew, and what was asked for need not wait for its group.
    fn note_request(&mut self, event: &Event, is_stop_all: bool) {
        let asks = match event {
            Event::Start { .. } | Event::Restart { .. } | Event::Add { .. } | Event::Try { .. } => true,
            Event::Adopt { .. } | Event::Restore { .. } => true,
            Event::Replace { .. } | Event::Upgrade { .. } | Event::Reflag { .. } => {
                self.old_falls = self.engine.last_fall;
                let failed = self.engine.groups().filter(|view| view.failed).map(|view| view.id);
                self.old_failures = failed.collect();
                self.barriers.clear();
                self.charged.clear();
                false
            }
            _ => false,
        };
        self.quiet = (self.quiet || is_stop_all) && !asks;
        if asks {
            self.barriers.clear();
            self.charged.clear();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { id, incarnation, key } => {
                assert_eq!(self.alive.insert(id.clone(), incarnation), None, "{id}: two lives at once");
                self.check_spawn(&id, key);
            }
            Effect::Stop { id, incarnation, key } => {
                assert_eq!(self.alive.get(&id), Some(&incarnation), "{id} is asked to end, but does not live");
                self.check_stop(key);
            }
            Effect::Kill { id, incarnation, .. } => {
                assert_eq!(self.alive.get(&id), Some(&incarnation), "{id} is killed, but does not live");
            }
            Effect::Arm { key, at } => {
                assert!(key.generation > self.generation, "a generation is used once");
                self.generation = key.generation;
                let twin = self.timers.keys().any(|armed| armed.child == key.child);
                assert!(!twin, "{key:?} is armed twice");
                self.timers.insert(key, at);
            }
            Effect::Cancel { key, at } => assert_eq!(self.timers.remove(&key), Some(at), "{key:?} was not armed"),
            Effect::Dropped { id, .. } => assert!(!self.alive.contains_key(&id), "{id} is dropped alive"),
            Effect::Report(_) => {}
            Effect::Idle => assert!(self.alive.is_empty(), "idle with {:?} alive", self.alive),
        }
    }

    // --- what must hold ---

    fn check_spawn(&self, id: &ChildId, key: Key) {
        assert!(!self.quiet, "{id} starts, but everything was stopped");
        let child = &self.engine.children[key];
        assert_eq!(child.desired, Desired::Up, "{id} starts, but is wanted down");
        for edge in &child.spec.needs {
            let need = self.engine.child(edge.on.as_str()).unwrap();
            let holds = match edge.is {
                Condition::Started => {
                    matches!(need.state, ChildState::Running | ChildState::Ready | ChildState::Done)
                }
                Condition::Ready => need.state == ChildState::Ready,
                Condition::Done => need.state == ChildState::Done,
            };
            assert!(holds && !need.leaving, "{id} starts while {} is {:?}", edge.on, need.state);
        }
        for (other, life) in self.barriers.get(id).into_iter().flatten() {
            assert_ne!(self.alive.get(other), Some(life), "{id} starts, but {other} of its group is not down");
        }
        let group = self.engine.child(id.as_str()).unwrap().group;
        let is_its = |id: &ChildId| Some(id) == group.as_ref() && !self.old_failures.contains(id);
        let failed = self.engine.groups().any(|view| is_its(&view.id) && view.failed);
        assert!(!failed, "{id} starts, but its group has failed");
    }

    /// Everything above a child that falls with it is down before it is asked.
    fn check_stop(&self, key: Key) {
        let child = &self.engine.children[key];
        let (mut seen, mut todo) = (BTreeSet::new(), vec![key]);
        while let Some(at) = todo.pop() {
            let child = &self.engine.children[at];
            let above = child.dependents.iter().map(|link| link.to).chain(self.engine.groups.after(child.seat));
            todo.extend(above.filter(|&to| seen.insert(to)));
        }
        for above in seen.into_iter().map(|at| &self.engine.children[at]) {
            let is_shared = |fall: FallId| child.falls.iter().any(|place| place.fall == fall);
            let shares = above.falls.iter().any(|place| place.fall > self.old_falls && is_shared(place.fall));
            let is_gone = above.life().is_none();
            assert!(!shares || is_gone, "{} is asked to end before {}", child.spec.id, above.spec.id);
        }
    }

    /// Who is given up alone takes along only those whose edges say so.
    fn check_isolation(&self, reports: &[Report], effects: &[Effect], leaving: BTreeSet<ChildId>) {
        let gave_up = reports.iter().find(|report| matches!(report.what, What::GaveUp { .. }));
        let is_alone = |report: &Report| !matches!(report.what, What::GroupGaveUp { .. } | What::Ending(_));
        let Some(gave_up) = gave_up.filter(|_| reports.iter().all(is_alone)) else { return };
        let mut along = leaving;
        along.insert(gave_up.id.clone());
        for _ in 0..self.engine.len() {
            let follows =
                |spec: &&ChildSpec| spec.needs.iter().any(|edge| edge.then != Then::Ignore && along.contains(&edge.on));
            along.extend(self.engine.specs().filter(follows).map(|spec| spec.id.clone()).collect::<Vec<_>>());
        }
        for effect in effects {
            if let Effect::Stop { id, .. } | Effect::Kill { id, .. } = effect {
                assert!(along.contains(id), "{id} is ended, but only {} was given up", gave_up.id);
            }
        }
    }

    fn note_barriers(&mut self, reports: &[Report]) {
        for report in reports {
            let What::GroupRestarting { group: Some(group), strategy: Strategy::OneForAll, .. } = &report.what else {
                continue;
            };
            let members = self.members(group);
            let falls = |id: &&ChildId| {
                self.engine.child(id.as_str()).is_some_and(|child| child.leaving && child.state.is_alive())
            };
            let falling: BTreeMap<_, _> =
                members.iter().filter(falls).filter_map(|id| Some((id.clone(), *self.alive.get(id)?))).collect();
            for id in members {
                self.barriers.entry(id).or_default().extend(falling.clone());
            }
        }
    }

    fn members(&self, group: &ChildId) -> Vec<ChildId> {
        let Some(view) = self.engine.groups().find(|view| view.id == *group) else { return vec![group.clone()] };
        view.members.iter().flat_map(|member| self.members(member)).collect()
    }

    /// No budget pays for more restarts than it holds.
    fn check_budgets(&mut self, reports: &[Report]) {
        if self.engine.options.flags.rules == Rules::Otp {
            return;
        }
        let mut given_up = None;
        for report in reports {
            match &report.what {
                What::GroupGaveUp { group: Some(group), .. } => given_up = Some(group.clone()),
                What::RestartScheduled { .. } => self.charge(&report.id, given_up.take()),
                _ => {}
            }
        }
    }

    fn charge(&mut self, id: &ChildId, given_up: Option<ChildId>) {
        let groups: Vec<_> = self.engine.groups().collect();
        let of = |group: Option<ChildId>| groups.iter().find(|view| Some(&view.id) == group.as_ref());
        let child = self.engine.child(id.as_str()).unwrap();
        let payer = match &given_up {
            Some(group) => of(of(Some(group.clone())).and_then(|view| view.parent.clone())),
            None => of(child.group),
        };
        let (name, budget) = match payer {
            Some(view) => (view.id.to_string(), view.intensity),
            None => (format!("own {id}"), self.engine.spec(id.as_str()).unwrap().intensity),
        };
        let times = self.charged.entry(name.clone()).or_default();
        times.push(self.now);
        let used = times.iter().filter(|&&at| at + budget.period >= self.now).count();
        assert!(used <= budget.restarts as usize, "{name} pays for {used} restarts");
        if given_up.is_some() {
            // A group that is started again is new inside.
            self.charged.retain(|other, _| *other == name);
        }
    }

    fn check_counts(&self) {
        let children: Vec<_> = self.engine.children.iter().map(|(_, child)| child).collect();
        let starting = children.iter().filter(|child| matches!(child.state, State::Starting(_))).count();
        assert_eq!(self.engine.starting, starting);
        assert!(starting <= STARTS_MAX);
        let is_active = |child: &&&crate::engine::child::Child| {
            child.life().is_some() || matches!(child.state, State::Backoff { .. })
        };
        assert_eq!(self.engine.active, children.iter().filter(is_active).count());
        for child in &children {
            let alive = self.alive.get(&child.spec.id).copied();
            assert_eq!(child.life().map(|life| life.incarnation), alive, "{}", child.spec.id);
        }
        for (id, fall) in &self.engine.falls {
            let is_member = |child: &&&crate::engine::child::Child| child.falls.iter().any(|place| place.fall == *id);
            assert_eq!(fall.open().count(), children.iter().filter(is_member).count(), "the open ones of a fall");
        }
        let is_armed = |key: &TimerKey| self.engine.children.get(key.child).is_some();
        assert!(self.timers.keys().all(is_armed), "a timer of nobody");
    }

    // --- the world's part ---

    /// A life that is being started begins, fails, or is not needed.
    pub(super) fn begins(&mut self, id: ChildId, how: u8) {
        let Some(&incarnation) = self.alive.get(&id) else { return };
        if self.engine.child(id.as_str()).unwrap().state != ChildState::Starting {
            return;
        }
        let error = StartError { message: "no such file".to_owned(), hint: None, retry: how == 1 };
        match how {
            0 | 1 => {
                self.alive.remove(&id);
                self.step(Event::SpawnFailed { id, incarnation, error });
            }
            2 => {
                self.alive.remove(&id);
                self.step(Event::Ignored { id, incarnation });
            }
            _ => self.step(Event::Spawned { id, incarnation }),
        }
    }

    pub(super) fn exits(&mut self, id: ChildId, code: i32) {
        let state = self.engine.child(id.as_str()).map(|child| child.state);
        if state.is_some_and(|state| state.is_alive() && state != ChildState::Starting) {
            let incarnation = self.alive.remove(&id).expect("what the engine calls alive lives");
            self.step(Event::Exited { id, incarnation, reason: ExitReason::Code(code) });
        }
    }

    pub(super) fn pass(&mut self, duration: Time) {
        let until = self.now + duration;
        while let Some((key, at)) = self.next_timer().filter(|(_, at)| *at <= until) {
            self.timers.remove(&key);
            self.now = self.now.max(at);
            self.step(Event::Timer(key));
        }
        self.now = until;
    }

    fn next_timer(&self) -> Option<(TimerKey, Time)> {
        self.timers.iter().min_by_key(|(key, at)| (**at, key.generation)).map(|(key, at)| (*key, *at))
    }

    /// Does as told from now on until nothing more happens.
    pub(super) fn obey(&mut self) {
        for _ in 0..ANSWERS_MAX {
            let debt = self.alive.keys().find_map(|id| Some((id.clone(), self.owed(id)?)));
            match (debt, self.next_timer()) {
                (Some((id, ChildState::Starting)), _) => self.begins(id, u8::MAX),
                (Some((id, ChildState::Stopping)), _) => self.exits(id, 0),
                (Some((id, _)), _) => {
                    let incarnation = self.alive[&id];
                    self.step(Event::Ready { id, incarnation });
                }
                (None, Some((_, at))) => self.pass(at.saturating_sub(self.now)),
                (None, None) => return self.pass(seconds(1)),
            }
        }
        panic!("the world never settles");
    }

    fn owed(&self, id: &ChildId) -> Option<ChildState> {
        let view = self.engine.child(id.as_str())?;
        let reports = self.engine.spec(id.as_str())?.readiness != Readiness::Unreported;
        match view.state {
            ChildState::Starting | ChildState::Stopping => Some(view.state),
            ChildState::Running if reports && !view.leaving => Some(view.state),
            _ => None,
        }
    }

    /// Nothing is half-way: what waits, waits for something that will not come by itself.
    pub(super) fn check_settled(&self) {
        let views: Vec<_> = self.engine.children().collect();
        let state = |id: &ChildId| views.iter().find(|view| view.id == *id).map(|view| view.state);
        let mut stuck: BTreeSet<ChildId> = BTreeSet::new();
        for _ in &views {
            for view in views.iter().filter(|view| view.state == ChildState::Pending) {
                let is_true = |by: &ChildId| match state(by) {
                    Some(ChildState::Pending) => stuck.contains(by),
                    Some(_) => self.engine.spec(view.id.as_str()).unwrap().needs.iter().any(|edge| edge.on == *by),
                    None => false,
                };
                if view.blocked_by.iter().any(is_true) {
                    stuck.insert(view.id.clone());
                }
            }
        }
        for view in &views {
            match (view.state, view.desired) {
                (ChildState::Pending, _) => {
                    assert!(stuck.contains(&view.id), "{} waits for nothing: {:?}", view.id, view.blocked_by);
                }
                (ChildState::Running | ChildState::Ready, desired) => {
                    assert!(!view.leaving && desired == Desired::Up, "{} should be down", view.id);
                }
                (ChildState::Done | ChildState::Failed, _) | (ChildState::Stopped, Desired::Down) => {}
                (state, _) => panic!("{} is left {state:?}", view.id),
            }
        }
        assert!(self.engine.falls.is_empty(), "a fall is left over");
        assert!(self.engine.batches.is_empty() || !stuck.is_empty(), "a batch is left over");
    }
}
