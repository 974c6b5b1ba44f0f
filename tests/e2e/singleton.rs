//! One daemon per session, whatever happens at the same time.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Background, TestEnvironment, proc};

const ONE: &str = r#"
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
"#;

/// Longest that a command may wait for a daemon that does not answer (five seconds, and a slow machine).
const PATIENCE: Duration = Duration::from_secs(10);

/// Simultaneous first commands of D01.
const RACERS: usize = 50;

#[test]
fn d01_fifty_first_ups_at_the_same_instant_end_with_one_daemon_and_fifty_successes() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let racers: Vec<Background> = (0..RACERS).map(|_| project.start(&["up", "-d"])).collect();
    for racer in racers {
        racer.wait(Duration::from_secs(60)).ok();
    }
    let daemon = env.daemon_pid();
    let unit = project.until_state("api", "ready");
    assert_eq!(unit["incarnation"], 1, "it was started once: {unit:#}");
    let others: Vec<_> = env
        .processes()
        .into_iter()
        .filter(|one| one.command.contains("daemon") && one.pid != daemon && !one.command.contains("heart"))
        .collect();
    assert!(others.is_empty(), "more than one daemon: {others:#?}");
}

#[test]
fn d02_the_socket_of_a_dead_daemon_is_cleaned_away() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let daemon = env.daemon_pid();
    let heart = proc::parent(daemon).expect("a parent");
    project.down();
    proc::signal(heart, Signal::SIGKILL);
    proc::kill_hard(daemon);
    assert!(!env.sockets().is_empty() || !proc::alive(daemon), "the stale socket is there");
    project.up();
    assert_ne!(env.daemon_pid(), daemon);
    assert_eq!(project.state("api"), "ready");
}

#[test]
fn d02_a_daemon_that_dies_while_it_is_greeted_is_replaced() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let path = env.socket();
    let dir = path.parent().expect("a directory");
    project.shell(&format!("umask 077; mkdir -p {}", dir.display())).ok();
    let listener = UnixListener::bind(&path).expect("a listener");
    let dying = std::thread::spawn(move || {
        let greeted = listener.accept().expect("a client");
        std::fs::remove_file(path).expect("the socket");
        drop((listener, greeted));
    });
    project.up();
    dying.join().expect("it was greeted");
    assert_eq!(project.state("api"), "ready");
}

#[test]
fn d02_a_foreign_listener_on_the_socket_is_refused_and_not_removed() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let path = env.socket();
    let dir = path.parent().expect("a directory");
    project.shell(&format!("umask 077; mkdir -p {}", dir.display())).ok();
    let listener = UnixListener::bind(&path).expect("a listener");
    let up = project.envctl(&["up", "-d"]).exits(1);
    assert!(up.took < PATIENCE, "{:?}", up.took);
    up.complains(&["error:", "hint:"]);
    assert!(path.exists(), "the foreign socket was removed");
    drop(listener);
    std::fs::remove_file(&path).expect("the test's own socket");
}

#[test]
fn d03_a_hung_daemon_is_named_and_no_second_one_is_started() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let daemon = env.daemon_pid();
    proc::signal(daemon, Signal::SIGSTOP);
    let ps = project.envctl(&["ps"]);
    let up = project.envctl(&["up", "-d"]);
    proc::signal(daemon, Signal::SIGCONT);
    for output in [ps, up] {
        let output = output.exits(1);
        output.complains(&[&daemon.to_string(), "hint:"]);
        assert!(output.took < PATIENCE, "{:?}", output.took);
    }
    assert_eq!(env.daemon_pid(), daemon, "the same daemon goes on");
    assert_eq!(project.state("api"), "ready");
}

#[test]
fn d04_no_unit_holds_the_daemons_lock() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let pid = project.pid("api");
    let dir = env.socket().parent().expect("a directory").to_path_buf();
    let held: BTreeSet<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.starts_with(&dir) && target.to_string_lossy().contains("lock"))
        .collect();
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn d04_a_daemon_that_was_killed_is_replaced_while_its_units_live() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let (unit, daemon) = (project.pid("api"), env.daemon_pid());
    proc::kill_hard(daemon);
    let status = project.until("api", "ready under a new daemon", |unit| unit["state"] == "ready");
    assert_eq!(status["pid"], unit, "the same process: {status:#}");
    assert!(proc::alive(unit));
    assert_ne!(env.daemon_pid(), daemon);
}

#[test]
fn two_sessions_side_by_side_do_not_know_each_other() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let other = project.envctl(&["--session", "other", "ps", "--json"]).ok().json();
    let units: Vec<&serde_json::Value> =
        other["projects"][0]["units"].as_array().map(|units| units.iter().collect()).unwrap_or_default();
    assert!(units.iter().all(|unit| unit["pid"].is_null()), "{other:#}");
}

#[test]
fn an_idle_daemon_of_a_project_that_is_down_can_be_stopped_twice() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let pid = project.pid("api");
    env.envctl(&["daemon", "stop"]).ok();
    assert!(!proc::alive(pid), "daemon stop stops every project first");
    env.envctl(&["daemon", "stop"]).ok();
    let status = env.envctl(&["daemon", "status", "--json"]).without_panic();
    assert!(status.stdout.contains("false") || status.code == Some(1) || status.stdout.contains("null"), "{status}");
}
