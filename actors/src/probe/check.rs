//! One check: asks a unit once and says yes, or why not.
//!
//! Every check ends within its deadline, reads a bounded number of bytes, and leaves nothing running when its future is
//! dropped. It never spawns a process itself ([`ExecRunner`] does), never follows a redirect, never shows a password.

pub(crate) mod exchange;
mod http;
mod ownership;
mod server;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use envctl_supervisors::reason::ExitReason;
use tokio::net::TcpStream;
use tokio::time::timeout as within;

use super::spec::{FAILURE_MAX_BYTES, Probe, ProbeFailure};
use crate::process::{Command, listener};

/// Whom a probe is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    /// The unit's main process, which leads its session.
    pub leader: Option<u32>,
}

/// How a command of a probe (or of a requirement's preparation) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its end.
    pub exit: ExitReason,
    /// The last bytes it wrote to either stream, at most [`FAILURE_MAX_BYTES`].
    pub tail: Vec<u8>,
}

/// What [`ExecRunner::run`] returns.
pub type ExecFuture<'a> = Pin<Box<dyn Future<Output = Result<ExecOutcome, String>> + Send + 'a>>;

/// Runs commands for those who may not spawn: the process table implements it.
pub trait ExecRunner: Send + Sync {
    /// Runs `command` to its end, `timeout` at most. When time is up, or when the future is dropped, everything that
    /// belongs to the command is killed. `Err` says why it could not be started, or that its time was up.
    fn run(&self, command: Command, timeout: Duration) -> ExecFuture<'_>;
}

/// Time granted to a runner, after the command's own timeout, for ending the command and saying so.
const RUNNER_GRACE: Duration = Duration::from_secs(2);
/// Output shown of a command that failed; the rest of the tail is in nobody's interest.
const OUTPUT_SHOWN_MAX: usize = 1024;

/// Asks once. The answer comes within `timeout` (a command's within two seconds more).
///
/// # Errors
/// The reason why the answer is no, for `why`.
pub async fn check(
    probe: &Probe,
    target: &Target,
    runner: &dyn ExecRunner,
    timeout: Duration,
) -> Result<(), ProbeFailure> {
    let answer = match probe {
        Probe::Exec(command) => exec(command, runner, timeout).await,
        // The log stream's matcher reports the line; a check of it could only ever be wrong.
        Probe::Log(_) => Err("the line has not been seen yet".to_owned()),
        Probe::Tcp { .. }
        | Probe::Http { .. }
        | Probe::Server { .. }
        | Probe::Postgres { .. }
        | Probe::Redis { .. } => within(timeout, Box::pin(ask(probe, target)))
            .await
            .unwrap_or_else(|_| Err(format!("{} gave no answer within {timeout:?}", subject(probe)))),
    };
    answer.map_err(|text| failure(&text))
}

async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    match probe {
        Probe::Tcp { port, own } => {
            let _stream = connect(*port).await?;
            prove(*own, *port, target).await
        }
        Probe::Http { port, path, own } => {
            let stream = connect(*port).await?;
            // Before the request: whatever a stranger would answer, it says nothing about this unit.
            prove(*own, *port, target).await?;
            http::get(stream, *port, path).await
        }
        Probe::Server { host, port, ask, own } => {
            server::ask(host, *port, ask).await?;
            prove(*own, *port, target).await
        }
        Probe::Postgres { url } => {
            exchange::postgres(url).await?;
            prove_store(exchange::postgres_port(url), target).await
        }
        Probe::Redis { url } => {
            exchange::redis(url).await?;
            prove_store(exchange::redis_port(url), target).await
        }
        Probe::Exec(_) | Probe::Log(_) => Ok(()),
    }
}

fn subject(probe: &Probe) -> String {
    match probe {
        Probe::Tcp { port, .. } => format!("port {port}"),
        Probe::Http { port, path, .. } => format!("GET {path} on port {port}"),
        Probe::Server { ask, port, .. } => format!("{ask:?} on port {port}"),
        Probe::Exec(command) => format!("`{}`", command.program.to_string_lossy()),
        Probe::Log(pattern) => format!("a line like /{pattern}/"),
        Probe::Postgres { .. } => "PostgreSQL".to_owned(),
        Probe::Redis { .. } => "Redis".to_owned(),
    }
}

/// The first of the two loopback addresses that accepts.
async fn connect(port: u16) -> Result<TcpStream, String> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    let refused = match TcpStream::connect(v4).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    match TcpStream::connect(v6).await {
        Ok(stream) => Ok(stream),
        Err(_) if refused.kind() == io::ErrorKind::ConnectionRefused => Err(nobody_on_loopback(port).await),
        Err(_) => Err(format!("port {port} cannot be reached: {refused}")),
    }
}

/// A program that listens, but elsewhere, is a mistake worth telling from one that does not listen yet.
async fn nobody_on_loopback(port: u16) -> String {
    let found = tokio::task::spawn_blocking(move || listener::listeners(port)).await;
    match found.ok().and_then(Result::ok).unwrap_or_default().first() {
        Some(elsewhere) => {
            format!("port {port} has a listener on {} alone, not on 127.0.0.1 or ::1", elsewhere.address.ip())
        }
        None => format!("nothing listens on port {port}"),
    }
}

async fn prove(own: bool, port: u16, target: &Target) -> Result<(), String> {
    if !own {
        return Ok(());
    }
    let target = *target;
    tokio::task::spawn_blocking(move || ownership::prove(port, target))
        .await
        .unwrap_or_else(|error| Err(format!("the owner of port {port} could not be determined: {error}")))
}

/// A store without a password would answer for any other. Who has no process to be asked about is taken at its word.
async fn prove_store(port: Option<u16>, target: &Target) -> Result<(), String> {
    match (port, target.leader) {
        (Some(port), Some(_)) => prove(true, port, target).await,
        (None, _) | (_, None) => Ok(()),
    }
}

async fn exec(command: &Command, runner: &dyn ExecRunner, timeout: Duration) -> Result<(), String> {
    let name = command.program.to_string_lossy();
    let outcome = within(timeout + RUNNER_GRACE, runner.run(command.clone(), timeout))
        .await
        .unwrap_or_else(|_| Err(format!("did not end within {timeout:?}")))
        .map_err(|error| format!("`{name}`: {error}"))?;
    if outcome.exit.is_normal() {
        return Ok(());
    }
    match shown(&outcome.tail) {
        output if output.is_empty() => Err(format!("`{name}`: {}", outcome.exit)),
        output => Err(format!("`{name}`: {}: {output}", outcome.exit)),
    }
}

/// The end of an output as one readable line.
pub(crate) fn shown(tail: &[u8]) -> String {
    let from = tail.len().saturating_sub(OUTPUT_SHOWN_MAX);
    let text = String::from_utf8_lossy(tail.get(from..).unwrap_or_default());
    let words = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Cuts a text to what may be kept of it. Control characters go: a hostile answer must not reach a terminal.
fn failure(text: &str) -> ProbeFailure {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=FAILURE_MAX_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or_default());
    ProbeFailure(text)
}

// === impl ProbeFailure ===

impl std::fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
