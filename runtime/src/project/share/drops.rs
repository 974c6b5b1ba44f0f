//! How a database of a shared server is dropped: by the server, if it runs, else written down for when it does.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl_actors::process::exec::Runner;
use envctl_actors::process::{Role, Tag};
use envctl_actors::requirement::plan::After;
use envctl_actors::requirement::{run_after_ready, share};
use envctl_supervisors::Name;

use super::ledger::{Holder, Ledger};
use super::server::servers;
use super::{Held, Server, Shared};
use crate::control::wire::Refusal;
use crate::places::{Places, ProjectPlaces};
use crate::project::access::drop_data;
use crate::project::environment::path_of;
use crate::project::memory::Files;
use crate::project::state::Project;
use crate::project::supervisor::requirement_envelope;
use crate::spec::{RequirementSpec, UnitKind};

/// What became of a database while no server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropLater {
    /// It is dropped when its owner comes back; others have data on the server.
    Noted,
    /// It was the last one: the server's data is gone.
    ServerDropped,
    /// There was none.
    Nothing,
}

/// Drops a database while no daemon runs.
///
/// # Errors
/// The file system says no, or somebody uses the server.
pub fn drop_later(
    places: &Places,
    project: &ProjectPlaces,
    id: &Name,
    requirement: &RequirementSpec,
) -> Result<DropLater, String> {
    let Some(spec) = requirement.share.as_deref() else { return Ok(DropLater::Nothing) };
    let server = Server::of(places, project, id, (requirement, spec));
    if !server.dir.is_dir() {
        return Ok(DropLater::Nothing);
    }
    let ledger = Ledger::of(&server.dir);
    ledger.drop_later(&Holder::new(project, id)).map_err(|error| error.to_string())?;
    if !ledger.is_unused() {
        return Ok(DropLater::Noted);
    }
    drop_server(places, (&server.dir, &server.name), &server.unit)?;
    Ok(DropLater::ServerDropped)
}

/// A database whose owner's directory is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The server's directory.
    pub server: PathBuf,
    /// The owner's directory, which is gone.
    pub root: PathBuf,
    /// The database.
    pub database: String,
    holder: Holder,
}

/// Databases on shared servers of a session whose owners' directories are gone. One that has only been moved is found too:
/// nothing may be dropped without asking.
pub fn forgotten(places: &Places) -> Vec<Forgotten> {
    let mut found = Vec::new();
    for server in servers(places) {
        for entry in Ledger::of(&server).entries() {
            if !entry.is_dropped && !entry.root.exists() {
                let (root, database, holder) = (entry.root, entry.database, entry.holder);
                found.push(Forgotten { server: server.clone(), root, database, holder });
            }
        }
    }
    found
}

/// Gives a forgotten database up. It is dropped with the next one that anybody drops there; if it was the last, the server's data
/// goes now.
///
/// # Errors
/// The file system says no, or somebody uses the server.
pub fn give_up(places: &Places, forgotten: &Forgotten) -> Result<DropLater, String> {
    let ledger = Ledger::of(&forgotten.server);
    ledger.drop_later(&forgotten.holder).map_err(|error| error.to_string())?;
    if !ledger.is_unused() {
        return Ok(DropLater::Noted);
    }
    let spec = crate::root::load(&forgotten.server, &Files::default()).map_err(|error| error.to_string())?;
    for unit in spec.units.keys() {
        drop_server(places, (&forgotten.server, &spec.name), unit)?;
    }
    Ok(DropLater::ServerDropped)
}

fn drop_server(places: &Places, (dir, name): (&Path, &Name), unit: &Name) -> Result<(), String> {
    let own = places.for_project(dir, name).map_err(|error| error.to_string())?;
    drop_data(&own, unit).map_err(|error| error.to_string())?;
    std::fs::remove_dir_all(dir).map_err(|error| format!("remove {}: {error}", dir.display()))
}

/// One database that is dropped.
struct Dropping {
    ledger: Ledger,
    holder: Holder,
    /// What the server is asked; `None`: it does not run.
    works: Option<(Vec<After>, Arc<Runner>)>,
    /// Whether its owner goes on without it.
    is_kept: bool,
}

// === impl Project ===

impl Project {
    /// Drops what units have on shared servers. `running`: on those that run.
    pub(in crate::project) fn drop_shared(
        &mut self,
        units: &[Name],
        running: Shared,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let mut plan = Vec::new();
        let mut refused = None;
        for id in units {
            match self.dropping(id, &running) {
                Ok(dropping) => plan.extend(dropping),
                Err(message) => refused = Some(refusal(message)),
            }
            // What others had done with while no server ran.
            match self.dropping_leftovers(id, &running) {
                Ok(leftovers) => plan.extend(leftovers),
                Err(message) => tracing::warn!(unit = %id, message, "databases that nobody wants stay for now"),
            }
        }
        async move {
            if let Some(refusal) = refused {
                return Err(refusal);
            }
            for one in plan {
                one.carry_out().await.map_err(refusal)?;
            }
            Ok(())
        }
    }

