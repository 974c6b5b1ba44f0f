//! FIFOs, splice and epoll.
//!
//! What the log pump asks of the kernel. Never blocks but in [`Epoll::wait`] and [`EventFd::wait`], and never moves a byte
//! through user space but in [`read_some`], which is there to throw bytes away.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// When a watched descriptor is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As long as there is something to read.
    Level,
    /// Once for each arrival.
    Edge,
    /// Not at all; the registration stays.
    Off,
}

/// Readiness of many descriptors, each known by a token of the caller's.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// Where [`Epoll::wait`] leaves what it saw; the capacity bounds one round.
pub struct Events {
    raw: Vec<libc::epoll_event>,
    filled: usize,
}

/// A wakeup for a thread that sits in [`Epoll::wait`]: many calls of [`EventFd::wake`] are one event.
#[derive(Debug)]
pub struct EventFd {
    file: File,
}

/// Makes a FIFO that only its owner can open (0600, whatever the umask takes away).
pub fn mkfifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a NUL-terminated string that lives until the call returns.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

/// Opens a FIFO for reading *and* writing, so that opening never waits for a peer and end of file never occurs.
///
/// A symbolic link, or anything that is no FIFO, is an error.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
    }
}

/// Moves up to `len` bytes out of `fifo` into `file` at `offset`; an empty FIFO is `WouldBlock`.
///
/// `file` must not be in append mode (EINVAL). What is not written stays in the FIFO.
pub fn splice(fifo: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
    let mut at = libc::loff_t::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    loop {
        // SAFETY: both descriptors are borrowed for the call, `at` is a valid loff_t, a pipe has no offset (null).
        let moved =
            unsafe { libc::splice(fifo.as_raw_fd(), std::ptr::null_mut(), file.as_raw_fd(), &raw mut at, len, flags) };
        match usize::try_from(moved) {
            Ok(moved) => return Ok(moved),
            Err(_) => match io::Error::last_os_error() {
                interrupted if interrupted.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Reads what is there, at most `buffer`; an empty FIFO is `WouldBlock`.
pub fn read_some(fifo: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is valid for writes of its own length for the call.
    let got = unsafe { libc::read(fifo.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// How many bytes wait in the FIFO.
pub fn available(fifo: BorrowedFd<'_>) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(fifo.as_raw_fd(), libc::FIONREAD, &raw mut waiting) })?;
    Ok(usize::try_from(waiting).unwrap_or(0))
}

/// Asks for room of `bytes` in a pipe and returns what it has now. `PermissionDenied` past the user's limit is normal, and so is
/// `ResourceBusy` when more than that is in it.
pub fn set_pipe_size(fifo: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let bytes = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: F_SETPIPE_SZ takes an int and touches no memory of ours.
    let got = check(unsafe { libc::fcntl(fifo.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) })?;
    Ok(usize::try_from(got).unwrap_or(0))
}

fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    // Rounded up: a wait of less than a millisecond must not become a spin.
    timeout.map_or(-1, |t| libc::c_int::try_from(t.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX))
}

// === impl Epoll ===

impl Epoll {
    /// A new, empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is touched; the descriptor returned is fresh and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd })
    }

    /// Watches `fd` for something to read.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, trigger: Trigger) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, trigger)
    }

    /// Changes how a watched descriptor is reported.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, trigger: Trigger) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, trigger)
    }

    /// Forgets a descriptor.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Trigger::Off)
    }

    /// Waits until something is ready or the time is over (`None`: for ever). A signal ends the wait early, with no events.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.filled = 0;
        let room = libc::c_int::try_from(events.raw.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: `raw` is valid for writes of `room` events for the call.
        let got =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.raw.as_mut_ptr(), room, milliseconds(timeout)) };
        match check(got) {
            Ok(got) => events.filled = usize::try_from(got).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn control(&self, what: libc::c_int, fd: BorrowedFd<'_>, token: u64, trigger: Trigger) -> io::Result<()> {
        let events = match trigger {
            Trigger::Level => libc::EPOLLIN,
            Trigger::Edge => libc::EPOLLIN | libc::EPOLLET,
            Trigger::Off => 0,
        };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` lives for the call; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) }).map(drop)
    }
}

// === impl Events ===

impl Events {
    /// Room for this many events in one round.
    pub fn with_capacity(events: usize) -> Self {
        Self { raw: vec![libc::epoll_event { events: 0, u64: 0 }; events.max(1)], filled: 0 }
    }

    /// The tokens of what is ready, in the kernel's order: it goes round, so a full round starves nobody.
    pub fn tokens(&self) -> impl Iterator<Item = u64> {
        self.raw[..self.filled].iter().map(|event| event.u64)
    }
}

// === impl EventFd ===

impl EventFd {
    /// A new one, not woken.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is touched; the descriptor returned is fresh and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(Self { file: fd.into() })
    }

    /// Wakes the waiter; never blocks.
    pub fn wake(&self) {
        // A full counter means that it is awake already, and no other error can occur on an eventfd of ours.
        drop(io::Write::write(&mut &self.file, &1u64.to_ne_bytes()));
    }

    /// Takes the wakeups so far, so that the next wait sleeps.
    pub fn clear(&self) {
        // `WouldBlock` means that nobody woke us: as good.
        drop((&self.file).read(&mut [0; 8]));
    }

    /// Waits for a wakeup, at most this long, without taking it.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd that lives for the call. An early end by a signal is as good as a wakeup.
        unsafe { libc::poll(&raw mut poll, 1, milliseconds(Some(timeout))) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn fifo(dir: &Path) -> OwnedFd {
        let path = dir.join("f");
        mkfifo(&path).unwrap();
        open_fifo(&path).unwrap()
    }

    #[test]
    fn only_a_real_fifo_is_opened_as_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(fifo(dir.path()));
        std::os::unix::fs::symlink(dir.path().join("f"), dir.path().join("link")).unwrap();
        drop(File::create(dir.path().join("file")).unwrap());
        for bad in ["link", "file", "none", "."] {
            assert!(open_fifo(&dir.path().join(bad)).is_err(), "{bad} was opened");
        }
        assert_eq!(mkfifo(&dir.path().join("f")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn splice_moves_bytes_to_the_offset_and_an_empty_fifo_would_block() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path());
        let file = File::create(dir.path().join("data")).unwrap();
        assert_eq!(splice(fifo.as_fd(), file.as_fd(), 0, 10).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        File::from(fifo.try_clone().unwrap()).write_all(b"hello").unwrap();
        assert_eq!(available(fifo.as_fd()).unwrap(), 5);
        assert_eq!(splice(fifo.as_fd(), file.as_fd(), 3, 10).unwrap(), 5);
        assert_eq!(std::fs::read(dir.path().join("data")).unwrap(), b"\0\0\0hello");
    }

    #[test]
    fn what_cannot_be_written_stays_in_the_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path());
        drop(File::create(dir.path().join("data")).unwrap());
        let read_only = File::open(dir.path().join("data")).unwrap();
        File::from(fifo.try_clone().unwrap()).write_all(b"hello").unwrap();
        assert!(splice(fifo.as_fd(), read_only.as_fd(), 0, 10).is_err());
        assert_eq!(available(fifo.as_fd()).unwrap(), 5);
        let mut buffer = [0; 16];
        assert_eq!(read_some(fifo.as_fd(), &mut buffer).unwrap(), 5);
        assert_eq!(read_some(fifo.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn level_reports_until_read_and_many_wakeups_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, waker, epoll) = (fifo(dir.path()), EventFd::new().unwrap(), Epoll::new().unwrap());
        epoll.add(fifo.as_fd(), 7, Trigger::Level).unwrap();
        epoll.add(waker.as_fd(), 9, Trigger::Level).unwrap();
        let mut events = Events::with_capacity(8);
        let mut round = |epoll: &Epoll| {
            epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            let mut tokens: Vec<_> = events.tokens().collect();
            tokens.sort_unstable();
            tokens
        };
        assert_eq!(round(&epoll), [0; 0]);
        File::from(fifo.try_clone().unwrap()).write_all(b"x").unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(round(&epoll), [7, 9]);
        waker.clear();
        assert_eq!(round(&epoll), [7]);
        epoll.modify(fifo.as_fd(), 7, Trigger::Off).unwrap();
        assert_eq!(round(&epoll), [0; 0]);
        epoll.remove(fifo.as_fd()).unwrap();
        assert!(epoll.remove(fifo.as_fd()).is_err());
    }

    #[test]
    fn a_pipe_grows_and_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path());
        assert_eq!(set_pipe_size(fifo.as_fd(), 256 << 10).unwrap(), 256 << 10);
        assert_eq!(set_pipe_size(fifo.as_fd(), 64 << 10).unwrap(), 64 << 10);
    }
}
