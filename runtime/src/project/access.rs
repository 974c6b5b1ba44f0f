//! What people are told of a requirement, how programs talk to it, and how its data is dropped.

use std::io;
use std::path::{Path, PathBuf};

use envctl_actors::requirement::preset::{Scope, Text};
use envctl_supervisors::Name;

use super::environment::mask;
use super::operate::check_names;
use super::requirements::{self, scope};
use super::share::{self, Shared};
use super::state::Project;
use super::supervisor::Answer;
use crate::control::view::VariableView;
use crate::control::wire::{Accepted, ClientView, Refusal, RequirementReply};
use crate::journal::events::EventKind;
use crate::leases::{DIR_LEASE_FILE, DirLease, LeaseError, LeaseOwner, lease_dir};
use crate::places::ProjectPlaces;
use crate::spec::{Driver, RequirementSpec, UnitKind, UnitSpec};

/// Why data was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Somebody uses it.
    #[error(transparent)]
    Used(#[from] LeaseError),
    /// The file system said no.
    #[error("drop {path}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Drops the data of a requirement that nobody uses: never while its directory is leased. `false` if there was none.
///
/// # Errors
/// Somebody has leased it, or the file system says no.
pub fn drop_data(places: &ProjectPlaces, unit: &Name) -> Result<bool, DropError> {
    let dir = places.data(unit);
    if !dir.is_dir() {
        return Ok(false);
    }
    let owner = LeaseOwner {
        session: "none".to_owned(),
        project: places.key(),
        unit: unit.to_string(),
        name: "data".to_owned(),
    };
    let lease = lease_dir(&dir, &owner)?;
    let aside = put_aside(&dir, lease)?;
    remove(&aside)?;
    Ok(true)
}

/// Takes the directory away under its lease, so that whoever comes next finds none.
fn put_aside(dir: &Path, lease: DirLease) -> Result<PathBuf, DropError> {
    let failed = |source| DropError::Io { path: dir.to_owned(), source };
    let aside = dir.with_extension(format!("dropped-{:08x}", fastrand::u32(..)));
    std::fs::rename(dir, &aside).map_err(failed)?;
    drop(lease);
    Ok(aside)
}

fn remove(aside: &Path) -> Result<(), DropError> {
    std::fs::remove_dir_all(aside).map_err(|source| DropError::Io { path: aside.to_owned(), source })
}

// === impl Project ===

impl Project {
    /// What a requirement is, offers and can be talked to with. Secrets only if `reveal`.
    pub fn requirement_info(&self, unit: &str, reveal: bool) -> Result<RequirementReply, Refusal> {
        let (id, spec, requirement) = self.requirement_named(unit)?;
        let ports = self.ports.of_unit(&id);
        let (scope, _) = scope(self.sources(), &id, spec, requirement, Some(&ports)).map_err(|error| Refusal {
            code: "failed".to_owned(),
            message: format!("failed to {error}"),
            hint: Some("ports and secrets are known while the project is up: `envctl up -d`".to_owned()),
        })?;
        let preset = &requirement.preset.preset;
        let attributes = requirements::attributes(requirement, &scope).into_iter();
        let variables = preset.variables.iter().filter_map(|(name, text)| Some((name, text.fill(&scope).ok()?)));
        Ok(RequirementReply {
            preset: requirement.preset.name.clone(),
            title: preset.title.clone(),
            driver: requirement.driver.as_str().to_owned(),
            data: match requirement.driver {
                Driver::External => None,
                // What is kept of it here is nothing but which steps were done.
                Driver::Shared => self.shared.get(&id).map(|held| held.server.clone()),
                Driver::Auto | Driver::Native | Driver::Container => Some(self.places.data(&id)),
            },
            shared: self.shared.get(&id).map(share::shared_view),
            attributes: attributes.map(|(name, value)| shown(&name, &value.value, value.secret, reveal)).collect(),
            variables: variables.map(|(name, value)| shown(name, &value.text, value.secret, reveal)).collect(),
            clients: clients(requirement, &scope, reveal),
        })
    }

    /// Drops the data of requirements that are down; `units` empty: of all. Answered when it is gone.
    pub fn drop_data(&mut self, units: &[String], shared: Shared, reply: Answer<Accepted>) {
        match self.put_data_aside(units) {
            Err(refusal) => drop(reply.send(Err(refusal))),
            Ok((units, dirs)) => {
                let ids: Vec<Name> = units.iter().filter_map(|unit| Name::new(unit).ok()).collect();
                let volumes = self.drop_volumes(&units);
                let databases = self.drop_shared(&ids, shared);
                self.tasks.spawn(async move {
                    if let Err(refusal) = databases.await {
                        return drop(reply.send(Err(refusal)));
                    }
                    if let Err(error) = volumes.await {
                        return drop(reply.send(Err(Refusal { hint: error.hint(), ..failed(&error) })));
                    }
                    let removed =
                        tokio::task::spawn_blocking(move || dirs.iter().try_for_each(|dir| remove(dir))).await;
                    let answer = match removed {
                        Ok(Ok(())) => Ok(Accepted { units }),
                        Ok(Err(error)) => Err(failed(&error)),
                        Err(error) => Err(failed(&error)),
                    };
                    let _ = reply.send(answer);
                });
            }
        }
    }

    fn put_data_aside(&mut self, units: &[String]) -> Result<(Vec<String>, Vec<PathBuf>), Refusal> {
        let named = check_names(&self.spec, units)?;
        let is_meant = |id: &Name, unit: &UnitSpec| {
            matches!(unit.kind, UnitKind::Requirement(_)) && (named.is_empty() || named.contains(id))
        };
        let ids: Vec<Name> =
            self.spec.units.iter().filter(|(id, unit)| is_meant(id, unit)).map(|(id, _)| id.clone()).collect();
        let lives = |id: &&Name| self.engine.child(id.as_str()).is_some_and(|child| child.state.is_alive());
        if let Some(id) = ids.iter().find(lives) {
            return Err(Refusal {
                code: "in-use".to_owned(),
                message: format!("the data of {id} is in use: it runs"),
                hint: Some(format!("`envctl stop {id}` first, or `envctl requirement reset {id}` does both")),
            });
        }
        let mut dirs = Vec::new();
        for id in &ids {
            let dir = self.places.data(id);
            let lease = match self.data_leases.remove(id) {
                Some(lease) => lease,
                None if !dir.is_dir() => continue,
                None => lease_dir(&dir, &self.data_owner(id)).map_err(|error| failed(&error))?,
            };
            dirs.push(put_aside(&dir, lease).map_err(|error| failed(&error))?);
            self.secrets.remove(id);
            self.append(EventKind::RequirementDropped.event("", format!("the data of {id} was dropped")).unit(id));
        }
        Ok((ids.iter().map(ToString::to_string).collect(), dirs))
    }

    /// Whose the lease of a data directory is.
    pub(super) fn data_owner(&self, id: &Name) -> LeaseOwner {
        let holder = self.holder();
        LeaseOwner { session: holder.session, project: holder.project, unit: id.to_string(), name: "data".to_owned() }
    }

    fn requirement_named(&self, unit: &str) -> Result<(Name, &UnitSpec, &RequirementSpec), Refusal> {
        let id = check_names(&self.spec, &[unit.to_owned()])?.remove(0);
        let spec = &self.spec.units[&id];
        match &spec.kind {
            UnitKind::Requirement(requirement) => Ok((id, spec, requirement)),
            UnitKind::Service(_) | UnitKind::Task(_) => Err(Refusal {
                code: "not-found".to_owned(),
                message: format!("{id} is a {}, not a requirement", spec.kind.as_str()),
                hint: Some("`envctl requirement list` shows those there are".to_owned()),
            }),
        }
    }
}

fn clients(requirement: &RequirementSpec, scope: &Scope, reveal: bool) -> Vec<ClientView> {
    let text = |text: &Text| text.fill(scope).map(|value| value.text).unwrap_or_default();
    let of_preset = requirement.preset.preset.clients.iter();
    of_preset
        .map(|(name, client)| ClientView {
            name: name.clone(),
            programs: client.program.clone(),
            args: client.args.iter().map(text).collect(),
            // The environment holds the credentials, and nothing else that is worth being shown.
            env: client.env.iter().filter(|_| reveal).map(|(name, value)| (name.clone(), text(value))).collect(),
        })
        .collect()
}

fn shown(name: &str, value: &str, secret: bool, reveal: bool) -> VariableView {
    let masked = mask(name, value, secret);
    let is_masked = masked != value;
    let value = if reveal { value.to_owned() } else { masked };
    VariableView { name: name.to_owned(), value, origin: "preset".to_owned(), secret: is_masked }
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal {
        code: "failed".to_owned(),
        message: format!("failed to {error}{cause}"),
        hint: Some(format!("`envctl ps --all` shows who runs on it; the lease is the file `{DIR_LEASE_FILE}`")),
    }
}
