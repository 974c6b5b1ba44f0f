//! What happens when units fail, and how it is told.

mod again;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Project, Stopwatch, TestEnvironment, UP_WAIT, proc, until};

#[test]
fn a_killed_service_is_ready_again_and_everything_about_it_is_told() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        cmd = ["FX", "http", "${api.port}", "ok"]
        port = 21100
        ready = { http = "/healthz" }
        stable_after = "100ms"
    "#,
    );
    project.up();
    let before = project.unit("api");
    proc::kill_hard(project.pid("api"));
    let after = project.until("api", "ready in its second life", |u| u["incarnation"] == 2 && u["state"] == "ready");
    assert_eq!(after["restarts"], 1, "{after:#}");
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["ports"], before["ports"], "the lease is kept");
    assert_eq!(after["exit"]["signal"], 9, "{after:#}");

    let events = project.events_of("api");
    let exit = events.iter().position(|event| event["event"] == "unit.exited").expect("an exit");
    assert!(events[exit].to_string().contains("SIGKILL"), "{:#}", events[exit]);
    assert!(events[exit + 1..].iter().any(|event| event["cause"].is_string()), "no cause after the exit: {events:#?}");
    assert!(events[exit + 1..].iter().any(|event| event["event"] == "unit.ready" && event["incarnation"] == 2));

    let why = project.envctl(&["why", "api"]).ok();
    why.says(&["api", "ready", "SIGKILL"]);
    assert_eq!(why.stdout.trim_end().lines().count(), 2, "two lines tell it:\n{why}");
}

#[test]
fn a04_a_program_that_does_not_exist_is_named_with_a_hint_and_is_no_crash_loop() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.ghost]
        cmd = ["/nonexistent/ghost", "--serve"]
        [services.waiter]
        cmd = ["FX", "run"]
        needs = { ghost = "started" }
        [services.well]
        cmd = ["FX", "run"]
    "#,
    );
    project.envctl(&["daemon", "status"]).without_panic();
    let up = project.envctl(UP_WAIT).exits(1);
    assert!(up.took < Duration::from_secs(3), "it took {:?} to see that a file is missing", up.took);
    up.complains(&["ghost", "/nonexistent/ghost", "hint"]);
    assert!(up.stderr.contains("ENOENT") || up.stderr.contains("No such file"), "no errno:\n{up}");

    let ghost = project.unit("ghost");
    assert_eq!((&ghost["state"], &ghost["restarts"]), (&json!("failed"), &json!(0)), "{ghost:#}");
    project.until_state("well", "running");
    let waiter = project.unit("waiter");
    assert_eq!((&waiter["state"], &waiter["blocked_by"]), (&json!("pending"), &json!(["ghost"])), "{waiter:#}");
    project.envctl(&["why", "waiter"]).ok().says(&["ghost"]);
}

#[test]
fn a04_everything_that_cannot_be_executed_fails_at_once_and_says_why() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.mode]
        cmd = ["./not-executable"]
        [services.dir]
        cmd = ["./a-directory"]
        [services.below]
        cmd = ["./not-executable/below"]
        [services.interpreter]
        cmd = ["./no-interpreter"]
        [services.bare]
        cmd = ["no-such-program-anywhere"]
        [services.cwd]
        cmd = ["FX", "run"]
        dir = "missing"
    "#,
    );
    project.write("not-executable", "text");
    project.write("no-interpreter", "#!/nonexistent/interpreter\n");
    project.write("a-directory/file", "");
    project.shell("chmod +x no-interpreter").ok();
    let up = project.envctl(UP_WAIT);
    if up.code == Some(1) && up.stderr.contains("envctl.toml:") {
        // A missing `dir` may also be refused before anything starts; then the other five are tried without it.
        let toml = project.read("envctl.toml").replace("dir = \"missing\"", "");
        project.write("envctl.toml", toml);
        project.envctl(UP_WAIT).exits(1);
    } else {
        up.exits(1);
        assert_eq!(project.state("cwd"), "failed");
    }
    for name in ["mode", "dir", "below", "interpreter", "bare"] {
        let unit = project.until_state(name, "failed");
        assert_eq!(unit["restarts"], 0, "not a crash loop: {unit:#}");
        assert!(unit["cause"].is_string(), "{unit:#}");
    }
}

