//! The plan for Redis (or valkey, which takes the same arguments).
//!
//! All by arguments, no configuration file to go stale. Bound to loopback, without a password: as the original's, and as
//! its URL is no secret it may stand in an argument list. The append-only file keeps the data for the next start.

use std::path::PathBuf;

use super::locate::Binaries;
use super::plan::{Action, Attribute, Plan, Step, Wanted};
use crate::probe::spec::Probe;
use crate::process::{Command, RunAs};

pub(super) fn plan(wanted: &Wanted, binaries: &Binaries) -> Plan {
    let url = format!("redis://127.0.0.1:{}", wanted.port);
    Plan {
        marker: wanted.cluster(),
        prepare: prepare(wanted, binaries),
        main: main(wanted, binaries),
        stop_signal: libc::SIGTERM,
        probe: Probe::Redis { url: url.clone() },
        schedule: super::postgres::schedule(),
        after_ready: Vec::new(),
        attributes: [
            ("url", Attribute::open(url)),
            ("host", Attribute::open("127.0.0.1")),
            ("port", Attribute::open(wanted.port.to_string())),
        ]
        .map(|(name, attribute)| (name.to_owned(), attribute))
        .into(),
    }
}

fn prepare(wanted: &Wanted, binaries: &Binaries) -> Vec<Step> {
    let path = wanted.cluster();
    let mut steps = vec![Step::always("make the data directory", Action::CreateDir { path, mode: 0o700 })];
    if let (None, Some(version)) = (&binaries.version, &wanted.version) {
        let command = Box::new(as_caller(wanted.command(&binaries.server, ["--version"])));
        let action = Action::CheckVersion { command, wanted: version.clone() };
        steps.push(Step::always("find the wanted version", action));
    }
    steps
}

fn main(wanted: &Wanted, binaries: &Binaries) -> Command {
    let (port, dir) = (wanted.port.to_string(), wanted.cluster());
    let mut args = Vec::new();
    for (option, value) in [
        ("--port", port.as_str()),
        ("--bind", "127.0.0.1"),
        ("--protected-mode", "yes"),
        ("--daemonize", "no"),
        ("--appendonly", "yes"),
        // The log goes to standard output, which is our log stream.
        ("--logfile", ""),
    ] {
        args.extend([option.into(), value.into()]);
    }
    // Two arguments: as one, Redis 6 refuses them.
    args.extend(["--save".into(), "60".into(), "1".into()]);
    args.extend(["--dir".into(), dir.clone().into_os_string()]);
    let mut command = as_caller(wanted.command(&binaries.server, args));
    command.dir = dir;
    command
}

/// Redis does not mind being root, and our own rights are the ones its directory was made with.
fn as_caller(command: Command) -> Command {
    Command { run_as: RunAs::Caller, dir: PathBuf::from("/"), ..command }
}
