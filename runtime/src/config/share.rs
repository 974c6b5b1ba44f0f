//! Reads who shares a requirement's server: `share` and `template`.

use envctl_actors::requirement::preset::Preset;
use envctl_actors::requirement::preset::model::Databases;

use super::diagnostic::Findings;
use super::reader::Reader;
use super::supervise::choice;
use super::tree::Value;
use crate::spec::{Among, Driver, ShareSpec};

/// What is written, and what it is written of.
pub(super) struct Wish<'a> {
    /// Who shares it; `None`: nobody.
    pub(super) among: Option<Among>,
    /// `template`.
    pub(super) template: Option<String>,
    /// `driver`.
    pub(super) driver: Driver,
    /// The preset.
    pub(super) preset: &'a Preset,
    /// Whether a database is named.
    pub(super) has_database: bool,
}

/// Something wrong with it.
pub(super) struct Mistake {
    /// The key.
    pub(super) key: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: String,
}

/// Reads `share`.
pub(super) fn among(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<Among> {
    let choices = [("worktree", None), ("project", Some(Among::Project)), ("machine", Some(Among::Machine))];
    choice(findings, reader, "share", &choices).flatten()
}

/// Puts together what was read.
pub(super) fn read(reader: &mut Reader<'_>, wish: Wish<'_>) -> Result<Option<ShareSpec>, Mistake> {
    let Wish { among, template, driver, preset, has_database } = wish;
    let wrong = |key, message: String, hint: &str| Err(Mistake { key, message, hint: hint.to_owned() });
    let Some(among) = among else {
        let message = "each worktree has a server of its own, with nobody's data on it".to_owned();
        return if template.is_none() {
            Ok(None)
        } else {
            wrong("template", message, "set `share = \"project\"`, or take `template` away")
        };
    };
    let Some(share) = &preset.share else {
        let message = format!("{} cannot be shared: its preset has no databases to tell users apart", preset.title);
        return wrong("share", message, "take `share` away: each worktree gets a server of its own");
    };
    if driver == Driver::External {
        let message = "somebody else's server is shared already".to_owned();
        return wrong("share", message, "take `share` away, and say with `database` which one is meant");
    }
    if template.is_some() && share.clone.is_empty() {
        let message = format!("the preset of {} does not say how a database is copied", preset.title);
        return wrong("template", message, "take `template` away, and fill the database with `init`");
    }
    if has_database && share.databases == Databases::Numbers {
        let message = "the numbers of databases are given out".to_owned();
        return wrong("database", message, "take `database` away: `${NAME.database}` is the number");
    }
    let port = reader.node("port").and_then(|node| match node.value {
        Value::Integer(port) => u16::try_from(port).ok(),
        _ => None,
    });
    Ok(Some(ShareSpec { among, template, driver, port }))
}

/// A server whose databases have numbers takes no name for one.
pub(super) fn check_database(preset: &Preset, database: Option<&String>) -> Result<(), Mistake> {
    let max = preset.share.as_ref().and_then(|share| share.databases_max);
    let (Some(max), Some(database)) = (max, database) else { return Ok(()) };
    if database.parse::<u32>().is_ok_and(|number| number < max) {
        return Ok(());
    }
    let message = format!("databases of {} are called by numbers", preset.title);
    Err(Mistake { key: "database", message, hint: format!("write one from 0 to {}, in quotes", max - 1) })
}
