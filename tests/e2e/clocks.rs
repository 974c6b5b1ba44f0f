//! Clocks that do not go as they should: a wall clock that jumps, a machine that slept.
//!
//! The wall clock is shifted by a library that every program of a mount namespace loads (its `/etc/ld.so.preload`): heart and
//! daemon get no environment in which `LD_PRELOAD` could stand. `shift.c` leaves all other clocks alone, as a set clock does.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::harness::{Project, Stopwatch, TestEnvironment, UP_WAIT, cannot_run, is_root, proc, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(20);
/// How far a shifted time may be from what is expected: tests are not fast everywhere.
const NEAR: i64 = 60;
const DAY: i64 = 24 * 60 * 60;

/// Something of each kind that waits for a time.
const TIMED: &str = r#"
    [services.probed]
    cmd = ["FX", "http", "${probed.port}", "ok"]
    port = 18770
    ready = "/"
    alive = { http = "/", every = "100ms", timeout = "1s", failures = 2 }
    [services.ticks]
    sh = "while :; do echo tick; sleep 0.05; done"
    [services.deaf]
    cmd = ["FX", "ignore-term"]
    ready = { log = "up" }
    stop = { grace = "1500ms" }
    [services.patient]
    sh = "test -e broken && exit 1; exec sleep 1000"
    backoff = { base = "1h", max = "1h" }
    stable_after = "10ms"
    [services.brief]
    sh = "exec sleep 1000"
    stable_after = "10ms"
"#;

/// A wall clock that tests set.
struct WallClock<'e> {
    env: &'e TestEnvironment,
}

impl<'e> WallClock<'e> {
    /// `None`: it cannot be done here, and that was said.
    fn new(env: &'e TestEnvironment, test: &str) -> Option<Self> {
        if !is_root() {
            cannot_run(test, "only root may mount");
            return None;
        }
        let this = Self { env };
        this.set(0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clocks/shift.c");
        let line = format!(
            "cp -a /etc etc && cc -shared -fPIC -O1 -DSHIFT_FILE='\"{0}/shift\"' -o shift.so {source} && echo {0}/shift.so > etc/ld.so.preload",
            env.root().display()
        );
        let mut build = env.tool("/bin/sh", env.root());
        let built = env.start(build.args(["-c", &line]), &["a compiler"]).wait(STATE_DEADLINE);
        if built.code != Some(0) {
            cannot_run(test, &format!("no C compiler: {}", built.stderr.trim()));
            return None;
        }
        Some(this)
    }

    /// From now on the wall clock is `seconds` ahead.
    fn set(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        let path = self.env.root().join("shift");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("the shift");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }

    /// Brings a project up under this clock: command, heart, daemon and units.
    fn up(&self, project: &Project<'_>) {
        let etc = self.env.root().join("etc").display().to_string();
        let up = UP_WAIT.join(" ");
        project.shell(&format!("unshare --mount sh -c 'mount --bind {etc} /etc && exec $E {up}'")).ok();
    }
}

/// The time that the journal gave its newest event.
fn last_event(project: &Project<'_>) -> Timestamp {
    let events = project.events();
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.len() == events.len() && numbers.is_sorted(), "{numbers:?}");
    let time = events.last().expect("an event")["time"].as_str().expect("a time").to_owned();
    time.parse().unwrap_or_else(|error| panic!("{time}: {error}"))
}

fn lines(project: &Project<'_>, unit: &str) -> usize {
    project.envctl(&["logs", unit, "--raw"]).ok().stdout.lines().count()
}

/// Waits this long, because nothing is to happen meanwhile.
fn let_pass(time: Duration) {
    let clock = Stopwatch::start();
    until(time * 5, "some time", || if clock.elapsed() > time { Ok(()) } else { Err(()) });
}

/// The grace of a stop that is under way while the clock jumps is neither shorter nor longer for it.
fn check_grace(project: &Project<'_>, jump: impl Fn()) {
    let clock = Stopwatch::start();
    project.envctl(&["stop", "deaf"]).ok();
    project.until_state("deaf", "stopping");
    jump();
    project.until_state("deaf", "stopped");
    let took = clock.elapsed();
    assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(6), "{took:?}");
    project.envctl(&["start", "deaf"]).ok();
    project.until_state("deaf", "ready");
}

