//! What is kept of output, and at what price: floods, full disks, rotation, compression, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::harness::{Project, TestEnvironment, cannot_run, is_root, proc, until};

/// Longest wait for what must happen by itself; a debug build on a loaded machine moves a few MB a second.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a daemon may grow by, whatever it moves (reliability matrix, E01).
const GROWTH_MAX_KIB: u64 = 8 << 10;

/// A file system of its own; taken away when dropped.
struct Small(PathBuf);

// === impl Small ===

impl Small {
    fn mount(dir: &Path, size: &str) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        let options = format!("size={size},mode=0700");
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("a tmpfs");
        Self(dir.to_path_buf())
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("ballast");
        // The error is the point.
        drop(std::io::copy(&mut std::io::repeat(0), &mut ballast));
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).expect("no more ballast");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The first directory of this name.
fn find_dir(dir: &Path, name: &str) -> Option<PathBuf> {
    let inner = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    inner.collect::<Vec<_>>().iter().find_map(|path| {
        if path.file_name().is_some_and(|found| found == name) { Some(path.clone()) } else { find_dir(path, name) }
    })
}

fn log_dir(env: &TestEnvironment, unit: &str) -> PathBuf {
    find_dir(&env.root().join("state"), "logs").expect("a directory of logs").join(unit)
}

fn names(dir: &Path, ending: &str) -> Vec<String> {
    let all =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = all.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

/// Events of a kind, oldest first.
fn events(project: &Project<'_>, kind: &str) -> Vec<Value> {
    let events = project.envctl(&["events", "--json"]).ok().json_lines();
    events.into_iter().filter(|event| event.to_string().contains(&format!("\"{kind}\""))).collect()
}

/// The numbers of a unit's lines, as they are kept.
fn numbers(project: &Project<'_>, unit: &str) -> Vec<u64> {
    let raw = project.envctl(&["logs", unit, "--raw"]).ok();
    raw.stdout.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

#[test]
fn e04_floods_without_a_reader_are_kept_to_the_last_line() {
    const LINES: u64 = 50_000;
    let env = TestEnvironment::new();
    let units = (0..5).map(|n| format!("[tasks.flood{n}]\ncmd = [\"FX\", \"numbered\", \"{LINES}\"]\n"));
    let project = env.project(&units.collect::<String>());
    project.up();
    for n in 0..5 {
        let mut found = numbers(&project, &format!("flood{n}"));
        let odd = found.iter().filter(|number| *number % 2 == 1);
        assert!(odd.clone().is_sorted() && odd.count() as u64 == LINES / 2, "flood{n}: standard output");
        found.sort_unstable();
        assert!(found.iter().copied().eq(1..=LINES), "flood{n}: {} lines", found.len());
    }
}

#[test]
fn e01_e02_the_daemon_does_not_grow_with_what_it_moves_and_changes_no_byte() {
    const BYTES: u64 = 64 << 20;
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "[services.idle]\ncmd = [\"FX\", \"run\"]\n\
         [tasks.line]\ncmd = [\"FX\", \"bigline\", \"{BYTES}\"]\n\
         [tasks.bytes]\ncmd = [\"FX\", \"binary\", \"{BYTES}\"]\n"
    ));
    project.envctl(&["up", "-d", "--wait", "idle"]).ok();
    let before = proc::resident_kib(env.daemon_pid());
    project.envctl(&["up", "-d", "--wait", "--wait-timeout", "60s"]).ok();
    let after = proc::resident_kib(env.daemon_pid());
    assert!(after < before + GROWTH_MAX_KIB, "{before} KiB before, {after} KiB after");
    let sums = "set -- $($E logs UNIT --raw | sha256sum) $(PROGRAM | sha256sum); echo \"$1 $3\"";
    for (unit, mode) in [("line", "bigline"), ("bytes", "binary")] {
        let program = format!("{} {mode} {BYTES}", crate::harness::FIXTURE);
        let said = project.shell(&sums.replace("UNIT", unit).replace("PROGRAM", &program)).ok().stdout;
        let (kept, written) = said.trim().split_once(' ').expect("two sums");
        assert_eq!(kept, written, "{unit}");
    }
    project.envctl(&["logs", "bytes", "-n", "1"]).ok().says(&["after the bytes"]);
}

