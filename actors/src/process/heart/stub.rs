//! The exec stub: does in the child what `posix_spawn` cannot, then becomes the program.
//!
//! Started as `envctl exec-stub ORDER PROGRAM ARG0 ARG…` with an error pipe at descriptor [`ERROR_FD`]. Whatever fails is
//! told there as `errno:step`; a pipe that closes without a word means that the program runs.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid};

use super::wire::StubOrder;
use crate::process::sys::child;

/// Where the stub tells what failed.
pub const ERROR_FD: i32 = 3;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "exec-stub";

type Step = (&'static str, io::Error);

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
    let order = args.next().ok_or_else(|| invalid("reading its order"))?;
    let order: StubOrder =
        order.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| invalid("reading its order"))?;
    let program = c_string(args.next())?;
    let argv = args.map(|arg| c_string(Some(arg))).collect::<Result<Vec<_>, _>>()?;
    carry_out(&order)?;
    let env = own_environment();
    Err(("exec", child::exec(&program, &argv, &env)))
}

fn carry_out(order: &StubOrder) -> Result<(), Step> {
    if let Some(mask) = order.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    if let Some((uid, gid)) = order.map {
        map_user(uid, gid)?;
    }
    if let Some((uid, gid)) = order.account {
        child::become_account(uid, gid).map_err(|error| ("becoming the account", error))?;
    }
    Ok(())
}

/// A user namespace in which we are `uid`, while files stay ours (user_namespaces(7): one line of one id needs no privilege).
fn map_user(uid: u32, gid: u32) -> Result<(), Step> {
    let (ours_uid, ours_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| ("making a user namespace", io::Error::from(errno)))?;
    let write = |path: &str, text: String| -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    };
    write("/proc/self/setgroups", "deny".to_owned()).map_err(|error| ("denying setgroups", error))?;
    write("/proc/self/uid_map", format!("{uid} {ours_uid} 1")).map_err(|error| ("mapping the uid", error))?;
    write("/proc/self/gid_map", format!("{gid} {ours_gid} 1")).map_err(|error| ("mapping the gid", error))
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
    arg.and_then(|arg| CString::new(arg.into_vec()).ok()).ok_or_else(|| invalid("reading its arguments"))
}

fn invalid(step: &'static str) -> Step {
    (step, io::Error::from_raw_os_error(nix::libc::EINVAL))
}
