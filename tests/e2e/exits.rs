//! Exit codes, and what a newcomer types in the first ten minutes.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Terminal, TestEnvironment, proc};

const ONE: &str = r#"
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
"#;

#[test]
fn i01_ctrl_c_stops_everything_in_order_and_exits_2() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.low]
        cmd = ["FX", "record", "order", "low", "100"]
        [services.high]
        cmd = ["FX", "record", "order", "high", "100"]
        needs = { low = "started" }
    "#,
    );
    let up = Terminal::start(&mut project.command(&["up"]));
    project.until_lines("order", 2);
    up.type_in(b"\x03");
    up.wait(Duration::from_secs(20)).exits(2);
    // Which of two running programs writes first is the kernel's choice; they are stopped one after the other.
    let order = project.read("order");
    assert!(order.ends_with("stop high\nstop low\n") && order.lines().count() == 4, "{order}");
    assert_eq!(project.ps()["state"], "down");
}

#[test]
fn i01_a_second_ctrl_c_kills_and_still_exits_2() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.deaf]
        cmd = ["FX", "ignore-term"]
        ready = { log = "up" }
        stop = { grace = "50s" }
    "#,
    );
    let mut up = project.start(&["up"]);
    project.until("deaf", "ready", |unit| unit["state"] == "ready");
    let pid = project.pid("deaf");
    up.signal(Signal::SIGINT);
    project.until_state("deaf", "stopping");
    up.signal(Signal::SIGINT);
    up.end_within(Duration::from_secs(10)).expect("it ends");
    up.wait(Duration::from_secs(1)).exits(2);
    assert!(!proc::alive(pid));
}

#[test]
fn i01_ctrl_c_during_the_start_leaves_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.slow]
        cmd = ["FX", "exit", "0", "30000"]
        [services.after]
        cmd = ["FX", "run"]
        needs = { slow = "done" }
    "#,
    );
    let up = project.start(&["up"]);
    project.until("slow", "running", |unit| unit["pid"].is_u64());
    let pid = project.pid("slow");
    up.signal(Signal::SIGINT);
    up.wait(Duration::from_secs(20)).exits(2);
    assert!(!proc::alive(pid));
    assert_eq!(project.unit("after")["incarnation"], 0);
}

#[test]
fn i02_units_do_not_get_the_terminals_signal() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.both]
        sh = "trap 'echo got INT >> got' INT; trap 'echo got TERM >> got; exit 0' TERM; echo up; while :; do sleep 0.05; done"
        ready = { log = "up" }
    "#,
    );
    let up = Terminal::start(&mut project.command(&["up"]));
    project.until("both", "ready", |unit| unit["state"] == "ready");
    up.type_in(b"\x03");
    up.wait(Duration::from_secs(20)).exits(2);
    assert_eq!(project.read("got"), "got TERM\n", "stopped by us, not by the terminal");
}

#[test]
fn b12_a_closed_terminal_stops_what_this_up_started() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let up = Terminal::start(&mut project.command(&["up"]));
    project.until("api", "ready", |unit| unit["state"] == "ready");
    let pid = project.pid("api");
    up.hang_up(Duration::from_secs(20));
    project.until("api", "stopped", |unit| unit["pid"].is_null());
    assert!(!proc::alive(pid));
}

#[test]
fn a_joined_run_stays_when_the_one_that_joined_it_is_interrupted() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let pid = project.pid("api");
    let mut up = project.start(&["up"]);
    up.until_says("up", Duration::from_secs(10));
    up.signal(Signal::SIGINT);
    up.wait(Duration::from_secs(20)).exits(2);
    assert!(proc::alive(pid), "it was not ours to stop");
    assert_eq!(project.state("api"), "ready");
}

#[test]
fn i09_a_client_that_vanishes_leaves_units_running() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let up = project.start(&["up"]);
    project.until("api", "ready", |unit| unit["state"] == "ready");
    let pid = project.pid("api");
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait(Duration::from_secs(5)).signal, Some(9));
    assert_eq!(project.state("api"), "ready");
    assert!(proc::alive(pid));
}

#[test]
fn a_wait_that_takes_too_long_exits_124_and_names_what_was_waited_for() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.slow]
        cmd = ["FX", "run"]
        ready = { log = "never", within = "60s" }
        [services.fine]
        cmd = ["FX", "run"]
    "#,
    );
    let up = project.envctl(&["up", "-d", "--wait", "--wait-timeout", "1s"]).exits(124);
    up.complains(&["slow"]);
    assert!(up.took < Duration::from_secs(5), "{:?}", up.took);
    project.until_state("fine", "running");
}

