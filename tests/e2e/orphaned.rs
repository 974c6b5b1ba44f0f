//! The daemon and heart die, both: whoever comes next finds what runs by what it is, not by its number, and looks after it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Background, ENVCTL, FIXTURE, Project, TestEnvironment, UP_WAIT, cannot_run, is_root, proc, until,
};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);

/// The daemon and its heart.
fn keepers(env: &TestEnvironment) -> [u32; 2] {
    let daemon = env.daemon_pid();
    [daemon, proc::parent(daemon).expect("its parent is heart")]
}

/// Kills both, so that neither sees the other die.
fn kill_both(env: &TestEnvironment) {
    let [daemon, heart] = keepers(env);
    proc::signal(daemon, Signal::SIGSTOP);
    proc::kill_hard(heart);
    proc::kill_hard(daemon);
}

fn lines(project: &Project<'_>, unit: &str) -> Vec<String> {
    let output = project.envctl(&["logs", unit, "--raw"]).ok();
    output.stdout.lines().map(str::to_owned).collect()
}

fn until_gone(pid: u32) {
    until(STATE_DEADLINE, "its end", || if proc::alive(pid) { Err(pid) } else { Ok(()) });
}

fn events(project: &Project<'_>, kind: &str) -> usize {
    project.events().iter().filter(|event| event["event"] == kind).count()
}

#[test]
fn b01_units_are_found_again_with_their_pids_and_every_line_once() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.writer]
        sh = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; echo written > done; exec sleep 1000"
        [services.bare]
        sh = "exec env -i /bin/sleep 1000"
        [tasks.once]
        sh = "echo ran >> once"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.until_state("once", "done");
    let before = [project.pid("writer"), project.pid("bare")];
    for _ in 0..3 {
        kill_both(&env);
        assert_eq!([project.pid("writer"), project.pid("bare")], before);
    }
    assert_eq!(project.unit("bare")["adopted"], true);
    assert_eq!((project.state("once").as_str(), project.read("once").as_str()), ("done", "ran\n"));
    until(STATE_DEADLINE, "the last line", || {
        let last = lines(&project, "writer").last().cloned();
        if last.as_deref() == Some("line 20000") { Ok(()) } else { Err(last) }
    });
    let expected: Vec<String> = (1..=20000).map(|n| format!("line {n}")).collect();
    assert_eq!(lines(&project, "writer"), expected);
    assert_eq!((events(&project, "heart.lost"), events(&project, "unit.lost")), (3, 0));
    assert_eq!(project.unit("writer")["restarts"], 0);
}

/// A memory is written by its changes: what was added last is what counts.
#[test]
fn b01_the_last_of_many_lives_is_the_one_that_is_found_again() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.api]\nsh = \"exec env -i /bin/sleep 1000\"\nbackoff = \"none\"\n\
         [services.other]\nsh = \"exec sleep 1000\"\n[supervision]\nintensity = 100\n",
    );
    project.up();
    for restarts in 1..=5 {
        proc::kill_hard(project.pid("api"));
        project.until("api", "its next life", |unit| unit["restarts"] == restarts && unit["state"] == "running");
    }
    let before = [project.pid("api"), project.pid("other")];
    kill_both(&env);
    assert_eq!([project.pid("api"), project.pid("other")], before);
    let unit = project.unit("api");
    assert_eq!(
        (&unit["incarnation"], &unit["restarts"], &unit["adopted"]),
        (&json!(6), &json!(5), &json!(true)),
        "{unit:#}"
    );
    assert_eq!(events(&project, "unit.lost"), 0);
}

