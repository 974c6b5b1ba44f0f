//! Which directories are safe to use: the rules for everything that holds sockets, locks or state.
//!
//! Nothing is ever repaired: a directory of somebody else's, or one that others may write to, is refused, not fixed. The
//! last component is never followed, so that a symbolic link cannot stand in for a directory that was checked.

use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::PlacesError;

/// Whom else a directory may be open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Openness {
    /// Nobody: no bit for group or others.
    Private,
    /// Others may read but not write: state that a user chose to share.
    Readable,
}

impl Openness {
    fn forbidden(self) -> u32 {
        match self {
            Self::Private => 0o077,
            Self::Readable => 0o022,
        }
    }
}

/// Accepts `path` if it is a directory of `uid`'s own, not a link, and no more open than `openness`.
pub(super) fn check_dir(path: &Path, uid: u32, openness: Openness) -> Result<(), PlacesError> {
    let refuse = |reason: String| PlacesError::Unsafe { path: path.to_owned(), reason };
    if !is_normal(path) {
        return Err(refuse("it is not an absolute path without `.` and `..`".to_owned()));
    }
    let found: Metadata = path.symlink_metadata().map_err(|source| PlacesError::io("look at", path, source))?;
    if found.file_type().is_symlink() {
        return Err(refuse("it is a symbolic link".to_owned()));
    }
    if !found.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    if found.uid() != uid {
        return Err(refuse(format!("it belongs to uid {}, not to {uid}", found.uid())));
    }
    let open = found.mode() & openness.forbidden();
    if open != 0 {
        return Err(refuse(format!("its mode {:03o} lets others in", found.mode() & 0o777)));
    }
    Ok(())
}

/// Makes `path` (0700) unless it is there, and checks it either way. Its parent must exist.
pub(super) fn make_dir(path: &Path, uid: u32, openness: Openness) -> Result<(), PlacesError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(source) => return Err(PlacesError::io("create", path, source)),
    }
    check_dir(path, uid, openness)
}

/// Makes `path` with all of its parents (0700), and checks `path` itself.
pub(super) fn make_dirs(path: &Path, uid: u32, openness: Openness) -> Result<(), PlacesError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|source| PlacesError::io("create", parent, source))?;
    }
    make_dir(path, uid, openness)
}

/// Whether a path is absolute and says where it leads: no `.`, `..` or doubled separators.
pub(crate) fn is_normal(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // Collecting drops `.` in the middle and doubled or trailing separators; comparing bytes finds them.
    let collected: PathBuf = path.components().collect();
    path.is_absolute() && plain && collected.as_os_str() == path.as_os_str()
}
