//! Compression: exact, readable by others, and harmless at every moment it may be killed at.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::log_stream::layout::{self, Part};
use crate::log_stream::packed::MEMBER_BYTES;
use crate::log_stream::press::press;
use crate::log_stream::pump::Tuning;
use crate::log_stream::{Position, bytes_on_disk};

/// Long enough for a loaded machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
/// Three members and a bit.
const SEGMENTS: Limits = Limits { compress: true, ..limits(3 << 20, 1 << 30) };
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Two closed segments and the beginning of a third.
fn sample() -> (Written, [Vec<u8>; 2]) {
    let mut written = Written::new(SEGMENTS);
    let mut bytes = [Vec::new(), Vec::new()];
    let mut random = fastrand::Rng::with_seed(4);
    let mut n = 0;
    while written.store().bytes() < 6_500_000 {
        let stream = Stream::BOTH[usize::from(random.u8(..).is_multiple_of(4))];
        let length = random.usize(..400);
        let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(length).collect();
        let line = format!("{n} {noise} {}\n", "x".repeat(random.usize(..4000)));
        written.write(stream, line.as_bytes());
        bytes[stream.index()].extend_from_slice(line.as_bytes());
        n += 1;
    }
    assert!(written.log().join("3.idx").exists(), "nothing is closed: nothing is tested");
    (written, bytes)
}

#[track_caller]
fn check_whole(log: &Path, bytes: &[Vec<u8>; 2], case: &str) {
    let found = lines(log);
    for stream in Stream::BOTH {
        assert!(reassemble(&found, stream) == bytes[stream.index()], "{case}: {stream:?} differs");
    }
}

#[expect(clippy::disallowed_methods, reason = "a foreign program judges our files")]
fn gzip(arguments: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new("gzip").args(arguments).arg(file).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "gzip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn e07_a_compressed_segment_is_a_gzip_file_and_has_the_exact_bytes() {
    let (mut written, bytes) = sample();
    let plain = std::fs::read(written.log().join("1.out")).unwrap();
    let before = bytes_on_disk(&written.log()).unwrap();
    for number in [1, 2] {
        assert_eq!(written.store().unpacked(), Some(number));
        let told = press(&written.log(), number, &GO_ON).unwrap();
        written.store().note_packed(number, Some(told));
    }
    assert_eq!(written.store().unpacked(), None, "the newest is left alone");
    assert!(!written.log().join("1.out").exists() && !written.log().join("2.err").exists());
    let packed = written.log().join("1.out.gz");
    gzip(&["-t"], &packed);
    assert!(gzip(&["-dc"], &packed) == plain);
    check_whole(&written.log(), &bytes, "compressed");
    let after = bytes_on_disk(&written.log()).unwrap();
    assert!(after < before / 2, "{after} of {before} bytes");
    assert_eq!(written.store().bytes(), after);
    written.reopen(SEGMENTS);
    assert_eq!((written.store().bytes(), written.store().unpacked()), (after, None));
    check_whole(&written.log(), &bytes, "opened again");
    written.write(Stream::Out, b"on\n");
    assert_eq!(text(lines(&written.log()).last().unwrap()), "on");
}

#[test]
fn any_place_of_a_compressed_segment_is_found_without_what_is_before_it() {
    let (written, _) = sample();
    let plain = std::fs::read(written.log().join("1.out")).unwrap();
    press(&written.log(), 1, &GO_ON).unwrap();
    let mut data = crate::log_stream::data::Data::open(&written.log(), 1, Stream::Out).unwrap().unwrap();
    assert_eq!(data.len().unwrap(), plain.len() as u64);
    let member = usize::try_from(MEMBER_BYTES).unwrap();
    for (from, length) in
        [(0, 10), (member - 5, 10), (2 * member, 1), (7, 2 * member), (plain.len() - 3, 10), (plain.len(), 5)]
    {
        let mut buffer = vec![0; length];
        let got = data.read_at(&mut buffer, from as u64).unwrap();
        let expect = &plain[from.min(plain.len())..plain.len().min(from + length)];
        assert!(&buffer[..got] == expect, "{length} bytes at {from}");
    }
}

#[test]
fn readers_go_on_where_they_were_when_a_segment_is_compressed_under_them() {
    let (written, bytes) = sample();
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    let mut found: Vec<Line> = (0..50).filter_map(|_| follower.next().unwrap()).filter_map(line_of).collect();
    let position = follower.position();
    for number in [1, 2] {
        press(&written.log(), number, &GO_ON).unwrap();
    }
    found.extend(std::iter::from_fn(|| follower.next().unwrap()).filter_map(line_of));
    for stream in Stream::BOTH {
        assert!(reassemble(&found, stream) == bytes[stream.index()], "{stream:?} differs");
    }
    let mut again = written.reader().follow(Position::Sequence(position), Query::default()).unwrap();
    assert!(again.next().unwrap().is_some());
    let tail: Vec<_> =
        written.reader().tail(1000, Query::default()).unwrap().into_lines().map(Result::unwrap).collect();
    assert_eq!(tail.into_iter().filter_map(line_of).count(), 1000);
}

