//! Where cgroups can be made: below our own cgroup, or, for root, at the top of the tree.
//!
//! A controller works in a cgroup only if every cgroup above it hands it down (`cgroup.subtree_control`), and one that
//! hands controllers down may hold no process itself, but for the top (cgroups(7), "no internal processes"). So where our
//! own cgroup has been delegated to us, we step aside into a cgroup below it. Nothing outside of what is ours is changed:
//! other ancestors belong to somebody else (systemd's rule of a single writer), even where their files are writable.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{PROCS, write};
use crate::process::identity::Stat;

/// What a cgroup can hold down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// `memory.max`.
    Memory,
    /// `cpu.max`.
    Cpu,
    /// `pids.max`.
    Pids,
}

/// Where this session's cgroups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Exists and belongs to nobody else.
    pub dir: PathBuf,
    /// What works in cgroups below it.
    pub controllers: BTreeSet<Controller>,
}

/// What is known of this machine before anything is tried.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where cgroup v2 is mounted.
    pub mount: PathBuf,
    /// Our own cgroup's directory.
    pub own: PathBuf,
    /// Whether we are root.
    pub root: bool,
    /// Heart's thread; of a heart that is a process, its pid.
    pub pid: u32,
    /// When we started, so that a directory named after us is nobody else's.
    pub start_time: u64,
}

/// The file that says which controllers work here, and the one that hands them down.
const CONTROLLERS: &str = "cgroup.controllers";
const SUBTREE: &str = "cgroup.subtree_control";
/// How directories of sessions are called, before pid and start time of their heart.
const PREFIX: &str = "envctl-";
/// Where those go that must make room for what hands controllers down.
const ASIDE: &str = "rest";

// === impl Controller ===

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// Its name in `cgroup.controllers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

// === impl Surroundings ===

impl Surroundings {
    /// Reads them. `None`: cgroup v2 is not mounted, or our own cgroup is outside of what we see.
    pub fn read() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (mount, own) = parse(&mounts, &own)?;
        // Of the thread that is heart: several may be in one program, and each has a place of its own.
        let pid = u32::try_from(nix::unistd::gettid().as_raw()).ok()?;
        let start_time = Stat::read(pid)?.start_time;
        Some(Self { mount, own, root: nix::unistd::geteuid().is_root(), pid, start_time })
    }

    /// Finds or makes the place: the nearest one in which all controllers work, else the nearest that can be written.
    pub fn settle(&self) -> io::Result<Place> {
        let mut best: Option<Place> = None;
        let mut error = io::Error::from_raw_os_error(nix::libc::EROFS);
        for above in self.candidates() {
            match self.make(&above) {
                Ok(place) if place.controllers.len() == Controller::ALL.len() => {
                    best.into_iter().for_each(|other| drop(fs::remove_dir(other.dir)));
                    return Ok(place);
                }
                Ok(place) if best.as_ref().is_none_or(|best| best.controllers.len() < place.controllers.len()) => {
                    best.replace(place).into_iter().for_each(|other| drop(fs::remove_dir(other.dir)));
                }
                Ok(place) => drop(fs::remove_dir(place.dir)),
                Err(refused) => error = refused,
            }
        }
        best.ok_or(error)
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates = vec![self.own.clone()];
        if self.root && self.own != self.mount {
            candidates.push(self.mount.clone());
        }
        candidates
    }

    fn make(&self, above: &Path) -> io::Result<Place> {
        remove_stale(above);
        let dir = above.join(format!("{PREFIX}{}-{}", self.pid, self.start_time));
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if above == self.own && above != self.mount && self.may_step_aside(above) {
            step_aside(above, &dir.join(ASIDE));
        }
        hand_down(above);
        hand_down(&dir);
        Ok(Place { controllers: words(&dir.join(SUBTREE)), dir })
    }

    /// Whether everything in a cgroup may be moved: it is all ours, or the cgroup was given to us as a whole.
    fn may_step_aside(&self, own: &Path) -> bool {
        let descends = |pid: u32| {
            let mut pid = pid;
            // A chain of parents ends at process 1; the bound is for a /proc that changes while it is read.
            for _ in 0..PARENTS_MAX {
                match Stat::read(pid) {
                    _ if pid == self.pid => return true,
                    Some(stat) if stat.parent > 1 => pid = stat.parent,
                    _ => return false,
                }
            }
            false
        };
        is_delegated(own) || super::procs(own).into_iter().all(descends)
    }
}

/// The directory of a process's cgroup of version 2; `None`: it is nowhere that we see.
pub fn of_process(pid: u32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_pid = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(parse(&mounts, &of_pid)?.1)
}

/// Parents that are followed upwards.
const PARENTS_MAX: usize = 64;

/// Mount point and own directory, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn parse(mounts: &str, cgroup: &str) -> Option<(PathBuf, PathBuf)> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A path outside of our cgroup namespace, or of a cgroup that is gone, leads nowhere.
    if !own.starts_with('/') || own.split('/').any(|part| part == "..") || own.ends_with(" (deleted)") {
        return None;
    }
    let (root, mount) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        (after.split(' ').next()? == "cgroup2").then_some((*fields.get(3)?, *fields.get(4)?))
    })?;
    let below = Path::new(own).strip_prefix(root).ok()?;
    let mount = PathBuf::from(mount);
    // Joining an empty path would leave a slash at the end, and comparisons of paths do not mind.
    let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
    Some((mount, own))
}

