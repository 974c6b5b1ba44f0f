//! The session's daemon: who answers, who is started, and what it says of a project.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::ProjectView;
use envctl_runtime::control::wire::{ProjectRef, Ps};
use envctl_runtime::places::ProjectPlaces;
use envctl_runtime::project::memory::Memory;
use envctl_runtime::session::launch::{self, LaunchOptions};
use envctl_runtime::session::serve;

use super::{Context, Observed, Target, build, project_ref};
use crate::error::{CliError, chain};

/// Time a running daemon has to greet. It answers in under a millisecond unless it is stopped or swapped out.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Time a new daemon has to come up, also when fifty start at once on a slow machine.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(20);
/// Time the heart has to bring back a daemon that died under us.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(15);

// === impl Context ===

impl Context {
    /// The session's daemon, if one runs. Says so if it is of another build.
    pub(crate) async fn running_daemon(&self) -> Result<Option<Client>, CliError> {
        let client = self.connect().await?;
        client.iter().for_each(|client| self.note_build(client));
        Ok(client)
    }

    /// As [`Self::running_daemon`], without a word about its build: for commands that end or replace it.
    pub(crate) async fn connect(&self) -> Result<Option<Client>, CliError> {
        match Client::connect(&self.socket()?, CONNECT_DEADLINE).await {
            Ok(client) => Ok(Some(client)),
            // One that dies while it is greeted does not run either.
            Err(ClientError::NotRunning { .. } | ClientError::Lost) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The session's daemon for a command that only reads: one is started only if a run of the project is remembered, for
    /// then its units may run and somebody must take them over. That memory dies with the boot, as units do.
    pub(crate) async fn reading_daemon(&self, project: &ProjectPlaces) -> Result<Option<Client>, CliError> {
        match self.running_daemon().await? {
            Some(client) => Ok(Some(client)),
            None if Memory::path(self.places()?.runtime_dir(), &project.short()).exists() => {
                self.daemon().await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// The session's daemon, if one runs, and how the project of this directory is named to it: known before its
    /// configuration is read. `None` also where another project is meant.
    pub(crate) async fn daemon_of_here(&self) -> Result<Option<(Client, ProjectRef)>, CliError> {
        let Some(source) = self.source().ok().filter(|_| !self.names_a_project()) else { return Ok(None) };
        Ok(self.running_daemon().await?.map(|client| (client, project_ref(&source.root))))
    }

    /// What the daemon says of the project of this directory, if it knows it: then its configuration need not be read, which
    /// takes longer than the answer.
    pub(crate) async fn view_of_here(&self, usage: bool) -> Result<Option<ProjectView>, CliError> {
        let Some((client, here)) = self.daemon_of_here().await? else { return Ok(None) };
        match view_of(&client, Ps { project: Some(here), usage }).await {
            // Whoever asks on learns whether there is a daemon after this one.
            Err(ClientError::Lost) => Ok(None),
            answer => Ok(answer?),
        }
    }

    /// The session's daemon; one is started if there is none.
    pub(crate) async fn daemon(&self) -> Result<Client, CliError> {
        let places = self.places()?;
        let program = std::env::current_exe()?;
        let options = LaunchOptions { program, deadline: LAUNCH_DEADLINE };
        let launched = launch::ensure_daemon(&places, options).await.map_err(|error| {
            CliError::new("daemon", chain(&error)).hint(format!("its log is {}", places.daemon_log().display()))
        });
        launched.inspect(|client| self.note_build(client))
    }

    /// Says once, to people, that the daemon is of another build, and what to do about it.
    fn note_build(&self, client: &Client) {
        let link = client.peer_pid().and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let ours = std::env::current_exe().ok();
        let Some(notice) = build::notice(&client.hello().build, link.as_deref(), ours.as_deref()) else { return };
        if !self.output.json && !self.build_noted.swap(true, Ordering::Relaxed) {
            self.output.say(&crate::output::harmless(&notice));
            self.output.hint("`envctl daemon upgrade` replaces it by this one; units run on");
        }
    }

    /// The daemon that takes over from one that died under us.
    pub(crate) async fn reconnect(&self) -> Result<Client, CliError> {
        let options = LaunchOptions { program: std::env::current_exe()?, deadline: RECONNECT_DEADLINE };
        launch::ensure_daemon(&self.places()?, options).await.map_err(|error| CliError::new("daemon", chain(&error)))
    }

    /// The state of one project, if the daemon knows it.
    pub(crate) async fn view(&self, client: &Client, project: &ProjectRef) -> Result<Option<ProjectView>, CliError> {
        Ok(view_of(client, Ps { project: Some(project.clone()), usage: false }).await?)
    }

    /// Asks about a project without starting anything that does not run.
    pub(crate) async fn observe(&self, target: &Target) -> Result<Observed, CliError> {
        let Some(client) = self.reading_daemon(&self.target_places(target)?).await? else {
            return Ok(Observed { client: None, view: None });
        };
        let view = self.view(&client, &target.reference).await?;
        Ok(Observed { client: Some(client), view })
    }

    /// The daemon and the target's state, or an error that says how to get it up.
    pub(crate) async fn running(&self, target: &Target) -> Result<(Client, ProjectView), CliError> {
        match self.observe(target).await? {
            Observed { client: Some(client), view: Some(view) } => Ok((client, view)),
            Observed { .. } => {
                Err(CliError::new("not-running", format!("{} is not up", target.name)).hint("`envctl up -d` starts it"))
            }
        }
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, CliError> {
        self.places()?.socket().map_err(|error| CliError::new("io", format!("cannot {}", chain(&error))))
    }

    /// Arguments with which a daemon of this session serves in the foreground.
    pub(crate) fn serve_in_foreground(&self) -> Result<ExitCode, CliError> {
        Ok(serve::heart_main(launch::foreground_arguments(&self.places()?, &std::env::current_exe()?)))
    }
}

/// The one project that is asked about, if the daemon knows it.
async fn view_of(client: &Client, question: Ps) -> Result<Option<ProjectView>, ClientError> {
    match client.request(question).await {
        Ok(reply) => Ok(reply.projects.into_iter().next()),
        Err(ClientError::Refused(refusal)) if refusal.code == "not-found" => Ok(None),
        Err(error) => Err(error),
    }
}
