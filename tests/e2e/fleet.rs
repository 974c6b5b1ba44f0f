//! A whole fleet, while daemon and heart are killed again and again: twenty quiet services and four loud ones that number
//! their lines, and programs that users run: databases, a web server, one without an environment, one that overwrites its own.
//!
//! `ENVCTL_TEST_ROUNDS=50 cargo test --test e2e fleet -- --nocapture` is the long form.

use std::fmt::Write as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Output, Project, Stopwatch, TestEnvironment, cannot_run, find_tool, proc, rounds, until};

/// Longest wait for what must come by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(30);
/// Longest that a command about the whole fleet may take on a machine that has much else to do.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// Kills in a row, unless more are asked for.
const ROUNDS: usize = 3;
/// Services at [`QUIET_RATE`] lines a second.
const QUIET: usize = 20;
const QUIET_RATE: u64 = 100;
/// Services at [`LOUD_RATE`] lines a second.
const LOUD: usize = 4;
const LOUD_RATE: u64 = 20_000;
/// Heart gives up when more than five daemons die within ten seconds: so often they may be killed for ever.
const KILLS_APART: Duration = Duration::from_millis(2100);

/// Who writes numbered lines beside the services of the fleet: without an environment, and with a title in place of it.
const ODD: [&str; 2] = ["bare", "titled"];

/// Who is to end with whatever code it is told, and comes back at once; and programs beside the fleet. (A life that opens the
/// FIFO while whoever told the last one still closes it reads nothing, and asks again.)
const VICTIM: &str = r#"
    [services.victim]
    sh = "until read code < go; do :; done; exit $code"
    backoff = "none"
    [groups.victims]
    members = ["victim"]
    intensity = 100000
    period = "1s"
    [requirements.redis]
    [requirements.postgres]
    [services.bare]
    sh = "exec env -i $F paced 100 bare.count"
    env = { F = "FX" }
    [services.titled]
    cmd = ["FX", "paced", "100", "titled.count", "a title in place of everything"]
"#;

/// In the foreground, with a master and two workers that all overwrite their titles.
const NGINX: &str = r#"
    [services.nginx]
    sh = "sed -i s/PORT/$PORT/ nginx.conf; exec NGINX -p . -e stderr -c nginx.conf"
    port = 18600
    ready = "/"
"#;

const NGINX_CONF: &str = "daemon off;\nuser root;\nworker_processes 2;\npid nginx.pid;\nevents {}\nhttp {\n  access_log off;\n  \
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n  \
    server { listen 127.0.0.1:PORT; location / { return 200 'hello'; } }\n}\n";

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    Daemon,
    Both,
}

/// The fleet and what it was at first.
struct Fleet<'e> {
    env: &'e TestEnvironment,
    project: Project<'e>,
    /// Everybody who must not change, with their pids.
    steady: Vec<(String, u64)>,
    begun: Stopwatch,
}

// === impl Fleet ===

impl<'e> Fleet<'e> {
    fn launch(env: &'e TestEnvironment) -> Self {
        let mut toml = VICTIM.to_owned();
        for (kind, count, rate) in [("quiet", QUIET, QUIET_RATE), ("loud", LOUD, LOUD_RATE)] {
            for n in 1..=count {
                let _ =
                    writeln!(toml, "[services.{kind}{n}]\ncmd = [\"FX\", \"paced\", \"{rate}\", \"{kind}{n}.count\"]");
            }
        }
        match find_tool("nginx") {
            Some(nginx) => toml.push_str(&NGINX.replace("NGINX", &nginx.display().to_string())),
            None => cannot_run("nginx in the fleet", "it is not installed"),
        }
        let project = env.project(&toml);
        project.write("nginx.conf", NGINX_CONF);
        project.shell("mkfifo go").ok();
        project.up();
        let mut this = Self { env, project, steady: Vec::new(), begun: Stopwatch::start() };
        this.steady = this.pids();
        assert!(this.steady.len() >= QUIET + LOUD + 4, "{:?}", this.steady);
        this
    }

    fn units(&self) -> Vec<Value> {
        self.project.ps()["units"].as_array().cloned().expect("units")
    }

    /// Everybody but the victim.
    fn pids(&self) -> Vec<(String, u64)> {
        let steady = |unit: &Value| {
            assert_eq!(unit["restarts"], 0, "{unit:#}");
            let pid = unit["pid"].as_u64().unwrap_or_else(|| panic!("no pid: {unit:#}"));
            (unit["name"].as_str().expect("a name").to_owned(), pid)
        };
        self.units().iter().filter(|unit| unit["name"] != "victim").map(steady).collect()
    }

