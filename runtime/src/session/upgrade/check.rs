//! The proof: before a daemon becomes another program, that program shows that it can read what it will find.
//!
//! Both sides are here. The daemon runs `PROGRAM daemon-serve --check-handover …` with a pipe for the answer; the new program
//! reads the memories of all runs, their configurations and journals, and changes nothing. Neither side trusts the other: an
//! answer that is no answer is a no.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use envctl_actors::process::heart::wire::{VERSION, VERSION_MIN};
use envctl_actors::process::sys::child::{self, WaitStatus};
use envctl_actors::process::sys::spawn::{ChildFile, Signals, Spawn, Spawned, spawn};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;

use crate::journal::EventLog;
use crate::places::Places;
use crate::project::memory::Memory;
use crate::session::serve::{DAEMON_SUBCOMMAND, Inner};

/// The option after the daemon's subcommand that asks for the proof.
pub(in crate::session) const CHECK_OPTION: &str = "--check-handover";
/// Where the new program finds the pipe for its answer.
const ANSWER_FD: i32 = 3;
/// Copies of descriptors are made above every number a child is promised.
const COPY_FLOOR: i32 = 16;
/// The proof takes some 10 ms; a journal of a hundred megabytes on a slow disk takes seconds.
const CHECK_WITHIN: Duration = Duration::from_secs(10);
/// Most that is read of an answer, and of what the program says beside it.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// Most of its words that are shown.
const WORDS_MAX_CHARS: usize = 300;
/// Version of the answer's shape.
const ANSWER_VERSION: u32 = 1;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof {
    /// [`ANSWER_VERSION`].
    handover: u32,
    /// The new program's build.
    pub(super) build: String,
    /// What it cannot read, each with a reason; none: it can take over.
    problems: Vec<String>,
}

