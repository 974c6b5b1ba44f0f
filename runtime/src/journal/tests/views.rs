use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::views::{self, Facts, Sources, UnitFacts};
use super::*;
use crate::control::view::{ExitView, PortView};

fn with(units: Vec<UnitView>, check: impl Fn(&Sources<'_>)) {
    let project = project(units);
    let facts = UnitFacts {
        dir: Some("/src/shop/backend".into()),
        logs: "/state/logs/api".into(),
        wanted: BTreeMap::from([("port".to_owned(), 8000)]),
    };
    let facts = Facts { folder: "main".to_owned(), units: BTreeMap::from([("api".to_owned(), facts)]) };
    check(&Sources { project: &project, facts: &facts, errors: &[], seq: 9, now: "2026-11-21T10:20:31.000000Z" });
}

fn api(state: UnitState) -> UnitView {
    let port = PortView { name: "port".to_owned(), port: 8001, url: "http://localhost:8001".to_owned() };
    UnitView { ports: vec![port], pid: Some(42), ..unit("api", state) }
}

#[test]
fn run_state_keeps_services_and_requirements_apart() {
    let postgres = UnitView { kind: "requirement".to_owned(), ..unit("postgres", UnitState::Ready) };
    let exit = Some(ExitView::Signal { signal: 9, core: false });
    with(vec![UnitView { exit, ..api(UnitState::Ready) }, postgres], |from| {
        let state = views::run_state(from);
        assert_eq!(state["run_id"], "run-1");
        assert_eq!(state["mode"], "main");
        let api = &state["services"]["api"];
        assert_eq!(
            (&api["status"], &api["pid"], &api["cwd"]),
            (&json!("healthy"), &json!(42), &json!("/src/shop/backend"))
        );
        assert_eq!((&api["requested_port"], &api["actual_port"]), (&json!(8000), &json!(8001)));
        assert_eq!(api["exit"], json!({ "signal": 9, "core": false }));
        assert_eq!(state["services"].as_object().unwrap().len(), 1);
        assert_eq!(state["requirements"]["postgres"]["success"], true);
        assert_eq!(state["metadata"]["project_roots"], json!({ "shop": "/src/shop" }));
    });
}

#[test]
fn the_runtime_map_has_urls_only_of_what_can_be_reached() {
    for (state, reachable) in [(UnitState::Ready, true), (UnitState::Starting, true), (UnitState::Failed, false)] {
        with(vec![api(state)], |from| {
            let map = views::runtime_map(from);
            assert_eq!(map["port_to_service"], json!({ "8001": "api" }));
            assert_eq!(map["service_to_actual_port"], json!({ "api": 8001 }));
            assert_eq!(map["service_to_url"].get("api").is_some(), reachable, "{state:?}");
        });
    }
}

#[test]
fn the_ports_manifest_tells_a_wish_from_what_was_got() {
    with(vec![api(UnitState::Ready)], |from| {
        let port = &views::ports_manifest(from)["projects"][0]["ports"]["api"];
        assert_eq!(
            (&port["requested"], &port["final"], &port["source"]),
            (&json!(8000), &json!(8001), &json!("retry"))
        );
    });
}

#[test]
fn a_project_passes_when_everything_wanted_is_settled() {
    let done = UnitView { kind: "task".to_owned(), ..unit("migrate", UnitState::Done) };
    let unwanted = UnitView { desired: Desired::Down, ..unit("admin", UnitState::Stopped) };
    let optional =
        UnitView { critical: false, cause: Some("no licence".to_owned()), ..unit("mail", UnitState::Failed) };
    let failed = UnitView { cause: Some("exit code 1".to_owned()), ..unit("web", UnitState::Failed) };
    let check = |units: Vec<UnitView>, expect: Value| {
        with(units, |from| {
            let report = views::readiness_report(from);
            assert_eq!(json!([report["passed"], report["errors"], report["warnings"], report["waiting"]]), expect);
        });
    };
    let good = || vec![api(UnitState::Ready), done.clone(), unwanted.clone()];
    check(good(), json!([true, [], [], []]));
    check([good(), vec![optional]].concat(), json!([true, [], ["mail: no licence"], []]));
    check([good(), vec![unit("web", UnitState::Starting)]].concat(), json!([null, [], [], ["web"]]));
    check([good(), vec![failed]].concat(), json!([false, ["web: exit code 1"], [], []]));
}

#[test]
fn derived_files_have_sorted_keys_and_end_with_a_newline() {
    let mut map = serde_json::Map::new();
    for key in ["zebra", "apple", "mango"] {
        map.insert(key.to_owned(), json!({ "b": 1, "a": [{ "d": 1, "c": 2 }] }));
    }
    let text = String::from_utf8(views::to_bytes(Value::Object(map))).unwrap();
    let at = |key: &str| text.find(key).unwrap();
    assert!(at("apple") < at("mango") && at("mango") < at("zebra") && at("\"c\"") < at("\"d\""), "{text}");
    assert!(text.ends_with("}\n"));
}

#[test]
fn units_with_processes_left_over_are_told_apart() {
    with(vec![UnitView { escaped: vec![7], ..api(UnitState::Stopped) }], |from| {
        assert_eq!(views::run_state(from)["services"]["api"]["status"], "termination_failed");
    });
}

#[test]
fn the_map_of_a_scope_names_units_by_their_worktree() {
    with(vec![api(UnitState::Ready)], |from| {
        let maps = BTreeMap::from([("main".to_owned(), views::runtime_map(from))]);
        let map = views::scope_map(&maps, from.now);
        assert_eq!(map["port_to_service"], json!({ "8001": "main/api" }));
        assert_eq!(map["projects"]["main"]["service_to_url"]["api"], "http://localhost:8001");
    });
}

#[test]
fn the_ports_of_a_manifest_can_be_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ports_manifest.json");
    assert_eq!(views::last_ports(&path, |_, _| Some(8000)), None);
    let admin = PortView { name: "admin".to_owned(), port: 9001, url: "http://localhost:9001".to_owned() };
    let mut two = api(UnitState::Ready);
    two.ports.push(admin);
    with(vec![two], |from| {
        let bytes = views::to_bytes(views::ports_manifest(from));
        crate::journal::atomic_write(&path, &bytes, crate::journal::Durability::Unsynced).unwrap();
        let wanted = |unit: &Name, port: &Name| from.facts.units.get(unit.as_str())?.wanted.get(port.as_str()).copied();
        let ports = views::last_ports(&path, wanted).unwrap();
        assert_eq!(ports["api"]["port"], 8001);
        let others = views::last_ports(&path, |_, _| Some(1)).unwrap();
        assert!(others.is_empty(), "a port of another wish is no preference: {others:?}");
    });
}