#[test]
fn a_damaged_compressed_segment_is_told_as_a_hole_and_the_rest_is_read() {
    let (written, _) = sample();
    press(&written.log(), 1, &GO_ON).unwrap();
    let packed = written.log().join("1.out.gz");
    let whole = std::fs::read(&packed).unwrap();
    for (at, case) in [(whole.len() / 2, "a member"), (20, "the table"), (0, "the header")] {
        let mut raw = whole.clone();
        raw[at] ^= 0xff;
        let file = File::options().write(true).truncate(true).open(&packed).unwrap();
        (&file).write_all(&raw).unwrap();
        let told = entries(&written.log());
        assert!(told.iter().any(|entry| matches!(entry, Entry::Skipped { .. })), "{case}");
        let last = told.into_iter().filter_map(line_of).next_back().unwrap();
        assert!(last.bytes.len() > 1, "{case}");
    }
}

#[test]
fn a_press_that_is_told_to_leave_off_leaves_nothing() {
    let (written, bytes) = sample();
    let error = press(&written.log(), 1, &AtomicBool::new(true)).unwrap_err();
    assert!(error.to_string().contains("left off"), "{error}");
    let left = std::fs::read_dir(written.log()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left.filter(|name| name.contains("gz") || name.ends_with("tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
    check_whole(&written.log(), &bytes, "left off");
}

#[test]
fn a_segment_that_is_deleted_while_it_is_compressed_stays_deleted() {
    let (mut written, _) = sample();
    // What the pump does between the reading and the rename.
    std::fs::remove_file(written.log().join("1.idx")).unwrap();
    press(&written.log(), 1, &GO_ON).unwrap();
    assert!(!written.log().join("1.out.gz").exists());
    assert!(press(&written.log(), 9, &GO_ON).is_ok(), "nothing is there: nothing to do");
    written.reopen(SEGMENTS);
    assert!(!layout::path(&written.log(), 1, Part::Data(Stream::Err)).exists());
}

#[test]
fn e08_what_a_killed_compression_leaves_is_finished_or_undone() {
    // Killed before the rename.
    let (mut written, bytes) = sample();
    std::fs::copy(written.log().join("1.out"), written.log().join("1.out.0123.tmp")).unwrap();
    written.reopen(SEGMENTS);
    assert!(!written.log().join("1.out.0123.tmp").exists());
    check_whole(&written.log(), &bytes, "before the rename");
    // Killed between the rename and the removal.
    let plain = std::fs::read(written.log().join("1.out")).unwrap();
    press(&written.log(), 1, &GO_ON).unwrap();
    let put_back = |content: &[u8]| File::create(written.log().join("1.out")).unwrap().write_all(content).unwrap();
    put_back(&plain);
    check_whole(&written.log(), &bytes, "after the rename");
    written.reopen(SEGMENTS);
    assert!(!written.log().join("1.out").exists(), "the plain file is there twice");
    check_whole(&written.log(), &bytes, "finished");
    // A compressed file that has not all of it (a power failure) goes instead.
    File::create(written.log().join("1.out")).unwrap().write_all(&plain).unwrap();
    let packed = written.log().join("1.out.gz");
    File::options().write(true).open(&packed).unwrap().set_len(0).unwrap();
    written.reopen(SEGMENTS);
    assert!(!packed.exists());
    check_whole(&written.log(), &bytes, "undone");
}

#[test]
fn e08_a_compressed_segment_without_a_successor_is_never_written_again() {
    let (mut written, bytes) = sample();
    let length = |name: &str| usize::try_from(std::fs::metadata(written.log().join(name)).unwrap().len()).unwrap();
    let kept = length("1.out") + length("2.out");
    press(&written.log(), 2, &GO_ON).unwrap();
    written.store = None;
    for ending in ["idx", "out", "err"] {
        drop(std::fs::remove_file(written.log().join(format!("3.{ending}"))));
    }
    written.store = Some(open_again(&written.log(), SEGMENTS));
    written.write(Stream::Out, b"on\n");
    let found = reassemble(&lines(&written.log()), Stream::Out);
    assert!(found == [&bytes[0][..kept], b"on\n"].concat(), "{} bytes, {kept} kept", found.len());
}

#[test]
fn a_quiet_stream_is_compressed_by_the_pump() {
    let dir = tempfile::tempdir().unwrap();
    let ((our_out, out), (our_err, _err)) = (fifo(dir.path(), "out"), fifo(dir.path(), "err"));
    let pump = Pump::start_with(Tuning { quiet: Duration::from_millis(50), ..Tuning::default() }).unwrap();
    let (handle, id, log) = (pump.handle(), pump.handle().new_id(), dir.path().join("log"));
    let store = Store::open(&log, Limits { compress: true, ..limits(1 << 20, 1 << 30) }).unwrap();
    handle.add(id, Sources { out: our_out, err: our_err }, store).unwrap();
    let mut expect = Vec::new();
    for n in 0..40_000 {
        expect.extend_from_slice(format!("line {n} {}\n", "x".repeat(n % 100)).as_bytes());
    }
    (&out).write_all(&expect).unwrap();
    handle.drain(id).unwrap().blocking_recv().unwrap();
    let mut length = handle.length(id).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let plain_left = || (1..=2).any(|number| log.join(format!("{number}.out")).exists());
    runtime.block_on(async {
        while plain_left() {
            tokio::time::timeout(DEADLINE, length.changed()).await.expect("a compressed segment").unwrap();
        }
    });
    let found = lines(&log);
    assert!(reassemble(&found, Stream::Out) == expect);
    pump.stop();
    assert!(lines(&log).len() == 40_000);
}
