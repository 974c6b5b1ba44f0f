//! The logs of all projects of a session, as they lie on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Places;

/// The log of a unit of some project, past or present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// The folder of the project.
    pub project_dir: PathBuf,
    /// What the project's last run has recorded; it may not be there.
    pub run_state: PathBuf,
    /// The unit.
    pub unit: String,
    /// The log.
    pub dir: PathBuf,
}

// === impl Places ===

impl Places {
    /// Every log there is, by project and unit.
    pub fn logs(&self) -> io::Result<Vec<LogPlace>> {
        let mut found = Vec::new();
        for scope in folders(self.state_dir())?.into_iter().filter(|(name, _)| name.starts_with("repo-")) {
            for (_, project_dir) in folders(&scope.1)? {
                for (unit, dir) in folders(&project_dir.join("logs"))? {
                    let run_state = project_dir.join("run_state.json");
                    found.push(LogPlace { project_dir: project_dir.clone(), run_state, unit, dir });
                }
            }
        }
        Ok(found)
    }
}

/// The real folders in a folder, by name; none if it is not there.
fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
