use super::*;
use crate::args::Global;
use crate::output::ColorChoice;

fn global(session: Option<&str>) -> Global {
    let session = session.map(str::to_owned);
    Global { directory: None, project: None, session, color: ColorChoice::Never, json: false }
}

#[test]
fn an_unknown_unit_is_answered_with_the_nearest_and_all_others() {
    let units = ["postgres", "api"];
    assert!(check_units(&["api".to_owned()], units.into_iter()).is_ok());
    let error = check_units(&["api".to_owned(), "postgers".to_owned()], units.into_iter()).unwrap_err();
    assert_eq!(error.message, "no unit is called `postgers`");
    assert_eq!(error.hint.as_deref(), Some("did you mean `postgres`? the units are: postgres, api"));
    let error = check_units(&["nosuch".to_owned()], units.into_iter()).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("the units are: postgres, api"));
}

#[test]
fn the_session_is_that_of_the_flag_then_of_the_variable_then_the_default() {
    let environment = Environment { session: Some("blue".to_owned()), ..Environment::default() };
    assert_eq!(session(&global(Some("red")), &environment).unwrap().as_str(), "red");
    assert_eq!(session(&global(None), &environment).unwrap().as_str(), "blue");
    assert_eq!(session(&global(None), &Environment::default()).unwrap().as_str(), "default");
    assert!(session(&global(Some("../x")), &environment).is_err());
}

#[test]
fn an_envelope_that_does_not_hold_is_passed_over() {
    for text in ["", "{}", "not json", r#"{"v":1,"sid":"green","ctl":"/nonexistent/ctl.sock"}"#] {
        let environment = Environment { rt_vars: Some(text.to_owned()), ..Environment::default() };
        assert_eq!(session(&global(None), &environment).unwrap().as_str(), "default", "{text}");
    }
}

#[test]
fn a_directory_that_is_none_is_refused_with_a_hint() {
    let error = start_directory(Some(Path::new("/nonexistent/x"))).unwrap_err();
    assert!(error.message.contains("/nonexistent/x") && error.hint.is_some());
    let error = start_directory(Some(Path::new("/dev/null"))).unwrap_err();
    assert!(error.message.contains("is not a directory"));
}

#[test]
fn only_the_exact_words_are_inner_processes() {
    let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
    assert!(inner_process(&words(&["envctl"])).is_none());
    assert!(inner_process(&words(&["envctl", "hearts"])).is_none());
    assert!(inner_process(&words(&["envctl", "up", "heart"])).is_none());
}
