//! The two tasks at heart's connection: one writes what the table says, one hands on what heart says.

use std::io;

use ractor::ActorRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Message;
use super::gone::KnownGone;
use crate::process::heart::wire::Inbox;

/// Read from heart in one go.
const READ_BYTES: usize = 64 * 1024;

pub(super) async fn write_frames(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, gone: KnownGone) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = write.write_all(&frame).await {
            tracing::error!(%error, "heart cannot be told");
            gone.set();
            return;
        }
    }
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
