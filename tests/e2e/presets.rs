//! Presets: every server that a distribution has, for real, and one that a project brings itself.
//!
//! Each: up, a write and a read through a client, a kill of the server, back with its data, down; and nothing is left.

use std::path::Path;
use std::time::Duration;

use crate::harness::{FIXTURE, Project, TestEnvironment, cannot_run, proc, until};

/// What a server is asked to do: a script that writes once more and says how often it has.
struct Server {
    preset: &'static str,
    /// Programs without which the test means nothing.
    programs: &'static [&'static str],
    /// Writes, reads, and leaves the number of writes in the file `told`.
    script: &'static str,
    /// What the second life says: one more than the first, unless it keeps nothing.
    again: &'static str,
}

const WAIT: &[&str] = &["up", "-d", "--wait", "--wait-timeout", "55s"];

/// A program on the PATH, or where servers are.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/lib/rabbitmq/bin"].map(Into::into);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

#[track_caller]
fn lives(server: &Server) {
    if let Some(missing) = server.programs.iter().find(|program| !is_there(program)) {
        return cannot_run(server.preset, &format!("there is no {missing}"));
    }
    let env = TestEnvironment::new();
    let project = env.project(&format!(
        "name = 'my-shop'\n[requirements.it]\npreset = '{}'\n[tasks.use]\ncmd = ['/bin/bash', '-eu', 'use.sh']\nneeds = {{ it = 'ready' }}\n",
        server.preset
    ));
    project.write("use.sh", server.script);
    project.envctl(WAIT).ok();
    assert_eq!(project.read("told").trim(), "1", "{}", project.envctl(&["logs", "use"]).stdout);
    proc::kill_hard(project.pid("it"));
    until(Duration::from_secs(60), "it is ready again", || {
        let unit = project.unit("it");
        if unit["incarnation"] == 2 && unit["state"] == "ready" { Ok(()) } else { Err(unit) }
    });
    project.envctl(&["start", "use"]).ok();
    project.until("use", "done again", |unit| unit["incarnation"] == 2 && unit["state"] == "done");
    assert_eq!(project.read("told").trim(), server.again, "{}", project.envctl(&["logs", "use"]).stdout);
    project.down();
    nothing_is_left(&env, &project);
}

/// No lock and no socket of the server, nothing outside its own directory. Processes are the environment's business.
#[track_caller]
fn nothing_is_left(env: &TestEnvironment, project: &Project<'_>) {
    let root = env.root().display();
    let locks = project
        .shell(&format!(
            "find {root} -name '*.pid' -o -name '*.sock' -not -path '*/run/*' -o -type s -not -path '*/run/*'"
        ))
        .ok();
    assert_eq!(locks.stdout, "", "locks are left");
    let home = project.shell(&format!("find {root}/home -type f -not -path '*/.cache/envctl/*'")).ok();
    assert_eq!(home.stdout, "", "files in the home directory");
}

#[test]
fn mariadb_lives_and_comes_back_with_its_data() {
    lives(&Server {
        preset: "mariadb",
        programs: &["mariadbd", "mariadb"],
        script: "mariadb --no-defaults --protocol=TCP -h $MYSQL_HOST -P $MYSQL_TCP_PORT -u $MYSQL_USER -D $MYSQL_DATABASE -N -e \
            'create table if not exists t (n int); insert into t values (1); select count(*) from t' > told\n",
        again: "2",
    });
}

#[test]
fn valkey_lives_and_comes_back_with_its_data() {
    lives(&Server {
        preset: "valkey",
        programs: &["valkey-server", "valkey-cli"],
        script: "valkey-cli -u \"$REDIS_URL\" incr n > told\n",
        again: "2",
    });
}

#[test]
fn memcached_lives_and_comes_back_empty() {
    lives(&Server {
        preset: "memcached",
        programs: &["memcached"],
        script: "exec 3<>/dev/tcp/${MEMCACHED_SERVERS%:*}/${MEMCACHED_SERVERS#*:}\n\
            printf 'add n 0 0 1\\r\\n0\\r\\nincr n 1\\r\\nquit\\r\\n' >&3\ntr -d '\\r' <&3 | sed -n 2p > told\n",
        again: "1",
    });
}

