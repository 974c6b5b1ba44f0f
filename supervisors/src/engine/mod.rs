//! The supervisor's brain: a pure state machine.
//!
//! ```text
//! shell ──Event──▶ step(now) ──▶ handle: the event changes one child, and those that fall with it
//!                               ├─ begin_stops: asks to end what has nobody above it left
//!                               ├─ drop_ended: forgets what came to rest and is not to be kept
//!                               ├─ start_pending: starts what is pending and may start
//! shell ◀─Effects──────────────┴─ tell_idle: nothing lives, nothing comes
//! ```
//!
//! One engine holds all children of one supervisor, all edges between them and the tree of its groups, so two restart
//! loops can never race. It has no clock, does no I/O, and its only randomness is seeded: equal events give equal
//! effects.
//!
//! # States and events of a life
//!
//! Desired (up or down) is kept apart from the state. Every life has a number; events of another life than the present
//! one change nothing (`–` below, like every pair that is not listed).
//!
//! | state | `Spawned` | `SpawnFailed` | `Ignored` | `Ready` | `Unready` | `LivenessLost` | `Exited` | timer |
//! |---|---|---|---|---|---|---|---|---|
//! | Pending | – | – | – | – | – | – | – | – |
//! | Starting | Running | *not begun* | Done | – | – | – | as Running | – |
//! | Running | – | – | – | Ready | – | *leaving*, then as a crash | *judged* | Ready: *leaving*, then as a crash; Stable: counts forgiven |
//! | Ready | – | – | – | – | Running | *leaving*, then as a crash | *judged* | Stable: counts forgiven |
//! | Stopping | – | – | – | – | – | – | *what follows* | Grace: killed |
//! | Backoff | – | – | – | – | – | – | – | Backoff: *charged* if that is due, then Pending |
//! | Stopped, Done, Failed | – | – | – | – | – | – | – | – |
//!
//! *Leaving*: the life is on its way down but has not been asked to end, because it is still being started or others
//! that go down too must be gone first. When its turn has come it is Stopping. What ends while it leaves, or cannot
//! begin, goes the way of *what follows*: Stopped, Pending for its next life, Failed with its group, or judged as a
//! crash.
//!
//! *Judged*: a clean end of a transient or temporary child is Done, unless it was to become ready and never was; any
//! other end of a temporary one is Failed; the rest is *charged* and goes to Pending, or to Backoff if there is a delay.
//!
//! *Not begun*: what was to be tried once only (`Add`, `Try`, OTP's first start of all) is dropped, Stopped, or ends
//! the supervisor. Where trying again cannot help, the child is as good as given up; with
//! [`Rules::Otp`](crate::spec::Rules::Otp) it always can. All else goes to Backoff, also without a delay: between two tries everybody else has a turn. It is
//! charged now, or with OTP's rules when Backoff is over, and then not at all if nobody wants the child any more.
//!
//! *Charged*: one restart is counted against the budget of the child, or the one that its group shares. If that is used
//! up the child is given up, and its escalation decides: it alone is Failed; its group is, or is started again by the
//! group above it, to whose budget that is charged; or everything goes down and the supervisor [ends](Engine::ending).
//!
//! # What is asked for
//!
//! | state | `Start` | `Stop` | `Restart` | `Kill` | `Adopt` | `Try` | `Remove` |
//! |---|---|---|---|---|---|---|---|
//! | Pending | – | Stopped | – | – | Running or Ready | – | – |
//! | Starting, Running, Ready | – | *leaving* | *leaving* | if leaving: killed instead of asked | – | – | – |
//! | the same, leaving | stays, if it was to be down | stays down | comes up again | as above | – | – | – |
//! | Stopping | comes up again; a crash is still judged | stays down | comes up again | killed at once | – | – | – |
//! | Backoff | Pending | Stopped | Pending | – | Running or Ready | – | – |
//! | Stopped, Failed | Pending | – | Pending | – | Running or Ready | Pending, once | dropped |
//! | Done | Pending if named | – | Pending if named | – | Running or Ready | Pending, once | dropped |
//!
//! A child that is Pending behind a failing start of its group (below) is not running for OTP: `Try` and `Remove` hold
//! for it as for a Stopped one, and with OTP's rules a `Stop` of the failing one stops it too.
//!
//! Once the supervisor [ends](Engine::ending), `Start` and `Restart` change nothing, as `Add` and `Try`.
//!
//! A `Restart` of all leaves those alone that are not wanted up or are Done. What comes to rest is dropped where
//! [`Flags::ended`] says so.
//!
//! `Add` makes a child that is Pending, to be tried once. `Restore` changes only children that do not live: it sets
//! their numbers, and Done or Failed where that is what they were.
//!
//! | event | children | groups and flags |
//! |---|---|---|
//! | `Replace` | unchanged ones untouched; changed ones restarted if their lives are of no use any more or they have none and are wanted; removed ones stopped, then dropped; added ones Stopped | groups replaced; one of a known name keeps what it has used |
//! | `Upgrade` | as `Replace` | groups and flags replaced, all in one step |
//! | `Reflag` | untouched | flags replaced, from the next event on |
//!
//! Of each of the three, what cannot be supervised changes nothing.
//!
//! # Falls and batches
//!
//! Children go down together as a *fall* and come up together as a *batch*. Here `b` of an ordered `one_for_all` group
//! crashes:
//!
//! ```text
//!         a ── b ── c                order: each after the one before it
//!
//! fall    b is over already ──▶ stop c ──▶ c is gone ──▶ stop a ──▶ a is gone ──▶ the fall is over
//! batch   a, b, c Pending: nobody starts before that ──────────────────────────▶ start a ─▶ start b ─▶ start c
//! ```
//!
//! A fall keeps its members in order also where one between them is dead or stays up. A life may be part of several
//! falls: it is asked to end when its turn has come in each, and a child comes up when each fall it waits for is over.
//!
//! A batch orders only those that come up together: a child that is restarted alone waits for nobody but what it needs.
//! Its *leader* is the child whose failure was the reason, then the one that failed to start. While the leader is in
//! Backoff all of the batch waits; when it is tried again, those its strategy takes along fall once more.
//!
//! # Groups
//!
//! The supervisor itself is the outermost group; its flags are that group's strategy, budget and escalation. A declared
//! group is one more inside it, with its own. A strategy restarts members of its own group and of groups in it, never
//! what is outside; only edges ([`Then`](crate::spec::Then)) lead out. Where the supervisor's own children are no list,
//! its `rest_for_one` means what needs the child. A restart is charged once, whoever is taken along: to the child's
//! group, or to the child itself where the supervisor's own group has no budget.