    /// Kills, has the victim end with `code` while nobody looks, and sees everybody as they were. Gives the time until the
    /// next command had its answer.
    fn round(&self, kill: Kill, code: u8) -> Duration {
        let daemon = self.env.daemon_pid();
        let heart = proc::parent(daemon).expect("its parent is heart");
        let victim = self.project.until("victim", "alive", |unit| unit["pid"].is_u64() && unit["state"] == "running");
        let pid = u32::try_from(victim["pid"].as_u64().expect("a pid")).expect("a pid");
        let end_victim = || {
            self.project.shell(&format!("echo {code} > go")).ok();
            until(STATE_DEADLINE, "the victim's end", || if proc::alive(pid) { Err(pid) } else { Ok(()) });
        };
        if kill == Kill::Daemon && code.is_multiple_of(2) {
            // In the middle of whatever it does; the victim ends while the next one begins.
            proc::kill_hard(daemon);
            end_victim();
        } else {
            // Stopped, it takes no notice; killed while stopped, it never will.
            proc::signal(daemon, Signal::SIGSTOP);
            if kill == Kill::Both {
                proc::kill_hard(heart);
            }
            end_victim();
            proc::kill_hard(daemon);
        }
        let dead = Stopwatch::start();
        let now = self.pids();
        let took = dead.elapsed();
        assert_eq!(now, self.steady, "{kill:?}");
        let next = self.project.until("victim", "in its next life", |unit| {
            unit["pid"].is_u64() && unit["incarnation"].as_u64() > victim["incarnation"].as_u64()
        });
        let told = &next["exit"];
        let is_true = *told == json!({ "code": code }) || (kill == Kill::Both && told["unknown"].is_string());
        assert!(is_true, "{kill:?}: {code} became {told}");
        took
    }

    /// Asks everybody to end, and compares what they say they wrote with what is in their logs.
    fn settle(self) -> u64 {
        let seconds = self.begun.elapsed().as_secs_f64();
        let arguments = ["down"];
        self.project.start(&arguments).wait(COMMAND_DEADLINE).ok();
        let names = |kind: &'static str, count| (1..=count).map(move |n| format!("{kind}{n}"));
        let writers = names("quiet", QUIET).chain(names("loud", LOUD)).chain(ODD.map(str::to_owned));
        let mut all = 0;
        for unit in writers {
            let written: u64 = self.project.read(&format!("{unit}.count")).trim().parse().expect("a number");
            let logs = ["logs", &unit, "--raw"];
            check_lines(&unit, written, &self.project.start(&logs).wait(COMMAND_DEADLINE).ok());
            let rate = if unit.starts_with("loud") { LOUD_RATE } else { QUIET_RATE };
            let share = written as f64 / (rate as f64 * seconds);
            assert!(share > 0.5, "{unit} wrote {written} lines in {seconds:.1} s: this was no load");
            all += written;
        }
        all
    }
}

/// Every line 1 to `written` once, in order.
#[track_caller]
fn check_lines(unit: &str, written: u64, logs: &Output) {
    let mut expected = 1;
    for line in logs.stdout.lines() {
        assert!(line == format!("line {expected}"), "{unit}: {line:?} stands where line {expected} should");
        expected += 1;
    }
    assert_eq!(expected - 1, written, "{unit}: lines in the log, and lines that were written");
}

fn check(kill: Kill) {
    let env = TestEnvironment::new();
    let fleet = Fleet::launch(&env);
    let rounds = rounds(ROUNDS);
    let mut answers = Vec::new();
    for round in 0..rounds {
        let clock = Stopwatch::start();
        let code = u8::try_from(3 + round % 250).expect("a code");
        answers.push(fleet.round(kill, code));
        // A moment of its own for each round; daemons may also die too often for heart.
        let apart = Duration::from_millis(round as u64 * 37 % 200);
        let apart = if kill == Kill::Daemon && rounds > 5 { apart + KILLS_APART } else { apart };
        until(apart * 4 + STATE_DEADLINE, "the next round", || if clock.elapsed() > apart { Ok(()) } else { Err(()) });
    }
    let lines = fleet.settle();
    answers.sort_unstable();
    eprintln!(
        "{kill:?}: {rounds} rounds, {lines} lines once and in order; answers after {:?} to {:?}, median {:?}",
        answers[0],
        answers[rounds - 1],
        answers[rounds / 2]
    );
}

#[test]
fn b01_a_fleet_lives_on_without_its_daemon_and_no_line_is_lost_or_doubled() {
    check(Kill::Daemon);
}

#[test]
fn b01_a_fleet_is_found_again_without_daemon_and_heart_and_no_line_is_lost_or_doubled() {
    check(Kill::Both);
}
