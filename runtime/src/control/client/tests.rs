use futures::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::*;
use crate::control::frame::KIND_HELLO;
use crate::control::view::{ProjectState, ProjectView};
use crate::control::wire::{Accepted, Kill, ProjectRef, WatchProject};

/// Real time a test may take: far more than it needs, so that only a hang fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// The daemon's side, played by the test.
pub(in crate::control) struct Daemon(Framed<DuplexStream, LengthDelimitedCodec>);

impl Daemon {
    pub(in crate::control) async fn receive(&mut self) -> Option<Frame> {
        let bytes = self.0.next().await?.ok()?;
        Some(frame::decode_frame(&bytes).unwrap())
    }

    pub(in crate::control) async fn send<T: serde::Serialize>(&mut self, id: u64, kind: &str, body: &T) {
        self.0.send(frame::encode(id, kind, body).unwrap()).await.unwrap();
    }
}

fn hello(protocol_min: u32) -> Hello {
    Hello { protocol_min, protocol_max: protocol_min, build: "9.9".into(), session: "s".into(), capabilities: vec![] }
}

fn pair() -> (DuplexStream, Daemon) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (ours, Daemon(Framed::new(theirs, frame::client_codec())))
}

pub(in crate::control) async fn connected() -> (Client, Daemon) {
    let (ours, mut daemon) = pair();
    let greeting = async {
        assert_eq!(daemon.receive().await.unwrap().kind, KIND_HELLO);
        daemon.send(0, KIND_HELLO, &hello(PROTOCOL_MAX)).await;
        daemon
    };
    let (client, daemon) = tokio::join!(Client::over(ours, DEADLINE), greeting);
    (client.unwrap(), daemon)
}

fn kill(unit: &str) -> Kill {
    Kill { project: ProjectRef { root: "/p".into() }, signal: 15, units: vec![unit.into()] }
}

fn watch() -> WatchProject {
    WatchProject { project: ProjectRef { root: "/p".into() } }
}

fn view(name: &str) -> ProjectView {
    let (state, cause, caused_by) = (ProjectState::Up, None, None);
    ProjectView { name: name.into(), root: "/p".into(), run: None, state, units: vec![], cause, caused_by }
}

