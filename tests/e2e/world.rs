//! Ends of the world: of the daemon, of its directory, of its patience.

mod daemon;

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Project, Stopwatch, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// Kills the daemon and waits until heart has another one.
fn kill_daemon(env: &TestEnvironment) {
    let before = env.daemon_pid();
    proc::kill_hard(before);
    until_other_daemon(env, before);
}

fn until_other_daemon(env: &TestEnvironment, before: u32) {
    until(STATE_DEADLINE, "another daemon", || {
        let output = env.envctl(&["daemon", "status", "--json"]);
        let pid = if output.code == Some(0) { output.json()["pid"].as_u64() } else { None };
        pid.filter(|pid| *pid != u64::from(before)).ok_or(pid)
    });
}

fn until_gone(pids: &[u32], within: Duration) {
    until(within, "their end", || {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| proc::alive(*pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn heart_pid(env: &TestEnvironment) -> u32 {
    let status = env.envctl(&["daemon", "status", "--json"]).ok().json();
    u32::try_from(status["heart_pid"].as_u64().expect("a heart")).expect("a pid")
}

/// Waits until `count` processes live in the project's directory.
fn family(project: &Project<'_>, count: usize) -> Vec<u32> {
    until(STATE_DEADLINE, "its processes", || {
        let found: Vec<u32> = proc::tied_to(project.dir()).iter().map(|process| process.pid).collect();
        if found.len() >= count { Ok(found) } else { Err(found) }
    })
}

#[test]
fn b02_units_end_at_once_with_the_daemon_where_that_is_asked_for() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        on_daemon_death = "stop"
        [services.orderly]
        cmd = ["FX", "record", "order", "orderly", "100"]
        ready = { exec = "true" }
        stop = { signal = "INT" }
        [services.deaf]
        cmd = ["FX", "clan"]
        ready = { log = "up" }
        stop = { grace = "700ms" }
        [tasks.once]
        sh = "echo ran >> ran"
    "#,
    );
    project.up();
    let before = family(&project, 7);
    let daemon = env.daemon_pid();
    proc::kill_hard(daemon);
    until_gone(&before, Duration::from_secs(4));
    until_other_daemon(&env, daemon);
    for unit in ["orderly", "deaf"] {
        let unit = project.until(unit, "stopped", |unit| unit["state"] == "stopped" && unit["pid"].is_null());
        assert_eq!((&unit["desired"], &unit["incarnation"]), (&"down".into(), &1.into()), "{unit:#}");
    }
    until(STATE_DEADLINE, "the end of the run", || {
        let state = project.ps()["state"].clone();
        if state == "down" { Ok(()) } else { Err(state) }
    });
    assert_eq!(project.read("order"), "start orderly\nstop orderly\n", "asked more than once, or never");
    let why = project.envctl(&["why", "orderly"]).ok();
    assert!(why.stdout.contains("because the daemon died") && why.stdout.contains("on_daemon_death"), "{why}");
    project.up();
    assert_eq!(project.read("ran"), "ran\nran\n");
    project.down();
}

#[test]
fn b02_units_end_also_when_no_daemon_comes_back() {
    let env = TestEnvironment::new();
    let project = env.project(
        "on_daemon_death = \"stop\"\n[services.a]\ncmd = [\"FX\", \"clan\"]\nready = { log = \"up\" }\nstop = { grace = \"500ms\" }\n",
    );
    project.up();
    let (before, heart, daemon) = (family(&project, 6), heart_pid(&env), env.daemon_pid());
    // Stopped, heart sees nothing; killed together, nobody is left but what was told before.
    proc::signal(heart, Signal::SIGSTOP);
    proc::kill_hard(daemon);
    proc::signal(heart, Signal::SIGCONT);
    // Each daemon that heart brings back is killed as soon as it is there, until heart gives up.
    until(STATE_DEADLINE, "heart to give up", || {
        let path = format!("/proc/{heart}/task/{heart}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
        let is_daemon = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(12).any(|w| w == b"daemon-serve"))
        };
        pids.filter(is_daemon).for_each(|pid| proc::signal(pid, Signal::SIGKILL));
        if proc::alive(heart) { Err(children) } else { Ok(()) }
    });
    until_gone(&before, Duration::from_secs(1));
    // The next daemon may still see a zombie that nobody has reaped: it takes it over, and its end with it.
    project.until_state("a", "stopped");
}

#[test]
fn b02_units_are_kept_unless_something_else_is_said() {
    let env = TestEnvironment::new();
    let project = env.project("on_daemon_death = \"keep\"\n[services.a]\nsh = \"exec sleep 1000\"\n");
    project.up();
    let pid = project.pid("a");
    kill_daemon(&env);
    assert_eq!(project.pid("a"), pid);
}

#[test]
fn b13_a_wiped_runtime_directory_is_made_anew_and_nothing_is_lost() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.writer]
        sh = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
        [services.other]
        sh = "exec sleep 1000"
    "#,
    );
    project.up();
    let (writer, daemon) = (project.pid("writer"), env.daemon_pid());
    std::fs::remove_dir_all(env.root().join("run/envctl")).expect("wiped");
    until(Duration::from_secs(5), "the socket", || if env.socket().exists() { Ok(()) } else { Err(()) });
    assert_eq!(env.daemon_pid(), daemon, "a second daemon");
    assert_eq!(project.pid("writer"), writer);
    // A new life gets new FIFOs, and its output is kept.
    project.envctl(&["restart", "writer"]).ok();
    project.until("writer", "restarted", |unit| unit["incarnation"] == 2 && unit["pid"].is_u64());
    until(STATE_DEADLINE, "lines of the new life", || {
        let lines = project.envctl(&["logs", "writer", "--raw"]).ok().stdout;
        if lines.matches("line 1\n").count() == 2 { Ok(()) } else { Err(lines) }
    });
    // What the next daemon must know was written down again.
    let other = project.pid("other");
    kill_daemon(&env);
    assert_eq!(project.pid("other"), other);
    project.down();
    assert!(!proc::alive(other));
}

