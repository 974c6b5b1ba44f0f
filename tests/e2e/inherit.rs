//! What units and the daemon take from whoever called, and what they do not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{TestEnvironment, proc};

const DUMP: &str = r#"
    [tasks.dump]
    cmd = ["FX", "dump-env", "dump.json"]
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
"#;

#[test]
fn a_captured_up_returns_at_once() {
    let env = TestEnvironment::new();
    let project = env.project(DUMP);
    let captured = project.shell("x=$($E up -d) && echo returned").ok();
    captured.says(&["returned"]);
    assert!(captured.took < Duration::from_secs(5), "{:?}", captured.took);
    project.down();
    env.envctl(&["daemon", "stop"]).ok();
    let piped = project.shell("$E up -d | cat; echo returned").ok();
    piped.says(&["returned"]);
    assert!(piped.took < Duration::from_secs(5), "{:?}", piped.took);
}

#[test]
fn a18_units_get_nothing_of_the_callers_surroundings() {
    let env = TestEnvironment::new();
    let project = env.project(DUMP);
    project.write("sub/file", "");
    // The worst caller: odd umask, low priority, lowered limits, blocked and ignored signals, leaked descriptors.
    let up = project.shell(
        "cd sub; umask 0; ulimit -S -n 200; ulimit -S -c 0; echo 300 > /proc/self/oom_score_adj; exec 7<../envctl.toml 9>../leak; trap '' HUP USR1 QUIT; \
         nice -n 5 $E -C .. up -d --wait --wait-timeout 30s",
    );
    up.ok();
    let dump = project.until_json("dump.json");
    let descriptors: Vec<&String> = dump["fds"].as_object().expect("descriptors").keys().collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{dump:#}");
    assert_eq!(dump["fds"]["0"], "/dev/null");
    assert_eq!(dump["umask"], "0022", "{dump:#}");
    assert_eq!((&dump["sigblk"], &dump["sigign"]), (&json!(0), &json!(0)), "{dump:#}");
    assert_eq!(dump["nice"], 0, "{dump:#}");
    assert_eq!((&dump["sid"], &dump["pgid"]), (&dump["pid"], &dump["pid"]), "a session of its own: {dump:#}");
    assert_eq!(dump["tty"], 0, "no terminal: {dump:#}");
    assert_eq!(dump["cwd"], json!(project.dir().canonicalize().expect("a path")), "{dump:#}");
    let files = dump["limits"]["Max open files"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
    assert!(files > 200, "the caller's limit arrived: {files}");
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("a score");
    if own.trim() == "0" {
        assert_eq!(dump["oom_score_adj"], "0", "{dump:#}");
    }
}

#[test]
fn the_daemon_keeps_nothing_of_its_first_caller() {
    let env = TestEnvironment::new();
    let project = env.project(DUMP);
    project.write("sub/file", "");
    let secret = "caller-secret-4711";
    let up = project.shell(&format!(
        "export CALLER_SECRET={secret}; cd sub; umask 0; ulimit -S -n 300; exec 7<../envctl.toml; nice -n 5 $E -C .. up -d"
    ));
    up.ok();
    let daemon = env.daemon_pid();
    let heart = proc::parent(daemon).expect("a parent");
    for pid in [daemon, heart] {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("its directory");
        assert!(!cwd.starts_with(project.dir()), "{pid} stands in {}", cwd.display());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        assert!(!status.contains("Umask:\t0000"), "{pid} has the caller's umask");
        assert_ne!(proc::session(pid), proc::session(std::process::id()), "{pid} is in the caller's session");
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("its descriptors")
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.ends_with("envctl.toml") || target.to_string_lossy().starts_with("/dev/pts"))
            .collect();
        assert!(open.is_empty(), "{pid} holds {open:?}");
        assert_eq!(proc::variable(pid, "CALLER_SECRET"), None, "{pid} carries the caller's environment");
    }
    assert_eq!(proc::variable(project.pid("api"), "CALLER_SECRET").as_deref(), Some(secret), "units do inherit it");
}

#[test]
fn a19_standard_input_of_a_unit_is_empty() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [tasks.reader]
        cmd = ["FX", "read-stdin"]
    "#,
    );
    let up = project.shell("printf 'not for units' | $E up -d --wait --wait-timeout 20s");
    up.ok();
    project.envctl(&["logs", "reader"]).ok().says(&["stdin held 0 bytes"]);
}