mod admin;
mod advance;
mod backoff;
mod batch;
mod budget;
mod child;
mod event;
mod fall;
mod groups;
mod operate;
mod order;
mod reload;
mod report;
mod step;
mod strategy;
mod table;
mod verdict;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::mem;

pub use admin::{AdminError, OtpState};
pub use event::{Effect, Event, LifeEvent, Rest, Time, TimerKey, TimerKind};
pub use order::SpecError;
pub use report::{Cause, Ending, How, Limit, Report, What};
pub use table::ChildKey;
pub use view::{ChildGlance, ChildState, ChildView, Desired, GroupView};

use crate::spec::{ChildId, ChildSpec, Flags, GroupSpec, Incarnation};
use advance::Work;
use batch::{Batch, BatchId};
use child::{Armed, Child, State};
use fall::{Fall, FallId};
use groups::Groups;
use order::Plan;
use table::{Key, Table};

/// How many children may be starting at once, unless told otherwise: enough for every core of a developer's machine,
/// few enough that fifty services do not fall upon a database in one moment.
pub const START_PARALLEL_MAX_DEFAULT: usize = 16;

/// What an engine is told once; only its flags may change later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Seed of the jitter; equal seeds and events give equal effects.
    pub seed: u64,
    /// How many children may be starting at once (at least one).
    pub start_parallel_max: usize,
    /// What the supervisor is told of itself.
    pub flags: Flags,
}

