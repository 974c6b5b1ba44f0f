//! The library underneath: what the command line does, any program can do with `envctl_runtime`'s client alone.

use std::future::Future;
use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::following::Following;
use envctl_runtime::control::wire::{DaemonStatus, DaemonStop, FollowEvents, ProjectRef, Ps, WatchProject};

use crate::harness::{TestEnvironment, proc};

/// Longest wait of any of these calls.
const DEADLINE: Duration = Duration::from_secs(10);

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("an answer in time") })
}

#[test]
fn a_program_sees_what_the_command_line_shows() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\nready = { log = \"up\" }\n");
    project.up();
    let shown = project.unit("api");
    let reference = ProjectRef { root: project.dir().canonicalize().expect("a path") };
    run(async {
        let client = Client::connect(&env.socket(), DEADLINE).await.expect("a connection");
        let daemon = client.request(DaemonStatus {}).await.expect("the daemon's state");
        assert_eq!(Some(daemon.pid), client.peer_pid(), "it says who it is");
        let ps = client.request(Ps { project: Some(reference.clone()), usage: false }).await.expect("the projects");
        let unit = &ps.projects[0].units[0];
        assert_eq!(unit.pid.map(u64::from), shown["pid"].as_u64());
        assert_eq!((unit.cpu_ms, unit.memory, unit.uptime_ms), (None, None, None), "measured although nobody asked");
        let ps = client.request(Ps { project: Some(reference.clone()), usage: true }).await.expect("the projects");
        let unit = &ps.projects[0].units[0];
        assert!(unit.cpu_ms.is_some() && unit.memory > Some(0) && unit.uptime_ms.is_some(), "{unit:?}");

        let mut watch = client.subscribe(WatchProject { project: reference.clone() }).await.expect("a watch");
        let now = watch.next().await.expect("it begins with the present").expect("a view");
        assert_eq!(now.units[0].name, "api");
        let mut events = client.subscribe(FollowEvents { project: reference, after: 0 }).await.expect("the journal");
        let mut last = 0;
        loop {
            let event = events.next().await.expect("more events").expect("an event");
            assert_eq!(event.seq, last + 1, "numbers without a gap");
            last = event.seq;
            if event.event == "unit.ready" {
                break;
            }
        }
    });
}

#[test]
fn b14_a_program_goes_on_with_the_next_daemon_where_the_last_one_left_off() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\nready = { log = \"up\" }\n");
    project.up();
    let (daemon, socket) = (env.daemon_pid(), env.socket());
    let project = ProjectRef { root: project.dir().canonicalize().expect("a path") };
    run(async {
        let client = Client::connect(&socket, DEADLINE).await.expect("a connection");
        let follow = FollowEvents { project, after: 0 };
        let mut events = Following::new(client, follow, async || Client::successor(&socket).await);
        let first = events.next().await.expect("an event").expect("no error").seq;
        let asking = Client::connect(&socket, DEADLINE).await.expect("a connection");
        proc::kill_hard(daemon);
        let next = asking.request(DaemonStatus {}).await.expect("it is asked again of the next daemon");
        assert_ne!(next.pid, daemon);
        let stop = asking.request(DaemonStop {}).await;
        assert!(matches!(stop, Err(ClientError::Lost)), "what changes something is not asked again: {stop:?}");
        let mut last = first;
        loop {
            let event = events.next().await.expect("more events").expect("an event");
            assert_eq!(event.seq, last + 1, "numbers without a gap");
            last = event.seq;
            if event.event == "run.adopted" {
                break;
            }
        }
    });
}

#[test]
fn a_program_that_asks_about_an_unknown_project_is_told_so() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\n");
    project.up();
    run(async {
        let client = Client::connect(&env.socket(), DEADLINE).await.expect("a connection");
        let nowhere = ProjectRef { root: "/nonexistent/project".into() };
        let mut watch = match client.subscribe(WatchProject { project: nowhere }).await {
            Ok(watch) => watch,
            Err(_) => return,
        };
        let first = watch.next().await.expect("an answer, not silence");
        assert!(first.is_err(), "{first:?}");
    });
}