#[test]
fn the_envelope_and_its_derived_variables_are_in_every_child() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        name = "shop"
        [services.web-front]
        cmd = ["FX", "http", "${web-front.port}", "ok"]
        port = 21200
        [services.api]
        sh = "$FIXTURE dump-env dump.json; exec $FIXTURE run"
        env = { FIXTURE = "FX", OWN = "${api.port}", OTHER = "${web-front.url}/x", DOLLAR = "$$5 $HOME" }
        port = 21300
        ready = { log = "up" }
    "#,
    );
    project.up();
    let dump = project.until_json("dump.json");
    let variable =
        |name: &str| dump["env"][name].as_str().unwrap_or_else(|| panic!("no {name} in {dump:#}")).to_owned();
    let port = project.port("api").to_string();
    assert_eq!((variable("PORT"), variable("OWN")), (port.clone(), port));
    assert_eq!((variable("ENVCTL_PROJECT"), variable("ENVCTL_UNIT")), ("shop".to_owned(), "api".to_owned()));
    let url = variable("WEB_FRONT_URL");
    assert_eq!(url, format!("http://127.0.0.1:{}", project.port("web-front")));
    assert_eq!(variable("OTHER"), format!("{url}/x"));
    assert_eq!(variable("DOLLAR"), "$5 $HOME");

    let text = variable("ENVCTL_RT_VARS");
    assert!(!text.contains('\n') && text.is_ascii() && text.len() <= 4096, "{text}");
    let envelope: Value = serde_json::from_str(&text).expect("one line of JSON");
    assert!(text.contains("\"api\"") && text.contains("\"shop\""), "{envelope:#}");
    assert!(text.contains(&env.socket().display().to_string()), "{envelope:#}");
}

#[test]
fn inherit_narrows_the_callers_environment() {
    let env = TestEnvironment::new();
    for (inherit, one, two) in [("true", true, true), ("false", false, false), ("[\"ONE\", \"PATH\"]", true, false)] {
        let project = env.project_named(
            &format!("p{}", inherit.len()),
            &format!("inherit = {inherit}\n[tasks.dump]\ncmd = [\"FX\", \"dump-env\", \"dump.json\"]\n"),
        );
        let mut command = project.command(&["up", "-d", "--wait", "--wait-timeout", "20s"]);
        command.env("ONE", "1").env("TWO", "2");
        env.start(&mut command, &["up"]).wait(Duration::from_secs(30)).ok();
        let dump = project.until_json("dump.json");
        assert_eq!((dump["env"]["ONE"] == "1", dump["env"]["TWO"] == "2"), (one, two), "{inherit}: {dump:#}");
    }
}

#[test]
fn a_later_up_replaces_the_captured_environment_at_the_next_start() {
    let env = TestEnvironment::new();
    let project = env.project(
        r#"
        [services.api]
        sh = "$FIXTURE dump-env dump.json; exec $FIXTURE run"
        env = { FIXTURE = "FX" }
        ready = { log = "up" }
    "#,
    );
    let up = |value: &str| {
        let mut command = project.command(&["up", "-d", "--wait", "--wait-timeout", "20s"]);
        command.env("CAPTURED", value);
        env.start(&mut command, &["up"]).wait(Duration::from_secs(30)).ok();
    };
    up("first");
    let pid = project.pid("api");
    assert_eq!(project.until_json("dump.json")["env"]["CAPTURED"], "first");
    up("second");
    assert_eq!(project.pid("api"), pid, "a running unit is not restarted for it");
    std::fs::remove_file(project.path("dump.json")).expect("the dump");
    project.envctl(&["restart", "api"]).ok();
    assert_eq!(project.until_json("dump.json")["env"]["CAPTURED"], "second");
}

#[test]
fn no_value_of_the_callers_environment_reaches_the_state_directory() {
    let env = TestEnvironment::new();
    let project = env.project(DUMP);
    let canary = "canary-8f2e6b1d";
    let mut command = project.command(&["up", "-d", "--wait", "--wait-timeout", "20s"]);
    command.env("API_TOKEN", canary);
    env.start(&mut command, &["up"]).wait(Duration::from_secs(30)).ok();
    project.down();
    let found = project.shell(&format!("grep -rl {canary} {} || true", env.root().join("state").display())).ok();
    assert_eq!(found.stdout, "", "the state directory holds it");
}
