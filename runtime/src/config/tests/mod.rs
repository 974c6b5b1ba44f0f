//! A project directory of files, loaded as users load it.

use std::path::{Path, PathBuf};

use envctl_supervisors::Name;
use envctl_supervisors::spec::GroupSpec;
use tempfile::TempDir;

use super::{Diagnostics, Loaded, Severity, Source, discover, load};

mod confines;
mod env_files;
mod groups;
mod hints;
mod layering;
mod meaning;
mod mistakes;
mod properties;
mod quantities;
mod reference;
mod templates;

/// A project called `shop` in a directory of its own.
struct Project {
    directory: TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(project.root()).unwrap();
        for (path, text) in files {
            project.file(path, text.as_bytes());
        }
        project
    }

    #[expect(clippy::disallowed_methods, reason = "a fixture is no state: nobody reads it while it is written")]
    fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("shop")
    }

    fn source(&self) -> Source {
        discover(&self.root(), None).unwrap()
    }

    fn load(&self) -> Result<Loaded, Diagnostics> {
        load(&self.source())
    }
}

/// Loads one file that must be good.
fn good(text: &str) -> Loaded {
    let project = Project::new(&[("envctl.toml", text)]);
    project.load().unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// Loads one file that must be bad and returns what is told.
fn told(text: &str) -> String {
    told_of(&Project::new(&[("envctl.toml", text)]))
}

fn told_of(project: &Project) -> String {
    match project.load() {
        Ok(_) => panic!("the project was accepted"),
        Err(diagnostics) => told_in(&diagnostics).replace(&*project.root().to_string_lossy(), "ROOT"),
    }
}

/// The text of what is told; whatever mistake a test makes, it must come with a hint.
fn told_in(diagnostics: &Diagnostics) -> String {
    assert_eq!(without_hint(diagnostics), Vec::<String>::new());
    diagnostics.to_string()
}

/// The errors that do not say what to do.
fn without_hint(diagnostics: &Diagnostics) -> Vec<String> {
    let errors = diagnostics.list.iter().filter(|found| found.severity == Severity::Error);
    let bare = errors.filter(|found| found.hint.as_ref().is_none_or(|hint| hint.trim().is_empty()));
    bare.map(|found| format!("no hint: {} ({})", found.message, found.code)).collect()
}

/// What the errors say to do.
fn hints_of(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.list.iter().filter_map(|found| found.hint.clone()).collect()
}

/// The codes of what is told of a file, errors and warnings alike.
fn codes(text: &str) -> Vec<&'static str> {
    let project = Project::new(&[("envctl.toml", text)]);
    let diagnostics = match project.load() {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics,
    };
    assert_eq!(without_hint(&diagnostics), Vec::<String>::new());
    diagnostics.list.iter().map(|found| found.code).collect()
}

/// A group with every default.
fn group(id: &str, members: &[&str]) -> GroupSpec {
    let name = |text: &str| Name::new(text).unwrap();
    GroupSpec::new(name(id), members.iter().map(|member| name(member)).collect())
}

/// The value that is in effect under `key`, with its origin.
fn effective(loaded: &Loaded, root: &Path, key: &str) -> Option<(String, String)> {
    let found = loaded.effective().into_iter().find(|value| value.key == key)?;
    Some((found.value.clone(), found.origin_text(root)))
}