#[test]
fn a01_a_crash_loop_slows_down_and_is_given_up() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.loop]
        cmd = ["FX", "exit", "3"]
        [services.well]
        cmd = ["FX", "run"]
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    let given_up = project.until_state("loop", "failed");
    assert_eq!(given_up["exit"]["code"], 3, "{given_up:#}");
    let lives = given_up["incarnation"].as_u64().expect("a number");
    assert!((4..=9).contains(&lives), "{lives} lives before giving up");
    assert!(given_up["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{given_up:#}");
    project.until_state("well", "running");

    let delays: Vec<u64> =
        project.events_of("loop").iter().filter_map(|event| event["details"]["delay_ms"].as_u64()).collect();
    assert!(delays.len() >= 3, "every delay is told: {delays:?}");
    assert!(delays.last() > delays.get(1), "the delays grow: {delays:?}");

    project.envctl(&["start", "loop"]).ok();
    project.until("loop", "tried again", |unit| unit["incarnation"].as_u64() > Some(lives));
}

#[test]
fn a06_a_service_that_ignores_the_signal_is_killed_after_its_grace() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.deaf]
        cmd = ["FX", "ignore-term"]
        ready = { log = "up" }
        stop = { grace = "400ms" }
    "#,
    );
    project.up();
    let pid = project.pid("deaf");
    let down = project.down();
    assert!(!proc::alive(pid));
    assert!(down.took > Duration::from_millis(350), "its grace was cut short: {:?}", down.took);
    assert!(down.took < Duration::from_secs(3), "{:?}", down.took);
    assert!(project.events_of("deaf").iter().any(|event| event.to_string().contains("kill")));
}

#[test]
fn a07_a_child_that_outlives_its_leader_is_ended_with_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.pair]
        sh = "trap 'exit 0' TERM; $FIXTURE ignore-term & echo $! > child; wait"
        env = { FIXTURE = "FX" }
        stop = { grace = "400ms" }
    "#,
    );
    project.up();
    let child: u32 = project.until_lines("child", 1)[0].trim().parse().expect("a pid");
    until(Duration::from_secs(5), "the child", || if proc::alive(child) { Ok(()) } else { Err(()) });
    project.down();
    assert!(!proc::alive(child), "down returned before the group was empty");
}

#[test]
fn a08_a_grandchild_in_a_session_of_its_own_does_not_escape() {
    for stdio in ["keep", "close"] {
        let env = TestEnvironment::new();
        let toml = r#"
            [services.runaway]
            cmd = ["FX", "hideaway", "STDIO"]
            ready = { log = "daemonized" }
            stop = { grace = "1s" }
        "#;
        let project = env.project(&toml.replace("STDIO", stdio));
        project.up();
        let leader = project.pid("runaway");
        let hidden = until(Duration::from_secs(5), "the grandchild", || {
            let found = env.processes().into_iter().find(|one| one.command.ends_with("envctl-fixture run"));
            found.ok_or_else(|| env.processes())
        });
        assert_ne!(proc::session(hidden.pid), proc::session(leader), "it really is in another session");
        project.down();
        assert!(!proc::alive(hidden.pid), "it escaped ({stdio})");
    }
}

#[test]
fn a20_an_orphan_that_holds_the_output_does_not_hold_up_the_exit() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.leaves]
        cmd = ["FX", "orphan-pipe", "30000"]
    "#,
    );
    let up = project.up();
    assert!(up.took < Duration::from_secs(5), "{:?}", up.took);
    assert_eq!(project.state("leaves"), "done");
    project.down();
}

#[test]
fn a13_exit_codes_and_signals_are_told_apart() {
    let env = TestEnvironment::new();
    let codes = [1_u8, 2, 42, 127, 128, 137, 139, 255];
    let signals = [2_u8, 6, 9, 11, 15];
    let mut toml = String::new();
    for code in codes {
        toml.push_str(&format!("[tasks.code-{code}]\ncmd = [\"FX\", \"exit\", \"{code}\"]\n"));
    }
    for signal in signals {
        toml.push_str(&format!("[tasks.signal-{signal}]\ncmd = [\"FX\", \"crash\", \"{signal}\"]\n"));
    }
    let project = env.project(&toml);
    project.envctl(UP_WAIT).exits(1);
    for code in codes {
        let unit = project.until_state(&format!("code-{code}"), "failed");
        assert_eq!(unit["exit"], json!({ "code": code }), "{unit:#}");
    }
    for signal in signals {
        let unit = project.until_state(&format!("signal-{signal}"), "failed");
        assert_eq!(unit["exit"]["signal"], json!(signal), "{unit:#}");
        assert!(unit["exit"]["core"].is_boolean(), "{unit:#}");
    }
}

