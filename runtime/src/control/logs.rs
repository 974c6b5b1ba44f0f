//! Requests about units' logs. Their bytes never come here: followers read the files, and are told when to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use envctl_actors::log_stream::Length;
use futures::future::{join_all, select_all};
use tokio::sync::watch;

use super::handlers::{Handlers, Outbox, ask, body, end, failed, item};
use super::wire::{ClearLogs, ClearLogsReply, Frame, LogsGrown, Refusal, WatchLogs};
use crate::project::supervisor::ProjectMessage;

/// How long the next word to a follower is held back for each follower there is: together they are told at most 4,000 times a
/// second. Each word wakes a process that reads and prints, which costs more than the word.
const WORD_PAUSE: Duration = Duration::from_micros(250);
/// And at least so long: whoever reads what has come meanwhile reads more at once.
const WORD_PAUSE_MIN: Duration = Duration::from_millis(2);

/// Counts a follower while it lives.
struct Counted(Arc<AtomicUsize>);

// === impl Handlers ===

impl Handlers {
    pub(super) async fn watch_logs(&self, frame: &Frame, outbox: &Outbox) -> Result<(), Refusal> {
        let request: WatchLogs = body(frame)?;
        let project = self.must_find(&request.project).await?;
        let units = request.units;
        let mut lengths = ask(&project.actor, |reply| ProjectMessage::Logs(units, reply)).await??;
        let counted = Counted::new(&self.log_followers);
        item(frame, outbox, &LogsGrown { live: !lengths.is_empty() }).await?;
        while !lengths.is_empty() {
            tokio::time::sleep(counted.pause()).await;
            let grown = join_any(&mut lengths).await;
            item(frame, outbox, &LogsGrown { live: grown }).await?;
        }
        end(frame, outbox).await
    }

    pub(super) async fn clear_logs(&self, request: ClearLogs) -> Result<ClearLogsReply, Refusal> {
        let project = self.must_find(&request.project).await?;
        let streams = ask(&project.actor, |reply| ProjectMessage::LogStreams(request.units, reply)).await??;
        let clear = streams.into_iter().map(|(unit, log)| async move {
            let cleared = log.clear().await;
            cleared
                .map(|bytes| (unit.to_string(), bytes))
                .map_err(|error| failed(format!("clear the log of {unit}: {error}")))
        });
        let cleared: Result<Vec<_>, Refusal> = join_all(clear).await.into_iter().collect();
        Ok(ClearLogsReply { cleared: cleared? })
    }
}

/// Waits until any of the logs has grown; forgets those that have ended. `false`: none is left.
async fn join_any(lengths: &mut Vec<watch::Receiver<Length>>) -> bool {
    while !lengths.is_empty() {
        let waits = lengths.iter_mut().map(|length| Box::pin(length.changed()));
        let (changed, at, _) = select_all(waits).await;
        if changed.is_ok() {
            return true;
        }
        lengths.remove(at);
    }
    false
}

// === impl Counted ===

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    fn pause(&self) -> Duration {
        let followers = u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        WORD_PAUSE.saturating_mul(followers).max(WORD_PAUSE_MIN)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