    fn dropping(&mut self, id: &Name, running: &Shared) -> Result<Option<Dropping>, String> {
        let spec = self.spec.clone();
        let Some(unit) = spec.units.get(id) else { return Ok(None) };
        let UnitKind::Requirement(requirement) = &unit.kind else { return Ok(None) };
        let Some(share) = requirement.share.as_deref() else { return Ok(None) };
        let server = Server::of(&self.session.places, &self.places, id, (requirement, share));
        if !server.dir.is_dir() {
            return Ok(None);
        }
        let (ledger, holder) = (Ledger::of(&server.dir), Holder::new(&self.places, id));
        let is_kept = self.run.is_some();
        let Some(held) = running.get(id) else {
            return Ok(Some(Dropping { ledger, holder, works: None, is_kept: false }));
        };
        self.make_runtime_dirs().map_err(|error| error.to_string())?;
        let works = self.drop_works(id, &server, held.clone())?;
        Ok(Some(Dropping { ledger, holder, works: Some((works, self.step_runner(id))), is_kept }))
    }

    fn dropping_leftovers(&mut self, id: &Name, running: &Shared) -> Result<Vec<Dropping>, String> {
        let Some(held) = running.get(id) else { return Ok(Vec::new()) };
        let spec = self.spec.clone();
        let Some(UnitKind::Requirement(requirement)) = spec.units.get(id).map(|unit| &unit.kind) else {
            return Ok(Vec::new());
        };
        let Some(share) = requirement.share.as_deref() else { return Ok(Vec::new()) };
        let server = Server::of(&self.session.places, &self.places, id, (requirement, share));
        let ledger = Ledger::of(&server.dir);
        let own = Holder::new(&self.places, id);
        let mut plan = Vec::new();
        for entry in ledger.entries().into_iter().filter(|entry| entry.is_dropped && entry.holder != own) {
            let works = self.drop_works(id, &server, Held { database: entry.database, ..held.clone() })?;
            let works = Some((works, self.step_runner(id)));
            plan.push(Dropping { ledger: ledger.clone(), holder: entry.holder, works, is_kept: false });
        }
        Ok(plan)
    }

    /// What drops a database, as if the unit had it.
    fn drop_works(&mut self, id: &Name, server: &Server, held: Held) -> Result<Vec<After>, String> {
        let before = self.shared.insert(id.clone(), held);
        let works = self.drop_works_of(id, server);
        match before {
            Some(before) => drop(self.shared.insert(id.clone(), before)),
            None => drop(self.shared.remove(id)),
        }
        works
    }

    fn drop_works_of(&mut self, id: &Name, server: &Server) -> Result<Vec<After>, String> {
        let spec = self.spec.clone();
        let Some(unit) = spec.units.get(id) else { return Ok(Vec::new()) };
        let UnitKind::Requirement(requirement) = &unit.kind else { return Ok(Vec::new()) };
        self.know_secrets(id, requirement, &self.server_data(&server.dir, &server.name, &server.unit)?)
            .map_err(|error| format!("read its secrets: {error}"))?;
        let envelope = requirement_envelope(self, id, &self.ports.of_unit(id)).map_err(|error| error.to_string())?;
        let kind = self.requirement(id, unit, requirement, envelope).map_err(|error| error.to_string())?;
        share::drop_works(&kind.wanted, &path_of(&self.capture)).map_err(|error| error.to_string())
    }

    fn step_runner(&self, id: &Name) -> Arc<Runner> {
        let tag = Tag { project: self.places.key(), unit: id.clone(), incarnation: 0, role: Role::Step };
        Runner::new(self.session.processes.clone(), tag, self.session.places.fifos(&self.places))
    }

    /// The directory of a shared server's own data and secrets.
    pub(in crate::project) fn server_data(&self, dir: &Path, name: &Name, unit: &Name) -> Result<PathBuf, String> {
        let places = self.session.places.for_project(dir, name).map_err(|error| error.to_string())?;
        Ok(places.data(unit))
    }
}

// === impl Dropping ===

impl Dropping {
    async fn carry_out(self) -> Result<(), String> {
        let Some((works, runner)) = self.works else {
            return self.ledger.drop_later(&self.holder).map_err(|error| error.to_string());
        };
        run_after_ready(&works, &*runner).await.map_err(|error| error.to_string())?;
        if self.is_kept {
            return Ok(());
        }
        self.ledger.forget(&self.holder).map_err(|error| error.to_string())
    }
}

fn refusal(message: String) -> Refusal {
    Refusal {
        code: "failed".to_owned(),
        message: format!("failed to drop a database of a shared server: {message}"),
        hint: Some("`envctl requirement list` shows the server; `envctl down` of all who share it ends it".to_owned()),
    }
}
