//! Heart's connection: what the table says is written at once where there is room, else by a task; another task hands on what
//! heart says.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ractor::ActorRef;
use tokio::io::AsyncReadExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Message;
use super::gone::KnownGone;
use crate::process::heart::wire::Inbox;

/// Read from heart in one go.
const READ_BYTES: usize = 64 * 1024;

/// Frames waiting for heart; heart reads at once, so a full queue means that it hangs.
const HEART_QUEUE_MAX: usize = 4096;

/// The way to heart. An order is written by whoever gives it: a task in between would be one more on the way of a restart.
#[derive(Debug)]
pub(super) struct Outlet {
    write: Arc<OwnedWriteHalf>,
    /// What the socket had no room for.
    queue: mpsc::Sender<Vec<u8>>,
    /// Frames, or pieces of them, that the task has still to write: nothing may overtake them.
    behind: Arc<AtomicUsize>,
    gone: KnownGone,
}

// === impl Outlet ===

impl Outlet {
    /// The way, and the task that writes what has to wait. It ends with the way.
    pub(super) fn new(write: OwnedWriteHalf, gone: KnownGone) -> (Self, impl Future<Output = ()> + Send) {
        let (write, behind) = (Arc::new(write), Arc::new(AtomicUsize::new(0)));
        let (queue, queued) = mpsc::channel(HEART_QUEUE_MAX);
        let task = write_later(Arc::clone(&write), queued, Arc::clone(&behind), gone.clone());
        (Self { write, queue, behind, gone }, task)
    }

    /// Says it, or has it said after what waits. A heart that is gone is no error of this order: whoever reads from it ends the
    /// table, and until then nothing follows from its silence.
    pub(super) fn send(&mut self, mut frame: Vec<u8>) -> Result<(), String> {
        if self.behind.load(Ordering::Acquire) == 0 {
            match self.write.try_write(&frame) {
                Ok(written) if written == frame.len() => return Ok(()),
                Ok(written) => drop(frame.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.lose(&error);
                    return Ok(());
                }
            }
        }
        self.behind.fetch_add(1, Ordering::AcqRel);
        self.queue.try_send(frame).map_err(|error| error.to_string())
    }

    fn lose(&self, error: &io::Error) {
        if !self.gone.is_set() {
            tracing::error!(%error, "heart cannot be told");
            self.gone.set();
        }
    }
}

async fn write_later(
    write: Arc<OwnedWriteHalf>,
    mut queued: mpsc::Receiver<Vec<u8>>,
    behind: Arc<AtomicUsize>,
    gone: KnownGone,
) {
    while let Some(frame) = queued.recv().await {
        if let Err(error) = write_all(&write, &frame).await {
            tracing::error!(%error, "heart cannot be told");
            gone.set();
            return;
        }
        behind.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn write_all(write: &OwnedWriteHalf, mut frame: &[u8]) -> io::Result<()> {
    while !frame.is_empty() {
        write.writable().await?;
        match write.try_write(frame) {
            Ok(written) => frame = &frame[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) async fn read_frames(mut read: OwnedReadHalf, table: ActorRef<Message>) {
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        inbox.feed(&buffer[..count]);
        if let Err(error) = hand_on(&mut inbox, &table) {
            tracing::error!(%error, "heart cannot be understood");
            break;
        }
    }
    let _ = table.cast(Message::HeartLost);
}

fn hand_on(inbox: &mut Inbox, table: &ActorRef<Message>) -> io::Result<()> {
    while let Some(heard) = inbox.take().map_err(io::Error::other)? {
        table.cast(Message::Heard(heard)).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn what_heart_has_no_room_for_comes_later_whole_and_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (read, write) = ours.into_split();
        let (mut outlet, writing) = Outlet::new(write, KnownGone::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(writing);
        let mut expect: Vec<u8> = Vec::new();
        // More than a socket holds: the first are written at once, one in part, the others wait.
        for n in 0..2000u32 {
            let frame: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(1000).collect();
            expect.extend(&frame);
            outlet.send(frame).unwrap();
        }
        let mut got = vec![0; expect.len()];
        theirs.read_exact(&mut got).await.unwrap();
        assert!(got == expect);
        outlet.send(b"the last".to_vec()).unwrap();
        drop(outlet);
        tasks.join_all().await;
        let mut rest = Vec::new();
        drop(read);
        theirs.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"the last");
    }

    #[tokio::test]
    async fn an_order_to_a_heart_that_is_gone_is_no_error_and_says_that_it_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let gone = KnownGone::default();
        let (_read, write) = ours.into_split();
        let (mut outlet, _writing) = Outlet::new(write, gone.clone());
        assert_eq!(outlet.send(b"an order".to_vec()), Ok(()));
        assert!(gone.is_set());
    }
}
