//! The supervisor's actor: turns messages and supervision events into calls of [`Shell`], and nothing else. Never awaits.
//!
//! Messages come from its handles, from the tasks it started (starts, watchers, the alarm), from its children, and from a
//! supervisor above it.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use rustc_hash::FxHashMap;

use super::Children;
use super::child::{ErasedChild, LifeKey};
use super::ends::{End, Ended};
use super::handle::{Answer, ChildInfo, Counts, Outcome};
use super::leash::Leash;
use super::replies::BeginReply;
use super::reports::Outlet;
use super::state::{FirstStart, Shell};
use crate::Name;
use crate::engine::{Engine, Event};
use crate::reason::StartError;
use crate::spec::{ChildId, ChildSpec, Flags, GroupSpec};

/// The actor. Its own value is dropped as soon as it ends, whatever holds its state.
#[derive(Debug, Default)]
pub(super) struct SupervisorActor {
    leash: Leash,
}

/// What it is started with.
pub(super) struct Arguments {
    pub(super) name: Name,
    /// Of the same children, all down.
    pub(super) engine: Engine,
    pub(super) children: FxHashMap<ChildId, Arc<dyn ErasedChild>>,
    pub(super) outlet: Outlet,
    /// Told when all have been started for the first time, or that this failed.
    pub(super) first: Option<FirstStart>,
    pub(super) ended: Ended,
}

/// What it is told.
pub(super) enum Message {
    /// A start has succeeded.
    Begun { life: LifeKey, started: Started },
    /// A start has failed.
    NotBegun { life: LifeKey, error: Box<StartError> },
    /// A start says that there is nothing to run.
    Ignored { life: LifeKey },
    /// An actor runs that is not linked any more.
    Running { life: LifeKey },
    /// A life speaks of itself.
    Said { life: LifeKey, word: Word },
    /// The actor of a life is really gone.
    Gone { life: LifeKey, actor: ActorId, is_graceful: Option<bool> },
    /// Timers may be due.
    Alarm,
    /// Something of the engine's is asked for.
    Ask(Event),
    /// Add children and start them.
    StartChildren(Vec<NewChild>),
    /// Stop a child; answered when it is gone.
    TerminateChild(ChildId, Answer<()>),
    /// Start a child that is down.
    RestartChild(ChildId, Answer<Option<ActorCell>>),
    /// Forget a child that is down.
    DeleteChild(ChildId, Answer<()>),
    /// Tell of every child.
    WhichChildren(RpcReplyPort<Vec<ChildInfo>>),
    /// Tell of one.
    WhichChild(ChildId, Answer<ChildInfo>),
    /// Count them.
    CountChildren(RpcReplyPort<Counts>),
    /// Tell a spec.
    GetChildspec(ChildId, Answer<ChildSpec>),
    /// Take new specs, or flags.
    Replace(Box<Replacement>, Answer<()>),
    /// Stop everything, then end.
    Shutdown { deadline: Option<Duration>, reply: Option<RpcReplyPort<Arc<Vec<Outcome>>>> },
    /// A deadline of a shutdown has passed.
    Overdue,
    /// Fail in the handler.
    #[cfg(test)]
    Panic,
}

/// A child to be added, and who waits for it.
pub(super) struct NewChild {
    pub(super) spec: ChildSpec,
    pub(super) child: Arc<dyn ErasedChild>,
    pub(super) reply: BeginReply,
}

/// New specs and flags for a running supervisor.
pub(super) struct Replacement {
    pub(super) children: Children,
    pub(super) groups: Vec<GroupSpec>,
    pub(super) flags: Flags,
}

/// What a start task has brought forth.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) cell: ActorCell,
    /// Whether the actor reports its own end.
    pub(super) is_noted: bool,
}

/// What a life says of itself.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// It is ready.
    Ready,
    /// It is not ready any more.
    Unready(String),
    /// It does not answer any more.
    LivenessLost(String),
}

// === impl SupervisorActor ===

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Message>, arguments: Arguments) -> Result<Shell, ActorProcessingErr> {
        Ok(Shell::new(myself, arguments, self.leash.clone()))
    }

    async fn post_start(&self, _: ActorRef<Message>, shell: &mut Shell) -> Result<(), ActorProcessingErr> {
        shell.start_all();
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
            Message::Begun { life, started } => shell.begun(life, started),
            Message::NotBegun { life, error } => shell.not_begun(life, *error),
            Message::Ignored { life } => shell.ignored(life),
            Message::Running { life } => shell.started(life),
            Message::Said { life, word } => shell.said(life, word),
            Message::Gone { life, actor, is_graceful } => shell.gone(life, actor, is_graceful),
            Message::Alarm => shell.alarm(),
            Message::Ask(event) => shell.ask(event),
            Message::StartChildren(children) => {
                children.into_iter().for_each(|child| shell.start_child(child));
            }
            Message::TerminateChild(id, reply) => shell.terminate_child(id, reply),
            Message::RestartChild(id, reply) => shell.restart_child(id, reply),
            Message::DeleteChild(id, reply) => drop(reply.send(shell.delete_child(id))),
            Message::WhichChildren(reply) => drop(reply.send(shell.which_children())),
            Message::WhichChild(id, reply) => drop(reply.send(shell.which_child(&id))),
            Message::CountChildren(reply) => drop(reply.send(shell.count_children())),
            Message::GetChildspec(id, reply) => drop(reply.send(shell.childspec(id))),
            Message::Replace(replacement, reply) => drop(reply.send(shell.replace(*replacement))),
            Message::Shutdown { deadline, reply } => shell.shut_down(deadline, reply),
            Message::Overdue => shell.overdue(),
            #[cfg(test)]
            Message::Panic => panic!("told to"),
        }
        shell.settle();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match End::of(event) {
            Ok((cell, end)) => shell.ended(&cell, end),
            Err(Some(cell)) => shell.actor_started(&cell),
            Err(None) => {}
        }
        shell.settle();
        Ok(())
    }
}

impl Drop for SupervisorActor {
    /// Empty after an orderly end.
    fn drop(&mut self) {
        self.leash.kill_all();
    }
}
