//! Whether anything is done in a session: what a daemon does between two pieces of work waits for a pause.
//!
//! A beat costs a lock that nobody waits for, and wakes nobody while a pause is being waited for. Nothing runs while nothing is
//! done.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

/// So long without a beat is a pause. Longer than what people and tools leave between two commands of one piece of work.
pub const PAUSE: Duration = Duration::from_secs(3);

/// Beats when something is done.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Sender<()>);

// === impl Pulse ===

impl Default for Pulse {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Pulse {
    /// Something is done.
    pub fn beat(&self) {
        self.0.send_replace(());
    }

    /// Does something in every pause: after work, and once after the start.
    pub async fn in_pauses(&self, mut act: impl FnMut()) -> Infallible {
        let mut beats = self.0.subscribe();
        beats.mark_changed();
        loop {
            // The sender is ours, so it is there.
            let _ = beats.changed().await;
            while !has_paused(&mut beats).await {}
            act();
        }
    }
}

/// Waits for the length of a pause. `false`: there were beats in it.
async fn has_paused(beats: &mut watch::Receiver<()>) -> bool {
    beats.mark_unchanged();
    tokio::time::sleep(PAUSE).await;
    !beats.has_changed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    /// What `in_pauses` has done after `length`, with a beat `every` so often at first, so many `times`.
    async fn acts(length: Duration, every: Duration, times: u32) -> u32 {
        let (pulse, acts) = (Pulse::default(), Cell::new(0));
        let beats = async {
            for _ in 0..times {
                tokio::time::sleep(every).await;
                pulse.beat();
            }
            std::future::pending::<Infallible>().await
        };
        let both = async { tokio::join!(pulse.in_pauses(|| acts.set(acts.get() + 1)), beats) };
        let _ = timeout(length, both).await;
        acts.get()
    }

    #[tokio::test(start_paused = true)]
    async fn the_start_is_work_and_then_nothing_is_done_while_nothing_is_done() {
        assert_eq!(acts(PAUSE - Duration::from_millis(1), PAUSE, 0).await, 0);
        assert_eq!(acts(PAUSE * 1000, PAUSE, 0).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn steady_work_has_no_pause_and_each_pause_is_used_once() {
        assert_eq!(acts(PAUSE * 50, PAUSE / 2, 100).await, 0);
        assert_eq!(acts(PAUSE * 60, PAUSE / 2, 100).await, 1);
        assert_eq!(acts(PAUSE * 50, PAUSE * 4, 5).await, 6);
    }
}
