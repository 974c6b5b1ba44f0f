//! `envctl version`.

use envctl_runtime::control::wire::{PROTOCOL_MAX, PROTOCOL_MIN};
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Show the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Body {
    version: &'static str,
    protocol_min: u32,
    protocol_max: u32,
}

pub(crate) fn run(context: &Context, _args: &Args) -> Result<Exit, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if context.output.json {
        let body = Body { version, protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX };
        context.output.object("version", true, &body)?;
    } else {
        context.output.line(&format!("envctl {version}"))?;
    }
    Ok(Exit::Ok)
}
