//! What units use: cpu time and memory of their whole process trees, from one look at `/proc` for all units asked about.
//!
//! A process counts for a unit if one of these holds:
//! - it is the unit's leader, or descends from one that counts (the chain of parents);
//! - it is in the session or the group of one that counts: no process can enter a session it was not born in (setsid(2),
//!   setpgid(2)), so a session made anywhere below a unit is the unit's for ever;
//! - it is an orphan that heart has adopted, and its environment carries the unit's envelope. Environments are read of
//!   heart's own children only, after everything cheaper: there are few of them, while reading every environment of the
//!   machine takes many times as long as the rest of the look.
//!
//! Cpu time is what the counted have used themselves and what their children had used that ended and were waited for;
//! a zombie still tells its own. Only what an orphan used that ended is lost: heart reaps it, and the kernel adds its time to
//! heart's. Memory is resident memory (RSS), summed: a page that several processes share counts in each of them. The
//! proportional share (PSS) would divide it, but makes the kernel walk every page table under the lock of its process.
//!
//! It blocks, so callers on a runtime use a blocking task. Nothing here runs by itself, remembers, signals or decides.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use super::identity::Stat;

/// The variable that carries the envelope.
const ENVELOPE_VARIABLE: &[u8] = b"ENVCTL_RT_VARS=";
/// Orphans whose environment is read in one look, at some 20 µs each. A unit that leaves more shows less than it uses.
const ORPHANS_READ_MAX: usize = 256;
/// Longest line of `/proc/PID/stat`: 52 numbers of at most 20 digits, and a name.
const STAT_LINE_MAX_BYTES: usize = 2048;
/// What nearly every Linux has, should sysconf(3) not tell.
const TICKS_PER_SECOND_DEFAULT: u64 = 100;
/// As before.
const PAGE_BYTES_DEFAULT: u64 = 4096;

/// Says which of the asked leaders (by its place) an envelope belongs to, given the variable's value.
pub type EnvelopeOwner = Box<dyn Fn(&[u8]) -> Option<usize> + Send>;

/// Whose use is asked for.
pub struct Asked {
    /// Main processes of units, each the leader of its own session.
    pub leaders: Vec<u32>,
    /// The process that adopts their orphans.
    pub heart: Option<u32>,
    /// Knows whose an orphan is.
    pub owner: EnvelopeOwner,
}

/// What one unit's processes use at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, user and system, since the leader began.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// How long the leader has lived, suspended time included.
    pub age: Duration,
}

/// A process as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    stat: Stat,
    /// Time used by children that have ended and were waited for, in clock ticks.
    reaped_ticks: u64,
}

/// Who counts for whom, by place in [`Asked::leaders`].
#[derive(Debug, Default)]
struct Claims {
    processes: HashMap<u32, usize>,
    /// Sessions and groups that are a unit's.
    circles: HashMap<u32, usize>,
    /// Those that never are: the daemon's and heart's own, and 0, which stands for one outside this pid namespace.
    foreign: HashSet<u32>,
}

/// In what the kernel counts.
#[derive(Debug, Clone, Copy)]
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
}

/// Looks once. The answers stand in the order of the leaders; `None`: that leader is gone.
pub fn measure(asked: &Asked) -> Vec<Option<Usage>> {
    if asked.leaders.is_empty() {
        return Vec::new();
    }
    // Before the processes, so that none of them seems to begin in the future.
    let uptime = uptime();
    let seen = look();
    let claims = Claims::of(asked, &seen, envelope_of);
    sum(&asked.leaders, &seen, &claims, uptime)
}

// === impl Asked ===

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("leaders", &self.leaders).field("heart", &self.heart).finish_non_exhaustive()
    }
}

// === impl Claims ===

impl Claims {
    /// Everything that counts. `envelope` reads a process's envelope.
    fn of(asked: &Asked, seen: &[Seen], envelope: impl Fn(u32) -> Option<Vec<u8>>) -> Self {
        let mut claims = Self::foreign_to(asked.heart, seen);
        claims.take_leaders(&asked.leaders, seen);
        claims.spread(seen);
        if claims.take_orphans(asked, seen, envelope) {
            claims.spread(seen);
        }
        claims
    }

    fn foreign_to(heart: Option<u32>, seen: &[Seen]) -> Self {
        let ours = [Some(std::process::id()), heart];
        let own = seen.iter().filter(|seen| ours.contains(&Some(seen.stat.pid)));
        let foreign = own.flat_map(|seen| [seen.stat.pid, seen.stat.session, seen.stat.group]).chain([0]).collect();
        Self { foreign, ..Self::default() }
    }

    /// A process that does not lead its session is another one that got a leader's number.
    fn take_leaders(&mut self, leaders: &[u32], seen: &[Seen]) {
        let places: HashMap<u32, usize> = leaders.iter().enumerate().map(|(place, pid)| (*pid, place)).collect();
        for Seen { stat, .. } in seen.iter().filter(|seen| seen.stat.session == seen.stat.pid) {
            if let Some(place) = places.get(&stat.pid) {
                self.add(stat, *place);
            }
        }
    }

