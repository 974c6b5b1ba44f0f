//! `envctl ps`.

mod logs;
mod usage;
mod watch;

use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::{ProjectRef, Ps};
use serde::Serialize;

use crate::context::{Context, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::color::Paint;
use crate::output::table::{Cell, Table};
use crate::output::{harmless, told};
pub(crate) use usage::size;
use usage::{Shares, cpu_time};

/// Show units: state, readiness, pid, uptime, restarts, cpu, memory, ports
///
/// CPU and MEM are those of a unit's whole process tree. CPU is the time used since the unit's process began; with --watch it is the share of one core used since the last look (the first time: since the process began). MEM is resident memory, pages that processes share counted in each. UPTIME is the age of the unit's process. In --json these are `cpu_ms`, `memory` (bytes) and `uptime_ms`, all null for a unit that does not run. Where output is no terminal, --watch prints a table per look, with --json a line.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Show all projects of the session
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Exit 1 if a unit is not as it should be
    #[arg(long, conflicts_with = "watch")]
    pub(crate) check: bool,

    /// Without cpu and memory, which take a look at every process of the machine
    #[arg(long, conflicts_with = "watch")]
    pub(crate) no_usage: bool,

    /// Look again and again, until Ctrl-C or `q`
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval, requires = "watch")]
    pub(crate) interval: Duration,
}

/// What is looked at.
#[derive(Debug)]
enum Scope {
    /// All projects of the session.
    All,
    /// One of them.
    One(Box<Target>),
}

/// What a look has seen.
#[derive(Debug)]
struct Seen {
    /// The daemon that was asked, if one runs.
    client: Option<Client>,
    projects: Vec<ProjectView>,
}

/// How a table is made.
#[derive(Debug, Clone, Copy)]
struct Look<'a> {
    /// With a heading for each project.
    titled: bool,
    /// With what units use.
    usage: bool,
    /// Shares of a core instead of cpu time.
    shares: Option<&'a Shares>,
    paint: Paint,
}

#[derive(Serialize)]
struct Body<'a> {
    session: &'a str,
    projects: &'a [ProjectView],
}

/// Between two looks; below it looking would be most of what is seen.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    if args.watch {
        let scope = Scope::of(context, args.all).await?;
        return watch::run(context, &scope, args.interval).await;
    }
    let projects = look(context, args).await?;
    let is_fine = |project: &ProjectView| project.cause.is_none() && project.units.iter().all(as_desired);
    let fine = !args.check || (!projects.is_empty() && projects.iter().all(is_fine));
    if context.output.json {
        if args.all {
            logs::show_json(context, fine, &projects)?;
        } else {
            show_json(context, fine, &projects)?;
        }
        return Ok(Exit::ok_if(fine));
    }
    let look = Look { titled: args.all, usage: !args.no_usage, shares: None, paint: context.output.data };
    context.output.write(&render_all(&projects, look))?;
    if projects.is_empty() {
        context.output.say(NOTHING_UP);
        context.output.hint("`envctl up` starts the project here; `envctl ps --all` shows the others");
    }
    Ok(Exit::ok_if(fine))
}

/// Looks once.
async fn look(context: &Context, args: Args) -> Result<Vec<ProjectView>, CliError> {
    let usage = !args.no_usage;
    if !args.all
        && let Some(project) = context.view_of_here(usage).await?
    {
        return Ok(vec![project]);
    }
    let scope = Scope::of(context, args.all).await?;
    Ok(scope.look(context, None, usage).await?.projects)
}

