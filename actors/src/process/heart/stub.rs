//! The exec stub: does in the child what only some units want and what needs more than a few system calls, then becomes the
//! program.
//!
//! Started as `envctl exec-stub ORDER PROGRAM ARG0 ARG…` with an error pipe at descriptor [`ERROR_FD`]. Whatever fails is
//! told there as `errno:step`; a pipe that closes without a word means that the program runs.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgid, setgroups, setuid};

use super::wire::{Rlimit, StubOrder};
use crate::process::account;
use crate::process::cgroup::Cgroup;
use crate::process::sys::child;

/// Where the stub tells what failed.
pub const ERROR_FD: i32 = 3;

/// The step that is the program itself.
pub const EXEC: &str = "exec";

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "exec-stub";

/// What failed, as in "failed to …", and how.
type Step = (String, io::Error);

/// Runs the stub; returns only on failure, after telling it.
pub fn main(args: Vec<OsString>) -> u8 {
    let pipe = child::inherited(ERROR_FD).map(fs::File::from);
    let Err((step, error)) = become_program(args);
    if let Some(mut pipe) = pipe {
        // Nobody is left to tell if even this fails; heart then sees the exit code.
        let _ = write!(pipe, "{}:{step}", error.raw_os_error().unwrap_or(nix::libc::EINVAL));
    }
    127
}

/// Reads what a stub told: errno and step.
pub fn parse_failure(text: &str) -> Option<(i32, String)> {
    let (errno, step) = text.split_once(':')?;
    Some((errno.parse().ok()?, step.to_owned()))
}

fn become_program(args: Vec<OsString>) -> Result<std::convert::Infallible, Step> {
    let mut args = args.into_iter();
    let order = args.next().ok_or_else(|| invalid("read its order"))?;
    let order: StubOrder =
        order.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| invalid("read its order"))?;
    let program = c_string(args.next())?;
    let argv = args.map(|arg| c_string(Some(arg))).collect::<Result<Vec<_>, _>>()?;
    // Before anything is given up: /proc/self is closed to a process that has changed its user (proc(5)).
    let env = own_environment();
    carry_out(&order)?;
    child::default_sigpipe().map_err(|error| ("reset its signals".to_owned(), error))?;
    Err((EXEC.to_owned(), child::exec(&program, &argv, &env)))
}

/// The order matters: what needs our rights comes before they are given up, and the limit of address space comes last, for
/// this program needs some itself.
fn carry_out(order: &StubOrder) -> Result<(), Step> {
    if let Some(dir) = &order.cgroup {
        Cgroup::in_dir(dir).join().map_err(|error| (format!("join its cgroup {dir}"), error))?;
    }
    if let Some(mask) = order.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    let (space, others): (Vec<_>, Vec<_>) =
        order.rlimits.iter().partition(|limit| limit.resource == nix::libc::RLIMIT_AS);
    others.into_iter().try_for_each(set_limit)?;
    if let Some(nice) = order.nice {
        child::set_nice(nice).map_err(|error| (format!("set its niceness to {nice}"), error))?;
    }
    if let Some((uid, gid)) = order.map {
        map_user(uid, gid)?;
    }
    if let Some((uid, gid)) = order.account {
        child::become_account(uid, gid).map_err(|error| ("become the account".to_owned(), error))?;
    }
    if let Some((uid, gid)) = order.user {
        become_user(uid, gid)?;
    }
    space.into_iter().try_for_each(set_limit)
}

fn set_limit(limit: &Rlimit) -> Result<(), Step> {
    let Rlimit { resource, value, name } = limit;
    let shown = if *value == nix::libc::RLIM_INFINITY { "unlimited".to_owned() } else { value.to_string() };
    child::set_hard_limit(*resource, *value).map_err(|error| (format!("set {name} to {shown}"), error))
}

/// Becomes somebody else for good: groups first, the uid last, after which nothing could be changed any more.
fn become_user(uid: u32, gid: u32) -> Result<(), Step> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let account = account::by_uid(&read("/etc/passwd"), uid).filter(|account| account.gid == gid);
    let groups = account.map_or(vec![gid], |account| account::groups(&read("/etc/group"), &account));
    let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
    let step = |errno: nix::errno::Errno| (format!("become the user with uid {uid}"), io::Error::from(errno));
    setgroups(&groups).map_err(step)?;
    setgid(Gid::from_raw(gid)).map_err(step)?;
    setuid(Uid::from_raw(uid)).map_err(step)
}

/// A user namespace in which we are `uid`, while files stay ours (user_namespaces(7): one line of one id needs no privilege).
fn map_user(uid: u32, gid: u32) -> Result<(), Step> {
    let (ours_uid, ours_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| ("make a user namespace".to_owned(), io::Error::from(errno)))?;
    let write = |path: &str, text: String| -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    };
    write("/proc/self/setgroups", "deny".to_owned()).map_err(|error| ("deny setgroups".to_owned(), error))?;
    write("/proc/self/uid_map", format!("{uid} {ours_uid} 1")).map_err(|error| ("map the uid".to_owned(), error))?;
    write("/proc/self/gid_map", format!("{gid} {ours_gid} 1")).map_err(|error| ("map the gid".to_owned(), error))
}

/// The stub was started with the unit's environment; it goes on unchanged.
fn own_environment() -> Vec<CString> {
    fs::read("/proc/self/environ")
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .filter_map(|entry| CString::new(entry).ok())
        .collect()
}

fn c_string(arg: Option<OsString>) -> Result<CString, Step> {
    arg.and_then(|arg| CString::new(arg.into_vec()).ok()).ok_or_else(|| invalid("read its arguments"))
}

fn invalid(step: &str) -> Step {
    (step.to_owned(), io::Error::from_raw_os_error(nix::libc::EINVAL))
}
