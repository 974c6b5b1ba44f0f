//! Readiness and liveness, asked for real.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::harness::{TestEnvironment, UP_WAIT, proc};

#[test]
fn g01_a_probe_that_hangs_is_given_up_in_time() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.mute]
        cmd = ["FX", "http", "${mute.port}", "hang"]
        port = 23100
        ready = { http = "/", timeout = "200ms", within = "60s" }
        [services.stuck]
        cmd = ["FX", "run"]
        ready = { exec = ["FX", "exit", "0", "600000"], timeout = "200ms", within = "60s" }
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.until("stuck", "alive", |unit| unit["pid"].is_u64());
    let daemon = env.daemon_pid();
    project.envctl(&["wait", "stuck", "--for", "ready", "--timeout", "3s"]).exits(124);
    let probes = env.processes().into_iter().filter(|one| one.command.contains("exit 0 600000")).count();
    assert!(probes <= 1, "{probes} hung probes are alive at once");
    let before = proc::descriptors(daemon);
    project.envctl(&["wait", "mute", "--for", "ready", "--timeout", "3s"]).exits(124);
    let after = proc::descriptors(daemon);
    assert!(after <= before + 4, "descriptors grow: {before} to {after}");
    let down = project.down();
    assert!(down.took < Duration::from_secs(8), "{:?}", down.took);
}

#[test]
fn g02_bodies_without_an_end_are_cut_and_judged_by_their_head() {
    let env = TestEnvironment::new();
    let mut toml = String::new();
    for kind in ["ok", "huge", "endless", "redirect"] {
        toml.push_str(&format!(
            "[services.{kind}]\ncmd = [\"FX\", \"http\", \"${{{kind}.port}}\", \"{kind}\"]\nport = 23200\n\
             ready = {{ http = \"/\", within = \"15s\", timeout = \"2s\" }}\n"
        ));
    }
    for (number, kind) in ["ok", "huge", "endless", "redirect"].iter().enumerate() {
        let from = format!("\"{kind}\"]\nport = 23200");
        toml = toml.replace(&from, &format!("\"{kind}\"]\nport = {}", 23200 + number * 10));
    }
    let project = env.project(&toml);
    project.up();
    let daemon = env.daemon_pid();
    assert!(proc::resident_kib(daemon) < 150 * 1024, "{} KiB", proc::resident_kib(daemon));
}

#[test]
fn g02_bad_heads_and_bad_answers_are_not_ready() {
    let env = TestEnvironment::new();
    let mut toml = String::new();
    for (number, kind) in ["500", "404", "big-header"].iter().enumerate() {
        toml.push_str(&format!(
            "[services.k-{kind}]\ncmd = [\"FX\", \"http\", \"${{k-{kind}.port}}\", \"{kind}\"]\nport = {}\n\
             ready = {{ http = \"/\", within = \"700ms\", timeout = \"300ms\" }}\nrestart = \"never\"\n",
            23300 + number * 10
        ));
    }
    let project = env.project(&toml);
    project.envctl(UP_WAIT).exits(1);
    for kind in ["500", "404", "big-header"] {
        project.until_state(&format!("k-{kind}"), "failed");
    }
    project.envctl(&["why", "k-500"]).ok().says(&["500"]);
}

#[test]
fn g03_a_flood_from_a_probe_fills_nothing() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        cmd = ["FX", "run"]
        ready = { sh = "head -c 50000000 /dev/zero | tr '\\0' x; exit 1", timeout = "3s", within = "2s" }
        restart = "never"
    "#,
    );
    project.envctl(UP_WAIT).exits(1);
    let daemon = env.daemon_pid();
    assert!(proc::resident_kib(daemon) < 150 * 1024, "{} KiB", proc::resident_kib(daemon));
    let longest = project.events().iter().map(|event| event.to_string().len()).max().unwrap_or(0);
    assert!(longest < 16 * 1024, "an event of {longest} bytes");
}

#[test]
fn g05_readiness_that_never_comes_fails_the_unit_and_blocks_its_dependents() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.never]
        cmd = ["FX", "run"]
        ready = { log = "no such line", within = "400ms" }
        restart = "never"
        [services.after]
        cmd = ["FX", "run"]
        needs = { never = "ready" }
    "#,
    );
    let up = project.envctl(UP_WAIT).exits(1);
    up.complains(&["never"]);
    let failed = project.until_state("never", "failed");
    assert_eq!(failed["pid"], json!(null), "it was stopped: {failed:#}");
    let after = project.unit("after");
    assert_eq!((&after["state"], &after["blocked_by"]), (&json!("pending"), &json!(["never"])), "{after:#}");
}

