//! What only shows on several threads: that a life is really gone before the next one comes.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

use super::world::*;
use crate::shell::actor::Message;
use crate::shell::{Life, Supervisor};

/// Lets the drop of an old state wait for its successor, which must not come.
#[derive(Default)]
struct Gate {
    alive: Mutex<usize>,
    entered: Condvar,
    overlaps: AtomicUsize,
}

struct Slow(Arc<Gate>);

/// How long a successor is waited for that must not come.
const OVERLAP_WAIT: Duration = Duration::from_millis(150);

impl Drop for Slow {
    fn drop(&mut self) {
        let alive = self.0.alive.lock().unwrap();
        let (mut alive, _) = self.0.entered.wait_timeout_while(alive, OVERLAP_WAIT, |alive| *alive < 2).unwrap();
        *alive -= 1;
    }
}

/// Some milliseconds' work for a supervisor.
const BUSY_MESSAGES: usize = 20_000;

struct Heir<H>(H);

impl<H: Send + Sync + 'static> Actor for Heir<H> {
    type Msg = Order;
    type State = Slow;
    type Arguments = Arc<Gate>;

    async fn pre_start(&self, _: ActorRef<Order>, gate: Arc<Gate>) -> Result<Slow, ActorProcessingErr> {
        let mut alive = gate.alive.lock().unwrap();
        *alive += 1;
        gate.overlaps.fetch_add(usize::from(*alive > 1), Ordering::SeqCst);
        gate.entered.notify_all();
        drop(alive);
        Ok(Slow(gate))
    }

    async fn post_stop(&self, _: ActorRef<Order>, _: &mut Slow) -> Result<(), ActorProcessingErr> {
        pending().await
    }

    async fn handle(&self, myself: ActorRef<Order>, order: Order, _: &mut Slow) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail | Order::Ready | Order::Unready => return Err("told to".into()),
            Order::Panic => panic!("told to"),
            Order::End => myself.stop(None),
        }
        Ok(())
    }
}

/// How often a successor came before the state of the life before it was dropped, when that ended like this.
async fn overlaps<H: Send + Sync + 'static>(handler: fn() -> H, end: fn(&ActorCell)) -> usize {
    let gate = Arc::new(Gate::default());
    let given = gate.clone();
    let lone = supervisor(vec![]).actor(spec("w"), move |_: &Life| (Heir(handler()), given.clone()));
    let handle = Supervisor::start(lone, None).await.unwrap();
    let mut reports = handle.reports();
    started(&mut reports, "w").await;
    let old = actor(&handle, "w").await;
    // A supervisor that is busy takes the news on its own thread, at once; an idle one would be woken on the old life's.
    (0..BUSY_MESSAGES).for_each(|_| handle.cell().send_message(Message::Alarm).unwrap());
    end(&old);
    started(&mut reports, "w").await;
    handle.stop(Duration::ZERO).await.unwrap();
    gate.overlaps.load(Ordering::SeqCst)
}

fn failing(cell: &ActorCell) {
    cell.send_message(Order::Fail).unwrap();
}

/// Killed in its `post_stop`, after its shutdown time.
fn killed_while_stopping(cell: &ActorCell) {
    cell.stop(None);
    cell.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_successor_starts_before_the_state_of_an_actor_with_something_to_drop_is_dropped() {
    for end in [failing, killed_while_stopping, ActorCell::kill] {
        assert_eq!(overlaps(|| Box::new(()), end).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_successor_starts_before_the_state_of_an_actor_with_nothing_to_drop_is_dropped() {
    for end in [failing, killed_while_stopping, ActorCell::kill] {
        assert_eq!(overlaps(|| (), end).await, 0);
    }
}
