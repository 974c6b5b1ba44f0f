//! `envctl wait`.

use std::time::Duration;

use envctl_runtime::control::client::Client;
use envctl_runtime::control::following::Following;
use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::WatchProject;
use serde::Serialize;

use super::up::settle::culprit;
use crate::args::duration;
use crate::context::{Context, Observed, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::progress::seconds;
use crate::output::told;

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
    client: Client,
    target: &Target,
    args: &Args,
    newest: &mut ProjectView,
) -> Result<(), CliError> {
    let watch = WatchProject { project: target.reference.clone() };
    let mut views = Following::new(client, watch, async || context.reconnect().await);
    while let Some(view) = views.next().await {
        *newest = view?;
        if look(newest, args)? {
            return Ok(());
        }
    }
    match args.what {
        What::Stopped => Ok(()),
        What::Ready | What::Done => Err(CliError::new("failed", format!("{} went down", target.name))),
    }
}

/// Whether everything that is waited for is there; an error if something will not come.
fn look(view: &ProjectView, args: &Args) -> Result<bool, CliError> {
    // A unit that this run never wanted is as one that it does not have.
    let is_part = |unit: &UnitView| unit.incarnation > 0 || unit.desired == Desired::Up;
    let absent = |name: &&String| !view.units.iter().any(|unit| unit.name == **name && is_part(unit));
    if let Some(name) = args.units.iter().find(absent).filter(|_| args.what != What::Stopped) {
        return Err(CliError::new("not-running", format!("{name} is not part of the run"))
            .hint(format!("`envctl up {name}` starts it")));
    }
    let wanted = || view.units.iter().filter(|unit| args.units.contains(&unit.name));
    if let Some(lost) = wanted().find(|unit| way(unit, args.what) == Way::Lost) {
        return Err(gone(lost, args.what));
    }
    let stuck = |unit| Some((unit, culprit(view, unit)?));
    if let Some((unit, culprit)) = wanted().filter(|_| args.what != What::Stopped).find_map(stuck) {
        return Err(never(unit, culprit, args.what));
    }
    Ok(wanted().all(|unit| way(unit, args.what) == Way::There))
}

/// A unit that cannot come because of another.
fn never(unit: &UnitView, culprit: &UnitView, what: What) -> CliError {
    let cause = told(culprit.cause.as_deref()).map(|cause| format!(" ({cause})")).unwrap_or_default();
    let (name, needed, state) = (&unit.name, &culprit.name, culprit.state.as_str());
    let message = format!("{name} waits for {needed}, which is {state}{cause}: it will not become {}", what.as_str());
    CliError::new("failed", message)
        .hint(culprit.hint.clone().unwrap_or_else(|| format!("`envctl why {needed}` tells more")))
}

fn way(unit: &UnitView, what: What) -> Way {
    use UnitState::{Backoff, Done, Failed, Pending, Ready, Running, Starting, Stopped, Stopping};
    match (what, unit.state) {
        (What::Ready, _) if unit.is_settled() => Way::There,
        (What::Ready | What::Done, Pending) if unit.desired == Desired::Down => Way::Lost,
        (What::Stopped, Pending) if unit.desired == Desired::Down => Way::There,
        (What::Ready, Pending | Starting | Running | Backoff | Ready | Done) => Way::Coming,
        (What::Ready, Stopping | Stopped | Failed) if unit.desired == Desired::Down => Way::Lost,
        (What::Ready, Stopping | Stopped) => Way::Coming,
        (What::Done, Done) | (What::Stopped, Stopped | Done | Failed) => Way::There,
        (What::Ready | What::Done, Failed) | (What::Done, Stopped) => Way::Lost,
        (What::Done | What::Stopped, Pending | Starting | Running | Ready | Stopping | Backoff) => Way::Coming,
    }
}

fn gone(unit: &UnitView, what: What) -> CliError {
    let cause = told(unit.cause.as_deref()).map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{} is {} and will not become {}{cause}", unit.name, unit.state.as_str(), what.as_str());
    CliError::new("failed", message)
        .hint(unit.hint.clone().unwrap_or_else(|| format!("`envctl why {}` tells more", unit.name)))
}

fn overdue(args: &Args, newest: &ProjectView) -> CliError {
    let wanted = newest.units.iter().filter(|unit| args.units.contains(&unit.name));
    let waiting: Vec<_> = wanted.filter(|unit| way(unit, args.what) != Way::There).collect();
    let hint = waiting.first().map(|unit| format!("`envctl why {}` tells what it waits for", unit.name));
    let names: Vec<_> = waiting.iter().map(|unit| format!("{} ({})", unit.name, unit.state.as_str())).collect();
    let after = seconds(args.timeout.unwrap_or_default());
    CliError::new(
        "timeout",
        format!("timed out after {after} waiting for {} to be {}", names.join(", "), args.what.as_str()),
    )
    .hint_if(hint)
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
        let unwanted = UnitView { desired: Desired::Down, ..unit("api", UnitState::Pending) };
        assert_eq!((way(&unwanted, What::Ready), way(&unwanted, What::Stopped)), (Way::Lost, Way::There));
    }

    #[test]
    fn a_unit_that_cannot_come_is_told_with_the_one_to_blame_and_one_outside_the_run_is_named() {
        let blocked =
            |name: &str, by: &str| UnitView { blocked_by: vec![by.to_owned()], ..unit(name, UnitState::Pending) };
        let view = ProjectView {
            name: "shop".into(),
            root: "/p".into(),
            run: None,
            state: envctl_runtime::control::view::ProjectState::Failed,
            units: vec![unit("db", UnitState::Failed), blocked("api", "db"), blocked("web", "api")],
            cause: None,
            caused_by: None,
        };
        let args = |name: &str, what| Args { units: vec![name.to_owned()], what, timeout: None };
        let error = look(&view, &args("web", What::Ready)).unwrap_err();
        assert_eq!(error.message, "web waits for db, which is failed: it will not become ready");
        let error = look(&view, &args("mail", What::Ready)).unwrap_err();
        assert_eq!(error.message, "mail is not part of the run");
        assert!(look(&view, &args("mail", What::Stopped)).unwrap());
    }
}
