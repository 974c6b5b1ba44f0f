//! `envctl prune --templates`: data of first starts that is kept to be copied. It is a cache: whoever misses it makes it anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::super::ps::{size, span};
use super::{Args, now};
use crate::context::Context;
use crate::environment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::confirm::confirm;
use crate::output::table::{Cell, Table};

#[derive(Serialize)]
struct Body {
    dry_run: bool,
    templates: Vec<Kept>,
    bytes: u64,
}

/// One that goes.
#[derive(Serialize)]
struct Kept {
    preset: String,
    path: PathBuf,
    bytes: u64,
    unused_s: u64,
}

pub(super) fn prune(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let templates = find(args.older_than);
    let bytes = templates.iter().map(|kept| kept.bytes).sum();
    let body = Body { dry_run: args.dry_run, templates, bytes };
    if !context.output.json {
        show(context, &body)?;
    }
    if !args.dry_run && !body.templates.is_empty() {
        let question = format!("delete {} templates, {}?", body.templates.len(), size(bytes));
        if !args.yes && !confirm(context, &question, "envctl prune --templates --yes")? {
            return Ok(Exit::Interrupted);
        }
        for kept in &body.templates {
            fs::remove_dir_all(&kept.path)
                .map_err(|error| CliError::new("io", format!("{} is not deleted: {error}", kept.path.display())))?;
        }
    }
    if context.output.json {
        context.output.object("prune-templates", true, &body)?;
    }
    Ok(Exit::Ok)
}

fn find(older_than: Duration) -> Vec<Kept> {
    let get = |name: &str| environment::whole().find(|(known, _)| known == name).map(|(_, value)| value);
    let Some(dir) = envctl_runtime::project::requirements::cache_dir_of(get) else { return Vec::new() };
    let mut kept = Vec::new();
    for preset in entries(&dir) {
        for path in entries(&preset) {
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let unused = written.ok().and_then(|at| now().duration_since(at).ok()).unwrap_or_default();
            if unused >= older_than {
                let preset = preset.file_name().unwrap_or_default().to_string_lossy().into_owned();
                kept.push(Kept { preset, bytes: bytes_in(&path), unused_s: unused.as_secs(), path });
            }
        }
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    kept
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let directories = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    directories.filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

fn bytes_in(dir: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    fs::read_dir(dir).into_iter().flatten().flatten().map(size).sum()
}

fn show(context: &Context, body: &Body) -> Result<(), CliError> {
    if body.templates.is_empty() {
        context.output.say("no template is old enough");
        return Ok(());
    }
    let mut table = Table::new(&["PRESET", "SIZE", "UNUSED", "PATH"]);
    for kept in &body.templates {
        table.row(vec![
            Cell::from(kept.preset.as_str()),
            size(kept.bytes).into(),
            span(kept.unused_s).into(),
            kept.path.to_string_lossy().into_owned().into(),
        ]);
    }
    context.output.write(&table.render(context.output.data))?;
    Ok(())
}
