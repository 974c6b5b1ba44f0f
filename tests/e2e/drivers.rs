//! Where a requirement's server comes from, and what stands in its way: somebody else's server, a taken port, a held
//! directory. The numbers are those of the acceptance scenarios.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// Redis, and somebody who lives with its address.
const REDIS: &str = "
    name = 'req'
    [requirements.redis]
    [services.api]
    sh = 'echo $REDIS_URL > api.url; exec sleep 1000'
    needs = { redis = 'ready' }
";

/// What the one who lives with its address has been told.
#[track_caller]
fn until_told(project: &Project<'_>, port: u16) {
    until(Duration::from_secs(20), &format!("api to be told port {port}"), || {
        let told = project.read("api.url");
        if told.trim() == format!("redis://127.0.0.1:{port}/0") { Ok(()) } else { Err(told) }
    });
}

#[test]
fn a16_a_port_that_is_taken_between_lease_and_bind_is_left_and_dependents_see_the_next_one() {
    let env = TestEnvironment::new();
    let project = env.project(REDIS);
    project.up();
    let port = project.port("redis");
    until_told(&project, port);
    project.envctl(&["stop", "redis"]).ok();
    project.until_state("redis", "stopped");
    let thief = TcpListener::bind(("127.0.0.1", port)).expect("the port of a stopped server is free");
    project.envctl(&["start", "redis"]).ok();
    project.until_state("redis", "ready");
    let next = project.port("redis");
    assert_ne!(next, port);
    project.until("api", "told anew", |unit| unit["incarnation"] == 2 && unit["ready"] == true);
    until_told(&project, next);
    assert_eq!(project.unit("redis")["failures"]["bind_conflict"], 1, "counted by class");
    let moved: Vec<_> = project.events_of("redis").into_iter().filter(|event| event["event"] == "port.moved").collect();
    let holder = format!("pid {}", std::process::id());
    assert!(moved.len() == 1 && moved[0]["message"].as_str().is_some_and(|text| text.contains(&holder)), "{moved:#?}");
    drop(thief);
}

#[test]
fn a17_a_check_that_fails_for_a_while_is_tried_again_on_the_same_port() {
    let env = TestEnvironment::new();
    // Answers only after a while: no restart, no other port.
    let project = env.project(&format!(
        "[presets.slow]\ntitle = 'Slow'\nports = {{ port = 7200 }}\nprobe = {{ tcp = true }}\n\
         [presets.slow.native]\nserver = ['envctl-fixture']\nsearch = ['{}']\nversion_args = []\nargs = ['listen', '${{port}}', '700']\n\
         [requirements.slow]\n",
        std::path::Path::new(crate::harness::FIXTURE).parent().expect("a directory").display()
    ));
    project.up();
    let unit = project.unit("slow");
    assert!(unit["failures"]["transient_probe"].as_u64() >= Some(1), "counted by class: {unit:#}");
    project.envctl(&["why", "slow"]).ok().says(&["transient probe (asked again)"]);
    assert_eq!((&unit["incarnation"], &unit["restarts"]), (&1.into(), &0.into()), "{unit:#}");
    let failed = project.events_of("slow").into_iter().filter(|event| event["event"] == "unit.probe_failed").count();
    assert!(failed >= 1, "nobody was told that it did not answer yet");
}

#[test]
fn a23_somebody_elses_server_that_does_not_answer_is_told_and_nothing_is_started_instead() {
    let env = TestEnvironment::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let project = env.project(&format!(
        "[requirements.redis]\nurl = 'redis://127.0.0.1:{free}/0'\n[services.well]\ncmd = [\"FX\", \"run\"]\n"
    ));
    project.envctl(&["up", "-d"]).ok();
    project.until_state("well", "running");
    let unit = project.until("redis", "known not to answer", |unit| unit["cause"].is_string());
    assert_eq!(
        (&unit["driver"], &unit["pid"], &unit["ready"]),
        (&"external".into(), &serde_json::Value::Null, &false.into())
    );
    assert!(proc::with_command("redis-server").iter().all(|pid| !env.processes().iter().any(|one| one.pid == *pid)));
    let ps = project.envctl(&["ps"]).ok();
    assert!(ps.stdout.contains("external"), "{ps}");
    // It is never given up: once it is there, it is used.
    let listener = redis_at(&env, free);
    project.until_state("redis", "ready");
    listener.down();
}

/// A Redis on this very port, of another project.
fn redis_at(env: &TestEnvironment, port: u16) -> Project<'_> {
    let other = env.project_named("other", &format!("name = 'other'\n[requirements.redis]\nport = {port}\n"));
    other.up();
    assert_eq!(other.port("redis"), port);
    other
}

