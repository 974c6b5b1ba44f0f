//! E03: nothing that a unit, a name or an error holds can drive the reader's terminal, on any surface.

use crate::harness::{Output, TestEnvironment};

/// What a program could write to take over a terminal: title, clipboard, link, erasing, device control, C1, bell, overwriting, bidi.
const HOSTILE: &str =
    "\x1b]0;t\x07\x1b]52;c;ZQ==\x07\x1b]8;;http://e\x1b\\\x1b[2J\x1bP+q\x1b\\\u{9b}2J\x08\r\u{202e}\u{2066}\u{200b}";

/// Characters that may never be shown.
fn is_bad(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t' | '\x1b'))
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Colours are the only sequences.
#[track_caller]
fn check(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.chars().any(is_bad), "`{}` shows what it must not: {text:?}", output.command);
        for sequence in text.split('\x1b').skip(1) {
            let end = sequence.find(|c: char| !matches!(c, '[' | '0'..='9' | ';' | ':'));
            assert!(end.is_some_and(|end| sequence[end..].starts_with('m')), "`{}`: {sequence:?}", output.command);
        }
    }
}

#[test]
fn e03_no_surface_lets_a_text_drive_the_terminal() {
    let env = TestEnvironment::new();
    let toml = r#"
        [tasks.ansi]
        cmd = ["FX", "ansi"]
        [services.exec]
        cmd = ["HOSTILE", "x"]
        restart = "temporary"
        [services.probe]
        sh = "exec sleep 1000"
        env = { TEXT = "HOSTILE" }
        ready = { exec = "printf '\\033]0;x\\007\\302\\2332J' >&2; exit 1", within = "300ms" }
        restart = "temporary"
    "#;
    let project = env.project(&toml.replace("HOSTILE", &toml_escaped()));
    let elsewhere = env.project_named("p\x1b]0;dir\x07\u{9b}x", "name = \"elsewhere\"\n[tasks.t]\nsh = \"true\"\n");
    check(&elsewhere.envctl(&["up", "-d"]));
    check(&project.envctl(&["up", "-d", "--wait", "--wait-timeout", "20s"]));
    let surfaces: &[&[&str]] = &[
        &["logs"],
        &["logs", "--json"],
        &["ps"],
        &["ps", "--json"],
        &["ps", "--all"],
        &["why", "exec"],
        &["why", "exec", "--chain"],
        &["why", "probe"],
        &["events"],
        &["events", "--json"],
        &["errors"],
        &["health"],
        &["explain"],
        &["config", "show"],
        &["env", "probe"],
        &["endpoints"],
        &["show-state"],
        &["projects"],
        &["doctor"],
        &["daemon", "status"],
        &["list-targets"],
        &["clear-logs", "--yes", "--json"],
    ];
    for surface in surfaces {
        for color in ["never", "always"] {
            let arguments = [*surface, &["--color", color]].concat();
            check(&project.envctl(&arguments).without_panic());
            check(&elsewhere.envctl(&arguments).without_panic());
        }
    }
    project.envctl(&["why", "exec"]).ok().says(&["]0;t", "No such file"]);
    for wrong in [
        ["logs", HOSTILE].as_slice(),
        &["logs", "--grep", &format!("({HOSTILE}")],
        &["logs", "--since", HOSTILE],
        &["why", HOSTILE],
        &["stop", HOSTILE],
        &[HOSTILE],
        &["-p", HOSTILE, "ps"],
        &["-C", HOSTILE, "ps"],
        &["--session", HOSTILE, "ps"],
        &["-f", HOSTILE, "up"],
    ] {
        check(&project.envctl(wrong).exits(1));
    }
    project.write("envctl.toml", format!("[services.\"{}\"]\ncmd = \"x\"\n", toml_escaped()));
    check(&project.envctl(&["config", "check"]).exits(1));
}

/// The hostile text as it stands in a TOML string, without a path separator: it is a program's name.
fn toml_escaped() -> String {
    HOSTILE
        .replace('/', "_")
        .chars()
        .map(|c| if c.is_ascii_graphic() && c != '\\' { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
        .collect()
}
