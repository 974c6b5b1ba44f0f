//! Who waits for which answer, and the two tasks that carry frames between them and the socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ClientError;
use super::connect::{Reading, Writing};
use crate::control::frame::{self, KIND_ITEM};
use crate::control::wire::Frame;

/// Who waits for which id.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    table: Mutex<Table>,
    /// Nothing more will come.
    pub(super) over: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    by_id: HashMap<u64, Waiter>,
}

/// What somebody waits for.
#[derive(Debug)]
pub(super) enum Waiter {
    Reply(oneshot::Sender<Frame>),
    Items(mpsc::Sender<Frame>),
}

/// Takes its entry away when whoever asked waits no more.
pub(super) struct Forget<'a> {
    pub(super) id: u64,
    pub(super) waiting: &'a Waiting,
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn add(&self, id: u64, waiter: Waiter) -> Result<(), ClientError> {
        let mut table = self.lock();
        if table.closed {
            return Err(ClientError::Lost);
        }
        table.by_id.insert(id, waiter);
        Ok(())
    }

    pub(super) fn take(&self, id: u64) -> Option<Waiter> {
        self.lock().by_id.remove(&id)
    }

    /// Everybody waiting learns that nothing more will come.
    fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        table.by_id.clear();
        self.over.cancel();
    }

    /// Who gets a frame: a reply's waiter and an ended stream leave the table.
    fn addressee(&self, frame: &Frame) -> Option<Waiter> {
        let mut table = self.lock();
        match table.by_id.get(&frame.id)? {
            Waiter::Items(items) if frame.kind == KIND_ITEM => Some(Waiter::Items(items.clone())),
            Waiter::Items(_) | Waiter::Reply(_) => table.by_id.remove(&frame.id),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.take(self.id);
    }
}

/// Writes what is queued, until nobody can queue any more or the daemon has gone.
pub(super) async fn write_frames<S: AsyncWrite>(mut writing: Writing<S>, mut queued: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queued.recv().await {
        if writing.send(bytes).await.is_err() {
            // The reader sees the same end and tells everybody.
            return;
        }
    }
}

/// Gives each frame to whoever waits for it, until the daemon has gone.
pub(super) async fn read_frames<S: AsyncRead>(mut reading: Reading<S>, waiting: Arc<Waiting>) {
    // An abort of this task must not leave anybody waiting either.
    let closing = Closing(&waiting);
    while let Some(Ok(bytes)) = reading.next().await {
        let Ok(frame) = frame::decode_frame(&bytes) else { break };
        match waiting.addressee(&frame) {
            Some(Waiter::Reply(answer)) => drop(answer.send(frame)),
            Some(Waiter::Items(items)) => drop(items.send(frame).await),
            // A subscription dropped a moment ago, or a newer daemon's idea: not ours to judge.
            None => {}
        }
    }
    drop(closing);
}

/// Tells everybody that nothing more will come.
struct Closing<'a>(&'a Waiting);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
