//! The task of one start: runs it, owns what it spawned until the supervisor does, and reports back by message.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use ractor::{ActorCell, ActorRef};
use tokio::sync::oneshot;

use super::actor::{Message, Started};
use super::child::{BoxedStart, StartContext};
use super::noted::panic_text;
use crate::reason::StartError;

/// One start.
pub(super) struct StartTask {
    pub(super) start: BoxedStart,
    pub(super) context: StartContext,
    pub(super) supervisor: ActorRef<Message>,
    /// Fires when nobody waits for the start any more.
    pub(super) cut: oneshot::Receiver<()>,
}

// === impl StartTask ===

impl StartTask {
    pub(super) async fn run(self) {
        let Self { start, context, supervisor, cut } = self;
        let result = tokio::select! {
            biased;
            // A killed supervisor's state may lie in its parent's mailbox for long, and its tasks with it.
            _ = supervisor.wait(None) => Err(cut_short("the supervisor ended")),
            _ = cut => Err(cut_short("the deadline of the stop has passed")),
            result = unpanicking(start) => result,
        };
        let life = context.key();
        let told = match result {
            Ok(Some(cell)) => {
                let is_noted = take_over(&cell, &context, supervisor.get_cell());
                Message::Begun { life, started: Started { cell, is_noted } }
            }
            Ok(None) => {
                abandon(&context).await;
                Message::Ignored { life }
            }
            Err(error) => {
                abandon(&context).await;
                Message::NotBegun { life, error: Box::new(error) }
            }
        };
        // A supervisor that is gone has killed what was linked to it.
        drop(supervisor.send_message(told));
    }
}

/// Makes sure that the actor ends with the supervisor, and what else was started with the actor. Whether it takes note of
/// its own end.
fn take_over(cell: &ActorCell, context: &StartContext, supervisor: ActorCell) -> bool {
    let (mine, others): (Vec<_>, Vec<_>) = context.close().into_iter().partition(|born| born == cell);
    for other in others {
        other.link(cell.clone());
        if other.try_get_supervisor().as_ref() != Some(cell) {
            other.kill();
        }
    }
    cell.link(supervisor.clone());
    // Refused when either is going down already.
    if cell.try_get_supervisor() != Some(supervisor) {
        cell.kill();
    }
    !mine.is_empty()
}

/// Ends what a failed start has left, for real: the next start must not meet it.
async fn abandon(context: &StartContext) {
    let born = context.close();
    born.iter().for_each(ActorCell::kill);
    for cell in born {
        drop(cell.wait(None).await);
    }
}

/// A start that panics has failed.
async fn unpanicking(mut start: BoxedStart) -> Result<Option<ActorCell>, StartError> {
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| start.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(panic) => {
            let message = format!("start without {}", panic_text(&*panic));
            Poll::Ready(Err(StartError { message, hint: None, retry: true }))
        }
    })
    .await
}

fn cut_short(why: &str) -> StartError {
    StartError { message: format!("finish the start: {why}"), hint: None, retry: false }
}
