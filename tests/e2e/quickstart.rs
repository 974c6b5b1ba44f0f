//! The quickstart, as the README promises it.

use std::time::Duration;

use crate::harness::TestEnvironment;

#[test]
fn the_quickstart_comes_up_and_heals_with_nothing_but_a_shell() {
    let env = TestEnvironment::new();
    let quickstart = env.example("quickstart", "quickstart");
    quickstart.up();
    assert_eq!(quickstart.state("prepare"), "done");
    assert_eq!(quickstart.state("clock"), "ready");
    assert_eq!(quickstart.state("greeter"), "ready");

    let healed = quickstart.until("greeter", "ready again", |unit| unit["restarts"] == 1 && unit["state"] == "ready");
    assert_eq!(healed["incarnation"], 2, "{healed:#}");
    assert_eq!(quickstart.unit("clock")["restarts"], 0, "the clock has nothing to do with it");
    let why = quickstart.envctl(&["why", "greeter"]).ok();
    why.says(&["exit code 1"]);
    quickstart.down();
    assert_eq!(quickstart.ps()["state"], "down");
}

#[test]
fn a_foreground_up_shows_every_units_output_until_it_is_interrupted() {
    let env = TestEnvironment::new();
    let quickstart = env.example("quickstart", "quickstart");
    let mut up = quickstart.start(&["up"]);
    up.until_says("tick 1", Duration::from_secs(20));
    up.until_says("greeting 1 of 7", Duration::from_secs(20));
    up.signal(nix::sys::signal::Signal::SIGINT);
    let ended = up.wait(Duration::from_secs(20)).exits(2);
    assert!(ended.stdout.lines().any(|line| line.contains("clock") && line.contains("tick 1")), "{ended}");
}