/// What the daemon knows of a project, or of all.
async fn ask(client: &Client, project: Option<ProjectRef>, usage: bool) -> Result<Vec<ProjectView>, ClientError> {
    match client.request(Ps { project, usage }).await {
        Ok(reply) => Ok(reply.projects),
        Err(ClientError::Refused(refusal)) if refusal.code == "not-found" => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What is said where there is no project to show.
const NOTHING_UP: &str = "nothing is up";

fn show_json(context: &Context, fine: bool, projects: &[ProjectView]) -> Result<(), CliError> {
    let session = context.session().as_str();
    context.output.object("ps", fine, &Body { session, projects })
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = crate::args::duration(text)?;
    if interval < INTERVAL_MIN {
        return Err(format!("looks are at least {}ms apart", INTERVAL_MIN.as_millis()));
    }
    Ok(interval)
}

// === impl Scope ===

impl Scope {
    async fn of(context: &Context, all: bool) -> Result<Self, CliError> {
        if all { Ok(Self::All) } else { context.locate().await.map(|target| Self::One(Box::new(target))) }
    }

    /// Looks once, if wanted with what units use. Asks `client` first, if it still answers; else the daemon, which is
    /// started only where a run is to be taken over.
    async fn look(&self, context: &Context, client: Option<Client>, usage: bool) -> Result<Seen, CliError> {
        if let Some(client) = client {
            match ask(&client, self.reference(), usage).await {
                Err(ClientError::Lost) => {}
                answer => return self.seen(context, Some(client), answer?),
            }
        }
        let client = match self {
            Self::All => context.running_daemon().await?,
            Self::One(target) => context.reading_daemon(&context.target_places(target)?).await?,
        };
        let projects = match &client {
            Some(client) => ask(client, self.reference(), usage).await?,
            None => Vec::new(),
        };
        self.seen(context, client, projects)
    }

    /// How requests name it.
    fn reference(&self) -> Option<ProjectRef> {
        match self {
            Self::All => None,
            Self::One(target) => Some(target.reference.clone()),
        }
    }

    fn seen(&self, context: &Context, client: Option<Client>, projects: Vec<ProjectView>) -> Result<Seen, CliError> {
        match self {
            Self::One(target) if projects.is_empty() => Ok(Seen { client, projects: recorded(context, target)? }),
            Self::One(_) | Self::All => Ok(Seen { client, projects }),
        }
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

fn render_all(projects: &[ProjectView], look: Look<'_>) -> String {
    projects.iter().map(|project| render(project, look)).collect::<Vec<_>>().join("\n")
}

/// One project as a table, with the cause under what is not well.
fn render(project: &ProjectView, look: Look<'_>) -> String {
    let paint = look.paint;
    let grouped = project.units.iter().any(|unit| unit.group.is_some());
    let mut table = Table::new(&titles(grouped, look.usage));
    for unit in &project.units {
        let cpu = match look.shares {
            Some(shares) => shares.of(project, unit),
            None => unit.cpu_ms.map(cpu_time),
        };
        table.row(row(unit, (grouped, look.usage), cpu, paint));
        for note in notes(unit, paint) {
            table.note(note);
        }
    }
    let title = if look.titled {
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

/// The headings; groups have a column as soon as a unit has one.
fn titles(grouped: bool, usage: bool) -> Vec<&'static str> {
    let mut titles = vec!["NAME", "KIND"];
    titles.extend(grouped.then_some("GROUP"));
    titles.extend(["STATE", "READY", "PID", "UPTIME", "RESTARTS"]);
    titles.extend(["CPU", "MEM"].into_iter().filter(|_| usage));
    titles.push("PORTS");
    titles
}

fn row(unit: &UnitView, (grouped, usage): (bool, bool), cpu: Option<String>, paint: Paint) -> Vec<Cell> {
    let state = unit.state.as_str();
    // The last is the one that others talk to.
    let container = || unit.containers.last().map(|id| harmless(id).into_owned());
    let pid = unit.pid.map(|pid| pid.to_string()).or_else(container).unwrap_or_default();
    let ports: Vec<String> = unit.ports.iter().map(port_text).collect();
    let mut cells: Vec<Cell> = vec![Cell::from(unit.name.as_str()), Cell::from(kind_text(unit))];
    cells.extend(grouped.then(|| Cell::from(unit.group.as_deref().unwrap_or_default())));
    cells.extend([
        Cell::painted(state, paint.state(unit.state, state)),
        Cell::from(if unit.ready { "yes" } else { "no" }),
        Cell::from(pid),
        Cell::from(uptime(unit)),
        Cell::from(unit.restarts.to_string()),
    ]);
    if usage {
        cells.extend([cpu.unwrap_or_default(), unit.memory.map(size).unwrap_or_default()].map(Cell::from));
    }
    cells.push(Cell::from(ports.join(",")));
    cells
}

/// A requirement that is not run by envctl itself says so.
fn kind_text(unit: &UnitView) -> &str {
    match unit.driver.as_deref() {
        Some(driver @ ("external" | "container" | "shared")) => driver,
        _ => unit.kind.as_str(),
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

/// How old the unit's process is. Where nobody has measured it: how long the unit has been in its state.
fn uptime(unit: &UnitView) -> String {
    let in_state = || {
        let since = unit.since.parse::<jiff::Timestamp>().ok()?;
        Some((jiff::Timestamp::now().as_second() - since.as_second()).max(0).unsigned_abs())
    };
    let live = unit.pid.is_some() || !unit.containers.is_empty();
    let seconds = live.then(|| unit.uptime_ms.map(|ms| ms / 1000).or_else(in_state)).flatten();
    seconds.map(span).unwrap_or_default()
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

#[cfg(test)]
mod tests;
