//! The supervisor's brain: a pure state machine.
//!
//! ```text
//! shell ──Event──▶ step(now) ──▶ handle: the event changes one child, and those its fall takes along
//!                               ├─ advance: begin the stops whose dependents are down
//!                               ├─          start what is pending and may start
//! shell ◀─Effects──────────────┴─ tell: idle?
//! ```
//!
//! One engine holds all children of one supervisor and all edges between them, so two restart loops can never race.
//! It has no clock, does no I/O, and its only randomness is seeded: equal events give equal effects.
//!
//! # States and events
//!
//! Desired (up or down) is kept apart from the state. Every life has a number; events of another life than the present
//! one change nothing (`–` below, like every pair that is not listed).
//!
//! | state | `Spawned` | `SpawnFailed` | `Ready` | `Unready` | `LivenessLost` | `Exited` | timer |
//! |---|---|---|---|---|---|---|---|
//! | Pending | – | – | – | – | – | – | – |
//! | Starting | Running | Backoff, or Failed if trying again cannot help | – | – | – | as Running | – |
//! | Running | – | – | Ready | – | Stopping, then as a crash | *judged* | Ready: Stopping, then as a crash; Stable: counts forgiven |
//! | Ready | – | – | – | Running | Stopping, then as a crash | *judged* | Stable: counts forgiven |
//! | Stopping | – | – | – | – | – | Stopped, Pending, or judged as a crash | Grace: killed |
//! | Backoff | – | – | – | – | – | – | Backoff: Pending |
//! | Stopped, Done, Failed | – | – | – | – | – | – | – |
//!
//! *Judged*: a clean end of a transient or temporary child is Done; any other end of a temporary one is Failed; the rest
//! is charged to the budget and goes to Pending or Backoff, or to Failed when the budget is used up.
//!
//! `Restore` changes only children that do not live: it sets their numbers, and Done or Failed where that is what they were.
//!
//! | state | `Start` | `Stop` | `Restart` | `Kill` | `Adopt` |
//! |---|---|---|---|---|---|
//! | Pending | – | Stopped | – | – | Running or Ready |
//! | Starting, Running, Ready | – | *leaving*, then Stopping | *leaving*, then Stopping | if leaving: killed instead of asked | – |
//! | Stopping | comes up again | stays down | comes up again | killed at once | – |
//! | Backoff | Pending | Stopped | Pending | – | Running or Ready |
//! | Stopped, Failed | Pending | – | Pending | – | Running or Ready |
//! | Done | Pending if named | – | Pending if named | – | Running or Ready |
//!
//! *Leaving*: the life is on its way down but has not been asked to end, because it is still being started or dependents
//! that go down too must be gone first. A `Start` now keeps it.
//!
//! A child that comes up again after others went down with it stays Pending until each of those lives is over.

mod advance;
mod backoff;
mod budget;
mod child;
mod event;
mod fall;
mod operate;
mod order;
mod reload;
mod report;
mod step;
mod strategy;
mod view;

#[cfg(test)]
mod tests;

use std::mem;

use indexmap::IndexMap;

pub use event::{Effect, Event, Rest, Time, TimerKey, TimerKind};
pub use order::SpecError;
pub use report::{Cause, How, Limit, Report, What};
pub use view::{ChildState, ChildView, Desired};

use crate::spec::{ChildId, ChildSpec};
use child::{Child, LifeId, State};
use order::Order;

/// How many children may be starting at once, unless told otherwise: enough for every core of a developer's machine,
/// few enough that fifty services do not fall upon a database in one moment.
pub const START_PARALLEL_MAX_DEFAULT: usize = 16;

/// What an engine is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Seed of the jitter; equal seeds and events give equal effects.
    pub seed: u64,
    /// How many children may be starting at once (at least one).
    pub start_parallel_max: usize,
}

/// The state of one supervisor. The module's documentation has the transition table.
#[derive(Debug)]
pub struct Engine {
    /// In the order of the specs, removed ones that are still alive last.
    children: IndexMap<ChildId, Child>,
    order: Order,
    options: Options,
    rng: fastrand::Rng,
    now: Time,
    /// The last timer generation given out.
    generation: u64,
    /// Numbers of last lives of dropped children, so that a name that comes back never repeats one.
    retired: IndexMap<ChildId, u32>,
    was_idle: bool,
    effects: Vec<Effect>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, start_parallel_max: START_PARALLEL_MAX_DEFAULT }
    }
}

