//! What logs take, in `ps --all --json`.

use std::path::Path;

use envctl_actors::log_stream::bytes_on_disk;
use envctl_runtime::control::view::ProjectView;
use envctl_supervisors::Name;
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::error::CliError;

#[derive(Serialize)]
struct Body<'a> {
    session: &'a str,
    projects: Value,
}

/// As `ps --json`, with `log_bytes` in each unit: a look at the disk that nobody pays for who does not ask for all projects.
pub(super) fn show_json(context: &Context, fine: bool, projects: &[ProjectView]) -> Result<(), CliError> {
    let mut shown = serde_json::to_value(projects)?;
    for (view, shown) in projects.iter().zip(shown.as_array_mut().into_iter().flatten()) {
        let units = shown.get_mut("units").and_then(Value::as_array_mut).into_iter().flatten();
        for (unit, shown) in view.units.iter().zip(units) {
            let bytes = log_bytes(context, &view.root, &view.name, &unit.name);
            shown.as_object_mut().map(|unit| unit.insert("log_bytes".to_owned(), bytes.into()));
        }
    }
    context.output.object("ps", fine, &Body { session: context.session().as_str(), projects: shown })
}

/// `None`: the project's directory is gone, or its logs cannot be read.
fn log_bytes(context: &Context, root: &Path, project: &str, unit: &str) -> Option<u64> {
    let places = context.project_places(root, project).ok()?;
    bytes_on_disk(&places.logs(&Name::new(unit).ok()?)).ok()
}
