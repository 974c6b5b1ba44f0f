//! Trust: whether what a checkout says may be run, when the checkout is somebody else's.
//!
//! A configuration is a list of commands. That of a directory of one's own was put there by oneself; that of another user
//! can be changed by that user at any time, so the first start needs a word from whoever would run it. The word is kept
//! for all sessions in one small file and is about one directory: another one in its place, or another owner, needs a new word.
//!
//! ```text
//! owner of the directory and its files ─▶ the caller, or root ─▶ Trust::Owned     (the file is not opened)
//!                                    └▶ somebody else ─▶ trusted.json ─▶ Trust::Granted | Trust::Needed
//! ```
//!
//! Called by the command line before a start. Never reads a configuration, never starts anything.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal::{Durability, atomic_write};
use crate::places::PlacesInput;

/// Version of the file.
const VERSION: u32 = 1;
/// Largest file read or written: thousands of checkouts, and nothing that could hold a start up.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The superuser, who can change every file anyway: what it put there needs no further word from an ordinary user.
const ROOT: u32 = 0;

/// Who wants to run what.
#[derive(Debug, Clone, Copy)]
pub struct Checkout<'a> {
    /// The project's directory.
    pub root: &'a Path,
    /// The files of its configuration, also those outside of the directory.
    pub files: &'a [PathBuf],
    /// The caller.
    pub uid: u32,
}

/// Whether a checkout may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Everything belongs to the caller, or to root.
    Owned,
    /// Something belongs to somebody else, and the caller has said that it is fine.
    Granted,
    /// Something belongs to somebody else.
    Needed(Foreign),
}

/// What belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The project's directory, else the first such file of its configuration.
    pub path: PathBuf,
    /// Its owner.
    pub owner: u32,
}

/// The file with the checkouts that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFile {
    path: PathBuf,
    uid: u32,
}

/// Why trust cannot be told or kept.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file system said no.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could have written it, so it says nothing.
    #[error("use {path}: {reason}", path = path.display())]
    Unsafe {
        /// The file or its directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is no list of trusted checkouts.
    #[error("understand {path}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it stops to make sense.
        source: serde_json::Error,
    },
    /// A later build wrote it; it is neither believed nor overwritten.
    #[error("understand {path}: its version {version} is newer than this build's {VERSION}", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// No further checkout fits in.
    #[error("write {path}: it would be larger than 1 MiB", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
}

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Book {
    schema_version: u32,
    trusted: Vec<Entry>,
}

/// Only the version, so that a newer file is told from a broken one.
#[derive(Debug, Deserialize)]
struct Versioned {
    schema_version: u32,
}

/// A checkout that is trusted: this very directory, not whatever has its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    dev: u64,
    inode: u64,
    owner: u32,
    /// Other owners of its configuration's files, when they were looked at.
    file_owners: Vec<u32>,
}

/// Says whether a checkout may be started. What is owned by the caller is decided without opening `file`.
pub fn check(checkout: &Checkout<'_>, file: &TrustFile) -> Result<Trust, TrustError> {
    let found = Entry::look(checkout)?;
    match checkout.foreign()? {
        None => Ok(Trust::Owned),
        Some(_) if file.load()?.trusted.iter().any(|entry| entry.covers(&found)) => Ok(Trust::Granted),
        Some(foreign) => Ok(Trust::Needed(foreign)),
    }
}

// === impl Checkout ===

impl Checkout<'_> {
    /// The first thing of somebody else's: the directory before its files.
    fn foreign(&self) -> Result<Option<Foreign>, TrustError> {
        for path in std::iter::once(self.root).chain(self.files.iter().map(PathBuf::as_path)) {
            if let Some(owner) = owners(path)?.into_iter().find(|owner| !self.is_own(*owner)) {
                return Ok(Some(Foreign { path: path.to_owned(), owner }));
            }
        }
        Ok(None)
    }

    fn is_own(&self, owner: u32) -> bool {
        owner == self.uid || owner == ROOT
    }
}

/// Who decides what `path` holds: the owner of the file and, if it is a link, of the link.
fn owners(path: &Path) -> Result<[u32; 2], TrustError> {
    let link = path.symlink_metadata().map_err(|source| TrustError::io("look at", path, source))?;
    Ok([link.uid(), target(path)?.uid()])
}

fn target(path: &Path) -> Result<Metadata, TrustError> {
    path.metadata().map_err(|source| TrustError::io("look at", path, source))
}

// === impl TrustFile ===

