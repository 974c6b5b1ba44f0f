//! Cases of OTP's suite with supervisors below supervisors.

use std::sync::{Arc, Mutex};

use super::otp::{answering, below, otp, refusal, worker};
use super::world::*;
use crate::engine::What;
use crate::reason::ExitReason;
use crate::shell::{Child as _, StartContext, Supervisor, SupervisorError};
use crate::spec::{AutoShutdown, ChildSpec, Flags, Incarnation, Restart, Strategy};

#[tokio::test(start_paused = true)]
async fn faulty_application_shutdown_a_start_that_fails_deep_in_the_tree_reaches_the_caller_with_its_cause() {
    let bystander = Worker::new();
    let innermost = || otp().child(ChildSpec::otp(name("faulty")), answering(Err(refusal())));
    let inner = move || otp().child(ChildSpec::supervisor(name("low")), below(innermost));
    let tree = otp().child(worker("w"), bystander.clone()).child(ChildSpec::supervisor(name("mid")), below(inner));
    let SupervisorError::FailedToStartChild { child, source, .. } = Supervisor::start(tree, None).await.unwrap_err()
    else {
        panic!("it failed otherwise");
    };
    assert_eq!(child, name("mid"));
    for part in ["start child low of sup", "start child faulty of sup", "listen"] {
        assert!(source.message.contains(part), "{part} is missing in {source:?}");
    }
    assert_eq!(bystander.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn significant_escalation_an_inner_supervisor_that_ended_with_its_children_ended_normally() {
    let inner = || {
        let flags = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::otp(Strategy::OneForOne) };
        let significant = ChildSpec { restart: Restart::Transient, significant: true, ..ChildSpec::otp(name("leaf")) };
        let ending = |life, context: StartContext| async move {
            let cell = Worker::new().start(life, context).await?;
            cell.iter().for_each(|cell| drop(ractor::time::send_after(seconds(5), cell.clone(), || Order::End)));
            Ok(cell)
        };
        otp().flags(flags).child(significant, ending)
    };
    let transient = ChildSpec { restart: Restart::Transient, ..ChildSpec::supervisor(name("inner")) };
    let handle = Supervisor::start(otp().child(transient, below(inner)), None).await.unwrap();
    let mut reports = handle.reports();
    of_child(&mut reports, "inner", |what| *what == What::Done).await;
    let inner = info(&handle, "inner").await;
    assert_eq!((inner.view.last_exit, inner.view.restarts), (Some(ExitReason::Shutdown), 0));
    assert_eq!(handle.stop(seconds(1)).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tree_children_added_to_an_inner_supervisor_are_not_created_again() {
    let handles = Arc::new(Mutex::new(Vec::new()));
    let (kept, own, added) = (handles.clone(), Worker::new(), Worker::new());
    let children = own.clone();
    let inner = move |_: Incarnation, context: StartContext| {
        let (kept, spec) = (kept.clone(), otp().child(worker("own"), children.clone()));
        async move {
            let started = Supervisor::start(spec, Some(context.supervisor())).await.map_err(|_| refusal())?;
            kept.lock().unwrap().push(started.clone());
            Ok(Some(started.cell()))
        }
    };
    let handle = Supervisor::start(otp().child(ChildSpec::supervisor(name("inner")), inner), None).await.unwrap();
    let mut reports = handle.reports();
    started(&mut reports, "inner").await;
    let first = handles.lock().unwrap()[0].clone();
    first.start_child(worker("added"), added.clone()).await.unwrap();
    assert_eq!((own.alive(), added.alive()), (1, 1));
    first.cell().kill();
    started(&mut reports, "inner").await;
    let second = handles.lock().unwrap()[1].clone();
    let children = second.which_children().await.unwrap();
    let ids: Vec<_> = children.iter().map(|child| child.view.id.as_str()).collect();
    assert_eq!(ids, ["own"]);
    assert_eq!((own.alive(), added.alive()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn simple_global_supervisor_a_killed_inner_supervisor_has_a_successor_only_when_its_children_are_gone() {
    let leaf = Worker::deaf();
    let children = leaf.clone();
    let inner = below(move || otp().child(ChildSpec::otp(name("leaf")), children.clone()));
    let handle = Supervisor::start(otp().child(ChildSpec::supervisor(name("inner")), inner), None).await.unwrap();
    let mut reports = handle.reports();
    started(&mut reports, "inner").await;
    actor(&handle, "inner").await.kill();
    started(&mut reports, "inner").await;
    assert_eq!((leaf.alive(), leaf.alive_max()), (1, 1));
}
