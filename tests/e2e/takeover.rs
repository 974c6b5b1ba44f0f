//! The daemon dies: the next one takes over what runs, knows what had come to rest, and forgets nobody.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// Kills the daemon and waits until heart has another one.
fn kill_daemon(env: &TestEnvironment) {
    let before = env.daemon_pid();
    proc::kill_hard(before);
    until(STATE_DEADLINE, "another daemon", || {
        let output = env.envctl(&["daemon", "status", "--json"]);
        let pid = if output.code == Some(0) { output.json()["pid"].as_u64() } else { None };
        pid.filter(|pid| *pid != u64::from(before)).ok_or(pid)
    });
}

fn lines(project: &Project<'_>, unit: &str) -> Vec<String> {
    let output = project.envctl(&["logs", unit, "--raw"]).ok();
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn b01_units_live_on_with_their_pids_and_no_line_is_lost_or_doubled() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.writer]
        sh = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; echo written > done; exec sleep 1000"
        [services.quiet]
        sh = "exec sleep 1000"
        [tasks.once]
        sh = "echo ran >> once"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.until_state("once", "done");
    let before = [project.pid("writer"), project.pid("quiet")];
    for _ in 0..3 {
        kill_daemon(&env);
    }
    assert_eq!([project.pid("writer"), project.pid("quiet")], before);
    assert_eq!(project.unit("quiet")["adopted"], true);
    assert_eq!(project.state("once"), "done");
    assert_eq!(project.read("once"), "ran\n", "a finished task ran again");
    until(STATE_DEADLINE, "the last line", || {
        let last = lines(&project, "writer").last().cloned();
        if last.as_deref() == Some("line 20000") { Ok(()) } else { Err(last) }
    });
    let expected: Vec<String> = (1..=20000).map(|n| format!("line {n}")).collect();
    assert_eq!(lines(&project, "writer"), expected);
}

#[test]
fn b04_a_service_that_ends_while_no_daemon_lives_has_its_true_exit_and_its_last_words() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.ends]\nsh = \"read go < go; echo last words; exit 42\"\nrestart = \"temporary\"\n\
         [services.stays]\nsh = \"exec sleep 1000\"\n",
    );
    project.shell("mkfifo go").ok();
    project.envctl(UP_WAIT).ok();
    let (daemon, ends) = (env.daemon_pid(), project.pid("ends"));
    // Stopped, it takes no notice; killed while stopped, it never will.
    proc::signal(daemon, nix::sys::signal::Signal::SIGSTOP);
    project.shell("echo > go").ok();
    until(STATE_DEADLINE, "its end", || if proc::alive(ends) { Err(ends) } else { Ok(()) });
    proc::kill_hard(daemon);
    let unit = project.until_state("ends", "failed");
    assert_eq!(unit["exit"], json!({ "code": 42 }), "{unit:#}");
    assert_eq!(lines(&project, "ends"), ["last words"]);
}

#[test]
fn what_had_failed_stays_failed() {
    let env = TestEnvironment::new();
    let project =
        env.project("[tasks.fails]\nsh = \"echo ran >> ran; exit 3\"\n[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(&["up", "-d"]).ok();
    project.until_state("fails", "failed");
    project.until_state("a", "running");
    kill_daemon(&env);
    assert_eq!(project.state("fails"), "failed");
    assert_eq!(project.read("ran"), "ran\n", "it ran again unasked");
}

#[test]
fn a_configuration_that_broke_meanwhile_hides_nothing() {
    let env = TestEnvironment::new();
    let toml = "[services.a]\nsh = \"exec sleep 1000\"\n";
    let project = env.project(toml);
    project.envctl(UP_WAIT).ok();
    let pid = project.pid("a");
    project.write("envctl.toml", "x = [");
    kill_daemon(&env);
    project.envctl(&["ps"]).exits(1).complains(&["earlier daemon", "envctl.toml:1:", "hint:"]);
    project.envctl(&["down"]).exits(1).complains(&["earlier daemon"]);
    project.write("envctl.toml", toml);
    assert_eq!(project.pid("a"), pid, "another instance");
    project.down();
    assert!(!proc::alive(pid));
}

#[test]
fn a_requirement_that_cannot_be_prepared_any_more_can_still_be_stopped() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.redis]\n");
    project.up();
    let pid = project.pid("redis");
    project.write("envctl.toml", "[requirements.redis]\nversion = \"1.0\"\n");
    kill_daemon(&env);
    assert_eq!(project.pid("redis"), pid);
    project.down();
    assert!(!proc::alive(pid));
}

