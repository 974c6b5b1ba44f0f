//! The loop: epoll turns descriptors into calls, nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::children::Children;
use super::guardian::Guardian;
use super::keeper::{DaemonCommand, Keeper, Next};
use super::start::Starter;
use super::wire::{BUILD, Connection, FromHeart, Key, ToHeart, VERSION};
use crate::process::calm::{Calm, LOOK_AFTER};
use crate::process::reserve::Reserve;
use crate::process::sys::memory;

const TOKEN_CONNECTION: u64 = 0;
const TOKEN_SIGNALS: u64 = 1;
const TOKEN_DAEMON: u64 = 2;
/// Tokens from here on are keys of children.
const TOKEN_CHILDREN: u64 = 16;
/// Set in the tokens of children's terminals; keys are counted from 1 and never come near it.
const TOKEN_TERMINAL: u64 = 1 << 63;
/// Events taken from the kernel in one go; more are taken in the next.
const EVENTS_MAX: usize = 64;

/// Attempts to start a daemon that cannot be started, before heart gives up.
const REVIVE_TRIES_MAX: u32 = 20;
/// Pause between them, in milliseconds.
const REVIVE_PAUSE_MS: u16 = 100;

/// How often what ended under a debugger is looked at: nothing else tells that the debugger has let go.
const TRACED_LOOK: Duration = Duration::from_millis(100);
/// How long what has ended and is acknowledged is left, so that its successor has the processor first.
const REAP_AFTER: Duration = Duration::from_millis(10);
/// Descriptors kept back for starting a daemon when there are no others: a socket pair, a copy, a pidfd, and its log.
const REVIVE_FDS: usize = 8;

/// How heart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The daemon ended on purpose, with this code.
    Finished(i32),
    /// The daemon died too often; units are left running for the next one.
    GaveUp,
}

/// What one turn of the loop leads to.
enum Flow {
    Go,
    End(End),
}

/// heart itself.
struct Heart {
    epoll: Epoll,
    connection: Option<Connection>,
    /// Whether the connection is watched for room to write as well.
    is_behind: bool,
    children: Children,
    /// The daemon is being replaced: it is told nothing until the next one asks to be greeted.
    silent: bool,
    /// Only as a process: signals, orphans and the daemon are then ours to look after.
    process: Option<Process>,
    started: Instant,
    /// What has ended, by its token, while a debugger has still to let go of it: only then are we told how.
    traced: BTreeSet<u64>,
    /// Who is killed when, because the daemon died.
    guardian: Guardian,
    /// The present daemon took the place of one that did not die: after an upgrade, or instead of one that failed.
    replaced: bool,
    /// What the last orders needed is given back at this time.
    calm: Calm,
    look_at: Option<Instant>,
    /// When what has ended is reaped, if anything has.
    reap_at: Option<Instant>,
    /// Nobody is to come after the daemon: only what ends with it is still seen to its end.
    last: bool,
}

/// What only a heart that is a process has.
struct Process {
    signals: SignalFd,
    keeper: Keeper,
    reserve: Reserve,
}

/// Runs heart as this process, until the daemon ends on purpose or dies too often.
///
/// Makes this process a subreaper; blocks the signals it handles. Call from a single-threaded program.
pub fn as_process(command: DaemonCommand) -> io::Result<End> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mask = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT]);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let stub = Some(command.program.clone());
    let mut starter = Starter::new(stub);
    starter.settle_signals();
    if let Err(error) = starter.raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let process = Process { signals, keeper: Keeper::new(command), reserve: Reserve::new(REVIVE_FDS) };
    let mut heart = Heart::new(Children::new(starter), Some(process))?;
    heart.watch_signals()?;
    heart.start_daemon()?;
    let end = heart.run();
    heart.children.finish();
    end
}

/// Runs heart as a thread of an embedding program; it ends, and kills what it holds, when the returned stream is dropped.
pub fn in_thread(stub: Option<PathBuf>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut heart = Heart::new(Children::new(Starter::new(stub)), None)?;
    heart.connect(Connection::new(ours)?)?;
    std::thread::Builder::new().name("envctl-heart".to_owned()).spawn(move || {
        if let Err(error) = heart.run() {
            tracing::error!(%error, "heart stopped");
        }
        heart.children.kill_all();
    })?;
    Ok(theirs)
}

// === impl Heart ===

