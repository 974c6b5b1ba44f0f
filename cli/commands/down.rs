//! `envctl down`.

use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::wire::{Down, DownReply, Killed, ProjectRef};
use envctl_runtime::places::ProjectPlaces;

use super::requirement;
use crate::args::duration;
use crate::context::{Context, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// Stop everything, in order, and wait until it is down
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill what is left after this time, instead of each unit's own grace
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Also drop the data of all requirements, for good
    #[arg(long)]
    pub(crate) data: bool,

    /// Do not ask whether the data may go
    #[arg(long, requires = "data")]
    pub(crate) yes: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    if !args.data
        && let Some((client, here)) = context.daemon_of_here().await?
    {
        return stop_here(context, client, here, &args).await;
    }
    let target = context.locate().await?;
    let places = context.target_places(&target)?;
    if args.data {
        let question = format!("drop the data of all requirements of {} for good?", harmless(&target.name));
        requirement::confirm(context, args.yes, &question)?;
    }
    let exit = stop(context, &target, &places, &args).await?;
    if args.data && exit == Exit::Ok {
        requirement::drop_all(context, &target).await?;
    }
    Ok(exit)
}

/// Stops the project of this directory; its configuration is read while the daemon is at it.
async fn stop_here(context: &Context, client: Client, here: ProjectRef, args: &Args) -> Result<Exit, CliError> {
    let read = async {
        // The order goes out first.
        tokio::task::yield_now().await;
        context.locate().await
    };
    let (asked, target) = tokio::join!(client.request(order(here, args)), read);
    match asked {
        Ok(reply) => tell(context, &reply),
        Err(ClientError::Lost) => {
            let target = target?;
            stop(context, &target, &context.target_places(&target)?, args).await
        }
        Err(error) if is_unknown(&error) => tell(context, &not_up(&target?)),
        Err(error) => Err(error.into()),
    }
}

fn order(project: ProjectRef, args: &Args) -> Down {
    let timeout_ms = args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    Down { project, units: Vec::new(), timeout_ms, kill: false }
}

/// Whether the daemon does not know the project.
fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(refusal) if refusal.code == "not-found")
}

fn not_up(target: &Target) -> DownReply {
    DownReply { project: target.name.clone(), was_up: false, escaped: Vec::new(), killed: Vec::new() }
}

async fn stop(context: &Context, target: &Target, places: &ProjectPlaces, args: &Args) -> Result<Exit, CliError> {
    let Some(client) = context.reading_daemon(places).await? else { return tell(context, &not_up(target)) };
    match client.request(order(target.reference.clone(), args)).await {
        Err(error) if is_unknown(&error) => tell(context, &not_up(target)),
        reply => tell(context, &reply?),
    }
}

/// Tells how it went; what could not be ended is something to act on.
pub(crate) fn tell(context: &Context, reply: &DownReply) -> Result<Exit, CliError> {
    let clean = reply.escaped.is_empty();
    if context.output.json {
        context.output.object("down", clean, reply)?;
    } else if reply.was_up {
        context.output.say(&format!("{} is down", reply.project));
    } else {
        context.output.say(&format!("{} is not up: nothing to stop", reply.project));
    }
    tell_killed(context, &reply.killed);
    if let Some(error) = escaped(&reply.escaped) {
        context.output.error(&error);
    }
    Ok(Exit::ok_if(clean))
}

/// Names the units that did not end by themselves: their last words may be missing.
pub(crate) fn tell_killed(context: &Context, killed: &[Killed]) {
    for Killed { unit, after } in killed {
        context.output.say(&format!("{} was killed: {}", harmless(unit), killed_text(after)));
    }
}

fn killed_text(after: &str) -> &'static str {
    match after {
        "timeout" => "the time for the whole stop was over",
        "asked" => "somebody asked for it",
        _ => "it did not end within its grace",
    }
}

/// Processes that could not be ended, as a failure.
pub(crate) fn escaped(escaped: &[(String, Vec<u32>)]) -> Option<CliError> {
    if escaped.is_empty() {
        return None;
    }
    let one = |(unit, pids): &(String, Vec<u32>)| format!("{unit} (pid {})", pids_text(pids));
    let list = escaped.iter().map(one).collect::<Vec<_>>().join(", ");
    Some(
        CliError::new("failed", format!("processes could not be ended: {list}"))
            .hint("look at them with `ps -fp PID`; they may wait for a disk or belong to another user"),
    )
}

fn pids_text(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
