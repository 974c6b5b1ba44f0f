//! A process that an earlier heart has started: taken over, though it is no child of ours.
//!
//! Its number is kept for it only while it lives, so nothing here goes by the number alone: the descriptor is opened once
//! and checked against the start time, and a group is reached through it or member by member.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::libc::{EINVAL, ESRCH};

use crate::process::identity::{Identity, Stat};
use crate::process::procfs;
use crate::process::sys::child::{self, WaitStatus};
use crate::process::sys::stranger;

/// Opens the process of that number and start time; a zombie too, for its status. `ESRCH`: it is gone.
pub(super) fn open(pid: u32, start_time: u64) -> io::Result<OwnedFd> {
    let pidfd = child::pidfd_open(pid)?;
    // Checked after opening: from here on the descriptor cannot come to mean another process.
    match Stat::read(pid) {
        Some(stat) if stat.start_time == start_time => Ok(pidfd),
        _ => Err(io::Error::from_raw_os_error(ESRCH)),
    }
}

/// How it ended: from its zombie while there is one, else from what the kernel keeps for the descriptor.
pub(super) fn exit(pidfd: BorrowedFd<'_>, pid: u32, start_time: u64) -> WaitStatus {
    let zombie = || {
        let stat = Stat::read(pid).filter(|stat| stat.start_time == start_time && !stat.is_alive())?;
        stat.exit_code.map(stranger::from_wait)
    };
    // Reaped between the two looks, it is told by the descriptor.
    zombie().or_else(|| stranger::exit_of(pidfd)).unwrap_or(WaitStatus::Unknown)
}

/// Signals its whole group. A group lives on without its leader as long as it has members.
pub(super) fn signal_group(pidfd: BorrowedFd<'_>, leader: u32, start_time: u64, signal: i32) -> io::Result<()> {
    match stranger::signal_group(pidfd, signal) {
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ESRCH)) => {
            members(leader, start_time).iter().try_for_each(|member| member.signal(signal).map(drop))
        }
        told => told,
    }
}

/// The members of the group that this leader founded.
fn members(leader: u32, start_time: u64) -> Vec<Identity> {
    // A number comes free only when its group has no member left: somebody else of this number means that it has none.
    if Stat::read(leader).is_some_and(|stat| stat.start_time != start_time) {
        return Vec::new();
    }
    let in_group =
        |pid: &u32| Stat::read(*pid).is_some_and(|stat| stat.group == leader && stat.start_time >= start_time);
    pids().into_iter().filter(in_group).filter_map(Identity::of).collect()
}

/// All processes of the machine.
pub(super) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What its environment says after `NAME=`, as it was when it was executed.
pub(super) fn variable(pid: u32, name: &[u8]) -> Option<Vec<u8>> {
    let environ = procfs::read(&format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find(|entry| entry.starts_with(name)).map(<[u8]>::to_vec)
}
