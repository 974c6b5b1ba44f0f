//! What belongs to a unit, and how all of it is ended.
//!
//! A process belongs if one of these holds: it is in the leader's session or group, it descends from one that belongs, it
//! holds the unit's FIFO open, or its environment carries the unit's envelope with the role `unit`. One look at `/proc`
//! serves all units that stop together. Guests (`exec`, `run`) carry another role and are never found by the envelope.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::RpcReplyPort;

use super::identity::{Identity, Stat, boot_id};
use super::sys::child;

/// The variable that carries the envelope.
const ENVELOPE_VARIABLE: &[u8] = b"ENVCTL_RT_VARS=";

/// Decides whether an envelope (the variable's value) is that of the unit.
pub type EnvelopeTest = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// By what a unit's processes are known.
#[derive(Clone, Default)]
pub struct Proof {
    /// The main process: leader of the unit's session and group.
    pub leader: Option<u32>,
    /// The unit's FIFOs, and its terminal.
    pub fifos: Vec<PathBuf>,
    /// The unit's envelope.
    pub envelope: Option<EnvelopeTest>,
}

/// Scans that wait for the running one; they share the next look at `/proc`.
#[derive(Debug, Default)]
pub struct Batch {
    waiting: Vec<(Proof, RpcReplyPort<Vec<Identity>>)>,
    running: bool,
}

/// One look at `/proc` for several units.
#[derive(Debug)]
pub struct Scan {
    asked: Vec<(Proof, RpcReplyPort<Vec<Identity>>)>,
    /// Never part of an answer: the daemon itself, and heart.
    spare: BTreeSet<u32>,
}

/// All living processes of the machine at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    processes: BTreeMap<u32, Stat>,
    boot_id: String,
}

// === impl Proof ===

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("leader", &self.leader).field("fifos", &self.fifos).finish_non_exhaustive()
    }
}

impl Proof {
    fn holds_open(&self, files: &[PathBuf]) -> bool {
        files.iter().any(|file| self.fifos.contains(file))
    }

    fn is_enveloped(&self, envelope: Option<&[u8]>) -> bool {
        matches!((&self.envelope, envelope), (Some(test), Some(envelope)) if test(envelope))
    }
}

// === impl Batch ===

impl Batch {
    /// Adds a request.
    pub fn push(&mut self, proof: Proof, reply: RpcReplyPort<Vec<Identity>>) {
        self.waiting.push((proof, reply));
    }

    /// The next scan, unless one is running or nobody waits.
    pub fn next(&mut self, spare: BTreeSet<u32>) -> Option<Scan> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        Some(Scan { asked: mem::take(&mut self.waiting), spare })
    }

    /// The running scan is through.
    pub fn finished(&mut self) {
        self.running = false;
    }
}

// === impl Scan ===

impl Scan {
    /// Looks and answers. Blocks for as long as `/proc` takes.
    pub fn run(self) {
        let snapshot = Snapshot::take();
        let strangers = Strangers::of(&snapshot, &self.spare);
        for (proof, reply) in self.asked {
            let found = snapshot.belonging(&proof, &strangers, &self.spare);
            // Who asked may have gone: then nobody wants to know.
            let _ = reply.send(found);
        }
    }
}

/// What can only be told of a process by reading more than its stat line, read once for all units asked for.
#[derive(Debug, Default)]
struct Strangers {
    by_pid: BTreeMap<u32, (Vec<PathBuf>, Option<Vec<u8>>)>,
}

impl Strangers {
    fn of(snapshot: &Snapshot, spare: &BTreeSet<u32>) -> Self {
        let pids = snapshot.processes.keys().filter(|pid| !spare.contains(pid));
        Self { by_pid: pids.map(|pid| (*pid, (fifos_of(*pid), envelope_of(*pid)))).collect() }
    }
}

// === impl Snapshot ===

impl Snapshot {
    fn take() -> Self {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let alive = pids.filter_map(Stat::read).filter(Stat::is_alive);
        Self { processes: alive.map(|stat| (stat.pid, stat)).collect(), boot_id: boot_id() }
    }