    fn add(&mut self, stat: &Stat, place: usize) {
        self.processes.insert(stat.pid, place);
        for circle in [stat.session, stat.group] {
            if !self.foreign.contains(&circle) {
                self.circles.entry(circle).or_insert(place);
            }
        }
    }

    /// Adds children and members of circles until there are no more. Parents mostly stand before their children, so two
    /// rounds are usual; every round but the last adds a process.
    fn spread(&mut self, seen: &[Seen]) {
        loop {
            let before = self.processes.len();
            for Seen { stat, .. } in seen {
                if self.processes.contains_key(&stat.pid) || self.foreign.contains(&stat.pid) {
                    continue;
                }
                let parents = self.processes.get(&stat.parent);
                let circles = || self.circles.get(&stat.session).or_else(|| self.circles.get(&stat.group));
                if let Some(place) = parents.or_else(circles).copied() {
                    self.add(stat, place);
                }
            }
            if self.processes.len() == before {
                return;
            }
        }
    }

    /// Adds heart's children that carry a unit's envelope. Says whether there were any.
    fn take_orphans(&mut self, asked: &Asked, seen: &[Seen], envelope: impl Fn(u32) -> Option<Vec<u8>>) -> bool {
        let Some(heart) = asked.heart else { return false };
        let strange = |Seen { stat, .. }: &&Seen| {
            let known = self.processes.contains_key(&stat.pid) || self.foreign.contains(&stat.pid);
            stat.parent == heart && stat.is_alive() && !known
        };
        let orphans: Vec<Stat> = seen.iter().filter(strange).take(ORPHANS_READ_MAX).map(|seen| seen.stat).collect();
        let before = self.processes.len();
        for orphan in orphans {
            if let Some(place) = envelope(orphan.pid).and_then(|value| (asked.owner)(&value)) {
                self.add(&orphan, place);
            }
        }
        self.processes.len() > before
    }
}

fn sum(leaders: &[u32], seen: &[Seen], claims: &Claims, uptime: Duration) -> Vec<Option<Usage>> {
    let units = Units::read();
    let mut usages: Vec<Usage> =
        vec![Usage { cpu: Duration::ZERO, memory_bytes: 0, age: Duration::ZERO }; leaders.len()];
    let mut found = vec![false; leaders.len()];
    for Seen { stat, reaped_ticks } in seen {
        let Some(place) = claims.processes.get(&stat.pid).copied() else { continue };
        let usage = &mut usages[place];
        usage.cpu += units.time(stat.cpu_ticks + reaped_ticks);
        usage.memory_bytes += stat.resident_pages * units.page_bytes;
        if stat.pid == leaders[place] {
            usage.age = uptime.saturating_sub(units.time(stat.start_time));
            found[place] = true;
        }
    }
    usages.into_iter().zip(found).map(|(usage, found)| found.then_some(usage)).collect()
}

// === impl Units ===

impl Units {
    fn read() -> Self {
        let ask = |variable, otherwise| {
            let told = sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
            told.filter(|value| *value > 0).unwrap_or(otherwise)
        };
        Self {
            ticks_per_second: ask(SysconfVar::CLK_TCK, TICKS_PER_SECOND_DEFAULT),
            page_bytes: ask(SysconfVar::PAGE_SIZE, PAGE_BYTES_DEFAULT),
        }
    }

    fn time(self, ticks: u64) -> Duration {
        let (whole, rest) = (ticks / self.ticks_per_second, ticks % self.ticks_per_second);
        Duration::from_secs(whole) + Duration::from_micros(rest * 1_000_000 / self.ticks_per_second)
    }
}

/// Every process there is. One that ends meanwhile is not there.
fn look() -> Vec<Seen> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut line = [0; STAT_LINE_MAX_BYTES];
    pids.filter_map(|pid| read(pid, &mut line)).collect()
}

/// One read gives the whole line (proc_pid_stat(5)); asking for its length and reading up to the end would double the cost.
fn read(pid: u32, line: &mut [u8]) -> Option<Seen> {
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(line).ok()?;
    parse(pid, &line[..length])
}

fn parse(pid: u32, line: &[u8]) -> Option<Seen> {
    let stat = Stat::parse(pid, line)?;
    Some(Seen { stat, reaped_ticks: reaped_ticks(line)? })
}

/// Fields 16 and 17, `cutime` and `cstime`; the first after the name is the third.
fn reaped_ticks(line: &[u8]) -> Option<u64> {
    let rest = &line[memchr::memrchr(b')', line)? + 1..];
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().skip(16 - 3);
    let mut number = || fields.next()?.parse::<u64>().ok();
    Some(number()? + number()?)
}

/// Time since the boot, suspended time included (proc_uptime(5)): the clock that start times are counted on.
fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_ascii_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

fn envelope_of(pid: u32) -> Option<Vec<u8>> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(ENVELOPE_VARIABLE))?;
    Some(entry.to_vec())
}

#[cfg(test)]
mod tests;
