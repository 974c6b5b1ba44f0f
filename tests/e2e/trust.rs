//! A checkout of somebody else: nothing of it runs before `envctl trust` (reliability matrix, H06).
//!
//! Only root can make one, so for everybody else these tests have nothing to do; the rules themselves are tested in
//! `runtime/src/trust`.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, chown};
use serde_json::json;

use crate::harness::{Output, Project, TestEnvironment, UP_WAIT, is_root};

/// The user whom the checkouts are given to: `nobody`, wherever it is known.
const OTHER: u32 = 65534;
/// Everything in it that could be run leaves a trace.
const HOSTILE: &str = r#"
    [tasks.hook]
    sh = "touch canary-task"
    [services.api]
    cmd = ["FX", "run"]
    env = { SHELLED = "$(touch canary-env)" }
    needs = { hook = "done" }
    ready = { exec = ["sh", "-c", "touch canary-probe"] }
"#;
/// Commands that only look.
const LOOKS: &[&[&str]] = &[
    &["explain"],
    &["explain", "api"],
    &["config", "check"],
    &["config", "show", "--reveal"],
    &["show-config"],
    &["ps"],
    &["ps", "--all"],
    &["list-targets"],
    &["list-commands"],
    &["show-state"],
    &["projects"],
    &["events"],
    &["health"],
    &["daemon", "status"],
    &["version"],
];
/// Commands that would start something.
const STARTS: &[&[&str]] = &[&["up", "-d"], &["up"], UP_WAIT, &["start"], &["start", "api"], &["restart", "api"]];

fn give_away(path: impl AsRef<Path>) {
    chown(path.as_ref(), Some(Uid::from_raw(OTHER)), None).expect("root may give a file away");
}

/// A checkout of somebody else with the hostile configuration.
fn foreign(env: &TestEnvironment) -> Project<'_> {
    let project = env.project(HOSTILE);
    give_away(project.path("envctl.toml"));
    give_away(project.dir());
    project
}

fn canaries(project: &Project<'_>) -> Vec<String> {
    let entries = fs::read_dir(project.dir()).expect("the checkout").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("canary")).collect()
}

/// Refused with the reason and the way out.
#[track_caller]
fn is_refused(output: Output) -> Output {
    let output = output.exits(1);
    output.complains(&["error:", "belongs to", "not to you", "hint:", "`envctl trust`"]);
    output
}

#[test]
fn h06_a_checkout_of_another_user_starts_nothing_before_it_is_trusted() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    for command in STARTS {
        let output = is_refused(project.envctl(command));
        output.complains(&[&format!("the checkout in {}", project.dir().display()), "look at its envctl.toml"]);
    }
    assert_eq!(canaries(&project), Vec::<String>::new());
    assert!(env.sockets().is_empty(), "a daemon was started");

    project.envctl(&["trust"]).ok().complains(&["is trusted from now on"]);
    assert!(env.sockets().is_empty(), "trust starts nothing");
    project.up();
    assert_eq!(project.state("api"), "ready");
    assert_eq!(canaries(&project).len(), 2, "the task and the probe: {:?}", canaries(&project));
}

#[test]
fn h06_commands_that_only_look_need_no_trust_and_run_nothing() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    for command in LOOKS {
        let output = project.envctl(command).without_panic();
        assert!(!output.stderr.contains("belongs to"), "`{}` asks for trust:\n{output}", output.command);
        assert_eq!(canaries(&project), Vec::<String>::new(), "`{}` ran something", output.command);
    }
    for command in [["explain"].as_slice(), &["config", "show"], &["ps"], &["list-targets"]] {
        project.envctl(command).ok();
    }
    assert!(env.sockets().is_empty(), "a daemon was started");
}

#[test]
fn h06_another_directory_in_its_place_needs_trust_again() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    project.envctl(&["trust"]).ok();
    project.up();
    project.down();

    // The old one is kept, so that its inode is not given to the new one.
    fs::rename(project.dir(), env.root().join("p/old")).expect("the old checkout, aside");
    let project = foreign(&env);
    is_refused(project.envctl(UP_WAIT));
    assert_eq!(canaries(&project), Vec::<String>::new());
    project.envctl(&["trust"]).ok();
    project.up();
}

