//! Finds the project that a directory belongs to.

use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

/// Where a project's file may stand in its directory, in order of preference.
const PROJECT_FILES: [&str; 2] = ["envctl.toml", ".config/envctl.toml"];

/// Files of other tools that tell what a project runs.
const FOREIGN_FILES: [&str; 11] = [
    "Procfile",
    "Procfile.dev",
    "process-compose.yaml",
    "process-compose.yml",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
    ".envctl",
    "mprocs.yaml",
    "pitchfork.toml",
];

/// The files of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The project's directory: absolute, a real path.
    pub root: PathBuf,
    /// Its file. `None`: a project without any file, and so without units of its own.
    pub file: Option<PathBuf>,
    /// The user's configuration for all projects; it need not be there.
    pub user_config: Option<PathBuf>,
}

/// Finds the project of `start`: the nearest directory above with an `envctl.toml`, unless `file` names one (relative to
/// `start`).
pub fn discover(start: &Path, file: Option<&Path>) -> Result<Source, Diagnostics> {
    let Ok(start) = start.canonicalize() else {
        let message = format!("the directory `{}` is not there", start.display());
        return Err(no_project(start, message, "name a directory that is there with `-C DIR`"));
    };
    if let Some(file) = file {
        return named(&start, file);
    }
    for directory in start.ancestors() {
        for name in PROJECT_FILES {
            // A directory in its place is taken too, so that the mistake is told and not walked past.
            if directory.join(name).symlink_metadata().is_ok() {
                return Ok(Source { root: directory.into(), file: Some(directory.join(name)), user_config: None });
            }
        }
    }
    Err(not_found(&start))
}

/// The file with this machine's own settings, beside the project's file: `envctl.local.toml` for `envctl.toml`.
pub(super) fn local_file(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}.local.toml"))
}

fn named(start: &Path, file: &Path) -> Result<Source, Diagnostics> {
    let path = start.join(file);
    let name = path.file_name().map(PathBuf::from);
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    let (Some(name), Some(parent), true) = (name, parent, path.symlink_metadata().is_ok()) else {
        let message = format!("the file `{}` is not there", file.display());
        let hint = match PROJECT_FILES.iter().find(|name| start.join(name).is_file()) {
            Some(name) => format!("there is a `{name}`: name it, or leave `--file` out"),
            None => format!("its path is relative to `{}`", start.display()),
        };
        return Err(no_project(start, message, hint));
    };
    let root = match parent.parent() {
        Some(above) if parent.ends_with(".config") => above.to_path_buf(),
        _ => parent.clone(),
    };
    Ok(Source { root, file: Some(parent.join(name)), user_config: None })
}

fn no_project(start: &Path, message: String, hint: impl Into<String>) -> Diagnostics {
    let mut diagnostic = Diagnostic::new("no-project", Severity::Error, message);
    diagnostic.hint(hint);
    Diagnostics::single(start, diagnostic)
}

/// How a first file is begun.
const BEGINNING: &str = "begin an envctl.toml with two lines: `[services.web]` and `cmd = [\"my-server\"]`";

fn not_found(start: &Path) -> Diagnostics {
    let message = format!("no envctl.toml in `{}` or above it", start.display());
    let foreign = start
        .ancestors()
        .find_map(|directory| FOREIGN_FILES.iter().map(|name| directory.join(name)).find(|path| path.is_file()));
    let hint = match foreign {
        Some(path) => {
            let shown = path.strip_prefix(start).unwrap_or(&path).display();
            format!("there is a `{shown}`, which this build does not read; {BEGINNING}")
        }
        None => format!("{BEGINNING}, or look elsewhere with `-C DIR`"),
    };
    no_project(start, message, hint)
}
