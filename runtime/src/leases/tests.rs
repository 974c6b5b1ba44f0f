use std::collections::BTreeSet;
use std::io::BufRead;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::{Barrier, Mutex};

use super::*;

/// Set for the process that holds a lease until it is killed: `<directory> <port>`.
const HOLDER: &str = "ENVCTL_TEST_LEASE_HOLDER";

fn owner(unit: &str) -> LeaseOwner {
    LeaseOwner { session: "default".into(), project: "shop".into(), unit: unit.into(), name: "port".into() }
}

fn leases() -> (tempfile::TempDir, Leases) {
    let dir = tempfile::tempdir().unwrap();
    let leases = Leases::open(dir.path()).unwrap();
    (dir, leases)
}

/// The first of `count` consecutive ports that are free now, below the ephemeral range. Tests have slots of their own, and
/// test processes regions of their own, so that those that run at the same time do not meet.
fn free_base(slot: u16, count: u16) -> u16 {
    let region = u16::try_from(std::process::id() % 100).unwrap() * 200;
    let run_is_free = |base: &u16| (*base..*base + count).all(|port| bind::is_free(port).unwrap());
    (10_000 + region + slot * 10..32_000).step_by(usize::from(count)).find(run_is_free).expect("free ports")
}

fn wish(base: u16) -> PortWish {
    PortWish { base }
}

#[test]
fn fifty_sessions_of_four_ports_never_share_one() {
    let (dir, _) = leases();
    let base = free_base(15, 300);
    let (taken, start) = (Mutex::new(Vec::new()), Barrier::new(50));
    std::thread::scope(|scope| {
        for at in 0..50 {
            let (taken, start, dir) = (&taken, &start, dir.path());
            scope.spawn(move || {
                let leases = Leases::open(dir).unwrap();
                start.wait();
                for _ in 0..4 {
                    let lease = leases.lease_port(wish(base), &owner(&format!("unit-{at}")), None).unwrap();
                    let listener = TcpListener::bind(("127.0.0.1", lease.port())).unwrap();
                    taken.lock().unwrap().push((lease, listener));
                }
            });
        }
    });
    let ports: BTreeSet<u16> = taken.into_inner().unwrap().iter().map(|(lease, _)| lease.port()).collect();
    assert_eq!(ports.len(), 200);
}

#[test]
fn a_listener_on_any_address_of_either_family_makes_a_port_taken() {
    let (_dir, leases) = leases();
    let base = free_base(1, 8);
    for address in ["127.0.0.1", "0.0.0.0", "127.0.0.9", "::1", "::"] {
        let Ok(listener) = TcpListener::bind((address, base)) else {
            assert!(address.contains(':'), "{address} cannot be bound");
            continue;
        };
        let lease = leases.lease_port(wish(base), &owner("api"), None).unwrap();
        assert_ne!(lease.port(), base, "{address} was not seen");
        drop(listener);
    }
    assert_eq!(leases.lease_port(wish(base), &owner("api"), None).unwrap().port(), base);
}

#[test]
fn connections_in_time_wait_do_not_keep_a_port_from_its_next_owner() {
    let (_dir, leases) = leases();
    let base = free_base(2, 8);
    let listener = TcpListener::bind(("127.0.0.1", base)).unwrap();
    let client = std::net::TcpStream::connect(("127.0.0.1", base)).unwrap();
    // The side that closes first is the one that waits: here the server's.
    drop(listener.accept().unwrap());
    drop(listener);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut &client, &mut rest).unwrap();
    drop(client);
    assert_eq!(leases.lease_port(wish(base), &owner("api"), None).unwrap().port(), base);
}

#[test]
fn two_leases_of_one_process_conflict_like_those_of_two() {
    let (_dir, leases) = leases();
    let base = free_base(3, 8);
    let first = leases.lease_port(wish(base), &owner("api"), None).unwrap();
    let second = leases.lease_port(wish(base), &owner("web"), None).unwrap();
    assert_eq!((first.port(), second.port()), (base, base + 1));
    let refused = leases.readopt_port(base, &owner("web")).unwrap_err().to_string();
    assert!(refused.contains("shop/api"), "{refused}");
    drop(first);
    assert_eq!(leases.lease_port(wish(base), &owner("web"), None).unwrap().port(), base);
}

#[test]
fn the_preferred_port_comes_first_and_gives_way_when_it_is_taken() {
    let (_dir, leases) = leases();
    let base = free_base(4, 8);
    let lease = |unit| leases.lease_port(wish(base), &owner(unit), Some(base + 5)).unwrap();
    let (first, second) = (lease("api"), lease("web"));
    assert_eq!((first.port(), second.port()), (base + 5, base));
}

