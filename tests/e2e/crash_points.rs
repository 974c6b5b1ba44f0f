//! The daemon or heart is killed exactly at each system call that matters of a start and of a stop. Whatever the moment,
//! afterwards there is one instance of what is wanted, none of what is not, and nothing unknown.
//!
//! `strace` kills at the N-th call of a kind, for N from 1 until the operation gets through. Needs root.

use std::time::Duration;

use crate::harness::{Background, Project, Stopwatch, TestEnvironment, cannot_run, is_root, proc, until};

/// Longest wait for one step.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a daemon does for a restart it has done this long after the new process is there.
const RESTART_MAX: Duration = Duration::from_secs(1);
/// No start and no stop of these units makes so many calls of one kind in one thread.
const CALLS_MAX: usize = 40;

/// Units that tell themselves apart: one alone, one with a child.
const UNITS: &str = r#"
    [services.one]
    sh = "exec sleep 1001"
    [services.two]
    sh = "sleep 1002 & exec sleep 1003"
    needs = { one = "started" }
"#;
/// How each process of the units shows in a command line.
const PROCESSES: [&str; 3] = ["sleep 1001", "sleep 1002", "sleep 1003"];

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Heart,
    Daemon,
}

/// Attaches a killer to the victim; its calls count from now on, each thread's for itself.
fn kill_at(env: &TestEnvironment, project: &Project<'_>, victim: Victim, calls: &str, nth: usize) -> Background {
    signal_at(env, project, victim, "KILL", calls, nth)
}

fn signal_at(
    env: &TestEnvironment,
    project: &Project<'_>,
    victim: Victim,
    signal: &str,
    calls: &str,
    nth: usize,
) -> Background {
    let daemon = env.daemon_pid();
    let pid = match victim {
        Victim::Daemon => daemon,
        Victim::Heart => proc::parent(daemon).expect("its parent is heart"),
    };
    let mut strace = env.tool("strace", project.dir());
    let inject = format!("inject={calls}:signal={signal}:when={nth}");
    strace.args(["-f", "-o", "strace", "-e", &format!("trace={calls}"), "-e", &inject, "-p", &pid.to_string()]);
    let mut strace = Background::start(&mut strace, format!("strace of {victim:?}"));
    strace.until_says("attached", DEADLINE);
    strace
}

fn instances(env: &TestEnvironment, text: &str) -> usize {
    env.processes().iter().filter(|process| process.command == text).count()
}

/// One instance of each process, under the pids that `ps` tells; then none.
#[track_caller]
fn check_sane(env: &TestEnvironment, project: &Project<'_>, moment: &str) {
    let up = project.envctl(&["up", "-d", "--wait", "--wait-timeout", "20s"]);
    assert_eq!(up.code, Some(0), "{moment}: {up}");
    until(DEADLINE, &format!("one of each ({moment})"), || {
        let counts = PROCESSES.map(|text| instances(env, text));
        if counts == [1; 3] { Ok(()) } else { Err(counts) }
    });
    assert!(proc::alive(project.pid("one")) && proc::alive(project.pid("two")), "{moment}");
    let down = project.envctl(&["down"]);
    assert_eq!(down.code, Some(0), "{moment}: {down}");
    assert_eq!(PROCESSES.map(|text| instances(env, text)), [0; 3], "{moment}");
}

/// Kills at the first call, the second, … of an operation, until it makes no more of them.
fn every_call(victim: Victim, calls: &str, operation: &[&str]) {
    if !is_root() {
        return cannot_run("b05, the kill at each call", "only root may trace");
    }
    let env = TestEnvironment::new();
    let project = env.project(UNITS);
    project.envctl(&["up", "-d", "--wait"]).ok();
    let starts = operation[0] == "up";
    for nth in 1..=CALLS_MAX {
        if starts {
            project.down();
        } else {
            project.envctl(&["up", "-d", "--wait"]).ok();
        }
        let before = env.daemon_pid();
        let strace = kill_at(&env, &project, victim, calls, nth);
        // It may fail, for its daemon dies; what it leaves is what counts.
        let output = project.envctl(operation);
        drop(strace);
        let now = env.envctl(&["daemon", "status", "--json"]).json()["pid"].as_u64();
        let got_through = output.code == Some(0) && now == Some(before.into());
        check_sane(&env, &project, &format!("{victim:?} at {calls} no. {nth} of {operation:?}"));
        if got_through {
            return;
        }
    }
    panic!("{operation:?} still makes {calls} after {CALLS_MAX} of them");
}

#[test]
fn b05_heart_killed_at_each_process_it_makes_leaves_one_instance() {
    every_call(Victim::Heart, "clone,clone3,vfork", &["up", "-d", "--wait", "--wait-timeout", "5s"]);
}

#[test]
fn b05_a_child_killed_before_it_is_its_program_is_started_again() {
    every_call(Victim::Heart, "execve", &["up", "-d", "--wait", "--wait-timeout", "5s"]);
}

