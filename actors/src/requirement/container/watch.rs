//! What happens beside a life in containers: the start of its containers once the relay listens, and the engine's events while
//! they live. Nothing is polled; the engine is asked again only while it is gone.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bollard::models::{ContainerState, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use envctl_supervisors::reason::StartError;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::driver::Life;
use super::engine::Engine;
use super::error::EngineError;
use super::labels;
use super::spec::Part;
use crate::probe::{Purpose, Target, check};
use crate::unit::UnitReport;

/// How long the relay may take to listen. An engine that does not tell of it (podman's older ones) loses nothing but this.
const LISTENS_WITHIN: Duration = Duration::from_secs(3);
/// How far back the engine's events are asked for: the relay may have been quicker than we are.
const BACK_SECS: i64 = 2;
/// How long a container that others wait for may take to answer: databases make their data at the first start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// How long a container that stands before others may be silent before it is started again.
const PART_SILENT_MAX: Duration = Duration::from_secs(38);
/// Starts of such a container before the whole is given up.
const PART_STARTS_MAX: usize = 3;
/// Pause before it is asked again; doubles with each, up to the longest.
const ASK_MIN: Duration = Duration::from_millis(50);
const ASK_MAX: Duration = Duration::from_secs(1);
/// One question may take this long.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before an engine that has gone is asked again; doubles with each, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Starts the containers of a new life, each once the relay listens to it and those before it answer.
pub(super) async fn launch(life: &Life, engine: &Engine, ids: &[String]) -> Result<(), StartError> {
    let heard = listened(life, engine, ids);
    if timeout(LISTENS_WITHIN, heard).await.is_err() {
        tracing::debug!(unit = %life.unit, "the engine does not tell who listens: its containers are started all the same");
    }
    (life.report)(UnitReport::Contained { containers: ids.to_vec() });
    for (part, id) in life.contained.pod.parts.iter().zip(ids) {
        start(life, engine, part, id).await?;
    }
    Ok(())
}

/// Waits until somebody is attached to each of these containers.
async fn listened(life: &Life, engine: &Engine, ids: &[String]) {
    let since = Timestamp::now().as_second() - BACK_SECS;
    let mut missing: Vec<&String> = ids.iter().collect();
    let mut events = events(life, engine, Some(since));
    while let (false, Some(Ok(event))) = (missing.is_empty(), events.next().await) {
        if event.action.as_deref() == Some("attach") {
            let id = event.actor.and_then(|actor| actor.id).unwrap_or_default();
            missing.retain(|one| **one != id);
        }
        if missing.is_empty() {
            return;
        }
    }
}

async fn start(life: &Life, engine: &Engine, part: &Part, id: &str) -> Result<(), StartError> {
    for name in &part.after {
        let before = life.contained.pod.parts.iter().find(|one| one.name == *name);
        if let Some(before) = before {
            answers(life, engine, before).await?;
        }
    }
    engine.start(id).await.map_err(EngineError::into_start_error)
}

/// What is known of a part that does not answer yet.
struct Phase<'a> {
    part: &'a Part,
    began: Instant,
    /// When each of its starts was, as the engine says.
    starts: BTreeSet<String>,
    /// When the last of them was seen.
    seen: Instant,
}

/// Waits until a part answers. One that only stands before others gets further starts of its own: it ends by itself, or is
/// killed when it has been silent for long; the relay starts it again.
async fn answers(life: &Life, engine: &Engine, part: &Part) -> Result<(), StartError> {
    let Some(probe) = &part.probe else { return Ok(()) };
    let now = Instant::now();
    let mut phase = Phase { part, began: now, starts: BTreeSet::new(), seen: now };
    let (until, mut pause) = (now + ANSWERS_WITHIN, ASK_MIN);
    loop {
        // Its listener is the engine's, not the relay's.
        let asked = check(probe, &Target { leader: None }, &*life.runner, ASK_TIMEOUT);
        let answer = timeout_at(until, Box::pin(asked)).await;
        let why = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        phase.look(life, engine).await;
        if Instant::now() >= until || phase.is_over() {
            return Err(phase.silent(life, engine, &why).await);
        }
        sleep(pause).await;
        pause = (pause * 2).min(ASK_MAX);
    }
}

/// The container of a part.
async fn container_of(life: &Life, engine: &Engine, part: &Part) -> Option<(String, ContainerState)> {
    let found = life.containers(engine).await.ok()?;
    let id = found.into_iter().find(|one| one.labels.get(labels::PART) == Some(&part.name))?.id;
    let state = engine.state(&id).await.ok()??;
    Some((id, state))
}