#[test]
fn b16_a_daemon_that_stood_still_takes_no_unit_for_dead_and_tells_all_in_order() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.probed]
        cmd = ["FX", "http", "${probed.port}", "ok"]
        port = 18760
        ready = "/"
        alive = { http = "/", every = "100ms", timeout = "500ms", failures = 2 }
        [services.waits]
        sh = "exec sleep 1000"
        restart = "temporary"
    "#,
    );
    project.up();
    let (daemon, probed, waits) = (env.daemon_pid(), project.pid("probed"), project.pid("waits"));
    proc::signal(daemon, Signal::SIGSTOP);
    proc::kill_hard(waits);
    let clock = Stopwatch::start();
    until(STATE_DEADLINE, "some time", || if clock.elapsed() > Duration::from_secs(4) { Ok(()) } else { Err(()) });
    proc::signal(daemon, Signal::SIGCONT);
    let unit = project.until_state("waits", "failed");
    assert_eq!(unit["exit"]["signal"], 9, "{unit:#}");
    // Long enough for two rounds of the probe to be judged.
    let resumed = Stopwatch::start();
    until(
        STATE_DEADLINE,
        "two rounds",
        || {
            if resumed.elapsed() > Duration::from_millis(1500) { Ok(()) } else { Err(()) }
        },
    );
    let unit = project.unit("probed");
    assert_eq!((&unit["state"], &unit["restarts"]), (&"ready".into(), &0.into()), "{unit:#}");
    assert_eq!(project.pid("probed"), probed);
    let numbers: Vec<u64> = project.events().iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.len() > 5 && numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn h11_everybody_who_waits_gets_an_answer_when_the_daemon_stops() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.deaf]
        cmd = ["FX", "ignore-term"]
        ready = { log = "up" }
        stop = { grace = "3s" }
        [services.never]
        cmd = ["FX", "run"]
        ready = { log = "never", within = "10m" }
    "#,
    );
    let up: &[&str] = &["up", "-d", "--wait", "--wait-timeout", "5m"];
    let mut waiting = vec![(project.start(up), up)];
    project.until_state("deaf", "ready");
    project.until_state("never", "running");
    let others: [&[&str]; 4] = [&["wait", "never"], &["events", "-f"], &["logs", "-f"], &["down"]];
    waiting.extend(others.map(|arguments| (project.start(arguments), arguments)));
    project.until_state("deaf", "stopping");
    let stop = env.envctl(&["daemon", "stop"]).ok();
    assert!(stop.took < Duration::from_secs(10), "{:?}", stop.took);
    for (waiting, arguments) in waiting {
        let output = waiting.wait(Duration::from_secs(10));
        assert!(output.signal.is_none() && output.code.is_some(), "{arguments:?}: {output}");
    }
}

