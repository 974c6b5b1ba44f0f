//! `envctl exec`: a command beside a unit, with everything of it but its life.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{ENVCTL, FIXTURE, Project, Terminal, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// A service that does nothing.
const IDLE: &str = "[services.a]\nsh = \"exec sleep 1000\"\n";

/// The envelope in an environment that was dumped, apart from the rest.
fn split(dump: &Value) -> (Value, Value) {
    let mut env = dump["env"].clone();
    let envelope = env.as_object_mut().and_then(|env| env.remove("ENVCTL_RT_VARS")).expect("an envelope");
    (serde_json::from_str(envelope.as_str().expect("a text")).expect("JSON"), env)
}

fn role_of(pid: u32) -> Option<String> {
    let envelope: Value = serde_json::from_str(&proc::variable(pid, "ENVCTL_RT_VARS")?).ok()?;
    Some(envelope["role"].as_str()?.to_owned())
}

/// The `sleep` that `exec` has become, among the project's processes.
fn until_guest(project: &Project<'_>) -> u32 {
    until(STATE_DEADLINE, "the guest", || {
        let found = proc::tied_to(project.dir());
        let guest =
            found.iter().find(|one| one.command == "sleep 2000" && role_of(one.pid).as_deref() == Some("guest"));
        guest.map(|process| process.pid).ok_or(found)
    })
}

#[test]
fn a_command_has_the_units_environment_directory_and_ports_and_a_guests_envelope() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        env = { SHARED = "of the project" }
        [tasks.unit]
        cmd = ["FX", "dump-env", "../unit.json"]
        dir = "sub"
        port = 18900
        env = { OWN = "with ${unit.port}", SHARED = "of the unit", PASSWORD = "not masked" }
    "#,
    );
    project.write("sub/file", "");
    project.up();
    let unit = project.until_json("unit.json");
    let port = project.port("unit");
    project.envctl(&["exec", "unit", "--", FIXTURE, "dump-env", "../guest.json"]).ok();
    let guest = project.until_json("guest.json");
    let ((unit_says, unit_env), (guest_says, guest_env)) = (split(&unit), split(&guest));
    assert_eq!(guest_env, unit_env);
    assert_eq!(guest_env["OWN"], format!("with {port}"));
    assert_eq!((&guest["cwd"], &guest_env["PASSWORD"]), (&unit["cwd"], &json!("not masked")));
    assert_eq!((&unit_says["role"], &guest_says["role"]), (&json!("unit"), &json!("guest")));
    for field in ["sid", "ctl", "proj", "unit", "run", "ports"] {
        assert_eq!(guest_says[field], unit_says[field], "{field}");
    }
    // Whoever runs the tests may leave files open in whatever they start.
    let mut direct = env.tool(FIXTURE, project.dir());
    env.start(direct.args(["dump-env", "direct.json"]), &["the program by itself"]).wait(STATE_DEADLINE).ok();
    let open = |dump: &Value| dump["fds"].as_object().expect("descriptors").keys().cloned().collect::<Vec<_>>();
    assert_eq!(open(&guest), open(&project.until_json("direct.json")), "a file of envctl's own is left open");
    let ignored = project.envctl(&["exec", "unit", "--", "grep", "SigIgn", "/proc/self/status"]).ok();
    let mask = u64::from_str_radix(ignored.stdout.split_whitespace().last().expect("a mask"), 16).expect("a mask");
    assert_eq!(mask & (1 << (Signal::SIGPIPE as u32 - 1)), 0, "it ignores SIGPIPE: {ignored}");
}

#[test]
fn standard_streams_are_the_callers_and_bytes_stay_bytes() {
    let env = TestEnvironment::new();
    let project = env.project(IDLE);
    project.shell("V=$(printf 'a\\377b') $E up -d --wait").ok();
    let piped =
        project.shell("printf 'in' | $E exec a -- sh -c 'cat; printf \" %s\" \"$V\" | od -An -tx1; echo err >&2'");
    piped.ok().says(&["in", "20 61 ff 62"]).complains(&["err"]);
}

