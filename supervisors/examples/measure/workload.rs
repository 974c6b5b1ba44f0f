//! The workloads, the same for every subject that runs on ractor. `measure.erl` has them once more for Erlang.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorStatus};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::plan::{Kind, Workload};
use crate::table::{Value, quantile};
use crate::witness::{Life, Order, Witness};

/// Children of the warm-up: all code has run once, and little memory is taken.
const WARM_UP: usize = 100;
/// Restarts that are looked at apart: few enough that a supervisor's memory of them is still short.
const FIRST: usize = 100;

/// Whether children are in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// They are not (OTP's `simple_one_for_one`).
    Independent,
    /// Each starts after and stops before the one above it (OTP's `one_for_one`).
    Chain,
}

/// A supervisor of [`Probe`](crate::witness::Probe)s that are always restarted, as often as it takes.
pub(crate) trait Supervision: Sized + Send + 'static {
    /// Starts a supervisor without children.
    fn start(shape: Shape, witness: Arc<Witness>) -> impl Future<Output = Self> + Send;

    /// Starts so many more children, one request after another.
    fn fill(&mut self, more: usize) -> impl Future<Output = ()> + Send;

    /// The supervisor's actor: its children are linked to it.
    fn cell(&self) -> ActorCell;

    /// Asks every child to stop, in the order of the shape, and ends.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// Runs a workload and tells what came out.
pub(crate) async fn run<S: Supervision>(workload: Workload) -> Vec<Value> {
    let Workload { kind, children, restarts } = workload;
    start_and_stop::<S>(Shape::Independent, WARM_UP).await;
    match kind {
        Kind::Start => start_and_stop::<S>(Shape::Independent, children).await,
        Kind::Chain => start_and_stop::<S>(Shape::Chain, children).await,
        Kind::Restart | Kind::Siblings => restart::<S>(children, restarts).await,
        Kind::Burst => burst::<S>(children).await,
    }
}

async fn start_and_stop<S: Supervision>(shape: Shape, children: usize) -> Vec<Value> {
    let (witness, _) = Witness::new();
    let mut supervision = S::start(shape, witness.clone()).await;
    let before = resident_bytes();
    witness.born.expect(children);
    let asked = Instant::now();
    supervision.fill(children).await;
    let start = witness.born.reached().await - asked;
    settled(&supervision.cell(), children).await;
    let taken = resident_bytes() - before;
    witness.gone.expect(children);
    let asked = Instant::now();
    supervision.stop().await;
    let ended = Instant::now();
    let stop = witness.gone.reached().await.max(ended) - asked;
    vec![
        Value::new("start", children as f64 / start.as_secs_f64(), "children/s"),
        Value::new("stop", millis(stop), "ms"),
        Value::new("mem_per_child", taken / children as f64, "bytes"),
    ]
}

async fn restart<S: Supervision>(siblings: usize, times: usize) -> Vec<Value> {
    let (witness, mut lives) = Witness::new();
    let mut supervision = S::start(Shape::Independent, witness.clone()).await;
    supervision.fill(siblings).await;
    settled(&supervision.cell(), siblings).await;
    witness.tell();
    supervision.fill(1).await;
    let mut life = next(&mut lives).await;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let failed = Instant::now();
        life.cell.send_message(Order::Fail).expect("invariant: it lives until it is told to fail");
        life = next(&mut lives).await;
        took.push(micros(life.at - failed));
    }
    let percentile = |times: &[f64], share| quantile(times, share).unwrap_or_default();
    vec![
        Value::new("restart_p50", percentile(&took, 0.5), "us"),
        Value::new("restart_p99", percentile(&took, 0.99), "us"),
        Value::new("restart_first_p50", percentile(&took[..times.min(FIRST)], 0.5), "us"),
    ]
}

async fn burst<S: Supervision>(children: usize) -> Vec<Value> {
    let (witness, _) = Witness::new();
    let mut supervision = S::start(Shape::Independent, witness.clone()).await;
    supervision.fill(children).await;
    let cells = settled(&supervision.cell(), children).await;
    witness.born.expect(2 * children);
    let killed = Instant::now();
    for cell in cells {
        cell.kill();
    }
    let took = witness.born.reached().await - killed;
    vec![Value::new("restarts_per_second", children as f64 / took.as_secs_f64(), "restarts/s")]
}

async fn next(lives: &mut mpsc::Receiver<Life>) -> Life {
    lives.recv().await.expect("invariant: the witness lives as long as the run")
}

/// Waits until all children are linked and run, which is after their `pre_start`: before, a kill would be no crash of a
/// child but a failed start.
async fn settled(supervisor: &ActorCell, children: usize) -> Vec<ActorCell> {
    loop {
        let cells = supervisor.get_children();
        if cells.len() == children && cells.iter().all(|cell| cell.get_status() == ActorStatus::Running) {
            return cells;
        }
        yield_now().await;
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Memory of this process in RAM (`VmRSS` of proc(5)); 0 where there is no such file.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or_default() * 1024.0
}
