//! What units use, as `ps` shows it: whole trees, ages that outlive daemons, and `ps --watch`.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{
    Background, ENVCTL, FIXTURE, Project, Stopwatch, Terminal, TestEnvironment, UP_WAIT, proc, until,
};

/// Longest wait for what must come by itself.
const DEADLINE: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

/// Sequences that take the terminal over and give it back.
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

fn number(unit: &Value, field: &str) -> u64 {
    unit[field].as_u64().unwrap_or_default()
}

/// The cells of a unit's line in a table.
fn cells(table: &str, unit: &str) -> Vec<String> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(unit));
    let line = line.unwrap_or_else(|| panic!("no line of {unit} in:\n{table}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Every value of the CPU column that was shown of a unit, in percent.
fn shares(text: &str, unit: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.split_whitespace().next() == Some(unit));
    lines.filter_map(|line| line.split_whitespace().find_map(|cell| cell.strip_suffix('%')?.parse().ok())).collect()
}

#[test]
fn cpu_and_memory_of_a_units_children_are_summed() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.family]
        cmd = ["FX", "burn", "40", "300", "3"]
        [services.idle]
        cmd = ["FX", "run"]
        [tasks.over]
        sh = "true"
    "#,
    );
    project.envctl(UP_WAIT).ok();
    let family = project
        .until("family", "burnt out", |unit| number(unit, "cpu_ms") >= 900 && number(unit, "memory") >= 120 * MIB);
    assert!(number(&family, "memory") < 180 * MIB, "more than there is: {family:#}");
    assert!(number(&family, "cpu_ms") < 2500, "more than was used: {family:#}");
    let leader = project.pid("family");
    assert!(proc::resident_kib(leader) < 40 * 1024 && proc::cpu_ticks(leader) < 20, "the leader did it itself");
    let idle = project.unit("idle");
    assert!(number(&idle, "memory") > 0 && number(&idle, "memory") < 40 * MIB, "{idle:#}");

    project.envctl(&["stop", "family"]).ok();
    let stopped = project.until_state("family", "stopped");
    for field in ["cpu_ms", "memory", "uptime_ms"] {
        assert!(stopped[field].is_null() && project.unit("over")[field].is_null(), "{field}: {stopped:#}");
    }
    let table = project.envctl(&["ps"]).ok().stdout;
    let heading: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "KIND", "STATE", "READY", "PID", "UPTIME", "RESTARTS", "CPU", "MEM", "PORTS"]);
    assert_eq!(cells(&table, "family")[4..], ["-", "-", "0", "-", "-", "-"], "{table}");
    let idle = cells(&table, "idle");
    assert!(idle[7].ends_with('s') && (idle[8].ends_with('M') || idle[8].ends_with('K')), "{table}");
}

#[test]
fn a_child_that_left_session_and_parent_behind_still_counts_for_its_unit() {
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "[services.parent]\nsh = \"setsid sh -c '{FIXTURE} burn 60 100 &'; exec sleep 1000\"\n\
         [services.other]\nsh = \"exec sleep 1000\"\n"
    ));
    project.envctl(UP_WAIT).ok();
    let parent =
        project.until("parent", "large", |unit| number(unit, "memory") >= 60 * MIB && number(unit, "cpu_ms") >= 100);
    let leader = project.pid("parent");
    let stray = proc::with_command("burn 60 100")
        .into_iter()
        .find(|pid| proc::variable(*pid, "HOME") == Some(env.root().join("home").display().to_string()));
    let stray = stray.expect("the child");
    assert!(
        proc::session(stray) != Some(leader) && proc::parent(stray) != Some(leader),
        "it did not leave: {parent:#}"
    );
    assert!(number(&project.unit("other"), "memory") < 20 * MIB, "it counts for another unit too");
}

#[test]
fn what_children_used_that_have_ended_still_counts() {
    let env = TestEnvironment::new();
    let busy = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let project = env.project(&format!("[services.a]\nsh = \"sh -c '{busy}'; echo > over; exec sleep 1000\"\n"));
    project.envctl(UP_WAIT).ok();
    project.until_lines("over", 1);
    let unit = project.unit("a");
    assert!(number(&unit, "cpu_ms") >= 100, "{unit:#}");
    assert!(proc::cpu_ticks(project.pid("a")) < 10, "it was not its child that was busy");
}

