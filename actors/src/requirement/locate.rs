//! Where a server's programs are: on the PATH, or where its preset says that distributions put them. Runs nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::preset::Preset;
use super::preset::model::Native;
use super::preset::text::Scope;

/// The programs of one installed version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The server.
    pub server: PathBuf,
    /// What it cannot do without, by the names of the preset.
    pub tools: BTreeMap<String, PathBuf>,
    /// Its version, where its path tells.
    pub version: Option<String>,
}

/// Why there are no programs to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingBinary {
    /// None is installed.
    #[error("find {programs}: neither on the PATH nor in {}", places(looked))]
    NotInstalled {
        /// The programs, in words.
        programs: String,
        /// Where else it was looked for.
        looked: Vec<PathBuf>,
        /// What to do.
        hint: String,
    },
    /// Only other versions are installed.
    #[error("find version {wanted} of {title}: installed are {}", Found(found))]
    OtherVersion {
        /// The server, for people.
        title: String,
        /// The version wanted.
        wanted: String,
        /// The versions there are, and where.
        found: Vec<(String, PathBuf)>,
        /// What to do.
        hint: String,
    },
}

struct Found<'a>(&'a [(String, PathBuf)]);

/// Where servers are though a user's PATH does not say so.
const PLAIN: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/opt/homebrew/bin"];
/// The words that the packages of a manager are installed by.
const MANAGERS: [(&str, &str); 5] = [
    ("apt", "apt install"),
    ("dnf", "dnf install"),
    ("pacman", "pacman -S"),
    ("apk", "apk add"),
    ("brew", "brew install"),
];

/// The programs of `preset`: the first on `path` (a PATH variable) if its version will do, else the highest version
/// installed elsewhere, else one whose version cannot be told from its path.
///
/// # Errors
/// Says what to install in its [`hint`](MissingBinary::hint).
pub fn locate(preset: &Preset, version: Option<&str>, path: &OsStr) -> Result<Binaries, MissingBinary> {
    let Some(native) = &preset.native else {
        let (programs, looked) = (format!("programs of {}", preset.title), Vec::new());
        let hint = "its preset has none: set `driver = \"container\"` or `driver = \"external\"`".to_owned();
        return Err(MissingBinary::NotInstalled { programs, looked, hint });
    };
    let mut first: Vec<PathBuf> = native.search_first.iter().flat_map(|pattern| matching(pattern)).collect();
    first.extend(std::env::split_paths(path));
    let mut elsewhere: Vec<PathBuf> = native.search.iter().flat_map(|pattern| matching(pattern)).collect();
    elsewhere.extend(PLAIN.map(PathBuf::from));
    choose(preset, native, version, (first, elsewhere))
}

/// The first of `names` on `path` (a PATH variable), or where servers usually are.
pub fn program(names: &[String], path: &OsStr) -> Option<PathBuf> {
    let dirs: Vec<PathBuf> = std::env::split_paths(path).chain(PLAIN.map(PathBuf::from)).collect();
    names.iter().find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| executable(path).is_some()))
}

fn choose(
    preset: &Preset,
    native: &Native,
    version: Option<&str>,
    (path, elsewhere): (Vec<PathBuf>, Vec<PathBuf>),
) -> Result<Binaries, MissingBinary> {
    let all: Vec<&Path> = path.iter().chain(&elsewhere).map(PathBuf::as_path).collect();
    let in_dir = |dir: &PathBuf| binaries_in(native, dir, &all);
    let mut found: Vec<Binaries> = path.iter().filter_map(in_dir).collect();
    let mut more: Vec<Binaries> = elsewhere.iter().filter_map(in_dir).collect();
    more.sort_by_key(|binaries| std::cmp::Reverse(numbers(binaries.version.as_deref().unwrap_or("0"))));
    found.extend(more);
    let Some(first) = found.first() else {
        let (programs, hint) = (programs(native), install_hint(native, None));
        return Err(MissingBinary::NotInstalled { programs, looked: elsewhere, hint });
    };
    let Some(wanted) = version else { return Ok(first.clone()) };
    let certain = found.iter().find(|binaries| binaries.version.as_deref().is_some_and(|v| matches(wanted, v)));
    // Whose version is unknown may still be it; the plan then begins with asking.
    match certain.or_else(|| found.iter().find(|binaries| binaries.version.is_none())) {
        Some(binaries) => Ok(binaries.clone()),
        None => Err(MissingBinary::OtherVersion {
            title: preset.title.clone(),
            wanted: wanted.to_owned(),
            found: versions(found),
            hint: install_hint(native, Some(wanted)),
        }),
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

/// The server's programs in a directory; its tools may also be in one of `all`.
fn binaries_in(native: &Native, dir: &Path, all: &[&Path]) -> Option<Binaries> {
    native.server.iter().find_map(|name| {
        let real = executable(&dir.join(name))?;
        // Not its real place where nothing says so: `redis-server` may be a link to a program that looks at its own name.
        let server = if native.real_path { real.clone() } else { dir.join(name) };
        let beside = [real.parent()?, dir];
        let tool = |(name, names): (&String, &Vec<String>)| {
            let dirs = || beside.iter().chain(if native.real_path { &[] } else { all }.iter());
            let found = names.iter().find_map(|program| dirs().find_map(|dir| executable(&dir.join(program))))?;
            Some((name.clone(), found))
        };
        let tools = native.tools.iter().map(tool).collect::<Option<_>>()?;
        let version = version_in_path(&real, &native.version_in_path);
        Some(Binaries { server, tools, version })
    })
}

/// The real path of a file that may be executed by somebody.
fn executable(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&real).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(real)
}

/// `…/postgresql/15/bin/postgres`, `…/pgsql-15/bin/…`, `…/postgresql@15/15.4/bin/…` → the version.
fn version_in_path(server: &Path, words: &[String]) -> Option<String> {
    let dir = server.parent()?.parent()?.file_name()?.to_str()?;
    let (name, version) = dir.rsplit_once(['@', '-']).unwrap_or(("", dir));
    if !words.iter().any(|word| word == name) {
        return None; // A number of something else.
    }
    // Homebrew's `15.4_1`: the revision is not the server's.
    let version = version.split('_').next()?;
    (!numbers(version).is_empty()).then(|| version.to_owned())
}

/// The directories that a pattern means; `*` stands for any name, or the rest of one.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = match part.split_once('*') {
            None => found.into_iter().map(|dir| dir.join(part)).collect(),
            Some((before, after)) => found.iter().flat_map(|dir| children(dir, before, after)).collect(),
        };
    }
    found.retain(|dir| dir.is_dir());
    found
}

