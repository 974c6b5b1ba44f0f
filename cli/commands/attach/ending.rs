//! How the life of an attached unit ended, in words.

use std::fmt;

use envctl_runtime::control::view::{ExitView, ProjectView, UnitState, UnitView};
use nix::sys::signal::Signal;

/// The last line of `attach`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending(String);

/// Whether this life of the unit is over, and how.
pub(super) fn ending(view: &ProjectView, unit: &str, incarnation: u32) -> Option<Ending> {
    let Some(now) = view.units.iter().find(|one| one.name == unit) else { return Some(Ending::gone(unit)) };
    let same_life = now.incarnation == incarnation;
    if same_life && now.pid.is_some() {
        return None;
    }
    let how = now.exit.as_ref().map_or_else(|| "has ended".to_owned(), how);
    Some(Ending(format!("{unit} {how}{}", what_next(now, same_life, unit))))
}

fn how(exit: &ExitView) -> String {
    match exit {
        ExitView::Code(code) => format!("ended with exit code {code}"),
        ExitView::Signal { signal, .. } => match Signal::try_from(*signal) {
            Ok(signal) => format!("was ended by {}", signal.as_str()),
            Err(_) => format!("was ended by signal {signal}"),
        },
        ExitView::Unknown(why) => format!("has ended: {why}"),
    }
}

fn what_next(now: &UnitView, same_life: bool, unit: &str) -> String {
    if !same_life {
        return format!("; it was started again: `envctl attach {unit}`");
    }
    match now.state {
        UnitState::Backoff | UnitState::Pending | UnitState::Starting => "; it will be started again".to_owned(),
        UnitState::Failed => format!("; `envctl why {unit}` tells more"),
        UnitState::Running | UnitState::Ready | UnitState::Stopping | UnitState::Stopped | UnitState::Done => {
            String::new()
        }
    }
}

// === impl Ending ===

impl Ending {
    /// Nobody knows of the unit any more.
    pub(super) fn gone(unit: &str) -> Self {
        Self(format!("{unit} is gone: the project is down"))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