#[test]
fn b05_the_daemon_killed_at_each_rename_of_a_start_leaves_one_instance() {
    every_call(Victim::Daemon, "rename,renameat,renameat2", &["up", "-d", "--wait", "--wait-timeout", "5s"]);
}

#[test]
fn b05_the_daemon_killed_at_each_fsync_of_a_start_leaves_one_instance() {
    every_call(Victim::Daemon, "fsync,fdatasync", &["up", "-d", "--wait", "--wait-timeout", "5s"]);
}

#[test]
fn b05_the_daemon_killed_at_each_rename_of_a_stop_leaves_nothing() {
    every_call(Victim::Daemon, "rename,renameat,renameat2", &["down"]);
}

#[test]
fn b05_the_daemon_killed_at_each_fsync_of_a_stop_leaves_nothing() {
    every_call(Victim::Daemon, "fsync,fdatasync", &["down"]);
}

#[test]
fn b05_heart_killed_at_each_signal_it_sends_leaves_nothing() {
    every_call(Victim::Heart, "kill,pidfd_send_signal", &["down"]);
}

#[test]
fn b05_the_daemon_killed_at_each_word_to_heart_leaves_one_instance() {
    every_call(Victim::Daemon, "sendto,write", &["up", "-d", "--wait", "--wait-timeout", "5s"]);
}

/// Stops the daemon at the first call, the second, … of a restart, until it makes no more of them; there it dies, and heart
/// with it.
fn both_at_every_call(calls: &str) {
    if !is_root() {
        return cannot_run("b05, the death of both at each call of a restart", "only root may trace");
    }
    let env = TestEnvironment::new();
    let project = env.project(UNITS);
    for nth in 1..=CALLS_MAX {
        project.envctl(&["up", "-d", "--wait"]).ok();
        let (daemon, one) = (env.daemon_pid(), project.pid("one"));
        let heart = proc::parent(daemon).expect("its parent is heart");
        project.write("strace", "");
        let strace = signal_at(&env, &project, Victim::Daemon, "STOP", calls, nth);
        proc::kill_hard(one);
        // Nobody may ask the daemon: its answer would be one of the calls.
        let mut since = None;
        let got_through = until(DEADLINE, "a stop or a restart", || {
            let is_stopped = project.read("strace").contains("stopped by SIGSTOP");
            let is_again = instances(&env, PROCESSES[0]) > 0 && !proc::alive(one);
            let is_over = is_again && since.get_or_insert_with(Stopwatch::start).elapsed() > RESTART_MAX;
            if is_stopped || is_over { Ok(!is_stopped) } else { Err(()) }
        });
        proc::kill_hard(heart);
        proc::kill_hard(daemon);
        drop(strace);
        check_sane(&env, &project, &format!("both died at {calls} no. {nth} of a restart"));
        if got_through {
            return;
        }
    }
    panic!("a restart still makes {calls} after {CALLS_MAX} of them");
}

#[test]
fn b05_both_killed_at_each_word_to_heart_in_a_restart_leaves_one_instance() {
    both_at_every_call("sendto,write");
}

#[test]
fn b05_both_killed_at_each_rename_of_a_restart_leaves_one_instance() {
    both_at_every_call("rename,renameat,renameat2");
}

/// The daemon is stopped at the first call, the second, … of an `up` from nothing; there it dies, and heart with it. Who types
/// `up` waits meanwhile, and is served by the next daemon.
#[test]
fn b05_both_killed_at_each_word_to_heart_in_a_start_leaves_one_instance() {
    if !is_root() {
        return cannot_run("b05, the death of both at each call of a start", "only root may trace");
    }
    let env = TestEnvironment::new();
    let project = env.project(UNITS);
    project.up();
    project.down();
    for nth in 1..=CALLS_MAX {
        let daemon = env.daemon_pid();
        let heart = proc::parent(daemon).expect("its parent is heart");
        project.write("strace", "");
        let strace = signal_at(&env, &project, Victim::Daemon, "STOP", "sendto,write", nth);
        let mut up = project.start(&["up", "-d"]);
        let got_through = until(DEADLINE, "a stop or the end of `up`", || {
            let is_stopped = project.read("strace").contains("stopped by SIGSTOP");
            let is_over = !proc::alive(up.pid());
            if is_stopped || is_over { Ok(!is_stopped) } else { Err(()) }
        });
        proc::kill_hard(heart);
        proc::kill_hard(daemon);
        drop(strace);
        // It may fail, if its second daemon is refused something; what is left is what counts.
        up.end_within(DEADLINE).expect("`up` ends");
        check_sane(&env, &project, &format!("both died at sendto,write no. {nth} of a start"));
        if got_through {
            return;
        }
    }
    panic!("a start still makes sendto,write after {CALLS_MAX} of them");
}
