//! What an earlier daemon left: its runs are taken over as soon as their configuration can be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::process::end::gone;
use envctl_actors::process::identity::Identity;
use envctl_actors::process::{Processes, Scope};
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::actor::State;
use super::handle::{Project, RootMessage};
use crate::config::{self, Diagnostics, Source};
use crate::control::wire::Refusal;
use crate::project::memory::{Files, Memory};
use crate::project::supervisor::ProjectMessage;
use crate::spec::ProjectSpec;

/// How long the processes of a run that nobody could take over have to end in order.
const ORPHANS_GRACE: Duration = Duration::from_secs(5);

/// A run of an earlier daemon that could not be taken over yet.
#[derive(Debug)]
pub(super) struct Orphan {
    /// The file it is remembered in.
    pub(super) path: PathBuf,
    pub(super) memory: Memory,
}

// === impl State ===

impl State {
    /// The project in a directory. A run of an earlier daemon that could not be taken over is tried again.
    pub(super) async fn find(
        &mut self,
        myself: &ActorRef<RootMessage>,
        root: PathBuf,
    ) -> Result<Option<Project>, Refusal> {
        if let Some(project) = self.projects.get(&root) {
            return Ok(Some(project.clone()));
        }
        let Some(orphan) = self.orphans.get(&root) else { return Ok(None) };
        let files = orphan.memory.files();
        let spec = load(&root, &files).map_err(|error| Refusal {
            code: "config".to_owned(),
            message: format!(
                "an earlier daemon left units running here, and their configuration is broken now:\n{error}"
            ),
            hint: Some("correct it; then they can be asked about and stopped again".to_owned()),
        })?;
        self.project(myself, Arc::new(spec), files).await.map(Some)
    }

    /// Takes over every run that an earlier daemon wrote down, and ends processes that belong to none.
    pub(super) async fn recover(&mut self, myself: &ActorRef<RootMessage>) {
        let (memories, whole) = Memory::load_all(self.session.places.runtime_dir());
        let known: Vec<String> = memories.iter().map(|(_, memory)| memory.key.clone()).collect();
        // What ends with the daemon does not end with a program that was replaced.
        let has_died = !self.session.processes.heart_said().await.is_ok_and(|said| said.replaced);
        for (path, mut memory) in memories {
            memory.end_with_daemon &= has_died;
            self.servers.remember(&memory);
            let (root, files) = (memory.root.clone(), memory.files());
            let loaded = load(&root, &files);
            self.orphans.insert(root, Orphan { path: path.clone(), memory });
            let taken = match loaded {
                Ok(spec) => self.project(myself, Arc::new(spec), files).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = taken {
                tracing::error!(path = %path.display(), error, "a run cannot be taken over yet");
            }
        }
        self.resume_servers();
        for stray in self.session.processes.list().await {
            // Whose memory cannot be read may be anybody: then nobody is taken for a stray.
            if whole && !known.contains(&stray.tag.project) {
                self.session.processes.discard(stray.key);
            }
        }
    }
}

/// Gives a run to its project, and waits until its processes have an owner again.
pub(super) async fn take_over(project: &Project, memory: Memory) {
    let (reply, done) = oneshot::channel();
    let _ = project.actor.cast(ProjectMessage::Recover(Box::new(memory), reply.into()));
    // An error means that its actor is gone, which the root hears of anyway.
    let _ = done.await;
}

/// Ends the processes of runs that nobody could take over: asks first, then kills.
pub(super) async fn end_orphans(processes: &Processes, orphans: Vec<Orphan>) {
    let held = processes.list().await;
    let is_orphan = |project: &str| orphans.iter().any(|orphan| orphan.memory.key == project);
    let mine: Vec<_> = held.iter().filter(|held| is_orphan(&held.tag.project)).collect();
    for held in &mine {
        processes.signal(held.key, nix::libc::SIGTERM, Scope::Group);
    }
    gone(mine.iter().filter_map(|held| Identity::of(held.pid)).collect(), ORPHANS_GRACE).await;
    for held in mine {
        processes.discard(held.key);
    }
    for orphan in orphans {
        // The run is over: the next daemon must not begin it anew.
        let _ = std::fs::remove_file(orphan.path);
    }
}

/// Reads a project's configuration. Blocks for as long as a few small files take.
pub(crate) fn load(root: &Path, files: &Files) -> Result<ProjectSpec, Diagnostics> {
    let source = config::discover(root, files.file.as_deref())?;
    let source = Source { user_config: files.user_config.clone(), ..source };
    config::load(&source).map(|loaded| loaded.spec)
}
