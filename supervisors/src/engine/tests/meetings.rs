//! Everything that may happen to a project, in random order, against [`World`]'s invariants; and every short story of
//! three children, one after the other.

use std::collections::HashSet;

use proptest::prelude::*;

use super::script::{groups, millis, specs};
use super::setups::{CHILDREN_MAX, Setup, child, setup};
use super::worlds::World;
use crate::engine::{ChildState, Event, Rest};
use crate::spec::{Backoff, ChildId, ChildSpec, Escalate, Flags, Incarnation, Intensity, Order};

/// Long enough for three reloads with something between them, short enough to be shrunk.
const STEPS_MAX: usize = 60;

/// As deep as a test of a few seconds may go.
const DEPTH_MAX: usize = 4;

/// One thing that happens; numbers pick children, bits of masks too.
#[derive(Debug, Clone)]
enum Op {
    Start(u8, bool),
    Stop(u8),
    Restart(u8),
    Kill(u8),
    Begins(usize, u8),
    Ready(usize),
    Unready(usize),
    Hangs(usize),
    Exits(usize, i32),
    Stale(usize),
    Pass(u64),
    Replace(Setup),
    Reflag(bool),
    Adopt(usize, bool),
    Restore(usize, Option<bool>),
    Add(usize),
    Try(usize),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..CHILDREN_MAX;
    let who = prop_oneof![1 => Just(0u8), 2 => (0..6u8).prop_map(|bit| 1 << bit), 2 => 1..64u8];
    prop_oneof![
        5 => (who.clone(), any::<bool>()).prop_map(|(who, needs)| Op::Start(who, needs)),
        3 => who.clone().prop_map(Op::Stop),
        3 => who.clone().prop_map(Op::Restart),
        1 => who.prop_map(Op::Kill),
        24 => (at.clone(), 0..12u8).prop_map(|(at, how)| Op::Begins(at, how)),
        8 => at.clone().prop_map(Op::Ready),
        2 => at.clone().prop_map(Op::Unready),
        2 => at.clone().prop_map(Op::Hangs),
        14 => (at.clone(), 0..3i32).prop_map(|(at, code)| Op::Exits(at, code)),
        1 => at.clone().prop_map(Op::Stale),
        5 => (0..6_000u64).prop_map(Op::Pass),
        2 => setup().prop_map(Op::Replace),
        1 => any::<bool>().prop_map(Op::Reflag),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, ready)| Op::Adopt(at, ready)),
        1 => (at.clone(), any::<Option<bool>>()).prop_map(|(at, rest)| Op::Restore(at, rest)),
        1 => at.clone().prop_map(Op::Add),
        1 => at.clone().prop_map(Op::Try),
        1 => at.prop_map(Op::Remove),
    ]
}

fn chosen(who: u8) -> Vec<ChildId> {
    (0..CHILDREN_MAX).filter(|at| who & (1 << at) != 0).map(child).collect()
}

// === impl World ===

impl World {
    fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Start(who, with_needs) => self.step(Event::Start { ids: chosen(who), with_needs }),
            Op::Stop(who) => self.step(Event::Stop { ids: chosen(who) }),
            Op::Restart(who) => self.step(Event::Restart { ids: chosen(who) }),
            Op::Kill(who) => self.step(Event::Kill { ids: chosen(who) }),
            Op::Begins(at, how) => self.nth(at, true).into_iter().for_each(|id| self.begins(id, how)),
            Op::Exits(at, code) => self.nth(at, false).into_iter().for_each(|id| self.exits(id, code)),
            Op::Pass(ms) => self.pass(millis(ms)),
            Op::Ready(at) | Op::Unready(at) | Op::Hangs(at) | Op::Stale(at) => self.tells(child(at), op),
            Op::Replace(Setup { specs, groups }) => self.step(Event::Replace { specs, groups }),
            Op::Reflag(is_list) => {
                let order = if is_list { Order::List } else { Order::Needs };
                self.step(Event::Reflag { flags: Flags { order, ..Flags::default() } });
            }
            Op::Adopt(..) | Op::Restore(..) => self.takes_over(op),
            Op::Add(at) => self.step(Event::Add { spec: Box::new(ChildSpec::new(child(at))) }),
            Op::Try(at) => self.step(Event::Try { id: child(at) }),
            Op::Remove(at) => self.step(Event::Remove { id: child(at) }),
        }
    }

    /// One of those that are being started, or that live: no number is wasted on a child that is down.
    fn nth(&self, at: usize, is_starting: bool) -> Option<ChildId> {
        let views = self.engine.children().filter(|view| view.state.is_alive());
        let found: Vec<_> = views.filter(|view| (view.state == ChildState::Starting) == is_starting).collect();
        (!found.is_empty()).then(|| found[at % found.len()].id.clone())
    }

    fn tells(&mut self, id: ChildId, op: &Op) {
        let Some(&incarnation) = self.alive.get(&id) else { return };
        let detail = String::new();
        match op {
            Op::Ready(_) => self.step(Event::Ready { id, incarnation }),
            Op::Unready(_) => self.step(Event::Unready { id, incarnation, detail }),
            Op::Hangs(_) => self.step(Event::LivenessLost { id, incarnation, detail }),
            _ => {
                let old = Incarnation(incarnation.0 - 1);
                let reason = crate::reason::ExitReason::Killed;
                let before = self.log.len();
                self.step(Event::Exited { id, incarnation: old, reason });
                assert_eq!(self.log.len(), before + 1, "a life that is over changes nothing");
            }
        }
    }

    fn takes_over(&mut self, op: &Op) {
        let (Op::Adopt(at, _) | Op::Restore(at, _)) = op else { return };
        let id = child(*at);
        let Some(view) = self.engine.child(id.as_str()).filter(|view| !view.state.is_alive()) else { return };
        let incarnation = Incarnation(view.incarnation.map_or(1, |last| last.0 + 1));
        match op {
            Op::Adopt(_, ready) => {
                self.alive.insert(id.clone(), incarnation);
                self.step(Event::Adopt { id, incarnation, restarts: 0, ready: *ready });
            }
            Op::Restore(_, rest) => {
                let rest = rest.map(|done| if done { Rest::Done } else { Rest::Failed });
                self.step(Event::Restore { id, incarnation, restarts: 0, rest });
            }
            _ => {}
        }
    }
}