#[test]
fn g09_a_ready_line_in_pieces_and_in_colour_is_found_once() {
    let env = TestEnvironment::new();
    let mut toml = String::new();
    for at in [0, 1, 7, 12, 18] {
        toml.push_str(&format!(
            "[services.cut-{at}]\ncmd = [\"FX\", \"split-line\", \"\\u001b[32mserver\\u001b[0m ready\", \"{at}\"]\n\
             ready = {{ log = \"^server ready$\", within = \"10s\" }}\n"
        ));
    }
    let project = env.project(&toml);
    project.up();
    for at in [0, 1, 7, 12, 18] {
        let ready =
            project.events_of(&format!("cut-{at}")).iter().filter(|event| event["event"] == "unit.ready").count();
        assert_eq!(ready, 1, "cut at {at}");
    }
}

#[test]
fn g10_values_in_arguments_are_never_read_by_a_shell() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.web]
        cmd = ["FX", "http", "${web.port}", "ok", "$(touch injected); `touch injected` ; touch injected"]
        port = 23400
        env = { NOTE = "$(touch injected)" }
        ready = { exec = ["FX", "exit", "0", "0", "$(touch injected)", "; touch injected"] }
    "#,
    );
    project.up();
    project.down();
    assert!(!project.dir().join("injected").exists());
}

#[test]
fn f07_a_foreign_listener_on_the_port_is_not_the_units_readiness() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.silent]
        cmd = ["FX", "run"]
        ready = { tcp = PORT, within = "600ms" }
        restart = "never"
        [services.leased]
        cmd = ["FX", "listen", "${leased.port}"]
        port = PORT
    "#,
    );
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = foreign.local_addr().expect("its address").port();
    let toml = project.read("envctl.toml");
    project.write("envctl.toml", toml.replace("PORT", &port.to_string()));
    project.envctl(&["up", "-d", "leased", "--wait", "--wait-timeout", "20s"]).ok();
    assert_ne!(project.port("leased"), port, "a port in use was leased");
}

#[test]
fn a_port_alone_is_probed_and_must_be_the_units_own() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.late]
        cmd = ["FX", "listen", "${late.port}", "300"]
        port = 23500
        [services.deaf]
        cmd = ["FX", "run"]
        port = 23600
        ready = { tcp = true, within = "700ms" }
        restart = "never"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    assert_ne!(project.state("late"), "ready", "it does not listen yet");
    project.until_state("late", "ready");
    project.until_state("deaf", "failed");
}

#[test]
fn a_unit_that_stops_answering_is_restarted() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.fades]
        cmd = ["FX", "listen", "${fades.port}", "0", "600"]
        port = 23700
        alive = { tcp = true, every = "100ms", timeout = "200ms", failures = 2 }
    "#,
    );
    project.up();
    let unit = project.until("fades", "restarted", |unit| unit["restarts"].as_u64() >= Some(1));
    assert!(unit["incarnation"].as_u64() >= Some(2), "{unit:#}");
    let events = project.events_of("fades");
    let asked = events.iter().position(|event| event["event"] == "unit.stopping").expect("it was asked to end");
    assert!(events[asked]["cause"].is_string(), "nobody told it why: {:#}", events[asked]);
    assert!(events[asked..].iter().any(|event| event["event"] == "unit.restarting"), "{events:#?}");
}

#[test]
fn a_unit_without_a_probe_is_running_and_counts_as_healthy() {
    let env = TestEnvironment::new();
    let project = env.project("[services.plain]\ncmd = [\"FX\", \"run\"]\n");
    project.up();
    let unit = project.unit("plain");
    assert_eq!((&unit["state"], &unit["ready"]), (&json!("running"), &json!(true)), "{unit:#}");
    project.envctl(&["ps", "--check"]).ok();
}

#[test]
fn a_slow_starter_is_not_asked_whether_it_is_alive_before_it_has_been_ready() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.slow]
        sh = "sleep 1.5; echo up; exec sleep 1000"
        ready = { log = "^up$", within = "20s" }
        alive = { exec = ["false"], every = "100ms", failures = 2 }
        unstable = 3
        backoff = { base = "50ms", max = "50ms" }
    "#,
    );
    project.envctl(&["up", "-d", "--wait", "--wait-timeout", "20s"]).ok();
    let unit = project.unit("slow");
    assert_eq!(unit["incarnation"], 1, "ended before it could be ready: {unit:#}");
}

#[test]
fn another_wish_for_a_port_is_another_lease_at_once() {
    let env = TestEnvironment::new();
    let toml = |base: u16| format!("[services.a]\ncmd = [\"FX\", \"listen\", \"${{a.port}}\"]\nport = {base}\n");
    let project = env.project(&toml(18610));
    project.up();
    let before = project.port("a");
    project.write("envctl.toml", toml(18650).replace("FX", env!("CARGO_BIN_EXE_envctl-fixture")));
    project.up();
    let after = project.port("a");
    assert!((18610..18650).contains(&before) && (18650..18700).contains(&after), "{before} then {after}");
}