#[test]
fn e06_ten_followers_see_every_line_once_over_rotations() {
    const LINES: u64 = 20_000;
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "[logs]\nsegment_bytes = \"64KiB\"\n\
         [services.chatty]\nsh = \"while [ ! -e go ]; do sleep 0.02; done; seq -f 'line %.0f' 1 {LINES}; sleep 1000\"\n"
    ));
    project.up();
    let followers: Vec<_> = (0..10).map(|_| project.start(&["logs", "-f", "chatty", "--raw"])).collect();
    project.write("go", "");
    let mut followers = followers;
    for follower in &mut followers {
        follower.until_says(&format!("line {LINES}\n"), DEADLINE);
    }
    for follower in followers {
        follower.signal(nix::sys::signal::Signal::SIGINT);
        let said = follower.wait(DEADLINE);
        let seen = said.stdout.lines().filter_map(|line| line.strip_prefix("line ")?.parse::<u64>().ok());
        assert!(seen.eq(1..=LINES), "not every line once");
    }
    assert!(names(&log_dir(&env, "chatty"), ".idx").len() >= 3, "there was no rotation: nothing is tested");
}

#[test]
fn e07_a_quiet_unit_s_closed_segments_become_gzip_files_with_the_exact_bytes() {
    const LINES: u64 = 60_000;
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "[services.once]\nsh = \"seq -f 'line %.0f' 1 {LINES}; exec sleep 1000\"\n\
         logs = {{ segment_bytes = \"128KiB\", max_segments = 5 }}\n"
    ));
    project.up();
    let dir = log_dir(&env, "once");
    until(DEADLINE, "compressed segments", || {
        let (packed, plain) = (names(&dir, ".out.gz"), names(&dir, ".out"));
        if packed.len() >= 4 && plain.len() == 1 { Ok(()) } else { Err((packed, plain)) }
    });
    let said =
        project.shell(&format!("cd {} && gzip -t *.gz && zcat $(ls *.gz | sort -n) && cat *.out", dir.display()));
    let kept: Vec<u64> = numbers(&project, "once");
    assert!(kept.is_sorted() && kept.last() == Some(&LINES) && kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(said.ok().stdout, project.envctl(&["logs", "once", "--raw"]).ok().stdout);
    let idle = fs::read_dir(format!("/proc/{}/task", env.daemon_pid())).expect("threads").flatten().any(|task| {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The 41st field of proc_pid_stat(5) is the policy; 5 is SCHED_IDLE.
        comm.trim() == "log-press" && stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(38)) == Some("5")
    });
    assert!(idle, "the compressing thread is not an idle one");
    // What a new daemon finds, it goes on with.
    proc::kill_hard(env.daemon_pid());
    project.until("once", "taken over", |unit| unit["adopted"] == true);
    assert_eq!(numbers(&project, "once"), kept);
}

/// Writes 1 to 20000 when told to, then 20001 to 40000 and so on, and says when it is through.
const PARTS: &str = r#"
    [services.parts]
    sh = "for i in 0 1 2 3; do while [ ! -e go$i ]; do sleep 0.02; done; seq -f 'line %.0f' $((i * 20000 + 1)) $((i * 20000 + 20000)); echo > done$i; done; exec sleep 1000"
    logs = { segment_bytes = "32KiB", max_bytes = "64MiB", compress = false }
"#;
const PART: u64 = 20_000;

fn part(project: &Project<'_>, number: usize) {
    project.write(&format!("go{number}"), "");
    until(DEADLINE, "the service to be through", || {
        if project.dir().join(format!("done{number}")).exists() { Ok(()) } else { Err(project.unit("parts")) }
    });
}

