//! OTP supervision for ractor programs.
//!
//! A pure engine decides ([`engine::Engine::step`]: time and an event in, effects out) and a thin shell carries out. The
//! engine knows no processes, no clock, no I/O and no randomness but a seeded one.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod engine;
pub mod name;
pub mod reason;
pub mod shell;
pub mod spec;

pub use name::{Name, NameError};

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
