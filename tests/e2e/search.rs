//! Asking logs: what is in them, whose they are, and what is told of them.

use std::time::Duration;

use crate::harness::TestEnvironment;

/// Lines of every kind: text, JSON and logfmt.
const RECORDS: &str = r#"
    [tasks.records]
    sh = '''
    echo '{"level":"info","msg":"began","http":{"status":200}}'
    echo 'level=warn msg="slow query" user=7'
    echo '{"level":50,"msg":"broke","http":{"status":500}}'
    echo 'ERROR in plain words' >&2
    printf 'Colour \033[31mer\033[1mror\033[0m\n'
    '''
"#;

#[test]
fn lines_are_chosen_by_pattern_level_and_field() {
    let env = TestEnvironment::new();
    let project = env.project(RECORDS);
    project.up();
    let lines = |arguments: &[&str]| -> Vec<String> {
        let all = [&["logs", "--raw"], arguments].concat();
        let mut lines: Vec<String> = project.envctl(&all).ok().stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let count = |arguments: &[&str], expect: usize| {
        let lines = lines(arguments);
        assert_eq!(lines.len(), expect, "{arguments:?}: {lines:#?}");
    };
    count(&["--grep", "error"], 1);
    count(&["--grep", "error", "-i"], 2);
    count(&["--grep", "began", "--grep", "^level="], 2);
    count(&["--grep", "[eE]", "--invert"], 0);
    count(&["-g", "msg", "--invert"], 2);
    count(&["--level", "warn"], 2);
    count(&["--level", "trace"], 3);
    count(&["--field", "http.status=500"], 1);
    count(&["--field", "user=7", "--level", "warn"], 1);
    count(&["--grep", "error", "-i", "-n", "1"], 1);
    count(&["--grep", "error", "-i", "--stream", "err"], 1);
    let shown = project.envctl(&["logs", "--grep", "error"]).ok();
    assert_eq!(shown.stdout, "records | Colour error\n");
}

#[test]
fn wrong_questions_are_answered_with_what_to_ask_instead() {
    let env = TestEnvironment::new();
    let project = env.project(RECORDS);
    let asked = |arguments: &[&str]| project.envctl(&[&["logs"], arguments].concat()).exits(1);
    asked(&["--grep", "a(b"]).complains(&["--grep", "\n    a(b\n     ^\n", "unclosed group", "hint:"]);
    asked(&["--grep", "a\nb"]).complains(&["line feed"]);
    asked(&["--since", "yesterday-ish"]).complains(&["10m", "2026-01-31T12:00:00Z"]);
    asked(&["--until", "25:00"]).complains(&["--until"]);
    asked(&["--level", "loud"]).complains(&["loud", "trace, debug, info, warn, error, fatal"]);
    asked(&["--field", "status"]).complains(&["http.status=500"]);
    asked(&["--invert"]).complains(&["--grep"]);
    asked(&["record"]).complains(&["record", "did you mean `records`?"]);
    asked(&["--stream", "both"]).complains(&["out", "err"]);
    project.envctl(&["clear-logs", "record"]).exits(1).complains(&["did you mean `records`?"]);
    project.envctl(&["clear-logs"]).exits(1).complains(&["nobody can be asked", "--yes"]);
    project.envctl(&["prune"]).exits(1).complains(&["--logs"]);
    project.envctl(&["prune", "--logs", "--older-than", "old"]).exits(1).complains(&["30d"]);
}

#[test]
fn e16_a_hostile_pattern_is_answered_in_time() {
    let env = TestEnvironment::new();
    let project = env.project("[tasks.big]\nsh = \"head -c 1048576 /dev/zero | tr '\\\\0' a; echo b\"\n");
    project.up();
    let output = project.envctl(&["logs", "--grep", "(a+)+$", "--raw"]).ok();
    assert!(output.took < Duration::from_secs(20), "{:?}", output.took);
    project.envctl(&["logs", "--grep", r"(\w{1000}){1000}"]).exits(1).complains(&["too large"]);
}

#[test]
fn a_line_in_json_has_everything_that_is_known_of_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        name = "shop"
        [tasks.t]
        sh = "echo one; printf 'caf\\351\\n' >&2; printf end"
        [services.s]
        sh = "echo first; exec sleep 1000"
    "#,
    );
    project.up();
    let run = project.ps()["run"].clone();
    let lines = project.envctl(&["logs", "--json", "t"]).ok().json_lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let one = lines.iter().find(|line| line["message"] == "one").expect("the first line");
    assert!(one["time"].as_str().is_some_and(|time| time.len() == "2026-01-01T00:00:00.000000Z".len()), "{one:#}");
    for (key, value) in [
        ("kind", "log"),
        ("lane", "task"),
        ("session", "default"),
        ("project", "shop"),
        ("unit", "t"),
        ("stream", "out"),
    ] {
        assert_eq!(one[key], value, "{key} in {one:#}");
    }
    assert_eq!((&one["run"], &one["incarnation"], &one["partial"]), (&run, &1.into(), &false.into()));
    assert_eq!((&one["sequence"], &one["dropped"], &one["dropped_bytes"]), (&0.into(), &0.into(), &0.into()));
    let no_utf8 = lines.iter().find(|line| line["stream"] == "err").expect("the line that is no UTF-8");
    assert_eq!((&no_utf8["message_base64"], no_utf8.get("message")), (&"Y2Fm6Q==".into(), None));
    let end = lines.iter().find(|line| line["message"] == "end").expect("the last words");
    assert_eq!(end["partial"], true);
    // Any reader finds the same numbers, whatever it asks for.
    let again = project.envctl(&["logs", "--json", "t", "--grep", "end", "-n", "1"]).ok().json_lines();
    assert_eq!(again[0]["sequence"], end["sequence"]);
    assert_eq!(project.envctl(&["logs", "--json", "s"]).ok().json_lines()[0]["lane"], "service");
}