#[test]
fn h06_a_checkout_that_changes_hands_needs_trust_again() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    project.envctl(&["trust"]).ok();
    chown(project.dir(), Some(Uid::from_raw(OTHER - 1)), None).expect("root may give it away");
    is_refused(project.envctl(UP_WAIT)).complains(&[&format!("uid {}", OTHER - 1)]);
    assert!(env.sockets().is_empty());
}

#[test]
fn h06_one_foreign_file_in_a_checkout_of_ones_own_needs_trust() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\n");
    project.write("envctl.local.toml", "[tasks.hook]\nsh = \"touch canary\"\n");
    give_away(project.path("envctl.local.toml"));
    is_refused(project.envctl(UP_WAIT)).complains(&["`envctl.local.toml` of the checkout"]);
    assert!(env.sockets().is_empty());
    project.envctl(&["trust"]).ok();
    project.up();
    assert_eq!(canaries(&project), ["canary"]);
}

#[test]
fn h06_trust_that_is_taken_back_stops_no_unit_and_starts_none() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    project.envctl(&["trust"]).ok();
    project.up();
    let pid = project.pid("api");

    project.envctl(&["trust", "--revoke"]).ok().complains(&["is trusted no longer"]);
    project.envctl(&["trust", "--revoke"]).ok().complains(&["was not trusted"]);
    for command in STARTS {
        is_refused(project.envctl(command));
    }
    assert_eq!(project.pid("api"), pid, "what runs goes on");
    project.envctl(&["logs"]).ok();
    project.envctl(&["stop", "api"]).ok();
    project.until_state("api", "stopped");
    project.down();
}

#[test]
fn trust_is_told_and_kept_for_every_session() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    let refused = project.envctl(&["up", "-d", "--json"]).exits(1).json();
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!("untrusted")), "{refused:#}");

    let granted = project.envctl(&["trust", "--json"]).ok().json();
    let root = project.dir().canonicalize().expect("a real path");
    assert_eq!((&granted["schema_version"], &granted["kind"]), (&json!(1), &json!("trust")), "{granted:#}");
    assert_eq!((&granted["root"], &granted["trusted"]), (&json!(root), &json!(true)), "{granted:#}");
    assert_eq!(granted["granted"], true, "{granted:#}");
    let file = env.root().join("state/envctl/trusted.json");
    assert_eq!(granted["file"], json!(file), "{granted:#}");
    let text = fs::read_to_string(&file).expect("the file");
    assert!(text.contains("\"schema_version\": 1") && text.contains(&root.display().to_string()), "{text}");

    project.envctl(&["--session", "other", "up", "-d", "--wait"]).ok();
    project.envctl(&["--session", "other", "daemon", "stop"]).ok();

    let revoked = project.envctl(&["trust", "--revoke", "--json"]).ok().json();
    assert_eq!((&revoked["trusted"], &revoked["granted"]), (&json!(false), &json!(false)), "{revoked:#}");
    is_refused(project.envctl(&["--session", "other", "up", "-d"]));
}

#[test]
fn a_list_of_trust_that_cannot_be_understood_trusts_nobody_and_is_kept() {
    if !is_root() {
        return;
    }
    let env = TestEnvironment::new();
    let project = foreign(&env);
    project.envctl(&["trust"]).ok();
    let file = env.root().join("state/envctl/trusted.json");
    for text in ["{\"schema_version\": 99}", "nonsense"] {
        fs::write(&file, text).expect("another content");
        project.envctl(&["up", "-d"]).exits(1).complains(&["error:", "trusted.json", "hint:"]);
        project.envctl(&["trust"]).exits(1).complains(&["trusted.json"]);
        assert_eq!(fs::read_to_string(&file).expect("the file"), text);
        project.envctl(&["ps"]).ok();
    }
    assert!(env.sockets().is_empty());
    assert_eq!(canaries(&project), Vec::<String>::new());
}

#[test]
fn a_checkout_of_ones_own_needs_no_trust() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\n");
    project.envctl(&["trust"]).ok().complains(&["needs no trust"]);
    assert!(!env.root().join("state/envctl/trusted.json").exists(), "nothing to keep");
    project.up();
}
