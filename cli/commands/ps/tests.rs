use envctl_runtime::control::view::{PortView, ProjectState};

use super::*;
use crate::output::progress::tests::unit;

#[test]
fn the_table_shows_the_cause_under_what_is_not_well() {
    let port = PortView { name: "port".into(), port: 8000, url: "http://localhost:8000".into() };
    let mut api = UnitView { ports: vec![port], restarts: 1, ..unit("api", UnitState::Ready) };
    api.cause = Some("not shown, it is well".into());
    let mut web = unit("web", UnitState::Failed);
    web.cause = Some("no such file\u{1b}[2J".into());
    web.hint = Some("install node".into());
    let units = vec![api, web];
    let project = ProjectView { name: "shop".into(), root: "/p".into(), run: None, state: ProjectState::Failed, units };
    let text = render(&project, Args { all: false, check: false, usage: false }, Paint::new(false));
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
