//! PostgreSQL and Redis, brought up for real from the binaries of the machine.

use std::time::Duration;

use crate::harness::{ENVCTL, Output, Project, TestEnvironment, UP_WAIT, is_root, proc};

const BOTH: &str = r#"
    name = "req"
    [requirements.postgres]
    [requirements.redis]
    [tasks.write]
    sh = "psql \"$DATABASE_URL\" -qAtc 'create table if not exists t (n int); insert into t values (1); select count(*) from t' > rows && redis-cli -u \"$REDIS_URL\" incr visits > visits"
    env = { DATABASE_URL = "${postgres.url}", REDIS_URL = "${redis.url}" }
    needs = { postgres = "ready", redis = "ready" }
"#;

#[test]
fn postgres_and_redis_come_up_and_keep_their_data() {
    let env = TestEnvironment::new();
    let project = env.project(BOTH);
    project.up();
    assert_eq!((project.read("rows").trim(), project.read("visits").trim()), ("1", "1"));
    for name in ["postgres", "redis"] {
        let unit = project.unit(name);
        assert_eq!((&unit["kind"], &unit["state"]), (&"requirement".into(), &"ready".into()), "{unit:#}");
    }
    project.down();
    project.up();
    assert_eq!((project.read("rows").trim(), project.read("visits").trim()), ("2", "2"), "the data was there again");
}

#[test]
fn a_killed_postgres_is_healed_with_its_data() {
    let env = TestEnvironment::new();
    let project = env.project(BOTH);
    project.up();
    proc::kill_hard(project.pid("postgres"));
    project.until("postgres", "ready again", |unit| unit["incarnation"] == 2 && unit["state"] == "ready");
    project.envctl(&["start", "write"]).ok();
    project.until("write", "done again", |unit| unit["incarnation"] == 2 && unit["state"] == "done");
    assert_eq!(project.read("rows").trim(), "2");
}

#[test]
fn two_projects_have_databases_of_their_own() {
    let env = TestEnvironment::new();
    let one = env.project_named("one", BOTH);
    let two = env.project_named("two", BOTH);
    one.up();
    two.up();
    assert_ne!(one.port("postgres"), two.port("postgres"));
    assert_ne!(one.port("redis"), two.port("redis"));
    assert_eq!((one.read("rows").trim(), two.read("rows").trim()), ("1", "1"));
}

#[test]
fn the_password_is_in_no_argument_list_and_not_shown_unless_asked_for() {
    let env = TestEnvironment::new();
    let project = env.project(BOTH);
    project.up();
    let revealed = project.envctl(&["env", "write", "--reveal"]).ok();
    let url = revealed.stdout.lines().find(|line| line.contains("DATABASE_URL")).expect("it is there").to_owned();
    let password =
        url.split("://").nth(1).and_then(|rest| rest.split('@').next()?.split(':').nth(1)).expect("a password");
    assert!(password.len() >= 16, "{url}");
    let masked = project.envctl(&["env", "write"]).ok();
    assert!(!masked.stdout.contains(password), "{masked}");
    assert_eq!(proc::with_command(password), Vec::<u32>::new(), "it stands in an argument list");
    let endpoints = project.envctl(&["endpoints", "--json"]).ok();
    assert!(!endpoints.stdout.contains(password), "{endpoints}");
    let state = project.shell(&format!("grep -rlF '{password}' {} || true", env.root().join("state").display())).ok();
    assert!(state.stdout.lines().all(|path| path.ends_with("/password") || path.contains("/data/")), "{state}");
}

#[test]
fn a_missing_binary_says_what_to_install() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.redis]\n[services.well]\ncmd = [\"FX\", \"run\"]\n");
    let up = without_redis(&env, &project, UP_WAIT).exits(1);
    up.complains(&["redis", "redis-server", "hint", "install"]);
    assert!(up.took < Duration::from_secs(5), "{:?}", up.took);
    assert_eq!(project.until_state("redis", "failed")["restarts"], 0, "not a crash loop");
    project.until_state("well", "running");
}

#[test]
fn a_version_that_is_not_there_names_those_that_are() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.postgres]\nversion = \"9\"\n");
    let up = project.envctl(UP_WAIT).exits(1);
    up.complains(&["postgres", "9"]);
    assert_eq!(project.until_state("postgres", "failed")["restarts"], 0);
}

