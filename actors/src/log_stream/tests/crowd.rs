//! Several units at full speed: a second thread helps, and nobody can tell by the logs which thread has stored what.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::log_stream::pump::Tuning;

/// Long enough for a loaded machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
const UNITS: usize = 5;
/// In a hurry: a crowd after a few rounds, quiet after a moment.
const HASTY: Tuning = Tuning { quiet: Duration::from_millis(50), crowded_bytes: 1 << 20, threads_max: Some(2) };

/// A pump with several streams.
struct Crowd {
    dir: TempDir,
    pump: Pump,
    handle: PumpHandle,
    units: Vec<Unit>,
}

/// One of them. Its writing end is held open as a unit's process would.
struct Unit {
    id: LogStreamId,
    out: File,
    _err: File,
}

// === impl Crowd ===

impl Crowd {
    fn new(tuning: Tuning) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pump = Pump::start_with(tuning).unwrap();
        let handle = pump.handle();
        let units = (0..UNITS).map(|n| Unit::new(&dir.path().join(n.to_string()), &handle)).collect();
        Self { dir, pump, handle, units }
    }

    fn log(&self, unit: usize) -> PathBuf {
        self.dir.path().join(unit.to_string())
    }

    /// All write numbered lines until `look` has seen what it waits for; returns how many each has written.
    fn write_until(&self, look: impl FnOnce()) -> Vec<u32> {
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let spew = |unit| numbers(unit, &enough);
            let writers: Vec<_> = self.units.iter().map(|unit| scope.spawn(move || spew(unit))).collect();
            let ended = Ended(&enough);
            look();
            drop(ended);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        })
    }

    fn drain(&self) {
        for unit in &self.units {
            self.handle.drain(unit.id).unwrap().blocking_recv().unwrap();
        }
    }

    #[track_caller]
    fn check(&self, written: &[u32]) {
        for (unit, &count) in written.iter().enumerate() {
            check_numbers(&self.log(unit), count);
        }
    }
}

/// Writers end also when a test fails meanwhile.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Unit ===

impl Unit {
    fn new(log: &Path, pump: &PumpHandle) -> Self {
        std::fs::create_dir(log).unwrap();
        let ((our_out, out), (our_err, err)) = (fifo(log, "fifo.out"), fifo(log, "fifo.err"));
        let id = pump.new_id();
        // Rotated often, and nothing goes.
        let store = Store::open(log, limits(4 << 20, 1 << 40)).unwrap();
        pump.add(id, Sources { out: our_out, err: our_err }, store).unwrap();
        Self { id, out, _err: err }
    }
}

/// Writes numbered lines, a full pipe at a time.
fn numbers(unit: &Unit, enough: &AtomicBool) -> u32 {
    let mut next = 0;
    while !enough.load(Ordering::Relaxed) {
        let text: String = (next..next + 800).map(|n| format!("{n:099}\n")).collect();
        (&unit.out).write_all(text.as_bytes()).unwrap();
        next += 800;
    }
    next
}

/// Every number once and in order.
#[track_caller]
fn check_numbers(log: &Path, count: u32) {
    let mut follower = Reader::open(log).follow(crate::log_stream::Position::Start, Query::default()).unwrap();
    let mut next = 0;
    while let Some(entry) = follower.next().unwrap() {
        let Some(line) = line_of(entry) else { continue };
        assert_eq!(text(&line), format!("{next:099}"), "in {}", log.display());
        next += 1;
    }
    assert_eq!(next, count, "lines in {}", log.display());
}

#[track_caller]
fn wait_for(threads: &mut watch::Receiver<usize>, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let come = async { tokio::time::timeout(DEADLINE, threads.wait_for(|threads| *threads == count)).await.is_ok() };
    assert!(runtime.block_on(come), "there are not {count} threads");
}

#[test]
fn a_crowd_gets_a_second_thread_that_ends_when_all_is_quiet() {
    let crowd = Crowd::new(HASTY);
    let mut threads = crowd.handle.threads();
    let written = crowd.write_until(|| wait_for(&mut threads, 2));
    crowd.drain();
    crowd.check(&written);
    wait_for(&mut threads, 1);
    // And once more.
    let again = crowd.write_until(|| wait_for(&mut threads, 2));
    crowd.drain();
    assert!(again.iter().all(|&count| count > 0));
    wait_for(&mut threads, 1);
}

