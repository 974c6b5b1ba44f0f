//! Requirements in containers, on a real engine of the test's own with images made on the spot.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Engine, Project, TestEnvironment, UP_WAIT, cannot_run, proc, until};

/// Longest wait for what must come by itself: an engine on a busy machine is not quick.
const STATE_DEADLINE: Duration = Duration::from_secs(40);
/// What all containers of ours carry.
const OURS: &str = "dev.envctl.owner";

/// An engine, or the word that the test could not run here.
fn engine(test: &str) -> Option<Engine> {
    Engine::start().map_err(|why| cannot_run(test, &why)).ok()
}

fn redis(engine: &Engine) -> String {
    format!(
        "name = \"shop\"\n[requirements.redis]\ndriver = \"container\"\n\
         container = {{ image = \"envctl-test/redis:7\", engine = \"{}\" }}\n",
        engine.address()
    )
}

/// The container of a unit, by its full id.
fn container(engine: &Engine, project: &Project<'_>, unit: &str) -> String {
    let unit = project.unit(unit);
    let short = unit["containers"][0].as_str().unwrap_or_else(|| panic!("no container: {unit:#}")).to_owned();
    engine.docker(&["inspect", "-f", "{{.Id}}", &short]).trim().to_owned()
}

fn redis_cli(project: &Project<'_>, command: &str) -> String {
    let port = project.port("redis");
    project.shell(&format!("redis-cli -p {port} {command}")).ok().stdout.trim().to_owned()
}

fn until_ready_again(project: &Project<'_>, incarnation: u64) -> Value {
    until(STATE_DEADLINE, "redis to be ready again", || {
        let unit = project.unit("redis");
        if unit["state"] == "ready" && unit["incarnation"].as_u64() >= Some(incarnation) { Ok(unit) } else { Err(unit) }
    })
}

fn has_event(project: &Project<'_>, kind: &str) -> bool {
    project.events_of("redis").iter().any(|event| event["event"] == kind)
}

#[test]
fn a_requirement_in_a_container_is_a_unit_like_any_other_and_keeps_its_data() {
    let Some(engine) = engine("containers: life and data") else { return };
    let env = TestEnvironment::new();
    let project = env.project(&redis(&engine));
    project.up();
    let unit = project.unit("redis");
    assert_eq!((&unit["driver"], &unit["pid"]), (&"container".into(), &Value::Null), "{unit:#}");
    let id = container(&engine, &project, "redis");
    assert_eq!(unit["containers"][0], id[..12], "{unit:#}");
    let bound = engine.docker(&["port", &id]);
    assert_eq!(bound.trim(), format!("6379/tcp -> 127.0.0.1:{}", project.port("redis")), "published on loopback alone");
    let labels = engine.docker(&["inspect", "-f", "{{json .Config.Labels}}", &id]);
    for label in ["owner", "session", "scope", "project", "unit", "incarnation", "version"] {
        assert!(labels.contains(&format!("dev.envctl.{label}")), "{label}: {labels}");
    }
    let policy = engine.docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &id]);
    assert_eq!(policy.trim(), "no", "who restarts it is our decision");
    assert_eq!(redis_cli(&project, "incr visits"), "1");
    let logs = project.envctl(&["logs", "redis", "--raw"]).ok();
    assert!(logs.stdout.contains("Ready to accept connections"), "{logs}");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new(), "nothing is left but the data");
    assert!(!has_event(&project, "unit.killed"), "it ended as it was asked");
    project.up();
    assert_eq!(redis_cli(&project, "incr visits"), "2", "the data was there again");
    project.envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!(engine.docker(&["volume", "ls", "-q"]), "", "its data went when that was asked for");
}

