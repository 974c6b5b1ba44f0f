//! Children that are an actor and nothing else: their starts, ends and successors, with and without something to drop.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::world::*;
use crate::engine::{AdminError, ChildState, What};
use crate::reason::ExitReason;
use crate::shell::{ChildError, Life, Reports, Supervisor, SupervisorHandle};
use crate::spec::{ChildSpec, Incarnation, Readiness, Restart};

/// What was seen of all lives of a child.
#[derive(Debug, Default)]
struct Seen {
    alive: AtomicUsize,
    alive_max: AtomicUsize,
    lives: Mutex<Vec<Life>>,
}

/// Exists as long as a part of a life does.
struct Guard(Arc<Seen>);

/// What the first life does, and when; later ones are good.
#[derive(Debug, Clone)]
struct Plan {
    seen: Arc<Seen>,
    deed: Option<(Stage, Deed)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    PreStart,
    PostStart,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Fail,
    Panic,
    Kill,
    Stop,
    Unlink,
    Hang,
}

/// An actor with this in its handler.
struct Subject<H>(H);

/// Its state.
struct Held {
    _guard: Guard,
    life: Life,
    plan: Plan,
}

/// What a handler holds.
trait Handler: Send + Sync + 'static {
    fn new(plan: &Plan) -> Self;
}

// === impl Guard ===

impl Guard {
    fn new(seen: &Arc<Seen>) -> Self {
        let alive = seen.alive.fetch_add(1, Ordering::SeqCst) + 1;
        seen.alive_max.fetch_max(alive, Ordering::SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

// === impl Plan ===

impl Plan {
    fn new(deed: Option<(Stage, Deed)>) -> Self {
        Self { seen: Arc::default(), deed }
    }

    fn counts(&self) -> (usize, usize) {
        (self.seen.alive.load(Ordering::SeqCst), self.seen.alive_max.load(Ordering::SeqCst))
    }

    /// As a child that is an actor and nothing else.
    fn make<H: Handler>(&self) -> impl Fn(&Life) -> (Subject<H>, (Life, Plan)) + Send + Sync + 'static {
        let plan = self.clone();
        move |life| (Subject(H::new(&plan)), (life.clone(), plan.clone()))
    }
}

// === impl Handler ===

/// Nothing to drop.
impl Handler for () {
    fn new(_: &Plan) -> Self {}
}

/// Something to drop; counted apart from states.
struct Weight {
    _guard: Guard,
}

impl Handler for Weight {
    fn new(_: &Plan) -> Self {
        Self { _guard: Guard::new(&Arc::default()) }
    }
}

// === impl Subject ===

impl Held {
    async fn act(&self, stage: Stage, myself: &ActorRef<Order>) -> Result<(), ActorProcessingErr> {
        let is_first = self.life.incarnation() == Incarnation(1);
        let Some((_, deed)) = self.plan.deed.filter(|(when, _)| is_first && *when == stage) else { return Ok(()) };
        match deed {
            Deed::Fail => return Err("told to".into()),
            Deed::Panic => panic!("told to"),
            Deed::Kill => {
                myself.kill();
                pending::<()>().await;
            }
            Deed::Stop => myself.stop(None),
            Deed::Hang => pending::<()>().await,
            Deed::Unlink => myself.unlink(self.life.supervisor()),
        }
        Ok(())
    }
}

impl<H: Handler> Actor for Subject<H> {
    type Msg = Order;
    type State = Held;
    type Arguments = (Life, Plan);

    async fn pre_start(&self, myself: ActorRef<Order>, (life, plan): (Life, Plan)) -> Result<Held, ActorProcessingErr> {
        plan.seen.lives.lock().unwrap().push(life.clone());
        let held = Held { _guard: Guard::new(&plan.seen), life, plan };
        held.act(Stage::PreStart, &myself).await?;
        Ok(held)
    }

    async fn post_start(&self, myself: ActorRef<Order>, held: &mut Held) -> Result<(), ActorProcessingErr> {
        held.act(Stage::PostStart, &myself).await
    }

    async fn handle(&self, myself: ActorRef<Order>, order: Order, held: &mut Held) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail => return Err("told to".into()),
            Order::Panic => panic!("told to"),
            Order::End => myself.stop(None),
            Order::Ready => held.life.ready(),
            Order::Unready => held.life.unready("told to"),
        }
        Ok(())
    }
}