/// Hands every controller down that is there. One that cannot be handed down is no error: it is not in the result.
fn hand_down(dir: &Path) {
    let (there, handed) = (words(&dir.join(CONTROLLERS)), words(&dir.join(SUBTREE)));
    for controller in there.difference(&handed) {
        if let Err(error) = write(&dir.join(SUBTREE), &format!("+{}", controller.as_str())) {
            tracing::debug!(dir = %dir.display(), controller = controller.as_str(), %error, "a controller stays above");
        }
    }
}

/// Moves everything out of `own` into a cgroup below it.
fn step_aside(own: &Path, aside: &Path) {
    if super::procs(own).is_empty() || fs::create_dir_all(aside).is_err() {
        return;
    }
    for pid in super::procs(own) {
        // One that has ended meanwhile needs no room; any other failure shows in what can be handed down.
        let _ = write(&aside.join(PROCS), &pid.to_string());
    }
}

/// Whether systemd marks it as delegated to whoever runs in it (`Delegate=yes`, systemd.resource-control(5)).
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"]
        .iter()
        .any(|name| crate::process::sys::child::attribute(dir, name).is_some_and(|value| value == b"1"))
}

/// Removes what hearts that are gone left here. A cgroup with processes in it cannot be removed, and stays.
fn remove_stale(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ids = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let ids = ids.and_then(|(pid, start)| Some((pid.parse::<u32>().ok()?, start.parse::<u64>().ok()?)));
        let Some((pid, start)) = ids else { continue };
        let ours = entry.metadata().is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw());
        if ours && Stat::read(pid).is_none_or(|stat| stat.start_time != start || !stat.is_alive()) {
            super::remove_tree(&entry.path());
        }
    }
}

/// The controllers named in a file.
fn words(path: &Path) -> BTreeSet<Controller> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    Controller::ALL.into_iter().filter(|controller| words.contains(&controller.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "25 1 0:22 / /sys rw - sysfs sysfs rw\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    fn put(dir: &Path, name: &str, text: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(name), text).unwrap();
    }

    /// A tree as the kernel shows it, but for the files that appear by themselves in a new directory.
    fn fake(own: &str) -> (tempfile::TempDir, Surroundings) {
        let root = tempfile::tempdir().unwrap();
        let (mount, own) = (root.path().to_owned(), root.path().join(own));
        for dir in [&mount, &own] {
            put(dir, CONTROLLERS, "cpuset cpu memory pids\n");
            put(dir, SUBTREE, "");
            put(dir, PROCS, "");
        }
        (root, Surroundings { mount, own, root: false, pid: std::process::id(), start_time: 7 })
    }

    #[test]
    fn the_own_cgroup_is_found_below_the_mount() {
        let found = parse(MOUNTS, "9:name=systemd:/\n0::/user.slice/a.scope\n").unwrap();
        assert_eq!(found.1, Path::new("/sys/fs/cgroup/unified/user.slice/a.scope"));
        assert_eq!(parse(MOUNTS, "0::/\n").unwrap(), (found.0.clone(), found.0));
        let bound = MOUNTS.replace(" / /sys/fs/cgroup/unified", " /user.slice /sys/fs/cgroup");
        assert_eq!(parse(&bound, "0::/user.slice/a\n").unwrap().1, Path::new("/sys/fs/cgroup/a"));
        assert_eq!(parse(&bound, "0::/system.slice/a\n"), None);
    }

    #[test]
    fn nothing_is_found_without_cgroup_v2_or_outside_of_its_namespace() {
        assert_eq!(parse("32 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "0::/\n"), None);
        assert_eq!(parse(MOUNTS, "4:memory:/x\n"), None);
        assert_eq!(parse(MOUNTS, "0::/../../x\n"), None);
        assert_eq!(parse(MOUNTS, "0::/a.scope (deleted)\n"), None);
    }

    #[test]
    fn controllers_are_handed_down_by_our_own_cgroup() {
        let (_root, around) = fake("a.scope");
        let place = around.settle().unwrap();
        assert!(place.dir.starts_with(&around.own), "{place:?}");
        // A plain file keeps the last word only.
        assert_eq!(fs::read_to_string(around.own.join(SUBTREE)).unwrap(), "+pids");
    }

    #[test]
    fn what_a_heart_left_that_is_gone_is_removed() {
        let (_root, around) = fake("a.scope");
        let stale = around.own.join("envctl-1-1");
        fs::create_dir_all(stale.join("unit.1")).unwrap();
        fs::create_dir_all(around.own.join("envctl-other")).unwrap();
        around.settle().unwrap();
        assert!(!stale.exists());
        assert!(around.own.join("envctl-other").exists(), "a directory of somebody else stays");
    }

    #[test]
    fn a_process_of_somebody_else_is_not_moved() {
        let (_root, around) = fake("a.scope");
        put(&around.own, PROCS, "1\n");
        around.settle().unwrap();
        assert!(!around.own.join(format!("envctl-{}-7/rest", around.pid)).exists());
        assert!(around.may_step_aside(&around.mount), "an empty cgroup has nobody to move");
    }

    #[test]
    fn our_own_processes_step_aside() {
        let (_root, around) = fake("a.scope");
        put(&around.own, PROCS, &format!("{}\n", around.pid));
        assert!(around.may_step_aside(&around.own));
    }
}
