//! Units on terminals: what they see, what is kept of what they show, and how people join them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Project, Terminal, TestEnvironment, proc, until};

/// Longest wait for what must come by itself.
const SOON: Duration = Duration::from_secs(20);
/// The default keys that detach.
const DETACH: &[u8] = b"\x10\x11";
/// A service that answers what is typed, and a plain one.
const TALKER: &str = r#"
    [services.talker]
    cmd = ["FX", "tty"]
    tty = true
    [services.plain]
    cmd = ["FX", "run"]
"#;

/// Attaches on a terminal of 40 rows and 120 columns, and waits until what the unit showed before is there.
#[track_caller]
fn attach(project: &Project<'_>, unit: &str) -> Terminal {
    let terminal = Terminal::start(&mut project.command(&["attach", unit]));
    until_shown(&terminal, "ready>");
    terminal
}

#[track_caller]
fn until_shown(terminal: &Terminal, text: &str) {
    until(SOON, &format!("{text:?} on the screen"), || {
        let shown = terminal.shown();
        if shown.contains(text) { Ok(()) } else { Err(shown) }
    });
}

#[track_caller]
fn raw(project: &Project<'_>, unit: &str) -> String {
    project.envctl(&["logs", unit, "--raw"]).ok().stdout
}

/// Waits until the log of `unit` holds `text`, and returns all of it.
#[track_caller]
fn until_logged(project: &Project<'_>, unit: &str, text: &str) -> String {
    until(SOON, &format!("{text:?} in the log of {unit}"), || {
        let log = raw(project, unit);
        if log.contains(text) { Ok(log) } else { Err(log) }
    })
}

#[track_caller]
fn kill_daemon(env: &TestEnvironment) {
    kill(env, env.daemon_pid());
}

#[track_caller]
fn kill(env: &TestEnvironment, before: u32) {
    proc::kill_hard(before);
    until(SOON, "another daemon", || {
        let output = env.envctl(&["daemon", "status", "--json"]);
        let pid = if output.code == Some(0) { output.json()["pid"].as_u64() } else { None };
        pid.filter(|pid| *pid != u64::from(before)).ok_or(pid)
    });
}

#[test]
fn a_unit_with_tty_has_a_terminal_of_its_own_and_its_colours_are_in_the_log() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.small]
        cmd = ["FX", "tty"]
        tty = true
        [services.wide]
        cmd = ["FX", "tty"]
        tty = { rows = 50, columns = 132 }
        env = { TERM = "vt220" }
        [tasks.none]
        cmd = ["FX", "tty"]
        [tasks.brief]
        sh = "test -t 0 && test -t 1 && test -t 2 && test \"$(ps -o tty= -p $$)\" != ? && printf 'last words'"
        tty = true
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    let facts = |unit: &str| {
        let log = until_logged(&project, unit, "colour").replace("\r\n", "\n");
        serde_json::from_str::<serde_json::Value>(log.lines().next().unwrap_or_default()).expect("a line of JSON")
    };
    assert_eq!(facts("none")["terminals"], json!([false, false, false]));
    let log = until_logged(&project, "small", "ready> ");
    assert!(log.contains("\x1b[32mgreen\x1b[0m\r\n"), "{log:?}");
    let told: serde_json::Value =
        serde_json::from_str(log.lines().next().unwrap_or_default().trim_end()).expect("JSON");
    assert_eq!(told["terminals"], json!([true, true, true]));
    assert_eq!(
        (&told["controlling"], &told["foreground"], &told["leader"]),
        (&json!(true), &json!(true), &json!(true))
    );
    assert_eq!((&told["size"], &told["term"]), (&json!("24 80"), &json!("xterm-256color")));
    let log = until_logged(&project, "wide", "ready> ");
    assert!(log.contains(r#""size":"50 132""#) && log.contains(r#""term":"vt220""#), "{log}");
    let brief = project.until("brief", "over", |unit| unit["exit"].is_object());
    assert_eq!((&brief["state"], raw(&project, "brief").as_str()), (&json!("done"), "last words"), "{brief:#}");
    project.envctl(&["env", "small"]).ok().says(&["TERM", "xterm-256color", "derived"]);
}

#[test]
fn what_a_terminal_showed_is_read_as_lines_and_kept_as_bytes() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.bar]
        sh = "printf ' 10%%\\r 50%%\\r\\033[K100%% \\033[32mdone\\033[0m\\nplain\\n'"
        tty = true
    "#,
    );
    project.up();
    assert_eq!(raw(&project, "bar"), " 10%\r 50%\r\x1b[K100% \x1b[32mdone\x1b[0m\r\nplain\r\n");
    assert_eq!(project.envctl(&["logs", "bar"]).ok().stdout, "bar | 100% done\nbar | plain\n");
    let coloured = project.envctl(&["logs", "bar", "--color", "always"]).ok();
    assert!(coloured.stdout.contains("100% \x1b[32mdone\x1b[0m\n"), "{coloured}");
}

