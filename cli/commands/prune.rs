//! `envctl prune`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use envctl_actors::log_stream::{self, LogError};
use envctl_runtime::places::LogPlace;
use serde::Serialize;

use super::ps::{size, span};
use super::show_state::recorded_view;
use crate::context::Context;
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::output::confirm::confirm;
use crate::output::table::{Cell, Table};

mod databases;
mod templates;

/// Delete what nobody needs any more: old logs, templates of data, databases of checkouts that are gone
///
/// Nothing goes that is in use. A log goes as a whole, and only if nobody writes it and nothing was written to it for as long as --older-than says. How much is kept of a log that is in use is the `logs` table's in the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Logs
    #[arg(long, required_unless_present_any = ["templates", "databases"])]
    pub(crate) logs: bool,

    /// Data that is kept to be copied for the first start of the next requirement; without it that start takes longer
    #[arg(long)]
    pub(crate) templates: bool,

    /// Databases on shared servers whose checkouts are gone, whatever their age
    #[arg(long)]
    pub(crate) databases: bool,

    /// Those that were last written before this time: `30d`, `12h`
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = age)]
    pub(crate) older_than: Duration,

    /// Only tell what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Serialize)]
struct Body {
    session: String,
    dry_run: bool,
    logs: Vec<Old>,
    in_use: usize,
    bytes: u64,
}

/// A log that goes.
#[derive(Serialize)]
struct Old {
    project: Option<String>,
    root: Option<PathBuf>,
    unit: String,
    path: PathBuf,
    bytes: u64,
    unused_s: u64,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let mut exit = Exit::Ok;
    if args.databases {
        exit = databases::prune(context, &args)?;
    }
    if args.templates && exit == Exit::Ok {
        exit = templates::prune(context, &args)?;
    }
    if !args.logs || exit != Exit::Ok {
        return Ok(exit);
    }
    let (logs, in_use) = find(context, args.older_than)?;
    let bytes = logs.iter().map(|log| log.bytes).sum();
    let body = Body { session: context.session().to_string(), dry_run: args.dry_run, logs, in_use, bytes };
    if !context.output.json {
        show(context, &body)?;
    }
    if !args.dry_run && !body.logs.is_empty() {
        let question = format!("delete {} logs, {}?", body.logs.len(), size(bytes));
        if !args.yes && !confirm(context, &question, "envctl prune --logs --yes")? {
            return Ok(Exit::Interrupted);
        }
        for log in &body.logs {
            delete(context, log)?;
        }
    }
    if context.output.json {
        context.output.object("prune", true, &body)?;
    }
    Ok(Exit::Ok)
}

/// What is old enough, and how many are in use.
fn find(context: &Context, older_than: Duration) -> Result<(Vec<Old>, usize), CliError> {
    let places = context.places()?;
    let all = places
        .logs()
        .map_err(|error| CliError::new("io", format!("{} cannot be read: {error}", places.state_dir().display())))?;
    let now = now();
    let (mut old, mut in_use) = (Vec::new(), 0);
    for place in all {
        let idle = log_stream::idle(&place.dir).map_err(|error| unreadable(&place, &error))?;
        let Some(idle) = idle else {
            in_use += 1;
            continue;
        };
        let Some(written) = idle.written else { continue };
        let unused = now.duration_since(written).unwrap_or_default();
        if unused >= older_than {
            old.push(Old::new(place, idle.bytes, unused));
        }
    }
    Ok((old, in_use))
}

fn show(context: &Context, body: &Body) -> Result<(), CliError> {
    let mut table = Table::new(&["PROJECT", "UNIT", "SIZE", "UNUSED", "PATH"]);
    for log in &body.logs {
        table.row(vec![
            Cell::from(log.project.clone().unwrap_or_default()),
            log.unit.as_str().into(),
            size(log.bytes).into(),
            span(log.unused_s).into(),
            log.path.to_string_lossy().into_owned().into(),
        ]);
    }
    if body.logs.is_empty() {
        context.output.say("no log is old enough");
    } else {
        context.output.write(&table.render(context.output.data))?;
    }
    if body.in_use > 0 {
        context.output.say(&format!("{} logs are in use and stay", body.in_use));
    }
    Ok(())
}

/// A log that has got a writer meanwhile stays.
fn delete(context: &Context, log: &Old) -> Result<(), CliError> {
    match log_stream::erase(&log.path) {
        Ok(_) => Ok(()),
        Err(LogError::Locked(_)) => {
            context.output.say(&format!("the log of {} is in use now and stays", log.unit));
            Ok(())
        }
        Err(error) => {
            Err(CliError::new("io", format!("the log of {} is not deleted: failed to {}", log.unit, chain(&error))))
        }
    }
}

fn unreadable(place: &LogPlace, error: &LogError) -> CliError {
    CliError::new("io", format!("the log of {} cannot be looked at: failed to {}", place.unit, chain(error)))
        .hint(format!("look at the permissions of {}", place.dir.display()))
}

#[expect(clippy::disallowed_methods, reason = "the age of files is measured by the wall clock that dates them")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// As other durations, and in days.
fn age(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        None => crate::args::duration(text).map_err(|_| "a time such as `30d` or `12h` is needed".to_owned()),
    }
}

// === impl Old ===

impl Old {
    fn new(place: LogPlace, bytes: u64, unused: Duration) -> Self {
        let view = recorded_view(&place.run_state);
        let (project, root) = view.map(|view| (view.name, view.root)).unzip();
        Self { project, root, unit: place.unit, path: place.dir, bytes, unused_s: unused.as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_given_in_days_too() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(age("12h"), Ok(Duration::from_secs(43_200)));
        assert!(age("old").unwrap_err().contains("30d"));
    }
}
