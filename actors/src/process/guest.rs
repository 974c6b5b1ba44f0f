//! A guest of a unit: this process becomes another program, in the unit's environment and directory.
//!
//! Nothing is forked, and nobody waits: terminal, standard input and output, job control and exit status are those of whoever
//! asked, by the kernel's own doing. The caller's limits and rights stay, for a guest is the caller's program and not the unit's.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use envctl_supervisors::reason::StartError;
use nix::errno::Errno;

use super::command::Command;
use super::spawn;
use super::sys::child;

/// Why a program could not be become.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// There is no such program: a shell exits with 127 (POSIX.1-2024, XCU 2.8.2).
    #[error("{0}")]
    NotFound(StartError),
    /// It is there and cannot be executed: a shell exits with 126.
    #[error("{0}")]
    NotExecutable(StartError),
    /// Its surroundings are not there: its directory is gone.
    #[error("{0}")]
    Surroundings(StartError),
}

/// Becomes the program; returns only if that fails, with the working directory of this process changed at worst.
///
/// Of the command, `run_as`, `limits` and `stdin` are the caller's own and are not looked at.
pub fn become_guest(command: &Command) -> Result<Infallible, GuestError> {
    spawn::check_dir(&command.dir).map_err(GuestError::Surroundings)?;
    let program = spawn::locate(command).map_err(|(errno, error)| unfit(errno, error))?;
    let failed = |errno: Errno| unfit(errno, spawn::failure(command, errno as i32, None));
    let words = std::iter::once(&command.program).chain(&command.args);
    let argv = words.map(|word| c_string(word)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let pair = |(name, value): (&std::ffi::OsString, &std::ffi::OsString)| {
        c_string(OsStr::from_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
    };
    let env = command.env.iter().map(pair).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let program = c_string(program.as_os_str()).map_err(failed)?;
    nix::unistd::chdir(&command.dir).map_err(failed)?;
    child::default_sigpipe().map_err(|error| failed(errno_of(&error)))?;
    Err(failed(errno_of(&child::exec(&program, &argv, &env))))
}

fn unfit(errno: Errno, error: StartError) -> GuestError {
    match errno {
        // Also of a script whose interpreter is missing: the file is there, and yet there is nothing to run.
        Errno::ENOENT | Errno::ENOTDIR => GuestError::NotFound(error),
        _ => GuestError::NotExecutable(error),
    }
}

fn c_string(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::process::{Limits, RunAs};

    fn check(program: &str, dir: &Path) -> GuestError {
        let command = Command {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::from([("PATH".into(), dir.into())]),
            dir: dir.to_owned(),
            run_as: RunAs::Caller,
            limits: Limits::default(),
            stdin: None,
        };
        become_guest(&command).expect_err("it would have replaced this test")
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn what_is_missing_is_told_from_what_cannot_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("text"), "no program").unwrap();
        assert!(matches!(check("nothing", dir.path()), GuestError::NotFound(_)));
        assert!(matches!(check("./nothing", dir.path()), GuestError::NotFound(_)));
        assert!(matches!(check("text/below", dir.path()), GuestError::NotFound(_)));
        assert!(matches!(check("text", dir.path()), GuestError::NotExecutable(_)));
        assert!(matches!(check("/", dir.path()), GuestError::NotExecutable(_)));
        assert!(matches!(check("sh", &dir.path().join("gone")), GuestError::Surroundings(_)));
    }
}
