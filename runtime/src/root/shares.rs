//! Leases on shared servers: the root knows who has one, brings a server up with the first and down with the last.
//!
//! ```text
//! gateway ─ share ─▶ root: lease, database, the server's project ─▶ gateway: Up to it ─▶ what a run is given
//! run ends ─ release ─▶ root: was it the last? ─ Down ─▶ the server's project
//! ```
//!
//! Leases are not kept in a file of their own: each run's memory holds its leases, so they live and die with the run, and the
//! next daemon has them when it has taken the runs over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl_actors::requirement::preset::model::Databases;
use envctl_actors::requirement::preset::{DATABASE, Scope};
use envctl_supervisors::Name;
use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::{oneshot, watch};

use super::actor::State;
use super::handle::{Project, Root, RootMessage, shutting_down};
use super::recovery::load;
use crate::control::handlers::ask;
use crate::control::view::ProjectView;
use crate::control::wire::Refusal;
use crate::project::environment::Capture;
use crate::project::memory::{Files, Memory};
use crate::project::share::ledger::{Called, Holder, Ledger, LedgerError, Wish};
use crate::project::share::server::is_server;
use crate::project::share::{Granted, Grants, Held, Server, Shared, is_ready, ports_of};
use crate::project::supervisor::{DownOrder, ProjectMessage, UpOrder};
use crate::spec::{ProjectSpec, RequirementSpec, ShareSpec, UnitKind};

/// Whether a server is wanted that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is: it is to be brought up.
    Wanted,
    /// Only one that the root knows already.
    Unwanted,
}

/// A lease on a server.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The server's project.
    project: Project,
    /// What that is configured to be.
    spec: Arc<ProjectSpec>,
    /// What was given; its ports are not known yet.
    held: Held,
}

/// Who has leases on which server.
#[derive(Debug, Default)]
pub(super) struct Servers {
    leases: BTreeMap<PathBuf, BTreeSet<u64>>,
    /// Who goes down, until it is.
    going: BTreeMap<PathBuf, watch::Receiver<bool>>,
    /// What earlier runs have: the directory of the run's project, its unit, the server.
    earlier: Vec<(PathBuf, Name, PathBuf)>,
}

// === impl Root ===

impl Root {
    /// Brings up the shared servers of a project and gives it a database on each.
    pub async fn share(&self, spec: &Arc<ProjectSpec>, capture: &Capture) -> Result<Grants, Refusal> {
        let mut grants = Grants::new();
        for id in shared_units(spec) {
            match self.share_one(spec, &id, capture).await {
                Ok(granted) => grants.extend(granted.map(|granted| (id, granted))),
                Err(refusal) => {
                    self.release(grants.values().map(|granted| granted.held.lease).collect());
                    return Err(refusal);
                }
            }
        }
        Ok(grants)
    }

    /// What a project has on those of its shared servers that run. The leases are the caller's to give back.
    pub async fn running(&self, spec: &Arc<ProjectSpec>) -> Result<Shared, Refusal> {
        let mut shared = Shared::new();
        for id in shared_units(spec) {
            let leased = self.ask(|reply| RootMessage::Lease(spec.clone(), id.clone(), Start::Unwanted, reply)).await?;
            let Some(Leased { project, mut held, .. }) = leased? else { continue };
            let view = ask(&project.actor, ProjectMessage::Watch).await?;
            let view: ProjectView = view.borrow().clone();
            if is_ready(&view, &held.unit) {
                held.ports = ports_of(&view, &held.unit);
                shared.insert(id, held);
            } else {
                self.release(vec![held.lease]);
            }
        }
        Ok(shared)
    }

    /// Gives leases back.
    pub fn release(&self, leases: Vec<u64>) {
        // A root that is gone has no servers.
        let _ = self.actor.cast(RootMessage::Release(leases));
    }

    /// Waits until the servers that nobody uses any more are down.
    pub async fn settle(&self) -> Result<(), Refusal> {
        self.ask(RootMessage::Settle).await
    }

    /// Drops the data of the project's shared servers on which nobody has any.
    pub async fn sweep(&self, spec: &Arc<ProjectSpec>) -> Result<(), Refusal> {
        for id in shared_units(spec) {
            self.ask(|reply| RootMessage::Sweep(spec.clone(), id, reply)).await?;
        }
        Ok(())
    }

