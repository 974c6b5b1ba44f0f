//! What a unit may use, whose rights it has, and what is told where this machine cannot hold it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Project, TestEnvironment, cannot_run, is_root, proc, until};

const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// Where cgroup v2 is, and what it can hold there for root. Looked up once: two tests that try to make the same directory at
/// the same moment would take it for a cgroup that cannot be written.
fn cgroup2() -> Option<&'static (PathBuf, BTreeSet<String>)> {
    static FOUND: LazyLock<Option<(PathBuf, BTreeSet<String>)>> = LazyLock::new(find_cgroup2);
    FOUND.as_ref()
}

fn find_cgroup2() -> Option<(PathBuf, BTreeSet<String>)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mount = PathBuf::from(line.split(' ').nth(4)?);
    let controllers = fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
    let probe = mount.join(format!("envctl-test-{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).ok()?;
    Some((mount, controllers.split_ascii_whitespace().map(str::to_owned).collect()))
}

/// Whether limits of a whole unit are in force here: as root, with the controllers of cgroup v2.
fn is_in_force() -> bool {
    let needed = ["memory", "cpu", "pids"];
    is_root() && cgroup2().is_some_and(|(_, there)| needed.iter().all(|controller| there.contains(*controller)))
}

/// The directory of a process's cgroup of version 2, below its mount.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(cgroup2()?.0.join(path))
}

/// Cgroups of hearts in the mount that still hold a life.
fn lives_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("life-"));
    ours.map(|entry| entry.path()).collect()
}

fn limit(dump: &Value, name: &str) -> String {
    dump["limits"][name].as_str().unwrap_or_else(|| panic!("no {name} in {dump:#}")).to_owned()
}

#[test]
fn a18_a_unit_gets_the_limits_the_niceness_and_the_mask_it_asks_for() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.dump]
        cmd = ["FX", "dump-env", "dump.json"]
        limits = { open_files = 333, core = "0", file_size = "8MiB" }
        nice = 7
        umask = "027"
    "#,
    );
    project.up();
    let dump = project.until_json("dump.json");
    assert_eq!(limit(&dump, "Max open files"), "333");
    assert_eq!(limit(&dump, "Max core file size"), "0");
    assert_eq!(limit(&dump, "Max file size"), (8 << 20).to_string());
    assert_eq!((&dump["nice"], &dump["umask"]), (&json!(7), &json!("0027")), "{dump:#}");
    let descriptors: Vec<&String> = dump["fds"].as_object().expect("descriptors").keys().collect();
    assert_eq!(descriptors, ["0", "1", "2"], "the stub leaves none of its own: {dump:#}");
    assert_eq!((&dump["sigblk"], &dump["sigign"]), (&json!(0), &json!(0)), "{dump:#}");
    assert_eq!((&dump["sid"], &dump["pgid"]), (&dump["pid"], &dump["pid"]), "{dump:#}");
    assert_eq!(project.unit("dump").get("warnings"), None, "each of them is in force everywhere");
}

/// The fixture cannot tell: its own runtime ignores the signal, whoever started it.
#[test]
fn a18_a_unit_that_was_confined_dies_of_a_broken_pipe_as_any_other() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[tasks.plain]\nsh = \"grep SigIgn /proc/self/status\"\n[tasks.confined]\nsh = \"grep SigIgn /proc/self/status\"\numask = \"027\"\n",
    );
    project.up();
    for unit in ["plain", "confined"] {
        let line = project.envctl(&["logs", unit, "--raw"]).ok().stdout;
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap_or_default(), 16).expect("a mask");
        assert_eq!(mask & (1 << (nix::libc::SIGPIPE - 1)), 0, "{unit} ignores SIGPIPE: {line}");
    }
}

