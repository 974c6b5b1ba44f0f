//! The control socket under attack.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::wire::{Answer, EMPTY, Raw, frame, hello};
use crate::harness::{Background, FIXTURE, Project, Stopwatch, TestEnvironment, is_root, proc, until};

const ONE: &str = r#"
    [services.api]
    cmd = ["FX", "run"]
    ready = { log = "up" }
"#;

/// The daemon's memory may grow by this much under nonsense, in KiB: allocator slack, not a copy of the attack.
const GROWTH_MAX_KIB: u64 = 8 * 1024;

fn up(env: &TestEnvironment) -> (Project<'_>, PathBuf) {
    let project = env.project(ONE);
    project.up();
    (project, env.socket())
}

/// The daemon still serves others, quickly.
#[track_caller]
fn assert_served(project: &Project<'_>) {
    let ps = project.envctl(&["ps", "--json"]).ok();
    assert!(ps.took < Duration::from_secs(1), "others wait: {:?}", ps.took);
}

#[test]
fn d05_only_the_owner_can_reach_the_socket() {
    let env = TestEnvironment::new();
    let (_project, socket) = up(&env);
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().expect("a directory")), 0o700);
}

#[test]
fn d05_another_user_is_refused_even_where_permissions_would_let_him() {
    if !is_root() {
        // Another user's connection can only be made by root; the permissions are tested above for everyone.
        return;
    }
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    for dir in socket.ancestors().skip(1).take_while(|dir| dir.starts_with(env.root())) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("an open directory");
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("an open socket");
    let knocker = env.root().join("knocker");
    std::fs::copy(FIXTURE, &knocker).expect("a copy that another user can run");
    let knocker = knocker.display();
    let attempt = project
        .shell(&format!("setpriv --reuid 65534 --regid 65534 --clear-groups {knocker} knock {}", socket.display()))
        .ok();
    assert_eq!(attempt.stdout, "refused\n");
    let own = project.shell(&format!("{knocker} knock {}", socket.display())).ok();
    assert_ne!(own.stdout, "refused\n", "the knock itself is not what is refused");
    for dir in socket.ancestors().skip(1).take_while(|dir| dir.starts_with(env.root())) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).expect("a closed directory");
    }
    assert_served(&project);
}

#[test]
fn d06_no_abstract_socket_is_opened() {
    let env = TestEnvironment::new();
    let (_project, _) = up(&env);
    let root = env.root().display().to_string();
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("the socket table");
    let abstract_ones: Vec<&str> = sockets
        .lines()
        .filter(|line| line.contains('@') && (line.contains(&root) || line.contains("envctl")))
        .collect();
    assert!(abstract_ones.is_empty(), "{abstract_ones:?}");
}

#[test]
fn d07_malformed_frames_hurt_nobody() {
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    let daemon = env.daemon_pid();
    let before = proc::resident_kib(daemon);
    for (name, bytes) in malformed() {
        for greet in [false, true] {
            let mut raw = if greet { Raw::greeted(&socket) } else { Raw::connect(&socket) };
            let _ = raw.send_bytes(&bytes);
            drop(raw);
            assert_eq!(env.daemon_pid(), daemon, "{name} ended the daemon");
        }
    }
    assert_served(&project);
    let grown = proc::resident_kib(daemon).saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the daemon grew by {grown} KiB");
}

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |bytes: &[u8]| {
        let mut whole = u32::try_from(bytes.len()).expect("a length").to_be_bytes().to_vec();
        whole.extend(bytes);
        whole
    };
    let deep = [vec![0x91; 100_000], vec![0xc0]].concat();
    vec![
        ("nothing", vec![]),
        ("half a length", vec![0, 0]),
        ("an empty frame", framed(&[])),
        ("a length of 4 GiB", vec![0xff; 4]),
        ("a length just over the limit", framed(&vec![0; 1024 * 1024 + 1])),
        ("a truncated frame", [100_u32.to_be_bytes().as_slice(), b"short"].concat()),
        ("text", framed(b"GET / HTTP/1.1\r\n\r\n")),
        ("invalid UTF-8 as kind", framed(&[0x83, 0xa4, 0xff, 0xfe, 0xfd, 0xfc])),
        ("deep nesting as frame", framed(&deep)),
        ("deep nesting as body", framed(&frame(1, "ps", &deep))),
        ("a list that claims 4 billion elements", framed(&frame(1, "ps", &[0xdd, 0xff, 0xff, 0xff, 0xff]))),
        ("a string that claims 4 GiB", framed(&frame(1, "ps", &[0x81, 0xdb, 0xff, 0xff, 0xff, 0xff]))),
        ("a million numbers", framed(&frame(1, "ps", &[&[0xdd, 0, 0x0f, 0, 0][..], &vec![1; 0x0f_0000]].concat()))),
        ("a duplicate key", framed(&[&[0x84][..], &frame(1, "ps", EMPTY)[1..], &[0xa2, b'i', b'd', 2]].concat())),
        (
            "NaN where a number belongs",
            framed(&frame(
                1,
                "kill",
                &[0x81, 0xa6, b's', b'i', b'g', b'n', b'a', b'l', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
            )),
        ),
        (
            "random bytes",
            framed(
                &(0..4096_u32)
                    .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap_or(0))
                    .collect::<Vec<_>>(),
            ),
        ),
    ]
}

