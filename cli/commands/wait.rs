//! `envctl wait`.

use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::{ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::WatchProject;
use serde::Serialize;

use crate::args::duration;
use crate::context::{Context, Observed, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::progress::seconds;

/// Block until units are ready, done or stopped
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units
    #[arg(required = true, value_name = "UNIT")]
    pub(crate) units: Vec<String>,

    /// What to wait for
    #[arg(long = "for", value_name = "STATE", default_value = "ready")]
    pub(crate) what: What,

    /// Give up after this time, with 124
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// Ready (without a probe: running).
    Ready,
    /// Ended cleanly.
    Done,
    /// Not running, however that came.
    Stopped,
}

/// How far a unit is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Coming,
    /// It will not come there by itself.
    Lost,
}

#[derive(Serialize)]
struct Body<'a> {
    project: &'a str,
    units: Vec<&'a UnitView>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let Observed { client, view } = context.observe(&target).await?;
    target.check_units(&args.units, view.as_ref())?;
    let (client, view) = match (client, view) {
        (Some(client), Some(view)) => (client, view),
        // What does not run is stopped.
        _ if args.what == What::Stopped => return tell(context, &target, None, &args),
        _ => {
            return Err(
                CliError::new("not-running", format!("{} is not up", target.name)).hint("`envctl up -d` starts it")
            );
        }
    };
    let mut newest = view;
    let over = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        arrived = arrive(context, client, &target, &args, &mut newest) => arrived?,
        () = over => return Err(overdue(&args, &newest)),
    }
    tell(context, &target, Some(&newest), &args)
}

async fn arrive(
    context: &Context,
    mut client: Client,
    target: &Target,
    args: &Args,
    newest: &mut ProjectView,
) -> Result<(), CliError> {
    loop {
        let mut views = client.subscribe(WatchProject { project: target.reference.clone() }).await?;
        loop {
            match views.next().await {
                Some(Ok(view)) => *newest = view,
                Some(Err(ClientError::Lost)) => break,
                Some(Err(error)) => return Err(error.into()),
                None if args.what == What::Stopped => return Ok(()),
                None => return Err(CliError::new("failed", format!("{} went down", target.name))),
            }
            let wanted = || newest.units.iter().filter(|unit| args.units.contains(&unit.name));
            if let Some(lost) = wanted().find(|unit| way(unit, args.what) == Way::Lost) {
                return Err(gone(lost, args.what));
            }
            if wanted().all(|unit| way(unit, args.what) == Way::There) {
                return Ok(());
            }
        }
        client = context.reconnect().await?;
    }
}

fn way(unit: &UnitView, what: What) -> Way {
    use UnitState::{Backoff, Done, Failed, Pending, Ready, Running, Starting, Stopped, Stopping};
    match (what, unit.state) {
        (What::Ready, _) if unit.is_settled() => Way::There,
        (What::Ready, Pending | Starting | Running | Backoff | Ready | Done) => Way::Coming,
        (What::Ready, Stopping | Stopped | Failed) if unit.desired == envctl_runtime::control::view::Desired::Down => {
            Way::Lost
        }
        (What::Ready, Stopping | Stopped) => Way::Coming,
        (What::Done, Done) | (What::Stopped, Stopped | Done | Failed) => Way::There,
        (What::Ready | What::Done, Failed) | (What::Done, Stopped) => Way::Lost,
        (What::Done | What::Stopped, Pending | Starting | Running | Ready | Stopping | Backoff) => Way::Coming,
    }
}

fn gone(unit: &UnitView, what: What) -> CliError {
    let cause = unit.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{} is {} and will not become {}{cause}", unit.name, unit.state.as_str(), what.as_str());
    CliError::new("failed", message)
        .hint(unit.hint.clone().unwrap_or_else(|| format!("`envctl why {}` tells more", unit.name)))
}

fn overdue(args: &Args, newest: &ProjectView) -> CliError {
    let wanted = newest.units.iter().filter(|unit| args.units.contains(&unit.name));
    let waiting = wanted.filter(|unit| way(unit, args.what) != Way::There);
    let names: Vec<_> = waiting.map(|unit| format!("{} ({})", unit.name, unit.state.as_str())).collect();
    let after = seconds(args.timeout.unwrap_or_default());
    CliError::new(
        "timeout",
        format!("timed out after {after} waiting for {} to be {}", names.join(", "), args.what.as_str()),
    )
    .hint("`envctl why UNIT` tells what it waits for")
    .exit(Exit::TimedOut)
}

fn tell(context: &Context, target: &Target, view: Option<&ProjectView>, args: &Args) -> Result<Exit, CliError> {
    if context.output.json {
        let units =
            view.into_iter().flat_map(|view| &view.units).filter(|unit| args.units.contains(&unit.name)).collect();
        context.output.object("wait", true, &Body { project: &target.name, units })?;
    }
    Ok(Exit::Ok)
}

// === impl What ===

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::progress::tests::unit;

    #[test]
    fn waiting_ends_where_the_unit_arrives_or_can_no_longer_arrive() {
        let is = |state, what| way(&unit("api", state), what);
        assert_eq!(is(UnitState::Ready, What::Ready), Way::There);
        assert_eq!(is(UnitState::Backoff, What::Ready), Way::Coming);
        assert_eq!(is(UnitState::Failed, What::Ready), Way::Lost);
        assert_eq!(is(UnitState::Done, What::Done), Way::There);
        assert_eq!(is(UnitState::Failed, What::Done), Way::Lost);
        assert_eq!(is(UnitState::Failed, What::Stopped), Way::There);
        assert_eq!(is(UnitState::Stopping, What::Stopped), Way::Coming);
    }
}
