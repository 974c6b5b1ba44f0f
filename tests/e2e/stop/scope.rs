//! How far a stop reaches, and what it cannot reach.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::harness::cannot_run;

/// A unit with a child in its group and one in a session of its own.
const FAMILY: &str = r#"
    [services.a]
    sh = "sleep 1001 & setsid sleep 1002 & echo up; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    ready = { log = "up" }
    stop = { scope = "SCOPE", grace = "2s" }
"#;

/// The living processes of the project whose command line ends so.
fn sleeps(project: &Project<'_>, how_long: &str) -> Vec<u32> {
    let found = proc::tied_to(project.dir()).into_iter();
    found.filter(|process| process.command == format!("sleep {how_long}")).map(|process| process.pid).collect()
}

/// Waits until so many of those that leave their session have left it.
fn until_apart(project: &Project<'_>, count: usize) {
    until(STATE_DEADLINE, "sessions of their own", || {
        let apart = sleeps(project, "1002").into_iter().filter(|pid| proc::session(*pid) == Some(*pid)).count();
        if apart == count { Ok(()) } else { Err(apart) }
    });
}

fn end_all(pids: &[u32]) {
    pids.iter().for_each(|pid| proc::kill_hard(*pid));
}

#[test]
fn scope_main_signals_the_leader_alone_and_leaves_what_it_started() {
    let env = TestEnvironment::new();
    let project = env.project(&FAMILY.replace("SCOPE", "main"));
    project.up();
    let (group, session) = (sleeps(&project, "1001"), sleeps(&project, "1002"));
    assert_eq!((group.len(), session.len()), (1, 1));
    project.envctl(&["restart", "a"]).ok();
    project.until("a", "restarted", |unit| unit["incarnation"] == 2 && unit["state"] == "ready");
    let leader = project.pid("a");
    proc::kill_hard(leader);
    project.until("a", "back", |unit| unit["incarnation"] == 3 && unit["state"] == "ready");
    project.down();
    let (groups, sessions) = (sleeps(&project, "1001"), sleeps(&project, "1002"));
    assert_eq!((groups.len(), sessions.len()), (3, 3), "restart, crash and stop each leave their two");
    assert!(groups.contains(&group[0]) && sessions.contains(&session[0]));
    end_all(&groups);
    end_all(&sessions);
}

#[test]
fn scope_group_ends_the_group_and_leaves_other_sessions() {
    let env = TestEnvironment::new();
    let project = env.project(&FAMILY.replace("SCOPE", "group"));
    project.up();
    until_apart(&project, 1);
    proc::kill_hard(project.pid("a"));
    project.until("a", "back", |unit| unit["incarnation"] == 2 && unit["state"] == "ready");
    until_apart(&project, 2);
    project.down();
    assert_eq!(sleeps(&project, "1001"), NOBODY);
    let left = sleeps(&project, "1002");
    assert_eq!(left.len(), 2);
    end_all(&left);
}

#[test]
fn scope_all_ends_everything() {
    let env = TestEnvironment::new();
    let project = env.project(&FAMILY.replace("SCOPE", "all"));
    project.up();
    project.down();
    assert_eq!(living(&project), NOBODY);
}

#[test]
fn what_left_its_session_is_asked_before_it_is_killed() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        sh = "setsid $F record order away & exec $F record order home 300"
        env = { F = "FX" }
        stop = { grace = "20s" }
    "#,
    );
    project.up();
    project.until_lines("order", 2);
    project.down();
    let order = project.read("order");
    assert!(order.contains("stop away\n") && order.contains("stop home\n"), "{order}");
    assert_eq!(living(&project), NOBODY);
}

#[test]
fn a_probe_that_ends_takes_no_orphan_of_its_unit_along() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.a]
        cmd = ["FX", "hideaway", "keep"]
        ready = { sh = "test -e go", every = "50ms" }
        alive = { sh = "echo >> rounds", every = "50ms", failures = 3 }
    "#,
    );
    project.envctl(&["up", "-d"]).ok();
    until_living(&project, 2);
    let before = [project.pid("a"), until_orphan(&project)];
    project.write("go", "");
    project.until_lines("rounds", 5);
    assert!(before.iter().all(|pid| proc::alive(*pid)), "an exec probe killed the unit's own orphan");
    project.down();
    assert_eq!(living(&project), NOBODY);
}

/// The process that `hideaway` has left in a session of its own.
fn until_orphan(project: &Project<'_>) -> u32 {
    until(STATE_DEADLINE, "the orphan", || {
        let found = proc::tied_to(project.dir());
        found.iter().find(|process| process.command.ends_with(" run")).map(|process| process.pid).ok_or(found)
    })
}
/// A frozen process of cgroup v1: it takes no signal, not even a kill, until it is thawed.
struct Frozen {
    dir: PathBuf,
}

impl Frozen {
    fn new(pid: u32) -> Option<Self> {
        let root = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified/freezer"].iter().find(|dir| {
            fs::metadata(format!("{dir}/freezer.state")).is_ok() || fs::metadata(format!("{dir}/cgroup.procs")).is_ok()
        })?;
        let dir = PathBuf::from(root).join(format!("envctl-test-{pid}"));
        fs::create_dir(&dir).ok()?;
        let frozen = Self { dir };
        frozen.write("cgroup.procs", &pid.to_string())?;
        frozen.write("freezer.state", "FROZEN")?;
        Some(frozen)
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.dir.join(file), text).ok()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.write("freezer.state", "THAWED");
        until(STATE_DEADLINE, "the end of what was frozen", || {
            fs::remove_dir(&self.dir).map_err(|error| error.to_string())
        });
    }
}

#[test]
fn a17_what_not_even_a_kill_ends_is_told_and_holds_nobody_else_up() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.stuck]
        sh = "sleep 1001 & echo up; wait"
        ready = { log = "up" }
        stop = { grace = "300ms" }
        [services.other]
        cmd = ["FX", "record", "order", "other", "100"]
        ready = { exec = "true" }
    "#,
    );
    project.up();
    let pid = sleeps(&project, "1001")[0];
    let Some(frozen) = Frozen::new(pid) else {
        return cannot_run("a17, what cannot be killed", "no freezer of cgroup v1 can be used here");
    };
    let down = project.start(&["down"]);
    project.until_state("other", "stopped");
    let down = down.wait(STATE_DEADLINE).exits(1);
    down.complains(&["could not be ended", "stuck", &pid.to_string(), "hint:"]);
    assert!(down.took < Duration::from_secs(5), "{:?}", down.took);
    assert_eq!(project.unit("stuck")["escaped"], serde_json::json!([pid]));
    let why = project.envctl(&["why", "stuck"]).ok();
    assert!(why.stdout.contains(&pid.to_string()) && why.stdout.contains("not even a kill"), "{why}");
    assert!(project.events_of("stuck").iter().any(|event| event["event"] == "unit.escaped"));
    drop(frozen);
}
