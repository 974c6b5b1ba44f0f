//! The real stores, started and stopped here without supervision.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::Arc;

use envctl_supervisors::reason::ExitReason;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ractor::Actor;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::probe::check::ExecFuture;
use crate::probe::{ProbeActor, ProbeArgs, ProbeEvent, Purpose, Target};
use crate::requirement::preset::{Given, HOST, builtin, secret, secrets};
use crate::requirement::{Wanted, base_env, locate, plan};

/// Where the programs of any distribution are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/homebrew/bin";
const WITHIN: Duration = Duration::from_secs(60);

/// Spawns without a process table: other rights come from util-linux.
struct Direct;

#[expect(clippy::disallowed_methods, reason = "a test starts the real programs without supervision")]
fn spawn(command: &Command, out: Stdio) -> io::Result<Child> {
    let wrapper: Vec<String> = match command.run_as {
        RunAs::Caller => Vec::new(),
        RunAs::MappedUser { uid, gid } => {
            ["unshare", "--user", &format!("--map-user={uid}"), &format!("--map-group={gid}")].map(String::from).into()
        }
        RunAs::Account { uid, gid } | RunAs::User { uid, gid } => {
            ["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"].map(String::from).into()
        }
    };
    let mut line: Vec<OsString> = wrapper.into_iter().map(OsString::from).collect();
    line.push(command.program.clone());
    line.extend(command.args.clone());
    std::process::Command::new(&line[0])
        .args(&line[1..])
        .env_clear()
        .envs(&command.env)
        .current_dir(&command.dir)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
}

impl ExecRunner for Direct {
    fn run(&self, command: Command, _: Duration) -> ExecFuture<'_> {
        Box::pin(async move {
            let run = move || spawn(&command, Stdio::piped()).and_then(Child::wait_with_output);
            let output = tokio::task::spawn_blocking(run).await.unwrap().map_err(|error| error.to_string())?;
            let number = output.status.signal().unwrap_or_default();
            let exit = output.status.code().map_or(ExitReason::Signal { number, core: false }, ExitReason::Code);
            Ok(ExecOutcome { exit, tail: [output.stdout, output.stderr].concat() })
        })
    }
}

/// A server at work; ended the hard way if the test does not end it.
struct Server(Child);

impl Server {
    /// Starts it and waits until its probe says that it is ready.
    async fn start(plan: &Plan) -> Self {
        let mut child = spawn(&plan.main, Stdio::null()).unwrap();
        // Nobody reads what it says: better lost than a full pipe.
        drop(child.stderr.take());
        let server = Self(child);
        let (sender, mut events) = mpsc::channel(64);
        let args = ProbeArgs {
            probe: plan.probe.clone(),
            schedule: plan.schedule.clone(),
            purpose: Purpose::Ready,
            target: Target { leader: Some(server.0.id()) },
            runner: Arc::new(Direct),
            report: Arc::new(move |event| sender.try_send(event).unwrap()),
        };
        let (probe, _) = ProbeActor::spawn(None, ProbeActor, args).await.unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&ProbeEvent::Ready) {
            let event = tokio::time::timeout(WITHIN, events.recv()).await;
            seen.push(event.unwrap_or_else(|_| panic!("not ready: {seen:?}")).unwrap());
        }
        probe.stop_and_wait(None, None).await.unwrap();
        server
    }

    /// Asks it to end, and waits for it.
    fn stop(mut self, signal: i32) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::try_from(signal).unwrap()).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wanted(name: &str, root: &TempDir, run_as: RunAs) -> Wanted {
    on_port(name, root, run_as, free_port())
}

fn on_port(name: &str, root: &TempDir, run_as: RunAs, port: u16) -> Wanted {
    let data_dir = root.path().join("db");
    let preset = Arc::new(builtin(name).unwrap());
    let ports = std::collections::BTreeMap::from([("port".to_owned(), port)]);
    // Redis has numbers, and no users.
    let options = match name {
        "redis" => std::collections::BTreeMap::new(),
        _ => [("database".to_owned(), "shop \"x\"".to_owned()), ("user".to_owned(), "o'wner".to_owned())].into(),
    };
    let secrets = secrets(&preset, &data_dir).unwrap();
    let given =
        Given { project: "p", unit: "db", host: HOST, ports: ports.clone(), options, secrets, ..Given::default() };
    Wanted {
        scope: preset.scope(&given).unwrap(),
        preset,
        name: name.to_owned(),
        version: None,
        ports,
        cache: Some(root.path().join("cache")),
        data_dir,
        env: base_env(OsStr::new(PATH), root.path(), None),
        run_as,
        init: Vec::new(),
    }
}

