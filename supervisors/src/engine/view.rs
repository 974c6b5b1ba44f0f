//! A child as others see it. The engine's own states hold more; none of it leaves the engine.

use super::event::Time;
use super::report::Cause;
use crate::reason::ExitReason;
use crate::spec::{ChildId, Incarnation};

/// What the operator wants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// Running (or done, where it may end by itself).
    Up,
    /// Not running.
    Down,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// Wanted up, and waiting: for what it needs, for lives that must end first, or for a start slot.
    Pending,
    /// A life was asked for.
    Starting,
    /// Alive; not ready, or never says so.
    Running,
    /// Alive and ready.
    Ready,
    /// Asked to end.
    Stopping,
    /// Waiting before the next life.
    Backoff {
        /// When the wait ends.
        until: Time,
        /// Failed lives in a row.
        failures: u32,
    },
    /// Down, because it is wanted so.
    Stopped,
    /// Ended cleanly, and needs no further life.
    Done,
    /// Given up, until it is started by hand.
    Failed,
}

/// A child at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildView {
    /// The child.
    pub id: ChildId,
    /// What it is doing.
    pub state: ChildState,
    /// What is wanted of it.
    pub desired: Desired,
    /// Its present life, else its last one; `None` before the first.
    pub incarnation: Option<Incarnation>,
    /// Automatic restarts.
    pub restarts: u32,
    /// When it entered its state.
    pub since: Time,
    /// What a pending child waits for.
    pub blocked_by: Vec<ChildId>,
    /// How its last life ended.
    pub last_exit: Option<ExitReason>,
    /// Why it is in its state.
    pub cause: Option<Cause>,
    /// Whether it is alive but on its way down, also before it was asked to end.
    pub leaving: bool,
}

// === impl ChildState ===

impl ChildState {
    /// Whether a life exists, or was asked for.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Ready | Self::Stopping => true,
            Self::Pending | Self::Backoff { .. } | Self::Stopped | Self::Done | Self::Failed => false,
        }
    }
}
