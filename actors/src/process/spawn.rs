//! From a [`Command`] to an order for heart: the program is found, every reason for failure gets its words.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use envctl_supervisors::reason::StartError;
use nix::errno::Errno;
use serde_bytes::ByteBuf;

use super::command::{Command, Limits, RunAs};
use super::heart::wire::{Ending, Key, LimitsOrder, Order, Rlimit, StubOrder};

/// Where a shell looks when `PATH` is not set at all (execvp(3)).
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Makes heart's order, or says why the command cannot be run.
pub fn order(key: Key, tag: String, command: &Command, out: &Path, err: &Path) -> Result<Order, StartError> {
    check_dir(&command.dir)?;
    let program = find(command)?;
    let text = |text: &OsStr| ByteBuf::from(text.as_bytes());
    let argv = std::iter::once(&command.program).chain(&command.args).map(|arg| text(arg)).collect();
    Ok(Order {
        key,
        tag,
        program: text(program.as_os_str()),
        argv,
        env: command.env.iter().map(|(name, value)| entry(name, value)).collect(),
        dir: text(command.dir.as_os_str()),
        out: text(out.as_os_str()),
        err: text(err.as_os_str()),
        stub: stub(command),
        limits: shared_limits(&command.limits),
        stdin: command.stdin.as_ref().map(|path| text(path.as_os_str())),
        ending: Ending::default(),
        tty: command.limits.tty,
    })
}

/// Why a process could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// Something is wrong with the command.
    #[error(transparent)]
    Start(#[from] StartError),
    /// This machine, or heart, has no more descriptors, processes or memory just now: no fault of the command.
    #[error("{0}")]
    Shortage(StartError),
}

// === impl SpawnError ===

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        let (SpawnError::Start(error) | SpawnError::Shortage(error)) = error;
        error
    }
}

/// What an errno that came back from heart means.
pub fn refused(command: &Command, errno: i32, step: Option<String>) -> SpawnError {
    let short = match Errno::from_raw(errno) {
        Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE => true,
        // With a limit of its own, it is the unit that wants more than it was given.
        Errno::ENOMEM => command.limits.memory.is_none(),
        _ => false,
    };
    let error = failure(command, errno, step);
    if short { SpawnError::Shortage(error) } else { SpawnError::Start(error) }
}

/// The words for an errno that came back from heart.
pub fn failure(command: &Command, errno: i32, step: Option<String>) -> StartError {
    let step_hint = step.as_deref().and_then(|step| hint_of(step, Errno::from_raw(errno)));
    let program = find(command).unwrap_or_else(|_| PathBuf::from(&command.program));
    let errno = Errno::from_raw(errno);
    let what = step.unwrap_or_else(|| format!("run {}", program.display()));
    let (hint, retry) = match errno {
        _ if step_hint.is_some() => (step_hint, false),
        Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => (Some(shortage_of(errno).to_owned()), true),
        Errno::ENOENT => (missing_interpreter(&program), false),
        Errno::ENOEXEC => (Some("the file is neither a program nor a script with a `#!` line".to_owned()), false),
        Errno::EACCES => (Some(format!("check the permissions: `chmod +x {}`", program.display())), false),
        Errno::E2BIG => {
            (Some("the arguments and the environment are too long; one variable may have 128 KiB".to_owned()), false)
        }
        Errno::ENOTDIR | Errno::ELOOP | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM => (None, false),
        _ => (None, true),
    };
    StartError { message: format!("{what}: {} ({errno:?})", errno.desc()), hint, retry }
}

/// The words for a heart that was started by an older build.
pub fn no_terminals() -> StartError {
    StartError {
        message: "open a terminal: this session was started by an older envctl that has none".to_owned(),
        hint: Some("`envctl daemon stop`, then start again".to_owned()),
        retry: false,
    }
}

/// The path that `command.program` means in the command's own `PATH` and directory.
pub fn find(command: &Command) -> Result<PathBuf, StartError> {
    locate(command).map_err(|(_, error)| error)
}

/// As [`find`], with the errno that tells a missing program from one that may not be executed.
pub fn locate(command: &Command) -> Result<PathBuf, (Errno, StartError)> {
    let program = &command.program;
    if program.as_bytes().contains(&b'/') {
        let path = command.dir.join(program);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(errno) => Err((errno, no_program(&path, errno))),
        };
    }
    let path = command.env.get(OsStr::new("PATH")).map_or(OsStr::new(PATH_DEFAULT), |path| path.as_os_str());
    let found = std::env::split_paths(path).map(|dir| command.dir.join(dir).join(program));
    let mut denied = None;
    for candidate in found {
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = denied.or(Some(candidate)),
            Err(_) => {}
        }
    }
    match denied {
        Some(candidate) => Err((Errno::EACCES, no_program(&candidate, Errno::EACCES))),
        None => Err((Errno::ENOENT, not_in_path(program, path))),
    }
}

fn not_in_path(program: &OsStr, path: &OsStr) -> StartError {
    StartError {
        message: format!(
            "find `{}` in PATH ({}): No such file or directory (ENOENT)",
            program.display(),
            path.display()
        ),
        hint: Some(format!(
            "install `{0}`, or give its path; `command -v {0}` tells whether your shell finds it",
            program.display()
        )),
        retry: false,
    }
}

