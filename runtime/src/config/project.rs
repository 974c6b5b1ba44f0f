//! Reads the top of the file: the project's own keys, and its units one by one.

use std::path::PathBuf;

use envctl_supervisors::{Name, NameError};

use super::diagnostic::{Diagnostic, Findings, Severity};
use super::logs::LOGS_DEFAULT;
use super::model::Model;
use super::origin::Place;
use super::presets::Catalog;
use super::reader::Reader;
use super::tree::{Entry, Table};
use super::unit::{self, Table as UnitTable};
use super::{environment, group, logs, presets, stop};
use crate::spec::Inherit;

/// Most units of one project: every check after this may be quadratic.
pub const UNITS_MAX: usize = 1000;

/// What an empty file could hold.
const BEGINNING: &str = "begin with
[services.web]
cmd = [\"python3\", \"-m\", \"http.server\", \"${web.port}\"]
port = 8000";

/// Reads the merged tree.
pub(super) fn read(findings: &mut Findings, tree: &Table, preset_dirs: &[PathBuf]) -> Model {
    let mut reader = Reader::new("", tree);
    let name = reader.text(findings, "name").and_then(|text| name(findings, text.value, &text.at));
    let mut references = Vec::new();
    let env = environment::read(findings, &mut reader, &mut references);
    let inherit = environment::inherit(findings, &mut reader).unwrap_or(Inherit::All);
    let logs = LOGS_DEFAULT.with(&logs::read(findings, &mut reader));
    let end_with_daemon = stop::on_daemon_death(findings, &mut reader);
    let supervision = group::supervision(findings, &mut reader);
    let (drafts, index, groups, bad_names) = Default::default();
    let mut model =
        Model { name, env, references, inherit, end_with_daemon, logs, drafts, index, groups, supervision, bad_names };
    let presets = presets::read(findings, &mut reader, preset_dirs);
    units(findings, &mut reader, &presets, &mut model);
    group::read(findings, &mut reader, &mut model);
    reader.finish(findings);
    model
}

/// A text as the nearest good name: `My App!` becomes `my-app`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' | '_' => slug.push(c),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(envctl_supervisors::name::NAME_MAX_BYTES);
    slug.trim_start_matches(['-', '_']).trim_end_matches('-').to_owned()
}

/// Checks a name.
pub(super) fn name(findings: &mut Findings, text: &str, at: &Place) -> Option<Name> {
    match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            bad_name(findings, text, at, &error);
            None
        }
    }
}

fn bad_name(findings: &mut Findings, text: &str, at: &Place, error: &NameError) {
    let slug = slug(text);
    let diagnostic = findings.error("bad-name", at, format!("`{text}` is not a name: {error}"));
    if slug.is_empty() || slug == text {
        diagnostic.hint("write a name such as `web` or `my-api`");
    } else {
        diagnostic.hint(format!("write `{slug}`"));
    }
}

fn units(findings: &mut Findings, reader: &mut Reader<'_>, presets: &Catalog, model: &mut Model) {
    let mut entries: Vec<(UnitTable, &String, &Entry)> = Vec::new();
    for (key, of) in UnitTable::ALL {
        if let Some((table, _)) = reader.table(findings, key) {
            entries.extend(table.iter().map(|(name, entry)| (of, name, entry)));
        }
    }
    entries.sort_by_key(|(_, _, entry)| (entry.key_at.file, entry.key_at.span.start));
    if let Some((_, _, entry)) = entries.get(UNITS_MAX) {
        let message = format!("the project has {} units, at most {UNITS_MAX} are supported", entries.len());
        findings
            .error("too-many", &entry.key_at, message)
            .hint("split the project: each directory may have an envctl.toml of its own");
        entries.truncate(UNITS_MAX);
    }
    if entries.is_empty() {
        no_units(findings);
    }
    for (of, text, entry) in entries {
        let name = name(findings, text, &entry.key_at);
        match name.and_then(|name| unit::read(findings, of, (&name, entry), presets)) {
            Some(draft) => model.add(draft),
            None => model.bad_names.push(text.clone()),
        }
    }
}

/// A file without units is a mistake; a project without any file (requirements on the command line alone) is not.
fn no_units(findings: &mut Findings) {
    if findings.files.iter().next().is_none() {
        return;
    }
    let at = findings.files.main().map(|file| findings.files.position(&Place { file, span: 0..0 }));
    let diagnostic = findings.push(Diagnostic::new("no-units", Severity::Error, "the project has no units"));
    diagnostic.at = at;
    diagnostic.hint(BEGINNING);
}
