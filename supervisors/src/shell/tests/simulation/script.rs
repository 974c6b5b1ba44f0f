//! What a seed makes of a supervisor: its specs, and what is asked of it when.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::fake::World;
use crate::engine::Options;
use crate::shell::tests::world::name;
use crate::shell::{ChildError, Children, SupervisorHandle, SupervisorSpec};
use crate::spec::{
    AutoShutdown, Backoff, ChildSpec, Condition, Edge, Ended, Escalate, FirstStart, Flags, GroupSpec, Intensity, Order,
    Readiness, Restart, Rules, Shutdown, Strategy, Then,
};

/// Children at most; calls name a few more.
const CHILDREN_MAX: usize = 6;
/// Names that calls draw from.
const NAMES: usize = CHILDREN_MAX + 3;
/// Calls in one script.
const CALLS: usize = 14;
/// When the last call is made, at most.
pub(super) const CALLS_OVER: Duration = Duration::from_secs(30);

/// One call.
#[derive(Debug, Clone)]
pub(super) enum Call {
    StartChild(Box<ChildSpec>),
    StartChildren(Vec<ChildSpec>),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    WhichChildren,
    WhichChild(usize),
    Count,
    Childspec(usize),
    Start(Vec<usize>),
    Renew(Vec<usize>),
    Replace(u64),
}

fn pick<T: Copy>(rng: &mut Rng, among: &[T]) -> T {
    among[rng.usize(..among.len())]
}

fn id(nth: usize) -> crate::Name {
    name(&format!("c{nth}"))
}

fn intensity(rng: &mut Rng) -> Intensity {
    Intensity { restarts: rng.u32(..4), period: Duration::from_secs(rng.u64(1..9)) }
}

// === specs ===

