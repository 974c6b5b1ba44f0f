//! The root actor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::log_stream::Pump;
use envctl_actors::process::Processes;
use envctl_actors::registry::Registry;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::handle::{Escaped, Life, Parts, Project, RootArgs, RootMessage, shutting_down};
use super::recovery::{Orphan, take_over};
use super::shares::Servers;
use crate::control::wire::Refusal;
use crate::journal::views::Facts;
use crate::journal::{EventKind, Journal};
use crate::project::memory::Files;
use crate::project::state::Session;
use crate::project::supervisor::{ProjectActor, ProjectArgs};
use crate::spec::ProjectSpec;

/// The actor.
#[derive(Debug)]
pub(super) struct RootActor;

/// Its state.
pub(super) struct State {
    pub(super) session: Session,
    pub(super) projects: BTreeMap<PathBuf, Project>,
    /// Who has leases on shared servers, and which of those are going down.
    pub(super) servers: Servers,
    /// Runs of an earlier daemon that could not be taken over yet, because their configuration is broken.
    pub(super) orphans: BTreeMap<PathBuf, Orphan>,
    pub(super) clients: usize,
    pub(super) idle_after: Option<Duration>,
    pub(super) idle_timer: Option<AbortHandle>,
    pub(super) shutdown: Option<Vec<RpcReplyPort<Escaped>>>,
    ended: watch::Sender<Life>,
    pub(super) tasks: JoinSet<()>,
    /// Ends with the root.
    _pump: Pump,
}

// === impl RootActor ===

impl Actor for RootActor {
    type Msg = RootMessage;
    type State = State;
    type Arguments = RootArgs;

    async fn pre_start(&self, myself: ActorRef<RootMessage>, args: RootArgs) -> Result<State, ActorProcessingErr> {
        let RootArgs { name, places, leases, heart, program, idle_after, ended } = args;
        let registry = Registry::start(myself.get_cell()).await?;
        let (journal, _) = Journal::start_linked(myself.get_cell()).await?;
        let processes = Processes::start(heart, myself.get_cell()).await?;
        let pump = Pump::start()?;
        let (quiet, released) = (myself.clone(), myself.clone());
        let session = Session {
            name,
            places,
            processes,
            pump: pump.handle(),
            journal,
            registry,
            leases,
            program,
            released: Arc::new(move |leases| drop(released.cast(RootMessage::Release(leases)))),
            quiet: Arc::new(move || drop(quiet.cast(RootMessage::Quiet))),
        };
        let mut state = State {
            session,
            projects: BTreeMap::new(),
            servers: Servers::default(),
            orphans: BTreeMap::new(),
            clients: 0,
            idle_after,
            idle_timer: None,
            shutdown: None,
            ended,
            tasks: JoinSet::new(),
            _pump: pump,
        };
        state.arm_idle(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Project(spec, files, reply) => drop(reply.send(state.project(&myself, spec, files).await)),
            RootMessage::Projects(reply) => drop(reply.send(state.projects.values().cloned().collect())),
            RootMessage::Recover(reply) => {
                state.recover(&myself).await;
                let _ = reply.send(());
            }
            RootMessage::Find(root, reply) => drop(reply.send(state.find(&myself, root).await)),
            RootMessage::Client(true) => {
                state.clients += 1;
                state.disarm_idle();
            }
            RootMessage::Client(false) => {
                state.clients = state.clients.saturating_sub(1);
                state.arm_idle(&myself);
            }
            RootMessage::Quiet => state.arm_idle(&myself),
            RootMessage::IdleCheck => state.check_idle(&myself),
            RootMessage::Idle(true) if state.clients == 0 => myself.stop(None),
            RootMessage::Idle(_) => {}
            RootMessage::Shutdown(reply) => state.shut_down(&myself, reply),
            RootMessage::Hurry => state.hurry(),
            RootMessage::Down(replies) => {
                state.answer_shutdown(replies);
                myself.stop(None);
            }
            RootMessage::Journal(reply) => drop(reply.send(state.session.journal.clone())),
            RootMessage::HeartPid(reply) => state.tell_heart_pid(reply),
            RootMessage::Parts(reply) => drop(reply.send(state.parts())),
            RootMessage::Lease(spec, unit, start, reply) => {
                drop(reply.send(state.lease(&myself, &spec, &unit, start).await))
            }
            RootMessage::Release(leases) => state.release(&leases),
            RootMessage::Settle(reply) => state.settle(reply),
            RootMessage::Sweep(spec, unit, reply) => state.sweep(&spec, &unit, reply),
        }
        while state.tasks.try_join_next().is_some() {}
        Ok(())
    }

    /// A system actor that fails takes the session with it: heart then starts a new daemon, which takes everything over.
    /// A project supervisor that fails is made anew by the same way back.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            tracing::error!(actor = %actor.get_id(), %error, "an actor of the session failed: the daemon starts anew");
            state.ended.send_replace(Life::Failed);
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<RootMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.ended.send_if_modified(|life| {
            let ended = *life == Life::Living;
            if ended {
                *life = Life::Ended;
            }
            ended
        });
        Ok(())
    }
}

// === impl State ===

impl State {
    pub(super) async fn project(
        &mut self,
        myself: &ActorRef<RootMessage>,
        spec: Arc<ProjectSpec>,
        files: Files,
    ) -> Result<Project, Refusal> {
        if self.shutdown.is_some() {
            return Err(shutting_down());
        }
        if let Some(project) = self.projects.get(&spec.root) {
            return Ok(project.clone());
        }
        let (name, root) = (spec.name.clone(), spec.root.clone());
        let failed = |error: String| Refusal {
            code: "failed".to_owned(),
            message: format!("failed to set up {}: {error}", spec.name),
            hint: Some("`envctl show-state` prints the paths; check their permissions".to_owned()),
        };
        let places = self.session.places.for_project(&root, &name).map_err(|error| failed(error.to_string()))?;
        let opened = self.session.journal.open(&places, Facts::of(&spec, &places)).await;
        let (key, recovery) = opened.map_err(|error| failed(error.to_string()))?;
        if recovery.corrupt_lines > 0 || recovery.cut_bytes > 0 {
            let text = format!("the journal was damaged; {} events could be read", recovery.events);
            let event = EventKind::JournalRepaired.event("", text).detail("count", recovery.corrupt_lines);
            self.session.journal.append(&key, event.detail("bytes", recovery.cut_bytes));
        }
        if recovery.dropped > 0 {
            let text = format!("the journal was too long: its {} oldest events are gone", recovery.dropped);
            self.session
                .journal
                .append(&key, EventKind::JournalShortened.event("", text).detail("count", recovery.dropped));
        }
        let args = ProjectArgs { session: self.session.clone(), places, key, spec: spec.clone(), files };
        let (actor, _) = ProjectActor::spawn_linked(None, ProjectActor, args, myself.get_cell())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let project = Project { name, root: root.clone(), actor };
        self.projects.insert(root.clone(), project.clone());
        if let Some(orphan) = self.orphans.remove(&root) {
            take_over(&project, orphan.memory).await;
        }
        Ok(project)
    }

    fn parts(&self) -> Result<Parts, Refusal> {
        if self.shutdown.is_some() {
            return Err(shutting_down());
        }
        let Session { processes, pump, journal, .. } = self.session.clone();
        Ok(Parts { processes, pump, journal })
    }

    fn tell_heart_pid(&mut self, reply: RpcReplyPort<Option<u32>>) {
        let processes = self.session.processes.clone();
        self.tasks.spawn(async move {
            let _ = reply.send(processes.heart_pid().await);
        });
    }
}
