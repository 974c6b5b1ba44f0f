//! What belongs to a unit, and how all of it is ended.
//!
//! A process belongs if one of these holds: it is in the leader's session or group, it descends from one that belongs, it
//! holds the unit's FIFO open, or its environment carries the unit's envelope with the role `unit`. (The last two are not looked
//! for in the session of a leader that is looked after: who was born there is that unit's alone.) One look at `/proc`
//! serves all units that stop together. What is in the unit's cgroup, where it has one, belongs as well. Guests (`exec`,
//! `run`) carry another role and are never found by the envelope.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ractor::RpcReplyPort;

use super::cgroup;
use super::identity::{Identity, Stat, boot_id};
use super::procfs;
use super::sys::child;

/// The variable that carries the envelope.
const ENVELOPE_VARIABLE: &[u8] = b"ENVCTL_RT_VARS=";

/// Reads an envelope (the variable's value): whose it is, in one text; `None`: nobody's that is ever looked for.
pub type ClaimReader = fn(&[u8]) -> Option<String>;

/// Whose envelope is looked for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Reads envelopes. Each is read once for all that is looked for.
    pub read: ClaimReader,
    /// What the reader says of the unit's.
    pub of: String,
}

/// By what a unit's processes are known.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// The main process: leader of the unit's session and group.
    pub leader: Option<u32>,
    /// When it started, if its number is not kept for it by a parent of ours: another of that number leads nothing of it.
    pub leader_start: Option<u64>,
    /// The unit's FIFOs, and its terminal.
    pub fifos: Vec<PathBuf>,
    /// The unit's envelope.
    pub envelope: Option<Claim>,
    /// The directory of its cgroup.
    pub cgroup: Option<PathBuf>,
}

/// Scans that wait for the running one; they share the next look at `/proc`.
#[derive(Debug, Default)]
pub struct Batch {
    waiting: Vec<(Proof, RpcReplyPort<Vec<Identity>>)>,
    running: bool,
    /// Somebody has been told to take the next scan soon.
    called: bool,
}

/// One look at `/proc` for several units.
#[derive(Debug)]
pub struct Scan {
    asked: Vec<(Proof, RpcReplyPort<Vec<Identity>>)>,
    /// Never part of an answer: the daemon itself, and heart.
    spare: BTreeSet<u32>,
    /// All leaders that are looked after, whoever is asked for.
    held: Vec<Leader>,
}

/// A process that leads a session of its own.
#[derive(Debug, Clone, Copy)]
pub struct Leader {
    /// Its number.
    pub pid: u32,
    /// When it started, if its number is not kept for it by a parent of ours.
    pub start_time: Option<u64>,
}

/// Who has what, so that one look serves a thousand units without comparing each of them with each process.
#[derive(Debug, Default)]
struct Index<'a> {
    /// By the numbers of their sessions and groups, and by their own.
    by_leader: HashMap<u32, Vec<u32>>,
    children: HashMap<u32, Vec<u32>>,
    by_file: HashMap<&'a Path, Vec<u32>>,
    by_claim: HashMap<String, Vec<u32>>,
}

/// All living processes of the machine at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    processes: BTreeMap<u32, Stat>,
    boot_id: String,
}

// === impl Batch ===

impl Batch {
    /// Adds a request. `true`: the next scan is to be taken soon, when those who ask at the same moment have done so.
    #[must_use]
    pub fn push(&mut self, proof: Proof, reply: RpcReplyPort<Vec<Identity>>) -> bool {
        self.waiting.push((proof, reply));
        !self.running && !mem::replace(&mut self.called, true)
    }

    /// The next scan, unless one is running or nobody waits.
    pub fn next(&mut self, spare: BTreeSet<u32>, held: impl FnOnce() -> Vec<Leader>) -> Option<Scan> {
        self.called = false;
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        Some(Scan { asked: mem::take(&mut self.waiting), spare, held: held() })
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
        let held = self.held.iter().filter(|leader| !snapshot.is_other(leader.pid, leader.start_time));
        let sessions = held.map(|leader| leader.pid).collect();
        let strangers = Strangers::of(&snapshot, &self.spare, &sessions);
        let index = Index::of(&snapshot, &strangers, self.asked.iter().map(|(proof, _)| proof));
        let found: Vec<_> =
            self.asked.iter().map(|(proof, _)| snapshot.belonging(proof, &index, &self.spare)).collect();
        for ((_, reply), found) in self.asked.into_iter().zip(found) {
            // Who asked may have gone: then nobody wants to know.
            let _ = reply.send(found);
        }
    }
}

/// What can only be told of a process by reading more than its stat line, read once for all units asked for.
///
/// That costs ten times the line, and is not read of those whose line says enough: nobody gets into a session who was not born
/// in it (setsid(2)), so whoever is in that of a leader we look after is that unit's and no other's.
#[derive(Debug, Default)]
struct Strangers {
    by_pid: BTreeMap<u32, (Vec<PathBuf>, Option<Vec<u8>>)>,
}

