//! `envctl env`.

use std::path::PathBuf;

use envctl_runtime::control::view::VariableView;
use envctl_runtime::control::wire::UnitEnv;
use envctl_runtime::explain;
use serde::Serialize;

use crate::context::{Context, Observed, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::harmless;

/// Show a unit's environment and where each value comes from
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub(crate) unit: String,

    /// Show secrets
    #[arg(long)]
    pub(crate) reveal: bool,
}

#[derive(Serialize)]
struct Body {
    project: String,
    unit: String,
    /// Whether the values are those a process gets, or only what the files declare.
    resolved: bool,
    dir: Option<PathBuf>,
    variables: Vec<VariableView>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let Observed { client, view } = context.observe(&target).await?;
    target.check_units(std::slice::from_ref(&args.unit), view.as_ref())?;
    let body = match (client, view) {
        (Some(client), Some(_)) => {
            let question = UnitEnv { project: target.reference, unit: args.unit.clone(), reveal: args.reveal };
            let reply = client.request(question).await?;
            let (dir, variables) = (Some(reply.dir), reply.variables);
            Body { project: target.name, unit: args.unit, resolved: true, dir, variables }
        }
        _ => declared(&target, &args.unit),
    };
    if context.output.json {
        context.output.object("env", true, &body)?;
        return Ok(Exit::Ok);
    }
    tell(context, &body)?;
    Ok(Exit::Ok)
}

fn declared(target: &Target, unit: &str) -> Body {
    let spec = target.project.as_ref().map(|project| &project.loaded.spec);
    let variables = spec.and_then(|spec| Some(explain::declared_env(spec, spec.units.get(unit)?))).unwrap_or_default();
    Body { project: target.name.clone(), unit: unit.to_owned(), resolved: false, dir: None, variables }
}

fn tell(context: &Context, body: &Body) -> Result<(), CliError> {
    let mut text = String::new();
    for variable in &body.variables {
        let origin = context.output.data.dim(&format!("# {}", harmless(&variable.origin)));
        text.push_str(&format!(
            "{}={}  {origin}\n",
            harmless(&variable.name),
            harmless(&variable.value).replace('\n', "\\n")
        ));
    }
    context.output.write(&text)?;
    if !body.resolved {
        context.output.say(&format!("{} is not up: this is what the files declare", body.project));
        context.output.hint("`envctl up -d` settles ports and URLs");
    }
    Ok(())
}
