//! The processes in heart's care: started, watched by pidfd, kept as zombies until acknowledged.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::epoll::Epoll;

use super::child::Child;
use super::limits::{Arranged, arrange};
use super::orphans::{Offspring, kill_descendants};
use super::start::{Failure, Starter, no_terminal, open_fifo};
use super::stranger;
use super::terminal::{Answer, Terminal};
use super::wire::{Adoption, FromHeart, Held, Hold, Key, Order, Reach, WithDaemon};
use crate::process::cgroup::{self, Cgroups};
use crate::process::sys::child::{self, WaitStatus};
use crate::process::sys::spawn::Spawned;
use crate::process::sys::terminal::WindowSize;

/// How the envelope's variable begins (`runtime/src/vars` writes it; here it is only compared).
const ENVELOPE: &[u8] = b"ENVCTL_RT_VARS=";

/// Ended processes that wait to be reaped; more are reaped at once, for each keeps a number.
const SPENT_MAX: usize = 32;

/// What heart holds.
#[derive(Debug)]
pub struct Children {
    starter: Starter,
    held: BTreeMap<Key, Child>,
    /// Ended and acknowledged: nobody asks for them any more. They are reaped a little later, when their successors, which are
    /// being started just now, need the processor no more.
    spent: Vec<Spent>,
    /// The numbers of those that we have started and not reaped: nobody's orphans.
    own: BTreeSet<u32>,
    cgroups: Cgroups,
    /// The daemon: our child, and nobody's orphan.
    daemon: Option<u32>,
    /// The orphans that have come to us, as of this turn: looked for by the first that asks, however many end together.
    orphans: OnceCell<Option<Vec<u32>>>,
    offspring: Offspring,
}

/// A zombie whose end is dealt with.
#[derive(Debug)]
struct Spent {
    tag: String,
    pid: u32,
}

// === impl Children ===

impl Children {
    /// Holds nothing yet.
    pub fn new(starter: Starter) -> Self {
        Self {
            starter,
            held: BTreeMap::new(),
            spent: Vec::new(),
            own: BTreeSet::new(),
            cgroups: Cgroups::default(),
            daemon: None,
            orphans: OnceCell::new(),
            offspring: Offspring::default(),
        }
    }

    /// The daemon is this process now.
    pub fn set_daemon(&mut self, pid: u32) {
        self.daemon = Some(pid);
    }

    /// A new turn: others may have come to us.
    pub fn begin_turn(&mut self) {
        self.orphans = OnceCell::new();
    }

    /// Reaps and removes what is left to: the end of the session.
    pub fn finish(&mut self) {
        self.reap_spent();
        self.cgroups.finish();
    }

    /// Starts a process. The answer goes to the daemon; on success [`Children::pidfd`] is to be watched.
    pub fn spawn(&mut self, order: Order) -> FromHeart {
        let key = order.key;
        match self.try_spawn(order) {
            Ok(pid) => {
                let hold = self.held.get(&key).and_then(|child| child.hold.clone());
                FromHeart::Spawned { key, pid, hold, terminal: self.terminal_path(key) }
            }
            Err(failure) => FromHeart::SpawnFailed { key, errno: failure.errno, step: failure.step },
        }
    }

    /// Takes over a process of an earlier heart. The answer goes to the daemon; on success [`Children::pidfd`] is to be
    /// watched: it is readable at once if the process has ended already.
    pub fn adopt(&mut self, order: Adoption) -> FromHeart {
        let (key, pid) = (order.key, order.pid);
        match self.try_adopt(order) {
            Ok(()) => {
                let hold = self.held.get(&key).and_then(|child| child.hold.clone());
                FromHeart::Spawned { key, pid, hold, terminal: None }
            }
            Err(failure) => FromHeart::SpawnFailed { key, errno: failure.errno, step: failure.step },
        }
    }

