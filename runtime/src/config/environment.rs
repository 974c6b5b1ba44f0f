//! Environments of a project or a unit: `env` tables over `.env` files, and references in their values.

use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Findings};
use super::env_file;
use super::load::read_text;
use super::model::{Environment, Reference, Usage};
use super::origin::{At, Place};
use super::reader::{Reader, Wanted, table, text, wrong_type};
use super::template::{self, TemplateError};
use super::tree::{Node, Value};
use crate::spec::{Inherit, Piece, Sourced, Template};

/// The one variable that is never a user's: the envelope.
const RESERVED: &str = "ENVCTL_RT_VARS";

/// Names tried in the hint about a missing `.env` file.
const EXAMPLES: [&str; 4] = ["example", "sample", "template", "dist"];

const INHERIT: Wanted = Wanted {
    what: "true, false or an array of variable names",
    example: "true, false or the names, as in [\"PATH\", \"HOME\"]",
};

const ENV_FILE: Wanted = Wanted {
    what: "a path, an array of paths or a table",
    example: "\".env\", [\".env\", \"more.env\"] or { path = \".env\", optional = true }",
};

/// Reads `env` and `env_file`; the table wins over the files.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>, references: &mut Vec<Reference>) -> Environment {
    let mut env = Environment::new();
    if let Some(node) = reader.node("env_file") {
        let path = reader.path("env_file");
        for file in env_files(findings, node, &path) {
            read_env_file(findings, &file, &mut env);
        }
    }
    let path = reader.path("env");
    let Some((entries, _)) = reader.table(findings, "env") else {
        return env;
    };
    for (key, entry) in entries {
        if !name_is_good(findings, key, &entry.key_at) {
            continue;
        }
        if let Some(value) = text(findings, &entry.node, &format!("`{key}` in {path}")) {
            let filled = template_at(findings, &value, Usage::Environment, references);
            env.extend(filled.map(|template| (key.clone(), template)));
        }
    }
    env
}

/// Reads `inherit`.
pub(super) fn inherit(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<Inherit> {
    let node = reader.node("inherit")?;
    match &node.value {
        Value::Boolean(true) => Some(Inherit::All),
        Value::Boolean(false) => Some(Inherit::Nothing),
        Value::Array(_) => {
            let names = reader.texts(findings, "inherit")?;
            Some(Inherit::Names(names.into_iter().map(|name| name.value.to_owned()).collect()))
        }
        _ => wrong_type(findings, node, &reader.path("inherit"), &INHERIT),
    }
}

/// Reads a text with `${unit.attribute}` in it and notes its references.
pub(super) fn template_at(
    findings: &mut Findings,
    text: &At<&str>,
    usage: Usage,
    references: &mut Vec<Reference>,
) -> Option<Sourced<Template>> {
    match template::parse(text.value) {
        Ok(template) => {
            note_references(findings, &template, &text.at, usage, references);
            Some(Sourced { value: template, origin: findings.files.origin(&text.at) })
        }
        Err(error) => {
            bad_template(findings, text, &error);
            None
        }
    }
}

fn note_references(
    findings: &Findings,
    template: &Template,
    at: &Place,
    usage: Usage,
    references: &mut Vec<Reference>,
) {
    // Each search goes on where the last one ended, and none follows one that failed: a long text costs linear time.
    let mut rest = Some(at.clone());
    for piece in &template.pieces {
        if let Piece::Attribute { unit, attribute } = piece {
            let needle = format!("${{{unit}.{attribute}}}");
            let found = rest.as_ref().and_then(|rest| findings.files.find(rest, &needle));
            rest = found.as_ref().map(|found| Place { file: at.file, span: found.span.end..at.span.end });
            let at = found.unwrap_or_else(|| at.clone());
            references.push(Reference { unit: unit.clone(), attribute: attribute.clone(), at, usage });
        }
    }
}

fn bad_template(findings: &mut Findings, text: &At<&str>, error: &TemplateError) {
    let needle = match error {
        TemplateError::Unclosed { offset } => text.value.get(*offset..).unwrap_or("${").to_owned(),
        TemplateError::NoAttribute { text } | TemplateError::BadUnit { text, .. } => format!("${{{text}}}"),
    };
    let at = findings.files.within(&text.at, &needle);
    findings.error("bad-template", &at, error.to_string()).hint(
        "`${unit.attribute}` is filled in here, as in `${api.port}`; `$${` is a literal `${`; variables belong in `sh`",
    );
}

fn name_is_good(findings: &mut Findings, key: &str, at: &Place) -> bool {
    if key == RESERVED {
        findings
            .error("bad-env-name", at, format!("`{RESERVED}` is set by envctl itself"))
            .hint("take it away, or give the variable another name");
    } else if key.is_empty() || key.contains(['=', '\0']) {
        findings
            .error("bad-env-name", at, format!("{key:?} cannot be the name of a variable"))
            .hint("write a name such as DATABASE_URL, and its value behind it");
    } else {
        return true;
    }
    false
}

/// A `.env` file that is to be read.
struct EnvFile {
    path: At<PathBuf>,
    optional: bool,
}

fn env_files(findings: &mut Findings, node: &Node, path: &str) -> Vec<EnvFile> {
    let items = match &node.value {
        Value::Array(items) => items.iter().collect(),
        _ => vec![node],
    };
    items.into_iter().filter_map(|item| env_file_of(findings, item, path)).collect()
}

fn env_file_of(findings: &mut Findings, node: &Node, path: &str) -> Option<EnvFile> {
    let (file, optional) = match &node.value {
        Value::Table(_) => {
            let (entries, _) = table(findings, node, path)?;
            let mut reader = Reader::new(path.to_owned(), entries);
            let file = reader.text(findings, "path");
            let optional = reader.boolean(findings, "optional").unwrap_or(false);
            reader.finish(findings);
            (file?, optional)
        }
        Value::Text(_) => (text(findings, node, path)?, false),
        _ => return wrong_type(findings, node, path, &ENV_FILE),
    };
    let full = findings.root().join(file.value);
    Some(EnvFile { path: At { value: full, at: file.at }, optional })
}

fn read_env_file(findings: &mut Findings, file: &EnvFile, env: &mut Environment) {
    let At { value: path, at } = &file.path;
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.is_missing() => {
            if !file.optional {
                missing(findings, path, at);
            }
            return;
        }
        Err(error) => {
            findings.error("unreadable", at, error.to_string()).hint(error.hint());
            return;
        }
    };
    let index = findings.files.add(path, text.clone());
    let (entries, errors) = env_file::parse(&text);
    for error in errors {
        findings.error("bad-env-file", &Place { file: index, span: error.span }, error.message).hint(error.hint);
    }
    for entry in entries {
        let origin = findings.files.origin(&Place { file: index, span: entry.span });
        if entry.key != RESERVED {
            env.insert(entry.key, Sourced { value: Template::literal(entry.value), origin });
        }
    }
}

fn missing(findings: &mut Findings, path: &Path, at: &Place) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let example =
        EXAMPLES.iter().map(|ending| format!("{name}.{ending}")).find(|name| path.with_file_name(name).exists());
    let diagnostic: &mut Diagnostic = findings.error("missing-file", at, format!("the env file `{name}` is not there"));
    diagnostic.hint(match example {
        Some(example) => format!("copy `{example}` to `{name}`, or write {{ path = \"…\", optional = true }}"),
        None => "if it may be absent, write { path = \"…\", optional = true }".to_owned(),
    });
}
