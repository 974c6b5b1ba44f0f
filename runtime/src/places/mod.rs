//! Places: every path a session uses, resolved and checked once.
//!
//! The environment is not read here: whoever may read it fills in [`PlacesInput`]. Directories are made 0700 and checked
//! before anything is put into them; nothing of somebody else's is ever changed to fit.
//!
//! ```text
//! runtime (tmpfs)  BASE/envctl/SESSION/{ctl.sock, daemon.lock, heart.lock, start.lock, fifos/…}
//! state (disk)     STATE_HOME/envctl/SESSION/{daemon.log, daemon.log.1, repo-…/…}
//! machine          /run/user/UID/envctl/leases
//! ```

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use envctl_actors::process::heart::own_log;
use envctl_supervisors::Name;

mod check;
mod logs;
mod project;
#[cfg(test)]
mod tests;

pub(crate) use check::is_normal;
use check::{Openness, check_dir, make_dir, make_dirs};
pub use logs::LogPlace;
pub use project::{MAIN_FOLDER, ProjectPlaces};

/// Longest path a Unix socket can be bound to on Linux (`sun_path` less its final zero).
pub const SOCKET_PATH_MAX_BYTES: usize = 107;

/// The folder of leases. It may stand beside the sessions', so no session can have its name.
const LEASES_FOLDER: &str = "leases";
/// Attempts to find a name for an isolated session; each has one chance in four thousand million to be taken.
const NAME_ATTEMPTS_MAX: u32 = 16;

