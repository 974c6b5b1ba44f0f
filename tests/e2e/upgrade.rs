//! `daemon upgrade`: another program takes the daemon's place, and nobody loses anything.

mod failing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::wire::{Answer, Raw, frame, hello};
use crate::harness::{Background, ENVCTL, Project, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of the fast writers.
const LINES: u32 = 20_000;

/// A copy of the program at another path.
fn copy(env: &TestEnvironment, name: &str) -> PathBuf {
    let path = env.root().join(name);
    std::fs::copy(ENVCTL, &path).expect("a copy of the program");
    path
}

/// A program that is this envctl, but for what `case` says about being the daemon (`$*` are its arguments).
fn wrapper(env: &TestEnvironment, name: &str, case: &str) -> PathBuf {
    let path = env.root().join(name);
    // Not `exec -a`: only the real program runs on.
    std::fs::write(&path, format!("#!/bin/sh\n{case}\nexec {ENVCTL:?} \"$@\"\n")).expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("an executable script");
    path
}

fn upgrade(env: &TestEnvironment, to: &Path) -> Background {
    let arguments = ["daemon", "upgrade", "--to", to.to_str().expect("a path")];
    env.start(&mut env.command(env.root(), &arguments), &arguments)
}

fn status(env: &TestEnvironment) -> serde_json::Value {
    env.envctl(&["daemon", "status", "--json"]).ok().json()
}

fn program(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).expect("its program")
}

fn lines(project: &Project<'_>, unit: &str) -> Vec<String> {
    let output = project.envctl(&["logs", unit, "--raw"]).ok();
    output.stdout.lines().map(str::to_owned).collect()
}

/// Every line of a writer once and in order.
fn assert_whole(project: &Project<'_>, unit: &str) {
    let last = format!("line {LINES}");
    until(STATE_DEADLINE, "the last line", || {
        let seen = lines(project, unit).last().cloned();
        if seen.as_deref() == Some(&last) { Ok(()) } else { Err(seen) }
    });
    let expected: Vec<String> = (1..=LINES).map(|n| format!("line {n}")).collect();
    assert_eq!(lines(project, unit), expected, "{unit}");
}

fn writers() -> String {
    let writer = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done; exec sleep 1000");
    (1..=3).map(|n| format!("[services.w{n}]\nsh = \"{writer}\"\n")).collect()
}

#[test]
fn units_that_end_with_the_daemon_do_not_end_with_its_replacement() {
    let env = TestEnvironment::new();
    let project = env.project("on_daemon_death = \"stop\"\n[services.api]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let api = project.pid("api");
    upgrade(&env, &copy(&env, "new-envctl")).wait(STATE_DEADLINE).ok();
    assert_eq!((project.pid("api"), project.state("api").as_str()), (api, "running"));
    let dies = wrapper(&env, "dies", "[ \"$1\" = daemon-serve ] && [ \"$2\" != --check-handover ] && exit 3");
    upgrade(&env, &dies).wait(STATE_DEADLINE).exits(1);
    assert_eq!((project.pid("api"), project.state("api").as_str()), (api, "running"));
    proc::kill_hard(env.daemon_pid());
    project.until_state("api", "stopped");
    assert!(!proc::alive(api), "a death is a death");
}

#[test]
fn b14_pids_lines_restarts_and_followers_survive_an_upgrade() {
    let env = TestEnvironment::new();
    let toml = format!("{}[services.quiet]\nsh = \"exec sleep 1000\"\n", writers());
    let project = env.project(&toml);
    project.envctl(UP_WAIT).ok();
    proc::kill_hard(project.pid("quiet"));
    let quiet = project.until("quiet", "back", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
    let mut logs = project.start(&["logs", "-f", "w1", "--raw"]);
    let mut events = project.start(&["events", "-f", "--json"]);
    let waiting = project.start(&["wait", "quiet", "--for", "stopped"]);
    let (daemon, new) = (env.daemon_pid(), copy(&env, "new-envctl"));
    let pids = ["w1", "w2", "w3", "quiet"].map(|unit| project.pid(unit));

    for _ in 0..2 {
        upgrade(&env, &new).wait(STATE_DEADLINE).ok().complains(&["upgraded from", "units run on"]);
    }

    let after = status(&env);
    assert_eq!(after["pid"], daemon, "the same process: {after:#}");
    assert_eq!(program(daemon), new, "another program");
    assert_eq!(after["program"], json!(new), "{after:#}");
    assert_eq!((&after["upgrade"]["outcome"], &after["upgrade"]["program"]), (&json!("done"), &json!(new)));
    assert!(after["heart_version"].is_string(), "{after:#}");
    assert_eq!(["w1", "w2", "w3", "quiet"].map(|unit| project.pid(unit)), pids);
    let unit = project.unit("quiet");
    assert_eq!((&unit["restarts"], &unit["incarnation"]), (&quiet["restarts"], &json!(2)), "{unit:#}");
    ["w1", "w2", "w3"].iter().for_each(|unit| assert_whole(&project, unit));

    logs.until_says(&format!("line {LINES}\n"), STATE_DEADLINE);
    let seen: Vec<String> = logs.said().lines().map(str::to_owned).collect();
    assert_eq!(seen, lines(&project, "w1"), "the follower missed or doubled lines");
    project.envctl(&["stop", "quiet"]).ok();
    waiting.wait(STATE_DEADLINE).ok();
    events.until_says("\"unit.stopped\"", STATE_DEADLINE);
    let numbers: Vec<u64> = events
        .said()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["seq"].as_u64())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "events were missed or doubled");
    let upgrades = project.events().iter().filter(|event| event["event"] == "daemon.upgraded").count();
    assert_eq!(upgrades, 2);
    drop((logs, events));
}

