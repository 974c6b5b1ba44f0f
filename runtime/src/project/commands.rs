//! From a unit's specification to what is run and asked, with every reference filled in. Pure.

use std::ffi::OsString;
use std::time::Duration;

use envctl_actors::probe::{Probe, Purpose, Schedule};
use envctl_actors::process::{Command, Limits, RunAs};
use envctl_actors::unit::Asked;
use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use indexmap::IndexMap;

use super::environment::Environment;
use crate::spec::{Ask, Attributes, Confines, MissingAttribute, ProbePort, ProbeSpec, Program, Run, UnitSpec};

/// The shell of `sh = "…"`.
const SHELL: &str = "/bin/sh";

/// What a unit's probes need to know of it.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The program's directory; exec probes run there too.
    pub program: &'a Program,
    /// Its environment.
    pub environment: &'a Environment,
    /// Its leased ports.
    pub ports: &'a IndexMap<Name, u16>,
    /// What all units offer.
    pub attributes: &'a Attributes,
    /// What it is confined to.
    pub confines: &'a Confines,
    /// Whose rights it has.
    pub run_as: RunAs,
}

/// What a service, a task or one of its probes runs, without a terminal.
pub fn command(run: &Run, around: Surroundings<'_>) -> Result<Command, StartError> {
    let (program, args) = argv(run, around.attributes).map_err(missing)?;
    Ok(Command {
        program,
        args,
        env: around.environment.clone().into_pairs(),
        dir: around.program.dir.clone(),
        run_as: around.run_as,
        limits: around.confines.limits,
        stdin: around.confines.stdin.clone(),
    })
}

/// The main process of a service or a task, with its terminal.
pub fn main(program: &Program, around: Surroundings<'_>) -> Result<Command, StartError> {
    let command = command(&program.run, around)?;
    Ok(Command { limits: Limits { tty: program.tty, ..command.limits }, ..command })
}

/// Everything a unit is asked.
pub fn asked(unit: &UnitSpec, around: Surroundings<'_>) -> Result<Vec<Asked>, StartError> {
    let probes = [(Purpose::Ready, &unit.ready), (Purpose::Alive, &unit.alive)];
    let wanted = probes.into_iter().filter_map(|(purpose, spec)| Some((purpose, spec.as_ref()?)));
    wanted.map(|(purpose, spec)| Ok(Asked { purpose, probe: probe(spec, around)?, schedule: schedule(spec) })).collect()
}

fn argv(run: &Run, attributes: &Attributes) -> Result<(OsString, Vec<OsString>), MissingAttribute> {
    match run {
        Run::Shell(line) => Ok((SHELL.into(), vec!["-c".into(), line.into()])),
        Run::Command(elements) => {
            let filled = elements.iter().map(|element| element.value.fill(attributes).map(OsString::from));
            let mut filled = filled.collect::<Result<Vec<_>, _>>()?.into_iter();
            let program = filled.next().expect("invariant: the configuration refuses an empty `cmd`");
            Ok((program, filled.collect()))
        }
    }
}

fn probe(spec: &ProbeSpec, around: Surroundings<'_>) -> Result<Probe, StartError> {
    Ok(match &spec.ask {
        Ask::Tcp(port) => {
            let (port, own) = port_of(port, around.ports)?;
            Probe::Tcp { port, own }
        }
        Ask::Http { port, path } => {
            let (port, own) = port_of(port, around.ports)?;
            Probe::Http { port, path: path.clone(), own }
        }
        Ask::Exec(run) => Probe::Exec(Box::new(asking(command(run, around)?))),
        Ask::Log(pattern) => Probe::Log(pattern.clone()),
    })
}

/// A probe has its unit's rights and mask; the limits are those of the unit's own processes.
fn asking(command: Command) -> Command {
    let limits = Limits { umask: command.limits.umask, ..Limits::default() };
    Command { limits, stdin: None, ..command }
}

fn port_of(port: &ProbePort, ports: &IndexMap<Name, u16>) -> Result<(u16, bool), StartError> {
    match port {
        ProbePort::Fixed(port) => Ok((*port, false)),
        ProbePort::Own(name) => ports.get(name).map(|port| (*port, true)).ok_or_else(|| StartError {
            message: format!("find the port `{name}` that its probe asks"),
            hint: None,
            retry: false,
        }),
    }
}

fn schedule(spec: &ProbeSpec) -> Schedule {
    let ProbeSpec { every, timeout, failures, .. } = spec;
    // A check that takes longer than the unit has would never be counted.
    let timeout = (*timeout).min(spec.within.max(Duration::from_millis(1)));
    Schedule { every: *every, timeout, failures: *failures, successes: 1 }
}

/// A reference without a value, as a reason not to start.
pub fn missing(error: MissingAttribute) -> StartError {
    StartError { message: error.to_string(), hint: None, retry: false }
}
