//! What a life was started with, as a short text: by it a later `up`, also one of another daemon, sees what has changed.
//!
//! Only what reaches the process or its probes counts. Where a value stands in its file does not: moving lines changes nothing.

use std::fmt::Write as _;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::spec::{ProjectSpec, Run, Sourced, Template, UnitKind, UnitSpec};

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
        UnitKind::Requirement(requirement) => add(&format!("{requirement:?}")),
    }
    add(&format!("{:?} {:?} {:?} {}", unit.ports, unit.ready, unit.alive, unit.stop_signal));
    hash.finalize().iter().take(DIGEST_BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn add_env(env: &IndexMap<String, Sourced<Template>>, add: &mut impl FnMut(&str)) {
    for (name, value) in env {
        add(name);
        add(&value.value.to_string());
    }
}
