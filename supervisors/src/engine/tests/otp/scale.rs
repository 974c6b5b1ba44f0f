//! What must not grow faster than the number of children.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::super::script::id;
use crate::engine::{Effect, Engine, Event, Options, Time};
use crate::reason::ExitReason;
use crate::spec::{ChildId, ChildSpec, Flags, Restart, Strategy};

/// OTP allows five times what is linear; so do we, because tests share their machine with others.
const LINEAR_TIMES_FIVE: u32 = 50;

/// An engine whose effects are carried out at once, with no more bookkeeping than that.
struct Many {
    engine: Engine,
    now: Time,
}

// === impl Many ===

impl Many {
    fn of(count: usize, flags: Flags, kind: Restart) -> Self {
        let spec = |n| ChildSpec { restart: kind, ..ChildSpec::otp(child(n)) };
        let options = Options { flags, ..Options::default() };
        let engine = Engine::new((0..count).map(spec).collect(), Vec::new(), options).unwrap();
        let mut many = Self { engine, now: Time::ZERO };
        many.tell(Event::Start { ids: vec![], with_needs: true });
        many
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.engine.step(self.now, event) {
                match effect {
                    Effect::Spawn { id, incarnation, .. } => events.push_back(Event::Spawned { id, incarnation }),
                    Effect::Stop { id, incarnation, .. } | Effect::Kill { id, incarnation, .. } => {
                        events.push_back(Event::Exited { id, incarnation, reason: ExitReason::Normal });
                    }
                    Effect::Arm { .. } | Effect::Cancel { .. } | Effect::Dropped { .. } => {}
                    Effect::Report(_) | Effect::Idle => {}
                }
            }
        }
    }
}

fn child(n: usize) -> ChildId {
    id(&format!("c{n}"))
}

/// The shortest of three times, so that a busy machine does not make it look slow.
fn shortest(mut work: impl FnMut()) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    (0..3).map(time).min().unwrap()
}

#[test]
fn simple_one_for_one_scale_many_temporary_children_terminating_ten_times_as_many_is_not_quadratic() {
    let terminated = |count| {
        shortest(|| {
            let mut many = Many::of(count, Flags::dynamic(), Restart::Temporary);
            assert_eq!(many.engine.len(), count);
            (0..count).for_each(|n| many.tell(Event::Stop { ids: vec![child(n)] }));
            assert!(many.engine.is_empty());
        })
    };
    let (few, most) = (terminated(300), terminated(3000));
    assert!(most <= few * LINEAR_TIMES_FIVE, "{most:?} for 3000, {few:?} for 300");
}

#[test]
fn scale_start_stop_many_children_ten_times_as_many_are_not_quadratic() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne] {
        let started_and_stopped = |count| {
            shortest(|| {
                let mut many = Many::of(count, Flags::otp(strategy), Restart::Permanent);
                many.tell(Event::Stop { ids: vec![] });
                assert!(many.engine.is_idle());
            })
        };
        let (few, most) = (started_and_stopped(300), started_and_stopped(3000));
        assert!(most <= few * LINEAR_TIMES_FIVE, "{strategy:?}: {most:?} for 3000, {few:?} for 300");
    }
}
