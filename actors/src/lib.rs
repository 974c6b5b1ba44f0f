//! The actor kinds of envctl, one folder each, with the mechanism each of them drives.
//!
//! The mechanism (spawning, storing, probing) is plain code that can be tested without an actor; `actor.rs` in each folder
//! is the thin shell round it. Nothing here reads the environment, `HOME`, or writes to a terminal.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod log_stream;
pub mod probe;
pub mod process;
pub mod registry;
pub mod requirement;
pub mod service;
pub mod task;
pub mod unit;
