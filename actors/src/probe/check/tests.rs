use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

/// Long enough for an answer on a busy machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

/// A server that sends what it is told to, in pieces, to everybody who connects.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// One message per connection that the client closed, with the number of bytes it had been sent by then.
    closed: mpsc::Receiver<usize>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Script {
    pieces: Vec<Vec<u8>>,
    pause: Duration,
    repeat_last: bool,
    hang_up: bool,
}

fn answer(text: impl Into<Vec<u8>>) -> Script {
    Script { pieces: vec![text.into()], pause: Duration::ZERO, repeat_last: false, hang_up: true }
}

impl Server {
    async fn start(address: &str, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (closing, closed) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let counter = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                clients.spawn(talk(stream, script.clone(), closing.clone()));
            }
        });
        Self { port, connections, closed, _tasks: tasks }
    }

    async fn probe(&self, timeout: Duration) -> Result<(), ProbeFailure> {
        let probe = Probe::Http { port: self.port, path: "/healthz?deep=1".to_owned(), own: false };
        check(&probe, &Target::default(), &Never, timeout).await
    }
}

async fn talk(mut stream: TcpStream, script: Script, closing: mpsc::Sender<usize>) {
    let mut request = [0u8; 4096];
    let _ = stream.read(&mut request).await;
    let mut sent = 0;
    let mut pieces = script.pieces.iter();
    let mut piece = pieces.next();
    while let Some(bytes) = piece {
        if stream.write_all(bytes).await.is_err() {
            break;
        }
        sent += bytes.len();
        tokio::time::sleep(script.pause).await;
        piece = pieces.next().or(if script.repeat_last { script.pieces.last() } else { None });
    }
    if !script.hang_up {
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    }
    let _ = closing.send(sent).await;
}

/// A runner for probes that run nothing.
struct Never;

impl ExecRunner for Never {
    fn run(&self, _: Command, _: Duration) -> ExecFuture<'_> {
        panic!("nothing was to be run")
    }
}

/// A runner that answers without running.
struct Told(Result<ExecOutcome, String>);

impl ExecRunner for Told {
    fn run(&self, _: Command, _: Duration) -> ExecFuture<'_> {
        let answer = self.0.clone();
        Box::pin(async move { answer })
    }
}

fn text(result: Result<(), ProbeFailure>) -> String {
    result.expect_err("the check should have failed").0
}