#[test]
fn uptime_is_the_age_of_the_process_also_after_the_daemon_was_killed() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let before = project.until("a", "three seconds old", |unit| number(unit, "uptime_ms") >= 3000);
    proc::kill_hard(env.daemon_pid());
    let adopted = project.until("a", "taken over", |unit| unit["adopted"] == true);
    assert_eq!(adopted["pid"], before["pid"]);
    assert!(number(&adopted, "uptime_ms") >= number(&before, "uptime_ms"), "{before:#} {adopted:#}");
    let shown = cells(&project.envctl(&["ps"]).ok().stdout, "a")[5].clone();
    let seconds: u64 = shown.trim_end_matches('s').parse().unwrap_or(60);
    assert!(seconds >= 3, "UPTIME is {shown}");
    project.envctl(&["restart", "a"]).ok();
    let again = project.until("a", "another life", |unit| unit["incarnation"] == 2 && unit["pid"].is_u64());
    assert!(number(&again, "uptime_ms") < number(&adopted, "uptime_ms"), "the age of the life before: {again:#}");
}

/// Reads that a process has asked the kernel for (proc_pid_io(5)).
fn reads(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("its io");
    text.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse().ok()).expect("a count")
}

#[test]
fn watching_in_json_gives_a_line_per_interval_and_nothing_is_measured_once_the_watcher_is_gone() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"run\"]\n[services.b]\ncmd = [\"FX\", \"run\"]\n");
    project.envctl(UP_WAIT).ok();
    let daemon = env.daemon_pid();
    let (quiet, descriptors) = (reads_in_half_a_second(daemon), proc::descriptors(daemon));
    let mut watch = project.start(&["ps", "--watch", "--json", "--interval", "100ms"]);
    until_lines(&mut watch, 3);
    let busy = reads_in_half_a_second(daemon);
    assert!(busy > quiet + 25, "the test cannot see measuring: {quiet} reads, then {busy}");
    project.envctl(&["stop", "b"]).ok();
    watch.until_says("\"stopped\"", DEADLINE);
    watch.signal(Signal::SIGINT);
    let output = watch.wait(DEADLINE).exits(2);
    for line in output.json_lines() {
        assert_eq!((&line["kind"], &line["ok"], &line["schema_version"]), (&"ps".into(), &true.into(), &1.into()));
        assert!(line["projects"][0]["units"][0]["uptime_ms"].is_u64(), "{line:#}");
    }
    until(DEADLINE, "its descriptors to be closed", || {
        let now = proc::descriptors(daemon);
        if now <= descriptors { Ok(()) } else { Err((descriptors, now)) }
    });
    let after = reads_in_half_a_second(daemon);
    assert!(after < quiet + 25, "still measuring: {quiet} reads before, {after} after");
}

fn reads_in_half_a_second(pid: u32) -> u64 {
    let (clock, before) = (Stopwatch::start(), reads(pid));
    let over = || if clock.elapsed() > Duration::from_millis(500) { Ok(()) } else { Err(()) };
    until(DEADLINE, "half a second to pass", over);
    reads(pid) - before
}

fn until_lines(watch: &mut Background, lines: usize) {
    until(DEADLINE, &format!("{lines} lines"), || {
        watch.take_in();
        if watch.said().lines().count() >= lines { Ok(()) } else { Err(watch.said()) }
    });
}

#[test]
fn watching_without_a_terminal_gives_a_table_per_interval_with_shares_of_a_core() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.busy]\ncmd = [\"FX\", \"burn\", \"1\", \"60000\"]\n[services.idle]\ncmd = [\"FX\", \"run\"]\n",
    );
    project.envctl(UP_WAIT).ok();
    let mut watch = project.start(&["ps", "--watch", "--interval", "300ms"]);
    until(DEADLINE, "a third table and a busy unit", || {
        watch.take_in();
        let said = watch.said();
        let busy = shares(&said, "busy").into_iter().skip(1).any(|share| share >= 10.0);
        if busy && said.matches("NAME").count() >= 3 { Ok(()) } else { Err(said) }
    });
    watch.signal(Signal::SIGINT);
    let output = watch.wait(DEADLINE).exits(2);
    assert!(!output.stdout.contains('\u{1b}'), "sequences for a terminal: {output}");
    assert!(output.stdout.contains("\n\nNAME"), "no line between the tables: {output}");
    assert!(shares(&output.stdout, "idle").into_iter().all(|share| share < 50.0), "{output}");
}

/// `ps` on a terminal, and after it what the shell finds there.
fn watch_on_terminal(project: &Project<'_>) -> Terminal {
    let line = format!("trap : INT; {ENVCTL} ps --watch --interval 300s; echo code=$?; stty -a; echo that is all");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).current_dir(project.dir());
    for (name, value) in project.command(&[]).get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    Terminal::start(&mut shell)
}

