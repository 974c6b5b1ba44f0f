//! Why a unit is in its state: two lines for people, and the events they rest on.
//!
//! The first line says what is, the second what led there. Where the reason is another unit, its reason follows, as far as
//! the journal goes. Pure: the journal's events and the unit's present state in, text out.

use std::collections::BTreeSet;

use envctl_supervisors::reason::signal_name;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::clock::time_of_day;
use super::events::EventKind as Kind;
use crate::control::view::{EventView, UnitState, UnitView};

/// An explanation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Why {
    /// Lines for people, the present state first.
    pub lines: Vec<String>,
    /// The events behind them, oldest first.
    pub chain: Vec<EventView>,
}

/// Explains `unit` by the journal of its project, with times in UTC.
pub fn why(events: &[EventView], unit: &UnitView) -> Why {
    why_in(events, unit, &TimeZone::UTC)
}

/// Explains `unit` by the journal of its project, with times in `zone`.
pub fn why_in(events: &[EventView], unit: &UnitView, zone: &TimeZone) -> Why {
    let mut teller = Teller { events, zone, told: BTreeSet::new(), lines: Vec::new(), chain: BTreeSet::new() };
    teller.tell(unit);
    let chain = teller.chain.iter().map(|at| events[*at].clone()).collect();
    Why { lines: teller.lines, chain }
}

/// The telling of one explanation.
struct Teller<'a> {
    events: &'a [EventView],
    zone: &'a TimeZone,
    /// Units explained already: nothing is told twice, and a circle ends.
    told: BTreeSet<String>,
    lines: Vec<String>,
    /// Indexes of the events used.
    chain: BTreeSet<usize>,
}

