//! Every call of a handle: on a supervisor that runs, stops or is gone, and when it is refused.

use super::world::*;
use crate::engine::{AdminError, ChildState, Ending, OtpState, SpecError, What};
use crate::shell::{ChildError, Children, Supervisor, SupervisorHandle, SupervisorSpec};
use crate::spec::{ChildSpec, Condition, Edge, Restart, Shutdown, Strategy, Then};

fn needing(id: &str, on: &str) -> ChildSpec {
    ChildSpec { needs: vec![Edge { on: name(on), is: Condition::Started, then: Then::Ignore }], ..spec(id) }
}

/// What each call that changes something answers about `w`.
async fn answers(handle: &SupervisorHandle) -> Vec<Option<ChildError>> {
    let w = &name("w");
    let spec = supervisor(vec![(spec("w"), Worker::new())]);
    let plain = |_: &crate::shell::Life| (Idle, ());
    let many = handle.start_children(Children::new().child(super::world::spec("y"), Worker::new())).await;
    vec![
        handle.start_child(super::world::spec("x"), Worker::new()).await.err(),
        handle.start_actor(super::world::spec("x"), plain).await.err(),
        many.map_or_else(Some, |mut each| each.remove(0).err()),
        handle.restart_child(w).await.err(),
        handle.delete_child(w).await.err(),
        handle.replace(spec).await.err(),
    ]
}

/// Does nothing.
struct Idle;

impl ractor::Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ractor::ActorRef<()>, (): ()) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_stopping_changes_nothing_and_still_tells_of_itself() {
    let slow = Worker { stop_takes: Some(seconds(2)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("w"), slow)]).await;
    let (stopped, again, ()) = tokio::join!(handle.stop(seconds(60)), handle.stop(seconds(90)), async {
        of_child(&mut reports, "w", |what| *what == What::Stopping).await;
        for answer in answers(&handle).await {
            assert_eq!(answer, Some(ChildError::Stopping(name("sup"))));
        }
        assert_eq!(handle.which_children().await.map(|all| all.len()), Ok(1));
        assert_eq!(handle.which_child(&name("w")).await.map(|w| w.view.state), Ok(ChildState::Stopping));
        assert_eq!(handle.count_children().await.map(|counts| counts.active), Ok(1));
        assert_eq!(handle.get_childspec(&name("w")).await, Ok(spec("w")));
        assert_eq!(handle.terminate_child(&name("x")).await, Err(AdminError::NotFound(name("x")).into()));
        assert_eq!(handle.terminate_child(&name("w")).await, Ok(()));
    });
    assert_eq!(stopped.map(|all| all.len()), Ok(1));
    assert_eq!(again.map(|all| all.len()), Ok(1));
}

