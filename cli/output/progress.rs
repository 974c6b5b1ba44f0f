//! How units come up and go down, on stderr: a live block on a terminal, else one plain line per change that matters.

use std::collections::BTreeMap;
use std::time::Duration;

use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use indexmap::IndexSet;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{Output, harmless, told};

/// Time between redraws of the spinners.
const TICK: Duration = Duration::from_millis(100);

/// Tells the progress of one project.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    since: Instant,
    width: usize,
    seen: BTreeMap<String, Seen>,
    block: Option<Block>,
}

/// What was last told of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: UnitState,
    incarnation: u32,
    desired: Desired,
}

#[derive(Debug)]
struct Block {
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

// === impl Progress ===

impl Progress {
    /// Progress since now, for units whose longest name has `width` characters.
    pub(crate) fn new(output: &Output, units: &IndexSet<String>) -> Self {
        let width = units.iter().map(String::len).max().unwrap_or(0);
        let block = output.live.then(|| Block {
            lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            bars: BTreeMap::new(),
        });
        Self { output: output.clone(), since: Instant::now(), width, seen: BTreeMap::new(), block }
    }

    /// Takes in a state of the project; only `units` are told.
    pub(crate) fn observe(&mut self, view: &ProjectView, units: &IndexSet<String>) {
        for unit in view.units.iter().filter(|unit| units.contains(&unit.name)) {
            let before = self.seen.get(&unit.name);
            let seen = Seen { state: unit.state, incarnation: unit.incarnation, desired: unit.desired };
            // Of most units most views bring nothing.
            if before == Some(&seen) {
                continue;
            }
            let matters = matters(before, unit);
            self.tell(unit, matters);
            self.seen.insert(unit.name.clone(), seen);
        }
    }

    /// Writes to stdout or stderr without tearing the live block.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.block {
            Some(block) => block.lines.suspend(write),
            None => write(),
        }
    }

    /// Ends the live block; what happens later is told in plain lines.
    pub(crate) fn settle(&mut self) {
        if let Some(block) = self.block.take() {
            for bar in block.bars.values() {
                bar.finish();
            }
        }
    }

    /// Tells that a unit is elsewhere than before; in plain lines only if that `matters`.
    fn tell(&mut self, unit: &UnitView, matters: bool) {
        let line = if matters || self.block.is_some() { self.line(unit) } else { String::new() };
        let Some(block) = &mut self.block else {
            if matters {
                self.output.say(&line);
            }
            return;
        };
        let bar = block.bars.entry(unit.name.clone()).or_insert_with(|| {
            let bar = block.lines.add(ProgressBar::new_spinner().with_style(spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(line);
        if at_rest(unit) {
            bar.finish()
        } else if bar.is_finished() {
            bar.reset()
        }
    }

    /// `postgres  ready  0.8s`, with the cause where something is not well.
    fn line(&self, unit: &UnitView) -> String {
        let paint = self.output.talk;
        let name = paint.name(&unit.name, &format!("{:width$}", harmless(&unit.name), width = self.width));
        let state = paint.state(unit.state, &format!("{:8}", unit.state.as_str()));
        let elapsed = paint.dim(&seconds(self.since.elapsed()));
        let note = note(unit).map(|note| format!("  {}", harmless(&note))).unwrap_or_default();
        format!("{name}  {state}  {elapsed}{note}")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Whether a change is worth a line: where a unit arrives, and what goes wrong; not the steps between.
fn matters(before: Option<&Seen>, unit: &UnitView) -> bool {
    let same = before.is_some_and(|seen| seen.state == unit.state && seen.incarnation == unit.incarnation);
    if same {
        return false;
    }
    match unit.state {
        UnitState::Ready | UnitState::Done | UnitState::Failed | UnitState::Backoff => true,
        UnitState::Running => !unit.probed && unit.kind != "task",
        // A unit that was stopped before this began is no news.
        UnitState::Stopped => before.is_some(),
        UnitState::Pending | UnitState::Starting | UnitState::Stopping => false,
    }
}

fn at_rest(unit: &UnitView) -> bool {
    unit.is_settled() || matches!(unit.state, UnitState::Failed | UnitState::Stopped)
}

fn note(unit: &UnitView) -> Option<String> {
    let cause = told(unit.cause.as_deref());
    match unit.state {
        UnitState::Failed | UnitState::Backoff | UnitState::Pending => cause.map(str::to_owned),
        UnitState::Starting | UnitState::Running | UnitState::Ready if unit.restarts > 0 => {
            cause.map(|cause| format!("started again: {cause}"))
        }
        UnitState::Running | UnitState::Ready if !unit.warnings.is_empty() => Some(unit.warnings.join("; ")),
        UnitState::Starting
        | UnitState::Running
        | UnitState::Ready
        | UnitState::Stopping
        | UnitState::Stopped
        | UnitState::Done => None,
    }
}

/// `0.8s`, `12.0s`, `1m05s`.
pub(crate) fn seconds(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..60 => format!("{:.1}s", elapsed.as_secs_f64()),
        whole => format!("{}m{:02}s", whole / 60, whole % 60),
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
pub(crate) mod tests;
