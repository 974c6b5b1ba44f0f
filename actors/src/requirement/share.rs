//! A database of its own on a server that is shared: made once the server answers, dropped while the others go on.
//!
//! What is done is data of the preset (`share`). Nothing here starts or stops the server; that is another requirement's life.

use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use envctl_supervisors::reason::StartError;

use super::locate::locate;
use super::native::{INIT_RECORD, init_work, native_scope, step_work};
use super::plan::{After, Due, Wanted, Work};
use super::preset::model::AfterReady;
use super::preset::{NoValue, Scope};

/// What its database is called for the steps that copy it.
const TEMPLATE: &str = "template";

/// Waits until the server can be used; an error says why it will not.
pub type Server = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>> + Send + Sync>;

/// A database on a shared server.
pub struct Part {
    /// What is waited for before its first question.
    pub server: Option<Server>,
    /// The database that it is made as a copy of, if it is.
    pub template: Option<String>,
    /// Whether an earlier database of this name was to be dropped while no server ran.
    pub is_stale: bool,
}

/// What is done once the server answers: the database is made, then the project's own steps are done to it.
///
/// # Errors
/// A name without a value.
pub fn works(wanted: &Wanted, part: &Part, path: &OsStr) -> Result<Vec<After>, NoValue> {
    let Some(share) = &wanted.preset.share else { return Ok(Vec::new()) };
    let mut scope = full_scope(wanted, path);
    let mut works = Vec::new();
    if part.is_stale {
        works.extend(once(wanted, "drop what was left", steps(wanted, &scope, &share.drop)?));
    }
    if let Some(template) = &part.template {
        scope.set(TEMPLATE, template);
        let ways = steps(wanted, &scope, &share.clone)?.into_iter().map(|way| (way.label, way.work)).collect();
        let label = format!("copy {template}");
        let copy = After { label: label.clone(), work: Work::FirstOf(ways), soft: false, due: Due::Always };
        works.extend(once(wanted, &label, vec![copy]));
    }
    works.extend(steps(wanted, &scope, &share.create)?);
    for init in &wanted.init {
        works.push(init_work(wanted, &scope, init)?);
    }
    Ok(works)
}

/// What drops the database that the scope's option `database` names.
///
/// # Errors
/// A name without a value.
pub fn drop_works(wanted: &Wanted, path: &OsStr) -> Result<Vec<After>, NoValue> {
    let Some(share) = &wanted.preset.share else { return Ok(Vec::new()) };
    steps(wanted, &full_scope(wanted, path), &share.drop)
}

fn steps(wanted: &Wanted, scope: &Scope, steps: &[AfterReady]) -> Result<Vec<After>, NoValue> {
    steps.iter().filter_map(|step| step_work(wanted, scope, step).transpose()).collect()
}

/// Done once for the directory of this requirement, which goes when its database is dropped.
fn once(wanted: &Wanted, name: &str, works: Vec<After>) -> impl Iterator<Item = After> {
    let record = wanted.data_dir.join(INIT_RECORD);
    let name = format!("share: {name}");
    works.into_iter().enumerate().map(move |(at, work)| {
        let name = format!("{name} {at}");
        After { due: Due::Once { record: record.clone(), name, inputs: Vec::new() }, ..work }
    })
}

/// With the programs of the server, where they are on this machine: its clients are used.
fn full_scope(wanted: &Wanted, path: &OsStr) -> Scope {
    let mut scope = wanted.scope.clone();
    scope.set("dir", wanted.data_dir.display());
    scope.set("bin", Path::new("").display());
    let found = locate(&wanted.preset, wanted.version.as_deref(), path);
    match (&wanted.preset.native, found) {
        (Some(native), Ok(binaries)) => native_scope(wanted, &binaries, native),
        _ => scope,
    }
}