#[test]
fn b01_a_killed_daemon_loses_no_line_of_a_terminal_and_none_comes_twice() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.writer]
        sh = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exec cat"
        tty = true
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    let pid = project.pid("writer");
    for _ in 0..3 {
        kill_daemon(&env);
    }
    assert_eq!((project.pid("writer"), &project.unit("writer")["adopted"]), (pid, &json!(true)));
    let log = until_logged(&project, "writer", "line 20000\r\n");
    let expected: String = (1..=20000).map(|n| format!("line {n}\r\n")).collect();
    assert!(log == expected, "{} bytes instead of {}", log.len(), expected.len());
}

#[test]
fn a_unit_that_ends_leaves_everything_it_showed_also_while_no_daemon_reads() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.ends]\nsh = \"read go < go; seq 1 11050; printf 'last words'; exit 42\"\nrestart = \"temporary\"\ntty = true\n",
    );
    project.shell("mkfifo go").ok();
    project.up();
    let (daemon, pid) = (env.daemon_pid(), project.pid("ends"));
    // Stopped, it reads nothing: 66 KB are more than a FIFO holds, so the last words are still in the terminal at the end.
    proc::signal(daemon, nix::sys::signal::Signal::SIGSTOP);
    project.shell("echo go > go").ok();
    until(SOON, "the unit's end", || if proc::alive(pid) { Err(pid) } else { Ok(()) });
    kill(&env, daemon);
    let ends = project.until("ends", "over", |unit| unit["exit"].is_object());
    assert_eq!(ends["exit"]["code"], 42, "{ends:#}");
    let expected: String = (1..=11050).map(|n| format!("{n}\r\n")).chain(["last words".to_owned()]).collect();
    let log = raw(&project, "ends");
    assert!(log == expected, "{} bytes instead of {}", log.len(), expected.len());
}

#[test]
fn who_is_attached_types_sees_the_answer_and_detaches_and_the_unit_runs_on() {
    let env = TestEnvironment::new();
    let project = env.project(TALKER);
    project.up();
    let pid = project.pid("talker");
    let terminal = attach(&project, "talker");
    terminal.type_in(b"hello\r");
    until_shown(&terminal, "got [hello]\r\n");
    // The window is the unit's.
    terminal.type_in(b"size\r");
    until_shown(&terminal, "it is 40 120");
    // A part of the detach keys is typed like any other key, Ctrl-C would have ended the unit.
    terminal.type_in(b"a\x10b\r");
    until_shown(&terminal, "got [a\x10b]");
    let second = attach(&project, "talker");
    second.type_in(b"from the second\r");
    until_shown(&terminal, "got [from the second]");
    for attached in [terminal, second] {
        attached.type_in(DETACH);
        until_shown(&attached, "detached from talker, which runs on");
        attached.wait(SOON).exits(0);
    }
    assert_eq!(project.pid("talker"), pid);
    let log = raw(&project, "talker");
    assert_eq!(log.matches("got [hello]").count(), 1, "{log}");
}

#[test]
fn the_callers_terminal_is_as_it_was_after_attaching() {
    let env = TestEnvironment::new();
    let project = env.project(TALKER);
    project.up();
    // The shell asks its terminal before and after; typed text must not end the comparison.
    let line = "stty -g > before; $E attach talker; stty -g > after; cmp before after && echo as it was";
    let mut command = env.tool("/bin/sh", project.dir());
    command.args(["-c", line]).env("E", crate::harness::ENVCTL);
    let terminal = Terminal::start(&mut command);
    until_shown(&terminal, "ready>");
    terminal.type_in(DETACH);
    until_shown(&terminal, "as it was");
    terminal.wait(SOON).ok();
    let terminal = Terminal::start(&mut command);
    until_shown(&terminal, "ready>");
    let client = env.processes().into_iter().find(|process| process.command.trim_end().ends_with("attach talker"));
    let client = client.expect("the client").pid;
    proc::signal(client, nix::sys::signal::Signal::SIGTERM);
    until_shown(&terminal, "as it was");
    terminal.wait(SOON).ok();
}

#[test]
fn attaching_survives_the_daemon_and_ends_with_the_unit() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.talker]
        cmd = ["FX", "tty"]
        tty = true
        restart = "temporary"
    "#,
    );
    project.up();
    let terminal = attach(&project, "talker");
    terminal.type_in(b"before\r");
    until_shown(&terminal, "got [before]");
    kill_daemon(&env);
    terminal.type_in(b"after\r");
    until_shown(&terminal, "got [after]");
    terminal.type_in(b"exit 3\r");
    until_shown(&terminal, "talker ended with exit code 3");
    let left = terminal.wait(SOON).exits(0);
    assert_eq!(left.stdout.matches("got [before]").count(), 1, "{left}");
    assert_eq!(project.until("talker", "over", |unit| unit["exit"].is_object())["exit"]["code"], 3);
}