#[test]
fn a19_standard_input_is_the_file_that_is_named_in_every_life() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.reader]
        cmd = ["FX", "read-stdin"]
        stdin = "input.txt"
    "#,
    );
    project.write("input.txt", "seventeen bytes\n\n");
    project.up();
    project.envctl(&["logs", "reader"]).ok().says(&["stdin held 17 bytes"]);
    project.envctl(&["restart", "reader"]).ok();
    until(STATE_DEADLINE, "the second life", || {
        let said = project.envctl(&["logs", "reader", "--raw"]).ok().stdout;
        if said.matches("stdin held 17 bytes").count() == 2 { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a19_what_is_no_regular_file_is_refused_and_heart_does_not_wait_for_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.fifo]
        cmd = ["FX", "run"]
        stdin = "pipe"
        [services.other]
        cmd = ["FX", "run"]
        needs = { after = "done" }
        [tasks.after]
        cmd = ["FX", "exit", "0", "300"]
    "#,
    );
    project.shell("mkfifo pipe").ok();
    project.envctl(&["up", "-d"]).ok();
    let failed = project.until_state("fifo", "failed");
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("open its standard input")), "{failed:#}");
    assert!(failed["hint"].as_str().is_some_and(|hint| hint.contains("regular file")), "{failed:#}");
    project.until_state("other", "running");
}

#[test]
fn a18_a_limit_over_the_machines_own_fails_the_start_with_its_step_and_leaves_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.greedy]
        cmd = ["FX", "run"]
        limits = { open_files = 4294967295, cpu = 1 }
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    let failed = project.until_state("greedy", "failed");
    let cause = failed["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("set limits.open_files to 4294967295") && cause.contains("EPERM"), "{failed:#}");
    assert!(failed["hint"].as_str().is_some_and(|hint| hint.contains("hard limit")), "{failed:#}");
    assert_eq!(failed["restarts"], 0, "no number of attempts can help: {failed:#}");
    let heart = proc::parent(env.daemon_pid()).expect("a parent");
    let children = fs::read_to_string(format!("/proc/{heart}/task/{heart}/children")).expect("heart's children");
    assert_eq!(children.split_whitespace().count(), 1, "only the daemon: {children}");
    if let Some((mount, _)) = cgroup2().filter(|_| is_root()) {
        let dirs = fs::read_dir(mount).expect("cgroups").flatten().map(|entry| entry.path());
        let ours = format!("envctl-{heart}-");
        let ours = dirs.filter(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours)));
        assert_eq!(ours.flat_map(|dir| lives_in(&dir)).count(), 0);
    }
}

#[test]
fn a18_a_unit_of_another_user_has_none_of_our_rights() {
    if !is_root() {
        return cannot_run("a18_a_unit_of_another_user_has_none_of_our_rights", "only root may run as another user");
    }
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.who]
        sh = "id -u; id -G; grep CapEff /proc/self/status; echo home=$HOME user=$USER; umask; kill -0 1 2>/dev/null || echo no power"
        user = "nobody"
        umask = "077"
        env = { OWN = "x" }
    "#,
    );
    project.up();
    let passwd = fs::read_to_string("/etc/passwd").expect("accounts");
    let line = passwd.lines().find(|line| line.starts_with("nobody:")).expect("nobody");
    let fields: Vec<&str> = line.split(':').collect();
    let said = project.envctl(&["logs", "who", "--raw"]).ok();
    let lines: Vec<&str> = said.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!((lines[0], lines[1]), (fields[2], fields[3]), "{lines:?}");
    assert!(lines[2].ends_with("\t0000000000000000"), "{lines:?}");
    assert_eq!(lines[3], format!("home={} user=nobody", fields[5]));
    assert_eq!((lines[4], lines[5]), ("0077", "no power"), "{lines:?}");
}

#[test]
fn a_user_that_is_not_there_is_told_by_its_name_and_no_start_is_tried_again() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\nuser = \"nobody-such\"\n");
    project.envctl(&["up", "-d"]).ok();
    let failed = project.until_state("api", "failed");
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("`nobody-such`")), "{failed:#}");
    assert_eq!(failed["restarts"], 0, "{failed:#}");
    project.envctl(&["why", "api"]).ok().says(&["no such account", "hint:"]);
}

const LIMITED: &str = r#"
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
    limits = { memory = "512MiB", cpu = 0.5, processes = 100 }
"#;

