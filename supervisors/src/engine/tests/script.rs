//! A world for the engine: it answers effects as told, keeps the timers, and checks what must hold in every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Name;
use crate::engine::{
    AdminError, ChildState, ChildView, Effect, Engine, Event, Options, OtpState, Report, Time, TimerKey, What,
};
use crate::reason::{ExitReason, StartError};
use crate::spec::{
    Backoff, ChildId, ChildSpec, ChildType, Condition, Edge, Flags, GroupSpec, Incarnation, Intensity, Readiness,
    Restart, Strategy, Then,
};

/// The time a child marked `!` has to become ready.
pub(super) const WITHIN: Duration = Duration::from_secs(60);

/// A world and the engine in it.
pub(super) struct Script {
    pub(super) engine: Engine,
    pub(super) now: Time,
    /// Lives asked for and not over.
    pub(super) alive: BTreeMap<ChildId, Incarnation>,
    /// Begin lives by themselves? Children named here are waited for: `spawned` or `spawn_fails`.
    pub(super) slow_to_start: BTreeSet<String>,
    /// Starts of children named here fail.
    pub(super) fails_to_start: BTreeSet<String>,
    /// Children named here have nothing to run.
    pub(super) ignoring: BTreeSet<String>,
    /// Become ready by themselves? Children named here are not.
    pub(super) slow_to_be_ready: BTreeSet<String>,
    /// End when asked? Children named here do only when killed, or by `exits`.
    pub(super) deaf: BTreeSet<String>,
    /// Those that report readiness at all.
    reporting: BTreeSet<ChildId>,
    timers: BTreeMap<TimerKey, Time>,
    last_generation: u64,
    calls: Vec<String>,
    reports: Vec<(Time, Report)>,
    specs: Vec<ChildSpec>,
    groups: Vec<GroupSpec>,
}

pub(super) fn id(text: &str) -> ChildId {
    Name::new(text).unwrap()
}