#[test]
fn e09_a_full_disk_costs_old_output_first_then_new_and_never_the_service() {
    if !is_root() {
        return cannot_run("e09, the full disk", "only root may mount");
    }
    let env = TestEnvironment::new();
    let project = env.project(PARTS);
    project.up();
    project.down();
    let dir = log_dir(&env, "parts");
    let disk = Small::mount(&dir, "256k");
    project.up();
    let pid = project.pid("parts");
    // More than the disk holds, bit by bit: the oldest segments go.
    (0..3).for_each(|number| part(&project, number));
    project.until("parts", "in trouble or over it", |_| !events(&project, "log.refused").is_empty());
    let kept = numbers(&project, "parts");
    assert_eq!(kept.last(), Some(&(3 * PART)), "the newest output is there");
    // The first may be the rest of a line whose beginning went with its segment.
    let holes: Vec<_> = kept[1..].windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    assert!(holes.is_empty(), "what is kept has no hole: {holes:?} in {:?}", (kept.first(), kept.last()));
    project.until("parts", "well again", |unit| unit["warnings"].is_null());
    let (refused, resumed) = (events(&project, "log.refused").len(), events(&project, "log.resumed"));
    assert_eq!((refused, resumed.len()), (1, 1), "told once, and once that it is over");
    assert_eq!((&resumed[0]["details"]["bytes"], &resumed[0]["details"]["lines"]), (&0.into(), &0.into()));
    // No room at all: the newest output is dropped and counted.
    project.envctl(&["down"]).ok();
    for name in ["go0", "go1", "go2", "done0", "done1", "done2"] {
        fs::remove_file(project.dir().join(name)).expect("a signal of before");
    }
    for entry in fs::read_dir(&dir).expect("the log").flatten() {
        fs::remove_file(entry.path()).expect("a file of the log");
    }
    project.up();
    disk.fill();
    part(&project, 0);
    let unit = project.until("parts", "in trouble", |unit| unit["warnings"].to_string().contains("cannot be written"));
    assert_eq!(unit["state"], "running", "{unit:#}");
    project.envctl(&["why", "parts"]).ok().says(&["its log cannot be written", "No space left"]);
    disk.empty();
    project.until("parts", "well again", |unit| unit["warnings"].is_null());
    part(&project, 1);
    let gap = events(&project, "log.gap").pop().expect("a gap");
    assert_eq!(gap["details"]["lines"], PART, "{gap:#}");
    project.envctl(&["events"]).ok().says(&["20000 lines", "were lost"]);
    let kept = numbers(&project, "parts");
    assert_eq!(kept.last(), Some(&(2 * PART)));
    assert_eq!(kept.len() as u64 + shed_lines(&dir), PART, "all that came after is there, or known to have been");
    assert_ne!(project.pid("parts"), pid, "another run");
    assert_eq!(project.unit("parts")["restarts"], 0);
    env.envctl(&["daemon", "stop"]).ok();
    drop(disk);
}

/// Lines in segments that were deleted, as the log itself remembers them.
fn shed_lines(dir: &Path) -> u64 {
    let raw = fs::read(dir.join("gone")).unwrap_or_default();
    raw.chunks_exact(32).map(|record| u64::from_le_bytes(record[16..24].try_into().expect("8 bytes"))).sum()
}

#[test]
fn e15_a_daemon_whose_own_log_and_journal_have_no_room_serves_on() {
    if !is_root() {
        return cannot_run("e15, the full disk", "only root may mount");
    }
    let env = TestEnvironment::new();
    let project = env.project(PARTS);
    let disk = Small::mount(&env.root().join("state"), "2m");
    project.up();
    let (daemon, pid) = (env.daemon_pid(), project.pid("parts"));
    disk.fill();
    part(&project, 0);
    part(&project, 1);
    project.envctl(&["ps"]).ok().says(&["parts"]);
    assert_eq!((env.daemon_pid(), project.pid("parts")), (daemon, pid), "nobody died of it");
    let before = proc::cpu_ticks(daemon);
    disk.empty();
    project.until("parts", "well again", |unit| unit["warnings"].is_null());
    part(&project, 2);
    assert_eq!(numbers(&project, "parts").last(), Some(&(3 * PART)));
    assert!(proc::cpu_ticks(daemon) < before + 1000, "a loop");
    assert!(env.daemon_log().len() < 64 << 10, "{}", env.daemon_log());
    env.envctl(&["daemon", "stop"]).ok();
    drop(disk);
}