#[test]
fn h12_a_shutdown_is_not_taken_back_and_a_second_term_shortens_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.deaf]\ncmd = [\"FX\", \"ignore-term\"]\nready = { log = \"up\" }\nstop = { grace = \"60s\" }\n",
    );
    project.envctl(UP_WAIT).ok();
    let (daemon, deaf) = (env.daemon_pid(), project.pid("deaf"));
    proc::signal(daemon, Signal::SIGTERM);
    project.until_state("deaf", "stopping");
    proc::signal(daemon, Signal::SIGHUP);
    // What comes at once is an echo: a service manager signals heart and daemon, and heart passes its own on.
    proc::signal(daemon, Signal::SIGTERM);
    let clock = Stopwatch::start();
    until(STATE_DEADLINE, "more than an echo", || {
        if clock.elapsed() > Duration::from_millis(700) { Ok(()) } else { Err(()) }
    });
    assert_eq!((project.state("deaf"), env.daemon_pid()), ("stopping".to_owned(), daemon));
    assert!(proc::alive(deaf));
    proc::signal(daemon, Signal::SIGTERM);
    until_gone(&[deaf, daemon], Duration::from_secs(5));
    assert!(env.sockets().is_empty());
}

#[test]
fn a_hang_up_does_not_end_the_daemon() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.up();
    let daemon = env.daemon_pid();
    for (at, pid) in [heart_pid(&env), daemon].into_iter().enumerate() {
        proc::signal(pid, Signal::SIGHUP);
        until(STATE_DEADLINE, "the word in its log", || {
            let log = env.daemon_log();
            if log.matches("a hang-up changes nothing").count() > at { Ok(()) } else { Err(log) }
        });
    }
    assert_eq!(env.daemon_pid(), daemon);
}

#[test]
fn b11_an_up_that_is_process_1_collects_orphans_forwards_signals_and_leaves_in_order() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let env = TestEnvironment::new();
        let project = env.project(
            r#"
            [services.a]
            cmd = ["FX", "record", "order", "a", "100"]
            ready = { exec = "true" }
            [services.parent]
            cmd = ["FX", "orphans", "50"]
            ready = { log = "left" }
        "#,
        );
        let mut unshare = env.tool("unshare", project.dir());
        unshare.args(["-pf", "--kill-child", "--mount-proc", crate::harness::ENVCTL, "up"]);
        let mut up = env.start(&mut unshare, &["up as process 1"]);
        up.until_says("left", Duration::from_secs(20));
        project.until_lines("order", 1);
        let init = init_of(&project);
        let zombies = || {
            let all = descendants(init);
            all.into_iter().filter(|pid| !proc::alive(*pid)).collect::<Vec<_>>()
        };
        until(Duration::from_secs(2), "no zombies", || if zombies().is_empty() { Ok(()) } else { Err(zombies()) });
        proc::signal(init, signal);
        let output = up.wait(STATE_DEADLINE);
        assert_eq!(output.code, Some(code), "{signal}: {output}");
        assert_eq!(project.read("order"), "start a\nstop a\n", "{signal}: {output}");
        assert!(env.sockets().is_empty(), "{signal}: the daemon was not ended in order");
    }
}

/// Process 1 of the namespace that the `up` of this project is in, by its number outside.
fn init_of(project: &Project<'_>) -> u32 {
    let mut found = proc::tied_to(project.dir()).into_iter();
    let up = found.find(|process| process.command == format!("{} up", crate::harness::ENVCTL));
    up.expect("the `up` in the namespace").pid
}

fn descendants(of: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.flat_map(|pid: u32| [vec![pid], descendants(pid)].concat()).collect()
}
