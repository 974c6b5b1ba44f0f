use super::*;

/// A critical service without a probe, wanted up.
pub(crate) fn unit(name: &str, state: UnitState) -> UnitView {
    UnitView {
        name: name.to_owned(),
        kind: "service".to_owned(),
        state,
        desired: Desired::Up,
        ready: state == UnitState::Ready,
        probed: true,
        pid: None,
        incarnation: 1,
        restarts: 0,
        since: "2026-01-01T00:00:00Z".to_owned(),
        exit: None,
        group: None,
        ports: Vec::new(),
        blocked_by: Vec::new(),
        cause: None,
        hint: None,
        critical: true,
        cpu_ms: None,
        memory: None,
        uptime_ms: None,
        adopted: false,
        containers: Vec::new(),
        escaped: Vec::new(),
        degraded: false,
        warnings: Vec::new(),
        driver: None,
        shared: None,
        failures: Default::default(),
    }
}

fn seen(unit: &UnitView) -> Seen {
    Seen { state: unit.state, incarnation: unit.incarnation, desired: unit.desired }
}

#[test]
fn arriving_and_failing_is_told_and_the_steps_between_are_not() {
    for told in [UnitState::Ready, UnitState::Done, UnitState::Failed, UnitState::Backoff] {
        assert!(matters(None, &unit("api", told)), "{told:?}");
    }
    for silent in [UnitState::Pending, UnitState::Starting, UnitState::Running, UnitState::Stopped, UnitState::Stopping]
    {
        assert!(!matters(None, &unit("api", silent)), "{silent:?}");
    }
}

#[test]
fn the_same_state_is_told_once_per_life() {
    let ready = unit("api", UnitState::Ready);
    assert!(!matters(Some(&seen(&ready)), &ready));
    let next = UnitView { incarnation: 2, ..ready.clone() };
    assert!(matters(Some(&seen(&ready)), &next));
    assert!(matters(Some(&seen(&ready)), &unit("api", UnitState::Stopped)));
}

#[test]
fn a_unit_without_a_probe_arrives_by_running() {
    let plain = UnitView { probed: false, ..unit("api", UnitState::Running) };
    assert!(matters(None, &plain));
    let task = UnitView { kind: "task".to_owned(), ..plain };
    assert!(!matters(None, &task));
}

#[tokio::test(flavor = "current_thread")]
async fn a_plain_line_has_name_state_time_and_cause() {
    let output = Output::new(
        false,
        super::super::ColorChoice::Never,
        &crate::environment::Environment { ci: true, ..Default::default() },
    );
    let progress = Progress::new(&output, &["postgres".to_owned(), "api".to_owned()].into());
    let failed = UnitView { cause: Some("exited with exit code 1".to_owned()), ..unit("api", UnitState::Failed) };
    let line = progress.line(&failed);
    assert!(line.starts_with("api       failed    0.") && line.ends_with("s  exited with exit code 1"), "{line:?}");
    assert_eq!(seconds(Duration::from_millis(840)), "0.8s");
    assert_eq!(seconds(Duration::from_secs(65)), "1m05s");
}