#[test]
fn f11_a_wall_clock_that_jumps_moves_no_timer_and_every_time_stays_readable() {
    let env = TestEnvironment::new();
    let Some(clock) = WallClock::new(&env, "f11, a wall clock that jumps") else { return };
    let project = env.project(TIMED);
    clock.up(&project);
    let probed = project.pid("probed");
    project.write("broken", "");
    proc::kill_hard(project.pid("patient"));
    project.until_state("patient", "backoff");
    let now = Timestamp::now().as_second();
    // A day ahead, a day back, before anything was, after the seconds no longer fit into 32 bits, and as it should be.
    for shift in [DAY, -DAY, 1000 - now, 2_300_000_000 - now, 0] {
        check_grace(&project, || clock.set(shift));
        let brief = project.pid("brief");
        proc::kill_hard(brief);
        project.until("brief", "back at once", |unit| unit["pid"].as_u64().is_some_and(|pid| pid != u64::from(brief)));
        let told = last_event(&project).as_second();
        assert!((told - now - shift).abs() < NEAR, "the journal does not see the clock: {told}");
        let before = lines(&project, "ticks");
        until(STATE_DEADLINE, "further lines", || {
            let after = lines(&project, "ticks");
            if after > before + 5 { Ok(()) } else { Err(after) }
        });
        let waiting = project.unit("patient");
        assert_eq!(waiting["state"], "backoff", "an hour is over already: {waiting:#}");
        let unit = project.unit("probed");
        assert_eq!((&unit["state"], &unit["restarts"]), (&"ready".into(), &0.into()), "{unit:#}");
        for command in
            [&["ps"][..], &["why", "brief"], &["logs", "-n", "3", "--timestamps"], &["health"], &["endpoints"]]
        {
            project.envctl(command).without_panic();
        }
    }
    assert_eq!(project.pid("probed"), probed);
    let all = project.envctl(&["logs", "ticks", "--raw"]).ok().stdout;
    assert!(all.lines().all(|line| line == "tick"), "a line that nobody wrote");
    project.down();
}

/// What a suspended machine shows afterwards, as far as it can be made without one: nothing ran for seconds, and the wall clock
/// is eight hours on. The monotonic clock, which a real suspend stops, goes on here: timers see more of it, not less.
#[test]
fn f12_a_machine_that_slept_restarts_nothing_and_fails_no_probe() {
    let env = TestEnvironment::new();
    let Some(clock) = WallClock::new(&env, "f12, a machine that slept") else { return };
    let project = env.project(TIMED);
    clock.up(&project);
    project.write("broken", "");
    proc::kill_hard(project.pid("patient"));
    project.until_state("patient", "backoff");
    let daemon = env.daemon_pid();
    let before: Vec<_> = ["probed", "ticks", "deaf", "brief"].map(|unit| (unit, project.pid(unit))).into();
    // Whoever is stopped first sees the others stand still for a moment; they all are before anything is judged.
    let mut all = vec![daemon, proc::parent(daemon).expect("heart")];
    all.extend(before.iter().map(|(_, pid)| *pid));
    all.iter().for_each(|pid| proc::signal(*pid, Signal::SIGSTOP));
    clock.set(8 * DAY / 24);
    let_pass(Duration::from_secs(4));
    // The daemon first: its timers are long overdue, and whoever it asks does not answer yet.
    all.iter().for_each(|pid| proc::signal(*pid, Signal::SIGCONT));
    let_pass(Duration::from_millis(2500));
    for (unit, pid) in &before {
        let now = project.unit(unit);
        assert_eq!((&now["pid"], &now["restarts"]), (&(*pid).into(), &0.into()), "{now:#}");
    }
    assert_eq!((env.daemon_pid(), project.state("probed")), (daemon, "ready".to_owned()));
    let failed = project.events_of("probed").iter().filter(|event| event["event"] == "unit.unready").count();
    assert_eq!(failed, 0, "a probe that slept was taken for one that failed");
    let waiting = project.unit("patient");
    assert_eq!((&waiting["state"], &waiting["restarts"]), (&"backoff".into(), &1.into()), "{waiting:#}");
    check_grace(&project, || ());
    project.down();
}
