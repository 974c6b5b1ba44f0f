//! A daemon that dies again and again, and one that is given more than it can keep.

use super::*;
use crate::harness::{Background, cannot_run};

/// Most memory of its own that the daemon may ever use, in KiB: bounded queues, whatever comes in.
const DAEMON_MAX_KIB: u64 = 64 * 1024;
/// How much of it may be added while a flood goes on. An allocator that has seen one wave has room for the next.
const FLOOD_MAX_KIB: u64 = 8 * 1024;

/// Memory that is nobody else's, in KiB: without the pages of files, which the kernel may take back.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).expect("RssAnon is told since Linux 4.5")
}

/// Kills every daemon that heart brings back, until heart gives up.
fn exhaust(heart: u32) -> usize {
    let mut killed = 0;
    until(STATE_DEADLINE, "heart to give up", || {
        for daemon in proc::children(heart) {
            if proc::command_of(daemon).contains(" daemon-serve ") {
                proc::kill_hard(daemon);
                killed += 1;
            }
        }
        if proc::alive(heart) { Err(killed) } else { Ok(()) }
    });
    killed
}

#[test]
fn b07_a_daemon_that_dies_too_often_is_given_up_and_its_units_wait_for_the_next_command() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.steady]\nsh = \"echo start >> starts; exec sleep 1000\"\n\
         [services.brief]\nsh = \"exec sleep 1000\"\n[tasks.once]\nsh = \"echo ran >> ran\"\n",
    );
    project.up();
    let (heart, steady, brief) = (heart_pid(&env), project.pid("steady"), project.pid("brief"));
    let killed = exhaust(heart);
    assert!((5..=7).contains(&killed), "heart started {killed} daemons");
    assert!(proc::alive(steady), "units pay for their daemon");
    let said = project.envctl(&["daemon", "status"]);
    said.complains(&["no daemon runs"]);
    let log = project.envctl(&["daemon", "logs"]).ok();
    log.says(&["the daemon died too often; units are left as they are"]);
    // Nobody brings anything back now: that is what a bounded intensity means.
    proc::kill_hard(brief);
    assert!(!proc::alive(heart) && env.processes().iter().all(|process| !process.command.contains(" daemon-serve ")));
    // The next command does, with a fresh intensity, and says what happened.
    assert_eq!(project.pid("steady"), steady);
    project.until("brief", "another life", |unit| unit["state"] == "running" && unit["restarts"] == 1);
    assert_eq!((project.read("starts").as_str(), project.read("ran").as_str()), ("start\n", "ran\n"));
    let lost = project.events().into_iter().find(|event| event["event"] == "heart.lost").expect("it is told");
    assert!(lost["hint"].as_str().is_some_and(|hint| hint.contains("envctl daemon logs")), "{lost:#}");
    kill_daemon(&env);
    assert_eq!(project.pid("steady"), steady);
}

#[test]
fn b08_floods_and_readers_that_do_not_read_do_not_make_the_daemon_grow() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        logs = { max_bytes = "4MiB", segment_bytes = "1MiB" }
        [services.a]
        cmd = ["FX", "spew", "0", "1000000000"]
        [services.b]
        cmd = ["FX", "spew", "0", "1000000000"]
        [services.long]
        sh = "while :; do $F bigline 10000000; done"
        env = { F = "FX" }
        [services.quick]
        cmd = ["FX", "exit", "1", "20"]
        backoff = "none"
        [groups.g]
        members = ["quick"]
        intensity = 100000
        period = "1s"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    ["a", "b", "long"].iter().for_each(|unit| drop(project.until_state(unit, "running")));
    let daemon = env.daemon_pid();
    let follow: [&[&str]; 3] = [&["logs", "-f"], &["logs", "-f", "--raw", "a"], &["events", "-f", "--json"]];
    let followers: Vec<Background> = follow.into_iter().map(|arguments| project.start(arguments)).collect();
    let settled = watch_memory(daemon, Duration::from_secs(2));
    followers.iter().for_each(|follower| follower.signal(Signal::SIGSTOP));
    let flooded = watch_memory(daemon, Duration::from_secs(6));
    assert!(flooded < DAEMON_MAX_KIB, "{flooded} KiB");
    assert!(flooded < settled + FLOOD_MAX_KIB, "{settled} KiB at first, {flooded} KiB later");
    let asked = project.envctl(&["ps"]).ok();
    assert!(asked.took < Duration::from_secs(2), "{:?}", asked.took);
    let lives = project.unit("quick")["incarnation"].as_u64().unwrap_or_default();
    assert!(lives > 50, "only {lives} lives: this was no load");
    for follower in followers {
        follower.signal(Signal::SIGKILL);
        follower.wait(STATE_DEADLINE);
    }
}

/// The most memory seen within this time.
fn watch_memory(pid: u32, time: Duration) -> u64 {
    let clock = Stopwatch::start();
    let mut most = 0;
    until(time * 3, "the end of the watch", || {
        most = most.max(anonymous_kib(pid));
        if clock.elapsed() > time { Ok(()) } else { Err(()) }
    });
    most
}

/// A cgroup of version 1 with a limit of memory; what is in it is killed by the kernel when it wants more.
#[test]
fn b08_a_daemon_in_a_cgroup_of_64_mib_survives_a_flood() {
    let root = std::path::PathBuf::from("/sys/fs/cgroup/memory");
    let env = TestEnvironment::new();
    let cgroup = root.join(format!("envctl-test-{}", std::process::id()));
    if std::fs::create_dir(&cgroup).is_err() || !cgroup.join("memory.limit_in_bytes").exists() {
        let _ = std::fs::remove_dir(&cgroup);
        return cannot_run("b08, a daemon in a cgroup", "no memory cgroup of version 1 can be made here");
    }
    let put = |file: &str, text: &str| std::fs::write(cgroup.join(file), text).expect("a cgroup that can be written");
    put("memory.limit_in_bytes", &(DAEMON_MAX_KIB * 1024).to_string());
    let project = env.project(
        "logs = { max_bytes = \"4MiB\", segment_bytes = \"1MiB\" }\n\
         [services.a]\ncmd = [\"FX\", \"spew\", \"0\", \"1000000000\"]\n\
         [services.b]\ncmd = [\"FX\", \"spew\", \"0\", \"1000000000\"]\n",
    );
    project.envctl(&["daemon", "status"]).ok();
    project.up();
    let daemon = env.daemon_pid();
    put("cgroup.procs", &daemon.to_string());
    let follower = project.start(&["logs", "-f"]);
    follower.signal(Signal::SIGSTOP);
    watch_memory(daemon, Duration::from_secs(3));
    assert_eq!(env.daemon_pid(), daemon, "the kernel killed it");
    follower.signal(Signal::SIGKILL);
    follower.wait(STATE_DEADLINE);
    env.envctl(&["daemon", "stop"]).ok();
    until(STATE_DEADLINE, "an empty cgroup", || std::fs::remove_dir(&cgroup).map_err(|error| error.to_string()));
}
