//! Erlang/OTP as a subject: compiles `measure.erl` and says how a run of it is started.
#![expect(clippy::disallowed_methods, reason = "a program that runs erlc and erl; neither is a unit of a project")]

use std::fs::File;
use std::io::{self, Write};
use std::process::Command;

use tempfile::TempDir;

use crate::plan::{Flavour, Run};

const SOURCE: &str = include_str!("measure.erl");
/// Erlang's limit of processes, above its default of 262,144: every child of the largest run and its successor.
const PROCESSES_MAX: &str = "2000000";

/// The compiled module; removed when dropped.
pub(crate) struct Otp {
    directory: TempDir,
}

// === impl Otp ===

impl Otp {
    /// Compiles the module. An error says why Erlang cannot be measured.
    pub(crate) fn compile() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| format!("make a directory: {error}"))?;
        write(&directory).map_err(|error| format!("write measure.erl: {error}"))?;
        let compiled = Command::new("erlc").arg("measure.erl").current_dir(directory.path()).output();
        let output = compiled.map_err(|error| format!("run erlc: {error}"))?;
        match output.status.success() {
            true => Ok(Self { directory }),
            false => Err(format!("compile measure.erl: {}", String::from_utf8_lossy(&output.stdout))),
        }
    }

    /// The command of one run: `measure:main` of the run's arguments.
    pub(crate) fn command(&self, run: &Run) -> Command {
        let mut command = Command::new("erl");
        command.args(["-noshell", "+P", PROCESSES_MAX]);
        match run.flavour {
            Flavour::Multi => {}
            Flavour::Current => drop(command.args(["+S", "1"])),
        }
        command.arg("-pa").arg(self.directory.path()).args(["-run", "measure", "main"]).args(run.arguments());
        command
    }
}

fn write(directory: &TempDir) -> io::Result<()> {
    File::create(directory.path().join("measure.erl"))?.write_all(SOURCE.as_bytes())
}
