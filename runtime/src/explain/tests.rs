use std::time::Duration;

use envctl_supervisors::spec::{ChildSpec, Edge, Escalate, Flags, GroupSpec, INTENSITY_DEFAULT, Strategy, Then};
use indexmap::IndexMap;

use super::*;
use crate::spec::{LogSpec, PortWish, Position, Program};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn unit(id: &str, needs: &[&str]) -> (Name, UnitSpec) {
    let mut child = ChildSpec::new(name(id));
    child.needs = needs.iter().map(|on| Edge { on: name(on), is: Condition::Ready, then: Then::Ignore }).collect();
    let program = Program { run: Run::Shell(format!("run {id}")), dir: "/p".into(), tty: None };
    let spec = UnitSpec {
        child,
        kind: UnitKind::Service(program),
        env: IndexMap::new(),
        ports: IndexMap::from([(name("port"), PortWish { base: 8000 })]),
        ready: None,
        alive: None,
        stop: vec![],
        confines: crate::spec::Confines::default(),
        logs: crate::spec::LogWish::default(),
        at: Position { file: "envctl.toml".into(), line: 3, column: 1 },
    };
    (name(id), spec)
}

fn project(units: Vec<(Name, UnitSpec)>) -> ProjectSpec {
    ProjectSpec {
        name: name("shop"),
        root: "/p".into(),
        files: vec!["/p/envctl.toml".into()],
        units: units.into_iter().collect(),
        groups: Vec::new(),
        flags: Flags::default(),
        logs: LogSpec::DEFAULT,
        env: IndexMap::new(),
        inherit: Inherit::All,
        end_with_daemon: false,
    }
}

fn shop() -> ProjectSpec {
    project(vec![unit("web", &["api"]), unit("db", &[]), unit("api", &["db", "cache"]), unit("cache", &[])])
}

fn waves_of(explanation: &Explanation) -> Vec<Vec<&str>> {
    explanation.waves.iter().map(|wave| wave.iter().map(|unit| unit.unit.as_str()).collect()).collect()
}

#[test]
fn units_start_in_waves_in_the_order_of_the_file() {
    let explanation = explain(&shop(), &[], false);
    assert_eq!(waves_of(&explanation), [vec!["db", "cache"], vec!["api"], vec!["web"]]);
    assert!(explanation.left_out.is_empty());
}

#[test]
fn a_named_unit_brings_what_it_needs_and_says_why() {
    let explanation = explain(&shop(), &[name("api")], false);
    assert_eq!(waves_of(&explanation), [vec!["db", "cache"], vec!["api"]]);
    assert_eq!(explanation.waves[0][0].why, "needed by api");
    assert_eq!(explanation.waves[1][0].why, "named");
    assert_eq!(explanation.left_out, ["web"]);
}

#[test]
fn without_dependencies_only_the_named_unit_starts() {
    let explanation = explain(&shop(), &[name("web")], true);
    assert_eq!(waves_of(&explanation), [vec!["web"]]);
    assert_eq!(closure(&shop(), &[name("web")], true), [name("web")]);
}

/// A group of these members, with every default.
fn group(id: &str, members: &[&str]) -> GroupSpec {
    GroupSpec::new(name(id), members.iter().map(|member| name(member)).collect())
}

#[test]
fn members_of_a_group_start_one_after_the_other() {
    let mut spec = project(vec![unit("c", &[]), unit("a", &[]), unit("b", &[]), unit("aside", &[])]);
    spec.groups = vec![group("inner", &["b", "c"]), group("outer", &["a", "inner"])];
    let explanation = explain(&spec, &[], false);
    assert_eq!(waves_of(&explanation), [vec!["a", "aside"], vec!["b"], vec!["c"]]);
    let last = &explanation.waves[2][0];
    assert_eq!((last.group.as_deref(), &last.after), (Some("inner"), &vec!["b".to_owned(), "a".to_owned()]));
    assert_eq!(explanation.groups[0].parent.as_deref(), Some("outer"));
    assert_eq!(explanation.groups[1].members, ["a", "inner"]);

    let alone = explain(&spec, &[name("c")], false);
    assert_eq!(waves_of(&alone), [vec!["c"]], "the order of a group is no need");
    assert!(alone.waves[0][0].after.is_empty());
}

#[test]
fn budgets_are_told_where_they_are_shared() {
    let mut spec = project(vec![unit("a", &[]), unit("b", &[])]);
    let of = |spec: &ProjectSpec, unit: &str| groups::budget_text(spec, &spec.units[&name(unit)]);
    assert_eq!(of(&spec, "a"), "5 restarts in 30s, then the unit is given up");
    let core = group("core", &["a"]);
    spec.groups = vec![GroupSpec { strategy: Strategy::OneForAll, escalate: Escalate::Project, ..core }];
    spec.flags = Flags { intensity: Some(INTENSITY_DEFAULT), ..Flags::default() };
    assert_eq!(of(&spec, "a"), "that of group core");
    let shared = "one_for_one, 5 restarts in 30s, then the unit is given up";
    assert_eq!(of(&spec, "b"), format!("that of all without a group: {shared}"));
    let explanation = explain(&spec, &[], false);
    assert_eq!(explanation.groups[0].shared.text, "one_for_all, 5 restarts in 30s, then the project ends");
    assert_eq!(explanation.supervision.unwrap().text, shared);
}

#[test]
fn an_unchecked_cycle_ends() {
    let explanation = explain(&project(vec![unit("a", &["b"]), unit("b", &["a"])]), &[], false);
    assert!(explanation.waves.is_empty());
}

#[test]
fn secrets_are_masked_and_origins_told() {
    let mut spec = shop();
    let origin = Origin::File(Position { file: "envctl.toml".into(), line: 7, column: 2 });
    let value = |text: &str| Sourced { value: Template::literal(text), origin: origin.clone() };
    spec.env.insert("API_TOKEN".into(), value("hush"));
    spec.env.insert("MODE".into(), value("project"));
    spec.units[&name("db")].env.insert("MODE".into(), value("unit"));
    let env = declared_env(&spec, &spec.units[&name("db")]);
    assert_eq!(
        env[0],
        VariableView { name: "API_TOKEN".into(), value: MASK.into(), origin: "envctl.toml:7:2".into(), secret: true }
    );
    assert_eq!(env[1].value, "unit");
}

#[test]
fn readiness_is_told_in_words() {
    let (_, mut unit) = unit("api", &[]);
    assert_eq!(ready_text(&unit), "never reported: running is enough");
    unit.ready = Some(ProbeSpec {
        ask: Ask::Http { port: ProbePort::Own(name("port")), path: "/healthz".into() },
        within: Duration::from_secs(30),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
    });
    assert_eq!(ready_text(&unit), "GET /healthz on its port answers, within 30s");
}
