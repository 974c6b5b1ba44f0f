//! `envctl trust`: the word without which nothing of somebody else's checkout is started.
//!
//! Asked for by every command that would start something ([`require`]), and by no command that only looks.

use std::path::{Path, PathBuf};

use envctl_runtime::trust::{self, Checkout, Foreign, Trust, TrustError, TrustFile};
use serde::Serialize;

use crate::context::{Context, Project, Target, config_error};
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::output::harmless;

/// Allow what another user's checkout says to be started
///
/// Needed once, after a look at its envctl.toml, where the checkout or a config file belongs neither to you nor to root. A directory that was moved, replaced or given to another user needs it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take it back; what runs goes on
    #[arg(long)]
    pub(crate) revoke: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    root: &'a Path,
    /// Whether it may be started now.
    trusted: bool,
    /// Whether it may be started because of this file's word, and not by its owner.
    granted: bool,
    file: &'a Path,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    if args.revoke { revoke(context) } else { grant(context) }
}

/// Refuses what belongs to somebody else and was not trusted, before anything is started.
pub(crate) fn require(context: &Context, project: &Project) -> Result<(), CliError> {
    let root = &project.loaded.spec.root;
    require_of(context, root, &files(context, project))
}

/// As [`require`], for what runs already: its configuration may be broken now, or be somewhere else.
pub(crate) fn require_for(context: &Context, target: &Target) -> Result<(), CliError> {
    match &target.project {
        Some(project) => require(context, project),
        None => require_of(context, &target.reference.root, &[]),
    }
}

fn require_of(context: &Context, root: &Path, files: &[PathBuf]) -> Result<(), CliError> {
    match check(context, root, files)? {
        Trust::Owned | Trust::Granted => Ok(()),
        Trust::Needed(foreign) => Err(refusal(root, &foreign)),
    }
}

fn check(context: &Context, root: &Path, files: &[PathBuf]) -> Result<Trust, CliError> {
    trust::check(&checkout(root, files), &trust_file(context)?).map_err(failure)
}

fn grant(context: &Context) -> Result<Exit, CliError> {
    let project = context.load()?;
    let (root, files) = (&project.loaded.spec.root, files(context, &project));
    let file = trust_file(context)?;
    let needed = check(context, root, &files)? != Trust::Owned;
    if needed {
        file.grant(&checkout(root, &files)).map_err(failure)?;
    }
    let words = if needed { "is trusted from now on" } else { "needs no trust: it is yours" };
    tell(context, &Body { root, trusted: true, granted: needed, file: file.path() }, words)
}

/// Also where the configuration is broken: only the directory counts.
fn revoke(context: &Context) -> Result<Exit, CliError> {
    let root = context.source().map_err(config_error)?.root;
    let file = trust_file(context)?;
    let known = file.revoke(&root).map_err(failure)?;
    let words = if known { "is trusted no longer" } else { "was not trusted: nothing to take back" };
    let trusted = check(context, &root, &[])? == Trust::Owned;
    tell(context, &Body { root: &root, trusted, granted: false, file: file.path() }, words)
}

fn tell(context: &Context, body: &Body<'_>, words: &str) -> Result<Exit, CliError> {
    if context.output.json {
        context.output.object("trust", true, body)?;
    } else {
        context.output.say(&harmless(&format!("{} {words}", body.root.display())));
    }
    Ok(Exit::Ok)
}

fn trust_file(context: &Context) -> Result<TrustFile, CliError> {
    Ok(TrustFile::of(context.places()?.input()))
}

fn checkout<'a>(root: &'a Path, files: &'a [PathBuf]) -> Checkout<'a> {
    Checkout { root, files, uid: nix::unistd::geteuid().as_raw() }
}

/// The project's own files: the user's is no part of the checkout.
fn files(context: &Context, project: &Project) -> Vec<PathBuf> {
    let user = context.user_config();
    project.loaded.spec.files.iter().filter(|file| Some(*file) != user.as_ref()).cloned().collect()
}

fn refusal(root: &Path, foreign: &Foreign) -> CliError {
    let (shown, owner) = (root.display(), user_name(foreign.owner));
    if foreign.path == root {
        return CliError::new("untrusted", format!("the checkout in {shown} belongs to {owner}, not to you"))
            .hint("look at its envctl.toml, then `envctl trust`");
    }
    let file = foreign.path.strip_prefix(root).unwrap_or(&foreign.path).display();
    CliError::new("untrusted", format!("`{file}` of the checkout in {shown} belongs to {owner}, not to you"))
        .hint("look at it, then `envctl trust`")
}

/// A user as people know them; their number if the machine does not.
fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

fn failure(error: TrustError) -> CliError {
    let hint = match &error {
        TrustError::Newer { path, .. } => Some(format!("use the envctl that wrote it, or remove {}", path.display())),
        TrustError::Unsafe { path, .. } => {
            Some(format!("who can write to {} can start anything as you: make it yours alone", path.display()))
        }
        TrustError::Malformed { path, .. } | TrustError::Full { path } => {
            Some(format!("it lists the checkouts you trust; remove {} and trust them again", path.display()))
        }
        TrustError::Io { .. } => None,
    };
    CliError::new("io", format!("cannot {}", chain(&error))).hint_if(hint)
}
