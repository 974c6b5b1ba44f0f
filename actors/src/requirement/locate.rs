//! Where a store's programs are: on the PATH, or where distributions and Homebrew put them. Runs nothing.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::plan::PresetKind;

/// The programs of one installed version of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The server.
    pub server: PathBuf,
    /// What initialises its data, for stores that need it.
    pub initdb: Option<PathBuf>,
    /// Its version, where its path tells.
    pub version: Option<String>,
}

/// Why there are no programs to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingBinary {
    /// None is installed.
    #[error("find {}: neither on the PATH nor in {}", programs(*preset), places(looked))]
    NotInstalled {
        /// The store.
        preset: PresetKind,
        /// Where else it was looked for.
        looked: Vec<PathBuf>,
    },
    /// Only other versions are installed.
    #[error("find version {wanted} of {}: installed are {}", preset.as_str(), Found(found))]
    OtherVersion {
        /// The store.
        preset: PresetKind,
        /// The version wanted.
        wanted: String,
        /// The versions there are, and where.
        found: Vec<(String, PathBuf)>,
    },
}

struct Found<'a>(&'a [(String, PathBuf)]);

/// Directories whose children are versions, each with a `bin`: Debian and Ubuntu; Postgres.app.
const VERSIONED: [&str; 2] = ["/usr/lib/postgresql", "/Applications/Postgres.app/Contents/Versions"];
/// Homebrew keeps versioned formulas off the PATH (`opt/postgresql@15/bin`).
const HOMEBREW: [&str; 3] = ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"];
/// Where servers are though a user's PATH does not say so.
const PLAIN: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/opt/homebrew/bin"];

/// The programs of `preset`: the first on `path` (a PATH variable) if its version will do, else the highest version
/// installed elsewhere, else one whose version cannot be told from its path.
///
/// # Errors
/// Says what to install in its [`hint`](MissingBinary::hint).
pub fn locate(preset: PresetKind, version: Option<&str>, path: &OsStr) -> Result<Binaries, MissingBinary> {
    let elsewhere = known_directories(preset);
    choose(preset, version, std::env::split_paths(path).collect(), elsewhere)
}

fn choose(
    preset: PresetKind,
    version: Option<&str>,
    path: Vec<PathBuf>,
    elsewhere: Vec<PathBuf>,
) -> Result<Binaries, MissingBinary> {
    let mut found: Vec<Binaries> = path.iter().filter_map(|dir| binaries_in(preset, dir)).collect();
    let mut more: Vec<Binaries> = elsewhere.iter().filter_map(|dir| binaries_in(preset, dir)).collect();
    more.sort_by_key(|binaries| std::cmp::Reverse(numbers(binaries.version.as_deref().unwrap_or("0"))));
    found.extend(more);
    let Some(first) = found.first() else {
        return Err(MissingBinary::NotInstalled { preset, looked: elsewhere });
    };
    let Some(wanted) = version else { return Ok(first.clone()) };
    let certain = found.iter().find(|binaries| binaries.version.as_deref().is_some_and(|v| matches(wanted, v)));
    // Whose version is unknown may still be it; the plan then begins with asking.
    match certain.or_else(|| found.iter().find(|binaries| binaries.version.is_none())) {
        Some(binaries) => Ok(binaries.clone()),
        None => Err(MissingBinary::OtherVersion { preset, wanted: wanted.to_owned(), found: versions(found) }),
    }
}

fn versions(found: Vec<Binaries>) -> Vec<(String, PathBuf)> {
    let mut versions: Vec<(String, PathBuf)> =
        found.into_iter().filter_map(|binaries| Some((binaries.version?, binaries.server))).collect();
    versions.dedup();
    versions
}

