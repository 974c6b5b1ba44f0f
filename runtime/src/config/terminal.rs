//! Reads `tty`: whether a service or a task has a terminal, and of what size.

use envctl_actors::process::WindowSize;

use super::diagnostic::Findings;
use super::reader::{Reader, Wanted, wrong_type};
use super::tree::{Node, Value};

/// Most rows or columns: far beyond every screen, so a larger number is a slip.
const SIDE_MAX: u32 = 10_000;

const TTY: Wanted = Wanted { what: "true, false or a table", example: "true or { rows = 40, columns = 120 }" };

/// Reads `tty`. `None`: no terminal.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<WindowSize> {
    let node = reader.node("tty")?;
    let path = reader.path("tty");
    match &node.value {
        Value::Boolean(false) => None,
        Value::Boolean(true) => Some(WindowSize::default()),
        Value::Table(keys) => {
            let mut inner = Reader::new(path, keys);
            let size = WindowSize::default();
            let rows = side(findings, &mut inner, "rows", size.rows);
            let columns = side(findings, &mut inner, "columns", size.columns);
            inner.finish(findings);
            Some(WindowSize { rows, columns })
        }
        _ => wrong_type(findings, node, &path, &TTY),
    }
}

/// A requirement talks to its clients, not to a terminal.
pub(super) fn refuse(findings: &mut Findings, reader: &mut Reader<'_>) {
    if let (Some(Node { at, .. }), path) = (reader.node("tty"), reader.path("tty")) {
        findings
            .error("no-terminal", at, format!("{path}: a requirement has no terminal"))
            .hint("take `tty` away; services and tasks may have one");
    }
}

fn side(findings: &mut Findings, reader: &mut Reader<'_>, key: &'static str, otherwise: u16) -> u16 {
    let Some(count) = reader.count(findings, key) else { return otherwise };
    match u16::try_from(count) {
        Ok(side) if (1..=SIDE_MAX).contains(&count) => side,
        _ => {
            if let Some(node) = reader.node(key) {
                let message = format!("{} must be from 1 to {SIDE_MAX}", reader.path(key));
                findings.error("out-of-range", &node.at, message).hint(format!("write {otherwise}"));
            }
            otherwise
        }
    }
}
