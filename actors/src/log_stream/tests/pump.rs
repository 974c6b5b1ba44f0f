//! The pump: exact bytes, nobody waits, nobody starves, nothing is lost at the end.

use std::io::Write;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::log_stream::{LINE_MAX_BYTES, Position};

/// Long enough for a loaded machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn e02_random_bytes_on_both_streams_arrive_exactly() {
    let pumped = Pumped::new(limits(3 << 20, 1 << 30));
    pumped.begin(1);
    let (out, err) = (random_bytes(1, 20 << 20), random_bytes(2, 5 << 20));
    thread::scope(|scope| {
        scope.spawn(|| out.chunks(70_001).for_each(|part| (&pumped.out).write_all(part).unwrap()));
        scope.spawn(|| err.chunks(333).for_each(|part| (&pumped.err).write_all(part).unwrap()));
    });
    pumped.drain();
    let found = lines(&pumped.log());
    assert!(reassemble(&found, Stream::Out) == out, "standard output differs");
    assert!(reassemble(&found, Stream::Err) == err, "standard error differs");
    assert!(found.iter().all(|line| line.life == Life { run: 1, incarnation: 1 }));
}

#[test]
fn e01_a_line_that_never_ends_is_read_in_bounded_pieces() {
    const BYTES: usize = 64 << 20;
    let pumped = Pumped::new(ROOMY);
    thread::scope(|scope| {
        let writer = || (0..BYTES >> 20).for_each(|n| (&pumped.out).write_all(&vec![n as u8 + 128; 1 << 20]).unwrap());
        scope.spawn(writer);
    });
    pumped.drain();
    let mut follower = Reader::open(&pumped.log()).follow(Position::Start, Query::default()).unwrap();
    let mut at = 0;
    while let Some(entry) = follower.next().unwrap() {
        assert!(follower.pending(Stream::Out).len() <= LINE_MAX_BYTES);
        let Some(line) = line_of(entry) else { continue };
        assert!(line.partial && line.bytes.len() <= LINE_MAX_BYTES);
        for byte in line.bytes {
            assert_eq!(byte, (at >> 20) as u8 + 128, "at {at}");
            at += 1;
        }
    }
    assert_eq!(at, BYTES);
}

#[test]
fn e10_the_last_words_before_an_exit_are_there_after_the_drain() {
    let pumped = Pumped::new(ROOMY);
    for incarnation in 1..=200 {
        pumped.begin(incarnation);
        let mut words = vec![b'w'; 300_000];
        words.extend_from_slice(format!("\nlast words of {incarnation}").as_bytes());
        thread::scope(|scope| scope.spawn(|| (&pumped.out).write_all(&words).unwrap()).join().unwrap());
        pumped.drain();
        let query = Query { incarnation: Some(incarnation), ..Query::default() };
        let tail = || Reader::open(&pumped.log()).tail(1, query).unwrap().into_lines();
        let found: Vec<_> = tail().map(Result::unwrap).collect();
        let Some(Entry::Line(last)) = found.first() else { panic!("{found:?}") };
        assert_eq!((text(last), last.partial), (format!("last words of {incarnation}"), true));
        // The record of the end may come a moment later.
        let begun = Instant::now();
        while !tail().any(|entry| matches!(entry, Ok(Entry::Ended { life, .. }) if life.incarnation == incarnation)) {
            assert!(begun.elapsed() < DEADLINE, "life {incarnation} has not ended");
            thread::yield_now();
        }
    }
    let total: usize = lines(&pumped.log()).iter().map(|line| line.bytes.len() + usize::from(!line.partial)).sum();
    let expect: usize = (1..=200).map(|n: u32| 300_001 + format!("last words of {n}").len()).sum();
    assert_eq!(total, expect);
}

#[test]
fn an_orphan_that_writes_on_does_not_hold_up_a_drain() {
    let pumped = Pumped::new(limits(1 << 20, 4 << 20));
    pumped.begin(1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                (&pumped.out).write_all(&[b'o'; 65_536]).unwrap();
            }
        });
        for _ in 0..20 {
            let drained = pumped.handle.drain(pumped.id).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(DEADLINE, drained).await }).unwrap().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn e06_ten_followers_see_every_line_once_and_in_order_over_rotations() {
    const LINES: usize = 50_000;
    let pumped = Pumped::new(limits(64 << 10, 1 << 30));
    thread::scope(|scope| {
        for _ in 0..10 {
            let length = pumped.handle.length(pumped.id).unwrap();
            let log = pumped.log();
            scope.spawn(move || follow_numbers(&log, length, LINES));
        }
        for n in 0..LINES {
            (&pumped.out).write_all(format!("{n}\n").as_bytes()).unwrap();
        }
    });
    assert!(pumped.log().join("4.idx").exists(), "there was no rotation: nothing is tested");
}