    async fn share_one(
        &self,
        spec: &Arc<ProjectSpec>,
        id: &Name,
        capture: &Capture,
    ) -> Result<Option<Granted>, Refusal> {
        let leased = self.ask(|reply| RootMessage::Lease(spec.clone(), id.clone(), Start::Wanted, reply)).await?;
        let Some(Leased { project, spec, mut held }) = leased? else { return Ok(None) };
        let order = UpOrder {
            spec,
            files: Files::default(),
            units: Vec::new(),
            no_deps: false,
            capture: capture.clone(),
            shared: Grants::new(),
        };
        let up = async {
            ask(&project.actor, |reply| ProjectMessage::Up(order, reply)).await??;
            ask(&project.actor, ProjectMessage::Watch).await
        };
        match up.await {
            Ok(view) => {
                held.ports = ports_of(&view.borrow(), &held.unit);
                Ok(Some(Granted { held, view }))
            }
            Err(refusal) => {
                self.release(vec![held.lease]);
                let message = format!("the server that {id} shares does not come up: {}", refusal.message);
                Err(Refusal { message, ..refusal })
            }
        }
    }
}

fn shared_units(spec: &ProjectSpec) -> Vec<Name> {
    spec.units.keys().filter(|id| share_of(spec, id).is_some()).cloned().collect()
}

fn share_of<'s>(spec: &'s ProjectSpec, id: &Name) -> Option<(&'s RequirementSpec, &'s ShareSpec)> {
    match &spec.units.get(id)?.kind {
        UnitKind::Requirement(requirement) => Some((requirement, requirement.share.as_deref()?)),
        UnitKind::Service(_) | UnitKind::Task(_) => None,
    }
}

// === impl Servers ===

impl Servers {
    /// Leases of an earlier daemon's run. Those of another boot are nobody's: nothing of it lives.
    pub(super) fn remember(&mut self, memory: &Memory) {
        if memory.is_of_another_boot() {
            return;
        }
        for (id, held) in memory.shared() {
            self.leases.entry(held.server.clone()).or_default().insert(held.lease);
            self.earlier.push((memory.root.clone(), id, held.server));
        }
    }

    fn is_leased(&self, server: &Path) -> bool {
        self.leases.get(server).is_some_and(|leases| !leases.is_empty())
    }
}

// === impl State ===

impl State {
    pub(super) async fn lease(
        &mut self,
        myself: &ActorRef<RootMessage>,
        spec: &ProjectSpec,
        id: &Name,
        start: Start,
    ) -> Result<Option<Leased>, Refusal> {
        if self.shutdown.is_some() {
            return Err(shutting_down());
        }
        let Some((requirement, share)) = share_of(spec, id) else { return Ok(None) };
        let failed = |text: String| refused(id, &text, "`envctl show-state` prints the paths; check their permissions");
        let places =
            self.session.places.for_project(&spec.root, &spec.name).map_err(|error| failed(error.to_string()))?;
        let server = Server::of(&self.session.places, &places, id, (requirement, share));
        if start == Start::Unwanted && !self.projects.contains_key(&server.dir) {
            return Ok(None);
        }
        // What runs goes on as it was configured by whoever came first.
        if !self.servers.is_leased(&server.dir) {
            server.write().map_err(|error| failed(format!("write {}: {error}", server.dir.display())))?;
        }
        let holder = Holder::new(&places, id);
        let ledger = Ledger::of(&server.dir);
        let entry = if start == Start::Unwanted {
            let Some(entry) = ledger.entries().into_iter().find(|entry| entry.holder == holder) else {
                return Ok(None);
            };
            entry
        } else {
            let called = called(spec, id, requirement).map_err(failed)?;
            let wish = Wish { holder: &holder, root: &spec.root, called, template: share.template.as_deref() };
            ledger.take(&wish).map_err(|error| no_database(id, &error))?
        };
        let own = Arc::new(load(&server.dir, &Files::default()).map_err(|error| failed(error.to_string()))?);
        let project = self.project(myself, own.clone(), Files::default()).await?;
        let lease = fastrand::u64(..);
        self.servers.leases.entry(server.dir.clone()).or_default().insert(lease);
        let held = Held {
            lease,
            project: server.name.to_string(),
            unit: server.unit.to_string(),
            server: server.dir,
            ports: BTreeMap::new(),
            database: entry.database,
            template: entry.template,
            is_stale: entry.is_stale,
        };
        Ok(Some(Leased { project, spec: own, held }))
    }

    pub(super) fn release(&mut self, given_back: &[u64]) {
        let mut unused = Vec::new();
        for (server, leases) in &mut self.servers.leases {
            let before = leases.len();
            leases.retain(|lease| !given_back.contains(lease));
            if leases.is_empty() && before > 0 {
                unused.push(server.clone());
            }
        }
        for server in unused {
            self.servers.leases.remove(&server);
            self.end_server(&server);
        }
    }

