//! The engine's reports as journal events. Pure.

use envctl_supervisors::Name;
use envctl_supervisors::engine::{Cause, Limit, Report, What};
use envctl_supervisors::reason::ExitReason;

use self::about::About;
use super::budgets::Charged;
use super::confines::oom_text;
use crate::control::view::{EventView, ExitView};
use crate::journal::events::{EventBuilder, EventKind};
use crate::spec::ProjectSpec;

mod about;
mod groups;

/// What the engine's report does not hold, but its event tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The project.
    pub(super) spec: &'a ProjectSpec,
    /// The main process.
    pub(super) pid: Option<u32>,
    /// The budget it is charged to.
    pub(super) charged: &'a Charged,
    /// For reports about groups: the units that are wanted up.
    pub(super) wanted: &'a [Name],
    /// For the end of a life that the kernel killed for want of memory: its limit in bytes, if it still has one.
    pub(super) oom: Option<Option<u64>>,
}

/// The journal's event for a report.
pub(super) fn event(run: &str, report: &Report, facts: Facts<'_>) -> EventView {
    let about = About { spec: facts.spec, report };
    let mut event = describe(run, report, facts).unit(&report.id);
    if let Some(incarnation) = report.incarnation {
        event = event.incarnation(incarnation);
    }
    // What a group was given up for stands in the message.
    let tells_cause = !matches!(report.what, What::GroupGaveUp { .. });
    if let Some(cause) = report.cause.as_ref().filter(|_| tells_cause) {
        event = event.cause(about.cause_text(cause));
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
        ExitReason::Normal | ExitReason::Shutdown => ExitView::Code(0),
        ExitReason::Killed => ExitView::Signal { signal: nix::libc::SIGKILL, core: false },
        ExitReason::Error(why) | ExitReason::Unknown(why) => ExitView::Unknown(why.clone()),
    }
}

/// What can be done about a report, where something can.
pub fn hint(report: &Report) -> Option<String> {
    let id = &report.id;
    match (&report.what, &report.cause) {
        (What::StartFailed { error }, _) | (_, Some(Cause::StartError(error))) => error.hint.clone(),
        (What::Failed, Some(Cause::GroupGaveUp { by, .. })) if by != id => {
            Some(format!("`envctl logs {by}` shows the last words of {by}; `envctl up -d` tries again"))
        }
        (What::Failed | What::GaveUp { .. }, _) => {
            Some(format!("`envctl logs {id}` shows its last words; `envctl start {id}` tries again"))
        }
        (What::GroupGaveUp { .. } | What::Ending(_), _) => {
            Some(format!("`envctl logs {id}` shows the last words of {id}; `envctl up -d` tries again"))
        }
        _ => None,
    }
}

fn describe(run: &str, report: &Report, facts: Facts<'_>) -> EventBuilder {
    let unit = &report.id;
    let about = About { spec: facts.spec, report };
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
            let event = event(EventKind::UnitRestarting, format!("{unit} will be started again {when}"));
            about.with_budget(event.detail("delay_ms", millis).detail("unstable", *failures), facts.charged)
        }
        What::Restarting => event(EventKind::UnitStarting, format!("{unit} is being started again")),
        What::Stopping => about.with_reason(event(EventKind::UnitStopping, format!("{unit} was asked to end"))),
        What::Killing => event(EventKind::UnitKilled, format!("{unit} is killed")),
        What::Stopped => event(EventKind::UnitStopped, format!("{unit} is down")),
        What::Done => event(EventKind::UnitDone, format!("{unit} is done")),
        What::Ignored => event(EventKind::UnitIgnored, format!("there is nothing to run in {unit} just now")),
        What::Failed => about.with_group(event(EventKind::UnitFailed, format!("{unit} has failed"))),
        What::GaveUp { limit, last } => about.with_group(gave_up(run, unit, limit, last)),
        What::GroupRestarting { group, strategy, members } => groups::restarting(
            run,
            about,
            groups::Together { group: group.as_ref(), strategy: *strategy, members: *members },
            facts,
        ),
        What::GroupGaveUp { group, limit, escalate } => groups::gave_up(run, about, group.as_ref(), limit, *escalate),
        What::Ending(ending) => groups::ending(run, about, ending),
        What::Removed => event(EventKind::UnitStopped, format!("{unit} is no longer part of the project")),
    }
}

fn exited(run: &str, unit: &Name, reason: &ExitReason, expected: bool, facts: Facts<'_>) -> EventBuilder {
    let how = if expected { "as asked" } else { "by itself" };
    let event = match facts.oom {
        None => EventKind::UnitExited.event(run, format!("{unit} ended {how}: {reason}")),
        Some(limit) => {
            let event = EventKind::UnitExited.event(run, format!("{unit} was {}", oom_text(limit))).detail("oom", true);
            limit.into_iter().fold(event, |event, bytes| event.detail("memory_max", bytes))
        }
    };
    let event = with_pid(event, facts);
    match exit_view(reason) {
        ExitView::Code(code) => event.detail("code", code),
        ExitView::Signal { signal, core } => event.detail("signal", signal).detail("core", core),
        ExitView::Unknown(why) => event.detail("unknown", why),
    }
}

fn gave_up(run: &str, unit: &Name, limit: &Limit, last: &Cause) -> EventBuilder {
    with_limit(EventKind::UnitFailed.event(run, format!("{unit} is given up; its last life {last}")), limit)
}

fn with_limit(event: EventBuilder, limit: &Limit) -> EventBuilder {
    match limit {
        Limit::Intensity { restarts, period } => {
            let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
            event.detail("intensity", *restarts).detail("period_ms", period)
        }
        Limit::Unstable { lives } => event.detail("unstable", *lives),
        Limit::Hopeless => event.detail("retry", false),
    }
}

fn with_pid(event: EventBuilder, facts: Facts<'_>) -> EventBuilder {
    match facts.pid {
        Some(pid) => event.detail("pid", pid),
        None => event,
    }
}

/// Only some kinds of event name the unit that is the reason.
fn blame(event: EventBuilder, report: &Report, cause: &Cause) -> EventBuilder {
    let (Cause::Dependency { on: by, .. }
    | Cause::Ending { by, .. }
    | Cause::Group { by, .. }
    | Cause::GroupGaveUp { by, .. }) = cause
    else {
        return event;
    };
    match report.what {
        What::RestartScheduled { .. } | What::Stopping | What::Stopped | What::Failed | What::GaveUp { .. }
            if *by != report.id =>
        {
            event.detail("caused_by", by.as_str())
        }
        _ => event,
    }
}

#[cfg(test)]
mod tests;
