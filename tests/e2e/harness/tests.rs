//! The harness can fail: a judge that never says no is none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Background, FIXTURE, TestEnvironment, proc, until};

/// What `action` panics with.
#[track_caller]
fn complaint_of(action: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(action)) else { panic!("nothing was complained about") };
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("a text")
}

#[test]
fn a_process_left_behind_fails_its_test_and_is_ended() {
    let env = TestEnvironment::new();
    let mut child = env.tool(FIXTURE, env.root()).arg("run").spawn().expect("the fixture starts");
    let complaint = complaint_of(|| drop(env));
    assert!(complaint.contains(&format!("process {}", child.id())), "{complaint}");
    child.wait().expect("it was ended");
}

#[test]
fn a_process_that_changed_its_environment_and_directory_is_still_found() {
    let env = TestEnvironment::new();
    let held = std::fs::File::create(env.root().join("held")).expect("a file");
    let mut command = env.tool(FIXTURE, std::path::Path::new("/"));
    let mut child = command.env_clear().arg("run").stdout(held).spawn().expect("the fixture starts");
    until(Duration::from_secs(5), "it to be found by its open file", || {
        let found = env.processes();
        if found.iter().any(|one| one.pid == child.id() && one.tie == "open file") { Ok(()) } else { Err(found) }
    });
    proc::kill_hard(child.id());
    child.wait().expect("it was ended");
}

#[test]
fn a_socket_left_behind_fails_its_test() {
    let env = TestEnvironment::new();
    let socket = std::os::unix::net::UnixDatagram::bind(env.root().join("run/left.sock")).expect("a socket");
    drop(socket);
    let complaint = complaint_of(|| drop(env));
    assert!(complaint.contains("left.sock"), "{complaint}");
}

#[test]
fn output_that_stays_open_after_the_command_has_ended_is_told() {
    let env = TestEnvironment::new();
    let mut command = env.tool(FIXTURE, env.root());
    command.args(["orphan-pipe", "20000"]);
    let background = Background::start(&mut command, "orphan-pipe".to_owned());
    let complaint = complaint_of(|| {
        background.wait(Duration::from_secs(5));
    });
    assert!(complaint.contains("holds its output open"), "{complaint}");
    for left in env.processes() {
        proc::kill_hard(left.pid);
    }
}

#[test]
fn a_condition_that_never_comes_tells_what_was_seen_last() {
    let complaint = complaint_of(|| until(Duration::from_millis(50), "rain", || Err::<(), _>("sunshine")));
    assert!(complaint.contains("rain") && complaint.contains("sunshine"), "{complaint}");
}

#[test]
fn a_command_that_does_not_end_is_killed_and_told() {
    let env = TestEnvironment::new();
    let mut command = env.tool(FIXTURE, env.root());
    let background = Background::start(command.arg("ignore-term"), "ignore-term".to_owned());
    let complaint = complaint_of(|| {
        background.wait(Duration::from_millis(300));
    });
    assert!(complaint.contains("did not end"), "{complaint}");
}