#[test]
fn a16_a_stopped_process_is_continued_so_that_it_can_end() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.frozen]
        cmd = ["FX", "stop-self"]
        stop = { grace = "10s" }
    "#,
    );
    project.up();
    let pid = project.pid("frozen");
    let down = project.down();
    assert!(!proc::alive(pid));
    assert!(down.took < Duration::from_secs(5), "TERM was never delivered: {:?}", down.took);
}

#[test]
fn a21_stop_wins_over_start_probe_backoff_and_waiting() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.probing]
        cmd = ["FX", "run"]
        ready = { log = "never", within = "60s" }
        [services.waiting]
        cmd = ["FX", "run"]
        needs = { probing = "ready" }
        [services.failing]
        cmd = ["FX", "exit", "1", "30"]
        backoff = { base = "20s", max = "30s" }
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.until_state("failing", "backoff");
    assert_eq!(project.state("waiting"), "pending");
    for name in ["failing", "waiting", "probing"] {
        let stopped = project.envctl(&["stop", name]).ok();
        assert!(stopped.took < Duration::from_secs(5), "{stopped}");
        let unit = project.until_state(name, "stopped");
        assert_eq!(unit["pid"], Value::Null, "{unit:#}");
    }
    project.envctl(&["start", "waiting"]).ok();
    let probing = project.until("probing", "alive", |unit| unit["pid"].is_u64());
    assert_eq!(proc::with_command("envctl-fixture run").iter().filter(|pid| json!(pid) == probing["pid"]).count(), 1);
}

#[test]
fn restart_types_decide_who_comes_back() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.permanent]
        cmd = ["FX", "crash-once", "a"]
        [services.on-failure]
        cmd = ["FX", "exit", "0", "50"]
        restart = "on-failure"
        [services.never]
        cmd = ["FX", "exit", "5", "50"]
        restart = "never"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    assert_eq!(project.until_state("on-failure", "done")["restarts"], 0);
    assert_eq!(project.until_state("never", "failed")["restarts"], 0);
    project.until("permanent", "in its second life", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
}

#[test]
fn a_dependent_is_restarted_over_an_edge_that_says_so() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.base]
        cmd = ["FX", "run"]
        [services.follows]
        cmd = ["FX", "run"]
        needs = { base = { is = "started", then = "restart" } }
        [services.ignores]
        cmd = ["FX", "run"]
        needs = { base = "started" }
    "#,
    );
    project.up();
    proc::kill_hard(project.pid("base"));
    project.until("follows", "in its second life", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
    assert_eq!(project.unit("ignores")["incarnation"], 1);
    project.envctl(&["why", "follows"]).ok().says(&["base"]);
}

#[test]
fn what_a_unit_started_does_not_outlive_its_crash_in_its_session_or_out_of_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.leaves]\nsh = \"setsid sleep 7341 & echo $! >> strays; sleep 7341 & echo $! >> strays; sleep 0.2; exit 1\"\nunstable = 3\n\
         backoff = { base = \"50ms\", max = \"50ms\" }\n[services.keeps]\nsh = \"setsid sleep 7342 & exec sleep 1000\"\n",
    );
    project.envctl(&["up", "-d"]).ok();
    project.until_state("leaves", "failed");
    let strays: Vec<u32> = project.read("strays").lines().filter_map(|pid| pid.parse().ok()).collect();
    assert!(strays.len() >= 6, "{strays:?}");
    crate::harness::until(std::time::Duration::from_secs(5), "strays to be gone", || {
        let left: Vec<&u32> = strays.iter().filter(|pid| proc::alive(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(proc::with_command("7342").len(), 1, "the other unit's process was taken for a stray");
}
