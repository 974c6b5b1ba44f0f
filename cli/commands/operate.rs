//! `envctl start`, `stop` and `restart`.

use envctl_runtime::control::wire::{Accepted, Operate, Verb};
use serde::Serialize;

use super::{down, trust, up};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Start units and what they need, in the background; without names as `up -d`
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

/// Stop units; they stay stopped until started again. Without names as `down`
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

/// Stop and start units; without names all of them
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    units: &'a [String],
}

/// A start is an `up` in the background: one path, and the units get the caller's environment.
pub(crate) async fn start(context: &Context, args: StartArgs) -> Result<Exit, CliError> {
    up::run(context, up::Args::detached(args.units)).await
}

pub(crate) async fn stop(context: &Context, args: StopArgs) -> Result<Exit, CliError> {
    if args.units.is_empty() {
        return down::run(context, down::Args { timeout: None, data: false, yes: false }).await;
    }
    operate(context, Verb::Stop, args.units).await
}

pub(crate) async fn restart(context: &Context, args: RestartArgs) -> Result<Exit, CliError> {
    operate(context, Verb::Restart, args.units).await
}

async fn operate(context: &Context, verb: Verb, units: Vec<String>) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    target.check_units(&units, None).or_else(|error| if target.project.is_some() { Err(error) } else { Ok(()) })?;
    if verb != Verb::Stop {
        trust::require_for(context, &target)?;
    }
    let (client, view) = context.running(&target).await?;
    target.check_units(&units, Some(&view))?;
    let accepted_units = client.request(Operate { project: target.reference, verb, units }).await?;
    match verb {
        Verb::Stop => accepted(context, "stop", &accepted_units, "stopping"),
        Verb::Restart => accepted(context, "restart", &accepted_units, "restarting"),
        Verb::Start => accepted(context, "start", &accepted_units, "starting"),
    }
}

/// Tells which units a request was taken for.
pub(crate) fn accepted(context: &Context, kind: &str, accepted: &Accepted, doing: &str) -> Result<Exit, CliError> {
    if context.output.json {
        context.output.object(kind, true, &Body { units: &accepted.units })?;
    } else {
        context.output.say(&format!("{doing} {}", accepted.units.join(", ")));
    }
    Ok(Exit::Ok)
}