fn executable(path: &Path) -> Result<(), Errno> {
    let meta = fs::metadata(path).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

fn no_program(path: &Path, errno: Errno) -> StartError {
    let hint = match errno {
        Errno::ENOENT => "no file has this name; paths are relative to the unit's `dir`".to_owned(),
        Errno::EACCES if path.is_dir() => "this is a directory, not a program".to_owned(),
        _ => format!("check the permissions: `chmod +x {}`", path.display()),
    };
    StartError {
        message: format!("run {}: {} ({errno:?})", path.display(), errno.desc()),
        hint: Some(hint),
        retry: false,
    }
}

pub(super) fn check_dir(dir: &Path) -> Result<(), StartError> {
    let errno = match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => Errno::ENOTDIR,
        Err(error) => error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    };
    Err(StartError {
        message: format!("enter {}: {} ({errno:?})", dir.display(), errno.desc()),
        hint: Some("create the directory, or correct the unit's `dir`".to_owned()),
        retry: false,
    })
}

fn missing_interpreter(program: &Path) -> Option<String> {
    let head = read_head(program).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_ascii_whitespace().next()?;
    Some(format!("its first line asks for the interpreter `{interpreter}`, which is not there"))
}

fn read_head(program: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut head = Vec::new();
    fs::File::open(program)?.take(256).read_to_end(&mut head)?;
    Ok(head)
}

fn stub(command: &Command) -> Option<StubOrder> {
    let Limits { umask, nice, .. } = command.limits;
    let mut order = StubOrder { umask, nice, rlimits: own_limits(&command.limits), ..StubOrder::default() };
    match command.run_as {
        RunAs::Caller => {}
        RunAs::MappedUser { uid, gid } => order.map = Some((uid, gid)),
        RunAs::Account { uid, gid } => order.account = Some((uid, gid)),
        RunAs::User { uid, gid } => order.user = Some((uid, gid)),
    }
    (order != StubOrder::default()).then_some(order)
}

/// Limits of each process, which need nothing but the stub.
fn own_limits(limits: &Limits) -> Vec<Rlimit> {
    use nix::libc::{RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE};
    let wanted = [
        (RLIMIT_NOFILE, limits.open_files, "limits.open_files"),
        (RLIMIT_CORE, limits.core, "limits.core"),
        (RLIMIT_FSIZE, limits.file_size, "limits.file_size"),
    ];
    let rlimit = |(resource, value, name): (u32, Option<u64>, &str)| {
        Some(Rlimit { resource, value: value?, name: name.to_owned() })
    };
    wanted.into_iter().filter_map(rlimit).collect()
}

/// Limits of all processes together.
fn shared_limits(limits: &Limits) -> Option<LimitsOrder> {
    let Limits { memory, cpu_milli, processes, .. } = *limits;
    limits.are_shared().then_some(LimitsOrder { memory, cpu_milli, processes })
}

/// What to do about a step before the program itself that was refused; the words of steps are heart's and the stub's.
fn hint_of(step: &str, errno: Errno) -> Option<String> {
    let hint = match errno {
        Errno::EPERM | Errno::EINVAL if step.starts_with("set limits.") => {
            "no more than the hard limit can be given; `prlimit --pid 1` shows those of this machine"
        }
        Errno::EACCES | Errno::EPERM if step.starts_with("set its niceness") => {
            "only root may go below 0: write `nice` from 0 to 19"
        }
        Errno::EPERM if step.starts_with("become the user") => "only root may run a unit as another user",
        Errno::ENOENT if step.starts_with("open its standard input") => {
            "no file has this name; `stdin` is relative to the project's directory"
        }
        Errno::EACCES if step.starts_with("open its standard input") => "make the file readable, or name another",
        Errno::EINVAL if step.starts_with("open its standard input") => "`stdin` must be a regular file",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What is short, and who can help.
fn shortage_of(errno: Errno) -> &'static str {
    match errno {
        Errno::EMFILE => {
            "the parent of all units has no descriptor left: raise the limit of open files (`ulimit -H -n`)"
        }
        Errno::ENFILE => "this machine has no descriptor left; `sysctl fs.file-nr` shows how many are open",
        Errno::EAGAIN => "no more processes are allowed here; `ulimit -u` and pids.max of the cgroup are the limits",
        _ => "this machine has no memory left for another process",
    }
}

fn entry(name: &OsString, value: &OsString) -> ByteBuf {
    let mut text = name.clone();
    text.push("=");
    text.push(value);
    ByteBuf::from(text.into_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn command(program: &str, path: &str) -> Command {
        Command {
            program: program.into(),
            args: vec![],
            env: BTreeMap::from([("PATH".into(), path.into())]),
            dir: "/".into(),
            run_as: RunAs::Caller,
            limits: Default::default(),
            stdin: None,
        }
    }

    #[test]
    fn a_program_is_found_in_the_path_of_its_own_environment() {
        assert_eq!(find(&command("sh", "/nowhere:/bin")).unwrap(), PathBuf::from("/bin/sh"));
        let error = find(&command("sh", "/nowhere")).unwrap_err();
        assert!(error.message.contains("/nowhere") && error.message.contains("ENOENT"), "{error}");
        assert!(!error.retry, "no such program is not a crash loop");
    }

    #[test]
    fn a04_a_missing_interpreter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("run");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        fs::write(&script, "#!/nope -x\n").unwrap();
        let error = failure(&command(script.to_str().unwrap(), ""), nix::libc::ENOENT, None);
        assert!(error.hint.unwrap().contains("`/nope`"));
    }
}
