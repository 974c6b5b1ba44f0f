//! When to ask again, and what a row of answers means.
//!
//! Pure: results come in, events and delays come out; there is no clock here. Hysteresis on both edges: one bad answer is
//! no loss, one good answer in a row of bad ones is no recovery (unless the schedule says so).
//!
//! | purpose | state | `successes` good in a row | `failures` bad in a row | delay |
//! |---|---|---|---|---|
//! | ready | waiting | `Ready` | – (each new detail: `Failing`) | 20 ms, then 10 ms growing to `every`, 1 s at most |
//! | ready | ready | – | `Unready` | `every` |
//! | ready | lost | `Ready` | – | `every`, 1 s at most |
//! | alive | – | – | `LivenessLost`, and counts anew | `every` |

use std::time::Duration;

use super::{ProbeFailure, Schedule};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reports when the unit becomes ready, loses that and regains it.
    Ready,
    /// Reports when a running unit no longer answers.
    Alive,
}

/// What a probe reports to its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEvent {
    /// The unit became ready, or ready again.
    Ready,
    /// The unit was ready and no longer is.
    Unready(ProbeFailure),
    /// The unit no longer answers.
    LivenessLost(ProbeFailure),
    /// The unit is not ready yet, for this (new) reason.
    Failing(ProbeFailure),
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to report, if anything.
    pub event: Option<ProbeEvent>,
    /// How long to wait before asking again.
    pub next: Duration,
}

/// The memory of one probe of one incarnation.
#[derive(Debug, Clone)]
pub struct Cadence {
    schedule: Schedule,
    purpose: Purpose,
    state: State,
    failures: u32,
    successes: u32,
}

#[derive(Debug, Clone)]
enum State {
    /// Not ready yet, and after a bad answer asked again after so long.
    Waiting { delay: Duration, told: Option<ProbeFailure>, reports: u32 },
    /// Ready (or alive).
    Good,
    /// Was ready once.
    Lost,
}

/// The first readiness check comes this long after the start: most programs are not listening any earlier.
pub const DELAY_FIRST: Duration = Duration::from_millis(20);
/// The second comes so much later. Then each delay is a third longer than the last, so a unit that is up waits for its check
/// about a third as long as it took to start.
pub const DELAY_SECOND: Duration = Duration::from_millis(10);
/// Longest delay between readiness checks while a unit is not ready: nobody should wait longer for a thing that is up.
pub const DELAY_NOT_READY_MAX: Duration = Duration::from_secs(1);
/// The delay between the good answers of a row that makes a unit ready: long enough that a server which answers and dies at once
/// is found out, short beside any start.
pub const DELAY_CONFIRM: Duration = Duration::from_millis(15);
/// Reasons reported while a unit is not ready yet; a text that changes with every check must not fill the journal.
pub const FAILING_REPORTS_MAX: u32 = 8;

// === impl Cadence ===

impl Cadence {
    /// The beginning of an incarnation.
    pub fn new(schedule: Schedule, purpose: Purpose) -> Self {
        let state = match purpose {
            Purpose::Ready => State::Waiting { delay: DELAY_SECOND, told: None, reports: 0 },
            Purpose::Alive => State::Good,
        };
        Self { schedule, purpose, state, failures: 0, successes: 0 }
    }

    /// How long to wait before the first check.
    pub fn first(&self) -> Duration {
        match &self.state {
            State::Waiting { .. } => DELAY_FIRST.min(self.quick()),
            State::Good | State::Lost => self.schedule.every,
        }
    }

    /// Takes the answer of a check.
    pub fn step(&mut self, result: Result<(), ProbeFailure>) -> Verdict {
        let event = match result {
            Ok(()) => self.succeeded(),
            Err(failure) => self.failed(failure),
        };
        Verdict { event, next: self.next_delay() }
    }

    fn succeeded(&mut self) -> Option<ProbeEvent> {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        match self.state {
            State::Good => None,
            State::Waiting { .. } | State::Lost if self.successes < self.schedule.successes.max(1) => None,
            State::Waiting { .. } | State::Lost => {
                self.state = State::Good;
                Some(ProbeEvent::Ready)
            }
        }
    }

    fn failed(&mut self, failure: ProbeFailure) -> Option<ProbeEvent> {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        match &mut self.state {
            State::Waiting { told, reports, .. } => {
                if told.as_ref() == Some(&failure) || *reports >= FAILING_REPORTS_MAX {
                    return None;
                }
                *reports += 1;
                *told = Some(failure.clone());
                Some(ProbeEvent::Failing(failure))
            }
            State::Good if self.failures >= self.schedule.failures.max(1) => Some(self.lost(failure)),
            State::Good | State::Lost => None,
        }
    }

    fn lost(&mut self, failure: ProbeFailure) -> ProbeEvent {
        self.failures = 0;
        match self.purpose {
            Purpose::Ready => {
                self.state = State::Lost;
                ProbeEvent::Unready(failure)
            }
            Purpose::Alive => ProbeEvent::LivenessLost(failure),
        }
    }

    fn next_delay(&mut self) -> Duration {
        let quick = self.quick();
        match &mut self.state {
            // It answered: what is missing is only the confirmation that it goes on doing so.
            State::Waiting { .. } if self.successes > 0 => DELAY_CONFIRM,
            State::Waiting { delay, .. } => {
                let now = (*delay).min(quick);
                *delay = now * 4 / 3;
                now
            }
            State::Good => self.schedule.every,
            State::Lost => quick,
        }
    }

    fn quick(&self) -> Duration {
        self.schedule.every.min(DELAY_NOT_READY_MAX)
    }
}

#[cfg(test)]
mod tests;
