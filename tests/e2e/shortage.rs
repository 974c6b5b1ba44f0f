//! A machine that is short of descriptors or processes: nothing dies of it, nothing is given up, and nothing leaks.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Background, Output, Project, TestEnvironment, cannot_run, is_root, proc, until};

const STATE_DEADLINE: Duration = Duration::from_secs(30);

/// Starts and stops of one unit in F02; the matrix says 5,000, which is a soak.
const ROUNDS: usize = 300;

fn heart_of(env: &TestEnvironment) -> u32 {
    proc::parent(env.daemon_pid()).expect("a parent")
}

/// Sets the soft limit of open files of a running process; the hard one stays.
fn limit_files(project: &Project<'_>, pid: u32, files: usize) {
    project.shell(&format!("prlimit --pid {pid} --nofile={files}:")).ok();
}

/// The lowest number that is free: with it as the limit, nothing more can be opened.
fn first_free(pid: u32) -> usize {
    (0..).find(|fd| !PathBuf::from(format!("/proc/{pid}/fd/{fd}")).is_symlink()).expect("a free number")
}

/// What a process has open, by kind: files by name, sockets and pipes without their numbers.
fn open_kinds(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn has_tool(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Services that nothing makes ready, `count` of them.
fn services(count: usize) -> String {
    (0..count).map(|n| format!("[services.s{n}]\ncmd = [\"FX\", \"run\"]\n")).collect()
}

#[test]
fn f01_a_heart_without_descriptors_makes_every_start_wait_and_no_crash_loop() {
    let env = TestEnvironment::new();
    let project = env.project(&format!("[services.first]\ncmd = [\"FX\", \"run\"]\n{}", services(100)));
    project.envctl(&["up", "-d", "first"]).ok();
    let (daemon, heart) = (env.daemon_pid(), heart_of(&env));
    let first = project.pid("first");
    limit_files(&project, heart, proc::descriptors(heart) + 40);
    project.envctl(&["up", "-d"]).ok();
    let short = until(STATE_DEADLINE, "starts that wait", || {
        let units = project.ps()["units"].as_array().cloned().unwrap_or_default();
        let of = |state: &str| units.iter().filter(|unit| unit["state"] == state).count();
        let told = |text: &str| text.contains("EMFILE") && text.contains("tried again");
        let short = units.iter().find(|unit| unit["cause"].as_str().is_some_and(told)).cloned();
        match (of("running"), of("starting"), short) {
            // As many as are started at the same time wait; the others wait for their turn.
            (2.., 2.., Some(short)) => Ok(short),
            seen => Err(seen),
        }
    });
    let name = short["name"].as_str().expect("a name");
    project.envctl(&["why", name]).ok().says(&["cannot be started yet", "EMFILE", "hint:"]);
    assert_eq!((env.daemon_pid(), heart_of(&env), project.pid("first")), (daemon, heart, first), "nobody died");
    // A stop ends the waiting.
    project.envctl(&["stop", name]).ok();
    project.until_state(name, "stopped");
    limit_files(&project, heart, 4096);
    project.envctl(&["start", name]).ok();
    until(STATE_DEADLINE, "all to run", || {
        let units = project.ps()["units"].as_array().cloned().unwrap_or_default();
        let others: Vec<_> = units.into_iter().filter(|unit| unit["state"] != "running").collect();
        if others.is_empty() { Ok(()) } else { Err(others) }
    });
    let unit = project.unit(name);
    assert!(unit["cause"].is_null() || !unit["cause"].to_string().contains("EMFILE"), "{unit:#}");
    let restarts: u64 =
        project.ps()["units"].as_array().expect("units").iter().filter_map(|u| u["restarts"].as_u64()).sum();
    assert_eq!(restarts, 0, "no restart is charged for what the machine lacks");
}

#[test]
fn f01_a_daemon_without_descriptors_still_answers() {
    let env = TestEnvironment::new();
    let project = env.project(&services(100));
    project.envctl(&["up", "-d", "s0"]).ok();
    let daemon = env.daemon_pid();
    let sockets = || open_kinds(daemon).get("socket").copied().unwrap_or_default();
    // Whoever asked until now takes a moment to be gone.
    let mut looks = Vec::new();
    let before = until(STATE_DEADLINE, "clients to be gone", || {
        looks.push(sockets());
        match looks.as_slice() {
            [.., a, b, c, d] if a == b && b == c && c == d => Ok(*d),
            _ => Err(()),
        }
    });
    // Clients that stay fill every gap below what is kept back.
    let staying: Vec<Background> = (0..16).map(|_| project.start(&["logs", "-f", "s0"])).collect();
    let full = until(STATE_DEADLINE, "clients that stay", || match (sockets(), first_free(daemon)) {
        (sockets, free @ 30..) if sockets >= before + 15 => Ok(free),
        few => Err(few),
    });
    limit_files(&project, daemon, full);
    for _ in 0..5 {
        let asking: Vec<Background> = (0..4).map(|_| project.start(&["ps", "--json"])).collect();
        for asked in asking {
            let ps = asked.wait(STATE_DEADLINE).ok().json();
            assert_eq!(ps["projects"][0]["name"], "project", "{ps:#}");
        }
    }
    let status = env.envctl(&["daemon", "status", "--json"]).ok().json();
    assert_eq!(status["pid"], daemon, "{status:#}");
    assert_eq!(project.state("s0"), "running");
    limit_files(&project, daemon, 4096);
    for client in staying {
        client.signal(Signal::SIGINT);
        client.wait(STATE_DEADLINE);
    }
    project.envctl(&["up", "-d"]).ok();
    project.until_state("s99", "running");
    assert_eq!(env.daemon_pid(), daemon);
}

#[test]
fn f01_those_who_follow_leave_room_for_those_who_ask() {
    let env = TestEnvironment::new();
    let until_go = "while ! [ -e go ]; do sleep 0.02; done";
    let project = env.project(&format!(
        "[services.s]\nsh = \"echo one; {until_go}; echo two; exec $FIXTURE run\"\nenv = {{ FIXTURE = \"FX\" }}\n"
    ));
    // Of 128 files 80 may be connections, and those who follow leave half of them free.
    project.shell("ulimit -n 128; exec $E up -d").ok();
    let mut following: Vec<Background> = (0..60).map(|_| project.start(&["logs", "-f", "--raw"])).collect();
    let mut refused = Vec::new();
    until(STATE_DEADLINE, "those for whom there is no room to end", || {
        let (living, ended): (Vec<_>, Vec<_>) = following.drain(..).partition(|client| proc::alive(client.pid()));
        following = living;
        refused.extend(ended);
        if refused.len() >= 20 { Ok(()) } else { Err(refused.len()) }
    });
    let is_refusal = |output: Output| {
        output.exits(1).complains(&["room for no more that stay", "ulimit -Hn"]);
    };
    refused.into_iter().for_each(|client| is_refusal(client.wait(STATE_DEADLINE)));
    // Whoever asks is answered, and whoever stays gets what comes.
    assert_eq!(project.state("s"), "running");
    for leaving in following.split_off(10) {
        leaving.signal(Signal::SIGINT);
        leaving.wait(STATE_DEADLINE);
    }
    let mut late = project.start(&["logs", "-f", "--raw"]);
    project.write("go", "");
    late.until_says("two", STATE_DEADLINE);
    project.envctl(&["stop", "s"]).ok();
    late.wait(STATE_DEADLINE).ok().says(&["one", "two"]);
    // A few more than twenty may have been refused: somebody was counted who was about to leave.
    let ended = following.into_iter().map(|client| client.wait(STATE_DEADLINE));
    let (served, refused): (Vec<_>, Vec<_>) = ended.partition(|output| output.code == Some(0));
    assert!(served.len() > refused.len(), "{refused:#?}");
    for output in served {
        output.says(&["one", "two"]);
    }
    refused.into_iter().for_each(is_refusal);
}

#[test]
fn f01_a_heart_without_descriptors_still_brings_its_daemon_back() {
    let env = TestEnvironment::new();
    let project = env.project(&services(20));
    project.envctl(&["up", "-d", "s0"]).ok();
    let (daemon, heart, pid) = (env.daemon_pid(), heart_of(&env), project.pid("s0"));
    limit_files(&project, heart, 50);
    project.envctl(&["up", "-d"]).ok();
    until(STATE_DEADLINE, "a full heart", || {
        let (open, units) = (proc::descriptors(heart), project.ps()["units"].clone());
        let waits =
            units.as_array().is_some_and(|units| units.iter().any(|unit| unit["cause"].to_string().contains("EMFILE")));
        if waits && open > 45 { Ok(()) } else { Err((open, units)) }
    });
    proc::kill_hard(daemon);
    let unit = project.until("s0", "taken over", |unit| unit["adopted"] == true);
    assert_eq!(unit["pid"], pid, "{unit:#}");
    limit_files(&project, heart, 4096);
    project.until_state("s19", "running");
    assert_eq!(heart_of(&env), heart);
}

#[test]
fn f02_three_hundred_starts_and_stops_leave_no_descriptor_open() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.api]\ncmd = [\"FX\", \"run\"]\nready = { log = \"up\" }\n\
         [services.limited]\ncmd = [\"FX\", \"run\"]\nlimits = { cpu = 1 }\nstdin = \"envctl.toml\"\n",
    );
    project.up();
    let (daemon, heart) = (env.daemon_pid(), heart_of(&env));
    let round = |project: &Project<'_>| {
        project.envctl(&["restart"]).ok();
        project.until("api", "ready", |unit| unit["state"] == "ready");
        project.until("limited", "running", |unit| unit["state"] == "running");
    };
    // What is opened once and kept is open after a few rounds.
    (0..5).for_each(|_| round(&project));
    let before = [daemon, heart].map(open_kinds);
    (0..ROUNDS).for_each(|_| round(&project));
    until(STATE_DEADLINE, "descriptors as before", || {
        let after = [daemon, heart].map(open_kinds);
        let count = |kinds: &BTreeMap<String, usize>| kinds.values().sum::<usize>();
        let near = before.iter().zip(&after).all(|(before, after)| count(before).abs_diff(count(after)) <= 2);
        if near { Ok(()) } else { Err((before.clone(), after)) }
    });
    assert_eq!([env.daemon_pid(), heart_of(&env)], [daemon, heart]);
}

