//! What a life was started with, as a short text: by it a later `up`, also one of another daemon, sees what has changed.
//!
//! Only what reaches the process or its probes counts. Where a value stands in its file does not: moving lines changes nothing.

use std::fmt::Write as _;

use envctl_actors::process::Scope;
use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::spec::{Confines, ProjectSpec, Run, Sourced, StopAsk, StopStep, Template, UnitKind, UnitSpec, Whereabouts};

/// Bytes of the digest that are kept: it tells versions of one unit apart, not adversaries.
const DIGEST_BYTES: usize = 8;

/// The fingerprint of a unit in its project.
pub fn fingerprint(project: &ProjectSpec, unit: &UnitSpec) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(&format!("{:?}", project.inherit));
    add_env(&project.env, &mut add);
    add_env(&unit.env, &mut add);
    match &unit.kind {
        UnitKind::Service(program) | UnitKind::Task(program) => {
            add(&program.dir.to_string_lossy());
            if let Some(size) = program.tty {
                add(&format!("{size:?}"));
            }
            match &program.run {
                Run::Shell(line) => add(line),
                Run::Command(elements) => elements.iter().for_each(|element| add(&element.value.to_string())),
            }
        }
        UnitKind::Requirement(requirement) => {
            add(&format!("{requirement:?}"));
            // What its own text leaves out, because it may be secret.
            match &requirement.whereabouts {
                Some(Whereabouts::Url(url)) => add(url),
                Some(Whereabouts::Parts { port, password, .. }) => add(&format!("{port:?} {password:?}")),
                Some(Whereabouts::Variable(_)) | None => {}
            }
        }
    }
    add(&format!("{:?} {:?} {:?} {}", unit.ports, unit.ready, unit.alive, stop_text(&unit.stop)));
    // Left out where nothing is set: units of an older build keep their fingerprints.
    if unit.confines != Confines::default() {
        add(&format!("{:?}", unit.confines));
    }
    if project.end_with_daemon {
        // Heart was told when the process was started, and only then.
        add("ends with the daemon");
    }
    hash.finalize().iter().take(DIGEST_BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A plain stop is its signal: how long it takes is its supervisor's business, which is told of every change.
fn stop_text(steps: &[StopStep]) -> String {
    if let [StopStep { ask: StopAsk::Signal(signal), scope: Scope::All, .. }] = steps {
        return signal.to_string();
    }
    let step = |step: &StopStep| {
        let ask = match &step.ask {
            StopAsk::Signal(signal) => signal.to_string(),
            StopAsk::Run(Run::Shell(line)) => line.clone(),
            StopAsk::Run(Run::Command(words)) => {
                words.iter().map(|word| word.value.to_string()).collect::<Vec<_>>().join("\0")
            }
        };
        format!("{ask}\0{:?}\0{:?}", step.scope, step.after)
    };
    steps.iter().map(step).collect::<Vec<_>>().join("\0\0")
}

fn add_env(env: &IndexMap<String, Sourced<Template>>, add: &mut impl FnMut(&str)) {
    for (name, value) in env {
        add(name);
        add(&value.value.to_string());
    }
}