#[test]
fn d07_an_unknown_kind_is_refused_and_the_connection_lives_on() {
    let env = TestEnvironment::new();
    let (_project, socket) = up(&env);
    let mut raw = Raw::greeted(&socket);
    raw.send(&frame(7, "make-coffee", EMPTY)).expect("a frame");
    let Answer::Frame(refusal) = raw.answer() else { panic!("no refusal") };
    let text = String::from_utf8_lossy(&refusal).into_owned();
    assert!(text.contains("error") && text.contains("unsupported"), "{text:?}");
    raw.send(&frame(8, "daemon-status", EMPTY)).expect("a second frame");
    let Answer::Frame(status) = raw.answer() else { panic!("the connection was closed") };
    assert!(String::from_utf8_lossy(&status).contains("reply"));
}

#[test]
fn d08_clients_that_never_speak_or_never_read_do_not_keep_others_waiting() {
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    let mut idle: Vec<Raw> = (0..300).map(|_| Raw::connect(&socket)).collect();
    for (number, raw) in idle.iter_mut().enumerate() {
        if number % 3 == 0 {
            let _ = raw.send_bytes(&[0]);
        }
    }
    assert_served(&project);
    let daemon = env.daemon_pid();
    let with = proc::descriptors(daemon);
    drop(idle);
    until(Duration::from_secs(10), "the descriptors of 300 clients to be closed", || {
        let now = proc::descriptors(daemon);
        if now + 250 <= with.max(260) { Ok(()) } else { Err((with, now)) }
    });
    assert_served(&project);
}

#[test]
fn d08_a_client_that_connects_and_says_nothing_is_shown_the_door() {
    let env = TestEnvironment::new();
    let (_project, socket) = up(&env);
    let mut raw = Raw::connect(&socket);
    // The greeting may be the daemon's to begin; what counts is that the silence has an end.
    until(Duration::from_secs(30), "the handshake deadline", || match raw.answer() {
        Answer::Closed => Ok(()),
        other => Err(other),
    });
}

#[test]
fn d09_a_client_that_dies_in_the_middle_leaves_no_descriptor_behind() {
    let env = TestEnvironment::new();
    let (project, _) = up(&env);
    let daemon = env.daemon_pid();
    let before = proc::descriptors(daemon);
    for arguments in [["logs", "-f"].as_slice(), &["events", "-f"], &["up"], &["wait", "api", "--for", "stopped"]] {
        let mut clients: Vec<Background> = (0..4).map(|_| project.start(arguments)).collect();
        for client in &mut clients {
            if arguments[0] != "wait" {
                client.until_says("up", Duration::from_secs(10));
            }
            client.signal(nix::sys::signal::Signal::SIGKILL);
        }
        for client in clients {
            client.wait(Duration::from_secs(10));
        }
    }
    until(Duration::from_secs(10), "the descriptors of dead clients to be closed", || {
        let now = proc::descriptors(daemon);
        if now <= before + 2 { Ok(()) } else { Err((before, now)) }
    });
    assert_eq!(project.state("api"), "ready", "the run goes on");
}

#[test]
fn d10_running_out_of_descriptors_is_survived_without_spinning() {
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    let daemon = env.daemon_pid();
    let limit = |number: &str| project.shell(&format!("prlimit --pid {daemon} --nofile={number}:4096")).ok();
    limit("64");
    let crowd: Vec<Raw> = (0..200).map(|_| Raw::connect(&socket)).collect();
    let (clock, before) = (Stopwatch::start(), proc::cpu_ticks(daemon));
    until(Duration::from_secs(3), "a second to pass", || if clock.elapsed().as_secs() >= 1 { Ok(()) } else { Err(()) });
    let burnt = proc::cpu_ticks(daemon) - before;
    assert!(burnt < 50, "it burnt {burnt} hundredths of a second of a second");
    drop(crowd);
    until(Duration::from_secs(10), "the daemon to answer again", || {
        let status = project.envctl(&["daemon", "status"]);
        if status.code == Some(0) { Ok(()) } else { Err(status) }
    });
    limit("1024");
    assert_served(&project);
}

