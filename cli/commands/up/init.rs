//! A foreground `up` as process 1 of a container: it collects orphans, and takes the daemon along when it ends.
//!
//! Whatever nobody waits for ends up as a child of process 1, and stays a zombie unless it is collected. When process 1 ends
//! the kernel kills everything else, so the daemon is stopped in order before.

use std::time::Duration;

use envctl_actors::process::end::gone;
use envctl_actors::process::heart::orphans::Offspring;
use envctl_actors::process::sys::child;
use envctl_runtime::control::wire::DaemonStop;
use tokio::signal::unix::{SignalKind, signal};

use super::super::daemon::inner_processes;
use super::Started;
use super::foreground::{self, Signals};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::logs::Tail;

/// How long the daemon may take to end once its units are down.
const DAEMON_WITHIN: Duration = Duration::from_secs(10);

/// Whether we are process 1.
pub(super) fn is_init() -> bool {
    std::process::id() == 1
}

/// Follows a start to its end, as process 1.
pub(super) async fn follow(
    context: &Context,
    started: Started,
    tail: Tail,
    mut signals: Signals,
) -> Result<Exit, CliError> {
    let exit = reaping(Box::pin(foreground::follow(context, started, tail, &mut signals))).await??;
    Ok(finish(context, exit, signals.first()).await)
}

/// Does `work` and collects dead children meanwhile.
async fn reaping<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let mut deaths = signal(SignalKind::child())?;
    tokio::pin!(work);
    loop {
        reap();
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            _ = deaths.recv() => {}
        }
    }
}

/// Ends the daemon in order. An `up` that was told to end by a signal says which, as every process 1 does.
async fn finish(context: &Context, exit: Exit, signal: Option<u8>) -> Exit {
    // One that hangs is killed by the kernel with us.
    let _ = tokio::time::timeout(DAEMON_WITHIN, end_daemon(context)).await;
    reap();
    match (exit, signal) {
        (Exit::Interrupted, Some(signal)) => Exit::Signalled(signal),
        (exit, _) => exit,
    }
}

async fn end_daemon(context: &Context) -> Result<(), CliError> {
    let Some(client) = context.running_daemon().await? else { return Ok(()) };
    let processes = inner_processes(&client).await?;
    client.request(DaemonStop {}).await?;
    // Its answer comes before it has put everything away.
    gone(processes, DAEMON_WITHIN).await;
    Ok(())
}

/// By number, never by "whoever has ended": statuses that others wait for are not ours to take, and we start nothing but
/// the daemon's parent, which nobody waits for.
fn reap() {
    for pid in Offspring::default().all().unwrap_or_default() {
        let _ = child::reap(pid);
    }
}