fn ids(names: &str) -> Vec<ChildId> {
    names.split_whitespace().map(id).collect()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Children from a line: `"db! api!<db=ready/restart ~job<db ?seed ~main+"`. `~` transient, `?` temporary, `!` reports
/// readiness, `+` significant; a need's condition is `started` and its `then` `ignore` unless told.
pub(super) fn specs(line: &str) -> Vec<ChildSpec> {
    line.split_whitespace().map(spec).collect()
}

fn spec(word: &str) -> ChildSpec {
    let (name, needs) = word.split_once('<').unwrap_or((word, ""));
    let readiness = if name.ends_with('!') { Readiness::Within(WITHIN) } else { Readiness::Unreported };
    let significant = name.ends_with('+');
    let restart = match name.chars().next() {
        Some('~') => Restart::Transient,
        Some('?') => Restart::Temporary,
        _ => Restart::Permanent,
    };
    let needs = needs.split(',').filter(|need| !need.is_empty()).map(edge).collect();
    let id = id(name.trim_matches(['~', '?', '!', '+']));
    ChildSpec { readiness, restart, needs, significant, ..ChildSpec::new(id) }
}

/// Children from a line, as OTP knows them.
pub(super) fn otp_specs(line: &str) -> Vec<ChildSpec> {
    let otp = |spec| ChildSpec { backoff: Backoff::None, unstable_max: None, ..spec };
    specs(line).into_iter().map(otp).collect()
}

/// Groups from a line: `"core*:db,api edge>:core,web"`. `*` one_for_all, `>` rest_for_one, else one_for_one.
pub(super) fn groups(line: &str, change: impl Fn(&mut GroupSpec)) -> Vec<GroupSpec> {
    let group = |word: &str| {
        let (name, members) = word.split_once(':').unwrap();
        let mut group = GroupSpec::new(id(name.trim_matches(['*', '>'])), members.split(',').map(id).collect());
        group.strategy = match name.chars().last() {
            Some('*') => Strategy::OneForAll,
            Some('>') => Strategy::RestForOne,
            _ => Strategy::OneForOne,
        };
        change(&mut group);
        group
    };
    line.split_whitespace().map(group).collect()
}

pub(super) fn no_such_file(name: &str, retry: bool) -> StartError {
    StartError { message: format!("start {name}: no such file"), hint: None, retry }
}

fn edge(text: &str) -> Edge {
    let (text, then) = text.split_once('/').unwrap_or((text, "ignore"));
    let (on, is) = text.split_once('=').unwrap_or((text, "started"));
    let is = match is {
        "started" => Condition::Started,
        "ready" => Condition::Ready,
        "done" => Condition::Done,
        other => panic!("no such condition: {other}"),
    };
    let then = match then {
        "ignore" => Then::Ignore,
        "restart" => Then::Restart,
        "stop" => Then::Stop,
        other => panic!("no such policy: {other}"),
    };
    Edge { on: id(on), is, then }
}

// === impl Script ===

impl Script {
    pub(super) fn new(line: &str) -> Self {
        Self::with(line, |_| ())
    }

    /// Children from a line, each changed by `change`.
    pub(super) fn with(line: &str, change: impl Fn(&mut ChildSpec)) -> Self {
        let mut specs = specs(line);
        specs.iter_mut().for_each(change);
        Self::of(specs, Options::default())
    }

    pub(super) fn of(specs: Vec<ChildSpec>, options: Options) -> Self {
        Self::grouped(specs, Vec::new(), options)
    }

    /// As OTP's supervisor: a list of children with `intensity` restarts in five seconds.
    pub(super) fn otp(line: &str, strategy: Strategy, intensity: u32) -> Self {
        let budget = Some(Intensity { restarts: intensity, period: seconds(5) });
        Self::flagged(line, Flags { intensity: budget, ..Flags::otp(strategy) })
    }

    /// Children as OTP knows them, without delays, in a supervisor with these flags.
    pub(super) fn flagged(line: &str, flags: Flags) -> Self {
        Self::flagged_with(line, flags, |_| ())
    }

    /// The same, each child changed by `change`.
    pub(super) fn flagged_with(line: &str, flags: Flags, change: impl Fn(&mut ChildSpec)) -> Self {
        let mut specs = otp_specs(line);
        specs.iter_mut().for_each(change);
        Self::of(specs, Options { flags, ..Options::default() })
    }

    pub(super) fn grouped(specs: Vec<ChildSpec>, groups: Vec<GroupSpec>, options: Options) -> Self {
        Self {
            reporting: reporting(&specs),
            specs: specs.clone(),
            groups: groups.clone(),
            engine: Engine::new(specs, groups, options).unwrap(),
            now: Time::ZERO,
            alive: BTreeMap::new(),
            slow_to_start: BTreeSet::new(),
            fails_to_start: BTreeSet::new(),
            ignoring: BTreeSet::new(),
            slow_to_be_ready: BTreeSet::new(),
            deaf: BTreeSet::new(),
            timers: BTreeMap::new(),
            last_generation: 0,
            calls: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub(super) fn slow_to_start(mut self, names: &str) -> Self {
        self.slow_to_start.extend(names.split_whitespace().map(str::to_owned));
        self
    }

    pub(super) fn slow_to_be_ready(mut self, names: &str) -> Self {
        self.slow_to_be_ready.extend(names.split_whitespace().map(str::to_owned));
        self
    }

    pub(super) fn deaf(mut self, names: &str) -> Self {
        self.deaf.extend(names.split_whitespace().map(str::to_owned));
        self
    }

    /// Everything wanted up; what was called for so far is forgotten.
    pub(super) fn up(mut self) -> Self {
        self.start("");
        self.calls();
        self
    }

    // --- what the operator asks for; no name: all ---

    pub(super) fn start(&mut self, names: &str) {
        self.step(Event::Start { ids: ids(names), with_needs: true });
    }

    pub(super) fn stop(&mut self, names: &str) {
        self.step(Event::Stop { ids: ids(names) });
    }

    pub(super) fn restart(&mut self, names: &str) {
        self.step(Event::Restart { ids: ids(names) });
    }

    pub(super) fn kill(&mut self, names: &str) {
        self.step(Event::Kill { ids: ids(names) });
    }

    pub(super) fn replace(&mut self, specs: Vec<ChildSpec>) {
        self.regroup(specs, Vec::new());
    }

    pub(super) fn regroup(&mut self, specs: Vec<ChildSpec>, groups: Vec<GroupSpec>) {
        if Engine::check_with(&specs, &groups, &self.engine.options.flags).is_ok() {
            self.reporting = reporting(&specs);
            self.specs.clone_from(&specs);
            self.groups.clone_from(&groups);
        }
        self.step(Event::Replace { specs, groups });
    }

    /// OTP's `start_child`, refused as OTP refuses it.
    pub(super) fn add(&mut self, word: &str) -> Result<(), AdminError> {
        otp_specs(word).into_iter().try_for_each(|spec| self.add_spec(spec))
    }

    pub(super) fn add_spec(&mut self, spec: ChildSpec) -> Result<(), AdminError> {
        self.engine.check_add(&spec)?;
        if spec.readiness != Readiness::Unreported {
            self.reporting.insert(spec.id.clone());
        }
        self.specs.retain(|known| known.id != spec.id);
        self.specs.push(spec.clone());
        self.step(Event::Add { spec: Box::new(spec) });
        Ok(())
    }

    /// OTP's `restart_child`, refused as OTP refuses it.
    pub(super) fn try_once(&mut self, name: &str) -> Result<(), AdminError> {
        self.engine.check_try(&id(name))?;
        self.step(Event::Try { id: id(name) });
        Ok(())
    }

    /// OTP's `delete_child`, refused as OTP refuses it.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), AdminError> {
        self.engine.check_remove(&id(name))?;
        self.step(Event::Remove { id: id(name) });
        Ok(())
    }

    // --- what happens in the world ---

    pub(super) fn spawned(&mut self, name: &str) {
        let (id, incarnation) = self.life(name);
        self.step(Event::Spawned { id, incarnation });
    }

    pub(super) fn spawn_fails(&mut self, name: &str, retry: bool) {
        let (id, incarnation) = self.life(name);
        self.alive.remove(&id);
        self.step(Event::SpawnFailed { id, incarnation, error: no_such_file(name, retry) });
    }

    /// A start says that there is nothing to run.
    pub(super) fn ignores(&mut self, name: &str) {
        let (id, incarnation) = self.life(name);
        self.alive.remove(&id);
        self.step(Event::Ignored { id, incarnation });
    }

    pub(super) fn ready(&mut self, name: &str) {
        let (id, incarnation) = self.life(name);
        self.step(Event::Ready { id, incarnation });
    }

    pub(super) fn unready(&mut self, name: &str) {
        let (id, incarnation) = self.life(name);
        self.step(Event::Unready { id, incarnation, detail: "503".to_owned() });
    }

    pub(super) fn hangs(&mut self, name: &str) {
        let (id, incarnation) = self.life(name);
        self.step(Event::LivenessLost { id, incarnation, detail: "no answer".to_owned() });
    }

    pub(super) fn exits(&mut self, name: &str, code: i32) {
        self.ends(name, ExitReason::Code(code));
    }

    pub(super) fn ends(&mut self, name: &str, reason: ExitReason) {
        let (id, incarnation) = self.life(name);
        self.alive.remove(&id);
        self.step(Event::Exited { id, incarnation, reason });
    }

    /// Lets time pass; timers that come due are sent in order.
    pub(super) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some((key, at)) = self.next_timer().filter(|(_, at)| *at <= until) {
            self.timers.remove(&key);
            self.now = self.now.max(at);
            self.step(Event::Timer(key));
        }
        self.now = until;
    }

    /// Lets exactly the child's delay pass, and returns it.
    pub(super) fn wait_out_backoff(&mut self, name: &str) -> Duration {
        let ChildState::Backoff { until, .. } = self.child(name).state else { return Duration::ZERO };
        let delay = until - self.now;
        self.pass(delay);
        delay
    }

    /// The world does as it is told from now on, and makes up for what it left undone.
    pub(super) fn obey(&mut self) {
        self.slow_to_start.clear();
        self.slow_to_be_ready.clear();
        self.deaf.clear();
        while let Some(id) = self.alive.keys().find(|id| self.owes(id)).cloned() {
            match self.state(id.as_str()) {
                "starting" => self.spawned(id.as_str()),
                "stopping" => self.exits(id.as_str(), 0),
                _ => self.ready(id.as_str()),
            }
        }
    }

    fn owes(&self, id: &ChildId) -> bool {
        match self.state(id.as_str()) {
            "starting" | "stopping" => true,
            "running" => self.reporting.contains(id) && !self.child(id.as_str()).leaving,
            _ => false,
        }
    }

    /// The timer that comes due first, with its time.
    pub(super) fn next_timer(&self) -> Option<(TimerKey, Time)> {
        self.timers.iter().min_by_key(|(key, at)| (**at, key.generation)).map(|(key, at)| (*key, *at))
    }

    pub(super) fn timers(&self) -> impl Iterator<Item = &TimerKey> {
        self.timers.keys()
    }

    // --- what can be seen ---

    /// `"spawn db#1, stop api#1, idle"`: what was called for since the last look.
    pub(super) fn calls(&mut self) -> String {
        std::mem::take(&mut self.calls).join(", ")
    }

    /// `"db:ready api:pending"`, in the order of the specs.
    pub(super) fn states(&self) -> String {
        let word = |child: ChildView| format!("{}:{}", child.id, word(child.state));
        self.engine.children().map(word).collect::<Vec<_>>().join(" ")
    }

    /// `"db:running api:restarting job:undefined"`: what OTP's `which_children` says, in the order of the specs.
    pub(super) fn otp_states(&self) -> String {
        let word = |child: ChildView| format!("{}:{}", child.id, self.otp_state(child.id.as_str()));
        self.engine.children().map(word).collect::<Vec<_>>().join(" ")
    }

    /// A child's state in OTP's words; `gone` if it is not known.
    pub(super) fn otp_state(&self, name: &str) -> &'static str {
        match self.engine.otp_state(name) {
            Some(OtpState::Running) => "running",
            Some(OtpState::Restarting) => "restarting",
            Some(OtpState::Undefined) => "undefined",
            None => "gone",
        }
    }

    /// OTP's `count_children`: specs, active, supervisors, workers.
    pub(super) fn counts(&self) -> [usize; 4] {
        let views: Vec<_> = self.engine.children().collect();
        let is_active = |view: &&ChildView| self.otp_state(view.id.as_str()) == "running";
        let is_supervisor =
            |view: &&ChildView| self.engine.spec(view.id.as_str()).unwrap().child_type == ChildType::Supervisor;
        let supervisors = views.iter().filter(is_supervisor).count();
        [views.len(), views.iter().filter(is_active).count(), supervisors, views.len() - supervisors]
    }

    pub(super) fn child(&self, name: &str) -> ChildView {
        self.engine.child(name).unwrap()
    }

    pub(super) fn state(&self, name: &str) -> &'static str {
        word(self.child(name).state)
    }

    /// Why a child is as it is, in words.
    pub(super) fn why(&self, name: &str) -> String {
        self.child(name).cause.map_or_else(String::new, |cause| cause.to_string())
    }

    /// What was reported of a child since the last look at reports.
    pub(super) fn reports(&mut self, name: &str) -> Vec<What> {
        self.take_reports().into_iter().filter(|(_, r)| r.id.as_str() == name).map(|(_, r)| r.what).collect()
    }

    /// Every report since the last look at reports, with its time.
    pub(super) fn take_reports(&mut self) -> Vec<(Time, Report)> {
        std::mem::take(&mut self.reports)
    }

    pub(super) fn life(&self, name: &str) -> (ChildId, Incarnation) {
        let id = id(name);
        let incarnation = *self.alive.get(&id).unwrap_or_else(|| panic!("{name} is not alive"));
        (id, incarnation)
    }

    // --- the world's machinery ---

    pub(super) fn step(&mut self, event: Event) {
        let effects = self.engine.step(self.now, event);
        super::property::check_spawns(self, &self.specs, &effects);
        let mut answers = Vec::new();
        for effect in effects {
            answers.extend(self.carry_out(effect));
        }
        for answer in answers {
            // An answer may have come too late: an earlier one of this round has changed the world.
            if let Event::Exited { id, incarnation, .. } = &answer {
                self.alive.retain(|alive, life| alive != id || life != incarnation);
            }
            self.step(answer);
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::Spawn { id, incarnation, .. } => {
                self.calls.push(format!("spawn {id}#{incarnation}"));
                let before = self.alive.insert(id.clone(), incarnation);
                assert_eq!(before, None, "{id}: two lives at once");
                self.birth(id, incarnation)
            }
            Effect::Stop { id, incarnation, .. } => {
                self.calls.push(format!("stop {id}#{incarnation}"));
                self.end(id, incarnation, 15)
            }
            Effect::Kill { id, incarnation, .. } => {
                self.calls.push(format!("kill {id}#{incarnation}"));
                self.end(id, incarnation, 9)
            }
            Effect::Arm { key, at } => {
                assert!(key.generation > self.last_generation, "a timer generation was used twice");
                self.last_generation = key.generation;
                self.timers.insert(key, at);
                Vec::new()
            }
            Effect::Cancel { key, at } => {
                assert_eq!(self.timers.remove(&key), Some(at), "{key:?} was not armed");
                Vec::new()
            }
            Effect::Report(report) => {
                self.reports.push((self.now, *report));
                Vec::new()
            }
            Effect::Dropped { .. } => Vec::new(),
            Effect::Idle => {
                assert!(self.alive.is_empty(), "idle with {:?} alive", self.alive);
                self.calls.push("idle".to_owned());
                Vec::new()
            }
        }
    }

    fn birth(&mut self, id: ChildId, incarnation: Incarnation) -> Vec<Event> {
        if self.slow_to_start.contains(id.as_str()) {
            return Vec::new();
        }
        if self.fails_to_start.contains(id.as_str()) {
            self.alive.remove(&id);
            let error = no_such_file(id.as_str(), true);
            return vec![Event::SpawnFailed { id, incarnation, error }];
        }
        if self.ignoring.contains(id.as_str()) {
            self.alive.remove(&id);
            return vec![Event::Ignored { id, incarnation }];
        }
        let spawned = Event::Spawned { id: id.clone(), incarnation };
        if !self.reporting.contains(&id) || self.slow_to_be_ready.contains(id.as_str()) {
            return vec![spawned];
        }
        vec![spawned, Event::Ready { id, incarnation }]
    }

    fn end(&mut self, id: ChildId, incarnation: Incarnation, signal: i32) -> Vec<Event> {
        assert_eq!(self.alive.get(&id), Some(&incarnation), "{id}: told to end, but that life is not alive");
        if signal != 9 && self.deaf.contains(id.as_str()) {
            return Vec::new();
        }
        let reason = ExitReason::Signal { number: signal, core: false };
        vec![Event::Exited { id, incarnation, reason }]
    }
}

fn reporting(specs: &[ChildSpec]) -> BTreeSet<ChildId> {
    specs.iter().filter(|spec| spec.readiness != Readiness::Unreported).map(|spec| spec.id.clone()).collect()
}

fn word(state: ChildState) -> &'static str {
    match state {
        ChildState::Pending => "pending",
        ChildState::Starting => "starting",
        ChildState::Running => "running",
        ChildState::Ready => "ready",
        ChildState::Stopping => "stopping",
        ChildState::Backoff { .. } => "backoff",
        ChildState::Stopped => "stopped",
        ChildState::Done => "done",
        ChildState::Failed => "failed",
    }
}
