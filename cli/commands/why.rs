//! `envctl why`.

use envctl_runtime::control::view::{EventView, UnitView};
use envctl_runtime::journal;
use serde::Serialize;

use super::{events, show_state};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// Explain why a unit is in its state
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub(crate) unit: String,

    /// Also show the events that led there
    #[arg(short, long)]
    pub(crate) chain: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    project: &'a str,
    unit: &'a UnitView,
    lines: &'a [String],
    chain: &'a [EventView],
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let places = context.target_places(&target)?;
    let observed = context.observe(&target).await?.view;
    target.check_units(std::slice::from_ref(&args.unit), observed.as_ref())?;
    let view = observed.or_else(|| show_state::recorded_view(&places.run_state()));
    let unit = view.iter().flat_map(|view| &view.units).find(|unit| unit.name == args.unit);
    let Some(unit) = unit else {
        return Err(CliError::new("not-running", format!("{} was never started", args.unit))
            .hint("`envctl explain` shows what `up` would do"));
    };
    let why = journal::why(&events::read(&places.events())?, unit);
    if context.output.json {
        let body = Body { project: &target.name, unit, lines: &why.lines, chain: &why.chain };
        context.output.object("why", true, &body)?;
        return Ok(Exit::Ok);
    }
    for line in &why.lines {
        context.output.line(&harmless(line))?;
    }
    if unit.kind == "requirement" && !unit.failures.is_none() {
        context.output.line(&format!("in this run: {}", unit.failures.text()))?;
    }
    for event in why.chain.iter().filter(|_| args.chain) {
        context.output.line(&events::text(context, event))?;
    }
    Ok(Exit::Ok)
}
