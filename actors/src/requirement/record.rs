//! Which of a project's own steps have been done to the data: each once, and again when it or one of its files changes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::plan::Due;

/// A step that is due, to be marked as done.
#[derive(Debug)]
pub(super) enum Mark {
    /// Nothing is kept of it.
    Nothing,
    /// What is written down when it is done.
    Keep {
        /// Where.
        record: PathBuf,
        /// Under which name.
        name: String,
        /// By what it is known.
        digest: String,
    },
}

/// Whether the work is due.
pub(super) fn due(due: &Due) -> Option<Mark> {
    let Due::Once { record, name, inputs } = due else { return Some(Mark::Nothing) };
    let digest = digest(name, inputs);
    if read(record).get(name) == Some(&digest) {
        return None;
    }
    Some(Mark::Keep { record: record.clone(), name: name.clone(), digest })
}

// === impl Mark ===

impl Mark {
    /// Writes down that it is done.
    pub(super) fn done(self) -> io::Result<()> {
        let Self::Keep { record, name, digest } = self else { return Ok(()) };
        let mut done = read(&record);
        done.insert(name, digest);
        let dir = record.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut file, &done)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(&record).map(drop).map_err(|error| error.error)
    }
}

/// A record that cannot be read is none: the steps are idempotent.
fn read(record: &Path) -> BTreeMap<String, String> {
    fs::read(record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Of the work's name, which is its line as it is written, and of the content of its files. Nothing that differs from one
/// start to the next: a new port is no reason.
fn digest(name: &str, inputs: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    hash.update(name);
    for input in inputs {
        hash.update(input.as_os_str().as_encoded_bytes());
        // A file that is missing is told by the work itself.
        hash.update(fs::read(input).unwrap_or_default());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn work_is_due_once_and_again_when_its_file_changes() {
        let root = TempDir::new().unwrap();
        let file = root.path().join("schema.sql");
        let write = |text: &str| fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
        write("CREATE TABLE t (n int)");
        let record = root.path().join("init.json");
        let once = Due::Once { record, name: "schema.sql".to_owned(), inputs: vec![file.clone()] };
        due(&once).expect("it was never done").done().unwrap();
        assert!(due(&once).is_none());
        write("CREATE TABLE u (n int)");
        assert!(due(&once).is_some());
        assert!(due(&Due::Always).is_some());
    }
}
