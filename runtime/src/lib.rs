//! envctl as a library.
//!
//! [`config`] turns files into a [`spec::ProjectSpec`]; [`session`] starts a root actor that supervises projects; [`control`]
//! is the protocol between it and its clients. The command line and the tests stand on `Session` and `Client` alone.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod config;
pub mod control;
pub mod explain;
pub mod journal;
pub mod leases;
pub mod nearest;
pub mod places;
pub mod project;
pub mod pulse;
pub mod root;
pub mod session;
pub mod spec;
pub mod trust;
mod usage;
pub mod vars;
mod words;

/// Version of this build.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
