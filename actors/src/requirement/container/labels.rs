//! What says that something in the engine is ours: labels. Names prove nothing, and are never asked for.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Who made it: [`Owner::id`].
pub const OWNER: &str = "dev.envctl.owner";
/// The session.
pub const SESSION: &str = "dev.envctl.session";
/// The scope: the repository.
pub const SCOPE: &str = "dev.envctl.scope";
/// The project's folder in its scope.
pub const PROJECT: &str = "dev.envctl.project";
/// The unit.
pub const UNIT: &str = "dev.envctl.unit";
/// The unit's life.
pub const INCARNATION: &str = "dev.envctl.incarnation";
/// Which of a unit's containers it is; of a volume: its name in the preset.
pub const PART: &str = "dev.envctl.part";
/// The version of envctl that made it.
pub const VERSION: &str = "dev.envctl.version";

/// Hex digits of an owner's id: it tells the few users of one engine apart.
const ID_DIGITS: usize = 16;

/// Whose things they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// This user of this machine with this state directory: [`owner_id`].
    pub id: String,
    /// The session.
    pub session: String,
    /// The repository.
    pub scope: String,
    /// The project's folder in its scope.
    pub project: String,
}

/// An id of who makes containers, for engines that serve several users or machines: another user's session `default` may
/// have a project at the same path.
pub fn owner_id(state_dir: &Path, uid: u32) -> String {
    // Without a machine-id the path and the uid still tell most owners apart.
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let text = format!("{}\0{uid}\0{}", machine.trim(), state_dir.display());
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(ID_DIGITS).collect()
}

// === impl Owner ===

impl Owner {
    /// The labels of everything of a unit.
    pub(super) fn labels(&self, unit: &str) -> HashMap<String, String> {
        let mut labels = self.project_labels();
        labels.insert(UNIT.to_owned(), unit.to_owned());
        labels.insert(VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        labels
    }

    /// What a list is filtered by: everything of the project, or of one of its units.
    pub(super) fn filters(&self, unit: Option<&str>) -> HashMap<String, Vec<String>> {
        let mut wanted = self.project_labels();
        wanted.extend(unit.map(|unit| (UNIT.to_owned(), unit.to_owned())));
        let label = |(name, value): (String, String)| format!("{name}={value}");
        HashMap::from([("label".to_owned(), wanted.into_iter().map(label).collect())])
    }

    /// Whether these labels are those of something of this project. Asked of every answer: an engine that does not know a
    /// filter gives everything.
    pub(super) fn owns(&self, labels: &HashMap<String, String>) -> bool {
        self.project_labels().iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    fn project_labels(&self) -> HashMap<String, String> {
        [(OWNER, &self.id), (SESSION, &self.session), (SCOPE, &self.scope), (PROJECT, &self.project)]
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .into()
    }

    /// A name for people that look at the engine: nothing is found by it.
    pub(super) fn name(&self, unit: &str, tail: &str) -> String {
        format!("envctl-{}-{unit}-{tail}", self.short())
    }

    /// A few characters that stand for this very project.
    fn short(&self) -> String {
        let text = [&*self.id, &*self.session, &*self.scope, &*self.project].join("\0");
        Sha256::digest(text).iter().take(3).map(|byte| format!("{byte:02x}")).collect()
    }
}
