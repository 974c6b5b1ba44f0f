//! The other end of a unit's terminal.
//!
//! ```text
//! unit ──fds 0, 1, 2──▶ slave ═ master ──relay──▶ the unit's FIFO ──splice──▶ its log
//!                                      ◀─type───  pieces from the daemon, as far as the terminal takes them
//! ```
//!
//! What is shown goes into the FIFO that the log stream reads anyway, so no daemon's death loses a byte: heart moves them, and
//! heart's death is the terminal's own. Both directions are bounded: a full FIFO leaves bytes in the terminal and the unit waits, as
//! it would on a pipe; a unit that does not read has its input refused. Never blocks, and never looks at a byte.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd;

use super::wire::TYPED_MAX_BYTES;
use crate::process::sys::terminal::{self, Pair, WindowSize};

/// One read of a terminal gives at most this (N_TTY_BUF_SIZE), and one write of it into a FIFO is whole or refused (pipe(7), PIPE_BUF).
const CHUNK_BYTES: usize = 4096;
/// Chunks moved before heart looks at others.
const CHUNKS_MAX: usize = 16;
/// Bytes that wait to be typed; the kernel keeps about 20 KiB of its own before that (measured). More is refused.
const TYPING_MAX_BYTES: usize = 16 * TYPED_MAX_BYTES;
/// What is moved after the leader's end before its end is told: more than a terminal holds (22 KiB, measured), so only what a
/// stranger goes on writing is left out.
const LAST_WORDS_MAX_BYTES: usize = 64 * 1024;

/// A unit's terminal.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Held so that the terminal stays up whoever opens and closes it: the master never reports a hangup, which would spin.
    _slave: OwnedFd,
    path: PathBuf,
    /// Read, and not in the FIFO yet because that is full.
    chunk: Vec<u8>,
    typing: VecDeque<Piece>,
    /// The leader has ended: so much may still be moved before its end is told.
    last_words: Option<usize>,
    watched: Option<Interest>,
}

/// Something to be typed.
#[derive(Debug)]
struct Piece {
    /// `None`: who sent it is gone, and nobody is told.
    number: Option<u64>,
    bytes: Vec<u8>,
    done: usize,
}

/// What is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interest {
    /// Something to show: the master becomes readable.
    shown: bool,
    /// Room to type: the master becomes writable.
    typing: bool,
    /// Room in the FIFO.
    fifo: bool,
}

/// What becomes of a piece, by the daemon's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its number.
    pub number: u64,
    /// Whether the terminal took it.
    pub taken: bool,
}

// === impl Terminal ===

impl Terminal {
    /// A new terminal of this size.
    pub fn open(size: WindowSize) -> io::Result<Self> {
        let Pair { master, slave, path } = terminal::open(size)?;
        Ok(Self {
            master,
            _slave: slave,
            path,
            chunk: Vec::new(),
            typing: VecDeque::new(),
            last_words: None,
            watched: None,
        })
    }

    /// Where programs open it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it waits for now.
    fn interest(&self) -> Interest {
        let behind = !self.chunk.is_empty();
        Interest { shown: !behind, typing: !self.typing.is_empty(), fifo: behind }
    }

