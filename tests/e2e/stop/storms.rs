//! Many processes at once: storms of forks, of orphans, of ends.

use super::*;

fn heart(env: &TestEnvironment) -> u32 {
    let status = env.envctl(&["daemon", "status", "--json"]).ok().json();
    u32::try_from(status["heart_pid"].as_u64().expect("a heart")).expect("a pid")
}

/// Dead children that heart has not collected.
fn zombies(heart: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{heart}/task/{heart}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| !proc::alive(*pid)).collect()
}

#[test]
fn a09_a_fork_storm_ends_within_its_grace() {
    for mode in ["forker", "storm"] {
        let env = TestEnvironment::new();
        let project = env.project(&format!(
            "[services.a]\ncmd = [\"FX\", \"{mode}\", \"200\"]\nready = {{ log = \"up\" }}\nstop = {{ grace = \"1s\" }}\n"
        ));
        project.up();
        until_living(&project, 20);
        let down = project.down();
        assert_eq!(living(&project), NOBODY, "{mode}");
        assert!(down.took <= Duration::from_secs(2) + SLACK, "{mode}: {:?}", down.took);
    }
}

#[test]
fn a10_orphans_that_end_are_collected_and_exits_stay_true() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.parent]
        cmd = ["FX", "orphans", "500"]
        ready = { log = "left", within = "60s" }
        [services.seven]
        cmd = ["FX", "exit", "7", "300"]
        restart = "temporary"
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    project.until_state("parent", "ready");
    let unit = project.until_state("seven", "failed");
    assert_eq!(unit["exit"]["code"], 7, "{unit:#}");
    let heart = heart(&env);
    until(Duration::from_secs(1), "no zombie below heart", || {
        let left = zombies(heart);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(project.state("parent"), "ready");
}

#[test]
fn a11_every_quick_exit_is_seen_as_what_it_was_while_orphans_die() {
    const EXITS: u64 = 300;
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        r#"
        [services.parent]
        cmd = ["FX", "orphans", "100000", "500"]
        [services.seven]
        cmd = ["FX", "exit", "7"]
        backoff = "none"
        intensity = {EXITS}
        period = "10m"
    "#
    ));
    project.envctl(&["up", "-d"]).ok();
    until(Duration::from_secs(60), "the last exit", || {
        let unit = project.unit("seven");
        if unit["state"] == "failed" { Ok(()) } else { Err(unit["restarts"].clone()) }
    });
    let events = project.events_of("seven");
    let exits: Vec<_> = events.iter().filter(|event| event["event"] == "unit.exited").collect();
    assert_eq!(exits.len() as u64, EXITS + 1);
    let other: Vec<_> = exits.iter().filter(|exit| exit["details"]["code"] != 7).collect();
    assert!(other.is_empty(), "{other:#?}");
}

#[test]
fn a12_five_hundred_kills_in_one_go_are_all_seen_while_a_follower_sleeps() {
    const UNITS: usize = 500;
    let env = TestEnvironment::new();
    let unit = |n: usize| format!("[services.s{n}]\nsh = \"exec sleep 1000\"\nrestart = \"temporary\"\n");
    let project = env.project(&(0..UNITS).map(unit).collect::<String>());
    project.up();
    let mut follower = project.start(&["events", "-f", "--json"]);
    follower.until_says("unit.started", Duration::from_secs(10));
    follower.signal(Signal::SIGSTOP);
    let ps = project.ps();
    let pids: Vec<u32> =
        ps["units"].as_array().into_iter().flatten().filter_map(|unit| unit["pid"].as_u64()?.try_into().ok()).collect();
    assert_eq!(pids.len(), UNITS);
    pids.iter().for_each(|pid| proc::signal(*pid, Signal::SIGKILL));
    until(Duration::from_secs(2) + SLACK, "all ends", || {
        let units = project.ps()["units"].as_array().cloned().unwrap_or_default();
        let seen = units.iter().filter(|unit| unit["state"] == "failed" && unit["exit"]["signal"] == 9).count();
        if seen == UNITS { Ok(()) } else { Err(seen) }
    });
    follower.signal(Signal::SIGCONT);
    follower.until_says("\"s499\"", Duration::from_secs(10));
    follower.signal(Signal::SIGTERM);
    follower.wait(Duration::from_secs(5));
}
