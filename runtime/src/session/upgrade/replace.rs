//! The replacement itself: everything is brought to rest in an order that loses nothing, then the exec.
//!
//! There is no way back: whatever fails here ends this process, and heart starts the program of before, which finds everything
//! as after a death. So every wait is bounded, and one that runs out is told and passed over. What can be refused was refused
//! before.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use envctl_actors::process::sys::child;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Descriptors, Order};
use crate::control::gateway::Gateway;
use crate::journal::ProjectKey;
use crate::root::{Parts, Root};
use crate::session::serve::DAEMON_SUBCOMMAND;

/// Time for starts and ends under way. What is not dealt with by then is dealt with by the next program, as after a death.
const CALM_WITHIN: Duration = Duration::from_millis(500);
/// Time for the journal to be on disk.
const SYNC_WITHIN: Duration = Duration::from_secs(5);
/// Connections have this long to take the answers that are there. Nobody is answered from here on.
const CUT_WITHIN: Duration = Duration::from_millis(100);
/// Heart answers in a fraction of a millisecond, or is stopped.
const HEART_WITHIN: Duration = Duration::from_secs(5);
/// Time for what is in the FIFOs to be stored; what is not stays there.
const LOGS_WITHIN: Duration = Duration::from_millis(500);

/// What a session gives up to be replaced.
pub(in crate::session) struct Replaced<'a> {
    pub(in crate::session) root: &'a Root,
    pub(in crate::session) parts: Parts,
    pub(in crate::session) gateway: Gateway,
    pub(in crate::session) tracker: &'a TaskTracker,
    pub(in crate::session) heart: OwnedFd,
}

/// Becomes the new program; returns only with what prevented it.
pub(in crate::session) async fn replace(session: Replaced<'_>, order: Order) -> String {
    let Replaced { root, parts, mut gateway, tracker, heart } = session;
    tracing::info!(program = %order.upgrade.program.display(), "the daemon is replaced");
    if timeout(CALM_WITHIN, parts.processes.calm()).await.is_err() {
        tracing::warn!("a start or an end is still under way: the next daemon deals with it");
    }
    let keys = sync(root, &parts).await;
    let Some(listener) = gateway.hand_over() else { return "the control socket cannot be handed over".to_owned() };
    tracker.close();
    // A client that takes nothing must not hold everybody up.
    let _ = timeout(CUT_WITHIN, tracker.wait()).await;
    if !matches!(timeout(HEART_WITHIN, parts.processes.hand_over(&order.upgrade.program)).await, Ok(Ok(()))) {
        return "heart does not answer".to_owned();
    }
    halt(&parts, keys.first()).await;
    become_program(&order, heart, listener).to_string()
}

/// Everything that was decided is on disk. Gives the projects' keys.
async fn sync(root: &Root, parts: &Parts) -> Vec<ProjectKey> {
    let mut keys = Vec::new();
    for project in root.projects().await.unwrap_or_default() {
        // Answered after everything that the project was told before.
        let Some(key) = project.key().await else { continue };
        if !matches!(timeout(SYNC_WITHIN, parts.journal.sync(&key)).await, Ok(Ok(()))) {
            tracing::warn!(project = %key, "the journal is not on disk yet");
        }
        keys.push(key);
    }
    keys
}

/// The logs come to rest, and the journal's queue is empty.
async fn halt(parts: &Parts, key: Option<&ProjectKey>) {
    let halted = async {
        if let Ok(halted) = parts.pump.halt() {
            let _ = halted.await;
        }
        if let Some(key) = key {
            // Answered after everything that was appended before, of whichever project.
            drop(parts.journal.follow(key, u64::MAX).await);
        }
    };
    if timeout(LOGS_WITHIN, halted).await.is_err() {
        tracing::warn!("the disk stalls: the next daemon stores the rest");
    }
}

fn become_program(order: &Order, heart: OwnedFd, listener: OwnedFd) -> io::Error {
    let argv = match argv(order, &Descriptors { heart: heart.as_raw_fd(), listener: listener.as_raw_fd() }) {
        Ok(argv) => argv,
        Err(error) => return error,
    };
    // Everything else is close-on-exec.
    for kept in [&heart, &listener] {
        if let Err(errno) = fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty())) {
            return errno.into();
        }
    }
    child::exec(&argv[0], &argv, &[])
}

fn argv(order: &Order, descriptors: &Descriptors) -> io::Result<Vec<CString>> {
    let descriptors = serde_json::to_string(descriptors).map_err(io::Error::other)?;
    let mut argv = vec![child::c_string(order.upgrade.program.as_os_str())?, CString::new(DAEMON_SUBCOMMAND)?];
    for arg in order.inner.to_args() {
        argv.push(child::c_string(&arg)?);
    }
    argv.push(CString::new(descriptors)?);
    Ok(argv)
}
