//! Following a journal: what is in the file, then what comes, without a gap and without an event twice.
//!
//! A follower is a cursor. While it keeps up it takes events from the broadcast; when it was too slow it has lost nothing,
//! because the file has everything: it reads on there and comes back. So a slow follower costs the writer nothing.

use std::collections::VecDeque;
use std::path::Path;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::read::EventReader;
use crate::control::view::EventView;

/// Events read from the file at a time.
const BATCH_EVENTS: usize = 256;

/// One reader of a project's events; see [`super::Journal::follow`].
#[derive(Debug)]
pub struct Follower {
    /// `None` while a read is under way elsewhere, or after one failed.
    reader: Option<EventReader>,
    /// The read under way. Kept here, so that a caller may drop [`Follower::next`] and call it again.
    reading: Option<JoinHandle<(EventReader, Vec<EventView>)>>,
    live: broadcast::Receiver<EventView>,
    pending: VecDeque<EventView>,
    /// Number of the last event handed out.
    cursor: u64,
    /// Whether the file may have events that the broadcast has not.
    behind: bool,
    lagged: u64,
}

// === impl Follower ===

impl Follower {
    /// Follows `path` from after event `after`. `live` must have been subscribed before this call, so that the end of the
    /// file and the beginning of the broadcast overlap.
    pub(super) fn new(path: &Path, live: broadcast::Receiver<EventView>, after: u64) -> std::io::Result<Self> {
        Ok(Self {
            reader: Some(EventReader::open(path)?),
            reading: None,
            live,
            pending: VecDeque::new(),
            cursor: after,
            behind: true,
            lagged: 0,
        })
    }

    /// The next event; `None` when the project's journal is closed and everything was handed out. Cancel-safe.
    pub async fn next(&mut self) -> Option<EventView> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                if let Some(event) = self.pass(event) {
                    return Some(event);
                }
            } else if self.behind {
                self.read_on().await;
            } else {
                match self.live.recv().await {
                    Ok(event) => self.pending.push_back(event),
                    Err(RecvError::Lagged(missed)) => {
                        self.lagged += missed;
                        self.behind = true;
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    /// How many events were fetched from the file because this follower was too slow.
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// The event, unless it was handed out before.
    fn pass(&mut self, event: EventView) -> Option<EventView> {
        if event.seq <= self.cursor {
            return None;
        }
        self.cursor = event.seq;
        Some(event)
    }

    async fn read_on(&mut self) {
        if self.reading.is_none() {
            let Some(reader) = self.reader.take() else {
                // The file cannot be read any more: what is live is all there is.
                self.behind = false;
                return;
            };
            self.reading = Some(tokio::task::spawn_blocking(move || read_batch(reader)));
        }
        let Some(reading) = self.reading.as_mut() else { return };
        let result = reading.await;
        self.reading = None;
        match result {
            Ok((reader, batch)) => {
                self.behind = batch.len() == BATCH_EVENTS;
                self.pending.extend(batch);
                self.reader = Some(reader);
            }
            Err(error) => {
                tracing::warn!(%error, "a journal cannot be read on");
                self.behind = false;
            }
        }
    }
}

fn read_batch(mut reader: EventReader) -> (EventReader, Vec<EventView>) {
    let batch = reader.batch(BATCH_EVENTS).unwrap_or_else(|error| {
        tracing::warn!(%error, "a journal cannot be read");
        Vec::new()
    });
    (reader, batch)
}
