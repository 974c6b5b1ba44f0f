//! Reports as subscribers get them: OTP's four fields, over a bounded channel that counts what a slow reader lost.

use std::sync::PoisonError;

use ractor::ActorId;
use tokio::sync::broadcast::{self, error::RecvError};

use super::handle::FirstReports;
use crate::Name;
use crate::engine::{Cause, What};
use crate::spec::{ChildId, Incarnation};

/// How many reports are held for the slowest subscriber: a start and stop of a hundred children, and little memory.
pub const REPORTS_HELD_MAX: usize = 1024;

/// One decision or observation of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorReport {
    /// Whose report it is.
    pub supervisor: Name,
    /// What happened.
    pub context: What,
    /// Why.
    pub reason: Option<Cause>,
    /// To whom.
    pub offender: Offender,
}

/// The child a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// The child.
    pub id: ChildId,
    /// Its life, present or last.
    pub incarnation: Option<Incarnation>,
    /// The actor of that life, if it has begun.
    pub actor: Option<ActorId>,
}

/// A subscription to a supervisor's reports.
#[derive(Debug)]
pub struct Reports {
    receiver: broadcast::Receiver<SupervisorReport>,
    lost: u64,
}

/// Where a supervisor's reports go.
pub(super) struct Outlet {
    pub(super) reports: broadcast::Sender<SupervisorReport>,
    pub(super) first: FirstReports,
    /// While nobody has subscribed yet.
    pub(super) sent: usize,
}

// === impl Outlet ===

impl Outlet {
    /// Whether anybody listens: a supervisor of a hundred thousand children makes no report for nobody.
    pub(super) fn has_listeners(&self) -> bool {
        self.reports.receiver_count() > 0
    }

    pub(super) fn send(&mut self, report: SupervisorReport) {
        self.sent += 1;
        if self.sent == REPORTS_HELD_MAX {
            // Nobody came while all could still be told.
            drop(self.first.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        drop(self.reports.send(report));
    }
}

// === impl Reports ===

impl Reports {
    pub(super) fn new(receiver: broadcast::Receiver<SupervisorReport>) -> Self {
        Self { receiver, lost: 0 }
    }

    /// A subscription to a supervisor that is gone.
    pub(super) fn ended() -> Self {
        Self::new(broadcast::channel(1).1)
    }

    /// The next report; `None` once the supervisor is gone.
    pub async fn next(&mut self) -> Option<SupervisorReport> {
        loop {
            match self.receiver.recv().await {
                Ok(report) => return Some(report),
                Err(RecvError::Lagged(lost)) => self.lost += lost,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many reports this subscriber has lost so far, because it read too slowly.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
