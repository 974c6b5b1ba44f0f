//! Observers: a log as a program sees it.

use std::time::Duration;

use super::actor::{spawn, unit};
use super::*;
use crate::log_stream::{Filter, LogStream, Observer, Pattern, Position};

const DEADLINE: Duration = Duration::from_secs(60);

async fn next_line(observer: &mut Observer) -> Option<String> {
    let next = async {
        while let Some(entry) = observer.next().await {
            if let Some(line) = line_of(entry.unwrap()) {
                return Some(text(&line));
            }
        }
        None
    };
    tokio::time::timeout(DEADLINE, next).await.unwrap()
}

async fn begun(dir: &Path, pump: &Pump) -> LogStream {
    let stream = spawn(dir, pump).await;
    stream.incarnation(1).await.unwrap();
    stream
}

#[tokio::test]
async fn a_query_ends_and_a_subscription_goes_on() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = begun(dir.path(), &pump).await;
    unit(dir.path()).write_all(b"one\ntwo\n").unwrap();
    stream.drain(DEADLINE).await.unwrap();
    let mut news = stream.subscribe(Query::default(), Filter::default()).await.unwrap();
    let mut all = stream.follow(Position::Start, Query::default(), Filter::default()).await.unwrap();
    let pattern = Some(Pattern::new(&["^t"], false).unwrap());
    let mut some = stream.query(Query::default(), Filter { pattern, ..Filter::default() }).await.unwrap();
    assert_eq!(next_line(&mut some).await.as_deref(), Some("two"));
    assert_eq!(next_line(&mut some).await, None);
    // One that is given up in the middle of waiting loses nothing.
    while let Ok(entry) = tokio::time::timeout(Duration::from_millis(20), news.next()).await {
        assert!(matches!(entry, Some(Ok(Entry::Ended { .. }))), "the record of the drain, at most: {entry:?}");
    }
    unit(dir.path()).write_all(b"three\n").unwrap();
    assert_eq!(next_line(&mut news).await.as_deref(), Some("three"));
    for expect in ["one", "two", "three"] {
        assert_eq!(next_line(&mut all).await.as_deref(), Some(expect));
    }
    stream.actor().stop_and_wait(None, None).await.unwrap();
    assert_eq!(next_line(&mut news).await, None);
    assert_eq!(next_line(&mut all).await, None);
}

#[tokio::test]
async fn an_observer_that_never_asks_holds_up_neither_the_unit_nor_the_others() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = begun(dir.path(), &pump).await;
    let mut idle = stream.subscribe(Query::default(), Filter::default()).await.unwrap();
    let mut busy = stream.subscribe(Query::default(), Filter::default()).await.unwrap();
    let expect: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    let (text, path) = (expect.clone(), dir.path().to_owned());
    let writer = tokio::task::spawn_blocking(move || unit(&path).write_all(text.as_bytes()).unwrap());
    tokio::time::timeout(DEADLINE, writer).await.unwrap().unwrap();
    for observer in [&mut busy, &mut idle] {
        let mut seen = String::new();
        while seen.len() < expect.len() {
            seen.push_str(&next_line(observer).await.unwrap());
            seen.push('\n');
        }
        assert!(seen == expect);
    }
}

#[tokio::test]
async fn a_log_that_is_cleared_goes_on() {
    let (dir, pump) = (tempfile::tempdir().unwrap(), Pump::start().unwrap());
    let stream = begun(dir.path(), &pump).await;
    let mut all = stream.subscribe(Query::default(), Filter::default()).await.unwrap();
    unit(dir.path()).write_all(b"old\n").unwrap();
    stream.drain(DEADLINE).await.unwrap();
    let before = lines(&dir.path().join("log"));
    assert!(stream.clear().await.unwrap() >= 4);
    assert!(lines(&dir.path().join("log")).is_empty());
    stream.incarnation(2).await.unwrap();
    unit(dir.path()).write_all(b"new\n").unwrap();
    stream.drain(DEADLINE).await.unwrap();
    let after = lines(&dir.path().join("log"));
    assert!(after[0].sequence > before[0].sequence && after[0].written_before == 4, "{after:?}");
    // It had not read what went; it is told.
    let mut told = Vec::new();
    while told.last() != Some(&"new".to_owned()) {
        match all.next().await.unwrap().unwrap() {
            Entry::Line(line) => told.push(text(&line)),
            Entry::Skipped { bytes, .. } => told.push(bytes.to_string()),
            Entry::Started { .. } | Entry::Ended { .. } | Entry::Gap { .. } => {}
        }
    }
    assert!(told == ["4", "new"] || told == ["old", "new"], "{told:?}");
    stream.actor().stop_and_wait(None, None).await.unwrap();
    assert!(super::super::clear(&dir.path().join("log")).unwrap() > 0);
    assert!(super::super::idle(&dir.path().join("log")).unwrap().is_some_and(|idle| idle.bytes < 100));
}
