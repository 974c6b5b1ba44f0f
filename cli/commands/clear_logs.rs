//! `envctl clear-logs`.

use envctl_actors::log_stream;
use envctl_runtime::control::client::ClientError;
use envctl_runtime::control::wire::ClearLogs;
use serde::Serialize;

use super::logs::{chosen, directories};
use super::ps::size;
use crate::context::{Context, Target};
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::output::confirm::confirm;

/// Delete what is stored of units' logs; units that run go on, and so do their logs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    project: &'a str,
    units: Vec<Cleared>,
    bytes: u64,
}

#[derive(Serialize)]
struct Cleared {
    unit: String,
    bytes: u64,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let units = chosen(context, &target, &args.units).await?;
    let question = format!("delete the logs of {}?", units.join(", "));
    if !args.yes && !confirm(context, &question, "envctl clear-logs --yes")? {
        return Ok(Exit::Interrupted);
    }
    let cleared = clear(context, &target, &units).await?;
    let bytes = cleared.iter().map(|one| one.bytes).sum();
    if context.output.json {
        context.output.object("clear-logs", true, &Body { project: &target.name, units: cleared, bytes })?;
    } else {
        context.output.say(&format!("the logs of {} are cleared, {} freed", units.join(", "), size(bytes)));
    }
    Ok(Exit::Ok)
}

/// Through the daemon where it writes them; what nobody writes is deleted here.
async fn clear(context: &Context, target: &Target, units: &[String]) -> Result<Vec<Cleared>, CliError> {
    let places = context.target_places(target)?;
    let mut written = Vec::new();
    if let Some(client) = context.reading_daemon(&places).await? {
        let request = ClearLogs { project: target.reference.clone(), units: units.to_vec() };
        match client.request(request).await {
            Ok(reply) => written = reply.cleared,
            Err(ClientError::Refused(refusal)) if refusal.code == "not-found" => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut cleared = Vec::new();
    for (unit, dir) in directories(&places, units) {
        let bytes = match written.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None => log_stream::clear(&dir).map_err(|error| {
                CliError::new("failed", format!("the log of {unit} cannot be cleared: failed to {}", chain(&error)))
                    .hint("`envctl daemon status` tells whether another daemon writes it")
            })?,
        };
        cleared.push(Cleared { unit, bytes });
    }
    Ok(cleared)
}
