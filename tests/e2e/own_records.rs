//! What envctl writes about itself does not grow for ever.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Project, TestEnvironment};

const LINE: &str = "a line of long ago\n";
/// More than is kept of either.
const MUCH_BYTES: u64 = 17 << 20;

#[test]
fn the_daemons_log_begins_anew_when_it_is_long_and_is_shown_with_the_one_before() {
    let env = TestEnvironment::new();
    let project = env.project("[services.s]\ncmd = [\"FX\", \"run\"]\n");
    project.up();
    let log = env.root().join("state/envctl/default/daemon.log");
    let older = log.with_extension("log.1");
    env.envctl(&["daemon", "stop"]).ok();
    assert!(!older.exists(), "it was not long");
    let mut file = File::options().append(true).open(&log).expect("the daemon's log");
    file.write_all(LINE.repeat(MUCH_BYTES as usize / LINE.len()).as_bytes()).expect("a long log");
    project.up();
    assert!(fs::metadata(&older).expect("the log before").len() > MUCH_BYTES);
    assert!(fs::metadata(&log).expect("the daemon's log").len() < 64 << 10);
    env.envctl(&["daemon", "logs"]).ok().says(&[LINE.trim(), "daemon listens"]);
}

#[test]
fn a_long_journal_is_shortened_by_the_next_daemon_which_says_so_and_goes_on() {
    let env = TestEnvironment::new();
    let project = env.project("[services.s]\ncmd = [\"FX\", \"run\"]\n");
    project.up();
    env.envctl(&["daemon", "stop"]).ok();
    let journal = journal(&project);
    let last = events(&project).pop().expect("events");
    let seq = last["seq"].as_u64().expect("a number");
    let mut file = File::options().append(true).open(&journal).expect("the journal");
    let lines = MUCH_BYTES / 20_000;
    for n in 1..=lines {
        let mut event = last.clone();
        event.as_object_mut().expect("an event").retain(|key, _| key != "kind" && key != "ok");
        (event["seq"], event["message"]) = ((seq + n).into(), "x".repeat(20_000).into());
        writeln!(file, "{event}").expect("a long journal");
    }
    project.up();
    assert!(fs::metadata(&journal).expect("the journal").len() < MUCH_BYTES * 2 / 3);
    let all = events(&project);
    assert_eq!(all[0]["event"], "run.started", "beginnings of runs are kept");
    let told = all.iter().find(|event| event["event"] == "journal.shortened").expect("it is told");
    assert!(told["seq"].as_u64() > Some(seq + lines), "{told:#}");
    let seqs: Vec<_> = all.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    project.envctl(&["why", "s"]).ok();
}

fn events(project: &Project<'_>) -> Vec<Value> {
    project.envctl(&["events", "--json"]).ok().json_lines()
}

fn journal(project: &Project<'_>) -> PathBuf {
    let state = project.envctl(&["show-state", "--json"]).ok().json();
    let places = state["paths"].as_array().expect("paths").iter();
    let mut paths = places.filter_map(|place| place["path"].as_str()).map(PathBuf::from);
    paths.find(|path| path.ends_with("events.jsonl")).unwrap_or_else(|| panic!("no journal in {state:#}"))
}
