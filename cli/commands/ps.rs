//! `envctl ps`.

use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::Ps;
use serde::Serialize;

use crate::context::{Context, Observed, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::color::Paint;
use crate::output::table::{Cell, Table};
use crate::output::{harmless, told};

/// Show units: state, readiness, pid, uptime, restarts, ports
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Show all projects of the session
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Exit 1 if a unit is not as it should be
    #[arg(long)]
    pub(crate) check: bool,

    /// Also measure cpu time and memory
    #[arg(long)]
    pub(crate) usage: bool,
}

/// Which columns a table has beside the usual ones.
#[derive(Debug, Clone, Copy)]
struct Columns {
    /// Any unit has a group.
    grouped: bool,
    /// Cpu time and memory were measured.
    usage: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    session: &'a str,
    projects: &'a [ProjectView],
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let projects = if args.all { all(context, args.usage).await? } else { here(context, args.usage).await? };
    let is_fine = |project: &ProjectView| project.cause.is_none() && project.units.iter().all(as_desired);
    let fine = !args.check || (!projects.is_empty() && projects.iter().all(is_fine));
    if context.output.json {
        let session = context.session().as_str();
        context.output.object("ps", fine, &Body { session, projects: &projects })?;
        return Ok(Exit::ok_if(fine));
    }
    let text: Vec<String> = projects.iter().map(|project| render(project, args, context.output.data)).collect();
    context.output.write(&text.join("\n"))?;
    if projects.is_empty() {
        context.output.say("nothing is up");
        context.output.hint("`envctl up` starts the project here; `envctl ps --all` shows the others");
    }
    Ok(Exit::ok_if(fine))
}

async fn all(context: &Context, usage: bool) -> Result<Vec<ProjectView>, CliError> {
    match context.running_daemon().await? {
        Some(client) => Ok(client.request(Ps { project: None, usage }).await?.projects),
        None => Ok(Vec::new()),
    }
}

async fn here(context: &Context, usage: bool) -> Result<Vec<ProjectView>, CliError> {
    let target = context.locate().await?;
    let Observed { client, view } = context.observe(&target).await?;
    match (client, view) {
        (Some(client), Some(_)) if usage => {
            Ok(client.request(Ps { project: Some(target.reference), usage }).await?.projects)
        }
        (_, Some(view)) => Ok(vec![view]),
        (_, None) => Ok(recorded(context, &target)?),
    }
}

/// What the last run left behind, if anything.
fn recorded(context: &Context, target: &Target) -> Result<Vec<ProjectView>, CliError> {
    let places = context.target_places(target)?;
    Ok(super::show_state::recorded_view(&places.run_state()).into_iter().collect())
}

/// Whether a unit is where its operator wants it.
pub(crate) fn as_desired(unit: &UnitView) -> bool {
    match unit.desired {
        Desired::Up => unit.is_settled() && !unit.degraded,
        Desired::Down => match unit.state {
            UnitState::Stopped | UnitState::Done | UnitState::Pending => unit.escaped.is_empty(),
            UnitState::Failed
            | UnitState::Starting
            | UnitState::Running
            | UnitState::Ready
            | UnitState::Stopping
            | UnitState::Backoff => false,
        },
    }
}

/// One project as a table, with the cause under what is not well.
fn render(project: &ProjectView, args: Args, paint: Paint) -> String {
    let grouped = project.units.iter().any(|unit| unit.group.is_some());
    let columns = Columns { grouped, usage: args.usage };
    let mut table = Table::new(&columns.titles());
    for unit in &project.units {
        table.row(columns.row(unit, paint));
        for note in notes(unit, paint) {
            table.note(note);
        }
    }
    let title = if args.all {
        format!(
            "{} ({})  {}\n",
            paint.bold(&harmless(&project.name)),
            project.state.as_str(),
            harmless(&project.root.to_string_lossy())
        )
    } else {
        String::new()
    };
    title + &table.render(paint) + &ending(project, paint)
}

/// Why the run ends, or has ended, by itself.
fn ending(project: &ProjectView, paint: Paint) -> String {
    let Some(cause) = &project.cause else { return String::new() };
    let words = if project.run.is_some() { "ends" } else { "has failed" };
    let line = paint.red(&format!("{} {words}: {}", harmless(&project.name), harmless(cause)));
    let unit = project.caused_by.as_deref().map(harmless);
    let hint = unit.map(|unit| format!("  {} `envctl why {unit}` tells more\n", paint.cyan("hint:")));
    format!("{line}\n{}", hint.unwrap_or_default())
}

// === impl Columns ===

impl Columns {
    fn titles(self) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "KIND"];
        titles.extend(self.grouped.then_some("GROUP"));
        titles.extend(["STATE", "READY", "PID", "UPTIME", "RESTARTS"]);
        titles.extend(if self.usage { &["CPU", "MEM"][..] } else { &[] });
        titles.push("PORTS");
        titles
    }

    fn row(self, unit: &UnitView, paint: Paint) -> Vec<Cell> {
        let state = unit.state.as_str();
        let pid = unit.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let mut cells: Vec<Cell> = vec![Cell::from(unit.name.as_str()), Cell::from(unit.kind.as_str())];
        cells.extend(self.grouped.then(|| Cell::from(unit.group.as_deref().unwrap_or_default())));
        cells.extend([
            Cell::painted(state, paint.state(unit.state, state)),
            Cell::from(if unit.ready { "yes" } else { "no" }),
            Cell::from(pid),
            Cell::from(uptime(unit)),
            Cell::from(unit.restarts.to_string()),
        ]);
        if self.usage {
            cells.push(Cell::from(unit.cpu_ms.map(|ms| format!("{:.1}s", ms as f64 / 1000.0)).unwrap_or_default()));
            cells.push(Cell::from(unit.memory.map(size).unwrap_or_default()));
        }
        cells.push(Cell::from(unit.ports.iter().map(port_text).collect::<Vec<_>>().join(",")));
        cells
    }
}

fn port_text(port: &envctl_runtime::control::view::PortView) -> String {
    if port.name == "port" { port.port.to_string() } else { format!("{}={}", port.name, port.port) }
}

fn notes(unit: &UnitView, paint: Paint) -> Vec<String> {
    let mut notes = Vec::new();
    if !as_desired(unit) {
        let waits = (!unit.blocked_by.is_empty()).then(|| format!("waits for {}", unit.blocked_by.join(", ")));
        let cause = told(unit.cause.as_deref()).map(|cause| harmless(cause).into_owned());
        notes.extend(cause.or(waits).map(|text| paint.yellow(&text)));
        notes.extend(unit.hint.as_deref().map(|hint| format!("{} {}", paint.cyan("hint:"), harmless(hint))));
    }
    if !unit.escaped.is_empty() {
        notes.push(paint.red(&format!(
            "could not be ended: pid {}",
            unit.escaped.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    notes
}

/// How long a live unit has been in its state.
fn uptime(unit: &UnitView) -> String {
    let live = unit.pid.is_some();
    let Ok(since) = unit.since.parse::<jiff::Timestamp>() else { return String::new() };
    if !live {
        return String::new();
    }
    span((jiff::Timestamp::now().as_second() - since.as_second()).max(0).unsigned_abs())
}

/// `12s`, `3m05s`, `2h07m`, `4d02h`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes < 10 * MIB { format!("{}K", bytes / 1024) } else { format!("{}M", bytes / MIB) }
}

#[cfg(test)]
mod tests;