/// A supervisor that is stopping is told this meanwhile; whether it stops all the same.
async fn stops_though_told(word: impl FnOnce(&SupervisorHandle)) -> bool {
    let slow = Worker { stop_takes: Some(seconds(2)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("w"), slow.clone())]).await;
    let stop = tokio::time::timeout(seconds(3600), handle.stop(seconds(60)));
    let (stopped, ()) = tokio::join!(stop, async {
        of_child(&mut reports, "w", |what| *what == What::Stopping).await;
        word(&handle);
    });
    stopped.is_ok() && slow.alive() == 0
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_asked_for_while_all_is_stopped_does_not_hold_up_the_stop() {
    assert!(stops_though_told(|handle| handle.start(Vec::new()).unwrap()).await);
    assert!(stops_though_told(|handle| handle.start(vec![name("w")]).unwrap()).await);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_asked_for_while_all_is_stopped_does_not_hold_up_the_stop() {
    assert!(stops_though_told(|handle| handle.restart(Vec::new()).unwrap()).await);
    assert!(stops_though_told(|handle| handle.restart(vec![name("w")]).unwrap()).await);
}

#[tokio::test(start_paused = true)]
async fn every_call_to_a_supervisor_that_is_gone_says_so() {
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    handle.stop(seconds(1)).await.unwrap();
    let gone = Some(ChildError::Gone(name("sup")));
    assert!(answers(&handle).await.into_iter().all(|answer| answer == gone));
    let w = &name("w");
    assert_eq!(handle.terminate_child(w).await.err(), gone);
    assert_eq!(handle.which_children().await.err(), gone);
    assert_eq!(handle.which_child(w).await.err(), gone);
    assert_eq!(handle.count_children().await.err(), gone);
    assert_eq!(handle.get_childspec(w).await.err(), gone);
    assert_eq!(handle.start(Vec::new()).err(), gone);
    assert_eq!(handle.restart(Vec::new()).err(), gone);
    assert_eq!(handle.stop(seconds(1)).await.err(), gone);
    assert_eq!(handle.ended().await, None);
    assert!(handle.reports().next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_ends_by_itself_tells_why_and_answers_who_waits() {
    let spec = SupervisorSpec::new(name("sup"), Strategy::OneForOne).intensity(0, seconds(5));
    let late = Worker { start_takes: seconds(60), ..Worker::new() };
    let spec = spec.child(ChildSpec::otp(name("w")), Worker::new());
    let handle = Supervisor::start(spec, None).await.unwrap();
    let (added, ended, ()) =
        tokio::join!(handle.start_child(ChildSpec::otp(name("late")), late.clone()), handle.ended(), async {
            tokio::time::sleep(seconds(1)).await;
            tell(&handle, "w", Order::Fail).await;
        });
    assert_eq!(ended, Some((name("w"), Ending::GaveUp)));
    assert!(added.is_ok() || added == Err(ChildError::NotStarted(name("late"))), "{added:?}");
    assert_eq!(late.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn otp_s_refusals_name_the_child_and_tell_how_it_is() {
    let never_up = Worker { start_takes: seconds(3600), ..Worker::new() };
    let (handle, _) = start(vec![(spec("up"), Worker::new()), (spec("down"), Worker::new())]).await;
    handle.terminate_child(&name("down")).await.unwrap();
    let (up, down, nobody) = (name("up"), name("down"), name("nobody"));
    let not_found = Some(ChildError::Refused(AdminError::NotFound(nobody.clone())));
    let add = |id: &'static str| handle.start_child(spec(id), Worker::new());
    assert_eq!(add("up").await.err(), Some(AdminError::AlreadyStarted(up.clone()).into()));
    assert_eq!(add("down").await.err(), Some(AdminError::AlreadyPresent(down).into()));
    assert_eq!(handle.restart_child(&up).await.err(), Some(AdminError::Running(up.clone()).into()));
    assert_eq!(handle.delete_child(&up).await.err(), Some(AdminError::Running(up.clone()).into()));
    assert_eq!(handle.restart_child(&nobody).await.err(), not_found);
    assert_eq!(handle.delete_child(&nobody).await.err(), not_found);
    assert_eq!(handle.terminate_child(&nobody).await.err(), not_found);
    assert_eq!(handle.which_child(&nobody).await.err(), not_found);
    assert_eq!(handle.get_childspec(&nobody).await.err(), not_found);
    let need = SpecError::UnknownNeed { child: name("x"), need: nobody };
    let refused = handle.start_child(needing("x", "nobody"), never_up).await.err();
    assert_eq!(refused, Some(AdminError::Spec(need).into()));
    let significant = ChildSpec { significant: true, restart: Restart::Transient, ..spec("x") };
    let refused = handle.start_child(significant, Worker::new()).await.err();
    assert_eq!(refused, Some(AdminError::Spec(SpecError::BadSignificant(name("x"))).into()));
}

#[tokio::test(start_paused = true)]
async fn a_child_between_two_lives_is_restarting_and_is_refused_as_such() {
    let backoff = crate::spec::Backoff::Exponential { base: seconds(30), max: seconds(30) };
    let patient = ChildSpec { backoff, ..ChildSpec::new(name("w")) };
    let (handle, mut reports) = start(vec![(patient.clone(), Worker::new())]).await;
    while !matches!(state(&handle, "w").await, ChildState::Backoff { .. }) {
        tell(&handle, "w", Order::Fail).await;
        of_child(&mut reports, "w", |what| matches!(what, What::RestartScheduled { .. })).await;
        tokio::time::sleep(seconds(1)).await;
    }
    assert_eq!(info(&handle, "w").await.otp_state, OtpState::Restarting);
    let restarting = Some(ChildError::Refused(AdminError::Restarting(name("w"))));
    assert_eq!(handle.restart_child(&name("w")).await.err(), restarting);
    assert_eq!(handle.delete_child(&name("w")).await.err(), restarting);
    let present = AdminError::AlreadyPresent(name("w"));
    assert_eq!(handle.start_child(patient, Worker::new()).await.err(), Some(present.into()));
}

// === a child that waits ===

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_for_what_it_needs_is_answered_when_it_has_begun() {
    let slow = Worker { start_takes: seconds(7), ..Worker::new() };
    let (handle, _) = start(vec![(spec("other"), Worker::new()), (spec("db"), slow)]).await;
    let (added, took) = measure(handle.start_child(needing("api", "db"), Worker::new())).await;
    assert!(matches!(added, Ok(Some(_))), "{added:?}");
    assert_eq!(took, seconds(7));
}

/// A child that waits for one that is down, until this is done to it; what its caller is told.
async fn waiting<F>(done: impl FnOnce(SupervisorHandle) -> F) -> Result<bool, ChildError>
where
    F: Future<Output = ()>,
{
    let (handle, mut reports) = start(vec![(spec("db"), Worker::new())]).await;
    handle.terminate_child(&name("db")).await.unwrap();
    let (added, ()) = tokio::join!(handle.start_child(needing("api", "db"), Worker::new()), async {
        of_child(&mut reports, "api", |what| matches!(what, What::Blocked { .. })).await;
        assert_eq!(info(&handle, "api").await.otp_state, OtpState::Restarting);
        done(handle.clone()).await;
    });
    added.map(|actor| actor.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_waiting_child_is_started_with_what_it_needs_or_not_at_all() {
    let not_started = Err(ChildError::NotStarted(name("api")));
    let up = waiting(async |handle: SupervisorHandle| drop(handle.restart_child(&name("db")).await)).await;
    assert_eq!(up, Ok(true));
    let terminated =
        waiting(async |handle: SupervisorHandle| handle.terminate_child(&name("api")).await.unwrap()).await;
    assert_eq!(terminated, not_started);
    let stopped = waiting(async |handle: SupervisorHandle| drop(handle.stop(seconds(1)).await.unwrap())).await;
    assert_eq!(stopped, not_started);
    let replaced = waiting(async |handle: SupervisorHandle| {
        handle.replace(supervisor(vec![(spec("db"), Worker::new())])).await.unwrap();
    })
    .await;
    assert_eq!(replaced, not_started);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_child_is_between_two_lives_for_who_asks_for_its_start_or_removal() {
    let added = waiting(async |handle: SupervisorHandle| {
        let api = name("api");
        let restarting = Some(ChildError::Refused(AdminError::Restarting(api.clone())));
        assert_eq!(handle.restart_child(&api).await.err(), restarting);
        assert_eq!(handle.delete_child(&api).await.err(), restarting);
        handle.restart_child(&name("db")).await.unwrap();
    })
    .await;
    assert_eq!(added, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn who_starts_many_at_once_is_told_when_the_supervisor_is_killed_meanwhile() {
    let late = Worker { start_takes: seconds(3600), ..Worker::new() };
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let many = handle.start_children(Children::new().child(spec("x"), late));
    let (answer, ()) = tokio::join!(tokio::time::timeout(seconds(60), many), async {
        tokio::time::sleep(seconds(1)).await;
        handle.cell().kill();
    });
    assert_eq!(answer, Ok(Err(ChildError::Gone(name("sup")))));
}

// === under way ===

#[tokio::test(start_paused = true)]
async fn a_termination_during_a_start_waits_for_it_and_both_callers_are_answered() {
    let slow = Worker { start_takes: seconds(3), ..Worker::new() };
    let (handle, _) = start(vec![(spec("other"), Worker::new())]).await;
    let id = name("w");
    let calls = async {
        tokio::join!(handle.start_child(spec("w"), slow.clone()), async {
            tokio::time::sleep(seconds(1)).await;
            handle.terminate_child(&id).await
        })
    };
    let ((added, terminated), took) = measure(calls).await;
    assert!(matches!(&added, Ok(Some(_)) | Err(ChildError::NotStarted(_))), "{added:?}");
    assert_eq!((terminated, took, slow.alive()), (Ok(()), seconds(3), 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_while_its_child_is_terminated_answers_both() {
    let failing = |_, _: crate::shell::StartContext| async {
        tokio::time::sleep(seconds(3)).await;
        let message = "listen".to_owned();
        Err(crate::reason::StartError { message, hint: None, retry: true })
    };
    let (handle, _) = start(vec![(spec("other"), Worker::new())]).await;
    let id = name("w");
    let (added, terminated) = tokio::join!(handle.start_child(spec("w"), failing), async {
        tokio::time::sleep(seconds(1)).await;
        handle.terminate_child(&id).await
    });
    assert!(matches!(&added, Err(ChildError::Start(_) | ChildError::NotStarted(_))), "{added:?}");
    assert_eq!(terminated, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn terminations_of_one_child_are_all_answered_when_it_is_gone() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let (handle, _) = start(vec![(spec("w"), slow.clone())]).await;
    let id = name("w");
    let many = futures::future::join_all((0..10).map(|_| handle.terminate_child(&id)));
    let (answers, took) = measure(many).await;
    assert!(answers.into_iter().all(|answer| answer == Ok(())));
    assert_eq!((took, slow.alive()), (seconds(3), 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_harms_nobody() {
    let slow = Worker { start_takes: seconds(3), stop_takes: Some(seconds(3)), ..Worker::new() };
    let (handle, _) = start(vec![(spec("w"), slow.clone())]).await;
    let impatient = seconds(1);
    let id = name("w");
    assert!(tokio::time::timeout(impatient, handle.terminate_child(&id)).await.is_err());
    assert!(tokio::time::timeout(impatient, handle.start_child(spec("x"), slow.clone())).await.is_err());
    let many = Children::new().child(spec("y"), slow.clone()).child(spec("z"), slow.clone());
    assert!(tokio::time::timeout(impatient, handle.start_children(many)).await.is_err());
    assert!(tokio::time::timeout(impatient, handle.stop(seconds(60))).await.is_err());
    assert_eq!(handle.ended().await, None);
    assert_eq!(slow.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn many_children_at_once_are_answered_each_for_itself_and_in_order() {
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let ignoring = |_, _: crate::shell::StartContext| async { Ok(None) };
    let many = Children::new().child(spec("a"), Worker::new()).child(spec("w"), Worker::new());
    let many = many.child(needing("b", "nobody"), Worker::new()).child(spec("i"), ignoring);
    let many = many.actor(spec("c"), |_| (Idle, ()));
    let answers = handle.start_children(many).await.unwrap();
    assert!(matches!(answers[0], Ok(Some(_))));
    assert_eq!(answers[1], Err(AdminError::AlreadyStarted(name("w")).into()));
    assert!(matches!(answers[2], Err(ChildError::Refused(AdminError::Spec(_)))));
    assert_eq!(answers[3], Ok(None));
    assert!(matches!(answers[4], Ok(Some(_))));
    assert_eq!(handle.start_children(Children::new()).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_never_over_is_answered_at_the_deadline_of_the_stop() {
    let never = |_, _: crate::shell::StartContext| async { std::future::pending().await };
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let (added, stopped) = tokio::join!(handle.start_child(spec("x"), never), async {
        tokio::time::sleep(seconds(1)).await;
        measure(handle.stop(seconds(10))).await
    });
    assert!(matches!(&added, Err(ChildError::Start(_) | ChildError::NotStarted(_))), "{added:?}");
    assert_eq!(stopped.1, seconds(10));
}

// === new specs ===

#[tokio::test(start_paused = true)]
async fn a_replacement_that_cannot_be_supervised_changes_nothing() {
    let (handle, _) = start(vec![(spec("w"), Worker::new())]).await;
    let refused = handle.replace(supervisor(vec![(needing("x", "nobody"), Worker::new())])).await;
    assert!(matches!(refused, Err(ChildError::Spec(SpecError::UnknownNeed { .. }))), "{refused:?}");
    assert_eq!(handle.get_childspec(&name("w")).await, Ok(spec("w")));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_child_lives_on_and_its_next_life_is_started_by_the_new_function() {
    let (old, new) = (Worker::new(), Worker::new());
    let (handle, mut reports) = start(vec![(spec("w"), old.clone())]).await;
    let spec = ChildSpec { shutdown: Shutdown::Timeout(seconds(9)), ..spec("w") };
    handle.replace(supervisor(vec![(spec.clone(), new.clone())])).await.unwrap();
    assert_eq!(handle.get_childspec(&name("w")).await, Ok(spec));
    let is_old = old.alive() == 1;
    if is_old {
        tell(&handle, "w", Order::Fail).await;
    }
    started(&mut reports, "w").await;
    assert_eq!((old.alive(), new.alive()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_removed_and_added_again_before_it_is_down_has_a_new_life_afterwards() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let (handle, _) = start(vec![(spec("w"), slow.clone()), (spec("other"), Worker::new())]).await;
    let other = || (spec("other"), Worker::new());
    handle.replace(supervisor(vec![other()])).await.unwrap();
    handle.replace(supervisor(vec![(spec("w"), slow.clone()), other()])).await.unwrap();
    handle.start(vec![name("w")]).unwrap();
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(state(&handle, "w").await, ChildState::Running);
    assert_eq!((slow.alive(), slow.alive_max()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_removed_while_it_stops_may_be_added_only_when_it_is_gone() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let (handle, mut reports) = start(vec![(spec("w"), slow.clone()), (spec("other"), Worker::new())]).await;
    handle.replace(supervisor(vec![(spec("other"), Worker::new())])).await.unwrap();
    let refused = handle.start_child(spec("w"), slow.clone()).await;
    assert_eq!(refused, Err(AdminError::AlreadyStarted(name("w")).into()));
    of_child(&mut reports, "w", |what| *what == What::Removed).await;
    assert!(handle.start_child(spec("w"), slow.clone()).await.is_ok());
    assert_eq!((slow.alive(), slow.alive_max()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn added_children_are_down_until_they_are_started() {
    let (handle, mut reports) = start(vec![(spec("a"), Worker::new())]).await;
    let both = vec![(spec("a"), Worker::new()), (spec("b"), Worker::new())];
    handle.replace(supervisor(both)).await.unwrap();
    assert_eq!(state(&handle, "b").await, ChildState::Stopped);
    handle.start(vec![name("b")]).unwrap();
    started(&mut reports, "b").await;
    assert_eq!(handle.count_children().await.map(|counts| counts.active), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn when_a_stop_returns_nothing_of_a_supervisor_below_is_left_whose_start_was_cut() {
    let late = Worker { start_takes: seconds(3600), ..Worker::new() };
    let inner = late.clone();
    let below = move |_: crate::spec::Incarnation, context: crate::shell::StartContext| {
        let spec =
            SupervisorSpec::new(name("below"), Strategy::OneForOne).child(ChildSpec::otp(name("l")), inner.clone());
        async move { Ok(Supervisor::start(spec, Some(context.supervisor())).await.ok().map(|below| below.cell())) }
    };
    let spec = supervisor(vec![]).child(ChildSpec::supervisor(name("below")), below);
    let handle = Supervisor::start(spec, None).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(late.alive(), 1);
    let (stopped, took) = measure(handle.stop(seconds(10))).await;
    assert!(stopped.is_ok());
    assert_eq!((late.alive(), took), (0, seconds(10)));
}