/// Whether an installed version is the wanted one, as far as both say: `15` is met by `15.4`, and `15.4` by `15`.
pub(super) fn matches(wanted: &str, installed: &str) -> bool {
    numbers(wanted).iter().zip(numbers(installed)).all(|(wanted, installed)| *wanted == installed)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The store's programs in a directory. The server's real place counts: what is on the PATH may be a link to it, and its
/// companions (`initdb`, the shared files) are found from there.
fn binaries_in(preset: PresetKind, dir: &Path) -> Option<Binaries> {
    match preset {
        PresetKind::Postgres => {
            let server = executable(&dir.join("postgres"))?;
            let initdb = executable(&server.with_file_name("initdb")).or_else(|| executable(&dir.join("initdb")))?;
            let version = version_in_path(&server);
            Some(Binaries { server, initdb: Some(initdb), version })
        }
        PresetKind::Redis => ["redis-server", "valkey-server"].iter().find_map(|name| {
            // Not its real place: `redis-server` may be a link to a program that looks at its own name.
            executable(&dir.join(name))?;
            Some(Binaries { server: dir.join(name), initdb: None, version: None })
        }),
    }
}

/// The real path of a file that may be executed by somebody.
fn executable(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&real).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(real)
}

/// `…/postgresql/15/bin/postgres`, `…/pgsql-15/bin/…`, `…/postgresql@15/15.4/bin/…` → the version.
fn version_in_path(server: &Path) -> Option<String> {
    let dir = server.parent()?.parent()?.file_name()?.to_str()?;
    let (name, version) = dir.rsplit_once(['@', '-']).unwrap_or(("", dir));
    if !(name.is_empty() || name.contains("postgres") || name.contains("pgsql")) {
        return None; // A number of something else.
    }
    // Homebrew's `15.4_1`: the revision is not PostgreSQL's.
    let version = version.split('_').next()?;
    (!numbers(version).is_empty()).then(|| version.to_owned())
}

fn known_directories(preset: PresetKind) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if preset == PresetKind::Postgres {
        directories.extend(VERSIONED.iter().flat_map(|root| children(Path::new(root), "")));
        // The RPMs of postgresql.org.
        directories.extend(children(Path::new("/usr"), "pgsql-"));
    }
    let formulas = match preset {
        PresetKind::Postgres => ["postgresql", "postgresql@"],
        PresetKind::Redis => ["redis", "valkey"],
    };
    let roots = HOMEBREW.iter().flat_map(|root| formulas.map(|formula| children(Path::new(root), formula)));
    directories.extend(roots.flatten());
    directories.extend(PLAIN.map(PathBuf::from));
    directories
}

/// The `bin` of each child of `root` whose name starts with `prefix`.
fn children(root: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(prefix)).collect();
    names.sort();
    names.iter().map(|name| root.join(name).join("bin")).filter(|bin| bin.is_dir()).collect()
}

// === impl MissingBinary ===

impl MissingBinary {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let (preset, version) = match self {
            Self::NotInstalled { preset, .. } => (*preset, None),
            Self::OtherVersion { preset, wanted, .. } => (*preset, Some(wanted.as_str())),
        };
        let major = version.map(|version| version.split('.').next().unwrap_or(version).to_owned());
        match (preset, major) {
            (PresetKind::Postgres, None) => {
                "install it: `apt install postgresql`, `dnf install postgresql-server`, `brew install postgresql`"
                    .into()
            }
            (PresetKind::Postgres, Some(major)) => format!(
                "install it: `apt install postgresql-{major}`, `brew install postgresql@{major}`; or change `version`"
            ),
            (PresetKind::Redis, None) => {
                "install it: `apt install redis-server`, `dnf install valkey`, `brew install redis`".into()
            }
            (PresetKind::Redis, Some(_)) => "install that version of it, or change `version`".into(),
        }
    }
}

impl From<MissingBinary> for envctl_supervisors::reason::StartError {
    fn from(missing: MissingBinary) -> Self {
        Self { message: missing.to_string(), hint: Some(missing.hint()), retry: false }
    }
}

// === impl Found ===

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (version, path)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{version} ({})", path.display())?;
        }
        Ok(())
    }
}

fn programs(preset: PresetKind) -> &'static str {
    match preset {
        PresetKind::Postgres => "`postgres` and `initdb`",
        PresetKind::Redis => "`redis-server` or `valkey-server`",
    }
}