    /// Has exactly what it waits for reported under `token`; closing it ends that.
    pub fn watch(&mut self, epoll: &Epoll, token: u64, fifo: BorrowedFd<'_>) -> io::Result<()> {
        let wanted = self.interest();
        let before = self.watched.replace(wanted);
        if before == Some(wanted) {
            return Ok(());
        }
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, wanted.shown);
        flags.set(EpollFlags::EPOLLOUT, wanted.typing);
        let mut event = EpollEvent::new(flags, token);
        match before {
            None => epoll.add(&self.master, event)?,
            Some(_) => epoll.modify(&self.master, &mut event)?,
        }
        match (before.is_some_and(|before| before.fifo), wanted.fifo) {
            (false, true) => epoll.add(fifo, EpollEvent::new(EpollFlags::EPOLLOUT, token))?,
            (true, false) => epoll.delete(fifo)?,
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Moves what is shown into the FIFO, a fair share of it. Returns the bytes moved; 0: nothing is there, or the FIFO is full.
    pub fn relay(&mut self, fifo: BorrowedFd<'_>) -> io::Result<usize> {
        let mut moved = 0;
        for _ in 0..CHUNKS_MAX {
            if self.chunk.is_empty() && !self.fill()? {
                break;
            }
            match unistd::write(fifo, &self.chunk) {
                Ok(count) => {
                    moved += count;
                    self.chunk.drain(..count);
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        if let Some(left) = &mut self.last_words {
            *left = left.saturating_sub(moved);
        }
        Ok(moved)
    }

    /// The leader has ended: what it has shown is still to be moved.
    pub fn leader_ended(&mut self) {
        self.last_words.get_or_insert(LAST_WORDS_MAX_BYTES);
    }

    /// After the leader's end: whether everything that it has shown is in the FIFO.
    pub fn is_told(&mut self, fifo: BorrowedFd<'_>) -> io::Result<bool> {
        while self.last_words.is_some_and(|left| left > 0) {
            if self.relay(fifo)? == 0 {
                return Ok(self.chunk.is_empty());
            }
        }
        Ok(true)
    }

    /// Types a piece, now or when the unit has read. `Some`: its fate is known already.
    pub fn type_in(&mut self, number: u64, bytes: Vec<u8>) -> Option<Answer> {
        let waiting: usize = self.typing.iter().map(|piece| piece.bytes.len()).sum();
        if self.last_words.is_some() || bytes.len() > TYPED_MAX_BYTES || waiting + bytes.len() > TYPING_MAX_BYTES {
            return Some(Answer { number, taken: false });
        }
        self.typing.push_back(Piece { number: Some(number), bytes, done: 0 });
        None
    }

    /// Types what waits, as far as the terminal takes it. Returns what is decided by it.
    pub fn press(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(piece) = self.typing.front_mut() {
            match unistd::write(&self.master, &piece.bytes[piece.done..]) {
                Ok(0) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => break,
                Ok(count) => piece.done += count,
                Err(errno) => {
                    tracing::warn!(path = %self.path.display(), %errno, "nothing can be typed on a terminal");
                    return self.refuse_all(answers);
                }
            }
            if piece.done == piece.bytes.len() {
                answers.extend(piece.number.map(|number| Answer { number, taken: true }));
                self.typing.pop_front();
            }
        }
        answers
    }

    /// Nobody will read what waits: it is refused.
    pub fn refuse(&mut self) -> Vec<Answer> {
        self.refuse_all(Vec::new())
    }

    /// The daemon that sent what waits is gone; what it sent is typed all the same.
    pub fn forget_senders(&mut self) {
        self.typing.iter_mut().for_each(|piece| piece.number = None);
    }

    /// Gives it another size.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        terminal::resize(self.master.as_fd(), size)
    }

    fn refuse_all(&mut self, mut answers: Vec<Answer>) -> Vec<Answer> {
        let numbers = self.typing.drain(..).filter_map(|piece| piece.number);
        answers.extend(numbers.map(|number| Answer { number, taken: false }));
        answers
    }

    /// Reads the next chunk. `false`: there is none now. An end (EIO) cannot come while the slave is held.
    fn fill(&mut self) -> io::Result<bool> {
        self.chunk.resize(CHUNK_BYTES, 0);
        let got = unistd::read(&self.master, &mut self.chunk);
        self.chunk.truncate(*got.as_ref().unwrap_or(&0));
        match got {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;
    use crate::process::sys::pipe;

    /// A terminal whose unit is the test, and the FIFO that its log would be.
    struct World {
        terminal: Terminal,
        unit: File,
        fifo: OwnedFd,
        _dir: tempfile::TempDir,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit.out");
        pipe::mkfifo(&path).unwrap();
        let terminal = Terminal::open(WindowSize::default()).unwrap();
        let unit = File::from(terminal._slave.try_clone().unwrap());
        World { fifo: pipe::open_fifo(&path).unwrap(), terminal, unit, _dir: dir }
    }

    fn read_fifo(fifo: &OwnedFd) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while let Ok(count @ 1..) = pipe::read_some(fifo.as_fd(), &mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    #[test]
    fn what_is_shown_waits_in_order_while_the_fifo_is_full() {
        let mut world = world();
        let filler = vec![b'.'; 64 << 10];
        File::from(world.fifo.try_clone().unwrap()).write_all(&filler).unwrap();
        world.unit.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(world.terminal.relay(world.fifo.as_fd()).unwrap(), 0);
        let interest = world.terminal.interest();
        assert!(interest.fifo && !interest.shown, "{interest:?}");
        world.terminal.leader_ended();
        assert!(!world.terminal.is_told(world.fifo.as_fd()).unwrap(), "its last words are still to come");
        assert_eq!(read_fifo(&world.fifo).len(), filler.len());
        world.unit.write_all(b"three\n").unwrap();
        assert!(world.terminal.is_told(world.fifo.as_fd()).unwrap());
        assert_eq!(read_fifo(&world.fifo), b"one\r\ntwo\r\nthree\r\n");
        assert!(world.terminal.interest().shown);
    }

    #[test]
    fn a_stranger_that_writes_on_does_not_put_off_the_end() {
        let mut world = world();
        world.terminal.leader_ended();
        let mut told = 0;
        while told < LAST_WORDS_MAX_BYTES {
            assert!(world.terminal.is_told(world.fifo.as_fd()).unwrap());
            world.unit.write_all(&[b'x'; 4000]).unwrap();
            told += read_fifo(&world.fifo).len();
        }
        world.unit.write_all(b"more").unwrap();
        assert!(world.terminal.is_told(world.fifo.as_fd()).unwrap());
        assert!(read_fifo(&world.fifo).is_empty(), "nothing more is moved before the end is told");
    }

    #[test]
    fn a_unit_that_does_not_read_has_its_input_refused_and_gets_the_rest_later() {
        let mut world = world();
        let raw = {
            let mut raw = nix::sys::termios::tcgetattr(&world.unit).unwrap();
            nix::sys::termios::cfmakeraw(&mut raw);
            raw
        };
        nix::sys::termios::tcsetattr(&world.unit, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        let (mut sent, mut taken) = (0, 0);
        let refused = loop {
            let refused = world.terminal.type_in(sent, vec![b'k'; TYPED_MAX_BYTES]);
            taken += world.terminal.press().len();
            if refused.is_some() || sent > 100 {
                break refused;
            }
            sent += 1;
        };
        assert_eq!(refused, Some(Answer { number: sent, taken: false }));
        assert!(world.terminal.interest().typing);
        let mut got = 0;
        let mut buffer = [0; 4096];
        while got < sent as usize * TYPED_MAX_BYTES {
            got += world.unit.read(&mut buffer).unwrap();
            taken += world.terminal.press().iter().filter(|answer| answer.taken).count();
        }
        assert_eq!((taken as u64, got), (sent, sent as usize * TYPED_MAX_BYTES), "what was not refused arrives whole");
        assert!(!world.terminal.interest().typing);
    }

    #[test]
    fn a_piece_that_is_too_long_or_comes_after_the_end_is_refused() {
        let mut world = world();
        let refused = |number| Some(Answer { number, taken: false });
        assert_eq!(world.terminal.type_in(1, vec![0; TYPED_MAX_BYTES + 1]), refused(1));
        world.terminal.leader_ended();
        assert_eq!(world.terminal.type_in(2, b"x".to_vec()), refused(2));
    }
}
