//! The processes in heart's care: started, watched by pidfd, kept as zombies until acknowledged.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::Epoll;

use super::limits::{Arranged, OpenFiles, arrange};
use super::orphans::Offspring;
use super::terminal::{Answer, Terminal};
use super::wire::{Adoption, Ending, FromHeart, Held, Hold, Key, Order, Reach, StubOrder, WithDaemon};
use super::{stranger, stub};
use crate::process::cgroup::{self, Cgroup, Cgroups};
use crate::process::identity::Stat;
use crate::process::sys::child::{self, ChildFile, Spawn, WaitStatus};
use crate::process::sys::pipe;
use crate::process::sys::terminal::WindowSize;

/// How long a stub may take to become its program; it does a few system calls.
const STUB_MAX_MS: u16 = 5_000;

/// Descendants looked at in one go: more are a fork storm, which the next daemon's rounds end.
const DESCENDANTS_MAX: usize = 4096;

/// How the envelope's variable begins (`runtime/src/vars` writes it; here it is only compared).
const ENVELOPE: &[u8] = b"ENVCTL_RT_VARS=";

/// What heart holds.
#[derive(Debug)]
pub struct Children {
    stub: Option<PathBuf>,
    held: BTreeMap<Key, Child>,
    cgroups: Cgroups,
    /// Heart's own limit, where it has raised it.
    open_files: Option<OpenFiles>,
    /// The daemon: our child, and nobody's orphan.
    daemon: Option<u32>,
    /// The orphans that have come to us, as of this turn: looked for by the first that asks, however many end together.
    orphans: OnceCell<Option<Vec<u32>>>,
    offspring: Offspring,
}

/// One process.
#[derive(Debug)]
struct Child {
    tag: String,
    pid: u32,
    pidfd: OwnedFd,
    exit: Option<WaitStatus>,
    /// The envelope it was started with, as it stands in its environment: its orphans carry the same.
    envelope: Option<Vec<u8>>,
    /// How far its end reaches, and whether it ends with the daemon.
    ending: Ending,
    /// Whether it was asked to end because the daemon died.
    doomed: bool,
    /// Acknowledged before it had ended: nobody will ask again, so it is reaped as soon as it ends.
    forsaken: bool,
    /// When it started, if an earlier heart has started it: then it is no child of ours, and never reaped by us.
    adopted: Option<u64>,
    /// What holds it within its limits.
    hold: Option<Hold>,
    /// Its FIFOs, held until its end is acknowledged: what it wrote while no daemon lived stays in them.
    fifos: [OwnedFd; 2],
    /// Held as long as the FIFOs: whatever is still on it then is told by SIGHUP.
    terminal: Option<Terminal>,
    /// Its end has been told, or would have been if there had been a daemon.
    told: bool,
}

/// Why a process was not started.
#[derive(Debug)]
pub struct Failure {
    errno: i32,
    step: Option<String>,
}

// === impl Children ===

impl Children {
    /// Holds nothing yet. `stub`: the program whose `exec-stub` subcommand serves orders that need one.
    pub fn new(stub: Option<PathBuf>) -> Self {
        let (held, cgroups, orphans) = (BTreeMap::new(), Cgroups::default(), OnceCell::new());
        Self { stub, held, cgroups, open_files: None, daemon: None, orphans, offspring: Offspring::default() }
    }

    /// The daemon is this process now.
    pub fn set_daemon(&mut self, pid: u32) {
        self.daemon = Some(pid);
    }

    /// A new turn: others may have come to us.
    pub fn begin_turn(&mut self) {
        self.orphans = OnceCell::new();
    }

    /// Raises our own limit of open files; units still get the one there was. Only for a process of one thread.
    pub fn raise_open_files(&mut self) -> io::Result<()> {
        self.open_files = Some(OpenFiles::raise()?);
        Ok(())
    }

    /// Removes the cgroups that are left: the end of the session.
    pub fn finish(&mut self) {
        self.cgroups.finish();
    }