#[tokio::test]
async fn every_status_from_200_to_399_is_a_yes_and_no_redirect_is_followed() {
    for status in ["200 OK", "204 No Content", "302 Found", "399 X"] {
        let head = format!("HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        let server = Server::start("127.0.0.1:0", answer(head)).await;
        assert_eq!(server.probe(LONG).await, Ok(()), "for {status}");
        assert_eq!(server.connections.load(Ordering::SeqCst), 1, "for {status}");
    }
}

#[tokio::test]
async fn any_other_status_is_a_no_that_shows_the_beginning_of_the_body_without_control_characters() {
    let body = format!("\x1b[31mdatabase\r\n is down\x07{}", "x".repeat(10_000));
    let head = format!("HTTP/1.1 500 Oh\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = Server::start("127.0.0.1:0", answer(head)).await;
    let text = text(server.probe(LONG).await);
    assert!(text.contains("answered 500 Internal Server Error: [31mdatabase is down"), "{text}");
    assert!(text.len() < 400 && !text.contains(char::is_control), "{text}");
    let server = Server::start("127.0.0.1:0", answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")).await;
    assert!(server.probe(LONG).await.is_err());
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_the_timeout_and_its_connection_is_closed() {
    let mut server = Server::start("127.0.0.1:0", Script { hang_up: false, ..answer("") }).await;
    let started = Instant::now();
    let text = text(server.probe(SHORT).await);
    assert!(started.elapsed() < LONG);
    assert_eq!(text, format!("GET /healthz?deep=1 on port {} gave no answer within 300ms", server.port));
    assert_eq!(server.closed.recv().await, Some(0));
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_extend_the_deadline() {
    for head in ["HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"] {
        let pieces = vec![head.into(), b"y".to_vec()];
        let drip = Script { pieces, pause: Duration::from_millis(20), repeat_last: true, hang_up: true };
        let server = Server::start("127.0.0.1:0", drip).await;
        assert!(text(server.probe(SHORT).await).contains("gave no answer within 300ms"));
    }
}

#[tokio::test]
async fn an_endless_body_is_read_no_further_than_needed() {
    let chunk = format!("2000\r\n{}\r\n", "z".repeat(0x2000));
    let pieces = vec![b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), chunk.into_bytes()];
    let endless = Script { pieces, pause: Duration::ZERO, repeat_last: true, hang_up: true };
    let mut server = Server::start("127.0.0.1:0", endless).await;
    assert_eq!(server.probe(LONG).await, Ok(()));
    // What the kernel buffered on the way may be some megabytes; an endless reader would never get here.
    assert!(server.closed.recv().await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn a_head_without_end_a_broken_answer_and_none_at_all_are_a_no() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "h".repeat(1 << 20));
    for broken in [huge.as_str(), "SSH-2.0-OpenSSH_9\r\n", "", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"] {
        let server = Server::start("127.0.0.1:0", answer(broken)).await;
        let text = text(server.probe(LONG).await);
        assert!(text.starts_with("GET /healthz?deep=1 on port "), "{text}");
        assert!(!text.contains("gave no answer within"), "{text}");
    }
}

#[tokio::test]
async fn a_path_that_is_none_is_a_no_and_no_panic() {
    let server = Server::start("127.0.0.1:0", answer("")).await;
    let probe = Probe::Http { port: server.port, path: "/a b\r\nx: y".to_owned(), own: false };
    let text = text(check(&probe, &Target::default(), &Never, LONG).await);
    assert!(text.contains("is no path to ask for"), "{text}");
}

async fn tcp(port: u16, own: bool, leader: Option<u32>) -> Result<(), ProbeFailure> {
    check(&Probe::Tcp { port, own }, &Target { leader }, &Never, LONG).await
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_a_no() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(text(tcp(port, false, None).await), format!("nothing listens on port {port}"));
}

#[tokio::test]
async fn a_listener_that_loopback_does_not_reach_is_told_from_none() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let told = text(tcp(port, true, Some(std::process::id())).await);
    assert_eq!(told, format!("port {port} has a listener on 127.0.0.2 alone, not on 127.0.0.1 or ::1"));
}

#[tokio::test]
async fn a_listener_on_ipv6_alone_is_found() {
    let server = Server::start("[::1]:0", answer("")).await;
    assert_eq!(tcp(server.port, true, Some(std::process::id())).await, Ok(()));
}

/// A process with a session of its own that answers nobody, though it may hold a listening socket.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start() -> Self {
        Self::holding(std::process::Stdio::null(), "")
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs a process that is not under supervision")]
    fn holding(socket: impl Into<std::process::Stdio>, envelope: &str) -> Self {
        let mut command = std::process::Command::new("setsid");
        command.args(["sleep", "600"]).stdin(socket).env_remove("ENVCTL_RT_VARS");
        if !envelope.is_empty() {
            command.env("ENVCTL_RT_VARS", envelope);
        }
        let sleeper = Self(command.spawn().unwrap());
        sleeper.wait_until_asleep();
        sleeper
    }

    /// Until both of its `exec`s are behind it, its name and its environment are not the ones it will have.
    fn wait_until_asleep(&self) {
        let read = |file| std::fs::read(format!("/proc/{}/{file}", self.0.id())).unwrap();
        while read("comm") != b"sleep\n" || read("environ").is_empty() {
            std::thread::yield_now();
        }
    }
}

/// A socket that shares its port with others (`SO_REUSEPORT`).
fn shared(port: u16) -> (std::os::fd::OwnedFd, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let listener = socket.listen(16).unwrap().into_std().unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener.into(), port)
}

#[tokio::test]
async fn a_stranger_that_shares_the_port_is_found_though_the_unit_listens_too() {
    let (socket, port) = shared(0);
    let unit = Sleeper::holding(socket, "");
    assert_eq!(tcp(port, true, Some(unit.0.id())).await, Ok(()));
    let (_stranger, _) = shared(port);
    let told = text(tcp(port, true, Some(unit.0.id())).await);
    assert!(told.contains(&format!("is held by pid {} (", std::process::id())), "{told}");
}

#[tokio::test]
async fn a_daemon_that_left_the_session_belongs_by_its_envelope() {
    let (socket, port) = shared(0);
    let unit = Sleeper::holding(std::process::Stdio::null(), r#"{"unit":"web","incarnation":2}"#);
    let stale = Sleeper::holding(std::process::Stdio::null(), r#"{"unit":"web","incarnation":3}"#);
    let _daemon = Sleeper::holding(socket, r#"{"unit":"web","incarnation":2}"#);
    assert_eq!(tcp(port, true, Some(unit.0.id())).await, Ok(()));
    assert!(tcp(port, true, Some(stale.0.id())).await.is_err());
}

#[tokio::test]
async fn another_redis_on_the_port_does_not_answer_for_the_unit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    server.spawn(answer_every_command(listener, "+PONG\r\n"));
    let probe = Probe::Redis { url };
    let unit = Sleeper::start();
    let told = text(check(&probe, &Target { leader: Some(unit.0.id()) }, &Never, LONG).await);
    assert!(told.ends_with("not by this unit"), "{told}");
    assert_eq!(check(&probe, &Target { leader: Some(std::process::id()) }, &Never, LONG).await, Ok(()));
    assert_eq!(check(&probe, &Target::default(), &Never, LONG).await, Ok(()));
}

#[test]
fn only_stores_of_this_machine_have_a_port_whose_owner_can_be_asked_for() {
    assert_eq!(exchange::redis_port("redis://127.0.0.1:7"), Some(7));
    assert_eq!(exchange::redis_port("redis://db.example:7"), None);
    assert_eq!(exchange::postgres_port("postgresql://a:b@localhost:7/c"), Some(7));
    assert_eq!(exchange::postgres_port("postgresql://a:b@db.example:7/c"), None);
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_stranger_that_answers_on_the_port_is_named_and_never_asked() {
    let unit = Sleeper::start();
    let leader = Some(unit.0.id());
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let server = Server::start(address, answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
        let me = std::process::id();
        let told = text(tcp(server.port, true, leader).await);
        assert!(told.starts_with(&format!("port {} is held by pid {me} (", server.port)), "{told}");
        assert!(told.ends_with(", not by this unit"), "{told}");
        let probe = Probe::Http { port: server.port, path: "/".to_owned(), own: true };
        assert_eq!(text(check(&probe, &Target { leader }, &Never, LONG).await), told);
        assert_eq!(tcp(server.port, false, leader).await, Ok(()), "any listener will do where it need not be its own");
    }
}

#[tokio::test]
async fn a_stranger_beside_the_unit_on_the_other_loopback_is_named_too() {
    let unit = Sleeper::start();
    let mine = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mine.local_addr().unwrap().port();
    let probe = Probe::Tcp { port, own: true };
    assert!(check(&probe, &Target { leader: Some(unit.0.id()) }, &Never, LONG).await.is_err());
    let ours = Target { leader: Some(std::process::id()) };
    assert_eq!(check(&probe, &ours, &Never, LONG).await, Ok(()));
}

async fn exec(answer: Result<ExecOutcome, String>) -> Result<(), ProbeFailure> {
    let command = Command {
        program: "/bin/ask".into(),
        args: Vec::new(),
        env: Default::default(),
        dir: "/".into(),
        run_as: Default::default(),
        limits: Default::default(),
        stdin: None,
    };
    check(&Probe::Exec(Box::new(command)), &Target::default(), &Told(answer), LONG).await
}

#[tokio::test]
async fn a_command_says_yes_with_code_0_alone() {
    let outcome = |exit, tail: &[u8]| Ok(ExecOutcome { exit, tail: tail.to_vec() });
    assert_eq!(exec(outcome(ExitReason::Code(0), b"noise")).await, Ok(()));
    assert_eq!(text(exec(outcome(ExitReason::Code(3), b"")).await), "`/bin/ask`: exit code 3");
    let killed = ExitReason::Signal { number: 9, core: false };
    assert_eq!(text(exec(outcome(killed, b"a\n\x1b[0mb")).await), "`/bin/ask`: signal SIGKILL: a [0mb");
    assert_eq!(text(exec(Err("no such file".to_owned())).await), "`/bin/ask`: no such file");
}

#[tokio::test]
async fn a_flood_of_output_leaves_only_its_end_and_never_more_than_is_kept() {
    let tail = format!("{}the end", "ä ".repeat(1 << 20)).into_bytes();
    let told = text(exec(Ok(ExecOutcome { exit: ExitReason::Code(1), tail })).await);
    assert!(told.ends_with("the end") && told.len() <= FAILURE_MAX_BYTES, "{} bytes", told.len());
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_never_answers_does_not_hang_the_probe() {
    struct Stuck;
    impl ExecRunner for Stuck {
        fn run(&self, _: Command, _: Duration) -> ExecFuture<'_> {
            Box::pin(std::future::pending())
        }
    }
    let command = Command {
        program: "ask".into(),
        args: Vec::new(),
        env: Default::default(),
        dir: "/".into(),
        run_as: Default::default(),
        limits: Default::default(),
        stdin: None,
    };
    let probe = Probe::Exec(Box::new(command));
    let started = Instant::now();
    assert_eq!(text(check(&probe, &Target::default(), &Stuck, SHORT).await), "`ask`: did not end within 300ms");
    assert_eq!(started.elapsed(), SHORT + RUNNER_GRACE);
}

#[tokio::test]
async fn a_store_that_is_still_starting_says_so_and_its_password_is_not_shown() {
    let refusal = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let mut message = vec![b'E'];
    message.extend(u32::try_from(refusal.len() + 4).unwrap().to_be_bytes());
    message.extend(refusal);
    let server = Server::start("127.0.0.1:0", answer(message)).await;
    let url = format!("postgresql://me:hunter2@127.0.0.1:{}/db", server.port);
    let told = text(check(&Probe::Postgres { url }, &Target::default(), &Never, LONG).await);
    assert_eq!(told, "PostgreSQL is not taking connections yet: the database system is starting up");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    server.spawn(answer_every_command(listener, "-LOADING Redis is loading the dataset in memory\r\n"));
    let told = text(check(&Probe::Redis { url }, &Target::default(), &Never, LONG).await);
    assert_eq!(told, "Redis is still loading its data");
}

/// A Redis of few words: every command (an array, so a line that starts with `*`) gets the same answer.
async fn answer_every_command(listener: TcpListener, answer: &str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut bytes = [0u8; 4096];
        while let Ok(read) = stream.read(&mut bytes).await
            && read > 0
        {
            let commands = bytes[..read].split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"*")).count();
            stream.write_all(answer.repeat(commands).as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_or_hangs_is_a_no_without_its_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start("127.0.0.1:0", Script { hang_up: false, ..answer("") }).await;
    for port in [port, server.port] {
        for probe in [
            Probe::Postgres { url: format!("postgresql://me:hunter2@127.0.0.1:{port}/db") },
            Probe::Redis { url: format!("redis://:hunter2@127.0.0.1:{port}") },
        ] {
            let told = text(check(&probe, &Target::default(), &Never, SHORT).await);
            assert!(told.contains("answer") && !told.contains("hunter2"), "{told}");
        }
    }
}
