//! `envctl errors`.

use envctl_runtime::control::view::{ProjectView, UnitState, UnitView};
use serde::Serialize;

use super::{logs, show_state};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::logs::last_lines;
use crate::output::{harmless, told};

/// Lines of each log that are looked through.
const LINES_LOOKED_AT: usize = 200;
/// Lines shown per unit.
const LINES_SHOWN: usize = 10;
/// Words that say that a line tells of trouble.
const WORDS: [&str; 6] = ["error", "exception", "traceback", "fatal", "panic", "failed"];

/// Show failed units and the lines of their logs that tell of trouble; exit 1 if there are any
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

#[derive(Serialize)]
struct Body {
    project: String,
    failed_units: Vec<Failed>,
    log_issues: Vec<LogIssues>,
}

#[derive(Serialize)]
struct Failed {
    unit: String,
    state: &'static str,
    cause: Option<String>,
    hint: Option<String>,
}

#[derive(Serialize)]
struct LogIssues {
    unit: String,
    lines: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let places = context.target_places(&target)?;
    let observed = context.observe(&target).await?.view;
    target.check_units(&args.units, observed.as_ref())?;
    let view = observed.or_else(|| show_state::recorded_view(&places.run_state()));
    let wanted = |unit: &String| args.units.is_empty() || args.units.contains(unit);
    let units: Vec<String> = target.units(view.as_ref()).into_iter().filter(wanted).collect();
    let failed_units = view.iter().flat_map(failed).filter(|unit| wanted(&unit.unit)).collect();
    let log_issues = logs::directories(&places, &units).into_iter().filter_map(|(unit, dir)| {
        let of_run = view.iter().flat_map(|view| &view.units).find(|one| one.name == unit);
        let lines = troubled(last_lines(&dir, LINES_LOOKED_AT, of_run.map(|unit| unit.incarnation)));
        (!lines.is_empty()).then_some(LogIssues { unit, lines })
    });
    let body = Body { project: target.name, failed_units, log_issues: log_issues.collect() };
    let fine = body.failed_units.is_empty() && body.log_issues.is_empty();
    if context.output.json {
        context.output.object("errors", fine, &body)?;
    } else {
        tell(context, &body)?;
    }
    Ok(Exit::ok_if(fine))
}

fn failed(view: &ProjectView) -> impl Iterator<Item = Failed> {
    let bad =
        |unit: &&UnitView| matches!(unit.state, UnitState::Failed | UnitState::Backoff) || !unit.escaped.is_empty();
    view.units.iter().filter(bad).map(|unit| Failed {
        unit: unit.name.clone(),
        state: unit.state.as_str(),
        cause: unit.cause.clone(),
        hint: unit.hint.clone(),
    })
}

/// The last lines with one of [`WORDS`] in them.
fn troubled(lines: Vec<String>) -> Vec<String> {
    let mut found: Vec<String> = lines.into_iter().filter(|line| tells_of_trouble(line)).collect();
    found.drain(..found.len().saturating_sub(LINES_SHOWN));
    found
}

fn tells_of_trouble(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    // "0 errors" and "no error" are good news.
    let good = ["0 error", "no error", "0 failed", "errors: 0", "failed: 0"].iter().any(|news| line.contains(news));
    !good && WORDS.iter().any(|word| line.contains(word))
}

fn tell(context: &Context, body: &Body) -> Result<(), CliError> {
    let paint = context.output.data;
    let mut text = String::new();
    for failed in &body.failed_units {
        let cause = told(failed.cause.as_deref()).map(harmless).unwrap_or_default();
        text.push_str(&format!("{} {}: {cause}\n", paint.red(failed.state), paint.name(&failed.unit, &failed.unit)));
        if let Some(hint) = &failed.hint {
            text.push_str(&format!("  {} {}\n", paint.cyan("hint:"), harmless(hint)));
        }
    }
    for issues in &body.log_issues {
        for line in &issues.lines {
            text.push_str(&format!("{} | {line}\n", paint.name(&issues.unit, &issues.unit)));
        }
    }
    context.output.write(&text)?;
    if text.is_empty() {
        context.output.say("no errors");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_news_is_not_trouble_and_only_the_last_lines_are_kept() {
        assert!(tells_of_trouble("ERROR: no such table") && tells_of_trouble("Traceback (most recent call last):"));
        assert!(!tells_of_trouble("finished, 0 errors") && !tells_of_trouble("listening"));
        let many = (0..20).map(|n| format!("error {n}")).collect();
        assert_eq!(troubled(many).first().map(String::as_str), Some("error 10"));
    }
}
