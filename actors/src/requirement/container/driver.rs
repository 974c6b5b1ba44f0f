//! What is done in the engine for one life of a unit: what an earlier life left is removed, images, volumes and containers are
//! made, and when the life is over its containers go. The life itself is the relay's.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl_supervisors::reason::{ExitReason, StartError};
use tokio::time::{sleep, timeout};

use super::body::{Given, body};
use super::engine::{Engine, Found};
use super::error::EngineError;
use super::find::Surroundings;
use super::labels::{self, Owner};
use super::relay::{self, Order};
use super::spec::{Network, Part, Pod};
use super::{archive, image, watch};
use crate::process::{Command, Limits, RunAs, Scope, listener};
use crate::unit::{After, AfterReady, Asked, Begin, Prepared, Reporter, UnitArgs, UnitReport};

/// Pause before an engine that has gone is asked again; doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the end of a life may wait for the engine: what it cannot remove now is removed at the next start.
const AFTERMATH_WITHIN: Duration = Duration::from_secs(20);

/// How often a container that stands before others is started again by itself in one life: more often than the start waits for
/// it, so that it is the start that fails, with its reasons.
const PART_RESTARTS_MAX: u32 = 5;

/// A requirement's life in containers.
#[derive(Debug, Clone)]
pub struct Contained {
    /// What is run.
    pub pod: Pod,
    /// Whose it is.
    pub owner: Owner,
    /// Where the engine is.
    pub around: Surroundings,
    /// The `envctl` program, which is the relay.
    pub program: PathBuf,
    /// The relay's environment: the envelope, by which it is known.
    pub env: BTreeMap<OsString, OsString>,
    /// Whether the engine was there in this run already: then one that is gone is waited for.
    pub waits: bool,
}

/// A life in the engine.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) contained: Contained,
    pub(super) unit: String,
    pub(super) incarnation: u32,
    pub(super) report: Reporter,
    pub(super) runner: Arc<dyn crate::probe::ExecRunner>,
    pub(super) asked: Vec<Asked>,
}

/// Prepares a life: makes its containers, or finds those that run already.
///
/// # Errors
/// What the engine refused, with what to do about it.
pub async fn prepare(
    contained: Contained,
    args: &UnitArgs,
    asked: Vec<Asked>,
    after_ready: Option<AfterReady>,
) -> Result<Prepared, StartError> {
    let life = Arc::new(Life::new(contained, args, asked.clone()));
    let mut prepared = Prepared { asked, after_ready, ..Prepared::new(life.idle_command()) };
    if args.begin == Begin::Spawn {
        let engine = life.reach().await.map_err(|error| {
            // Nobody has seen it here yet: whoever typed the command is told at once, and starts it.
            let retry = false;
            StartError { retry, ..error.into_start_error() }
        })?;
        let made = life.make(&engine).await.map_err(EngineError::into_start_error);
        let ids = match made {
            Ok(ids) => ids,
            Err(error) => {
                // Half a unit is nothing; what cannot be removed now is removed at the next start.
                let _ = life.remove(&engine).await;
                return Err(error);
            }
        };
        let grace_ms = u64::try_from(args.manners.plan.grace().as_millis()).unwrap_or(u64::MAX);
        let parts = &life.contained.pod.parts;
        let (names, restarts) = parts.iter().map(|part| (part.name.clone(), restarts_of(part))).unzip();
        let order = Order { address: engine.address().clone(), containers: ids, grace_ms, names, restarts };
        prepared.command = life.command(&order)?;
        let starter = life.clone();
        prepared.launch = Some(Box::pin(async move { watch::launch(&starter, &engine, &order.containers).await }));
    }
    let (beside, after) = (life.clone(), life);
    prepared.beside = Some(Box::pin(async move { watch::watch(&beside).await }));
    prepared.aftermath = Some(Box::new(move |reason| Box::pin(async move { after.aftermath(reason).await })));
    prepared.stop = Some((libc::SIGTERM, Scope::Main));
    prepared.is_contained = true;
    Ok(prepared)
}

/// Removes containers and networks of a project that are left in the engine; volumes stay. For the end of a run, when none of
/// its units lives. Gives how many there were.
///
/// # Errors
/// The engine is not there, or refuses.
pub async fn remove_leftovers(around: &Surroundings, owner: &Owner) -> Result<usize, EngineError> {
    let engine = Engine::connect(around).await?;
    let found = engine.containers(owner, None).await?;
    for one in &found {
        engine.remove(&one.id).await?;
    }
    for network in engine.networks(owner, None).await? {
        engine.remove_network(&network).await?;
    }
    Ok(found.len())
}

