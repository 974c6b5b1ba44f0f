//! `envctl health`.

use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use serde::Serialize;

use super::ps::as_desired;
use super::show_state::recorded_view;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;
use crate::output::table::{Cell, Table};

/// Judge what runs: exit 1 if a critical unit is not well
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also exit 1 for units that are not critical
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Serialize)]
struct Body {
    project: String,
    run: Option<String>,
    /// `healthy`, `degraded`, `unhealthy` or `down`.
    overall: &'static str,
    healthy: bool,
    blocking: bool,
    /// Why the run ends, or has ended, by itself.
    cause: Option<String>,
    units: Vec<Judged>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Judged {
    unit: String,
    /// `ok`, `warn` or `bad`.
    verdict: &'static str,
    state: &'static str,
    wanted: bool,
    critical: bool,
    cause: Option<String>,
    hint: Option<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let (name, view) = match context.view_of_here(false).await? {
        Some(view) => (view.name.clone(), Some(view)),
        None => look(context).await?,
    };
    let body = sum_up(name, view.as_ref(), args.strict);
    if context.output.json {
        context.output.object("health", !body.blocking, &body)?;
    } else {
        tell(context, &body)?;
    }
    Ok(Exit::ok_if(!body.blocking))
}

/// The project's name, and what is known of it where no daemon has answered yet.
async fn look(context: &Context) -> Result<(String, Option<ProjectView>), CliError> {
    let target = context.locate().await?;
    let view = match context.observe(&target).await?.view {
        Some(view) => Some(view),
        // A run that ended by itself is not well just because nobody looks after it any more.
        None => recorded_view(&context.target_places(&target)?.run_state()).filter(|view| view.cause.is_some()),
    };
    Ok((target.name, view))
}

fn sum_up(project: String, view: Option<&ProjectView>, strict: bool) -> Body {
    let units: Vec<Judged> = view.into_iter().flat_map(|view| &view.units).map(judge).collect();
    let cause = view.and_then(|view| view.cause.clone());
    let any = |verdict: &str| units.iter().any(|unit| unit.verdict == verdict);
    let down = cause.is_none() && units.iter().all(|unit| !unit.wanted && unit.verdict == "ok");
    let overall = match (down, cause.is_some() || any("bad"), any("warn")) {
        (true, _, _) => "down",
        (false, true, _) => "unhealthy",
        (false, false, true) => "degraded",
        (false, false, false) => "healthy",
    };
    let blocking = overall == "unhealthy" || (strict && overall == "degraded");
    let run = view.and_then(|view| view.run.clone());
    Body { project, run, overall, healthy: overall == "healthy", blocking, cause, units }
}

fn judge(unit: &UnitView) -> Judged {
    let verdict = match (as_desired(unit), unit.desired, unit.critical, unit.state) {
        (true, ..) => "ok",
        (false, _, false, _) => "warn",
        // On its way up is not ill.
        (false, Desired::Up, true, UnitState::Pending | UnitState::Starting | UnitState::Stopping) => "warn",
        (false, ..) => "bad",
    };
    Judged {
        unit: unit.name.clone(),
        verdict,
        state: unit.state.as_str(),
        wanted: unit.desired == Desired::Up,
        critical: unit.critical,
        cause: unit.cause.clone(),
        hint: unit.hint.clone(),
    }
}

fn tell(context: &Context, body: &Body) -> Result<(), CliError> {
    let paint = context.output.data;
    let mut table = Table::new(&["UNIT", "HEALTH", "STATE", "CAUSE"]);
    for unit in &body.units {
        let shown = match unit.verdict {
            "ok" => paint.green(unit.verdict),
            "warn" => paint.yellow(unit.verdict),
            _ => paint.red(unit.verdict),
        };
        let cause = if unit.verdict == "ok" { "" } else { unit.cause.as_deref().unwrap_or_default() };
        table.row(vec![unit.unit.as_str().into(), Cell::painted(unit.verdict, shown), unit.state.into(), cause.into()]);
    }
    context.output.write(&table.render(paint))?;
    let cause = body.cause.as_deref().map(|cause| format!(": {}", harmless(cause))).unwrap_or_default();
    context.output.say(&format!("{} is {}{cause}", body.project, body.overall));
    Ok(())
}

#[cfg(test)]
mod tests {
    use envctl_runtime::control::view::ProjectState;

    use super::*;
    use crate::output::progress::tests::unit;

    fn judged(units: Vec<UnitView>, cause: Option<&str>, strict: bool) -> (&'static str, bool) {
        let (state, cause) = (ProjectState::Up, cause.map(str::to_owned));
        let view =
            ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by: None };
        let body = sum_up("shop".into(), Some(&view), strict);
        (body.overall, body.blocking)
    }

    #[test]
    fn a_critical_failure_blocks_and_another_only_degrades() {
        let failed = unit("api", UnitState::Failed);
        let optional = UnitView { critical: false, ..failed.clone() };
        assert_eq!(judged(vec![failed], None, false), ("unhealthy", true));
        assert_eq!(judged(vec![optional.clone()], None, false), ("degraded", false));
        assert_eq!(judged(vec![optional], None, true), ("degraded", true));
        assert_eq!(judged(vec![unit("api", UnitState::Ready)], None, true), ("healthy", false));
        assert_eq!(judged(Vec::new(), None, true), ("down", false));
    }

    #[test]
    fn a_run_that_ended_by_itself_is_not_merely_down() {
        let stopped = UnitView { desired: Desired::Down, ..unit("api", UnitState::Stopped) };
        assert_eq!(judged(vec![stopped.clone()], None, false), ("down", false));
        assert_eq!(judged(vec![stopped], Some("web was given up"), false), ("unhealthy", true));
    }
}