/// Tells the story when it goes wrong.
fn told(setup: &Setup, story: impl FnOnce(&mut World)) -> Vec<String> {
    struct Tale(World);
    impl Drop for Tale {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("--- the story\n{}", self.0.log.join("\n"));
            }
        }
    }
    let mut tale = Tale(World::new(setup.clone()));
    tale.0.log.push(Setup::line(&setup.specs, &setup.groups));
    story(&mut tale.0);
    std::mem::take(&mut tale.0.log)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_project_it_settles_and_stops(
        setup in setup(), ops in prop::collection::vec(op(), 0..STEPS_MAX), starts in any::<bool>()
    ) {
        told(&setup, |world| {
            world.step(Event::Start { ids: vec![], with_needs: true });
            ops.iter().for_each(|op| world.apply(op));
            world.obey();
            world.check_settled();
            if starts {
                world.step(Event::Start { ids: vec![], with_needs: true });
                world.obey();
                world.check_settled();
            }
            world.step(Event::Stop { ids: vec![] });
            world.obey();
            world.check_settled();
            assert!(world.alive.is_empty() && world.engine.is_idle());
        });
    }

    #[test]
    fn equal_stories_have_equal_ends(setup in setup(), ops in prop::collection::vec(op(), 0..STEPS_MAX)) {
        let run = || told(&setup, |world| ops.iter().for_each(|op| world.apply(op)));
        prop_assert_eq!(run(), run());
    }
}

// --- every short story ---

/// What may happen to three children next.
fn next_ops() -> Vec<Op> {
    let each = |op: fn(usize) -> Op| (0..3).map(op);
    let mut ops: Vec<_> = vec![Op::Start(0, true), Op::Stop(0), Op::Pass(40_000)];
    ops.extend(each(|at| Op::Start(1 << at, false)));
    ops.extend(each(|at| Op::Stop(1 << at)));
    ops.extend(each(|at| Op::Restart(1 << at)));
    ops.extend(each(|at| Op::Begins(at, u8::MAX)));
    ops.extend(each(|at| Op::Begins(at, 1)));
    ops.extend(each(|at| Op::Exits(at, 1)));
    ops.extend(each(Op::Hangs));
    ops
}

fn play(setup: &Setup, story: &[Op]) -> World {
    let mut world = World::new(setup.clone());
    world.step(Event::Start { ids: vec![], with_needs: true });
    story.iter().for_each(|op| world.apply(op));
    world
}

/// Every state that is not like one before is left in every way, up to `depth`; how many states there are.
fn explore(setup: &Setup, depth: usize) -> usize {
    let (mut known, mut edge) = (HashSet::new(), vec![Vec::new()]);
    for _ in 0..depth {
        let mut next = Vec::new();
        for story in edge {
            for op in next_ops() {
                let story: Vec<Op> = [&story[..], &[op]].concat();
                let result = std::panic::catch_unwind(|| {
                    let mut world = play(setup, &story);
                    let face = world.face();
                    world.obey();
                    world.check_settled();
                    face
                });
                match result {
                    Ok(face) if known.insert(face.clone()) => next.push(story),
                    Ok(_) => {}
                    Err(why) => panic!("{:?}: after {story:?}", why.downcast_ref::<String>()),
                }
            }
        }
        edge = next;
    }
    known.len()
}

impl World {
    /// What the future depends on, without numbers that only grow.
    fn face(&self) -> String {
        let mut face = String::new();
        for (_, child) in self.engine.children.iter() {
            let state = match child.life() {
                Some(life) => format!("{:?}{:?}", child.view_state(), life.leaving),
                None => format!("{:?}", std::mem::discriminant(&child.state)),
            };
            let falls = (child.falls.len(), child.barrier.len(), child.batch.is_some(), child.is_coming);
            face += &format!("{state} {:?} {falls:?} {};", child.desired, child.budget.failures());
        }
        let used: Vec<_> = self.engine.groups().map(|group| (group.used, group.failed)).collect();
        face + &format!("{used:?}")
    }
}

#[test]

fn every_short_story_of_three_children_settles() {
    for (line, grouped) in
        [("c0 c1 c2", "g*:c0,c1,c2"), ("c0 c1 ?c2", "g>:c0,c1,c2"), ("c0 c1<c0/restart c2<c1/stop", "h:g,c2 g*:c0,c1")]
    {
        let groups = groups(grouped, |group| {
            group.intensity = Intensity { restarts: 1, ..group.intensity };
            group.escalate = Escalate::Group;
        });
        let specs = specs(line).into_iter().map(|spec| ChildSpec { backoff: Backoff::None, ..spec }).collect();
        assert!(explore(&Setup { specs, groups }, DEPTH_MAX) > 0, "{grouped}");
    }
}
