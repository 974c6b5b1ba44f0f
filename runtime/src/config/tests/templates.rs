//! The table of [`crate::config::template`].

use crate::config::template::{TemplateError, parse};

fn check(text: &str, shown: &str) {
    let template = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(template.to_string(), shown, "{text:?}");
}

#[test]
fn only_a_unit_with_an_attribute_is_a_reference() {
    check("${api.port}", "${api.port}");
    check("http://${api.host}:${api.ports.admin}/", "http://${api.host}:${api.ports.admin}/");
    check("$$", "$$");
    check("$", "$$");
    check("$x $(x) a$", "$$x $$(x) a$$");
    check("$${HOME}", "$${HOME}");
    check("", "");
    check("100% = ü\n", "100% = ü\n");
}

#[test]
fn a_literal_dollar_is_one_dollar() {
    let filled = parse("$$x $y").unwrap().fill(&Default::default());
    assert_eq!(filled.as_deref(), Ok("$x $y"));
}

#[test]
fn the_forms_of_a_shell_are_errors() {
    assert_eq!(parse("a ${b.c"), Err(TemplateError::Unclosed { offset: 2 }));
    for text in ["${HOME}", "${}", "${.x}", "${x.}", "${A:-b}"] {
        assert!(matches!(parse(text), Err(TemplateError::NoAttribute { .. })), "{text}");
    }
    assert!(matches!(parse("${A.b}"), Err(TemplateError::BadUnit { .. })));
    assert!(matches!(parse("${a b.c}"), Err(TemplateError::BadUnit { .. })));
}
