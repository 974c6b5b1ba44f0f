//! Processes that are not our children: their end is told by a descriptor, and by whatever the kernel keeps of it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::c_ulong;

use super::child::WaitStatus;

/// What `PIDFD_GET_INFO` fills in (pidfd_info of linux/pidfd.h, its first version).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// Ask for the exit status; set in the answer if the kernel has it.
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// The ioctl's letter and number (linux/pidfd.h).
const PIDFS: c_ulong = 0xFF;
const GET_INFO: c_ulong = 11;
/// pidfd_send_signal(2): to the whole group of the process, since Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

/// How a process ended that somebody else has reaped, as far as the kernel still knows: since Linux 6.15, for a
/// descriptor that was open when it ended. `None`: it does not say.
pub fn exit_of(pidfd: BorrowedFd<'_>) -> Option<WaitStatus> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    let request = ioctl_read_write(PIDFS, GET_INFO, size_of::<PidfdInfo>() as c_ulong);
    // SAFETY: the struct has the size that the request's number carries, and lives until the call returns.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as _, ptr::from_mut(&mut info)) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| from_wait(info.exit_code))
}

/// Signals the group of the process behind the descriptor; `EINVAL` on kernels that cannot.
pub fn signal_group(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    let result = unsafe {
        let none = ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, PROCESS_GROUP)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The status that wait(2) would have given: `/proc/PID/stat` and the kernel's own records have it in this form.
pub fn from_wait(status: i32) -> WaitStatus {
    if libc::WIFSIGNALED(status) {
        WaitStatus::Signal(libc::WTERMSIG(status), libc::WCOREDUMP(status))
    } else {
        WaitStatus::Code(libc::WEXITSTATUS(status))
    }
}

/// The number of an ioctl that takes a struct and fills it (`_IOWR` of asm-generic/ioctl.h).
const fn ioctl_read_write(letter: c_ulong, number: c_ulong, size: c_ulong) -> c_ulong {
    (3 << 30) | (size << 16) | (letter << 8) | number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_ioctl_is_the_one_of_the_header() {
        assert_eq!(size_of::<PidfdInfo>(), 64, "the first version of the struct");
        assert_eq!(ioctl_read_write(PIDFS, GET_INFO, 64), libc::PIDFD_GET_INFO as c_ulong);
    }

    #[test]
    fn a_wait_status_is_read_as_wait_has_it() {
        assert_eq!(from_wait(42 << 8), WaitStatus::Code(42));
        assert_eq!(from_wait(9), WaitStatus::Signal(9, false));
        assert_eq!(from_wait(11 | 0x80), WaitStatus::Signal(11, true));
    }
}
