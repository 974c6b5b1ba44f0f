//! The kernel, thinly: every function is one system call or one small sequence that cannot be split safely.
//!
//! One file per idea: `pipe` (FIFOs, splice, epoll) and `priority` serve the log streams; `spawn` (clone), `child` (pidfd, wait),
//! `stranger` (what is no child of ours) and `terminal` (pseudo terminals) serve heart; `memory` is that of a process that lives
//! long.
//! Safe to call with any arguments; `unsafe` stays inside.

pub mod child;
pub mod memory;
pub mod pipe;
pub mod priority;
pub mod spawn;
pub mod stranger;
pub mod terminal;
