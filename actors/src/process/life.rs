//! One life of a process, from its start to the moment nothing of it is left.
//!
//! Plain async code, driven by a stage that only moves forward (run → ask → kill); a unit actor runs it as a tracked task
//! and hears of its end by message.

use std::time::Duration;

use envctl_supervisors::reason::ExitReason;
use nix::libc::{SIGCONT, SIGKILL, SIGTERM};
use tokio::sync::watch;

use super::end::{Proof, gone};
use super::identity::Identity;
use super::table::{Processes, Scope, Spawned};

/// How often everything that belongs is killed before what is left counts as escaped. New processes can appear between two
/// looks (a fork storm), but not for ever: each round kills every parent it saw.
const KILL_ROUNDS_MAX: u32 = 20;
/// How long one round waits for the killed to be gone; a process in uninterruptible sleep takes longer.
const KILL_ROUND: Duration = Duration::from_millis(200);
/// How long strays of an earlier daemon have to end in order.
const STRAYS_GRACE: Duration = Duration::from_secs(5);
/// How long a look for leftovers waits before it looks again; a wait on pidfds, so their end is seen at once.
const LEFTOVER_ROUND: Duration = Duration::from_secs(1);

/// What is wanted of a life. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Live.
    Run,
    /// Be asked to end.
    Ask,
    /// Be killed.
    Kill,
}

/// How a life is asked to end.
#[derive(Debug, Clone)]
pub struct Manners {
    /// The signal that asks.
    pub signal: i32,
    /// Who is asked.
    pub scope: Scope,
    /// By what its processes are known; the leader is filled in.
    pub proof: Proof,
}

/// The end of a life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How the main process ended.
    pub reason: ExitReason,
    /// Processes that could not be ended.
    pub escaped: Vec<u32>,
}

/// One life.
#[derive(Debug)]
struct Life<'a> {
    processes: &'a Processes,
    spawned: Spawned,
    manners: Manners,
    stage: watch::Receiver<Stage>,
}

/// Follows a started process to its end. The table's entry is released by the caller, after its output has been drained.
pub async fn live(processes: &Processes, spawned: Spawned, manners: Manners, stage: watch::Receiver<Stage>) -> Ended {
    let mut manners = manners;
    (manners.proof.leader, manners.proof.leader_start) = (Some(spawned.pid), spawned.adopted);
    manners.proof.cgroup = spawned.hold.cgroup.as_ref().map(Into::into);
    Life { processes, spawned, manners, stage }.live().await
}

/// Ends whatever still belongs to the proof, without asking. Returns what could not be ended.
pub async fn sweep(processes: &Processes, proof: &Proof) -> Vec<u32> {
    let mut left = processes.scan(proof.clone()).await;
    for _ in 0..KILL_ROUNDS_MAX {
        if left.is_empty() {
            break;
        }
        signal_each(&left, SIGKILL);
        gone(left, KILL_ROUND).await;
        left = processes.scan(proof.clone()).await;
    }
    left.into_iter().map(|process| process.pid).collect()
}

/// Asks whatever belongs to the proof to end, and gives it a little time.
pub async fn end_strays(processes: &Processes, proof: &Proof) {
    let strays = processes.scan(proof.clone()).await;
    signal_each(&strays, SIGTERM);
    signal_each(&strays, SIGCONT);
    gone(strays, STRAYS_GRACE).await;
}

// === impl Life ===

impl Life<'_> {
    async fn live(mut self) -> Ended {
        let asked = async {
            // A stage whose sender is gone stays as it is: the actor ended, the life goes on until it is attached again.
            if self.stage.wait_for(|stage| *stage >= Stage::Ask).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            reason = &mut self.spawned.exit => return self.crashed(reason.ok()),
            () = asked => {}
        }
        self.end().await
    }

    /// It ended by itself: what is left of its group goes at once, so that its successor finds its port free.
    fn crashed(&self, reason: Option<ExitReason>) -> Ended {
        self.processes.signal(self.spawned.key, SIGKILL, Scope::Group);
        Ended { reason: known(reason), escaped: Vec::new() }
    }

    async fn end(&mut self) -> Ended {
        self.ask().await;
        let killed = until_kill(self.stage.clone());
        tokio::pin!(killed);
        let reason = tokio::select! {
            biased;
            reason = &mut self.spawned.exit => reason.ok(),
            () = &mut killed => return self.kill().await,
        };
        loop {
            let left = self.processes.scan(self.manners.proof.clone()).await;
            if left.is_empty() {
                return Ended { reason: known(reason), escaped: Vec::new() };
            }
            tokio::select! {
                () = &mut killed => {
                    let escaped = sweep(self.processes, &self.manners.proof).await;
                    return Ended { reason: known(reason), escaped };
                }
                _ = gone(left, LEFTOVER_ROUND) => {}
            }
        }
    }

    /// Asks everything that belongs. Those outside the leader's group are asked one by one; CONT wakes the stopped.
    async fn ask(&self) {
        if *self.stage.borrow() >= Stage::Kill {
            return;
        }
        let Manners { signal, scope, proof } = &self.manners;
        let key = self.spawned.key;
        if *scope == Scope::Main {
            self.processes.signal(key, *signal, Scope::Main);
            self.processes.signal(key, SIGCONT, Scope::Main);
            return;
        }
        let mut outside = self.processes.scan(proof.clone()).await;
        outside.retain(|process| !in_group(process, self.spawned.pid));
        self.processes.signal(key, *signal, Scope::Group);
        self.processes.signal(key, SIGCONT, Scope::Group);
        signal_each(&outside, *signal);
        signal_each(&outside, SIGCONT);
    }

    async fn kill(&mut self) -> Ended {
        self.processes.signal(self.spawned.key, SIGKILL, Scope::Group);
        let escaped = sweep(self.processes, &self.manners.proof).await;
        let reason = tokio::time::timeout(KILL_ROUND, &mut self.spawned.exit).await;
        Ended { reason: known(reason.ok().and_then(Result::ok)), escaped }
    }
}

async fn until_kill(mut stage: watch::Receiver<Stage>) {
    if stage.wait_for(|stage| *stage >= Stage::Kill).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn in_group(process: &Identity, leader: u32) -> bool {
    super::identity::Stat::read(process.pid).is_some_and(|stat| stat.group == leader)
}

fn signal_each(processes: &[Identity], signal: i32) {
    for process in processes {
        if let Err(error) = process.signal(signal) {
            tracing::warn!(pid = process.pid, signal, %error, "a signal could not be sent");
        }
    }
}

fn known(reason: Option<ExitReason>) -> ExitReason {
    reason.unwrap_or_else(|| ExitReason::Unknown("its end was not seen".to_owned()))
}
