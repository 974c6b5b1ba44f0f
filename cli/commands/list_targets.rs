//! `envctl list-targets`.

use std::path::PathBuf;

use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::Table;

/// List what can be started here, and what of it runs; starts nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Body {
    project: Option<String>,
    root: Option<PathBuf>,
    config_exists: bool,
    count: usize,
    targets: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    kind: String,
    /// Ports it wishes for, or has.
    ports: Vec<u16>,
    needs: Vec<String>,
    running: bool,
    state: Option<&'static str>,
}

pub(crate) async fn run(context: &Context, _args: Args) -> Result<Exit, CliError> {
    let body = if context.is_outside() {
        Body { project: None, root: None, config_exists: false, count: 0, targets: Vec::new() }
    } else {
        gather(context).await?
    };
    if context.output.json {
        context.output.object("list-targets", true, &body)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "KIND", "STATE", "NEEDS"]);
    for target in &body.targets {
        let state = target.state.unwrap_or_default();
        table.row(vec![
            target.name.as_str().into(),
            target.kind.as_str().into(),
            state.into(),
            target.needs.join(",").into(),
        ]);
    }
    context.output.write(&table.render(context.output.data))?;
    if !body.config_exists {
        context.output.say("no project is configured here");
        context.output.hint("an envctl.toml in this directory or above it makes it a project");
    }
    Ok(Exit::Ok)
}

async fn gather(context: &Context) -> Result<Body, CliError> {
    let project = context.load()?;
    let reference = project.reference();
    let view = match context.running_daemon().await? {
        Some(client) => context.view(&client, &reference).await?,
        None => None,
    };
    let spec = &project.loaded.spec;
    let targets = spec.units.iter().map(|(name, unit)| {
        let runs = view.iter().flat_map(|view| &view.units).find(|running| running.name == name.as_str());
        let leased: Vec<u16> = runs.map(|unit| unit.ports.iter().map(|port| port.port).collect()).unwrap_or_default();
        let wished = unit.ports.values().map(|wish| wish.base).collect();
        Listed {
            name: name.to_string(),
            kind: unit.kind.as_str().to_owned(),
            ports: if leased.is_empty() { wished } else { leased },
            needs: unit.child.needs.iter().map(|edge| edge.on.to_string()).collect(),
            running: runs.is_some_and(|unit| unit.pid.is_some()),
            state: runs.map(|unit| unit.state.as_str()),
        }
    });
    let targets: Vec<Listed> = targets.collect();
    let (project, root) = (Some(spec.name.to_string()), Some(spec.root.clone()));
    Ok(Body { project, root, config_exists: true, count: targets.len(), targets })
}
