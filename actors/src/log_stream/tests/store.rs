//! Writing: rotation, retention, full disks, meddling.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::log_stream::sink::{Kernel, Sink};
use crate::log_stream::{LogError, Position, clock};

const SMALL: Limits = limits(16 << 10, 64 << 10);

/// A disk that can be full, or broken.
struct Disk {
    full: Arc<AtomicBool>,
    error: i32,
}

impl Disk {
    fn new(full: &Arc<AtomicBool>, error: i32) -> Box<Self> {
        Box::new(Self { full: Arc::clone(full), error })
    }
}

impl Sink for Disk {
    fn splice(&mut self, fifo: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        Kernel.splice(fifo, file, offset, len)
    }

    fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        Kernel.write(file, bytes, offset)
    }
}

fn bytes_on_disk(log: &Path) -> u64 {
    crate::log_stream::bytes_on_disk(log).unwrap()
}

#[test]
fn nothing_is_created_before_the_first_byte_and_files_are_private() {
    let mut written = Written::new(ROOMY);
    let fifo = written.ours[0].as_fd();
    assert_eq!(written.store.as_mut().unwrap().take(Stream::Out, fifo, &mut written.scratch), Taken::Empty);
    written.store().set_life(Life { run: 1, incarnation: 1 });
    written.end_life();
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
fn e07_rotation_keeps_the_newest_lines_in_order_and_within_the_limit() {
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
fn e09_a_full_disk_neither_blocks_the_unit_nor_goes_untold() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk::new(&full, libc::ENOSPC);
    let mut written = Written::with(|dir| Store::open_with(dir, SMALL, disk).unwrap());
    assert_eq!(written.write(Stream::Out, b"before\nhalf"), Taken::Stored(11));
    full.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(written.write(Stream::Out, &[b'\n'; 60_000]), Taken::Dropped(60_000));
    }
    assert_eq!(written.write(Stream::Err, b"12345"), Taken::Dropped(5));
    assert!(written.store().is_owing());
    let health = written.store().health().clone();
    assert!(health.refused.is_some());
    assert_eq!((health.dropped_bytes, health.dropped_lines), (6_000_005, 6_000_000));
    full.store(false, Ordering::SeqCst);
    // Told without another byte of the unit.
    assert!(written.store().flush());
    written.write(Stream::Out, b"after\n");
    let (mut told, mut gaps) = (Vec::new(), [(0, 0); 2]);
    for entry in entries(&written.log()) {
        match entry {
            Entry::Line(line) => told.push((text(&line), line.partial)),
            Entry::Gap { stream, bytes, lines, .. } => {
                let (all_bytes, all_lines) = &mut gaps[stream.index()];
                (*all_bytes, *all_lines) = (*all_bytes + bytes, *all_lines + lines);
            }
            Entry::Started { .. } | Entry::Ended { .. } | Entry::Skipped { .. } => {}
        }
    }
    assert_eq!(told, [("before", false), ("half", true), ("after", false)].map(|(text, cut)| (text.to_owned(), cut)));
    assert_eq!(gaps, [(6_000_000, 6_000_000), (5, 0)]);
}

#[test]
fn a_disk_full_from_the_start_leaves_no_broken_segment() {
    let full = Arc::new(AtomicBool::new(true));
    let disk = Disk::new(&full, libc::ENOSPC);
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
    assert!(entries(&written.log()).contains(&Entry::Skipped { bytes: 4, lines: None }));
}

#[test]
fn e05_a_follower_that_is_overtaken_is_told_exactly_how_much_it_missed() {
    let mut written = Written::new(SMALL);
    written.write(Stream::Out, b"first\n");
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    let (mut seen, mut seen_lines) = (0, [0; 2]);
    let (mut total, mut total_lines) = (6, [1, 0]);
    for n in 0..20_000 {
        let line = format!("line {n}\n");
        let stream = if n % 3 == 0 { Stream::Err } else { Stream::Out };
        total += line.len() as u64;
        total_lines[stream.index()] += 1;
        written.write(stream, line.as_bytes());
    }
    let (mut missed, mut missed_lines) = (0, [0; 2]);
    while let Some(entry) = follower.next().unwrap() {
        match entry {
            Entry::Line(line) => {
                seen += line.bytes.len() as u64 + u64::from(!line.partial);
                seen_lines[line.stream.index()] += u64::from(!line.partial);
            }
            Entry::Skipped { bytes, lines } => {
                missed += bytes;
                let lines = lines.expect("the lines that were skipped are known");
                missed_lines.iter_mut().zip(lines).for_each(|(missed, lines)| *missed += lines);
            }
            Entry::Started { .. } | Entry::Ended { .. } | Entry::Gap { .. } => {}
        }
    }
    assert!(missed > 0, "it was not overtaken: nothing is tested");
    assert_eq!(seen + missed, total);
    assert_eq!([0, 1].map(|at| seen_lines[at] + missed_lines[at]), total_lines);
}

#[test]
fn e11_each_stream_keeps_its_order_and_both_come_in_order_of_arrival() {
    let mut written = Written::new(SMALL);
    let mut random = fastrand::Rng::with_seed(11);
    let mut expect = Vec::new();
    for n in 0..600 {
        let stream = Stream::BOTH[usize::from(random.bool())];
        let text = format!("{} {n}", if stream == Stream::Out { "out" } else { "err" });
        written.write(stream, format!("{text}\n").as_bytes());
        expect.push((stream, text));
    }
    let found: Vec<_> = lines(&written.log()).iter().map(|line| (line.stream, text(line))).collect();
    assert!(written.log().join("2.idx").exists(), "there was no rotation: nothing is tested");
    assert_eq!(found, expect);
}

#[test]
fn e09_a_broken_disk_costs_new_output_and_no_old_one() {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk::new(&broken, libc::EIO);
    let mut written = Written::with(|dir| Store::open_with(dir, SMALL, disk).unwrap());
    for n in 0..1000 {
        written.write(Stream::Out, format!("line {n}\n").as_bytes());
    }
    let kept = texts(&written.log());
    broken.store(true, Ordering::SeqCst);
    assert_eq!(written.write(Stream::Out, b"lost\nlost\n"), Taken::Dropped(10));
    let health = written.store().health().clone();
    assert_eq!((health.dropped_lines, health.shed_segments), (2, 0), "room would not help: nothing is deleted");
    assert!(health.refused.is_some_and(|error| error.contains("Input/output error")));
    assert_eq!(texts(&written.log()), kept);
    broken.store(false, Ordering::SeqCst);
    written.write(Stream::Out, b"after\n");
    assert!(entries(&written.log()).iter().any(|entry| matches!(entry, Entry::Gap { bytes: 10, lines: 2, .. })));
}

#[test]
fn e09_trouble_is_told_once_and_over_only_after_a_while() {
    let full = Arc::new(AtomicBool::new(true));
    let disk = Disk::new(&full, libc::ENOSPC);
    let mut written = Written::with(|dir| Store::open_with(dir, SMALL, disk).unwrap());
    written.write(Stream::Out, b"lost\n");
    let told = written.store().health().clone();
    for brim in [false, true, false, true, false] {
        full.store(brim, Ordering::SeqCst);
        written.write(Stream::Out, b"line\n");
        assert!(!written.store().health().differs(&told), "yes and no by turns is one trouble");
    }
    assert!(written.store().is_owing(), "it is looked after until it is over");
    clock::shift(10);
    written.store().flush();
    assert!(written.store().health().differs(&told));
    assert_eq!((written.store().health().refused.clone(), written.store().health().dropped_lines), (None, 3));
    assert!(!written.store().is_owing());
}
