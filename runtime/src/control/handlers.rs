//! What each kind of request leads to: a question to the root or a project, and its answer as a frame.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use envctl_supervisors::Name;
use futures::future::join_all;
use ractor::{ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::frame::{self, KIND_END, KIND_ITEM, KIND_REPLY};
use super::view::{DaemonView, ProjectState, ProjectView, UpgradeView};
use super::wire::{
    Accepted, Attach, ClearLogs, DaemonStatus, DaemonStop, DaemonStopReply, DaemonUpgrade, Down, DownReply, DropData,
    Exec, ExecReply, FollowEvents, Frame, Kill, Operate, ProjectRef, Ps, PsReply, Refusal, Request, RequirementInfo,
    RequirementReply, Subscribe, TypeIn, UnitEnv, UnitEnvReply, Up, UpReply, WatchLogs, WatchProject,
};
use crate::journal::{Journal, ProjectKey};
use crate::project::environment::capture_from_bytes;
use crate::project::memory::Files;
use crate::project::supervisor::{DownOrder, ProjectMessage, UpOrder};
use crate::root::{Project, Root};
use crate::session::upgrade::Upgrades;
use crate::spec::ProjectSpec;
use crate::usage::Meter;

/// How long the next view is held back for each unit in it: one of a thousand units takes milliseconds to make and to read,
/// and while they all come up it changes with each of them.
const VIEW_PAUSE: Duration = Duration::from_micros(100);
/// Shorter pauses are not worth a timer.
const VIEW_PAUSE_MIN: Duration = Duration::from_millis(1);

/// Everything a request may touch.
#[derive(Clone)]
pub struct Handlers {
    /// The session's root.
    pub root: Root,
    /// The session's name.
    pub session: Name,
    /// The session's journal.
    pub journal: Journal,
    /// Measures what units use.
    pub meter: Meter,
    /// The control socket.
    pub socket: PathBuf,
    /// When the session began.
    pub started: Instant,
    /// Who replaces this program by another.
    pub upgrades: Upgrades,
    /// How many follow logs.
    pub log_followers: Arc<AtomicUsize>,
    /// The last time that happened, or was tried.
    pub upgrade: Option<UpgradeView>,
}

pub(super) type Outbox = mpsc::Sender<Bytes>;

// === impl Handlers ===

impl Handlers {
    /// Answers a frame. An error is said by the caller.
    pub async fn answer(&self, frame: Frame, outbox: &Outbox) -> Result<(), Refusal> {
        match frame.kind.as_str() {
            Up::KIND => reply(&frame, outbox, self.up(body(&frame)?).await?).await,
            Down::KIND => reply(&frame, outbox, self.down(body(&frame)?).await?).await,
            Ps::KIND => reply(&frame, outbox, self.ps(body(&frame)?).await?).await,
            Operate::KIND => reply(&frame, outbox, self.operate(body(&frame)?).await?).await,
            Kill::KIND => reply(&frame, outbox, self.kill(body(&frame)?).await?).await,
            UnitEnv::KIND => reply(&frame, outbox, self.unit_env(body(&frame)?).await?).await,
            Exec::KIND => reply(&frame, outbox, self.exec(body(&frame)?).await?).await,
            RequirementInfo::KIND => reply(&frame, outbox, self.requirement_info(body(&frame)?).await?).await,
            DropData::KIND => reply(&frame, outbox, self.drop_data(body(&frame)?).await?).await,
            Attach::KIND => reply(&frame, outbox, self.attach(body(&frame)?).await?).await,
            TypeIn::KIND => reply(&frame, outbox, self.type_in(body(&frame)?).await?).await,
            ClearLogs::KIND => reply(&frame, outbox, self.clear_logs(body(&frame)?).await?).await,
            DaemonStatus::KIND => reply(&frame, outbox, self.status().await?).await,
            DaemonStop::KIND => {
                let escaped = self.root.shutdown().await?;
                reply(&frame, outbox, DaemonStopReply { escaped }).await
            }
            DaemonUpgrade::KIND => {
                let request: DaemonUpgrade = body(&frame)?;
                self.refuse_while_stopping().await?;
                let prepared = self.upgrades.prepare(request.program, &self.root).await?;
                reply(&frame, outbox, prepared.reply()).await?;
                prepared.go();
                Ok(())
            }
            WatchProject::KIND => self.watch_project(&frame, outbox).await,
            FollowEvents::KIND => self.follow_events(&frame, outbox).await,
            WatchLogs::KIND => self.watch_logs(&frame, outbox).await,
            unknown => Err(Refusal {
                code: "unsupported".to_owned(),
                message: format!("this daemon ({}) does not know `{}`", crate::BUILD, unknown.escape_default()),
                hint: Some(
                    "the daemon and this envctl differ: `envctl daemon upgrade` replaces it by yours, units run on"
                        .to_owned(),
                ),
            }),
        }
    }

    async fn up(&self, request: Up) -> Result<UpReply, Refusal> {
        let files = Files { file: request.file, user_config: request.user_config };
        let spec = load(request.project.root, files.clone()).await?;
        let project = self.root.project(spec.clone(), files.clone()).await?;
        let pairs = request.environment.into_iter().map(|(name, value)| (name.into_vec(), value.into_vec()));
        let capture = capture_from_bytes(pairs);
        let shared = self.root.share(&spec, &capture).await?;
        let order = UpOrder { spec, files, units: request.units, no_deps: request.no_deps, capture, shared };
        ask(&project.actor, |reply| ProjectMessage::Up(order, reply)).await?
    }

    async fn down(&self, request: Down) -> Result<DownReply, Refusal> {
        let Some(project) = self.find(&request.project).await? else {
            let project = request.project.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(DownReply { project, was_up: false, escaped: Vec::new(), killed: Vec::new() });
        };
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let order = DownOrder { units: request.units, timeout, kill: request.kill };
        let answer = ask(&project.actor, |reply| ProjectMessage::Down(order, reply)).await?;
        // Whoever hears that all is down finds nothing of it, its servers included.
        self.root.settle().await?;
        answer
    }

    async fn ps(&self, request: Ps) -> Result<PsReply, Refusal> {
        let projects = match &request.project {
            Some(wanted) => self.find(wanted).await?.into_iter().collect(),
            None => self.root.projects().await?,
        };
        let views = join_all(projects.iter().map(view_of)).await;
        let projects: Vec<ProjectView> = views.into_iter().flatten().collect();
        if !request.usage {
            return Ok(PsReply { projects });
        }
        let heart = self.root.heart_pid().await;
        Ok(PsReply { projects: self.meter.measure(projects, heart).await })
    }

    async fn operate(&self, request: Operate) -> Result<Accepted, Refusal> {
        let project = self.must_find(&request.project).await?;
        ask(&project.actor, |reply| ProjectMessage::Operate(request.verb, request.units, reply)).await?
    }

    async fn kill(&self, request: Kill) -> Result<Accepted, Refusal> {
        let project = self.must_find(&request.project).await?;
        ask(&project.actor, |reply| ProjectMessage::Signal(request.signal, request.units, reply)).await?
    }

    async fn unit_env(&self, request: UnitEnv) -> Result<UnitEnvReply, Refusal> {
        let project = self.must_find(&request.project).await?;
        ask(&project.actor, |reply| ProjectMessage::Env(request.unit, request.reveal, reply)).await?
    }

    async fn exec(&self, request: Exec) -> Result<ExecReply, Refusal> {
        let project = self.must_find(&request.project).await?;
        ask(&project.actor, |reply| ProjectMessage::Guest(request.unit, reply)).await?
    }

    async fn requirement_info(&self, request: RequirementInfo) -> Result<RequirementReply, Refusal> {
        let project = self.must_find(&request.project).await?;
        ask(&project.actor, |reply| ProjectMessage::RequirementInfo(request.unit, request.reveal, reply)).await?
    }

    async fn drop_data(&self, request: DropData) -> Result<Accepted, Refusal> {
        let project = match self.find(&request.project).await? {
            Some(project) => project,
            // It may have data though it has not been up since this daemon began.
            None => {
                let spec = load(request.project.root, Files::default()).await?;
                self.root.project(spec, Files::default()).await?
            }
        };
        let spec = ask(&project.actor, ProjectMessage::Spec).await?;
        let shared = self.root.running(&spec).await?;
        let held = shared.clone();
        let answer = ask(&project.actor, |reply| ProjectMessage::DropData(request.units, held, reply)).await?;
        self.root.release(shared.values().map(|held| held.lease).collect());
        self.root.sweep(&spec).await?;
        answer
    }

    /// Whoever waits for a project to be down would lose the answer to an upgrade.
    async fn refuse_while_stopping(&self) -> Result<(), Refusal> {
        let views = join_all(self.root.projects().await?.iter().map(view_of)).await;
        let stopping = views.into_iter().flatten().find(|view| view.state == ProjectState::Stopping);
        stopping.map_or(Ok(()), |view| {
            Err(Refusal {
                code: "busy".to_owned(),
                message: format!("{} is on its way down, and somebody waits to hear of it", view.name),
                hint: Some("upgrade when it is down".to_owned()),
            })
        })
    }

    async fn status(&self) -> Result<DaemonView, Refusal> {
        let projects = self.root.projects().await?;
        let views = join_all(projects.iter().map(view_of)).await;
        let up = views.into_iter().flatten().filter(|view| view.run.is_some()).map(|view| view.name).collect();
        // A session that is ending tells about itself all the same.
        let heart = match self.root.parts().await {
            Ok(parts) => parts.processes.heart_said().await.ok(),
            Err(_) => None,
        };
        Ok(DaemonView {
            pid: std::process::id(),
            heart_pid: self.root.heart_pid().await,
            version: crate::BUILD.to_owned(),
            uptime: self.started.elapsed().as_secs(),
            session: self.session.to_string(),
            sessions: vec![self.session.to_string()],
            socket: self.socket.clone(),
            projects: up,
            program: std::fs::read_link("/proc/self/exe").ok(),
            heart_version: heart.and_then(|heart| heart.build),
            upgrade: self.upgrade.clone(),
        })
    }

    async fn watch_project(&self, frame: &Frame, outbox: &Outbox) -> Result<(), Refusal> {
        let request: WatchProject = body(frame)?;
        let project = self.must_find(&request.project).await?;
        let mut view: watch::Receiver<ProjectView> = ask(&project.actor, ProjectMessage::Watch).await?;
        loop {
            let now = view.borrow_and_update().clone();
            item(frame, outbox, &now).await?;
            let pause = VIEW_PAUSE.saturating_mul(u32::try_from(now.units.len()).unwrap_or(u32::MAX));
            if pause >= VIEW_PAUSE_MIN {
                tokio::time::sleep(pause).await;
            }
            if view.changed().await.is_err() {
                return end(frame, outbox).await;
            }
        }
    }

    async fn follow_events(&self, frame: &Frame, outbox: &Outbox) -> Result<(), Refusal> {
        let request: FollowEvents = body(frame)?;
        let project = self.must_find(&request.project).await?;
        let key: ProjectKey = ask(&project.actor, ProjectMessage::Key).await?;
        let mut events = self.journal.follow(&key, request.after).await.map_err(|error| failed(error.to_string()))?;
        while let Some(event) = events.next().await {
            item(frame, outbox, &event).await?;
        }
        end(frame, outbox).await
    }

    async fn find(&self, wanted: &ProjectRef) -> Result<Option<Project>, Refusal> {
        self.root.find(wanted.root.clone()).await
    }

    pub(super) async fn must_find(&self, wanted: &ProjectRef) -> Result<Project, Refusal> {
        self.find(wanted).await?.ok_or_else(|| Refusal {
            code: "not-found".to_owned(),
            message: format!("the project in {} is not up", wanted.root.display()),
            hint: Some("`envctl up -d` starts it".to_owned()),
        })
    }
}

async fn view_of(project: &Project) -> Option<ProjectView> {
    let view = ask(&project.actor, ProjectMessage::Watch).await.ok()?;
    let view = view.borrow().clone();
    Some(view)
}

async fn load(root: PathBuf, files: Files) -> Result<Arc<ProjectSpec>, Refusal> {
    let read = tokio::task::spawn_blocking(move || crate::root::load(&root, &files)).await.map_err(lost)?;
    read.map(Arc::new).map_err(|diagnostics| Refusal {
        code: "config".to_owned(),
        message: diagnostics.to_string(),
        hint: None,
    })
}

pub(crate) async fn ask<T: Send + 'static>(
    actor: &ActorRef<ProjectMessage>,
    message: impl FnOnce(RpcReplyPort<T>) -> ProjectMessage,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    actor.cast(message(reply.into())).map_err(|_| crate::root::shutting_down())?;
    answer.await.map_err(|_| crate::root::shutting_down())
}

