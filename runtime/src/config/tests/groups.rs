//! Groups and `[supervision]`: what good ones mean, and what is told of bad ones.

use std::time::Duration;

use envctl_supervisors::spec::{Escalate, Flags, INTENSITY_DEFAULT, Intensity, Strategy, Then};
use insta::assert_snapshot;

use super::{codes, effective, good, group, told};

/// Services called as these, then the rest of the file.
fn with(services: &[&str], rest: &str) -> String {
    let service = |name: &&str| format!("[services.{name}]\ncmd = [\"{name}\"]\n");
    services.iter().map(service).collect::<String>() + rest
}

fn flags(text: &str) -> Flags {
    good(&with(&["a"], text)).spec.flags
}

#[test]
fn a_group_has_ordered_members_a_strategy_a_budget_and_an_escalation() {
    let text = "[groups.inner]\nmembers = [\"b\", \"a\"]\nstrategy = \"rest_for_one\"\nintensity = 2\nperiod = \"1m\"\n\
        escalate = \"group\"\n[groups.outer]\nmembers = [\"inner\", \"c\"]\nstrategy = \"one_for_all\"\nescalate = \"project\"\n";
    let spec = good(&with(&["a", "b", "c"], text)).spec;
    let mut inner = group("inner", &["b", "a"]);
    inner.strategy = Strategy::RestForOne;
    inner.intensity = Intensity { restarts: 2, period: Duration::from_secs(60) };
    inner.escalate = Escalate::Group;
    let mut outer = group("outer", &["inner", "c"]);
    (outer.strategy, outer.escalate) = (Strategy::OneForAll, Escalate::Project);
    assert_eq!(spec.groups, [inner, outer]);
    let name = |text: &str| text.parse::<envctl_supervisors::Name>().unwrap();
    assert_eq!(spec.units_in(&name("outer")), [name("b"), name("a"), name("c")]);
    assert_eq!(spec.group_of(&name("a")).unwrap().id, name("inner"));
    assert_eq!(spec.group_of(&name("inner")).unwrap().id, name("outer"));
}

#[test]
fn supervision_is_the_group_of_all_that_have_none_as_soon_as_it_is_written() {
    assert_eq!(flags(""), Flags::default());
    assert_eq!(flags("[supervision]\n"), Flags { intensity: Some(INTENSITY_DEFAULT), ..Flags::default() });
    let all = "[supervision]\nstrategy = \"one_for_all\"\nintensity = 1\nperiod = \"5s\"\nescalate = \"project\"\n";
    let intensity = Some(Intensity { restarts: 1, period: Duration::from_secs(5) });
    let (strategy, escalate) = (Strategy::OneForAll, Escalate::Project);
    assert_eq!(flags(all), Flags { strategy, intensity, escalate, ..Flags::default() });
}

#[test]
fn what_is_no_budget_stays_with_each_member() {
    let text = "unstable = 3\nbackoff = \"none\"\nstable_after = \"1s\"\ncritical = false\nrestart = \"transient\"\n\
        [groups.g]\nmembers = [\"a\"]\n";
    let child = &good(&with(&["a"], text)).spec.units["a"].child;
    assert!(!child.critical);
    assert_eq!(child.stable_after, Duration::from_secs(1));
}

#[test]
fn every_edge_says_what_follows_when_it_is_lost() {
    let text = "[services.d]\ncmd = [\"d\"]\nneeds = { a = \"started\", b = { then = \"restart\" }, c = { then = \"stop\" } }\n";
    let spec = good(&with(&["a", "b", "c"], text)).spec;
    let thens: Vec<Then> = spec.units["d"].child.needs.iter().map(|edge| edge.then).collect();
    assert_eq!(thens, [Then::Ignore, Then::Restart, Then::Stop]);
}

#[test]
fn needs_that_go_with_the_order_of_members_are_no_mistake() {
    let text = "[services.c]\ncmd = [\"c\"]\nneeds = [\"a\", \"aside\"]\n[groups.g]\nmembers = [\"a\", \"inner\"]\n\
        [groups.inner]\nmembers = [\"b\", \"c\"]\n";
    assert_eq!(codes(&with(&["a", "b", "aside"], text)), Vec::<&str>::new());
}