#[tokio::test]
async fn replies_find_their_question_whatever_their_order() {
    let (client, mut daemon) = connected().await;
    let serve = async {
        let (first, second) = (daemon.receive().await.unwrap(), daemon.receive().await.unwrap());
        for frame in [second, first] {
            let asked: Kill = frame::decode_body(&frame).unwrap();
            daemon.send(frame.id, KIND_REPLY, &Accepted { units: asked.units }).await;
        }
    };
    let (a, b, ()) = tokio::join!(client.request(kill("a")), client.request(kill("b")), serve);
    assert_eq!((a.unwrap().units, b.unwrap().units), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_hint_and_the_connection_lives_on() {
    let (client, mut daemon) = connected().await;
    let refusal = Refusal { code: "not-found".into(), message: "no unit `x`".into(), hint: Some("y".into()) };
    let serve = async {
        let frame = daemon.receive().await.unwrap();
        daemon.send(frame.id, KIND_ERROR, &refusal).await;
        let frame = daemon.receive().await.unwrap();
        daemon.send(frame.id, KIND_REPLY, &Accepted { units: vec![] }).await;
    };
    let ask = async { (client.request(kill("x")).await, client.request(kill("y")).await) };
    let ((refused, accepted), ()) = tokio::join!(ask, serve);
    assert!(matches!(refused, Err(ClientError::Refused(told)) if told == refusal));
    assert!(accepted.is_ok());
}

#[tokio::test]
async fn a_stream_gives_its_items_beside_replies_and_ends() {
    let (client, mut daemon) = connected().await;
    let mut views = client.subscribe(watch()).await.unwrap();
    let id = daemon.receive().await.unwrap().id;
    daemon.send(id, KIND_ITEM, &view("one")).await;
    daemon.send(id, KIND_ITEM, &view("two")).await;
    daemon.send(id, KIND_END, &()).await;
    assert_eq!(views.next().await.unwrap().unwrap().name, "one");
    assert_eq!(views.next().await.unwrap().unwrap().name, "two");
    assert!(views.next().await.is_none() && views.next().await.is_none());
}

#[tokio::test]
async fn a_dropped_stream_is_ended_at_the_daemon_and_its_late_items_disturb_nobody() {
    let (client, mut daemon) = connected().await;
    let views = client.subscribe(watch()).await.unwrap();
    let id = daemon.receive().await.unwrap().id;
    drop(views);
    let end = daemon.receive().await.unwrap();
    assert_eq!((end.id, end.kind.as_str()), (id, KIND_END));
    daemon.send(id, KIND_ITEM, &view("late")).await;
    let serve = async {
        let frame = daemon.receive().await.unwrap();
        daemon.send(frame.id, KIND_REPLY, &Accepted { units: vec![] }).await;
    };
    let (reply, ()) = tokio::join!(client.request(kill("a")), serve);
    assert!(reply.is_ok());
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_the_daemon_up_and_loses_nothing() {
    let (client, mut daemon) = connected().await;
    let mut views = client.subscribe(watch()).await.unwrap();
    let id = daemon.receive().await.unwrap().id;
    let count = 20 * ITEMS_MAX;
    let serve = async {
        for at in 0..count {
            daemon.send(id, KIND_ITEM, &view(&at.to_string())).await;
        }
    };
    let read = async {
        for at in 0..count {
            assert_eq!(views.next().await.unwrap().unwrap().name, at.to_string());
        }
    };
    tokio::join!(serve, read);
}

#[tokio::test]
async fn a_lost_connection_is_told_to_everybody_who_waits_and_to_who_comes_later() {
    let (client, mut daemon) = connected().await;
    let mut views = client.subscribe(watch()).await.unwrap();
    let serve = async {
        daemon.receive().await.unwrap();
        daemon.receive().await.unwrap();
        drop(daemon);
    };
    let (reply, item, ()) = tokio::join!(client.request(kill("a")), views.next(), serve);
    assert!(matches!(reply, Err(ClientError::Lost)));
    assert!(matches!(item, Some(Err(ClientError::Lost))));
    assert!(matches!(client.request(kill("b")).await, Err(ClientError::Lost)));
}

#[tokio::test]
async fn garbage_from_the_daemon_ends_the_connection() {
    let (client, mut daemon) = connected().await;
    let serve = async {
        daemon.receive().await.unwrap();
        daemon.0.send(Bytes::from_static(&[0xc1, 0xc1])).await.unwrap();
        daemon
    };
    let (reply, _daemon) = tokio::join!(client.request(kill("a")), serve);
    assert!(matches!(reply, Err(ClientError::Lost)));
}

#[tokio::test]
async fn a_daemon_of_another_time_is_named_with_both_versions() {
    let (ours, mut daemon) = pair();
    let serve = async {
        daemon.receive().await.unwrap();
        daemon.send(0, KIND_HELLO, &hello(PROTOCOL_MAX + 1)).await;
    };
    let (client, ()) = tokio::join!(Client::over(ours, DEADLINE), serve);
    let error = client.unwrap_err();
    assert!(matches!(&error, ClientError::Version { daemon, .. } if daemon == "9.9"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_says_nothing_is_hung_after_the_deadline() {
    let (ours, _daemon) = pair();
    let client = Client::over(ours, Duration::from_millis(10)).await;
    assert!(matches!(client, Err(ClientError::Hung { pid: None })));
}

#[tokio::test]
async fn no_socket_and_a_dead_socket_mean_that_no_daemon_runs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    assert!(matches!(Client::connect(&socket, DEADLINE).await, Err(ClientError::NotRunning { .. })));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(Client::connect(&socket, DEADLINE).await, Err(ClientError::NotRunning { .. })));
}

#[tokio::test]
async fn what_is_not_a_socket_is_never_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    std::fs::File::create(&file).unwrap();
    let real = std::os::unix::net::UnixListener::bind(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
    for path in [file, link] {
        assert!(matches!(Client::connect(&path, DEADLINE).await, Err(ClientError::Untrusted { .. })));
    }
    drop(real);
}

#[tokio::test]
async fn a_listener_that_never_accepts_is_hung_and_named_by_its_pid() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ctl.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = Client::connect(&socket, Duration::from_millis(50)).await;
    assert!(matches!(client, Err(ClientError::Hung { pid: Some(pid) }) if pid == std::process::id()));
}

#[tokio::test]
async fn an_environment_that_no_daemon_accepts_is_refused_here_and_the_connection_lives() {
    let (client, mut daemon) = connected().await;
    let long = Kill { units: vec!["u".repeat(60_000); 20], ..kill("a") };
    let refused = client.request(long).await;
    assert!(matches!(refused, Err(ClientError::Wire(WireError::TooLong { .. }))));
    let serve = async {
        let frame = daemon.receive().await.unwrap();
        daemon.send(frame.id, KIND_REPLY, &Accepted { units: vec![] }).await;
    };
    let (reply, ()) = tokio::join!(client.request(kill("a")), serve);
    assert!(reply.is_ok());
}
