//! Stopping: to everything that belongs, in the way that was configured, whatever it does.

mod scope;
mod storms;

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);
/// No process at all.
const NOBODY: [u32; 0] = [];
/// What a loaded machine may add to a time that is promised.
const SLACK: Duration = Duration::from_millis(700);

/// Living processes of the project but for envctl's own, which hold no file of it and have another directory.
fn living(project: &Project<'_>) -> Vec<u32> {
    proc::tied_to(project.dir()).into_iter().map(|process| process.pid).collect()
}

/// Waits until that many processes of the project live, and gives them.
#[track_caller]
fn until_living(project: &Project<'_>, count: usize) -> Vec<u32> {
    until(STATE_DEADLINE, &format!("{count} processes"), || {
        let found = living(project);
        if found.len() >= count { Ok(found) } else { Err(found) }
    })
}

#[test]
fn nothing_that_belongs_is_left_whatever_it_did_to_get_away() {
    let env = TestEnvironment::new();
    let project =
        env.project("[services.clan]\ncmd = [\"FX\", \"clan\"]\nready = { log = \"up\" }\nstop = { grace = \"1s\" }\n");
    project.up();
    assert_eq!(until_living(&project, 6).len(), 6);
    let down = project.down();
    assert_eq!(living(&project), NOBODY);
    assert!(down.took <= Duration::from_secs(2) + SLACK, "{:?}", down.took);
    assert!(down.stderr.contains("did not end within its grace"), "{down}");
}

#[test]
fn a_guest_of_the_unit_lives_on() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.up();
    let envelope = proc::variable(project.pid("a"), "ENVCTL_RT_VARS").expect("an envelope");
    assert!(envelope.contains("\"role\":\"unit\""), "{envelope}");
    let guest = project.start(&["exec", "a", "--", "sleep", "1000"]);
    let pids = until_living(&project, 2);
    project.envctl(&["restart", "a"]).ok();
    project.until("a", "restarted", |unit| unit["incarnation"] == 2);
    project.down();
    let left = living(&project);
    assert_eq!(left.len(), 1, "of {pids:?}");
    guest.signal(Signal::SIGKILL);
    guest.wait(Duration::from_secs(5));
}

#[test]
fn postgres_backends_end_with_their_server() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.postgres]\n");
    project.up();
    let server = project.pid("postgres");
    let backends = until(STATE_DEADLINE, "its backends", || {
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let pids: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.len() >= 4 { Ok(pids) } else { Err(pids) }
    });
    assert!(backends.iter().all(|pid| proc::session(*pid) == Some(server) || proc::session(*pid) == Some(*pid)));
    // Stopped, they cannot follow their server's word.
    backends.iter().for_each(|pid| proc::signal(*pid, Signal::SIGSTOP));
    project.down();
    assert_eq!(backends.into_iter().filter(|pid| proc::alive(*pid)).collect::<Vec<_>>(), NOBODY);
}

#[test]
fn a05_what_exits_0_before_it_is_ready_is_never_shown_ready() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.a]\ncmd = [\"FX\", \"exit\", \"0\", \"200\"]\nready = { log = \"never\" }\nrestart = \"temporary\"\n",
    );
    project.envctl(UP_WAIT).exits(1).complains(&["a", "exit code 0"]);
    let events = project.events_of("a");
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert!(!kinds.contains(&"unit.ready") && kinds.contains(&"unit.exited"), "{kinds:?}");
    let why = project.envctl(&["why", "a"]).ok();
    assert!(why.stdout.contains("exit code 0") && why.stdout.contains("before it was ready"), "{why}");
}

#[test]
fn a22_an_up_during_a_down_waits_for_it_and_starts_one_fresh_instance() {
    let env = TestEnvironment::new();
    let project = env
        .project("[services.a]\ncmd = [\"FX\", \"record\", \"order\", \"a\", \"700\"]\nready = { exec = \"true\" }\n");
    project.up();
    let first = project.pid("a");
    let down = project.start(&["down"]);
    project.until_state("a", "stopping");
    let up = project.start(UP_WAIT);
    down.wait(STATE_DEADLINE).ok();
    assert!(!proc::alive(first));
    up.wait(STATE_DEADLINE).ok();
    assert_eq!(project.read("order"), "start a\nstop a\nstart a\n", "they overlapped");
    let pid = project.pid("a");
    assert_eq!(living(&project), [pid]);
}

