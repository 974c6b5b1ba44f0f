//! What units' process trees use, read from `/proc` when somebody asks and never otherwise.

use envctl_actors::process::identity::Stat;
use envctl_actors::process::listener::session_members;

use crate::control::view::ProjectView;

/// Fills in cpu time and memory of every unit that runs.
pub(crate) fn measure(mut projects: Vec<ProjectView>) -> Vec<ProjectView> {
    let (tick, page) = (millis_per_tick(), page_bytes());
    for unit in projects.iter_mut().flat_map(|project| &mut project.units) {
        let Some(pid) = unit.pid else { continue };
        let members: Vec<Stat> = session_members(pid).into_iter().filter_map(Stat::read).collect();
        unit.cpu_ms = Some(members.iter().map(|stat| stat.cpu_ticks).sum::<u64>() * tick);
        unit.memory = Some(members.iter().map(|stat| stat.resident_pages).sum::<u64>() * page);
    }
    projects
}

fn millis_per_tick() -> u64 {
    const TICKS_PER_SECOND_DEFAULT: u64 = 100;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    1000 / ticks.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(TICKS_PER_SECOND_DEFAULT).max(1)
}

fn page_bytes() -> u64 {
    const PAGE_DEFAULT: u64 = 4096;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| u64::try_from(page).ok()).unwrap_or(PAGE_DEFAULT)
}
