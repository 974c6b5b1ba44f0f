//! `envctl events`.

use std::io;
use std::path::Path;

use envctl_runtime::control::following::Following;
use envctl_runtime::control::view::EventView;
use envctl_runtime::control::wire::FollowEvents;
use envctl_runtime::journal;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{harmless, told};

/// Show the journal: every decision with its cause
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only the last N events
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<usize>,

    /// Only events about these units
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let places = context.target_places(&target)?;
    // Only a project that is not configured here has to be asked for its units.
    let view = if target.project.is_none() { context.observe(&target).await?.view } else { None };
    target.check_units(&args.units, view.as_ref())?;
    let wanted = |event: &EventView| args.units.is_empty() || args.units.iter().any(|unit| is_about(event, unit));
    let all = read(&places.events())?;
    let chosen: Vec<_> = all.iter().filter(|event| wanted(event)).collect();
    let skip = args.tail.map_or(0, |tail| chosen.len().saturating_sub(tail));
    for event in chosen.into_iter().skip(skip) {
        tell(context, event)?;
    }
    if !args.follow {
        return Ok(Exit::Ok);
    }
    let Some(client) = context.reading_daemon(&places).await? else { return Ok(Exit::Ok) };
    let after = all.last().map_or(0, |event| event.seq);
    let follow = FollowEvents { project: target.reference.clone(), after };
    let mut events = Following::new(client, follow, async || context.reconnect().await);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) if wanted(&event) => tell(context, &event)?,
            Ok(_) => {}
            Err(error) if error.code == "not-found" => return Ok(Exit::Ok),
            Err(error) => return Err(error),
        }
    }
    Ok(Exit::Ok)
}

/// Whether an event is about a unit: it names it, or a group that the unit goes up and down with.
fn is_about(event: &EventView, unit: &str) -> bool {
    let among = || event.details.get("units").and_then(|units| units.as_array()).into_iter().flatten();
    event.unit.as_deref() == Some(unit)
        || (event.event.starts_with("group.") && among().any(|name| name.as_str() == Some(unit)))
}

/// The journal so far; none yet is an empty one.
pub(crate) fn read(path: &Path) -> Result<Vec<EventView>, CliError> {
    match journal::events(path) {
        Ok(events) => Ok(events.collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CliError::new("io", format!("the journal {} cannot be read: {error}", path.display()))),
    }
}

fn tell(context: &Context, event: &EventView) -> Result<(), CliError> {
    if context.output.json {
        return context.output.object("event", true, &body(event)?);
    }
    context.output.line(&text(context, event))
}

/// An event without the version, which every object has already.
fn body(event: &EventView) -> Result<serde_json::Value, serde_json::Error> {
    let mut value = serde_json::to_value(event)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("schema_version");
    }
    Ok(value)
}

/// An event as one line for people.
pub(crate) fn text(context: &Context, event: &EventView) -> String {
    let paint = context.output.data;
    let unit = event.unit.as_deref().unwrap_or("-");
    let life = event.incarnation.map(|life| format!("#{life}")).unwrap_or_default();
    let cause = told(event.cause.as_deref()).map(|cause| format!(": {}", harmless(cause))).unwrap_or_default();
    let hint =
        event.hint.as_deref().map(|hint| format!("\n  {} {}", paint.cyan("hint:"), harmless(hint))).unwrap_or_default();
    format!(
        "{} {} {} {}{cause}{hint}",
        paint.dim(&local(&event.time)),
        paint.name(unit, &format!("{:14}", format!("{unit}{life}"))),
        paint.bold(&format!("{:20}", event.event)),
        harmless(&event.message),
    )
}

/// The time of day here, with milliseconds; the date stands in `--json`.
fn local(time: &str) -> String {
    let parsed = time.parse::<jiff::Timestamp>().map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    parsed.map_or_else(|_| harmless(time).into_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn events_of_a_group_are_about_each_of_its_units() {
        let mut event = EventView {
            schema_version: 1,
            seq: 3,
            time: "2026-01-01T00:00:00Z".to_owned(),
            run: "r".to_owned(),
            event: "group.restarting".to_owned(),
            unit: Some("worker".to_owned()),
            incarnation: None,
            message: "group core restarts together".to_owned(),
            cause: None,
            hint: None,
            details: BTreeMap::from([("units".to_owned(), serde_json::json!(["api", "worker"]))]),
        };
        assert!(is_about(&event, "worker") && is_about(&event, "api") && !is_about(&event, "web"));
        event.event = "operator.asked".to_owned();
        assert!(!is_about(&event, "api"));
    }

    #[test]
    fn an_event_object_says_its_version_once() {
        let event = EventView {
            schema_version: 1,
            seq: 3,
            time: "2026-01-01T00:00:00Z".to_owned(),
            run: "r".to_owned(),
            event: "unit.ready".to_owned(),
            unit: Some("api".to_owned()),
            incarnation: Some(1),
            message: "api is ready".to_owned(),
            cause: None,
            hint: None,
            details: BTreeMap::new(),
        };
        let line = crate::output::json::line("event", true, &body(&event).unwrap()).unwrap();
        assert_eq!(line.matches("schema_version").count(), 1, "{line}");
        assert!(line.contains("\"event\":\"unit.ready\"") && line.contains("\"seq\":3"), "{line}");
    }
}