impl Strangers {
    /// `sessions`: those of the leaders that are looked after.
    fn of(snapshot: &Snapshot, spare: &BTreeSet<u32>, sessions: &BTreeSet<u32>) -> Self {
        let is_told = |stat: &&Stat| stat.is_kernel || spare.contains(&stat.pid) || sessions.contains(&stat.session);
        let others = snapshot.processes.values().filter(|stat| !is_told(stat));
        let ours: BTreeMap<u32, Option<Vec<u8>>> = spare.iter().map(|pid| (*pid, words_of(*pid))).collect();
        let is_unborn =
            |stat: &Stat| ours.get(&stat.parent).is_some_and(|parents| is_unborn(stat.pid, parents.as_deref()));
        let told = others.filter(|stat| !is_unborn(stat));
        Self { by_pid: told.map(|stat| (stat.pid, (fifos_of(stat.pid), envelope_of(stat.pid)))).collect() }
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

    fn belonging(&self, proof: &Proof, index: &Index<'_>, spare: &BTreeSet<u32>) -> Vec<Identity> {
        let mut found: BTreeSet<u32> = BTreeSet::new();
        if let Some(leader) = self.leader_of(proof) {
            found.extend(index.by_leader.get(&leader).into_iter().flatten());
        }
        for file in &proof.fifos {
            found.extend(index.by_file.get(file.as_path()).into_iter().flatten());
        }
        if let Some(claim) = &proof.envelope {
            found.extend(index.by_claim.get(&claim.of).into_iter().flatten());
        }
        let grouped = proof.cgroup.as_deref().map(cgroup::all_procs).unwrap_or_default();
        found.extend(grouped.into_iter().filter(|pid| self.processes.contains_key(pid)));
        index.add_descendants(&mut found);
        let identity = |pid: &u32| {
            let stat = self.processes.get(pid)?;
            Some(Identity { pid: *pid, start_time: stat.start_time, boot_id: self.boot_id.clone() })
        };
        found.difference(spare).filter_map(identity).collect()
    }

    /// The leader's number, unless somebody else has it by now.
    fn leader_of(&self, proof: &Proof) -> Option<u32> {
        proof.leader.filter(|leader| !self.is_other(*leader, proof.leader_start))
    }

    /// Whether this number belongs to another process than the one that started then.
    fn is_other(&self, pid: u32, started: Option<u64>) -> bool {
        let start = self.processes.get(&pid).map(|stat| stat.start_time);
        start.is_some_and(|start| started.is_some_and(|known| known != start))
    }
}

// === impl Index ===

impl<'a> Index<'a> {
    /// `asked`: what envelopes are to be read for.
    fn of(snapshot: &Snapshot, strangers: &'a Strangers, asked: impl Iterator<Item = &'a Proof>) -> Self {
        let mut this = Self::default();
        for stat in snapshot.processes.values() {
            for leader in BTreeSet::from([stat.pid, stat.group, stat.session]) {
                this.by_leader.entry(leader).or_default().push(stat.pid);
            }
            this.children.entry(stat.parent).or_default().push(stat.pid);
        }
        // One reader, as a rule; that of another address reads the same once more at worst.
        let readers: BTreeMap<usize, ClaimReader> =
            asked.filter_map(|proof| proof.envelope.as_ref()).map(|claim| (claim.read as usize, claim.read)).collect();
        for (pid, (files, envelope)) in &strangers.by_pid {
            for file in files {
                this.by_file.entry(file).or_default().push(*pid);
            }
            for read in readers.values() {
                if let Some(of) = envelope.as_deref().and_then(read) {
                    this.by_claim.entry(of).or_default().push(*pid);
                }
            }
        }
        this
    }

