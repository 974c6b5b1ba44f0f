//! One life of a process, from its start to the moment nothing of it is left.
//!
//! Plain async code, driven by a stage that only moves forward (run → ask → kill); a unit actor runs it as a tracked task
//! and hears of its end by message.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use envctl_supervisors::reason::ExitReason;
use nix::libc::{SIGCONT, SIGKILL, SIGTERM};
use tokio::sync::{oneshot, watch};

use super::command::Command;
use super::end::{Proof, gone};
use super::heart::wire::Key;
use super::identity::Identity;
use super::stop::{Ask, Hooks, StopPlan};
use super::table::{Processes, Scope, Spawned};

/// How often everything that belongs is killed before what is left counts as escaped. New processes can appear between two
/// looks (a fork storm), but not for ever: each round kills every parent it saw.
const KILL_ROUNDS_MAX: u32 = 100;
/// Rounds that find nobody new before what is left counts as escaped: a second is enough for whatever can die.
const STUBBORN_ROUNDS_MAX: u32 = 5;
/// How long one round waits for the killed to be gone; a process in uninterruptible sleep takes longer.
const KILL_ROUND: Duration = Duration::from_millis(200);
/// How long strays of an earlier daemon have to end in order.
const STRAYS_GRACE: Duration = Duration::from_secs(5);
/// How long a look for leftovers waits before it looks again; a wait on pidfds, so their end is seen at once.
const LEFTOVER_ROUND: Duration = Duration::from_secs(1);

/// Where a command of a stop finds the main process's pid.
const MAIN_PID_VARIABLE: &str = "MAINPID";

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

/// How a life is asked to end, and what belongs to it.
#[derive(Debug, Clone)]
pub struct Manners {
    /// The steps, and how far they reach.
    pub plan: StopPlan,
    /// By what its processes are known; the leader is filled in.
    pub proof: Proof,
    /// Who runs the commands of the plan; without it they fail.
    pub hooks: Option<Hooks>,
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

/// Who is asked to end.
struct Target<'a> {
    processes: &'a Processes,
    key: Key,
    pid: u32,
    manners: &'a Manners,
}

/// Follows a started process to its end. The table's entry is released by the caller, after its output has been drained.
pub async fn live(processes: &Processes, spawned: Spawned, manners: Manners, stage: watch::Receiver<Stage>) -> Ended {
    let mut manners = manners;
    (manners.proof.leader, manners.proof.leader_start) = (Some(spawned.pid), spawned.adopted);
    manners.proof.cgroup = spawned.hold.cgroup.as_ref().map(Into::into);
    Life { processes, spawned, manners, stage }.live().await
}

/// Ends whatever still belongs to the proof and is in reach, without asking. Returns what could not be ended.
pub async fn sweep(processes: &Processes, proof: &Proof, reach: Scope) -> Vec<u32> {
    kill_rounds(|| in_reach(processes, proof, reach)).await
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
        // Apart: the room for an end is not kept while it lives.
        Box::pin(self.end()).await
    }

    /// It ended by itself: what is left of its group goes at once, so that its successor finds its port free.
    fn crashed(&self, reason: Option<ExitReason>) -> Ended {
        if self.manners.plan.reach != Scope::Main {
            self.processes.signal(self.spawned.key, SIGKILL, Scope::Group);
        }
        Ended { reason: known(reason), escaped: Vec::new() }
    }

    async fn end(&mut self) -> Ended {
        let Spawned { key, pid, exit, .. } = &mut self.spawned;
        let target = Target { processes: self.processes, key: *key, pid: *pid, manners: &self.manners };
        let killed = until_kill(self.stage.clone());
        let steps = target.take_steps(*self.stage.borrow());
        tokio::pin!(killed, steps);
        let reason = tokio::select! {
            biased;
            reason = &mut *exit => reason.ok(),
            () = &mut killed => return target.kill(exit).await,
            never = &mut steps => match never {},
        };
        tokio::select! {
            biased;
            () = target.empty() => Ended { reason: known(reason), escaped: Vec::new() },
            () = &mut killed => Ended { reason: known(reason), escaped: target.sweep().await },
            never = &mut steps => match never {},
        }
    }
}

// === impl Target ===

