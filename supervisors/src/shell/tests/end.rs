//! How a supervisor ends, and that nothing outlives it.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::world::*;
use crate::engine::{ChildState, What};
use crate::reason::ExitReason;
use crate::shell::actor::Message;
use crate::shell::{ChildError, Outcome, StartContext, Supervisor};
use crate::spec::{ChildSpec, ChildType, Condition, Edge, Escalate, Incarnation, Intensity, Shutdown, Then};

/// As a child: a supervisor of these children.
fn nested(children: Vec<(ChildSpec, Worker)>) -> impl crate::shell::Child {
    move |_: Incarnation, context: StartContext| {
        let children = children.clone();
        async move {
            let started = Supervisor::start(supervisor(children), Some(context.supervisor())).await;
            Ok(Some(started.unwrap().cell()))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_each_child_down_within_its_shutdown_time_and_ends_the_supervisor() {
    let need = Edge { on: name("db"), is: Condition::Started, then: Then::Ignore };
    let api = ChildSpec { needs: vec![need], ..spec("api") };
    let slow = Worker { stop_takes: Some(seconds(2)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("db"), slow.clone()), (api, slow)]).await;
    started(&mut reports, "api").await;
    let (outcomes, took) = measure(handle.stop(seconds(60))).await;
    let down =
        |id| Outcome { id: name(id), state: ChildState::Stopped, last_exit: Some(ExitReason::Normal), killed: false };
    assert_eq!(outcomes, Ok(vec![down("db"), down("api")]));
    assert_eq!(took, seconds(4));
    gone(&handle.cell()).await;
    assert_eq!(handle.which_children().await.unwrap_err(), ChildError::Gone(name("sup")));
    while reports.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_killed_and_no_start_is_waited_for() {
    let patient = ChildSpec { shutdown: Shutdown::Infinity, ..spec("deaf") };
    let (deaf, late) = (Worker::deaf(), Worker { start_takes: seconds(3600), ..Worker::new() });
    let (handle, _) = start(vec![(patient, deaf.clone()), (spec("late"), late.clone())]).await;
    let (outcomes, took) = measure(handle.stop(seconds(10))).await;
    let outcomes: Vec<_> = outcomes.unwrap().into_iter().map(|end| (end.killed, end.last_exit)).collect();
    assert_eq!(outcomes, [(true, Some(ExitReason::Killed)), (false, None)]);
    assert_eq!(took, seconds(10));
    assert_eq!((deaf.alive(), late.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_stopping_takes_no_new_children() {
    let slow = Worker { stop_takes: Some(seconds(2)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("w"), slow)]).await;
    let (_, refused) = tokio::join!(handle.stop(seconds(60)), async {
        of_child(&mut reports, "w", |what| *what == What::Stopping).await;
        handle.start_child(spec("x"), Worker::new()).await.map(drop)
    });
    assert_eq!(refused, Err(ChildError::Stopping(name("sup"))));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_or_panics_leaves_no_child_behind() {
    for panics in [false, true] {
        let (deaf, late) = (Worker::deaf(), Worker { start_takes: seconds(60), ..Worker::new() });
        let (handle, _) = start(vec![(spec("deaf"), deaf.clone()), (spec("late"), late.clone())]).await;
        let child = actor(&handle, "deaf").await;
        assert_eq!((deaf.alive(), late.alive()), (1, 1));
        if panics {
            handle.cell().send_message(Message::Panic).unwrap();
        } else {
            handle.cell().kill();
        }
        gone(&handle.cell()).await;
        gone(&child).await;
        tokio::time::sleep(seconds(1)).await;
        assert_eq!((deaf.alive(), late.alive()), (0, 0));
        tokio::time::sleep(seconds(3600)).await;
        assert_eq!((deaf.alive_max(), late.alive_max()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_or_panics_leaves_no_child_behind_that_was_just_stopping() {
    for panics in [false, true] {
        let deaf = Worker::deaf();
        let patient = ChildSpec { shutdown: Shutdown::Infinity, ..spec("deaf") };
        let (handle, _) = start(vec![(patient, deaf.clone())]).await;
        let id = name("deaf");
        let terminated = tokio::time::timeout(seconds(1), handle.terminate_child(&id));
        assert!(terminated.await.is_err());
        if panics {
            handle.cell().send_message(Message::Panic).unwrap();
        } else {
            handle.cell().kill();
        }
        gone(&handle.cell()).await;
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(deaf.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_leaves_no_start_behind_while_its_parent_is_too_busy_to_hear_of_it() {
    struct Busy;
    impl Actor for Busy {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
            std::future::pending().await
        }
    }
    let (parent, _) = Busy::spawn(None, Busy, ()).await.unwrap();
    parent.send_message(()).unwrap();
    let late = Worker { start_takes: seconds(60), ..Worker::new() };
    let children = vec![(spec("late"), late.clone())];
    let handle = Supervisor::start(supervisor(children), Some(parent.get_cell())).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(late.alive(), 1);
    handle.cell().kill();
    gone(&handle.cell()).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(late.alive(), 0);
    parent.kill();
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_below_another_stops_its_children_in_order() {
    let slow = Worker { stop_takes: Some(seconds(2)), ..Worker::new() };
    let below = ChildSpec { child_type: ChildType::Supervisor, shutdown: Shutdown::Infinity, ..spec("below") };
    let tree = supervisor(vec![]).child(below, nested(vec![(spec("w"), slow.clone())]));
    let handle = Supervisor::start(tree, None).await.unwrap();
    started(&mut handle.reports(), "below").await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(slow.alive(), 1);
    let (outcomes, took) = measure(handle.stop(seconds(60))).await;
    assert_eq!(outcomes.unwrap()[0].last_exit, Some(ExitReason::Normal));
    assert_eq!(took, seconds(2));
    assert_eq!(slow.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn tree_a_supervisor_that_gave_up_has_shut_down_and_is_restarted_by_the_one_above() {
    let never = Intensity { restarts: 0, period: seconds(10) };
    let vital = ChildSpec { escalate: Escalate::Project, intensity: never, ..spec("vital") };
    let (worker, bystander) = (Worker::new(), Worker::new());
    let below = nested(vec![(vital, worker.clone()), (spec("bystander"), bystander.clone())]);
    let handle = Supervisor::start(supervisor(vec![]).child(spec("below"), below), None).await.unwrap();
    let mut reports = handle.reports();
    started(&mut reports, "below").await;
    tokio::time::sleep(seconds(1)).await;
    let cells = actor(&handle, "below").await.get_children();
    for cell in &cells {
        drop(cell.send_message(Order::Fail));
    }
    let shut_down = |what: &What| matches!(what, What::Exited { reason: ExitReason::Shutdown, expected: false });
    of_child(&mut reports, "below", shut_down).await;
    started(&mut reports, "below").await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!((worker.alive(), bystander.alive()), (1, 1));
}