#[test]
fn exec_probes_of_one_unit_do_not_disturb_each_other_and_leave_no_zombie() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        sh = "exec sleep 1000"
        ready = { exec = ["sleep", "0.3"] }
        alive = { exec = ["true"], every = "50ms", failures = 1 }
    "#,
    );
    project.envctl(UP_WAIT).ok();
    for _ in 0..3 {
        project.envctl(&["restart", "a"]).ok();
    }
    project.envctl(&["wait", "a", "--timeout", "20s"]).ok();
    assert_eq!(project.unit("a")["restarts"], 0, "a probe got into the way of another");
    project.down();
    let heart = env.envctl(&["daemon", "status", "--json"]).ok().json()["heart_pid"].to_string();
    until(STATE_DEADLINE, "heart to hold nothing but the daemon", || {
        let children = std::fs::read_to_string(format!("/proc/{heart}/task/{heart}/children")).unwrap_or_default();
        if children.split_whitespace().count() == 1 { Ok(()) } else { Err(children) }
    });
}

#[test]
fn the_deadline_of_one_down_does_not_cut_another_short() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.slow]\ncmd = [\"FX\", \"slow-term\", \"1500\"]\nstop = { grace = \"20s\" }\nready = { log = \".\" }\n",
    );
    project.envctl(UP_WAIT).ok();
    project.envctl(&["down", "--timeout", "2s"]).ok();
    project.envctl(UP_WAIT).ok();
    let down = project.envctl(&["down"]).ok();
    assert!(down.took >= Duration::from_millis(1400), "killed after {:?}", down.took);
    let killed = project.events_of("slow").iter().filter(|event| event["event"] == "unit.killed").count();
    assert_eq!(killed, 0);
}

#[test]
fn an_environment_that_is_taken_over_by_a_shell_does_not_make_it_part_of_the_unit() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.up();
    let environment = project.envctl(&["env", "a", "--reveal"]).ok();
    assert!(!environment.stdout.contains("ENVCTL_RT_VARS"), "{environment}");
}

#[test]
fn the_same_ports_are_tried_first_by_the_next_run_also_of_another_daemon() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"listen\", \"${a.port}\"]\nport = 18500\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:18500");
    project.up();
    let port = project.port("a");
    drop(taken);
    project.down();
    env.envctl(&["daemon", "stop"]).ok();
    project.up();
    assert_eq!(project.port("a"), port, "its URL changed without need");
}

#[test]
fn a_stop_that_was_under_way_goes_on() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.slow]\ncmd = [\"FX\", \"slow-term\", \"1200\"]\nstop = { grace = \"20s\" }\nready = { log = \".\" }\n\
         [services.other]\nsh = \"exec sleep 1000\"\n",
    );
    project.envctl(UP_WAIT).ok();
    project.envctl(&["stop", "slow"]).ok();
    kill_daemon(&env);
    let unit = project.until_state("slow", "stopped");
    assert_eq!((&unit["desired"], &unit["incarnation"]), (&json!("down"), &json!(1)), "{unit:#}");
    assert_eq!(project.state("other"), "running");
}

#[test]
fn what_cannot_be_taken_over_is_ended_with_the_daemon() {
    let env = TestEnvironment::new();
    let toml = "[services.a]\nsh = \"exec sleep 1000\"\n";
    let project = env.project(toml);
    project.envctl(UP_WAIT).ok();
    let pid = project.pid("a");
    project.write("envctl.toml", "x = [");
    kill_daemon(&env);
    env.envctl(&["daemon", "stop"]).ok();
    until(STATE_DEADLINE, "its end", || if proc::alive(pid) { Err(pid) } else { Ok(()) });
    project.write("envctl.toml", toml);
    assert_eq!(project.state("a"), "stopped", "the next daemon began the run anew");
}
