//! Whose which database of a shared server is: one small file, changed under a lock, never guessed from the server.
//!
//! A database has an owner from the moment its name is given out, so two worktrees never get the same one. It is the owner's
//! until the owner drops it; a run that ends changes nothing here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use envctl_supervisors::Name;
use serde::{Deserialize, Serialize};

use super::server::digest;
use crate::journal::{Durability, atomic_write};
use crate::places::{MAIN_FOLDER, ProjectPlaces};

/// Version of the file.
const VERSION: u32 = 1;
/// Its name.
const FILE: &str = "databases.json";
/// Held while it is changed.
const LOCK: &str = "databases.lock";
/// Longest name of a database that every server takes.
const NAME_MAX_BYTES: usize = 60;
/// Attempts to find a name that nobody has; a digest has been added by the second.
const ATTEMPTS_MAX: u32 = 1000;

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The repository.
    pub scope: String,
    /// The worktree.
    pub folder: String,
    /// The requirement.
    pub unit: String,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Whose it is.
    #[serde(flatten)]
    pub(crate) holder: Holder,
    /// The owner's directory.
    pub(crate) root: PathBuf,
    /// Its name or number.
    pub(crate) database: String,
    /// The database it was made from.
    #[serde(default)]
    pub(crate) template: Option<String>,
    /// Whether the owner has dropped it while no server ran.
    #[serde(default)]
    pub(crate) is_dropped: bool,
    /// Whether there may be something older of this name.
    #[serde(default)]
    pub(crate) is_stale: bool,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// Who asks.
    pub(crate) holder: &'a Holder,
    /// Its directory.
    pub(crate) root: &'a Path,
    /// How it is to be called.
    pub(crate) called: Called,
    /// Whose database is copied.
    pub(crate) template: Option<&'a str>,
}

/// How a database is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Called {
    /// By a name that begins so.
    Name(String),
    /// By a number below this.
    Number(u32),
}

/// Why there is no database for somebody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// All numbers are given out.
    #[error("find a free database: all {0} of the server have owners")]
    Full(u32),
    /// Nobody has what is to be copied.
    #[error("copy the database of `{0}`: there is none")]
    NoTemplate(String),
    /// The file system says no.
    #[error("use {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema_version: u32,
    databases: Vec<Entry>,
}

/// The databases of one server.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    dir: PathBuf,
}

// === impl Holder ===

impl Holder {
    /// A requirement of a project.
    pub fn new(places: &ProjectPlaces, unit: &Name) -> Self {
        Self { scope: places.scope().to_owned(), folder: places.folder().to_owned(), unit: unit.to_string() }
    }
}

// === impl LedgerError ===

impl LedgerError {
    /// What to do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Full(_) => "`envctl down --data` in a worktree that is not needed any more frees one".to_owned(),
            Self::NoTemplate(name) => {
                format!("run `envctl up` in `{name}` first, or take `template` away for an empty database")
            }
            Self::Io { .. } => "check the permissions of the state directory".to_owned(),
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// That of the server in this directory.
    pub(crate) fn of(server: &Path) -> Self {
        Self { dir: server.to_owned() }
    }

