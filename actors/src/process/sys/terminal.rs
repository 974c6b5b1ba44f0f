//! Pseudo terminals: both ends of one, and its window size (pty(7), ioctl_tty(2)).
//!
//! Nothing here waits: the master is non-blocking.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};

/// Longest name of a terminal, `/dev/pts/` and a number, with its NUL.
const NAME_MAX_BYTES: usize = 64;

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Both ends of a new terminal, closed in children.
#[derive(Debug)]
pub struct Pair {
    /// The end that shows and types; non-blocking.
    pub master: OwnedFd,
    /// The end that programs have. Held open, reading the master never fails with EIO and never reports a hangup.
    pub slave: OwnedFd,
    /// Where the programs' end is opened.
    pub path: PathBuf,
}

// === impl WindowSize ===

impl Default for WindowSize {
    /// What terminals had when programs began to ask (VT100), and what is assumed of those that do not say.
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// Makes a terminal of this size, with the kernel's settings and UTF-8 line editing, controlling nobody yet.
pub fn open(size: WindowSize) -> io::Result<Pair> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    let master = unsafe { OwnedFd::from_raw_fd(check(libc::posix_openpt(flags))?) };
    // SAFETY: both only look at the descriptor. On Linux grantpt never forks: devpts gives the terminal to its maker.
    unsafe {
        check(libc::grantpt(master.as_raw_fd()))?;
        check(libc::unlockpt(master.as_raw_fd()))?;
    }
    let path = name_of(&master)?;
    let slave = open_slave(&path)?;
    let mut settings = tcgetattr(&slave)?;
    // As every terminal emulator does: erasing a character on the line takes all of its bytes (termios(3)).
    settings.input_flags |= InputFlags::IUTF8;
    tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
    resize(master.as_fd(), size)?;
    Ok(Pair { master, slave, path })
}

/// Sets the size; the foreground programs are told by SIGWINCH if it is another one.
pub fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives through the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// The size of a terminal; `None`: it is none, or does not say.
pub fn size_of(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ fills one winsize; all-zero is a valid one, so it may be read whatever happened.
    let size = unsafe {
        let told = libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr());
        (told == 0).then(|| size.assume_init())
    }?;
    let size = WindowSize { rows: size.ws_row, columns: size.ws_col };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

fn name_of(master: &OwnedFd) -> io::Result<PathBuf> {
    let mut name = [0_u8; NAME_MAX_BYTES];
    // SAFETY: the buffer is valid for writes of the length given.
    let code = unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// Whoever opens it must not get it as its controlling terminal.
fn open_slave(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    Ok(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?.into())
}

fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_written_at_one_end_comes_out_at_the_other_as_a_terminal_shows_it() {
        let Pair { master, slave, path } = open(WindowSize::default()).unwrap();
        assert!(path.starts_with("/dev/pts/"));
        let (mut master, mut slave) = (File::from(master), File::from(slave));
        assert_eq!(master.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        slave.write_all(b"a\n").unwrap();
        let mut shown = [0; 8];
        let count = master.read(&mut shown).unwrap();
        assert_eq!(&shown[..count], b"a\r\n");
    }

    #[test]
    fn a_terminal_has_the_size_it_was_given_and_a_file_has_none() {
        let pair = open(WindowSize { rows: 50, columns: 132 }).unwrap();
        assert_eq!(size_of(pair.slave.as_fd()), Some(WindowSize { rows: 50, columns: 132 }));
        resize(pair.master.as_fd(), WindowSize { rows: 7, columns: 9 }).unwrap();
        assert_eq!(size_of(pair.slave.as_fd()), Some(WindowSize { rows: 7, columns: 9 }));
        assert_eq!(size_of(tempfile::tempfile().unwrap().as_fd()), None);
    }
}
