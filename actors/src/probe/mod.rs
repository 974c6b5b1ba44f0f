//! Probes: is it up, is it ready, is it alive?

pub mod spec;

pub use spec::{Probe, ProbeFailure, Schedule};
