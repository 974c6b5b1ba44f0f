//! What is told of a stop beside who asked for it: the daemon's death, and what did not end.

use super::super::events::EventKind as Kind;
use super::Teller;
use crate::control::view::UnitView;

// === impl Teller ===

impl Teller<'_> {
    /// Whether the unit was stopped because the daemon died, which is told then.
    pub(super) fn tell_daemon_death(&mut self, from: usize) -> bool {
        let Some(run) = self.events.get(from).map(|event| &event.run) else { return false };
        let of_run = |at: &usize| self.events[*at].run == *run && self.is(*at, Kind::DaemonDied);
        let Some(died) = (0..self.events.len()).rev().find(of_run) else { return false };
        self.use_event(died);
        let line = format!(
            "because the daemon died at or before {}, and units end with it here (on_daemon_death = \"stop\")",
            self.time(died)
        );
        self.lines.push(line);
        true
    }

    /// Processes of the unit that could not be ended.
    pub(super) fn tell_escaped(&mut self, unit: &UnitView) {
        if unit.escaped.is_empty() {
            return;
        }
        let pids = unit.escaped.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        self.lines.push(format!("not even a kill ended these processes of it: {pids}"));
        self.lines
            .push(format!("hint: look at them with `ps -fp {}`; they may wait for a disk", pids.replace(' ', "")));
        let told = self.last(&unit.name, &[Kind::UnitEscaped], usize::MAX);
        self.chain.extend(told);
    }
}
