//! Writing a whole file so that a reader, or the next start after a crash, finds the old content or the new one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Whether the content must survive a loss of power, not only the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file and its directory are synced before this returns.
    Synced,
    /// The kernel writes in its own time: for what can be derived again.
    Unsynced,
}

/// Beginning of a temporary file's name, so that leftovers of a killed process can be told and removed.
pub(super) const TEMPORARY_PREFIX: &str = ".envctl-tmp-";

/// Replaces `path` (0600): temporary file beside it, rename over it. Its directory must exist.
pub fn atomic_write(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other(format!("{} has no directory", path.display())))?;
    // `tempfile` makes it 0600 under a name that was not there, and removes it again if anything below fails.
    let mut temporary = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(dir)?;
    temporary.write_all(bytes)?;
    if durability == Durability::Synced {
        temporary.as_file().sync_all()?;
    }
    temporary.persist(path).map_err(|failed| failed.error)?;
    if durability == Durability::Synced {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Removes what a killed process left of its writes in `dir`, and says how many files that were. Only for the owner of
/// `dir`, before it writes itself.
pub fn remove_temporaries(dir: &Path) -> io::Result<u32> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run_state.json");
        for (content, durability) in [("one, and longer", Durability::Synced), ("two", Durability::Unsynced)] {
            atomic_write(&path, content.as_bytes(), durability).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("occupied");
        std::fs::create_dir_all(path.join("below")).unwrap();
        assert!(atomic_write(&path, b"new", Durability::Synced).is_err());
        assert!(path.join("below").is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_behind_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".envctl-tmp-x1", "run_state.json", "envctl-tmp-y"] {
            File::create(dir.path().join(name)).unwrap();
        }
        assert_eq!(remove_temporaries(dir.path()).unwrap(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
