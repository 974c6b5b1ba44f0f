//! All timers of a supervisor: one sleeping task, for the one that comes due first.

use std::collections::BTreeMap;

use ractor::ActorRef;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::actor::Message;
use crate::engine::{Time, TimerKey};

/// The timers.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    due: BTreeMap<(Time, u64), TimerKey>,
    sleeper: Option<(Time, AbortHandle)>,
}

// === impl Alarm ===

impl Alarm {
    pub(super) fn arm(&mut self, key: TimerKey, at: Time) {
        self.due.insert((at, key.generation), key);
    }

    pub(super) fn cancel(&mut self, key: TimerKey, at: Time) {
        self.due.remove(&(at, key.generation));
    }

    /// The next timer that is due.
    pub(super) fn pop(&mut self, now: Time) -> Option<TimerKey> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// The sleeper has reported.
    pub(super) fn rang(&mut self) {
        self.sleeper = None;
    }

    /// Sees to it that somebody sleeps until the first timer. One that sleeps for a cancelled timer may go on: it wakes for
    /// nothing, once.
    pub(super) fn wind(&mut self, epoch: Instant, tasks: &mut JoinSet<()>, supervisor: &ActorRef<Message>) {
        let Some((&(first, _), _)) = self.due.first_key_value() else { return };
        if self.sleeper.as_ref().is_some_and(|(until, _)| *until <= first) {
            return;
        }
        // A time beyond what the clock can tell never comes.
        let Some(until) = epoch.checked_add(first) else { return };
        if let Some((_, later)) = self.sleeper.take() {
            later.abort();
        }
        let supervisor = supervisor.clone();
        let sleeper = tasks.spawn(async move {
            sleep_until(until).await;
            drop(supervisor.send_message(Message::Alarm));
        });
        self.sleeper = Some((first, sleeper));
    }
}
