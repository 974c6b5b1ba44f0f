//! What people meet in the first days: joining a run twice, units that cannot come, files and daemons that are gone.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Project, Terminal, TestEnvironment, proc, until};

const DEADLINE: Duration = Duration::from_secs(20);

/// A service that fails until the file `ok` is there, one that needs it, and one beside.
const FAILING: &str = r#"
    [services.fail]
    sh = "test -e ok || { echo the reason >&2; exit 3; }; echo up; exec sleep 1000"
    restart = "never"
    ready = { log = "up" }
    [services.dep]
    cmd = ["FX", "run"]
    needs = { fail = "ready" }
    [services.fine]
    cmd = ["FX", "run"]
"#;

const ONE: &str = r#"
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
"#;

fn failed(env: &TestEnvironment) -> Project<'_> {
    let project = env.project(FAILING);
    project.envctl(&["up", "-d"]).ok();
    project.until_state("fail", "failed");
    project
}

#[test]
fn an_up_that_revives_what_failed_says_so() {
    let env = TestEnvironment::new();
    let project = failed(&env);
    project.write("ok", "");
    let up = project.envctl(&["up", "-d"]).ok();
    assert!(up.stderr.contains("joined the run of") && up.stderr.contains("starting fail, dep"), "{up}");
    project.until_state("dep", "running");
    project.envctl(&["up", "-d"]).ok().complains(&["is up already, nothing to start"]);
}

#[test]
fn waiting_for_what_cannot_come_ends_at_once_and_names_who_is_to_blame() {
    let env = TestEnvironment::new();
    let project = failed(&env);
    let wait = project.envctl(&["wait", "dep"]).exits(1);
    wait.complains(&["dep waits for fail, which is failed", "hint:"]);
    let wait = project.envctl(&["wait", "fine", "--for", "done", "--timeout", "300ms"]).exits(124);
    wait.complains(&["envctl why fine"]);
}

#[test]
fn waiting_for_a_unit_that_was_never_started_ends_at_once() {
    let env = TestEnvironment::new();
    let project = failed(&env);
    project.down();
    project.envctl(&["up", "-d", "fine"]).ok();
    let output = project.envctl(&["wait", "dep"]).exits(1);
    output.complains(&["dep is not part of the run", "hint: `envctl up dep`"]);
    project.envctl(&["wait", "dep", "--for", "stopped"]).ok();
}

#[test]
fn a_joined_up_that_is_interrupted_says_what_it_stopped_and_what_runs_on() {
    let env = TestEnvironment::new();
    let project = env.project(FAILING);
    project.write("ok", "");
    project.envctl(&["up", "-d", "fine", "--wait"]).ok();
    let mut up = project.start(&["up", "fail"]);
    project.until_state("fail", "ready");
    up.until_says("fail", DEADLINE);
    up.signal(Signal::SIGINT);
    up.wait(DEADLINE).exits(2).complains(&["stopped fail; the rest of", "runs on", "`envctl down` stops it"]);
    assert_eq!(project.state("fine"), "running");
}

#[test]
fn a_terminal_that_hangs_up_twice_is_no_second_ctrl_c() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.slow]
        sh = "trap 'sleep 1; echo clean > end; exit 0' TERM; echo up; while :; do sleep 0.05; done"
        ready = { log = "up" }
    "#,
    );
    let up = project.start(&["up"]);
    project.until("slow", "ready", |unit| unit["state"] == "ready");
    up.signal(Signal::SIGHUP);
    project.until_state("slow", "stopping");
    up.signal(Signal::SIGHUP);
    up.wait(DEADLINE).exits(2);
    assert_eq!(project.read("end"), "clean\n");
}

#[test]
fn a_closed_terminal_stops_units_that_are_in_the_middle_of_a_sentence() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.chatty]
        sh = "trap 'echo clean > end; exit 0' TERM; while :; do echo word; sleep 0.001; done"
        ready = { log = "word" }
    "#,
    );
    let up = Terminal::start(&mut project.command(&["up"]));
    project.until_state("chatty", "ready");
    up.hang_up(DEADLINE);
    project.until_state("chatty", "stopped");
    assert_eq!(project.read("end"), "clean\n");
}

#[test]
fn looking_after_a_reboot_starts_no_daemon() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let state = project.envctl(&["show-state", "--json"]).ok().json();
    let file = state["paths"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "run state"));
    let file = file.and_then(|one| one["path"].as_str()).expect("the state file is listed").to_owned();
    // Derived files are written a moment after what they tell.
    let recorded = until(DEADLINE, "the state file", || std::fs::read(&file));
    env.envctl(&["daemon", "stop"]).ok();
    // What a machine that lost its power leaves on disk.
    std::fs::write(&file, recorded).expect("the state file");
    project.envctl(&["ps"]).ok();
    project.envctl(&["down"]).ok().complains(&["is not up"]);
    assert!(env.sockets().is_empty(), "looking started a daemon: {:?}", env.sockets());
}

