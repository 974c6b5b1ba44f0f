//! `envctl projects`.

use std::path::PathBuf;

use envctl_runtime::control::wire::Ps;
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::{Cell, Table};

/// List the projects that the session knows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Body {
    session: String,
    projects: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    name: String,
    root: PathBuf,
    state: &'static str,
    run: Option<String>,
    units: usize,
}

pub(crate) async fn run(context: &Context, _args: Args) -> Result<Exit, CliError> {
    let views = match context.running_daemon().await? {
        Some(client) => client.request(Ps { project: None, usage: false }).await?.projects,
        None => Vec::new(),
    };
    let known = views.into_iter().map(|view| Known {
        state: view.state.as_str(),
        units: view.units.len(),
        name: view.name,
        root: view.root,
        run: view.run,
    });
    let body = Body { session: context.session().to_string(), projects: known.collect() };
    if context.output.json {
        context.output.object("projects", true, &body)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "STATE", "UNITS", "DIRECTORY"]);
    for project in &body.projects {
        let directory = project.root.to_string_lossy().into_owned();
        table.row(vec![
            project.name.as_str().into(),
            project.state.into(),
            Cell::from(project.units.to_string()),
            directory.into(),
        ]);
    }
    context.output.write(&table.render(context.output.data))?;
    if body.projects.is_empty() {
        context.output.say("no project is up");
    }
    Ok(Exit::Ok)
}
