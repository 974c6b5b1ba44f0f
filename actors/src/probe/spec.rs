//! What a probe asks and how often.

use std::time::Duration;

use regex::bytes::Regex;

use crate::process::Command;

/// One question to a unit.
#[derive(Debug, Clone)]
pub enum Probe {
    /// A TCP connection to this port on loopback is accepted, by a process of the unit itself.
    Tcp {
        /// The port.
        port: u16,
        /// `true`: the listener must belong to the unit (its own leased port); `false`: any listener will do.
        own: bool,
    },
    /// `GET path` on this port of loopback answers 200–399.
    Http {
        /// The port.
        port: u16,
        /// Path with query, starting with `/`.
        path: String,
        /// As in [`Probe::Tcp`].
        own: bool,
    },
    /// The command ends with code 0.
    Exec(Box<Command>),
    /// A line of this life's output matches. Only for readiness.
    Log(Regex),
    /// PostgreSQL answers `SELECT 1`.
    Postgres {
        /// A `postgresql://` URL with password.
        url: String,
    },
    /// Redis answers `PONG`.
    Redis {
        /// A `redis://` URL.
        url: String,
    },
}

/// How often a probe runs and what its answers mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Time between the end of one check and the start of the next; a readiness probe starts much quicker and grows to it.
    pub every: Duration,
    /// One check may take this long.
    pub timeout: Duration,
    /// Consecutive failures that count as one loss.
    pub failures: u32,
    /// Consecutive successes that count as ready.
    pub successes: u32,
}

/// Why a check said no: a lowercase fragment for `why`, at most [`FAILURE_MAX_BYTES`] long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFailure(pub String);

/// Longest text kept of a failed check (a hostile body or a flood of output must not fill the journal).
pub const FAILURE_MAX_BYTES: usize = 4096;

/// Default time between checks of a running unit.
pub const EVERY_DEFAULT: Duration = Duration::from_secs(10);
/// Default time one check may take.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Default time a unit has to become ready.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(60);
/// Default number of consecutive failures that count.
pub const FAILURES_DEFAULT: u32 = 3;
