//! Child specifications: what a supervisor is told about a child, in OTP's words.

use std::time::Duration;

use crate::Name;

/// A child's identity in its supervisor.
pub type ChildId = Name;

/// The n-th life of a child, from 1. Every message and timer carries it; stale ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// When a child that ended by itself is started again (OTP's restart type).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only after an abnormal end.
    Transient,
    /// Never.
    Temporary,
}

/// How a child is asked to end (OTP's shutdown value).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once, without asking.
    BrutalKill,
    /// Ask, wait this long, then kill.
    Timeout(Duration),
    /// Ask and wait for ever.
    Infinity,
}

/// Whether a child is itself a supervisor; only counts and defaults depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildType {
    /// A leaf.
    Worker,
    /// A supervisor.
    Supervisor,
}

/// Who is restarted together with a crashed child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The child alone.
    OneForOne,
    /// The whole group.
    OneForAll,
    /// The child and those that come after it.
    RestForOne,
}

/// The restart budget: more than `restarts` within `period` and the supervisor gives up (OTP `intensity`, `period`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within the period.
    pub restarts: u32,
    /// The sliding window; its start is inclusive.
    pub period: Duration,
}

/// What giving up means for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalate {
    /// The child is failed, the rest runs on.
    Isolate,
    /// The group is stopped; one crash in its parent.
    Group,
    /// The whole supervisor stops.
    Project,
}

/// What an edge waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The child runs.
    Started,
    /// The child reported that it is ready.
    Ready,
    /// The child ended cleanly.
    Done,
}

/// What happens to the dependent when the child it needs crashes, restarts or loses its readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Ignore,
    /// The dependent is restarted.
    Restart,
    /// The dependent is stopped.
    Stop,
}

/// A dependency of one child on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The child that is needed.
    pub on: ChildId,
    /// What is waited for.
    pub is: Condition,
    /// What follows when it is lost.
    pub then: Then,
}

/// Delay between restarts: the first after a stable life is immediate, then `base` doubling to `max`, jittered down to half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// No delay, and no giving up by unstable lives (OTP's behaviour).
    None,
    /// Doubling delay.
    Exponential {
        /// Delay of the second consecutive restart.
        base: Duration,
        /// Longest delay.
        max: Duration,
    },
}

/// How a child becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It never says so: running counts as healthy.
    Unreported,
    /// It reports readiness, within this time of its start or the start has failed.
    Within(Duration),
}

/// Everything the engine knows of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// Unique in the supervisor.
    pub id: ChildId,
    /// When it is started again.
    pub restart: Restart,
    /// How it is asked to end.
    pub shutdown: Shutdown,
    /// OTP's `significant`; only dynamic children may set it.
    pub significant: bool,
    /// Worker or supervisor.
    pub child_type: ChildType,
    /// What must be so before it starts.
    pub needs: Vec<Edge>,
    /// How it becomes ready.
    pub readiness: Readiness,
    /// Delay between restarts.
    pub backoff: Backoff,
    /// Its own budget (a child outside a declared group is a group of one).
    pub intensity: Intensity,
    /// Consecutive lives that never stayed ready for `stable_after` before it is given up; `None` turns this off.
    pub unstable_max: Option<u32>,
    /// How long a life must be ready to count as stable.
    pub stable_after: Duration,
    /// What giving up means.
    pub escalate: Escalate,
    /// `false`: its failure degrades a run but does not fail it.
    pub critical: bool,
}

/// OTP's default shutdown time of a worker.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);
/// Default restart budget: restarts.
pub const INTENSITY_DEFAULT: Intensity = Intensity { restarts: 5, period: Duration::from_secs(30) };
/// Default number of consecutive unstable lives.
pub const UNSTABLE_MAX_DEFAULT: u32 = 8;
/// Default time after which a life counts as stable.
pub const STABLE_AFTER_DEFAULT: Duration = Duration::from_secs(10);
/// Default backoff.
pub const BACKOFF_DEFAULT: Backoff =
    Backoff::Exponential { base: Duration::from_millis(200), max: Duration::from_secs(30) };

// === impl ChildSpec ===

impl ChildSpec {
    /// A permanent worker with every default.
    pub fn new(id: ChildId) -> Self {
        Self {
            id,
            restart: Restart::Permanent,
            shutdown: Shutdown::Timeout(SHUTDOWN_DEFAULT),
            significant: false,
            child_type: ChildType::Worker,
            needs: Vec::new(),
            readiness: Readiness::Unreported,
            backoff: BACKOFF_DEFAULT,
            intensity: INTENSITY_DEFAULT,
            unstable_max: Some(UNSTABLE_MAX_DEFAULT),
            stable_after: STABLE_AFTER_DEFAULT,
            escalate: Escalate::Isolate,
            critical: true,
        }
    }
}

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
