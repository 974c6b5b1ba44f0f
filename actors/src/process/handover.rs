//! The table's part in an upgrade: before this process becomes another program, its connection to heart comes to rest.
//!
//! ```text
//! Calm ─▶ starts wait, ends are left for the next program ─▶ what was under way is dealt with ─▶ HandOver ─▶ exec
//! ```
//!
//! An end that is dealt with here is acknowledged here; any other stays with heart, which tells the next program. So none
//! counts twice, and none is lost. Never waits, and never gives up: the caller has the deadline.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ractor::RpcReplyPort;

use super::heart::wire::FromHeart;
use super::table::{Message, Processes, TableGone};

/// What heart said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeartSaid {
    /// Version of its frames.
    pub version: u32,
    /// Its build, if it tells.
    pub build: Option<String>,
    /// Why the last upgrade failed, if it did: this daemon was then started in place of the new one.
    pub rescued: Option<String>,
    /// Whether this daemon takes the place of one that did not die.
    pub replaced: bool,
}

/// How far a handover has come.
#[derive(Debug, Default)]
pub(super) enum Handover {
    /// None is under way.
    #[default]
    No,
    /// Starts and ends under way are being dealt with.
    Calming(RpcReplyPort<()>),
    /// They have been.
    Calm,
    /// Heart has been told, and nothing else may be said to it.
    Asked(RpcReplyPort<()>),
    /// Heart has spoken its last word.
    Over,
}

// === impl Handover ===

impl Handover {
    /// Whether one is under way.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self, Self::No)
    }

    /// What is still to be done with a message. `None`: the next program hears of it, or does it.
    pub(super) fn pass(&self, message: Message) -> Option<Message> {
        let closed = matches!(self, Self::Asked(_) | Self::Over);
        let dropped = match &message {
            Message::Heard(FromHeart::Exited { .. }) => self.is_on(),
            // A frame after the last one would be taken for the next program's.
            Message::Signal(..) | Message::Release(_) | Message::Discard(_) | Message::HandOver(..) => closed,
            _ => false,
        };
        (!dropped).then_some(message)
    }

    /// Nothing is under way any more.
    pub(super) fn calm(&mut self) {
        if !matches!(self, Self::Calming(_)) {
            return;
        }
        if let Self::Calming(reply) = std::mem::replace(self, Self::Calm) {
            // Whoever asked may have run out of patience; it goes on all the same.
            let _ = reply.send(());
        }
    }

    /// Heart has spoken its last word.
    pub(super) fn heard(&mut self) {
        if let Self::Asked(reply) = std::mem::replace(self, Self::Over) {
            let _ = reply.send(());
        }
    }
}

// === impl Processes ===

impl Processes {
    /// What heart said of itself, once it has greeted.
    pub async fn heart_said(&self) -> Result<HeartSaid, TableGone> {
        self.ask(Message::HeartSaid).await
    }

    /// From now on no start and no end is taken up; returns when those under way have been dealt with. May take as long as
    /// the last output of an ended process takes to be stored: the caller decides how long to wait.
    pub async fn calm(&self) -> Result<(), TableGone> {
        self.ask(Message::Calm).await
    }

    /// Tells heart that this process becomes the program at `path`, and returns when nothing more comes from heart. To be
    /// followed by the exec; there is no way back.
    pub async fn hand_over(&self, path: &Path) -> Result<(), TableGone> {
        let program = path.as_os_str().as_bytes().to_vec();
        self.ask(|reply| Message::HandOver(program, reply)).await
    }

    /// Tells heart that this program, which took over from another, serves.
    pub fn keep(&self) {
        self.tell(Message::Keep);
    }
}

#[cfg(test)]
mod tests;
