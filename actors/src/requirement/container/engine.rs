//! One engine: its API with a deadline on every question and its errors in words. Knows nothing of units.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    StartContainerOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::time::timeout;

use super::error::EngineError;
use super::find::{Address, Surroundings, find};
use super::labels::Owner;

/// How long the engine has for an ordinary question; it answers in milliseconds.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long it has to say that it is there: the first thing asked of every socket.
const PING_WITHIN: Duration = Duration::from_secs(5);
/// How long it has to create, start or remove a container, on a disk that is busy.
const WORK_WITHIN: Duration = Duration::from_secs(120);
/// The client's own deadline, which knows no difference between questions: far away. Ours are nearer.
const CLIENT_TIMEOUT_SECS: u64 = 10 * 365 * 24 * 3600;

/// A connection to an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    address: Address,
}

/// A container that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Whether it runs.
    pub is_running: bool,
}

// === impl Engine ===

impl Engine {
    /// Finds an engine that answers. If none does: why the best one does not.
    ///
    /// # Errors
    /// No engine anywhere, or none that answers.
    pub async fn connect(around: &Surroundings) -> Result<Self, EngineError> {
        let mut first = None;
        for address in find(around)? {
            match Self::at(&address) {
                Ok(engine) => match engine.ping().await {
                    Ok(()) => return Ok(engine),
                    Err(error) => first.get_or_insert(error),
                },
                Err(error) => first.get_or_insert(error),
            };
        }
        Err(first.unwrap_or(EngineError::NotInstalled { looked: Vec::new() }))
    }

