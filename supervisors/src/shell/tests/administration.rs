//! OTP's calls.

use super::world::*;
use crate::engine::{AdminError, ChildState, What};
use crate::shell::{ChildError, Counts, Supervisor};
use crate::spec::{ChildSpec, ChildType, Condition, Edge, Shutdown, Then};

#[tokio::test(start_paused = true)]
async fn h02_e16_a_start_that_takes_a_minute_delays_no_request() {
    let slow = Worker { start_takes: seconds(60), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("slow"), slow), (spec("quick"), Worker::new())]).await;
    let (children, took) = measure(handle.which_children()).await;
    let states: Vec<_> = children.unwrap().into_iter().map(|child| child.view.state).collect();
    assert_eq!(states, [ChildState::Starting, ChildState::Running]);
    assert_eq!(took, seconds(0));
    let (stopped, took) = measure(handle.terminate_child(&name("quick"))).await;
    assert_eq!((stopped, took), (Ok(()), seconds(0)));
    let ((), took) = measure(started(&mut reports, "slow")).await;
    assert_eq!(took, seconds(60));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ignores_stop_is_killed_after_its_shutdown_time() {
    let within = ChildSpec { shutdown: Shutdown::Timeout(seconds(7)), ..spec("w") };
    let deaf = Worker::deaf();
    let (handle, mut reports) = start(vec![(within, deaf.clone())]).await;
    let (stopped, took) = measure(handle.terminate_child(&name("w"))).await;
    assert_eq!((stopped, took), (Ok(()), seconds(7)));
    of_child(&mut reports, "w", |what| *what == What::Killing).await;
    assert_eq!(deaf.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_terminated_child_keeps_its_spec_and_comes_back_when_asked_for() {
    let (handle, mut reports) = start(vec![(spec("w"), Worker::new())]).await;
    handle.terminate_child(&name("w")).await.unwrap();
    assert_eq!(handle.terminate_child(&name("w")).await, Ok(()));
    assert_eq!(handle.terminate_child(&name("x")).await, Err(AdminError::NotFound(name("x")).into()));
    assert_eq!(state(&handle, "w").await, ChildState::Stopped);
    handle.restart_child(&name("w")).await.unwrap();
    started(&mut reports, "w").await;
    assert_eq!(info(&handle, "w").await.view.restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn who_terminates_a_child_is_told_when_somebody_starts_it_again_meanwhile() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let slower = Worker { start_takes: seconds(3), ..slow.clone() };
    let (handle, mut reports) = start(vec![(spec("w"), slower)]).await;
    let id = name("w");
    let (terminated, ()) = tokio::join!(handle.terminate_child(&id), async {
        of_child(&mut reports, "w", |what| *what == What::Stopping).await;
        handle.restart(vec![id.clone()]).unwrap();
    });
    assert_eq!(terminated, Err(ChildError::StartedAgain(id)));
}

#[tokio::test(start_paused = true)]
async fn children_are_added_counted_and_deleted() {
    let (handle, mut reports) = start(vec![(spec("a"), Worker::new())]).await;
    let need = Edge { on: name("a"), is: Condition::Started, then: Then::Ignore };
    let b = ChildSpec { needs: vec![need], child_type: ChildType::Supervisor, ..spec("b") };
    handle.start_child(b.clone(), Worker::new()).await.unwrap();
    started(&mut reports, "b").await;
    let counts = Counts { specs: 2, active: 2, supervisors: 1, workers: 1 };
    assert_eq!(handle.count_children().await, Ok(counts));
    assert_eq!(handle.start_child(b, Worker::new()).await.map(drop), Err(AdminError::AlreadyStarted(name("b")).into()));
    assert_eq!(handle.delete_child(&name("b")).await, Err(AdminError::Running(name("b")).into()));

    handle.terminate_child(&name("a")).await.unwrap();
    assert_eq!(handle.delete_child(&name("a")).await, Err(AdminError::Needed(name("a")).into()));
    handle.terminate_child(&name("b")).await.unwrap();
    handle.delete_child(&name("b")).await.unwrap();
    handle.delete_child(&name("a")).await.unwrap();
    assert_eq!(handle.count_children().await, Ok(Counts::default()));

    handle.start_child(spec("a"), Worker::new()).await.unwrap();
    started(&mut reports, "a").await;
    assert_eq!(info(&handle, "a").await.view.incarnation.map(|life| life.0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn children_that_cannot_be_supervised_are_refused_by_name() {
    let twice = vec![(spec("w"), Worker::new()), (spec("w"), Worker::new())];
    let refused = Supervisor::start(supervisor(twice), None).await.unwrap_err();
    let source = std::error::Error::source(&refused).map(ToString::to_string);
    assert_eq!(refused.to_string(), "supervise the children of sup");
    assert_eq!(source.as_deref(), Some("two children or groups are called w"));
}
