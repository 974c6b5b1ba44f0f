//! `envctl daemon`.

mod upgrade;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use envctl_actors::process::end::gone;
use envctl_actors::process::identity::Identity;
use envctl_runtime::control::client::Client;
use envctl_runtime::control::view::DaemonView;
use envctl_runtime::control::wire::{DaemonStatus, DaemonStop, DaemonStopReply};
use serde::Serialize;

use super::{down, ps};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// How much of the end of the daemon's log is read, and as much of the log before.
const LOG_MAX_BYTES: u64 = 1024 * 1024;

/// How long a daemon that has answered may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// The session's daemon: the process behind every command
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Status(StatusArgs),
    Stop(StopArgs),
    Upgrade(upgrade::Args),
    Run(RunArgs),
    Logs(LogsArgs),
}

/// Show the daemon: process, version, uptime, projects, the last upgrade
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {}

/// Stop every project in order, then the daemon
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {}

/// Serve in the foreground
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {}

/// Show the daemon's own log
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<usize>,
}

#[derive(Serialize)]
struct Status {
    running: bool,
    socket: PathBuf,
    #[serde(flatten)]
    daemon: Option<DaemonView>,
}

#[derive(Serialize)]
struct NotRunning {
    running: bool,
    session: String,
    socket: PathBuf,
}

#[derive(Serialize)]
struct Stopped {
    was_running: bool,
    escaped: Vec<(String, Vec<u32>)>,
}

#[derive(Serialize)]
struct LogLine<'a> {
    line: &'a str,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Status(_) => status(context).await,
        Command::Stop(_) => stop(context).await,
        Command::Upgrade(args) => upgrade::run(context, args).await,
        Command::Logs(args) => logs(context, &args),
        Command::Run(_) => Err(CliError::new("failed", "`daemon run` is started without a runtime around it")),
    }
}

/// `daemon run`: becomes the daemon.
pub(crate) fn run_in_foreground(context: &Context) -> Result<Exit, CliError> {
    // A runtime of its own that is gone before the daemon begins.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    if let Some(client) = runtime.block_on(context.running_daemon())? {
        let pid = client.peer_pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let message = format!("a daemon serves session {} already{pid}", context.session());
        return Err(CliError::new("daemon", message).hint("`envctl daemon stop` stops it and what it runs"));
    }
    drop(runtime);
    let code = context.serve_in_foreground()?;
    Ok(Exit::ok_if(code == std::process::ExitCode::SUCCESS))
}

async fn status(context: &Context) -> Result<Exit, CliError> {
    let socket = context.socket()?;
    let Some(client) = context.running_daemon().await? else {
        let session = context.session().to_string();
        if context.output.json {
            context.output.object("daemon-status", true, &NotRunning { running: false, session, socket })?;
        } else {
            context.output.say(&format!("no daemon runs for session {session}"));
        }
        return Ok(Exit::Ok);
    };
    let daemon = client.request(DaemonStatus {}).await?;
    if context.output.json {
        context.output.object("daemon-status", true, &daemon_json(daemon)?)?;
        return Ok(Exit::Ok);
    }
    context.output.write(&text(&daemon))?;
    Ok(Exit::Ok)
}

/// The daemon's own fields with `running` in front; its socket is the one that was asked.
fn daemon_json(daemon: DaemonView) -> Result<serde_json::Map<String, serde_json::Value>, CliError> {
    let socket = daemon.socket.clone();
    let value = serde_json::to_value(Status { running: true, socket, daemon: Some(daemon) })?;
    Ok(value.as_object().cloned().unwrap_or_default())
}

fn text(daemon: &DaemonView) -> String {
    let version =
        daemon.heart_version.as_deref().map(|version| format!(" ({})", harmless(version))).unwrap_or_default();
    let heart = daemon.heart_pid.map_or_else(|| "none".to_owned(), |pid| format!("{pid}{version}"));
    let program = daemon.program.iter().map(|program| format!("program   {}\n", program.display())).collect::<String>();
    let upgrade = daemon.upgrade.iter().map(|last| format!("upgrade   {}\n", upgrade::told(last))).collect::<String>();
    let projects = if daemon.projects.is_empty() { "none".to_owned() } else { daemon.projects.join(", ") };
    format!(
        "session   {}\npid       {}\nheart     {heart}\nversion   {}\n{program}uptime    {}\n{upgrade}socket    {}\nprojects  {}\n",
        harmless(&daemon.session),
        daemon.pid,
        harmless(&daemon.version),
        ps::span(daemon.uptime),
        daemon.socket.display(),
        harmless(&projects),
    )
}

async fn stop(context: &Context) -> Result<Exit, CliError> {
    let (was_running, escaped) = match context.connect().await? {
        Some(client) => {
            let processes = inner_processes(&client).await?;
            let DaemonStopReply { escaped } = client.request(DaemonStop {}).await?;
            // The answer comes before the daemon's last words are on disk; a script may remove the state after this.
            gone(processes, GONE_WITHIN).await;
            (true, escaped)
        }
        None => (false, Vec::new()),
    };
    let problem = down::escaped(&escaped);
    if context.output.json {
        context.output.object("daemon-stop", problem.is_none(), &Stopped { was_running, escaped })?;
    } else {
        context.output.say(if was_running { "the daemon has stopped" } else { "no daemon runs: nothing to stop" });
        if let Some(error) = &problem {
            context.output.error(error);
        }
    }
    Ok(Exit::ok_if(problem.is_none()))
}

/// The daemon and heart.
pub(super) async fn inner_processes(client: &Client) -> Result<Vec<Identity>, CliError> {
    let status = client.request(DaemonStatus {}).await?;
    Ok([Some(status.pid), status.heart_pid].into_iter().flatten().filter_map(Identity::of).collect())
}

fn logs(context: &Context, args: &LogsArgs) -> Result<Exit, CliError> {
    let places = context.places()?;
    let mut text = String::new();
    for path in [places.older_daemon_log(), places.daemon_log()] {
        match end_of(&path) {
            Ok(end) => text.push_str(&end),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::new("io", format!("{} cannot be read: {error}", path.display()))),
        }
    }
    if text.is_empty() {
        context.output.say("the daemon has written nothing yet");
    }
    let lines: Vec<&str> = text.lines().collect();
    let skip = args.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    for line in &lines[skip..] {
        if context.output.json {
            context.output.object("daemon-log", true, &LogLine { line })?;
        } else {
            context.output.line(&harmless(line))?;
        }
    }
    Ok(Exit::Ok)
}

fn end_of(path: &std::path::Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
