//! The actor: a thin shell round one life.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use envctl_supervisors::reason::{ExitReason, StartError};
use nix::libc::SIGKILL;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::patience;
use super::prepared::{After, AfterReady, Aftermath, Beside, Launch};
use super::{Asked, Begin, Kind, Prepared, UnitArgs, UnitReport};
use crate::probe::{ExecRunner, Probe, ProbeActor, ProbeArgs, ProbeEvent, Purpose, Target};
use crate::process::heart::wire::Hold;
use crate::process::life::{Ended, Manners, Stage, live};
use crate::process::{Command, Role, Scope, Spawned};

/// How long the log of an ended process may take to be read empty; a stranger that holds the FIFO may write for ever.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// Probe actors that panic are started again this often in one life.
const PROBE_RESTARTS_MAX: u32 = 3;

/// The actor of one life of a unit of kind `K`.
pub struct UnitActor<K>(PhantomData<fn() -> K>);

/// What the actor is told.
pub enum UnitMessage {
    /// Ask the life to end.
    Stop,
    /// End it at once.
    Kill,
    /// Send its main process a signal.
    Signal(i32),
    /// The main process runs (told by the life task).
    Spawned(u32, u64, Box<Running>),
    /// It could not be started.
    SpawnFailed(StartError),
    /// Nothing of it is left.
    Ended(Ended),
    /// A probe has something to say.
    Probed(Purpose, ProbeEvent),
    /// What comes after the first readiness is done.
    AfterReady(Result<(), String>),
}

/// What is asked and done while the main process lives.
#[derive(Default)]
pub struct Running {
    asked: Vec<Asked>,
    after_ready: Option<AfterReady>,
    beside: Option<Beside>,
    is_contained: bool,
}

/// What is done at the ends of a life, by its task.
#[derive(Default)]
struct Edges {
    launch: Option<Launch>,
    aftermath: Option<Aftermath>,
}

/// The actor's state.
pub struct State {
    args: Arc<UnitArgs>,
    stage: watch::Sender<Stage>,
    key: Option<u64>,
    pid: Option<u32>,
    running: Running,
    probes: Vec<ActorCell>,
    probe_restarts: u32,
    /// Whether this life has been ready once.
    been_ready: bool,
    /// The life, and what it needs done; ended with the actor. The process is not: it is the table's.
    tasks: JoinSet<()>,
}

// === impl UnitActor ===

impl<K> Default for UnitActor<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K: Kind> Actor for UnitActor<K> {
    type Msg = UnitMessage;
    type State = State;
    type Arguments = (Arc<UnitArgs>, K);

    async fn pre_start(
        &self,
        myself: ActorRef<UnitMessage>,
        (args, kind): (Arc<UnitArgs>, K),
    ) -> Result<State, ActorProcessingErr> {
        let (stage, stages) = watch::channel(Stage::Run);
        let mut tasks = JoinSet::new();
        tasks.spawn(run_life(Arc::clone(&args), kind, stages, myself));
        let running = Running::default();
        Ok(State {
            args,
            stage,
            key: None,
            pid: None,
            running,
            probes: Vec::new(),
            probe_restarts: 0,
            been_ready: false,
            tasks,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<UnitMessage>,
        message: UnitMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            UnitMessage::Stop => state.move_on(Stage::Ask),
            UnitMessage::Kill => state.move_on(Stage::Kill),
            UnitMessage::Signal(signal) => {
                if let Some(key) = state.key {
                    state.args.processes.signal(key, signal, Scope::Main);
                }
            }
            UnitMessage::Spawned(pid, key, running) => state.spawned(&myself, pid, key, *running).await,
            UnitMessage::SpawnFailed(error) => {
                state.report(UnitReport::SpawnFailed(error));
                myself.stop(None);
            }
            UnitMessage::Ended(Ended { reason, escaped }) => {
                state.stop_probes();
                state.report(UnitReport::Exited { key: state.key, reason, escaped });
                myself.stop(None);
            }
            UnitMessage::Probed(purpose, event) => state.probed(&myself, purpose, event).await,
            UnitMessage::AfterReady(Ok(())) => state.ready(&myself).await,
            UnitMessage::AfterReady(Err(error)) => state.report(UnitReport::LivenessLost(error)),
        }
        Ok(())
    }

    /// A probe that panicked is a bug of ours, not of the unit: it is started again, and the unit stays.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<UnitMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(probe, error) = event {
            tracing::error!(unit = %state.args.tag.unit, %error, "a probe actor failed");
            state.probes.retain(|other| other.get_id() != probe.get_id());
            state.probe_restarts += 1;
            if state.probe_restarts <= PROBE_RESTARTS_MAX && *state.stage.borrow() == Stage::Run {
                let ready = state.been_ready;
                state.stop_probes();
                if state.asks(Purpose::Ready) {
                    state.start_probes(&myself, Purpose::Ready).await;
                }
                if ready || !state.asks(Purpose::Ready) {
                    state.start_probes(&myself, Purpose::Alive).await;
                }
            }
        }
        Ok(())
    }
}

// === impl State ===

