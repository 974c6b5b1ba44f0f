//! What happens beside a life in containers: the start of its containers once the relay listens, and the engine's events while
//! they live. Nothing is polled; the engine is asked again only while it is gone.

use std::convert::Infallible;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use envctl_supervisors::reason::StartError;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::driver::Life;
use super::engine::Engine;
use super::error::EngineError;
use super::spec::Part;
use crate::probe::{Purpose, Target, check};
use crate::unit::UnitReport;

/// How long the relay may take to listen. An engine that does not tell of it (podman's older ones) loses nothing but this.
const LISTENS_WITHIN: Duration = Duration::from_secs(3);
/// How far back the engine's events are asked for: the relay may have been quicker than we are.
const BACK_SECS: i64 = 2;
/// How long a container that others wait for may take to answer: databases make their data at the first start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
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
            answers(life, before).await?;
        }
    }
    engine.start(id).await.map_err(EngineError::into_start_error)
}

/// Waits until a part answers.
async fn answers(life: &Life, part: &Part) -> Result<(), StartError> {
    let Some(probe) = &part.probe else { return Ok(()) };
    let (until, mut pause) = (Instant::now() + ANSWERS_WITHIN, ASK_MIN);
    loop {
        // Its listener is the engine's, not the relay's.
        let asked = check(probe, &Target { leader: None }, &*life.runner, ASK_TIMEOUT);
        let answer = timeout_at(until, Box::pin(asked)).await;
        match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) if Instant::now() < until => {}
            Ok(Err(failure)) => return Err(silent(part, &failure.to_string())),
            Err(_) => return Err(silent(part, "no answer")),
        }
        sleep(pause).await;
        pause = (pause * 2).min(ASK_MAX);
    }
}

fn silent(part: &Part, why: &str) -> StartError {
    StartError {
        message: format!("start it: its container {} did not answer within {ANSWERS_WITHIN:?}: {why}", part.name),
        hint: Some("its log tells more".to_owned()),
        retry: true,
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