#[test]
fn as_root_postgres_runs_in_a_user_namespace_and_the_data_stays_ours() {
    if !is_root() {
        return; // An ordinary user runs PostgreSQL as himself; every other test here shows that.
    }
    let env = TestEnvironment::new();
    let project = env.project(BOTH);
    project.up();
    let pid = project.pid("postgres");
    let ours = std::fs::read_link("/proc/self/ns/user").expect("our namespace");
    let its = std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("its namespace");
    assert_ne!(ours, its, "no user namespace, although this machine has them");
    let foreign = project.shell(&format!("find {} ! -uid 0 | head", env.root().join("state").display())).ok();
    assert_eq!(foreign.stdout, "", "files of another owner in the data directory");
}

#[test]
fn as_root_without_user_namespaces_postgres_runs_as_its_own_account() {
    if !is_root() {
        return; // Only root can fall back to another account.
    }
    let env = TestEnvironment::new();
    std::process::Command::new("chmod").args(["-R", "711"]).arg(env.root()).status().expect("chmod");
    std::process::Command::new("chmod").arg("700").arg(env.root().join("run")).status().expect("chmod");
    let project = env.project(BOTH);
    let up = without_user_namespaces(&env, &project, UP_WAIT);
    up.ok();
    let pid = project.pid("postgres");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|line| line.split_whitespace().next());
    assert_ne!(uid, Some("0"), "PostgreSQL as root: {status}");
    assert_eq!(project.read("rows").trim(), "1");
    project.down();
}

/// Hides every Redis of the machine from one command: in a mount namespace of its own, where they are not executable.
fn without_redis(env: &TestEnvironment, project: &Project<'_>, arguments: &[&str]) -> Output {
    let hide = "for dir in /usr/bin /usr/local/bin /usr/sbin /opt/homebrew/bin; do
            for name in redis-server valkey-server; do
                [ ! -e $dir/$name ] || mount --bind /dev/null $dir/$name
            done
        done
        exec \"$@\"";
    let mut command = env.tool("unshare", project.dir());
    let spaces: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
    command.args(spaces).args(["/bin/sh", "-c", hide, "sh", ENVCTL]).args(arguments);
    env.start(&mut command, arguments).wait(Duration::from_secs(60))
}

/// Runs its arguments where the kernel refuses to make user namespaces, as it does in most containers: in a namespace with
/// every id mapped to itself and a limit of none below it. (`unshare --map-users` would need another program for this.)
const WITHOUT_USER_NAMESPACES: &str = r#"
    set -eu
    mkfifo go
    unshare --user /bin/sh -c 'read -r _ < go; exec "$@"' sh \
        /bin/sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"' sh "$@" &
    pid=$!
    while [ "$(readlink /proc/$pid/ns/user)" = "$(readlink /proc/$$/ns/user)" ]; do sleep 0.02; done
    echo '0 0 65536' > /proc/$pid/uid_map
    echo '0 0 65536' > /proc/$pid/gid_map
    echo go > go
    rm go
    wait $pid
"#;

fn without_user_namespaces(env: &TestEnvironment, project: &Project<'_>, arguments: &[&str]) -> Output {
    let mut command = env.tool("/bin/sh", project.dir());
    command.args(["-c", WITHOUT_USER_NAMESPACES, "sh", ENVCTL]).args(arguments);
    env.start(&mut command, arguments).wait(Duration::from_secs(60))
}

#[test]
fn a_project_without_requirements_says_so() {
    let env = TestEnvironment::new();
    let project = env.project("[services.well]\ncmd = [\"FX\", \"run\"]\n");
    project.envctl(&["requirement", "list"]).ok().complains(&["has no requirements", "[requirements.postgres]"]);
}

#[test]
fn what_is_kept_of_first_starts_is_pruned_and_made_anew() {
    let env = TestEnvironment::new();
    let project = env.project("[requirements.postgres]\n");
    project.up();
    let prune = |more: &[&str]| project.envctl(&[&["prune", "--templates", "--older-than", "0s"], more].concat()).ok();
    let found = prune(&["--dry-run", "--json"]).json();
    assert_eq!((&found["templates"][0]["preset"], &found["dry_run"]), (&"postgres".into(), &true.into()), "{found:#}");
    assert!(found["bytes"].as_u64() > Some(1 << 20), "{found:#}");
    prune(&["--yes"]).says(&["postgres"]);
    prune(&[]).complains(&["no template"]);
    project.envctl(&["requirement", "reset", "postgres", "--yes"]).ok();
    project.until_state("postgres", "ready");
}