#[test]
fn b14_the_new_build_comes_back_after_the_daemon_is_killed_also_when_its_file_is_gone() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let (pid, new) = (project.pid("a"), copy(&env, "new-envctl"));
    upgrade(&env, &new).wait(STATE_DEADLINE).ok();
    std::fs::remove_file(&new).expect("the copy");
    let daemon = env.daemon_pid();
    proc::kill_hard(daemon);
    let next = until(STATE_DEADLINE, "the next daemon", || {
        let next = env.envctl(&["daemon", "status", "--json"]);
        let pid = if next.code == Some(0) { next.json()["pid"].as_u64() } else { None };
        pid.filter(|pid| *pid != u64::from(daemon)).ok_or(next)
    });
    let program = program(u32::try_from(next).expect("a pid"));
    assert_eq!(program.to_string_lossy(), format!("{} (deleted)", new.display()));
    assert_eq!(project.pid("a"), pid);
    assert_eq!(status(&env)["upgrade"]["outcome"], "done");
}

#[test]
fn b14_a_service_that_ends_during_the_upgrade_has_its_true_exit_and_is_restarted_once() {
    let env = TestEnvironment::new();
    let service = |name: &str, code: u32, restart: &str| {
        format!(
            "[services.{name}]\nsh = \"read go < {name}.go; echo last words; exit {code}\"\nrestart = \"{restart}\"\n"
        )
    };
    let project = env.project(&format!("{}{}", service("ends", 42, "temporary"), service("again", 7, "permanent")));
    project.shell("mkfifo ends.go again.go").ok();
    project.envctl(UP_WAIT).ok();
    // It says so when the old daemon has let go of everything: that is when the services end.
    let release = format!("echo > {0}/ends.go; echo > {0}/again.go", project.dir().display());
    let new = wrapper(&env, "slow-envctl", &format!("[ \"$2\" = --check-handover ] || {{ {release}; }}"));
    upgrade(&env, &new).wait(STATE_DEADLINE).ok();
    let ends = project.until_state("ends", "failed");
    assert_eq!(ends["exit"], json!({ "code": 42 }), "{ends:#}");
    assert_eq!(lines(&project, "ends"), ["last words"]);
    let again = project.until("again", "in its next life", |unit| unit["incarnation"] == 2);
    assert_eq!((&again["restarts"], &again["exit"]), (&json!(1), &json!({ "code": 7 })), "{again:#}");
    let exits = project.events_of("again").iter().filter(|event| event["event"] == "unit.exited").count();
    assert_eq!(exits, 1, "it was told twice");
}

#[test]
fn b14_every_life_of_services_that_keep_ending_ends_once_over_many_upgrades() {
    let env = TestEnvironment::new();
    let service = |n| format!("[services.c{n}]\nsh = \"sleep 0.0{n}; exit 7\"\nbackoff = \"none\"\n");
    let services: String = (3..=6).map(service).collect();
    let project = env.project(&format!("{services}[supervision]\nintensity = 100000\nperiod = \"1s\"\n"));
    project.envctl(&["up", "-d"]).ok();
    let new = copy(&env, "new-envctl");
    for round in 1..=5 {
        project.until("c3", "some lives more", |unit| unit["incarnation"].as_u64() >= Some(round * 3));
        upgrade(&env, &new).wait(STATE_DEADLINE).ok();
    }
    project.down();
    let lives = |kind: &str| {
        let mut lives: Vec<(String, u64)> = Vec::new();
        for event in project.events().iter().filter(|event| event["event"] == kind) {
            lives.push((event["unit"].to_string(), event["incarnation"].as_u64().expect("a life")));
        }
        lives.sort_unstable();
        lives
    };
    let (started, exited) = (lives("unit.started"), lives("unit.exited"));
    assert!(started.len() > 20, "they hardly ran: {}", started.len());
    assert_eq!(started, exited, "an end was lost, or told twice");
    let mut once = exited.clone();
    once.dedup();
    assert_eq!(once, exited, "a life ended twice");
}

