//! A project under supervision.
//!
//! ```text
//! root ──Up, Down, Operate──▶ supervisor (actor) ──Event──▶ engine (pure)
//!                                    ▲                         │ Effects
//!            unit actors ─UnitReport─┘◀──spawn, Stop, Kill─────┘──▶ journal, views
//! ```
//!
//! `supervisor` turns messages into engine events and carries out its effects; `operate` has what operators ask of it, and
//! `takeover` what a new daemon does with a run it finds; `environment`, `attributes`, `commands`, `reports` and `views` are
//! pure; `ports` leases, `requirements` fills presets in, `obstacles` has what is in their way, and `share`
//! what they have on servers that others use too. One engine holds all units: one brain, so two restart loops never race.

pub mod access;
pub mod attributes;
mod budgets;
pub mod commands;
mod confines;
pub mod containers;
mod ending;
pub mod environment;
#[cfg(test)]
mod failpoint;
pub mod fingerprint;
mod guest;
mod log_streams;
mod logs;
pub mod memory;
mod memory_file;
mod obstacles;
mod operate;
pub mod ports;
mod publish;
mod remember;
pub mod reports;
pub mod requirements;
pub mod share;
pub mod state;
mod stopping;
pub mod supervisor;
mod takeover;
pub mod terminal;
pub mod units;
mod url;
pub mod views;
mod wiped;
