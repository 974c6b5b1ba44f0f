//! Workers that misbehave on command, and what it takes to watch them.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus};
use tokio::time::{Instant, sleep, timeout};

use crate::Name;
use crate::engine::{ChildState, Options, What};
use crate::reason::StartError;
use crate::shell::{
    Child, ChildInfo, Life, Reports, StartContext, Supervisor, SupervisorHandle, SupervisorReport, SupervisorSpec,
};
use crate::spec::{Backoff, ChildSpec, Incarnation, Intensity, Strategy};

/// Longer than anything a test waits for.
const NEVER: Duration = Duration::from_secs(100_000);

/// How a worker behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Worker {
    /// How long its `pre_start` takes.
    pub(super) start_takes: Duration,
    /// How long its `post_stop` takes; `None`: for ever.
    pub(super) stop_takes: Option<Duration>,
    /// Says that it is ready before its start is over.
    pub(super) ready_at_once: bool,
    /// Lives of it that exist.
    pub(super) alive: Arc<AtomicUsize>,
    /// The most that ever existed at once.
    pub(super) alive_max: Arc<AtomicUsize>,
    /// Its lives so far.
    pub(super) lives: Arc<Mutex<Vec<Life>>>,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    Fail,
    Panic,
    End,
    Ready,
    Unready,
}

/// Counts a life, however it ends.
pub(super) struct Alive(Life, Arc<AtomicUsize>);

struct WorkerActor(Worker);

// === impl Worker ===

impl Worker {
    pub(super) fn new() -> Self {
        Self { stop_takes: Some(Duration::ZERO), ..Self::default() }
    }

    /// Does not end when it is asked to.
    pub(super) fn deaf() -> Self {
        Self { stop_takes: None, ..Self::default() }
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(super) fn alive_max(&self) -> usize {
        self.alive_max.load(Ordering::SeqCst)
    }
}

impl Child for Worker {
    async fn start(&self, _: Incarnation, context: StartContext) -> Result<Option<ActorCell>, StartError> {
        self.lives.lock().unwrap().push(context.life().clone());
        let actor = context.spawn(WorkerActor(self.clone()), context.life().clone()).await?;
        if self.ready_at_once {
            context.ready();
        }
        Ok(Some(actor.get_cell()))
    }
}

impl Actor for WorkerActor {
    type Msg = Order;
    type State = Alive;
    type Arguments = Life;

    async fn pre_start(&self, _: ActorRef<Order>, context: Life) -> Result<Alive, ActorProcessingErr> {
        let alive = self.0.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.alive_max.fetch_max(alive, Ordering::SeqCst);
        let alive = Alive(context, self.0.alive.clone());
        sleep(self.0.start_takes).await;
        Ok(alive)
    }

    async fn post_stop(&self, _: ActorRef<Order>, _: &mut Alive) -> Result<(), ActorProcessingErr> {
        match self.0.stop_takes {
            Some(takes) => sleep(takes).await,
            None => pending().await,
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        Alive(context, _): &mut Alive,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail => return Err("told to".into()),
            Order::Panic => panic!("told to"),
            Order::End => myself.stop(None),
            Order::Ready => context.ready(),
            Order::Unready => context.unready("told to"),
        }
        Ok(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

// === specs ===

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A child without backoff, which may be restarted once in ten seconds.
pub(super) fn spec(id: &str) -> ChildSpec {
    let intensity = Intensity { restarts: 1, period: seconds(10) };
    ChildSpec { backoff: Backoff::None, unstable_max: None, intensity, ..ChildSpec::new(name(id)) }
}

pub(super) fn supervisor(children: Vec<(ChildSpec, Worker)>) -> SupervisorSpec {
    let spec = SupervisorSpec::new(name("sup"), Strategy::OneForOne).options(Options::default());
    children.into_iter().fold(spec, |spec, (child, worker)| spec.child(child, worker))
}

/// A supervisor whose children have begun, but for those that wait for something.
pub(super) async fn start(children: Vec<(ChildSpec, Worker)>) -> (SupervisorHandle, Reports) {
    let handle = Supervisor::start(supervisor(children), None).await.unwrap();
    let mut reports = handle.reports();
    reached(&mut reports, |report| report.context == What::Started).await;
    (handle, reports)
}

// === what is seen ===

/// Reads on until a report like this, and returns it.
pub(super) async fn reached(reports: &mut Reports, like: impl Fn(&SupervisorReport) -> bool) -> SupervisorReport {
    let search = async {
        loop {
            let report = reports.next().await.expect("the supervisor ended first");
            if like(&report) {
                return report;
            }
        }
    };
    timeout(NEVER, search).await.expect("no such report")
}

/// Reads on until a child's report like this.
pub(super) async fn of_child(reports: &mut Reports, id: &str, like: impl Fn(&What) -> bool) -> SupervisorReport {
    reached(reports, |report| report.offender.id.as_str() == id && like(&report.context)).await
}

pub(super) async fn started(reports: &mut Reports, id: &str) {
    of_child(reports, id, |what| *what == What::Started).await;
}

pub(super) async fn info(handle: &SupervisorHandle, id: &str) -> ChildInfo {
    let children = handle.which_children().await.unwrap();
    children.into_iter().find(|child| child.view.id.as_str() == id).unwrap()
}

pub(super) async fn state(handle: &SupervisorHandle, id: &str) -> ChildState {
    info(handle, id).await.view.state
}

/// The actor of a child's present life.
pub(super) async fn actor(handle: &SupervisorHandle, id: &str) -> ActorCell {
    info(handle, id).await.actor.expect("it has no actor")
}

pub(super) async fn tell(handle: &SupervisorHandle, id: &str, order: Order) {
    actor(handle, id).await.send_message(order).unwrap();
}

/// Waits for the end of an actor.
pub(super) async fn gone(cell: &ActorCell) {
    cell.wait(Some(NEVER)).await.expect("it lives on");
    assert_eq!(cell.get_status(), ActorStatus::Stopped);
}

/// The time that something takes.
pub(super) async fn measure<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (work.await, start.elapsed())
}
