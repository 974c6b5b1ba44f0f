//! A writer may die between any two steps.

use super::*;
use crate::log_stream::layout::{HEADER_BYTES, RECORD_BYTES};

/// Three writes on each stream, the last line of each without an end.
fn sample() -> Written {
    let mut written = Written::new(ROOMY);
    written.store().set_life(Life { run: 3, incarnation: 9 });
    for part in [b"one\ntw".as_slice(), b"o\nthree\n", b"fo\xffur"] {
        written.write(Stream::Out, part);
        written.write(Stream::Err, &part.to_ascii_uppercase());
    }
    written.store = None;
    written
}

fn check_whole(log: &Path, case: &str) {
    let found = lines(log);
    assert_eq!(reassemble(&found, Stream::Out), b"one\ntwo\nthree\nfo\xffur", "{case}");
    assert_eq!(reassemble(&found, Stream::Err), b"ONE\nTWO\nTHREE\nFO\xffUR", "{case}");
}

/// Opens for writing, as the next daemon does, and writes on.
fn check_goes_on(written: &mut Written, case: &str) {
    written.store = Some(open_again(&written.log(), ROOMY));
    check_whole(&written.log(), case);
    let records = written.store().records();
    written.write(Stream::Out, b" end\nnext\n");
    assert!(written.store().records() > records, "{case}");
    let found = lines(&written.log());
    assert!(reassemble(&found, Stream::Out).ends_with(b"fo\xffur end\nnext\n"), "{case}");
    let mut sequences: Vec<_> = found.iter().map(|line| line.sequence).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert!(sequences.iter().all(|&sequence| sequence < written.store.as_ref().unwrap().records()), "{case}");
}

#[test]
fn an_index_cut_at_any_byte_loses_no_byte_of_the_unit() {
    let whole = std::fs::metadata(sample().log().join("1.idx")).unwrap().len();
    assert_eq!(whole, HEADER_BYTES + 7 * RECORD_BYTES);
    for cut in 0..=whole {
        let mut written = sample();
        File::options().write(true).open(written.log().join("1.idx")).unwrap().set_len(cut).unwrap();
        check_goes_on(&mut written, &format!("cut at {cut}"));
    }
}

#[test]
fn an_index_that_is_missing_or_zeroed_from_any_record_on_loses_no_byte() {
    let mut written = sample();
    std::fs::remove_file(written.log().join("1.idx")).unwrap();
    check_goes_on(&mut written, "missing");
    for kept in 0..7 {
        let mut written = sample();
        let index = File::options().write(true).open(written.log().join("1.idx")).unwrap();
        let whole = index.metadata().unwrap().len();
        index.set_len(HEADER_BYTES + kept * RECORD_BYTES).unwrap();
        index.set_len(whole).unwrap();
        check_goes_on(&mut written, &format!("zeroed after {kept}"));
    }
}

#[test]
fn a_reader_shows_what_a_killed_writer_did_not_index_without_a_repair() {
    for records in 0..=7 {
        let written = sample();
        let index = File::options().write(true).open(written.log().join("1.idx")).unwrap();
        index.set_len(HEADER_BYTES + records * RECORD_BYTES).unwrap();
        check_whole(&written.log(), &format!("{records} records"));
    }
}

#[test]
fn index_records_past_the_end_of_a_file_are_cut() {
    for end in 0..=19 {
        let mut written = sample();
        let data = written.log().join("1.out");
        let before = std::fs::read(&data).unwrap();
        File::options().write(true).open(&data).unwrap().set_len(end).unwrap();
        written.store = Some(open_again(&written.log(), ROOMY));
        let found = lines(&written.log());
        let end = usize::try_from(end).unwrap();
        assert_eq!(reassemble(&found, Stream::Out), before[..end], "cut at {end}");
        assert_eq!(reassemble(&found, Stream::Err), b"ONE\nTWO\nTHREE\nFO\xffUR", "cut at {end}");
    }
}

#[test]
fn a_line_goes_on_over_a_daemon_s_death_and_its_life_is_known() {
    let mut written = Written::new(ROOMY);
    let life = Life { run: 3, incarnation: 9 };
    written.store().set_life(life);
    written.write(Stream::Out, b"begun and");
    written.reopen(ROOMY);
    assert_eq!(written.store().life(), life);
    written.write(Stream::Out, b" not yet");
    written.store().set_life(life);
    written.write(Stream::Out, b" ended\n");
    assert_eq!(texts(&written.log()), ["begun and not yet ended"]);
    assert!(lines(&written.log()).iter().all(|line| line.life == life));
}

#[test]
fn an_index_of_another_version_is_left_alone() {
    let mut written = sample();
    let index = written.log().join("1.idx");
    let mut raw = std::fs::read(&index).unwrap();
    raw[8] = 99;
    std::fs::OpenOptions::new().write(true).open(&index).unwrap().write_all(&raw).unwrap();
    written.store = Some(open_again(&written.log(), ROOMY));
    written.write(Stream::Out, b"new\n");
    assert_eq!(std::fs::read(&index).unwrap(), raw);
    assert_eq!(texts(&written.log()), ["new"]);
}

#[test]
fn a_deletion_half_done_is_finished() {
    let mut written = Written::new(limits(4 << 10, 1 << 20));
    for n in 0..200 {
        written.write(Stream::Out, format!("{n} {}\n", "x".repeat(50)).as_bytes());
    }
    written.store = None;
    std::fs::remove_file(written.log().join("1.idx")).unwrap();
    written.store = Some(open_again(&written.log(), ROOMY));
    assert!(!written.log().join("1.out").exists());
    assert!(written.log().join("2.out").exists());
    assert!(texts(&written.log()).last().unwrap().starts_with("199 "));
}

#[test]
fn things_that_are_not_ours_in_the_directory_do_no_harm() {
    let mut written = sample();
    for name in ["0.idx", "x.idx", "2.txt", "-1.out", "99999999999.idx", "README"] {
        drop(File::create(written.log().join(name)).unwrap());
    }
    // A link where a file is expected is not followed, nor does a FIFO hang us.
    std::os::unix::fs::symlink("/dev/zero", written.log().join("7.idx")).unwrap();
    pipe::mkfifo(&written.log().join("8.out")).unwrap();
    written.store = Some(open_again(&written.log(), ROOMY));
    written.write(Stream::Out, b"\nlast\n");
    assert_eq!(text(lines(&written.log()).last().unwrap()), "last");
}
