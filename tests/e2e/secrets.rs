//! Canaries: secrets of requirements through every surface. None is found outside of files for us alone, raw logs, and the
//! environments of units that need them.

use crate::harness::{FIXTURE, TestEnvironment};

/// Requirements of the fixture, three secrets each.
const REQUIREMENTS: usize = 10;

/// Ten requirements, each with three secrets of its own, and for each a unit that needs it; one that needs none.
fn project() -> String {
    let dir = std::path::Path::new(FIXTURE).parent().expect("a directory").display();
    let mut text = format!(
        "name = 'canaries'\n[presets.thing]\ntitle = 'Thing'\nports = {{ port = 7400 }}\nprobe = {{ tcp = true }}\n\
         [presets.thing.secrets]\none = {{}}\ntwo = {{}}\nthree = {{}}\n\
         [presets.thing.attributes]\nurl = 'thing://u:${{one}}@${{host}}:${{port}}'\n\
         [presets.thing.variables]\nTHING_URL = '${{url}}'\nTHING_KEY = '${{two}}'\n\
         [presets.thing.clients.show]\nprogram = ['printenv']\nargs = ['KEY']\nenv = {{ KEY = '${{three}}' }}\n\
         [presets.thing.native]\nserver = ['envctl-fixture']\nsearch = ['{dir}']\nversion_args = []\n\
         args = ['listen', '${{port}}']\nenv = {{ THING_THREE = '${{three}}' }}\n"
    );
    for n in 0..REQUIREMENTS {
        text.push_str(&format!(
            "[requirements.it{n}]\npreset = 'thing'\n[services.user{n}]\nsh = 'exec sleep 1000'\n\
             env = {{ THREE = '${{it{n}.three}}' }}\nneeds = {{ it{n} = 'ready' }}\n"
        ));
    }
    text + "[services.alone]\nsh = 'env > alone.env; exec sleep 1000'\n"
}

#[test]
fn thirty_secrets_are_nowhere_but_where_they_belong() {
    let env = TestEnvironment::new();
    let project = env.project(&project());
    project.up();
    let mut canaries = Vec::new();
    for n in 0..REQUIREMENTS {
        let info = project.envctl(&["requirement", "info", &format!("it{n}"), "--reveal", "--json"]).ok().json();
        for name in ["one", "two", "three"] {
            canaries.push(info["attributes"][name].as_str().expect("a secret").to_owned());
        }
    }
    canaries.sort();
    canaries.dedup();
    assert_eq!(canaries.len(), 3 * REQUIREMENTS, "secrets are shared");

    // What people and programs are shown.
    let restart = project.envctl(&["restart", "it0"]).ok();
    project.until("it0", "ready again", |unit| unit["incarnation"] == 2 && unit["state"] == "ready");
    let mut shown = vec![restart.stdout, restart.stderr];
    for arguments in [
        &["ps", "--json"][..],
        &["ps", "--all"],
        &["events", "--json"],
        &["why", "it0"],
        &["why", "user0", "--json"],
        &["env", "user0"],
        &["env", "user0", "--json"],
        &["env", "it0"],
        &["endpoints", "--json"],
        &["explain"],
        &["explain", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["requirement", "list", "--json"],
        &["requirement", "info", "it1"],
        &["requirement", "info", "it1", "--json"],
        &["show-state"],
        &["health", "--json"],
        &["errors", "--json"],
        &["daemon", "status", "--json"],
        &["logs"],
    ] {
        let output = project.envctl(arguments);
        shown.extend([output.stdout, output.stderr]);
    }
    shown.push(project.read("alone.env"));
    shown.push(env.daemon_log());
    // Every argument list of the machine.
    shown.push(project.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout);
    for (at, text) in shown.iter().enumerate() {
        assert!(!canaries.iter().any(|canary| text.contains(canary)), "surface {at} shows a secret:\n{text}");
    }

    // Every file: the requirements' own (0600), and the run's memory, on tmpfs and 0600, which holds no attribute at all.
    project.write("canaries", canaries.join("\n"));
    let found =
        project.shell(&format!("grep -rlF -f canaries --exclude=canaries {} || true", env.root().display())).ok();
    let strange: Vec<&str> = found.stdout.lines().filter(|path| !path.contains("/data/it")).collect();
    assert_eq!(strange, Vec::<&str>::new(), "files with a secret");
    let open = project
        .shell(&format!("find {} -path '*/data/it*' -type f ! -name .lease ! -perm 600", env.root().display()))
        .ok();
    assert_eq!(open.stdout, "", "files that others may read");
}

#[test]
fn data_is_dropped_when_it_is_asked_for_and_never_while_it_is_in_use() {
    let env = TestEnvironment::new();
    let project = env.project(
        "name = 'req'\n[requirements.redis]\n[tasks.visit]\nsh = 'redis-cli -u $REDIS_URL incr visits > visits'\nneeds = { redis = 'ready' }\n",
    );
    project.up();
    assert_eq!(project.read("visits").trim(), "1");
    project.envctl(&["down", "--data"]).exits(1).complains(&["--yes"]);
    assert_eq!(project.state("redis"), "ready", "a question that nobody answered stopped it");
    project.down();
    project.up();
    assert_eq!(project.read("visits").trim(), "2");
    project.envctl(&["requirement", "reset", "redis", "--yes"]).ok();
    project.until_state("redis", "ready");
    let visits = project.envctl(&["requirement", "redis-cli", "--", "exists", "visits"]).ok();
    assert_eq!(visits.stdout.trim(), "0");
    project.envctl(&["down", "--data", "--yes"]).ok();
    let left = project.shell(&format!("find {}/state -path '*/data/*'", env.root().display())).ok();
    assert_eq!(left.stdout, "", "data is left");
    // A second session that uses the same data is not robbed of it.
    project.up();
    let other = project.envctl(&["--session", "other", "down", "--data", "--yes"]);
    assert_eq!(project.state("redis"), "ready", "{other}");
    project.envctl(&["requirement", "redis-cli", "ping"]).ok();
}
