//! The task of one start: runs it, owns what it spawned until the supervisor does, and reports back by message.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use ractor::{ActorCell, ActorRef};
use tokio::sync::oneshot;

use super::actor::Message;
use super::child::{BoxedStart, ErasedChild, Graceful, StartContext};
use crate::reason::StartError;
use crate::spec::{ChildId, Incarnation};

/// One start.
pub(super) struct StartTask {
    pub(super) id: ChildId,
    pub(super) incarnation: Incarnation,
    pub(super) child: Arc<dyn ErasedChild>,
    pub(super) supervisor: ActorRef<Message>,
    /// Fires when nobody waits for the start any more.
    pub(super) cut: oneshot::Receiver<()>,
}

// === impl StartTask ===

impl StartTask {
    pub(super) async fn run(self) {
        let Self { id, incarnation, child, supervisor, cut } = self;
        let context = StartContext::new(id.clone(), incarnation, supervisor.clone());
        let result = tokio::select! {
            biased;
            // A killed supervisor's state may lie in its parent's mailbox for long, and its tasks with it.
            _ = supervisor.wait(None) => Err(cut_short("the supervisor ended")),
            _ = cut => Err(cut_short("the deadline of the stop has passed")),
            result = unpanicking(child.start_boxed(incarnation, context.clone())) => result,
        };
        let told = match result {
            Ok(cell) => {
                let graceful = take_over(&cell, &context, supervisor.get_cell());
                Message::Begun { id, incarnation, cell, graceful }
            }
            Err(error) => {
                abandon(&context).await;
                Message::NotBegun { id, incarnation, error }
            }
        };
        // A supervisor that is gone has killed what was linked to it.
        drop(supervisor.send_message(told));
    }
}

/// Makes sure that the actor ends with the supervisor, and what else was started with the actor.
fn take_over(cell: &ActorCell, context: &StartContext, supervisor: ActorCell) -> Option<Graceful> {
    let (mine, others): (Vec<_>, Vec<_>) = context.close().into_iter().partition(|born| born.cell == *cell);
    for other in others {
        other.cell.link(cell.clone());
        if other.cell.try_get_supervisor().as_ref() != Some(cell) {
            other.cell.kill();
        }
    }
    cell.link(supervisor.clone());
    // Refused when either is going down already.
    if cell.try_get_supervisor() != Some(supervisor) {
        cell.kill();
    }
    mine.into_iter().next().map(|born| born.graceful)
}

/// Ends what a failed start has left, for real: the next start must not meet it.
async fn abandon(context: &StartContext) {
    let born = context.close();
    for born in &born {
        born.cell.kill();
    }
    for born in born {
        drop(born.cell.wait(None).await);
    }
}

/// A start that panics has failed.
async fn unpanicking(mut start: BoxedStart) -> Result<ActorCell, StartError> {
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| start.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(panicked(&*panic))),
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> StartError {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("start without a panic: {}", text.unwrap_or("no text"));
    StartError { message, hint: None, retry: true }
}

fn cut_short(why: &str) -> StartError {
    StartError { message: format!("finish the start: {why}"), hint: None, retry: false }
}
