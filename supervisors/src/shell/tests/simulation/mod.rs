//! Whole lives of supervisors, drawn from seeds, in virtual time: whatever happens, nothing is left, nothing lives twice, and
//! nobody waits for ever. A failure names its seed.

mod fake;
mod script;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use tokio::runtime;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::fake::{Scope, World};
use self::script::{CALLS_OVER, Call};
use crate::shell::actor::Message;
use crate::shell::{ChildError, Reports, Supervisor, SupervisorHandle};

/// How many seeds are tried: a few seconds' worth.
const SEEDS: u64 = 300;
/// Within this a stop has to be done; starts of the simulation that never end are cut then.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than anything may take.
const FOR_EVER: Duration = Duration::from_secs(10_000);

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doom {
    /// The supervisor is stopped amid the calls.
    Stop,
    /// Its actor is killed amid them.
    Kill,
    /// Its actor panics amid them.
    Panic,
}

/// What was seen of a run.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    lines: Vec<String>,
    faults: Vec<String>,
}

/// Runs a seed.
fn run(seed: u64, doom: Doom, scope: Scope) -> Trace {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed, scope);
        let mut rng = Rng::with_seed(seed);
        let handle = Supervisor::start(script::supervisor(&mut rng, &world), None).await.unwrap();
        let begun = Instant::now();
        let at = Duration::from_millis(500 * rng.u64(4..2 * CALLS_OVER.as_secs()));
        let calls = script::calls(&mut rng, at).into_iter().enumerate();
        let calls = join_all(calls.map(|(nth, call)| make(nth, call, begun, &handle, &world)));
        let (lines, answers, ()) =
            tokio::join!(read(handle.reports(), begun), calls, end(doom, at, &mut rng, &handle, &world));
        let lines = lines.into_iter().chain(answers).collect();
        Trace { lines, faults: world.faults() }
    })
}

/// Makes one call at its time, and says what the answer was.
async fn make(
    nth: usize,
    (at, yields, call): (Duration, usize, Call),
    begun: Instant,
    handle: &SupervisorHandle,
    world: &Arc<World>,
) -> String {
    sleep_until(begun + at).await;
    for _ in 0..yields {
        yield_now().await;
    }
    let text = format!("{call:?}");
    let Ok(answer) = timeout(FOR_EVER, call.make(handle, world)).await else {
        world.fault(format!("call {nth} is not answered: {text}"));
        return text;
    };
    let is_down = matches!(handle.cell().get_status(), ractor::ActorStatus::Stopping | ractor::ActorStatus::Stopped);
    if matches!(answer, Err(ChildError::Gone(_))) && !is_down {
        world.fault(format!("call {nth} is answered as if the supervisor were gone: {text}"));
    }
    format!("{:?} call {nth}: {answer:?}", begun.elapsed())
}

/// Reads all reports there are.
async fn read(mut reports: Reports, begun: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(report) = reports.next().await {
        let (id, life) = (report.offender.id, report.offender.incarnation);
        lines.push(format!("{:?} {id} {life:?}: {:?} ({:?})", begun.elapsed(), report.context, report.reason));
    }
    lines
}

/// Brings the supervisor to its end at some moment, and looks at what is left.
async fn end(doom: Doom, at: Duration, rng: &mut Rng, handle: &SupervisorHandle, world: &Arc<World>) {
    sleep(at).await;
    for _ in 0..rng.usize(..30) {
        yield_now().await;
    }
    match doom {
        Doom::Stop => {
            let asked = Instant::now();
            let stopped = timeout(FOR_EVER, handle.stop(DEADLINE)).await;
            if !matches!(stopped, Ok(Ok(_) | Err(ChildError::Gone(_)))) || asked.elapsed() > DEADLINE {
                world.fault(format!("the stop took {:?}: {stopped:?}", asked.elapsed()));
            }
        }
        Doom::Kill | Doom::Panic => {
            if doom == Doom::Kill {
                handle.cell().kill();
            } else {
                drop(handle.cell().send_message(Message::Panic));
            }
            drop(timeout(FOR_EVER, handle.ended()).await);
            // What was killed drops what it holds when it is next on turn.
            sleep(Duration::from_millis(1)).await;
        }
    }
    let left = world.left();
    if !left.is_empty() {
        world.fault(format!("left: {left:?}"));
    }
}

/// Runs all seeds, each twice.
fn check(doom: Doom, scope: Scope, seeds: u64) {
    for seed in 0..seeds {
        let trace = run(seed, doom, scope);
        assert!(trace.faults.is_empty(), "seed {seed}, {doom:?}: {:#?}\n{:#?}", trace.faults, trace.lines);
        assert_eq!(trace, run(seed, doom, scope), "seed {seed}, {doom:?}: the second run was another");
    }
}

/// What runs hold at most.
const ALL: Scope = Scope { has_actors: true, has_bulk: true, has_slow_ends: true };

#[test]
fn whatever_happens_a_stopped_supervisor_leaves_nothing_and_owes_no_answer() {
    check(Doom::Stop, Scope { has_bulk: false, ..ALL }, SEEDS);
}

#[test]
fn whatever_happens_a_stopped_supervisor_owes_no_answer_to_who_started_many_at_once() {
    check(Doom::Stop, ALL, SEEDS);
}

#[test]
fn a_supervisor_that_is_killed_or_panics_at_any_moment_leaves_nothing_of_its_starts_and_owes_no_answer() {
    for doom in [Doom::Kill, Doom::Panic] {
        check(doom, Scope { has_actors: false, has_bulk: false, has_slow_ends: false }, SEEDS / 2);
    }
}

#[test]
fn a_supervisor_that_is_killed_or_panics_at_any_moment_leaves_nothing_of_those_that_were_stopping() {
    for doom in [Doom::Kill, Doom::Panic] {
        check(doom, Scope { has_actors: false, has_bulk: false, ..ALL }, SEEDS / 2);
    }
}

#[test]
fn a_supervisor_that_is_killed_or_panics_at_any_moment_leaves_nothing_of_its_actors_either() {
    for doom in [Doom::Kill, Doom::Panic] {
        check(doom, Scope { has_bulk: false, has_slow_ends: false, ..ALL }, SEEDS / 2);
    }
}
