//! The actor: FIFOs, orders, succession.

use std::time::Duration;

use ractor::{Actor, ActorStatus};
use regex::bytes::Regex;

use super::*;
use crate::log_stream::{Arguments, Lane, LogStream, LogStreamActor, Site, open_together};

const DEADLINE: Duration = Duration::from_secs(60);

fn site(dir: &Path) -> Site {
    Site { fifo_out: dir.join("api.out"), fifo_err: dir.join("api.err"), dir: dir.join("log"), limits: ROOMY }
}

/// What was opened together with others is what an actor opens by itself.
#[tokio::test]
async fn a_log_that_was_opened_together_with_others_is_stored_like_any_other() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let dirs = ["a", "b"].map(|name| dir.path().join(name));
    dirs.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let opened = open_together(dirs.iter().map(|dir| site(dir)).collect()).await.unwrap();
    for (dir, opened) in dirs.iter().zip(opened) {
        assert!(opened.is_some());
        let lane = Lane::new(pump.handle(), 5);
        let arguments = Arguments { site: site(dir), opened, lane: lane.clone() };
        let log = LogStream::new(LogStreamActor::spawn(None, LogStreamActor, arguments).await.unwrap().0, lane);
        log.incarnation(1).await.unwrap();
        unit(dir).write_all(b"hello\n").unwrap();
        log.drain(DEADLINE).await.unwrap();
        assert_eq!(texts(&dir.join("log")), ["hello"]);
    }
}

pub(super) async fn spawn(dir: &Path, pump: &Pump) -> LogStream {
    let lane = Lane::new(pump.handle(), 5);
    let arguments = Arguments { site: site(dir), opened: None, lane: lane.clone() };
    LogStream::new(LogStreamActor::spawn(None, LogStreamActor, arguments).await.unwrap().0, lane)
}

pub(super) fn unit(dir: &Path) -> File {
    // Read-write, as a unit gets it: nobody's end gives it SIGPIPE.
    OpenOptions::new().read(true).write(true).open(dir.join("api.out")).unwrap()
}

#[tokio::test]
async fn a_unit_s_output_belongs_to_the_incarnation_that_was_told() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = spawn(dir.path(), &pump).await;
    for incarnation in 1..=3 {
        stream.incarnation(incarnation).await.unwrap();
        unit(dir.path()).write_all(format!("life {incarnation}\nand more").as_bytes()).unwrap();
        let drained = stream.drain(DEADLINE).await.unwrap();
        assert_eq!(*stream.length().await.unwrap().borrow(), drained.length);
    }
    let found = lines(&dir.path().join("log"));
    let lives: Vec<_> = found.iter().map(|line| (line.life.run, line.life.incarnation, line.partial)).collect();
    assert_eq!(lives, [(5, 1, false), (5, 1, true), (5, 2, false), (5, 2, true), (5, 3, false), (5, 3, true)]);
}

#[tokio::test]
async fn a_ready_line_of_an_earlier_life_does_not_count() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = spawn(dir.path(), &pump).await;
    stream.incarnation(1).await.unwrap();
    unit(dir.path()).write_all(b"ready\n").unwrap();
    stream.matches(Regex::new("ready").unwrap(), 1).await.unwrap();
    stream.drain(DEADLINE).await.unwrap();
    stream.incarnation(2).await.unwrap();
    let waiting = stream.matches(Regex::new("ready").unwrap(), 2);
    tokio::pin!(waiting);
    unit(dir.path()).write_all(b"booting\n").unwrap();
    stream.drain(DEADLINE).await.unwrap();
    assert!(futures::poll!(&mut waiting).is_pending());
    unit(dir.path()).write_all(b"now rea").unwrap();
    unit(dir.path()).write_all(b"dy").unwrap();
    tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_stores_the_last_bytes_and_unlinks_the_fifos() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = spawn(dir.path(), &pump).await;
    unit(dir.path()).write_all(b"bye\n").unwrap();
    stream.actor().stop_and_wait(None, None).await.unwrap();
    assert_eq!(texts(&dir.path().join("log")), ["bye"]);
    assert!(!dir.path().join("api.out").exists() && !dir.path().join("api.err").exists());
    assert!(stream.drain(DEADLINE).await.is_err());
}

#[tokio::test]
async fn a_successor_takes_over_fifos_and_log_of_one_that_was_killed() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let first = spawn(dir.path(), &pump).await;
    first.incarnation(1).await.unwrap();
    let mut unit = unit(dir.path());
    unit.write_all(b"before, ").unwrap();
    first.actor().kill_and_wait(None).await.unwrap();
    assert_eq!(first.actor().get_status(), ActorStatus::Stopped);
    // Nobody reads now; the unit does not notice.
    unit.write_all(b"meanwhile, ").unwrap();
    let second = spawn(dir.path(), &pump).await;
    unit.write_all(b"after\n").unwrap();
    second.drain(DEADLINE).await.unwrap();
    assert_eq!(texts(&dir.path().join("log")), ["before, meanwhile, after"]);
}

#[tokio::test]
async fn something_else_in_the_place_of_a_fifo_is_an_error_that_names_it() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    drop(File::create(dir.path().join("api.out")).unwrap());
    let opened = open_together(vec![site(dir.path())]).await.unwrap().pop().flatten();
    assert!(opened.is_none(), "it is left to the actor to tell why");
    let arguments = Arguments { site: site(dir.path()), opened, lane: Lane::new(pump.handle(), 1) };
    let error = LogStreamActor::spawn(None, LogStreamActor, arguments).await.unwrap_err().to_string();
    assert!(error.contains("api.out"), "{error}");
}
