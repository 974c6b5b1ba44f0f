//! What a service, a task or a probe runs, and where: `cmd`, `sh`, `dir`.

use std::path::{Component, Path, PathBuf};

use super::diagnostic::Findings;
use super::environment::template_at;
use super::model::{Reference, Usage};
use super::origin::{At, Place};
use super::reader::{Reader, Wanted, text, texts, wrong_type};
use super::tree::{Node, Value};
use crate::spec::{Program, Run, Sourced, Template};

/// Words that mean something to a shell and nothing to a program.
const SHELL_WORDS: [&str; 8] = ["&&", "||", "|", ";", ">", ">>", "<", "&"];

const COMMAND: Wanted =
    Wanted { what: "an array of strings or a string", example: "[\"program\", \"argument\"] or \"program argument\"" };

/// Reads `cmd` or `sh`, and `dir`. `at` is where the unit stands; the shell line comes back for the checks.
pub(super) fn read(
    findings: &mut Findings,
    reader: &mut Reader<'_>,
    at: &Place,
    references: &mut Vec<Reference>,
) -> Option<Program> {
    let dir = reader.text(findings, "dir");
    let dir = match dir {
        Some(written) => inside_project(findings, &written),
        None => Some(findings.root().to_path_buf()),
    };
    let (cmd, sh) = (reader.node("cmd"), reader.node("sh"));
    let run = match (cmd, sh) {
        (Some(node), None) => command(findings, node, &reader.path("cmd"), references),
        (None, Some(node)) => shell(findings, node, &reader.path("sh")),
        (Some(_), Some(node)) => {
            let message = format!("{} stands beside `cmd`", reader.path("sh"));
            findings.error("two-commands", &node.at, message).hint("keep one: `cmd` runs a program, `sh` a shell line");
            None
        }
        (None, None) => {
            findings
                .error("no-command", at, format!("{} has no command", reader.what()))
                .hint("add `cmd = [\"program\", \"argument\"]` or `sh = \"a shell line\"`");
            None
        }
    };
    Some(Program { run: run?, dir: dir?, tty: None })
}

/// Reads a shell line, which is never touched: the shell has the variables.
pub(super) fn shell(findings: &mut Findings, node: &Node, path: &str) -> Option<Run> {
    let line = text(findings, node, path)?;
    if line.value.trim().is_empty() {
        findings
            .error("no-command", &line.at, format!("{path} is empty"))
            .hint("write the line to run, as in \"make serve\"");
        return None;
    }
    Some(Run::Shell(line.value.to_owned()))
}

/// Reads an argument list: an array, or a string that is split into words.
pub(super) fn command(
    findings: &mut Findings,
    node: &Node,
    path: &str,
    references: &mut Vec<Reference>,
) -> Option<Run> {
    let words: Vec<At<String>> = match &node.value {
        Value::Array(_) => texts(findings, node, path)?.into_iter().map(owned).collect(),
        Value::Text(_) => split(findings, node, path)?,
        _ => return wrong_type(findings, node, path, &COMMAND),
    };
    if words.first().is_none_or(|program| program.value.is_empty()) {
        findings
            .error("no-command", &node.at, format!("{path} names no program"))
            .hint("write the program first, as in [\"python3\", \"app.py\"]");
        return None;
    }
    let read: Vec<Sourced<Template>> = words
        .iter()
        .filter_map(|word| {
            let word = At { value: word.value.as_str(), at: word.at.clone() };
            template_at(findings, &word, Usage::Argument, references)
        })
        .collect();
    (read.len() == words.len()).then_some(Run::Command(read))
}

/// Splits a command line into words by the shell's quoting rules, and by nothing else of the shell.
fn split(findings: &mut Findings, node: &Node, path: &str) -> Option<Vec<At<String>>> {
    let line = text(findings, node, path)?;
    let Ok(words) = shell_words::split(line.value) else {
        findings
            .error("bad-value", &line.at, format!("{path} has a quote that is never closed"))
            .hint("close the quote, or write an array: [\"program\", \"it's one argument\"]");
        return None;
    };
    if let Some(word) = words.iter().find(|word| SHELL_WORDS.contains(&word.as_str())) {
        let at = findings.files.within(&line.at, &format!(" {word} "));
        findings
            .warning("shell-in-cmd", &at, format!("{path} runs no shell: `{word}` is passed to the program"))
            .hint("write `sh = \"…\"` for a shell line");
    }
    Some(words.into_iter().map(|word| At { value: word, at: line.at.clone() }).collect())
}

/// The directory `written` means; an error if it leaves the project, also through a link.
fn inside_project(findings: &mut Findings, written: &At<&str>) -> Option<PathBuf> {
    let root = findings.root().to_path_buf();
    let dir = normal(&root.join(written.value));
    let real = dir.canonicalize();
    let outside = !dir.starts_with(&root) || real.as_ref().is_ok_and(|real| !real.starts_with(&root));
    if outside {
        findings
            .error("outside", &written.at, format!("the directory \"{}\" is outside the project", written.value))
            .hint("`dir` is relative to the project's directory and stays in it");
        return None;
    }
    match real {
        Ok(real) if !real.is_dir() => {
            let message = format!("\"{}\" is not a directory", written.value);
            let above = Path::new(written.value).parent().filter(|above| !above.as_os_str().is_empty());
            let hint = format!("write the directory it is in: \"{}\"", above.unwrap_or(Path::new(".")).display());
            findings.error("not-a-directory", &written.at, message).hint(hint);
            None
        }
        Ok(_) => Some(dir),
        Err(_) => {
            findings.warning("missing-file", &written.at, format!("the directory \"{}\" is not there", written.value));
            Some(dir)
        }
    }
}

/// `path` without `.` and `..`, by its words alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

fn owned(text: At<&str>) -> At<String> {
    At { value: text.value.to_owned(), at: text.at }
}
