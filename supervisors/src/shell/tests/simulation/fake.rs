//! Children whose lives are drawn from a seed: when they start, fail, end and stop, and in which order within one moment.

use std::collections::BTreeMap;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::reason::StartError;
use crate::shell::{Child, ChildError, Children, Life, StartContext, SupervisorHandle};
use crate::spec::{ChildSpec, Incarnation};

/// The most turns that something waits within one moment.
const YIELDS_MAX: usize = 4;

/// What all fakes of one run share.
#[derive(Debug, Default)]
pub(super) struct World {
    seed: u64,
    pub(super) scope: Scope,
    alive: Mutex<BTreeMap<String, usize>>,
    faults: Mutex<Vec<String>>,
    actors: Mutex<Vec<ActorCell>>,
}

/// What there is in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scope {
    /// Children that are an actor and nothing else, beside those whose start is a task.
    pub(super) has_actors: bool,
    /// Starts of many at once.
    pub(super) has_bulk: bool,
    /// Children whose end takes its time, some for ever.
    pub(super) has_slow_ends: bool,
}

/// Exists as long as something of a life does.
struct Guard {
    world: Arc<World>,
    what: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Task,
    /// An actor with nothing to drop.
    Light,
    /// An actor with something to drop.
    Heavy,
}

/// How one life fares.
#[derive(Debug, Clone)]
struct Conduct {
    start_takes: Duration,
    start: Start,
    yields: usize,
    /// How long it lives of its own accord.
    lasts: Option<Duration>,
    end: End,
    /// `None`: it is deaf.
    stop_takes: Option<Duration>,
    says_ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Succeeds,
    Ignores,
    Fails,
    /// It fails after its actor has been spawned.
    FailsLate,
    Panics,
    Never,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Normal,
    Error,
    Panic,
    Killed,
}

/// A child of a kind of its own: starts its actor in a task.
struct Task(Arc<World>, String);

/// The actor of a life, with or without something to drop.
struct Fake<H>(H);

/// Its state.
struct Held {
    conduct: Conduct,
    _guard: Guard,
}

/// It ends now.
struct TimeIsUp;

// === impl World ===

impl World {
    pub(super) fn new(seed: u64, scope: Scope) -> Arc<Self> {
        Arc::new(Self { seed, scope, ..Self::default() })
    }

    pub(super) fn fault(&self, text: String) {
        self.faults.lock().unwrap().push(text);
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// What is left of any life.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left: Vec<_> = self.alive.lock().unwrap().keys().cloned().collect();
        let actors = self.actors.lock().unwrap();
        left.extend(actors.iter().filter(|actor| actor.get_status() != ActorStatus::Stopped).map(|a| format!("{a:?}")));
        left
    }

    /// One more child; how it is started depends on its name.
    pub(super) fn add(self: &Arc<Self>, children: Children, spec: ChildSpec) -> Children {
        match self.kind(&spec) {
            Kind::Task => {
                let task = Task(self.clone(), spec.id.to_string());
                children.child(spec, task)
            }
            Kind::Light => children.actor(spec, self.light()),
            Kind::Heavy => children.actor(spec, self.heavy()),
        }
    }

    /// The same at run time.
    pub(super) async fn start(
        self: &Arc<Self>,
        handle: &SupervisorHandle,
        spec: ChildSpec,
    ) -> Result<Option<ActorCell>, ChildError> {
        match self.kind(&spec) {
            Kind::Task => {
                let task = Task(self.clone(), spec.id.to_string());
                handle.start_child(spec, task).await
            }
            Kind::Light => handle.start_actor(spec, self.light()).await,
            Kind::Heavy => handle.start_actor(spec, self.heavy()).await,
        }
    }

    fn kind(&self, spec: &ChildSpec) -> Kind {
        let among = [Kind::Task, Kind::Light, Kind::Heavy];
        let kinds = if self.scope.has_actors { among.len() } else { 1 };
        among[Rng::with_seed(self.seed_of(spec.id.as_str(), 0)).usize(..kinds)]
    }

    fn light(self: &Arc<Self>) -> impl Fn(&Life) -> (Fake<()>, (Arc<Self>, Life)) + Send + Sync + 'static {
        let world = self.clone();
        move |life| (Fake(()), (world.clone(), life.clone()))
    }

    fn heavy(self: &Arc<Self>) -> impl Fn(&Life) -> (Fake<Guard>, (Arc<Self>, Life)) + Send + Sync + 'static {
        let world = self.clone();
        move |life| (Fake(Guard::new(&world, format!("handler of {}", life.id()))), (world.clone(), life.clone()))
    }

    fn seed_of(&self, id: &str, life: u32) -> u64 {
        let mix = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        id.bytes().chain(life.to_le_bytes()).fold(self.seed ^ 0xcbf2_9ce4_8422_2325, mix)
    }
}