/// A cgroup that lets no further process be made, with one process in it; removed when dropped.
struct Full {
    dir: PathBuf,
    pid: u32,
    back: PathBuf,
}

impl Full {
    /// In the tree of the `pids` controller, of either version.
    fn around(pid: u32) -> Option<Self> {
        let v1 = PathBuf::from("/sys/fs/cgroup/pids");
        let v2 = PathBuf::from("/sys/fs/cgroup");
        let handed = fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
        let top = if v1.join("cgroup.procs").exists() {
            v1
        } else if handed.split_whitespace().any(|word| word == "pids") {
            v2
        } else {
            return None;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let own =
            text.lines().find_map(|line| line.split_once(":pids:").map(|(_, path)| path).or(line.strip_prefix("0::")));
        let back = top.join(own?.trim_start_matches('/'));
        let dir = top.join(format!("envctl-full-{pid}"));
        fs::create_dir(&dir).ok()?;
        let this = Self { dir, pid, back };
        fs::write(this.dir.join("pids.max"), "1").ok()?;
        fs::write(this.dir.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(this)
    }

    fn open(&self) {
        fs::write(self.dir.join("pids.max"), "max").expect("room");
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // All of it goes back; a cgroup with something in it cannot be removed.
        let procs = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().chain([self.pid.to_string().as_str()]) {
            let _ = fs::write(self.back.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

#[test]
fn f03_a_full_process_table_is_waited_for_and_is_no_crash_loop() {
    let name = "f03_a_full_process_table_is_waited_for_and_is_no_crash_loop";
    let env = TestEnvironment::new();
    let project = env.project(&services(3));
    project.envctl(&["up", "-d", "s0"]).ok();
    let heart = heart_of(&env);
    let Some(full) = Some(heart).filter(|_| is_root()).and_then(Full::around) else {
        return cannot_run(name, "only root can fill a process table, and only where there is a pids controller");
    };
    project.envctl(&["up", "-d"]).ok();
    let waits = |unit: &serde_json::Value| {
        unit["state"] == "starting" && unit["cause"].as_str().is_some_and(|cause| cause.contains("EAGAIN"))
    };
    project.until("s1", "waiting", waits);
    project.until("s2", "waiting", waits);
    assert_eq!(project.state("s0"), "running");
    full.open();
    for unit in ["s1", "s2"] {
        let unit = project.until_state(unit, "running");
        assert_eq!(unit["restarts"], 0, "{unit:#}");
    }
    drop(full);
}

#[test]
fn f04_a_clone_that_fails_is_tried_again_and_is_no_crash_loop() {
    let name = "f04_a_clone_that_fails_is_tried_again_and_is_no_crash_loop";
    if !is_root() || !has_tool("strace") {
        return cannot_run(name, "strace as root is needed to make a clone fail");
    }
    let env = TestEnvironment::new();
    let project = env.project(&services(2));
    project.envctl(&["up", "-d", "s0"]).ok();
    for errno in ["EAGAIN", "ENOMEM"] {
        let heart = heart_of(&env);
        let inject = format!("inject=clone,clone3,vfork,fork:error={errno}");
        let mut strace = env.tool("strace", env.root());
        strace.args(["-f", "-e", "trace=clone,clone3,vfork,fork", "-e", &inject, "-p", &heart.to_string()]);
        let mut strace = env.start(&mut strace, &["strace"]);
        strace.until_says("attached", STATE_DEADLINE);
        project.envctl(&["start", "s1"]).ok();
        project.until("s1", "waiting", |unit| {
            unit["state"] == "starting" && unit["cause"].as_str().is_some_and(|cause| cause.contains(errno))
        });
        strace.signal(Signal::SIGINT);
        strace.wait(STATE_DEADLINE);
        let unit = project.until_state("s1", "running");
        assert_eq!(unit["restarts"], 0, "{unit:#}");
        project.envctl(&["stop", "s1"]).ok();
        project.until_state("s1", "stopped");
    }
}

/// In a pid namespace of its own the limits of process 1 are what the test says, so that a soft one differs from a hard one.
#[test]
fn f15_units_get_the_machines_limit_of_open_files_and_heart_what_it_can() {
    let name = "f15_units_get_the_machines_limit_of_open_files_and_heart_what_it_can";
    if !is_root() || !has_tool("unshare") || !has_tool("prlimit") {
        return cannot_run(name, "a pid namespace with limits of its own needs root, unshare and prlimit");
    }
    let env = TestEnvironment::new();
    let project = env.project("[tasks.dump]\ncmd = [\"FX\", \"dump-env\", \"dump.json\"]\n");
    let inside = "$E up -d --wait --wait-timeout 20s && $E daemon status --json > status.json && \
                  heart=$(sed -n 's/.*\"heart_pid\": *\\([0-9]*\\).*/\\1/p' status.json) && \
                  grep 'Max open files' /proc/$heart/limits > heart.limits; $E down; $E daemon stop";
    project
        .shell(&format!(
            "exec unshare -pf --mount-proc prlimit --nofile=500:3000 sh -c '{}'",
            inside.replace('\'', "'\\''")
        ))
        .ok();
    let dump = project.until_json("dump.json");
    assert_eq!(dump["limits"]["Max open files"], "500", "{dump:#}");
    let heart = project.read("heart.limits");
    let numbers: Vec<&str> = heart.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["3000", "3000"], "{heart}");
}
