//! From the limits that were asked for to what this machine can hold: a cgroup where one can be made, else the nearest
//! limit of each process, else a line that says so. And heart's own limit of open files, which is nobody else's.

use std::io;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::wire::{Hold, LimitsOrder, Order, Rlimit, StubOrder};
use crate::process::cgroup::place::Controller;
use crate::process::cgroup::{Cgroup, Cgroups, Made};
use crate::process::sys::child;

/// Open files that a daemon has room for from the start: five for each of more than a thousand units, in 64 KiB of the kernel's.
const ROOM: u64 = 8192;

/// What is done for an order that has limits.
#[derive(Debug, Default)]
pub struct Arranged {
    /// What the exec stub does.
    pub stub: Option<StubOrder>,
    /// The cgroup that was made for it.
    pub cgroup: Option<Cgroup>,
    /// What the daemon is told.
    pub hold: Option<Hold>,
}

/// Heart's soft limit of open files: raised for itself, as it was for units.
///
/// Heart holds three descriptors of each unit, and a common soft limit is 1024. Units must not see the raised one: select(2)
/// cannot handle more, and some programs close every possible descriptor when they start.
#[derive(Debug)]
pub struct OpenFiles {
    units: u64,
}

/// Makes the cgroup if the order has limits that need one, and completes what the stub is told.
pub fn arrange(order: &Order, cgroups: &mut Cgroups) -> Arranged {
    let Some(limits) = &order.limits else {
        return Arranged { stub: order.stub.clone(), ..Arranged::default() };
    };
    let made = cgroups.make(limits, &order.tag);
    let mut stub = order.stub.clone().unwrap_or_default();
    let missing = complete(&mut stub, limits, &made);
    let cgroup = made.cgroup.as_ref().and_then(|cgroup| cgroup.dir().to_str()).map(str::to_owned);
    stub.cgroup.clone_from(&cgroup);
    let hold = Some(Hold { cgroup, missing, oom: false });
    let stub = (stub != StubOrder::default()).then_some(stub);
    Arranged { stub, cgroup: made.cgroup, hold }
}

/// Adds what a process's own limits can do where no cgroup holds; gives a line for each limit that is less than asked for.
fn complete(stub: &mut StubOrder, limits: &LimitsOrder, made: &Made) -> Vec<String> {
    let mut missing = Vec::new();
    let why = &made.why;
    let held = |controller| made.held.contains(&controller);
    if let Some(bytes) = limits.memory.filter(|_| !held(Controller::Memory)) {
        stub.rlimits.push(rlimit(nix::libc::RLIMIT_AS, bytes, "limits.memory"));
        missing.push(format!(
            "limits.memory holds the address space of each process (RLIMIT_AS), not the memory of the unit: {why}"
        ));
    }
    if limits.cpu_milli.is_some() && !held(Controller::Cpu) {
        missing.push(format!("limits.cpu is not in force: {why}"));
    }
    if let Some(count) = limits.processes.filter(|_| !held(Controller::Pids)) {
        // RLIMIT_NPROC counts everything its user runs, a desktop included: it says something of the unit only where the
        // unit has a user of its own.
        if stub.user.is_some_and(|(uid, _)| uid != 0) {
            stub.rlimits.push(rlimit(nix::libc::RLIMIT_NPROC, count, "limits.processes"));
            missing.push(format!(
                "limits.processes counts all processes of its user (RLIMIT_NPROC), not those of the unit: {why}"
            ));
        } else {
            missing.push(format!("limits.processes is not in force: {why}"));
        }
    }
    missing
}

fn rlimit(resource: u32, value: u64, name: &str) -> Rlimit {
    Rlimit { resource, value, name: name.to_owned() }
}

// === impl OpenFiles ===

impl OpenFiles {
    /// Raises our soft limit to the hard one.
    pub fn raise() -> io::Result<Self> {
        let (units, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(Self { units })
    }

    /// Has the kernel make room for [`ROOM`] open files at once, or for as many as there may be. For a program that has no second
    /// thread yet.
    ///
    /// The table of a program with threads is made larger only when no other processor can be looking at it any more, which
    /// takes the kernel 5 to 12 ms, at 64, 128, 256 … files: a start of a hundred services stood still for 40 ms.
    pub fn make_room() -> io::Result<()> {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let last = i32::try_from(soft.min(ROOM).saturating_sub(1)).unwrap_or(i32::MAX);
        let copy = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(last))?;
        // The room stays when the file in it is closed.
        drop(child::inherited(copy));
        Ok(())
    }

    /// The soft limit of units: as it was before it was raised.
    pub fn of_units(&self) -> u64 {
        self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: LimitsOrder = LimitsOrder { memory: Some(4096), cpu_milli: Some(500), processes: Some(9) };

    fn made(held: &[Controller]) -> Made {
        Made { cgroup: None, held: held.to_vec(), why: "no cgroup v2 delegation".to_owned() }
    }

    #[test]
    fn room_for_open_files_is_made_at_once_and_stays() {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        OpenFiles::make_room().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse::<u64>().ok()).unwrap();
        assert!(size >= soft.min(ROOM), "room for {size}");
    }

    #[test]
    fn what_a_cgroup_holds_needs_nothing_else() {
        let mut stub = StubOrder::default();
        let all = made(&[Controller::Memory, Controller::Cpu, Controller::Pids]);
        assert!(complete(&mut stub, &ALL, &all).is_empty());
        assert_eq!(stub, StubOrder::default());
    }

    #[test]
    fn without_a_cgroup_the_nearest_limit_is_set_and_every_difference_is_told() {
        let mut stub = StubOrder::default();
        let missing = complete(&mut stub, &ALL, &made(&[]));
        assert_eq!(stub.rlimits, [rlimit(nix::libc::RLIMIT_AS, 4096, "limits.memory")]);
        let [memory, cpu, processes] = &missing[..] else { panic!("{missing:?}") };
        assert!(memory.contains("RLIMIT_AS"), "{memory}");
        assert_eq!(cpu, "limits.cpu is not in force: no cgroup v2 delegation");
        assert_eq!(processes, "limits.processes is not in force: no cgroup v2 delegation");
    }

    #[test]
    fn a_user_of_its_own_makes_a_count_of_processes_possible() {
        let mut stub = StubOrder { user: Some((33, 33)), ..StubOrder::default() };
        let missing = complete(&mut stub, &ALL, &made(&[Controller::Memory, Controller::Cpu]));
        assert_eq!(stub.rlimits, [rlimit(nix::libc::RLIMIT_NPROC, 9, "limits.processes")]);
        assert!(missing[0].contains("RLIMIT_NPROC"), "{missing:?}");
    }
}
