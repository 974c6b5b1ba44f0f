//! What the files say, read and typed but not yet checked against each other.
//!
//! A [`Draft`] is a unit's final [`UnitSpec`] with its loose ends beside it: needs that name units, references that name
//! attributes, ports that must differ. `checks` and `resolve` tie them up.

use std::collections::HashMap;

use envctl_supervisors::Name;
use envctl_supervisors::spec::{Condition, Escalate, Flags, GroupSpec, Intensity, Strategy, Then};
use indexmap::IndexMap;

use super::origin::{At, Place};
use crate::spec::{Inherit, LogSpec, Sourced, Template, UnitSpec};

/// Name of the one port that is written as `port = 8000`.
pub(super) const UNNAMED_PORT: &str = "port";

/// Environment entries with their origins.
pub(super) type Environment = IndexMap<String, Sourced<Template>>;

/// The whole project as read.
#[derive(Debug)]
pub(super) struct Model {
    /// The declared name.
    pub(super) name: Option<Name>,
    /// Project-wide environment.
    pub(super) env: Environment,
    /// References in it.
    pub(super) references: Vec<Reference>,
    /// What of the caller's environment reaches units.
    pub(super) inherit: Inherit,
    /// Whether units end with the daemon.
    pub(super) end_with_daemon: bool,
    /// Log limits.
    pub(super) logs: LogSpec,
    /// Units in the order of the file.
    pub(super) drafts: Vec<Draft>,
    /// Where each is among them; of a name that is there twice the first.
    pub(super) index: HashMap<Name, usize>,
    /// Groups in the order of the file.
    pub(super) groups: Vec<Group>,
    /// The group of everything that has none, if it is written down.
    pub(super) supervision: Option<At<Flags>>,
    /// Names already reported as bad: a mention of one of them is no second error.
    pub(super) bad_names: Vec<String>,
}

/// A unit with its loose ends.
#[derive(Debug)]
pub(super) struct Draft {
    /// Final but for the edges.
    pub(super) spec: UnitSpec,
    /// Where its name stands.
    pub(super) at: Place,
    /// What it needs.
    pub(super) needs: Vec<Need>,
    /// The attributes it mentions.
    pub(super) references: Vec<Reference>,
    /// The port bases that are written in the file.
    pub(super) bases: Vec<At<u16>>,
    /// Its `sh` line.
    pub(super) shell: Option<At<String>>,
    /// The keys of a budget of its own that it writes: no place for them in a group.
    pub(super) budget: Vec<At<&'static str>>,
}

/// A need, before its target is known.
#[derive(Debug)]
pub(super) struct Need {
    /// The name it gives, and where.
    pub(super) on: At<String>,
    /// The condition, if it says one.
    pub(super) is: Option<At<Condition>>,
    /// What follows when it is lost.
    pub(super) then: Then,
}

/// One `${unit.attribute}`.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// The unit.
    pub(super) unit: Name,
    /// The attribute.
    pub(super) attribute: String,
    /// Where it stands.
    pub(super) at: Place,
    /// What it is used for.
    pub(super) usage: Usage,
}

/// Where a reference ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// In an argument list, which every user of the machine can read.
    Argument,
    /// In an environment.
    Environment,
}

/// A declared group.
#[derive(Debug)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: Name,
    /// Where its name stands.
    pub(super) at: Place,
    /// Its members in order, units or groups.
    pub(super) members: Vec<At<String>>,
    /// Who is restarted together with a crashed member.
    pub(super) strategy: Strategy,
    /// The budget its members share.
    pub(super) intensity: Intensity,
    /// What giving up means.
    pub(super) escalate: Escalate,
}

// === impl Model ===

impl Model {
    /// Adds a unit after those that are there.
    pub(super) fn add(&mut self, draft: Draft) {
        self.index.entry(draft.name().clone()).or_insert(self.drafts.len());
        self.drafts.push(draft);
    }

    /// The unit called `name`.
    pub(super) fn draft(&self, name: &str) -> Option<&Draft> {
        self.position(name).map(|at| &self.drafts[at])
    }

    /// Its place among the units.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Every name of the one namespace.
    pub(super) fn group_and_unit_names(&self) -> Vec<String> {
        let units = self.drafts.iter().map(Draft::name);
        units.chain(self.groups.iter().map(|group| &group.name)).map(Name::to_string).collect()
    }
}

// === impl Draft ===

impl Draft {
    /// The unit's name.
    pub(super) fn name(&self) -> &Name {
        &self.spec.child.id
    }

    /// Kind and name, for messages.
    pub(super) fn label(&self) -> String {
        format!("{} `{}`", self.spec.kind.as_str(), self.name())
    }
}

// === impl Group ===

impl Group {
    /// The name with its kind, for messages.
    pub(super) fn label(&self) -> String {
        format!("group `{}`", self.name)
    }

    /// What the engine is told of it. Only called when nothing is wrong with it.
    pub(super) fn spec(&self) -> GroupSpec {
        let members = self.members.iter().filter_map(|member| Name::new(&member.value).ok()).collect();
        let (strategy, intensity, escalate) = (self.strategy, self.intensity, self.escalate);
        GroupSpec { id: self.name.clone(), members, strategy, intensity, escalate }
    }
}
