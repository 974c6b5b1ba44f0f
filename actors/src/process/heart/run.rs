//! The loop: epoll turns descriptors into calls, nothing else.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::children::{Children, own_children};
use super::keeper::{DaemonCommand, Keeper, Next};
use super::wire::{Connection, FromHeart, Key, ToHeart, VERSION};
use crate::process::sys::child;

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
    children: Children,
    /// Only as a process: signals, orphans and the daemon are then ours to look after.
    process: Option<Process>,
    started: Instant,
}

/// What only a heart that is a process has.
struct Process {
    signals: SignalFd,
    keeper: Keeper,
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
    let mut heart = Heart::new(Children::new(stub), Some(Process { signals, keeper: Keeper::new(command) }))?;
    heart.watch_signals()?;
    heart.start_daemon()?;
    heart.run()
}

/// Runs heart as a thread of an embedding program; it ends, and kills what it holds, when the returned stream is dropped.
pub fn in_thread(stub: Option<PathBuf>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut heart = Heart::new(Children::new(stub), None)?;
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
        Ok(Self { epoll, connection: None, children, process, started: now() })
    }

    fn run(&mut self) -> io::Result<End> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events[..count] {
                if let Flow::End(end) = self.handle(event.data())? {
                    return Ok(end);
                }
            }
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
        let alive = self.read_orders();
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

    fn read_orders(&mut self) -> io::Result<bool> {
        let Some(connection) = &mut self.connection else { return Ok(false) };
        connection.flush()?;
        let alive = connection.fill()?;
        let mut orders = Vec::new();
        while let Some(order) = connection.take().map_err(io::Error::other)? {
            orders.push(order);
        }
        for order in orders {
            self.carry_out(order)?;
        }
        Ok(alive)
    }

    fn carry_out(&mut self, order: ToHeart) -> io::Result<()> {
        match order {
            ToHeart::Spawn(order) => {
                let key = order.key;
                let answer = self.children.spawn(*order);
                self.tell(&answer)?;
                self.watch_child(key)?;
                self.on_terminal(key)
            }
            ToHeart::Signal { key, signal, group } => {
                self.children.signal(key, signal, group);
                Ok(())
            }
            ToHeart::Ack { key } => {
                self.children.acknowledge(key);
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

    fn on_child(&mut self, key: Key) -> io::Result<()> {
        let end = self.children.ended(key)?;
        if self.children.has_ended(key)
            && let Some(pidfd) = self.children.pidfd(key)
        {
            self.epoll.delete(pidfd)?;
        }
        match end {
            Some(end) => self.tell(&end),
            None => self.on_terminal(key),
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
        self.reap_orphans();
        Ok(())
    }

    /// Orphans of units become our children; they are reaped by number, never by "whoever has ended".
    fn reap_orphans(&mut self) {
        let keeper = self.process.as_ref().map(|process| &process.keeper);
        for pid in own_children() {
            if !self.children.holds(pid) && !keeper.is_some_and(|keeper| keeper.is_daemon(pid)) {
                let _ = child::reap(pid);
            }
        }
    }

    fn on_daemon(&mut self) -> io::Result<Flow> {
        let now = now() - self.started;
        let Some(process) = &mut self.process else { return Ok(Flow::Go) };
        if let Some(pidfd) = process.keeper.pidfd() {
            self.epoll.delete(pidfd)?;
        }
        let next = process.keeper.ended(now)?;
        self.disconnect();
        match next {
            None => Ok(Flow::Go),
            Some(Next::Finish(code)) => Ok(Flow::End(End::Finished(code))),
            Some(Next::GiveUp) => {
                tracing::error!("the daemon died too often; units are left as they are");
                Ok(Flow::End(End::GaveUp))
            }
            Some(Next::Restart) => self.revive(),
        }
    }

    /// Starts the daemon again; a machine out of memory or descriptors gets a little time.
    fn revive(&mut self) -> io::Result<Flow> {
        for _ in 0..REVIVE_TRIES_MAX {
            match self.start_daemon() {
                Ok(()) => return Ok(Flow::Go),
                Err(error) => tracing::error!(%error, "the daemon cannot be started"),
            }
            // Nothing to poll: only the pause is wanted, in the one place where heart may not go on.
            let _ = nix::poll::poll(&mut [], REVIVE_PAUSE_MS);
        }
        Ok(Flow::End(End::GaveUp))
    }

    fn start_daemon(&mut self) -> io::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let connection = process.keeper.start()?;
        if let Some(pidfd) = process.keeper.pidfd() {
            self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_DAEMON))?;
        }
        self.connect(connection)
    }

    fn connect(&mut self, connection: Connection) -> io::Result<()> {
        self.epoll.add(connection.stream(), EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_CONNECTION))?;
        self.connection = Some(connection);
        self.children.forget_senders();
        let (pid, held) = (std::process::id(), self.children.list());
        self.tell(&FromHeart::Hello { version: VERSION, pid, held, terminals: true })
    }

    /// Tells the daemon, if there is one. What it misses, the next one is told by `Hello`.
    fn tell(&mut self, message: &FromHeart) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if let Err(error) = connection.send(message) {
            tracing::warn!(%error, "the daemon cannot be told");
            self.disconnect();
            return Ok(());
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
