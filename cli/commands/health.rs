//! `envctl health`.

use envctl_runtime::control::view::{Desired, UnitState, UnitView};
use serde::Serialize;

use super::ps::as_desired;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
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
    let target = context.locate().await?;
    let view = context.observe(&target).await?.view;
    let (run, units) = view.map_or((None, Vec::new()), |view| (view.run, view.units.iter().map(judge).collect()));
    let body = sum_up(target.name, run, units, args.strict);
    if context.output.json {
        context.output.object("health", !body.blocking, &body)?;
    } else {
        tell(context, &body)?;
    }
    Ok(Exit::ok_if(!body.blocking))
}

fn sum_up(project: String, run: Option<String>, units: Vec<Judged>, strict: bool) -> Body {
    let any = |verdict: &str| units.iter().any(|unit| unit.verdict == verdict);
    let overall = match (units.iter().all(|unit| !unit.wanted && unit.verdict == "ok"), any("bad"), any("warn")) {
        (true, _, _) => "down",
        (false, true, _) => "unhealthy",
        (false, false, true) => "degraded",
        (false, false, false) => "healthy",
    };
    let blocking = overall == "unhealthy" || (strict && overall == "degraded");
    Body { project, run, overall, healthy: overall == "healthy", blocking, units }
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
    context.output.say(&format!("{} is {}", body.project, body.overall));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::progress::tests::unit;

    #[test]
    fn a_critical_failure_blocks_and_another_only_degrades() {
        let mut failed = unit("api", UnitState::Failed);
        let judged = |unit: &UnitView, strict| sum_up("shop".into(), None, vec![judge(unit)], strict);
        assert_eq!((judged(&failed, false).overall, judged(&failed, false).blocking), ("unhealthy", true));
        failed.critical = false;
        assert_eq!((judged(&failed, false).overall, judged(&failed, false).blocking), ("degraded", false));
        assert!(judged(&failed, true).blocking);
        assert_eq!(judged(&unit("api", UnitState::Ready), true).overall, "healthy");
        assert_eq!(sum_up("shop".into(), None, Vec::new(), true).overall, "down");
    }
}