#[test]
fn a_limit_is_in_force_or_it_is_said_that_it_is_not() {
    let env = TestEnvironment::new();
    let project = env.project(LIMITED);
    let up = project.up();
    let unit = project.unit("api");
    let pid = project.pid("api");
    if is_in_force() {
        assert_eq!(unit.get("warnings"), None, "{unit:#}");
        let dir = cgroup_of(pid).expect("a cgroup");
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
        assert_eq!(read("memory.max"), (512 << 20).to_string());
        assert_eq!((read("cpu.max"), read("pids.max")), ("50000 100000".to_owned(), "100".to_owned()));
        return;
    }
    let warnings: Vec<&str> = unit["warnings"].as_array().expect("warnings").iter().filter_map(Value::as_str).collect();
    let about = |limit: &str| warnings.iter().find(|line| line.starts_with(limit)).copied().unwrap_or_default();
    assert!(about("limits.cpu").contains("is not in force: no cgroup v2 delegation"), "{warnings:?}");
    assert!(about("limits.processes").contains("is not in force: no cgroup v2 delegation"), "{warnings:?}");
    assert!(about("limits.memory").contains("RLIMIT_AS"), "{warnings:?}");
    assert!(up.stderr.contains("limits.cpu is not in force"), "{up}");
    project.envctl(&["why", "api"]).ok().says(&["limits.cpu is not in force: no cgroup v2 delegation"]);
    let told = |project: &Project<'_>| project.events_of("api").iter().filter(|e| e["event"] == "unit.unheld").count();
    assert_eq!(told(&project), 3);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let space = limits.lines().find(|line| line.starts_with("Max address space")).expect("a line");
    assert!(space.contains(&(512 << 20).to_string()), "{space}");
    project.envctl(&["restart", "api"]).ok();
    project.until("api", "ready again", |unit| unit["state"] == "ready" && unit["pid"] != json!(pid));
    assert_eq!(told(&project), 3, "told when it changes, not for every life");
}

#[test]
fn a_unit_without_limits_gets_no_cgroup_of_its_own() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\nready = { log = \"up\" }\nnice = 3\n");
    project.up();
    let heart = proc::parent(env.daemon_pid()).expect("a parent");
    let read = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert_eq!(read(project.pid("api")), read(heart));
}

/// A process that leaves group and session, closes its files and forgets its environment: only its cgroup knows it.
#[test]
fn a08_what_hides_from_everything_else_does_not_leave_its_cgroup() {
    let name = "a08_what_hides_from_everything_else_does_not_leave_its_cgroup";
    if !is_root() || cgroup2().is_none() {
        return cannot_run(name, "no cgroup v2 that can be written");
    }
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        sh = "(setsid env -i sleep 7654.321 </dev/null >/dev/null 2>&1 &); echo up; exec sleep 1000"
        ready = { log = "up" }
        limits = { cpu = 2 }
    "#,
    );
    let hidden = || proc::with_command("sleep 7654.321");
    let until_hidden = || {
        until(STATE_DEADLINE, "the hidden process", || match hidden()[..] {
            [pid] if proc::session(pid) == Some(pid) => Ok(pid),
            _ => Err(hidden()),
        })
    };
    project.up();
    let first = until_hidden();
    let place = cgroup_of(project.pid("api")).expect("a cgroup");
    assert_eq!(cgroup_of(first), Some(place.clone()));
    proc::kill_hard(project.pid("api"));
    until(STATE_DEADLINE, "the end of what the crash left", || if proc::alive(first) { Err(first) } else { Ok(()) });
    project.until("api", "ready again", |unit| unit["state"] == "ready" && unit["incarnation"] == 2);
    let second = until_hidden();
    assert_ne!(cgroup_of(second), Some(place.clone()), "each life has a cgroup of its own");
    until(STATE_DEADLINE, "the end of the first cgroup", || if place.exists() { Err(&place) } else { Ok(()) });
    project.down();
    assert!(!proc::alive(second));
    let session = place.parent().expect("the session's").to_owned();
    assert_eq!(lives_in(&session), Vec::<PathBuf>::new());
    env.envctl(&["daemon", "stop"]).ok();
    until(STATE_DEADLINE, "the end of the session's cgroup", || if session.exists() { Err(&session) } else { Ok(()) });
}