#[test]
fn a23_a_stop_command_that_hangs_is_killed_and_the_stop_goes_on() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        cmd = ["FX", "signals", "got"]
        ready = { log = "up" }
        stop = [{ sh = "echo $MAINPID > asked; exec sleep 1000", after = "600ms" }, { signal = "TERM", after = "500ms" }]
    "#,
    );
    project.up();
    let pid = project.pid("a");
    let down = project.down();
    assert!(down.took >= Duration::from_millis(1100), "{:?}", down.took);
    assert!(down.took <= Duration::from_millis(1100) + Duration::from_secs(1) + SLACK, "{:?}", down.took);
    assert_eq!(project.read("asked"), format!("{pid}\n"));
    assert!(project.read("got").starts_with("SIGTERM"), "{}", project.read("got"));
    assert_eq!(living(&project), NOBODY);
    let events = project.events_of("a");
    let failed = events.iter().find(|event| event["event"] == "unit.stop_failed").expect("it is told");
    assert!(failed["message"].as_str().is_some_and(|text| text.contains("no end within")), "{failed:#}");
}

#[test]
fn a_stop_command_that_works_is_all_that_is_needed() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        sh = "trap 'exit 0' USR1; trap 'echo TERM > term' TERM; echo up; while :; do sleep 0.05; done"
        ready = { log = "up" }
        env = { SIG = "USR1" }
        stop = { sh = "kill -$SIG $MAINPID", grace = "20s" }
    "#,
    );
    project.up();
    let down = project.down();
    assert!(down.took < Duration::from_secs(5), "{:?}", down.took);
    assert_eq!(project.read("term"), "", "nobody asked for TERM");
    assert_eq!(project.unit("a")["exit"]["code"], 0);
}

#[test]
fn a25_signals_come_in_the_order_and_at_the_times_of_the_list() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        cmd = ["FX", "signals", "got"]
        ready = { log = "up" }
        stop = [
            { signal = "INT", after = "400ms" },
            { signal = "SIGUSR1", after = "300ms" },
            { signal = "TERM", after = "500ms" },
        ]
    "#,
    );
    project.up();
    let down = project.down();
    let got = project.read("got");
    let got: Vec<(&str, u64)> =
        got.lines().filter_map(|line| line.split_once(' ')).map(|(name, ms)| (name, ms.parse().unwrap())).collect();
    assert_eq!(got.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["SIGINT", "SIGUSR1", "SIGTERM"]);
    for ((_, came), meant) in got.iter().zip([0_u64, 400, 700]) {
        // Early is wrong on any machine; how late depends on who else is at work on it.
        assert!(*came + 100 >= meant && *came <= meant + 400, "{got:?}");
    }
    assert!(down.took >= Duration::from_millis(1200), "killed before its time: {:?}", down.took);
    assert!(down.stderr.contains("did not end within its grace"), "{down}");
}

#[test]
fn mistakes_in_a_stop_name_the_unit_and_what_to_write() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    for (stop, says) in [
        ("[]", ["`stop` of service `a`", "no step"]),
        ("[{ signal = 'INT' }]", ["step 1 of `stop` of service `a`", "after = "]),
        ("[{ after = '1s' }]", ["does nothing", "signal = "]),
        ("{ signal = 'INT', sh = 'true' }", ["more than one way", "one of signal, cmd, sh"]),
        ("{ signal = 'STOP' }", ["does not end", "envctl kill"]),
        ("{ scope = 'mian' }", ["cannot be \"mian\"", "\"main\""]),
        ("{ after = '1s' }", ["unknown key `after`", "known keys"]),
        ("5", ["a table or a list of tables", "write"]),
    ] {
        project.write("envctl.toml", format!("[services.a]\ncmd = \"a\"\nstop = {stop}\n"));
        project.envctl(&["config", "check"]).exits(1).complains(&says);
    }
    project.write("envctl.toml", "[requirements.redis]\nstop = { signal = 'INT' }\n");
    project.envctl(&["config", "check"]).exits(1).complains(&["`signal`", "requirement `redis`", "grace"]);
    project.write("envctl.toml", "on_daemon_death = 'kill'\n[services.a]\ncmd = 'a'\n");
    project.envctl(&["config", "check"]).exits(1).complains(&["on_daemon_death", "keep, stop"]);
}
