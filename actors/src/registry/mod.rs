//! The session's registry: addresses to living incarnations.
//!
//! `directory` is what readers look into, without asking anybody; `actor` is its only writer. A session has one of its own:
//! no process-global names, so two sessions in one program do not meet.

mod actor;
mod directory;

pub use actor::{Registry, RegistryActor, RegistryMessage};
pub use directory::{Address, Directory, Endpoint, Registration};
