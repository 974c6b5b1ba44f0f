//! A log line as JSON: the envelope of `logs --json`, described in `docs/reference/logs.md`.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envctl_actors::log_stream::{Line, Stream};
use envctl_runtime::journal;
use serde::Serialize;

use super::json;

/// Where lines come from, for those who read them elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    session: String,
    project: String,
    lanes: HashMap<String, String>,
    /// The journal, which knows the runs' ids.
    events: PathBuf,
    /// Runs by their number in the log.
    runs: HashMap<u32, Option<String>>,
}

/// What was lost before a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Line feeds among them; `None` if they were not counted.
    pub(crate) lines: Option<u64>,
}

#[derive(Serialize)]
struct Record<'a> {
    time: String,
    lane: &'a str,
    session: &'a str,
    project: &'a str,
    run: Option<&'a str>,
    unit: &'a str,
    incarnation: u32,
    stream: &'static str,
    sequence: u64,
    partial: bool,
    dropped: Option<u64>,
    dropped_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_base64: Option<String>,
}

// === impl Origin ===

impl Origin {
    /// `lanes`, by unit: `service`, `task` or `requirement`; a unit that is not known any more counts as a service. `events`: the
    /// journal.
    pub(crate) fn new(session: String, project: String, lanes: HashMap<String, String>, events: PathBuf) -> Self {
        Self { session, project, lanes, events, runs: HashMap::new() }
    }

    /// One object with its newline.
    pub(super) fn line(&mut self, unit: &str, line: &Line, dropped: Dropped) -> Result<String, serde_json::Error> {
        self.learn(line.life.run);
        let message = std::str::from_utf8(&line.bytes).ok();
        let record = Record {
            time: microseconds(line.time_ns),
            lane: self.lanes.get(unit).map_or("service", String::as_str),
            session: &self.session,
            project: &self.project,
            run: self.runs.get(&line.life.run).and_then(Option::as_deref),
            unit,
            incarnation: line.life.incarnation,
            stream: match line.stream {
                Stream::Out => "out",
                Stream::Err => "err",
            },
            sequence: line.written_before,
            partial: line.partial,
            dropped: dropped.lines,
            dropped_bytes: dropped.bytes,
            message,
            message_base64: message.is_none().then(|| STANDARD.encode(&line.bytes)),
        };
        json::line("log", true, &record)
    }

    /// Finds the id of a run that is met for the first time. A journal that is gone knows none.
    fn learn(&mut self, number: u32) {
        if self.runs.contains_key(&number) {
            return;
        }
        self.runs.insert(number, None);
        for event in journal::events(&self.events).into_iter().flatten().filter(|event| event.event == "run.started") {
            let number = event.details.get("log_run").and_then(serde_json::Value::as_u64);
            if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
                self.runs.insert(number, Some(event.run));
            }
        }
    }
}

// === impl Dropped ===

impl Dropped {
    /// Nothing.
    pub(crate) const NONE: Self = Self { bytes: 0, lines: Some(0) };

    /// With what was lost after it.
    pub(crate) fn and(self, bytes: u64, lines: Option<u64>) -> Self {
        let lines = self.lines.zip(lines).map(|(before, more)| before.saturating_add(more));
        Self { bytes: self.bytes.saturating_add(bytes), lines }
    }
}

/// RFC 3339 with microseconds.
fn microseconds(time_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use envctl_actors::log_stream::Life;

    use super::*;

    fn sample(bytes: &[u8]) -> Line {
        Line {
            time_ns: 1_700_000_000_123_456_789,
            sequence: 3,
            written_before: 4096,
            life: Life { run: 7, incarnation: 2 },
            stream: Stream::Err,
            bytes: bytes.to_vec(),
            partial: false,
        }
    }

    fn origin() -> Origin {
        Origin {
            session: "default".to_owned(),
            project: "shop".to_owned(),
            lanes: HashMap::from([("api".to_owned(), "service".to_owned())]),
            events: PathBuf::new(),
            runs: HashMap::from([(7, Some("20261121T102030Z-3f9a".to_owned()))]),
        }
    }

    /// The golden lines: a field may be added, none may go or change its meaning.
    #[test]
    fn a_line_is_one_object_with_everything_that_is_known_of_it() {
        assert_eq!(
            origin().line("api", &sample(b"it \"works\"\x1b[0m"), Dropped::NONE).unwrap(),
            concat!(
                r#"{"schema_version":1,"kind":"log","ok":true,"time":"2023-11-14T22:13:20.123456Z","lane":"service","#,
                r#""session":"default","project":"shop","run":"20261121T102030Z-3f9a","unit":"api","incarnation":2,"#,
                r#""stream":"err","sequence":4096,"partial":false,"dropped":0,"dropped_bytes":0,"#,
                r#""message":"it \"works\"\u001b[0m"}"#,
                "\n"
            )
        );
        let text = origin().line("gone", &sample(b"caf\xe9"), Dropped::NONE.and(80, None)).unwrap();
        assert!(text.ends_with("\"dropped\":null,\"dropped_bytes\":80,\"message_base64\":\"Y2Fm6Q==\"}\n"), "{text}");
    }

    #[test]
    fn losses_add_up_and_one_that_nobody_counted_makes_the_sum_unknown() {
        assert_eq!(Dropped::NONE.and(10, Some(1)).and(20, Some(2)), Dropped { bytes: 30, lines: Some(3) });
        assert_eq!(Dropped::NONE.and(10, None).and(20, Some(2)), Dropped { bytes: 30, lines: None });
    }
}
