//! Specifications: what a supervisor is told of itself ([`Flags`]), its children ([`ChildSpec`]) and groups
//! ([`GroupSpec`]), in OTP's words. Types and defaults only; the engine gives them their meaning, and checks what does
//! not fit together.

use std::time::Duration;

use crate::Name;

/// A child's identity in its supervisor.
pub type ChildId = Name;

/// A group's identity; groups and children share one namespace.
pub type GroupId = Name;

/// The n-th life of a child, from 1. Every message and timer carries it; stale ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// When a child that ended by itself is started again (OTP's restart type). What a normal end is says
/// [`ExitReason::is_normal`](crate::reason::ExitReason::is_normal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only after an abnormal end.
    Transient,
    /// Never, also not when a sibling's crash has ended it. A start that failed had no life: where others would be tried
    /// again after one, so is it.
    Temporary,
}

/// How a child is asked to end (OTP's shutdown value).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once, without asking.
    BrutalKill,
    /// Ask, wait this long, then kill. Zero is a kill at once, after it was asked.
    Timeout(Duration),
    /// Ask and wait for ever; what a supervisor should have, whose children need their time. The deadline of a stop of
    /// everything holds all the same.
    Infinity,
}

/// Whether a child is itself a supervisor. Counts depend on it, and [`ChildSpec::supervisor`] sets it with the defaults
/// that belong to it.
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
    /// The child and those that come after it in its group. In a supervisor whose children are no list
    /// ([`Order::Needs`]): and those that need it, however far away.
    RestForOne,
}

/// The restart budget: more than `restarts` within `period` and its owner gives up (OTP's `intensity` and `period`). 0
/// restarts give up at the first crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within the period.
    pub restarts: u32,
    /// The sliding window, longer than nothing; a restart exactly this old still counts.
    pub period: Duration,
}

/// What giving up means for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalate {
    /// The child is failed, the rest runs on.
    Isolate,
    /// The group is brought down and has failed as a whole: one crash in the group above it, which starts it again by
    /// its own strategy and budget, or gives up in turn. Where the supervisor's own group has no budget, it stays down.
    Group,
    /// The whole supervisor stops (what OTP's supervisor does).
    Project,
}

/// Children and groups that share a strategy, a budget and an escalation.
///
/// A group is a supervisor inside the supervisor: a crash of a member is charged to the group's budget and answered by
/// its strategy, and neither is felt outside of it until the group gives up, but over edges ([`ChildSpec::needs`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Unique among the supervisor's groups and children.
    pub id: GroupId,
    /// Children and groups, in order: each starts after the one before it is up, and stops before it.
    pub members: Vec<Name>,
    /// Who is restarted together with a crashed member.
    pub strategy: Strategy,
    /// The budget its members share; a restart of several is one.
    pub intensity: Intensity,
    /// What giving up means; holds for every member in place of its own [`ChildSpec::escalate`].
    pub escalate: Escalate,
}

/// What a supervisor is told of itself (OTP's supervisor flags), beside what OTP leaves no choice about.
///
/// [`Flags::otp`] is OTP's supervisor; [`Flags::default`] is what a project of services wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Who is restarted together with a child that has no group.
    pub strategy: Strategy,
    /// The budget shared by all that have no group; `None`: each child has its own, and a group that gives up has
    /// failed.
    pub intensity: Option<Intensity>,
    /// What using up `intensity` means; [`Escalate::Group`] is the same as [`Escalate::Project`] here.
    pub escalate: Escalate,
    /// Whether the supervisor ends with its significant children.
    pub auto_shutdown: AutoShutdown,
    /// Whether children are a list, each started after and stopped before the one above it. If not, only needs order
    /// them.
    pub order: Order,
    /// What a child means that fails to start while all are started for the first time.
    pub first_start: FirstStart,
    /// Whether an operator's word, or OTP's rules, hold where the two differ.
    pub rules: Rules,
    /// What becomes of the specs of children that have ended.
    pub ended: Ended,
}

/// Whether a supervisor ends by itself when significant children do (OTP 24).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoShutdown {
    /// It does not.
    Never,
    /// When one of them ended and is not restarted.
    AnySignificant,
    /// When the last one alive ended and is not restarted.
    AllSignificant,
}

/// Whether the order of the specs is an order of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Only needs and groups order children; all else is parallel.
    Needs,
    /// Every child also comes after the one before it in the list (OTP's static strategies).
    List,
}

/// What a child means that fails to start while all are started for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// It is tried again like any other.
    Retry,
    /// What has started is stopped again and the supervisor ends (OTP's `failed_to_start_child`).
    AllOrNothing,
}

/// Where this crate differs from OTP on purpose, and may be told not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// What an operator stopped stays down, and what is done stays done, also when its group is restarted. A start that
    /// failed is charged at once, so that giving up does not wait for a delay.
    Operator,
    /// The restart of a group also starts members that are down. A start that failed is charged when it is tried again,
    /// and not at all if it was stopped before.
    Otp,
}