impl TrustFile {
    /// The file of a user: beside the sessions' state, the same for all of them.
    pub fn of(input: &PlacesInput) -> Self {
        Self { path: input.state_home.join("envctl/trusted.json"), uid: input.uid }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps that a checkout is trusted, in the place of what was kept of its path before.
    pub fn grant(&self, checkout: &Checkout<'_>) -> Result<(), TrustError> {
        let entry = Entry::look(checkout)?;
        let _lock = self.lock()?;
        let mut book = self.load()?;
        book.trusted.retain(|other| other.path != entry.path);
        book.trusted.push(entry);
        self.store(&book)
    }

    /// Forgets the directory; `false` if it was not trusted.
    pub fn revoke(&self, root: &Path) -> Result<bool, TrustError> {
        let root = real(root)?;
        let _lock = self.lock()?;
        let mut book = self.load()?;
        let before = book.trusted.len();
        book.trusted.retain(|entry| entry.path != root);
        let known = book.trusted.len() < before;
        if known {
            self.store(&book)?;
        }
        Ok(known)
    }

    fn dir(&self) -> &Path {
        self.path.parent().expect("invariant: the file was joined to a directory")
    }

    /// Held while the file is read and replaced, so that of two words at the same time none is lost. Freed by the kernel.
    fn lock(&self) -> Result<File, TrustError> {
        let dir = self.dir();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(|source| TrustError::io("create", dir, source))?;
        let lock = File::open(dir).map_err(|source| TrustError::io("open", dir, source))?;
        lock.lock().map_err(|source| TrustError::io("lock", dir, source))?;
        Ok(lock)
    }

    /// What is trusted; nothing if there is no file. A file that others could have written is refused, never believed.
    fn load(&self) -> Result<Book, TrustError> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(source) => return Err(TrustError::io("open", &self.path, source)),
        };
        self.refuse_if_open_to_others(self.dir(), &target(self.dir())?)?;
        let metadata = file.metadata().map_err(|source| TrustError::io("look at", &self.path, source))?;
        self.refuse_if_open_to_others(&self.path, &metadata)?;
        let mut text = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(|source| TrustError::io("read", &self.path, source))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(TrustError::not_safe(&self.path, "it is larger than 1 MiB".to_owned()));
        }
        self.parse(&text)
    }

    fn parse(&self, text: &[u8]) -> Result<Book, TrustError> {
        let malformed = |source| TrustError::Malformed { path: self.path.clone(), source };
        let Versioned { schema_version: version } = serde_json::from_slice(text).map_err(malformed)?;
        if version > VERSION {
            return Err(TrustError::Newer { path: self.path.clone(), version });
        }
        serde_json::from_slice(text).map_err(malformed)
    }

    fn refuse_if_open_to_others(&self, path: &Path, found: &Metadata) -> Result<(), TrustError> {
        if found.uid() != self.uid {
            return Err(TrustError::not_safe(path, format!("it belongs to uid {}, not to {}", found.uid(), self.uid)));
        }
        if found.mode() & 0o022 != 0 {
            return Err(TrustError::not_safe(path, format!("its mode {:03o} lets others write", found.mode() & 0o777)));
        }
        Ok(())
    }

    fn store(&self, book: &Book) -> Result<(), TrustError> {
        let failed = |source| TrustError::io("write", &self.path, source);
        let mut text = serde_json::to_vec_pretty(book).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(TrustError::Full { path: self.path.clone() });
        }
        atomic_write(&self.path, &text, Durability::Synced).map_err(failed)
    }
}

// === impl TrustError ===

impl TrustError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    fn not_safe(path: &Path, reason: String) -> Self {
        Self::Unsafe { path: path.to_owned(), reason }
    }
}

// === impl Book ===

impl Default for Book {
    fn default() -> Self {
        Self { schema_version: VERSION, trusted: Vec::new() }
    }
}

// === impl Entry ===

impl Entry {
    /// A checkout as it is now.
    fn look(checkout: &Checkout<'_>) -> Result<Self, TrustError> {
        let path = real(checkout.root)?;
        let found = target(&path)?;
        let mut file_owners = Vec::new();
        for file in checkout.files {
            file_owners.extend(owners(file)?);
        }
        file_owners.retain(|owner| *owner != found.uid() && !checkout.is_own(*owner));
        file_owners.sort_unstable();
        file_owners.dedup();
        Ok(Self { path, dev: found.dev(), inode: found.ino(), owner: found.uid(), file_owners })
    }

    /// Whether trust in this checkout is trust in `found`: the same directory, and files of nobody new.
    fn covers(&self, found: &Self) -> bool {
        let identity = |entry: &Self| (entry.path.clone(), entry.dev, entry.inode, entry.owner);
        identity(self) == identity(found) && found.file_owners.iter().all(|owner| self.file_owners.contains(owner))
    }
}

fn real(root: &Path) -> Result<PathBuf, TrustError> {
    fs::canonicalize(root).map_err(|source| TrustError::io("find", root, source))
}

#[cfg(test)]
mod tests;
