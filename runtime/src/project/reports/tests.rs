//! What the journal says of the engine's reports.

use std::time::Duration;

use envctl_supervisors::engine::{Ending, How};
use envctl_supervisors::spec::{Condition, Escalate, Incarnation, Strategy};
use serde_json::json;

use super::*;

/// `api` follows `db` over an edge; `a`, `b` and `c` are a group, which lies in a larger one.
const PROJECT: &str = "name = \"shop\"\n[services.db]\ncmd = [\"db\"]\n\
    [services.api]\ncmd = [\"api\"]\nneeds = { db = { is = \"started\", then = \"restart\" } }\n\
    [services.a]\ncmd = [\"a\"]\n[services.b]\ncmd = [\"b\"]\n[services.c]\ncmd = [\"c\"]\n\
    [groups.core]\nmembers = [\"a\", \"b\", \"c\"]\nstrategy = \"rest_for_one\"\nescalate = \"group\"\n\
    [groups.all]\nmembers = [\"core\"]\nescalate = \"project\"\nintensity = 2\n";

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn project() -> ProjectSpec {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("envctl.toml");
    crate::journal::atomic_write(&path, PROJECT.as_bytes(), crate::journal::Durability::Unsynced).unwrap();
    let source = crate::config::discover(directory.path(), None).unwrap();
    crate::config::load(&source).unwrap_or_else(|told| panic!("{told}")).spec
}

fn told(id: &str, what: What, cause: Option<Cause>) -> EventView {
    let report = Report { id: name(id), incarnation: Some(Incarnation(3)), what, cause };
    let (spec, wanted) = (project(), ["a", "b"].map(name));
    let group = spec.group_of(&report.id).map(|group| group.id.clone());
    let charged = Charged { group, used: 2, after_giving_up: false };
    event("run-1", &report, Facts { spec: &spec, pid: Some(7), charged: &charged, wanted: &wanted, oom: None })
}

fn details(event: &EventView) -> serde_json::Value {
    json!(event.details)
}

const LIMIT: Limit = Limit::Intensity { restarts: 5, period: Duration::from_secs(30) };

#[test]
fn a_unit_taken_along_over_an_edge_says_what_the_edge_says() {
    let cause = Cause::Dependency { on: name("db"), how: How::Crashed };
    let event = told("api", What::Stopping, Some(cause));
    assert_eq!(event.cause.as_deref(), Some("db crashed; edge then = restart took api along"));
    assert_eq!(details(&event), json!({ "caused_by": "db" }));
    let waits = Cause::Dependency { on: name("db"), how: How::Awaited(Condition::Ready) };
    let event = told("api", What::Blocked { by: vec![name("db")] }, Some(waits));
    assert_eq!(event.cause.as_deref(), Some("waits for db to be ready"));
}

#[test]
fn a_restart_tells_how_much_of_which_budget_is_used() {
    let what = What::RestartScheduled { delay: Duration::ZERO, failures: 1 };
    let of = |id| told(id, what.clone(), Some(Cause::Exit(ExitReason::Code(1))));
    let own = json!({ "delay_ms": 0, "unstable": 1, "restart": 2, "intensity": 5, "period_ms": 30_000 });
    assert_eq!(details(&of("api")), own);
    let mut shared = own;
    shared["group"] = json!("core");
    assert_eq!(details(&of("b")), shared);
}

#[test]
fn a_group_that_restarts_together_names_the_units_concerned() {
    let what = What::GroupRestarting { group: Some(name("core")), strategy: Strategy::RestForOne, members: 2 };
    let event = told("b", what, Some(Cause::Exit(ExitReason::Code(1))));
    assert_eq!((event.event.as_str(), event.unit.as_deref()), ("group.restarting", Some("b")));
    assert_eq!(event.message, "group core restarts together (rest_for_one): b crashed");
    let expected = json!({
        "group": "core", "strategy": "rest_for_one", "units": ["b"], "count": 2, "caused_by": "b",
        "restart": 2, "intensity": 5, "period_ms": 30_000,
    });
    assert_eq!(details(&event), expected, "c comes after b and is not wanted, a comes before it");

    let cause = Cause::Group { group: Some(name("core")), by: name("b"), how: How::Crashed };
    let event = told("c", What::Stopping, Some(cause));
    assert_eq!(event.cause.as_deref(), Some("group core restarts together (rest_for_one): b crashed"));
    assert_eq!(details(&event), json!({ "caused_by": "b", "group": "core" }));
}