#[test]
fn b01_a_successor_that_nobody_had_written_down_is_no_second_instance() {
    let env = TestEnvironment::new();
    let project = env.project("[services.s]\nsh = \"echo start >> starts; exec sleep 1000\"\n");
    // Nobody reaps the orphans, so what was remembered is still to be seen, as a zombie.
    let mut command = env.tool(FIXTURE, project.dir());
    command.args(["careless-init", ENVCTL]).args(UP_WAIT);
    let mut init = Background::start(&mut command, "careless-init".to_owned());
    init.until_says("done", STATE_DEADLINE);
    let [daemon, heart] = keepers(&env);
    let remembered = project.pid("s");
    let variables = proc::variable(remembered, "ENVCTL_RT_VARS").map(|envelope| ("ENVCTL_RT_VARS", envelope));
    assert!(variables.is_some(), "no envelope");
    proc::signal(daemon, Signal::SIGSTOP);
    proc::kill_hard(remembered);
    // As the daemon would have had it started in its last millisecond: the unit's program with the unit's environment.
    let mut successor = env.tool("sleep", project.dir());
    successor.arg("1000").env_clear().envs(variables);
    let successor = Background::start(&mut successor, "successor".to_owned());
    proc::kill_hard(heart);
    proc::kill_hard(daemon);
    let unit = project.until("s", "another life", |unit| {
        unit["state"] == "running" && unit["pid"].as_u64().is_some_and(|pid| pid != u64::from(remembered))
    });
    assert!(!proc::alive(successor.pid()), "two instances: {unit:#}");
    assert_eq!(project.read("starts"), "start\nstart\n");
    assert_eq!(unit["exit"], json!({ "signal": 9, "core": false }), "{unit:#}");
}

#[test]
fn b03_an_adopted_unit_that_ends_later_has_its_status_and_its_successor() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.ends]\nsh = \"read go < go; exit 42\"\nrestart = \"temporary\"\n\
         [services.lives]\nsh = \"exec sleep 1000\"\n",
    );
    project.shell("mkfifo go").ok();
    project.envctl(UP_WAIT).ok();
    kill_both(&env);
    let lives = project.pid("lives");
    project.shell("echo > go").ok();
    let unit = project.until_state("ends", "failed");
    assert_eq!(unit["exit"], json!({ "code": 42 }), "{unit:#}");
    proc::kill_hard(lives);
    let unit = project.until("lives", "another life", |unit| {
        unit["state"] == "running" && unit["pid"].as_u64().is_some_and(|pid| pid != u64::from(lives))
    });
    assert_eq!((&unit["restarts"], &unit["exit"]), (&json!(1), &json!({ "signal": 9, "core": false })), "{unit:#}");
}

#[test]
fn b04_what_ended_while_nobody_looked_is_told_and_restarted_as_its_type_says() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.again]\nsh = \"echo start >> again; exec sleep 1000\"\n\
         [services.over]\nsh = \"exec sleep 1000\"\nrestart = \"temporary\"\n\
         [services.stays]\nsh = \"exec sleep 1000\"\n",
    );
    project.envctl(UP_WAIT).ok();
    let [again, over, stays] = ["again", "over", "stays"].map(|unit| project.pid(unit));
    kill_both(&env);
    [again, over].into_iter().for_each(proc::kill_hard);
    let unit = project.until("again", "another life", |unit| {
        unit["state"] == "running" && unit["pid"].as_u64().is_some_and(|pid| pid != u64::from(again))
    });
    assert_eq!(unit["restarts"], 1, "{unit:#}");
    assert_eq!(project.read("again"), "start\nstart\n", "one instance for each life");
    let unit = project.until_state("over", "failed");
    assert!(unit["exit"]["unknown"].is_string() || unit["exit"]["signal"] == 9, "{unit:#}");
    assert_eq!(project.pid("stays"), stays);
    let why = project.envctl(&["why", "over"]);
    assert!(
        ["ended while", "SIGKILL", "nobody saw how"].iter().any(|text| why.stdout.contains(text)),
        "{}",
        why.stdout
    );
}