    /// The descriptor that becomes readable when the process ends.
    pub fn pidfd(&self, key: Key) -> Option<BorrowedFd<'_>> {
        self.held.get(&key).map(|child| child.pidfd.as_fd())
    }

    /// Whether a process has ended: its pidfd would be reported for ever.
    pub fn has_ended(&self, key: Key) -> bool {
        self.held.get(&key).is_some_and(|child| child.exit.is_some())
    }

    /// Notes that a process has ended, without reaping it. The end of one with a terminal is told by
    /// [`Children::tend_terminal`], when what it has shown is in its FIFO.
    pub fn ended(&mut self, key: Key) -> io::Result<Option<FromHeart>> {
        let Some(child) = self.held.get_mut(&key).filter(|child| child.exit.is_none()) else { return Ok(None) };
        child.exit = match child.adopted {
            None => child::peek_exit(child.pid)?,
            Some(start_time) => Some(stranger::exit(child.pidfd.as_fd(), child.pid, start_time)),
        };
        let Some(status) = child.exit else { return Ok(None) };
        // All of a cgroup is killed together (`memory.oom.group`), so a kill in it was also the main process's, if that was
        // killed at all.
        let oom = status == WaitStatus::Signal(nix::libc::SIGKILL, false)
            && child.cgroup().is_some_and(|cgroup| cgroup.is_oom());
        if let Some(hold) = &mut child.hold {
            hold.oom = oom;
        }
        if child.forsaken {
            self.acknowledge(key);
        } else if let Some(terminal) = &mut child.terminal {
            terminal.leader_ended();
            return Ok(None);
        }
        Ok(Some(FromHeart::Exited { key, status, oom, alone: self.is_alone(key) }))
    }

    /// Whether a process that has ended has left nobody: what it leaves becomes our child before we are told of its end.
    fn is_alone(&self, key: Key) -> bool {
        let is_plain = |child: &Child| child.adopted.is_none() && child.cgroup().is_none();
        // Orphans of a thread's children go to somebody else.
        self.daemon.is_some()
            && self.held.get(&key).is_some_and(is_plain)
            && self.orphans().is_some_and(<[u32]>::is_empty)
    }

    /// Children of ours that we have not started. `None`: the kernel does not tell.
    fn orphans(&self) -> Option<&[u32]> {
        self.orphans.get_or_init(|| Some(self.not_ours(self.offspring.all()?))).as_deref()
    }

    fn not_ours(&self, mut pids: Vec<u32>) -> Vec<u32> {
        pids.retain(|pid| self.daemon != Some(*pid) && !self.own.contains(pid));
        pids
    }

    /// Orphans of units become our children; they are reaped by number, never by "whoever has ended".
    pub fn reap_orphans(&mut self) {
        // Looked for anew: who came since the last look has been told by the signal that brought us here.
        self.begin_turn();
        for &pid in self.orphans().unwrap_or_default() {
            let _ = child::reap(pid);
        }
        self.cgroups.tidy();
    }

    /// Whether a process has ended, but not for us: a debugger has it still.
    pub fn is_undecided(&self, key: Key) -> bool {
        self.held.get(&key).is_some_and(|child| child.exit.is_none())
    }

    /// Does what can be done at a process's terminal, if it has one, and watches it under `token`. Returns what is to be told.
    pub fn tend_terminal(&mut self, key: Key, epoll: &Epoll, token: u64) -> Vec<FromHeart> {
        let Some(child) = self.held.get_mut(&key) else { return Vec::new() };
        let Some(terminal) = &mut child.terminal else { return Vec::new() };
        let answers = if child.exit.is_some() { terminal.refuse() } else { terminal.press() };
        let mut told: Vec<FromHeart> =
            answers.into_iter().map(|Answer { number, taken }| FromHeart::Typed { key, number, taken }).collect();
        let has_shown_all = child.relay(epoll, token).unwrap_or_else(|error| {
            // One terminal that fails must not take the parent of all units with it.
            tracing::error!(tag = child.tag, %error, "a terminal failed and is closed");
            child.terminal = None;
            true
        });
        if let Some(status) = child.exit.filter(|_| has_shown_all && !child.told) {
            child.told = true;
            let oom = child.hold.as_ref().is_some_and(|hold| hold.oom);
            told.push(FromHeart::Exited { key, status, oom, alone: false });
        }
        told
    }

    /// Types on a process's terminal. `Some`: the piece was refused; else [`Children::tend_terminal`] goes on with it.
    pub fn type_in(&mut self, key: Key, number: u64, bytes: Vec<u8>) -> Option<FromHeart> {
        let refused = match self.held.get_mut(&key).and_then(|child| child.terminal.as_mut()) {
            Some(terminal) => terminal.type_in(number, bytes)?,
            None => Answer { number, taken: false },
        };
        Some(FromHeart::Typed { key, number, taken: refused.taken })
    }

    /// Gives a process's terminal another size.
    pub fn resize(&self, key: Key, size: WindowSize) {
        let Some(child) = self.held.get(&key) else { return };
        if let Some(Err(error)) = child.terminal.as_ref().map(|terminal| terminal.resize(size)) {
            tracing::warn!(tag = child.tag, %error, "a terminal cannot be given another size");
        }
    }

    /// The daemon is another one: what the last one typed is nobody's any more.
    pub fn forget_senders(&mut self) {
        self.held.values_mut().filter_map(|child| child.terminal.as_mut()).for_each(Terminal::forget_senders);
    }

    fn terminal_path(&self, key: Key) -> Option<PathBuf> {
        Some(self.held.get(&key)?.terminal.as_ref()?.path().to_owned())
    }

    /// Signals a process or its group. A process that is gone is no error: its end is on its way.
    pub fn signal(&self, key: Key, signal: i32, group: bool) {
        let Some(child) = self.held.get(&key) else { return };
        if group && signal == nix::libc::SIGKILL && child.exit.is_some() && child.ending.reach == Reach::All {
            self.kill_orphans(child);
        }
        if group
            && signal == nix::libc::SIGKILL
            && let Some(cgroup) = child.cgroup()
        {
            // Whatever left group and session is still in it; the signal below remains for kernels before 5.14.
            let _ = cgroup.kill();
        }
        let sent = if group { child.signal_group(signal) } else { child::pidfd_signal(child.pidfd.as_fd(), signal) };
        if let Err(error) =
            sent.or_else(|error| if error.raw_os_error() == Some(nix::libc::ESRCH) { Ok(()) } else { Err(error) })
        {
            tracing::warn!(tag = child.tag, signal, %error, "a signal could not be sent");
        }
    }

    /// Kills what left the session of a leader that has ended and so came to us: its successor finds its port free.
    ///
    /// Only what carries this very life's envelope; what has overwritten its environment is found when the unit stops.
    fn kill_orphans(&self, leader: &Child) {
        let Some(envelope) = &leader.envelope else { return };
        // The orphans of an adopted one have not come to us.
        let strangers;
        let orphans = if leader.adopted.is_some() {
            strangers = self.not_ours(stranger::pids());
            &strangers
        } else {
            self.orphans().unwrap_or_default()
        };
        for &pid in orphans {
            let Ok(pidfd) = child::pidfd_open(pid) else { continue };
            // Read after the descriptor is open: it is this process's environment, not a successor's.
            if stranger::variable(pid, ENVELOPE).as_ref() == Some(envelope) {
                tracing::info!(tag = leader.tag, pid, "an orphan of an ended life is killed");
                let _ = child::pidfd_signal(pidfd.as_fd(), nix::libc::SIGKILL);
            }
        }
    }

    /// Asks everything to end that ends with the daemon. Gives what is to be killed, and after how many milliseconds.
    pub fn end_with_daemon(&mut self) -> Vec<(Key, u64)> {
        let doomed = self.held.iter_mut().filter(|(_, child)| child.exit.is_none() && !child.doomed);
        let asked: Vec<(Key, WithDaemon)> = doomed
            .filter_map(|(key, child)| {
                let how = child.ending.with_daemon?;
                child.doomed = true;
                tracing::info!(tag = child.tag, pid = child.pid, "asked to end: the daemon died");
                Some((*key, how))
            })
            .collect();
        for (key, WithDaemon { signal, group, .. }) in &asked {
            self.signal(*key, *signal, *group);
            self.signal(*key, nix::libc::SIGCONT, *group);
        }
        asked.into_iter().map(|(key, how)| (key, how.grace_ms)).collect()
    }

    /// Kills a process that was asked to end with the daemon, as far as its end reaches.
    pub fn kill_doomed(&self, key: Key) {
        let Some(child) = self.held.get(&key).filter(|child| child.doomed) else { return };
        if child.ending.reach == Reach::All && child.exit.is_none() {
            // While the leader lives its descendants can be told, also those without an envelope in other sessions.
            kill_descendants(child.pid);
        }
        self.signal(key, nix::libc::SIGKILL, child.ending.reach != Reach::Main);
    }

    /// Kills what processes that ended with the daemon have left: each round may bring new orphans to us.
    pub fn kill_left_by_doomed(&self) {
        for (key, _) in self.held.iter().filter(|(_, child)| child.doomed && child.exit.is_some()) {
            self.kill_doomed(*key);
        }
    }

    /// Whether anything that was asked to end with the daemon still lives.
    pub fn is_ending(&self) -> bool {
        self.held.values().any(|child| child.doomed && child.exit.is_none())
    }

    /// Lets go of an ended process, which is reaped a little later. One that has not ended yet is let go of then.
    pub fn acknowledge(&mut self, key: Key) {
        let Some(child) = self.held.get_mut(&key) else { return };
        if child.exit.is_none() {
            child.forsaken = true;
            return;
        }
        let Some(child) = self.held.remove(&key) else { return };
        let cgroup = child.cgroup();
        if child.adopted.is_none() {
            self.spent.push(Spent { tag: child.tag, pid: child.pid });
        }
        // A zombie holds its cgroup, and whoever hears that a unit is down is to find nothing of it.
        if cgroup.is_some() || self.spent.len() >= SPENT_MAX {
            self.reap_spent();
        }
        cgroup.into_iter().for_each(|cgroup| self.cgroups.remove(cgroup));
    }

    /// Whether anything waits to be reaped.
    pub fn has_spent(&self) -> bool {
        !self.spent.is_empty()
    }

    /// Reaps what nobody asks for any more: from now on its numbers may be taken by others.
    pub fn reap_spent(&mut self) {
        for Spent { tag, pid } in self.spent.drain(..) {
            if let Err(error) = child::reap(pid) {
                tracing::warn!(tag, %error, "a process could not be reaped");
            }
            self.own.remove(&pid);
        }
    }

    /// What is held, for a daemon's greeting.
    pub fn list(&self) -> Vec<Held> {
        let held = |(key, child): (&Key, &Child)| {
            let Child { tag, pid, adopted, hold, .. } = child;
            let (tag, hold) = (tag.clone(), hold.clone());
            // An end that comes before the last words is told after them.
            let exit = child.exit.filter(|_| child.terminal.is_none() || child.told);
            let terminal = child.terminal.as_ref().map(|terminal| terminal.path().to_owned());
            Held { key: *key, tag, pid: *pid, exit, adopted: *adopted, hold, terminal }
        };
        self.held.iter().map(held).collect()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Kills every group and reaps every leader: the end of an embedded session.
    pub fn kill_all(&mut self) {
        for (_, child) in std::mem::take(&mut self.held) {
            let _ = child.signal_group(nix::libc::SIGKILL);
            if let Some(cgroup) = child.cgroup() {
                let _ = cgroup.kill();
            }
            if child.adopted.is_none() {
                let _ = child::reap_blocking(child.pid);
            }
            child.cgroup().into_iter().for_each(|cgroup| self.cgroups.remove(cgroup));
        }
        self.finish();
    }

    fn try_adopt(&mut self, order: Adoption) -> Result<(), Failure> {
        let Adoption { key, tag, pid, start_time, out, err, ending } = order;
        let pidfd = stranger::open(pid, start_time)?;
        let fifos = [open_fifo(&out)?, open_fifo(&err)?];
        let envelope = stranger::variable(pid, ENVELOPE);
        let cgroup = cgroup::of_life(pid, &tag).and_then(|cgroup| Some(cgroup.dir().to_str()?.to_owned()));
        // Which of its limits were not in force was told when it was started.
        let hold = cgroup.map(|cgroup| Hold { cgroup: Some(cgroup), ..Hold::default() });
        let child = Child { envelope, ending, hold, adopted: Some(start_time), ..Child::new(tag, pid, pidfd, fifos) };
        self.held.insert(key, child);
        Ok(())
    }

    fn try_spawn(&mut self, order: Order) -> Result<u32, Failure> {
        let (tag, key, ending) = (order.tag.clone(), order.key, order.ending);
        let envelope = order.env.iter().find(|entry| entry.starts_with(ENVELOPE)).map(|entry| entry.to_vec());
        let fifos = [open_fifo(&order.out)?, open_fifo(&order.err)?];
        let terminal = order.tty.map(Terminal::open).transpose().map_err(no_terminal)?;
        let Arranged { stub, cgroup, hold } = arrange(&order, &mut self.cgroups);
        let started = self.starter.start(&order, stub.as_ref(), terminal.as_ref());
        let Spawned { pid, pidfd } = started.inspect_err(|_| {
            cgroup.into_iter().for_each(|cgroup| self.cgroups.remove(cgroup));
        })?;
        let child = Child { envelope, ending, hold, terminal, ..Child::new(tag, pid, pidfd, fifos) };
        self.own.insert(pid);
        self.held.insert(key, child);
        Ok(pid)
    }
}

#[cfg(test)]
mod tests;