/// What becomes of the specs of children that have ended, or were stopped, and come up no more by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// They stay.
    Kept,
    /// Those of temporary children are dropped, and their ids are free again (OTP's static strategies).
    TemporaryDropped,
    /// All are dropped (OTP's `simple_one_for_one`).
    Dropped,
}

/// What an edge waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The child runs, or did and ended cleanly.
    Started,
    /// The child runs and has reported that it is ready.
    Ready,
    /// The child ended cleanly.
    Done,
}

/// What happens to the dependent when the child it needs crashes, fails, is restarted or stopped, or (where it waits
/// for [`Condition::Ready`]) loses its readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Ignore,
    /// The dependent goes down, and comes up as soon as its needs hold again. A temporary one is not started again.
    Restart,
    /// The dependent is stopped, as if somebody had asked for it.
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

/// Delay between restarts: the first after a stable life is immediate, then `base` doubling to `max`, jittered down to
/// half.
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
    /// It reports readiness. A life that has not within this time of its beginning is ended, which counts as a crash; so does
    /// one that ends by itself before, also normally.
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
    /// Whether its end may end the supervisor ([`Flags::auto_shutdown`], without which it may not be set); not for
    /// permanent children.
    pub significant: bool,
    /// Worker or supervisor.
    pub child_type: ChildType,
    /// What must be so before it starts.
    pub needs: Vec<Edge>,
    /// How it becomes ready.
    pub readiness: Readiness,
    /// Delay between restarts.
    pub backoff: Backoff,
    /// Its own budget. Used only where no group shares one: with [`Flags::intensity`] `None`, by children outside of
    /// groups.
    pub intensity: Intensity,
    /// So many lives in a row that never became stable, and it is given up; `None` turns this off, and so does
    /// [`Backoff::None`].
    pub unstable_max: Option<u32>,
    /// How long a life must be ready (or, if it never says so, run) to count as stable.
    pub stable_after: Duration,
    /// What giving up means; used where `intensity` is.
    pub escalate: Escalate,
    /// `false`: its failure degrades a run but does not fail it, and never escalates.
    pub critical: bool,
}

/// Default shutdown time of a worker, OTP's.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);
/// Default restart budget of a child or group of a project: a crash now and then is forgiven, a loop is not.
pub const INTENSITY_DEFAULT: Intensity = Intensity { restarts: 5, period: Duration::from_secs(30) };
/// Default number of consecutive unstable lives.
pub const UNSTABLE_MAX_DEFAULT: u32 = 8;
/// Default time after which a life counts as stable.
pub const STABLE_AFTER_DEFAULT: Duration = Duration::from_secs(10);
/// Default backoff.
pub const BACKOFF_DEFAULT: Backoff =
    Backoff::Exponential { base: Duration::from_millis(200), max: Duration::from_secs(30) };

/// OTP's default restart budget of a supervisor ([`Flags::otp`]).
pub const OTP_INTENSITY_DEFAULT: Intensity = Intensity { restarts: 1, period: Duration::from_secs(5) };

// === impl GroupSpec ===

impl GroupSpec {
    /// A group with every default: one_for_one, [`INTENSITY_DEFAULT`], [`Escalate::Isolate`].
    pub fn new(id: GroupId, members: Vec<Name>) -> Self {
        let (strategy, escalate) = (Strategy::OneForOne, Escalate::Isolate);
        Self { id, members, strategy, intensity: INTENSITY_DEFAULT, escalate }
    }
}

// === impl Flags ===

impl Flags {
    /// OTP's supervisor: a list of children that share a budget of one restart in five seconds; giving up ends the
    /// supervisor. To be used with [`ChildSpec::otp`] for the children, whose restarts know no delay.
    pub const fn otp(strategy: Strategy) -> Self {
        Self {
            strategy,
            intensity: Some(OTP_INTENSITY_DEFAULT),
            escalate: Escalate::Project,
            auto_shutdown: AutoShutdown::Never,
            order: Order::List,
            first_start: FirstStart::AllOrNothing,
            rules: Rules::Otp,
            ended: Ended::TemporaryDropped,
        }
    }

    /// OTP's `simple_one_for_one`: children come and go at run time, in no order, and only living ones are known.
    pub const fn dynamic() -> Self {
        Self { order: Order::Needs, ended: Ended::Dropped, ..Self::otp(Strategy::OneForOne) }
    }
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: None,
            escalate: Escalate::Isolate,
            auto_shutdown: AutoShutdown::Never,
            order: Order::Needs,
            first_start: FirstStart::Retry,
            rules: Rules::Operator,
            ended: Ended::Kept,
        }
    }
}

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

    /// A permanent worker as OTP knows it: restarted at once, as often as its supervisor's budget allows.
    pub fn otp(id: ChildId) -> Self {
        Self { backoff: Backoff::None, unstable_max: None, ..Self::new(id) }
    }

    /// A supervisor below, with OTP's defaults: permanent, and all the time in the world to stop its own children.
    pub fn supervisor(id: ChildId) -> Self {
        Self { child_type: ChildType::Supervisor, shutdown: Shutdown::Infinity, ..Self::otp(id) }
    }
}

impl std::fmt::Display for Incarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
