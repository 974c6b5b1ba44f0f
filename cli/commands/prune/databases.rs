//! `envctl prune --databases`: databases on shared servers whose checkouts are gone. Nobody else would ever drop them.

use std::path::PathBuf;

use envctl_runtime::project::share::{DropLater, Forgotten, forgotten, give_up};
use serde::Serialize;

use super::Args;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::confirm::confirm;
use crate::output::table::{Cell, Table};

#[derive(Serialize)]
struct Body {
    dry_run: bool,
    databases: Vec<Gone>,
}

#[derive(Serialize)]
struct Gone {
    database: String,
    root: PathBuf,
    server: PathBuf,
}

pub(super) fn prune(context: &Context, args: &Args) -> Result<Exit, CliError> {
    let places = context.places()?;
    let found = forgotten(&places);
    if !context.output.json {
        show(context, &found)?;
    }
    if !args.dry_run && !found.is_empty() {
        let question = format!("drop {} databases for good?", found.len());
        if !args.yes && !confirm(context, &question, "envctl prune --databases --yes")? {
            return Ok(Exit::Interrupted);
        }
        for one in &found {
            let told = match give_up(&places, one).map_err(|error| failed(one, &error))? {
                DropLater::ServerDropped => "was dropped with the data of its server",
                DropLater::Noted | DropLater::Nothing => "goes with the next one that is dropped on its server",
            };
            if !context.output.json {
                context.output.say(&format!("{} {told}", one.database));
            }
        }
    }
    if context.output.json {
        let gone = |one: Forgotten| Gone { database: one.database, root: one.root, server: one.server };
        let body = Body { dry_run: args.dry_run, databases: found.into_iter().map(gone).collect() };
        context.output.object("prune-databases", true, &body)?;
    }
    Ok(Exit::Ok)
}

fn show(context: &Context, found: &[Forgotten]) -> Result<(), CliError> {
    if found.is_empty() {
        context.output.say("no database is of a checkout that is gone");
        return Ok(());
    }
    let mut table = Table::new(&["DATABASE", "CHECKOUT", "SERVER"]);
    for one in found {
        let path = |path: &PathBuf| Cell::from(path.to_string_lossy().into_owned());
        table.row(vec![Cell::from(one.database.as_str()), path(&one.root), path(&one.server)]);
    }
    context.output.write(&table.render(context.output.data))?;
    Ok(())
}

fn failed(one: &Forgotten, error: &str) -> CliError {
    CliError::new("in-use", format!("{} is not dropped: failed to {error}", one.database))
        .hint("`envctl ps --all` shows who runs on it")
}
