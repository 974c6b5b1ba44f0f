//! Which project a command is about, also where its configuration is broken or gone.

use std::path::Path;

use envctl_runtime::config::{self, Diagnostics};
use envctl_runtime::control::view::{ProjectState, ProjectView};
use envctl_runtime::control::wire::Ps;
use envctl_runtime::nearest::nearest;

use super::{Context, Project, Target, config_error, did_you_mean, project_ref};
use crate::error::CliError;

// === impl Context ===

impl Context {
    /// The project a command asks about: `--project`, else the one configured here.
    ///
    /// A configuration that is broken now may have a project that runs: its directory is enough to ask about it.
    pub(crate) async fn locate(&self) -> Result<Target, CliError> {
        if let Some(name) = &self.global.project {
            return self.find_running(name).await;
        }
        let source = match self.source() {
            Ok(source) => source,
            Err(found) => return self.locate_gone(found).await,
        };
        match config::load(&source) {
            Ok(loaded) => {
                let project = Project { loaded, file: self.file.clone() };
                Ok(Target { reference: project.reference(), name: project.name().to_owned(), project: Some(project) })
            }
            Err(found) => self.locate_broken(&source.root, found).await,
        }
    }

    async fn locate_broken(&self, root: &Path, found: Diagnostics) -> Result<Target, CliError> {
        let reference = project_ref(root);
        let Some(client) = self.running_daemon().await? else { return Err(config_error(found)) };
        let Some(view) = self.view(&client, &reference).await? else { return Err(config_error(found)) };
        self.output.warn(&format!("the configuration has errors now, asking about what runs:\n{found}"));
        Ok(Target { reference, name: view.name, project: None })
    }

    /// The project that runs here although its config file is gone.
    async fn locate_gone(&self, found: Diagnostics) -> Result<Target, CliError> {
        let Some(client) = self.running_daemon().await? else { return Err(config_error(found)) };
        let projects = client.request(Ps { project: None, usage: false }).await?.projects;
        let start = self.file.as_deref().and_then(Path::parent).unwrap_or(&self.start);
        let up = |root: &Path| projects.iter().find(|one| one.root == root && one.state != ProjectState::Down);
        let Some(view) = start.ancestors().find_map(up) else { return Err(config_error(found)) };
        self.output.warn("the config file is gone, asking about what runs");
        Ok(Target { reference: project_ref(&view.root), name: view.name.clone(), project: None })
    }

    /// A project of the session by its name, or by its directory.
    async fn find_running(&self, name: &str) -> Result<Target, CliError> {
        let unknown = |hint: String| {
            CliError::new("not-found", format!("no project is called `{name}` in this session")).hint(hint)
        };
        let Some(client) = self.running_daemon().await? else {
            return Err(unknown("nothing runs; go to its directory, or name it with -C DIR".to_owned()));
        };
        let projects = client.request(Ps { project: None, usage: false }).await?.projects;
        let root = name.contains('/').then(|| std::fs::canonicalize(self.start.join(name)).ok()).flatten();
        let is = |project: &&ProjectView| project.name == name || root.as_ref() == Some(&project.root);
        let is_up = |project: &&ProjectView| is(project) && project.state != ProjectState::Down;
        // One that is up is meant rather than one that was.
        let mut up = projects.iter().filter(is_up);
        let mut known = projects.iter().filter(is);
        let (first, second) = match up.next() {
            Some(one) => (Some(one), up.next()),
            None => (known.next(), known.next()),
        };
        match (first, second) {
            (Some(one), None) => {
                Ok(Target { reference: project_ref(&one.root), name: one.name.clone(), project: None })
            }
            (Some(one), Some(other)) => {
                Err(CliError::new("not-found", format!("several projects are called `{name}`")).hint(format!(
                    "name one by its directory: -p {} or -p {}",
                    one.root.display(),
                    other.root.display()
                )))
            }
            (None, _) => {
                let names = projects.iter().map(|project| project.name.as_str());
                let near = nearest(name, names).map_or_else(|| "`envctl projects` lists them".to_owned(), did_you_mean);
                Err(unknown(near))
            }
        }
    }
}
