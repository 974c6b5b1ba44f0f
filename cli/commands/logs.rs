//! `envctl logs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;

use envctl_actors::log_stream::{Filter, Level, Pattern, Query, Stream};
use envctl_runtime::control::client::ClientError;
use envctl_runtime::control::wire::WatchLogs;
use envctl_runtime::places::ProjectPlaces;
use envctl_supervisors::Name;

use crate::context::{Context, Target};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::log_record::Origin;
use crate::output::logs::{Look, Selection, Tail};

/// Entries shown before the next look at the daemon.
const SHOWN_AT_ONCE: usize = 1000;

/// Show what units wrote, also those of past runs
///
/// Several units are merged by the time at which their lines came. --grep takes the syntax of Rust's `regex` crate and searches in linear time; colours do not hide what is sought. --level and --field look into lines that are JSON objects or logfmt (`key=value`); a line that is neither, or has no level, is not shown then. --json prints an object per line, described in docs/reference/logs.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The units; none: all
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,

    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only the last N lines of each unit
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<usize>,

    /// With the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,

    /// Only the life before the present one
    #[arg(long, conflicts_with = "follow")]
    pub(crate) previous: bool,

    /// Only the life with this number, of the last run that had one
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "previous"])]
    pub(crate) incarnation: Option<u32>,

    /// Only lines that have this pattern; several: any of them
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) grep: Vec<String>,

    /// The pattern without regard to upper and lower case
    #[arg(short, long, requires = "grep")]
    pub(crate) ignore_case: bool,

    /// Only lines that do not have the pattern
    #[arg(long, requires = "grep")]
    pub(crate) invert: bool,

    /// Only records of this level or a graver one: trace, debug, info, warn, error, fatal
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) level: Option<Level>,

    /// Only records with this field, `http.status=500`; several: all of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = field)]
    pub(crate) field: Vec<(String, String)>,

    /// Only this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<Which>,

    /// Only lines from this time on: `10m` ago, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<u64>,

    /// Only lines before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<u64>,

    /// The bytes as they were written, without names; not safe for a terminal
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let places = context.target_places(&target)?;
    let selection = args.selection()?;
    let units = chosen(context, &target, &args.units).await?;
    let mut tail = Tail::open(&directories(&places, &units), &selection, args.follow)?;
    if context.output.json {
        tail = tail.from(origin(context, &target, &places).await?);
    }
    let look = Look { raw: args.raw, timestamps: args.timestamps };
    while tail.show(&context.output, look, SHOWN_AT_ONCE)? {
        // Ctrl-C is heard between two lots.
        tokio::task::yield_now().await;
    }
    if args.follow {
        follow(context, &target, &units, &mut tail, look).await?;
    }
    Ok(Exit::Ok)
}

/// The units that were named, or all.
pub(crate) async fn chosen(context: &Context, target: &Target, units: &[String]) -> Result<Vec<String>, CliError> {
    // Only a project that is not configured here has to be asked for its units.
    let view = if target.project.is_none() { context.observe(target).await?.view } else { None };
    target.check_units(units, view.as_ref())?;
    if units.is_empty() { Ok(target.units(view.as_ref())) } else { Ok(units.to_vec()) }
}

/// What JSON tells of each line beside the line.
async fn origin(context: &Context, target: &Target, places: &ProjectPlaces) -> Result<Origin, CliError> {
    let configured = target.project.iter().flat_map(|project| &project.loaded.spec.units);
    let mut lanes: HashMap<String, String> =
        configured.map(|(name, unit)| (name.to_string(), unit.kind.as_str().to_owned())).collect();
    if target.project.is_none() {
        let view = context.observe(target).await?.view;
        lanes.extend(view.into_iter().flat_map(|view| view.units).map(|unit| (unit.name, unit.kind)));
    }
    let (session, project) = (context.session().to_string(), target.name.clone());
    Ok(Origin::new(session, project, lanes, places.events()))
}

