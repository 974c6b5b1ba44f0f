//! Upgrades to programs that cannot, do not, or die: told, rescued, nothing lost.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{STATE_DEADLINE, assert_whole, copy, program, status, upgrade, wrapper, writers};
use crate::harness::{ENVCTL, Project, TestEnvironment, UP_WAIT, proc};

/// The part of a wrapper that is run in the daemon's place, after the check.
const AS_DAEMON: &str = "[ \"$1\" = daemon-serve ] && [ \"$2\" != --check-handover ]";

/// A daemon as it was, with everything it has.
fn assert_untouched(env: &TestEnvironment, project: &Project<'_>, before: (u32, u32)) {
    assert_eq!((env.daemon_pid(), project.pid("a")), before);
    assert_eq!(program(before.0).to_str(), Some(ENVCTL));
    assert!(status(env)["upgrade"].is_null(), "something happened: {:#}", status(env));
}

#[test]
fn b14_what_cannot_take_over_is_refused_with_the_reason_and_nothing_happens() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let before = (env.daemon_pid(), project.pid("a"));
    let text = env.root().join("text");
    std::fs::write(&text, "hello").expect("a file");
    let check = "[ \"$2\" = --check-handover ]";
    let cases = [
        (env.root().join("missing"), "No such file"),
        (env.root().to_path_buf(), "it is no program"),
        (text, "cannot take over"),
        ("/bin/ls".into(), "it is no envctl that knows how (exit code 2"),
        ("/bin/true".into(), "it is no envctl that knows how (exit code 0"),
        (
            wrapper(&env, "no", &format!("{check} && {{ echo not today >&2; exit 5; }}")),
            "(exit code 5 instead of an answer: not today)",
        ),
        (
            wrapper(&env, "reads-nothing", &format!("{check} && set -- \"$1\" \"$2\" '{{}}' \"$4\"")),
            "cannot be understood",
        ),
        (wrapper(&env, "old-heart", &format!("{check} && set -- \"$1\" \"$2\" \"$3\" 99")), "hearts of version"),
    ];
    for (to, why) in cases {
        upgrade(&env, &to).wait(STATE_DEADLINE).exits(1).complains(&[
            "error:",
            to.to_str().expect("a path"),
            why,
            "hint:",
        ]);
        assert_untouched(&env, &project, before);
    }
}

#[test]
fn b14_a_configuration_that_the_new_build_cannot_read_stops_the_upgrade() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let before = (env.daemon_pid(), project.pid("a"));
    project.write("envctl.toml", "x = [");
    upgrade(&env, &copy(&env, "new"))
        .wait(STATE_DEADLINE)
        .exits(1)
        .complains(&["envctl.toml:1:", "nothing has happened"]);
    project.write("envctl.toml", "[services.a]\nsh = \"exec sleep 1000\"\n");
    assert_untouched(&env, &project, before);
}

#[test]
fn b14_a_program_that_dies_before_it_serves_is_followed_by_the_one_of_before() {
    let env = TestEnvironment::new();
    let project = env.project(&format!("{}[services.a]\nsh = \"exec sleep 1000\"\n", writers()));
    project.envctl(UP_WAIT).ok();
    let mut events = project.start(&["events", "-f", "--json"]);
    let before = ["a", "w1", "w2", "w3"].map(|unit| project.pid(unit));
    let cases = [("exit 0", "exit code 0"), ("exit 3", "exit code 3"), ("kill -9 $$", "signal 9")];
    for (number, (dies, why)) in cases.into_iter().enumerate() {
        let new = wrapper(&env, &format!("dies-{number}"), &format!("{AS_DAEMON} && {dies}"));
        let told = upgrade(&env, &new).wait(STATE_DEADLINE).exits(1);
        told.complains(&["the upgrade to", why, "before it served", "nothing was lost"]);
        assert_eq!(program(env.daemon_pid()).to_str(), Some(ENVCTL), "the old program serves");
        let last = status(&env)["upgrade"].clone();
        assert_eq!(last["outcome"], "failed", "{last:#}");
        events.until_says(why, STATE_DEADLINE);
    }
    assert_eq!(["a", "w1", "w2", "w3"].map(|unit| project.pid(unit)), before);
    ["w1", "w2", "w3"].iter().for_each(|unit| assert_whole(&project, unit));
    let rescued = project.events().iter().filter(|event| event["event"] == "daemon.rescued").count();
    assert_eq!(rescued, cases.len());
    // A failed upgrade is no death: there is no limit to trying, and the next one may succeed.
    upgrade(&env, &copy(&env, "new")).wait(STATE_DEADLINE).ok();
    assert_eq!(project.pid("a"), before[0]);
}

#[test]
fn b14_a_program_that_takes_over_and_hangs_is_ended_and_rescued_at_its_deadline() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let pid = project.pid("a");
    let new = wrapper(&env, "hangs", &format!("{AS_DAEMON} && exec sleep 1000"));
    let told = upgrade(&env, &new).wait(Duration::from_secs(30)).exits(1);
    told.complains(&["did not serve within 10 s", "nothing was lost"]);
    assert_eq!(project.pid("a"), pid);
}

#[test]
fn b14_of_two_upgrades_at_once_one_is_refused() {
    let env = TestEnvironment::new();
    let project = env.project("[services.a]\nsh = \"exec sleep 1000\"\n");
    project.envctl(UP_WAIT).ok();
    let pid = project.pid("a");
    project.shell("mkfifo go").ok();
    let wait =
        format!("[ \"$2\" = --check-handover ] && {{ : > {0}/checking; read go < {0}/go; }}", project.dir().display());
    let first = upgrade(&env, &wrapper(&env, "slow", &wait));
    crate::harness::until(STATE_DEADLINE, "the first to be checked", || {
        if project.dir().join("checking").exists() { Ok(()) } else { Err(()) }
    });
    let second = upgrade(&env, &copy(&env, "new")).wait(STATE_DEADLINE).exits(1);
    second.complains(&["another upgrade is under way", "slow", "hint:"]);
    project.shell("echo > go").ok();
    first.wait(STATE_DEADLINE).ok();
    assert_eq!(project.pid("a"), pid);
    // One that was given up by its asker leaves room for the next.
    project.shell("rm checking").ok();
    let gone = upgrade(&env, &wrapper(&env, "slow", &wait));
    crate::harness::until(STATE_DEADLINE, "the next to be checked", || {
        if project.dir().join("checking").exists() { Ok(()) } else { Err(()) }
    });
    gone.signal(Signal::SIGKILL);
    crate::harness::until(STATE_DEADLINE, "room for another", || {
        let output = upgrade(&env, &copy(&env, "new")).wait(STATE_DEADLINE);
        if output.code == Some(0) { Ok(()) } else { Err(output) }
    });
    assert!(proc::alive(pid));
}
