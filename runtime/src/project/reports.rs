//! The engine's reports as journal events. Pure.

use envctl_supervisors::Name;
use envctl_supervisors::engine::{Cause, Limit, Report, What};
use envctl_supervisors::reason::ExitReason;

use crate::control::view::{EventView, ExitView};
use crate::journal::events::{EventBuilder, EventKind};

/// What the engine does not know of a unit, but its events tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The main process.
    pub pid: Option<u32>,
    /// Automatic restarts in the window, this one included.
    pub restart: u32,
}

/// The journal's event for a report.
pub fn event(run: &str, report: &Report, facts: Facts) -> EventView {
    let unit = &report.id;
    let mut event = describe(run, unit, report, facts).unit(unit);
    if let Some(incarnation) = report.incarnation {
        event = event.incarnation(incarnation);
    }
    if let Some(cause) = &report.cause {
        event = event.cause(cause.to_string());
        event = blame(event, report, cause);
    }
    if let Some(hint) = hint(report) {
        event = event.hint(hint);
    }
    event.build()
}

/// How a life ended, as clients see it.
pub fn exit_view(reason: &ExitReason) -> ExitView {
    match reason {
        ExitReason::Code(code) => ExitView::Code(*code),
        ExitReason::Signal { number, core } => ExitView::Signal { signal: *number, core: *core },
        ExitReason::Normal => ExitView::Code(0),
        ExitReason::Killed => ExitView::Signal { signal: nix::libc::SIGKILL, core: false },
        ExitReason::Error(why) | ExitReason::Unknown(why) => ExitView::Unknown(why.clone()),
    }
}

/// What can be done about a report, where something can.
pub fn hint(report: &Report) -> Option<String> {
    match (&report.what, &report.cause) {
        (What::StartFailed { error }, _) | (_, Some(Cause::StartError(error))) => error.hint.clone(),
        (What::Failed | What::GaveUp { .. }, _) => {
            Some(format!("`envctl logs {0}` shows its last words; `envctl start {0}` tries again", report.id))
        }
        _ => None,
    }
}

fn describe(run: &str, unit: &Name, report: &Report, facts: Facts) -> EventBuilder {
    let event = |kind: EventKind, message: String| kind.event(run, message);
    match &report.what {
        What::Blocked { by } => {
            let names: Vec<String> = by.iter().map(ToString::to_string).collect();
            event(EventKind::UnitBlocked, format!("{unit} waits for {}", names.join(", "))).detail("blocked_by", names)
        }
        What::Starting => event(EventKind::UnitStarting, format!("{unit} is being started")),
        What::Started => with_pid(event(EventKind::UnitStarted, format!("{unit} runs")), facts),
        What::StartFailed { error } => {
            event(EventKind::UnitStartFailed, format!("{unit} failed to {error}")).detail("retry", error.retry)
        }
        What::Adopted => with_pid(event(EventKind::UnitAdopted, format!("{unit} was taken over, running")), facts),
        What::Ready => event(EventKind::UnitReady, format!("{unit} is ready")),
        What::Unready { detail } => {
            event(EventKind::UnitUnready, format!("{unit} is not ready any more")).detail("answer", detail.as_str())
        }
        What::LivenessLost { detail } => event(EventKind::UnitProbeFailed, format!("{unit} stopped answering"))
            .detail("probe", "alive")
            .detail("answer", detail.as_str()),
        What::ReadyTimeout { within } => {
            event(EventKind::UnitProbeFailed, format!("{unit} was not ready within {within:?}"))
                .detail("probe", "ready")
        }
        What::Exited { reason, expected } => exited(run, unit, reason, *expected, facts),
        What::RestartScheduled { delay, failures } => {
            let when = if delay.is_zero() { "at once".to_owned() } else { format!("in {delay:.1?}") };
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            event(EventKind::UnitRestarting, format!("{unit} will be started again {when}"))
                .detail("delay_ms", millis)
                .detail("restart", facts.restart)
                .detail("unstable", *failures)
        }
        What::Restarting => event(EventKind::UnitStarting, format!("{unit} is being started again")),
        What::Stopping => event(EventKind::UnitStopping, format!("{unit} was asked to end")),
        What::Killing => event(EventKind::UnitKilled, format!("{unit} is killed")),
        What::Stopped => event(EventKind::UnitStopped, format!("{unit} is down")),
        What::Done => event(EventKind::UnitDone, format!("{unit} is done")),
        What::Failed => event(EventKind::UnitFailed, format!("{unit} has failed")),
        What::GaveUp { limit, last } => gave_up(run, unit, limit, last),
        What::Removed => event(EventKind::UnitStopped, format!("{unit} is no longer part of the project")),
    }
}

fn exited(run: &str, unit: &Name, reason: &ExitReason, expected: bool, facts: Facts) -> EventBuilder {
    let how = if expected { "as asked" } else { "by itself" };
    let event = EventKind::UnitExited.event(run, format!("{unit} ended {how}: {reason}"));
    let event = with_pid(event, facts);
    match exit_view(reason) {
        ExitView::Code(code) => event.detail("code", code),
        ExitView::Signal { signal, core } => event.detail("signal", signal).detail("core", core),
        ExitView::Unknown(why) => event.detail("unknown", why),
    }
}

fn gave_up(run: &str, unit: &Name, limit: &Limit, last: &Cause) -> EventBuilder {
    let event = EventKind::UnitFailed.event(run, format!("{unit} is given up; its last life {last}"));
    match limit {
        Limit::Intensity { restarts, period } => {
            let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
            event.detail("intensity", *restarts).detail("period_ms", period)
        }
        Limit::Unstable { lives } => event.detail("unstable", *lives),
    }
}

fn with_pid(event: EventBuilder, facts: Facts) -> EventBuilder {
    match facts.pid {
        Some(pid) => event.detail("pid", pid),
        None => event,
    }
}

/// Only some kinds of event name the unit that is the reason.
fn blame(event: EventBuilder, report: &Report, cause: &Cause) -> EventBuilder {
    let (Cause::Dependency { on, .. } | Cause::Escalated { by: on }) = cause else { return event };
    match report.what {
        What::RestartScheduled { .. } | What::Stopping | What::Stopped | What::Failed | What::GaveUp { .. } => {
            event.detail("caused_by", on.as_str())
        }
        _ => event,
    }
}
