use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;
use serde_bytes::ByteBuf;
use tempfile::TempDir;

use super::*;
use crate::process::identity::Stat;

/// How long `true` may take, in milliseconds.
const END_WITHIN_MS: u16 = 10_000;

struct World {
    children: Children,
    dir: TempDir,
    keys: Key,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["out", "err"] {
            nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).unwrap();
        }
        Self { children: Children::new(Starter::new(None)), dir, keys: 0 }
    }

    fn order(&mut self, program: &str) -> Order {
        self.keys += 1;
        let text = |path: &Path| ByteBuf::from(path.as_os_str().as_bytes());
        Order {
            key: self.keys,
            tag: format!("unit {}", self.keys),
            program: ByteBuf::from(program),
            argv: vec![ByteBuf::from(program)],
            env: vec![],
            dir: ByteBuf::from("/"),
            out: text(&self.dir.path().join("out")),
            err: text(&self.dir.path().join("err")),
            stub: None,
            limits: None,
            stdin: None,
            ending: Default::default(),
            tty: None,
        }
    }

    /// The number of a process that has ended and been told of.
    fn ended(&mut self) -> (Key, u32) {
        let order = self.order("/bin/true");
        let key = order.key;
        let FromHeart::Spawned { pid, .. } = self.children.spawn(order) else { panic!("it starts") };
        let pidfd = self.children.pidfd(key).unwrap();
        poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], END_WITHIN_MS).unwrap();
        let told = self.children.ended(key).unwrap();
        assert!(matches!(told, Some(FromHeart::Exited { status: WaitStatus::Code(0), .. })), "{told:?}");
        (key, pid)
    }
}

fn is_zombie(pid: u32) -> bool {
    Stat::read(pid).is_some_and(|stat| !stat.is_alive())
}

#[test]
fn what_has_ended_keeps_its_number_until_it_is_reaped_after_its_acknowledgement() {
    let mut world = World::new();
    let (key, pid) = world.ended();
    assert!(!world.children.has_spent());
    world.children.acknowledge(key);
    assert!(is_zombie(pid) && world.children.has_spent());
    assert!(world.children.list().is_empty(), "the next daemon is not told of it");
    world.children.reap_orphans();
    assert!(is_zombie(pid), "it is nobody's orphan");
    world.children.reap_spent();
    assert!(Stat::read(pid).is_none() && !world.children.has_spent());
}

#[test]
fn only_so_many_wait_to_be_reaped() {
    let mut world = World::new();
    let ended: Vec<_> = (0..SPENT_MAX).map(|_| world.ended()).collect();
    for (key, _) in &ended {
        world.children.acknowledge(*key);
    }
    assert!(ended.iter().all(|(_, pid)| Stat::read(*pid).is_none()));
}

#[test]
fn who_is_forsaken_before_its_end_is_let_go_of_with_it() {
    let mut world = World::new();
    let order = Order { argv: vec![ByteBuf::from("sleep"), ByteBuf::from("1000")], ..world.order("/bin/sleep") };
    let key = order.key;
    let FromHeart::Spawned { pid, .. } = world.children.spawn(order) else { panic!("it starts") };
    world.children.acknowledge(key);
    assert!(!world.children.has_spent(), "it lives");
    world.children.signal(key, nix::libc::SIGKILL, false);
    poll(&mut [PollFd::new(world.children.pidfd(key).unwrap(), PollFlags::POLLIN)], END_WITHIN_MS).unwrap();
    assert!(world.children.ended(key).unwrap().is_some());
    assert!(world.children.pidfd(key).is_none(), "nothing of it is watched any more");
    world.children.reap_spent();
    assert!(Stat::read(pid).is_none());
}

#[test]
fn what_could_not_be_done_before_the_program_is_named() {
    let mut world = World::new();
    let mut refused = |change: &dyn Fn(&mut Order)| {
        let mut order = world.order("/bin/true");
        change(&mut order);
        match world.children.spawn(order) {
            FromHeart::SpawnFailed { errno, step, .. } => (errno, step),
            told => panic!("{told:?}"),
        }
    };
    let gone = nix::libc::ENOENT;
    let step = refused(&|order| order.dir = ByteBuf::from("/nowhere"));
    assert_eq!(step, (gone, Some("enter /nowhere".to_owned())));
    assert_eq!(refused(&|order| order.program = ByteBuf::from("/nowhere/program")), (gone, None));
    let step = refused(&|order| order.out = ByteBuf::from("/nowhere/out"));
    assert_eq!(step, (gone, Some("open /nowhere/out".to_owned())));
}