fn until_shown(terminal: &Terminal, text: &str) {
    until(DEADLINE, text, || if terminal.shown().contains(text) { Ok(()) } else { Err(terminal.shown()) });
}

#[test]
fn watching_on_a_terminal_shows_changes_at_once_and_gives_the_terminal_back() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"run\"]\n[services.b]\ncmd = [\"FX\", \"run\"]\n");
    for end in [b"q", b"\x03"] {
        project.envctl(UP_WAIT).ok();
        let terminal = watch_on_terminal(&project);
        until_shown(&terminal, "NAME");
        assert!(terminal.shown().contains(TAKEN), "{:?}", terminal.shown());
        // Long before the next look.
        project.envctl(&["stop", "b"]).ok();
        until_shown(&terminal, "stopped");
        terminal.type_in(b"x");
        terminal.type_in(end);
        until_shown(&terminal, "that is all");
        let output = terminal.wait(DEADLINE).ok();
        let (watched, after) = output.stdout.split_once(GIVEN_BACK).expect("the terminal is given back");
        assert!(!watched.contains("\x1b[2J\x1b[H\x1b[2J") && watched.matches("\x1b[2J").count() == 1, "it flickers");
        assert!(after.contains("code=2"), "{after}");
        let settings: Vec<&str> = after.split([' ', ';', '\r', '\n']).collect();
        assert!(settings.contains(&"icanon") && settings.contains(&"echo"), "{after}");
    }
}

#[test]
fn a_watch_that_is_suspended_leaves_the_terminal_meanwhile() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"run\"]\n");
    project.envctl(UP_WAIT).ok();
    let terminal = watch_on_terminal(&project);
    until_shown(&terminal, "NAME");
    terminal.type_in(b"\x1a");
    until_shown(&terminal, GIVEN_BACK);
    let home = env.root().join("home").display().to_string();
    let watch = proc::with_command("ps --watch --interval 300s").into_iter().find(|pid| {
        proc::variable(*pid, "HOME") == Some(home.clone()) && proc::parent(*pid).is_some() && is_stopped(*pid)
    });
    let watch = watch.expect("a stopped watch");
    proc::signal(watch, Signal::SIGCONT);
    until(DEADLINE, "the screen again", || {
        let shown = terminal.shown();
        let (_, after) = shown.split_once(GIVEN_BACK).unwrap_or_default();
        if after.contains(TAKEN) && after.contains("NAME") { Ok(()) } else { Err(shown) }
    });
    terminal.type_in(b"q");
    until_shown(&terminal, "that is all");
    terminal.wait(DEADLINE).ok().says(&["code=2"]);
}

fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("stopped"))
}

#[test]
fn watching_goes_on_with_the_next_daemon() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"run\"]\n");
    project.envctl(UP_WAIT).ok();
    let mut watch = project.start(&["ps", "--watch", "--json", "--interval", "200ms"]);
    until_lines(&mut watch, 1);
    proc::kill_hard(env.daemon_pid());
    watch.until_says("\"adopted\":true", DEADLINE);
    watch.signal(Signal::SIGTERM);
    watch.wait(DEADLINE).exits(2);
}

#[test]
fn watching_where_nothing_is_up_starts_nothing() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\ncmd = [\"FX\", \"run\"]\n");
    let mut watch = project.start(&["ps", "--watch", "--interval", "100ms"]);
    watch.until_says("nothing is up\n\nnothing is up", DEADLINE);
    watch.signal(Signal::SIGINT);
    watch.wait(DEADLINE).exits(2);
    assert!(env.sockets().is_empty(), "looking started a daemon: {:?}", env.sockets());
}

#[test]
fn between_two_pieces_of_work_daemon_and_heart_keep_little_of_their_code_and_go_on() {
    let env = TestEnvironment::new();
    let project = env.project("[services.s]\nsh = \"exec sleep 1000\"\n");
    project.up();
    let daemon = env.daemon_pid();
    let heart = proc::parent(daemon).expect("its parent is heart");
    let at_work = [daemon, heart].map(proc::code_kib);
    assert!(at_work.iter().all(|kib| *kib > 0), "{at_work:?}");
    // Nobody may ask meanwhile: an answer is work.
    until(Duration::from_secs(20), "little code", || {
        let now = [daemon, heart].map(proc::code_kib);
        if now.iter().zip(at_work).all(|(now, before)| *now < before / 2) { Ok(()) } else { Err((now, at_work)) }
    });
    proc::kill_hard(project.pid("s"));
    project.until("s", "another life", |unit| unit["restarts"] == 1 && unit["state"] == "running");
    assert_eq!(env.daemon_pid(), daemon);
}
