//! A machine of one's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::proc::{self, Process};
use super::{Background, ENVCTL, FIXTURE, Output, Project, until};

/// Longest that an ordinary command may take.
pub(crate) const COMMAND_DEADLINE: Duration = Duration::from_secs(60);
/// Longest that processes may take to go after `daemon stop` has answered.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Events of a journal that a failed test shows.
const EVENTS_SHOWN: usize = 60;
/// Variables of the machine that tools of the examples need (package installers, certificates, version shims).
const PASSED_ON: &[&str] = &["PATH", "LANG", "PYENV_ROOT", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];
/// And every variable that starts so.
const PASSED_ON_PREFIXES: &[&str] = &["PIP_", "npm_config_", "NPM_CONFIG_", "http_proxy", "https_proxy", "no_proxy"];

/// Directories, variables and a daemon that nobody else uses. Dropping it proves that nothing is left.
#[derive(Debug)]
pub(crate) struct TestEnvironment {
    root: tempfile::TempDir,
    variables: BTreeMap<OsString, OsString>,
}

// === impl TestEnvironment ===

impl TestEnvironment {
    /// A new one. Its path is short, so that socket paths stay below 107 bytes.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("ev").rand_bytes(8).tempdir_in("/tmp").expect("a directory in /tmp");
        for name in ["home", "run", "state", "config", "p"] {
            fs::DirBuilder::new().mode(0o700).create(root.path().join(name)).expect("a directory of the environment");
        }
        let mut variables: BTreeMap<OsString, OsString> =
            std::env::vars_os().filter(|(name, _)| passed_on(name)).collect();
        for (name, dir) in
            [("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")]
        {
            variables.insert(name.into(), root.path().join(dir).into());
        }
        variables.insert("TERM".into(), "dumb".into());
        Self { root, variables }
    }

    /// Where everything of it is.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// A project with this `envctl.toml`; `"FX"` in it stands for the fixture program.
    #[track_caller]
    pub(crate) fn project(&self, toml: &str) -> Project<'_> {
        self.project_named("project", toml)
    }

    /// A project in a directory of this name.
    #[track_caller]
    pub(crate) fn project_named(&self, name: &str, toml: &str) -> Project<'_> {
        let project = self.empty_project(name);
        project.write("envctl.toml", toml.replace("\"FX\"", &format!("{FIXTURE:?}")));
        project
    }

    /// A directory without a config file.
    #[track_caller]
    pub(crate) fn empty_project(&self, name: &str) -> Project<'_> {
        let dir = self.root().join("p").join(name);
        fs::create_dir_all(&dir).expect("a directory for the project");
        Project::new(self, dir)
    }

    /// A copy of one of the repository's examples, without what its tasks have made there.
    #[track_caller]
    pub(crate) fn example(&self, example: &str, name: &str) -> Project<'_> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let project = self.empty_project(name);
        copy_dir(&from, project.dir());
        project
    }

    /// The program, in `dir`, with this environment and nothing on standard input.
    pub(crate) fn command(&self, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = self.tool(ENVCTL, dir);
        command.args(arguments);
        command
    }

    /// Any program in this environment.
    pub(crate) fn tool(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env_clear().envs(&self.variables).stdin(Stdio::null());
        command
    }

    /// Runs `envctl` outside any project.
    #[track_caller]
    pub(crate) fn envctl(&self, arguments: &[&str]) -> Output {
        self.start(&mut self.command(self.root(), arguments), arguments).wait(COMMAND_DEADLINE)
    }

    /// Starts a prepared command.
    #[track_caller]
    pub(crate) fn start(&self, command: &mut Command, arguments: &[&str]) -> Background {
        Background::start(command, format!("envctl {}", arguments.join(" ")))
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root().join("run/envctl/default/ctl.sock")
    }

    /// The daemon's pid, as it says itself.
    #[track_caller]
    pub(crate) fn daemon_pid(&self) -> u32 {
        let status = self.envctl(&["daemon", "status", "--json"]).ok().json();
        let pid = find(&status, "pid").and_then(serde_json::Value::as_u64);
        u32::try_from(pid.unwrap_or_else(|| panic!("no pid in {status:#}"))).expect("a pid")
    }

    /// Everything alive that has to do with it.
    pub(crate) fn processes(&self) -> Vec<Process> {
        proc::tied_to(self.root())
    }

    /// Daemons of it: by their own sockets, not by names.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_sockets(self.root(), &mut found);
        found
    }

    /// The daemon's own log, for failures.
    pub(crate) fn daemon_log(&self) -> String {
        let mut found = Vec::new();
        collect_named(self.root(), "daemon.log", &mut found);
        found.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// The end of every journal, for failures.
    fn last_events(&self) -> String {
        let mut found = Vec::new();
        collect_named(self.root(), "events.jsonl", &mut found);
        let journals = found.iter().map(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(EVENTS_SHOWN)..].join("\n")
        });
        journals.collect::<Vec<_>>().join("\n---\n")
    }

    fn stop_daemon(&self) -> Option<String> {
        if self.sockets().is_empty() {
            return None;
        }
        let arguments = ["daemon", "stop"];
        let mut background = self.start(&mut self.command(self.root(), &arguments), &arguments);
        // The result is not asserted: what counts is what is left, which is looked at next.
        background.end_within(COMMAND_DEADLINE).err()
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.stop_daemon().into_iter().collect();
        let gone = self.wait_for_processes();
        left.extend(gone.iter().map(|one| format!("process {} ({}; {})", one.pid, one.command, one.tie)));
        for process in gone {
            proc::signal(process.pid, Signal::SIGKILL);
        }
        left.extend(self.sockets().iter().map(|path| format!("socket {}", path.display())));
        left.extend(self.mounts().into_iter().map(|mount| format!("mount {mount}")));
        left
    }

    fn wait_for_processes(&self) -> Vec<Process> {
        let clock = super::Stopwatch::start();
        until(GONE_WITHIN * 2, "a last look", || {
            let left = self.processes();
            if left.is_empty() || clock.elapsed() > GONE_WITHIN { Ok(left) } else { Err(left) }
        })
    }

    fn mounts(&self) -> Vec<String> {
        let root = self.root().display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        let left = self.leftovers();
        let log = self.daemon_log();
        if std::thread::panicking() {
            eprintln!("--- left: {left:#?}\n--- daemon log\n{log}\n--- events\n{}", self.last_events());
            return;
        }
        assert!(left.is_empty(), "the test left behind: {left:#?}\n--- daemon log\n{log}");
        assert!(!log.contains("panicked at"), "the daemon panicked:\n{log}");
    }
}

/// The first value under `key`, at any depth.
pub(crate) fn find<'v>(value: &'v serde_json::Value, key: &str) -> Option<&'v serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        serde_json::Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

fn passed_on(name: &std::ffi::OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    PASSED_ON.contains(&name) || PASSED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory for the copy");
    for entry in fs::read_dir(from).expect("the example").flatten() {
        let name = entry.file_name();
        if [".venv", "node_modules", "build"].iter().any(|made| name == *made) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy of the example's file");
        }
    }
}

fn collect_sockets(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect_sockets(&entry.path(), found),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn collect_named(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_named(&entry.path(), name, found);
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
}
