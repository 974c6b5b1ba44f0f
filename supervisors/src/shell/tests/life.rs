//! How lives begin, end and follow each other.

use ractor::Actor;

use super::world::*;
use crate::engine::{Cause, ChildState, What};
use crate::reason::{ExitReason, StartError};
use crate::shell::{Offender, StartContext, Supervisor};
use crate::spec::{Backoff, ChildSpec, Condition, Edge, Incarnation, Readiness, Restart, Then};

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_or_panics_is_restarted_with_a_new_actor() {
    for (order, text) in [(Order::Fail, "told to"), (Order::Panic, "told to")] {
        let worker = Worker::new();
        let (handle, mut reports) = start(vec![(spec("w"), worker.clone())]).await;
        let first = actor(&handle, "w").await;
        tell(&handle, "w", order).await;
        started(&mut reports, "w").await;
        let after = info(&handle, "w").await;
        assert_eq!(after.view.last_exit, Some(ExitReason::Error(text.to_owned())));
        assert_eq!((after.view.incarnation, after.view.restarts), (Some(Incarnation(2)), 1));
        assert_ne!(after.actor.map(|actor| actor.get_id()), Some(first.get_id()));
        assert_eq!((worker.alive(), worker.alive_max()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_exhausts_its_intensity_has_failed() {
    let (handle, mut reports) = start(vec![(spec("w"), Worker::new())]).await;
    tell(&handle, "w", Order::Fail).await;
    started(&mut reports, "w").await;
    tell(&handle, "w", Order::Fail).await;
    of_child(&mut reports, "w", |what| *what == What::Failed).await;
    let after = info(&handle, "w").await;
    assert_eq!(after.view.state, ChildState::Failed);
    assert!(matches!(after.view.cause, Some(Cause::Intensity { restarts: 1, .. })));
    assert!(after.actor.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_is_restarted_when_others_kill_it_and_not_when_it_ends() {
    let transient = ChildSpec { restart: Restart::Transient, ..spec("w") };
    let (handle, mut reports) = start(vec![(transient, Worker::new())]).await;
    actor(&handle, "w").await.kill();
    started(&mut reports, "w").await;
    assert_eq!(info(&handle, "w").await.view.last_exit, Some(ExitReason::Killed));
    tell(&handle, "w", Order::End).await;
    of_child(&mut reports, "w", |what| *what == What::Done).await;
    assert_eq!(info(&handle, "w").await.view.last_exit, Some(ExitReason::Normal));
}

#[tokio::test(start_paused = true)]
async fn a_successor_starts_only_when_its_predecessor_is_really_gone() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("w"), slow.clone())]).await;
    let ((), took) = measure(async {
        handle.restart(vec![name("w")]).unwrap();
        started(&mut reports, "w").await;
    })
    .await;
    assert_eq!(took, seconds(3));
    assert_eq!(slow.alive_max(), 1);
}

#[tokio::test(start_paused = true)]
async fn stale_exits_and_words_of_an_earlier_life_change_nothing() {
    let reporting = ChildSpec { readiness: Readiness::Within(seconds(60)), ..spec("w") };
    let worker = Worker::new();
    let (handle, mut reports) = start(vec![(reporting, worker.clone())]).await;
    let first = actor(&handle, "w").await;
    tell(&handle, "w", Order::Fail).await;
    started(&mut reports, "w").await;
    let second = actor(&handle, "w").await;
    let lives = worker.lives.lock().unwrap().clone();
    lives[0].ready();
    lives[0].gone(first.get_id(), Some(true));
    lives[1].gone(first.get_id(), Some(true));
    let after = info(&handle, "w").await;
    assert_eq!((after.view.state, after.view.incarnation), (ChildState::Running, Some(Incarnation(2))));
    assert_eq!(after.actor.map(|actor| actor.get_id()), Some(second.get_id()));
}

#[tokio::test(start_paused = true)]
async fn a_dependent_waits_until_what_it_needs_says_that_it_is_ready() {
    let db = ChildSpec { readiness: Readiness::Within(seconds(60)), ..spec("db") };
    let need = Edge { on: name("db"), is: Condition::Ready, then: Then::Ignore };
    let api = ChildSpec { needs: vec![need], ..spec("api") };
    let (handle, mut reports) = start(vec![(db, Worker::new()), (api, Worker::new())]).await;
    assert_eq!(info(&handle, "api").await.view.blocked_by, [name("db")]);
    tell(&handle, "db", Order::Ready).await;
    started(&mut reports, "api").await;
    tell(&handle, "db", Order::Unready).await;
    of_child(&mut reports, "db", |what| matches!(what, What::Unready { detail } if detail == "told to")).await;
    assert_eq!(state(&handle, "db").await, ChildState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_child_may_say_that_it_is_ready_before_its_start_is_over() {
    let reporting = ChildSpec { readiness: Readiness::Within(seconds(60)), ..spec("w") };
    let eager = Worker { ready_at_once: true, ..Worker::new() };
    let (handle, mut reports) = start(vec![(reporting, eager)]).await;
    of_child(&mut reports, "w", |what| *what == What::Ready).await;
    assert_eq!(state(&handle, "w").await, ChildState::Ready);
}

#[tokio::test(start_paused = true)]
async fn reports_carry_the_supervisor_the_context_the_reason_and_the_offender() {
    let (handle, mut reports) = start(vec![(spec("w"), Worker::new())]).await;
    let offender = Offender { id: name("w"), incarnation: Some(Incarnation(1)), actor: None };
    let offender = Offender { actor: Some(actor(&handle, "w").await.get_id()), ..offender };
    tell(&handle, "w", Order::Fail).await;
    let report = of_child(&mut reports, "w", |what| matches!(what, What::RestartScheduled { .. })).await;
    assert_eq!(report.supervisor, name("sup"));
    assert_eq!(report.reason, Some(Cause::Exit(ExitReason::Error("told to".to_owned()))));
    assert_eq!(report.offender, offender);
}

#[tokio::test(start_paused = true)]
async fn the_first_subscriber_misses_nothing_and_a_slow_one_knows_how_much_it_lost() {
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let mut slow = handle.reports();
    let mut quick = handle.reports();
    for _ in 0..crate::shell::REPORTS_HELD_MAX {
        handle.restart(vec![name("w")]).unwrap();
        started(&mut quick, "w").await;
    }
    started(&mut slow, "w").await;
    assert!(slow.lost() > 0);
    assert_eq!(quick.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_or_panics_is_tried_again_and_leaves_no_actor() {
    let worker = Worker::new();
    let left = worker.clone();
    let faulty = move |Incarnation(life), context: StartContext| {
        let worker = worker.clone();
        async move {
            let cell = crate::shell::Child::start(&worker, Incarnation(life), context).await?;
            assert_ne!(life, 1, "the first start panics");
            let refused = StartError { message: "listen".to_owned(), hint: None, retry: true };
            if life == 2 { Err(refused) } else { Ok(cell) }
        }
    };
    let patient = ChildSpec::new(name("w"));
    let handle = Supervisor::start(supervisor(vec![]).child(patient, faulty), None).await.unwrap();
    let mut reports = handle.reports();
    let failed = |text: &'static str| move |what: &What| matches!(what, What::StartFailed { error } if error.message.contains(text));
    of_child(&mut reports, "w", failed("the first start panics")).await;
    assert_eq!(left.alive(), 0);
    of_child(&mut reports, "w", failed("listen")).await;
    started(&mut reports, "w").await;
    assert_eq!((left.alive(), left.alive_max()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_actor_that_comes_before_the_end_of_its_start_is_known() {
    let hasty = |life, context: StartContext| async move {
        let cell = crate::shell::Child::start(&Worker::new(), life, context).await?.unwrap();
        cell.send_message(Order::Fail).unwrap();
        gone(&cell).await;
        tokio::time::sleep(seconds(1)).await;
        Ok(Some(cell))
    };
    let handle = Supervisor::start(supervisor(vec![]).child(spec("w"), hasty), None).await.unwrap();
    let mut reports = handle.reports();
    of_child(&mut reports, "w", |what| *what == What::Failed).await;
    assert_eq!(info(&handle, "w").await.view.last_exit, Some(ExitReason::Error("told to".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_nobody_linked_is_supervised_from_the_end_of_its_start() {
    struct Plain;
    impl Actor for Plain {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ractor::ActorRef<()>, (): ()) -> Result<(), ractor::ActorProcessingErr> {
            Ok(())
        }
    }
    let unlinked = |Incarnation(life), _: StartContext| async move {
        let (actor, _) = Plain::spawn(None, Plain, ()).await.unwrap();
        if life == 1 {
            actor.stop_and_wait(None, None).await.unwrap();
        }
        Ok(Some(actor.get_cell()))
    };
    let handle = Supervisor::start(supervisor(vec![]).child(spec("w"), unlinked), None).await.unwrap();
    let mut reports = handle.reports();
    let dead_on_arrival =
        |what: &What| matches!(what, What::Exited { reason: ExitReason::Unknown(_), expected: false });
    of_child(&mut reports, "w", dead_on_arrival).await;
    started(&mut reports, "w").await;
    let cell = actor(&handle, "w").await;
    assert_eq!(cell.try_get_supervisor(), Some(handle.cell()));
    handle.stop(seconds(1)).await.unwrap();
    gone(&cell).await;
}

#[tokio::test(start_paused = true)]
async fn two_supervisors_with_equal_names_and_child_ids_do_not_meet() {
    let (one, mut one_reports) = start(vec![(spec("w"), Worker::new())]).await;
    let (two, _) = start(vec![(spec("w"), Worker::new())]).await;
    let bystander = actor(&two, "w").await;
    tell(&one, "w", Order::Fail).await;
    started(&mut one_reports, "w").await;
    one.stop(seconds(1)).await.unwrap();
    let after = info(&two, "w").await;
    assert_eq!((after.view.restarts, after.actor), (0, Some(bystander)));
}

#[tokio::test(start_paused = true)]
async fn e1_a_child_that_is_terminated_during_its_backoff_does_not_come_back() {
    let delayed = Backoff::Exponential { base: seconds(30), max: seconds(30) };
    let mut backing_off = ChildSpec { backoff: delayed, unstable_max: Some(5), ..spec("w") };
    backing_off.intensity.restarts = 5;
    let (handle, mut reports) = start(vec![(backing_off, Worker::new())]).await;
    tell(&handle, "w", Order::Fail).await;
    of_child(&mut reports, "w", |what| matches!(what, What::RestartScheduled { .. })).await;
    while !matches!(state(&handle, "w").await, ChildState::Backoff { .. }) {
        started(&mut reports, "w").await;
        tell(&handle, "w", Order::Fail).await;
        of_child(&mut reports, "w", |what| matches!(what, What::RestartScheduled { .. })).await;
    }
    let (done, took) = measure(handle.terminate_child(&name("w"))).await;
    assert_eq!((done, took), (Ok(()), seconds(0)));
    tokio::time::advance(seconds(3600)).await;
    let after = info(&handle, "w").await;
    assert_eq!((after.view.state, after.actor), (ChildState::Stopped, None));
}