impl State {
    fn report(&self, report: UnitReport) {
        (self.args.report)(report);
    }

    fn move_on(&mut self, stage: Stage) {
        // A life that is being ended is not asked about its health any more.
        self.stop_probes();
        self.stage.send_if_modified(|now| {
            let further = stage > *now;
            *now = stage.max(*now);
            further
        });
    }

    async fn spawned(&mut self, myself: &ActorRef<UnitMessage>, pid: u32, key: u64, running: Running) {
        (self.pid, self.key, self.running) = (Some(pid), Some(key), running);
        self.report(UnitReport::Spawned { pid });
        if let Some(beside) = self.running.beside.take() {
            self.tasks.spawn(beside);
        }
        if *self.stage.borrow() == Stage::Run {
            // Whether it is alive is asked once it has been ready: a slow start is the readiness deadline's business.
            let first = if self.asks(Purpose::Ready) { Purpose::Ready } else { Purpose::Alive };
            self.start_probes(myself, first).await;
        }
    }

    /// Spawning a probe actor only builds its state: nothing is waited for.
    async fn start_probes(&mut self, myself: &ActorRef<UnitMessage>, purpose: Purpose) {
        for asked in self.running.asked.clone().into_iter().filter(|asked| asked.purpose == purpose) {
            if let Probe::Log(pattern) = asked.probe {
                self.await_line(myself, pattern);
                continue;
            }
            let (purpose, tell) = (asked.purpose, myself.clone());
            let args = ProbeArgs {
                probe: asked.probe,
                schedule: asked.schedule,
                purpose,
                target: Target { leader: self.pid.filter(|_| !self.running.is_contained) },
                runner: self.args.runner.with_role(Role::Probe) as Arc<dyn ExecRunner>,
                report: Arc::new(move |event| drop(tell.cast(UnitMessage::Probed(purpose, event)))),
            };
            match ProbeActor::spawn_linked(None, ProbeActor, args, myself.get_cell()).await {
                Ok((probe, _)) => self.probes.push(probe.get_cell()),
                Err(error) => tracing::error!(unit = %self.args.tag.unit, %error, "a probe could not be started"),
            }
        }
    }

    /// Readiness by a line of output needs no probe actor: the log's length is watched, nothing is asked.
    fn await_line(&mut self, myself: &ActorRef<UnitMessage>, pattern: regex::bytes::Regex) {
        let (log, incarnation, myself) = (self.args.log.clone(), self.args.tag.incarnation, myself.clone());
        self.tasks.spawn(async move {
            if log.matches(pattern, incarnation).await.is_ok() {
                let _ = myself.cast(UnitMessage::Probed(Purpose::Ready, ProbeEvent::Ready));
            }
        });
    }

    fn stop_probes(&mut self) {
        for probe in self.probes.drain(..) {
            probe.stop(None);
        }
    }

    fn asks(&self, purpose: Purpose) -> bool {
        self.running.asked.iter().any(|asked| asked.purpose == purpose)
    }

    /// Reports readiness; from the first time on it is also asked whether the unit is alive.
    async fn ready(&mut self, myself: &ActorRef<UnitMessage>) {
        self.report(UnitReport::Ready);
        if !std::mem::replace(&mut self.been_ready, true) && *self.stage.borrow() == Stage::Run {
            self.start_probes(myself, Purpose::Alive).await;
        }
    }

    async fn probed(&mut self, myself: &ActorRef<UnitMessage>, purpose: Purpose, event: ProbeEvent) {
        if *self.stage.borrow() != Stage::Run {
            return;
        }
        match (purpose, event) {
            (_, ProbeEvent::Ready) => match self.running.after_ready.take() {
                None => self.ready(myself).await,
                Some(work) => {
                    let myself = myself.clone();
                    self.tasks.spawn(async move { drop(myself.cast(UnitMessage::AfterReady(work.await))) });
                }
            },
            (_, ProbeEvent::Unready(detail)) => self.report(UnitReport::Unready(detail.0)),
            (_, ProbeEvent::LivenessLost(detail)) => self.report(UnitReport::LivenessLost(detail.0)),
            (_, ProbeEvent::Failing(detail)) => self.report(UnitReport::Failing(detail.0)),
        }
    }
}