#[test]
fn d13_a_flood_of_requests_from_one_client_does_not_starve_another() {
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    let mut flood = Raw::greeted(&socket);
    let sender = std::thread::spawn(move || {
        // A client that asks and never reads: at some point the daemon must stop taking its questions.
        (0..10_000).take_while(|_| flood.send(&frame(1, "ps", EMPTY)).is_ok()).count()
    });
    for _ in 0..5 {
        assert_served(&project);
    }
    sender.join().expect("the flood ends");
    assert_served(&project);
}

#[test]
fn d11_a_client_of_another_protocol_is_told_which_ones_are_spoken() {
    let env = TestEnvironment::new();
    let (project, socket) = up(&env);
    let mut newer = Raw::connect(&socket);
    let _ = newer.send(&frame(0, "hello", &hello(90, 99)));
    let mut told = String::new();
    while let Answer::Frame(bytes) = newer.answer() {
        told.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(told.contains("protocol"), "it was not told why: {told:?}");

    let mut wider = Raw::connect(&socket);
    let _ = wider.send(&frame(0, "hello", &hello(1, 99)));
    let _ = wider.answer();
    wider.send(&frame(3, "daemon-status", EMPTY)).expect("a frame");
    assert!(matches!(wider.answer(), Answer::Frame(_)), "the common protocol serves");
    assert_served(&project);
}

#[test]
fn d12_an_environment_that_does_not_fit_is_refused_with_its_size() {
    let env = TestEnvironment::new();
    let project = env.project(ONE);
    let mut command = project.command(&["up", "-d"]);
    for number in 0..16 {
        command.env(format!("BIG_{number}"), "x".repeat(100 * 1024));
    }
    let output = env.start(&mut command, &["up", "-d"]).wait(Duration::from_secs(30)).exits(1);
    output.complains(&["error:"]);
    assert!(output.stderr.contains("MiB") || output.stderr.contains("bytes"), "no size: {output}");
}

#[test]
fn d14_ups_and_downs_from_many_clients_end_in_a_state_that_is_one_of_theirs() {
    let env = TestEnvironment::new();
    let (project, _) = up(&env);
    for round in 0..6 {
        let clients: Vec<Background> = (0..6)
            .map(
                |number| {
                    if (number + round) % 2 == 0 { project.start(&["up", "-d"]) } else { project.start(&["down"]) }
                },
            )
            .collect();
        for client in clients {
            let output = client.wait(Duration::from_secs(60)).without_panic();
            assert!(matches!(output.code, Some(0 | 1)), "{output}");
        }
        let settled = project.until("api", "settled", |unit| {
            (unit["state"] == "ready" && unit["desired"] == "up")
                || (unit["pid"].is_null() && unit["desired"] == "down")
        });
        let alive = proc::with_command("envctl-fixture run")
            .into_iter()
            .filter(|pid| proc::variable(*pid, "HOME") == Some(env.root().join("home").display().to_string()))
            .count();
        assert_eq!(alive, usize::from(settled["pid"].is_u64()), "{settled:#}");
    }
    project.up();
    project.down();
}

#[test]
fn d16_a_project_is_its_real_path_whatever_way_leads_there() {
    let env = TestEnvironment::new();
    let (project, _) = up(&env);
    project.write("sub/deep/file", "");
    let link = env.root().join("p/link");
    std::os::unix::fs::symlink(project.dir(), &link).expect("a link");
    let pid = project.pid("api");
    for arguments in [
        ["-C", &project.path("sub/deep"), "ps", "--json"],
        ["-C", &link.display().to_string(), "ps", "--json"],
        ["-C", "./sub/..", "ps", "--json"],
    ] {
        let ps = project.envctl(&arguments).ok().json();
        assert_eq!(ps["projects"][0]["units"][0]["pid"], pid, "{arguments:?}: {ps:#}");
    }
    let linked = env.command(&link, &["up", "-d"]).output().expect("it runs");
    assert!(linked.status.success());
    assert_eq!(project.pid("api"), pid, "no second copy over the link");
}

#[test]
fn d16_two_projects_of_one_name_are_two_projects() {
    let env = TestEnvironment::new();
    let one = env.project_named("one", &format!("name = \"same\"\n{ONE}"));
    let two = env.project_named("two", &format!("name = \"same\"\n{ONE}"));
    one.up();
    two.up();
    assert_ne!(one.pid("api"), two.pid("api"));
    one.down();
    assert_eq!(two.state("api"), "ready", "the other one is untouched");
}