#[test]
fn mosquitto_lives_and_comes_back_with_its_retained_messages() {
    // A retained message is on disk once the broker has come round to it: the file says so.
    let script = "hostport=${MQTT_URL#mqtt://}; at=\"-h ${hostport%:*} -p ${hostport#*:}\"\n\
        n=$(timeout 1 mosquitto_sub $at -t n -C 1 || echo 0)\n\
        mosquitto_pub $at -q 1 -r -t n -m $((n + 1))\n\
        mosquitto_sub $at -t n -C 1 > told\n\
        db=$(find \"$OLDPWD/../../state\" -name data -type d | head -1)/mosquitto.db\n\
        for i in $(seq 100); do grep -qa \"n$((n + 1))\" $db 2>/dev/null && break; sleep 0.05; done\n";
    let script = script.replace("$OLDPWD", ".");
    lives(&Server {
        preset: "mosquitto",
        programs: &["mosquitto", "mosquitto_pub", "mosquitto_sub"],
        script: Box::leak(script.into_boxed_str()),
        again: "2",
    });
}

#[test]
fn nats_lives_and_comes_back_with_its_streams() {
    lives(&Server {
        preset: "nats",
        programs: &["nats-server", "python3"],
        script: r#"python3 - <<'PY' > told
import json, os, socket
host, port = os.environ["NATS_URL"].removeprefix("nats://").split(":")
s = socket.create_connection((host, int(port)), timeout=10)
f = s.makefile("rb")
f.readline()
s.sendall(b'CONNECT {"verbose":false}\r\nSUB _in 1\r\n')
def ask(subject, body=b""):
    s.sendall(b"PUB %s _in %d\r\n%s\r\n" % (subject.encode(), len(body), body))
    while True:
        line = f.readline()
        if line.startswith(b"MSG"):
            return json.loads(f.read(int(line.split()[-1]) + 2)[:-2])
        if line.startswith(b"PING"):
            s.sendall(b"PONG\r\n")
ask("$JS.API.STREAM.CREATE.T", json.dumps({"name": "T", "subjects": ["t"]}).encode())
ask("t", b"x")
print(ask("$JS.API.STREAM.INFO.T")["state"]["messages"])
PY
"#,
        again: "2",
    });
}

#[test]
fn rabbitmq_lives_and_comes_back_with_its_messages() {
    lives(&Server {
        preset: "rabbitmq",
        programs: &["rabbitmq-server", "amqp-publish", "amqp-get"],
        // A message goes round: taken out as N, put back as N + 1. There are no confirmations here: it is seen on disk, and so is
        // the queue, which the server writes down by itself some time later.
        script: "amqp-declare-queue -u \"$AMQP_URL\" -d -q lasting > /dev/null\n\
            n=$(amqp-get -u \"$AMQP_URL\" -q lasting || echo kept-0)\n\
            next=kept-$((${n#kept-} + 1))\n\
            amqp-publish -u \"$AMQP_URL\" -p -r lasting -b $next\n\
            data=$(find ./../../state -name data -type d | head -1)\n\
            on_disk() { grep -rqa $next $data && grep -rqa --include=LATEST.LOG --include='rabbit_durable_queue.*' lasting $data; }\n\
            for i in $(seq 200); do on_disk && break; sleep 0.05; done\n\
            on_disk\n\
            echo ${next#kept-} > told\n",
        again: "2",
    });
}

/// A preset around the fixture: everything that a preset can say, without a line of Rust.
fn thing() -> String {
    let dir = Path::new(FIXTURE).parent().expect("a directory").display();
    format!(
        r#"
name = "my-shop"
[presets.thing]
title = "Thing"
versions = ["3"]
ports = {{ port = 7100 }}
data = "things"
probe = {{ http = "/health" }}
stop = {{ signal = "INT", grace = "3s" }}
[presets.thing.options]
colour = "red"
[presets.thing.secrets.token]
bytes = 24
[presets.thing.attributes]
url = "http://${{host}}:${{port}}/${{colour}}"
login = "${{url}}?token=${{token|url}}"
[presets.thing.variables]
THING_URL = "${{url}}"
THING_TOKEN = "${{token}}"
[presets.thing.clients.ask]
program = ["printenv"]
args = ["ASKED"]
env = {{ ASKED = "${{url}}" }}
[presets.thing.native]
server = ["envctl-fixture"]
search = ["{dir}"]
version_args = []
args = ["http", "${{port}}", "ok"]
env = {{ THING_FILE = "${{file.config}}" }}
[presets.thing.native.files.config]
name = "thing.conf"
text = "token = ${{token}}\n"
[[presets.thing.native.first]]
what = "seed the things"
cmd = ["/bin/sh", "-c", "echo $SEED > \"$0/seed\"", "${{into}}"]
env = {{ SEED = "${{project}}" }}

[requirements.mine]
preset = "thing"
options = {{ colour = "blue" }}
init = [{{ sh = "echo $THING_URL >> initialised", inputs = ["input"] }}]

[tasks.other]
cmd = ["FX", "dump-env", "other.json"]
[tasks.user]
cmd = ["FX", "dump-env", "user.json"]
env = {{ LOGIN = "${{mine.login}}" }}
needs = {{ mine = "ready" }}
"#
    )
}

