//! The keys of a unit that its supervisor obeys: `restart`, `backoff`, `intensity` and their kin.

use envctl_supervisors::spec::{BACKOFF_DEFAULT, Backoff, ChildSpec, Escalate, Intensity, Restart};

use super::diagnostic::Findings;
use super::duration::format_duration;
use super::nearest::nearest;
use super::origin::At;
use super::reader::{Reader, Wanted, wrong_type};
use super::tree::Value;
use crate::words::escalate_text;

/// Spellings of the restart types; the first of each pair is OTP's.
const RESTARTS: [(&str, Restart); 6] = [
    ("permanent", Restart::Permanent),
    ("transient", Restart::Transient),
    ("temporary", Restart::Temporary),
    ("always", Restart::Permanent),
    ("on-failure", Restart::Transient),
    ("never", Restart::Temporary),
];

/// What giving up can mean.
const ESCALATIONS: [Escalate; 3] = [Escalate::Isolate, Escalate::Group, Escalate::Project];

const BACKOFF: Wanted =
    Wanted { what: "\"none\" or a table", example: "\"none\" or { base = \"200ms\", max = \"30s\" }" };

/// Reads everything but the edges and `stop` into `child`.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>, child: &mut ChildSpec) {
    child.restart = choice(findings, reader, "restart", &RESTARTS).unwrap_or(child.restart);
    child.intensity = intensity(findings, reader, child.intensity);
    child.stable_after = reader.duration(findings, "stable_after").unwrap_or(child.stable_after);
    child.critical = reader.boolean(findings, "critical").unwrap_or(child.critical);
    if let Some(lives) = reader.count(findings, "unstable") {
        child.unstable_max = (lives > 0).then_some(lives);
    }
    if let Some(backoff) = backoff(findings, reader) {
        child.backoff = backoff;
        if backoff == Backoff::None {
            child.unstable_max = None;
        }
    }
    if let Some(escalate) = escalate(findings, reader) {
        child.escalate = escalate;
    }
}

/// Reads `escalate`.
pub(super) fn escalate(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<Escalate> {
    choice(findings, reader, "escalate", &ESCALATIONS.map(|escalate| (escalate_text(escalate), escalate)))
}

/// Reads `intensity` and `period` over `otherwise`.
pub(super) fn intensity(findings: &mut Findings, reader: &mut Reader<'_>, otherwise: Intensity) -> Intensity {
    Intensity {
        restarts: reader.count(findings, "intensity").unwrap_or(otherwise.restarts),
        period: reader.span(findings, "period").unwrap_or(otherwise.period),
    }
}

/// The keys of a budget that stand in the table, with their places.
pub(super) fn budget_keys(reader: &Reader<'_>) -> Vec<At<&'static str>> {
    let written = |key: &'static str| Some(At { value: key, at: reader.key_at(key)?.clone() });
    ["intensity", "period", "escalate"].into_iter().filter_map(written).collect()
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    findings: &mut Findings,
    reader: &mut Reader<'_>,
    key: &'static str,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let word = reader.text(findings, key)?;
    one_of(findings, &word, &reader.path(key), choices)
}

/// The choice that `word` names.
pub(super) fn one_of<T: Copy>(
    findings: &mut Findings,
    word: &At<&str>,
    path: &str,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let found = choices.iter().find(|(name, _)| *name == word.value).map(|(_, choice)| *choice);
    if found.is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match nearest(word.value, names.iter().copied()) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!("one of {}", names.join(", ")),
        };
        findings.error("bad-value", &word.at, format!("{path} cannot be \"{}\"", word.value)).hint(hint);
    }
    found
}

fn backoff(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<Backoff> {
    let node = reader.node("backoff")?;
    let path = reader.path("backoff");
    match &node.value {
        Value::Text(word) if word == "none" => Some(Backoff::None),
        Value::Table(table) => {
            let Backoff::Exponential { base, max } = BACKOFF_DEFAULT else { return None };
            let mut inner = Reader::new(path, table);
            let written_max = inner.span(findings, "max");
            let base = inner.span(findings, "base").unwrap_or(base);
            let max = written_max.unwrap_or(max.max(base));
            if max < base {
                let message = format!("`max` of {} is less than its `base`", reader.path("backoff"));
                let hint = format!("write max = \"{0}\" or longer, or a `base` below it", format_duration(base));
                findings.error("bad-value", &node.at, message).hint(hint);
            }
            inner.finish(findings);
            Some(Backoff::Exponential { base, max })
        }
        _ => wrong_type(findings, node, &path, &BACKOFF),
    }
}