fn flags(rng: &mut Rng) -> Flags {
    let ended = pick(rng, &[Ended::Kept, Ended::TemporaryDropped, Ended::Dropped]);
    let modes = [AutoShutdown::Never, AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    Flags {
        strategy: pick(rng, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
        intensity: if rng.bool() { Some(intensity(rng)) } else { None },
        escalate: pick(rng, &[Escalate::Isolate, Escalate::Project]),
        auto_shutdown: if ended == Ended::Dropped { AutoShutdown::Never } else { pick(rng, &modes) },
        order: pick(rng, &[Order::Needs, Order::List]),
        first_start: FirstStart::Retry,
        rules: pick(rng, &[Rules::Operator, Rules::Otp]),
        ended,
    }
}

fn child(rng: &mut Rng, nth: usize, flags: &Flags) -> ChildSpec {
    let restart = pick(rng, &[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let second = Duration::from_secs(1);
    let slow = Backoff::Exponential { base: second, max: 4 * second };
    ChildSpec {
        restart,
        shutdown: pick(rng, &[Shutdown::BrutalKill, Shutdown::Timeout(2 * second), Shutdown::Infinity]),
        significant: flags.auto_shutdown != AutoShutdown::Never && restart != Restart::Permanent && rng.bool(),
        readiness: pick(rng, &[Readiness::Unreported, Readiness::Unreported, Readiness::Within(4 * second)]),
        backoff: pick(rng, &[Backoff::None, slow]),
        intensity: intensity(rng),
        unstable_max: if rng.bool() { Some(3) } else { None },
        stable_after: 2 * second,
        escalate: pick(rng, &[Escalate::Isolate, Escalate::Isolate, Escalate::Project]),
        ..ChildSpec::new(id(nth))
    }
}

fn needs(rng: &mut Rng, before: &[ChildSpec]) -> Vec<Edge> {
    if before.is_empty() || rng.bool() {
        return Vec::new();
    }
    let need = &before[rng.usize(..before.len())];
    let is = match need.readiness {
        Readiness::Within(_) => Condition::Ready,
        Readiness::Unreported if need.restart == Restart::Permanent => Condition::Started,
        Readiness::Unreported => pick(rng, &[Condition::Started, Condition::Done]),
    };
    vec![Edge { on: need.id.clone(), is, then: pick(rng, &[Then::Ignore, Then::Restart, Then::Stop]) }]
}

fn group(rng: &mut Rng, children: &[ChildSpec]) -> Option<GroupSpec> {
    if children.len() < 2 || rng.bool() {
        return None;
    }
    let first = rng.usize(..children.len() - 1);
    let members = children[first..rng.usize(first + 1..=children.len())].iter().map(|child| child.id.clone()).collect();
    Some(GroupSpec {
        strategy: pick(rng, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
        intensity: intensity(rng),
        escalate: pick(rng, &[Escalate::Isolate, Escalate::Group, Escalate::Project]),
        ..GroupSpec::new(name("g"), members)
    })
}

/// A supervisor that this seed makes; specs that do not go together are drawn anew.
pub(super) fn supervisor(rng: &mut Rng, world: &Arc<World>) -> SupervisorSpec {
    loop {
        let flags = flags(rng);
        let mut children = Vec::new();
        for nth in 0..rng.usize(1..=CHILDREN_MAX) {
            let needs = needs(rng, &children);
            children.push(ChildSpec { needs, ..child(rng, nth, &flags) });
        }
        let group = group(rng, &children);
        let options = Options { seed: rng.u64(..), start_parallel_max: pick(rng, &[1, 2, 16]), flags };
        let all = children.into_iter().fold(Children::new(), |all, child| world.add(all, child));
        let mut spec = SupervisorSpec::new(name("sup"), flags.strategy).options(options);
        (spec.children, spec.groups) = (all, group.into_iter().collect());
        if spec.check().is_ok() {
            return spec;
        }
    }
}

// === calls ===

/// What is asked, and when. After this time nobody wakes a supervisor with a word that it must not obey any more: that has
/// tests of its own.
pub(super) fn calls(rng: &mut Rng, stop: Duration) -> Vec<(Duration, usize, Call)> {
    let mut at = || (Duration::from_millis(500 * rng.u64(..2 * CALLS_OVER.as_secs())), rng.usize(..6));
    let times: Vec<_> = (0..CALLS).map(|_| at()).collect();
    let drawn = times.into_iter().map(|(at, yields)| (at, yields, call(rng)));
    drawn.filter(|(at, _, call)| *at < stop || !matches!(call, Call::Start(_) | Call::Renew(_))).collect()
}

fn call(rng: &mut Rng) -> Call {
    let nth = rng.usize(..NAMES);
    let some: Vec<_> = (0..rng.usize(..3)).map(|_| rng.usize(..NAMES)).collect();
    match rng.u8(..24) {
        0..=3 => Call::StartChild(Box::new(added(rng, nth))),
        4 | 5 => Call::StartChildren(some.into_iter().map(|nth| added(rng, nth)).collect()),
        6..=9 => Call::Terminate(nth),
        10..=12 => Call::Restart(nth),
        13 | 14 => Call::Delete(nth),
        15 => Call::WhichChildren,
        16 => Call::WhichChild(nth),
        17 => Call::Count,
        18 => Call::Childspec(nth),
        19 => Call::Start(some),
        20 | 21 => Call::Renew(some),
        _ => Call::Replace(rng.u64(..)),
    }
}

/// A child to be added: it may need another one, which may be down or not exist.
fn added(rng: &mut Rng, nth: usize) -> ChildSpec {
    let need = Edge { on: id(rng.usize(..NAMES)), is: Condition::Started, then: Then::Ignore };
    let needs = if rng.u8(..3) == 0 { vec![need] } else { Vec::new() };
    ChildSpec { needs, ..child(rng, nth, &Flags::default()) }
}

impl Call {
    /// Makes it; `Ok` when it was done as asked.
    pub(super) async fn make(self, handle: &SupervisorHandle, world: &Arc<World>) -> Result<(), ChildError> {
        let ids = |some: Vec<usize>| some.into_iter().map(id).collect();
        match self {
            Self::StartChild(spec) => world.start(handle, *spec).await.map(drop),
            Self::StartChildren(specs) => {
                let specs = if world.scope.has_bulk { specs } else { Vec::new() };
                let asked = specs.len();
                let all = specs.into_iter().fold(Children::new(), |all, spec| world.add(all, spec));
                let answers = handle.start_children(all).await?;
                if answers.len() != asked {
                    world.fault(format!("{} answers to {asked} starts", answers.len()));
                }
                answers.into_iter().try_for_each(|answer| answer.map(drop))
            }
            Self::Terminate(nth) => handle.terminate_child(&id(nth)).await,
            Self::Restart(nth) => handle.restart_child(&id(nth)).await.map(drop),
            Self::Delete(nth) => handle.delete_child(&id(nth)).await,
            Self::WhichChildren => handle.which_children().await.map(drop),
            Self::WhichChild(nth) => handle.which_child(&id(nth)).await.map(drop),
            Self::Count => handle.count_children().await.map(drop),
            Self::Childspec(nth) => handle.get_childspec(&id(nth)).await.map(drop),
            Self::Start(some) => handle.start(ids(some)),
            Self::Renew(some) => handle.restart(ids(some)),
            Self::Replace(seed) => handle.replace(supervisor(&mut Rng::with_seed(seed), world)).await,
        }
    }
}
