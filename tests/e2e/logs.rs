//! Output, as users and scripts read it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::TestEnvironment;

#[test]
fn e10_the_last_words_of_a_program_are_kept_even_without_a_newline() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.burst]
        cmd = ["FX", "tail-then-exit", "20000", "0"]
    "#,
    );
    project.up();
    let logs = project.envctl(&["logs", "--raw", "burst"]).ok();
    let lines: Vec<&str> = logs.stdout.lines().collect();
    assert_eq!(lines.len(), 20_001, "first {:?} last {:?}", lines.first(), lines.last());
    assert!(lines[0].ends_with("line 1") && lines[19_999].ends_with("line 20000"));
    assert!(lines[20_000].ends_with("the last words"));
}

#[test]
fn e12_logs_f_into_head_ends_quietly() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.chatty]
        cmd = ["FX", "spew", "100", "1000000"]
    "#,
    );
    project.up();
    let output = project.shell("$E logs -f | head -1; echo head is done").ok();
    output.says(&["line ", "head is done"]);
    assert_eq!(output.stderr, "", "{output}");
    assert!(output.took < Duration::from_secs(10), "{:?}", output.took);
    let output = project.shell("$E ps | true; $E logs | true").ok();
    assert_eq!(output.stderr, "", "{output}");
}

#[test]
fn streams_are_kept_apart_and_the_tail_is_the_tail() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.both]
        cmd = ["FX", "numbered", "10"]
    "#,
    );
    project.up();
    let lines = |arguments: &[&str]| -> Vec<u32> {
        let output = project.envctl(arguments).ok();
        output.stdout.lines().map(|line| line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)).collect()
    };
    assert_eq!(lines(&["logs", "both", "--stream", "out"]), [1, 3, 5, 7, 9]);
    assert_eq!(lines(&["logs", "both", "--stream", "err"]), [2, 4, 6, 8, 10]);
    assert_eq!(lines(&["logs", "both", "--stream", "err", "-n", "2"]), [8, 10]);
    assert_eq!(lines(&["logs", "both"]).len(), 10);
}

#[test]
fn following_shows_every_line_once_across_a_restart() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.lives]
        sh = "echo life $$; exec $FIXTURE run"
        env = { FIXTURE = "FX" }
        ready = { log = "up" }
    "#,
    );
    project.up();
    let first = project.pid("lives");
    let mut follower = project.start(&["logs", "-f", "lives"]);
    follower.until_says(&format!("life {first}"), Duration::from_secs(10));
    project.envctl(&["restart", "lives"]).ok();
    let second =
        project.until("lives", "in its second life", |u| u["incarnation"] == 2 && u["state"] == "ready")["pid"].clone();
    follower.until_says(&format!("life {second}"), Duration::from_secs(10));
    follower.signal(nix::sys::signal::Signal::SIGINT);
    let said = follower.wait(Duration::from_secs(10));
    assert_eq!(said.stdout.matches("life ").count(), 2, "{said}");
    project.envctl(&["logs", "--previous", "lives"]).ok().says(&[&format!("life {first}")]);
}

#[test]
fn logs_are_readable_when_nothing_runs_any_more() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.both]
        cmd = ["FX", "numbered", "4"]
    "#,
    );
    project.up();
    project.down();
    env.envctl(&["daemon", "stop"]).ok();
    project.envctl(&["logs"]).ok().says(&["line 1", "line 4"]);
    assert!(env.sockets().is_empty(), "reading logs started a daemon");
}

#[test]
fn e03_escape_sequences_of_a_unit_do_not_reach_the_reader() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.ansi]
        cmd = ["FX", "ansi"]
    "#,
    );
    project.up();
    let shown = project.envctl(&["logs", "ansi", "--color", "never"]).ok();
    for bad in ["\x1b]", "\x1b[2J", "\x07", "\u{9b}", "\u{202e}", "\x1b"] {
        assert!(!shown.stdout.contains(bad), "{bad:?} came through:\n{:?}", shown.stdout);
    }
    shown.says(&["red", "titled", "cleared", "desrever"]);
    let raw = project.envctl(&["logs", "ansi", "--raw"]).ok();
    assert!(raw.stdout.contains("\x1b]52;"), "--raw is exact: {:?}", raw.stdout);
}

#[test]
fn e01_a_line_without_an_end_is_kept_whole() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.big]
        cmd = ["FX", "bigline", "5000000"]
    "#,
    );
    project.up();
    let counted = project.shell("$E logs big --raw | tr -cd x | wc -c").ok();
    assert_eq!(counted.stdout.trim(), "5000000");
}

#[test]
fn i06_closed_standard_streams_are_survived() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        cmd = ["FX", "run"]
        ready = { log = "up" }
    "#,
    );
    for line in [
        "$E up -d --wait --wait-timeout 20s <&- >&- 2>&-",
        "$E ps >&-",
        "$E ps <&-",
        "$E ps 2>&-",
        "$E logs <&- >&- 2>&-",
        "TERM= $E ps",
        "NO_COLOR=1 TERM=dumb $E ps",
        "env -u TERM $E ps",
    ] {
        project.shell(line).ok();
    }
    assert_eq!(project.state("api"), "ready");
    let coloured = project.shell("NO_COLOR=1 $E ps; $E ps | cat").ok();
    assert!(!coloured.stdout.contains('\x1b'), "{:?}", coloured.stdout);
}

#[test]
fn i10_json_output_is_one_document_and_nothing_else() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        cmd = ["FX", "http", "${api.port}", "ok"]
        port = 21400
        watch = ["src/**"]
        [tasks.t]
        sh = "echo hello"
    "#,
    );
    let document = |arguments: &[&str]| -> Value {
        let value = project.envctl(arguments).without_panic().json();
        assert!(value["schema_version"].is_u64() && value["kind"].is_string() && value["ok"].is_boolean(), "{value:#}");
        value
    };
    assert_eq!(document(&["up", "-d", "--wait", "--wait-timeout", "20s", "--json"])["ok"], true);
    for arguments in [
        ["ps", "--json"].as_slice(),
        &["ps", "--all", "--json"],
        &["endpoints", "--json"],
        &["env", "api", "--json"],
        &["why", "api", "--json"],
        &["wait", "api", "--for", "ready", "--json"],
        &["explain", "--json"],
        &["config", "show", "--json"],
        &["config", "check", "--json"],
        &["show-state", "--json"],
        &["list-commands", "--json"],
        &["list-targets", "--json"],
        &["daemon", "status", "--json"],
        &["restart", "api", "--json"],
        &["stop", "api", "--json"],
        &["start", "api", "--json"],
        &["down", "--json"],
    ] {
        assert_eq!(document(arguments)["ok"], true, "{arguments:?}");
    }
    for arguments in
        [["up", "-d", "nosuch", "--json"].as_slice(), &["why", "nosuch", "--json"], &["stop", "nosuch", "--json"]]
    {
        assert_eq!(document(arguments)["ok"], false, "{arguments:?}");
    }
    for arguments in [["events", "--json"].as_slice(), &["logs", "--json"]] {
        let lines = project.envctl(arguments).ok().json_lines();
        assert!(!lines.is_empty(), "{arguments:?}");
    }
}
