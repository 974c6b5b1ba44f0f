//! Where one project keeps what it knows: its scope, its folder, and the files in it.
//!
//! A scope is a repository: the main checkout and all of its linked worktrees share one, so that they can be listed
//! together. Inside it every checkout has a folder. Both are found from the file system alone; git is never run.

use std::fs;
use std::path::{Path, PathBuf};

use envctl_supervisors::Name;
use sha2::{Digest, Sha256};

use super::PlacesError;

/// The folder of a main checkout.
pub const MAIN_FOLDER: &str = "main";
/// Longest `.git`, `gitdir` or `commondir` file that is read: each holds one path.
const GIT_FILE_MAX_BYTES: u64 = 16 * 1024;
/// Longest folder made of a worktree's name, so that a hash still fits behind it.
const SLUG_MAX_BYTES: usize = 48;

/// The paths of one project's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPlaces {
    scope_dir: PathBuf,
    scope: String,
    folder: String,
    name: Name,
    control_root: PathBuf,
}

/// Where a checkout belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checkout {
    /// The project's directory in the main checkout.
    control_root: PathBuf,
    /// The worktree's name as git knows it; `None` for the main checkout or a plain directory.
    worktree: Option<String>,
}

// === impl ProjectPlaces ===

impl ProjectPlaces {
    pub(super) fn resolve(state_dir: &Path, root: &Path, name: &Name) -> Result<Self, PlacesError> {
        let root = fs::canonicalize(root).map_err(|source| PlacesError::io("find", root, source))?;
        let checkout = Checkout::find(&root);
        let scope = format!("repo-{}", short_hash(&[path_bytes(&checkout.control_root)], 12));
        let folder = checkout.worktree.as_deref().map_or_else(|| MAIN_FOLDER.to_owned(), folder_of);
        let scope_dir = state_dir.join(&scope);
        Ok(Self { scope_dir, scope, folder, name: name.clone(), control_root: checkout.control_root })
    }

    /// The project's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// `repo-` and 12 hex digits of the control root.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// `main`, or what became of the worktree's name.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The project's directory in the main checkout.
    pub fn control_root(&self) -> &Path {
        &self.control_root
    }

    /// What tells this project from every other of the session: `repo-…/folder`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.scope, self.folder)
    }

    /// Eight hex digits that stand for [`Self::key`] where paths must be short.
    pub fn short(&self) -> String {
        short_hash(&[self.scope.as_bytes(), self.folder.as_bytes()], 8)
    }

    /// The folder that holds everything below.
    pub fn dir(&self) -> PathBuf {
        self.scope_dir.join(&self.folder)
    }

    /// The map over all projects of the scope.
    pub fn scope_runtime_map(&self) -> PathBuf {
        self.scope_dir.join("runtime_map.json")
    }

    /// Units and their state.
    pub fn run_state(&self) -> PathBuf {
        self.dir().join("run_state.json")
    }

    /// Ports and URLs.
    pub fn runtime_map(&self) -> PathBuf {
        self.dir().join("runtime_map.json")
    }

    /// Ports asked for and got.
    pub fn ports_manifest(&self) -> PathBuf {
        self.dir().join("ports_manifest.json")
    }

    /// The journal.
    pub fn events(&self) -> PathBuf {
        self.dir().join("events.jsonl")
    }

    /// What failed.
    pub fn error_report(&self) -> PathBuf {
        self.dir().join("error_report.json")
    }

    /// What is ready and what is not.
    pub fn readiness_report(&self) -> PathBuf {
        self.dir().join("runtime_readiness_report.json")
    }

    /// A unit's log segments.
    pub fn logs(&self, unit: &Name) -> PathBuf {
        self.dir().join("logs").join(unit.as_str())
    }

    /// A requirement's data.
    pub fn data(&self, unit: &Name) -> PathBuf {
        self.dir().join("data").join(unit.as_str())
    }

    /// What is kept of one run. A run's id becomes one path component whatever stands in it.
    pub fn run_dir(&self, run: &str) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let component: String = run.chars().take(64).map(safe).collect();
        self.dir().join("runs").join(if component.is_empty() { "_".to_owned() } else { component })
    }
}

// === impl Checkout ===

impl Checkout {
    /// Looks upwards from `root` (a real path) for a `.git`; a file there may mean a linked worktree.
    fn find(root: &Path) -> Self {
        let plain = || Self { control_root: root.to_owned(), worktree: None };
        let Some(top) = root.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok()) else {
            return plain();
        };
        let Some((main, worktree)) = linked_worktree(top) else { return plain() };
        let below = root.strip_prefix(top).unwrap_or(Path::new(""));
        // Joining an empty path would add a separator, and the bytes of this path are hashed.
        let control_root = if below.as_os_str().is_empty() { main } else { main.join(below) };
        Self { control_root, worktree: Some(worktree) }
    }
}

/// The main checkout and the worktree's name, if `top` is a linked worktree: its `.git` names a folder under `worktrees/`
/// which in turn names this `.git`. Without that second half any checkout could claim to belong to any repository.
fn linked_worktree(top: &Path) -> Option<(PathBuf, String)> {
    let dot_git = top.join(".git");
    let text = read_line(&dot_git)?;
    let gitdir = fs::canonicalize(top.join(text.strip_prefix("gitdir:")?.trim())).ok()?;
    let back = fs::canonicalize(gitdir.join(read_line(&gitdir.join("gitdir"))?)).ok()?;
    if back != fs::canonicalize(&dot_git).ok()? || gitdir.parent()?.file_name()? != "worktrees" {
        return None;
    }
    let common = fs::canonicalize(gitdir.join(read_line(&gitdir.join("commondir"))?)).ok()?;
    let main = if common.file_name()? == ".git" { common.parent()?.to_owned() } else { common };
    Some((main, gitdir.file_name()?.to_string_lossy().into_owned()))
}

/// The one line of a small regular file.
fn read_line(path: &Path) -> Option<String> {
    let found = path.symlink_metadata().ok()?;
    if !found.is_file() || found.len() > GIT_FILE_MAX_BYTES {
        return None;
    }
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// A folder name for a worktree: its own name where that is a [`Name`], else a slug with four hex digits of the original,
/// so that two names never meet in one folder.
fn folder_of(worktree: &str) -> String {
    if worktree != MAIN_FOLDER && Name::new(worktree).is_ok() {
        return worktree.to_owned();
    }
    let slug: String = worktree.chars().take(SLUG_MAX_BYTES).map(slug_char).collect();
    let slug = slug.trim_start_matches(['-', '_']);
    let slug = if slug.is_empty() { "worktree" } else { slug };
    format!("{slug}-{}", short_hash(&[worktree.as_bytes()], 4))
}

fn slug_char(c: char) -> char {
    let lower = c.to_ascii_lowercase();
    if lower.is_ascii_alphanumeric() || matches!(lower, '-' | '_') { lower } else { '-' }
}

/// The first `digits` hex digits of the SHA-256 of the parts; a separator keeps `a`,`bc` from `ab`,`c`.
fn short_hash(parts: &[&[u8]], digits: usize) -> String {
    let mut hash = Sha256::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update([0]);
        }
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(digits).collect()
}

fn path_bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}
