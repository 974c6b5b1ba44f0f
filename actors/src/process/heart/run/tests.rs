use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sys::stat::Mode;
use serde_bytes::ByteBuf;
use tempfile::TempDir;

use super::*;
use crate::process::heart::wire::{Order, encode};
use crate::process::sys::child::WaitStatus;

fn sleeper(key: Key, dir: &TempDir) -> ToHeart {
    let path = |name: &str| ByteBuf::from(dir.path().join(name).as_os_str().as_bytes());
    let program = Path::new("/bin/sleep").as_os_str().as_bytes();
    ToHeart::Spawn(Box::new(Order {
        key,
        tag: format!("unit {key}"),
        program: ByteBuf::from(program),
        argv: vec![ByteBuf::from(program), ByteBuf::from("1000")],
        env: vec![],
        dir: ByteBuf::from("/"),
        out: path("out"),
        err: path("err"),
        stub: None,
        limits: None,
        stdin: None,
        ending: Default::default(),
        tty: None,
    }))
}

/// A heart that nobody runs, and the daemon's end of its connection. The greeting is in it, unread.
fn heart() -> (Heart, UnixStream, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["out", "err"] {
        nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).unwrap();
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut heart = Heart::new(Children::new(Starter::new(None)), None).unwrap();
    heart.connect(Connection::new(ours).unwrap()).unwrap();
    (heart, theirs, dir)
}

fn held(heart: &Heart) -> Vec<Key> {
    heart.children.list().into_iter().map(|held| held.key).collect()
}

#[test]
fn what_a_daemon_ordered_before_it_died_is_carried_out_to_the_last_word() {
    let (mut heart, mut daemon, dir) = heart();
    let orders =
        [sleeper(1, &dir), sleeper(2, &dir), ToHeart::Signal { key: 1, signal: nix::libc::SIGKILL, group: true }];
    for order in orders {
        daemon.write_all(&encode(&order).unwrap()).unwrap();
    }
    // With something unread: heart's connection is reset, and each of its answers fails.
    drop(daemon);
    assert!(!heart.carry_out_orders().unwrap());
    assert_eq!(held(&heart), [1, 2]);
    let pidfd = heart.children.pidfd(1).unwrap();
    let mut waited = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut waited, 10_000_u16), Ok(1), "it was not killed");
    heart.children.kill_all();
}

#[test]
fn an_answer_that_nobody_takes_leaves_the_orders_readable() {
    let (mut heart, mut daemon, dir) = heart();
    daemon.write_all(&encode(&sleeper(1, &dir)).unwrap()).unwrap();
    drop(daemon);
    for status in [0, 1] {
        let end = FromHeart::Exited { key: 9, status: WaitStatus::Code(status), oom: false, alone: false };
        heart.tell(&end).unwrap();
    }
    assert!(matches!(heart.on_connection().unwrap(), Flow::End(End::Finished(0))));
    assert_eq!(held(&heart), [1]);
    heart.children.kill_all();
}