    /// The database of somebody; given out if it has none yet.
    pub(crate) fn take(&self, wish: &Wish<'_>) -> Result<Entry, LedgerError> {
        self.change(|entries| {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.holder == *wish.holder) {
                entry.is_stale |= std::mem::take(&mut entry.is_dropped);
                wish.root.clone_into(&mut entry.root);
                return Ok(entry.clone());
            }
            let template = wish.template.map(|template| template_of(entries, wish.holder, template)).transpose()?;
            let entry = Entry {
                holder: wish.holder.clone(),
                root: wish.root.to_owned(),
                database: free(entries, wish)?,
                template: template.flatten(),
                is_dropped: false,
                is_stale: false,
            };
            entries.push(entry.clone());
            Ok(entry)
        })
    }

    /// The server has dropped it: nothing of it is left.
    pub(crate) fn forget(&self, holder: &Holder) -> Result<(), LedgerError> {
        self.change(|entries| {
            entries.retain(|entry| entry.holder != *holder);
            Ok(())
        })
    }

    /// Its owner has done with it, and no server runs to drop it.
    pub(crate) fn drop_later(&self, holder: &Holder) -> Result<(), LedgerError> {
        self.change(|entries| {
            let of_holder = entries.iter_mut().filter(|entry| entry.holder == *holder);
            of_holder.for_each(|entry| entry.is_dropped = true);
            Ok(())
        })
    }

    /// All of them.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        read(&self.dir.join(FILE)).unwrap_or_default()
    }

    /// Whether nobody has anything on the server.
    pub(crate) fn is_unused(&self) -> bool {
        read(&self.dir.join(FILE)).is_ok_and(|entries| entries.iter().all(|entry| entry.is_dropped))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let path = self.dir.join(FILE);
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        let _lock = lock(&self.dir.join(LOCK)).map_err(failed)?;
        let mut entries = read(&path).map_err(failed)?;
        let before = entries.clone();
        let answer = change(&mut entries)?;
        if entries != before {
            let record = Record { schema_version: VERSION, databases: entries };
            let bytes = serde_json::to_vec_pretty(&record).map_err(|error| failed(io::Error::other(error)))?;
            atomic_write(&path, &bytes, Durability::Synced).map_err(failed)?;
        }
        Ok(answer)
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.lock()?;
    Ok(file)
}

/// One that cannot be read is not taken for an empty one: somebody's database would be given out a second time.
fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let record: Record = serde_json::from_slice(&bytes)?;
    if record.schema_version > VERSION {
        let newer = record.schema_version;
        return Err(io::Error::other(format!("version {newer} is newer than this build's {VERSION}")));
    }
    Ok(record.databases)
}

/// The database to copy; `None` if that is the asker's own.
fn template_of(entries: &[Entry], holder: &Holder, wanted: &str) -> Result<Option<String>, LedgerError> {
    if holder.folder == wanted {
        return Ok(None);
    }
    let is_meant = |entry: &&Entry| {
        let named = entry.holder.folder == wanted
            || entry.root.file_name().is_some_and(|name| name == wanted)
            || branch_of(&entry.root).is_some_and(|branch| branch == wanted);
        entry.holder.scope == holder.scope && entry.holder.unit == holder.unit && !entry.is_dropped && named
    };
    // A worktree's own name comes before what else may be called so.
    let exact = |entry: &&Entry| is_meant(entry) && entry.holder.folder == wanted;
    let found = entries.iter().find(exact).or_else(|| entries.iter().find(is_meant));
    found.map(|entry| Some(entry.database.clone())).ok_or_else(|| LedgerError::NoTemplate(wanted.to_owned()))
}

