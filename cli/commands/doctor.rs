//! `envctl doctor`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use envctl_actors::log_stream::bytes_on_disk;
use serde::Serialize;

use super::ps::size;
use super::show_state::recorded_view;
use crate::context::Context;
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::output::table::{Cell, Table};

/// Look at the paths that envctl uses and at what its logs take; exit 1 if something is to be acted on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Body {
    session: String,
    daemon: Option<String>,
    paths: Vec<Place>,
    logs: Vec<Logs>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Place {
    name: &'static str,
    path: PathBuf,
    exists: bool,
}

/// What the logs of a project take.
#[derive(Serialize)]
struct Logs {
    project: Option<String>,
    path: PathBuf,
    units: usize,
    bytes: u64,
}

pub(crate) async fn run(context: &Context, _args: Args) -> Result<Exit, CliError> {
    let body = examine(context).await?;
    let fine = body.problems.is_empty();
    if context.output.json {
        context.output.object("doctor", fine, &body)?;
        return Ok(Exit::ok_if(fine));
    }
    context.output.write(&text(context, &body))?;
    for problem in &body.problems {
        context.output.warn(problem);
    }
    Ok(Exit::ok_if(fine))
}

async fn examine(context: &Context) -> Result<Body, CliError> {
    let places = context.places()?;
    let mut problems = places.notices().to_vec();
    let daemon = match context.running_daemon().await {
        Ok(client) => client.map(|client| client.hello().build.clone()),
        Err(error) => {
            problems.push(error.message);
            None
        }
    };
    let mut of_project: BTreeMap<PathBuf, Logs> = BTreeMap::new();
    let all = places.logs().map_err(|error| CliError::new("io", format!("the logs cannot be listed: {error}")))?;
    for place in all {
        let bytes = bytes_on_disk(&place.dir).unwrap_or_else(|error| {
            problems.push(format!("{} cannot be read: {}", place.dir.display(), chain(&error)));
            0
        });
        let project = recorded_view(&place.run_state).map(|view| view.name);
        let logs = of_project.entry(place.project_dir.clone());
        let logs = logs.or_insert_with(|| Logs { project, path: place.project_dir.join("logs"), units: 0, bytes: 0 });
        (logs.units, logs.bytes) = (logs.units + 1, logs.bytes + bytes);
    }
    let place = |name, path: PathBuf| Place { name, exists: path.exists(), path };
    let paths = vec![
        place("state", places.state_dir().to_owned()),
        place("runtime", places.runtime_dir().to_owned()),
        place("socket", context.socket()?),
        place("daemon log", places.daemon_log()),
    ];
    let logs = of_project.into_values().collect();
    Ok(Body { session: context.session().to_string(), daemon, paths, logs, problems })
}

fn text(context: &Context, body: &Body) -> String {
    let paint = context.output.data;
    let mut text = match &body.daemon {
        Some(build) => format!("{:11} {build}\n", "daemon"),
        None => format!("{:11} does not run\n", "daemon"),
    };
    for Place { name, path, exists } in &body.paths {
        let missing = if *exists { "" } else { "  (not there)" };
        text.push_str(&format!("{name:11} {}{missing}\n", path.display()));
    }
    if body.logs.is_empty() {
        return text;
    }
    let mut table = Table::new(&["LOGS OF", "UNITS", "SIZE", "PATH"]);
    for logs in &body.logs {
        table.row(vec![
            Cell::from(logs.project.clone().unwrap_or_default()),
            logs.units.to_string().into(),
            size(logs.bytes).into(),
            logs.path.to_string_lossy().into_owned().into(),
        ]);
    }
    text + "\n" + &table.render(paint)
}