// === what is done with them ===

/// A supervisor of one such child, whose start is tried again.
async fn supervise<H: Handler>(spec: ChildSpec, plan: &Plan) -> (SupervisorHandle, Reports) {
    let handle = Supervisor::start(supervisor(vec![]).actor(spec, plan.make::<H>()), None).await.unwrap();
    let reports = handle.reports();
    (handle, reports)
}

fn transient() -> ChildSpec {
    ChildSpec { restart: Restart::Transient, ..spec("w") }
}

async fn exited(reports: &mut Reports) -> ExitReason {
    match of_child(reports, "w", |what| matches!(what, What::Exited { .. })).await.context {
        What::Exited { reason, .. } => reason,
        other => unreachable!("{other:?}"),
    }
}

/// What comes of a first life that does this.
async fn first_life_fails_its_start<H: Handler>(deed: Deed, text: &str) {
    let plan = Plan::new(Some((Stage::PreStart, deed)));
    let (handle, mut reports) = supervise::<H>(spec("w"), &plan).await;
    let failed = |what: &What| matches!(what, What::StartFailed { error } if error.message.contains(text));
    of_child(&mut reports, "w", failed).await;
    started(&mut reports, "w").await;
    assert_eq!((info(&handle, "w").await.view.incarnation, plan.counts()), (Some(Incarnation(2)), (1, 1)));

    let once = Plan::new(Some((Stage::PreStart, deed)));
    let refused = handle.start_actor(spec("x"), once.make::<H>()).await;
    assert!(matches!(&refused, Err(ChildError::Start(error)) if error.message.contains(text)), "{refused:?}");
    assert_eq!(handle.which_child(&name("x")).await.unwrap_err(), AdminError::NotFound(name("x")).into());
    assert_eq!(once.counts(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_pre_start_fails_panics_or_is_killed_has_not_started_and_leaves_nothing() {
    for (deed, text) in [(Deed::Fail, "told to"), (Deed::Panic, "a panic: told to"), (Deed::Kill, "was killed")] {
        first_life_fails_its_start::<()>(deed, text).await;
        first_life_fails_its_start::<Weight>(deed, text).await;
    }
}

/// The first life does this; returns how it ended and what the child was then.
async fn first_life<H: Handler>(stage: Stage, deed: Deed) -> (ExitReason, ChildState) {
    let plan = Plan::new(Some((stage, deed)));
    let (handle, mut reports) = supervise::<H>(transient(), &plan).await;
    let reason = exited(&mut reports).await;
    if !reason.is_normal() {
        started(&mut reports, "w").await;
    }
    assert_eq!(plan.counts().1, 1);
    let state = state(&handle, "w").await;
    handle.stop(seconds(1)).await.unwrap();
    assert_eq!(plan.counts(), (0, 1));
    (reason, state)
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_post_start_fails_panics_or_is_killed_has_crashed() {
    let error = || ExitReason::Error("told to".to_owned());
    for (deed, reason) in [(Deed::Fail, error()), (Deed::Panic, error()), (Deed::Kill, ExitReason::Killed)] {
        let expected = (reason, ChildState::Running);
        assert_eq!(first_life::<()>(Stage::PostStart, deed).await, expected);
        assert_eq!(first_life::<Weight>(Stage::PostStart, deed).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_stops_itself_on_its_way_to_running_has_ended_normally() {
    for stage in [Stage::PreStart, Stage::PostStart] {
        assert_eq!(first_life::<()>(stage, Deed::Stop).await, (ExitReason::Normal, ChildState::Done));
        assert_eq!(first_life::<Weight>(stage, Deed::Stop).await, (ExitReason::Normal, ChildState::Done));
    }
}

async fn ends_are_told_apart<H: Handler>() {
    let plan = Plan::new(None);
    let spec = ChildSpec { intensity: crate::spec::INTENSITY_DEFAULT, ..transient() };
    let (handle, mut reports) = supervise::<H>(spec, &plan).await;
    started(&mut reports, "w").await;
    actor(&handle, "w").await.kill();
    assert_eq!(exited(&mut reports).await, ExitReason::Killed);
    started(&mut reports, "w").await;
    for order in [Order::Fail, Order::Panic] {
        tell(&handle, "w", order).await;
        assert_eq!(exited(&mut reports).await, ExitReason::Error("told to".to_owned()));
        started(&mut reports, "w").await;
    }
    actor(&handle, "w").await.stop(None);
    assert_eq!(exited(&mut reports).await, ExitReason::Normal);
    of_child(&mut reports, "w", |what| *what == What::Done).await;
    assert_eq!(plan.counts(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_normal_end_of_an_actor_is_told_from_an_error_and_from_a_kill_by_others() {
    ends_are_told_apart::<()>().await;
    ends_are_told_apart::<Weight>().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_life_of_an_actor_says_is_not_heard() {
    let reporting = ChildSpec { readiness: Readiness::Within(seconds(60)), ..spec("w") };
    let plan = Plan::new(None);
    let (handle, mut reports) = supervise::<Weight>(reporting, &plan).await;
    started(&mut reports, "w").await;
    let first = actor(&handle, "w").await;
    first.kill();
    started(&mut reports, "w").await;
    let old = plan.seen.lives.lock().unwrap()[0].clone();
    old.ready();
    old.liveness_lost("old");
    old.gone(first.get_id(), Some(true));
    old.not_begun(crate::reason::StartError { message: "old".to_owned(), hint: None, retry: false });
    let after = info(&handle, "w").await;
    assert_eq!((after.view.state, after.view.incarnation), (ChildState::Running, Some(Incarnation(2))));
    tell(&handle, "w", Order::Ready).await;
    of_child(&mut reports, "w", |what| *what == What::Ready).await;
}

// === child_unlink ===

async fn an_unlinked_actor_goes_down<H: Handler>(stage: Option<Stage>) {
    let plan = Plan::new(stage.map(|stage| (stage, Deed::Unlink)));
    let handle = Supervisor::start(supervisor(vec![]), None).await.unwrap();
    let started = tokio::time::timeout(seconds(60), handle.start_actor(spec("w"), plan.make::<H>()));
    let cell = started.await.expect("the start is over").unwrap().unwrap();
    cell.unlink(handle.cell());
    let stopped = tokio::time::timeout(seconds(60), handle.stop(seconds(10))).await;
    assert!(stopped.is_ok(), "the stop is held up");
    assert_eq!(plan.counts(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn child_unlink_an_actor_that_left_its_supervisor_does_not_hold_up_its_stop() {
    an_unlinked_actor_goes_down::<Weight>(None).await;
}

#[tokio::test(start_paused = true)]
async fn child_unlink_an_actor_without_anything_to_drop_does_not_hold_up_the_stop_either() {
    an_unlinked_actor_goes_down::<()>(None).await;
}

#[tokio::test(start_paused = true)]
async fn child_unlink_an_actor_that_leaves_in_its_post_start_has_started_all_the_same() {
    an_unlinked_actor_goes_down::<Weight>(Some(Stage::PostStart)).await;
}

#[tokio::test(start_paused = true)]
async fn child_unlink_a_task_started_actor_that_left_its_supervisor_is_stopped_and_seen_to_be_gone() {
    let worker = Worker::new();
    let (handle, _) = start(vec![(spec("w"), worker.clone())]).await;
    actor(&handle, "w").await.unlink(handle.cell());
    let (stopped, took) = measure(handle.terminate_child(&name("w"))).await;
    assert_eq!((stopped, took), (Ok(()), seconds(0)));
    assert_eq!(worker.alive(), 0);
}

// === a supervisor that is killed ===

async fn a_start_that_is_cut_off_by_a_kill<H: Handler>() {
    let plan = Plan::new(Some((Stage::PreStart, Deed::Hang)));
    let (handle, _) = supervise::<H>(spec("w"), &plan).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(plan.counts(), (1, 1));
    handle.cell().kill();
    gone(&handle.cell()).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(plan.counts(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_leaves_no_actor_behind_in_its_pre_start() {
    a_start_that_is_cut_off_by_a_kill::<()>().await;
    a_start_that_is_cut_off_by_a_kill::<Weight>().await;
}

// === a function that panics ===

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_instead_of_giving_an_actor_is_a_start_that_failed() {
    let plan = Plan::new(None);
    let make = plan.make::<()>();
    let faulty = move |life: &Life| {
        assert_ne!(life.id().as_str(), "x", "there is no actor");
        make(life)
    };
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let refused = handle.start_actor(spec("x"), faulty).await;
    assert!(matches!(refused, Err(ChildError::Start(_))), "{refused:?}");
    assert_eq!(state(&handle, "w").await, ChildState::Running);
}
