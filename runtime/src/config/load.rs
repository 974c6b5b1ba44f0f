//! Reads the files of a [`Source`] and leads them through parsing, merging, reading and checking.
//!
//! Later layers win: defaults, the user's configuration, `envctl.toml`, `envctl.local.toml` beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics, Findings, Severity};
use super::discover::{Source, local_file};
use super::origin::{Files, Place};
use super::show::{self, EffectiveValue};
use super::tree::{self, NAMED_TABLES, Table};
use super::{checks, needs, presets, project, resolve};
use crate::spec::ProjectSpec;

/// Largest file read. A configuration of this size was not written by a person.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Keys that a user's configuration may set for every project.
const USER_KEYS: [&str; 4] = ["env", "inherit", "logs", "supervision"];

/// A configuration without errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project.
    pub spec: ProjectSpec,
    /// What is worth telling all the same.
    pub warnings: Diagnostics,
    /// As it stands in the files.
    tree: Table,
    files: Files,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Nothing there.
    #[error("`{}` is not there", .0.display())]
    Missing(PathBuf),
    /// A directory in its place.
    #[error("`{}` is a directory", .0.display())]
    Directory(PathBuf),
    /// A pipe, a socket or a device: reading it might never end.
    #[error("`{}` is not a regular file", .0.display())]
    Special(PathBuf),
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("`{}` is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// Bytes that are not UTF-8; the text is what can be read of it.
    #[error("`{}` is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Its text with replacement characters.
        text: String,
        /// Its first bad byte.
        offset: usize,
    },
    /// The system refuses.
    #[error("`{}` cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Loads a project. All mistakes are reported at once.
pub fn load(source: &Source) -> Result<Loaded, Diagnostics> {
    // What lies in the project is decided by real paths; an embedding program may pass another one.
    let root = source.root.canonicalize().unwrap_or_else(|_| source.root.clone());
    let mut findings = Findings::new(&root);
    let (tree, files) = read_layers(&mut findings, source);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    let preset_dirs = presets::directories(&root, source.user_config.as_deref());
    let model = project::read(&mut findings, &tree, &preset_dirs);
    let edges = needs::edges(&mut findings, &model);
    checks::run(&mut findings, &model, &edges);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    let spec = resolve::resolve(&findings, model, edges, files);
    let (warnings, files) = findings.finish_with_files();
    Ok(Loaded { spec, warnings, tree, files })
}

/// Reads a whole text file, within bounds and never from anything that could block.
pub(super) fn read_text(path: &Path) -> Result<String, ReadError> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing(path.to_path_buf()),
        _ => ReadError::Io { path: path.to_path_buf(), error },
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(ReadError::Directory(path.to_path_buf()));
    }
    if !metadata.is_file() {
        return Err(ReadError::Special(path.to_path_buf()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge(path.to_path_buf()));
    }
    String::from_utf8(bytes).map_err(|error| ReadError::NotUtf8 {
        path: path.to_path_buf(),
        offset: error.utf8_error().valid_up_to(),
        text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

// === impl Loaded ===

impl Loaded {
    /// Every value that is in effect, with its origin: made when asked for, for it costs almost as much as loading.
    pub fn effective(&self) -> Vec<EffectiveValue> {
        show::effective(&self.files, &self.tree, &self.spec)
    }
}

// === impl ReadError ===

impl ReadError {
    /// Whether the file simply is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => "create it, or correct the link that should lead to it",
            Self::Directory(_) => "a file is read here; move the directory away or name a file in it",
            Self::Special(_) => "put an ordinary file in its place",
            Self::TooLarge(_) => "make it smaller than 1 MiB; data belongs in files of its own",
            Self::NotUtf8 { .. } => "save it as UTF-8",
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "make it readable for you with `chmod u+r`, and its directory with `chmod u+rx`"
            }
            Self::Io { .. } => "check its path and the disk it is on",
        }
    }
}

/// The files that are there, merged, and their paths from the lowest to the highest.
fn read_layers(findings: &mut Findings, source: &Source) -> (Table, Vec<PathBuf>) {
    let mut tree = Table::new();
    let mut files = Vec::new();
    let user = source.user_config.as_deref();
    if let Some((path, layer)) = user.and_then(|path| read_layer(findings, path, Presence::Optional)) {
        only_user_keys(findings, &layer);
        files.push(path);
        tree::merge(&mut tree, layer);
    }
    let Some(main) = source.file.as_deref() else {
        return (tree, files);
    };
    let local = local_file(main);
    let layers = [(main, Presence::Required), (local.as_path(), Presence::Optional)];
    for (path, presence) in layers {
        if let Some((path, layer)) = read_layer(findings, path, presence) {
            files.push(path);
            tree::merge(&mut tree, layer);
        }
    }
    (tree, files)
}

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

fn read_layer(findings: &mut Findings, path: &Path, presence: Presence) -> Option<(PathBuf, Table)> {
    match read_text(path) {
        Ok(text) => {
            let file = findings.files.add(path, text.clone());
            Some((path.to_path_buf(), tree::parse(findings, file, &text)))
        }
        Err(error) if error.is_missing() && presence == Presence::Optional => None,
        Err(ReadError::NotUtf8 { text, offset, .. }) => {
            let end = offset + text[offset..].chars().next().map_or(0, char::len_utf8);
            let file = findings.files.add(path, text);
            let message = format!("the file is not UTF-8 at byte {offset}");
            findings.error("not-utf8", &Place { file, span: offset..end }, message).hint("save it as UTF-8");
            None
        }
        Err(error) => {
            unreadable(findings, path, &error);
            None
        }
    }
}

fn unreadable(findings: &mut Findings, path: &Path, error: &ReadError) {
    let shown = path.strip_prefix(findings.root()).unwrap_or(path).display().to_string();
    let message = error.to_string().replace(&path.display().to_string(), &shown);
    findings.push(Diagnostic::new("unreadable", Severity::Error, message)).hint(error.hint());
}

/// What belongs to one project has no place in the configuration of all of them.
fn only_user_keys(findings: &mut Findings, layer: &Table) {
    for (key, entry) in layer.iter().filter(|(key, _)| !USER_KEYS.contains(&key.as_str())) {
        let hint = if NAMED_TABLES.contains(&key.as_str()) {
            "it belongs in a project's envctl.toml".to_owned()
        } else {
            super::nearest::key_hint(key, &USER_KEYS)
        };
        findings
            .error("unknown-key", &entry.key_at, format!("`{key}` has no place in the user's configuration"))
            .hint(hint);
    }
}