/// Removes the volumes of a unit with all data in them. Gives their names.
///
/// # Errors
/// The engine is not there, or refuses: a volume is in use.
pub async fn remove_volumes(around: &Surroundings, owner: &Owner, unit: &str) -> Result<Vec<String>, EngineError> {
    let engine = Engine::connect(around).await?;
    let names = engine.volumes(owner, Some(unit)).await?;
    for name in &names {
        engine.remove_volume(name).await?;
    }
    Ok(names)
}

// === impl Contained ===

impl Contained {
    /// Whether an engine answers now, or did before in this run.
    pub async fn has_engine(&self) -> bool {
        self.waits || Engine::connect(&self.around).await.is_ok()
    }
}

// === impl Life ===

impl Life {
    fn new(contained: Contained, args: &UnitArgs, asked: Vec<Asked>) -> Self {
        Self {
            contained,
            unit: args.tag.unit.to_string(),
            incarnation: args.tag.incarnation,
            report: args.report.clone(),
            runner: args.runner.with_role(crate::process::Role::Probe),
            asked,
        }
    }

    /// The engine; while it is gone and was there before, again and again.
    async fn reach(&self) -> Result<Engine, EngineError> {
        let (mut pause, mut told) = (PAUSE_MIN, None);
        loop {
            let error = match Engine::connect(&self.contained.around).await {
                Ok(engine) => {
                    if told.is_some() {
                        (self.report)(UnitReport::Engine(None));
                    }
                    return Ok(engine);
                }
                Err(error) => error,
            };
            let may_come = error.is_gone() || matches!(error, EngineError::NotInstalled { .. });
            if !(self.contained.waits && may_come) {
                return Err(error);
            }
            // Told once for each kind: one that stays away is no news.
            if told.as_ref() != Some(&error) {
                (self.report)(UnitReport::Engine(Some(error.clone().into_start_error())));
                told = Some(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Makes everything of this life; gives the containers' ids.
    async fn make(&self, engine: &Engine) -> Result<Vec<String>, EngineError> {
        self.remove(engine).await?;
        self.check_ports().await?;
        let Pod { parts, network } = &self.contained.pod;
        for part in parts {
            image::ensure(engine, &part.image, &self.report).await?;
        }
        let volumes = self.volumes(engine, parts).await?;
        let shared = match (parts.len() > 1, network) {
            (true, Network::Bridge) => Some(self.network(engine).await?),
            _ => None,
        };
        let mut ids = Vec::new();
        for part in parts {
            let mut labels = self.labels();
            labels.insert(labels::PART.to_owned(), part.name.clone());
            let given = Given { labels, volumes: &volumes, network: shared.as_deref() };
            let tail = format!("{}-{}-{:04x}", part.name, self.incarnation, fastrand::u16(..));
            let id = engine.create(&self.contained.owner.name(&self.unit, &tail), body(part, *network, given)).await?;
            if !part.files.is_empty() {
                engine.put_files(&id, archive::tar(&part.files)).await?;
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// Who listens on a port of ours is nobody of ours: nothing of the life before is left by now.
    async fn check_ports(&self) -> Result<(), EngineError> {
        let parts = self.contained.pod.parts.iter();
        let ports: Vec<u16> = parts.flat_map(|part| part.publish.iter().map(|publish| publish.port)).collect();
        let look = move || ports.into_iter().find_map(|port| Some((port, listener::describe_owner(port)?)));
        // A look that fails finds nobody; then the engine is the one that says so.
        let Ok(Some((port, owner))) = tokio::task::spawn_blocking(look).await else { return Ok(()) };
        let said = format!("{port} is held by {owner}");
        (self.report)(UnitReport::PortTaken { port, owner });
        Err(EngineError::PortTaken { what: "publish its ports".to_owned(), said })
    }

    /// Volumes live longer than containers: they are found again by their names, and must then be ours.
    async fn volumes(&self, engine: &Engine, parts: &[Part]) -> Result<HashMap<String, String>, EngineError> {
        let mut names = HashMap::new();
        for volume in parts.iter().flat_map(|part| &part.volumes) {
            let owner = &self.contained.owner;
            let name = owner.name(&self.unit, &volume.name);
            let mut labels = owner.labels(&self.unit);
            labels.insert(labels::PART.to_owned(), volume.name.clone());
            let found = engine.volume(&name, labels).await?;
            if !owner.owns(&found) {
                return Err(EngineError::Foreign { what: "make its volume".to_owned(), name });
            }
            names.insert(volume.name.clone(), name);
        }
        Ok(names)
    }

    async fn network(&self, engine: &Engine) -> Result<String, EngineError> {
        let name = self.contained.owner.name(&self.unit, &format!("{}-{:04x}", self.incarnation, fastrand::u16(..)));
        engine.network(&name, self.labels()).await?;
        Ok(name)
    }

    fn labels(&self) -> HashMap<String, String> {
        let mut labels = self.contained.owner.labels(&self.unit);
        labels.insert(labels::INCARNATION.to_owned(), self.incarnation.to_string());
        labels
    }

    /// Removes every container and network of the unit, of whatever life.
    async fn remove(&self, engine: &Engine) -> Result<(), EngineError> {
        let owner = &self.contained.owner;
        for one in engine.containers(owner, Some(&self.unit)).await? {
            engine.remove(&one.id).await?;
        }
        for network in engine.networks(owner, Some(&self.unit)).await? {
            engine.remove_network(&network).await?;
        }
        Ok(())
    }

    /// The containers of this life, in the order of their start.
    pub(super) async fn containers(&self, engine: &Engine) -> Result<Vec<Found>, EngineError> {
        let mut found = engine.containers(&self.contained.owner, Some(&self.unit)).await?;
        let incarnation = self.incarnation.to_string();
        found.retain(|one| one.labels.get(labels::INCARNATION) == Some(&incarnation));
        let place = |one: &Found| {
            let part = one.labels.get(labels::PART);
            self.contained.pod.parts.iter().position(|known| Some(&known.name) == part)
        };
        found.sort_by_key(place);
        Ok(found)
    }

    /// Looks at what is left of a life that is over, and removes it.
    async fn aftermath(&self, reason: ExitReason) -> After {
        let fallback = reason.clone();
        match timeout(AFTERMATH_WITHIN, self.clear(reason)).await {
            Ok(Ok(after)) => after,
            Ok(Err(error)) => After { reason: fallback, oom: false, left: Some(left(&error)) },
            Err(_) => {
                let error = EngineError::Timeout { what: "remove its containers".to_owned(), within: AFTERMATH_WITHIN };
                After { reason: fallback, oom: false, left: Some(left(&error)) }
            }
        }
    }

    async fn clear(&self, mut reason: ExitReason) -> Result<After, EngineError> {
        let engine = Engine::connect(&self.contained.around).await?;
        let mut oom = false;
        for one in self.containers(&engine).await? {
            let state = engine.state(&one.id).await?.unwrap_or_default();
            oom |= state.oom_killed == Some(true);
            // A relay that could not follow to the end does not know the code; the engine does.
            let is_over = state.running != Some(true) && state.finished_at.is_some();
            if let (true, ExitReason::Code(code), Some(real)) = (is_over, &reason, state.exit_code)
                && *code == i32::from(relay::FAILED)
            {
                reason = ExitReason::Code(i32::try_from(real).unwrap_or(-1));
            }
        }
        self.remove(&engine).await?;
        Ok(After { reason, oom, left: None })
    }

    fn command(&self, order: &Order) -> Result<Command, StartError> {
        let order = serde_json::to_string(order).map_err(|error| StartError {
            message: format!("write the relay's order: {error}"),
            hint: None,
            retry: false,
        })?;
        Ok(Command { args: vec![relay::SUBCOMMAND.into(), order.into()], ..self.idle_command() })
    }

    fn idle_command(&self) -> Command {
        Command {
            program: self.contained.program.clone().into_os_string(),
            args: Vec::new(),
            env: self.contained.env.clone(),
            dir: "/".into(),
            run_as: RunAs::Caller,
            // What the unit may use is its containers' limit; the relay needs next to nothing.
            limits: Limits::default(),
            stdin: None,
        }
    }
}

/// What others stand behind is started again with them; what only stands before others, by itself.
fn restarts_of(part: &Part) -> u32 {
    if part.after.is_empty() { 0 } else { PART_RESTARTS_MAX }
}

fn left(error: &EngineError) -> String {
    format!("its containers could not be removed ({error}); that is done at the next start")
}