/// The events that say what a unit is doing; the others only add to them.
const TURNS: [Kind; 13] = [
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

// === impl Teller ===

impl Teller<'_> {
    fn tell(&mut self, unit: &UnitView) {
        self.told.insert(unit.name.clone());
        self.lines.push(self.headline(unit));
        match unit.state {
            UnitState::Pending => self.tell_blockers(&unit.blocked_by),
            UnitState::Starting | UnitState::Running | UnitState::Ready => {
                self.tell_beginning(&unit.name);
                if !unit.ready && unit.probed {
                    self.tell_probe(&unit.name);
                }
            }
            UnitState::Backoff => self.tell_restart(&unit.name, self.events.len(), "it is started again"),
            UnitState::Failed => self.tell_failure(unit),
            UnitState::Stopping | UnitState::Stopped => self.tell_stop(unit),
            UnitState::Done => self.note(&unit.name, &[Kind::UnitExited, Kind::UnitDone]),
        }
    }

    fn headline(&self, unit: &UnitView) -> String {
        let what = match unit.state {
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
        };
        format!("{} {what} since {}", unit.name, time_of_day(&unit.since, self.zone))
    }

    /// How the present life began: by itself, by hand, with the run, or in somebody else's hands.
    fn tell_beginning(&mut self, unit: &str) {
        let Some(began) = self.last(unit, &[Kind::UnitStarting, Kind::UnitStarted, Kind::UnitAdopted], usize::MAX)
        else {
            return;
        };
        self.note(unit, &[Kind::UnitStarted, Kind::UnitReady]);
        if self.is(began, Kind::UnitAdopted) {
            self.use_event(began);
            self.lines.push("taken over from a daemon that had gone; its process runs on".to_owned());
            return;
        }
        let first = self.first_of_life(unit, began);
        let before = self.last(unit, &[Kind::UnitStarting, Kind::UnitStarted], first).map_or(0, |at| at + 1);
        let restart = self.last(unit, &[Kind::UnitRestarting], first).filter(|at| *at >= before);
        let asked = self.last_asked(unit, first).filter(|at| *at >= before && restart.is_none_or(|other| *at > other));
        match (asked, restart) {
            (Some(asked), _) => {
                self.use_event(asked);
                let verb = text(&self.events[asked], "verb").unwrap_or("start").to_owned();
                self.lines.push(format!("asked for by hand at {}: {verb}", self.time(asked)));
            }
            (None, Some(_)) => self.tell_restart(unit, first, "restarted automatically"),
            (None, None) => {
                let stopping = self.last(unit, &[Kind::UnitStopping], first).filter(|at| *at >= before);
                match stopping.and_then(|at| Some((at, text(&self.events[at], "caused_by")?.to_owned()))) {
                    Some((at, other)) => self.tell_edge(at, &other),
                    None => self.tell_run(first),
                }
            }
        }
    }

    /// A restart that came over an edge: what happened to the other unit is the reason.
    fn tell_edge(&mut self, stopping: usize, other: &str) {
        self.use_event(stopping);
        let cause = self.events[stopping].cause.clone().unwrap_or_else(|| format!("{other} was restarted"));
        self.lines.push(format!("restarted at {} because {cause}, and it needs {other}", self.time(stopping)));
        self.tell_other(other);
    }

    fn tell_run(&mut self, before: usize) {
        let run = (0..before).rev().find(|at| self.is(*at, Kind::RunStarted) || self.is(*at, Kind::RunJoined));
        if let Some(run) = run {
            self.use_event(run);
            self.lines.push(format!("started with the run {} at {}", self.events[run].run, self.time(run)));
        }
    }

    /// The last automatic restart before `end`, what it came after, and how much of the budget it used.
    fn tell_restart(&mut self, unit: &str, end: usize, verb: &str) {
        let Some(restart) = self.last(unit, &[Kind::UnitRestarting], end) else { return };
        self.use_event(restart);
        let event = &self.events[restart];
        let caused_by = text(event, "caused_by").filter(|other| *other != unit).map(str::to_owned);
        let ending = [Kind::UnitExited, Kind::UnitStartFailed, Kind::UnitUnready];
        let ending = self.last(unit, &ending, restart).filter(|_| caused_by.is_none());
        let after = match (&caused_by, ending) {
            (Some(other), _) => format!("together with {other}, which it needs or shares a group with"),
            (None, Some(at)) => format!("after {}", ending_of(&self.events[at])),
            (None, None) => {
                event.cause.clone().map_or_else(|| event.message.clone(), |cause| format!("because {cause}"))
            }
        };
        self.chain.extend(ending);
        self.lines.push(format!("{verb} {after}; {}", budget_of(event)));
        if let Some(other) = caused_by {
            self.tell_other(&other);
        }
    }

    fn tell_probe(&mut self, unit: &str) {
        let Some(probe) = self.last(unit, &[Kind::UnitProbeFailed, Kind::UnitUnready], usize::MAX) else { return };
        self.use_event(probe);
        let event = &self.events[probe];
        let answer = text(event, "answer").or(event.cause.as_deref()).unwrap_or(&event.message);
        self.lines.push(format!("its last check at {} said: {answer}", self.time(probe)));
    }

    fn tell_failure(&mut self, unit: &UnitView) {
        let failed = self.last(&unit.name, &[Kind::UnitFailed], usize::MAX);
        let ending = self.last(&unit.name, &[Kind::UnitExited, Kind::UnitStartFailed], usize::MAX);
        self.chain.extend(failed);
        self.chain.extend(ending);
        let event = failed.map(|at| &self.events[at]);
        let cause = unit.cause.clone().or_else(|| event?.cause.clone());
        let cause = cause.or_else(|| Some(ending_of(&self.events[ending?])));
        if let Some(cause) = cause {
            self.lines.push(format!("because {cause}"));
        }
        let hint = unit.hint.clone().or_else(|| event?.hint.clone());
        let hint = hint.or_else(|| self.events[ending?].hint.clone());
        if let Some(hint) = hint {
            self.lines.push(format!("hint: {hint}"));
        }
        if let Some(other) = event.and_then(|event| text(event, "caused_by")).map(str::to_owned) {
            self.tell_other(&other);
        }
    }

    fn tell_stop(&mut self, unit: &UnitView) {
        let turn = self.last(&unit.name, &[Kind::UnitStopping, Kind::UnitStopped], usize::MAX);
        self.chain.extend(turn);
        let caused_by = turn.and_then(|at| text(&self.events[at], "caused_by")).map(str::to_owned);
        if let Some(asked) =
            self.last_asked(&unit.name, turn.unwrap_or(self.events.len())).filter(|_| caused_by.is_none())
        {
            self.use_event(asked);
            let verb = text(&self.events[asked], "verb").unwrap_or("stop").to_owned();
            self.lines.push(format!("asked for by hand at {}: {verb}", self.time(asked)));
            return;
        }
        let cause = unit.cause.clone().or_else(|| self.events[turn?].cause.clone());
        if let Some(cause) = cause {
            self.lines.push(format!("because {cause}"));
        }
        if let Some(other) = caused_by {
            self.tell_other(&other);
        }
    }

    fn tell_blockers(&mut self, blockers: &[String]) {
        for blocker in blockers {
            self.tell_other(blocker);
        }
    }

    /// One line about a unit of which only the journal is known, and then its own reasons.
    fn tell_other(&mut self, unit: &str) {
        if !self.told.insert(unit.to_owned()) {
            return;
        }
        let Some(at) = self.last(unit, &TURNS, usize::MAX) else {
            self.lines.push(format!("{unit} has not been started"));
            return;
        };
        self.use_event(at);
        let event = &self.events[at];
        let since = self.time(at);
        self.lines.push(match &event.cause {
            Some(cause) => format!("{unit} {} since {since}: {cause}", turn_of(event)),
            None => format!("{unit} {} since {since}", turn_of(event)),
        });
        match Kind::parse(&event.event) {
            Some(Kind::UnitStarted | Kind::UnitStarting | Kind::UnitUnready) => self.tell_probe(unit),
            Some(Kind::UnitFailed | Kind::UnitStartFailed) => {
                self.lines.extend(event.hint.as_ref().map(|hint| format!("hint: {hint}")));
            }
            _ => {}
        }
        let mut others = names(event, "blocked_by");
        others.extend(text(event, "caused_by").map(str::to_owned));
        self.tell_blockers(&others);
    }

    /// The last event of `unit` of one of these kinds before index `end`.
    fn last(&self, unit: &str, kinds: &[Kind], end: usize) -> Option<usize> {
        let end = end.min(self.events.len());
        let of_unit = |at: &usize| self.events[*at].unit.as_deref() == Some(unit);
        (0..end).rev().filter(of_unit).find(|at| kinds.iter().any(|kind| self.is(*at, *kind)))
    }

    /// The last word of an operator about `unit` before index `end`.
    fn last_asked(&self, unit: &str, end: usize) -> Option<usize> {
        let about = |at: &usize| {
            let named = names(&self.events[*at], "units");
            self.is(*at, Kind::OperatorAsked) && (named.is_empty() || named.iter().any(|name| name == unit))
        };
        (0..end.min(self.events.len())).rev().find(about)
    }

    /// Where the life that `began` belongs to was first mentioned: `starting` comes before `started`.
    fn first_of_life(&self, unit: &str, began: usize) -> usize {
        let life = self.events[began].incarnation;
        let same = |at: &usize| self.events[*at].incarnation == life;
        self.last(unit, &[Kind::UnitStarting], began).filter(same).unwrap_or(began)
    }

    fn note(&mut self, unit: &str, kinds: &[Kind]) {
        for kind in kinds {
            let found = self.last(unit, &[*kind], usize::MAX);
            self.chain.extend(found);
        }
    }

    fn use_event(&mut self, at: usize) {
        self.chain.insert(at);
    }

    fn is(&self, at: usize, kind: Kind) -> bool {
        self.events[at].event == kind.as_str()
    }

    fn time(&self, at: usize) -> String {
        time_of_day(&self.events[at].time, self.zone)
    }
}

