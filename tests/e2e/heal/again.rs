//! Budgets of restarts that fill up again, and operators who need not wait for them.

use super::*;

/// Fails in every life whose number stands in `bad`, one per line.
const MOODY: &str = r#"
    [services.moody]
    sh = "echo life >> lives; grep -qx $(wc -l < lives) bad || exec sleep 1000; exit 1"
    backoff = "none"
    [groups.g]
    members = ["moody"]
    intensity = 4
    period = "2s"
"#;

fn lives(project: &Project<'_>) -> usize {
    project.read("lives").lines().count()
}

fn numbers(of: std::ops::RangeInclusive<usize>) -> String {
    of.map(|number| format!("{number}\n")).collect()
}

#[test]
fn a02_failures_that_have_left_the_window_no_longer_count() {
    let env = TestEnvironment::new();
    let project = env.project(MOODY);
    project.write("bad", numbers(1..=4));
    project.envctl(&["up", "-d"]).ok();
    let unit = project.until("moody", "in its fifth life", |unit| unit["incarnation"] == 5 && unit["pid"].is_u64());
    assert_eq!(unit["restarts"], 4, "{unit:#}");
    let clock = Stopwatch::start();
    let period = Duration::from_secs(2);
    until(period * 5, "the end of the window", || if clock.elapsed() > period { Ok(()) } else { Err(()) });
    project.write("bad", numbers(6..=8));
    proc::kill_hard(project.pid("moody"));
    let unit = project.until("moody", "in its ninth life", |unit| unit["incarnation"] == 9 && unit["pid"].is_u64());
    assert_eq!((&unit["state"], &unit["restarts"]), (&json!("running"), &json!(8)), "{unit:#}");
}

#[test]
fn a03_a_start_by_hand_after_giving_up_is_one_process_with_a_full_budget() {
    let env = TestEnvironment::new();
    let project = env.project(MOODY);
    project.write("bad", numbers(1..=5));
    project.envctl(&["up", "-d"]).ok();
    project.until_state("moody", "failed");
    assert_eq!(lives(&project), 5, "one start and a budget of four restarts");
    // Four more failures at once are within the budget only if the first four are forgotten.
    project.write("bad", numbers(6..=9));
    project.envctl(&["start", "moody"]).ok();
    let unit = project.until("moody", "in its tenth life", |unit| unit["incarnation"] == 10 && unit["pid"].is_u64());
    assert_eq!(unit["state"], "running", "{unit:#}");
    assert_eq!(lives(&project), 10);
    let pid = project.pid("moody");
    // Its shell may not have become the program yet.
    until(Duration::from_secs(5), "one process", || {
        let living: Vec<u32> = proc::tied_to(project.dir()).iter().map(|process| process.pid).collect();
        if living == [pid] { Ok(()) } else { Err(living) }
    });
}
