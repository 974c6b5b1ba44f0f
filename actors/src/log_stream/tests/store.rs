//! Writing: rotation, retention, full disks, meddling.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::log_stream::sink::{Kernel, Sink};
use crate::log_stream::{LogError, Position};

const SMALL: Limits = Limits { segment_bytes: 16 << 10, max_bytes: 64 << 10 };

/// A disk that can be full.
struct Disk {
    full: Arc<AtomicBool>,
}

impl Sink for Disk {
    fn splice(&mut self, fifo: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Kernel.splice(fifo, file, offset, len)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Kernel.write(file, bytes, offset)
    }
}

fn bytes_on_disk(log: &Path) -> u64 {
    std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn nothing_is_created_before_the_first_byte_and_files_are_private() {
    let mut written = Written::new(ROOMY);
    let fifo = written.ours[0].as_fd();
    assert_eq!(written.store.as_mut().unwrap().take(Stream::Out, fifo, &mut written.scratch), Taken::Empty);
    written.store().set_life(Life { run: 1, incarnation: 1 });
    written.store().end_life();
    assert!(written.store().flush());
    assert_eq!(std::fs::read_dir(written.log()).unwrap().count(), 0);
    written.write(Stream::Err, b"x\n");
    let mut names: Vec<_> = std::fs::read_dir(written.log()).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let found: Vec<_> = names
        .iter()
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    assert_eq!(found, [("1.err".to_owned(), 0o600), ("1.idx".to_owned(), 0o600)]);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let mut written = Written::new(ROOMY);
    assert!(matches!(Store::open(&written.log(), ROOMY), Err(LogError::Locked(_))));
    written.reopen(ROOMY);
}

#[test]
fn rotation_keeps_the_newest_lines_in_order_and_within_the_limit() {
    let mut written = Written::new(SMALL);
    for n in 0..20_000 {
        written.write(if n % 3 == 0 { Stream::Err } else { Stream::Out }, format!("line {n}\n").as_bytes());
        if n % 500 == 0 {
            assert!(bytes_on_disk(&written.log()) <= SMALL.max_bytes, "{} bytes", bytes_on_disk(&written.log()));
        }
    }
    let kept = texts(&written.log());
    let first = 20_000 - kept.len();
    assert!(kept.len() > 500, "only {} lines are left", kept.len());
    assert_eq!(kept, (first..20_000).map(|n| format!("line {n}")).collect::<Vec<_>>());
}

#[test]
fn a_line_across_segments_stays_one_line() {
    let mut written = Written::new(SMALL);
    let long = "x".repeat(40_000);
    written.write(Stream::Out, format!("{long}\nafter\n").as_bytes());
    assert!(written.log().join("3.idx").exists(), "the line fits one segment: nothing is tested");
    assert_eq!(texts(&written.log()), [long, "after".to_owned()]);
}

#[test]
fn numbering_goes_on_after_reopening_also_when_only_old_segments_are_left() {
    let mut written = Written::new(SMALL);
    for n in 0..3000 {
        written.write(Stream::Out, format!("{n}\n").as_bytes());
    }
    let records = written.store().records();
    written.reopen(SMALL);
    assert_eq!(written.store().records(), records);
    written.write(Stream::Out, b"3000\n");
    let kept = lines(&written.log());
    assert_eq!(text(kept.last().unwrap()), "3000");
    assert!(kept.is_sorted_by_key(|line| line.sequence), "sequences go back");
    assert!(bytes_on_disk(&written.log()) <= SMALL.max_bytes);
}

#[test]
fn a_full_disk_neither_blocks_the_unit_nor_goes_untold() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Box::new(Disk { full: Arc::clone(&full) });
    let mut written = Written::with(|dir| Store::open_with(dir, SMALL, disk).unwrap());
    assert_eq!(written.write(Stream::Out, b"before\nhalf"), Taken::Stored(11));
    full.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(written.write(Stream::Out, &[b'x'; 60_000]), Taken::Dropped(60_000));
    }
    assert_eq!(written.write(Stream::Err, b"12345"), Taken::Dropped(5));
    assert!(written.store().is_owing());
    full.store(false, Ordering::SeqCst);
    // Told without another byte of the unit.
    assert!(written.store().flush());
    assert!(!written.store().is_owing());
    written.write(Stream::Out, b"after\n");
    let (mut told, mut gaps) = (Vec::new(), [0; 2]);
    for entry in entries(&written.log()) {
        match entry {
            Entry::Line(line) => told.push((text(&line), line.partial)),
            Entry::Gap { stream, bytes, .. } => gaps[stream.index()] += bytes,
            Entry::Started { .. } | Entry::Ended { .. } | Entry::Skipped { .. } => {}
        }
    }
    assert_eq!(told, [("before", false), ("half", true), ("after", false)].map(|(text, cut)| (text.to_owned(), cut)));
    assert_eq!(gaps, [6_000_000, 5]);
}

#[test]
fn a_disk_full_from_the_start_leaves_no_broken_segment() {
    let full = Arc::new(AtomicBool::new(true));
    let disk = Box::new(Disk { full: Arc::clone(&full) });
    let mut written = Written::with(|dir| Store::open_with(dir, SMALL, disk).unwrap());
    assert_eq!(written.write(Stream::Out, b"lost\n"), Taken::Dropped(5));
    assert_eq!(std::fs::read_dir(written.log()).unwrap().count(), 0);
    full.store(false, Ordering::SeqCst);
    written.write(Stream::Out, b"kept\n");
    assert_eq!(texts(&written.log()), ["kept"]);
    assert!(entries(&written.log()).iter().any(|entry| matches!(entry, Entry::Gap { bytes: 5, .. })));
}

#[test]
fn files_that_somebody_removes_or_truncates_are_replaced() {
    let mut written = Written::new(ROOMY);
    written.write(Stream::Out, b"one\n");
    std::fs::remove_dir_all(written.log()).unwrap();
    written.store().expect_meddling();
    written.write(Stream::Out, b"two\n");
    assert_eq!(texts(&written.log()), ["two"]);
    File::create(written.log().join("2.out")).unwrap();
    written.store().expect_meddling();
    written.write(Stream::Out, b"three\n");
    assert_eq!(texts(&written.log()), ["three"]);
    assert!(entries(&written.log()).iter().any(|entry| matches!(entry, Entry::Skipped { bytes: 4, .. })));
}

#[test]
fn a_follower_that_is_overtaken_is_told_exactly_how_much_it_missed() {
    let mut written = Written::new(SMALL);
    written.write(Stream::Out, b"first\n");
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    let mut seen = 0;
    let mut total = 6;
    for n in 0..20_000 {
        let line = format!("line {n}\n");
        total += line.len() as u64;
        written.write(Stream::Out, line.as_bytes());
    }
    let mut missed = 0;
    while let Some(entry) = follower.next().unwrap() {
        match entry {
            Entry::Line(line) => seen += line.bytes.len() as u64 + u64::from(!line.partial),
            Entry::Skipped { bytes, .. } => missed += bytes,
            Entry::Started { .. } | Entry::Ended { .. } | Entry::Gap { .. } => {}
        }
    }
    assert!(missed > 0, "it was not overtaken: nothing is tested");
    assert_eq!(seen + missed, total);
}
