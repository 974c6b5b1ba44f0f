//! `envctl config`.

use std::path::PathBuf;

use envctl_runtime::config::{self, DiagnosticView, Diagnostics, Severity};
use serde::Serialize;

use super::explain::outside;
use crate::context::{Context, config_error};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// Look at the configuration
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Check(CheckArgs),
    Show(ShowArgs),
}

/// Check the configuration; starts nothing
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {}

/// Show every value in effect and where it comes from
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Show secrets
    #[arg(long)]
    pub(crate) reveal: bool,
}

#[derive(Serialize)]
struct Checked {
    project: Option<String>,
    files: Vec<PathBuf>,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<DiagnosticView>,
}

#[derive(Serialize)]
struct Shown {
    found: bool,
    project: Option<String>,
    root: Option<PathBuf>,
    files: Vec<PathBuf>,
    values: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    key: String,
    /// As TOML text.
    value: String,
    origin: String,
    secret: bool,
}

pub(crate) fn check(context: &Context, _args: &CheckArgs) -> Result<Exit, CliError> {
    let checked = context.source().and_then(|source| config::load(&source));
    if context.output.json {
        return check_json(context, checked);
    }
    let loaded = checked.map_err(config_error)?;
    if !loaded.warnings.is_empty() {
        context.output.say(harmless(&loaded.warnings.to_string()).trim_end());
    }
    let (name, units) = (&loaded.spec.name, loaded.spec.units.len());
    context.output.line(&format!("{name}: the configuration of {units} units is sound"))?;
    Ok(Exit::Ok)
}

/// The findings are the answer, also when there are errors: one object, no second one for the failure.
fn check_json(context: &Context, checked: Result<config::Loaded, Diagnostics>) -> Result<Exit, CliError> {
    let (project, files, found) = match checked {
        Ok(loaded) => (Some(loaded.spec.name.to_string()), loaded.spec.files, loaded.warnings),
        Err(found) => (None, found.sources.iter().map(|source| source.path.clone()).collect(), found),
    };
    let count = |severity| found.list.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let diagnostics = found.list.iter().map(config::Diagnostic::view).collect();
    let fine = project.is_some();
    context.output.object("config-check", fine, &Checked { project, files, errors, warnings, diagnostics })?;
    Ok(Exit::ok_if(fine))
}

pub(crate) fn show(context: &Context, args: &ShowArgs) -> Result<Exit, CliError> {
    if context.is_outside() {
        let nothing = Shown { found: false, project: None, root: None, files: Vec::new(), values: Vec::new() };
        return outside(context, "config-show", &nothing);
    }
    let loaded = context.load()?.loaded;
    let spec = &loaded.spec;
    let effective = loaded.effective();
    let values = effective.iter().map(|value| Value {
        key: value.key.clone(),
        value: if args.reveal { value.value.clone() } else { value.masked() },
        origin: value.origin_text(&spec.root),
        secret: value.secret,
    });
    let values: Vec<Value> = values.collect();
    if context.output.json {
        let (project, root) = (Some(spec.name.to_string()), Some(spec.root.clone()));
        context.output.object(
            "config-show",
            true,
            &Shown { found: true, project, root, files: spec.files.clone(), values },
        )?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for Value { key, value, origin, .. } in &values {
        let origin = context.output.data.dim(&format!("# {}", harmless(origin)));
        text.push_str(&format!("{} = {}  {origin}\n", harmless(key), harmless(value)));
    }
    context.output.write(&text)?;
    Ok(Exit::Ok)
}