#[test]
fn an_external_server_is_projected_and_neither_started_nor_stopped() {
    let env = TestEnvironment::new();
    let server = env.project_named("server", "name = 'server'\n[requirements.postgres]\n");
    server.up();
    let url = server.envctl(&["requirement", "info", "postgres", "--reveal", "--json"]).ok().json();
    let url = url["attributes"]["url"].as_str().unwrap_or_else(|| panic!("no url in {url:#}")).to_owned();
    let pid = server.pid("postgres");
    let project = env.project(
        "[requirements.postgres]\ndriver = 'external'\nenv_file = '.env'\n[tasks.ask]\n\
         sh = 'psql -qAtc \"select 41 + 1\" > told; echo $PGDATABASE >> told'\nneeds = { postgres = 'ready' }\n",
    );
    project.write(".env", format!("DATABASE_URL={url}\n"));
    project.up();
    assert_eq!(project.until_lines("told", 2), ["42", "server"]);
    let password = url.split(':').nth(2).and_then(|rest| rest.split('@').next()).expect("a password").to_owned();
    for arguments in
        [&["ps", "--json"][..], &["events", "--json"], &["env", "ask"], &["requirement", "info", "postgres"]]
    {
        let shown = project.envctl(arguments);
        assert!(!shown.stdout.contains(&password), "{shown}");
    }
    project.down();
    assert_eq!(server.pid("postgres"), pid, "somebody else's server was touched");
    server.envctl(&["ps", "--check"]).ok();
}

#[test]
fn an_external_server_that_is_configured_nowhere_is_told_with_what_to_set() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.redis]\ndriver = 'external'\n");
    let up = project.envctl(UP_WAIT).exits(1);
    up.complains(&["redis", "REDIS_URL", "hint", ".env"]);
    project.write("envctl.toml", "[requirements.redis]\nurl = 'http://here'\n");
    project.envctl(UP_WAIT).exits(1).complains(&["redis", "redis://"]);
}

#[test]
fn a24_dependencies_stay_as_they_are_when_only_the_application_is_restarted() {
    let env = TestEnvironment::new();
    let project = env.project(REDIS);
    project.up();
    let before = (project.pid("redis"), project.unit("redis")["incarnation"].clone());
    project.envctl(&["restart", "api"]).ok();
    project.until("api", "restarted", |unit| unit["incarnation"] == 2 && unit["state"] == "running");
    assert_eq!((project.pid("redis"), project.unit("redis")["incarnation"].clone()), before);
}

#[test]
fn a41_a_secret_in_a_command_is_refused_before_anything_is_started() {
    let env = TestEnvironment::new();
    let project = env.project(
        "[requirements.postgres]\n[services.web]\ncmd = [\"FX\", \"run\", '${postgres.sqlalchemy_url}']\nneeds = ['postgres']\n",
    );
    let up = project.envctl(&["up", "-d"]).exits(1);
    up.complains(&["secret", "env"]);
    assert!(env.processes().is_empty(), "something was started");
}

#[test]
fn the_lock_of_a_killed_server_is_removed_and_that_of_a_living_stranger_is_named() {
    let env = TestEnvironment::new();
    let project = env.project("name = 'req'\n[requirements.postgres]\nunstable = 1\nintensity = 0\n");
    project.up();
    project.down();
    let data =
        project.shell(&format!("echo {}/state/envctl/default/*/*/data/postgres/cluster", env.root().display())).ok();
    let data = data.stdout.trim().to_owned();
    // A lock whose owner is gone: a pid that nobody can have.
    project.shell(&format!("echo 4194999 > {data}/postmaster.pid")).ok();
    project.up();
    project.down();
    // A stranger that works in the directory: not one of ours, so nobody may end it.
    let mut stranger = env.tool("/bin/sleep", std::path::Path::new(&data));
    let mut stranger = stranger.arg("60").spawn().expect("a process");
    project.shell(&format!("echo {} > {data}/postmaster.pid", stranger.id())).ok();
    let up = project.envctl(UP_WAIT).exits(1);
    up.complains(&["postmaster.pid", &format!("pid {} (sleep)", stranger.id()), "hint"]);
    assert!(stranger.try_wait().expect("its state").is_none(), "the stranger was ended");
    stranger.kill().expect("a kill");
    stranger.wait().expect("its end");
    project.shell(&format!("rm {data}/postmaster.pid")).ok();
}

#[test]
fn a_server_that_answers_and_dies_at_once_was_never_up() {
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "[presets.brief]\ntitle = 'Brief'\nports = {{ port = 7300 }}\nprobe = {{ tcp = true }}\n\
         [presets.brief.native]\nserver = ['sh']\nargs = ['-c', '\"$0\" listen \"$1\" & sleep 0.03; kill %1', '{}', '${{port}}']\n\
         [requirements.brief]\nunstable = 2\nintensity = 1\n",
        crate::harness::FIXTURE
    ));
    project.envctl(UP_WAIT).exits(1);
    let ready = project.events_of("brief").into_iter().filter(|event| event["event"] == "unit.ready").count();
    assert_eq!(ready, 0);
}
