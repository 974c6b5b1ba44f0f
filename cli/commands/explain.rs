//! `envctl explain`.

use std::fmt::Write as _;

use envctl_runtime::explain::{Explained, Explanation, GroupExplained, SharedBudget, explain};
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::color::Paint;
use crate::output::harmless;

/// Show what `up` would do, in which order and why; starts nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,

    /// As `up --no-deps`
    #[arg(long, requires = "units")]
    pub(crate) no_deps: bool,
}

#[derive(Serialize)]
struct Body {
    found: bool,
    #[serde(flatten)]
    explanation: Option<Explanation>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, CliError> {
    if context.is_outside() {
        return outside(context, "explain", &Body { found: false, explanation: None });
    }
    let project = context.load()?;
    let named = project.check_units(&args.units)?;
    let explanation = explain(&project.loaded.spec, &named, args.no_deps);
    if context.output.json {
        context.output.object("explain", true, &Body { found: true, explanation: Some(explanation) })?;
    } else {
        context.output.write(&text(&explanation, context.output.data))?;
    }
    Ok(Exit::Ok)
}

/// What a command that only looks says where there is no project: nothing is wrong, nothing is there.
pub(crate) fn outside(context: &Context, kind: &str, body: &impl Serialize) -> Result<Exit, CliError> {
    if context.output.json {
        context.output.object(kind, true, body)?;
    } else {
        context.output.say("no project is configured here: nothing would be started");
        context.output.hint("an envctl.toml in this directory or above it makes it a project");
    }
    Ok(Exit::Ok)
}

fn text(explanation: &Explanation, paint: Paint) -> String {
    let mut text = String::new();
    let Explanation { project, root, files, inherit, waves, left_out, groups, supervision } = explanation;
    let files: Vec<_> =
        files.iter().map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string()).collect();
    let _ = writeln!(text, "{} in {}, from {}", paint.bold(project), root.display(), files.join(", "));
    let _ = writeln!(text, "units get {inherit}");
    for (at, wave) in waves.iter().enumerate() {
        let when = if at == 0 { "first".to_owned() } else { format!("then ({})", at + 1) };
        let _ = writeln!(text, "\n{}", paint.bold(&when));
        for unit in wave {
            push_unit(&mut text, unit, paint);
        }
    }
    push_groups(&mut text, groups, supervision.as_ref(), paint);
    if !left_out.is_empty() {
        let _ = writeln!(text, "\nnot started: {}", left_out.join(", "));
    }
    harmless_but_colours(text, paint)
}

fn push_groups(text: &mut String, groups: &[GroupExplained], supervision: Option<&SharedBudget>, paint: Paint) {
    if groups.is_empty() && supervision.is_none() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.bold("groups"));
    for GroupExplained { group, parent, members, shared } in groups {
        let place = parent.as_ref().map(|parent| format!(" in {parent}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{place}: {}", paint.name(group, group), members.join(", then "));
        let _ = writeln!(text, "    {}", shared.text);
    }
    if let Some(shared) = supervision {
        let _ = writeln!(text, "  everything without a group\n    {}", shared.text);
    }
}

fn push_unit(text: &mut String, unit: &Explained, paint: Paint) {
    let _ = writeln!(
        text,
        "  {} ({}, {})  {}",
        paint.name(&unit.unit, &unit.unit),
        unit.kind,
        unit.why,
        paint.dim(&unit.at)
    );
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name:9} {}", harmless(value).replace('\n', "\n              "));
        }
    };
    let waits = unit.waits_for.iter().map(|need| match need.then.as_str() {
        "ignore" => format!("{} {}", need.unit, need.is),
        then => format!("{} {} (then {then})", need.unit, need.is),
    });
    fact(
        "after",
        &waits.chain(unit.after.iter().map(|before| format!("{before} (of its group)"))).collect::<Vec<_>>().join(", "),
    );
    fact("runs", unit.runs.trim_end());
    fact("in", &unit.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default());
    let ports = unit.ports.iter().map(|port| format!("{} from {}", port.name, port.base));
    fact("ports", &ports.collect::<Vec<_>>().join(", "));
    fact("ready", &unit.ready);
    fact("restart", &unit.restart);
    fact("budget", &unit.budget);
    let env = unit.env.iter().map(|variable| format!("{}={}  # {}", variable.name, variable.value, variable.origin));
    fact("env", &env.collect::<Vec<_>>().join("\n"));
}

/// Values went through [`harmless`] one by one; without colours the whole text can be checked once more.
fn harmless_but_colours(text: String, paint: Paint) -> String {
    if paint.is_on() { text } else { harmless(&text).into_owned() }
}