#[test]
fn a_failed_task_fails_the_wait_and_shows_its_last_words() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.broken]
        sh = "echo the reason is here >&2; exit 7"
        [services.after]
        cmd = ["FX", "run"]
        needs = { broken = "done" }
    "#,
    );
    let up = project.envctl(&["up", "-d", "--wait", "--wait-timeout", "20s"]).exits(1);
    up.complains(&["broken", "exit code 7", "the reason is here"]);
    assert!(up.took < Duration::from_secs(5), "{:?}", up.took);
}

#[test]
fn newcomers_mistakes_exit_1_with_a_hint_and_start_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let outside = env.empty_project("outside");
    for arguments in [["up"].as_slice(), &["start"], &["restart", "api"], &["logs"], &["down"]] {
        outside.envctl(arguments).exits(1).complains(&["error:", "hint:"]);
    }
    for arguments in [
        ["up", "nosuch"].as_slice(),
        &["logs", "ap"],
        &["foo"],
        &["up", "--detatch"],
        &["wait", "api", "--for", "redy"],
        &["up", "-d", "--wait", "--wait-timeout", "soon"],
        &["-C", "/nonexistent", "up"],
        &["up", "-d", "--wait-timeout"],
        &["-f", "nosuch.toml", "up", "-d"],
    ] {
        let output = project.envctl(arguments).exits(1);
        assert!(output.stderr.starts_with("error:"), "{output}");
        assert!(output.stdout.is_empty(), "talk belongs on standard error:\n{output}");
    }
    assert!(env.sockets().is_empty(), "a mistake started a daemon: {:?}", env.sockets());
}

#[test]
fn help_and_version_exit_0_on_every_level() {
    let env = TestEnvironment::new();
    for arguments in [
        ["--help"].as_slice(),
        &["-h"],
        &["--version"],
        &["help", "up"],
        &["up", "--help"],
        &["config", "--help"],
        &["config", "check", "--help"],
        &["daemon", "stop", "--help"],
    ] {
        let output = env.envctl(arguments).ok();
        assert!(!output.stdout.is_empty(), "{output}");
    }
}

#[test]
fn looking_is_safe_without_a_config_file_and_without_a_daemon() {
    let env = TestEnvironment::new();
    let outside = env.empty_project("outside");
    for arguments in [
        ["list-commands", "--json"].as_slice(),
        &["list-targets"],
        &["list-targets", "--json"],
        &["show-state"],
        &["show-state", "--json"],
        &["ps"],
        &["ps", "--json"],
        &["ps", "--all"],
        &["daemon", "status"],
        &["daemon", "status", "--json"],
        &["explain", "--json"],
        &["explain"],
        &["config", "show"],
        &["config", "show", "--json"],
    ] {
        let output = outside.envctl(arguments).without_panic();
        assert!(matches!(output.code, Some(0 | 1)), "{output}");
    }
    let commands = outside.envctl(&["list-commands", "--json"]).ok().json().to_string();
    for name in ["\"up\"", "\"down\"", "\"ps\"", "\"why\"", "\"explain\""] {
        assert!(commands.contains(name), "{name} is missing in {commands}");
    }
    assert!(env.sockets().is_empty(), "looking started a daemon");
}

#[test]
fn explain_tells_order_ports_and_environment_and_starts_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [requirements.redis]
        [tasks.migrate]
        sh = "true"
        needs = { redis = "ready" }
        [services.api]
        cmd = ["FX", "run"]
        port = 21500
        env = { REDIS_URL = "${redis.url}" }
        needs = { migrate = "done" }
    "#,
    );
    let explained = project.envctl(&["explain"]).ok();
    explained.says(&["redis", "migrate", "api", "21500", "REDIS_URL"]);
    let at = |name: &str| explained.stdout.find(name).expect("it is named");
    assert!(at("redis") < at("migrate") && at("migrate") < at("api"), "{explained}");
    assert!(env.sockets().is_empty());
    assert_eq!(project.envctl(&["explain", "--json"]).ok().json()["kind"], "explain");
    assert_eq!(project.envctl(&["explain-startup", "--json"]).ok().json()["kind"], "explain");
}

#[test]
fn an_event_stream_ends_quietly_when_its_reader_goes() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    project.up();
    let output = project.shell("$E events -f | head -n 1 & $E restart api >&- 2>&-; $E stop api >&- 2>&-; wait").ok();
    assert_eq!(output.stderr, "", "{output}");
}
