//! The table, heart (in a thread) and real processes, without any unit actor.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::reason::{ExitReason, StartError};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::OpenOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use super::command::{Command, Limits, RunAs};
use super::end::{Proof, gone};
use super::exec::Runner;
use super::heart::run::in_thread;
use super::heart::wire::Ending;
use super::identity::Identity;
use super::life::{Manners, Stage, live, sweep};
use super::stop::StopPlan;
use super::sys::pipe;
use super::sys::terminal::WindowSize;
use super::table::{HeldProcess, Order, Processes, Role, Scope, Spawned, Tag};
use super::typing::Sent;
use crate::probe::check::ExecRunner;

const SOON: Duration = Duration::from_secs(20);

/// A table of its own, with the FIFOs of one unit.
struct Bench {
    processes: Processes,
    dir: tempfile::TempDir,
    root: ActorRef<()>,
}

/// Somebody for the table to be linked to.
struct Nobody;

impl Actor for Nobody {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

// === impl Bench ===

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pipe::mkfifo(&dir.path().join("unit.out")).unwrap();
        pipe::mkfifo(&dir.path().join("unit.err")).unwrap();
        let (root, _) = Nobody::spawn(None, Nobody, ()).await.unwrap();
        let processes = Processes::start(in_thread(None).unwrap(), root.get_cell()).await.unwrap();
        Self { processes, dir, root }
    }

    fn fifo(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn order(&self, incarnation: u32, command: Command) -> Order {
        Order {
            tag: tag(incarnation),
            command: command.into(),
            out: self.fifo("unit.out"),
            err: self.fifo("unit.err"),
            ending: Ending::default(),
        }
    }

    async fn sh(&self, incarnation: u32, line: &str) -> Spawned {
        self.processes.spawn(self.order(incarnation, shell(line, self.dir.path()))).await.unwrap()
    }

    /// What the table holds, as soon as it is so.
    async fn held(&self, is_so: impl Fn(&[HeldProcess]) -> bool) -> Vec<HeldProcess> {
        let look = async {
            loop {
                let held = self.processes.list().await;
                if is_so(&held) {
                    return held;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, look).await.expect("it comes to that")
    }

    async fn exit(&self, spawned: &mut Spawned) -> ExitReason {
        timeout(SOON, &mut spawned.exit).await.expect("it ends").unwrap()
    }

    fn manners(&self) -> Manners {
        let proof = Proof { fifos: vec![self.fifo("unit.out"), self.fifo("unit.err")], ..Proof::default() };
        Manners { plan: StopPlan::signal(nix::libc::SIGTERM, Duration::from_secs(5)), proof, hooks: None }
    }

    /// A line that a process writes into a FIFO when it is ready.
    async fn word(&self, name: &str) -> String {
        // Both ends, so that nobody waits for the other to open it, and no thread in open(2) that no deadline ends.
        let fifo = OpenOptions::new().read_write(true).open_receiver(self.fifo(name)).unwrap();
        let mut line = String::new();
        timeout(SOON, BufReader::new(fifo).read_line(&mut line)).await.expect("a word is said").unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}

fn tag(incarnation: u32) -> Tag {
    Tag { project: "p".to_owned(), unit: Name::new("unit").unwrap(), incarnation, role: Role::Main }
}

fn shell(line: &str, dir: &Path) -> Command {
    Command {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), line.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
        dir: dir.to_owned(),
        run_as: RunAs::Caller,
        limits: Limits::default(),
        stdin: None,
    }
}

#[tokio::test]
async fn a13_every_exit_code_and_signal_is_told_apart() {
    let bench = Bench::new().await;
    for code in 0..=255 {
        let mut spawned = bench.sh(code, &format!("exit {code}")).await;
        assert_eq!(bench.exit(&mut spawned).await, ExitReason::Code(code as i32));
        bench.processes.release(spawned.key);
    }
    for signal in [1, 2, 3, 9, 13, 14, 15] {
        let mut spawned = bench.sh(1000, &format!("kill -{signal} $$")).await;
        let exit = bench.exit(&mut spawned).await;
        assert!(matches!(exit, ExitReason::Signal { number, .. } if number == signal), "{signal}: {exit}");
        bench.processes.release(spawned.key);
    }
    assert_eq!(bench.processes.list().await, []);
}

#[tokio::test]
async fn an_exit_is_kept_until_it_is_released_and_its_number_stays_taken() {
    let bench = Bench::new().await;
    let mut spawned = bench.sh(1, "exit 7").await;
    assert_eq!(bench.exit(&mut spawned).await, ExitReason::Code(7));
    let again = bench.processes.attach(tag(1)).await.unwrap().expect("it is held");
    assert_eq!((again.pid, again.exit.await), (spawned.pid, Ok(ExitReason::Code(7))));
    assert!(Path::new(&format!("/proc/{}", spawned.pid)).exists(), "a stranger could have its number");
    bench.processes.release(spawned.key);
    assert!(bench.processes.attach(tag(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a04_a_program_that_cannot_run_is_told_with_errno_and_path() {
    let bench = Bench::new().await;
    let dir = bench.dir.path().to_owned();
    let make = |name: &str, mode: u32, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", 0o644, "");
    make("empty", 0o755, "");
    make("lost", 0o755, "#!/nope/interpreter\n");
    for (program, errno) in
        [("./missing", "ENOENT"), ("./plain", "EACCES"), ("./empty", "ENOEXEC"), ("./lost", "ENOENT"), (".", "EACCES")]
    {
        let command = Command { program: program.into(), args: vec![], ..shell("", &dir) };
        let error = StartError::from(bench.processes.spawn(bench.order(1, command)).await.unwrap_err());
        assert!(error.message.contains(errno), "{program}: {error}");
        assert!(error.hint.is_some() && !error.retry, "{program}: {error:?}");
    }
    let mut big = shell("true", &dir);
    big.env.insert("BIG".into(), "x".repeat(200 * 1024).into());
    let error = StartError::from(bench.processes.spawn(bench.order(1, big)).await.unwrap_err());
    assert!(error.message.contains("E2BIG"), "{error}");
    let nowhere = shell("true", Path::new("/nowhere/at/all"));
    let error = StartError::from(bench.processes.spawn(bench.order(1, nowhere)).await.unwrap_err());
    assert!(error.message.contains("/nowhere/at/all") && error.message.contains("ENOENT"), "{error}");
}

#[tokio::test]
async fn a08_what_left_its_session_is_ended_with_its_unit() {
    let bench = Bench::new().await;
    pipe::mkfifo(&bench.fifo("word")).unwrap();
    let spawned = bench.sh(1, "setsid sh -c 'trap \"\" TERM; echo $$ > word; exec sleep 1000' & wait").await;
    let stray = Identity::of(bench.word("word").await.parse().unwrap()).expect("it lives");
    let (stage, stages) = watch::channel(Stage::Run);
    let (processes, manners) = (bench.processes.clone(), bench.manners());
    let life = async move { live(&processes, spawned, manners, stages).await };
    let asker = async {
        stage.send_replace(Stage::Ask);
        // It ignores TERM, so the life cannot end before the kill.
        stage.send_replace(Stage::Kill);
    };
    let (ended, ()) = timeout(SOON, async { tokio::join!(life, asker) }).await.expect("it ends");
    assert_eq!(ended.escaped, Vec::<u32>::new());
    assert!(stray.open().is_none(), "it lives on");
}

#[tokio::test]
async fn a_sweep_finds_an_orphan_by_its_fifo_and_spares_bystanders() {
    let bench = Bench::new().await;
    pipe::mkfifo(&bench.fifo("word")).unwrap();
    let mut spawned = bench.sh(1, "setsid sh -c 'echo $$ > word; exec sleep 1000' & exec sleep 0.1").await;
    let orphan = Identity::of(bench.word("word").await.parse().unwrap()).expect("it lives");
    bench.exit(&mut spawned).await;
    bench.processes.release(spawned.key);
    assert_eq!(sweep(&bench.processes, &bench.manners().proof, Scope::All).await, Vec::<u32>::new());
    assert!(orphan.open().is_none(), "it lives on");
    assert!(Identity::of(std::process::id()).is_some());
}

#[tokio::test]
async fn g01_a_command_that_does_not_end_in_time_is_killed() {
    let bench = Bench::new().await;
    let runner = Runner::new(bench.processes.clone(), tag(1), bench.dir.path().to_owned());
    let command = shell("echo begun; exec sleep 1000", bench.dir.path());
    let error = runner.run(command, Duration::from_millis(300)).await.unwrap_err();
    assert!(error.contains("300ms"), "{error}");
    assert_eq!(bench.processes.list().await, []);
    let left = std::fs::read_dir(bench.dir.path()).unwrap().count();
    assert_eq!(left, 2, "its FIFO was left behind");
}

/// It is there, and its asker goes before it looks.
#[tokio::test]
async fn a_command_whose_asker_has_gone_before_it_heard_of_it_is_ended() {
    let bench = Bench::new().await;
    let tag = Tag { role: Role::Probe, ..tag(1) };
    let order = Order { tag, ..bench.order(1, shell("exec sleep 1000", bench.dir.path())) };
    let mut asked = Box::pin(bench.processes.spawn(order));
    assert!(futures::poll!(&mut asked).is_pending());
    let probe = bench.held(|held| held.len() == 1).await.remove(0);
    let probe = Identity::of(probe.pid).expect("it lives");
    drop(asked);
    bench.held(<[HeldProcess]>::is_empty).await;
    assert_eq!(gone(vec![probe], SOON).await, []);
}

#[tokio::test]
async fn with_a_life_ends_what_serves_it_whoever_waits_for_that() {
    let bench = Bench::new().await;
    let runner = Runner::new(bench.processes.clone(), tag(1), bench.dir.path().to_owned()).with_role(Role::Probe);
    let other = Runner::new(bench.processes.clone(), tag(2), bench.dir.path().to_owned()).with_role(Role::Probe);
    let mut asking = tokio::task::JoinSet::new();
    for (runner, word) in [(runner.clone(), "mine"), (other, "other")] {
        pipe::mkfifo(&bench.fifo(word)).unwrap();
        let command = shell(&format!("sleep 1000 & echo $! > {word}; wait"), bench.dir.path());
        asking.spawn(async move { runner.run(command, SOON).await.map(|outcome| outcome.exit) });
    }
    let grandchildren = [bench.word("mine").await, bench.word("other").await];
    let alive = |pid: &&String| Identity::of(pid.parse().unwrap()).is_some_and(|process| process.open().is_some());
    assert_eq!(grandchildren.iter().filter(alive).count(), 2);
    let mine = bench.held(|held| held.len() == 2).await.into_iter().find(|held| held.tag.incarnation == 1);
    let mine = Identity::of(mine.unwrap().pid).expect("it lives");
    timeout(SOON, runner.end()).await.expect("it ends");
    let killed = ExitReason::Signal { number: nix::libc::SIGKILL, core: false };
    assert_eq!(asking.join_next().await.unwrap().unwrap(), Ok(killed));
    assert_eq!(gone(vec![mine], SOON).await, []);
    assert_eq!(bench.held(|held| held.len() == 1).await[0].tag.incarnation, 2);
    asking.shutdown().await;
    bench.held(<[HeldProcess]>::is_empty).await;
}

#[tokio::test]
async fn the_tail_of_a_commands_output_comes_with_its_exit() {
    let bench = Bench::new().await;
    let runner = Runner::new(bench.processes.clone(), tag(1), bench.dir.path().to_owned());
    let outcome = runner.run(shell("echo out; echo err >&2; exit 3", bench.dir.path()), SOON).await.unwrap();
    assert_eq!((outcome.exit, outcome.tail.as_slice()), (ExitReason::Code(3), b"out\nerr\n".as_slice()));
}

#[tokio::test]
async fn a_terminal_is_typed_on_and_resized_through_a_heart_that_is_a_thread() {
    let bench = Bench::new().await;
    pipe::mkfifo(&bench.fifo("word")).unwrap();
    let line = "read first; echo \"$first $(stty size)\" > word; exec cat";
    let mut command = shell(line, bench.dir.path());
    command.limits.tty = Some(WindowSize { rows: 30, columns: 90 });
    let mut spawned = bench.processes.spawn(bench.order(1, command)).await.unwrap();
    let type_in = |bytes: &[u8]| timeout(SOON, bench.processes.type_in(tag(1), bytes.to_vec()));
    assert!(bench.processes.resize(tag(1), WindowSize { rows: 31, columns: 91 }).await.unwrap());
    assert_eq!(type_in(b"typed\r").await.unwrap().unwrap(), Sent::Taken);
    assert_eq!(bench.word("word").await, "typed 31 91");
    // End of input, at the beginning of a line (termios(3), VEOF): `cat` is done.
    assert_eq!(type_in(b"\x04").await.unwrap().unwrap(), Sent::Taken);
    assert_eq!(bench.exit(&mut spawned).await, ExitReason::Code(0));
    assert_eq!(type_in(b"too late").await.unwrap().unwrap(), Sent::NoTerminal);
    let mut shown = [0; 64];
    let count = pipe::read_some(pipe::open_fifo(&bench.fifo("unit.out")).unwrap().as_fd(), &mut shown).unwrap();
    assert_eq!(&shown[..count], b"typed\r\n", "the echo is in the FIFO before the end is told");
    bench.processes.release(spawned.key);
    let plain = bench.sh(2, "exec sleep 1000").await;
    assert_eq!(bench.processes.type_in(tag(2), b"x".to_vec()).await.unwrap(), Sent::NoTerminal);
    bench.processes.discard(plain.key);
}

#[tokio::test]
async fn who_waits_for_a_unit_that_never_reads_is_told_when_it_ends() {
    let bench = Bench::new().await;
    pipe::mkfifo(&bench.fifo("word")).unwrap();
    let mut command = shell("stty raw -echo; echo up > word; exec sleep 1000", bench.dir.path());
    command.limits.tty = Some(WindowSize::default());
    let mut spawned = bench.processes.spawn(bench.order(1, command)).await.unwrap();
    // An echo would fill the FIFO, which nobody reads here.
    assert_eq!(bench.word("word").await, "up");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let processes = bench.processes.clone();
        waiting.spawn(async move { processes.type_in(tag(1), vec![b'k'; 4096]).await.unwrap() });
    }
    // More than kernel and heart keep is refused at once; the rest waits for its reader.
    assert_eq!(
        timeout(SOON, async {
            loop {
                if waiting.join_next().await.unwrap().unwrap() == Sent::Refused {
                    return Sent::Refused;
                }
            }
        })
        .await
        .unwrap(),
        Sent::Refused
    );
    bench.processes.signal(spawned.key, nix::libc::SIGKILL, Scope::Group);
    bench.exit(&mut spawned).await;
    while let Some(sent) = timeout(SOON, waiting.join_next()).await.expect("nobody waits for ever") {
        assert_ne!(sent.unwrap(), Sent::NoTerminal);
    }
    bench.processes.release(spawned.key);
}

#[tokio::test]
async fn the_end_of_a_process_on_a_terminal_is_told_after_its_last_words() {
    let bench = Bench::new().await;
    let fifo = pipe::open_fifo(&bench.fifo("unit.out")).unwrap();
    while nix::unistd::write(&fifo, &[b'.'; 4096]).is_ok() {}
    let mut command = shell("printf 'last words'; exit 7", bench.dir.path());
    command.limits.tty = Some(WindowSize::default());
    let mut spawned = bench.processes.spawn(bench.order(1, command)).await.unwrap();
    let type_in = || timeout(SOON, bench.processes.type_in(tag(1), b"x".to_vec()));
    // Refused means that heart has seen the end; told, the table would say so itself, and what heart says comes in order.
    while type_in().await.unwrap().unwrap() == Sent::Taken {}
    assert_eq!(type_in().await.unwrap().unwrap(), Sent::Refused, "the end was told before the last words");
    let (mut shown, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    // What was typed may have been echoed, before or after.
    while !shown.windows(10).any(|some| some == b"last words") {
        if let Ok(count) = pipe::read_some(fifo.as_fd(), &mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.exit(&mut spawned).await, ExitReason::Code(7));
    bench.processes.release(spawned.key);
}
