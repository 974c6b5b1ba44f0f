//! Processes: how they are spawned, known, ended, and what belongs to them.
//!
//! ```text
//! service/task/requirement actor ──Spawn──▶ table (actor) ──frames──▶ heart ──clone──▶ child
//!                                ◀─Exited──              ◀──frames──       ◀──pidfd──
//! ```
//!
//! `heart` is the parent of every unit and outlives the daemon; `table` is the daemon's side of it; `end` finds and ends
//! what belongs to a unit; `sys` is the only module with `unsafe` and the only one that forks, kills or waits.

pub mod account;
pub mod calm;
pub mod cgroup;
pub mod command;
mod diag;
pub mod end;
pub mod exec;
pub mod guest;
pub mod handover;
pub mod heart;
pub mod identity;
pub mod life;
pub mod listener;
mod procfs;
pub mod reserve;
pub mod spawn;
pub mod stop;
#[allow(unsafe_code, reason = "the one module that talks to the kernel: docs/ARCHITECTURE.md, invariants of absence")]
pub mod sys;
pub mod table;
pub mod typing;
pub mod usage;

pub use command::{Command, Limits, RunAs};
pub use sys::terminal::WindowSize;
pub use table::{HeldProcess, Order, Processes, Role, Scope, Spawned, Stray, Tag};

#[cfg(test)]
mod tests;
