//! Cases of OTP's suite that need live actors; each test's name begins with its case's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ractor::{Actor as _, ActorCell};

use super::world::*;
use crate::engine::{AdminError, Ending, OtpState, What};
use crate::reason::StartError;
use crate::shell::{Child, ChildError, Children, Counts, StartContext, Supervisor, SupervisorError, SupervisorSpec};
use crate::spec::{ChildSpec, Condition, Edge, Incarnation, Readiness, Restart, Strategy, Then};

/// OTP's supervisor, without children.
pub(super) fn otp() -> SupervisorSpec {
    SupervisorSpec::new(name("sup"), Strategy::OneForOne)
}

pub(super) fn worker(id: &str) -> ChildSpec {
    ChildSpec::otp(name(id))
}

pub(super) fn refusal() -> StartError {
    StartError { message: "listen".to_owned(), hint: None, retry: true }
}

/// A start without an actor, each time the same.
pub(super) fn answering(answer: Result<(), StartError>) -> impl Child {
    move |_: Incarnation, _: StartContext| {
        let answer = answer.clone();
        async move { answer.map(|()| None) }
    }
}

/// Starts a worker as often as this is above zero, and fails else.
fn while_any(left: &Arc<AtomicUsize>) -> impl Child + use<> {
    let left = left.clone();
    move |life, context: StartContext| {
        let is_left = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        async move { if is_left { Worker::new().start(life, context).await } else { Err(refusal()) } }
    }
}

/// As a child: what this makes, under the supervisor.
pub(super) fn below(make: impl Fn() -> SupervisorSpec + Send + Sync + 'static) -> impl Child {
    move |_: Incarnation, context: StartContext| {
        let spec = make();
        async move {
            let started = Supervisor::start(spec, Some(context.supervisor())).await;
            let text = |error: SupervisorError| {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                format!("{error}: {source}")
            };
            let failed = |error| StartError { message: text(error), hint: None, retry: true };
            Ok(Some(started.map_err(failed)?.cell()))
        }
    }
}

// === the first start ===

/// Says when it starts and when it ends.
fn logging(id: &'static str, log: &Arc<Mutex<Vec<String>>>) -> impl Child + use<> {
    let log = log.clone();
    move |life, context: StartContext| {
        let log = log.clone();
        async move {
            log.lock().unwrap().push(format!("+{id}"));
            let worker = Worker::new();
            let cell = worker.start(life, context.clone()).await?;
            let told = log.clone();
            let watched = cell.clone().expect("a worker is an actor");
            // Killed by the end of the worker, before the supervisor hears of that and goes on.
            let watcher = Watcher::spawn_linked(None, Watcher(id, told), (), watched).await;
            watcher.map_err(|_| refusal())?;
            Ok(cell)
        }
    }
}

