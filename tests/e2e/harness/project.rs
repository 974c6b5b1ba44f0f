//! A checkout in a test environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::environment::COMMAND_DEADLINE;
use super::{Background, Output, TestEnvironment, until};

/// The command that brings a project up and waits for it.
pub(crate) const UP_WAIT: &[&str] = &["up", "-d", "--wait", "--wait-timeout", "30s"];
/// Longest wait for a state that must come by itself.
pub(crate) const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// A directory with a project.
#[derive(Debug)]
pub(crate) struct Project<'e> {
    env: &'e TestEnvironment,
    dir: PathBuf,
}

// === impl Project ===

impl<'e> Project<'e> {
    pub(super) fn new(env: &'e TestEnvironment, dir: PathBuf) -> Self {
        Self { env, dir }
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in it, as text for a config.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes a file in it.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().expect("invariant: inside the project")).expect("the file's directory");
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Reads a file in it; empty if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read(self.dir.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// `envctl` in it, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.env.command(&self.dir, arguments)
    }

    /// Starts `envctl` in it.
    #[track_caller]
    pub(crate) fn start(&self, arguments: &[&str]) -> Background {
        self.env.start(&mut self.command(arguments), arguments)
    }

    /// Runs `envctl` in it to its end.
    #[track_caller]
    pub(crate) fn envctl(&self, arguments: &[&str]) -> Output {
        self.start(arguments).wait(COMMAND_DEADLINE)
    }

    /// Runs a command line of `sh` in it, with `$E` as the program.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> Output {
        let mut command = self.env.tool("/bin/sh", &self.dir);
        command.args(["-c", line]).env("E", super::ENVCTL);
        Background::start(&mut command, line.to_owned()).wait(COMMAND_DEADLINE)
    }

    /// Brings it up and waits until it is.
    #[track_caller]
    pub(crate) fn up(&self) -> Output {
        self.envctl(UP_WAIT).ok()
    }

    /// Takes it down.
    #[track_caller]
    pub(crate) fn down(&self) -> Output {
        self.envctl(&["down"]).ok()
    }

    /// This project in `ps --json`.
    #[track_caller]
    pub(crate) fn ps(&self) -> Value {
        let all = self.envctl(&["ps", "--json"]).ok().json();
        assert_eq!(all["kind"], "ps", "{all:#}");
        all["projects"].get(0).cloned().unwrap_or_else(|| panic!("no project in {all:#}"))
    }

    /// A unit in `ps --json`.
    #[track_caller]
    pub(crate) fn unit(&self, name: &str) -> Value {
        let ps = self.ps();
        let units = ps["units"].as_array().cloned().unwrap_or_default();
        units.into_iter().find(|unit| unit["name"] == name).unwrap_or_else(|| panic!("no unit {name} in {ps:#}"))
    }

    /// A unit's state.
    #[track_caller]
    pub(crate) fn state(&self, name: &str) -> String {
        self.unit(name)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// A unit's pid, as soon as it has one.
    #[track_caller]
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let unit = self.until(name, "has a pid", |unit| unit["pid"].is_u64());
        let pid = unit["pid"].as_u64().expect("just seen");
        u32::try_from(pid).expect("a pid")
    }

    /// A unit's single port.
    #[track_caller]
    pub(crate) fn port(&self, name: &str) -> u16 {
        let unit = self.unit(name);
        let port = unit["ports"][0]["port"].as_u64().unwrap_or_else(|| panic!("{name} has no port: {unit:#}"));
        u16::try_from(port).expect("a port")
    }

    /// Waits until a unit is as `is` wants it, and returns it.
    #[track_caller]
    pub(crate) fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(STATE_DEADLINE, &format!("{name} to be {what}"), || {
            let unit = self.look(name);
            if is(&unit) { Ok(unit) } else { Err(unit) }
        })
    }

    /// A unit in `ps --json`, or null while nobody knows of it.
    #[track_caller]
    fn look(&self, name: &str) -> Value {
        let all = self.envctl(&["ps", "--json"]).ok().json();
        let units = all["projects"][0]["units"].as_array().cloned().unwrap_or_default();
        units.into_iter().find(|unit| unit["name"] == name).unwrap_or_default()
    }

    /// Waits until a unit is in `state`.
    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) -> Value {
        self.until(name, state, |unit| unit["state"] == state)
    }

    /// The journal.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        self.envctl(&["events", "--json"])
            .ok()
            .json_lines()
            .into_iter()
            .filter(|line| line["event"].is_string())
            .collect()
    }

    /// The journal's events about one unit.
    #[track_caller]
    pub(crate) fn events_of(&self, unit: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["unit"] == unit).collect()
    }

    /// Waits until the file has `lines` lines, and returns them.
    #[track_caller]
    pub(crate) fn until_lines(&self, name: &str, lines: usize) -> Vec<String> {
        until(STATE_DEADLINE, &format!("{lines} lines in {name}"), || {
            let text = self.read(name);
            let found: Vec<String> = text.lines().map(str::to_owned).collect();
            if found.len() >= lines && text.ends_with('\n') { Ok(found) } else { Err(found) }
        })
    }

    /// Waits until a line of exactly this text is in the logs of any unit.
    #[track_caller]
    pub(crate) fn until_logged(&self, line: &str) {
        until(STATE_DEADLINE, &format!("{line:?} in the logs"), || {
            let logs = self.envctl(&["logs", "--raw"]).ok().stdout;
            if logs.lines().any(|logged| logged == line) { Ok(()) } else { Err(logs) }
        });
    }

    /// Waits until a file of JSON is there.
    #[track_caller]
    pub(crate) fn until_json(&self, name: &str) -> Value {
        until(STATE_DEADLINE, name, || serde_json::from_str(&self.read(name)).map_err(|error| error.to_string()))
    }
}
