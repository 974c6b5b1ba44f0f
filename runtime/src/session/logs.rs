//! Units' logs for the program that embeds the session.

use envctl_actors::log_stream::LogStream;

use super::Session;
use crate::control::handlers::ask;
use crate::control::wire::{ProjectRef, Refusal};
use crate::project::supervisor::ProjectMessage;

// === impl Session ===

impl Session {
    /// The log of a unit of a project that is up: to be asked ([`LogStream::query`]) or followed ([`LogStream::follow`],
    /// [`LogStream::subscribe`]). An error if there is no such project or unit, or it is not up.
    pub async fn log(&self, project: &ProjectRef, unit: &str) -> Result<LogStream, Refusal> {
        let missing = |message: String| Refusal {
            code: "not-found".to_owned(),
            message,
            hint: Some("bring the project up first".to_owned()),
        };
        let found = self.root.find(project.root.clone()).await?;
        let found = found.ok_or_else(|| missing(format!("the project in {} is not up", project.root.display())))?;
        let units = vec![unit.to_owned()];
        let streams = ask(&found.actor, |reply| ProjectMessage::LogStreams(units, reply)).await??;
        let log = streams.into_iter().next().map(|(_, log)| log);
        log.ok_or_else(|| missing(format!("nothing writes the log of {unit}")))
    }
}