/// Reads `count` numbered lines, woken by the length watch alone.
fn follow_numbers(log: &Path, mut length: tokio::sync::watch::Receiver<crate::log_stream::Length>, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut follower = Reader::open(log).follow(Position::Start, Query::default()).unwrap();
    let mut next = 0;
    while next < count {
        length.borrow_and_update();
        while let Some(entry) = follower.next().unwrap() {
            if let Some(line) = line_of(entry) {
                assert_eq!(text(&line), next.to_string());
                next += 1;
            }
        }
        if next < count {
            runtime.block_on(async { tokio::time::timeout(DEADLINE, length.changed()).await }).unwrap().unwrap();
        }
    }
}

#[test]
fn a_reader_beside_the_pump_sees_whole_lines_in_order() {
    const LINES: usize = 30_000;
    let pumped = Pumped::new(limits(256 << 10, 1 << 30));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..LINES {
                (&pumped.out).write_all(format!("{n}\n").as_bytes()).unwrap();
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let found = texts(&pumped.log());
            assert!(found.len() >= seen, "{} lines after {seen}", found.len());
            seen = found.len();
            for (n, line) in found.iter().enumerate() {
                // The very last may be in the making.
                assert!(*line == n.to_string() || n + 1 == found.len(), "{line} instead of {n}");
            }
        }
    });
    pumped.drain();
    assert_eq!(texts(&pumped.log()).len(), LINES);
}

#[test]
fn a_flood_does_not_starve_another_unit() {
    let pumped = Pumped::new(limits(1 << 20, 4 << 20));
    let quiet = pumped.handle.new_id();
    let dir = tempfile::tempdir().unwrap();
    let ((out, theirs), (err, _err)) = (fifo(dir.path(), "out"), fifo(dir.path(), "err"));
    let store = Store::open(&dir.path().join("log"), ROOMY).unwrap();
    pumped.handle.add(quiet, Sources { out, err }, store).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                (&pumped.out).write_all(&[b'\n'; 65_536]).unwrap();
            }
        });
        let length = pumped.handle.length(quiet).unwrap();
        (&theirs).write_all(b"0\n1\n2\n").unwrap();
        follow_numbers(&dir.path().join("log"), length, 3);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn removing_a_stream_and_stopping_the_pump_take_the_last_bytes() {
    let pumped = Pumped::new(ROOMY);
    (&pumped.out).write_all(b"one\n").unwrap();
    pumped.handle.remove(pumped.id).unwrap().blocking_recv().unwrap();
    assert_eq!(texts(&pumped.log()), ["one"]);
    assert!(pumped.handle.length(pumped.id).is_none());
    assert!(pumped.handle.drain(pumped.id).unwrap().blocking_recv().is_err());

    let pumped = Pumped::new(ROOMY);
    let log = pumped.log();
    (&pumped.err).write_all(b"two\n").unwrap();
    let Pumped { pump, handle, dir: _dir, .. } = pumped;
    pump.stop();
    assert_eq!(texts(&log), ["two"]);
    assert!(matches!(handle.life(LogStreamId(1), Life::default()), Err(crate::log_stream::LogError::PumpEnded)));
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let pumped = Pumped::new(ROOMY);
    let mut length = pumped.handle.length(pumped.id).unwrap();
    drop(pumped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let ended = async { while length.changed().await.is_ok() {} };
        tokio::time::timeout(DEADLINE, ended).await.unwrap();
    });
}

#[test]
fn at_rest_an_end_and_a_beginning_wait_for_nobody() {
    let pumped = Pumped::new(ROOMY);
    let mut drained = Vec::new();
    for incarnation in 1..=500 {
        pumped.begin(incarnation);
        (&pumped.out).write_all(format!("{incarnation}\n").as_bytes()).unwrap();
        pumped.drain();
        // Nothing is left to be stored: these are answered here and now.
        assert!(pumped.handle.life(pumped.id, Life { run: 1, incarnation }).unwrap().try_recv().is_ok());
        drained.push(pumped.handle.drain(pumped.id).unwrap().try_recv().unwrap());
    }
    assert!(drained.is_sorted_by_key(|drained| drained.length.index_records));
    let found = lines(&pumped.log());
    assert_eq!(found.len(), 500);
    for line in found {
        assert_eq!(text(&line), line.life.incarnation.to_string(), "each line belongs to the life that wrote it");
    }
}

#[test]
fn what_waits_in_a_pipe_when_a_life_begins_belongs_to_the_one_before() {
    let pumped = Pumped::new(ROOMY);
    for incarnation in 1..=500 {
        pumped.begin(incarnation);
        (&pumped.out).write_all(format!("{incarnation}\n").as_bytes()).unwrap();
    }
    pumped.drain();
    let found = lines(&pumped.log());
    assert_eq!(found.len(), 500);
    for line in found {
        assert_eq!(text(&line), line.life.incarnation.to_string());
    }
}
