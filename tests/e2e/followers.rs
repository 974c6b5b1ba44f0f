//! Very many followers of one busy service, each a process as in life.
//!
//! `ENVCTL_TEST_FOLLOWERS=1000 cargo test --release --test e2e followers -- --nocapture` is the long form: some 5 MB for each, and in a
//! debug build more work than two processors can do.

use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::harness::{Project, TestEnvironment, proc, until};

const DEADLINE: Duration = Duration::from_secs(300);
const FOLLOWERS: usize = 60;
/// Of so many followers on, everything takes its time.
const MANY: usize = 1000;
/// Lines of the service in a second, one write each.
const RATE: u64 = 500;
/// How long the service is looked at without followers, and with them.
const SECONDS: u64 = 4;
const SECONDS_OF_MANY: u64 = 60;
/// In the long form.
const SPEED_KEPT_MIN: f64 = 0.95;
/// What a daemon may need for itself while it is followed, and for each follower's connection.
const RSS_GROWTH_MAX_KIB: u64 = 16 << 10;
const RSS_PER_FOLLOWER_MAX_KIB: u64 = 128;

/// A line of the log: its number, and when it was stored.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u64,
    time: Timestamp,
}

/// Followers end with the test, however it ends.
struct Followers(Vec<Child>);

// === impl Followers ===

impl Followers {
    fn start(project: &Project<'_>, count: usize) -> Self {
        let start = |n| {
            let [out, err] =
                ["out", "err"].map(|end| File::create(project.path(&format!("{n}.{end}"))).expect("a file"));
            let mut command = project.command(&["logs", "-f", "--raw"]);
            command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("a follower")
        };
        Self((0..count).map(start).collect())
    }

    fn signal(&self, n: usize, signal: Signal) {
        proc::signal(self.0[n].id(), signal);
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for follower in &mut self.0 {
            // One that has ended is as good.
            let _ = follower.kill();
            let _ = follower.wait();
        }
    }
}

fn followers() -> usize {
    std::env::var("ENVCTL_TEST_FOLLOWERS").ok().and_then(|text| text.parse().ok()).unwrap_or(FOLLOWERS)
}

/// The newest line of the present life, when it has come so far.
fn mark(project: &Project<'_>, from: u64) -> Mark {
    let life = project.unit("s")["incarnation"].to_string();
    until(DEADLINE, &format!("line {from}"), || {
        let last = project
            .envctl(&["logs", "s", "--json", "-n", "1", "--incarnation", &life])
            .ok()
            .json_lines()
            .pop()
            .ok_or("nothing")?;
        let number =
            last["message"].as_str().and_then(|text| text.strip_prefix("line ")?.parse().ok()).ok_or("no line")?;
        let time = last["time"].as_str().and_then(|text| text.parse().ok()).ok_or("no time")?;
        if number >= from { Ok(Mark { number, time }) } else { Err("too early") }
    })
}

/// Lines of a second between two marks.
fn speed(from: Mark, to: Mark) -> f64 {
    (to.number - from.number) as f64 / (to.time.duration_since(from.time)).as_secs_f64()
}

/// Waits until a follower has printed something, or all of it.
fn until_printed(project: &Project<'_>, n: usize, bytes: u64) {
    until(DEADLINE, &format!("{bytes} bytes of follower {n}"), || {
        let printed = std::fs::metadata(project.path(&format!("{n}.out"))).map_or(0, |meta| meta.len());
        if printed >= bytes { Ok(()) } else { Err((printed, project.read(&format!("{n}.err")))) }
    });
}

/// One life of the service, for so long: lines of a second by the log, and how many it has written by its own count.
fn run(project: &Project<'_>, seconds: u64) -> (f64, u64) {
    project.write("go", "");
    let from = mark(project, 1);
    let speed = speed(from, mark(project, from.number + RATE * seconds));
    project.envctl(&["stop", "s"]).ok();
    let lines = until(DEADLINE, "the number of lines written", || project.read("count").trim().parse());
    for file in ["go", "count"] {
        std::fs::remove_file(project.path(file)).expect("a file of the life that is over");
    }
    (speed, lines)
}

#[test]
fn e05_very_many_followers_and_a_stopped_one_take_nothing_from_the_service() {
    let count = followers();
    let seconds = if count >= MANY { SECONDS_OF_MANY } else { SECONDS };
    let env = TestEnvironment::new();
    let waiting = "while ! [ -e go ]; do sleep 0.02; done";
    let project = env.project(&format!(
        "[services.s]\nsh = \"{waiting}; exec $FIXTURE paced {RATE} count\"\nenv = {{ FIXTURE = \"FX\" }}\n"
    ));
    project.up();
    let daemon = env.daemon_pid();
    let (alone, first_lines) = run(&project, seconds);

    project.envctl(&["start", "s"]).ok();
    let before = proc::resident_kib(daemon);
    let mut all = Followers::start(&project, count);
    // All have read what there was: from here on they follow.
    let there: usize = (1..=first_lines).map(|line| format!("line {line}\n").len()).sum();
    (0..count).for_each(|n| until_printed(&project, n, there as u64));
    all.signal(0, Signal::SIGSTOP);
    let (followed, lines) = run(&project, seconds);
    let grown = proc::resident_kib(daemon).saturating_sub(before);
    all.signal(0, Signal::SIGCONT);

    let expect: String = (1..=first_lines).chain(1..=lines).map(|line| format!("line {line}\n")).collect();
    (0..count).for_each(|n| until_printed(&project, n, expect.len() as u64));
    (0..count).for_each(|n| all.signal(n, Signal::SIGINT));
    for (n, follower) in all.0.iter_mut().enumerate() {
        follower.wait().expect("a follower's end");
        let got = project.read(&format!("{n}.out"));
        let differs = got.lines().zip(expect.lines()).position(|(got, expect)| got != expect);
        let around = differs.map(|at| got.lines().skip(at.saturating_sub(2)).take(5).collect::<Vec<_>>());
        assert!(got == expect, "follower {n} did not get 1..{first_lines}, 1..{lines}: {differs:?} {around:?}");
    }
    let told = format!(
        "{count} followers: {followed:.1} lines/s instead of {alone:.1}; the daemon grew by {grown} KiB; each got 1..{lines}\n"
    );
    // Past the test runner's capture: these are figures to be kept.
    std::io::stderr().write_all(told.as_bytes()).expect("standard error");
    // Beside other tests the figures tell nothing; the long form is run alone.
    assert!(count < MANY || followed >= alone * SPEED_KEPT_MIN, "{told}");
    assert!(grown < RSS_GROWTH_MAX_KIB + count as u64 * RSS_PER_FOLLOWER_MAX_KIB, "{told}");
    assert!(proc::alive(daemon), "the daemon has died");
}
