//! The project supervisor: an actor round [`super::state::Project`]. Turns messages into calls, and nothing else.

use std::path::Path;
use std::sync::Arc;

use envctl_actors::process::end::Claim;
use envctl_actors::process::exec::Runner;
use envctl_actors::process::{Role, Tag};
use envctl_actors::requirement::actor::{Requirement, RequirementActor};
use envctl_actors::service::{Service, ServiceActor};
use envctl_actors::task::{Task, TaskActor};
use envctl_actors::unit::{Begin, Kind, UnitActor, UnitArgs, UnitMessage, UnitReport};
use envctl_supervisors::Name;
use envctl_supervisors::engine::TimerKey;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::spec::Incarnation;
use futures::{FutureExt, TryFutureExt};
use indexmap::IndexMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::watch;

use super::commands::{self, Surroundings};
use super::confines;
use super::containers;
use super::environment::Environment;
use super::memory::{Files, Memory};
use super::requirements::variables;
use super::share::{Grants, Seen, Shared};
use super::state::{Project, Session};
use super::terminal::Terminal;
use crate::control::view::ProjectView;
use crate::control::wire::{Accepted, DownReply, ExecReply, Refusal, RequirementReply, UnitEnvReply, UpReply, Verb};
use crate::journal::ProjectKey;
use crate::places::ProjectPlaces;
use crate::project::environment::Capture;
use crate::spec::{Driver, Program, ProjectSpec, RequirementSpec, UnitKind, UnitSpec};
use crate::vars::{Patch, ProjectVars, RtVars, WireName, derived};

/// The actor.
#[derive(Debug)]
pub struct ProjectActor;

/// What it is started with.
pub struct ProjectArgs {
    /// What it shares with the other projects of the session.
    pub session: Session,
    /// Its directories.
    pub places: ProjectPlaces,
    /// Its journal.
    pub key: ProjectKey,
    /// What is to be run.
    pub spec: Arc<ProjectSpec>,
    /// Where its configuration is read from.
    pub files: Files,
}

/// What an `up` brings.
#[derive(Debug)]
pub struct UpOrder {
    /// The configuration as it is now.
    pub spec: Arc<ProjectSpec>,
    /// Where it was read from.
    pub files: Files,
    /// Units to start; empty: all.
    pub units: Vec<String>,
    /// Without what they need.
    pub no_deps: bool,
    /// The caller's environment.
    pub capture: Capture,
    /// What was given for the requirements that share a server.
    pub shared: Grants,
}

/// What a `down` brings.
#[derive(Debug)]
pub struct DownOrder {
    /// Units to stop; empty: the whole run.
    pub units: Vec<String>,
    /// Time until everything left is killed.
    pub timeout: Option<std::time::Duration>,
    /// Kill at once.
    pub kill: bool,
}

/// An answer that may be a refusal.
pub type Answer<T> = RpcReplyPort<Result<T, Refusal>>;

/// What it is told.
pub enum ProjectMessage {
    /// Start units; begins a run or joins the one there is.
    Up(UpOrder, Answer<UpReply>),
    /// Stop units, or the whole run.
    Down(DownOrder, Answer<DownReply>),
    /// Start, stop or restart units of the run.
    Operate(Verb, Vec<String>, Answer<Accepted>),
    /// Signal units' main processes.
    Signal(i32, Vec<String>, Answer<Accepted>),
    /// A unit's environment.
    Env(String, bool, Answer<UnitEnvReply>),
    /// What a guest of a unit gets.
    Guest(String, Answer<ExecReply>),
    /// What a requirement offers.
    RequirementInfo(String, bool, Answer<RequirementReply>),
    /// Drop the data of requirements that are down; what they have on shared servers that run.
    DropData(Vec<String>, Shared, Answer<Accepted>),
    /// What it is configured to be.
    Spec(RpcReplyPort<Arc<ProjectSpec>>),
    /// Hear of a shared server from now on.
    Attend(Name, watch::Receiver<ProjectView>),
    /// A shared server is seen.
    ServerSeen(Name, Seen),
    /// The state, now and after every change.
    Watch(RpcReplyPort<watch::Receiver<ProjectView>>),
    /// Its journal.
    Key(RpcReplyPort<ProjectKey>),
    /// Whether anything lives or will come up by itself.
    IsActive(RpcReplyPort<bool>),
    /// A unit's terminal.
    Terminal(String, Answer<Terminal>),
    /// Word that a unit's log has grown.
    Logs(Vec<String>, Answer<Vec<watch::Receiver<envctl_actors::log_stream::Length>>>),
    /// The disk refuses what a unit writes, or takes it again.
    LogHealth(Name, envctl_actors::log_stream::Health),
    /// The open logs of units.
    LogStreams(Vec<String>, Answer<Vec<(Name, envctl_actors::log_stream::LogStream)>>),
    /// Take a run over from a daemon that died.
    Recover(Box<Memory>, RpcReplyPort<()>),
    /// Write down anew what the next daemon must know: the runtime directory was wiped.
    Remember,
    /// A unit actor speaks.
    Unit(Name, Incarnation, UnitReport),
    /// A timer has fired.
    Timer(TimerKey),
    /// The time given to a `down`, by its number, is over.
    Overdue(u64),
    /// What escaped the units of an ended run.
    Swept(Vec<(Name, Vec<u32>)>),
    /// Tell everybody what has changed, when that is due.
    Publish,
    /// It is due.
    Tell,
}

