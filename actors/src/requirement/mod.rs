//! Requirements: databases and the like, run natively from the binaries on this machine, or somewhere else.
//!
//! ```text
//! preset (what it is) ─▶ locate (which binaries) ─▶ native (pure: what to prepare, run, probe, do afterwards) ─▶ execute
//! ```
//!
//! `native` decides and touches nothing; `execute` touches and decides nothing. Processes are run by the caller's
//! [`ExecRunner`](crate::probe::ExecRunner) and its process table. A requirement's directory belongs to it alone:
//! ```text
//! data_dir/DATA            the server's own data, by the name in its preset; complete once it exists
//! data_dir/DATA.partial    an initialisation under way or cut short; thrown away by the next
//! data_dir/SECRET          0600, made once
//! data_dir/clone.dump      a copy of another database under way
//! data_dir/init.json       which steps of the project have been done to the data
//! ```

pub mod actor;
pub mod container;
pub mod execute;
pub mod external;
pub mod locate;
pub mod native;
pub mod plan;
pub mod preset;
mod record;
pub mod rights;
pub mod share;
mod template;

pub use execute::{Obstacle, choose_rights, data_version, prepare, run_after_ready};
pub use external::Elsewhere;
pub use locate::{Binaries, MissingBinary, locate};
pub use native::plan;
pub use plan::{Action, After, Init, Plan, Step, Wanted, When, Work, base_env};
pub use preset::Preset;
pub use rights::NoAccount;
pub use share::Part;

#[cfg(test)]
mod tests;
