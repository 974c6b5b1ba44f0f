//! What `why` says about single events, and the kinds it tells apart. Pure.

use envctl_supervisors::reason::signal_name;
use serde_json::Value;

use super::Kind;
use crate::config::format_size;
use crate::control::view::{EventView, UnitState, UnitView};

/// The events that say what a unit is doing; the others only add to them.
pub(super) const TURNS: [Kind; 13] = [
    Kind::UnitBlocked,
    Kind::UnitStarting,
    Kind::UnitStarted,
    Kind::UnitStartFailed,
    Kind::UnitReady,
    Kind::UnitUnready,
    Kind::UnitExited,
    Kind::UnitRestarting,
    Kind::UnitStopping,
    Kind::UnitStopped,
    Kind::UnitDone,
    Kind::UnitFailed,
    Kind::UnitAdopted,
];

/// The events that begin a life.
pub(super) const STARTS: [Kind; 2] = [Kind::UnitStarting, Kind::UnitStarted];

/// The events that an automatic restart may follow.
pub(super) const ENDINGS: [Kind; 3] = [Kind::UnitExited, Kind::UnitStartFailed, Kind::UnitUnready];

/// The turns after which a unit is not wanted until somebody asks.
pub(super) const RESTS: [Kind; 3] = [Kind::UnitStopped, Kind::UnitDone, Kind::UnitFailed];

/// What a unit is doing by its present state, to stand after its name.
pub(super) fn state_of(unit: &UnitView) -> String {
    match unit.state {
        UnitState::Pending if unit.blocked_by.is_empty() => "is about to start".to_owned(),
        UnitState::Pending => format!("waits for {}", unit.blocked_by.join(", ")),
        UnitState::Starting => format!("is starting (incarnation {})", unit.incarnation),
        UnitState::Running if unit.probed => format!("runs but is not ready (incarnation {})", unit.incarnation),
        UnitState::Running => format!("is running (incarnation {})", unit.incarnation),
        UnitState::Ready => format!("is ready (incarnation {})", unit.incarnation),
        UnitState::Stopping => "is stopping".to_owned(),
        UnitState::Backoff => "is down and waits for its next start".to_owned(),
        UnitState::Stopped => "is stopped".to_owned(),
        UnitState::Done => "is done".to_owned(),
        UnitState::Failed => "has failed and stays down".to_owned(),
    }
}

/// How a life ended, to stand after "after".
pub(super) fn ending_of(event: &EventView) -> String {
    if is_oom(event) {
        let limit = number(event, "memory_max").map(|bytes| format!(" (limit {})", format_size(bytes)));
        return format!("it was killed by the kernel: out of memory{}", limit.unwrap_or_default());
    }
    if let Some(signal) = number(event, "signal").and_then(|signal| i32::try_from(signal).ok()) {
        let core = if event.details.get("core") == Some(&Value::Bool(true)) { " (core dumped)" } else { "" };
        return format!("it was ended by {}{core}", signal_name(signal));
    }
    match (number(event, "code"), text(event, "unknown"), &event.cause) {
        (Some(code), _, _) => format!("it ended with exit code {code}"),
        (None, Some(why), _) => format!("it ended and nobody could see how ({why})"),
        (None, None, Some(cause)) => cause.clone(),
        (None, None, None) => event.message.clone(),
    }
}

/// Whether a life was ended by the kernel because its memory limit was reached.
pub(super) fn is_oom(event: &EventView) -> bool {
    event.details.get("oom") == Some(&Value::Bool(true))
}

/// `first restart is immediate (restart 1 of 5 in 30 s)`.
pub(super) fn budget_of(event: &EventView) -> String {
    let delay = match number(event, "delay_ms") {
        None | Some(0) if number(event, "restart").unwrap_or(1) <= 1 => "first restart is immediate".to_owned(),
        None | Some(0) => "without delay".to_owned(),
        Some(delay) => format!("after a delay of {}", duration(delay)),
    };
    match (number(event, "restart"), number(event, "intensity"), number(event, "period_ms")) {
        (Some(restart), Some(intensity), Some(period)) => {
            let shared = text(event, "group").map(|group| format!(", shared by group {group}")).unwrap_or_default();
            format!("{delay} (restart {restart} of {intensity} in {}{shared})", duration(period))
        }
        (Some(restart), _, _) => format!("{delay} (restart {restart})"),
        (None, _, _) => delay,
    }
}

/// What a unit has been doing since an event, to stand after its name.
pub(super) fn turn_of(event: &EventView) -> String {
    match Kind::parse(&event.event) {
        Some(Kind::UnitBlocked) => format!("waits for {}", names(event, "blocked_by").join(", ")),
        Some(Kind::UnitStarting | Kind::UnitStarted) => "is starting and not ready yet".to_owned(),
        Some(Kind::UnitStartFailed) => "could not be started".to_owned(),
        Some(Kind::UnitReady | Kind::UnitAdopted) => "is up".to_owned(),
        Some(Kind::UnitUnready) => "is no longer ready".to_owned(),
        Some(Kind::UnitExited) => format!("is down ({})", ending_of(event)),
        Some(Kind::UnitRestarting) => "is being started again".to_owned(),
        Some(Kind::UnitStopping) => "is stopping".to_owned(),
        Some(Kind::UnitStopped) => "is stopped".to_owned(),
        Some(Kind::UnitDone) => "is done".to_owned(),
        Some(Kind::UnitFailed) => "has failed".to_owned(),
        _ => event.message.clone(),
    }
}

/// `30 s`, `1.5 s` or `250 ms`.
pub(super) fn duration(milliseconds: u64) -> String {
    if milliseconds >= 1000 && milliseconds.is_multiple_of(100) {
        let (seconds, tenths) = (milliseconds / 1000, milliseconds % 1000 / 100);
        return if tenths == 0 { format!("{seconds} s") } else { format!("{seconds}.{tenths} s") };
    }
    format!("{milliseconds} ms")
}

/// A detail that is a text.
pub(super) fn text<'a>(event: &'a EventView, detail: &str) -> Option<&'a str> {
    event.details.get(detail)?.as_str()
}

/// A detail that is a number.
pub(super) fn number(event: &EventView, detail: &str) -> Option<u64> {
    event.details.get(detail)?.as_u64()
}

/// A detail that is a list of names.
pub(super) fn names(event: &EventView, detail: &str) -> Vec<String> {
    let Some(Value::Array(list)) = event.details.get(detail) else { return Vec::new() };
    list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// What a life did wrong that its supervisor ended, to stand after "it"; the words are those of `Cause`.
pub(super) fn failing_of(cause: &str) -> Option<String> {
    if cause.starts_with("not ready within ") {
        return Some(format!("was {cause}"));
    }
    cause.starts_with("stopped answering").then(|| cause.to_owned())
}

/// Whether a cause says only that a budget is spent, and not on what; the words are those of `Cause`.
pub(super) fn is_limit(cause: &str) -> bool {
    (cause.starts_with("more than ") && (cause.contains(" restarts within ") || cause.contains(" restart within ")))
        || cause.ends_with("never became stable")
}

/// Whether a cause is that a whole group was given up; the words are those of `Cause`.
pub(super) fn is_group(cause: &str) -> bool {
    cause.starts_with("group ") && cause.contains(" was given up because of ")
}
