//! A writer killed at each system call that matters of a rotation, a compression and a deletion: whatever the moment, the next one
//! has every byte once.
//!
//! The writer is this test program once more, under `strace`, which kills it at the N-th call of a kind; the FIFO is held open here,
//! as heart holds it. Needs root.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;
use crate::log_stream::press::press;

/// Segments so small that a few thousand lines make several, and rotation is most of the work.
const ROTATING: Limits = Limits { compress: true, ..limits(16 << 10, 1 << 30) };
/// As many as the smallest FIFO holds for sure while nobody reads.
const LINES: u32 = 700;
/// What the writer's directory holds if it is one of ours.
const SUMMONS: &str = "write-here";
/// Calls count for each thread by itself, and a test program's first thread opens and writes a little too: the writer does so more
/// often than that before it begins.
const CALLS_BEFORE: usize = 60;
/// No run makes so many calls of one kind.
const CALLS_MAX: usize = 2000;

fn line(n: u32) -> String {
    format!("line {n} {}\n", "x".repeat(80))
}

/// The writer: empties the FIFO, compressing what it closes, and ends. Does nothing when it is run as an ordinary test.
#[test]
fn writer_under_strace() {
    if !Path::new(SUMMONS).exists() {
        return;
    }
    for _ in 0..CALLS_BEFORE {
        File::options().write(true).open("/dev/null").unwrap().write_all(b"x").unwrap();
    }
    let deleting = std::fs::read(SUMMONS).unwrap() == b"deleting";
    let limits = if deleting { Limits { max_segments: 2, ..ROTATING } } else { ROTATING };
    let fifo = pipe::open_fifo(Path::new("out")).unwrap();
    let mut store = Store::open(Path::new("log"), limits).unwrap();
    store.set_life(Life { run: 1, incarnation: 1 });
    let mut scratch = vec![0; 1 << 16];
    while store.take(Stream::Out, fifo.as_fd(), &mut scratch) != Taken::Empty {
        store.flush();
        while let Some(number) = store.unpacked() {
            let bytes = press(Path::new("log"), number, &AtomicBool::new(false)).unwrap();
            store.note_packed(number, Some(bytes));
        }
    }
}

/// Runs the writer in `dir` to its end; `false`: it was killed.
#[expect(clippy::disallowed_methods, reason = "a writer that is killed must be a process of its own")]
fn run_writer(dir: &Path, kill: Option<(&str, usize)>) -> bool {
    let program = std::env::current_exe().unwrap();
    let mut command = match kill {
        Some((calls, nth)) => {
            let mut command = Command::new("strace");
            let inject = format!("inject={calls}:signal=KILL:when={nth}");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", "log_stream::tests::crash::writer_under_strace", "--test-threads=1"]).current_dir(dir);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    status.success()
}

/// What these tests need and this machine has not.
#[expect(clippy::disallowed_methods, reason = "only the program itself can tell that it is there")]
fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root");
    }
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!strace.is_ok_and(|status| status.success())).then_some("there is no strace")
}

/// Kills a writer at each call of a kind (of one kind alone: `strace` counts each for itself), lets another one take the rest, and looks at what there is.
fn every_call(calls: &str, summons: &str, check: impl Fn(&Path, &str)) {
    if let Some(why) = missing() {
        // Past the test runner's capture: it must not look as if it had run.
        let test = thread::current().name().unwrap_or("a test of crashes").to_owned();
        return writeln!(std::io::stderr(), "NOT RUN: {test}: {why}").unwrap();
    }
    let first = if ["openat", "write"].contains(&calls) { CALLS_BEFORE } else { 1 };
    for nth in first..=CALLS_MAX {
        let dir = tempfile::tempdir().unwrap();
        let (_ours, theirs) = fifo(dir.path(), "out");
        drop(pipe::set_pipe_size(_ours.as_fd(), 1 << 20));
        File::create(dir.path().join(SUMMONS)).unwrap().write_all(summons.as_bytes()).unwrap();
        for n in 0..LINES {
            (&theirs).write_all(line(n).as_bytes()).unwrap();
        }
        let got_through = run_writer(dir.path(), Some((calls, nth)));
        let case = format!("killed at {calls} no. {nth}");
        // Readers need no repair.
        let log = dir.path().join("log");
        let found = lines(&log);
        // In the middle of a line only where what is before it was deleted.
        let torn = found.iter().skip(1).find(|line| !line.partial && !text(line).starts_with("line "));
        assert!(torn.is_none(), "{case}, before the repair: {torn:?} of {:?}", entries(&log).len());
        for n in LINES..LINES + 100 {
            (&theirs).write_all(line(n).as_bytes()).unwrap();
        }
        assert!(run_writer(dir.path(), None), "{case}: the next writer fails");
        check(&log, &case);
        let left = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name.ends_with("tmp")).collect();
        assert!(left.is_empty(), "{case}: {left:?}");
        if got_through {
            return;
        }
    }
    panic!("still {calls} after {CALLS_MAX} of them");
}

/// Every line from the first to the last, once.
fn check_all(log: &Path, case: &str) {
    let all = lines(log);
    // Whose the very first chunk was is told with its record; all others follow from what is before them.
    let of_nobody = all.iter().filter(|line| line.life != Life { run: 1, incarnation: 1 }).count();
    assert!(of_nobody == 0 || all[of_nobody].sequence < 5, "{case}: {of_nobody} lines of nobody");
    let found = reassemble(&all, Stream::Out);
    let expect: String = (0..LINES + 100).map(line).collect();
    assert!(found == expect.as_bytes(), "{case}: {} bytes instead of {}", found.len(), expect.len());
}

/// The newest lines, without a hole up to the last; and what is gone is known to have been all before them.
fn check_newest(log: &Path, case: &str) {
    let found = String::from_utf8(reassemble(&lines(log), Stream::Out)).unwrap();
    let expect: String = (0..LINES + 100).map(line).collect();
    assert!(expect.ends_with(&found), "{case}: {} bytes are not the newest", found.len());
    assert!(found.len() > 8 << 10, "{case}: only {} bytes", found.len());
}

#[test]
fn e08_a_writer_killed_at_each_file_it_opens_loses_and_doubles_nothing() {
    every_call("openat", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_write_of_an_index_loses_and_doubles_nothing() {
    every_call("pwrite64", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_write_of_a_compressed_file_loses_and_doubles_nothing() {
    every_call("write", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_splice_loses_and_doubles_nothing() {
    every_call("splice", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_rename_loses_and_doubles_nothing() {
    every_call("rename", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_fsync_loses_and_doubles_nothing() {
    every_call("fsync", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_removal_loses_and_doubles_nothing() {
    every_call("unlink", "", check_all);
}

#[test]
fn e08_a_writer_killed_at_each_removal_of_what_is_too_much_keeps_the_newest() {
    every_call("unlink", "deleting", check_newest);
}

#[test]
fn e08_a_writer_killed_at_each_write_while_it_deletes_keeps_the_newest() {
    every_call("pwrite64", "deleting", check_newest);
}