/// Ends with the actor above it, and writes that down.
struct Watcher(&'static str, Arc<Mutex<Vec<String>>>);

impl ractor::Actor for Watcher {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ractor::ActorRef<()>, (): ()) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(format!("-{}", self.0));
    }
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail_the_first_child_that_fails_is_named_and_what_had_started_is_stopped_in_reverse() {
    let log = Arc::default();
    let spec = otp()
        .child(worker("a"), logging("a", &log))
        .child(worker("b"), logging("b", &log))
        .child(worker("c"), answering(Err(refusal())))
        .child(worker("d"), logging("d", &log));
    let failed = Supervisor::start(spec, None).await.unwrap_err();
    let SupervisorError::FailedToStartChild { child, source, .. } = failed else { panic!("{failed}") };
    assert_eq!((child, source), (name("c"), refusal()));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(*log.lock().unwrap(), ["+a", "+b", "-b", "-a"]);
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail_when_it_returns_nothing_of_what_had_started_is_left() {
    let slow = Worker { stop_takes: Some(seconds(3)), ..Worker::new() };
    let spec = otp().child(worker("a"), slow.clone()).child(worker("b"), answering(Err(refusal())));
    let (failed, took) = measure(Supervisor::start(spec, None)).await;
    assert!(failed.is_err());
    assert_eq!((slow.alive(), took), (0, seconds(3)));
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail_a_child_that_gives_up_before_all_have_started_ends_the_start() {
    let late = Worker { start_takes: seconds(60), ..Worker::new() };
    let hasty = |life, context: StartContext| async move {
        let cell = Worker::new().start(life, context).await?;
        cell.iter().for_each(|cell| cell.send_message(Order::Fail).unwrap());
        Ok(cell)
    };
    let spec = otp().child(worker("hasty"), hasty).child(worker("late"), late.clone());
    let failed = Supervisor::start(spec, None).await.unwrap_err();
    assert!(matches!(&failed, SupervisorError::Ended { by, why: Ending::GaveUp, .. } if *by == name("hasty")));
    assert_eq!(late.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail_a_child_that_is_not_ready_in_time_does_not_hold_up_the_answer() {
    let silent = ChildSpec { readiness: Readiness::Within(seconds(5)), ..worker("a") };
    let need = Edge { on: name("a"), is: Condition::Ready, then: Then::Ignore };
    let spec = otp().child(silent, Worker::new());
    let spec = spec.child(ChildSpec { needs: vec![need], ..worker("b") }, Worker::new());
    let failed = tokio::time::timeout(seconds(3600), Supervisor::start(spec, None)).await.expect("it is answered");
    assert!(failed.is_err());
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail_a_need_that_ended_before_its_dependent_could_start_does_not_hold_up_the_answer() {
    let ending = |life, context: StartContext| async move {
        let cell = Worker::new().start(life, context).await?;
        cell.iter().for_each(|cell| cell.send_message(Order::End).unwrap());
        Ok(cell)
    };
    let late = Worker { start_takes: seconds(60), ..Worker::new() };
    let need = Edge { on: name("a"), is: Condition::Started, then: Then::Ignore };
    let spec = otp().child(ChildSpec { restart: Restart::Temporary, ..worker("a") }, ending);
    let spec = spec.child(worker("late"), late).child(ChildSpec { needs: vec![need], ..worker("b") }, Worker::new());
    let answered = tokio::time::timeout(seconds(3600), Supervisor::start(spec, None)).await;
    assert!(answered.is_ok(), "nobody is told that b waits for ever");
}

#[tokio::test(start_paused = true)]
async fn sup_start_normal_it_returns_when_every_child_has_started() {
    let slow = Worker { start_takes: seconds(2), ..Worker::new() };
    let spec = otp().child(worker("a"), slow.clone()).child(worker("b"), slow.clone());
    let (started, took) = measure(Supervisor::start(spec, None)).await;
    assert_eq!(took, seconds(4));
    assert_eq!(started.unwrap().count_children().await.map(|counts| counts.active), Ok(2));
}

// === starts that bring nothing ===

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_child_the_caller_is_told_and_the_spec_stays() {
    let handle = Supervisor::start(otp().child(worker("a"), Worker::new()), None).await.unwrap();
    assert_eq!(handle.start_child(worker("i"), answering(Ok(()))).await, Ok(None));
    let ignored = handle.which_child(&name("i")).await.unwrap();
    assert_eq!((ignored.otp_state, ignored.actor), (OtpState::Undefined, None));
    assert_eq!(handle.count_children().await, Ok(Counts { specs: 2, active: 1, supervisors: 0, workers: 2 }));
    assert_eq!(handle.restart_child(&name("i")).await, Ok(None));
    assert_eq!(handle.delete_child(&name("i")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_temporary_child_start_child_the_caller_is_told_that_nothing_runs() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    let temporary = ChildSpec { restart: Restart::Temporary, ..worker("t") };
    assert_eq!(handle.start_child(temporary, answering(Ok(()))).await, Ok(None));
    assert_eq!(handle.count_children().await, Ok(Counts::default()));
}

#[tokio::test(start_paused = true)]
async fn sup_start_child_returns_error_the_caller_gets_the_reason() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    let refused = handle.start_child(worker("w"), answering(Err(refusal()))).await;
    assert_eq!(refused, Err(ChildError::Start(refusal())));
    let panicking = |_: Incarnation, _: StartContext| async { panic!("told to") };
    let refused = handle.start_child(worker("w"), panicking).await;
    assert!(matches!(refused, Err(ChildError::Start(error)) if error.message.contains("told to")));
    assert_eq!(handle.count_children().await, Ok(Counts::default()));
    assert!(handle.start_child(worker("w"), Worker::new()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn sup_start_restart_child_returns_error_the_caller_gets_the_reason() {
    let left = Arc::new(AtomicUsize::new(1));
    let handle = Supervisor::start(otp().child(worker("w"), while_any(&left)), None).await.unwrap();
    handle.terminate_child(&name("w")).await.unwrap();
    assert_eq!(handle.restart_child(&name("w")).await, Err(ChildError::Start(refusal())));
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(handle.which_child(&name("w")).await.unwrap().otp_state, OtpState::Undefined);
    left.store(1, Ordering::SeqCst);
    assert!(handle.restart_child(&name("w")).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn already_started_outside_supervisor_the_caller_gets_what_the_start_says() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    let message = "start what runs already as another's child".to_owned();
    let already = StartError { message, hint: Some("leave it there".to_owned()), retry: false };
    let refused = handle.start_child(worker("w"), answering(Err(already.clone()))).await;
    assert_eq!(refused, Err(ChildError::Start(already)));
    assert_eq!(handle.count_children().await, Ok(Counts::default()));
}

// === administration ===

#[tokio::test(start_paused = true)]
async fn child_adm_calls_to_a_supervisor_that_is_gone_fail() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    handle.stop(seconds(1)).await.unwrap();
    let gone = ChildError::Gone(name("sup"));
    assert_eq!(handle.which_child(&name("w")).await.map(drop), Err(gone.clone()));
    assert_eq!(handle.terminate_child(&name("w")).await, Err(gone.clone()));
    assert_eq!(handle.start_child(worker("w"), Worker::new()).await, Err(gone));
}

#[tokio::test(start_paused = true)]
async fn child_adm_simple_restart_and_delete_are_refused() {
    let handle = Supervisor::start(SupervisorSpec::dynamic(name("sup")), None).await.unwrap();
    handle.start_child(worker("w"), Worker::new()).await.unwrap();
    assert_eq!(handle.restart_child(&name("w")).await, Err(AdminError::Running(name("w")).into()));
    assert_eq!(handle.delete_child(&name("w")).await, Err(AdminError::Running(name("w")).into()));
    assert_eq!(handle.terminate_child(&name("w")).await, Ok(()));
    let unknown: ChildError = AdminError::NotFound(name("w")).into();
    assert_eq!(handle.terminate_child(&name("w")).await, Err(unknown.clone()));
    assert_eq!(handle.restart_child(&name("w")).await, Err(unknown.clone()));
    assert_eq!(handle.delete_child(&name("w")).await, Err(unknown));
}

#[tokio::test(start_paused = true)]
async fn which_children_names_the_actor_of_each() {
    let inner = ChildSpec::supervisor(name("b"));
    let spec = otp().child(worker("a"), Worker::new()).child(inner, below(otp));
    let handle = Supervisor::start(spec, None).await.unwrap();
    let children = handle.which_children().await.unwrap();
    let actors: Vec<ActorCell> = children.iter().filter_map(|child| child.actor.clone()).collect();
    assert_eq!(actors.len(), 2);
    assert!(actors.iter().all(|actor| actor.try_get_supervisor() == Some(handle.cell())));
    let linked = handle.cell().get_children();
    assert!(linked.len() == 2 && actors.iter().all(|actor| linked.contains(actor)));
    handle.terminate_child(&name("a")).await.unwrap();
    let a = handle.which_child(&name("a")).await.unwrap();
    assert_eq!((a.actor, a.otp_state), (None, OtpState::Undefined));
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_extra_the_arguments_of_an_instance_survive_its_restart() {
    let handle = Supervisor::start(SupervisorSpec::dynamic(name("sup")), None).await.unwrap();
    let mut reports = handle.reports();
    let given = Arc::new(Mutex::new(Vec::new()));
    for argument in 0..2 {
        let given = given.clone();
        let instance = move |life: Incarnation, context: StartContext| {
            given.lock().unwrap().push(argument);
            async move { Worker::new().start(life, context).await }
        };
        handle.start_child(worker(&format!("i{argument}")), instance).await.unwrap();
    }
    tell(&handle, "i1", Order::Fail).await;
    started(&mut reports, "i1").await;
    of_child(&mut reports, "i1", |what| *what == What::Started).await;
    assert_eq!(*given.lock().unwrap(), [0, 1, 1]);
}

// === memory ===

#[tokio::test(start_paused = true)]
async fn do_not_save_start_parameters_for_temporary_children_what_started_one_is_dropped_with_it() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    let mut reports = handle.reports();
    for ends_by_itself in [false, true] {
        let parameters = Arc::new("large");
        let weak = Arc::downgrade(&parameters);
        let start = move |life: Incarnation, context: StartContext| {
            let worker = if parameters.is_empty() { Worker::deaf() } else { Worker::new() };
            async move { worker.start(life, context).await }
        };
        let temporary = ChildSpec { restart: Restart::Temporary, ..worker("t") };
        handle.start_child(temporary, start).await.unwrap();
        assert!(weak.upgrade().is_some());
        if ends_by_itself {
            tell(&handle, "t", Order::Fail).await;
            of_child(&mut reports, "t", |what| matches!(what, What::Exited { expected: false, .. })).await;
            assert_eq!(handle.count_children().await, Ok(Counts::default()));
        } else {
            handle.terminate_child(&name("t")).await.unwrap();
        }
        assert!(weak.upgrade().is_none(), "it is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn do_not_save_start_parameters_of_a_child_that_could_not_be_added() {
    let handle = Supervisor::start(otp().child(worker("w"), Worker::new()), None).await.unwrap();
    for (id, answer) in [("w", Ok(())), ("x", Err(refusal()))] {
        let parameters = Arc::new(answer);
        let weak = Arc::downgrade(&parameters);
        let start = move |_: Incarnation, _: StartContext| {
            let answer = Result::clone(&parameters);
            async move { answer.map(|()| None) }
        };
        assert!(handle.start_child(worker(id), start).await.is_err());
        handle.count_children().await.unwrap();
        assert!(weak.upgrade().is_none(), "what starts {id} is kept");
    }
}

// === reports ===

#[tokio::test(start_paused = true)]
async fn external_start_no_progress_log_only_its_own_starts_are_reported() {
    let handle = Supervisor::start(otp().child(worker("w"), Worker::new()), None).await.unwrap();
    let mut reports = handle.reports();
    let bystander = Watcher("others", Arc::default());
    let (other, _) = Watcher::spawn_linked(None, bystander, (), handle.cell()).await.unwrap();
    other.kill();
    gone(&other.get_cell()).await;
    handle.stop(seconds(1)).await.unwrap();
    let mut about = Vec::new();
    while let Some(report) = reports.next().await {
        about.push((report.offender.id, report.context));
    }
    assert!(about.iter().all(|(id, _)| *id == name("w")), "{about:?}");
    assert_eq!(about.iter().filter(|(_, what)| *what == What::Started).count(), 1);
}

/// A report's longest line: an error of a start may be long, and what is reported of it need not be.
const LINE_MAX_BYTES: usize = 8 * 1024;

#[tokio::test(start_paused = true)]
async fn format_log_a_report_is_one_line_of_bounded_length() {
    let handle = Supervisor::start(otp().child(worker("w"), Worker::new()), None).await.unwrap();
    let mut reports = handle.reports();
    tell(&handle, "w", Order::Fail).await;
    of_child(&mut reports, "w", |what| matches!(what, What::Exited { .. })).await;
    let report = of_child(&mut reports, "w", |what| matches!(what, What::RestartScheduled { .. })).await;
    let text = report.reason.expect("it has a reason").to_string();
    assert_eq!(text, "ended with an error: told to");
}

#[tokio::test(start_paused = true)]
async fn format_log_a_report_of_a_long_error_of_many_lines_is_one_line_of_bounded_length() {
    let handle = Supervisor::start(otp(), None).await.unwrap();
    let mut reports = handle.reports();
    let endless = StartError { message: "say\nmuch ".repeat(LINE_MAX_BYTES), hint: None, retry: false };
    assert!(handle.start_child(worker("w"), answering(Err(endless))).await.is_err());
    let report = of_child(&mut reports, "w", |what| matches!(what, What::StartFailed { .. })).await;
    let What::StartFailed { error } = report.context else { unreachable!() };
    let text = crate::engine::Cause::StartError(error).to_string();
    assert!(text.len() <= LINE_MAX_BYTES && !text.contains('\n'), "{} bytes", text.len());
}

#[tokio::test(start_paused = true)]
async fn count_children_thousands_that_are_added_at_once_are_answered_in_order_and_all_gone_after_a_kill() {
    const CHILDREN: usize = 1000;
    let all = Worker::new();
    let handle = Supervisor::start(SupervisorSpec::dynamic(name("sup")), None).await.unwrap();
    let add = |children: Children, n| children.child(worker(&format!("c{n}")), all.clone());
    let added = handle.start_children((0..CHILDREN).fold(Children::new(), add)).await.unwrap();
    let cells: Vec<_> = added.into_iter().map(|child| child.unwrap().unwrap()).collect();
    let counts = handle.count_children().await.unwrap();
    assert_eq!((counts.specs, counts.active, all.alive()), (CHILDREN, CHILDREN, CHILDREN));
    handle.cell().kill();
    for cell in &cells {
        gone(cell).await;
    }
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(all.alive(), 0);
}
