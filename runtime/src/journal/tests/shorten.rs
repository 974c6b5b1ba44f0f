//! A journal does not grow for ever, and nobody who goes on with it notices.

use std::os::unix::fs::MetadataExt;

use super::super::shorten::JOURNAL_MAX_BYTES;
use super::*;

/// A journal longer than it may be, of few long events; the very first began a run, and so did one in the middle.
fn long() -> (tempfile::TempDir, std::path::PathBuf, u64) {
    let (dir, path) = journal();
    let (mut log, _) = EventLog::open(&path).unwrap();
    let mut last = 0;
    for n in 1.. {
        let mut event = numbered(n);
        if n == 1 || n == 20 {
            event = EventKind::RunStarted.event(&format!("run-{n}"), "up").detail("log_run", n).build();
        }
        event.message = format!("{n} {}", "x".repeat(200_000));
        last = log.append(event).seq;
        if path.metadata().unwrap().len() > JOURNAL_MAX_BYTES {
            break;
        }
    }
    (dir, path, last)
}

#[test]
fn a_long_journal_keeps_its_newest_events_and_the_beginnings_of_runs() {
    let (dir, path, last) = long();
    let (mut log, recovery) = EventLog::open(&path).unwrap();
    let kept = seqs(&path);
    assert_eq!(kept[..2], [1, 20]);
    let first = kept[2];
    assert!(first > 21 && kept[2..].iter().copied().eq(first..=last), "{kept:?}");
    assert_eq!(recovery.dropped, last - kept.len() as u64);
    let length = path.metadata().unwrap().len();
    assert!((JOURNAL_MAX_BYTES / 3..JOURNAL_MAX_BYTES * 2 / 3).contains(&length), "{length}");
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    assert_eq!(log.append(numbered(1)).seq, last + 1);
    assert_eq!(super::super::events(&path).unwrap().after(last).map(|event| event.seq).collect::<Vec<_>>(), [last + 1]);
}

#[test]
fn a_journal_that_is_not_too_long_is_left_as_it_is() {
    let (_dir, path) = written(100);
    let before = (path.metadata().unwrap().ino(), std::fs::read(&path).unwrap());
    let (_log, recovery) = EventLog::open(&path).unwrap();
    assert_eq!(recovery.dropped, 0);
    assert_eq!((path.metadata().unwrap().ino(), std::fs::read(&path).unwrap()), before);
}

#[test]
fn a_reader_of_the_old_file_reads_it_to_its_end() {
    let (_dir, path, last) = long();
    let reader = super::super::events(&path).unwrap();
    let _log = EventLog::open(&path).unwrap();
    assert!(reader.map(|event| event.seq).eq(1..=last));
}