#[test]
fn a_group_that_is_given_up_tells_its_budget_and_what_follows() {
    let what = |escalate| What::GroupGaveUp { group: Some(name("core")), limit: LIMIT, escalate };
    let event = told("b", what(Escalate::Group), None);
    assert_eq!((event.event.as_str(), event.unit.as_deref()), ("group.failed", Some("b")));
    assert_eq!(event.message, "group core was given up: more than 5 restarts within 30s");
    let expected = json!({
        "group": "core", "strategy": "rest_for_one", "units": ["a", "b", "c"], "caused_by": "b",
        "intensity": 5, "period_ms": 30_000, "escalate": "group",
    });
    assert_eq!(details(&event), expected);
    assert!(event.hint.is_some_and(|hint| hint.contains("envctl logs b")));

    let event = told("b", what(Escalate::Isolate), None);
    assert_eq!(event.event, "unit.failed", "the group goes on without it");
    let text = "b is given up: group core has no restart left, more than 5 restarts within 30s";
    assert_eq!(event.message, text);

    let cause = Cause::GroupGaveUp { group: name("core"), by: name("b") };
    let event = told("c", What::Failed, Some(cause));
    assert_eq!(details(&event), json!({ "group": "core", "caused_by": "b" }));
    assert!(event.hint.is_some_and(|hint| hint.contains("envctl logs b")));
}

#[test]
fn a_group_that_starts_again_after_it_was_given_up_says_so() {
    let cause = |group: &str| Cause::Group { group: Some(name(group)), by: name("b"), how: How::Failed };
    let event = told("c", What::Stopping, Some(cause("core")));
    let whole = "group core starts again as a whole: it was given up because of b";
    assert_eq!(event.cause.as_deref(), Some(whole));
    let event = told("c", What::Stopping, Some(cause("all")));
    let together = "group all restarts together (one_for_one): group core was given up because of b";
    assert_eq!(event.cause.as_deref(), Some(together));
}

#[test]
fn a_project_that_ends_names_who_was_given_up_and_the_group_that_said_so() {
    let event = told("b", What::Ending(Ending::GaveUp), None);
    assert_eq!((event.event.as_str(), event.unit.as_deref()), ("project.failed", Some("b")));
    assert_eq!(event.message, "shop ends as a whole: b was given up");
    let expected = json!({
        "group": "all", "strategy": "one_for_one", "units": ["a", "b", "c"], "caused_by": "b",
        "intensity": 2, "period_ms": 30_000,
    });
    assert_eq!(details(&event), expected);
}

#[test]
fn a_start_that_finds_nothing_to_run_is_told() {
    assert_eq!(told("api", What::Ignored, None).event, "unit.ignored");
}

#[test]
fn b09_an_end_for_want_of_memory_says_so_with_its_limit() {
    let what = What::Exited { reason: ExitReason::Signal { number: 9, core: false }, expected: false };
    let report = Report { id: name("api"), incarnation: Some(Incarnation(3)), what, cause: None };
    let (spec, charged) = (project(), Charged { group: None, used: 0, after_giving_up: false });
    let facts = Facts { spec: &spec, pid: Some(7), charged: &charged, wanted: &[], oom: Some(Some(512 << 20)) };
    let event = event("run-1", &report, facts);
    assert_eq!(event.message, "api was killed by the kernel: out of memory (limit 512MiB)");
    let told = json!({ "pid": 7, "signal": 9, "core": false, "oom": true, "memory_max": 512 << 20 });
    assert_eq!(details(&event), told);
}
