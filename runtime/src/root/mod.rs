//! The root of a session: supervises its system actors and its projects.
//!
//! ```text
//! root ── registry, journal, process table, pump (a thread), projects
//!   ▲
//! gateway (one task per client) asks the root for a project and then talks to the project itself
//! ```
//!
//! The root finds projects, counts who is there, and ends the session in order. It decides nothing about units.

mod actor;
mod ending;
mod handle;
mod recovery;
mod shares;

pub(crate) use handle::shutting_down;
pub use handle::{Escaped, Life, Parts, Project, Root, RootArgs, RootMessage};
pub(crate) use recovery::load;