/// The state of one supervisor. The module's documentation has the transition table.
#[derive(Debug)]
pub struct Engine {
    children: Table,
    groups: Groups<Key>,
    /// The groups as they were declared.
    declared: Vec<GroupSpec>,
    options: Options,
    rng: fastrand::Rng,
    now: Time,
    work: Work,
    falls: BTreeMap<FallId, Fall>,
    last_fall: FallId,
    batches: BTreeMap<BatchId, Batch>,
    last_batch: BatchId,
    /// The place in the order of starts that comes after all others.
    topo_end: u64,
    /// How many children are starting.
    starting: usize,
    /// How many children live, or will without a new event from outside.
    active: usize,
    /// The last timer generation given out.
    generation: u64,
    /// Children that came to rest in this step and may have to be dropped.
    ended: Vec<Key>,
    /// Numbers of last lives of dropped children.
    retired: HashMap<ChildId, u32>,
    retired_highest: u32,
    was_started: bool,
    was_idle: bool,
    /// Nobody wants reports.
    is_silent: bool,
    ending: Option<(ChildId, Ending)>,
    effects: Vec<Effect>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, start_parallel_max: START_PARALLEL_MAX_DEFAULT, flags: Flags::default() }
    }
}

// === impl Engine ===

impl Engine {
    /// A supervisor of these children, all down.
    pub fn new(specs: Vec<ChildSpec>, groups: Vec<GroupSpec>, options: Options) -> Result<Self, SpecError> {
        let mut engine = Self {
            children: Table::default(),
            groups: Groups::new(&options.flags),
            declared: groups,
            options,
            rng: fastrand::Rng::with_seed(options.seed),
            now: Time::ZERO,
            work: Work::default(),
            falls: BTreeMap::new(),
            last_fall: 0,
            batches: BTreeMap::new(),
            last_batch: 0,
            topo_end: 0,
            starting: 0,
            active: 0,
            generation: 0,
            ended: Vec::new(),
            retired: HashMap::new(),
            retired_highest: 0,
            was_started: false,
            was_idle: true,
            is_silent: false,
            ending: None,
            effects: Vec::new(),
        };
        let references: Vec<_> = specs.iter().collect();
        Plan::new(&references, &engine.declared, &engine.options.flags)?;
        for spec in specs {
            engine.children.push(Child::new(spec));
        }
        engine.wire()?;
        Ok(engine)
    }

    /// Whether a set of specs can be supervised, with every flag at its default.
    pub fn check(specs: &[ChildSpec], groups: &[GroupSpec]) -> Result<(), SpecError> {
        Self::check_with(specs, groups, &Flags::default())
    }

    /// Whether a set of specs can be supervised with these flags (OTP's `check_childspecs`).
    pub fn check_with(specs: &[ChildSpec], groups: &[GroupSpec], flags: &Flags) -> Result<(), SpecError> {
        Plan::new(&specs.iter().collect::<Vec<_>>(), groups, flags).map(drop)
    }