#[test]
fn a_heart_that_dies_alone_is_replaced_without_being_asked() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\nsh = \"echo start >> starts; exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let (api, [daemon, heart]) = (project.pid("api"), keepers(&env));
    // A daemon that has just begun takes the death of its heart for a fault that another heart would not mend.
    until(STATE_DEADLINE, "a daemon of some age", || {
        let status = env.envctl(&["daemon", "status", "--json"]).json();
        if status["uptime"].as_f64().is_some_and(|uptime| uptime >= 2.0) { Ok(()) } else { Err(status.to_string()) }
    });
    proc::kill_hard(heart);
    until_gone(daemon);
    proc::kill_hard(api);
    // Nobody has typed a command since: the new daemon sees the death by itself.
    assert_eq!(project.until_lines("starts", 2), ["start", "start"]);
    project.until_state("api", "running");
    assert_ne!(keepers(&env), [daemon, heart]);
}

#[test]
fn b18_many_commands_at_once_make_one_daemon_that_adopts_once() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\nsh = \"echo start >> starts; exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let api = project.pid("api");
    kill_both(&env);
    let askers: Vec<_> = (0..8).map(|_| project.start(&["ps", "--json"])).collect();
    for asker in askers {
        let output = asker.wait(STATE_DEADLINE).ok();
        assert_eq!(output.json()["projects"][0]["units"][0]["pid"], api, "{}", output.stdout);
    }
    assert_eq!(project.read("starts"), "start\n");
    assert_eq!(events(&project, "heart.lost"), 1);
}

#[test]
fn all_that_belongs_to_an_adopted_unit_ends_with_it() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.family]
        cmd = ["FX", "hideaway", "keep"]
        stop = { grace = "1s" }
        [services.stubborn]
        sh = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & while :; do sleep 1; done"
        stop = { grace = "1s" }
    "#,
    );
    project.envctl(UP_WAIT).ok();
    kill_both(&env);
    project.down();
    let left = env.processes();
    assert!(
        left.iter().all(|process| process.command.contains("heart") || process.command.contains("daemon")),
        "{left:?}"
    );
}

#[test]
fn what_a_crashed_adopted_unit_left_does_not_hold_its_successors_port() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[services.api]\nsh = \"setsid sleep 1000 & echo $! > child; echo start >> starts; exec sleep 1000\"\n",
    );
    project.envctl(UP_WAIT).ok();
    project.until_lines("child", 1);
    let child: u32 = project.read("child").trim().parse().expect("a pid");
    kill_both(&env);
    proc::kill_hard(project.pid("api"));
    project.until_lines("starts", 2);
    until_gone(child);
}

/// Needs a pid namespace, in which the next number can be chosen.
#[test]
fn a14_a_bystander_with_the_number_of_an_adopted_unit_is_not_touched() {
    if !is_root() {
        return cannot_run(
            "a14_a_bystander_with_the_number_of_an_adopted_unit_is_not_touched",
            "only root may choose pids",
        );
    }
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\nsh = \"exec sleep 1000\"\nrestart = \"temporary\"\n");
    let script = r#"
        "$E" up -d --wait > /dev/null || exit 10
        pid=$("$E" ps --json | tr ',' '\n' | sed -n 's/.*"pid":\([0-9]*\).*/\1/p' | head -1)
        daemon=$("$E" daemon status --json | tr ',{}' '\n\n\n' | sed -n 's/.*"pid":\([0-9]*\).*/\1/p' | head -1)
        heart=$("$E" daemon status --json | tr ',{}' '\n\n\n' | sed -n 's/.*"heart_pid":\([0-9]*\).*/\1/p' | head -1)
        WHEN_BEFORE
        kill -STOP $daemon; kill -9 $heart; kill -9 $daemon
        WHEN_BETWEEN
        "$E" ps > /dev/null
        WHEN_AFTER
        "$E" down > /dev/null
        "$E" daemon stop > /dev/null
        state=$(sed 's/.*) //' /proc/$pid/stat 2>/dev/null | cut -d' ' -f1)
        command=$(tr '\0' ' ' < /proc/$pid/cmdline 2>/dev/null)
        echo "$pid $state $command"
    "#;
    let reuse = r"kill -9 $pid
        while kill -0 $pid 2>/dev/null; do :; done
        echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid; setsid sleep 500 &
        [ $! = $pid ] || exit 11";
    for moment in ["WHEN_BETWEEN", "WHEN_AFTER"] {
        let script = script.replace(moment, reuse);
        let script =
            ["WHEN_BEFORE", "WHEN_BETWEEN", "WHEN_AFTER"].iter().fold(script, |text, word| text.replace(word, ":"));
        project.write("script", script);
        let output = project.shell("unshare --pid --fork --mount-proc sh script").ok();
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        assert_eq!(words.get(1..), Some(&["S", "sleep", "500"][..]), "{moment}: {}", output.stdout);
    }
}

