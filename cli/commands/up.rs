//! `envctl up`: the main job.
//!
//! ```text
//! config ─▶ daemon ─▶ Up ─▶ detach: say so, done
//!                        ├▶ --wait: WatchProject until settled, failed or over time
//!                        └▶ foreground: WatchProject + WatchLogs + signals, until all ended or Ctrl-C
//! ```

mod foreground;
mod init;
pub(crate) mod settle;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use envctl_actors::process::end::gone;
use envctl_actors::process::identity::Identity;
use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::ProjectView;
use envctl_runtime::control::wire::{Ps, Up, UpReply};
use envctl_runtime::explain::closure;
use indexmap::IndexSet;
use serde::Serialize;

use self::settle::Counts;
use crate::args::duration;
use crate::context::{Context, Project};
use crate::environment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::logs::Tail;

/// Daemons asked in turn, while each of them is ending.
const DAEMONS_MAX: u32 = 5;
/// How long an ending daemon may take to be gone.
const ENDING_WITHIN: Duration = Duration::from_secs(15);

/// Start the project, or units of it with what they need, and follow their logs
///
/// Ctrl-C stops what this command started, a second one kills it. A project that is up already is joined: its run goes on when this command ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,

    /// Return as soon as the start is under way
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Return when everything is ready (tasks: done), or with 1 at the first unit that cannot come up
    #[arg(long)]
    pub(crate) wait: bool,

    /// Give up waiting after this time, with 124 (implies --wait)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait_timeout: Option<Duration>,

    /// Count the failure of a unit that is not critical as one too
    #[arg(long)]
    pub(crate) strict: bool,

    /// Start only the named units, not what they need
    #[arg(long, requires = "units")]
    pub(crate) no_deps: bool,
}

/// An `up` that has been accepted.
#[derive(Debug)]
pub(crate) struct Started {
    /// The project.
    pub(crate) project: Project,
    /// The daemon.
    pub(crate) client: Client,
    /// Its answer.
    pub(crate) reply: UpReply,
    /// The units this `up` is about: the named ones and what they need.
    pub(crate) scope: IndexSet<String>,
    /// Where their logs are.
    pub(crate) logs: Vec<(String, PathBuf)>,
    /// Which failures count.
    pub(crate) counts: Counts,
}

#[derive(Serialize)]
struct Body<'a> {
    project: &'a str,
    run: &'a str,
    joined: bool,
    started: &'a [String],
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    // Everything that is wrong with the configuration is said before anything is started.
    let project = context.load()?;
    let named = project.check_units(&args.units)?;
    super::trust::require(context, &project)?;
    let scope: IndexSet<String> =
        closure(&project.loaded.spec, &named, args.no_deps).iter().map(ToString::to_string).collect();
    let places = context.project_places(&project.loaded.spec.root, project.name())?;
    let logs = super::logs::directories(&places, &scope);
    let foreground = !args.detach && !args.wait && args.wait_timeout.is_none();
    if foreground && context.output.json {
        return Err(CliError::new("usage", "`up --json` needs --detach or --wait")
            .hint("`envctl logs -f --json` streams the logs"));
    }
    // From before the start, so that no line is missed.
    let tail = foreground.then(|| Tail::from_now(&logs)).transpose()?;
    let mut signals = foreground::Signals::new()?;
    let request = Up {
        project: project.reference(),
        file: project.file.clone(),
        user_config: context.user_config(),
        units: args.units,
        no_deps: args.no_deps,
        environment: environment::whole().map(bytes).collect(),
    };
    let (client, before, mut reply) = tokio::select! {
        asked = Box::pin(ask(context, request)) => asked?,
        () = signals.twice() => return Ok(Exit::Interrupted),
    };
    reply.started = settle::set_in_motion(before.as_ref(), &reply, &scope);
    let counts = if args.strict { Counts::All } else { Counts::Critical };
    let started = Started { project, client, reply, scope, logs, counts };
    match tail {
        Some(tail) if init::is_init() => init::follow(context, started, tail, signals).await,
        Some(tail) => foreground::follow(context, started, tail, &mut signals).await,
        None if args.wait || args.wait_timeout.is_some() => {
            waiting::wait(context, started, args.wait_timeout, signals).await
        }
        None => tell(context, &started, Exit::Ok, &said(&started.reply)),
    }
}

/// Asks the daemon. One that is just ending, or that dies before it has answered, is followed by another; asking twice does
/// no harm, for the second `up` joins what the first began. With what ran right before.
async fn ask(context: &Context, request: Up) -> Result<(Client, Option<ProjectView>, UpReply), CliError> {
    for _ in 1..DAEMONS_MAX {
        let client = context.daemon().await?;
        let before = match client.request(Ps { project: Some(request.project.clone()), usage: false }).await {
            Ok(reply) => reply.projects.into_iter().next(),
            // What is wrong is told by the answer to the request itself.
            Err(_) => None,
        };
        match client.request(request.clone()).await {
            Err(ClientError::Lost) => {}
            Err(ClientError::Refused(refusal)) if refusal.code == "shutting-down" => {
                let ending = client.peer_pid().and_then(Identity::of);
                gone(ending.into_iter().collect(), ENDING_WITHIN).await;
            }
            reply => return Ok((client, before, reply?)),
        }
    }
    let client = context.daemon().await?;
    let reply = client.request(request).await?;
    Ok((client, None, reply))
}

/// Tells what was started, as the last word of a command that leaves it running.
fn tell(context: &Context, started: &Started, exit: Exit, words: &str) -> Result<Exit, CliError> {
    let UpReply { project, run, joined, started: units } = &started.reply;
    if context.output.json {
        context.output.object("up", exit == Exit::Ok, &Body { project, run, joined: *joined, started: units })?;
    } else {
        context.output.say(words);
    }
    Ok(exit)
}

fn said(reply: &UpReply) -> String {
    let UpReply { project, started, joined, .. } = reply;
    match (joined, started.is_empty()) {
        (true, true) => format!("{project} is up already, nothing to start"),
        (true, false) => format!("joined the run of {project}, starting {}", started.join(", ")),
        (false, _) => format!("starting {project}: {}", started.join(", ")),
    }
}

fn bytes<A: From<Vec<u8>>, B: From<Vec<u8>>>(pair: (std::ffi::OsString, std::ffi::OsString)) -> (A, B) {
    use std::os::unix::ffi::OsStringExt as _;
    (pair.0.into_vec().into(), pair.1.into_vec().into())
}

// === impl Args ===

impl Args {
    /// `up -d` of these units.
    pub(crate) fn detached(units: Vec<String>) -> Self {
        Self { units, detach: true, wait: false, wait_timeout: None, strict: false, no_deps: false }
    }
}
