//! What a shared server is: a directory with the configuration of a project that has it as its only unit.
//!
//! ```text
//! STATE/shared/repo-…/UNIT[-VERSION]/   for the worktrees of a repository
//! STATE/shared/machine/PRESET[-MAJOR]/  for all projects
//!     envctl.toml, presets/NAME.toml    written by us, read like every other configuration
//!     databases.json                    whose which database is
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl_actors::requirement::container::Network;
use envctl_supervisors::Name;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::journal::{Durability, atomic_write};
use crate::places::{Places, ProjectPlaces};
use crate::spec::{Among, RequirementSpec, ShareSpec};

/// The folder of shared servers in a session's state directory.
const FOLDER: &str = "shared";
/// The folder of servers that all projects share.
const MACHINE: &str = "machine";
/// Longest name of a project.
const NAME_MAX_BYTES: usize = 63;
/// Hex digits that tell presets of one name apart.
const PRESET_DIGITS: usize = 8;

/// A shared server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// The name of its project.
    pub(crate) name: Name,
    /// Its unit there.
    pub(crate) unit: Name,
    text: String,
    preset: Option<(String, Arc<str>)>,
}

/// Whether a project's directory is that of a shared server.
pub(crate) fn is_server(places: &Places, root: &Path) -> bool {
    root.starts_with(places.state_dir().join(FOLDER))
}

/// The directories of all shared servers of a session.
pub(super) fn servers(places: &Places) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let found = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        found.filter(|path| path.is_dir() && !path.is_symlink()).collect()
    };
    let mut found: Vec<PathBuf> =
        entries(&places.state_dir().join(FOLDER)).iter().flat_map(|scope| entries(scope)).collect();
    found.sort();
    found
}

// === impl Server ===

impl Server {
    /// The server that a requirement asks for.
    pub(crate) fn of(
        places: &Places,
        project: &ProjectPlaces,
        id: &Name,
        (requirement, share): (&RequirementSpec, &ShareSpec),
    ) -> Self {
        let version = version_of(requirement, share);
        let suffix = version.as_deref().map(|version| format!("-{}", version.replace('.', "-"))).unwrap_or_default();
        let (scope, base, unit) = match share.among {
            Among::Project => (project.scope(), format!("{}-{id}", project.name()), id.clone()),
            // Two projects may mean different things by one name.
            Among::Machine => {
                let digest = requirement.preset.text.as_ref().map(|text| format!("-{}", digest(text)));
                let base = format!("{}{}", requirement.preset.name, digest.unwrap_or_default());
                (MACHINE, base, name(&requirement.preset.name))
            }
        };
        let folder = match share.among {
            Among::Project => format!("{id}{suffix}"),
            Among::Machine => format!("{base}{suffix}"),
        };
        let own = name(&format!("shared-{base}{suffix}"));
        let preset = requirement.preset.text.clone().map(|text| (requirement.preset.name.clone(), text));
        let text = config(&own, &unit, (requirement, share), version);
        Self { dir: places.state_dir().join(FOLDER).join(scope).join(folder), name: own, unit, text, preset }
    }

    /// Writes its configuration, unless it is there already.
    pub(crate) fn write(&self) -> io::Result<()> {
        make_dir(&self.dir)?;
        write_once(&self.dir.join("envctl.toml"), &self.text)?;
        let Some((name, text)) = &self.preset else { return Ok(()) };
        let presets = self.dir.join("presets");
        make_dir(&presets)?;
        write_once(&presets.join(name).with_extension("toml"), text)
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_once(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    atomic_write(path, text.as_bytes(), Durability::Synced)
}

/// All users of a machine's server take the same major version.
fn version_of(requirement: &RequirementSpec, share: &ShareSpec) -> Option<String> {
    let version = requirement.version.as_deref()?;
    Some(match share.among {
        Among::Project => version.to_owned(),
        Among::Machine => version.split('.').next().unwrap_or(version).to_owned(),
    })
}

fn config(own: &Name, unit: &Name, wanted: (&RequirementSpec, &ShareSpec), version: Option<String>) -> String {
    let (requirement, share) = wanted;
    let mut keys = Table::new();
    let mut text = |key: &str, value: String| drop(keys.insert(key.to_owned(), Value::String(value)));
    text("preset", requirement.preset.name.clone());
    text("driver", share.driver.as_str().to_owned());
    if let Some(version) = version {
        text("version", version);
    }
    if let Some(port) = share.port {
        keys.insert("port".to_owned(), Value::Integer(port.into()));
    }
    let of_preset = requirement.preset.preset.share.iter().flat_map(|share| &share.server);
    let options: Table = requirement
        .options
        .iter()
        .chain(of_preset)
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    keys.insert("options".to_owned(), Value::Table(options));
    keys.extend(container(requirement).map(|table| ("container".to_owned(), Value::Table(table))));
    let units = Table::from_iter([(unit.to_string(), Value::Table(keys))]);
    let file = Table::from_iter([
        ("name".to_owned(), Value::String(own.to_string())),
        ("requirements".to_owned(), Value::Table(units)),
    ]);
    let text = toml::to_string(&file).expect("invariant: a table of texts and numbers can be written");
    format!("# A server that several projects share. Written by envctl; it is read again when nobody uses it.\n{text}")
}

fn container(requirement: &RequirementSpec) -> Option<Table> {
    let wish = &requirement.container;
    let text = |key: &str, value: &Option<String>| Some((key.to_owned(), Value::String(value.clone()?)));
    let mut table: Table = [text("image", &wish.image), text("engine", &wish.engine)].into_iter().flatten().collect();
    if wish.network == Network::Host {
        table.insert("network".to_owned(), Value::String("host".to_owned()));
    }
    (!table.is_empty()).then_some(table)
}

/// A name made of names; one that is too long keeps its beginning and gets a digest.
fn name(text: &str) -> Name {
    let short = if text.len() <= NAME_MAX_BYTES {
        text.to_owned()
    } else {
        let kept: String = text.chars().take(NAME_MAX_BYTES - PRESET_DIGITS - 1).collect();
        format!("{kept}-{}", digest(text))
    };
    Name::new(&short).expect("invariant: what is put together of names and versions is one")
}

pub(super) fn digest(text: &str) -> String {
    let hex = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    hex.chars().take(PRESET_DIGITS).collect()
}
