//! How much output is kept: `logs`, of the project and of a unit.

use super::diagnostic::Findings;
use super::duration::{format_duration, format_size};
use super::origin::Place;
use super::reader::Reader;
use crate::spec::{LogSpec, LogWish};

/// Log limits unless the file says otherwise.
pub const LOGS_DEFAULT: LogSpec = LogSpec::DEFAULT;
/// One segment that is written, one that is kept.
const SEGMENTS_MIN: u32 = 2;

/// Reads `logs` of whatever `reader` reads.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>) -> LogWish {
    let path = reader.path("logs");
    let Some((keys, at)) = reader.table(findings, "logs") else { return LogWish::default() };
    let mut inner = Reader::new(path.clone(), keys);
    let wish = LogWish {
        max_bytes: inner.size(findings, "max_bytes"),
        segment_bytes: inner.size(findings, "segment_bytes"),
        max_segments: segments(findings, &mut inner),
        max_age: inner.span(findings, "max_age"),
        segment_age: inner.span(findings, "segment_age"),
        compress: inner.boolean(findings, "compress"),
    };
    inner.finish(findings);
    check_sizes(findings, &wish, &path, at);
    check_ages(findings, &wish, &path, at);
    wish
}

fn segments(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<u32> {
    let count = reader.count(findings, "max_segments")?;
    if count < SEGMENTS_MIN {
        let at = &reader.node("max_segments")?.at;
        let message = format!("{} must be {SEGMENTS_MIN} or more", reader.path("max_segments"));
        let hint = format!("write max_segments = {SEGMENTS_MIN}: one is written while the other is kept");
        findings.error("out-of-range", at, message).hint(hint);
        return None;
    }
    Some(count)
}

fn check_sizes(findings: &mut Findings, wish: &LogWish, path: &str, at: &Place) {
    let max_bytes = wish.max_bytes.unwrap_or(LOGS_DEFAULT.max_bytes);
    // A smaller whole makes the usual segments smaller; only what is written can be wrong.
    let segment_bytes = wish.segment_bytes.unwrap_or(LOGS_DEFAULT.segment_bytes.min(max_bytes));
    if segment_bytes == 0 || wish.max_bytes.is_some() && segment_bytes > max_bytes {
        let hint = match max_bytes {
            0 => format!("write max_bytes = \"{}\"", format_size(LOGS_DEFAULT.max_bytes)),
            max => format!("write segment_bytes = \"{}\"", format_size(max.min(LOGS_DEFAULT.segment_bytes))),
        };
        let message = format!("`segment_bytes` of {path} must be from 1B to `max_bytes`");
        findings.error("out-of-range", at, message).hint(hint);
    }
}

fn check_ages(findings: &mut Findings, wish: &LogWish, path: &str, at: &Place) {
    if let (Some(segment_age), Some(max_age)) = (wish.segment_age, wish.max_age)
        && segment_age > max_age
    {
        let message = format!("`segment_age` of {path} must not be longer than `max_age`");
        let hint = format!("write segment_age = \"{}\", or leave it away", format_duration(max_age / 4));
        findings.error("out-of-range", at, message).hint(hint);
    }
}
