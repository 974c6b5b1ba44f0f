//! What units use, in words: cpu time, shares of a core between two looks, sizes. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use envctl_runtime::control::view::{ProjectView, UnitView};

use super::span;
use crate::output::progress::seconds;

const KIB: f64 = 1024.0;
/// From here on a size is told without a fraction: its first two digits say enough.
const WHOLE_FROM: f64 = 10.0;

/// Which unit: the directory of its project, and its name.
type Key = (PathBuf, String);

/// How much of one core each unit used between the last two looks, in percent.
#[derive(Debug, Default)]
pub(super) struct Shares {
    last: BTreeMap<Key, Sample>,
    percent: BTreeMap<Key, f64>,
}

/// What was seen of one life of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    pid: u32,
    cpu_ms: u64,
    uptime_ms: u64,
}

// === impl Shares ===

impl Shares {
    /// Takes in what a look has seen.
    pub(super) fn observe(&mut self, projects: &[ProjectView]) {
        let units = projects.iter().flat_map(|project| project.units.iter().map(move |unit| (project, unit)));
        let now: BTreeMap<Key, Sample> =
            units.filter_map(|(project, unit)| Some((key(project, unit), Sample::of(unit)?))).collect();
        let percent = now.iter().filter_map(|(key, sample)| {
            let before = self.last.get(key).copied();
            Some((key.clone(), sample.percent_since(before)?))
        });
        self.percent = percent.collect();
        self.last = now;
    }

    /// A unit's share; `None` where it was not measured, as with a unit that does not run.
    pub(super) fn of(&self, project: &ProjectView, unit: &UnitView) -> Option<String> {
        let key = key(project, unit);
        // A life that began after the look has no share yet, and its predecessor's is not its own.
        let measured = self.last.get(&key).is_some_and(|sample| Some(sample.pid) == unit.pid);
        self.percent.get(&key).filter(|_| measured).map(|percent| format!("{percent:.1}%"))
    }
}

// === impl Sample ===

impl Sample {
    fn of(unit: &UnitView) -> Option<Self> {
        Some(Self { pid: unit.pid?, cpu_ms: unit.cpu_ms?, uptime_ms: unit.uptime_ms? })
    }

    /// The ages tell how much time lies between two looks better than a clock on this side of the socket. A life that was
    /// not seen before is measured from its beginning.
    fn percent_since(self, before: Option<Self>) -> Option<f64> {
        let before = before.filter(|before| before.pid == self.pid && before.uptime_ms <= self.uptime_ms);
        let (cpu_ms, uptime_ms) = before.map_or((0, 0), |before| (before.cpu_ms, before.uptime_ms));
        let elapsed = self.uptime_ms - uptime_ms;
        // Less than before: an orphan ended and took its time along.
        (elapsed > 0).then(|| 100.0 * self.cpu_ms.saturating_sub(cpu_ms) as f64 / elapsed as f64)
    }
}

fn key(project: &ProjectView, unit: &UnitView) -> Key {
    (project.root.clone(), unit.name.clone())
}

/// `0.3s`, `12.0s`, `3m05s`, `2h07m`.
pub(super) fn cpu_time(ms: u64) -> String {
    match ms / 1000 {
        0..60 => seconds(Duration::from_millis(ms)),
        whole => span(whole),
    }
}

/// `640K`, `2.4M`, `84M`, `1.2G`.
pub(crate) fn size(bytes: u64) -> String {
    let mut size = bytes as f64 / KIB;
    let mut units = ["K", "M", "G"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded to 1024 is one of the next unit.
    while size >= KIB - 0.5
        && let Some(larger) = units.next()
    {
        (size, unit) = (size / KIB, larger);
    }
    if unit != "K" && size < WHOLE_FROM - 0.05 { format!("{size:.1}{unit}") } else { format!("{size:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use envctl_runtime::control::view::{ProjectState, UnitState};

    use super::*;
    use crate::output::progress::tests::unit;

    fn project(units: Vec<UnitView>) -> ProjectView {
        let (state, cause, caused_by) = (ProjectState::Up, None, None);
        ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by }
    }

    fn running(pid: u32, cpu_ms: u64, uptime_ms: u64) -> UnitView {
        let (cpu_ms, uptime_ms) = (Some(cpu_ms), Some(uptime_ms));
        UnitView { pid: Some(pid), cpu_ms, uptime_ms, ..unit("api", UnitState::Ready) }
    }

    /// The share that is shown after looks that saw these lives.
    fn check(looks: &[UnitView]) -> Option<String> {
        let mut shares = Shares::default();
        for look in looks {
            shares.observe(&[project(vec![look.clone()])]);
        }
        let last = looks.last().unwrap();
        shares.of(&project(vec![last.clone()]), last)
    }

    #[test]
    fn a_share_is_what_was_used_between_two_looks() {
        let looks = [running(7, 1000, 60_000), running(7, 1500, 61_000), running(7, 4000, 62_000)];
        assert_eq!(check(&looks), Some("250.0%".to_owned()));
        assert_eq!(check(&looks[..2]), Some("50.0%".to_owned()));
    }

    #[test]
    fn a_life_that_is_seen_for_the_first_time_is_measured_from_its_beginning() {
        assert_eq!(check(&[running(7, 600, 6_000)]), Some("10.0%".to_owned()));
        assert_eq!(check(&[running(7, 9_000, 60_000), running(8, 250, 500)]), Some("50.0%".to_owned()));
    }

    #[test]
    fn what_is_not_measured_has_no_share() {
        assert_eq!(check(&[running(7, 0, 10), UnitView { pid: None, ..running(7, 0, 0) }]), None);
        assert_eq!(check(&[running(7, 10, 0)]), None);
        let old_daemon = UnitView { uptime_ms: None, ..running(7, 10, 10) };
        assert_eq!(check(&[old_daemon]), None);
        let mut shares = Shares::default();
        shares.observe(&[project(vec![running(7, 5, 10)])]);
        assert_eq!(shares.of(&project(Vec::new()), &running(8, 0, 0)), None, "another life's share was shown");
    }

    #[test]
    fn time_that_an_orphan_took_along_is_not_negative() {
        assert_eq!(check(&[running(7, 900, 1_000), running(7, 300, 2_000)]), Some("0.0%".to_owned()));
    }

    #[test]
    fn sizes_are_short_and_never_round_to_a_thousand_of_anything() {
        const MIB: u64 = 1024 * 1024;
        let sizes = [
            (0, "0K"),
            (655_360, "640K"),
            (MIB - 1, "1.0M"),
            (2 * MIB + 400 * 1024, "2.4M"),
            (10 * MIB - 1, "10M"),
            (84 * MIB, "84M"),
            (1024 * MIB - 1, "1.0G"),
            (1200 * MIB, "1.2G"),
            (2048 * 1024 * MIB, "2048G"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn cpu_time_is_exact_while_it_is_short() {
        let times = [(0, "0.0s"), (340, "0.3s"), (59_900, "59.9s"), (185_000, "3m05s"), (7_620_000, "2h07m")];
        for (ms, text) in times {
            assert_eq!(cpu_time(ms), text);
        }
    }
}