/// The branch that is checked out in a directory (gitrepository-layout(5)).
fn branch_of(root: &Path) -> Option<String> {
    let dot_git = root.join(".git");
    let git = match fs::read_to_string(&dot_git) {
        Ok(text) => root.join(text.trim_end().strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    Some(head.trim_end().strip_prefix("ref: refs/heads/")?.to_owned())
}

fn free(entries: &[Entry], wish: &Wish<'_>) -> Result<String, LedgerError> {
    let is_free = |database: &str| entries.iter().all(|entry| entry.database != database);
    let is_main = wish.holder.folder == MAIN_FOLDER;
    match &wish.called {
        Called::Number(max) => {
            // The first is the main checkout's: it is what every client means that names none.
            let mut numbers = (u32::from(!is_main)..*max).map(|number| number.to_string());
            numbers.find(|number| is_free(number)).ok_or(LedgerError::Full(*max))
        }
        Called::Name(base) => {
            let own = if is_main { base.clone() } else { format!("{base}_{}", wish.holder.folder.replace('-', "_")) };
            let own = shortened(&own);
            let tagged =
                format!("{own}_{}", wish.holder.scope.trim_start_matches("repo-").get(..4).unwrap_or_default());
            let more = (2..ATTEMPTS_MAX).map(|number| format!("{own}_{number}"));
            let mut names = [own.clone(), tagged].into_iter().chain(more);
            names.find(|name| is_free(name)).ok_or(LedgerError::Full(ATTEMPTS_MAX))
        }
    }
}

/// Room is left for what tells it from others.
fn shortened(name: &str) -> String {
    const ROOM: usize = 14;
    let limit = NAME_MAX_BYTES - ROOM;
    if name.len() <= limit {
        return name.to_owned();
    }
    let mut end = limit - 9;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{}", &name[..end], digest(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn holder(scope: &str, folder: &str) -> Holder {
        Holder { scope: format!("repo-{scope}"), folder: folder.to_owned(), unit: "db".to_owned() }
    }

    fn take(ledger: &Ledger, holder: &Holder, called: Called, template: Option<&str>) -> Result<Entry, LedgerError> {
        ledger.take(&Wish { holder, root: Path::new("/none"), called, template })
    }

    fn named() -> Called {
        Called::Name("shop".to_owned())
    }

    #[test]
    fn each_worktree_has_one_name_for_good_and_nobody_elses() {
        let root = TempDir::new().unwrap();
        let ledger = Ledger::of(root.path());
        let name = |scope, folder: &str| take(&ledger, &holder(scope, folder), named(), None).unwrap().database;
        assert_eq!(name("aaaa1111", "main"), "shop");
        assert_eq!(name("aaaa1111", "feature-a"), "shop_feature_a");
        assert_eq!(name("aaaa1111", "feature_a"), "shop_feature_a_aaaa");
        assert_eq!(name("bbbb2222", "main"), "shop_bbbb");
        assert_eq!(name("aaaa1111", "feature-a"), "shop_feature_a");
        let long = name("aaaa1111", &"x".repeat(60));
        assert!(long.len() <= NAME_MAX_BYTES && long.starts_with("shop_xxx"), "{long}");
    }

    #[test]
    fn numbers_are_the_smallest_that_are_free_and_the_first_is_the_main_checkouts() {
        let root = TempDir::new().unwrap();
        let ledger = Ledger::of(root.path());
        let number = |folder| take(&ledger, &holder("a", folder), Called::Number(3), None).map(|entry| entry.database);
        assert_eq!(number("one").unwrap(), "1");
        assert_eq!(number("main").unwrap(), "0");
        assert_eq!(number("two").unwrap(), "2");
        assert!(matches!(number("three"), Err(LedgerError::Full(3))));
        ledger.forget(&holder("a", "one")).unwrap();
        assert_eq!(number("three").unwrap(), "1");
    }

    #[test]
    fn a_copy_needs_an_original_and_keeps_to_it() {
        let root = TempDir::new().unwrap();
        let ledger = Ledger::of(root.path());
        let take = |folder, template| take(&ledger, &holder("a", folder), named(), template);
        let none = take("one", Some("main")).unwrap_err();
        assert!(none.hint().contains("`main` first"), "{none}");
        assert!(ledger.entries().is_empty(), "a refusal gives nothing out");
        assert_eq!(take("main", Some("main")).unwrap().template, None, "nobody is a copy of oneself");
        assert_eq!(take("one", Some("main")).unwrap().template.as_deref(), Some("shop"));
        assert_eq!(take("one", None).unwrap().template.as_deref(), Some("shop"));
    }

    #[test]
    fn what_was_dropped_without_a_server_is_stale_when_its_owner_comes_back() {
        let root = TempDir::new().unwrap();
        let ledger = Ledger::of(root.path());
        let main = holder("a", "main");
        assert!(ledger.is_unused());
        take(&ledger, &main, named(), None).unwrap();
        assert!(!ledger.is_unused());
        ledger.drop_later(&main).unwrap();
        assert!(ledger.is_unused());
        let again = take(&ledger, &main, named(), None).unwrap();
        assert!(again.is_stale && !ledger.is_unused());
    }

    #[test]
    fn a_ledger_that_cannot_be_read_gives_nothing_out() {
        let root = TempDir::new().unwrap();
        let mut file = File::create(root.path().join(FILE)).unwrap();
        io::Write::write_all(&mut file, b"{").unwrap();
        let ledger = Ledger::of(root.path());
        assert!(matches!(take(&ledger, &holder("a", "main"), named(), None), Err(LedgerError::Io { .. })));
        assert!(!ledger.is_unused(), "its data must not be dropped");
    }
}