fn make(wanted: &Wanted) -> Plan {
    let binaries = locate(&wanted.preset, wanted.version.as_deref(), OsStr::new(PATH))
        .unwrap_or_else(|missing| panic!("{missing}: {}", missing.hint()));
    plan(wanted, &binaries).unwrap()
}

fn accounts() -> Vec<String> {
    builtin("postgres").unwrap().native.unwrap().accounts
}

/// Runs a statement as the wanted user in the wanted database and returns the first column of the last row.
async fn query(wanted: &Wanted, statement: &str) -> Option<String> {
    let url = &wanted.scope.get("url").unwrap().text;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.is_ok() });
    let rows = client.simple_query(statement).await.unwrap();
    rows.iter().rev().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// A whole life of a cluster: first start, a second preparation, data that outlives the server.
async fn live(wanted: &Wanted, root: &TempDir) {
    let first = make(wanted);
    prepare(&first, &Direct).await.unwrap();
    let server = Server::start(&first).await;
    run_after_ready(&first.after_ready, &Direct).await.unwrap();
    run_after_ready(&first.after_ready, &Direct).await.expect("what exists already is no failure");
    query(wanted, "CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')").await;
    assert_eq!(server.stop(first.stop.0), Some(0));

    // A lock of a server that was killed, with the pid of somebody else: ours.
    let lock = wanted.data().unwrap().join("postmaster.pid");
    fs::File::create(&lock).unwrap().write_all(format!("{}\n/nowhere\n", std::process::id()).as_bytes()).unwrap();
    let moved = on_port("postgres", root, wanted.run_as, free_port());
    let second = make(&moved);
    prepare(&second, &Direct).await.unwrap();
    let server = Server::start(&second).await;
    run_after_ready(&second.after_ready, &Direct).await.unwrap();
    assert_eq!(query(&moved, "SELECT v FROM t").await.as_deref(), Some("kept"));
    assert_eq!(query(&moved, "SELECT current_user").await.as_deref(), Some("o'wner"));
    assert_eq!(server.stop(second.stop.0), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_lives_keeps_its_data_and_is_the_callers_own_also_for_root() {
    let root = TempDir::new().unwrap();
    let run_as = choose_rights(&accounts(), &Direct).await.unwrap();
    let wanted = wanted("postgres", &root, run_as);
    // What an initialisation leaves that was killed in the middle.
    fs::create_dir_all(wanted.data_dir.join("cluster.partial/base")).unwrap();
    live(&wanted, &root).await;
    assert!(!wanted.data_dir.join("cluster.partial").exists());
    assert_eq!(
        data_version(&wanted.preset, &wanted.data_dir),
        make(&wanted).main.program.to_str().and_then(version_of_program)
    );
    if !matches!(run_as, RunAs::Account { .. }) {
        let ours = nix::unistd::geteuid().as_raw();
        assert_eq!(fs::metadata(wanted.data().unwrap()).unwrap().uid(), ours);
    }
}

/// `/usr/lib/postgresql/15/bin/postgres` → 15; elsewhere nothing is claimed.
fn version_of_program(path: &str) -> Option<String> {
    path.split('/').find(|part| part.parse::<u32>().is_ok()).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_user_namespaces_are_refused_postgres_runs_as_its_account() {
    if !nix::unistd::geteuid().is_root() {
        return; // Only root can be another account, and only root needs to.
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let run_as = rights::choose(true, false, (&accounts(), &passwd)).expect("PostgreSQL's package makes its account");
    let RunAs::Account { uid, .. } = run_as else { panic!("{run_as:?}") };
    let root = TempDir::new().unwrap();
    let wanted = wanted("postgres", &root, run_as);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let refusal = StartError::from(prepare(&make(&wanted), &Direct).await.unwrap_err());
    assert!(refusal.message.ends_with(&format!("may not pass through {}", root.path().display())), "{refusal}");
    assert!(refusal.hint.unwrap().contains(&format!("chmod o+x {}", root.path().display())));

    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    live(&wanted, &root).await;
    assert_eq!(fs::metadata(wanted.data().unwrap()).unwrap().uid(), uid);
    let secret = fs::metadata(wanted.data_dir.join("password")).unwrap();
    assert_eq!((secret.uid(), secret.mode() & 0o777), (0, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_lives_and_keeps_its_data() {
    let root = TempDir::new().unwrap();
    for expect in [None, Some("kept".to_owned())] {
        let wanted = wanted("redis", &root, RunAs::Caller);
        let plan = make(&wanted);
        prepare(&plan, &Direct).await.unwrap();
        let server = Server::start(&plan).await;
        let client = redis::Client::open(wanted.scope.get("url").unwrap().text.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let found: Option<String> = redis::cmd("GET").arg("k").query_async(&mut connection).await.unwrap();
        assert_eq!(found, expect);
        let _: () = redis::cmd("SET").arg("k").arg("kept").query_async(&mut connection).await.unwrap();
        assert_eq!(server.stop(plan.stop.0), Some(0));
    }
}

/// A runner whose commands all print this and end well.
struct Prints(&'static str);

impl ExecRunner for Prints {
    fn run(&self, _: Command, _: Duration) -> ExecFuture<'_> {
        Box::pin(async { Ok(ExecOutcome { exit: ExitReason::Code(0), tail: self.0.as_bytes().to_vec() }) })
    }
}

#[tokio::test]
async fn a_program_of_another_version_is_refused_by_what_it_says_of_itself() {
    let check = async |output, wanted: &str| {
        let root = TempDir::new().unwrap();
        let wanted = Wanted { version: Some(wanted.into()), ..self::wanted("redis", &root, RunAs::Caller) };
        let binaries =
            crate::requirement::Binaries { server: "/bin/r".into(), tools: Default::default(), version: None };
        prepare(&plan(&wanted, &binaries).unwrap(), &Prints(output)).await.map_err(StartError::from)
    };
    const REDIS: &str = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
    assert_eq!(check(REDIS, "7").await, Ok(()));
    let refusal = check(REDIS, "6.2").await.unwrap_err();
    assert_eq!(refusal.message, "find the wanted version 6.2: /bin/r is 7.0.15");
    assert!(!refusal.retry);
    assert!(check("nothing of the kind", "6").await.is_err());
}

#[tokio::test]
async fn data_of_another_version_is_refused_with_both_ways_out() {
    let root = TempDir::new().unwrap();
    let wanted = wanted("postgres", &root, RunAs::Caller);
    fs::create_dir_all(wanted.data().unwrap()).unwrap();
    fs::File::create(wanted.data().unwrap().join("PG_VERSION")).unwrap().write_all(b"9\n").unwrap();
    let binaries = crate::requirement::Binaries {
        server: "/pg/15/bin/postgres".into(),
        tools: [("initdb".to_owned(), "/pg/15/bin/initdb".into())].into(),
        version: Some("15".to_owned()),
    };
    let refused = prepare(&plan(&wanted, &binaries).unwrap(), &Prints("")).await.unwrap_err();
    let refusal = StartError::from(refused);
    assert!(refusal.message.ends_with("is of version 9, not 15"), "{refusal}");
    let hint = refusal.hint.unwrap();
    assert!(hint.contains("version = \"9\"") && hint.contains("down --data"), "{hint}");
}

#[test]
fn a_secret_that_was_never_finished_is_made_anew() {
    let root = TempDir::new().unwrap();
    let (preset, dir) = (builtin("postgres").unwrap(), root.path().join("a/b"));
    let first = secrets(&preset, &dir).unwrap();
    assert_ne!(secrets(&preset, &root.path().join("c")).unwrap(), first);
    fs::File::create(secret::path(&dir, "password")).unwrap();
    assert_eq!(secrets(&preset, &dir).unwrap()["password"].len(), first["password"].len());
}

#[test]
fn the_lock_of_a_living_server_is_an_obstacle_with_its_name() {
    let root = TempDir::new().unwrap();
    let lock = root.path().join("postmaster.pid");
    let write = |pid: u32| fs::File::create(&lock).unwrap().write_all(format!("{pid}\n").as_bytes()).unwrap();
    let ours = std::process::id();
    write(ours);
    let here = std::env::current_dir().unwrap();
    assert_eq!(remove_stale_lock(&lock, Some(&here), &[]).unwrap(), Some(ours));
    assert_eq!(remove_stale_lock(&lock, None, &[]).unwrap(), Some(ours));
    assert!(lock.exists());
    let beside = root.path().join("server.sock");
    fs::File::create(&beside).unwrap();
    assert_eq!(remove_stale_lock(&lock, Some(root.path()), std::slice::from_ref(&beside)).unwrap(), None);
    assert!(!lock.exists() && !beside.exists());
    assert_eq!(remove_stale_lock(&lock, None, &[]).expect("no lock is no failure"), None);
}

#[test]
fn a_listener_on_the_port_is_an_obstacle_with_its_name() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let Err(Obstacle::PortTaken { port, owner }) = check_ports(&[free_port(), taken]) else { panic!("it is free") };
    assert_eq!(port, taken);
    assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");
}
