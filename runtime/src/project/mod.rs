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
//! pure; `ports` leases. One engine holds all units: one brain, so two restart loops never race.

pub mod attributes;
mod budgets;
pub mod commands;
mod confines;
mod ending;
pub mod environment;
pub mod fingerprint;
mod log_streams;
pub mod memory;
mod operate;
pub mod ports;
mod publish;
pub mod reports;
pub mod state;
mod stopping;
pub mod supervisor;
mod takeover;
pub mod terminal;
pub mod units;
pub mod views;
mod wiped;