/// The whole life, as one task of the actor.
async fn run_life<K: Kind>(args: Arc<UnitArgs>, kind: K, stage: watch::Receiver<Stage>, myself: ActorRef<UnitMessage>) {
    let mut manners = args.manners.clone();
    // What happens once has its room only while it happens: this task lives as long as the process.
    let begun = match args.begin {
        Begin::Spawn => Box::pin(begin(&args, kind, stage.clone(), &mut manners)).await,
        Begin::Attach => match Box::pin(take_over(&args, kind, &mut manners)).await {
            Some(begun) => Ok(begun),
            None => {
                let reason = ExitReason::Unknown("it was gone when it was to be taken over".to_owned());
                return drop(myself.cast(UnitMessage::Ended(Ended { reason, escaped: Vec::new() })));
            }
        },
    };
    let (running, edges, spawned) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // Its preparation may have been broken off.
            args.runner.end().await;
            return drop(myself.cast(UnitMessage::SpawnFailed(error)));
        }
    };
    let (key, pid, hold) = (spawned.key, spawned.pid, spawned.hold.clone());
    if hold != Hold::default() {
        (args.report)(UnitReport::Unheld(hold.missing));
    }
    let _ = myself.cast(UnitMessage::Spawned(pid, key, Box::new(running)));
    let ended = live(&args.processes, spawned, manners, stage.clone()).await;
    if *stage.borrow() >= Stage::Ask {
        // A successor of one that crashed waits for nobody; they have been killed with it.
        args.runner.end().await;
    }
    if let Err(error) = args.log.drain(DRAIN_WITHIN).await {
        tracing::warn!(unit = %args.tag.unit, %error, "the last output may be stored late");
    }
    let oom = hold.cgroup.is_some() && args.processes.was_oom(key).await;
    let (ended, oom) = match edges.aftermath {
        Some(aftermath) => {
            let After { reason, oom, left } = aftermath(ended.reason.clone()).await;
            left.into_iter().for_each(|left| (args.report)(UnitReport::Left(left)));
            (Ended { reason, ..ended }, oom)
        }
        None => (ended, oom),
    };
    if oom {
        (args.report)(UnitReport::OutOfMemory);
    }
    let _ = myself.cast(UnitMessage::Ended(ended));
}

/// Prepares and starts. Preparation ends when the life is not wanted any more; a process that is being made is waited for.
async fn begin<K: Kind>(
    args: &Arc<UnitArgs>,
    kind: K,
    mut stage: watch::Receiver<Stage>,
    manners: &mut Manners,
) -> Result<(Running, Edges, Spawned), StartError> {
    let failed = |message: String| StartError { message, hint: None, retry: true };
    // Steps write into the log too.
    args.told.clone().await.map_err(|error| failed(format!("open its log: {error}")))?;
    let prepared = tokio::select! {
        biased;
        prepared = kind.prepare(Arc::clone(args)) => prepared?,
        Ok(_) = stage.wait_for(|stage| *stage >= Stage::Ask) => {
            // Worth another try: whether there is one, the supervisor knows that asked for the stop.
            return Err(failed("start: it was stopped while it was being prepared".to_owned()));
        }
    };
    let (command, running, mut edges) = adopt_manners(prepared, manners);
    let spawned = patience::spawn(args, command, manners.plan.for_heart(), &mut stage).await?;
    let Some(launch) = edges.launch.take() else { return Ok((running, edges, spawned)) };
    let launched = tokio::select! {
        biased;
        launched = launch => launched,
        Ok(_) = stage.wait_for(|stage| *stage >= Stage::Ask) => {
            Err(failed("start: it was stopped while it was being started".to_owned()))
        }
    };
    match launched {
        Ok(()) => Ok((running, edges, spawned)),
        Err(error) => {
            undo(args, spawned, edges).await;
            Err(error)
        }
    }
}

/// Ends a main process whose launch has failed, as if it had never been.
async fn undo(args: &Arc<UnitArgs>, spawned: Spawned, edges: Edges) {
    let Spawned { key, exit, .. } = spawned;
    args.processes.signal(key, SIGKILL, Scope::Main);
    // Nobody but heart can say that it has ended; it is killed already, so this does not take long.
    let reason = exit.await.unwrap_or(ExitReason::Killed);
    args.processes.release(key);
    if let Some(aftermath) = edges.aftermath {
        let After { left, .. } = aftermath(reason).await;
        left.into_iter().for_each(|left| (args.report)(UnitReport::Left(left)));
    }
    if let Err(error) = args.log.drain(DRAIN_WITHIN).await {
        tracing::warn!(unit = %args.tag.unit, %error, "the last output may be stored late");
    }
}

/// Finds a process that runs already. Once it is found nothing can fail: without its preparation it only goes unasked.
async fn take_over<K: Kind>(args: &Arc<UnitArgs>, kind: K, manners: &mut Manners) -> Option<(Running, Edges, Spawned)> {
    if let Err(error) = args.told.clone().await {
        tracing::error!(unit = %args.tag.unit, %error, "its log cannot be told which life writes");
    }
    let spawned = args.processes.attach(args.tag.clone()).await.ok().flatten()?;
    let (running, edges) = match kind.prepare(Arc::clone(args)).await {
        Ok(prepared) => {
            let (_, running, edges) = adopt_manners(prepared, manners);
            (running, edges)
        }
        Err(error) => {
            tracing::error!(unit = %args.tag.unit, %error, "taken over without its probes");
            (Running::default(), Edges::default())
        }
    };
    Some((running, edges, spawned))
}

fn adopt_manners(prepared: Prepared, manners: &mut Manners) -> (Command, Running, Edges) {
    let Prepared { command, asked, after_ready, stop, launch, beside, aftermath, is_contained } = prepared;
    if let Some((signal, scope)) = stop {
        manners.plan = manners.plan.clone().with_signal(signal, scope);
    }
    (command, Running { asked, after_ready, beside, is_contained }, Edges { launch, aftermath })
}