// === impl Phase ===

impl Phase<'_> {
    fn may_start_again(&self) -> bool {
        !self.part.after.is_empty()
    }

    fn is_over(&self) -> bool {
        self.may_start_again() && self.starts.len() > PART_STARTS_MAX
    }

    /// Counts its starts, and has it started again if it has been silent for long.
    async fn look(&mut self, life: &Life, engine: &Engine) {
        if !self.may_start_again() {
            return;
        }
        let Some((id, state)) = container_of(life, engine, self.part).await else { return };
        if state.started_at.is_some_and(|at| self.starts.insert(at)) {
            self.seen = Instant::now();
        } else if self.seen.elapsed() > PART_SILENT_MAX {
            self.seen = Instant::now();
            let _ = engine.kill(&id, libc::SIGKILL).await;
        }
    }

    /// The failure: which phase, its budget, how long it took, and how all containers are.
    async fn silent(&self, life: &Life, engine: &Engine, why: &str) -> StartError {
        let mut states = Vec::new();
        for part in &life.contained.pod.parts {
            let state =
                container_of(life, engine, part).await.and_then(|(_, state)| Some((state.status?, state.exit_code)));
            states.push(match state {
                Some((status, Some(code))) if code != 0 => format!("{} {status} ({code})", part.name),
                Some((status, _)) => format!("{} {status}", part.name),
                None => format!("{} unknown", part.name),
            });
        }
        let elapsed = self.began.elapsed().as_secs_f32();
        let message = format!(
            "start it: phase {}: no answer within its budget of {ANSWERS_WITHIN:?} and {PART_STARTS_MAX} starts ({elapsed:.1} s, {} starts seen): {why}; {}",
            self.part.name,
            self.starts.len().max(1),
            states.join(", ")
        );
        // It has had further starts already; the rest has none to blame.
        StartError { message, hint: Some("its log tells more".to_owned()), retry: !self.may_start_again() }
    }
}

/// Follows the engine for as long as the life lasts: tells when it has gone, and when it is back. Never ends by itself.
pub(super) async fn watch(life: &Life) {
    let (mut pause, mut is_gone) = (PAUSE_MIN, false);
    loop {
        match Engine::connect(&life.contained.around).await {
            Ok(engine) => {
                pause = PAUSE_MIN;
                if std::mem::take(&mut is_gone) {
                    (life.report)(UnitReport::Engine(None));
                    tokio::select! {
                        biased;
                        () = follow(life, &engine) => {}
                        never = ready_again(life) => match never {},
                    }
                } else {
                    follow(life, &engine).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_gone, true) {
                    (life.report)(UnitReport::Unready(format!("the container engine has gone: {error}")));
                    (life.report)(UnitReport::Engine(Some(error.into_start_error())));
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Containers may live on without their engine; what was taken for lost with it is asked again. Never ends.
async fn ready_again(life: &Life) -> Infallible {
    let mut pause = ASK_MIN;
    for asked in life.asked.iter().filter(|asked| asked.purpose == Purpose::Ready) {
        while check(&asked.probe, &Target { leader: None }, &*life.runner, ASK_TIMEOUT).await.is_err() {
            sleep(pause).await;
            pause = (pause * 2).min(ASK_MAX);
        }
        (life.report)(UnitReport::Ready);
    }
    std::future::pending().await
}

/// Until the engine's events end, which is when it does.
async fn follow(life: &Life, engine: &Engine) {
    let found = match life.containers(engine).await {
        Ok(found) => found,
        Err(error) => return tracing::warn!(unit = %life.unit, %error, "its containers could not be listed"),
    };
    (life.report)(UnitReport::Contained { containers: found.into_iter().map(|one| one.id).collect() });
    let mut events = events(life, engine, None);
    while let Some(Ok(event)) = events.next().await {
        if event.action.as_deref() == Some("oom") {
            (life.report)(UnitReport::Failing("a process in its container was killed: out of memory".to_owned()));
        }
    }
}

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>;

/// What happens to the unit's containers.
fn events(life: &Life, engine: &Engine, since: Option<i64>) -> Events {
    let mut filters = life.contained.owner.filters(Some(&life.unit));
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let mut options = EventsOptionsBuilder::new().filters(&filters);
    if let Some(since) = since {
        options = options.since(&since.to_string());
    }
    Box::pin(engine.docker().events(Some(options.build())))
}