impl Heart {
    fn new(children: Children, process: Option<Process>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (guardian, traced, started) = (Guardian::default(), BTreeSet::new(), now());
        let (silent, last, replaced, is_behind) = (false, false, false, false);
        let (calm, look_at, reap_at) = (Calm::default(), None, None);
        Ok(Self {
            epoll,
            connection: None,
            is_behind,
            children,
            silent,
            process,
            started,
            traced,
            guardian,
            last,
            replaced,
            calm,
            look_at,
            reap_at,
        })
    }

    fn run(&mut self) -> io::Result<End> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        loop {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.children.begin_turn();
            self.end_overdue();
            let traced = mem::take(&mut self.traced);
            for token in events[..count].iter().map(|event| event.data()).chain(traced) {
                if let Flow::End(end) = self.handle(token)? {
                    return Ok(end);
                }
            }
            self.children.begin_turn();
            self.guard();
            self.look();
            self.reap();
            if self.last && !self.children.is_ending() {
                return Ok(End::GaveUp);
            }
        }
    }

    /// How long nothing may happen: until somebody is to be killed, a program that takes over has had its time, what a
    /// debugger has is to be looked at, what has ended is to be reaped, or there may be no more orders.
    fn patience(&self) -> EpollTimeout {
        let look = (!self.traced.is_empty()).then_some(TRACED_LOOK);
        let upgrade = self.process.as_ref().and_then(|process| process.keeper.patience(now() - self.started));
        // Rounded up, so that the time is really over when the wait is.
        let upgrade = upgrade.map(|left| left + Duration::from_millis(1));
        let reap = self.reap_at.map(|at| at.saturating_duration_since(now()) + Duration::from_millis(1));
        let calm = self.look_at.map(|at| at.saturating_duration_since(now()) + Duration::from_millis(1));
        let wait = self.guardian.next(now()).into_iter().chain(look).chain(upgrade).chain(calm).chain(reap).min();
        wait.and_then(|wait| EpollTimeout::try_from(wait).ok()).unwrap_or(EpollTimeout::NONE)
    }

    /// Kills whoever has had its time, and what those have left that ended in it.
    fn guard(&mut self) {
        for key in self.guardian.due(now()) {
            self.children.kill_doomed(key);
        }
        self.children.kill_left_by_doomed();
    }

    /// Gives back what the last orders needed, once there are no more.
    fn look(&mut self) {
        let now = now();
        if self.look_at.is_some_and(|at| at <= now) {
            let is_over = self.calm.is_over();
            self.look_at = (!is_over).then_some(now + LOOK_AFTER);
            if is_over {
                memory::give_back();
            }
        }
    }

    /// Reaps what has waited long enough.
    fn reap(&mut self) {
        let now = now();
        if self.reap_at.is_some_and(|at| at <= now) {
            self.children.reap_spent();
        }
        let due = self.reap_at.filter(|at| *at > now).unwrap_or(now + REAP_AFTER);
        self.reap_at = self.children.has_spent().then_some(due);
    }

    fn end_overdue(&mut self) {
        let now = now() - self.started;
        if let Some(process) = &mut self.process {
            process.keeper.end_overdue(now);
        }
    }

    fn handle(&mut self, token: u64) -> io::Result<Flow> {
        match token {
            TOKEN_CONNECTION => self.on_connection(),
            TOKEN_SIGNALS => self.on_signals().map(|()| Flow::Go),
            TOKEN_DAEMON => self.on_daemon(),
            terminal if terminal & TOKEN_TERMINAL != 0 => {
                self.on_terminal(terminal & !TOKEN_TERMINAL).map(|()| Flow::Go)
            }
            child => self.on_child(child - TOKEN_CHILDREN).map(|()| Flow::Go),
        }
    }

    fn on_connection(&mut self) -> io::Result<Flow> {
        let alive = self.carry_out_orders();
        if !matches!(alive, Ok(true)) {
            if let Err(error) = alive {
                tracing::warn!(%error, "the connection to the daemon failed");
            }
            self.disconnect();
            // A thread serves one session only; a process waits for the daemon's end, which its pidfd tells.
            return Ok(if self.process.is_some() { Flow::Go } else { Flow::End(End::Finished(0)) });
        }
        self.update_interest()?;
        Ok(Flow::Go)
    }

    /// Carries out all that the daemon has said, also if it has gone since: what it killed at last must not live on because
    /// nobody read of it. `false`: it has gone.
    fn carry_out_orders(&mut self) -> io::Result<bool> {
        let Some(connection) = &mut self.connection else { return Ok(false) };
        // That nothing more can be said to it hinders no order of it.
        let flushed = connection.flush();
        let alive = connection.fill();
        let mut orders = Vec::new();
        while let Some(order) = connection.take().map_err(io::Error::other)? {
            orders.push(order);
        }
        let mut result = flushed;
        for order in orders {
            result = result.and(self.carry_out(order));
        }
        result.and(alive)
    }

    fn carry_out(&mut self, order: ToHeart) -> io::Result<()> {
        if self.calm.worked() {
            self.look_at = Some(now() + LOOK_AFTER);
        }
        match order {
            ToHeart::Spawn(order) => {
                let key = order.key;
                let answer = self.children.spawn(*order);
                self.tell(&answer)?;
                self.watch_child(key)?;
                self.on_terminal(key)
            }
            ToHeart::Adopt(order) => {
                let key = order.key;
                let answer = self.children.adopt(*order);
                self.tell(&answer)?;
                self.watch_child(key)
            }
            ToHeart::Signal { key, signal, group } => {
                self.children.signal(key, signal, group);
                Ok(())
            }
            ToHeart::Ack { key } => {
                self.children.acknowledge(key);
                Ok(())
            }
            ToHeart::HandOver { program } => self.hand_over(&program),
            ToHeart::Greet => {
                self.silent = false;
                self.replaced = true;
                self.children.forget_senders();
                self.greet()
            }
            ToHeart::Keep => {
                if let Some(process) = &mut self.process {
                    process.keeper.keep();
                }
                Ok(())
            }
            ToHeart::Type { key, number, bytes } => match self.children.type_in(key, number, bytes.into_vec()) {
                Some(refused) => self.tell(&refused),
                None => self.on_terminal(key),
            },
            ToHeart::Resize { key, size } => {
                self.children.resize(key, size);
                Ok(())
            }
        }
    }

    fn hand_over(&mut self, program: &[u8]) -> io::Result<()> {
        let now = now() - self.started;
        // A thread cannot outlive its program, so it is never asked.
        let Some(process) = &mut self.process else { return Ok(()) };
        process.keeper.hand_over(OsStr::from_bytes(program).to_owned(), now);
        self.tell(&FromHeart::HandingOver)?;
        self.silent = true;
        Ok(())
    }

    fn on_child(&mut self, key: Key) -> io::Result<()> {
        // Told first, for its successor waits for that.
        if let Some(end) = self.children.ended(key)? {
            self.tell(&end)?;
            return self.forget_child(key);
        }
        if self.children.has_ended(key) {
            self.forget_child(key)?;
        } else if self.children.is_undecided(key) {
            self.forget_child(key)?;
            self.traced.insert(TOKEN_CHILDREN + key);
        }
        self.on_terminal(key)
    }

    /// Watches a child no more: its pidfd would be reported for ever.
    fn forget_child(&self, key: Key) -> io::Result<()> {
        self.children.pidfd(key).map_or(Ok(()), |pidfd| self.forget(pidfd))
    }

    /// Watches a descriptor no more, which may be so already.
    fn forget(&self, fd: impl AsFd) -> io::Result<()> {
        match self.epoll.delete(fd) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn on_terminal(&mut self, key: Key) -> io::Result<()> {
        for message in self.children.tend_terminal(key, &self.epoll, TOKEN_TERMINAL | key) {
            self.tell(&message)?;
        }
        Ok(())
    }

    fn on_signals(&mut self) -> io::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        while let Some(info) = process.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).unwrap_or_default();
            if signal != nix::libc::SIGCHLD {
                tracing::info!(signal, "signal passed on to the daemon");
                process.keeper.forward(signal);
            }
        }
        self.children.reap_orphans();
        Ok(())
    }

    fn on_daemon(&mut self) -> io::Result<Flow> {
        let now = now() - self.started;
        // Its end may be heard of before its last words.
        if let Err(error) = self.carry_out_orders() {
            tracing::warn!(%error, "the daemon's last orders failed");
        }
        if let Some(pidfd) = self.process.as_ref().and_then(|process| process.keeper.pidfd()) {
            self.forget(pidfd)?;
        }
        let Some(process) = &mut self.process else { return Ok(Flow::Go) };
        let next = process.keeper.ended(now)?;
        let is_undecided = next.is_none() && process.keeper.pidfd().is_some();
        self.replaced = next == Some(Next::Rescue);
        self.disconnect();
        if matches!(next, Some(Next::Restart | Next::GiveUp)) {
            let asked = self.children.end_with_daemon();
            self.guardian.expect(asked, self::now());
        }
        match next {
            None => {
                self.traced.extend(is_undecided.then_some(TOKEN_DAEMON));
                Ok(Flow::Go)
            }
            Some(Next::Finish(code)) => Ok(Flow::End(End::Finished(code))),
            Some(Next::GiveUp) => {
                tracing::error!("the daemon died too often; units are left as they are");
                self.give_up()
            }
            Some(Next::Restart | Next::Rescue) => self.revive(),
        }
    }

    /// Starts the daemon again; a machine out of memory or descriptors gets a little time.
    fn revive(&mut self) -> io::Result<Flow> {
        if let Some(process) = &mut self.process {
            process.reserve.give_all();
        }
        for _ in 0..REVIVE_TRIES_MAX {
            match self.start_daemon() {
                Ok(()) => {
                    self.process.iter_mut().for_each(|process| process.reserve.refill());
                    return Ok(Flow::Go);
                }
                Err(error) => tracing::error!(%error, "the daemon cannot be started"),
            }
            // Nothing to poll: only the pause is wanted, in the one place where heart may not go on.
            let _ = nix::poll::poll(&mut [], REVIVE_PAUSE_MS);
        }
        self.give_up()
    }

    /// No daemon comes any more; what ends with it is seen to its end by us.
    fn give_up(&mut self) -> io::Result<Flow> {
        self.last = self.children.is_ending();
        Ok(if self.last { Flow::Go } else { Flow::End(End::GaveUp) })
    }

    fn start_daemon(&mut self) -> io::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let connection = process.keeper.start()?;
        if let Some(pidfd) = process.keeper.pidfd() {
            self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_DAEMON))?;
        }
        if let Some(pid) = process.keeper.pid() {
            self.children.set_daemon(pid);
        }
        self.connect(connection)
    }

    fn connect(&mut self, connection: Connection) -> io::Result<()> {
        self.epoll.add(connection.stream(), EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_CONNECTION))?;
        self.connection = Some(connection);
        (self.silent, self.is_behind) = (false, false);
        self.children.forget_senders();
        self.greet()
    }

    fn greet(&mut self) -> io::Result<()> {
        let rescued = self.process.as_ref().and_then(|process| process.keeper.rescued()).map(str::to_owned);
        let (pid, held, build) = (std::process::id(), self.children.list(), Some(BUILD.to_owned()));
        let (version, terminals, replaced) = (VERSION, true, self.replaced);
        self.tell(&FromHeart::Hello { version, pid, held, build, rescued, terminals, replaced })
    }

    /// Tells the daemon, if there is one. What it misses, the next one is told by `Hello`.
    fn tell(&mut self, message: &FromHeart) -> io::Result<()> {
        let Some(connection) = self.connection.as_mut().filter(|_| !self.silent) else { return Ok(()) };
        if let Err(error) = connection.send(message) {
            tracing::warn!(%error, "the daemon cannot be told");
            // What it has said itself is still to be read: then the connection says that it has gone.
            self.silent = true;
            connection.say_no_more();
        }
        self.update_interest()
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.epoll.delete(connection.stream());
        }
    }

    fn update_interest(&mut self) -> io::Result<()> {
        let Some(connection) = &self.connection else { return Ok(()) };
        if std::mem::replace(&mut self.is_behind, connection.is_behind()) == connection.is_behind() {
            return Ok(());
        }
        let behind = if connection.is_behind() { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | behind, TOKEN_CONNECTION);
        Ok(self.epoll.modify(connection.stream(), &mut event)?)
    }

    fn watch_child(&mut self, key: Key) -> io::Result<()> {
        let Some(pidfd) = self.children.pidfd(key) else { return Ok(()) };
        Ok(self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_CHILDREN + key))?)
    }

    fn watch_signals(&mut self) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        Ok(self.epoll.add(process.signals.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_SIGNALS))?)
    }
}

#[expect(clippy::disallowed_methods, reason = "heart has no tokio; this is its one clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
