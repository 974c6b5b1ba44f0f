//! The table of [`crate::config::env_file`], and how projects use such files.

use super::{Project, told_of};
use crate::config::env_file::parse;

fn values(text: &str) -> Vec<(String, String)> {
    let (entries, errors) = parse(text);
    assert_eq!(errors, []);
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

fn check(text: &str, value: &str) {
    assert_eq!(values(text).pop(), Some(("A".to_owned(), value.to_owned())), "{text:?}");
}

/// Each entry's name with the text its span covers.
pub(super) fn spans(text: &str) -> Vec<(String, String)> {
    let (entries, _) = parse(text);
    entries.into_iter().map(|entry| (entry.key, text[entry.span].to_owned())).collect()
}

#[test]
fn lines_mean_what_the_table_says() {
    check("A=b c # note", "b c");
    check("A = b\r\n", "b");
    check("export A=b", "b");
    check("A=", "");
    check("A=#note", "");
    check("A=b=c", "b=c");
    check("A=a#b", "a#b");
    check("A='$x \\n'", "$x \\n");
    check("A='two\nlines' # note", "two\nlines");
    check("A=\"x\\n\\$y\\\"\" # note", "x\n$y\"");
    check("B=1\nA=${B}2$B", "121");
    check("B=1\nA='$B'", "$B");
    check("A=pa$$word$", "pa$$word$");
    check("A=${NOT_HERE} ${A:-b}", "${NOT_HERE} ${A:-b}");
    check("\u{feff}# note\n\n  A=1", "1");
    check("A=100%", "100%");
}

#[test]
fn a_line_after_a_quoted_value_is_read() {
    assert_eq!(values("A='x\ny'\nB=2\n"), [("A".into(), "x\ny".into()), ("B".into(), "2".into())]);
}

#[test]
fn a_bad_line_does_not_hide_the_next() {
    let (entries, errors) = parse("what is this\n1A=b\nB=\"open\nC=3\n");
    assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["C"]);
    assert_eq!(errors.len(), 3);
}

#[test]
fn values_that_double_with_every_line_are_stopped() {
    let mut text = "A0=0123456789\n".to_owned();
    for n in 1..60 {
        text.push_str(&format!("A{n}=$A{}$A{}\n", n - 1, n - 1));
    }
    let (entries, errors) = parse(&text);
    assert!(entries.iter().map(|entry| entry.value.len()).sum::<usize>() < 8 << 20);
    assert!(!errors.is_empty());
}

#[test]
fn the_env_table_wins_over_the_env_file_and_each_keeps_its_origin() {
    let project = Project::new(&[
        ("envctl.toml", "[services.api]\ncmd = [\"api\"]\nenv_file = \".env\"\nenv = { B = \"table\" }\n"),
        (".env", "# settings\nA=file\nB=file\n"),
    ]);
    let loaded = project.load().unwrap();
    let at = |key: &str| super::effective(&loaded, &project.root(), &format!("services.api.env.{key}"));
    assert_eq!(at("A"), Some(("\"file\"".into(), ".env:2".into())));
    assert_eq!(at("B"), Some(("\"table\"".into(), "envctl.toml:4".into())));
}

#[test]
fn a_missing_env_file_is_an_error_unless_it_is_optional() {
    let project = Project::new(&[
        (
            "envctl.toml",
            "env_file = { path = \"x.env\", optional = true }\n[services.api]\ncmd = [\"api\"]\nenv_file = [\".env\"]\n",
        ),
        (".env.example", ""),
    ]);
    insta::assert_snapshot!(told_of(&project));
}

#[test]
fn a_bad_line_of_an_env_file_is_told_with_its_line() {
    let project = Project::new(&[
        ("envctl.toml", "[services.api]\ncmd = [\"api\"]\nenv_file = \".env\"\n"),
        (".env", "A=1\nnonsense\n"),
    ]);
    insta::assert_snapshot!(told_of(&project));
}