/// Puts another process into what the next daemon knows of the only unit: a number of 32 bits each, as MessagePack has it.
fn remember_instead(env: &TestEnvironment, pid: u32, start_time: u32) {
    let dir = env.root().join("run/envctl/default/projects");
    let path = std::fs::read_dir(dir).expect("memories").flatten().next().expect("a memory").path();
    let mut bytes = std::fs::read(&path).expect("the memory");
    for (name, number) in [("start_time", start_time), ("pid", pid)] {
        let key = [&[0xa0 + u8::try_from(name.len()).expect("short")], name.as_bytes()].concat();
        let at = bytes.windows(key.len()).rposition(|window| window == key).expect("the field") + key.len();
        let width = match bytes[at] {
            0xcd => 3,
            0xce => 5,
            0xcf => 9,
            _ => 1,
        };
        bytes.splice(at..at + width, [&[0xce], &number.to_be_bytes()[..]].concat());
    }
    std::fs::write(&path, bytes).expect("another memory");
}

#[test]
fn a15_a_record_that_names_a_bystander_is_lost_and_the_bystander_untouched() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\nsh = \"exec sleep 1000\"\nrestart = \"temporary\"\n");
    project.envctl(UP_WAIT).ok();
    let api = project.pid("api");
    let bystander = env.start(env.tool("sleep", std::path::Path::new("/")).arg("3000"), &["a bystander"]);
    let pid = bystander.pid();
    kill_both(&env);
    remember_instead(&env, pid, 1);
    let unit = project.until_state("api", "failed");
    assert!(unit["exit"]["unknown"].is_string() && unit["pid"].is_null(), "{unit:#}");
    assert_eq!(events(&project, "unit.lost"), 1);
    // The real one carries the unit's envelope: it is known for what it is, and does not stay beside a successor.
    project.envctl(&["start", "api"]).ok();
    project.until("api", "another life", |unit| unit["state"] == "running");
    until_gone(api);
    project.down();
    assert!(proc::alive(pid), "a bystander was ended");
    bystander.signal(Signal::SIGKILL);
    bystander.wait(STATE_DEADLINE);
}

/// Needs a mount namespace, in which the boot has another id.
#[test]
fn b10_after_a_restart_of_the_machine_nothing_is_signalled_and_nothing_started() {
    if !is_root() {
        return cannot_run(
            "b10_after_a_restart_of_the_machine_nothing_is_signalled_and_nothing_started",
            "only root may mount",
        );
    }
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\nsh = \"echo start >> starts; exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let api = project.pid("api");
    kill_both(&env);
    project.write("boot_id", "00000000-0000-0000-0000-000000000000\n");
    let line = "unshare --mount sh -c 'mount --bind boot_id /proc/sys/kernel/random/boot_id && \"$E\" ps --json'";
    let output = project.shell(line).ok();
    assert_eq!(output.json()["projects"][0]["state"], "down", "{}", output.stdout);
    let lost = project.events().into_iter().find(|event| event["event"] == "run.lost").expect("it is told");
    assert!(lost["hint"].as_str().is_some_and(|hint| hint.contains("envctl up")), "{lost:#}");
    assert!(proc::alive(api), "its number may be anybody's after a restart");
    assert_eq!(project.read("starts"), "start\n");
    proc::kill_hard(api);
}