// === impl Engine ===

impl Engine {
    /// A supervisor of these children, all down.
    pub fn new(specs: Vec<ChildSpec>, options: Options) -> Result<Self, SpecError> {
        let order = Order::new(&specs.iter().collect::<Vec<_>>())?;
        Ok(Self {
            children: specs.into_iter().map(|spec| (spec.id.clone(), Child::new(spec))).collect(),
            order,
            options,
            rng: fastrand::Rng::with_seed(options.seed),
            now: Time::ZERO,
            generation: 0,
            retired: IndexMap::new(),
            was_idle: true,
            effects: Vec::new(),
        })
    }

    /// Whether a set of specs can be supervised.
    pub fn check(specs: &[ChildSpec]) -> Result<(), SpecError> {
        Order::new(&specs.iter().collect::<Vec<_>>()).map(drop)
    }

    /// Takes in one event and says what is to be done about it. Time never runs backwards: an earlier `now` is the last.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.handle(event);
        self.begin_stops();
        self.drop_removed();
        self.start_pending();
        self.tell_idle();
        mem::take(&mut self.effects)
    }

    /// Every child, in the order of the specs.
    pub fn children(&self) -> impl Iterator<Item = ChildView> {
        self.children.values().map(Child::view)
    }

    /// One child.
    pub fn child(&self, id: &str) -> Option<ChildView> {
        self.children.get(id).map(Child::view)
    }

    /// Whether nothing is alive and nothing will come up without a new event from outside.
    ///
    /// A pending child does not count: with nothing alive and nothing in backoff, what it waits for is down for good.
    pub fn is_idle(&self) -> bool {
        self.children.values().all(|child| match child.state {
            State::Pending(_) | State::Stopped | State::Done | State::Failed => true,
            State::Starting(_) | State::Running(_) | State::Ready(_) | State::Stopping(_) | State::Backoff { .. } => {
                false
            }
        })
    }

    /// The waves a start of everything goes in: each needs only earlier ones.
    pub fn start_order(&self) -> Vec<Vec<ChildId>> {
        let ids = |wave: Vec<usize>| wave.into_iter().map(|at| self.id(at)).collect();
        self.order.waves().into_iter().map(ids).collect()
    }

    fn id(&self, at: usize) -> ChildId {
        self.children[at].spec.id.clone()
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn report(&mut self, at: usize, what: What, cause: Option<Cause>) {
        let child = &self.children[at];
        let report = Report { id: child.spec.id.clone(), incarnation: child.incarnation(), what, cause };
        self.effects.push(Effect::Report(report));
    }

    /// Reports with the cause of the child's state.
    fn report_state(&mut self, at: usize, what: What) {
        let cause = self.children[at].cause.clone();
        self.report(at, what, cause);
    }

    /// Enters a state. Timers belong to the state that is left.
    fn enter(&mut self, at: usize, state: State) {
        self.cancel_timers(at);
        let child = &mut self.children[at];
        child.state = state;
        child.since = self.now;
    }

    fn arm(&mut self, at: usize, kind: TimerKind, due: Time) {
        self.generation += 1;
        let key = TimerKey { id: self.id(at), kind, generation: self.generation };
        self.children[at].timers.push((kind, key.generation));
        self.effect(Effect::Arm { key, at: due });
    }

    fn cancel_timers(&mut self, at: usize) {
        for (kind, generation) in mem::take(&mut self.children[at].timers) {
            let key = TimerKey { id: self.id(at), kind, generation };
            self.effect(Effect::Cancel { key });
        }
    }

    /// Whether a life is over, or turned out to stay: either way nobody waits for it any more.
    fn is_over(&self, life: &LifeId) -> bool {
        let present = self.children.get(&life.id).and_then(Child::life);
        !present.is_some_and(|present| present.incarnation == life.incarnation && present.leaving.is_some())
    }

    fn tell_idle(&mut self) {
        let idle = self.is_idle();
        if idle && !self.was_idle {
            self.effect(Effect::Idle);
        }
        self.was_idle = idle;
    }
}