    /// Takes in one event and says what is to be done about it. Time never runs backwards: an earlier `now` is the
    /// last.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.step_into(now, event, &mut effects);
        effects
    }

    /// [`Self::step`] for who keeps the memory of earlier effects; what is in `effects` stays before the new ones.
    pub fn step_into(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.begin_step(now, effects);
        self.handle(event);
        self.end_step(effects);
    }

    /// [`Self::step_into`] of an event of a life, for who holds keys: no name is looked up.
    pub fn step_life(
        &mut self,
        now: Time,
        key: ChildKey,
        incarnation: Incarnation,
        event: LifeEvent,
        effects: &mut Vec<Effect>,
    ) {
        self.begin_step(now, effects);
        self.handle_life(key, incarnation, event);
        self.end_step(effects);
    }

    fn begin_step(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        mem::swap(&mut self.effects, effects);
    }

    fn end_step(&mut self, effects: &mut Vec<Effect>) {
        self.begin_stops();
        self.drop_ended();
        self.start_pending();
        self.tell_idle();
        mem::swap(&mut self.effects, effects);
    }

    /// Every child, in the order of the specs.
    pub fn children(&self) -> impl Iterator<Item = ChildView> {
        self.children.iter().map(|(at, _)| self.view(at))
    }

    /// The child of a key.
    pub fn child_of(&self, key: ChildKey) -> Option<ChildView> {
        self.children.get(key).map(|_| self.view(key))
    }

    /// Whether reports are wanted from now on, as they are at first. Nothing else depends on it.
    pub fn set_reporting(&mut self, is_wanted: bool) {
        self.is_silent = !is_wanted;
    }

    /// Lives that are still being started and not wanted any more: whoever starts them may stop at that.
    pub fn unwanted_starts(&self) -> impl Iterator<Item = (&ChildId, Incarnation)> {
        let starting = self.children.iter().filter_map(|(_, child)| match &child.state {
            State::Starting(life) => Some((&child.spec.id, life)),
            _ => None,
        });
        // There are never more than are counted: the rest of the children need not be looked at.
        let starting = starting.take(self.starting);
        starting.filter(|(_, life)| life.leaving.is_some()).map(|(id, life)| (id, life.incarnation))
    }

    /// The key of a child.
    pub fn key(&self, id: &str) -> Option<ChildKey> {
        self.children.find(id)
    }

    /// One child.
    pub fn child(&self, id: &str) -> Option<ChildView> {
        self.children.find(id).map(|at| self.view(at))
    }

    /// The spec of a child (OTP's `get_childspec`).
    pub fn spec(&self, id: &str) -> Option<&ChildSpec> {
        self.children.find(id).map(|at| &self.children[at].spec)
    }

    /// The specs of all children, in order.
    pub fn specs(&self) -> impl Iterator<Item = &ChildSpec> {
        self.children.iter().map(|(_, child)| &child.spec)
    }

    /// How many children are known.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether no child is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.declared().map(|group| self.group_view(group))
    }

    /// Why the supervisor ends by itself, and because of whom, once that is so.
    pub fn ending(&self) -> Option<(&ChildId, &Ending)> {
        self.ending.as_ref().map(|(by, why)| (by, why))
    }

    /// Whether nothing is alive and nothing will come up without a new event from outside.
    ///
    /// A pending child does not count: with nothing alive and nothing in backoff, what it waits for is down for good.
    pub fn is_idle(&self) -> bool {
        self.active == 0
    }

    /// The waves a start of everything goes in: each needs only earlier ones.
    pub fn start_order(&self) -> Vec<Vec<ChildId>> {
        let present = self.children.iter().filter(|(_, child)| !child.removed);
        let specs: Vec<_> = present.map(|(_, child)| &child.spec).collect();
        let plan = Plan::new(&specs, &self.declared, &self.options.flags).unwrap_or_default();
        let ids = |wave: Vec<usize>| wave.into_iter().map(|at| specs[at].id.clone()).collect();
        plan.waves().into_iter().map(ids).collect()
    }

    fn id(&self, at: Key) -> ChildId {
        self.children[at].spec.id.clone()
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn report(&mut self, at: Key, what: What, cause: Option<Cause>) {
        if self.is_silent {
            return;
        }
        let child = &self.children[at];
        let report = Report { id: child.spec.id.clone(), incarnation: child.incarnation(), what, cause };
        self.effects.push(Effect::Report(Box::new(report)));
    }

    /// Reports with the cause of the child's state.
    fn report_state(&mut self, at: Key, what: What) {
        if !self.is_silent {
            let cause = self.children[at].cause.clone();
            self.report(at, what, cause);
        }
    }

    /// Enters a state. A timer belongs to the state that is left.
    fn enter(&mut self, at: Key, state: State) {
        self.cancel_timer(at);
        let was_backoff = matches!(self.children[at].state, State::Backoff { .. });
        let led = if was_backoff { self.batch_of(at) } else { Vec::new() };
        let child = &mut self.children[at];
        self.active -= usize::from(child.is_active());
        self.starting -= usize::from(matches!(child.state, State::Starting(_)));
        let was_pending = matches!(child.state, State::Pending(_));
        child.state = state;
        child.since = self.now;
        self.active += usize::from(child.is_active());
        self.starting += usize::from(matches!(child.state, State::Starting(_)));
        if was_pending {
            self.forget_work(at);
        }
        self.wake(at);
        self.refresh_coming(at);
        self.wake_dependents(at);
        led.into_iter().for_each(|other| self.wake(other));
    }

    fn arm(&mut self, at: Key, kind: TimerKind, due: Time) {
        self.generation += 1;
        let key = TimerKey { child: at, kind, generation: self.generation };
        self.children[at].timer = Some(Armed { kind, generation: self.generation, due });
        self.effect(Effect::Arm { key, at: due });
    }

    fn cancel_timer(&mut self, at: Key) {
        if let Some(Armed { kind, generation, due }) = self.children[at].timer.take() {
            self.effect(Effect::Cancel { key: TimerKey { child: at, kind, generation }, at: due });
        }
    }

    fn tell_idle(&mut self) {
        let idle = self.is_idle();
        if idle && !self.was_idle {
            self.effect(Effect::Idle);
        }
        self.was_idle = idle;
    }
}