/// A program that is being asked. Dropped, it is killed and reaped.
struct Asked {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

/// Asks `program` for its proof; an error says why it cannot take over.
pub(super) async fn ask(program: &Path, inner: &Inner, heart_version: u32) -> Result<Proof, String> {
    let before = file_of(program).map_err(|error| error.to_string())?;
    let (answer, words, mut asked) = start(program, inner, heart_version).map_err(|error| error.to_string())?;
    let ended = tokio::time::timeout(CHECK_WITHIN, async { tokio::join!(text(answer), text(words), asked.ended()) });
    let (answer, words, status) =
        ended.await.map_err(|_| format!("it did not answer within {} s", CHECK_WITHIN.as_secs()))?;
    let status = status.map_err(|error| format!("its end was not seen: {error}"))?;
    let proof = judge(&answer, &words, status)?;
    if file_of(program).ok() != Some(before) {
        return Err("its file was replaced while it was asked".to_owned());
    }
    Ok(proof)
}

/// Gives the proof, as the new program.
pub(in crate::session) fn main(args: &[OsString]) -> ExitCode {
    let Some(answer) = child::inherited(ANSWER_FD) else { return ExitCode::FAILURE };
    let problems = match (Inner::from_args(args), args.get(1).and_then(|text| text.to_str()?.parse().ok())) {
        (Some(inner), Some(heart)) => problems(&inner, heart),
        _ => vec!["what the running daemon hands over cannot be understood".to_owned()],
    };
    let fine = problems.is_empty();
    let proof = Proof { handover: ANSWER_VERSION, build: crate::BUILD.to_owned(), problems };
    let text = serde_json::to_vec(&proof).expect("invariant: texts and numbers can be written");
    // A daemon that is gone asks nothing any more.
    let told = std::fs::File::from(answer).write_all(&text).is_ok();
    if fine && told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(answer: &str, words: &str, status: WaitStatus) -> Result<Proof, String> {
    let Ok(proof) = serde_json::from_str::<Proof>(answer) else {
        let how = match status {
            WaitStatus::Code(code) => format!("exit code {code}"),
            WaitStatus::Signal(signal, _) => format!("signal {signal}"),
            WaitStatus::Unknown => "an unknown end".to_owned(),
        };
        let words: String = words.trim().chars().take(WORDS_MAX_CHARS).collect();
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        return Err(format!("it is no envctl that knows how ({how} instead of an answer{said})"));
    };
    match (proof.problems.as_slice(), proof.handover, status) {
        ([], ANSWER_VERSION, WaitStatus::Code(0)) => Ok(proof),
        ([], ANSWER_VERSION, _) => Err("it says that it can and then fails".to_owned()),
        ([], version, _) => Err(format!("it answers in a way of its own (version {version})")),
        (problems, ..) => Err(problems.join("; ")),
    }
}

fn problems(inner: &Inner, heart_version: u32) -> Vec<String> {
    let mut problems = Vec::new();
    if !(VERSION_MIN..=VERSION).contains(&heart_version) {
        problems
            .push(format!("it speaks with hearts of version {VERSION_MIN} to {VERSION}, this one is {heart_version}"));
    }
    match inner.places() {
        Ok(places) => {
            let memories = Memory::peek_all(places.runtime_dir());
            problems.extend(memories.into_iter().filter_map(|(path, memory)| match memory {
                Ok(memory) => takes_over(&places, &memory).err(),
                Err(error) => Some(format!("it cannot read {}: {error}", path.display())),
            }));
        }
        Err(error) => problems.push(format!("it cannot use the session's directories: {error}")),
    }
    problems
}

/// Whether a run can be taken over by this build.
fn takes_over(places: &Places, memory: &Memory) -> Result<(), String> {
    let root = memory.root.display();
    let spec = crate::root::load(&memory.root, &memory.files())
        .map_err(|found| format!("it cannot read the configuration of {root}, which runs:\n{found}"))?;
    let project = places.for_project(&memory.root, &spec.name).map_err(|error| error.to_string())?;
    EventLog::check(&project.events()).map_err(|error| format!("it cannot {error}"))
}

/// Device, inode, length and change time: what tells one build of a program from another.
fn file_of(program: &Path) -> io::Result<(u64, u64, u64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(program)?;
    Ok((file.dev(), file.ino(), file.len(), file.ctime_nsec()))
}

fn start(program: &Path, inner: &Inner, heart_version: u32) -> io::Result<(Receiver, Receiver, Asked)> {
    let (answer, answer_in) = pipe()?;
    let (words, words_in) = pipe()?;
    let name = child::c_string(program.as_os_str())?;
    let mut argv = vec![name.clone(), CString::new(DAEMON_SUBCOMMAND)?, CString::new(CHECK_OPTION)?];
    for arg in inner.to_args() {
        argv.push(child::c_string(&arg)?);
    }
    argv.push(child::c_string(OsStr::new(&heart_version.to_string()))?);
    let files = vec![
        ChildFile::Open { fd: 0, path: CString::from(c"/dev/null"), flags: OFlag::O_RDONLY.bits() },
        ChildFile::Copy { fd: 1, from: words_in.as_raw_fd() },
        ChildFile::Copy { fd: 2, from: words_in.as_raw_fd() },
        ChildFile::Copy { fd: ANSWER_FD, from: answer_in.as_raw_fd() },
    ];
    let (env, dir, signals) = (Vec::new(), CString::from(c"/"), Signals::ALL);
    let Spawned { pid, pidfd } = spawn(&Spawn { program: name, argv, env, dir, files, open_files: None, signals })?;
    let asked = Asked { pid, pidfd: child::readable(pidfd)?, reaped: false };
    Ok((Receiver::from_owned_fd(answer)?, Receiver::from_owned_fd(words)?, asked))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let high = fcntl(&write, FcntlArg::F_DUPFD_CLOEXEC(COPY_FLOOR))?;
    let high = child::inherited(high).ok_or_else(|| io::Error::other("a copied descriptor is closed"))?;
    Ok((read, high))
}

async fn text(pipe: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.take(ANSWER_MAX_BYTES).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

// === impl Asked ===

impl Asked {
    async fn ended(&mut self) -> io::Result<WaitStatus> {
        let _ended = self.pidfd.readable().await?;
        let status = child::reap(self.pid)?.ok_or_else(|| io::Error::other("it has not ended"))?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = child::signal_group(self.pid, nix::libc::SIGKILL);
            let _ = child::reap_blocking(self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(problems: &[&str]) -> String {
        let problems = problems.iter().map(|text| (*text).to_owned()).collect();
        serde_json::to_string(&Proof { handover: ANSWER_VERSION, build: "9".to_owned(), problems }).unwrap()
    }

    #[test]
    fn only_an_answer_without_problems_and_an_orderly_end_is_a_yes() {
        let yes = judge(&answer(&[]), "", WaitStatus::Code(0)).unwrap();
        assert_eq!(yes.build, "9");
        let no = |answer: &str, words, status| judge(answer, words, status).unwrap_err();
        assert!(no(&answer(&[]), "", WaitStatus::Signal(11, false)).contains("then fails"));
        assert_eq!(no(&answer(&["it cannot read x", "nor y"]), "", WaitStatus::Code(1)), "it cannot read x; nor y");
        assert!(no("", "ls: unknown option\n", WaitStatus::Code(2)).contains("exit code 2 instead of an answer: ls:"));
        assert!(no("{}", "", WaitStatus::Code(0)).contains("no envctl"));
        let other = answer(&[]).replace("\"handover\":1", "\"handover\":7");
        assert!(no(&other, "", WaitStatus::Code(0)).contains("version 7"));
    }
}
