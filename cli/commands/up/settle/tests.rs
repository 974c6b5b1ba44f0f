use envctl_runtime::control::view::ProjectState;

use super::*;
use crate::output::progress::tests::unit;

fn view(units: Vec<UnitView>) -> ProjectView {
    let (state, cause, caused_by) = (ProjectState::Starting, None, None);
    ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by }
}

fn blocked(name: &str, by: &str) -> UnitView {
    UnitView { blocked_by: vec![by.to_owned()], ..unit(name, UnitState::Pending) }
}

fn scope(names: &[&str]) -> IndexSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    scope(names).into_iter().collect()
}

/// As without `--strict`.
fn critical<'a>(view: &'a ProjectView, scope: &IndexSet<String>) -> Settled<'a> {
    settle(view, scope, Counts::Critical)
}

#[test]
fn a_start_is_over_when_everything_is_ready_or_done() {
    let task = UnitView { kind: "task".into(), probed: false, ..unit("migrate", UnitState::Done) };
    let view = view(vec![unit("db", UnitState::Ready), task]);
    assert_eq!(critical(&view, &scope(&["db", "migrate"])), Settled::Up);
}

#[test]
fn a_unit_on_its_way_is_waited_for_and_one_outside_the_scope_is_not() {
    let view = view(vec![unit("db", UnitState::Starting), unit("web", UnitState::Failed)]);
    assert_eq!(critical(&view, &scope(&["db"])), Settled::Waiting(vec![&view.units[0]]));
}

#[test]
fn the_first_final_failure_of_a_critical_unit_decides() {
    let view = view(vec![unit("db", UnitState::Starting), unit("api", UnitState::Failed)]);
    assert_eq!(critical(&view, &scope(&["db", "api"])), Settled::Failed(&view.units[1]));
}

#[test]
fn a_failure_that_is_not_critical_fails_only_those_that_wait_for_it() {
    let optional = UnitView { critical: false, ..unit("mail", UnitState::Failed) };
    let fine = view(vec![optional.clone(), unit("api", UnitState::Ready)]);
    assert_eq!(critical(&fine, &scope(&["mail", "api"])), Settled::Up);
    let chain = view(vec![optional, blocked("worker", "mail"), blocked("web", "worker")]);
    assert_eq!(critical(&chain, &scope(&["mail", "worker", "web"])), Settled::Failed(&chain.units[1]));
}

#[test]
fn strictly_every_failure_counts() {
    let optional = UnitView { critical: false, ..unit("mail", UnitState::Failed) };
    let view = view(vec![unit("api", UnitState::Ready), optional]);
    assert_eq!(settle(&view, &scope(&["api", "mail"]), Counts::All), Settled::Failed(&view.units[1]));
}

#[test]
fn a_run_that_ends_by_itself_is_over_for_every_scope_and_is_seen_to_its_end() {
    let cause = Some("web was given up".to_owned());
    let stopped = UnitView { desired: Desired::Down, ..unit("api", UnitState::Stopped) };
    let ending = ProjectView { cause, run: Some("r".to_owned()), ..view(vec![stopped]) };
    assert_eq!(critical(&ending, &scope(&["api"])), Settled::Over("web was given up"));
    assert!(!ended(&ending, &scope(&["api"])), "what escaped its units is still looked for");
    assert!(ended(&ProjectView { run: None, ..ending }, &scope(&["api"])));
}

#[test]
fn a_unit_that_somebody_stops_meanwhile_will_not_come_up() {
    let stopped = UnitView { desired: Desired::Down, ..unit("api", UnitState::Stopped) };
    let view = view(vec![stopped]);
    assert!(matches!(critical(&view, &scope(&["api"])), Settled::Failed(_)));
    assert!(ended(&view, &scope(&["api"])));
}

#[test]
fn a_run_has_ended_when_nothing_of_it_can_move() {
    let done = unit("migrate", UnitState::Done);
    assert!(ended(
        &view(vec![done.clone(), unit("api", UnitState::Failed), blocked("web", "api")]),
        &scope(&["migrate", "api", "web"])
    ));
    assert!(!ended(&view(vec![done, unit("api", UnitState::Backoff)]), &scope(&["migrate", "api"])));
    // Two that wait for each other are the engine's to judge; looking must end.
    assert!(!ended(&view(vec![blocked("a", "b"), blocked("b", "a")]), &scope(&["a", "b"])));
}

#[test]
fn an_up_that_joins_sets_in_motion_what_was_lost_and_what_waited_for_it_but_not_what_comes_by_itself() {
    let reply =
        |joined, started: &[&str]| UpReply { project: "shop".into(), run: "r".into(), joined, started: names(started) };
    let coming = UnitView { blocked_by: vec!["cache".to_owned()], ..unit("mail", UnitState::Pending) };
    let before = view(vec![
        unit("db", UnitState::Failed),
        blocked("api", "db"),
        unit("cache", UnitState::Starting),
        coming,
        unit("web", UnitState::Ready),
    ]);
    let all = scope(&["db", "api", "cache", "mail", "web", "new"]);
    let moved = |before, reply, scope: &IndexSet<String>| set_in_motion(before, &reply, scope);
    assert_eq!(moved(Some(&before), reply(true, &["new"]), &all), names(&["db", "api", "new"]));
    assert_eq!(moved(Some(&before), reply(true, &[]), &scope(&["web"])), names(&[]));
    assert_eq!(moved(Some(&before), reply(false, &["web"]), &all), names(&["web"]));
    assert_eq!(moved(None, reply(true, &["new"]), &all), names(&["new"]));
}