fn places(looked: &[PathBuf]) -> String {
    looked.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn install(root: &TempDir, dir: &str, programs: &[&str], mode: u32) -> PathBuf {
        let bin = root.path().join(dir);
        fs::create_dir_all(&bin).unwrap();
        for program in programs {
            fs::File::create(bin.join(program)).unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::canonicalize(bin).unwrap()
    }

    fn postgres(version: Option<&str>, path: &[&PathBuf], elsewhere: &[&PathBuf]) -> Result<PathBuf, MissingBinary> {
        let all = |dirs: &[&PathBuf]| dirs.iter().map(|dir| (*dir).clone()).collect();
        choose(PresetKind::Postgres, version, all(path), all(elsewhere)).map(|binaries| binaries.server)
    }

    const BOTH: [&str; 2] = ["postgres", "initdb"];

    #[test]
    fn the_path_comes_first_and_after_it_the_highest_version() {
        let root = TempDir::new().unwrap();
        let [nine, ten] = ["lib/9/bin", "lib/10/bin"].map(|dir| install(&root, dir, &BOTH, 0o755));
        assert_eq!(postgres(None, &[&nine], &[&ten]), Ok(nine.join("postgres")));
        assert_eq!(postgres(None, &[], &[&nine, &ten]), Ok(ten.join("postgres")));
    }

    #[test]
    fn the_wanted_version_is_taken_wherever_it_is() {
        let root = TempDir::new().unwrap();
        let [nine, ten] = ["lib/9/bin", "Cellar/postgresql@10/10.4_1/bin"].map(|dir| install(&root, dir, &BOTH, 0o755));
        assert_eq!(postgres(Some("10"), &[&nine], &[&ten]), Ok(ten.join("postgres")));
        assert_eq!(postgres(Some("10.4"), &[&nine], &[&ten]), Ok(ten.join("postgres")));
        assert!(postgres(Some("10.5"), &[&nine], &[&ten]).is_err());
    }

    #[test]
    fn an_unknown_version_is_the_last_resort_for_a_wanted_one() {
        let root = TempDir::new().unwrap();
        let [nine, own] = ["lib/9/bin", "opt/own-12/bin"].map(|dir| install(&root, dir, &BOTH, 0o755));
        assert_eq!(postgres(Some("9"), &[&own], &[&nine]), Ok(nine.join("postgres")));
        assert_eq!(postgres(Some("12.1"), &[&own], &[&nine]), Ok(own.join("postgres")));
    }

    #[test]
    fn a_directory_without_initdb_or_with_a_plain_file_is_not_an_installation() {
        let root = TempDir::new().unwrap();
        let half = install(&root, "half/bin", &["postgres"], 0o755);
        let plain = install(&root, "plain/bin", &BOTH, 0o644);
        assert!(matches!(postgres(None, &[&half, &plain], &[]), Err(MissingBinary::NotInstalled { .. })));
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_real_installation() {
        let root = TempDir::new().unwrap();
        let real = install(&root, "lib/15/bin", &BOTH, 0o755);
        let links = install(&root, "usr/bin", &[], 0o755);
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).unwrap();
        let found = choose(PresetKind::Postgres, Some("15"), vec![links], vec![]).unwrap();
        assert_eq!(found.initdb, Some(real.join("initdb")));
        assert_eq!(found.version.as_deref(), Some("15"));
    }

    #[test]
    fn valkey_stands_in_for_redis() {
        let root = TempDir::new().unwrap();
        let bin = install(&root, "bin", &["valkey-server"], 0o755);
        let found = choose(PresetKind::Redis, None, vec![bin.clone()], vec![]).unwrap();
        assert_eq!(found.server, bin.join("valkey-server"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_install() {
        let root = TempDir::new().unwrap();
        let nine = install(&root, "lib/9/bin", &BOTH, 0o755);
        let other = postgres(Some("16"), &[&nine], &[]).unwrap_err();
        let at = nine.join("postgres");
        assert_eq!(other.to_string(), format!("find version 16 of postgres: installed are 9 ({})", at.display()));
        assert!(other.hint().contains("apt install postgresql-16"));
        let none = choose(PresetKind::Redis, None, vec![], vec!["/nowhere".into()]).unwrap_err();
        assert_eq!(none.to_string(), "find `redis-server` or `valkey-server`: neither on the PATH nor in /nowhere");
        assert!(none.hint().contains("brew install redis"));
    }
}
