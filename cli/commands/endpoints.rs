//! `envctl endpoints`.

use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::{Cell, Table};

/// Show the ports and URLs of units
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

#[derive(Serialize)]
struct Body {
    project: String,
    running: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Endpoint {
    unit: String,
    name: String,
    port: u16,
    url: String,
    state: &'static str,
    ready: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let view = context.observe(&target).await?.view;
    target.check_units(&args.units, view.as_ref())?;
    let wanted = |unit: &str| args.units.is_empty() || args.units.iter().any(|name| name == unit);
    let mut endpoints = Vec::new();
    for unit in view.iter().flat_map(|view| &view.units).filter(|unit| wanted(&unit.name)) {
        endpoints.extend(unit.ports.iter().map(|port| Endpoint {
            unit: unit.name.clone(),
            name: port.name.clone(),
            port: port.port,
            url: port.url.clone(),
            state: unit.state.as_str(),
            ready: unit.ready,
        }));
    }
    let body = Body { project: target.name, running: view.is_some(), endpoints };
    if context.output.json {
        context.output.object("endpoints", true, &body)?;
    } else {
        tell(context, &body)?;
    }
    Ok(Exit::Ok)
}

fn tell(context: &Context, body: &Body) -> Result<(), CliError> {
    let mut table = Table::new(&["UNIT", "NAME", "PORT", "URL", "STATE"]);
    for endpoint in &body.endpoints {
        table.row(vec![
            Cell::from(endpoint.unit.as_str()),
            Cell::from(endpoint.name.as_str()),
            Cell::from(endpoint.port.to_string()),
            Cell::from(endpoint.url.as_str()),
            Cell::from(endpoint.state),
        ]);
    }
    context.output.write(&table.render(context.output.data))?;
    match (body.running, body.endpoints.is_empty()) {
        (false, _) => {
            context.output.say(&format!("{} is not up: ports are settled when it starts", body.project));
            context.output.hint("`envctl up -d` starts it; `envctl explain` shows the ports it wishes for");
        }
        (true, true) => context.output.say("no unit has a port"),
        (true, false) => {}
    }
    Ok(())
}
