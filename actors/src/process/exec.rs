//! Commands that serve a unit (`initdb`, an exec probe): run to their end, their output's tail kept, nothing left behind.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc::SIGKILL;
use tokio::io::unix::AsyncFd;

use super::command::Command;
use super::end::gone;
use super::heart::wire::{Ending, Key, Reach};
use super::identity::Identity;
use super::sys::{child, pipe};
use super::table::{Care, Order, Processes, Role, Scope, Tag};
use crate::probe::check::{ExecFuture, ExecOutcome, ExecRunner};
use crate::probe::spec::FAILURE_MAX_BYTES;

/// How long a killed command may take to be gone before it is left to the unit's own end.
const KILLED_WITHIN: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 16 * 1024;

/// Runs commands for one life of one unit.
#[derive(Debug)]
pub struct Runner {
    processes: Processes,
    tag: Tag,
    /// Where the FIFOs of running commands live.
    dir: PathBuf,
    /// Commands so far, of all runners of this life: no two share a FIFO.
    count: Arc<AtomicU64>,
}

/// A running command; dropping it kills the command's group and removes its FIFO.
struct Running<'a> {
    processes: &'a Processes,
    key: Option<Key>,
    /// Goes last: what is released by then is not discarded.
    care: Option<Care>,
    fifo: PathBuf,
}

// === impl Runner ===

impl Runner {
    /// Commands run by it carry this tag's project, unit and life.
    pub fn new(processes: Processes, tag: Tag, dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { processes, tag, dir, count: Arc::default() })
    }

    /// Kills what still runs of this life, whoever waits for it, and waits until it is gone.
    pub async fn end(&self) {
        // Most units are never asked anything by a command.
        if self.count.load(Ordering::Relaxed) > 0 {
            let left = self.processes.end_helpers(self.tag.clone()).await;
            gone(left.into_iter().filter_map(Identity::of).collect(), KILLED_WITHIN).await;
        }
    }

    async fn run_to_end(&self, command: Command, timeout: Duration) -> Result<ExecOutcome, String> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let Tag { unit, incarnation, .. } = &self.tag;
        let fifo = self.dir.join(format!("{unit}.{incarnation}.{count}.{:?}", self.tag.role).to_lowercase());
        // One of this name was left by a daemon that was killed in the middle of a command; nobody opens it again.
        let _ = std::fs::remove_file(&fifo);
        pipe::mkfifo(&fifo).map_err(|error| format!("make {}: {error}", fifo.display()))?;
        let mut running = Running { processes: &self.processes, key: None, care: None, fifo: fifo.clone() };
        let reader = pipe::open_fifo(&fifo).map_err(|error| format!("open {}: {error}", fifo.display()))?;
        // Orphans with this envelope are the unit's, which lives on: a command takes its own group along and nothing else.
        let ending = Ending { reach: Reach::Group, with_daemon: None };
        let command = Arc::new(command);
        let order = Order { tag: self.tag.clone(), command, out: fifo.clone(), err: fifo, ending };
        let spawned = self.processes.spawn(order).await.map_err(|error| error.to_string())?;
        (running.key, running.care) = (Some(spawned.key), Some(spawned.care));
        let mut exit = spawned.exit;
        let mut tail = Tail::new(reader).map_err(|error| error.to_string())?;
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let exit = loop {
            tokio::select! {
                biased;
                exit = &mut exit => break exit.map_err(|_| "the process table is gone".to_owned())?,
                () = &mut deadline => {
                    running.kill();
                    // Reaped as soon as it is gone; its verdict is the timeout either way.
                    let _ = tokio::time::timeout(KILLED_WITHIN, &mut exit).await;
                    return Err(format!("no end within {timeout:?}"));
                }
                read = tail.fill() => read.map_err(|error| error.to_string())?,
            }
        };
        tail.drain().map_err(|error| error.to_string())?;
        Ok(ExecOutcome { exit, tail: tail.bytes })
    }
}

impl ExecRunner for Runner {
    fn run(&self, command: Command, timeout: Duration) -> ExecFuture<'_> {
        Box::pin(self.run_to_end(command, timeout))
    }
}

impl Runner {
    /// The same runner for another kind of command.
    pub fn with_role(&self, role: Role) -> Arc<Self> {
        let tag = Tag { role, ..self.tag.clone() };
        Arc::new(Self { processes: self.processes.clone(), tag, dir: self.dir.clone(), count: self.count.clone() })
    }
}

// === impl Running ===

impl Running<'_> {
    fn kill(&self) {
        if let Some(key) = self.key {
            self.processes.signal(key, SIGKILL, Scope::Group);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.kill();
        if let Some(key) = self.key {
            self.processes.release(key);
        }
        // A FIFO that stays behind is removed with the session's directory.
        let _ = std::fs::remove_file(&self.fifo);
    }
}

/// The last bytes of a command's output: however much it prints, no more is kept.
struct Tail {
    fifo: AsyncFd<OwnedFd>,
    bytes: Vec<u8>,
}

// === impl Tail ===

impl Tail {
    fn new(fifo: OwnedFd) -> io::Result<Self> {
        Ok(Self { fifo: child::readable(fifo)?, bytes: Vec::new() })
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut ready = self.fifo.readable().await?;
        let mut buffer = [0; READ_BYTES];
        // `Err`: it was not readable after all, and is waited for again.
        if let Ok(count) = ready.try_io(|fifo| read(fifo.get_ref(), &mut buffer)) {
            keep(&mut self.bytes, &buffer[..count?]);
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match read(self.fifo.get_ref(), &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => keep(&mut self.bytes, &buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn read(fifo: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(fifo, buffer)?)
}

fn keep(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    if tail.len() > FAILURE_MAX_BYTES {
        tail.drain(..tail.len() - FAILURE_MAX_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g03_only_the_tail_of_a_flood_is_kept() {
        let mut tail = Vec::new();
        for _ in 0..1000 {
            keep(&mut tail, &[b'x'; 1000]);
        }
        keep(&mut tail, b"end");
        assert_eq!(tail.len(), FAILURE_MAX_BYTES);
        assert!(tail.ends_with(b"end"));
    }
}
