use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::super::actor::{DERIVE_INTERVAL, Follower, Journal, ProjectKey, pause_after};
use super::super::project::{OpenProject, Scopes};
use super::super::store::JournalError;
use super::super::views::Facts;
use super::super::write::Durability;
use super::*;
use crate::places::{Places, PlacesInput, ProjectPlaces};

/// Longest time any of these tests waits for what should come at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// A state as the journal is told of it.
fn told(units: Vec<UnitView>) -> watch::Receiver<ProjectView> {
    watch::channel(project(units)).1
}

fn places() -> (tempfile::TempDir, ProjectPlaces) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(dir.path()).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o700)).unwrap();
    let input = PlacesInput {
        uid: base.metadata().unwrap().uid(),
        session: name("default"),
        runtime_dir: Some(base.clone()),
        state_home: base.join("state"),
        state_override: None,
    };
    let places = Places::resolve(&input).unwrap().for_project(&base, &name("shop")).unwrap();
    (dir, places)
}

async fn opened() -> (tempfile::TempDir, ProjectPlaces, Journal, ProjectKey) {
    let (dir, places) = places();
    let (journal, _task) = Journal::start().await.unwrap();
    let (key, _) = journal.open(&places, Facts::default()).await.unwrap();
    (dir, places, journal, key)
}