// === impl ProjectActor ===

impl Actor for ProjectActor {
    type Msg = ProjectMessage;
    type State = Project;
    type Arguments = ProjectArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ProjectMessage>,
        args: ProjectArgs,
    ) -> Result<Project, ActorProcessingErr> {
        let ProjectArgs { session, places, key, spec, files } = args;
        Ok(Project::new(session, myself, places, key, spec, files))
    }

    async fn handle(
        &self,
        _: ActorRef<ProjectMessage>,
        message: ProjectMessage,
        project: &mut Project,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked may be gone: an answer that nobody takes is no error.
        match message {
            // Whoever waits for units to be down must see them down: what would bring them up again waits for that.
            ProjectMessage::Up(..) | ProjectMessage::Operate(Verb::Start | Verb::Restart, ..)
                if project.is_stopping() =>
            {
                project.later.push_back(message);
            }
            // Who has an answer sees what it tells of: nothing is left to be published.
            ProjectMessage::Up(order, reply) => {
                let answer = project.up(order).await;
                project.publish();
                let _ = reply.send(answer);
            }
            ProjectMessage::Down(order, reply) => project.down(order, reply).await,
            ProjectMessage::Operate(verb, units, reply) => {
                let answer = project.operate(verb, &units).await;
                project.publish();
                let _ = reply.send(answer);
            }
            ProjectMessage::Signal(signal, units, reply) => drop(reply.send(project.signal(signal, &units))),
            ProjectMessage::Env(unit, reveal, reply) => drop(reply.send(project.unit_env(&unit, reveal))),
            ProjectMessage::Guest(unit, reply) => drop(reply.send(project.guest(&unit))),
            ProjectMessage::RequirementInfo(unit, reveal, reply) => {
                drop(reply.send(project.requirement_info(&unit, reveal)));
            }
            ProjectMessage::DropData(units, shared, reply) => project.drop_data(&units, shared, reply),
            ProjectMessage::Spec(reply) => drop(reply.send(project.spec.clone())),
            ProjectMessage::Attend(id, view) => project.attend(id, view),
            ProjectMessage::ServerSeen(id, seen) => project.server_seen(&id, seen).await,
            ProjectMessage::Watch(reply) => {
                project.publish();
                let _ = reply.send(project.view.subscribe());
            }
            ProjectMessage::Key(reply) => drop(reply.send(project.key.clone())),
            ProjectMessage::IsActive(reply) => drop(reply.send(project.is_active())),
            ProjectMessage::Terminal(unit, reply) => drop(reply.send(project.terminal(&unit))),
            ProjectMessage::Logs(units, reply) => project.logs(&units, reply),
            ProjectMessage::LogHealth(id, health) => project.log_health(&id, &health),
            ProjectMessage::LogStreams(units, reply) => drop(reply.send(project.log_streams(&units))),
            ProjectMessage::Recover(memory, reply) => {
                project.recover(*memory).await;
                let _ = reply.send(());
            }
            ProjectMessage::Remember => project.remember_anew(),
            ProjectMessage::Unit(id, incarnation, report) => project.reported(id, incarnation, report).await,
            ProjectMessage::Timer(key) => project.timer(key).await,
            ProjectMessage::Overdue(number) => project.overdue(number).await,
            ProjectMessage::Swept(escaped) => project.swept(escaped).await,
            ProjectMessage::Publish => {
                // A life that has just been begun asks heart for its process first: that is what somebody waits for.
                tokio::task::yield_now().await;
                project.publish_in_turn();
            }
            ProjectMessage::Tell => project.tell_now(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ProjectMessage>,
        event: SupervisionEvent,
        project: &mut Project,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            tracing::error!(%error, "an actor of the project failed");
            project.actor_failed(actor.get_id(), &error.to_string()).await;
        }
        Ok(())
    }
}

