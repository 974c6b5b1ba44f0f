//! Servers that worktrees share: one process, a database for each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Project, TestEnvironment, UP_WAIT, proc, until};

/// Longest wait for what must come by itself.
const DEADLINE: Duration = Duration::from_secs(20);

const POSTGRES: &str = "
    name = 'shop'
    [requirements.postgres]
    share = 'project'
";
const REDIS: &str = "
    name = 'shop'
    [requirements.redis]
    share = 'project'
";

/// A repository with a commit, as its main checkout.
fn repository<'e>(env: &'e TestEnvironment, toml: &str) -> Project<'e> {
    let main = env.project_named("shop", toml);
    let author = "-c user.name=t -c user.email=t@t -c commit.gpgsign=false";
    main.shell(&format!("git init -q -b trunk . && git {author} commit -q --allow-empty -m first")).ok();
    main
}

/// A worktree of it, with a configuration of its own.
fn worktree<'e>(env: &'e TestEnvironment, main: &Project<'_>, name: &str, toml: &str) -> Project<'e> {
    let tree = env.empty_project(name);
    main.shell(&format!("git worktree add -q -b b-{name} '{}'", tree.dir().display())).ok();
    tree.write("envctl.toml", toml);
    tree
}

fn sql(project: &Project<'_>, statement: &str) -> String {
    project.envctl(&["requirement", "psql", "--", "-qAtc", statement]).ok().stdout.trim().to_owned()
}

fn redis(project: &Project<'_>, words: &[&str]) -> String {
    project.envctl(&[&["requirement", "redis-cli", "--"], words].concat()).ok().stdout.trim().to_owned()
}

/// The servers of this environment that run.
fn servers(env: &TestEnvironment, program: &str) -> Vec<u32> {
    // What PostgreSQL starts itself has other titles; Redis has its address in its own.
    let mark = if program == "postgres" { "listen_addresses" } else { "127.0.0.1" };
    let is_one = |command: &str| command.contains(program) && command.contains(mark);
    env.processes().into_iter().filter(|one| is_one(&one.command)).map(|one| one.pid).collect()
}

fn postmaster(env: &TestEnvironment) -> u32 {
    match servers(env, "postgres")[..] {
        [one] => one,
        ref several => panic!("not one server: {several:?}"),
    }
}

fn databases(project: &Project<'_>) -> Vec<String> {
    let names = sql(project, "select datname from pg_database where datname like 'shop%' order by 1");
    names.lines().map(str::to_owned).collect()
}

fn state_dirs(env: &TestEnvironment, name: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy() == name {
                found.push(path);
            } else if path.is_dir() {
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&env.root().join("state"), name, &mut found);
    found
}

#[test]
fn ten_worktrees_have_ten_databases_on_one_server() {
    let env = TestEnvironment::new();
    let main = repository(&env, POSTGRES);
    main.up();
    sql(&main, "create table goods (name text); insert into goods values ('tea')");
    let one = postmaster(&env);
    let copy = worktree(&env, &main, "copy", &format!("{POSTGRES}\ntemplate = 'main'"));
    let names: Vec<String> = (1..9).map(|number| format!("tree-{number}")).collect();
    let mut trees: Vec<Project<'_>> = names.iter().map(|name| worktree(&env, &main, name, POSTGRES)).collect();
    trees.push(copy);
    for tree in &trees {
        tree.up();
    }
    assert_eq!(postmaster(&env), one, "one server for all");
    assert_eq!(databases(&main).len(), 10, "{:?}", databases(&main));
    for tree in &trees[..8] {
        assert_eq!(sql(tree, "select count(*) from pg_tables where tablename = 'goods'"), "0");
    }
    let copy = trees.pop().expect("just pushed");
    assert_eq!(sql(&copy, "select name from goods"), "tea");
    sql(&copy, "insert into goods values ('milk')");
    assert_eq!(sql(&main, "select count(*) from goods"), "1", "a copy is one's own");

    let info = main.envctl(&["requirement", "info", "postgres", "--json"]).ok().json();
    assert_eq!(info["shared"]["with"].as_array().map(Vec::len), Some(10), "{info:#}");
    let unit = main.unit("postgres");
    assert_eq!((&unit["driver"], &unit["shared"]["database"]), (&"shared".into(), &"shop".into()), "{unit:#}");

    trees[0].envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!((databases(&main).len(), postmaster(&env)), (9, one), "dropping one leaves nine");
    for tree in trees.iter().chain([&copy]) {
        tree.down();
    }
    assert_eq!(postmaster(&env), one, "main has it still");
    main.down();
    assert_eq!(servers(&env, "postgres"), Vec::<u32>::new(), "the last one takes the server down");
    main.up();
    assert_eq!((databases(&main).len(), sql(&main, "select name from goods")), (9, "tea".to_owned()));
}