    fn add_descendants(&self, found: &mut BTreeSet<u32>) {
        let mut parents: Vec<u32> = found.iter().copied().collect();
        while let Some(parent) = parents.pop() {
            let children = self.children.get(&parent).into_iter().flatten();
            parents.extend(children.filter(|child| found.insert(**child)));
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

/// Whether a child has not become its program yet: until then it has its parent's memory, and copies of all its files.
///
/// Heart holds the FIFOs of every unit, so for that moment its newest child would seem to belong to all of them.
fn is_unborn(pid: u32, parents: Option<&[u8]>) -> bool {
    words_of(pid).is_some_and(|own| parents.is_some_and(|parents| own == parents))
}

/// The words of a process's command line.
fn words_of(pid: u32) -> Option<Vec<u8>> {
    procfs::read(&format!("/proc/{pid}/cmdline")).ok()
}

/// What stands behind the envelope's name in a process's environment, as it was when it was executed.
pub fn envelope_of(pid: u32) -> Option<Vec<u8>> {
    let environ = procfs::read(&format!("/proc/{pid}/environ")).ok()?;
    let entry = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(ENVELOPE_VARIABLE))?;
    Some(entry.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32, session: u32) -> Stat {
        Stat {
            pid,
            state: 'S',
            is_kernel: false,
            parent,
            group: session,
            session,
            cpu_ticks: 0,
            start_time: 1,
            resident_pages: 0,
            exit_code: None,
        }
    }

    fn snapshot(processes: &[Stat]) -> Snapshot {
        Snapshot { processes: processes.iter().map(|stat| (stat.pid, *stat)).collect(), boot_id: String::new() }
    }

    fn belonging(snapshot: &Snapshot, proof: &Proof, strangers: &Strangers, spare: &[u32]) -> Vec<u32> {
        let index = Index::of(snapshot, strangers, std::iter::once(proof));
        let found = snapshot.belonging(proof, &index, &spare.iter().copied().collect());
        found.into_iter().map(|identity| identity.pid).collect()
    }

    fn text(envelope: &[u8]) -> Option<String> {
        String::from_utf8(envelope.to_vec()).ok()
    }

    #[test]
    fn a_child_that_made_its_own_session_belongs_by_descent() {
        let snapshot = snapshot(&[stat(10, 1, 10), stat(11, 10, 11), stat(12, 11, 12), stat(99, 1, 99)]);
        let proof = Proof { leader: Some(10), ..Proof::default() };
        assert_eq!(belonging(&snapshot, &proof, &Strangers::default(), &[]), [10, 11, 12]);
    }

    #[test]
    fn a14_who_got_the_number_of_an_adopted_leader_does_not_belong() {
        let snapshot = snapshot(&[stat(10, 1, 10), stat(11, 10, 10)]);
        let of = |leader_start| Proof { leader: Some(10), leader_start, ..Proof::default() };
        let found = |proof| belonging(&snapshot, &proof, &Strangers::default(), &[]);
        assert_eq!(found(of(Some(1))), [10, 11]);
        assert_eq!(found(of(Some(7))), [0; 0]);
    }

    #[test]
    fn a_child_that_is_not_its_program_yet_is_told_by_its_parents_words() {
        let own = std::process::id();
        let words = words_of(own);
        assert!(is_unborn(own, words.as_deref()), "the same memory");
        assert!(!is_unborn(own, words_of(1).as_deref()), "another program");
        assert!(!is_unborn(u32::MAX, words.as_deref()), "nothing there");
    }

    #[test]
    fn little_is_read_of_who_is_in_the_session_of_a_leader_that_is_looked_after() {
        let own = std::process::id();
        let read_of = |sessions: &[u32]| {
            let strangers =
                Strangers::of(&snapshot(&[stat(own, 1, 77)]), &BTreeSet::new(), &sessions.iter().copied().collect());
            strangers.by_pid.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(read_of(&[76, 78]), [own]);
        assert_eq!(read_of(&[77]), [0; 0]);
    }

    #[test]
    fn who_asks_at_the_same_moment_shares_a_look_and_who_asks_during_it_shares_the_next() {
        let ask = |batch: &mut Batch| batch.push(Proof::default(), tokio::sync::oneshot::channel().0.into());
        let take = |batch: &mut Batch| batch.next(BTreeSet::new(), Vec::new).map(|scan| scan.asked.len());
        let mut batch = Batch::default();
        assert!(ask(&mut batch), "the first has a look called for");
        assert!(!ask(&mut batch), "it serves the second too");
        assert_eq!(take(&mut batch), Some(2));
        assert!(!ask(&mut batch), "the end of the running one calls for the next");
        assert_eq!(take(&mut batch), None);
        batch.finished();
        assert_eq!(take(&mut batch), Some(1));
        batch.finished();
        assert_eq!(take(&mut batch), None);
        assert!(ask(&mut batch));
    }

    #[test]
    fn an_orphan_belongs_by_its_envelope_and_the_daemon_never_belongs() {
        let snapshot = snapshot(&[stat(5, 1, 5), stat(20, 1, 20), stat(21, 1, 21), stat(22, 1, 22)]);
        let strangers = Strangers {
            by_pid: BTreeMap::from([
                (5, (vec!["/run/x.out".into()], Some(b"mine".to_vec()))),
                (20, (vec![], Some(b"mine".to_vec()))),
                (21, (vec![], Some(b"other".to_vec()))),
                (22, (vec!["/run/x.out".into()], None)),
            ]),
        };
        let proof = Proof {
            fifos: vec!["/run/x.out".into()],
            envelope: Some(Claim { read: text, of: "mine".to_owned() }),
            ..Proof::default()
        };
        assert_eq!(belonging(&snapshot, &proof, &strangers, &[5]), [20, 22]);
    }
}