    /// The engine at an address; it is not asked whether it is there.
    ///
    /// # Errors
    /// There is no such socket.
    pub fn at(address: &Address) -> Result<Self, EngineError> {
        let docker = match address {
            Address::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), CLIENT_TIMEOUT_SECS, API_DEFAULT_VERSION)
            }
            Address::Http(host) => Docker::connect_with_http(host, CLIENT_TIMEOUT_SECS, API_DEFAULT_VERSION),
        };
        let words = |error| EngineError::of(&error, "reach the container engine", &address.to_string());
        Ok(Self { docker: docker.map_err(words)?, address: address.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The API itself, for streams, which have deadlines of their own.
    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Asks whether it is there, and agrees on a version of the API.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let agreed = self.ask("ask the engine for its version", PING_WITHIN, self.docker.clone().negotiate_version());
        agreed.await.map(drop)
    }

    /// Containers of a project, or of one of its units: running or not, and provably ours.
    pub async fn containers(&self, owner: &Owner, unit: Option<&str>) -> Result<Vec<Found>, EngineError> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&owner.filters(unit)).build();
        let listed = self.ask("list containers", ANSWER_WITHIN, self.docker.list_containers(Some(options))).await?;
        let found = listed.into_iter().filter_map(|one| {
            let labels = one.labels.unwrap_or_default();
            let is_running = one.state == Some(bollard::models::ContainerSummaryStateEnum::RUNNING);
            Some(Found { id: one.id?, labels, is_running })
        });
        Ok(found.filter(|one| owner.owns(&one.labels)).filter(|one| is_of(&one.labels, unit)).collect())
    }

    /// Volumes of a project, or of one of its units, by name.
    pub async fn volumes(&self, owner: &Owner, unit: Option<&str>) -> Result<Vec<String>, EngineError> {
        let options = ListVolumesOptionsBuilder::new().filters(&owner.filters(unit)).build();
        let listed = self.ask("list volumes", ANSWER_WITHIN, self.docker.list_volumes(Some(options))).await?;
        let found = listed.volumes.unwrap_or_default().into_iter();
        let ours = found.filter(|one| owner.owns(&one.labels) && is_of(&one.labels, unit));
        Ok(ours.map(|one| one.name).collect())
    }

    /// Networks of a project, or of one of its units, by id.
    pub async fn networks(&self, owner: &Owner, unit: Option<&str>) -> Result<Vec<String>, EngineError> {
        let options = ListNetworksOptionsBuilder::new().filters(&owner.filters(unit)).build();
        let listed = self.ask("list networks", ANSWER_WITHIN, self.docker.list_networks(Some(options))).await?;
        let ours = listed
            .into_iter()
            .filter(|one| one.labels.as_ref().is_some_and(|labels| owner.owns(labels) && is_of(labels, unit)));
        Ok(ours.filter_map(|one| one.id).collect())
    }

    /// Makes a container; gives its id.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let created = self.ask("create its container", WORK_WITHIN, self.docker.create_container(Some(options), body));
        Ok(created.await?.id)
    }

    /// Starts a container; one that runs already is no error, and neither is one that runs though the engine did not say so
    /// in time.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let started = self.docker.start_container(id, None::<StartContainerOptions>);
        let answer = self.ask("start its container", WORK_WITHIN, started).await;
        if let Err(EngineError::Timeout { .. }) = &answer
            && let Ok(Some(ContainerState { running: Some(true), .. })) = self.state(id).await
        {
            tracing::warn!(id, "the engine did not say in time that a container was started; it runs");
            return Ok(());
        }
        answer
    }

    /// Asks a container to end with its stop signal; the engine kills it after `grace`. One that has ended is no error.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let within = grace.saturating_add(WORK_WITHIN);
        self.ask("stop its container", within, self.docker.stop_container(id, Some(options))).await
    }

    /// Sends a container's main process a signal.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(&signal.to_string()).build();
        self.ask("signal its container", ANSWER_WITHIN, self.docker.kill_container(id, Some(options))).await
    }

    /// Kills a container if it lives and removes it; one that is gone is no error. Named volumes stay.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.ask("remove a container", WORK_WITHIN, self.docker.remove_container(id, Some(options))).await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            // Somebody else is removing it.
            Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            result => result,
        }
    }

    /// A container's state; `None`: there is no such container.
    pub async fn state(&self, id: &str) -> Result<Option<ContainerState>, EngineError> {
        let asked = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.ask("look at its container", ANSWER_WITHIN, asked).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a volume, or finds the one there is; gives its labels.
    pub async fn volume(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<HashMap<String, String>, EngineError> {
        let body =
            VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..VolumeCreateRequest::default() };
        Ok(self.ask("make its volume", WORK_WITHIN, self.docker.create_volume(body)).await?.labels)
    }

    /// Removes a volume with all it holds; one that is gone is no error.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveVolumeOptionsBuilder::new().build();
        match self.ask("remove a volume", WORK_WITHIN, self.docker.remove_volume(name, Some(options))).await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Makes a network; gives its id.
    pub async fn network(&self, name: &str, labels: HashMap<String, String>) -> Result<String, EngineError> {
        let body =
            NetworkCreateRequest { name: name.to_owned(), labels: Some(labels), ..NetworkCreateRequest::default() };
        Ok(self.ask("make its network", WORK_WITHIN, self.docker.create_network(body)).await?.id)
    }

    /// Removes a network; one that is gone is no error.
    pub async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        match self.ask("remove a network", ANSWER_WITHIN, self.docker.remove_network(id)).await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Unpacks a tar archive into a container that has not been started yet.
    pub async fn put_files(&self, id: &str, archive: Vec<u8>) -> Result<(), EngineError> {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(archive.into());
        self.ask("put files into its container", WORK_WITHIN, self.docker.upload_to_container(id, Some(options), body))
            .await
    }

    /// Whether an image is here.
    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        match self.ask("look for its image", ANSWER_WITHIN, self.docker.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(EngineError::ImageMissing { .. } | EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts an error of a stream into words.
    pub(super) fn words(&self, error: &Error, what: &str) -> EngineError {
        EngineError::of(error, what, &self.address.to_string())
    }

    async fn ask<T>(
        &self,
        what: &str,
        within: Duration,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        match timeout(within, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.words(&error, what)),
            Err(_) => Err(EngineError::Timeout { what: what.to_owned(), within }),
        }
    }
}

/// Whether these are the labels of this unit, if one is meant.
fn is_of(labels: &HashMap<String, String>, unit: Option<&str>) -> bool {
    unit.is_none_or(|unit| labels.get(super::labels::UNIT).is_some_and(|of| of == unit))
}