/// How a life ended, to stand after "after".
fn ending_of(event: &EventView) -> String {
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

/// `first restart is immediate (restart 1 of 5 in 30 s)`.
fn budget_of(event: &EventView) -> String {
    let delay = match number(event, "delay_ms") {
        None | Some(0) if number(event, "restart").unwrap_or(1) <= 1 => "first restart is immediate".to_owned(),
        None | Some(0) => "without delay".to_owned(),
        Some(delay) => format!("after a delay of {}", duration(delay)),
    };
    match (number(event, "restart"), number(event, "intensity"), number(event, "period_ms")) {
        (Some(restart), Some(intensity), Some(period)) => {
            format!("{delay} (restart {restart} of {intensity} in {})", duration(period))
        }
        (Some(restart), _, _) => format!("{delay} (restart {restart})"),
        (None, _, _) => delay,
    }
}

/// What a unit has been doing since an event, to stand after its name.
fn turn_of(event: &EventView) -> String {
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

fn duration(milliseconds: u64) -> String {
    if milliseconds >= 1000 && milliseconds.is_multiple_of(100) {
        let (seconds, tenths) = (milliseconds / 1000, milliseconds % 1000 / 100);
        return if tenths == 0 { format!("{seconds} s") } else { format!("{seconds}.{tenths} s") };
    }
    format!("{milliseconds} ms")
}

fn text<'a>(event: &'a EventView, detail: &str) -> Option<&'a str> {
    event.details.get(detail)?.as_str()
}

fn number(event: &EventView, detail: &str) -> Option<u64> {
    event.details.get(detail)?.as_u64()
}

fn names(event: &EventView, detail: &str) -> Vec<String> {
    let Some(Value::Array(list)) = event.details.get(detail) else { return Vec::new() };
    list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
