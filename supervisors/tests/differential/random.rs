//! Scripts drawn at random: equal seeds give equal scripts.

use fastrand::Rng;

use crate::script::{
    Act, Answer, AutoShutdown, Call, Child, Flags, Habit, INTENSITY_ENDLESS, Id, Op, Outcome, PERIOD_ENDLESS, Reason,
    Restart, Script, Shutdown, Strategy,
};

/// Static children are called a to h: few enough that requests meet somebody.
const IDS: u8 = 8;
/// At the start; the rest come by `start_child`.
const CHILDREN_MAX: usize = 5;
const OPS_MAX: usize = 15;
/// Starts that are told how to end. Finite, so that every loop of failing starts ends.
const ANSWERS_MAX: usize = 4;
const ACTS_MAX: usize = 3;
/// Instances of a template are called a to t, each once.
const INSTANCES_MAX: u8 = 20;
/// Patience with children that obey: longer than any pause of a busy machine.
const PATIENCE_MS: u32 = 60_000;
/// Patience with deaf ones, each of which costs this long.
const PATIENCE_WITH_DEAF_MS: u32 = 2;
/// One child in this many is deaf.
const DEAF_ONE_IN: u32 = 60;
/// No timed script takes longer.
const TIMED_MAX_MS: u64 = 9_000;
/// Steps of a timed script's clock, so that every situation at a window's edge comes up: a moment, just inside a window of
/// one, two and three seconds, and just outside.
const STEPS_MS: [u64; 7] = [200, 650, 1_650, 2_350, 2_650, 3_300, 4_300];

// === impl Script ===

impl Script {
    /// A script in which time plays no part.
    pub(crate) fn random(seed: u64) -> Self {
        Draw::new(seed).script()
    }

    /// A script about the sliding window: crashes, and time between them.
    pub(crate) fn random_timed(seed: u64) -> Self {
        Draw::new(seed).timed_script()
    }
}

struct Draw {
    seed: u64,
    rng: Rng,
    simple: bool,
    auto_shutdown: AutoShutdown,
    /// What instances of a template are.
    template: Option<Child>,
    instances: u8,
}

// === impl Draw ===

impl Draw {
    fn new(seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        Self { seed, rng, simple: false, auto_shutdown: AutoShutdown::Never, template: None, instances: 0 }
    }

    fn script(&mut self) -> Script {
        let flags = self.flags();
        let mut script = self.with_children(flags);
        let more = self.rng.usize(1..=OPS_MAX);
        script.ops.extend((0..more).map(|_| self.op(&script.children)));
        script.ops.push(Op::One(Act::Stop));
        script
    }

    /// Drawn until no two moments are where nobody can say on which side of the window's edge they are.
    fn timed_script(&mut self) -> Script {
        let intensity = self.rng.u32(1..=3);
        let flags = Flags { intensity, period: self.rng.u64(1..=3), ..self.flags() };
        let mut script = self.with_children(flags);
        let beginning = script.ops.clone();
        loop {
            script.ops.clone_from(&beginning);
            let mut left = TIMED_MAX_MS;
            loop {
                let step = self.pick(&STEPS_MS);
                if step > left {
                    break;
                }
                left -= step;
                script.ops.extend((0..self.rng.usize(1..=2)).map(|_| self.crash(&script.children)));
                script.ops.push(Op::Advance(step));
            }
            script.ops.push(self.crash(&script.children));
            if script.is_sound() {
                return script;
            }
        }
    }

    fn flags(&mut self) -> Flags {
        let strategies = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
            Strategy::RestForOne,
            Strategy::SimpleOneForOne,
        ];
        let strategy = self.pick(&strategies);
        self.simple = strategy == Strategy::SimpleOneForOne;
        if !self.simple {
            let modes =
                [AutoShutdown::Never, AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
            self.auto_shutdown = self.pick(&modes);
        }
        let intensity = if self.rng.bool() { INTENSITY_ENDLESS } else { self.rng.u32(0..=4) };
        Flags { strategy, intensity, period: PERIOD_ENDLESS, auto_shutdown: self.auto_shutdown }
    }

    /// The script before anything happens. A template gets its first instances, or nothing would.
    fn with_children(&mut self, flags: Flags) -> Script {
        let mut ids = (0..IDS).collect::<Vec<_>>();
        self.rng.shuffle(&mut ids);
        let count = if self.simple { 1 } else { self.rng.usize(0..=CHILDREN_MAX) };
        let children = ids.into_iter().take(count).map(|id| self.child(Id(id))).collect::<Vec<_>>();
        let mut ops = vec![];
        if self.simple {
            self.template = children.first().cloned();
            ops.extend(
                (0..self.rng.usize(1..=3))
                    .filter_map(|_| self.instance())
                    .map(Call::StartChild)
                    .map(Act::Call)
                    .map(Op::One),
            );
        }
        let answers =
            (0..if self.simple { INSTANCES_MAX } else { IDS }).map(|id| (Id(id), self.answers(&children))).collect();
        Script { seed: self.seed, flags, children, answers, ops }
    }

