//! The supervisor's actor: turns messages and supervision events into calls of [`Shell`], and nothing else. Never awaits.
//!
//! Messages come from its handles, from the tasks it started (starts, watchers, timers), from contexts its children
//! hold, and from a supervisor above it.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::broadcast::Sender;

use super::child::{ErasedChild, Graceful};
use super::handle::{Answer, ChildInfo, Outcome};
use super::reports::SupervisorReport;
use super::state::{End, Shell};
use crate::Name;
use crate::engine::{Engine, Event, TimerKey};
use crate::reason::StartError;
use crate::spec::{ChildId, ChildSpec, Incarnation};

/// The actor.
#[derive(Debug)]
pub(super) struct SupervisorActor;

/// What it is started with.
pub(super) struct Arguments {
    pub(super) name: Name,
    /// Of the same children, all down.
    pub(super) engine: Engine,
    pub(super) children: IndexMap<ChildId, (ChildSpec, Arc<dyn ErasedChild>)>,
    pub(super) reports: Sender<SupervisorReport>,
}

/// What it is told.
pub(super) enum Message {
    /// A start has succeeded.
    Begun { id: ChildId, incarnation: Incarnation, cell: ActorCell, graceful: Option<Graceful> },
    /// A start has failed.
    NotBegun { id: ChildId, incarnation: Incarnation, error: StartError },
    /// A life speaks of itself.
    Said { id: ChildId, incarnation: Incarnation, word: Word },
    /// The actor of a life is really gone.
    Gone { id: ChildId, incarnation: Incarnation, actor: ActorId },
    /// A timer is due.
    Timer(TimerKey),
    /// Add a child and start it.
    StartChild(Box<ChildSpec>, Arc<dyn ErasedChild>, Answer<()>),
    /// Stop a child; answered when it is gone.
    TerminateChild(ChildId, Answer<()>),
    /// Give a child a new life.
    RestartChild(ChildId, Answer<()>),
    /// Forget a child that is down.
    DeleteChild(ChildId, Answer<()>),
    /// Tell of every child.
    WhichChildren(RpcReplyPort<Vec<ChildInfo>>),
    /// Stop everything, then end.
    Shutdown { deadline: Option<Duration>, reply: Option<RpcReplyPort<Vec<Outcome>>> },
    /// A deadline of a shutdown has passed.
    Overdue,
    /// Fail in the handler.
    #[cfg(test)]
    Panic,
}

/// What a life says of itself.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// It is ready.
    Ready,
    /// It is not ready any more.
    Unready(String),
}

// === impl SupervisorActor ===

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Message>, arguments: Arguments) -> Result<Shell, ActorProcessingErr> {
        Ok(Shell::new(myself, arguments))
    }

    async fn post_start(&self, _: ActorRef<Message>, shell: &mut Shell) -> Result<(), ActorProcessingErr> {
        shell.step(Event::Start { ids: Vec::new(), with_needs: true });
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked may be gone: an answer that nobody takes is no error.
        match message {
            Message::Begun { id, incarnation, cell, graceful } => shell.begun(id, incarnation, cell, graceful),
            Message::NotBegun { id, incarnation, error } => shell.not_begun(id, incarnation, error),
            Message::Said { id, incarnation, word } => shell.said(id, incarnation, word),
            Message::Gone { id, incarnation, actor } => shell.gone(id, incarnation, actor),
            Message::Timer(key) => shell.timer(key),
            Message::StartChild(spec, child, reply) => drop(reply.send(shell.start_child(*spec, child))),
            Message::TerminateChild(id, reply) => shell.terminate_child(id, reply),
            Message::RestartChild(id, reply) => drop(reply.send(shell.restart_child(id))),
            Message::DeleteChild(id, reply) => drop(reply.send(shell.delete_child(&id))),
            Message::WhichChildren(reply) => drop(reply.send(shell.which_children())),
            Message::Shutdown { deadline, reply } => shell.shut_down(deadline, reply),
            Message::Overdue => shell.overdue(),
            #[cfg(test)]
            Message::Panic => panic!("told to"),
        }
        shell.settle()
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, state, _) => {
                shell.ended(&cell, End::Terminated { has_state: state.is_some() });
            }
            SupervisionEvent::ActorFailed(cell, error) => shell.ended(&cell, End::Failed(error.to_string())),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