#[test]
fn one_unit_alone_is_stored_by_one_thread_however_fast_it_is() {
    let crowd = Crowd::new(HASTY);
    let threads = crowd.handle.threads();
    for _ in 0..64 {
        (&crowd.units[0].out).write_all(&vec![b'\n'; 1 << 20]).unwrap();
    }
    crowd.drain();
    assert!(!threads.has_changed().unwrap(), "a second thread was there");
}

#[test]
fn where_only_one_can_run_there_is_only_one_thread() {
    let crowd = Crowd::new(Tuning { threads_max: Some(1), ..HASTY });
    let threads = crowd.handle.threads();
    let mut length = crowd.handle.length(crowd.units[0].id).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let much =
        async { tokio::time::timeout(DEADLINE, length.wait_for(|length| length.bytes > 32 << 20)).await.is_ok() };
    let written = crowd.write_until(|| assert!(runtime.block_on(much)));
    crowd.drain();
    crowd.check(&written);
    assert!(!threads.has_changed().unwrap(), "a second thread was there");
}

/// Lives begin and end while streams go from thread to thread and back: orders find them, and none overtakes the bytes before it.
#[test]
fn e10_a_life_has_its_own_words_whichever_thread_stores_them() {
    const LIVES: u32 = 60;
    let crowd = Crowd::new(HASTY);
    let threads = crowd.handle.threads();
    thread::scope(|scope| {
        for unit in &crowd.units {
            scope.spawn(|| (1..=LIVES).for_each(|incarnation| live(&crowd.handle, unit, incarnation)));
        }
    });
    assert!(threads.has_changed().unwrap(), "there was one thread all the time: nothing is tested");
    for unit in 0..UNITS {
        let mut of_life = vec![0; LIVES as usize + 1];
        for line in lines(&crowd.log(unit)) {
            assert_eq!(text(&line).trim_start_matches('0'), line.life.incarnation.to_string());
            of_life[line.life.incarnation as usize] += 1;
        }
        assert_eq!(of_life[1..], [WORDS; LIVES as usize], "of unit {unit}");
    }
}

const WORDS: usize = 6000;

fn live(pump: &PumpHandle, unit: &Unit, incarnation: u32) {
    pump.life(unit.id, Life { run: 1, incarnation }).unwrap().blocking_recv().unwrap();
    let words = format!("{incarnation:099}\n").repeat(WORDS);
    (&unit.out).write_all(words.as_bytes()).unwrap();
    pump.drain(unit.id).unwrap().blocking_recv().unwrap();
}

#[test]
fn what_the_second_thread_has_is_cleared_and_removed_like_all_else() {
    let crowd = Crowd::new(Tuning { quiet: DEADLINE, ..HASTY });
    let mut threads = crowd.handle.threads();
    let written = crowd.write_until(|| {
        wait_for(&mut threads, 2);
        for unit in &crowd.units[..2] {
            assert!(crowd.handle.clear(unit.id).unwrap().blocking_recv().unwrap().unwrap() > 0);
        }
    });
    for unit in &crowd.units {
        crowd.handle.remove(unit.id).unwrap().blocking_recv().unwrap();
    }
    for (unit, &count) in written.iter().enumerate().skip(2) {
        check_numbers(&crowd.log(unit), count);
    }
    // Nothing is left to be looked after.
    wait_for(&mut threads, 1);
}

#[test]
fn a_pump_that_stops_or_halts_has_stored_what_both_threads_had() {
    for halted in [false, true] {
        let crowd = Crowd::new(Tuning { quiet: DEADLINE, ..HASTY });
        let mut threads = crowd.handle.threads();
        let written = crowd.write_until(|| wait_for(&mut threads, 2));
        if halted {
            crowd.handle.halt().unwrap().blocking_recv().unwrap();
            crowd.check(&written);
        } else {
            let Crowd { dir, pump, handle: _handle, units } = crowd;
            pump.stop();
            for (unit, &count) in written.iter().enumerate() {
                check_numbers(&dir.path().join(unit.to_string()), count);
            }
            drop(units);
        }
    }
}