fn children(dir: &Path, before: &str, after: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_meant =
        |name: &str| name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after);
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.retain(|name| name.to_str().is_some_and(is_meant));
    names.sort();
    names.iter().map(|name| dir.join(name)).collect()
}

fn programs(native: &Native) -> String {
    let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let all: Vec<String> =
        std::iter::once(&native.server).chain(native.tools.values()).map(|names| quoted(names)).collect();
    all.join(" and ")
}

fn install_hint(native: &Native, version: Option<&str>) -> String {
    let mut scope = Scope::default();
    let version = version.unwrap_or_default();
    scope.set("version", version);
    scope.set("major", version.split('.').next().unwrap_or_default());
    let package = |manager: &str| {
        if version.is_empty() {
            return native.install.get(manager).cloned();
        }
        native.install_version.get(manager).and_then(|text| Some(text.fill(&scope).ok()?.text))
    };
    let lines = MANAGERS.iter().filter_map(|(manager, words)| Some(format!("`{words} {}`", package(manager)?)));
    let lines = lines.collect::<Vec<_>>().join(", ");
    match (version, lines.as_str()) {
        ("", "") => "install it, and put it on the PATH".to_owned(),
        ("", lines) => format!("install it: {lines}; or set `driver = \"container\"`"),
        (_, "") => "install that version of it, or change `version`".to_owned(),
        (_, lines) => format!("install it: {lines}; or change `version`"),
    }
}

// === impl MissingBinary ===

impl MissingBinary {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotInstalled { hint, .. } | Self::OtherVersion { hint, .. } => hint.clone(),
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

fn places(looked: &[PathBuf]) -> String {
    looked.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement::preset::builtin;
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
        let preset = builtin("postgres").unwrap();
        let native = preset.native.as_ref().unwrap();
        choose(&preset, native, version, (all(path), all(elsewhere))).map(|binaries| binaries.server)
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
        let preset = builtin("postgres").unwrap();
        let found = choose(&preset, preset.native.as_ref().unwrap(), Some("15"), (vec![links], vec![])).unwrap();
        assert_eq!(found.tools["initdb"], real.join("initdb"));
        assert_eq!(found.version.as_deref(), Some("15"));
    }

    #[test]
    fn valkey_stands_in_for_redis() {
        let root = TempDir::new().unwrap();
        let bin = install(&root, "bin", &["valkey-server"], 0o755);
        let preset = builtin("redis").unwrap();
        let found = choose(&preset, preset.native.as_ref().unwrap(), None, (vec![bin.clone()], vec![])).unwrap();
        assert_eq!(found.server, bin.join("valkey-server"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_install() {
        let root = TempDir::new().unwrap();
        let nine = install(&root, "lib/9/bin", &BOTH, 0o755);
        let other = postgres(Some("16"), &[&nine], &[]).unwrap_err();
        let at = nine.join("postgres");
        assert_eq!(other.to_string(), format!("find version 16 of PostgreSQL: installed are 9 ({})", at.display()));
        assert!(other.hint().contains("apt install postgresql-16"));
        let preset = builtin("redis").unwrap();
        let none =
            choose(&preset, preset.native.as_ref().unwrap(), None, (vec![], vec!["/nowhere".into()])).unwrap_err();
        assert_eq!(none.to_string(), "find `redis-server` or `valkey-server`: neither on the PATH nor in /nowhere");
        assert!(none.hint().contains("brew install redis"));
    }
}