// === impl Guard ===

impl Guard {
    fn new(world: &Arc<World>, what: String) -> Self {
        let mut alive = world.alive.lock().unwrap();
        let count = alive.entry(what.clone()).or_default();
        *count += 1;
        if *count > 1 {
            world.fault(format!("two at once: {what}"));
        }
        Self { world: world.clone(), what }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut alive = self.world.alive.lock().unwrap();
        if let Some(count) = alive.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                alive.remove(&self.what);
            }
        }
    }
}

// === impl Conduct ===

impl Conduct {
    fn of(world: &World, life: &Life) -> Self {
        let mut rng = Rng::with_seed(world.seed_of(life.id().as_str(), life.incarnation().0));
        // Whole seconds, so that much happens in one moment.
        let mut whole = |max: u64| Duration::from_secs(rng.u64(..=max));
        let (start_takes, lasts, stop_takes) = (whole(3), whole(9), whole(3));
        let start = match rng.u8(..20) {
            0..=13 => Start::Succeeds,
            14 => Start::Ignores,
            15 | 16 => Start::Fails,
            17 => Start::FailsLate,
            18 => Start::Panics,
            _ => Start::Never,
        };
        let end = [End::Normal, End::Error, End::Panic, End::Killed][rng.usize(..4)];
        let (lasts, stop_takes) = (rng.bool().then_some(lasts), (rng.u8(..8) > 0).then_some(stop_takes));
        let stop_takes = if world.scope.has_slow_ends { stop_takes } else { Some(Duration::ZERO) };
        Self { start_takes, start, yields: rng.usize(..=YIELDS_MAX), lasts, end, stop_takes, says_ready: rng.bool() }
    }

    async fn linger(&self) {
        for _ in 0..self.yields {
            yield_now().await;
        }
    }

    /// What a start does before anything has begun.
    async fn begin(&self) -> Result<(), StartError> {
        sleep(self.start_takes).await;
        self.linger().await;
        match self.start {
            Start::Fails => Err(refusal()),
            // Past the hook, which would write a line for each.
            Start::Panics => resume_unwind(Box::new("a start of the simulation")),
            Start::Never => pending().await,
            Start::Succeeds | Start::Ignores | Start::FailsLate => Ok(()),
        }
    }
}

fn refusal() -> StartError {
    StartError { message: "do as the seed says".to_owned(), hint: None, retry: true }
}

// === impl Task ===

impl Child for Task {
    async fn start(&self, _: Incarnation, context: StartContext) -> Result<Option<ActorCell>, StartError> {
        let Self(world, id) = self;
        let life = context.life().clone();
        if life.id().as_str() != id {
            world.fault(format!("{} was started by what starts {id}", life.id()));
        }
        let _guard = Guard::new(world, format!("start of {id}"));
        let conduct = Conduct::of(world, &life);
        conduct.begin().await?;
        if conduct.start == Start::Ignores {
            return Ok(None);
        }
        let actor = context.spawn(Fake(()), (world.clone(), life)).await?;
        conduct.linger().await;
        if conduct.start == Start::FailsLate { Err(refusal()) } else { Ok(Some(actor.get_cell())) }
    }
}

// === impl Fake ===

impl<H: Send + Sync + 'static> Actor for Fake<H> {
    type Msg = TimeIsUp;
    type State = Held;
    type Arguments = (Arc<World>, Life);

    async fn pre_start(
        &self,
        myself: ActorRef<TimeIsUp>,
        (world, life): (Arc<World>, Life),
    ) -> Result<Held, ActorProcessingErr> {
        world.actors.lock().unwrap().push(myself.get_cell());
        let guard = Guard::new(&world, format!("life of {}", life.id()));
        let conduct = Conduct::of(&world, &life);
        conduct.begin().await.map_err(|error| error.message)?;
        if conduct.says_ready {
            life.ready();
        }
        Ok(Held { conduct, _guard: guard })
    }

    async fn post_start(&self, myself: ActorRef<TimeIsUp>, held: &mut Held) -> Result<(), ActorProcessingErr> {
        held.conduct.linger().await;
        if let Some(lasts) = held.conduct.lasts {
            drop(myself.send_after(lasts, || TimeIsUp));
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<TimeIsUp>, held: &mut Held) -> Result<(), ActorProcessingErr> {
        match held.conduct.stop_takes {
            Some(takes) => sleep(takes).await,
            None => pending().await,
        }
        held.conduct.linger().await;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<TimeIsUp>,
        TimeIsUp: TimeIsUp,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        held.conduct.linger().await;
        match held.conduct.end {
            End::Normal => myself.stop(None),
            End::Error => return Err("the seed says so".into()),
            End::Panic => resume_unwind(Box::new("a life of the simulation")),
            End::Killed => myself.kill(),
        }
        Ok(())
    }
}