/// What the paths follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacesInput {
    /// Whose session it is: the effective uid.
    pub uid: u32,
    /// The session.
    pub session: Name,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_STATE_HOME`, or its default.
    pub state_home: PathBuf,
    /// `RUN_SH_RUNTIME_DIR`: takes the place of `state_home/envctl`.
    pub state_override: Option<PathBuf>,
}

/// The paths of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    input: PlacesInput,
    session: Name,
    runtime_dir: PathBuf,
    state_dir: PathBuf,
    notices: Vec<String>,
}

/// Why a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// A directory that is not safe to use.
    #[error("use {path}: {reason}", path = path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The control socket's path does not fit into a socket address.
    #[error(
        "bind {path}: a socket's path has at most {SOCKET_PATH_MAX_BYTES} bytes, this one has {bytes}",
        path = path.display()
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
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
}

/// The fixed points of the machine; tests have their own.
#[derive(Debug, Clone)]
struct Roots {
    /// Where per-user runtime directories are made at login.
    run_user: PathBuf,
    /// Where anybody may make a directory.
    tmp: PathBuf,
}

// === impl Places ===

impl Places {
    /// Finds, makes and checks the session's directories.
    pub fn resolve(input: &PlacesInput) -> Result<Self, PlacesError> {
        Self::resolve_in(input, &Roots::default())
    }

    /// As [`Self::resolve`], for a new session: its name, eight random hex digits, takes the place of the input's, and its
    /// directory is made by this call and no other.
    pub fn isolated(input: &PlacesInput) -> Result<Self, PlacesError> {
        Self::isolated_in(input, &Roots::default())
    }

    /// The sessions that have a runtime directory, alive or not.
    pub fn sessions(input: &PlacesInput) -> Result<Vec<Name>, PlacesError> {
        Self::sessions_in(input, &Roots::default())
    }

    fn resolve_in(input: &PlacesInput, roots: &Roots) -> Result<Self, PlacesError> {
        let mut notices = Vec::new();
        let runtime_dir = runtime_root(input, roots, &mut notices)?.join(input.session.as_str());
        if input.session.as_str() == LEASES_FOLDER {
            let reason = "a session cannot have this name".to_owned();
            return Err(PlacesError::Unsafe { path: runtime_dir, reason });
        }
        make_dir(&runtime_dir, input.uid, Openness::Private)?;
        let state_dir = state_root(input, &mut notices)?.join(input.session.as_str());
        make_dir(&state_dir, input.uid, Openness::Readable)?;
        Ok(Self { input: input.clone(), session: input.session.clone(), runtime_dir, state_dir, notices })
    }

    fn isolated_in(input: &PlacesInput, roots: &Roots) -> Result<Self, PlacesError> {
        let root = runtime_root(input, roots, &mut Vec::new())?;
        let mut attempts = 0;
        loop {
            let name = format!("{:08x}", fastrand::u32(..));
            let session = Name::new(&name).expect("invariant: hex digits are a name");
            match DirBuilder::new().mode(0o700).create(root.join(&name)) {
                Ok(()) => return Self::resolve_in(&PlacesInput { session, ..input.clone() }, roots),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < NAME_ATTEMPTS_MAX => {
                    attempts += 1
                }
                Err(source) => return Err(PlacesError::io("create", &root.join(&name), source)),
            }
        }
    }

    fn sessions_in(input: &PlacesInput, roots: &Roots) -> Result<Vec<Name>, PlacesError> {
        let root = runtime_root(input, roots, &mut Vec::new())?;
        let entries = std::fs::read_dir(&root).map_err(|source| PlacesError::io("list", &root, source))?;
        let names = entries.filter_map(|entry| Name::new(entry.ok()?.file_name().to_str()?).ok());
        let mut names: Vec<Name> = names.filter(|name| name.as_str() != LEASES_FOLDER).collect();
        names.sort();
        Ok(names)
    }

    /// What they were resolved from.
    pub fn input(&self) -> &PlacesInput {
        &self.input
    }

    /// The session's name.
    pub fn session(&self) -> &Name {
        &self.session
    }

    /// The session's directory on tmpfs: sockets, locks, FIFOs. Gone at the last logout.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// The session's directory on disk.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What the user should be told about the choice of directories.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The control socket; an error with the numbers if its path is too long to be bound.
    pub fn socket(&self) -> Result<PathBuf, PlacesError> {
        let path = self.runtime_dir.join("ctl.sock");
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_MAX_BYTES {
            return Err(PlacesError::SocketPathTooLong { path, bytes });
        }
        Ok(path)
    }

    /// Held by the session's daemon while it lives.
    pub fn daemon_lock(&self) -> PathBuf {
        self.runtime_dir.join("daemon.lock")
    }

    /// Held by the session's heart while it lives.
    pub fn heart_lock(&self) -> PathBuf {
        self.runtime_dir.join("heart.lock")
    }

    /// Held by whoever starts a daemon, so that two callers start one.
    pub fn start_lock(&self) -> PathBuf {
        self.runtime_dir.join("start.lock")
    }

    /// What became of the last upgrade of the daemon.
    pub fn upgrade_record(&self) -> PathBuf {
        self.runtime_dir.join("upgrade.json")
    }

    /// The daemon's own log.
    pub fn daemon_log(&self) -> PathBuf {
        self.state_dir.join("daemon.log")
    }

    /// The daemon's own log before that one, if it was ever too long.
    pub fn older_daemon_log(&self) -> PathBuf {
        own_log::older(&self.daemon_log())
    }

    /// The state of the project whose directory is `root`.
    pub fn for_project(&self, root: &Path, project: &Name) -> Result<ProjectPlaces, PlacesError> {
        ProjectPlaces::resolve(&self.state_dir, root, project)
    }

    /// The directory of a project's FIFOs; each is called `<unit>.out` or `<unit>.err`.
    pub fn fifos(&self, project: &ProjectPlaces) -> PathBuf {
        self.runtime_dir.join("fifos").join(project.short())
    }

    /// The machine-wide directory of leases of `uid`, made if it is not there. It follows from the uid alone: two sessions
    /// with different homes or XDG variables must meet here.
    pub fn leases_dir(uid: u32) -> Result<PathBuf, PlacesError> {
        leases_dir_in(uid, &Roots::default())
    }
}

fn leases_dir_in(uid: u32, roots: &Roots) -> Result<PathBuf, PlacesError> {
    let run_user = roots.run_user.join(uid.to_string());
    if check_dir(&run_user, uid, Openness::Private).is_ok() {
        let ours = run_user.join("envctl");
        make_dir(&ours, uid, Openness::Private)?;
        let leases = ours.join(LEASES_FOLDER);
        make_dir(&leases, uid, Openness::Private)?;
        return Ok(leases);
    }
    let fallback = fallback_base(uid, roots)?;
    let leases = fallback.join(LEASES_FOLDER);
    make_dir(&leases, uid, Openness::Private)?;
    Ok(leases)
}

/// The directory that holds the runtime directories of all sessions.
fn runtime_root(input: &PlacesInput, roots: &Roots, notices: &mut Vec<String>) -> Result<PathBuf, PlacesError> {
    let root = runtime_base(input, roots, notices)?.join("envctl");
    make_dir(&root, input.uid, Openness::Private)?;
    Ok(root)
}

/// The first usable of `XDG_RUNTIME_DIR`, `/run/user/UID` and `/tmp/envctl-UID`.
fn runtime_base(input: &PlacesInput, roots: &Roots, notices: &mut Vec<String>) -> Result<PathBuf, PlacesError> {
    if let Some(given) = &input.runtime_dir {
        match check_dir(given, input.uid, Openness::Private) {
            Ok(()) => return Ok(given.clone()),
            Err(error) => notices.push(format!("XDG_RUNTIME_DIR is not used: failed to {}", with_source(&error))),
        }
    }
    let run_user = roots.run_user.join(input.uid.to_string());
    if check_dir(&run_user, input.uid, Openness::Private).is_ok() {
        return Ok(run_user);
    }
    let fallback = fallback_base(input.uid, roots)?;
    notices.push(format!("no runtime directory of this user was found: {} is used", fallback.display()));
    Ok(fallback)
}

fn fallback_base(uid: u32, roots: &Roots) -> Result<PathBuf, PlacesError> {
    let path = roots.tmp.join(format!("envctl-{uid}"));
    make_dir(&path, uid, Openness::Private)?;
    Ok(path)
}

/// The directory that holds the state of all sessions. An override that fails its checks is not used, and says so.
fn state_root(input: &PlacesInput, notices: &mut Vec<String>) -> Result<PathBuf, PlacesError> {
    if let Some(given) = &input.state_override {
        match usable_override(given, input.uid) {
            Ok(()) => return Ok(given.clone()),
            Err(error) => notices.push(format!("RUN_SH_RUNTIME_DIR is not used: failed to {}", with_source(&error))),
        }
    }
    let root = input.state_home.join("envctl");
    make_dirs(&root, input.uid, Openness::Readable)?;
    Ok(root)
}

fn usable_override(path: &Path, uid: u32) -> Result<(), PlacesError> {
    if !is_normal(path) {
        let reason = "it is not an absolute path without `.` and `..`".to_owned();
        return Err(PlacesError::Unsafe { path: path.to_owned(), reason });
    }
    make_dirs(path, uid, Openness::Readable)
}

fn with_source(error: &PlacesError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

// === impl PlacesError ===

impl PlacesError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

// === impl Roots ===

impl Default for Roots {
    fn default() -> Self {
        Self { run_user: PathBuf::from("/run/user"), tmp: PathBuf::from("/tmp") }
    }
}
