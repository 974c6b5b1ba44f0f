//! What became of the last upgrade, in a file of the runtime directory: written by the daemon that goes and the one that comes,
//! so that whoever serves can tell. Dies with the boot, as the processes do.

use std::io;

use serde::{Deserialize, Serialize};

use crate::control::view::{UpgradeOutcome, UpgradeView};
use crate::journal::events::EventBuilder;
use crate::journal::{Durability, EventKind, atomic_write};
use crate::places::Places;

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    upgrade: UpgradeView,
}

/// Writes it.
pub(in crate::session) fn store(places: &Places, upgrade: &UpgradeView) -> io::Result<()> {
    let record = Record { version: VERSION, upgrade: upgrade.clone() };
    let bytes = serde_json::to_vec(&record).map_err(io::Error::other)?;
    atomic_write(&places.upgrade_record(), &bytes, Durability::Unsynced)
}

/// The last one; none if there was none, or none that this build can read.
pub(in crate::session) fn load(places: &Places) -> Option<UpgradeView> {
    let record: Record = serde_json::from_slice(&std::fs::read(places.upgrade_record()).ok()?).ok()?;
    (record.version <= VERSION).then_some(record.upgrade)
}

/// What a daemon that has just started makes of the record: `Some` if it has news.
///
/// `taken_over`: this process took over from another; `rescued`: heart started it because the new program failed.
pub(in crate::session) fn settle(
    last: Option<UpgradeView>,
    taken_over: bool,
    rescued: Option<&str>,
) -> Option<UpgradeView> {
    let mut upgrade = last.filter(|last| last.outcome == UpgradeOutcome::Begun)?;
    if taken_over {
        upgrade.outcome = UpgradeOutcome::Done;
    } else {
        upgrade.outcome = UpgradeOutcome::Failed;
        upgrade.error = Some(rescued.unwrap_or("the daemon and heart ended before it served").to_owned());
    }
    Some(upgrade)
}

/// The event that tells it.
pub(in crate::session) fn event(upgrade: &UpgradeView) -> EventBuilder {
    let UpgradeView { from, to, program, error, .. } = upgrade;
    let path = program.display().to_string();
    match error {
        None => EventKind::DaemonUpgraded
            .event("", format!("the daemon was upgraded from {from} to {to}"))
            .detail("from", from.as_str())
            .detail("build", to.as_str())
            .detail("path", path),
        Some(error) => EventKind::DaemonRescued
            .event("", format!("the upgrade to {path} failed; the daemon of before ({from}) serves on"))
            .cause(error.as_str())
            .hint("`envctl daemon logs` tells what the new program said")
            .detail("build", from.as_str())
            .detail("path", path)
            .detail("error", error.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> UpgradeView {
        UpgradeView {
            id: "x".to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            program: "/new".into(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            outcome: UpgradeOutcome::Begun,
            error: None,
        }
    }

    #[test]
    fn an_upgrade_is_settled_once_by_whoever_serves_next() {
        let done = settle(Some(begun()), true, None).unwrap();
        assert_eq!((done.outcome, done.error.as_deref()), (UpgradeOutcome::Done, None));
        assert_eq!(settle(Some(done), false, None), None, "a later death changes nothing");
        let failed = settle(Some(begun()), false, Some("it ended")).unwrap();
        assert_eq!((failed.outcome, failed.error.as_deref()), (UpgradeOutcome::Failed, Some("it ended")));
        assert!(settle(Some(begun()), false, None).unwrap().error.is_some());
        assert_eq!(settle(None, true, None), None);
    }

    #[test]
    fn both_builds_stand_in_the_event() {
        let event = event(&begun()).build();
        assert_eq!(
            (event.event.as_str(), event.message.as_str()),
            ("daemon.upgraded", "the daemon was upgraded from 1 to 2")
        );
        assert_eq!((&event.details["from"], &event.details["build"]), (&"1".into(), &"2".into()));
    }
}
