//! The journal: what happened to a project, durably and in order, and the files that follow from it.
//!
//! ```text
//! project actors ──Append──▶ journal actor ──write(2)──▶ events.jsonl ──▶ why, events, followers
//!                ──Snapshot─▶     └──(≥ 100 ms apart)──▶ run_state.json, runtime_map.json, …
//! ```
//!
//! `events` is the registry of kinds, `store` the one writer (`shorten` bounds what it keeps), `read` the tolerant reader, `views` the derived files, `why`
//! the chain of causes, `actor` the shell round them. Everything but `events.jsonl` can be deleted and derived again.
//! Secrets never enter: see [`mod@events`]. Log lines never enter either: they are the log stream's.

pub mod actor;
pub mod clock;
pub mod events;
mod follow;
mod project;
pub mod read;
mod shorten;
pub mod store;
pub mod views;
pub mod why;
pub mod write;

pub use actor::{Follower, Journal, JournalActor, ProjectKey};
pub use clock::{new_run_id, now};
pub use events::EventKind;
pub use read::events;
pub use store::{EventLog, JournalError, Recovery};
pub use why::{Why, why};
pub use write::{Durability, atomic_write};

#[cfg(test)]
mod tests;