    /// Nobody uses it any more. Whoever asks for it meanwhile waits until it is down, and has it started again.
    fn end_server(&mut self, server: &Path) {
        let Some(project) = self.projects.get(server) else { return };
        let (reply, answer) = oneshot::channel();
        let order = DownOrder { units: Vec::new(), timeout: None, kill: false };
        let _ = project.actor.cast(ProjectMessage::Down(order, reply.into()));
        let (done, going) = watch::channel(false);
        self.servers.going.insert(server.to_owned(), going);
        self.tasks.spawn(async move {
            let _ = answer.await;
            done.send_replace(true);
        });
    }

    pub(super) fn settle(&mut self, reply: RpcReplyPort<()>) {
        self.servers.going.retain(|_, going| !*going.borrow());
        let going: Vec<_> = self.servers.going.values().cloned().collect();
        self.tasks.spawn(async move {
            for mut one in going {
                // An error means that nobody waits for it any more.
                let _ = one.wait_for(|is_down| *is_down).await;
            }
            let _ = reply.send(());
        });
    }

    /// Runs that were taken over hear of their servers again, and servers without users go down.
    pub(super) fn resume_servers(&mut self) {
        for (root, id, server) in std::mem::take(&mut self.servers.earlier) {
            let (Some(user), Some(server)) = (self.projects.get(&root), self.projects.get(&server)) else { continue };
            let (user, server) = (user.actor.clone(), server.actor.clone());
            self.tasks.spawn(async move {
                if let Ok(view) = ask(&server, ProjectMessage::Watch).await {
                    let _ = user.cast(ProjectMessage::Attend(id, view));
                }
            });
        }
        let places = &self.session.places;
        let is_unused = |root: &&PathBuf| is_server(places, root) && !self.servers.is_leased(root);
        let unused: Vec<PathBuf> = self.projects.keys().filter(is_unused).cloned().collect();
        for server in unused {
            self.end_server(&server);
        }
    }

    /// A server without owners of databases keeps nothing that anybody wants.
    pub(super) fn sweep(&mut self, spec: &ProjectSpec, id: &Name, reply: RpcReplyPort<()>) {
        let found = share_of(spec, id).and_then(|share| {
            let places = self.session.places.for_project(&spec.root, &spec.name).ok()?;
            Some(Server::of(&self.session.places, &places, id, share))
        });
        let Some(server) = found else { return drop(reply.send(())) };
        if self.servers.is_leased(&server.dir) || !server.dir.is_dir() || !Ledger::of(&server.dir).is_unused() {
            return drop(reply.send(()));
        }
        let project = self.projects.get(&server.dir).cloned();
        self.tasks.spawn(async move {
            if let Some(project) = project {
                let drop_all = |reply| ProjectMessage::DropData(Vec::new(), Shared::new(), reply);
                match ask(&project.actor, drop_all).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) | Err(error) => tracing::warn!(%error, "the data of a shared server stays"),
                }
            }
            let dir = server.dir;
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
            if !matches!(removed, Ok(Ok(()))) {
                tracing::warn!(?removed, "the directory of a shared server stays");
            }
            let _ = reply.send(());
        });
    }
}

/// How a database is called: as the project would call its own, told apart by what the ledger knows.
fn called(spec: &ProjectSpec, id: &Name, requirement: &RequirementSpec) -> Result<Called, String> {
    let preset = &requirement.preset.preset;
    let share = preset.share.as_ref().ok_or("its preset cannot be shared")?;
    if share.databases == Databases::Numbers {
        return Ok(Called::Number(share.databases_max.unwrap_or_default()));
    }
    if let Some(name) = requirement.options.get(DATABASE) {
        return Ok(Called::Name(name.clone()));
    }
    let mut scope = Scope::default();
    scope.set("project", &spec.name);
    scope.set("unit", id);
    let text = preset.options.get(DATABASE).ok_or("its preset has no option `database`")?;
    text.fill(&scope).map(|value| Called::Name(value.text)).map_err(|error| error.to_string())
}

fn no_database(id: &Name, error: &LedgerError) -> Refusal {
    refused(id, &error.to_string(), &error.hint())
}

fn refused(id: &Name, text: &str, hint: &str) -> Refusal {
    let message = format!("failed to give {id} a database on a shared server: {text}");
    Refusal { code: "failed".to_owned(), message, hint: Some(hint.to_owned()) }
}
