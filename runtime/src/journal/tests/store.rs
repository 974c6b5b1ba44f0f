use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::read::LINE_READ_MAX_BYTES;
use super::super::store::{JournalError, LINE_MAX_BYTES, Recovery};
use super::*;

fn add(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a fixture of the test, not state")]
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// Opens, appends one event, and expects every event after that to be readable, in order, on lines of their own.
fn check_recovers(path: &Path, readable: u64) -> Recovery {
    let (mut log, recovery) = EventLog::open(path).unwrap();
    assert_eq!(recovery.events, readable);
    let seq = log.append(numbered(7)).seq;
    let all: Vec<_> = super::super::events(path).unwrap().collect();
    assert_eq!(all.len() as u64, readable + 1);
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(all.last().unwrap().seq, seq);
    assert!(fs::read(path).unwrap().ends_with(b"\n"));
    recovery
}

#[test]
fn events_are_numbered_from_one_without_gaps_across_writers() {
    let (_dir, path) = written(3);
    let (mut log, recovery) = EventLog::open(&path).unwrap();
    assert_eq!(recovery, Recovery { events: 3, ..Recovery::default() });
    let event = log.append(numbered(4));
    assert_eq!(seqs(&path), [1, 2, 3, 4]);
    assert!(event.time.ends_with('Z') && event.time.len() == "2026-11-21T10:20:31.123456Z".len(), "{}", event.time);
    assert_eq!(super::super::events(&path).unwrap().after(2).map(|event| event.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_writer_killed_at_any_byte_leaves_a_journal_that_goes_on() {
    let (dir, path) = written(2);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        let path = dir.path().join(format!("cut-{cut}"));
        put(&path, &whole[..cut]);
        // A line that only lacks its newline is an event; anything shorter is not.
        let mut ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let readable = ends.clone().filter(|end| *end <= cut).count() as u64;
        let whole_lines = cut == 0 || ends.any(|end| cut == end || cut == end + 1);
        let recovery = check_recovers(&path, readable);
        assert_eq!(recovery.cut_bytes == 0, whole_lines, "cut at {cut}: {recovery:?}");
    }
}

#[test]
fn a_half_written_last_line_is_cut_off_counted_and_kept_aside() {
    let (_dir, path) = written(2);
    add(&path, b"{\"schema_version\":1,\"seq\":3,\"ti");
    let recovery = check_recovers(&path, 2);
    assert_eq!((recovery.cut_bytes, recovery.corrupt_lines), (31, 0));
    let aside = fs::read_to_string(recovery.set_aside.unwrap()).unwrap();
    assert_eq!(aside, "{\"schema_version\":1,\"seq\":3,\"ti\n");
    assert_eq!(seqs(&path), [1, 2, 3]);
}

#[test]
fn damaged_lines_are_set_aside_and_the_others_stay() {
    let (_dir, path) = written(2);
    add(&path, b"not json\n\0\0\0\0\n\xff\xfe\n\n[]\n{\"schema_version\":1}\n");
    let (mut log, _) = EventLog::open(&path).unwrap();
    log.append(numbered(3));
    drop(log);
    add(&path, b"more damage\n");
    let first = fs::read(format!("{}.bad", path.display())).unwrap();
    let recovery = check_recovers(&path, 3);
    assert_eq!(recovery.corrupt_lines, 1);
    let aside = fs::read(recovery.set_aside.unwrap()).unwrap();
    assert!(aside.starts_with(&first) && aside.ends_with(b"more damage\n\n"), "nothing set aside is overwritten");
    assert_eq!(super::super::read::EventReader::open(&path).unwrap().batch(99).unwrap().len(), 4);
    let mut all = super::super::events(&path).unwrap();
    assert_eq!((all.by_ref().count(), all.corrupt()), (4, 0));
}

#[test]
fn empty_zeroed_and_huge_journals_are_opened_and_bounded() {
    let line = vec![b'x'; LINE_READ_MAX_BYTES * 2];
    let with_newline = [&line[..], b"\n"].concat();
    for content in [&b""[..], &[0; 8192], b"\n\n\n", &line, &with_newline, b"{", b"\xef\xbb\xbf{}\n"] {
        let (_dir, path) = journal();
        put(&path, content);
        check_recovers(&path, 0);
        assert!(path.metadata().unwrap().len() < 1000, "damage stayed in the journal");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_left_alone() {
    let (dir, path) = journal();
    fs::create_dir(&path).unwrap();
    assert!(matches!(EventLog::open(&path), Err(JournalError::Io { .. })));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
    assert!(matches!(EventLog::open(&link), Err(JournalError::Io { .. })));
    assert!(!dir.path().join("target").exists());
}

#[test]
fn a_journal_of_a_newer_build_can_be_read_but_is_never_written() {
    let (_dir, path) = written(1);
    let mut newer = numbered(2);
    (newer.schema_version, newer.seq) = (999, 2);
    add(&path, format!("{}\n{{\"half", serde_json::to_string(&newer).unwrap()).as_bytes());
    let before = fs::read(&path).unwrap();
    let error = EventLog::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("999"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(seqs(&path), [1, 2]);
}

#[test]
fn texts_with_newlines_quotes_and_zeros_make_one_record() {
    let (_dir, path) = journal();
    let (mut log, _) = EventLog::open(&path).unwrap();
    let hostile = "a\nb\r\n{\"seq\":99}\0\"\\ \u{2028}\u{1f980}";
    let sent = EventKind::UnitFailed.event("run\n1", hostile).cause(hostile).hint(hostile).build();
    let kept = log.append(sent);
    log.append(numbered(2));
    let all: Vec<_> = super::super::events(&path).unwrap().collect();
    assert_eq!(all[0], kept);
    assert_eq!(all[0].message, hostile);
    assert_eq!(all.len(), 2);
}

/// The writer only glances at history, so it must see as events just what readers do.
#[test]
fn opening_counts_what_readers_read_and_shows_the_kinds_that_are_wanted() {
    let (_dir, path) = journal();
    let (mut log, _) = EventLog::open(&path).unwrap();
    let failed = log.append(EventKind::UnitFailed.event("r", "\"quoted\" \u{1f980}").cause("c\nd").hint("h").build());
    log.append(numbered(2));
    let line = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    for (old, new) in
        [("\"seq\":1", "\"seq\":\"1\""), ("\"run\":\"r\"", "\"run\":7"), ("\"hint\":\"h\"", "\"hint\":[]")]
    {
        assert!(line.contains(old), "{line}");
        add(&path, format!("{}\n", line.replace(old, new)).as_bytes());
    }
    let readable = super::super::events(&path).unwrap().count() as u64;
    let mut shown = Vec::new();
    let (_, recovery) = EventLog::open_with(&path, |kind| kind == "unit.failed", |event| shown.push(event)).unwrap();
    assert_eq!((recovery.events, recovery.corrupt_lines, readable), (2, 3, 2));
    assert_eq!(shown, [failed]);
}

#[test]
fn an_event_of_a_megabyte_is_cut_to_a_line_that_can_be_read() {
    let (_dir, path) = journal();
    let (mut log, _) = EventLog::open(&path).unwrap();
    let event = EventKind::UnitUnready.event("run-1", "ä".repeat(1 << 20)).detail("answer", "x".repeat(1 << 20));
    let kept = log.append(event.build());
    assert!(path.metadata().unwrap().len() < LINE_MAX_BYTES as u64);
    assert!(kept.message.starts_with("ää") && kept.details["cut_bytes"].as_u64() > Some(1 << 20), "{kept:?}");
    assert_eq!(super::super::events(&path).unwrap().collect::<Vec<_>>(), [kept]);
}

#[test]
fn events_the_disk_did_not_take_are_written_when_it_does_again() {
    let (_dir, path) = written(1);
    let (mut log, _) = EventLog::open(&path).unwrap();
    // Writing to a file that is open for reading fails, as a full disk does.
    let good = log.swap_file(Arc::new(File::open(&path).unwrap()));
    let numbers: Vec<_> = (2..4).map(|n| log.append(numbered(n)).seq).collect();
    assert_eq!(numbers, [2, 3]);
    assert!(log.fault().is_some());
    assert_eq!(seqs(&path), [1]);
    log.swap_file(good);
    log.append(numbered(4));
    assert_eq!((log.fault(), seqs(&path)), (None, vec![1, 2, 3, 4]));
    assert_eq!(log.take_lost(), 0);
}

#[test]
fn what_is_kept_for_a_full_disk_is_bounded_and_counted() {
    let (_dir, path) = written(1);
    let (mut log, _) = EventLog::open(&path).unwrap();
    let good = log.swap_file(Arc::new(File::open(&path).unwrap()));
    for _ in 0..30 {
        log.append(EventKind::UnitFailed.event("run-1", "x".repeat(LINE_MAX_BYTES / 2)).build());
    }
    let lost = log.take_lost();
    assert!(lost > 10, "{lost}");
    log.swap_file(good);
    log.retry();
    let numbers = seqs(&path);
    assert_eq!(numbers.len() as u64, 31 - lost);
    assert_eq!(numbers.last(), Some(&31), "the newest are kept");
}

#[test]
fn a_reader_waits_for_the_newline_of_an_event() {
    let (_dir, path) = written(1);
    let mut reader = super::super::read::EventReader::open(&path).unwrap();
    assert_eq!(reader.next_event().unwrap().unwrap().seq, 1);
    let line = serde_json::to_string(&EventView { seq: 2, ..numbered(2) }).unwrap();
    add(&path, &line.as_bytes()[..40]);
    assert_eq!(reader.next_event().unwrap(), None);
    add(&path, &line.as_bytes()[40..]);
    assert_eq!(reader.next_event().unwrap(), None);
    add(&path, b"\n");
    assert_eq!(reader.next_event().unwrap().unwrap().seq, 2);
    assert_eq!(reader.corrupt(), 0);
}

#[test]
fn a_run_id_is_a_time_and_four_digits() {
    let id = super::super::new_run_id();
    let (time, digits) = id.split_once('-').unwrap();
    assert!(time.len() == 16 && time.as_bytes()[8] == b'T' && time.ends_with('Z'), "{id}");
    assert!(digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_damage_leaves_a_journal_that_opens_and_goes_on(
        flips in prop::collection::vec((0_usize..600, any::<u8>()), 1..6),
        tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (_dir, path) = written(4);
        let mut bytes = fs::read(&path).unwrap();
        for (at, with) in flips {
            let at = at % bytes.len();
            bytes[at] = with;
        }
        bytes.extend(tail);
        put(&path, &bytes);
        match EventLog::open(&path) {
            Ok((mut log, _)) => {
                let seq = log.append(numbered(5)).seq;
                let numbers = seqs(&path);
                prop_assert_eq!(numbers.last(), Some(&seq));
                prop_assert_eq!(EventLog::open(&path).unwrap().1.corrupt_lines, 0);
            }
            // A flipped digit may have made the version a newer one: then not a byte may have changed.
            Err(JournalError::Newer { .. }) => prop_assert_eq!(fs::read(&path).unwrap(), bytes),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
