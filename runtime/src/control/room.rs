//! How many clients a session has room for, and who has to do without when there is little left: those who stay, never those
//! who ask.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wire::{FollowEvents, Refusal, Subscribe as _, WatchLogs};

/// Connections at once, however many files may be open: each takes some 22 KB of the daemon's memory (measured with a thousand that follow a log).
const CONNECTIONS_MAX: u64 = 16_384;
/// Of every eight files that may be open so many may be connections; the others are logs, timers and what units need.
const OF_EIGHT: u64 = 5;
/// Where a limit of open files cannot be read: what is common.
const OPEN_FILES: u64 = 1024;
/// Connections that whoever follows a log or the events must leave free.
const FOR_QUESTIONS: usize = 64;

/// Room for clients.
#[derive(Debug, Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    size: usize,
}

// === impl Room ===

impl Room {
    /// As much as the limit of open files allows now.
    pub(super) fn new() -> Self {
        let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES, |(soft, _)| soft);
        Self::of(open_files)
    }

    fn of(open_files: u64) -> Self {
        let connections = (open_files / 8).saturating_mul(OF_EIGHT).clamp(1, CONNECTIONS_MAX);
        let size = usize::try_from(connections).unwrap_or(1);
        Self { free: Arc::new(Semaphore::new(size)), size }
    }

    /// Waits until there is room for one more; it is taken until the permit is dropped. `None`: never again.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Whether a client who is here already may ask for this. Streams without an end are refused where there is little room.
    pub(super) fn admit(&self, kind: &str) -> Result<(), Refusal> {
        let stays = kind == WatchLogs::KIND || kind == FollowEvents::KIND;
        if !stays || self.free.available_permits() >= self.kept() {
            return Ok(());
        }
        Err(Refusal {
            code: "busy".to_owned(),
            message: format!("{} clients are connected, and there is room for no more that stay", self.taken()),
            hint: Some("end some that follow logs or events, or raise the hard limit of open files (`ulimit -Hn`) before the daemon starts".to_owned()),
        })
    }

    fn kept(&self) -> usize {
        FOR_QUESTIONS.min(self.size / 2)
    }

    fn taken(&self) -> usize {
        self.size - self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Ps, Request as _};
    use super::*;

    #[test]
    fn there_is_room_for_what_the_limit_of_open_files_allows() {
        assert_eq!(Room::of(1024).size, 640);
        assert_eq!(Room::of(4096).size, 2560);
        assert_eq!(Room::of(u64::MAX).size, 16_384);
        assert_eq!(Room::of(0).size, 1);
    }

    #[tokio::test]
    async fn whoever_stays_leaves_room_for_those_who_ask() {
        let room = Room::of(256);
        let mut inside = Vec::new();
        while room.admit(WatchLogs::KIND).is_ok() {
            inside.push(room.enter().await.unwrap());
        }
        assert_eq!(inside.len(), 160 - FOR_QUESTIONS + 1, "the one that is refused is connected");
        let refusal = room.admit(FollowEvents::KIND).unwrap_err();
        assert!(refusal.message.contains("97 clients"), "{}", refusal.message);
        assert!(room.admit(Ps::KIND).is_ok());
        inside.pop();
        assert!(room.admit(WatchLogs::KIND).is_ok(), "somebody has left");
    }
}
