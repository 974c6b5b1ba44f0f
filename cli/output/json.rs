//! The shape of `--json`: one object per line, always with `schema_version`, `kind` and `ok` in front.

use std::fmt::Write as _;

use envctl_actors::log_stream::is_harmless;
use envctl_runtime::control::view::SCHEMA_VERSION;
use serde::Serialize;

use crate::error::CliError;

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema_version: u32,
    kind: &'a str,
    ok: bool,
    #[serde(flatten)]
    body: &'a T,
}

/// The body of an error object.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: Told<'a>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    details: &'a [String],
}

// === impl ErrorBody ===

impl<'a> From<&'a CliError> for ErrorBody<'a> {
    fn from(error: &'a CliError) -> Self {
        let CliError { code, message, hint, details, .. } = error;
        Self { error: Told { code, message, hint: hint.as_deref(), details } }
    }
}

/// One object with its newline. `body` must be a struct or a map.
pub(crate) fn line(kind: &str, ok: bool, body: &impl Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(&Envelope { schema_version: SCHEMA_VERSION, kind, ok, body })?;
    let mut text = plain(text);
    text.push('\n');
    Ok(text)
}

/// JSON whose strings cannot drive a terminal: what serde leaves as it is, C1 controls and characters that turn text round, is escaped.
fn plain(text: String) -> String {
    if text.chars().all(is_harmless) {
        return text;
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmless(c) {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_says_its_version_its_kind_and_whether_all_is_well() {
        let body = serde_json::json!({"project": "shop"});
        assert_eq!(
            line("ps", true, &body).unwrap(),
            "{\"schema_version\":1,\"kind\":\"ps\",\"ok\":true,\"project\":\"shop\"}\n"
        );
        let body = serde_json::json!({"m": "\u{9b}\u{202e}\u{e0041}\u{7f}ä"});
        let text = line("x", true, &body).unwrap();
        assert!(text.contains(r#""m":"\u009b\u202e\udb40\udc41\u007fä""#), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["m"], body["m"]);
        let error = CliError::new("config", "bad").hint("fix");
        let text = line("error", false, &ErrorBody::from(&error)).unwrap();
        assert!(text.ends_with("\"error\":{\"code\":\"config\",\"message\":\"bad\",\"hint\":\"fix\"}}\n"), "{text}");
    }
}
