//! `envctl daemon upgrade`: another program in the daemon's place, units untouched.

use std::path::PathBuf;
use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::{DaemonView, UpgradeOutcome, UpgradeView};
use envctl_runtime::control::wire::{DaemonStatus, DaemonUpgrade, DaemonUpgradeReply};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// How long the daemon and its successor may take together. Heart gives the new program 10 s before it rescues.
const WITHIN: Duration = Duration::from_secs(30);
/// How long one daemon may take to greet: a new program that hangs holds the socket until heart ends it.
const GREETS_WITHIN: Duration = Duration::from_secs(2);
/// Pause between attempts while heart brings a daemon back: its socket is not there yet, and nothing tells when it will be.
const RETRY: Duration = Duration::from_millis(5);

/// Replace the daemon by this envctl, or another one; units run on untouched
///
/// The new program first proves that it can take over; if it cannot, nothing happens. If it then fails to serve, the daemon of before is started again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program to take over, instead of this one
    #[arg(long, value_name = "PATH")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body<'a> {
    was_running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<&'a UpgradeView>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let program = program(context, args.to)?;
    let Some(client) = context.connect().await? else {
        if context.output.json {
            context.output.object("daemon-upgrade", true, &Body { was_running: false, pid: None, upgrade: None })?;
        } else {
            let session = context.session();
            context
                .output
                .say(&format!("no daemon runs for session {session}: the next command starts one of its own build"));
        }
        return Ok(Exit::Ok);
    };
    let reply = client.request(DaemonUpgrade { program }).await.map_err(refused)?;
    let daemon = successor(context, client, &reply).await?;
    match &daemon.upgrade {
        Some(upgrade) if upgrade.id == reply.id && upgrade.outcome == UpgradeOutcome::Failed => Err(failed(upgrade)),
        upgrade => tell(context, &daemon, upgrade.as_ref(), &reply),
    }
}

/// The daemon after the upgrade: the new one, or the one of before that was rescued.
async fn successor(context: &Context, before: Client, reply: &DaemonUpgradeReply) -> Result<DaemonView, CliError> {
    let until = Instant::now() + WITHIN;
    let nobody = |_| {
        CliError::new("daemon", format!("no daemon answered within {} s of the upgrade", WITHIN.as_secs())).hint(
            "units run on; `envctl daemon logs` tells more, and the next command starts a daemon if there is none",
        )
    };
    timeout_at(until, before.closed()).await.map_err(nobody)?;
    drop(before);
    let socket = context.socket()?;
    let asked = async {
        loop {
            let answered = match Client::connect(&socket, GREETS_WITHIN).await {
                Ok(client) => client.request(DaemonStatus {}).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(daemon) if is_settled(&daemon, reply) => return Ok(daemon),
                Ok(_) | Err(ClientError::Lost | ClientError::NotRunning { .. } | ClientError::Hung { .. }) => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    timeout_at(until, asked).await.map_err(nobody)?
}

/// Whether the answer comes from a daemon that knows how it went. A daemon that knows nothing of it is a later one.
fn is_settled(daemon: &DaemonView, reply: &DaemonUpgradeReply) -> bool {
    let is_ours = |last: &&UpgradeView| last.id == reply.id;
    daemon.upgrade.as_ref().filter(is_ours).is_none_or(|last| last.outcome != UpgradeOutcome::Begun)
}

fn tell(
    context: &Context,
    daemon: &DaemonView,
    upgrade: Option<&UpgradeView>,
    reply: &DaemonUpgradeReply,
) -> Result<Exit, CliError> {
    if context.output.json {
        let body = Body { was_running: true, pid: Some(daemon.pid), upgrade };
        context.output.object("daemon-upgrade", true, &body)?;
    } else {
        let DaemonUpgradeReply { from, to, .. } = reply;
        let (from, to) = (harmless(from), harmless(to));
        let program = daemon.program.iter().map(|program| format!(" ({})", program.display())).collect::<String>();
        context.output.say(&format!("the daemon was upgraded from {from} to {to}{program}; units run on"));
    }
    Ok(Exit::Ok)
}

/// The program that is to take over, as a path that means the same to the daemon.
fn program(context: &Context, named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let is_named = named.is_some();
    let program = match named {
        Some(named) => context.start().join(named),
        None => std::env::current_exe()?,
    };
    let hint = if is_named {
        "--to takes the path of an envctl"
    } else {
        "its file has been replaced: run the new one, or name it with --to PATH"
    };
    let cannot =
        |why: String| CliError::new("usage", format!("{} cannot take over: {why}", program.display())).hint(hint);
    let real = std::fs::canonicalize(&program).map_err(|error| cannot(error.to_string()))?;
    if !real.is_file() {
        return Err(cannot("it is no program".to_owned()));
    }
    // The name is kept: a link that is changed later is still a link.
    Ok(program)
}

fn refused(error: ClientError) -> CliError {
    match error {
        ClientError::Refused(refusal) if refusal.code == "unsupported" => CliError::new("daemon", refusal.message)
            .hint("it is too old to be upgraded in place: `envctl daemon stop` stops the units too, then `envctl up`"),
        error => error.into(),
    }
}

fn failed(upgrade: &UpgradeView) -> CliError {
    let why = upgrade.error.as_deref().unwrap_or("nobody knows why");
    CliError::new("daemon", format!("the upgrade to {} failed: {why}", upgrade.program.display()))
        .hint("the daemon of before serves on and nothing was lost; `envctl daemon logs` tells what the new one said")
}

/// The last upgrade in one line, for `daemon status`.
pub(super) fn told(last: &UpgradeView) -> String {
    let UpgradeView { at, program, from, to, outcome, error, .. } = last;
    let (at, program) = (harmless(at), program.display());
    match outcome {
        UpgradeOutcome::Done => format!("{at} from {} to {}", harmless(from), harmless(to)),
        UpgradeOutcome::Begun => format!("{at} to {program}, under way"),
        UpgradeOutcome::Failed => {
            format!("{at} to {program} failed: {}", harmless(error.as_deref().unwrap_or("nobody knows why")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(outcome: UpgradeOutcome, error: Option<&str>) -> UpgradeView {
        UpgradeView {
            id: "x".into(),
            at: "2026-01-01T00:00:00Z".into(),
            program: "/new".into(),
            from: "1".into(),
            to: "2".into(),
            outcome,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn status_tells_when_and_how_the_last_upgrade_went() {
        assert_eq!(told(&upgrade(UpgradeOutcome::Done, None)), "2026-01-01T00:00:00Z from 1 to 2");
        let failed = told(&upgrade(UpgradeOutcome::Failed, Some("it ended")));
        assert_eq!(failed, "2026-01-01T00:00:00Z to /new failed: it ended");
    }

    #[test]
    fn a_failed_upgrade_says_what_is_left() {
        let error = failed(&upgrade(UpgradeOutcome::Failed, Some("it ended with exit code 3 before it served")));
        assert_eq!(error.message, "the upgrade to /new failed: it ended with exit code 3 before it served");
        assert!(error.exit == Exit::Act && error.hint.unwrap().contains("nothing was lost"));
    }
}
