use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use envctl_supervisors::reason::ExitReason;
use ractor::ActorCell;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::check::{ExecFuture, ExecOutcome};
use super::*;
use crate::process::Command;

const EVERY: Duration = Duration::from_secs(10);

/// Plays an answer per run: `+` yes, `-` no, `!` panics, `~` hangs. After the last it hangs.
struct Script {
    answers: Mutex<std::vec::IntoIter<char>>,
    runs: Mutex<Vec<Instant>>,
    under_way: Arc<AtomicUsize>,
}

/// Counts the runs under way; a dropped future counts as ended.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ExecRunner for Script {
    fn run(&self, _: Command, _: Duration) -> ExecFuture<'_> {
        assert_eq!(self.under_way.fetch_add(1, Ordering::SeqCst), 0, "two checks at once");
        let guard = UnderWay(Arc::clone(&self.under_way));
        self.runs.lock().unwrap().push(Instant::now());
        let answer = self.answers.lock().unwrap().next();
        Box::pin(async move {
            let _guard = guard;
            let exit = match answer {
                Some('+') => ExitReason::Code(0),
                Some('-') => ExitReason::Code(1),
                Some('!') => panic!("as the script says"),
                Some(_) | None => std::future::pending().await,
            };
            Ok(ExecOutcome { exit, tail: Vec::new() })
        })
    }
}

struct Probing {
    actor: ActorCell,
    events: mpsc::Receiver<ProbeEvent>,
    script: Arc<Script>,
    started: Instant,
}

async fn probing(purpose: Purpose, answers: &str) -> Probing {
    let script = Arc::new(Script {
        answers: Mutex::new(answers.chars().collect::<Vec<_>>().into_iter()),
        runs: Mutex::new(Vec::new()),
        under_way: Arc::default(),
    });
    let (sender, events) = mpsc::channel(64);
    let command = Command {
        program: "ask".into(),
        args: Vec::new(),
        env: Default::default(),
        dir: "/".into(),
        run_as: Default::default(),
        limits: Default::default(),
        stdin: None,
    };
    let args = ProbeArgs {
        probe: Probe::Exec(Box::new(command)),
        schedule: Schedule { every: EVERY, timeout: Duration::from_secs(5), failures: 3, successes: 1 },
        purpose,
        target: Target::default(),
        runner: Arc::clone(&script) as Arc<dyn ExecRunner>,
        report: Arc::new(move |event| sender.try_send(event).unwrap()),
    };
    let started = Instant::now();
    let (actor, _) = ProbeActor::spawn(None, ProbeActor, args).await.unwrap();
    Probing { actor: actor.get_cell(), events, script, started }
}

impl Probing {
    /// The next event and the time since the start at which it came.
    async fn next(&mut self) -> (ProbeEvent, u128) {
        let event = self.events.recv().await.expect("the probe ended");
        (event, self.started.elapsed().as_millis())
    }

    async fn stop(self) {
        self.actor.stop_and_wait(None, None).await.unwrap();
        assert_eq!(self.script.under_way.load(Ordering::SeqCst), 0, "a check outlived its probe");
    }
}

fn no() -> ProbeFailure {
    ProbeFailure("`ask`: exit code 1".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_unit_becomes_ready_loses_it_and_regains_it() {
    let mut probing = probing(Purpose::Ready, "--+---+").await;
    assert_eq!(probing.next().await, (ProbeEvent::Failing(no()), 20));
    assert_eq!(probing.next().await, (ProbeEvent::Ready, 20 + 10 + 14));
    assert_eq!(probing.next().await, (ProbeEvent::Unready(no()), 44 + 30_000));
    assert_eq!(probing.next().await, (ProbeEvent::Ready, 30_044 + 1_000));
    probing.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_living_unit_is_asked_at_its_interval_and_reported_once_it_is_lost() {
    let mut probing = probing(Purpose::Alive, "++---").await;
    assert_eq!(probing.next().await, (ProbeEvent::LivenessLost(no()), 50_000));
    let runs = probing.script.runs.lock().unwrap().len();
    assert_eq!(runs, 5, "it woke up more often than it had to");
    probing.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_a_failure_and_the_next_one_begins_after_it() {
    let mut probing = probing(Purpose::Ready, "~+").await;
    let (event, _) = probing.next().await;
    assert!(matches!(event, ProbeEvent::Failing(ProbeFailure(text)) if text.contains("did not end within 5s")));
    assert_eq!(probing.next().await.0, ProbeEvent::Ready);
    probing.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_is_a_failure_and_does_not_silence_the_probe() {
    let mut probing = probing(Purpose::Ready, "!+").await;
    assert_eq!(probing.next().await.0, ProbeEvent::Failing(ProbeFailure("the check itself panicked".to_owned())));
    assert_eq!(probing.next().await.0, ProbeEvent::Ready);
    probing.stop().await;
}

/// Lets the probe reach its hanging check: virtual time stands still only while something runs.
async fn until_under_way(probing: &Probing) {
    while probing.script.under_way.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_a_probe_aborts_the_check_under_way() {
    let probing = probing(Purpose::Ready, "").await;
    until_under_way(&probing).await;
    probing.stop().await;
}

#[tokio::test(start_paused = true)]
async fn killing_a_probe_aborts_the_check_under_way_and_nothing_is_reported_afterwards() {
    let mut probing = probing(Purpose::Ready, "~+").await;
    until_under_way(&probing).await;
    probing.actor.kill_and_wait(None).await.unwrap();
    // The channel's sender lives in the actor's state alone: its end is the state's end.
    assert_eq!(probing.events.recv().await, None);
    tokio::task::yield_now().await;
    assert_eq!(probing.script.under_way.load(Ordering::SeqCst), 0);
}
