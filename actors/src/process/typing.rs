//! What is being typed on units' terminals: who waits for which piece. Bounded by heart, which refuses what a unit does not read.

use std::collections::BTreeMap;

use ractor::RpcReplyPort;

/// What became of a piece that was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The terminal has taken all of it.
    Taken,
    /// The unit does not read, or ended: nothing more of it will be typed.
    Refused,
    /// There is no such process, or it has no terminal.
    NoTerminal,
}

/// Pieces on their way.
#[derive(Debug, Default)]
pub struct Typing {
    last: u64,
    waiting: BTreeMap<u64, RpcReplyPort<Sent>>,
}

// === impl Typing ===

impl Typing {
    /// A number for a new piece.
    pub fn begin(&mut self, reply: RpcReplyPort<Sent>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, reply);
        self.last
    }

    /// Heart has spoken about a piece. A number that nobody knows is a dead daemon's.
    pub fn answered(&mut self, number: u64, taken: bool) {
        if let Some(reply) = self.waiting.remove(&number) {
            // Who typed may be gone.
            let _ = reply.send(if taken { Sent::Taken } else { Sent::Refused });
        }
    }
}
