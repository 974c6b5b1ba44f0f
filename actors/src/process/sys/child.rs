//! Children: pidfds, waits that name their pid, and what a process does for its own program.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use libc::c_int;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spawn::pointers;

/// How a process ended, as the kernel says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WaitStatus {
    /// Exit code.
    Code(i32),
    /// Signal, and whether a core was dumped.
    Signal(i32, bool),
    /// It was no child of ours, and the kernel does not tell.
    Unknown,
}

/// Checks a text for NUL.
pub fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "contains a NUL byte"))
}

/// A descriptor of a process; `ESRCH` if there is none of that number.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a non-negative result is a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        let fd = c_int::try_from(cvt(fd)?).map_err(|_| io::Error::other("pidfd out of range"))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Signals exactly the process behind the descriptor.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0)
    };
    cvt(result).map(drop)
}

/// Signals a process group. The caller holds the leader (as a zombie at least), so the number cannot mean another group.
pub fn signal_group(leader: u32, signal: i32) -> io::Result<()> {
    let leader = libc::pid_t::try_from(leader).ok().filter(|pid| *pid > 1);
    let leader = leader.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no pointers; the number is above 1, so it is neither our own group nor everything.
    cvt(i64::from(unsafe { libc::kill(-leader, signal) })).map(drop)
}

/// Looks at a child's end without reaping it: its number stays taken until [`reap`].
pub fn peek_exit(pid: u32) -> io::Result<Option<WaitStatus>> {
    wait_for(pid, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Reaps a child that has ended. `Ok(None)`: it has not.
pub fn reap(pid: u32) -> io::Result<Option<WaitStatus>> {
    wait_for(pid, libc::WEXITED | libc::WNOHANG)
}

/// Reaps one given child, blocking until it has ended.
pub fn reap_blocking(pid: u32) -> io::Result<Option<WaitStatus>> {
    wait_for(pid, libc::WEXITED)
}

/// A descriptor that tokio can wait on until it is readable.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always gives the same open descriptor, and the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Gives SIGPIPE its default disposition back: the Rust runtime of this process ignores it, and an ignored signal stays ignored
/// over execve(2). To be called right before [`exec`] of somebody else's program, which expects to end with its reader.
pub fn default_sigpipe() -> io::Result<()> {
    // SAFETY: SIG_DFL is no handler, so nothing of ours can run in a signal's context.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs the program in place of this one; returns only with the error.
pub fn exec(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: NUL-terminated strings in NULL-terminated arrays that live until the call returns.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Sets the limits of this process to those of process 1 where they can be read, as far as the hard limits allow.
///
/// So that units get the machine's limits, not those of whichever shell first ran a command.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the struct lives until the call returns; the kernel checks the resource number.
    if unsafe { libc::setrlimit(resource, &wanted) } == 0 {
        return Ok(());
    }
    let mut now = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the kernel fills the struct when it returns 0, and only then is it read.
    let now = unsafe {
        cvt(i64::from(libc::getrlimit(resource, now.as_mut_ptr())))?;
        now.assume_init()
    };
    let allowed = libc::rlimit { rlim_cur: soft.min(now.rlim_max), rlim_max: now.rlim_max };
    // SAFETY: as above.
    cvt(i64::from(unsafe { libc::setrlimit(resource, &allowed) })).map(drop)
}

/// Becomes another account, and keeps the right to pass through directories and to read.
///
/// For a server that refuses to run as root: its files are given to the account, but what leads to them (`/root`) may be
/// closed to everybody. Keeping the one capability is best effort; without it the account has only its own rights.
pub fn become_account(uid: u32, gid: u32) -> io::Result<()> {
    const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    const CAP_DAC_READ_SEARCH: u32 = 2;
    const PR_CAP_AMBIENT: c_int = 47;
    const PR_CAP_AMBIENT_RAISE: libc::c_ulong = 2;
    // capget(2): a header (version, pid), then twice (effective, permitted, inheritable).
    let header = [CAPABILITY_VERSION_3, 0];
    let set = 1_u32 << CAP_DAC_READ_SEARCH;
    let data = [set, set, set, 0, 0, 0];
    // SAFETY: setgroups is given one gid that lives through the call; capset reads the two arrays, whose layout is the
    // kernel's; the rest has no pointers. This process has one thread, so the raw calls change all of it.
    unsafe {
        libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0);
        cvt(i64::from(libc::setgroups(1, &gid)))?;
        cvt(i64::from(libc::setgid(gid)))?;
        cvt(i64::from(libc::setuid(uid)))?;
        if libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) == 0 {
            libc::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(CAP_DAC_READ_SEARCH), 0, 0);
        } else {
            // Whatever capset left must not survive.
            libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0);
        }
    }
    Ok(())
}

/// An extended attribute of a file, if it has one of at most 256 bytes (getxattr(2)).
pub fn attribute(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (c_string(path.as_os_str()).ok()?, CString::new(name).ok()?);
    let mut value = vec![0_u8; 256];
    // SAFETY: two NUL-terminated strings and a buffer of the length given, all alive until the call returns.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Sets an extended attribute of a file (setxattr(2)).
pub fn set_attribute(path: &std::path::Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c_string(path.as_os_str())?, CString::new(name)?);
    // SAFETY: two NUL-terminated strings and a buffer of the length given, all alive until the call returns.
    cvt(i64::from(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }))
        .map(drop)
}

/// Sets this process's nice value (setpriority(2)); below the present one only root may.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    cvt(i64::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })).map(drop)
}

/// Sets a limit of this process, soft and hard (setrlimit(2)).
pub fn set_hard_limit(resource: u32, value: u64) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the struct lives until the call returns; the kernel checks the resource number.
    cvt(i64::from(unsafe { libc::setrlimit(resource, &wanted) })).map(drop)
}

/// Sets this process's nice value to 0 where that is allowed.
pub fn reset_nice() {
    // SAFETY: no pointers. Failing is normal for an unprivileged caller that was niced.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
}

/// Makes descriptors `0..=2` exist: `/dev/null` where they are closed, so that no data file ever becomes "stderr".
pub fn ensure_standard_files() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD on any number is harmless; open takes a constant string and returns the lowest free number.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
}

/// Takes ownership of a descriptor that this process was started with.
///
/// Returns `None` if the number is not open. Call once per number.
pub fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD says that it is open; the one caller per number is the owner by the protocol of our own exec.
    unsafe {
        if fd < 3 || libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == -1 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(fd))
    }
}

fn wait_for(pid: u32, flags: c_int) -> io::Result<Option<WaitStatus>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the kernel fills the zeroed struct; all-zero is a valid siginfo and means "nothing yet".
        let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) };
        match cvt(i64::from(result)) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: zeroed or filled; si_pid and si_status are valid members after waitid.
    let (found, code, status) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code, info.si_status())
    };
    if found == 0 {
        return Ok(None);
    }
    Ok(Some(match code {
        libc::CLD_EXITED => WaitStatus::Code(status),
        libc::CLD_DUMPED => WaitStatus::Signal(status, true),
        _ => WaitStatus::Signal(status, false),
    }))
}

fn cvt(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
