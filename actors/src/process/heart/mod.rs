//! heart: the parent of all units.
//!
//! One tiny single-threaded loop, plain epoll, no tokio. It spawns at the daemon's request, keeps each exit status (as the
//! zombie itself, so that no number can be taken by a stranger) until the daemon has acknowledged it, reaps orphans by
//! pid, and brings the daemon back when it dies. It never decides anything about a unit: that is the engine's. Of a unit that wants a terminal it is the other end: it moves what
//! is shown into the unit's FIFO and types what the daemon sends ([`terminal`]).
//!
//! ```text
//! daemon ──Spawn, Signal, Type, Ack──▶ heart ──clone──▶ units
//!        ◀─Hello, Spawned, Typed, Exited──
//!        ──HandOver, Greet, Keep─▶        an upgrade: see `handover`
//! ```
//!
//! Runs as a process (`envctl heart`) or, for an embedding program, as a thread of it ([`run::in_thread`]): the same loop,
//! without the care for orphans and for the daemon.

mod child;
pub mod children;
pub mod guardian;
pub mod handover;
pub mod keeper;
pub mod limits;
pub mod orphans;
pub mod own_log;
pub mod run;
pub mod start;
mod stranger;
pub mod stub;
pub mod terminal;
pub mod wire;
