//! Reports as lines for people: whose child, which of its lives, what happened, and why.
#![expect(clippy::print_stdout, reason = "a program: what it prints is what it is for")]

use std::collections::HashMap;

use envctl_supervisors::engine::{Cause, Ending, What};
use envctl_supervisors::shell::{Reports, SupervisorHandle, SupervisorReport};
use envctl_supervisors::spec::ChildId;

/// Prints the reports of one supervisor.
pub(crate) struct Printer {
    reports: Reports,
    /// The reason told last, of each child: it is told once.
    told: HashMap<ChildId, Cause>,
}

// === impl Printer ===

impl Printer {
    pub(crate) fn new(supervisor: &SupervisorHandle) -> Self {
        Self { reports: supervisor.reports(), told: HashMap::new() }
    }

    /// Prints reports as they come, up to and with the first like this.
    pub(crate) async fn until(&mut self, id: &str, what: What) {
        let is_it = |report: &SupervisorReport| report.offender.id.as_str() == id && report.context == what;
        while let Some(report) = self.reports.next().await {
            self.print(&report);
            if is_it(&report) {
                break;
            }
        }
    }

    /// Prints all that is still to come, which ends with the supervisor.
    pub(crate) async fn rest(&mut self) {
        while let Some(report) = self.reports.next().await {
            self.print(&report);
        }
    }

    fn print(&mut self, SupervisorReport { supervisor, context, reason, offender }: &SupervisorReport) {
        let child = format!("{supervisor}/{}", offender.id);
        let life = offender.incarnation.map_or_else(String::new, |life| format!("life {life}"));
        // What a child waits for stands in the line already.
        let reason = reason.as_ref().filter(|_| !matches!(context, What::Blocked { .. }));
        let news = reason.filter(|reason| self.told.get(&offender.id) != Some(reason));
        let why = news.map_or_else(String::new, |reason| format!("  ({reason})"));
        self.told.extend(news.map(|reason| (offender.id.clone(), reason.clone())));
        println!("  {child:<16} {life:<7} {}{why}", text(context));
    }
}

/// Prints a heading.
pub(crate) fn scene(title: &str) {
    println!("\n{title}");
}

/// Prints a line that is no report.
pub(crate) fn say(text: &str) {
    println!("  {text}");
}

/// Waits for the end of a supervisor and prints why it ended.
pub(crate) async fn say_why_it_ended(supervisor: &SupervisorHandle) {
    let why = match supervisor.ended().await {
        Some((by, Ending::GaveUp)) => format!("{by} was given up"),
        Some((by, Ending::AutoShutdown)) => format!("{by} is significant and has ended"),
        Some((by, Ending::FirstStart(error))) => format!("{by} failed to {error}"),
        None => "it was stopped".to_owned(),
    };
    say(&format!("{} is gone: {why}", supervisor.name()));
}

fn text(what: &What) -> String {
    match what {
        What::Blocked { by } => format!("waits for {}", by.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")),
        What::Starting => "is being started".to_owned(),
        What::Started => "runs".to_owned(),
        What::StartFailed { error } => format!("failed to {error}"),
        What::Adopted => "was taken over".to_owned(),
        What::Ready => "is ready".to_owned(),
        What::Unready { detail } => format!("is not ready: {detail}"),
        What::LivenessLost { detail } => format!("does not answer: {detail}"),
        What::ReadyTimeout { within } => format!("was not ready within {within:?}"),
        What::Exited { reason, .. } => format!("ended: {reason}"),
        What::RestartScheduled { delay, .. } if delay.is_zero() => "will be restarted at once".to_owned(),
        What::RestartScheduled { delay, .. } => format!("will be restarted in {delay:?}"),
        What::Restarting => "is being restarted".to_owned(),
        What::Stopping => "is asked to end".to_owned(),
        What::Killing => "is killed".to_owned(),
        What::Stopped => "is down".to_owned(),
        What::Done => "is done".to_owned(),
        What::Failed => "has failed".to_owned(),
        What::GaveUp { .. } => "is given up".to_owned(),
        What::Removed => "was removed".to_owned(),
        What::Ignored => "has nothing to run".to_owned(),
        What::GroupRestarting { members, .. } => format!("restarts together with {members} more"),
        What::GroupGaveUp { .. } => "brings its group down".to_owned(),
        What::Ending(_) => "ends its supervisor".to_owned(),
    }
}