#[test]
fn a_listening_unit_that_is_taken_over_keeps_its_port() {
    let (_dir, leases) = leases();
    let base = free_base(5, 8);
    let _unit = TcpListener::bind(("127.0.0.1", base)).unwrap();
    assert_eq!(leases.readopt_port(base, &owner("api")).unwrap().port(), base);
    assert_eq!(leases.port_owner(base), Some(owner("api")));
}

#[test]
fn candidates_end_at_the_last_port_and_leave_the_ephemeral_range_out() {
    let at = |ephemeral| Leases { dir: PathBuf::new(), ephemeral };
    let usual = at(Some(32_768..=60_999));
    let ports: Vec<u16> = usual.candidates(32_700, None).collect();
    assert_eq!((ports.len(), ports[67], ports[68]), (CANDIDATES_MAX, 32_767, 61_000));
    assert_eq!(usual.candidates(40_000, None).next(), Some(40_000));
    assert_eq!(usual.candidates(65_534, None).collect::<Vec<_>>(), [65_534, 65_535]);
    assert_eq!(usual.candidates(0, Some(0)).next(), Some(1));
    assert_eq!(at(None).candidates(32_700, None).nth(68), Some(32_768));
    assert_eq!(usual.candidates(8000, Some(8001)).take(3).collect::<Vec<_>>(), [8001, 8000, 8002]);
}

#[test]
fn a_wish_that_cannot_be_met_says_who_is_in_the_way() {
    let (_dir, leases) = leases();
    let base = 65_535;
    let _first = leases.lease_port(wish(base), &owner("api"), None).unwrap();
    let text = leases.lease_port(wish(base), &owner("web"), None).unwrap_err().to_string();
    assert_eq!(
        text,
        "lease a port for web: none of 1 ports from 65535 on is free, \
         65535 is held by shop/api (port, session default)"
    );
}

#[test]
fn a_data_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = lease_dir(dir.path(), &owner("postgres")).unwrap();
    let refused = lease_dir(dir.path(), &owner("other")).unwrap_err().to_string();
    assert!(refused.contains("shop/postgres") && refused.contains(&dir.path().display().to_string()), "{refused}");
    drop(first);
    assert_eq!(lease_dir(dir.path(), &owner("other")).unwrap().path(), dir.path());
}

#[test]
fn a_lease_file_that_is_a_link_is_refused() {
    let (dir, leases) = leases();
    let base = free_base(6, 8);
    let victim = dir.path().join("victim");
    File::create(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, dir.path().join(format!("port-{base}"))).unwrap();
    assert!(matches!(leases.lease_port(wish(base), &owner("api"), None), Err(LeaseError::Io { .. })));
    assert_eq!(victim.metadata().unwrap().len(), 0);
}

#[test]
fn a_text_that_is_no_owner_is_no_obstacle() {
    let (dir, leases) = leases();
    let base = free_base(7, 8);
    #[expect(clippy::disallowed_methods, reason = "a fixture of the test, not state")]
    std::fs::write(dir.path().join(format!("port-{base}")), "\0".repeat(9000)).unwrap();
    assert_eq!(leases.port_owner(base), None);
    let _lease = leases.lease_port(wish(base), &owner("api"), None).unwrap();
    assert_eq!(leases.port_owner(base), Some(owner("api")));
}

/// Starts this test program again, as a process that holds `port`.
fn holder(dir: &Path, port: u16) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the test's own second process, not a unit")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "leases::tests::holder_process", "--nocapture"])
        .env(HOLDER, format!("{} {port}", dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("holding")), "the holder ended early");
    child
}

/// Does nothing unless it is the second process of the test below.
#[test]
fn holder_process() {
    let Ok(what) = std::env::var(HOLDER) else { return };
    let (dir, port) = what.rsplit_once(' ').unwrap();
    let _lease = Leases::open(Path::new(dir)).unwrap().readopt_port(port.parse().unwrap(), &owner("holder")).unwrap();
    println!("\nholding");
    // Ends at the latest when the test does: the other end of this pipe is the test's.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn the_lease_of_a_killed_process_is_free_at_once() {
    let (dir, leases) = leases();
    let base = free_base(8, 8);
    let mut child = holder(dir.path(), base);
    let refused = leases.readopt_port(base, &owner("api")).unwrap_err().to_string();
    assert!(refused.contains("shop/holder"), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(leases.lease_port(wish(base), &owner("api"), None).unwrap().port(), base);
}