/// Until nothing can write any more. Without a daemon nothing can.
async fn follow(
    context: &Context,
    target: &Target,
    units: &[String],
    tail: &mut Tail,
    look: Look,
) -> Result<(), CliError> {
    let places = context.target_places(target)?;
    let Some(mut client) = context.reading_daemon(&places).await? else { return Ok(()) };
    let mut gone = pin!(reader_gone());
    loop {
        let watch = WatchLogs { project: target.reference.clone(), units: units.to_vec() };
        let mut grown = client.subscribe(watch).await?;
        let lost = loop {
            let item = tokio::select! {
                item = grown.next() => item,
                () = &mut gone => return Err(CliError::reader_gone()),
            };
            match item {
                Some(Ok(grown)) => {
                    while tail.show(&context.output, look, SHOWN_AT_ONCE)? {
                        tokio::task::yield_now().await;
                    }
                    if !grown.live {
                        return Ok(());
                    }
                }
                None => return Ok(()),
                Some(Err(ClientError::Refused(refusal))) if refusal.code == "not-found" => return Ok(()),
                Some(Err(ClientError::Lost)) => break true,
                Some(Err(error)) => return Err(error.into()),
            }
        };
        if lost {
            client = context.reconnect().await?;
        }
    }
}

/// Ends when the pipe we write to has no reader: `logs -f | head -1` must not wait for the next line to find out.
///
/// Only watched, never written to: the descriptor is shared with the caller and stays blocking.
async fn reader_gone() {
    use tokio::io::Interest;
    use tokio::net::unix::pipe::Sender;
    let watched =
        nix::unistd::dup(std::io::stdout()).ok().and_then(|stdout| Sender::from_owned_fd_unchecked(stdout).ok());
    // A file or /dev/null cannot be watched, and has no reader that could go.
    let Some(watched) = watched else { return std::future::pending().await };
    if watched.ready(Interest::ERROR).await.is_err() {
        std::future::pending().await
    }
}

/// Where the logs of these units are.
pub(crate) fn directories<'a>(
    places: &ProjectPlaces,
    units: impl IntoIterator<Item = &'a String>,
) -> Vec<(String, PathBuf)> {
    let directory = |unit: &String| Some((unit.clone(), places.logs(&Name::new(unit).ok()?)));
    units.into_iter().filter_map(directory).collect()
}

/// Nanoseconds since 1970 of `10m` (ago) or an RFC 3339 time.
fn moment(text: &str) -> Result<u64, String> {
    let time = match crate::args::duration(text) {
        Ok(ago) => jiff::Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())?,
        Err(_) => {
            text.parse().map_err(|_| "a time such as `10m` (ago) or `2026-01-31T12:00:00Z` is needed".to_owned())?
        }
    };
    u64::try_from(time.as_nanosecond()).map_err(|_| "a time after 1970 is needed".to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Level::NAMES.iter().map(|(name, _)| *name).collect();
        format!("the levels are {}", names.join(", "))
    })
}

fn field(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| "a field such as `user=7` or `http.status=500` is needed".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

// === impl Args ===

impl Args {
    fn selection(&self) -> Result<Selection, CliError> {
        let stream = self.stream.map(|which| match which {
            Which::Out => Stream::Out,
            Which::Err => Stream::Err,
        });
        let query = Query { stream, since_ns: self.since, until_ns: self.until, ..Query::default() };
        let pattern = (!self.grep.is_empty()).then(|| Pattern::new(&self.grep, self.ignore_case)).transpose();
        let pattern = pattern.map_err(|error| {
            CliError::new("usage", format!("--grep is no pattern: {error}"))
                .hint("write `\\(`, `\\[`, `\\.` for the characters themselves; https://docs.rs/regex lists the syntax")
        })?;
        let filter = Filter { pattern, invert: self.invert, level: self.level, fields: self.field.clone() };
        Ok(Selection { tail: self.tail, previous: self.previous, incarnation: self.incarnation, query, filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_some_time_ago_or_a_date() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(moment("10m").unwrap() < moment("1s").unwrap());
        assert!(moment("yesterday-ish").unwrap_err().contains("10m"));
    }
}
