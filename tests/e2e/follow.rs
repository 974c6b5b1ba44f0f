//! Followers: each at its own pace, none at the expense of anybody, over everything that may happen to a log.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Background, Project, TestEnvironment, proc, until};

const DEADLINE: Duration = Duration::from_secs(60);
/// Followers of the one stream; `actors/examples/measure_logs.rs` has a thousand.
const FOLLOWERS: usize = 12;
const LINES: u32 = 40_000;
/// A daemon that kept anything for a follower would keep more than this.
const RSS_GROWTH_MAX_KIB: u64 = 16 << 10;

/// A service that writes `LINES` numbered lines as fast as it can, once the file `go` is there.
fn spewing(logs: &str) -> String {
    format!(
        "{logs}\n[services.s]\nsh = \"echo begun; while ! [ -e go ]; do sleep 0.02; done; exec $FIXTURE spew 0 {LINES}\"\nenv = {{ FIXTURE = \"FX\" }}\n"
    )
}

fn go(project: &Project<'_>) {
    project.write("go", "");
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Waits until the log has the last line: the service was not held up.
fn until_written(project: &Project<'_>) {
    until(DEADLINE, "the last line in the log", || {
        let last = project.envctl(&["logs", "s", "--raw", "-n", "1"]).ok().stdout;
        if last.trim() == format!("line {LINES}") { Ok(()) } else { Err(last) }
    });
}

/// Ends a follower and returns what it had printed.
fn printed(mut follower: Background) -> String {
    follower.until_says(&format!("line {LINES}\n"), DEADLINE);
    follower.signal(Signal::SIGINT);
    follower.wait(DEADLINE).stdout
}

#[test]
fn e05_a_stopped_follower_costs_nobody_anything_and_gets_every_line_later() {
    let env = TestEnvironment::new();
    let project = env.project(&spewing(""));
    project.up();
    let daemon = env.daemon_pid();
    let mut followers: Vec<Background> = (0..FOLLOWERS).map(|_| project.start(&["logs", "-f", "--raw"])).collect();
    followers.iter_mut().for_each(|follower| follower.until_says("begun", DEADLINE));
    let stopped = followers.pop().expect("invariant: there are some");
    stopped.signal(Signal::SIGSTOP);
    let before = rss_kib(daemon);
    go(&project);
    until_written(&project);
    let grown = rss_kib(daemon).saturating_sub(before);
    assert!(grown < RSS_GROWTH_MAX_KIB, "the daemon grew by {grown} KiB");
    let expect: String =
        std::iter::once("begun\n".to_owned()).chain((1..=LINES).map(|line| format!("line {line}\n"))).collect();
    for follower in followers {
        assert!(printed(follower) == expect, "a follower did not get 1..{LINES}");
    }
    stopped.signal(Signal::SIGCONT);
    assert!(printed(stopped) == expect, "the stopped one did not get 1..{LINES}");
}

#[test]
fn e05_a_follower_that_was_overtaken_is_told_exactly_what_it_missed() {
    let env = TestEnvironment::new();
    let project = env.project(&spewing("[logs]\nmax_bytes = \"96KiB\"\nsegment_bytes = \"16KiB\""));
    project.up();
    let [mut json, mut told] =
        [["logs", "-f", "--json"], ["logs", "-f", "--raw"]].map(|arguments| project.start(&arguments));
    json.until_says("begun", DEADLINE);
    told.until_says("begun", DEADLINE);
    json.signal(Signal::SIGSTOP);
    told.signal(Signal::SIGSTOP);
    go(&project);
    until_written(&project);
    json.signal(Signal::SIGCONT);
    told.signal(Signal::SIGCONT);
    let lines: Vec<Value> = {
        json.until_says(&format!("\"line {LINES}\""), DEADLINE);
        json.signal(Signal::SIGINT);
        json.wait(DEADLINE).json_lines()
    };
    let length = |line: &Value| {
        let text = line["message"].as_str().unwrap_or_default().len() as u64;
        text + u64::from(line["partial"] == false)
    };
    let shown: u64 = lines.iter().map(length).sum();
    let dropped: u64 = lines.iter().filter_map(|line| line["dropped_bytes"].as_u64()).sum();
    let numbered: u64 = (1..=LINES).map(|line| format!("line {line}\n").len() as u64).sum();
    let written = numbered + 6;
    assert!(dropped > 0 && shown + dropped == written, "{shown} shown and {dropped} dropped of {written}");
    told.until_says(&format!("line {LINES}\n"), DEADLINE);
    told.signal(Signal::SIGINT);
    told.wait(DEADLINE).complains(&["log of s: …", "skipped", "bytes", "deleted before they were read"]);
}

#[test]
fn a_follower_sees_every_line_once_over_rotation_and_the_daemons_death() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[logs]\nsegment_bytes = \"8KiB\"\n[services.s]\nsh = \"i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; [ $((i%400)) = 0 ] && sleep 0.2; done; exec sleep 1000\"\n",
    );
    project.up();
    let mut follower = project.start(&["logs", "-f", "--raw"]);
    follower.until_says("line 400\n", DEADLINE);
    let daemon = env.daemon_pid();
    proc::kill_hard(daemon);
    follower.until_says("line 4000\n", DEADLINE);
    follower.signal(Signal::SIGINT);
    let expect: String = (1..=4000).map(|line| format!("line {line}\n")).collect();
    assert!(follower.wait(DEADLINE).stdout == expect, "lines are lost or doubled");
    assert_ne!(env.daemon_pid(), daemon);
}
