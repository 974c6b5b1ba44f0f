//! Properties: nothing panics, and what is written can be read back.

use std::time::Duration;

use proptest::prelude::*;

use super::Project;
use crate::config::{DURATION_MAX, format_duration, format_size, parse_duration, parse_size, template};

/// Text that looks like a configuration, so that the deep parts are reached too.
fn almost_config() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "[services.a]",
        "[services.b]",
        "[tasks.a]",
        "[requirements.postgres]",
        "[groups.g]",
        "[services.a.env]",
        "[logs]",
        "[[services.a]]",
        "cmd = [\"x\", \"${a.port}\"]",
        "cmd = \"x | y\"",
        "sh = \"${a.port}\"",
        "needs = [\"a\", \"b\"]",
        "needs = { b = { is = \"ready\", then = \"stop\" } }",
        "port = 80",
        "ports = { x = 80 }",
        "ready = \"/\"",
        "ready.tcp = true",
        "ready = { log = \"[\" }",
        "alive = { exec = \"a\" }",
        "env = { A = \"${b.x}\" }",
        "env.B = \"$\"",
        "dir = \"..\"",
        "env_file = [\"envctl.toml\"]",
        "members = [\"a\", \"g\"]",
        "strategy = \"one_for_all\"",
        "escalate = \"group\"",
        "[groups.h]",
        "[supervision]",
        "backoff = { base = \"9d\" }",
        "period = \"1s\"",
        "name = \"x\"",
        "x = 1979-05-27",
        "y = 0x7fffffffffffffffffff",
        "z = [[[{}]]]",
        "stop = {}",
        "\"\" = 1",
        "\u{feff}",
    ]);
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

fn load_never_panics(bytes: &[u8]) {
    let project = Project::new(&[]);
    project.file("envctl.toml", bytes);
    if let Err(diagnostics) = project.load() {
        assert!(!diagnostics.is_empty(), "refused without a word");
        assert_eq!(super::without_hint(&diagnostics), Vec::<String>::new());
        assert!(!diagnostics.to_string().contains(|c: char| c.is_control() && c != '\n'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load_never_panics(&bytes);
    }

    #[test]
    fn almost_good_files_never_panic_the_loader(text in almost_config()) {
        load_never_panics(text.as_bytes());
    }

    #[test]
    fn a_cut_or_damaged_file_never_panics_the_loader(cut in 0usize..900, at in 0usize..900, byte in any::<u8>()) {
        let mut bytes = super::meaning::SHOP.as_bytes().to_vec();
        bytes.truncate(cut);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        load_never_panics(&bytes);
    }

    #[test]
    fn arbitrary_env_files_never_panic(text in "(\\PC|\n|\"|'|=|\\$|\\{|A){0,60}") {
        for (entry, written) in super::env_files::spans(&text) {
            prop_assert_eq!(entry, written);
        }
    }

    #[test]
    fn a_template_reads_back_what_it_shows(text in "(\\PC|\\$|\\$\\{a\\.b\\}){0,40}") {
        if let Ok(template) = template::parse(&text) {
            prop_assert_eq!(template::parse(&template.to_string()), Ok(template));
        }
    }

    #[test]
    fn a_duration_reads_back_what_it_shows(millis in 0..=DURATION_MAX.as_millis() as u64) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn arbitrary_text_never_panics_a_duration(text in "(\\PC|[0-9]|ms|s|m|h|d){0,12}") {
        if let Ok(duration) = parse_duration(&text) {
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn a_size_reads_back_what_it_shows(bytes in any::<u64>()) {
        prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
    }
}
