//! Requirements: databases and the like, run natively from the binaries on this machine.
//!
//! ```text
//! locate (which binaries) ─▶ plan (pure: what to prepare, run, probe, do afterwards) ─▶ execute (carries it out)
//! ```
//!
//! `plan` decides and touches nothing; `execute` touches and decides nothing. Processes are run by the caller's
//! [`ExecRunner`](crate::probe::ExecRunner) and its process table. A requirement's directory belongs to it alone:
//! ```text
//! data_dir/cluster            the store's own data; complete once it exists
//! data_dir/cluster.partial    an initialisation under way or cut short; thrown away by the next
//! data_dir/password           0600, made once
//! ```

pub mod actor;
pub mod execute;
pub mod locate;
pub mod plan;
mod postgres;
mod redis;
pub mod rights;

pub use execute::{choose_rights, data_version, password, prepare, run_after_ready};
pub use locate::{Binaries, MissingBinary, locate};
pub use plan::{Action, AfterReady, Attribute, Plan, PresetKind, Step, Wanted, When, base_env, plan};
pub use rights::NoAccount;

#[cfg(test)]
mod tests;