/// Starts the actor of a unit's life, with everything resolved.
pub(super) async fn spawn_actor(
    project: &Project,
    id: &Name,
    incarnation: Incarnation,
    begin: Begin,
) -> Result<ActorRef<UnitMessage>, StartError> {
    let unknown = || StartError { message: "find it in the configuration".to_owned(), hint: None, retry: false };
    let spec = project.spec.units.get(id).ok_or_else(unknown)?;
    let args = unit_args(project, id, spec, incarnation, begin)?;
    let ports = &project.ports.of_unit(id);
    match &spec.kind {
        UnitKind::Requirement(requirement) => {
            let limits = spec.confines.limits;
            let contained = containers::contained(project, id, spec, requirement, ports)?;
            let is_contained = requirement.driver == Driver::Container;
            let kind = Requirement {
                limits,
                contained,
                is_contained,
                ..requirement_kind(project, id, (spec, requirement), ports)?
            };
            spawn::<Requirement>(project, RequirementActor::default(), args, kind).await
        }
        UnitKind::Service(program) => {
            let environment = environment(project, id, spec, Some(incarnation), ports)?;
            let around = surroundings(project, spec, program, &environment, ports)?;
            let command = commands::main(program, around)?;
            let kind = Service { command, asked: commands::asked(spec, around)? };
            spawn::<Service>(project, ServiceActor::default(), args, kind).await
        }
        UnitKind::Task(program) => {
            let environment = environment(project, id, spec, Some(incarnation), ports)?;
            let around = surroundings(project, spec, program, &environment, ports)?;
            let kind = Task { command: commands::main(program, around)? };
            spawn::<Task>(project, TaskActor::default(), args, kind).await
        }
    }
}

/// What the command and the probes of a service or a task are made of.
pub(super) fn surroundings<'a>(
    project: &'a Project,
    spec: &'a UnitSpec,
    program: &'a Program,
    environment: &'a Environment,
    ports: &'a IndexMap<Name, u16>,
) -> Result<Surroundings<'a>, StartError> {
    let run_as = confines::run_as(confines::account_of(&spec.confines)?.as_ref());
    let (attributes, confines) = (&project.attributes, &spec.confines);
    Ok(Surroundings { program, environment, ports, attributes, confines, run_as })
}

/// A unit's environment; the envelope is left out where no life is meant.
pub(super) fn environment(
    project: &Project,
    id: &Name,
    spec: &UnitSpec,
    incarnation: Option<Incarnation>,
    ports: &IndexMap<Name, u16>,
) -> Result<Environment, StartError> {
    let mut derived = derived(&project.spec.name, id, ports);
    derived.extend(project.urls.iter().cloned());
    let ready_made = variables(project, spec);
    derived.extend(confines::account_of(&spec.confines)?.iter().flat_map(confines::variables));
    let environment =
        Environment::of_unit(&project.spec, spec, &project.capture, derived, ready_made, &project.attributes);
    let mut environment = environment.map_err(commands::missing)?;
    if let Some(incarnation) = incarnation {
        let vars = project_vars(project)?.for_child(id, incarnation, ports);
        environment.seal(vars.dump().map_err(unsealed)?);
    }
    Ok(environment)
}

/// A unit's envelope: same session, same project directory, same unit, role `unit`; any of its lives.
pub(super) fn claim(session: &Name, root: &Path, id: &Name) -> Claim {
    Claim { read: read_claim, of: claim_text(session, root, id) }
}

fn claim_text(session: &Name, root: &Path, id: &Name) -> String {
    // Neither names nor paths hold a NUL.
    format!("{session}\0{}\0{id}", root.display())
}