async fn take(follower: &mut Follower, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(DEADLINE, follower.next()).await.expect("an event in time");
        taken.push(next.expect("the journal is open").seq);
    }
    taken
}

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gets_what_was_and_what_comes_without_gap_or_repetition() {
    let (_dir, _places, journal, key) = opened().await;
    for n in 1..=500 {
        journal.append(&key, numbered(n));
    }
    let mut early = journal.follow(&key, 0).await.unwrap();
    let mut late = journal.follow(&key, 490).await.unwrap();
    for n in 501..=1000 {
        journal.append(&key, numbered(n));
    }
    assert_eq!(take(&mut early, 1000).await, (1..=1000).collect::<Vec<_>>());
    assert_eq!(take(&mut late, 510).await, (491..=1000).collect::<Vec<_>>());
    journal.close(&key);
    assert_eq!(early.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_sleeps_through_thousands_of_events_misses_none() {
    let (_dir, _places, journal, key) = opened().await;
    journal.append(&key, numbered(1));
    let mut slow = journal.follow(&key, 0).await.unwrap();
    assert_eq!(take(&mut slow, 1).await, [1]);
    // It is now waiting for live events, and more of them come than the broadcast holds.
    for n in 2..=5000 {
        journal.append(&key, numbered(n));
    }
    journal.sync(&key).await.unwrap();
    assert_eq!(take(&mut slow, 4999).await, (2..=5000).collect::<Vec<_>>());
    assert!(slow.lagged() > 0);
    journal.append(&key, numbered(5001));
    assert_eq!(take(&mut slow, 1).await, [5001]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_wait_is_given_up_again_and_again_misses_nothing() {
    let (_dir, _places, journal, key) = opened().await;
    for n in 1..=600 {
        journal.append(&key, numbered(n));
    }
    let mut follower = journal.follow(&key, 0).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < 600 {
        tokio::select! {
            biased;
            event = follower.next() => taken.push(event.unwrap().seq),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(taken, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_a_sync_events_and_derived_files_are_there_and_agree() {
    let (_dir, places, journal, key) = opened().await;
    for n in 1..=50 {
        journal.append(&key, numbered(n));
        journal.snapshot(
            &key,
            told(vec![UnitView { restarts: u32::try_from(n).unwrap(), ..unit("api", UnitState::Ready) }]),
        );
    }
    journal.sync(&key).await.unwrap();
    let state = json(&places.run_state());
    assert_eq!(state["services"]["api"]["restarts"], 50);
    assert_eq!(state["metadata"]["seq"], 50);
    assert_eq!(seqs(&places.events()).len(), 50);
    for path in [places.runtime_map(), places.ports_manifest(), places.error_report(), places.readiness_report()] {
        assert_eq!(json(&path)["schema_version"], 1, "{}", path.display());
    }
}

#[tokio::test]
async fn derived_files_follow_by_themselves() {
    let (_dir, places, journal, key) = opened().await;
    journal.snapshot(&key, told(vec![unit("api", UnitState::Ready)]));
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let there = async {
        while !places.readiness_report().exists() {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, there).await.expect("derived files in time");
    assert_eq!(json(&places.run_state())["services"]["api"]["state"], "ready");
}

#[tokio::test]
async fn a_project_that_is_not_open_is_told_so() {
    let (_dir, places, journal, key) = opened().await;
    journal.close(&key);
    assert!(matches!(journal.sync(&key).await, Err(JournalError::NotOpen { .. })));
    assert!(matches!(journal.follow(&key, 0).await, Err(JournalError::NotOpen { .. })));
    // It can be opened again, and goes on counting.
    journal.open(&places, Facts::default()).await.unwrap();
    journal.append(&key, numbered(1));
    journal.sync(&key).await.unwrap();
    assert_eq!(seqs(&places.events()), [1]);
    journal.actor().stop_and_wait(None, None).await.unwrap();
    assert!(matches!(journal.sync(&key).await, Err(JournalError::Gone)));
}

#[tokio::test]
async fn two_who_open_a_project_at_the_same_time_share_one_journal() {
    let (_dir, places) = places();
    let (journal, _task) = Journal::start().await.unwrap();
    let (first, second) =
        tokio::join!(journal.open(&places, Facts::default()), journal.open(&places, Facts::default()));
    let (first, second) = (first.unwrap().0, second.unwrap().0);
    journal.append(&first, numbered(1));
    journal.append(&second, numbered(2));
    journal.sync(&first).await.unwrap();
    assert_eq!(seqs(&places.events()), [1, 2]);
}

#[tokio::test]
async fn a_stopped_journal_has_written_what_it_was_told() {
    let (_dir, places, journal, key) = opened().await;
    journal.append(&key, numbered(1));
    journal.snapshot(&key, told(vec![unit("api", UnitState::Stopped)]));
    journal.actor().drain_and_wait(None).await.unwrap();
    assert_eq!(seqs(&places.events()), [1]);
    assert_eq!(json(&places.run_state())["services"]["api"]["status"], "stopped");
}

fn open_project() -> (tempfile::TempDir, ProjectPlaces, OpenProject) {
    let (dir, places) = places();
    fs::create_dir_all(places.dir()).unwrap();
    let (open, _) = OpenProject::open(places.clone(), Facts::default(), Scopes::default()).unwrap();
    (dir, places, open)
}

#[test]
fn many_snapshots_start_one_timer_and_become_one_write() {
    let (_dir, _places, mut open) = open_project();
    let timers = (0..100).filter(|_| {
        open.snapshot(told(Vec::new()));
        open.arm()
    });
    assert_eq!(timers.count(), 1);
    open.disarm();
    assert!(open.derive_in_turn().is_some());
    // What comes while files are being written waits for its own turn.
    open.snapshot(told(Vec::new()));
    assert!(!open.arm() && open.derive_in_turn().is_none());
    assert!(open.derivation_ended() && open.arm());
    open.disarm();
    assert!(open.derive_in_turn().is_some());
    assert!(!open.derivation_ended());
}

#[test]
fn an_older_state_never_replaces_a_newer_one() {
    let (_dir, places, mut open) = open_project();
    open.snapshot(told(vec![unit("api", UnitState::Starting)]));
    let older = open.derive().unwrap();
    open.snapshot(told(vec![unit("api", UnitState::Ready)]));
    let newer = open.derive().unwrap();
    newer.write(Durability::Synced).unwrap();
    older.write(Durability::Unsynced).unwrap();
    assert_eq!(json(&places.run_state())["services"]["api"]["state"], "ready");
}

#[test]
fn errors_of_the_run_are_in_the_report_also_after_a_new_start() {
    let (_dir, places, mut open) = open_project();
    open.append(EventKind::UnitFailed.event("run-1", "api failed").unit(&name("api")).cause("no such program").build());
    open.append(EventKind::UnitFailed.event("run-0", "an earlier run's").unit(&name("api")).build());
    open.append(numbered(1));
    drop(open);
    let (mut open, _) = OpenProject::open(places.clone(), Facts::default(), Scopes::default()).unwrap();
    open.snapshot(told(vec![unit("api", UnitState::Failed)]));
    open.derive().unwrap().write(Durability::Unsynced).unwrap();
    let report = json(&places.error_report());
    assert_eq!(report["errors"].as_array().unwrap().len(), 1);
    assert_eq!(report["errors"][0]["cause"], "no such program");
}

#[test]
fn derived_files_of_a_large_project_are_written_more_rarely_but_within_a_second() {
    let ms = Duration::from_millis;
    assert_eq!(pause_after(ms(1)), DERIVE_INTERVAL);
    assert_eq!(pause_after(ms(20)), ms(600));
    assert_eq!(pause_after(ms(500)), ms(1000));
}