#[test]
fn a_preset_in_the_projects_own_file_needs_no_rust() {
    let env = TestEnvironment::new();
    let project = env.project(&thing());
    project.write("input", "1");
    project.up();
    let told = project.until_json("user.json");
    let port = project.port("mine");
    let url = format!("http://127.0.0.1:{port}/blue");
    assert_eq!(told["env"]["THING_URL"], *url);
    let token = told["env"]["THING_TOKEN"].as_str().expect("a token").to_owned();
    assert_eq!((token.len(), &told["env"]["LOGIN"]), (48, &format!("{url}?token={token}").into()));
    let other = project.until_json("other.json");
    assert!(other["env"]["THING_TOKEN"].is_null(), "told to a unit that does not need it");
    assert_eq!(project.read("initialised").trim(), url);
    assert_eq!(project.envctl(&["requirement", "ask"]).ok().stdout.trim(), url);

    // Data, secret and `init` are there for the next life, and done once.
    project.down();
    project.up();
    assert_eq!(project.until_json("user.json")["env"]["THING_TOKEN"], *token);
    assert_eq!(project.until_lines("initialised", 1).len(), 1);
    let seed = project.shell(&format!("cat {}/state/envctl/default/*/*/data/mine/things/seed", env.root().display()));
    assert_eq!(seed.stdout.trim(), "my-shop");

    // And again when its input changes.
    project.write("input", "2");
    project.envctl(&["restart", "mine"]).ok();
    project.until_lines("initialised", 2);
}

#[test]
fn a_preset_in_a_file_of_its_own_is_found_and_its_mistakes_have_lines() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.thing]\n");
    let own = thing();
    let preset =
        own.split("[presets.thing]").nth(1).and_then(|rest| rest.split("[requirements").next()).expect("the preset");
    project.write("presets/thing.toml", preset.replace("presets.thing.", ""));
    project.up();
    assert_eq!(project.state("thing"), "ready");
    project.down();
    project.write("presets/thing.toml", preset.replace("presets.thing.", "").replace("title =", "tittle ="));
    let refused = project.envctl(&["up", "-d"]).exits(1);
    refused.complains(&["tittle", "presets/thing.toml:2", "did you mean `title`"]);
    project.write("presets/thing.toml", preset.replace("presets.thing.", "").replace("\"ok\"", "\"${token}\""));
    project.envctl(&["up", "-d"]).exits(1).complains(&["secret", "presets/thing.toml"]);
}

#[test]
fn sql_files_of_the_project_are_run_once_for_the_data_and_again_when_they_change() {
    let env = TestEnvironment::new();
    let project = env.project(
        "name = 'req'\n[requirements.postgres]\ninit = ['schema.sql']\n[tasks.count]\n\
         sh = 'psql -qAtc \"select count(*) from t\" > told'\nneeds = { postgres = 'ready' }\n",
    );
    project.write("schema.sql", "create table if not exists t (n int); insert into t values (1);");
    project.up();
    assert_eq!(project.read("told").trim(), "1");
    project.down();
    project.up();
    assert_eq!(project.read("told").trim(), "1", "it was run again");
    project.write("schema.sql", "insert into t values (2);");
    project.envctl(&["restart", "postgres"]).ok();
    project.until("postgres", "ready again", |unit| unit["incarnation"] == 2 && unit["state"] == "ready");
    project.envctl(&["start", "count"]).ok();
    project.until("count", "done again", |unit| unit["incarnation"] == 2 && unit["state"] == "done");
    assert_eq!(project.read("told").trim(), "2");
}

#[test]
fn an_init_that_fails_is_told_with_what_the_server_said() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.postgres]\ninit = ['bad.sql']\nunstable = 1\nintensity = 0\n");
    project.write("bad.sql", "select from nowhere at all;");
    let up = project.envctl(WAIT).exits(1);
    up.complains(&["postgres"]);
    let why = project.envctl(&["why", "postgres"]);
    assert!(why.stdout.contains("bad.sql") && why.stdout.contains("PostgreSQL refused"), "{why}");
}