#[test]
fn a_second_daemon_is_refused_with_the_first_ones_pid() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let second = project.envctl(&["daemon", "run"]).exits(1);
    second.complains(&["a daemon serves session default already", &format!("pid {}", env.daemon_pid())]);
    let second = project.envctl(&["daemon", "run", "--json"]).exits(1).json();
    assert_eq!((&second["kind"], &second["ok"]), (&"error".into(), &false.into()), "{second}");
}

#[test]
fn a_signal_to_a_unit_that_does_not_run_is_refused() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    project.envctl(&["stop", "api"]).ok();
    project.until_state("api", "stopped");
    project.envctl(&["kill", "api"]).exits(1).complains(&["error: api is not running"]);
}

#[test]
fn a_failure_shows_only_what_its_own_life_said() {
    // Runs are told apart in the log by the second they began in: the first one takes longer.
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.flaky]
        sh = "if test -e once; then echo error of now; else touch once; echo error of before; sleep 1.1; fi; exit 1"
    "#,
    );
    project.envctl(&["up", "-d", "--wait"]).exits(1).complains(&["error of before"]);
    project.down();
    let up = project.envctl(&["up", "-d", "--wait"]).exits(1);
    up.complains(&["error of now"]);
    assert!(!up.stderr.contains("error of before"), "{up}");
    let errors = project.envctl(&["errors"]).exits(1);
    assert!(errors.stdout.contains("error of now") && !errors.stdout.contains("error of before"), "{errors}");
}

#[test]
fn a_run_whose_config_file_is_gone_can_be_looked_at_and_stopped() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let pid = project.pid("api");
    std::fs::remove_file(project.dir().join("envctl.toml")).expect("the config file");
    project.envctl(&["ps"]).ok().says(&["api"]).complains(&["warning: the config file is gone"]);
    project.envctl(&["logs"]).ok().says(&["up"]);
    project.envctl(&["why", "api"]).ok();
    project.envctl(&["down"]).ok();
    assert!(!proc::alive(pid));
}

#[test]
fn following_and_waiting_end_with_2_on_ctrl_c_and_say_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    for (arguments, says) in [(["logs", "-f"].as_slice(), "up"), (&["events", "-f"], "api")] {
        let mut follow = project.start(arguments);
        follow.until_says(says, DEADLINE);
        follow.signal(Signal::SIGINT);
        let ended = follow.wait(DEADLINE).exits(2);
        assert_eq!(ended.stderr, "", "{ended}");
    }
    // Nothing is said while it waits: that it listens to Ctrl-C is seen in the mask of signals it catches.
    let wait = "$E wait api --for done & p=$!
        while ! grep -q '^SigCgt:.*[2367abef]$' /proc/$p/status; do sleep 0.02; done
        kill -INT $p; wait $p";
    let ended = project.shell(wait).exits(2);
    assert_eq!(ended.stderr, "", "{ended}");
}

#[test]
fn a_project_is_named_by_its_directory_and_the_one_that_is_up_comes_first() {
    let env = TestEnvironment::new();
    let text = format!("name = \"twin\"\n{ONE}");
    let (one, two) = (env.project_named("one", &text), env.project_named("two", &text));
    one.up();
    two.up();
    let both = env.envctl(&["ps", "-p", "twin"]).exits(1);
    both.complains(&["several projects are called `twin`", "-p "]);
    let named = env.envctl(&["ps", "-p", &one.dir().display().to_string(), "--json"]).ok().json();
    assert_eq!(named["projects"][0]["root"], one.dir().display().to_string(), "{named}");
    two.down();
    let named = env.envctl(&["ps", "-p", "twin", "--json"]).ok().json();
    assert_eq!(named["projects"][0]["root"], one.dir().display().to_string(), "{named}");
}

#[test]
fn what_was_asked_for_is_not_given_as_a_cause() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    project.envctl(&["stop", "api"]).ok();
    project.until_state("api", "stopped");
    project.envctl(&["up", "-d", "--wait"]).ok();
    for arguments in [["ps"].as_slice(), &["events"]] {
        let output = project.envctl(arguments).ok();
        assert!(!output.stdout.contains(": asked for"), "{output}");
    }
}

#[test]
fn a_service_that_ends_at_once_is_not_called_up() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.quits]\nsh = \"echo no config >&2; exit 3\"\nbackoff = { base = \"20ms\", max = \"20ms\" }\nunstable = 3\n",
    );
    let up = project.envctl(&["up", "-d", "--wait", "--wait-timeout", "20s"]).exits(1);
    up.complains(&["quits", "no config"]);
}