    fn child(&mut self, id: Id) -> Child {
        let restart = self.pick(&[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]);
        let significant = self.auto_shutdown != AutoShutdown::Never && restart != Restart::Permanent && self.rng.bool();
        let (habit, shutdown) = if self.one_in(DEAF_ONE_IN) {
            (Habit::Deaf, self.pick(&[Shutdown::BrutalKill, Shutdown::Timeout(PATIENCE_WITH_DEAF_MS)]))
        } else {
            (Habit::Obeys, self.pick(&[Shutdown::BrutalKill, Shutdown::Timeout(PATIENCE_MS), Shutdown::Infinity]))
        };
        Child { id, restart, shutdown, significant, habit }
    }

    /// The next instance of the template, until all names are used up.
    fn instance(&mut self) -> Option<Child> {
        let template = self.template.as_ref().filter(|_| self.instances < INSTANCES_MAX)?;
        let id = Id(self.instances);
        self.instances += 1;
        Some(Child { id, ..template.clone() })
    }

    /// The first start mostly succeeds: a supervisor that does not come up has no story.
    fn answers(&mut self, children: &[Child]) -> Vec<Answer> {
        (0..self.rng.usize(0..=ANSWERS_MAX)).map(|at| self.answer(at == 0, children)).collect()
    }

    fn answer(&mut self, first: bool, children: &[Child]) -> Answer {
        let outcome = match self.rng.u32(0..100) {
            0..=2 => Outcome::Error,
            3..=6 if first || !self.simple => Outcome::Ignore,
            7..=50 if !first => Outcome::Error,
            51..=56 if !first && !self.simple => Outcome::Ignore,
            _ => Outcome::Ok,
        };
        let busy = if outcome == Outcome::Error { self.one_in(2) } else { self.one_in(12) };
        let acts = if busy { self.rng.usize(1..=ACTS_MAX) } else { 0 };
        Answer { outcome, meanwhile: (0..acts).map(|_| self.act(children)).collect() }
    }

    fn op(&mut self, children: &[Child]) -> Op {
        match self.rng.u32(0..100) {
            0..45 => Op::One(self.exit(children)),
            45..60 => Op::Together((0..self.rng.usize(2..=ACTS_MAX)).map(|_| self.exit(children)).collect()),
            60..68 => Op::Together((0..self.rng.usize(2..=ACTS_MAX)).map(|_| self.exit_or_call(children)).collect()),
            _ => Op::One(Act::Call(self.call(children))),
        }
    }

    fn act(&mut self, children: &[Child]) -> Act {
        if self.one_in(30) { Act::Stop } else { self.exit_or_call(children) }
    }

    fn exit_or_call(&mut self, children: &[Child]) -> Act {
        if self.one_in(3) { self.exit(children) } else { Act::Call(self.call(children)) }
    }

    fn exit(&mut self, children: &[Child]) -> Act {
        let reasons =
            [Reason::Normal, Reason::Shutdown, Reason::ShutdownWith, Reason::Crash, Reason::Crash, Reason::Kill];
        Act::Exit(self.id(children), self.pick(&reasons))
    }

    fn crash(&mut self, children: &[Child]) -> Op {
        Op::One(Act::Exit(self.id(children), Reason::Crash))
    }

    fn call(&mut self, children: &[Child]) -> Call {
        match self.rng.u32(0..10) {
            0..=1 if self.simple => self.instance().map_or(Call::WhichChildren, Call::StartChild),
            0..=1 => Call::StartChild(self.any_child(children)),
            2..=3 => Call::TerminateChild(self.id(children)),
            4..=5 => Call::RestartChild(self.id(children)),
            6 => Call::DeleteChild(self.id(children)),
            7 => Call::WhichChildren,
            8 => Call::CountChildren,
            _ => Call::GetChildspec(self.id(children)),
        }
    }

    fn any_child(&mut self, children: &[Child]) -> Child {
        let id = self.id(children);
        self.child(id)
    }

    /// Mostly somebody who is there.
    fn id(&mut self, children: &[Child]) -> Id {
        if self.simple {
            return Id(self.rng.u8(0..=self.instances.min(INSTANCES_MAX - 1)));
        }
        match self.rng.choice(children) {
            Some(child) if !self.one_in(5) => child.id,
            _ => Id(self.rng.u8(0..IDS)),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }
}