#[test]
fn b14_a_foreground_up_goes_on_over_an_upgrade_and_still_stops_what_it_started() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done\"\n");
    let mut up = project.start(&["up"]);
    up.until_says("line 3\n", STATE_DEADLINE);
    let pid = project.pid("a");
    upgrade(&env, &copy(&env, "new-envctl")).wait(STATE_DEADLINE).ok();
    let next = lines(&project, "a").len() + 3;
    up.until_says(&format!("line {next}\n"), STATE_DEADLINE);
    let said = up.said();
    let seen: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("a | ")).collect();
    let expected: Vec<String> = (1..=seen.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(seen, expected);
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.wait(STATE_DEADLINE).exits(2);
    assert!(!proc::alive(pid));
}

#[test]
fn b14_nobody_is_refused_during_an_upgrade() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let new = copy(&env, "new-envctl");
    let (over, socket) = (Arc::new(AtomicBool::new(false)), env.socket());
    let stop = Arc::clone(&over);
    // A fresh connection per look. None may find the socket closed, and each is greeted: by the old daemon to its last
    // moment, by the new one after a wait. (Only on a machine that stands still does the old one give up on one.)
    let knocking = std::thread::spawn(move || {
        let mut cut = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut raw = Raw::connect(&socket);
            let _ = raw.send(&frame(0, "hello", &hello(1, 1)));
            cut += u32::from(!matches!(raw.answer(), Answer::Frame(_)));
        }
        cut
    });
    let ask = "while ! [ -e stop ]; do $E ps --json > ps.json || exit 9; grep -q '\"running\"' ps.json || exit 8; done";
    let mut shell = env.tool("/bin/sh", project.dir());
    let asking = env.start(shell.args(["-c", ask]).env("E", ENVCTL), &["ps", "again and again"]);
    let upgrades = 3;
    for _ in 0..upgrades {
        upgrade(&env, &new).wait(STATE_DEADLINE).ok();
    }
    project.write("stop", "");
    asking.wait(STATE_DEADLINE).ok();
    over.store(true, Ordering::Relaxed);
    let cut = knocking.join().expect("nobody is refused");
    assert!(cut < upgrades, "{cut} clients were not greeted");
}

#[test]
fn b14_a_project_on_its_way_down_is_not_upgraded_away_from_whoever_waits() {
    let env = TestEnvironment::new();
    let project = env.project("[services.slow]\ncmd = [\"FX\", \"slow-term\", \"1000\"]\nready = { log = \".\" }\n");
    project.envctl(UP_WAIT).ok();
    let down = project.start(&["down"]);
    until(STATE_DEADLINE, "the stop to begin", || {
        let ps = project.envctl(&["ps", "--json"]).ok();
        if ps.stdout.contains("\"stopping\"") { Ok(()) } else { Err(ps) }
    });
    upgrade(&env, &copy(&env, "new")).wait(STATE_DEADLINE).exits(1).complains(&["on its way down", "hint:"]);
    down.wait(STATE_DEADLINE).ok();
}

#[test]
fn b14_without_a_daemon_there_is_nothing_to_upgrade() {
    let env = TestEnvironment::new();
    let output = env.envctl(&["daemon", "upgrade"]).ok();
    output.complains(&["no daemon runs"]);
    assert_eq!(env.envctl(&["daemon", "upgrade", "--json"]).ok().json()["was_running"], false);
    assert!(env.sockets().is_empty(), "one was started");
}

#[test]
fn b14_a_daemon_whose_file_was_replaced_is_noticed_once_and_not_in_json() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    let own = copy(&env, "own-envctl");
    let run = |line: &str| project.shell(&line.replace("OWN", own.to_str().expect("a path"))).ok();
    run("OWN up -d --wait").complains(&["is up"]);
    assert!(!run("OWN ps").stderr.contains("upgrade"));
    std::fs::remove_file(&own).expect("the copy");
    copy(&env, "own-envctl");
    let ps = run("OWN ps");
    assert_eq!(ps.stderr.matches("daemon upgrade").count(), 1, "{ps}");
    assert_eq!(run("OWN ps --json").stderr, "");
    run("OWN daemon upgrade").complains(&["upgraded"]);
    assert_eq!(program(env.daemon_pid()), own);
    assert!(!run("OWN ps").stderr.contains("upgrade"));
}
