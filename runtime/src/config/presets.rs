//! The presets a project can use: its own, the user's, and the built-in ones.
//!
//! | from | name |
//! |---|---|
//! | `[presets.NAME]` of the project's files | as written |
//! | `presets/NAME.toml` in the project's directory | the file's |
//! | `presets/NAME.toml` beside the user's configuration | the file's |
//! | built in | `postgres`, `redis` … |
//!
//! The first that has a name wins. All of them are read and checked, used or not: a mistake is told where it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl_actors::requirement::preset::{self, Preset};
use envctl_supervisors::Name;

use super::diagnostic::Findings;
use super::load::read_text;
use super::origin::Place;
use super::project;
use super::reader::{Reader, table};
use super::tree::{self, Table};
use super::typed;
use crate::spec::PresetSpec;

/// Most preset files that are read of one directory: more were not written for one project.
const FILES_MAX: usize = 100;

/// Presets by name.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    own: BTreeMap<String, (Arc<Preset>, Arc<str>)>,
    /// Names whose preset could not be read: a use of one is no second error.
    bad: Vec<String>,
}

/// Reads the `presets` table, and the files of `dirs`, the first of which wins.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>, dirs: &[PathBuf]) -> Catalog {
    let mut catalog = Catalog::default();
    if let Some((presets, _)) = reader.table(findings, "presets") {
        for (key, entry) in presets {
            let label = format!("preset `{key}`");
            let Some(name) = project::name(findings, key, &entry.key_at) else { continue };
            let read = table(findings, &entry.node, &label)
                .and_then(|(keys, _)| Some((preset(findings, keys, &entry.key_at, &label)?, tree::written(keys))));
            catalog.add(&name, read);
        }
    }
    for dir in dirs {
        for path in files(dir) {
            catalog.read_file(findings, &path);
        }
    }
    catalog
}

/// The directories with preset files of a project: its own, then the user's.
pub(super) fn directories(root: &Path, user_config: Option<&Path>) -> Vec<PathBuf> {
    let user = user_config.and_then(Path::parent);
    [Some(root), user].into_iter().flatten().map(|dir| dir.join("presets")).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files.truncate(FILES_MAX);
    files
}

fn preset(findings: &mut Findings, keys: &Table, at: &Place, label: &str) -> Option<Preset> {
    let preset: Preset = typed::read(findings, keys, at, label)?;
    let mistakes = preset::check(&preset);
    for mistake in &mistakes {
        let at = place(keys, &mistake.key).unwrap_or(at);
        findings
            .error("bad-preset", at, format!("`{}` of {label}: {}", mistake.key, mistake.message))
            .hint(mistake.hint.as_str());
    }
    mistakes.is_empty().then_some(preset)
}

/// Where a dotted key stands, as far as it is written.
fn place<'t>(keys: &'t Table, dotted: &str) -> Option<&'t Place> {
    let (first, rest) = dotted.split_once('.').map_or((dotted, None), |(first, rest)| (first, Some(rest)));
    let entry = keys.get(first)?;
    match (&entry.node.value, rest) {
        (tree::Value::Table(inner), Some(rest)) => place(inner, rest).or(Some(&entry.key_at)),
        _ => Some(&entry.key_at),
    }
}

// === impl Catalog ===

impl Catalog {
    /// The preset of this name. `Err`: there is one that cannot be used, which has been told.
    pub(super) fn get(&self, name: &str) -> Result<Option<PresetSpec>, ()> {
        if self.bad.iter().any(|bad| bad == name) {
            return Err(());
        }
        let found = match self.own.get(name) {
            Some((preset, text)) => Some((preset.clone(), Some(text.clone()))),
            None => preset::builtin(name).map(|preset| (Arc::new(preset), None)),
        };
        Ok(found.map(|(preset, text)| PresetSpec { name: name.to_owned(), preset, text }))
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.own.keys().cloned().chain(preset::builtin_names().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        names
    }

    fn add(&mut self, name: &Name, preset: Option<(Preset, String)>) {
        match preset {
            Some((preset, text)) => {
                self.own.entry(name.to_string()).or_insert_with(|| (Arc::new(preset), text.into()));
            }
            None => self.bad.push(name.to_string()),
        }
    }

    fn read_file(&mut self, findings: &mut Findings, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) => {
                let file = findings.files.add(path, String::new());
                findings.error("unreadable", &Place { file, span: 0..0 }, error.to_string()).hint(error.hint());
                return;
            }
        };
        let file = findings.files.add(path, text.clone());
        let at = Place { file, span: 0..0 };
        let Some(name) = project::name(findings, &stem, &at) else { return };
        let keys = tree::parse(findings, file, &text);
        let label = format!("preset `{name}`");
        let read = preset(findings, &keys, &at, &label).map(|preset| (preset, text));
        self.add(&name, read);
    }
}