    /// Removes cgroups whose last process has gone by now.
    pub fn tidy(&mut self) {
        self.cgroups.tidy();
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

    /// All children of ours, those that we have started included; nobody, where the kernel does not tell.
    pub fn offspring(&self) -> Vec<u32> {
        self.offspring.all().unwrap_or_default()
    }

    /// Children of ours that we have not started. `None`: the kernel does not tell.
    fn orphans(&self) -> Option<&[u32]> {
        self.orphans.get_or_init(|| self.offspring.all().map(|pids| self.not_held(pids))).as_deref()
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
            strangers = self.not_held(stranger::pids());
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

    fn not_held(&self, mut pids: Vec<u32>) -> Vec<u32> {
        // The usual case, and the quick one: one child is the daemon, and there are no orphans.
        pids.retain(|pid| self.daemon != Some(*pid));
        if !pids.is_empty() {
            let held = self.pids();
            pids.retain(|pid| !held.contains(pid));
        }
        pids
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

    /// Reaps an ended process: from now on its number may be taken by another. One that has not ended yet is reaped then.
    pub fn acknowledge(&mut self, key: Key) {
        let Some(child) = self.held.get_mut(&key) else { return };
        if child.exit.is_none() {
            child.forsaken = true;
            return;
        }
        if child.adopted.is_none()
            && let Err(error) = child::reap(child.pid)
        {
            tracing::warn!(tag = child.tag, %error, "a process could not be reaped");
        }
        if let Some(cgroup) = self.held.remove(&key).and_then(|child| child.cgroup()) {
            self.cgroups.remove(cgroup);
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

    /// The processes held.
    pub fn pids(&self) -> BTreeSet<u32> {
        self.held.values().map(|child| child.pid).collect()
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
        let started = self.start(&order, stub.as_ref(), terminal.as_ref());
        let (pid, pidfd) = started.inspect_err(|_| {
            cgroup.into_iter().for_each(|cgroup| self.cgroups.remove(cgroup));
        })?;
        let child = Child { envelope, ending, hold, terminal, ..Child::new(tag, pid, pidfd, fifos) };
        self.held.insert(key, child);
        Ok(pid)
    }

    /// Starts it, with what the stub has to do if anything, and opens its descriptor.
    fn start(
        &self,
        order: &Order,
        stub: Option<&StubOrder>,
        terminal: Option<&Terminal>,
    ) -> Result<(u32, OwnedFd), Failure> {
        // Open until the child has its copy.
        let stdin = order.stdin.as_deref().map(|path| open_stdin(path)).transpose()?;
        let mut spawn = plan(order, terminal)?;
        if let Some(stdin) = stdin.as_ref().filter(|_| terminal.is_none()) {
            spawn.files[0] = ChildFile::Copy { fd: 0, from: stdin.as_raw_fd() };
        }
        let pid = match stub {
            None => self.spawn_as_unit(&spawn)?,
            Some(wanted) => self.spawn_stub(order, wanted, spawn)?,
        };
        // The child is ours and unreaped, so its number cannot have been taken by another. One that cannot be watched must
        // not live on unseen.
        let pidfd = child::pidfd_open(pid).inspect_err(|_| {
            let _ = child::signal_group(pid, nix::libc::SIGKILL);
            let _ = child::reap_blocking(pid);
        })?;
        Ok((pid, pidfd))
    }

    fn spawn_as_unit(&self, spawn: &Spawn) -> io::Result<u32> {
        match &self.open_files {
            Some(open_files) => open_files.as_unit(|| child::spawn(spawn)),
            None => child::spawn(spawn),
        }
    }

    fn spawn_stub(&self, order: &Order, wanted: &StubOrder, mut spawn: Spawn) -> Result<u32, Failure> {
        let program = self.stub.as_deref().ok_or_else(|| Failure {
            errno: nix::libc::ENOSYS,
            step: Some("find the exec stub: this session has none".to_owned()),
        })?;
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        spawn.argv = stub_argv(program, wanted, order)?;
        spawn.program = child::c_string(program.as_os_str())?;
        spawn.files.push(ChildFile::Copy { fd: stub::ERROR_FD, from: write.as_raw_fd() });
        let pid = self.spawn_as_unit(&spawn)?;
        drop(write);
        match told_by_stub(read) {
            None => Ok(pid),
            Some((errno, step)) => {
                let _ = child::signal_group(pid, nix::libc::SIGKILL);
                let _ = child::reap_blocking(pid);
                Err(Failure { errno, step: (step != stub::EXEC).then_some(step) })
            }
        }
    }
}

// === impl Child ===

impl Child {
    /// Lives, and has nothing of what only some have.
    fn new(tag: String, pid: u32, pidfd: OwnedFd, fifos: [OwnedFd; 2]) -> Self {
        Self {
            tag,
            pid,
            pidfd,
            exit: None,
            envelope: None,
            ending: Ending::default(),
            doomed: false,
            forsaken: false,
            adopted: None,
            hold: None,
            fifos,
            terminal: None,
            told: false,
        }
    }

    /// Moves what its terminal shows. `true`: after its end, that was all.
    fn relay(&mut self, epoll: &Epoll, token: u64) -> io::Result<bool> {
        let Some(terminal) = &mut self.terminal else { return Ok(true) };
        let fifo = self.fifos[0].as_fd();
        terminal.relay(fifo)?;
        let has_shown_all = self.exit.is_none() || terminal.is_told(fifo)?;
        terminal.watch(epoll, token, fifo)?;
        Ok(has_shown_all)
    }

    /// Signals the whole group; also while the leader is a zombie.
    fn signal_group(&self, signal: i32) -> io::Result<()> {
        match self.adopted {
            None => child::signal_group(self.pid, signal),
            Some(start_time) => stranger::signal_group(self.pidfd.as_fd(), self.pid, start_time, signal),
        }
    }

    fn cgroup(&self) -> Option<Cgroup> {
        self.hold.as_ref()?.cgroup.as_deref().map(Cgroup::in_dir)
    }
}

// === impl Failure ===

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL), step: None }
    }
}

/// Kills the descendants of a living process, the deepest last: a killed parent's children come to us, and are seen already.
fn kill_descendants(of: u32) {
    let mut open = vec![of];
    let mut found = Vec::new();
    while let Some(parent) = open.pop().filter(|_| found.len() < DESCENDANTS_MAX) {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            let Ok(pidfd) = child::pidfd_open(pid) else { continue };
            // Checked after opening: from here on the descriptor cannot come to mean another process.
            if Stat::read(pid).is_some_and(|stat| stat.parent == parent) {
                found.push(pidfd);
                open.push(pid);
            }
        }
    }
    for pidfd in found {
        let _ = child::pidfd_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
}

fn open_fifo(path: &[u8]) -> Result<OwnedFd, Failure> {
    let path = Path::new(OsStr::from_bytes(path));
    pipe::open_fifo(path).map_err(|error| Failure {
        errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL),
        step: Some(format!("open {}", path.display())),
    })
}

