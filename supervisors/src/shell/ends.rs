//! How actors end, in types: never read from ractor's text.

use std::sync::{Arc, OnceLock};

use ractor::{ActorCell, SupervisionEvent};

use super::state::Shell;
use crate::engine::Ending;
use crate::reason::ExitReason;
use crate::spec::ChildId;

/// Why a supervisor ended by itself, once it has.
pub(super) type Ended = Arc<OnceLock<(ChildId, Ending)>>;

/// How an actor ended, in what ractor types of it.
#[derive(Debug)]
pub(super) enum End {
    /// It stopped or was killed.
    Terminated {
        /// Whether its state came along: it does not when it was killed in `post_start` or `post_stop`, or its task died.
        has_state: bool,
    },
    /// It is a supervisor, and ended by itself (OTP's `shutdown`).
    Shutdown,
    /// It returned an error or panicked.
    Failed(String),
}

// === impl End ===

impl End {
    /// What an event tells; drops the state that it carries, and what that holds. `Err`: it tells of no end, but perhaps of
    /// the start of an actor.
    pub(super) fn of(event: SupervisionEvent) -> Result<(ActorCell, Self), Option<ActorCell>> {
        match event {
            SupervisionEvent::ActorTerminated(cell, state, _) => {
                let state = state.and_then(|state| state.msg);
                let shell = state.as_ref().and_then(|state| state.downcast_ref::<Shell>());
                let has_ended_itself = shell.is_some_and(|shell| shell.engine.ending().is_some());
                let end =
                    if has_ended_itself { Self::Shutdown } else { Self::Terminated { has_state: state.is_some() } };
                Ok((cell, end))
            }
            SupervisionEvent::ActorFailed(cell, error) => Ok((cell, Self::Failed(error.to_string()))),
            SupervisionEvent::ActorStarted(cell) => Err(Some(cell)),
            SupervisionEvent::ProcessGroupChanged(_) => Err(None),
        }
    }
}

/// What is known of an end, strongest first.
pub(super) fn exit_reason(end: Option<End>, is_graceful: Option<bool>, is_killed: bool) -> ExitReason {
    match end {
        Some(End::Failed(text)) => ExitReason::Error(text),
        Some(End::Shutdown) => ExitReason::Shutdown,
        Some(End::Terminated { has_state: true }) if is_graceful == Some(true) => ExitReason::Normal,
        Some(End::Terminated { has_state }) if is_killed || !has_state || is_graceful == Some(false) => {
            ExitReason::Killed
        }
        Some(End::Terminated { .. }) => ExitReason::Normal,
        None if is_killed => ExitReason::Killed,
        None => ExitReason::Unknown("it ended before it could be linked".to_owned()),
    }
}
