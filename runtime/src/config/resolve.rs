//! From what was read and checked to the [`ProjectSpec`] that is run.

use std::path::PathBuf;

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Edge, Flags};

use super::diagnostic::Findings;
use super::model::{Group, Model};
use super::project::slug;
use crate::spec::ProjectSpec;

/// Name of a project whose directory has no usable one, such as `/`.
const NAMELESS: &str = "project";

/// Puts the project together. Only called when nothing is wrong with it.
pub(super) fn resolve(findings: &Findings, model: Model, edges: Vec<Vec<Edge>>, files: Vec<PathBuf>) -> ProjectSpec {
    let mut units = indexmap::IndexMap::with_capacity(model.drafts.len());
    for (mut draft, edges) in model.drafts.into_iter().zip(edges) {
        draft.spec.child.needs = edges;
        units.insert(draft.spec.child.id.clone(), draft.spec);
    }
    ProjectSpec {
        groups: model.groups.iter().map(Group::spec).collect(),
        flags: model.supervision.map_or_else(Flags::default, |supervision| supervision.value),
        name: model.name.unwrap_or_else(|| directory_name(findings)),
        root: findings.root().to_path_buf(),
        files,
        units,
        logs: model.logs,
        env: model.env,
        inherit: model.inherit,
        end_with_daemon: model.end_with_daemon,
    }
}

fn directory_name(findings: &Findings) -> Name {
    let directory = findings.root().file_name().unwrap_or_default().to_string_lossy();
    let named = Name::new(&slug(&directory)).or_else(|_| Name::new(NAMELESS));
    named.expect("invariant: the fallback is a good name")
}
