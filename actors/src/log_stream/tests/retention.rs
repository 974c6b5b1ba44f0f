//! What goes, and when: by size, by count, by age; and what is known of it afterwards.

use std::time::Duration;

use super::*;
use crate::log_stream::{Position, bytes_on_disk, clock, gone};

const HOUR: i64 = 3600;

fn segments(log: &Path) -> Vec<u32> {
    crate::log_stream::layout::numbers(log, &["idx"]).unwrap()
}

fn write_lines(written: &mut Written, lines: std::ops::Range<u32>) {
    for n in lines {
        written.write(Stream::Out, format!("line {n} {}\n", "x".repeat(90)).as_bytes());
    }
}

#[test]
fn e07_of_ten_rotations_the_newest_segments_stay_without_a_hole() {
    let mut written = Written::new(Limits { max_segments: 5, ..limits(16 << 10, 1 << 30) });
    let mut n = 0;
    while segments(&written.log()).last() != Some(&11) {
        write_lines(&mut written, n..n + 1);
        n += 1;
    }
    assert_eq!(segments(&written.log()), [7, 8, 9, 10, 11]);
    let kept = texts(&written.log());
    let first = n as usize - kept.len();
    assert!(kept.iter().enumerate().all(|(at, line)| line.starts_with(&format!("line {} ", first + at))));
}

#[test]
fn a_segment_is_closed_when_it_is_old() {
    let mut written = Written::new(Limits { segment_age: Some(Duration::from_secs(3600)), ..ROOMY });
    write_lines(&mut written, 0..2);
    assert_eq!(segments(&written.log()), [1]);
    clock::shift(2 * HOUR);
    write_lines(&mut written, 2..4);
    clock::shift(2 * HOUR + HOUR / 2);
    write_lines(&mut written, 4..5);
    assert_eq!(segments(&written.log()), [1, 2]);
    assert_eq!(texts(&written.log()).len(), 5);
}

#[test]
fn what_is_too_old_goes_also_when_the_unit_is_silent_and_numbers_go_on() {
    let limits = Limits { max_age: Some(Duration::from_secs(4 * 3600)), ..ROOMY };
    let mut written = Written::new(limits);
    write_lines(&mut written, 0..10);
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    clock::shift(2 * HOUR);
    write_lines(&mut written, 10..20);
    assert_eq!(segments(&written.log()), [1, 2], "a quarter of the age closes a segment");
    let due_ns = written.store().tend(clock::wall_time_ns()).expect("something is due");
    assert!(due_ns.abs_diff(clock::wall_time_ns() + 2 * 3600 * 1_000_000_000) < 600_000_000_000, "{due_ns}");
    clock::shift(5 * HOUR);
    written.store().tend(clock::wall_time_ns());
    assert_eq!(segments(&written.log()), [2]);
    clock::shift(7 * HOUR);
    let records = written.store().records();
    assert_eq!(written.store().tend(clock::wall_time_ns()), None);
    assert_eq!((segments(&written.log()), texts(&written.log()).len()), (vec![3], 0));
    assert_eq!(bytes_on_disk(&written.log()).unwrap(), crate::log_stream::layout::HEADER_BYTES);
    written.reopen(limits);
    assert_eq!(written.store().records(), records);
    write_lines(&mut written, 20..21);
    let (mut lines, mut skipped) = (0, [0; 2]);
    while let Some(entry) = follower.next().unwrap() {
        match entry {
            Entry::Line(_) => lines += 1,
            Entry::Skipped { lines: Some(gone), .. } => skipped = gone,
            other => assert!(matches!(other, Entry::Started { .. }), "{other:?}"),
        }
    }
    assert_eq!((lines, skipped), (11, [10, 0]), "what it had open stays its own, what it had not is counted");
}

#[test]
fn clearing_gives_the_room_back_and_the_stream_goes_on() {
    let mut written = Written::new(limits(16 << 10, 1 << 30));
    write_lines(&mut written, 0..500);
    let (before, records) = (bytes_on_disk(&written.log()).unwrap(), written.store().records());
    let freed = written.store().clear().unwrap();
    assert_eq!(before - freed, bytes_on_disk(&written.log()).unwrap());
    assert!(texts(&written.log()).is_empty());
    write_lines(&mut written, 500..501);
    assert!(written.store().records() > records);
    assert_eq!(texts(&written.log()).len(), 1);
    // Twice is as good as once.
    written.store().clear().unwrap();
    assert!(written.store().clear().unwrap() < 1000);
}

#[test]
fn e14_the_bytes_that_are_told_are_the_bytes_on_the_disk() {
    let mut written = Written::new(limits(256 << 10, 2 << 20));
    for round in 0..10 {
        write_lines(&mut written, round * 3000..(round + 1) * 3000);
        assert_eq!(written.store().bytes(), bytes_on_disk(&written.log()).unwrap());
        let files = std::fs::read_dir(written.log()).unwrap();
        let used: u64 =
            files.map(|file| std::os::unix::fs::MetadataExt::blocks(&file.unwrap().metadata().unwrap()) * 512).sum();
        let told = written.store().bytes();
        assert!(used.abs_diff(told) <= told / 100 + 12 * 4096, "{used} used, {told} told");
    }
    written.reopen(limits(256 << 10, 2 << 20));
    assert_eq!(written.store().bytes(), bytes_on_disk(&written.log()).unwrap());
}

#[test]
fn e13_a_clock_that_is_set_back_does_not_change_the_order() {
    let mut written = Written::new(limits(16 << 10, 1 << 30));
    write_lines(&mut written, 0..300);
    clock::shift(-HOUR);
    write_lines(&mut written, 300..600);
    let found = lines(&written.log());
    assert!(found.iter().enumerate().all(|(n, line)| text(line).starts_with(&format!("line {n} "))));
    assert!(found.is_sorted_by(|one, next| one.sequence < next.sequence));
    assert!(found[599].time_ns < found[0].time_ns, "the wall clock went back and the log says so");
    written.reopen(limits(16 << 10, 1 << 30));
    write_lines(&mut written, 600..601);
    assert_eq!(texts(&written.log()).len(), 601);
}

#[test]
fn the_memory_of_what_is_gone_is_bounded_and_a_torn_record_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=5000 {
        gone::remember(dir.path(), &gone::Gone { number, bytes: 10, lines: [2, 1] }).unwrap();
        if number == 7 {
            let file = OpenOptions::new().append(true).open(dir.path().join("gone")).unwrap();
            (&file).write_all(b"torn").unwrap();
        }
        if number == 100 {
            assert_eq!(gone::lines_between(dir.path(), 0, 101, 1000), Some([200, 100]));
        }
    }
    assert!(std::fs::metadata(dir.path().join("gone")).unwrap().len() <= 32 << 10);
    assert_eq!(gone::lines_between(dir.path(), 4990, 5000, 90), Some([18, 9]));
    assert_eq!(gone::lines_between(dir.path(), 10, 20, 90), None, "forgotten, and said so");
    assert_eq!(gone::lines_between(dir.path(), 4990, 5000, 91), None, "not all of it");
}