impl Target<'_> {
    /// Takes one step after the other. Never returns: what follows on the last is the supervisor's word.
    async fn take_steps(&self, stage: Stage) -> Infallible {
        if stage < Stage::Kill {
            for step in &self.manners.plan.steps {
                let over = tokio::time::sleep(step.after);
                tokio::pin!(over);
                match &step.ask {
                    Ask::Wait => over.await,
                    Ask::Signal(signal) => {
                        self.signal(*signal, step.scope).await;
                        over.await;
                    }
                    Ask::Run(command) => {
                        if self.run(command, step.after).await.is_ok() {
                            over.await;
                        }
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// Signals a scope. Those outside the leader's group are signalled one by one; CONT wakes the stopped.
    async fn signal(&self, signal: i32, scope: Scope) {
        let outside = match scope {
            Scope::Main | Scope::Group => Vec::new(),
            Scope::All => {
                let mut found = self.processes.scan(self.manners.proof.clone()).await;
                found.retain(|process| !in_group(process, self.pid));
                found
            }
        };
        for signal in [signal, SIGCONT] {
            self.processes.signal(self.key, signal, scope);
            signal_each(&outside, signal);
        }
    }

    /// Runs a command of the plan; it is killed when its time is over.
    async fn run(&self, command: &Command, within: Duration) -> Result<(), ()> {
        let mut command = command.clone();
        command.env.insert(MAIN_PID_VARIABLE.into(), self.pid.to_string().into());
        let Some(hooks) = &self.manners.hooks else { return Err(()) };
        let failed = match hooks.runner.run(command, within).await {
            Ok(outcome) if outcome.exit == ExitReason::Code(0) => return Ok(()),
            Ok(outcome) => {
                let tail = String::from_utf8_lossy(&outcome.tail);
                let last = tail.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
                format!("it ended with {}{last}", outcome.exit)
            }
            Err(error) => error,
        };
        (hooks.failed)(failed);
        Err(())
    }

    /// Kills everything in reach; for a main process that has not ended yet.
    async fn kill(&self, exit: &mut oneshot::Receiver<ExitReason>) -> Ended {
        self.processes.signal(self.key, SIGKILL, self.manners.plan.reach);
        let escaped = self.sweep().await;
        let reason = tokio::time::timeout(KILL_ROUND, exit).await;
        Ended { reason: known(reason.ok().and_then(Result::ok)), escaped }
    }

    /// Waits until nothing in reach is left; the main process has ended already.
    async fn empty(&self) {
        loop {
            let left = self.left().await;
            if left.is_empty() {
                return;
            }
            gone(left, LEFTOVER_ROUND).await;
        }
    }

    async fn left(&self) -> Vec<Identity> {
        in_reach(self.processes, &self.manners.proof, self.manners.plan.reach).await
    }

    async fn sweep(&self) -> Vec<u32> {
        sweep(self.processes, &self.manners.proof, self.manners.plan.reach).await
    }
}

/// What is alive of a life, as far as its stop reaches.
async fn in_reach(processes: &Processes, proof: &Proof, reach: Scope) -> Vec<Identity> {
    let leader = proof.leader.unwrap_or_default();
    match reach {
        Scope::Main => Identity::of(leader).into_iter().collect(),
        Scope::Group => {
            let by_leader = Proof { leader: proof.leader, ..Proof::default() };
            let mut found = processes.scan(by_leader).await;
            found.retain(|process| in_group(process, leader));
            found
        }
        Scope::All => processes.scan(proof.clone()).await,
    }
}

/// Kills what `left` finds until it finds nothing. Returns what could not be ended.
async fn kill_rounds<F: Future<Output = Vec<Identity>>>(left: impl Fn() -> F) -> Vec<u32> {
    let mut found = left().await;
    let (mut killed, mut stubborn) = (BTreeSet::new(), 0);
    for _ in 0..KILL_ROUNDS_MAX {
        if found.is_empty() || stubborn == STUBBORN_ROUNDS_MAX {
            break;
        }
        let known = killed.len();
        killed.extend(found.iter().cloned());
        stubborn = if killed.len() == known { stubborn + 1 } else { 0 };
        signal_each(&found, SIGKILL);
        gone(found, KILL_ROUND).await;
        found = left().await;
    }
    found.into_iter().map(|process| process.pid).collect()
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