fn read_claim(envelope: &[u8]) -> Option<String> {
    let vars = RtVars::load(std::str::from_utf8(envelope).ok()?).ok()?;
    let (project, unit) = (vars.proj?, vars.unit?);
    (vars.role == crate::vars::Role::Unit).then(|| claim_text(&vars.sid.0, &project.root, &unit.name.0))
}

async fn spawn<K: Kind>(
    project: &Project,
    handler: UnitActor<K>,
    args: UnitArgs,
    kind: K,
) -> Result<ActorRef<UnitMessage>, StartError> {
    let started = UnitActor::<K>::spawn_linked(None, handler, (Arc::new(args), kind), project.myself.get_cell()).await;
    started.map(|(actor, _)| actor).map_err(|error| StartError {
        message: format!("start its actor: {error}"),
        hint: None,
        retry: true,
    })
}

fn unit_args(
    project: &Project,
    id: &Name,
    spec: &UnitSpec,
    incarnation: Incarnation,
    begin: Begin,
) -> Result<UnitArgs, StartError> {
    let unit = &project.units[id];
    let (key, processes) = (project.places.key(), project.session.processes.clone());
    let tag = Tag { project: key, unit: id.clone(), incarnation: incarnation.0, role: Role::Main };
    let fifos = project.session.places.fifos(&project.places);
    let (myself, unit_id) = (project.myself.clone(), id.clone());
    #[cfg(test)]
    let root = project.spec.root.clone();
    let log = unit.log.clone().ok_or_else(|| StartError {
        message: "open its log: the run has none".to_owned(),
        hint: None,
        retry: false,
    })?;
    // Said now and awaited by the life itself, so that the pump's thread works beside what is still to be done here.
    let told = log.incarnation(incarnation.0).map_err(|error| error.to_string()).boxed().shared();
    let runner = Runner::new(processes.clone(), tag.clone(), fifos);
    let mut manners = project.manners(id, spec, begin, incarnation)?;
    manners.hooks = Some(project.hooks(id, incarnation, &runner));
    Ok(UnitArgs {
        runner,
        tag,
        begin,
        processes,
        log,
        told,
        out: unit.out.clone(),
        err: unit.err.clone(),
        manners,
        report: Arc::new(move |report| {
            #[cfg(test)]
            super::failpoint::pass(&root, &unit_id);
            let _ = myself.cast(ProjectMessage::Unit(unit_id.clone(), incarnation, report));
        }),
    })
}

/// A requirement starts from an empty environment, but carries the envelope like every child.
fn requirement_kind(
    project: &Project,
    id: &Name,
    (spec, requirement): (&UnitSpec, &RequirementSpec),
    ports: &IndexMap<Name, u16>,
) -> Result<Requirement, StartError> {
    project.requirement(id, spec, requirement, requirement_envelope(project, id, ports)?)
}

/// The environment of the process that stands for a unit's containers: the envelope, by which it is known, and nothing else.
pub(super) fn relay_env(
    project: &Project,
    id: &Name,
) -> Result<std::collections::BTreeMap<std::ffi::OsString, std::ffi::OsString>, StartError> {
    let (name, value) = requirement_envelope(project, id, &project.ports.of_unit(id))?;
    Ok([(name.into(), value.into())].into())
}

pub(super) fn requirement_envelope(
    project: &Project,
    id: &Name,
    ports: &IndexMap<Name, u16>,
) -> Result<(String, String), StartError> {
    let incarnation = project.engine.child(id.as_str()).and_then(|child| child.incarnation).unwrap_or(Incarnation(0));
    project_vars(project)?.for_child(id, incarnation, ports).dump().map_err(unsealed)
}

pub(super) fn project_vars(project: &Project) -> Result<RtVars, StartError> {
    let socket = project.session.places.socket().map_err(|error| StartError {
        message: error.to_string(),
        hint: None,
        retry: false,
    })?;
    Ok(RtVars::new(project.session.name.clone(), socket).update(Patch {
        proj: Some(ProjectVars { name: WireName(project.spec.name.clone()), root: project.spec.root.clone() }),
        run: project.run.as_ref().map(|run| run.id.clone()),
        ..Patch::default()
    }))
}

pub(super) fn unsealed(error: crate::vars::VarsError) -> StartError {
    StartError { message: format!("write its envelope: {error}"), hint: None, retry: false }
}
