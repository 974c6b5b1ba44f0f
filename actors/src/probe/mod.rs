//! Probes: is it up, is it ready, is it alive?
//!
//! ```text
//! actor ──Tick──▶ check (a task) ──Checked──▶ cadence ──▶ ProbeEvent to the owner, delay until the next Tick
//! ```
//!
//! `spec` says what is asked, `check` asks once, `cadence` decides what the answers mean and when to ask again, and
//! `actor` is the thin shell round them. Nothing here spawns a process: commands go through an [`ExecRunner`].

pub mod actor;
pub mod cadence;
pub mod check;
pub mod spec;

pub use actor::{ProbeActor, ProbeArgs, ProbeMessage};
pub use cadence::{Cadence, ProbeEvent, Purpose, Verdict};
pub use check::{ExecOutcome, ExecRunner, Target, check};
pub use spec::{Exchange, Probe, ProbeFailure, Schedule};
