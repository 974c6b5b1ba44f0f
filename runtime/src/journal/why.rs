//! Why a unit is in its state: two lines for people, and the events they rest on.
//!
//! The first line says what is, the second what led there. Where the reason is another unit, its reason follows, as far as
//! the journal goes. Pure: the journal's events and the unit's present state in, text out.

use std::collections::BTreeSet;

use envctl_supervisors::engine::Cause;
use jiff::tz::TimeZone;

use self::phrases::{
    ENDINGS, RESTS, STARTS, TURNS, budget_of, ending_of, failing_of, is_group, is_limit, is_oom, names, number,
    state_of, text, turn_of,
};
use super::clock::time_of_day;
use super::events::EventKind as Kind;
use crate::control::view::{EventView, UnitState, UnitView};

mod ends;
mod groups;
mod phrases;

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
                self.tell_confines(unit);
            }
            UnitState::Backoff => self.tell_restart(&unit.name, self.events.len(), "it is started again"),
            UnitState::Failed => self.tell_failure(unit),
            UnitState::Stopping | UnitState::Stopped => self.tell_stop(unit),
            UnitState::Done => self.note(&unit.name, &[Kind::UnitExited, Kind::UnitDone]),
        }
        self.tell_escaped(unit);
    }

    /// What keeps it from being started, and limits that are not in force.
    fn tell_confines(&mut self, unit: &UnitView) {
        let waiting = unit.cause.as_ref().filter(|_| unit.state == UnitState::Starting);
        self.lines.extend(waiting.cloned());
        self.lines.extend(unit.hint.as_ref().filter(|_| waiting.is_some()).map(|hint| format!("hint: {hint}")));
        self.lines.extend(unit.warnings.iter().cloned());
        let told = self
            .last(&unit.name, &[Kind::UnitUnheld, Kind::LogRefused], usize::MAX)
            .filter(|_| !unit.warnings.is_empty());
        self.chain.extend(told);
    }

    fn headline(&self, unit: &UnitView) -> String {
        format!("{} {} since {}", unit.name, state_of(unit), time_of_day(&unit.since, self.zone))
    }

    /// How the present life began: by itself, by hand or with the run; and whose hands it is in now.
    fn tell_beginning(&mut self, unit: &str) {
        let last = self.last(unit, &[Kind::UnitStarting, Kind::UnitStarted, Kind::UnitAdopted], usize::MAX);
        let Some(mut began) = last else { return };
        if self.is(began, Kind::UnitAdopted) {
            self.use_event(began);
            self.lines.push("taken over from a daemon that had gone; its process runs on".to_owned());
            let life = self.events[began].incarnation;
            let before = self.last_of_run(unit, &STARTS, began).filter(|at| self.events[*at].incarnation == life);
            let Some(before) = before else { return };
            began = before;
        }
        let first = self.first_of_life(unit, began);
        for kind in [Kind::UnitStarted, Kind::UnitReady] {
            let found = self.last(unit, &[kind], usize::MAX).filter(|at| *at >= first);
            self.chain.extend(found);
        }
        let before = self.last_of_run(unit, &STARTS, first).map_or(0, |at| at + 1);
        let restart = self.last_of_run(unit, &[Kind::UnitRestarting], first).filter(|at| *at >= before);
        let asked = self.last_asked(unit, &["start", "restart"], first);
        let asked = asked.filter(|at| *at >= before && restart.is_none_or(|other| *at > other));
        match (asked, restart) {
            (Some(asked), _) => self.tell_asked(asked),
            (None, Some(_)) => self.tell_restart(unit, first, "restarted automatically"),
            (None, None) => self.tell_quiet_beginning(unit, before, first),
        }
    }

    /// A life that neither an operator nor a restart began: another unit, a new configuration, or the run itself.
    fn tell_quiet_beginning(&mut self, unit: &str, before: usize, first: usize) {
        let stopping = self.last_of_run(unit, &[Kind::UnitStopping], first).filter(|at| *at >= before);
        let other = stopping.and_then(|at| Some((at, text(&self.events[at], "caused_by")?.to_owned())));
        let changed = stopping.filter(|at| self.has_cause(*at, &Cause::SpecChange));
        match (other, changed) {
            (Some((at, other)), _) => self.tell_taken_along(at, &other),
            (None, Some(at)) => {
                self.use_event(at);
                self.lines.push(format!("restarted at {} because {}", self.time(at), Cause::SpecChange));
            }
            (None, None) => self.tell_run(unit, first),
        }
    }

    fn tell_asked(&mut self, asked: usize) {
        self.use_event(asked);
        let verb = text(&self.events[asked], "verb").unwrap_or("a change").to_owned();
        self.lines.push(format!("asked for by hand at {}: {verb}", self.time(asked)));
    }

    /// The `up` that wanted the unit: one that joined counts only if the unit was not wanted before.
    fn tell_run(&mut self, unit: &str, first: usize) {
        let run = &self.events[first].run;
        let of_run = |at: &usize| self.events[*at].run == *run;
        let joined = (0..first).rev().filter(of_run).find(|at| self.is(*at, Kind::RunJoined));
        let joined = joined.filter(|at| {
            let turn = self.last_of_run(unit, &TURNS, *at);
            turn.is_none_or(|turn| RESTS.iter().any(|rest| self.is(turn, *rest)))
        });
        if let Some(at) = joined {
            self.use_event(at);
            self.lines.push(format!("started by an `up` that joined the run {run} at {}", self.time(at)));
            return;
        }
        if let Some(at) = (0..first).rev().filter(of_run).find(|at| self.is(*at, Kind::RunStarted)) {
            self.use_event(at);
            self.lines.push(format!("started with the run {run} at {}", self.time(at)));
        }
    }

    /// The last automatic restart before `end`, what it came after, and how much of the budget it used.
    fn tell_restart(&mut self, unit: &str, end: usize, verb: &str) {
        let Some(restart) = self.last(unit, &[Kind::UnitRestarting], end) else { return };
        self.use_event(restart);
        let event = &self.events[restart];
        let caused_by = text(event, "caused_by").filter(|other| *other != unit).map(str::to_owned);
        let (cause, budget) = (event.cause.clone(), budget_of(event));
        let message = event.message.clone();
        if let Some(other) = caused_by {
            self.lines.push(match cause {
                Some(cause) => format!("{verb}: {cause}; {budget}"),
                None => format!("{verb} together with {other}, which it needs or shares a group with; {budget}"),
            });
            return self.tell_other(&other);
        }
        let ending = self.last(unit, &ENDINGS, restart);
        let line = match (ending, self.tell_failing(unit, restart)) {
            (_, Some(failing)) => format!("{} because it {failing}", verb.trim_end_matches(" automatically")),
            (Some(at), None) => {
                self.use_event(at);
                format!("{verb} after {}", self.ending(unit, at))
            }
            (None, None) => format!("{verb} {}", cause.map_or(message, |cause| format!("because {cause}"))),
        };
        self.lines.push(format!("{line}; {budget}"));
        self.tell_together(unit, restart);
    }

    /// Why the life before `end` was ended by its supervisor, if it was: it was not ready in time or stopped answering.
    /// The signal that ended it was ours, and says nothing.
    fn tell_failing(&mut self, unit: &str, end: usize) -> Option<String> {
        let began = self.last_of_run(unit, &STARTS, end).unwrap_or(0);
        let stopping =
            self.last_of_run(unit, &[Kind::UnitStopping, Kind::UnitKilled], end).filter(|at| *at >= began)?;
        let failing = failing_of(self.events[stopping].cause.as_deref()?)?;
        let probe = self.last_of_run(unit, &[Kind::UnitProbeFailed], stopping).filter(|at| *at >= began);
        let exited = self.last_of_run(unit, &[Kind::UnitExited], end).filter(|at| *at > stopping);
        self.chain.extend([Some(stopping), probe, exited].into_iter().flatten());
        Some(failing)
    }

    /// How a life ended, and who sent the signal if somebody sent it by hand.
    fn ending(&mut self, unit: &str, at: usize) -> String {
        let ending = ending_of(&self.events[at]);
        match self.sent_by_hand(unit, at) {
            Some(asked) => {
                self.use_event(asked);
                format!("{ending}, sent by hand at {}", self.time(asked))
            }
            None => ending,
        }
    }

    /// The `kill` that ended a life: of the same signal, and the last that was heard of the unit before.
    fn sent_by_hand(&self, unit: &str, exited: usize) -> Option<usize> {
        let signal = number(&self.events[exited], "signal")?;
        let asked = self.last_asked(unit, &["kill"], exited)?;
        let same = number(&self.events[asked], "signal") == Some(signal);
        let quiet = self.last(unit, &TURNS, exited).is_none_or(|turn| turn < asked);
        (same && quiet).then_some(asked)
    }

    fn tell_probe(&mut self, unit: &str) {
        let began = self.last(unit, &STARTS, usize::MAX).unwrap_or(0);
        let probe = self.last(unit, &[Kind::UnitProbeFailed, Kind::UnitUnready], usize::MAX);
        let Some(probe) = probe.filter(|at| *at >= began) else { return };
        self.use_event(probe);
        let event = &self.events[probe];
        let answer = text(event, "answer").or(event.cause.as_deref()).unwrap_or(&event.message);
        self.lines.push(format!("its last check at {} said: {answer}", self.time(probe)));
    }

    fn tell_failure(&mut self, unit: &UnitView) {
        let failed = self.last(&unit.name, &[Kind::UnitFailed], usize::MAX);
        let ending = self.last(&unit.name, &[Kind::UnitExited, Kind::UnitStartFailed], failed.unwrap_or(usize::MAX));
        self.chain.extend(failed);
        self.chain.extend(ending);
        let event = failed.map(|at| self.events[at].clone());
        let cause = unit.cause.clone().or_else(|| event.as_ref()?.cause.clone());
        let last_life = ending.map(|at| match self.tell_failing(&unit.name, at) {
            Some(failing) => format!("it {failing}"),
            None => self.ending(&unit.name, at),
        });
        let group = event.as_ref().and_then(|event| text(event, "group")).map(str::to_owned);
        match (cause, last_life) {
            (Some(cause), Some(last)) if is_limit(&cause) => {
                let last = last.strip_prefix("it ").map_or_else(|| last.clone(), |how| format!("its last life {how}"));
                let whose = group.as_ref().map(|group| format!("group {group} has no restart left: "));
                self.lines.push(format!("because {}{cause}; {last}", whose.unwrap_or_default()));
            }
            (Some(cause), _) if is_group(&cause) => self.lines.push(cause),
            (Some(_), Some(last)) if ending.is_some_and(|at| is_oom(&self.events[at])) => {
                self.lines.push(format!("because {last}"));
            }
            (Some(cause), _) => {
                let cause = failing_of(&cause).map_or(cause, |failing| format!("it {failing}"));
                self.lines.push(format!("because {cause}"));
            }
            (None, Some(last)) => self.lines.push(format!("because {last}")),
            (None, None) => {}
        }
        self.tell_consequences(&unit.name);
        let hint = unit.hint.clone().or_else(|| event.as_ref()?.hint.clone());
        let hint = hint.or_else(|| self.events[ending?].hint.clone());
        if let Some(hint) = hint {
            self.lines.push(format!("hint: {hint}"));
        }
        if let Some(other) = event.as_ref().and_then(|event| text(event, "caused_by")) {
            group.iter().for_each(|group| self.tell_given_up(group));
            self.tell_other(other);
        }
    }

    fn tell_stop(&mut self, unit: &UnitView) {
        let turn = self.last(&unit.name, &[Kind::UnitStopping, Kind::UnitStopped], usize::MAX);
        self.chain.extend(turn);
        let end = turn.unwrap_or(self.events.len());
        if let Some(other) = turn.and_then(|at| text(&self.events[at], "caused_by")).map(str::to_owned) {
            let cause = unit.cause.clone().or_else(|| self.events[end].cause.clone());
            self.lines.extend(cause.map(|cause| format!("because {cause}")));
            self.tell_consequences(&other);
            return self.tell_other(&other);
        }
        if self.tell_daemon_death(end) {
            return;
        }
        let by_hand = turn.is_none_or(|at| self.events[at].cause.is_none() || self.has_cause(at, &Cause::Operator));
        let began = self.last(&unit.name, &STARTS, end).unwrap_or(0);
        let asked = self.last_asked(&unit.name, &["stop", "restart"], end).filter(|at| by_hand && *at >= began);
        match (self.all_stopped(end), asked) {
            (Some(at), asked) => {
                self.use_event(at);
                let line = format!("because {} at {}", Cause::Shutdown, self.time(at));
                self.lines.push(match asked {
                    Some(asked) => format!("{line}; before that it was stopped by hand at {}", self.time(asked)),
                    None => line,
                });
                self.chain.extend(asked);
            }
            (None, Some(asked)) => self.tell_asked(asked),
            (None, None) => {
                let cause = turn.and_then(|at| self.events[at].cause.clone()).or_else(|| unit.cause.clone());
                self.lines.extend(cause.map(|cause| format!("because {cause}")));
            }
        }
    }

    /// Where the run of the event at `from` was stopped as a whole, that event or a later one.
    fn all_stopped(&self, from: usize) -> Option<usize> {
        let run = &self.events.get(from)?.run;
        (from..self.events.len()).find(|at| self.events[*at].run == *run && self.has_cause(*at, &Cause::Shutdown))
    }

    fn tell_blockers(&mut self, blockers: &[String]) {
        for blocker in blockers {
            self.tell_other(blocker);
        }
    }

    /// Whether a unit ever was ready, or was found not to be: others never say so, and running is enough.
    fn is_probed(&self, unit: &str) -> bool {
        let tells = |event: &EventView| {
            matches!(Kind::parse(&event.event), Some(Kind::UnitReady | Kind::UnitProbeFailed | Kind::UnitUnready))
        };
        self.events.iter().any(|event| event.unit.as_deref() == Some(unit) && tells(event))
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
        let is_started = Kind::parse(&event.event) == Some(Kind::UnitStarted);
        let turn = if is_started && !self.is_probed(unit) { "runs".to_owned() } else { turn_of(event) };
        self.lines.push(match &event.cause {
            Some(cause) => format!("{unit} {turn} since {since}: {cause}"),
            None => format!("{unit} {turn} since {since}"),
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

    /// As [`Self::last`], in the run of what happened at `end` or just before.
    fn last_of_run(&self, unit: &str, kinds: &[Kind], end: usize) -> Option<usize> {
        let run = &self.events.get(end).or(self.events.last())?.run;
        self.last(unit, kinds, end).filter(|at| self.events[*at].run == *run)
    }

    /// The last word of an operator about `unit` with one of these verbs before index `end`, in the same run.
    fn last_asked(&self, unit: &str, verbs: &[&str], end: usize) -> Option<usize> {
        let run = &self.events.get(end).or(self.events.last())?.run;
        let about = |at: &usize| {
            let event = &self.events[*at];
            let named = names(event, "units");
            self.is(*at, Kind::OperatorAsked)
                && event.run == *run
                && text(event, "verb").is_some_and(|verb| verbs.contains(&verb))
                && (named.is_empty() || named.iter().any(|name| name == unit))
        };
        (0..end.min(self.events.len())).rev().find(about)
    }

    /// Where the life that `began` belongs to was first mentioned: `starting` comes before `started`.
    fn first_of_life(&self, unit: &str, began: usize) -> usize {
        let life = self.events[began].incarnation;
        let same = |at: &usize| self.events[*at].incarnation == life;
        self.last_of_run(unit, &[Kind::UnitStarting], began).filter(same).unwrap_or(began)
    }

    fn has_cause(&self, at: usize, cause: &Cause) -> bool {
        self.events[at].cause.as_deref() == Some(cause.to_string().as_str())
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
