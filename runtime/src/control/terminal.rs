//! Requests about units' terminals. The gateway's task of a request waits for the unit to read; no actor does.

use envctl_actors::process::WindowSize;

use super::handlers::{Handlers, ask};
use super::wire::{Attach, AttachReply, ProjectRef, Refusal, TYPED_MAX_BYTES, TypeIn, TypeInReply};
use crate::project::supervisor::ProjectMessage;
use crate::project::terminal::Terminal;

// === impl Handlers ===

impl Handlers {
    pub(super) async fn attach(&self, request: Attach) -> Result<AttachReply, Refusal> {
        let Attach { project, unit, rows, columns } = request;
        let terminal = self.terminal(&project, unit).await?;
        terminal.resize(WindowSize { rows, columns }).await?;
        Ok(AttachReply { incarnation: terminal.incarnation(), run: terminal.run })
    }

    pub(super) async fn type_in(&self, request: TypeIn) -> Result<TypeInReply, Refusal> {
        let TypeIn { project, unit, incarnation, bytes } = request;
        if bytes.len() > TYPED_MAX_BYTES {
            return Err(Refusal {
                code: "malformed".to_owned(),
                message: format!("{} bytes cannot be typed at once", bytes.len()),
                hint: Some(format!("send at most {TYPED_MAX_BYTES}, and wait for the answer")),
            });
        }
        let terminal = self.terminal(&project, unit).await?;
        Ok(TypeInReply { taken: terminal.type_in(incarnation, bytes.into_vec()).await? })
    }

    async fn terminal(&self, project: &ProjectRef, unit: String) -> Result<Terminal, Refusal> {
        let project = self.must_find(project).await?;
        ask(&project.actor, |reply| ProjectMessage::Terminal(unit, reply)).await?
    }
}
