//! cgroup v2: one cgroup for each life that has limits of its own (cgroups(7)).
//!
//! ```text
//! heart: Cgroups::make ─▶ the exec stub joins it ─▶ the unit ─▶ ended: oom? ─▶ acknowledged: removed
//! ```
//!
//! Made by heart before the life, joined by the life's first process before it becomes the program, removed after it.
//! cgroup v1 is not supported: its controllers have trees of their own, which no rule gives to an ordinary user.

pub mod place;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use place::{Controller, Place, Surroundings};

use super::heart::wire::LimitsOrder;
use super::sys::child;

/// The file with a cgroup's processes.
pub const PROCS: &str = "cgroup.procs";
/// Length of the window in which processor time is measured out, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// The attribute of a life's cgroup that says whose it is: the next heart finds it by that if this one dies. Kernels before 5.7
/// keep none there; a life of theirs then belongs by the other proofs.
const OWNER: &str = "user.envctl.life";
/// Depth to which cgroups below a unit's are looked into: a container engine makes two or three.
const DEPTH_MAX: usize = 8;
/// Cgroups of ended lives that wait until they are empty; more are left to the next heart.
const LEFT_MAX: usize = 1024;

/// The cgroups of one session, made on first need.
#[derive(Debug, Default)]
pub struct Cgroups {
    place: Option<Result<Place, String>>,
    /// How many were made: each has a number of its own.
    made: u64,
    /// Could not be removed yet: something in them lives.
    left: Vec<PathBuf>,
}

/// The cgroup of one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    dir: PathBuf,
}

/// What came of a wish for limits.
#[derive(Debug, Default)]
pub struct Made {
    /// The cgroup, if one could be made.
    pub cgroup: Option<Cgroup>,
    /// The controllers whose limits are in force in it.
    pub held: Vec<Controller>,
    /// Why the others are not.
    pub why: String,
}

// === impl Cgroups ===

impl Cgroups {
    /// Cgroups in this place, for tests.
    #[cfg(test)]
    pub fn at(place: Place) -> Self {
        Self { place: Some(Ok(place)), ..Self::default() }
    }

    /// Makes a cgroup with these limits, as far as they can be held here, for the life of this tag.
    pub fn make(&mut self, limits: &LimitsOrder, tag: &str) -> Made {
        self.tidy();
        self.made += 1;
        let place = match self.place.get_or_insert_with(settle) {
            Ok(place) => place,
            Err(why) => return Made { why: why.clone(), ..Made::default() },
        };
        let dir = place.dir.join(format!("life-{}", self.made));
        if let Err(error) = fs::create_dir(&dir) {
            let why = format!("no cgroup v2 delegation ({}: {error})", place.dir.display());
            return Made { why, ..Made::default() };
        }
        if let Err(error) = child::set_attribute(&dir, OWNER, tag.as_bytes()) {
            tracing::debug!(dir = %dir.display(), %error, "the next heart will not know whose cgroup this is");
        }
        let mut made = Made { cgroup: Some(Cgroup { dir: dir.clone() }), ..Made::default() };
        for (controller, file, value) in contents(limits) {
            if !place.controllers.contains(&controller) {
                made.why = format!("no cgroup v2 delegation of the controllers in {}", place.dir.display());
                continue;
            }
            match write(&dir.join(file), &value) {
                Ok(()) => made.held.push(controller),
                Err(error) => made.why = format!("{file} of its cgroup cannot be written: {error}"),
            }
        }
        if made.held.contains(&Controller::Memory) {
            // All or nothing: a unit that has lost one process at random is in no state that anybody knows.
            let _ = write(&dir.join("memory.oom.group"), "1");
        }
        made
    }

    /// Removes the cgroup of a life that is over; once what lives in it has gone, if something does.
    pub fn remove(&mut self, cgroup: Cgroup) {
        if !remove_tree(&cgroup.dir) && self.left.len() < LEFT_MAX {
            self.left.push(cgroup.dir);
        } else if let Some(above) = cgroup.dir.parent().filter(|above| !self.is_place(above)) {
            // Of an earlier heart: the last of its lives takes its place along.
            let _ = fs::remove_dir(above);
        }
    }

    /// Tries again to remove what could not be removed.
    pub fn tidy(&mut self) {
        self.left.retain(|dir| !remove_tree(dir));
    }

    fn is_place(&self, dir: &Path) -> bool {
        matches!(&self.place, Some(Ok(place)) if place.dir == dir)
    }