    fn belonging(&self, proof: &Proof, strangers: &Strangers, spare: &BTreeSet<u32>) -> Vec<Identity> {
        let mut found: BTreeSet<u32> = self
            .processes
            .values()
            .filter(|stat| self.is_proved(stat, proof, strangers))
            .map(|stat| stat.pid)
            .collect();
        self.add_descendants(&mut found);
        let identity = |pid: &u32| {
            let stat = self.processes.get(pid)?;
            Some(Identity { pid: *pid, start_time: stat.start_time, boot_id: self.boot_id.clone() })
        };
        found.difference(spare).filter_map(identity).collect()
    }

    fn is_proved(&self, stat: &Stat, proof: &Proof, strangers: &Strangers) -> bool {
        if proof.leader.is_some_and(|leader| [stat.pid, stat.group, stat.session].contains(&leader)) {
            return true;
        }
        let Some((files, envelope)) = strangers.by_pid.get(&stat.pid) else { return false };
        proof.is_enveloped(envelope.as_deref()) || proof.holds_open(files)
    }

    fn add_descendants(&self, found: &mut BTreeSet<u32>) {
        loop {
            let children = self.processes.values().filter(|stat| found.contains(&stat.parent));
            let new: Vec<u32> = children.map(|stat| stat.pid).filter(|pid| !found.contains(pid)).collect();
            if new.is_empty() {
                return;
            }
            found.extend(new);
        }
    }
}

/// Waits until all of these processes are gone, at most this long. Returns those that are left.
pub async fn gone(processes: Vec<Identity>, within: Duration) -> Vec<Identity> {
    let deadline = tokio::time::Instant::now() + within;
    let mut left = Vec::new();
    for process in processes {
        let Some(pidfd) = process.open() else { continue };
        let ended = match child::readable(pidfd) {
            Ok(pidfd) => tokio::time::timeout_at(deadline, async { pidfd.readable().await.is_ok() }).await,
            Err(_) => Ok(false),
        };
        if !matches!(ended, Ok(true)) && process.open().is_some() {
            left.push(process);
        }
    }
    left
}

/// The FIFOs among a process's open files. Another user's files cannot be read and count as none.
fn fifos_of(pid: u32) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    let is_fifo = |target: &PathBuf| matches!(target.extension().map(OsStrExt::as_bytes), Some(b"out" | b"err"));
    targets.filter(|target| is_fifo(target) || target.starts_with("/dev/pts")).collect()
}

fn envelope_of(pid: u32) -> Option<Vec<u8>> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(ENVELOPE_VARIABLE))?;
    Some(entry.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32, session: u32) -> Stat {
        Stat { pid, state: 'S', parent, group: session, session, cpu_ticks: 0, start_time: 1, resident_pages: 0 }
    }

    fn snapshot(processes: &[Stat]) -> Snapshot {
        Snapshot { processes: processes.iter().map(|stat| (stat.pid, *stat)).collect(), boot_id: String::new() }
    }

    fn pids(found: Vec<Identity>) -> Vec<u32> {
        found.into_iter().map(|identity| identity.pid).collect()
    }

    #[test]
    fn a_child_that_made_its_own_session_belongs_by_descent() {
        let snapshot = snapshot(&[stat(10, 1, 10), stat(11, 10, 11), stat(12, 11, 12), stat(99, 1, 99)]);
        let proof = Proof { leader: Some(10), ..Proof::default() };
        assert_eq!(pids(snapshot.belonging(&proof, &Strangers::default(), &BTreeSet::new())), [10, 11, 12]);
    }

    #[test]
    fn an_orphan_belongs_by_its_envelope_and_the_daemon_never_belongs() {
        let snapshot = snapshot(&[stat(5, 1, 5), stat(20, 1, 20), stat(21, 1, 21)]);
        let strangers = Strangers {
            by_pid: BTreeMap::from([
                (5, (vec!["/run/x.out".into()], Some(b"mine".to_vec()))),
                (20, (vec![], Some(b"mine".to_vec()))),
                (21, (vec![], Some(b"other".to_vec()))),
            ]),
        };
        let proof = Proof {
            leader: None,
            fifos: vec!["/run/x.out".into()],
            envelope: Some(Arc::new(|envelope| envelope == b"mine")),
        };
        assert_eq!(pids(snapshot.belonging(&proof, &strangers, &BTreeSet::from([5]))), [20]);
    }
}