pub(super) fn body<T: serde::de::DeserializeOwned>(frame: &Frame) -> Result<T, Refusal> {
    frame::decode_body(frame).map_err(|error| Refusal {
        code: "malformed".to_owned(),
        message: format!("failed to {error}"),
        hint: Some("the daemon and this envctl may differ in version: `envctl daemon status`".to_owned()),
    })
}

async fn reply<T: Serialize>(frame: &Frame, outbox: &Outbox, body: T) -> Result<(), Refusal> {
    send(frame, outbox, KIND_REPLY, &body).await
}

pub(super) async fn item<T: Serialize>(frame: &Frame, outbox: &Outbox, body: &T) -> Result<(), Refusal> {
    send(frame, outbox, KIND_ITEM, body).await
}

pub(super) async fn end(frame: &Frame, outbox: &Outbox) -> Result<(), Refusal> {
    send(frame, outbox, KIND_END, &()).await
}

async fn send<T: Serialize>(frame: &Frame, outbox: &Outbox, kind: &str, body: &T) -> Result<(), Refusal> {
    let bytes = frame::encode(frame.id, kind, body).map_err(|error| failed(error.to_string()))?;
    outbox.send(bytes).await.map_err(|_| failed("the client is gone".to_owned()))
}

pub(super) fn failed(message: String) -> Refusal {
    Refusal { code: "failed".to_owned(), message: format!("failed to {message}"), hint: None }
}

fn lost(error: tokio::task::JoinError) -> Refusal {
    failed(format!("do its part: {error}"))
}