#[test]
fn lives_can_be_told_apart() {
    let env = TestEnvironment::new();
    let project = env.project("[services.s]\nsh = \"echo life $$; exec sleep 1000\"\n");
    project.up();
    for life in 2..4 {
        project.envctl(&["restart", "s"]).ok();
        project.until("s", "in its next life", |unit| unit["incarnation"] == life && unit["pid"].is_u64());
    }
    let lives: Vec<String> =
        (1..5).map(|n: u32| project.envctl(&["logs", "--raw", "--incarnation", &n.to_string()]).ok().stdout).collect();
    assert!(lives[..2].iter().all(|life| life.lines().count() == 1) && lives[0] != lives[1], "{lives:?}");
    assert_eq!(lives[3], "", "a life that never was");
    assert_eq!(project.envctl(&["logs", "--raw", "--previous"]).ok().stdout, lives[1]);
}

#[test]
fn e11_units_and_streams_are_merged_in_the_order_of_arrival() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        sh = "for i in 1 3 5; do read go < at$i; echo turn $i; echo also $i >&2; done; exec sleep 1000"
        [services.b]
        sh = "for i in 2 4 6; do read go < at$i; echo turn $i; done; exec sleep 1000"
    "#,
    );
    project.shell("mkfifo at1 at2 at3 at4 at5 at6").ok();
    project.up();
    // What comes between two looks has no order between units, so each turn waits until the last one has arrived.
    for turn in 1..=6 {
        project.shell(&format!("echo go > at{turn}")).ok();
        project.until_logged(&format!("turn {turn}"));
    }
    project.until_logged("also 5");
    let turns = |output: &str| -> Vec<u32> {
        let turns = output.lines().filter(|line| line.contains("turn"));
        turns.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    };
    let merged = project.envctl(&["logs"]).ok();
    assert_eq!(turns(&merged.stdout), [1, 2, 3, 4, 5, 6], "{merged}");
    assert!(merged.stdout.contains("a | turn 1") && merged.stdout.contains("b | turn 2"), "{merged}");
    let since = project.envctl(&["logs", "--json"]).ok().json_lines();
    let from = since.iter().find(|line| line["message"] == "turn 4").expect("turn 4")["time"].clone();
    let rest = project.envctl(&["logs", "--since", from.as_str().expect("a time")]).ok();
    assert!(turns(&rest.stdout).ends_with(&[5, 6]) && !turns(&rest.stdout).contains(&2), "{rest}");
    let err = project.envctl(&["logs", "a", "--stream", "err", "--raw"]).ok();
    assert_eq!(err.stdout, "also 1\nalso 3\nalso 5\n");
}

