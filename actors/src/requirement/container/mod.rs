//! Requirements in containers: driven through the API of the engine, docker's or podman's; no command line is called.
//!
//! ```text
//! find (where is the engine?) ─▶ engine (one connection, deadlines, errors in words)
//! spec (what is wanted, pure) ─▶ body (pure) ─▶ driver: sweep ─ pull ─ volumes ─ create ─▶ relay ─▶ aftermath
//!                                                                              beside it: watch (the engine's events)
//! ```
//!
//! A life in a container is the life of a small process of ours, the [`relay`]: heart starts it like every main process, it
//! starts the container, carries its output into the unit's FIFOs and ends as the container ends. So everything that is
//! promised of a process (a daemon's death, an upgrade, the stop plan, the session that ends without a daemon) holds for a
//! container too, and no byte of a log travels through the daemon.
//!
//! What is not provably ours is never touched: every container, volume and network is made with the labels of [`labels`],
//! found by them alone, and addressed by its id. Names are never looked up.

mod archive;
mod body;
mod driver;
pub mod engine;
pub mod error;
pub mod find;
mod image;
pub mod labels;
pub mod plan;
pub mod relay;
pub mod spec;
mod watch;

pub use driver::{Contained, prepare, remove_leftovers, remove_volumes};
pub use engine::Engine;
pub use error::EngineError;
pub use find::{Address, Surroundings};
pub use labels::Owner;
pub use spec::{Network, Part, Pod, Publish, Volume};

#[cfg(test)]
mod tests;