#[test]
fn the_exit_is_the_commands_own() {
    let env = TestEnvironment::new();
    let project = env.project(IDLE);
    project.write("text", "no program");
    project.write("script", "#!/nonexistent/interpreter\n");
    project.up();
    project.shell("chmod +x script").ok();
    let exec = |command: &[&str]| project.envctl(&[&["exec", "a", "--"], command].concat());
    for code in [0, 1, 2, 3, 124, 255] {
        exec(&["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    let killed = exec(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.signal, Some(15), "{killed}");
    // What a shell makes of it.
    project.shell("$E exec a -- sh -c 'kill -KILL $$'").exits(137);
    exec(&["no-such-command"]).exits(127).complains(&["beside a", "no-such-command", "PATH", "hint:"]);
    exec(&["./nothing"]).exits(127).complains(&["hint:", "relative to the unit's `dir`"]);
    exec(&["./script"]).exits(127).complains(&["/nonexistent/interpreter"]);
    exec(&["./text"]).exits(126).complains(&["chmod +x"]);
    exec(&["."]).exits(126).complains(&["directory"]);
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_what_to_do() {
    let env = TestEnvironment::new();
    let project = env.project("[services.server]\nsh = \"exec sleep 1000\"\n");
    project.envctl(&["exec", "server", "--", "true"]).exits(1).complains(&["is not up", "`envctl up -d`"]);
    project.up();
    project.envctl(&["exec", "sever", "--", "true"]).exits(1).complains(&["`sever`", "did you mean `server`?"]);
    project.envctl(&["exec", "--json", "server", "--", "true"]).exits(1);
    project.envctl(&["--json", "exec", "server", "true"]).exits(1).complains(&["no JSON", "`envctl env UNIT --json`"]);
    project.envctl(&["exec", "server"]).exits(1).complains(&["CMD"]);
    // Options after the command are the command's.
    project.envctl(&["exec", "server", "echo", "--json", "-C"]).ok().says(&["--json -C"]);
    project.down();
    project.envctl(&["exec", "server", "--", "true"]).exits(1).complains(&["is not up"]);
}

#[test]
fn a_command_is_found_in_the_units_path() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.a]\nsh = \"exec /bin/sleep 1000\"\ndir = \"sub\"\nenv = { PATH = \"../bin:/usr/bin:/bin\" }\n",
    );
    project.write("bin/greet", "#!/bin/sh\necho hello from $PWD\n");
    project.write("sub/own", "#!/bin/sh\necho own\n");
    project.shell("chmod +x bin/greet sub/own").ok();
    project.up();
    project.envctl(&["exec", "a", "--", "greet"]).ok().says(&["hello from", "/sub"]);
    project.envctl(&["exec", "a", "--", "./own"]).ok().says(&["own"]);
    std::fs::remove_dir_all(project.dir().join("sub")).expect("removed");
    project.envctl(&["exec", "a", "--", "greet"]).exits(1).complains(&["enter", "/sub", "hint:"]);
}

#[test]
fn the_unit_need_not_run_and_its_ports_are_the_leased_ones() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.a]\ncmd = [\"FX\", \"listen\", \"${a.port}\"]\nport = 18910\n[services.b]\nsh = \"exec sleep 1000\"\n",
    );
    project.up();
    let port = project.port("a").to_string();
    project.envctl(&["stop", "a"]).ok();
    project.until_state("a", "stopped");
    let told = project.envctl(&["exec", "a", "--", "sh", "-c", "echo $PORT $ENVCTL_UNIT $A_URL"]).ok();
    told.says(&[&port, " a ", &format!(":{port}")]);
}

#[test]
fn a_guest_outlives_its_unit_its_project_and_the_daemon() {
    let env = TestEnvironment::new();
    let project = env.project(IDLE);
    project.up();
    let running = project.start(&["exec", "a", "--", "sleep", "2000"]);
    let guest = until_guest(&project);
    project.envctl(&["restart", "a"]).ok();
    project.until("a", "restarted", |unit| unit["incarnation"] == 2 && unit["pid"].is_u64());
    assert!(proc::alive(guest), "`restart` ended a guest");
    project.envctl(&["stop", "a"]).ok();
    project.until_state("a", "stopped");
    project.envctl(UP_WAIT).ok();
    project.down();
    assert!(proc::alive(guest), "`stop` or `down` ended a guest");
    project.up();
    env.envctl(&["daemon", "stop"]).ok();
    assert!(proc::alive(guest), "`daemon stop` ended a guest");
    running.signal(Signal::SIGTERM);
    let output = running.wait(STATE_DEADLINE);
    assert_eq!(output.signal, Some(15), "{output}");
}

#[test]
fn envctl_in_a_guest_talks_to_the_session_it_is_in() {
    let env = TestEnvironment::new();
    let project = env.project(IDLE);
    project.envctl(&["--session", "inner", "up", "-d", "--wait"]).ok();
    let inside = project.envctl(&["--session", "inner", "exec", "a", "--", ENVCTL, "ps", "--json"]).ok().json();
    assert_eq!((&inside["session"], &inside["projects"][0]["units"][0]["name"]), (&json!("inner"), &json!("a")));
    // What named the session for the first `up` does not name it for everything below.
    project.envctl(&["--session", "inner", "down"]).ok();
    let mut up = project.command(&["--session", "inner", "up", "-d", "--wait"]);
    let up = env.start(up.env("ENVCTL_SESSION", "outer"), &["up"]);
    up.wait(STATE_DEADLINE).ok();
    let inside = project.envctl(&["--session", "inner", "exec", "a", "--", ENVCTL, "ps", "--json"]).ok().json();
    assert_eq!(inside["session"], "inner");
    env.envctl(&["--session", "inner", "daemon", "stop"]).ok();
}

#[test]
fn a_shell_beside_a_unit_has_the_callers_terminal_and_its_job_control() {
    let env = TestEnvironment::new();
    let project = env.project(IDLE);
    project.up();
    let terminal = Terminal::start(&mut project.command(&["exec", "a", "--", "sh", "-i"]));
    terminal.type_in(b"test -t 0 && test -t 1 && echo it is $(stty size), unit $ENVCTL_UNIT\r");
    until(STATE_DEADLINE, "an answer", || {
        let shown = terminal.shown();
        if shown.contains("it is 40 120, unit a") { Ok(()) } else { Err(shown) }
    });
    // Ctrl-C ends what runs in front and not the shell: nobody stands between it and the terminal.
    terminal.type_in(b"echo $((6 * 7)); sleep 3000\r");
    until(STATE_DEADLINE, "something in front", || if terminal.shown().contains("42") { Ok(()) } else { Err(()) });
    until(STATE_DEADLINE, "a sleep", || {
        let found = proc::tied_to(project.dir());
        if found.iter().any(|process| process.command == "sleep 3000") { Ok(()) } else { Err(found) }
    });
    terminal.type_in(b"\x03");
    terminal.type_in(b"exit 5\r");
    terminal.wait(STATE_DEADLINE).exits(5);
    assert_eq!(project.state("a"), "running");
}