#[test]
fn logs_are_cleared_while_units_run_and_when_nothing_does() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.s]\nsh = \"seq 1 20000; while :; do echo more; sleep 0.05; done\"\n[tasks.t]\nsh = \"seq 1 1000\"\n",
    );
    project.up();
    project.until_state("t", "done");
    let before = project.envctl(&["logs", "s", "--json", "--grep", "^more$", "-n", "1"]).ok().json_lines()[0].clone();
    let pid = project.pid("s");
    let cleared = project.envctl(&["clear-logs", "--yes", "--json"]).ok().json();
    assert!(cleared["bytes"].as_u64() > Some(100_000), "{cleared:#}");
    assert_eq!(project.envctl(&["logs", "t"]).ok().stdout, "");
    let mut follower = project.start(&["logs", "-f", "s"]);
    follower.until_says("more", Duration::from_secs(10));
    drop(follower);
    let after = project.envctl(&["logs", "s", "--json"]).ok().json_lines()[0].clone();
    assert!(after["sequence"].as_u64() > before["sequence"].as_u64() && after["message"] == "more", "{after:#}");
    assert_eq!(project.pid("s"), pid, "it was restarted");
    project.down();
    env.envctl(&["daemon", "stop"]).ok();
    project.envctl(&["clear-logs", "-y", "s"]).ok();
    assert_eq!(project.envctl(&["logs"]).ok().stdout, "");
    assert!(env.sockets().is_empty(), "clearing started a daemon");
}

#[test]
fn old_logs_are_pruned_and_never_one_in_use() {
    let env = TestEnvironment::new();
    let old = env.project_named("old", "name = \"old\"\n[tasks.t]\nsh = \"seq 1 1000\"\n");
    old.up();
    old.down();
    let live = env.project_named("live", "name = \"live\"\n[services.s]\nsh = \"seq 1 1000; exec sleep 1000\"\n");
    live.up();
    let told = env.envctl(&["prune", "--logs", "--older-than", "0s", "--dry-run", "--json"]).ok().json();
    assert_eq!((&told["logs"][0]["project"], &told["in_use"]), (&"old".into(), &1.into()), "{told:#}");
    assert_eq!(told["logs"].as_array().map(Vec::len), Some(1), "{told:#}");
    assert_eq!(old.envctl(&["logs"]).ok().stdout.lines().count(), 1000, "a dry run deletes nothing");
    env.envctl(&["prune", "--logs"]).ok().complains(&["no log is old enough", "1 logs are in use"]);
    env.envctl(&["prune", "--logs", "--older-than", "0s", "--yes"]).ok().says(&["old", "t "]);
    assert_eq!(old.envctl(&["logs"]).ok().stdout, "");
    assert_eq!(live.envctl(&["logs"]).ok().stdout.lines().count(), 1000);
    let doctor = env.envctl(&["doctor", "--json"]).ok().json();
    assert!(
        doctor["logs"].as_array().is_some_and(|logs| logs.iter().any(|logs| logs["project"] == "live")),
        "{doctor:#}"
    );
    env.envctl(&["doctor"]).ok().says(&["state", "socket", "live"]);
}

#[test]
fn e14_what_logs_take_is_told_as_it_lies_on_the_disk() {
    let env = TestEnvironment::new();
    let project =
        env.project("[logs]\nmax_bytes = \"1MiB\"\nsegment_bytes = \"64KiB\"\n[tasks.t]\nsh = \"seq 1 300000\"\n");
    project.up();
    let all = env.envctl(&["ps", "--all", "--json"]).ok().json();
    let told = all["projects"][0]["units"][0]["log_bytes"].as_u64().expect("log_bytes");
    let state = env.envctl(&["show-state", "--json", "-C", &project.dir().display().to_string()]).ok().json();
    let place = state["paths"]
        .as_array()
        .and_then(|paths| paths.iter().find(|place| place["name"] == "project"))
        .expect("its place");
    let dir = std::path::Path::new(place["path"].as_str().expect("a path")).join("logs/t");
    let lengths =
        std::fs::read_dir(&dir).expect("the log").flatten().map(|entry| entry.metadata().map_or(0, |meta| meta.len()));
    let real: u64 = lengths.sum();
    assert!(real > 500_000 && real <= 1 << 20 && told.abs_diff(real) * 100 <= real, "{told} for {real}");
}
