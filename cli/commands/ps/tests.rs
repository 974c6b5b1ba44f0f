use envctl_runtime::control::view::{PortView, ProjectState};

use super::*;
use crate::output::progress::tests::unit;

fn project(units: Vec<UnitView>) -> ProjectView {
    let (state, cause, caused_by) = (ProjectState::Failed, None, None);
    ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by }
}

fn rendered(project: &ProjectView) -> String {
    render(project, Args { all: false, check: false, usage: false }, Paint::new(false))
}

#[test]
fn groups_have_a_column_as_soon_as_a_unit_has_one() {
    let api = UnitView { group: Some("core".into()), ..unit("api", UnitState::Ready) };
    let expected = "\
NAME  KIND     GROUP  STATE  READY  PID  UPTIME  RESTARTS  PORTS
api   service  core   ready  yes    -    -       0         -
web   service  -      ready  yes    -    -       0         -
";
    assert_eq!(rendered(&project(vec![api, unit("web", UnitState::Ready)])), expected);
}

#[test]
fn a_run_that_ended_by_itself_says_why() {
    let cause = Some("api was given up, which stops everything".to_owned());
    let ended = ProjectView { cause, caused_by: Some("api".to_owned()), ..project(Vec::new()) };
    let expected = "shop has failed: api was given up, which stops everything\n  hint: `envctl why api` tells more\n";
    assert!(rendered(&ended).ends_with(expected), "{}", rendered(&ended));
    let ending = ProjectView { run: Some("r".to_owned()), ..ended };
    assert!(rendered(&ending).contains("shop ends: api was given up"));
}

#[test]
fn the_table_shows_the_cause_under_what_is_not_well() {
    let port = PortView { name: "port".into(), port: 8000, url: "http://localhost:8000".into() };
    let mut api = UnitView { ports: vec![port], restarts: 1, ..unit("api", UnitState::Ready) };
    api.cause = Some("not shown, it is well".into());
    let mut web = unit("web", UnitState::Failed);
    web.cause = Some("no such file\u{1b}[2J".into());
    web.hint = Some("install node".into());
    let units = vec![api, web];
    let text = rendered(&project(units));
    let expected = "\
NAME  KIND     STATE   READY  PID  UPTIME  RESTARTS  PORTS
api   service  ready   yes    -    -       1         8000
web   service  failed  no     -    -       0         -
  no such file\\u{1b}[2J
  hint: install node
";
    assert_eq!(text, expected);
}

#[test]
fn spans_are_short() {
    let spans = [(0, "0s"), (59, "59s"), (185, "3m05s"), (7_620, "2h07m"), (353_000, "4d02h")];
    for (seconds, text) in spans {
        assert_eq!(span(seconds), text);
    }
}

#[test]
fn as_desired_is_up_when_wanted_up_and_down_when_wanted_down() {
    assert!(as_desired(&unit("api", UnitState::Ready)));
    assert!(!as_desired(&unit("api", UnitState::Backoff)));
    let stopped = UnitView { desired: Desired::Down, ..unit("api", UnitState::Stopped) };
    assert!(as_desired(&stopped));
    assert!(!as_desired(&UnitView { escaped: vec![7], ..stopped }));
}
