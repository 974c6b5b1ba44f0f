use envctl_runtime::control::view::{PortView, ProjectState};

use super::*;
use crate::output::progress::tests::unit;

fn project(units: Vec<UnitView>) -> ProjectView {
    let (state, cause, caused_by) = (ProjectState::Failed, None, None);
    ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by }
}

fn rendered(project: &ProjectView) -> String {
    render(project, Look { titled: false, usage: true, shares: None, paint: Paint::new(false) })
}

#[test]
fn groups_have_a_column_as_soon_as_a_unit_has_one() {
    let api = UnitView { group: Some("core".into()), ..unit("api", UnitState::Ready) };
    let expected = "\
NAME  KIND     GROUP  STATE  READY  PID  UPTIME  RESTARTS  CPU  MEM  PORTS
api   service  core   ready  yes    -    -       0         -    -    -
web   service  -      ready  yes    -    -       0         -    -    -
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
NAME  KIND     STATE   READY  PID  UPTIME  RESTARTS  CPU  MEM  PORTS
api   service  ready   yes    -    -       1         -    -    8000
web   service  failed  no     -    -       0         -    -    -
  no such file\\u{1b}[2J
  hint: install node
";
    assert_eq!(text, expected);
}

#[test]
fn cpu_is_time_in_a_single_look_and_a_share_while_watching() {
    let (cpu_ms, memory, uptime_ms) = (Some(12_340), Some(84 << 20), Some(185_000));
    let api = UnitView { pid: Some(7), cpu_ms, memory, uptime_ms, ..unit("api", UnitState::Ready) };
    let stopped = UnitView { desired: Desired::Down, ready: false, ..unit("web", UnitState::Stopped) };
    let project = project(vec![api, stopped]);
    let expected = "\
NAME  KIND     STATE    READY  PID  UPTIME  RESTARTS  CPU    MEM  PORTS
api   service  ready    yes    7    3m05s   0         12.3s  84M  -
web   service  stopped  no     -    -       0         -      -    -
";
    assert_eq!(rendered(&project), expected);
    let mut shares = Shares::default();
    shares.observe(std::slice::from_ref(&project));
    let watched =
        render(&project, Look { titled: false, usage: true, shares: Some(&shares), paint: Paint::new(false) });
    assert_eq!(
        watched,
        expected.replace("CPU    ", "CPU   ").replace("12.3s", "6.7%").replace("-      -    -", "-     -    -")
    );
}

#[test]
fn the_age_of_a_process_counts_and_not_the_time_since_somebody_took_it_over() {
    let adopted = UnitView {
        pid: Some(7),
        adopted: true,
        since: jiff::Timestamp::now().to_string(),
        ..unit("a", UnitState::Ready)
    };
    assert_eq!(uptime(&adopted), "0s", "all that an older daemon tells");
    assert_eq!(uptime(&UnitView { uptime_ms: Some(7_620_000), ..adopted.clone() }), "2h07m");
    assert_eq!(uptime(&UnitView { uptime_ms: Some(7_620_000), pid: None, ..adopted }), "");
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

#[test]
fn without_what_units_use_there_are_no_columns_for_it() {
    let project = project(vec![UnitView { pid: Some(7), ..unit("api", UnitState::Ready) }]);
    let table = render(&project, Look { titled: false, usage: false, shares: None, paint: Paint::new(false) });
    let heading = table.lines().next().unwrap();
    assert!(heading.contains("RESTARTS  PORTS") && !heading.contains("CPU") && !heading.contains("MEM"), "{table}");
}