/// The heart that made its cgroup is dead: the next one finds it by the life that it says it is of.
#[test]
fn a08_the_cgroup_of_a_unit_that_was_found_again_still_tells_who_belongs() {
    let name = "a08_the_cgroup_of_a_unit_that_was_found_again_still_tells_who_belongs";
    if !is_root() || cgroup2().is_none() {
        return cannot_run(name, "no cgroup v2 that can be written");
    }
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        sh = "(setsid env -i sleep 8765.432 </dev/null >/dev/null 2>&1 &); echo up; exec sleep 1000"
        ready = { log = "up" }
        limits = { cpu = 2 }
    "#,
    );
    project.up();
    let hidden = until(STATE_DEADLINE, "the hidden process", || match proc::with_command("sleep 8765.432")[..] {
        [pid] if proc::session(pid) == Some(pid) => Ok(pid),
        _ => Err(()),
    });
    let place = cgroup_of(project.pid("api")).expect("a cgroup");
    let daemon = env.daemon_pid();
    let heart = proc::parent(daemon).expect("heart");
    proc::signal(daemon, nix::sys::signal::Signal::SIGSTOP);
    proc::kill_hard(heart);
    proc::kill_hard(daemon);
    assert_eq!(project.unit("api")["adopted"], true);
    project.down();
    assert!(!proc::alive(hidden), "what only the cgroup knew has escaped");
    assert!(!place.exists() && !place.parent().is_some_and(std::path::Path::exists), "a cgroup is left: {place:?}");
}

#[test]
fn b09_a_service_that_is_killed_for_its_memory_is_told_apart() {
    let name = "b09_a_service_that_is_killed_for_its_memory_is_told_apart";
    if !is_in_force() {
        return cannot_run(name, "cgroup v2 has no memory controller here, or this is not root");
    }
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.eater]
        sh = "$FIXTURE eat 256; echo survived"
        env = { FIXTURE = "FX" }
        limits = { memory = "64MiB" }
        restart = "temporary"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    let failed = project.until_state("eater", "failed");
    assert_eq!(failed["exit"], json!({ "signal": 9, "core": false }), "all of it at once: {failed:#}");
    let text = "killed by the kernel: out of memory (limit 64MiB)";
    project.envctl(&["why", "eater"]).ok().says(&[text]);
    project.envctl(&["events"]).ok().says(&[text]);
    let exited = project.events_of("eater").into_iter().find(|event| event["event"] == "unit.exited").expect("its end");
    assert_eq!((&exited["details"]["oom"], &exited["details"]["memory_max"]), (&json!(true), &json!(64 << 20)));
}

#[test]
fn b09_a_kill_by_hand_is_not_called_out_of_memory() {
    let env = TestEnvironment::new();
    let project = env.project(&format!("{LIMITED}restart = \"temporary\"\n"));
    project.up();
    proc::kill_hard(project.pid("api"));
    project.until_state("api", "failed");
    let why = project.envctl(&["why", "api"]).ok();
    assert!(!why.stdout.contains("memory"), "{}", why.stdout);
    why.says(&["SIGKILL"]);
}

#[test]
fn limits_hold_and_are_told_after_the_daemon_was_killed() {
    let env = TestEnvironment::new();
    let project = env.project(LIMITED);
    project.up();
    let (before, daemon) = (project.unit("api"), env.daemon_pid());
    proc::kill_hard(daemon);
    let after = project.until("api", "taken over", |unit| unit["adopted"] == true);
    assert_eq!((&after["pid"], after.get("warnings")), (&before["pid"], before.get("warnings")));
}

#[test]
fn a_requirement_is_limited_as_any_other_unit() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.redis]\nlimits = { open_files = 222, file_size = \"64MiB\" }\nnice = 4\n");
    project.up();
    let limits = fs::read_to_string(format!("/proc/{}/limits", project.pid("redis"))).expect("its limits");
    let of = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(of("Max open files").contains(" 222 "), "{limits}");
    assert!(of("Max file size").contains(&(64 << 20).to_string()), "{limits}");
}