#[test]
fn a_terminal_closed_on_an_attached_unit_leaves_it_running() {
    let env = TestEnvironment::new();
    let project = env.project(TALKER);
    project.up();
    let pid = project.pid("talker");
    attach(&project, "talker").hang_up(SOON);
    assert_eq!(project.pid("talker"), pid);
    let terminal = attach(&project, "talker");
    terminal.type_in(b"still there?\r");
    until_shown(&terminal, "got [still there?]");
    terminal.type_in(DETACH);
    terminal.wait(SOON).ok();
}

#[test]
fn what_cannot_be_attached_is_told_with_what_to_do() {
    let env = TestEnvironment::new();
    let project = env.project(TALKER);
    let on_terminal = |arguments: &[&str]| {
        let terminal = Terminal::start(&mut project.command(arguments));
        until_shown(&terminal, "hint:");
        let shown = until(SOON, "the end of the hint", || {
            let shown = terminal.shown();
            if shown.ends_with('\n') { Ok(shown) } else { Err(shown) }
        });
        terminal.wait(SOON).exits(1);
        shown
    };
    let shown = on_terminal(&["attach", "talker"]);
    assert!(shown.contains("is not up") && shown.contains("envctl up -d"), "{shown}");
    project.up();
    let shown = on_terminal(&["attach", "plain"]);
    assert!(shown.contains("plain has no terminal") && shown.contains("tty = true"), "{shown}");
    let shown = on_terminal(&["attach", "talk"]);
    assert!(shown.contains("no unit is called `talk`") && shown.contains("did you mean `talker`?"), "{shown}");
    let shown = on_terminal(&["attach", "talker", "--detach-keys", "ctrl-1"]);
    assert!(shown.contains("`ctrl-1` is no key"), "{shown}");
    project.envctl(&["attach", "talker"]).exits(1).complains(&["needs a terminal", "logs -f --raw talker"]);
    project.envctl(&["stop", "talker"]).ok();
    project.until_state("talker", "stopped");
    let shown = on_terminal(&["attach", "talker"]);
    assert!(shown.contains("talker is not running") && shown.contains("envctl start talker"), "{shown}");
    let toml = project.read("envctl.toml").replacen("cmd", "tty = \"yes\"\n    cmd", 1);
    project.write("envctl.toml", toml.replacen("tty = true", "", 1));
    project.envctl(&["config", "check"]).exits(1).complains(&["`tty` of service `talker`", "true, false or a table"]);
}

#[test]
fn nothing_is_left_of_a_unit_whose_child_holds_its_terminal() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.sly]
        sh = "setsid env -i sh -c 'trap \"\" HUP TERM; echo hidden; while :; do sleep 1; done' & echo up; exec sleep 1000"
        tty = true
        ready = { log = "hidden" }
        stop = { grace = "500ms" }
    "#,
    );
    project.up();
    let heart = env.envctl(&["daemon", "status", "--json"]).ok().json()["heart_pid"].as_u64().expect("a pid");
    let before = proc::cpu_ticks(u32::try_from(heart).expect("a pid"));
    project.down();
    let spent = proc::cpu_ticks(u32::try_from(heart).unwrap_or(0)).saturating_sub(before);
    assert!(spent < 20, "heart spun: {spent} ticks");
    let left = env.processes().into_iter().filter(|process| process.command.contains("hidden")).collect::<Vec<_>>();
    assert!(left.is_empty(), "something escaped: {left:?}");
}

#[test]
fn a_unit_on_a_terminal_ends_with_heart_and_the_next_daemon_starts_it_again() {
    let env = TestEnvironment::new();
    let project = env.project(TALKER);
    project.up();
    let (talker, plain) = (project.pid("talker"), project.pid("plain"));
    let heart = env.envctl(&["daemon", "status", "--json"]).ok().json()["heart_pid"].as_u64().expect("a pid");
    proc::kill_hard(u32::try_from(heart).expect("a pid"));
    // Nobody signals it: it is the kernel that hangs its terminal up. A unit without one does not notice.
    until(SOON, "the hangup", || if proc::alive(talker) { Err(talker) } else { Ok(()) });
    assert!(proc::alive(plain), "a unit without a terminal ended too");
    project.until("talker", "up again", |unit| unit["state"] == "running" && unit["pid"] != talker);
    let terminal = attach(&project, "talker");
    terminal.type_in(b"again\r");
    until_shown(&terminal, "got [again]");
    terminal.type_in(DETACH);
    terminal.wait(SOON).ok();
}