#[test]
fn a_container_that_crashes_is_restarted_by_policy() {
    let Some(engine) = engine("containers: crash") else { return };
    let env = TestEnvironment::new();
    let project = env.project(&redis(&engine));
    project.up();
    redis_cli(&project, "set k kept");
    let first = container(&engine, &project, "redis");
    engine.docker(&["kill", &first]);
    let unit = until_ready_again(&project, 2);
    assert_eq!((unit["restarts"].as_u64(), unit["exit"]["code"].as_u64()), (Some(1), Some(137)), "{unit:#}");
    assert_ne!(container(&engine, &project, "redis"), first);
    assert_eq!(engine.containers(None).len(), 1, "the first one is gone");
    assert_eq!(redis_cli(&project, "get k"), "kept");
    // Somebody removes it altogether, and whatever looks after it is killed: both are ends like any other.
    engine.docker(&["rm", "-f", &container(&engine, &project, "redis")]);
    until_ready_again(&project, 3);
    let relays = proc::with_command(&container(&engine, &project, "redis"));
    relays.iter().for_each(|pid| proc::kill_hard(*pid));
    until_ready_again(&project, 4);
    assert_eq!(engine.containers(None).len(), 1, "what a killed relay leaves is removed");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn an_engine_that_goes_is_told_and_waited_for() {
    let Some(mut engine) = engine("containers: engine gone") else { return };
    let env = TestEnvironment::new();
    let project = env.project(&redis(&engine));
    project.up();
    redis_cli(&project, "set k kept");
    for (round, killed) in [(2, false), (3, true)] {
        if killed {
            engine.kill()
        } else {
            engine.stop()
        }
        let unit = until(STATE_DEADLINE, "word that the engine has gone", || {
            let unit = project.unit("redis");
            let cause = unit["cause"].as_str().unwrap_or_default();
            if cause.contains("container engine has gone") && unit["ready"] == false { Ok(unit) } else { Err(unit) }
        });
        assert!(unit["hint"].as_str().unwrap_or_default().contains("systemctl start docker"), "{unit:#}");
        assert!(project.envctl(&["why", "redis"]).ok().stdout.contains("engine"));
        engine.run_again();
        until_ready_again(&project, round);
        assert_eq!(redis_cli(&project, "get k"), "kept");
    }
    assert!(has_event(&project, "engine.lost") && has_event(&project, "engine.back"));
    assert_eq!(engine.containers(None).len(), 1);
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn a20_a_container_whose_port_was_taken_is_removed_and_retried_on_the_next() {
    let Some(engine) = engine("containers: port taken") else { return };
    let env = TestEnvironment::new();
    // A run whose last unit is stopped is over, and its ports with it.
    let project = env.project(&format!("{}[services.other]\ncmd = [\"sleep\", \"1000\"]\n", redis(&engine)));
    project.up();
    let port = project.port("redis");
    let thief =
        format!("name = \"thief\"\n[services.thief]\nsh = \"until exec FX listen {port}; do sleep 0.05; done\"\n");
    let thief = env.project_named("thief", &thief.replace("FX", crate::harness::FIXTURE));
    project.envctl(&["stop", "redis"]).ok();
    thief.envctl(&["up", "-d"]).ok();
    until(STATE_DEADLINE, "the thief to listen", || {
        let logs = thief.envctl(&["logs", "thief", "--raw"]).stdout;
        if logs.contains("listening") { Ok(()) } else { Err(logs) }
    });
    project.envctl(&["start", "redis"]).ok();
    let unit = until(STATE_DEADLINE, "redis on another port", || {
        let unit = project.unit("redis");
        if unit["state"] == "ready" { Ok(unit) } else { Err(unit) }
    });
    assert_ne!(unit["ports"][0]["port"], port, "{unit:#}");
    assert!(has_event(&project, "port.moved"));
    assert_eq!(engine.containers(None).len(), 1, "nothing is left of the attempt");
    project.down();
    thief.down();
}

#[test]
fn a19_a_container_that_runs_on_another_port_than_wished_is_adopted_and_a_restart_recreates_it() {
    let Some(engine) = engine("containers: daemon dies") else { return };
    let env = TestEnvironment::new();
    let wished = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let wish = wished.local_addr().expect("its address").port();
    let project = env.project(&format!("{}port = {wish}\n", redis(&engine)));
    project.up();
    let port = project.port("redis");
    assert_ne!(port, wish, "it was taken");
    drop(wished);
    let id = container(&engine, &project, "redis");
    let before = env.daemon_pid();
    proc::kill_hard(before);
    let adopted = until(STATE_DEADLINE, "the next daemon", || {
        let unit = project.unit("redis");
        if unit["adopted"] == true && unit["containers"][0] == id[..12] { Ok(unit) } else { Err(unit) }
    });
    assert_eq!((&adopted["incarnation"], &adopted["state"]), (&1.into(), &"ready".into()), "{adopted:#}");
    assert_eq!(project.port("redis"), port, "where it is, whatever is free now");
    engine.docker(&["kill", &id]);
    let unit = until_ready_again(&project, 2);
    assert_eq!(unit["exit"]["code"], 137, "{unit:#}");
    let second = container(&engine, &project, "redis");
    project.envctl(&["restart", "redis"]).ok();
    until_ready_again(&project, 3);
    let third = container(&engine, &project, "redis");
    assert!(id != second && second != third, "each life has a container of its own: {id} {second} {third}");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn what_a_killed_session_left_in_the_engine_is_removed_at_the_next_start() {
    let Some(engine) = engine("containers: orphans") else { return };
    let env = TestEnvironment::new();
    let project = env.project(&redis(&engine));
    project.up();
    let orphan = container(&engine, &project, "redis");
    let status = env.envctl(&["daemon", "status", "--json"]).ok().json();
    let heart = status["heart_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("heart's pid");
    let relays = proc::with_command(&orphan);
    // Either would bring the other back: both are stopped before one is killed.
    let both = [heart, env.daemon_pid()];
    both.iter().for_each(|pid| proc::signal(*pid, nix::sys::signal::Signal::SIGSTOP));
    both.into_iter().chain(relays).for_each(proc::kill_hard);
    assert_eq!(engine.containers(Some(OURS)), std::slice::from_ref(&orphan), "nobody was there to remove it");
    project.up();
    // Who reaps the dead may take a while; then it is a life that ended while nobody looked.
    until_ready_again(&project, 2);
    let now = container(&engine, &project, "redis");
    assert_ne!(now, orphan);
    assert_eq!(engine.containers(None), [now]);
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn a35_an_unrelated_container_named_redis_is_touched_by_nothing() {
    let Some(engine) = engine("containers: the stranger") else { return };
    let env = TestEnvironment::new();
    let project = env.project(&redis(&engine));
    let stranger = |name: &str, labels: &[&str]| {
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        let program = ["envctl-test/redis:7", "redis-server", "--port", "7777"];
        engine.docker(&[&["run", "-d", "--name", name], &labels[..], &program[..]].concat()).trim().to_owned()
    };
    // One by the name, one with labels of another owner's project of the same name.
    let strangers = [
        stranger("redis", &[]),
        stranger(
            "other",
            &["dev.envctl.owner=0123456789abcdef", "dev.envctl.session=default", "dev.envctl.unit=redis"],
        ),
    ];
    engine.docker(&["volume", "create", "redis"]);
    let looks = || {
        let look = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}} {{.State.Status}} {{.Name}}";
        strangers.iter().map(|id| engine.docker(&["inspect", "-f", look, id])).collect::<Vec<_>>()
    };
    let before = looks();
    project.up();
    for arguments in [
        &["restart", "redis"][..],
        &["kill", "-s", "KILL", "redis"],
        &["stop", "redis"],
        &["start", "redis"],
        &["down"],
        UP_WAIT,
        &["down", "--timeout", "0s"],
        &["daemon", "stop"],
        &["ps", "--all"],
    ] {
        let _ = project.envctl(arguments);
        assert_eq!(looks(), before, "after {arguments:?}");
    }
    assert_eq!(engine.containers(None).len(), 2);
    assert!(engine.docker(&["volume", "ls", "-q"]).lines().any(|name| name == "redis"));
}

#[test]
fn what_the_engine_refuses_is_told_in_words() {
    let Some(engine) = engine("containers: refusals") else { return };
    let env = TestEnvironment::new();
    let refused = |name: &str, container: &str, says: &[&str]| {
        let project = env.project_named(
            name,
            &format!("[requirements.redis]\ndriver = \"container\"\ncontainer = {{ {container} }}\n"),
        );
        let up = project.envctl(UP_WAIT).exits(1);
        up.complains(says);
        assert_eq!(project.until_state("redis", "failed")["restarts"], 0, "no crash loop");
        project.down();
    };
    let address = engine.address();
    refused(
        "image",
        &format!("image = \"127.0.0.1:1/no/such:1\", engine = \"{address}\""),
        &["redis", "get the image", "hint"],
    );
    refused(
        "none",
        "engine = \"unix:///nowhere/docker.sock\"",
        &["redis", "/nowhere/docker.sock", "systemctl start docker"],
    );
    refused("far", "engine = \"tcp://10.0.0.1:2375\"", &["redis", "another machine"]);
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn a_container_with_the_machines_network_listens_on_loopback_and_within_its_limits() {
    let Some(engine) = engine("containers: host network") else { return };
    let env = TestEnvironment::new();
    let toml = redis(&engine).replace("image =", "network = \"host\", image =");
    let project = env.project(&format!("{toml}limits = {{ memory = \"64MiB\", cpu = 0.5, processes = 50 }}\n"));
    project.up();
    let port = project.port("redis");
    assert_eq!(redis_cli(&project, "ping"), "PONG");
    let listening = project.shell(&format!("ss -ltnH 'sport = :{port}' | awk '{{ print $4 }}'")).ok();
    assert_eq!(listening.stdout.trim(), format!("127.0.0.1:{port}"), "on the machine's own network, but for us alone");
    let id = container(&engine, &project, "redis");
    let limits =
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.NetworkMode}}";
    assert_eq!(engine.docker(&["inspect", "-f", limits, &id]).trim(), "67108864 500000000 50 host");
    project.down();
}

fn preset(engine: &Engine, name: &str) -> String {
    format!("name = \"shop\"\n[requirements.{name}]\ncontainer = {{ engine = \"{}\" }}\n", engine.address())
}

/// The recipe is what is tested: the images are stand-ins that speak the health endpoints.
#[test]
fn supabase_is_three_containers_that_find_each_other_and_end_together() {
    let Some(engine) = engine("containers: supabase") else { return };
    for image in ["supabase/postgres:15.8.1.085", "supabase/gotrue:v2.186.0", "kong:2.8.1"] {
        engine.stand_in(image);
    }
    let env = TestEnvironment::new();
    let told = "[tasks.told]\nsh = 'echo $SUPABASE_URL $SUPABASE_DB_URL > told; echo $SUPABASE_ANON_KEY > key'\nneeds = [\"supabase\"]\n";
    let project = env.project(&format!("{}{told}", preset(&engine, "supabase")));
    project.up();
    let unit = project.unit("supabase");
    assert_eq!(
        (&unit["driver"], unit["containers"].as_array().map(Vec::len)),
        (&"container".into(), Some(3)),
        "{unit:#}"
    );
    let port = |name: &str| {
        let ports = unit["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().find(|port| port["name"] == name).and_then(|port| port["port"].as_u64()).expect("a port")
    };
    assert_ne!(port("port"), port("db"), "API and database have ports of their own");
    let health = project.shell(&format!("curl -sf http://127.0.0.1:{}/auth/v1/health", port("port"))).ok();
    assert_eq!(health.stdout.trim(), "healthy", "through the gateway, from auth, which found the database");
    assert!(project.read("told").starts_with(&format!("http://127.0.0.1:{} postgresql://postgres:", port("port"))));
    assert_eq!(project.read("key").trim().split('.').count(), 3, "a signed key of the project's own");
    let logs = project.envctl(&["logs", "supabase", "--raw"]).ok();
    for part in ["database is ready", "auth is ready", "gateway is ready"] {
        assert!(logs.stdout.contains(part), "{part}: {logs}");
    }
    let db = unit["containers"][0].as_str().expect("an id").to_owned();
    engine.docker(&["kill", &db]);
    until(STATE_DEADLINE, "supabase to be ready again", || {
        let unit = project.unit("supabase");
        if unit["state"] == "ready" && unit["incarnation"] == 2 { Ok(()) } else { Err(unit) }
    });
    assert_eq!(engine.containers(None).len(), 3, "they live and end together");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
    let networks = engine.docker(&["network", "ls", "-q", "--filter", &format!("label={OURS}")]);
    assert_eq!(networks, "", "their network went with them");
}

#[test]
fn what_has_no_programs_on_this_machine_is_run_in_a_container() {
    let Some(engine) = engine("containers: auto") else { return };
    engine.stand_in("n8nio/n8n:latest");
    let env = TestEnvironment::new();
    let project = env.project(&preset(&engine, "n8n"));
    project.up();
    let unit = project.unit("n8n");
    assert_eq!(unit["driver"], "container", "{unit:#}");
    let id = container(&engine, &project, "n8n");
    let variables = engine.docker(&["inspect", "-f", "{{json .Config.Env}}", &id]);
    let key = variables.split("N8N_ENCRYPTION_KEY=").nth(1).and_then(|rest| rest.split('"').next()).expect("a key");
    assert!(key.len() >= 64, "{variables}");
    assert_eq!(proc::with_command(key), Vec::<u32>::new(), "a secret in an argument list");
    let ps = project.envctl(&["ps", "--json"]).ok();
    let events = project.envctl(&["events", "--json"]).ok();
    assert!(!ps.stdout.contains(key) && !events.stdout.contains(key), "a secret is shown");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn a18_without_an_engine_one_concise_message_says_so_for_all_requirements() {
    let env = TestEnvironment::new();
    let one = |name: &str| {
        format!(
            "[requirements.{name}]\npreset = \"redis\"\ndriver = \"container\"\ncontainer = {{ engine = \"unix:///nowhere/docker.sock\" }}\n"
        )
    };
    let project = env.project(&format!("name = \"shop\"\n{}{}{}", one("a"), one("b"), one("c")));
    let up = project.envctl(UP_WAIT).exits(1);
    up.complains(&["/nowhere/docker.sock", "systemctl start docker"]);
    let times = |text: &str| up.stderr.matches(text).count();
    assert_eq!((times("systemctl start docker"), times("hint:")), (1, 1), "{up}");
    project.down();
}

const SUPABASE: [&str; 3] = ["supabase/postgres:15.8.1.085", "supabase/gotrue:v2.186.0", "kong:2.8.1"];

/// When a container was started, by its place in the unit.
fn started(engine: &Engine, unit: &Value, at: usize) -> String {
    let id = unit["containers"][at].as_str().unwrap_or_else(|| panic!("no container: {unit:#}")).to_owned();
    engine.docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &id])
}

#[test]
fn a22_an_auth_that_fails_is_started_again_alone_and_the_database_is_not_touched() {
    let Some(engine) = engine("containers: auth dies") else { return };
    SUPABASE.iter().for_each(|image| engine.stand_in(image));
    let env = TestEnvironment::new();
    let project = env.project(&preset(&engine, "supabase"));
    project.up();
    let unit = project.unit("supabase");
    let before: Vec<String> = (0..3).map(|at| started(&engine, &unit, at)).collect();
    engine.docker(&["kill", unit["containers"][1].as_str().expect("auth's id")]);
    until(STATE_DEADLINE, "auth to be started again", || {
        let now = started(&engine, &unit, 1);
        if now == before[1] { Err(now) } else { Ok(()) }
    });
    let now = project.unit("supabase");
    assert_eq!((&now["incarnation"], &now["containers"]), (&1.into(), &unit["containers"]), "{now:#}");
    assert_eq!((started(&engine, &now, 0), started(&engine, &now, 2)), (before[0].clone(), before[2].clone()));
    let logs = project.envctl(&["logs", "supabase", "--raw"]).ok();
    assert!(logs.stdout.contains("auth has ended with 137: it alone is started again (1 of 5)"), "{logs}");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}

#[test]
fn a22_an_auth_that_never_answers_fails_with_phase_budget_elapsed_and_states() {
    let Some(engine) = engine("containers: auth fails") else { return };
    engine.stand_in(SUPABASE[0]);
    engine.stand_in_with(SUPABASE[1], "STAND_IN_AUTH=fails");
    engine.stand_in(SUPABASE[2]);
    let env = TestEnvironment::new();
    let project = env.project(&preset(&engine, "supabase"));
    let up = project.envctl(&["up", "-d", "--wait", "--wait-timeout", "50s"]).exits(1);
    up.complains(&["phase auth", "budget of 120s and 3 starts", "db running", "auth", "gateway created"]);
    let unit = project.until_state("supabase", "failed");
    assert_eq!(unit["incarnation"], 1, "the database was started once: {unit:#}");
    project.down();
    assert_eq!(engine.containers(None), Vec::<String>::new());
}
