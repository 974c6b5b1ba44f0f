//! `up --wait`: until everything is up, something cannot come up, or the time is over.

use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::{ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::WatchProject;

use super::foreground::Signals;
use super::settle::{Settled, settle};
use super::{Started, tell};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::logs::last_lines;
use crate::output::progress::{Progress, seconds};
use crate::output::told;

/// How long a unit without a probe must run before it counts as up: one that cannot run at all has ended by then.
const PROOF_OF_LIFE: Duration = Duration::from_millis(250);
/// Log lines shown with a unit that failed.
const FAILURE_LINES: usize = 10;

/// Waits. An interrupt leaves everything as it is: it was asked to run in the background.
pub(super) async fn wait(
    context: &Context,
    mut started: Started,
    timeout: Option<Duration>,
    mut signals: Signals,
) -> Result<Exit, CliError> {
    let mut progress = Progress::new(&context.output, &started.scope);
    let mut newest = None;
    let over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        done = settled(context, &mut started, &mut progress, &mut newest) => done,
        () = over => Err(overdue(timeout.unwrap_or_default(), newest.as_ref(), &started)),
        _ = signals.next() => Ok(Exit::Interrupted),
    };
    progress.settle();
    match done {
        Ok(Exit::Ok) => tell(context, &started, Exit::Ok, &format!("{} is up", started.reply.project)),
        Ok(exit) => tell(context, &started, exit, "no longer waiting; the start goes on"),
        Err(error) => Err(error),
    }
}

async fn settled(
    context: &Context,
    started: &mut Started,
    progress: &mut Progress,
    newest: &mut Option<ProjectView>,
) -> Result<Exit, CliError> {
    loop {
        match watch(&started.client, started, progress, newest).await {
            Err(ClientError::Lost) => started.client = context.reconnect().await?,
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        let Some(view) = newest.as_ref() else { continue };
        match settle(view, &started.scope, started.counts) {
            Settled::Up => return Ok(Exit::Ok),
            Settled::Failed(unit) => return Err(failure(unit, started)),
            Settled::Over(cause) => return Err(over(cause, view)),
            Settled::Waiting(_) => {}
        }
    }
}

/// Follows the project until there is something to decide.
async fn watch(
    client: &Client,
    started: &Started,
    progress: &mut Progress,
    newest: &mut Option<ProjectView>,
) -> Result<(), ClientError> {
    let mut views = client.subscribe(WatchProject { project: started.project.reference() }).await?;
    let mut next = views.next().await;
    while let Some(view) = next {
        let view = view?;
        progress.observe(&view, &started.scope);
        let settled = settle(&view, &started.scope, started.counts);
        let (decided, unproved) =
            (!matches!(settled, Settled::Waiting(_)), settled == Settled::Up && unproved(&view, started));
        *newest = Some(view);
        next = match (decided, unproved) {
            (false, _) => views.next().await,
            (true, false) => return Ok(()),
            // Nothing will ever say that it is well: that it did not end at once is all the proof there is.
            (true, true) => match tokio::time::timeout(PROOF_OF_LIFE, views.next()).await {
                Ok(next) => next,
                Err(_) => return Ok(()),
            },
        };
    }
    // The daemon ended the stream although something was still on its way.
    Err(ClientError::Lost)
}

/// Whether a unit counts as up only because it runs.
fn unproved(view: &ProjectView, started: &Started) -> bool {
    let mut units = view.units.iter().filter(|unit| started.scope.contains(&unit.name));
    units.any(|unit| unit.state == UnitState::Running && !unit.probed)
}

/// A run that ends by itself.
pub(super) fn over(cause: &str, view: &ProjectView) -> CliError {
    let unit = view.caused_by.as_deref().unwrap_or("UNIT");
    CliError::new("failed", format!("{} has failed: {cause}", view.name))
        .hint(format!("`envctl why {unit}` tells more, `envctl logs {unit}` what it said"))
}

/// A unit that cannot come up: what happened, what to do, and what it said last.
pub(super) fn failure(unit: &UnitView, started: &Started) -> CliError {
    let why = told(unit.cause.as_deref()).map(str::to_owned).unwrap_or_else(|| match unit.blocked_by.as_slice() {
        [] => format!("it is {}", unit.state.as_str()),
        needed => format!("it waits for {}, which cannot come up", needed.join(", ")),
    });
    let dir = started.logs.iter().find(|(name, _)| *name == unit.name).map(|(_, dir)| dir.as_path());
    // What has no process and never ended could not even be started: the log's last words are an earlier run's.
    let never_ran = unit.exit.is_none() && unit.pid.is_none();
    let lines = if unit.incarnation == 0 || never_ran {
        Vec::new()
    } else {
        dir.map(|dir| last_lines(dir, FAILURE_LINES, Some(unit.incarnation))).unwrap_or_default()
    };
    let details = lines.iter().map(|line| format!("{} | {line}", unit.name)).collect();
    let hint = unit
        .hint
        .clone()
        .unwrap_or_else(|| format!("`envctl why {0}` tells more, `envctl logs {0}` what it said", unit.name));
    CliError { details, ..CliError::new("failed", format!("{} did not come up: {why}", unit.name)).hint(hint) }
}

fn overdue(timeout: Duration, newest: Option<&ProjectView>, started: &Started) -> CliError {
    let waiting = match newest.map(|view| settle(view, &started.scope, started.counts)) {
        Some(Settled::Waiting(units)) => units,
        Some(Settled::Up | Settled::Failed(_) | Settled::Over(_)) | None => Vec::new(),
    };
    let why = waiting.first().map(|unit| format!(", `envctl why {}` explains it", unit.name)).unwrap_or_default();
    let names = match waiting.as_slice() {
        [] => "the first word of the daemon".to_owned(),
        units => units.iter().map(|unit| on_its_way(unit)).collect::<Vec<_>>().join(", "),
    };
    CliError::new("timeout", format!("timed out after {} waiting for {names}", seconds(timeout)))
        .hint(format!("what was started runs on: `envctl ps` shows it{why}, `envctl down` stops it"))
        .exit(Exit::TimedOut)
}

fn on_its_way(unit: &UnitView) -> String {
    let state = unit.state.as_str();
    match (unit.blocked_by.as_slice(), told(unit.cause.as_deref())) {
        ([], Some(cause)) => format!("{} ({state}: {cause})", unit.name),
        ([], None) => format!("{} ({state})", unit.name),
        (needed, _) => format!("{} ({state}, waits for {})", unit.name, needed.join(", ")),
    }
}