#[test]
fn redis_gives_each_worktree_a_number() {
    let env = TestEnvironment::new();
    let main = repository(&env, REDIS);
    let plain = worktree(&env, &main, "plain", REDIS);
    plain.up();
    main.up();
    redis(&main, &["set", "k", "main"]);
    let copy = worktree(&env, &main, "copy", &format!("{REDIS}\ntemplate = 'trunk'"));
    copy.up();
    assert_eq!(servers(&env, "redis-server").len(), 1);
    let number = |project: &Project<'_>| project.unit("redis")["shared"]["database"].clone();
    assert_eq!([number(&main), number(&plain), number(&copy)], ["0", "1", "2"].map(Value::from));
    assert_eq!((redis(&plain, &["get", "k"]), redis(&copy, &["get", "k"])), (String::new(), "main".to_owned()));
    redis(&copy, &["set", "k", "copy"]);
    copy.envctl(&["requirement", "reset", "redis", "--yes"]).ok();
    copy.until_state("redis", "ready");
    assert_eq!(redis(&copy, &["get", "k"]), "main", "made anew as the copy that it is");
    plain.envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!(redis(&main, &["get", "k"]), "main");
}

#[test]
fn a_killed_shared_server_is_healed_for_all_with_its_data() {
    let env = TestEnvironment::new();
    let main = repository(&env, POSTGRES);
    let tree = worktree(&env, &main, "tree", POSTGRES);
    main.up();
    tree.up();
    sql(&main, "create table t (n int); insert into t values (1)");
    sql(&tree, "create table t (n int); insert into t values (2)");
    let one = postmaster(&env);
    proc::kill_hard(one);
    for project in [&main, &tree] {
        let down = |event: &Value| event["event"] == "requirement.server_down";
        until(DEADLINE, "to hear of it", || {
            let events = project.events_of("postgres");
            if events.iter().any(down) { Ok(()) } else { Err(events) }
        });
        let unit = project.until("postgres", "ready again", |unit| unit["state"] == "ready" && unit["restarts"] == 1);
        assert_eq!(unit["incarnation"], 2, "as if it were its own: {unit:#}");
        project.envctl(&["why", "postgres"]).ok().says(&["the server that it shares", "shared-shop-postgres"]);
    }
    assert_ne!(postmaster(&env), one);
    assert_eq!((sql(&main, "select n from t"), sql(&tree, "select n from t")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn a_shared_server_survives_the_daemon_and_heart_and_is_still_everybodys() {
    let env = TestEnvironment::new();
    let main = repository(&env, POSTGRES);
    let tree = worktree(&env, &main, "tree", POSTGRES);
    main.up();
    tree.up();
    let one = postmaster(&env);
    let daemon = env.daemon_pid();
    let heart = proc::parent(daemon).expect("heart is its parent");
    proc::kill_hard(heart);
    proc::kill_hard(daemon);
    main.until_state("postgres", "ready");
    tree.until_state("postgres", "ready");
    assert_eq!(postmaster(&env), one);
    assert_eq!(sql(&tree, "select current_database()"), "shop_tree");
    main.down();
    assert_eq!(postmaster(&env), one, "the other one's lease was found again");
    tree.down();
    assert_eq!(servers(&env, "postgres"), Vec::<u32>::new());
}

#[test]
fn two_that_come_up_in_one_instant_make_one_server() {
    let env = TestEnvironment::new();
    let main = repository(&env, POSTGRES);
    let tree = worktree(&env, &main, "tree", POSTGRES);
    let (first, second) = (main.start(UP_WAIT), tree.start(UP_WAIT));
    for one in [first, second] {
        one.wait(Duration::from_secs(60)).ok();
    }
    postmaster(&env);
    assert_eq!(databases(&tree), ["shop", "shop_tree"]);
}

#[test]
fn what_is_down_with_its_data_leaves_nothing_when_it_was_the_last() {
    let env = TestEnvironment::new();
    let main = repository(&env, REDIS);
    let tree = worktree(&env, &main, "tree", REDIS);
    main.up();
    tree.up();
    redis(&main, &["set", "k", "v"]);
    main.down();
    tree.down();
    assert_eq!(servers(&env, "redis-server"), Vec::<u32>::new());
    // Others have data on it: this one's goes when it comes back, and is not seen then.
    main.envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!(state_dirs(&env, "databases.json").len(), 1);
    main.up();
    assert_eq!(redis(&main, &["get", "k"]), "");
    main.envctl(&["down", "--data", "--yes"]).ok();
    tree.envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!(state_dirs(&env, "databases.json"), Vec::<PathBuf>::new());
    assert_eq!(state_dirs(&env, "appendonlydir"), Vec::<PathBuf>::new());
}

#[test]
fn projects_that_have_nothing_in_common_share_the_machines_server() {
    let env = TestEnvironment::new();
    let toml = |name: &str| format!("name = '{name}'\n[requirements.db]\npreset = 'postgres'\nshare = 'machine'\n");
    let (one, two, namesake) = (
        env.project_named("one", &toml("one")),
        env.project_named("two", &toml("two")),
        env.project_named("x", &toml("one")),
    );
    for project in [&one, &two, &namesake] {
        project.up();
    }
    postmaster(&env);
    let mine = sql(&namesake, "select current_database()");
    assert!(mine.starts_with("one_"), "{mine}");
    assert_eq!(
        (sql(&one, "select current_database()"), sql(&two, "select current_database()")),
        ("one".into(), "two".into())
    );
}

#[test]
fn a_copy_of_what_nobody_has_is_refused_and_says_what_to_do() {
    let env = TestEnvironment::new();
    let main = repository(&env, POSTGRES);
    let tree = worktree(&env, &main, "tree", &format!("{POSTGRES}\ntemplate = 'main'"));
    tree.envctl(UP_WAIT).exits(1).complains(&["postgres", "`main`", "hint", "envctl up"]);
    assert_eq!(servers(&env, "postgres"), Vec::<u32>::new(), "a refused `up` leaves nothing");
    main.up();
    tree.up();
}

#[test]
fn a_database_in_use_is_copied_all_the_same_and_nobody_is_thrown_out() {
    let env = TestEnvironment::new();
    let main = repository(
        &env,
        &format!(
            "{POSTGRES}\n[services.user]\nsh = 'psql -c \"select pg_sleep(600)\"'\nneeds = {{ postgres = 'ready' }}\n"
        ),
    );
    main.up();
    sql(&main, "create table goods (name text); insert into goods values ('tea')");
    let connected = "select count(*) from pg_stat_activity where datname = 'shop' and query like '%pg_sleep(600)%' and pid <> pg_backend_pid()";
    until(DEADLINE, "somebody to be connected", || match sql(&main, connected).as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    });
    let copy = worktree(&env, &main, "copy", &format!("{POSTGRES}\ntemplate = 'main'"));
    copy.up();
    assert_eq!((sql(&copy, "select name from goods"), sql(&main, connected)), ("tea".to_owned(), "1".to_owned()));
    assert_eq!(databases(&main), ["shop", "shop_copy"]);
}

#[test]
fn mariadb_gives_each_worktree_a_database_and_copies_one_that_is_in_use() {
    if !["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"].iter().any(|path| Path::new(path).exists()) {
        return crate::harness::cannot_run("shared: mariadb", "there is no mariadbd here");
    }
    let toml = "name = 'shop'\n[requirements.mariadb]\nshare = 'project'\n";
    let env = TestEnvironment::new();
    let main = repository(&env, toml);
    main.up();
    let ask = |project: &Project<'_>, statement: &str| {
        let arguments = ["requirement", "mariadb", "--", "-N", "-B", "-e", statement];
        project.envctl(&arguments).ok().stdout.trim().to_owned()
    };
    ask(&main, "create table goods (name text); insert into goods values ('tea')");
    let copy = worktree(&env, &main, "copy", &format!("{toml}template = 'main'\n"));
    let plain = worktree(&env, &main, "plain", toml);
    copy.up();
    plain.up();
    assert_eq!(ask(&copy, "select database(), name from goods"), "shop_copy\ttea");
    assert_eq!(ask(&plain, "show tables"), "");
    copy.envctl(&["down", "--data", "--yes"]).ok();
    assert_eq!(ask(&main, "show databases like 'shop%'"), "shop\nshop_plain");
}

#[test]
fn a_shared_server_that_cannot_be_started_says_so_to_all_who_need_it() {
    let env = TestEnvironment::new();
    let main = repository(&env, "name = 'shop'\n[requirements.postgres]\nshare = 'project'\nversion = '9'\n");
    main.envctl(UP_WAIT).exits(1).complains(&["postgres", "the server that is shared", "version 9"]);
    assert_eq!(main.until_state("postgres", "failed")["restarts"], 0, "not a crash loop");
}

#[test]
fn the_database_of_a_checkout_that_is_gone_is_pruned() {
    let env = TestEnvironment::new();
    let main = repository(&env, REDIS);
    let tree = worktree(&env, &main, "tree", REDIS);
    main.up();
    tree.up();
    tree.down();
    std::fs::remove_dir_all(tree.dir()).expect("the checkout goes");
    let found = main.envctl(&["prune", "--databases", "--dry-run", "--json"]).ok().json();
    assert_eq!(found["databases"][0]["database"], "1", "{found:#}");
    main.envctl(&["prune", "--databases", "--yes"]).ok().complains(&["goes with the next one"]);
    let info = main.envctl(&["requirement", "info", "redis", "--json"]).ok().json();
    assert_eq!(info["shared"]["with"].as_array().map(Vec::len), Some(1), "{info:#}");
    main.envctl(&["requirement", "reset", "redis", "--yes"]).ok();
    main.until_state("redis", "ready");
    let ledger = std::fs::read_to_string(&state_dirs(&env, "databases.json")[0]).expect("the ledger");
    assert!(!ledger.contains("tree"), "{ledger}");
}

#[test]
fn what_cannot_be_shared_is_refused_with_a_hint() {
    let env = TestEnvironment::new();
    let project = env.empty_project("shop");
    for (toml, words) in [
        ("[requirements.rabbitmq]\nshare = 'project'\n", ["cannot be shared", "take `share` away"]),
        ("[requirements.postgres]\nshare = 'projekt'\n", ["projekt", "did you mean \"project\""]),
        ("[requirements.postgres]\ntemplate = 'main'\n", ["template", "share = \"project\""]),
        ("[requirements.redis]\nshare = 'project'\noptions = { database = '3' }\n", ["database", "given out"]),
        ("[requirements.redis]\nshare = 'project'\nurl = 'redis://h:1/0'\n", ["share", "somebody else's server"]),
    ] {
        project.write("envctl.toml", toml);
        project.envctl(&["config", "check"]).exits(1).complains(&words);
    }
}
