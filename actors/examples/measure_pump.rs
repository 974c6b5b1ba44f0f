//! How fast many units' output is stored at once, beside the plainest thing that could do it: `unit | cat > file`.
//!
//! ```text
//! cargo run --release -p envctl-actors --example measure_pump -- DIR UNITS MIB [ROUNDS]
//! ```
//!
//! Each unit is a process that writes numbered lines of 100 bytes, nearly 64 KiB at a time. Both ways are run by turns, for the machine has
//! other things to do as well; told are MB/s, and the processor time of all that take part. DIR should not be on a disk.
#![expect(clippy::print_stdout, reason = "it tells what it has measured")]
#![expect(clippy::disallowed_methods, reason = "it measures the time that passes, and starts what it measures")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envctl_actors::log_stream::{Limits, LogStreamId, Pump, PumpHandle, Sources, Store};
use envctl_actors::process::sys::pipe;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
const LINE_BYTES: usize = 100;
const WRITE_BYTES: usize = 64 << 10;
const ROUNDS: usize = 5;

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: Duration,
    /// Of this process alone.
    own: Duration,
    /// Of this process and all others.
    all: Duration,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["unit", mib] => unit(mib.parse()?),
        [dir, units, mib] => compare(Path::new(dir), units.parse()?, mib.parse()?, ROUNDS),
        [dir, units, mib, rounds] => compare(Path::new(dir), units.parse()?, mib.parse()?, rounds.parse()?),
        _ => Err("see the top of the source".into()),
    }
}

/// Writes so much to standard output.
fn unit(mib: u64) -> Result<()> {
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let lines = mib * MIB / LINE_BYTES as u64;
    // Only the number is new in each line, for it is not the unit that is to be measured.
    let mut text = [[b'x'; LINE_BYTES]; WRITE_BYTES / LINE_BYTES];
    for first in (0..lines).step_by(text.len()) {
        let count = text.len().min((lines - first) as usize);
        for (line, number) in text[..count].iter_mut().zip(first..) {
            let mut rest = number;
            for digit in line[..10].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            (line[10], line[LINE_BYTES - 1]) = (b' ', b'\n');
        }
        out.write_all(text[..count].as_flattened())?;
    }
    Ok(())
}

fn compare(dir: &Path, units: usize, mib: u64, rounds: usize) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(timed(|| pumped(dir, units, mib))?);
        theirs.push(timed(|| piped(dir, units, mib))?);
    }
    let megabytes = units as f64 * mib as f64 * MIB as f64 / 1e6;
    let speed = |took: &[Took]| megabytes / median(took, |took| took.wall);
    println!("{units} units of {mib} MiB, medians of {rounds}:");
    tell("pump", speed(&ours), &ours);
    tell("cat", speed(&theirs), &theirs);
    let mut ratios: Vec<f64> =
        ours.iter().zip(&theirs).map(|(ours, theirs)| theirs.wall.div_duration_f64(ours.wall)).collect();
    ratios.sort_by(f64::total_cmp);
    println!("ratio {:.2} (each: {ratios:.2?})", ratios[rounds / 2]);
    Ok(())
}

fn tell(what: &str, speed: f64, took: &[Took]) {
    let (own, all) = (median(took, |took| took.own), median(took, |took| took.all));
    println!("{what:>5}: {speed:>5.0} MB/s, {all:.2} s of processor time, {own:.2} s of it in this process");
}

fn median(took: &[Took], of: impl Fn(&Took) -> Duration) -> f64 {
    let mut seconds: Vec<f64> = took.iter().map(|took| of(took).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn timed(run: impl FnOnce() -> Result<Duration>) -> Result<Took> {
    let cpu = |who| -> Result<Duration> { getrusage(who).map(|usage| processor_time(&usage)).map_err(Into::into) };
    let before = (cpu(UsageWho::RUSAGE_SELF)?, cpu(UsageWho::RUSAGE_CHILDREN)?);
    let wall = run()?;
    let own = cpu(UsageWho::RUSAGE_SELF)? - before.0;
    Ok(Took { wall, own, all: own + cpu(UsageWho::RUSAGE_CHILDREN)? - before.1 })
}

fn processor_time(usage: &Usage) -> Duration {
    let duration = |time: TimeVal| Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec() as u32 * 1000);
    duration(usage.user_time()) + duration(usage.system_time())
}

/// Our way: every unit writes into its FIFO, the pump stores it.
fn pumped(dir: &Path, units: usize, mib: u64) -> Result<Duration> {
    let pump = Pump::start()?;
    let streams = (0..units).map(|n| stream(&dir.join(n.to_string()), &pump.handle())).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let children = streams.iter().map(|(_, out)| start(mib, out.try_clone()?.into())).collect::<Result<Vec<_>>>()?;
    wait(children)?;
    for (stream, _) in &streams {
        pump.handle().drain(*stream)?.blocking_recv()?;
    }
    let took = begun.elapsed();
    pump.stop();
    for n in 0..units {
        let log = dir.join(n.to_string());
        let stored = envctl_actors::log_stream::bytes_on_disk(&log)?;
        if stored < mib * MIB / LINE_BYTES as u64 * LINE_BYTES as u64 {
            return Err(format!("{} has only {stored} bytes", log.display()).into());
        }
        fs::remove_dir_all(log)?;
    }
    Ok(took)
}

/// A stream of the pump, and the FIFO that its unit writes into.
fn stream(dir: &Path, pump: &PumpHandle) -> Result<(LogStreamId, File)> {
    fs::create_dir_all(dir)?;
    let open = |name: &str| -> Result<(OwnedFd, File)> {
        let path = dir.join(name);
        pipe::mkfifo(&path)?;
        let ours = pipe::open_fifo(&path)?;
        Ok((ours, OpenOptions::new().write(true).open(&path)?))
    };
    let ((out, unit), (err, _)) = (open("fifo.out")?, open("fifo.err")?);
    let id = pump.new_id();
    // Nothing is deleted meanwhile: the other way deletes nothing either.
    let limits = Limits { compress: false, max_bytes: 1 << 40, max_segments: 100_000, ..Limits::default() };
    pump.add(id, Sources { out, err }, Store::open(dir, limits)?)?;
    Ok((id, unit))
}

/// The other way: a program of its own for every unit.
fn piped(dir: &Path, units: usize, mib: u64) -> Result<Duration> {
    fs::create_dir_all(dir)?;
    let file = |n: usize| dir.join(format!("{n}.cat"));
    let begun = Instant::now();
    let mut children = Vec::new();
    for n in 0..units {
        let mut unit = start(mib, Stdio::piped())?;
        let out = unit.stdout.take().ok_or("a piped process has a pipe")?;
        children.push(Command::new("cat").stdin(out).stdout(File::create(file(n))?).spawn()?);
        children.push(unit);
    }
    wait(children)?;
    let took = begun.elapsed();
    for n in 0..units {
        fs::remove_file(file(n))?;
    }
    Ok(took)
}

fn start(mib: u64, out: Stdio) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args(["unit", &mib.to_string()]).stdin(Stdio::null()).stdout(out).spawn()?)
}

fn wait(children: Vec<Child>) -> Result<()> {
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a process failed".into());
        }
    }
    Ok(())
}
