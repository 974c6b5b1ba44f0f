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
    /// A server of any kind answers in its own protocol.
    Server {
        /// Where it is: a name or an address.
        host: String,
        /// The port.
        port: u16,
        /// What it is asked.
        ask: Exchange,
        /// As in [`Probe::Tcp`].
        own: bool,
    },
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

/// A question in the protocol of a server.
#[derive(Clone, PartialEq, Eq)]
pub enum Exchange {
    /// A connection is accepted.
    Tcp,
    /// `GET` of this path answers 200–399.
    Http(String),
    /// `SELECT 1` through this URL.
    Postgres(String),
    /// `PING` through this URL.
    Redis(String),
    /// A handshake of MySQL or MariaDB.
    Mysql,
    /// The first bytes it sends are these.
    Greeting(String),
    /// `version`.
    Memcached,
    /// The header of AMQP 0-9-1.
    Amqp,
    /// `INFO`, and `PING`.
    Nats,
    /// `CONNECT` of MQTT 3.1.1.
    Mqtt,
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

// === impl Exchange ===

impl std::fmt::Debug for Exchange {
    /// Its kind: a URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "a connection",
            Self::Http(path) => return write!(f, "GET {path}"),
            Self::Postgres(_) => "PostgreSQL",
            Self::Redis(_) => "Redis",
            Self::Mysql => "MySQL",
            Self::Greeting(_) => "its greeting",
            Self::Memcached => "memcached",
            Self::Amqp => "AMQP",
            Self::Nats => "NATS",
            Self::Mqtt => "MQTT",
        })
    }
}