#[test]
fn the_values_of_groups_are_shown_with_their_origins_and_members_show_no_budget() {
    let text = "[groups.g]\nmembers = [\"a\"]\nintensity = 2\n";
    let loaded = good(&with(&["a", "b"], text));
    let shown = |key: &str| effective(&loaded, &loaded.spec.root, key);
    let of = |value: &str, origin: &str| Some((value.to_owned(), origin.to_owned()));
    assert_eq!(shown("groups.g.members"), of("[\"a\"]", "envctl.toml:6"));
    assert_eq!(shown("groups.g.intensity"), of("2", "envctl.toml:7"));
    assert_eq!(shown("groups.g.period"), of("\"30s\"", "default"));
    assert_eq!(shown("groups.g.strategy"), of("\"one_for_one\"", "default"));
    assert_eq!(shown("groups.g.escalate"), of("\"isolate\"", "default"));
    assert_eq!((shown("services.a.intensity"), shown("services.a.escalate")), (None, None));
    assert_eq!(shown("services.b.intensity"), of("5", "default"));
    assert_eq!(shown("services.b.escalate"), of("\"isolate\"", "default"));
    assert_eq!(shown("supervision.intensity"), None);

    let loaded = good(&with(&["a"], "[supervision]\nperiod = \"1m\"\n"));
    let shown = |key: &str| effective(&loaded, &loaded.spec.root, key);
    assert_eq!(shown("supervision.period"), of("\"1m\"", "envctl.toml:4"));
    assert_eq!(shown("supervision.intensity"), of("5", "default"));
    assert_eq!(shown("services.a.period"), None);
}

#[test]
fn a_group_without_members_is_told() {
    assert_snapshot!(told(&with(&["a"], "[groups.none]\n[groups.empty]\nmembers = []\n")));
}

#[test]
fn a_member_that_is_not_there_is_told_with_the_nearest_name() {
    let text = "[groups.core]\nmembers = [\"wroker\", \"inner\"]\n[groups.iner]\nmembers = [\"api\"]\n";
    assert_snapshot!(told(&with(&["api", "worker"], text)));
}

#[test]
fn a_member_that_is_named_twice_is_told_with_both_places() {
    let text = "[groups.g]\nmembers = [\"a\", \"a\", \"b\"]\n[groups.h]\nmembers = [\"b\", \"i\"]\n\
        [groups.i]\nmembers = [\"c\"]\n[groups.j]\nmembers = [\"i\"]\n";
    assert_snapshot!(told(&with(&["a", "b", "c"], text)));
}

#[test]
fn a_group_that_is_inside_itself_is_told_with_the_whole_way() {
    let text = "[groups.self]\nmembers = [\"self\"]\n[groups.one]\nmembers = [\"a\", \"two\"]\n\
        [groups.two]\nmembers = [\"three\"]\n[groups.three]\nmembers = [\"one\"]\n[groups.four]\nmembers = [\"b\"]\n";
    assert_snapshot!(told(&with(&["a", "b"], text)));
}

#[test]
fn a_group_with_the_name_of_a_unit_is_told_with_both_places() {
    assert_snapshot!(told(&with(&["api", "worker"], "[groups.api]\nmembers = [\"worker\"]\n")));
}

#[test]
fn a_member_with_a_budget_of_its_own_is_told_where_it_belongs() {
    let text = "intensity = 1\nperiod = \"1s\"\nescalate = \"project\"\n[groups.core]\nmembers = [\"api\"]\n";
    assert_snapshot!(told(&with(&["api"], text)));
}

#[test]
fn a_unit_under_supervision_with_a_budget_of_its_own_is_told_where_it_belongs() {
    assert_snapshot!(told(&with(&["api"], "escalate = \"group\"\n[supervision]\nintensity = 3\n")));
}

#[test]
fn a_unit_without_a_group_cannot_take_one_along() {
    assert_snapshot!(told(&with(&["api"], "escalate = \"group\"\n")));
}

#[test]
fn members_in_an_order_that_their_needs_forbid_are_told_with_the_need() {
    let text = "[services.api]\ncmd = [\"api\"]\nneeds = [\"db\"]\n[services.db]\ncmd = [\"db\"]\n\
        [services.web]\ncmd = [\"web\"]\nneeds = [\"proxy\"]\n[services.proxy]\ncmd = [\"proxy\"]\nneeds = [\"mail\"]\n\
        [groups.core]\nmembers = [\"api\", \"db\", \"front\", \"back\"]\n[groups.front]\nmembers = [\"web\"]\n\
        [groups.back]\nmembers = [\"mail\"]\n";
    assert_snapshot!(told(&with(&["mail"], text)));
}

#[test]
fn a_circle_through_the_orders_of_two_groups_is_told_by_its_members() {
    let text = "[services.a]\ncmd = [\"a\"]\nneeds = [\"d\"]\n[services.c]\ncmd = [\"c\"]\nneeds = [\"b\"]\n\
        [groups.left]\nmembers = [\"a\", \"b\"]\n[groups.right]\nmembers = [\"c\", \"d\"]\n";
    assert_snapshot!(told(&with(&["b", "d"], text)));
}

#[test]
fn every_mistake_of_a_group_is_told_at_once() {
    let text = "intensity = 1\n[groups.g]\nmembers = [\"a\", \"a\", \"x\"]\nstrategy = \"all\"\nescalate = \"all\"\n\
        period = \"0s\"\nfrobnicate = 1\n[groups.h]\nmembers = [\"h\"]\n";
    let found = codes(&with(&["a"], text));
    let all = [
        "shared-budget",
        "twice",
        "unknown-unit",
        "bad-value",
        "bad-value",
        "out-of-range",
        "unknown-key",
        "bad-group",
    ];
    assert_eq!(found, all);
}