    /// Removes everything that is empty: the end of the session.
    pub fn finish(&mut self) {
        self.tidy();
        if let Some(Ok(place)) = self.place.take() {
            remove_tree(&place.dir);
        }
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// The cgroup in this directory.
    pub fn in_dir(dir: &str) -> Self {
        Self { dir: PathBuf::from(dir) }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves this very process into it.
    pub fn join(&self) -> io::Result<()> {
        write(&self.dir.join(PROCS), "0")
    }

    /// Kills all that is in it, at once and for certain (`cgroup.kill`, since Linux 5.14).
    pub fn kill(&self) -> io::Result<()> {
        write(&self.dir.join("cgroup.kill"), "1")
    }

    /// Whether the kernel has killed in it because its memory limit was reached.
    pub fn is_oom(&self) -> bool {
        let events = fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        oom_kills(&events) > 0
    }
}

/// The cgroup that an earlier heart made for the life of this tag, if its process is in it.
pub fn of_life(pid: u32, tag: &str) -> Option<Cgroup> {
    let dir = place::of_process(pid)?;
    // The nearest one alone: a session may run inside a unit of another, whose cgroup is not ours to kill.
    let (dir, owner) = dir.ancestors().find_map(|dir| Some((dir, child::attribute(dir, OWNER)?)))?;
    (owner == tag.as_bytes()).then(|| Cgroup { dir: dir.to_owned() })
}

/// All processes in a cgroup and below it.
pub fn all_procs(dir: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    collect(dir, DEPTH_MAX, &mut found);
    found
}

/// The processes in a cgroup itself.
pub(super) fn procs(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join(PROCS)).unwrap_or_default();
    // A process outside of our pid namespace is shown as 0.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<u32>) {
    found.extend(procs(dir));
    if depth > 0 {
        for below in below(dir) {
            collect(&below, depth - 1, found);
        }
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes a cgroup and those below it, as far as they are empty. Whether it is gone.
fn remove_tree(dir: &Path) -> bool {
    for below in below(dir) {
        remove_tree(&below);
    }
    match fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// What is written into a cgroup for its limits: controller, file, text.
fn contents(limits: &LimitsOrder) -> Vec<(Controller, &'static str, String)> {
    let memory = limits.memory.map(|bytes| (Controller::Memory, "memory.max", bytes.to_string()));
    let cpu = limits.cpu_milli.map(|milli| {
        let quota_us = milli.saturating_mul(CPU_PERIOD_US / 1000);
        (Controller::Cpu, "cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))
    });
    let pids = limits.processes.map(|count| (Controller::Pids, "pids.max", count.to_string()));
    [memory, cpu, pids].into_iter().flatten().collect()
}

/// The counter `oom_kill` of `memory.events`.
fn oom_kills(events: &str) -> u64 {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

fn settle() -> Result<Place, String> {
    let around = Surroundings::read().ok_or("no cgroup v2 delegation (cgroup v2 is not mounted here)")?;
    let own = around.own.display().to_string();
    around.settle().map_err(|error| format!("no cgroup v2 delegation ({own}: {error})"))
}

/// Files of a cgroup are written, never made: a directory that is none must not be filled with files of ours.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: LimitsOrder = LimitsOrder { memory: Some(1 << 20), cpu_milli: Some(1500), processes: Some(20) };

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let texts: Vec<String> = contents(&ALL).into_iter().map(|(_, file, text)| format!("{file} {text}")).collect();
        assert_eq!(texts, ["memory.max 1048576", "cpu.max 150000 100000", "pids.max 20"]);
        assert!(contents(&LimitsOrder::default()).is_empty());
    }

    #[test]
    fn an_oom_kill_is_read_from_the_events_of_memory() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 1\n"), 1);
        assert_eq!(oom_kills("low 0\nmax 31\noom 2\noom_kill 0\n"), 0);
        assert_eq!(oom_kills(""), 0);
    }

    #[test]
    fn a_limit_without_its_controller_is_not_held_and_the_reason_is_told() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { dir: root.path().to_owned(), controllers: BTreeSet::new() };
        let made = Cgroups::at(place).make(&ALL, "unit");
        assert!(made.held.is_empty() && made.cgroup.is_some());
        assert!(made.why.contains("no cgroup v2 delegation"), "{}", made.why);
    }

    #[test]
    fn a_cgroup_that_is_not_empty_is_removed_later() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { dir: root.path().join("envctl-1-1"), controllers: BTreeSet::new() };
        fs::create_dir(&place.dir).unwrap();
        let mut cgroups = Cgroups::at(place.clone());
        let cgroup = cgroups.make(&ALL, "unit").cgroup.unwrap();
        // A plain file keeps a plain directory, as a process keeps a cgroup.
        let keeper = cgroup.dir().join("keeper");
        fs::File::create(&keeper).unwrap();
        cgroups.remove(cgroup.clone());
        assert!(cgroup.dir().exists());
        fs::remove_file(keeper).unwrap();
        cgroups.tidy();
        assert!(!cgroup.dir().exists());
        cgroups.finish();
        assert!(!place.dir.exists());
    }

    #[test]
    fn processes_below_a_cgroup_are_its_own() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        for (dir, text) in [(root.path(), "7\n0\n"), (inner.as_path(), "8\n9\n")] {
            let mut file = fs::File::create(dir.join(PROCS)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(all_procs(root.path()), [7, 8, 9]);
    }
}
