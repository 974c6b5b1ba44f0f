//! What /proc says: the tests' own eyes, independent of the program under test.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until;

/// A live process that has to do with a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its pid.
    pub(crate) pid: u32,
    /// Its command line, spaces between arguments.
    pub(crate) command: String,
    /// How it gave itself away: its environment, directory, command line or an open file.
    pub(crate) tie: &'static str,
}

/// Whether a process lives: there, and neither a zombie nor dead (PID 1 of a container may never collect zombies).
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields.first().map(String::as_str), Some("Z" | "X") | None))
}

/// The parent.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Living children.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).filter(|child| alive(*child)).collect()
}

/// Its command line, spaces between arguments.
pub(crate) fn command_of(pid: u32) -> String {
    command(pid)
}

/// The session.
pub(crate) fn session(pid: u32) -> Option<u32> {
    stat(pid)?.get(3)?.parse().ok()
}

/// Processor time used, in clock ticks (hundredths of a second).
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let fields = stat(pid).unwrap_or_default();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// Number of open descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Kilobytes of its program's code that are mapped (proc_pid_smaps(5)).
pub(crate) fn code_kib(pid: u32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let is_code =
        |line: &str| line.contains(" r-xp ") && Path::new(line.rsplit(' ').next().unwrap_or_default()) == program;
    let resident = smaps.lines().skip_while(|line| !is_code(line)).find_map(|line| line.strip_prefix("Rss:"));
    resident.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A variable of a process's environment.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let wanted = format!("{name}=");
    environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(wanted.as_bytes()))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// Kills and waits until it is gone.
#[track_caller]
pub(crate) fn kill_hard(pid: u32) {
    signal(pid, Signal::SIGKILL);
    until(Duration::from_secs(5), &format!("the end of process {pid}"), || if alive(pid) { Err(pid) } else { Ok(()) });
}

/// Sends a signal; a process that is gone already is no failure.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("invariant: a pid fits")), signal);
}

/// Live processes tied to `dir`, but for this one.
pub(crate) fn tied_to(dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && alive(*pid))
        .filter_map(|pid| tie(pid, dir).map(|tie| Process { pid, command: command(pid), tie }))
        .collect()
}

/// Live processes whose command line contains `text`.
pub(crate) fn with_command(text: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && alive(*pid) && command(*pid).contains(text))
        .collect()
}

fn tie(pid: u32, dir: &Path) -> Option<&'static str> {
    let holds = |file: &str| contains(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default(), dir);
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    if holds("environ") {
        Some("environment")
    } else if inside(Path::new(&format!("/proc/{pid}/cwd"))) {
        Some("directory")
    } else if holds("cmdline") {
        Some("command line")
    } else {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        files.flatten().any(|entry| inside(&entry.path())).then_some("open file")
    }
}

/// Whether `bytes` hold `dir` as a whole path component, so that `/tmp/ev1` is not found in `/tmp/ev12`.
fn contains(bytes: &[u8], dir: &Path) -> bool {
    let wanted = dir.as_os_str().as_bytes();
    bytes
        .windows(wanted.len() + 1)
        .any(|window| window.starts_with(wanted) && !window[wanted.len()].is_ascii_alphanumeric())
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// The fields of /proc/PID/stat after the name, which may itself hold spaces and brackets: the first is the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
