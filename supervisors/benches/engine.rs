//! The pure engine, without any actor: what a decision costs, and how that grows with the number of children.
//!
//! ```text
//! cargo bench -p envctl-supervisors --bench engine                     all
//! cargo bench -p envctl-supervisors --bench engine -- '/1000$'         children: 1000, 10000 or 100000
//! cargo bench -p envctl-supervisors --bench engine -- 'stop/chain'
//! ```
//!
//! A world that obeys at once stands in for the shell: every spawn begins a life, every stop ends one. Its own cost is a
//! queue of events, so the times are those of [`Engine::step`] for all events of a start, a crash or a stop.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use envctl_supervisors::Name;
use envctl_supervisors::engine::{Effect, Engine, Event, Options, Time};
use envctl_supervisors::reason::ExitReason;
use envctl_supervisors::spec::{ChildId, ChildSpec, Condition, Edge, Incarnation, Intensity, Then};

/// Numbers of children: what is linear takes ten times as long from each to the next.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// The least that criterion takes: one sample of the largest is a second or so.
const SAMPLES: usize = 10;
/// Never used up, for crashes that are further apart than the period.
const INTENSITY: Intensity = Intensity { restarts: 1, period: Duration::from_secs(1) };
/// Between two crashes.
const PAUSE: Duration = Duration::from_secs(2);

/// How children depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Not at all.
    Independent,
    /// Each needs the one before it to be started.
    Chain,
}

/// The engine, and a world that does as it is told.
struct World {
    engine: Engine,
    now: Time,
    events: VecDeque<Event>,
    /// The child that fails next.
    next: usize,
    ids: Vec<ChildId>,
}

fn main() {
    let mut criterion = Criterion::default().sample_size(SAMPLES).configure_from_args();
    start(&mut criterion);
    restart(&mut criterion);
    stop(&mut criterion);
    criterion.final_summary();
}

/// All children are started: time for each of them.
fn start(criterion: &mut Criterion) {
    each(criterion, "start", |bencher, shape, children| {
        let down = || World::new(shape, children);
        bencher.iter_batched(down, World::started, BatchSize::PerIteration);
    });
}

/// All children are stopped: time for each of them.
fn stop(criterion: &mut Criterion) {
    each(criterion, "stop", |bencher, shape, children| {
        let up = || World::new(shape, children).started();
        bencher.iter_batched(up, World::stopped, BatchSize::PerIteration);
    });
}

/// One child of many crashes and is restarted: no more than itself, its dependents ignore it.
fn restart(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("restart");
    for (shape, children) in cases() {
        group.bench_function(BenchmarkId::new(shape.name(), children), |bencher| {
            let mut world = World::new(shape, children).started();
            bencher.iter(|| world.crash());
        });
    }
    group.finish();
}

fn each(criterion: &mut Criterion, name: &str, mut measure: impl FnMut(&mut criterion::Bencher<'_>, Shape, usize)) {
    let mut group = criterion.benchmark_group(name);
    for (shape, children) in cases() {
        group.throughput(Throughput::Elements(children as u64));
        group.bench_function(BenchmarkId::new(shape.name(), children), |bencher| measure(bencher, shape, children));
    }
    group.finish();
}

fn cases() -> impl Iterator<Item = (Shape, usize)> {
    [Shape::Independent, Shape::Chain].into_iter().flat_map(|shape| SIZES.map(|children| (shape, children)))
}

// === impl Shape ===

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Chain => "chain",
        }
    }

    fn specs(self, ids: &[ChildId]) -> Vec<ChildSpec> {
        let spec = |nth: usize| ChildSpec { needs: self.needs(ids, nth), ..of(&ids[nth]) };
        (0..ids.len()).map(spec).collect()
    }

    fn needs(self, ids: &[ChildId], nth: usize) -> Vec<Edge> {
        match (self, nth.checked_sub(1)) {
            (Self::Chain, Some(before)) => {
                vec![Edge { on: ids[before].clone(), is: Condition::Started, then: Then::Ignore }]
            }
            (Self::Chain, None) | (Self::Independent, _) => Vec::new(),
        }
    }
}

/// A child that is restarted at once, and has a budget of its own.
fn of(id: &ChildId) -> ChildSpec {
    ChildSpec { intensity: INTENSITY, ..ChildSpec::otp(id.clone()) }
}

// === impl World ===

impl World {
    fn new(shape: Shape, children: usize) -> Self {
        let name = |nth| Name::new(&format!("child-{nth}")).expect("invariant: a word and a number are a name");
        let ids: Vec<_> = (0..children).map(name).collect();
        let options = Options { start_parallel_max: usize::MAX, ..Options::default() };
        let engine = Engine::new(shape.specs(&ids), Vec::new(), options).expect("invariant: the specs are sound");
        Self { engine, now: Time::ZERO, events: VecDeque::new(), next: 0, ids }
    }

    fn started(mut self) -> Self {
        self.happens(Event::Start { ids: Vec::new(), with_needs: true });
        self
    }

    fn stopped(mut self) -> Self {
        self.happens(Event::Stop { ids: Vec::new() });
        self
    }

    /// The next child ends, round and round.
    fn crash(&mut self) {
        let id = self.ids[self.next].clone();
        self.next = (self.next + 1) % self.ids.len();
        self.now += PAUSE;
        let view = self.engine.child(id.as_str()).expect("invariant: it was given to the engine");
        let incarnation = view.incarnation.expect("invariant: it was started");
        self.happens(ended(id, incarnation, ExitReason::Code(1)));
    }

    /// An event, and all that follows from it.
    fn happens(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let effects = black_box(self.engine.step(self.now, event));
            self.events.extend(effects.into_iter().filter_map(answer));
        }
    }
}

/// What becomes of an effect. Timers never come due: nothing takes that long here.
fn answer(effect: Effect) -> Option<Event> {
    match effect {
        Effect::Spawn { id, incarnation, .. } => Some(Event::Spawned { id, incarnation }),
        Effect::Stop { id, incarnation, .. } => Some(ended(id, incarnation, ExitReason::Normal)),
        Effect::Kill { id, incarnation, .. } => Some(ended(id, incarnation, ExitReason::Killed)),
        Effect::Arm { .. } | Effect::Cancel { .. } | Effect::Dropped { .. } | Effect::Report(_) | Effect::Idle => None,
    }
}

fn ended(id: ChildId, incarnation: Incarnation, reason: ExitReason) -> Event {
    Event::Exited { id, incarnation, reason }
}