/// Standard input: a regular file, so that opening it cannot wait for anybody, in heart least of all.
fn open_stdin(path: &[u8]) -> Result<OwnedFd, Failure> {
    let path = Path::new(OsStr::from_bytes(path));
    let failure = |errno| Failure { errno, step: Some(format!("open its standard input {}", path.display())) };
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(|error| failure(error.raw_os_error().unwrap_or(nix::libc::EINVAL)))?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file.into()),
        _ => Err(failure(nix::libc::EINVAL)),
    }
}

fn no_terminal(error: io::Error) -> Failure {
    Failure { errno: error.raw_os_error().unwrap_or(nix::libc::EINVAL), step: Some("open a terminal".to_owned()) }
}

fn plan(order: &Order, terminal: Option<&Terminal>) -> io::Result<Spawn> {
    let open = |fd, path: &[u8], flags| {
        let path = child::c_string(OsStr::from_bytes(path))?;
        Ok::<_, io::Error>(ChildFile::Open { fd, path, flags })
    };
    // Read-write, so that neither our death nor the daemon's ever gives the unit SIGPIPE.
    let fifo = OFlag::O_RDWR.bits();
    Ok(Spawn {
        program: c_text(&order.program)?,
        argv: order.argv.iter().map(|arg| c_text(arg)).collect::<io::Result<_>>()?,
        env: order.env.iter().map(|entry| c_text(entry)).collect::<io::Result<_>>()?,
        dir: c_text(&order.dir)?,
        files: match terminal {
            // Without O_NOCTTY: the leader of a new session gets it as its controlling terminal (tty_ioctl(4)).
            Some(terminal) => vec![
                open(0, terminal.path().as_os_str().as_bytes(), OFlag::O_RDWR.bits())?,
                ChildFile::Copy { fd: 1, from: 0 },
                ChildFile::Copy { fd: 2, from: 0 },
            ],
            None => vec![
                open(0, b"/dev/null", OFlag::O_RDONLY.bits())?,
                open(1, &order.out, fifo)?,
                open(2, &order.err, fifo)?,
            ],
        },
    })
}

fn stub_argv(program: &Path, wanted: &StubOrder, order: &Order) -> io::Result<Vec<CString>> {
    let wanted = serde_json::to_string(wanted).map_err(io::Error::other)?;
    let head = [program.as_os_str().as_bytes(), stub::SUBCOMMAND.as_bytes(), wanted.as_bytes(), &order.program];
    let argv = order.argv.iter().map(|arg| arg.as_slice());
    head.into_iter().chain(argv).map(c_text).collect()
}

/// Waits until the stub has become its program (`None`) or says what failed.
fn told_by_stub(read: OwnedFd) -> Option<(i32, String)> {
    let mut wait = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, PollTimeout::from(STUB_MAX_MS)) == Ok(0) {
        return Some((nix::libc::ETIMEDOUT, "become its program in time: the exec stub hangs".to_owned()));
    }
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).ok()?;
    stub::parse_failure(&text)
}

fn c_text(bytes: &[u8]) -> io::Result<CString> {
    child::c_string(OsStr::from_bytes(bytes))
}
