//! The log of a unit for a program that embeds a session: asked once, or followed for as long as it is written.
//!
//! Each observer reads the files for itself and is woken when they have grown: one that is slow, or never asks again, costs the others,
//! the writer and the unit nothing. What retention takes from a slow one is told to it ([`Entry::Skipped`]). Files are
//! read on a blocking thread, a lot at a time; nothing is read ahead of what is asked for.

use std::collections::VecDeque;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::LogError;
use super::actor::{LogStream, Watched};
use super::filter::Filter;
use super::pump::Length;
use super::reader::{Follower, Lines, Position, Query, Reader};
use super::splitter::Entry;

/// Entries read at once: what an observer holds at most, beside ...
const LOT_ENTRIES_MAX: usize = 256;
/// ... so many bytes of lines, and one line more.
const LOT_BYTES_MAX: usize = 1 << 20;

/// Entries of one unit's log, one by one.
///
/// ```no_run
/// use envctl_actors::log_stream::{Entry, Filter, LogStream, Pattern, Query};
///
/// # async fn watch(log: LogStream) -> Result<(), Box<dyn std::error::Error>> {
/// let filter = Filter { pattern: Some(Pattern::new(&["listening on .*"], false)?), ..Filter::default() };
/// let mut lines = log.subscribe(Query::default(), filter).await?;
/// while let Some(entry) = lines.next().await {
///     if let Entry::Line(line) = entry? {
///         assert!(line.bytes.starts_with(b"listening"));
///         break;
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Observer {
    reading: Reading,
    lot: VecDeque<Entry>,
    /// `None`: only what was there when it was asked.
    length: Option<watch::Receiver<Length>>,
}

/// A lot in the making survives the future that waits for it.
#[derive(Debug)]
enum Reading {
    Idle(Source),
    Busy(JoinHandle<(Source, Result<Lot, LogError>)>),
    Over,
}

#[derive(Debug)]
enum Source {
    Follow(Box<Follower>),
    Once(Box<Lines>),
}

#[derive(Debug)]
struct Lot {
    entries: VecDeque<Entry>,
    /// There was nothing more.
    at_end: bool,
}

// === impl LogStream ===

impl LogStream {
    /// What is there now.
    pub async fn query(&self, query: Query, filter: Filter) -> Result<Observer, LogError> {
        let Watched { dir, .. } = self.watch().await?;
        let open = move || Ok(Source::Once(Box::new(Reader::open(&dir).only(filter).lines(query)?)));
        Observer::open(open, None).await
    }

    /// From `position` on, and then what comes, over rotation and all lives of the unit, until the stream is closed.
    pub async fn follow(&self, position: Position, query: Query, filter: Filter) -> Result<Observer, LogError> {
        let Watched { dir, length, .. } = self.watch().await?;
        let open = move || Ok(Source::Follow(Box::new(Reader::open(&dir).only(filter).follow(position, query)?)));
        Observer::open(open, Some(length)).await
    }

    /// What comes from now on.
    pub async fn subscribe(&self, query: Query, filter: Filter) -> Result<Observer, LogError> {
        self.follow(Position::End, query, filter).await
    }
}

// === impl Observer ===

impl Observer {
    async fn open(
        open: impl FnOnce() -> Result<Source, LogError> + Send + 'static,
        length: Option<watch::Receiver<Length>>,
    ) -> Result<Self, LogError> {
        let source = tokio::task::spawn_blocking(open).await.map_err(|_| LogError::StreamEnded)??;
        Ok(Self { reading: Reading::Idle(source), lot: VecDeque::new(), length })
    }

    /// The next entry; waits for it. `None`: there will be no more. After an error there is nothing more either. May be dropped and
    /// asked again.
    pub async fn next(&mut self) -> Option<Result<Entry, LogError>> {
        loop {
            if let Some(entry) = self.lot.pop_front() {
                return Some(Ok(entry));
            }
            let closed = self.length.as_mut().is_none_or(|length| {
                length.mark_unchanged();
                length.has_changed().is_err()
            });
            let at_end = match self.read().await? {
                Ok(lot) => {
                    self.lot = lot.entries;
                    lot.at_end && self.lot.is_empty()
                }
                Err(error) => return Some(Err(error)),
            };
            if !at_end {
                continue;
            }
            match &mut self.length {
                // What was written before the end has been read: the look at the length came first.
                Some(length) if !closed => drop(length.changed().await),
                _ => self.reading = Reading::Over,
            }
        }
    }

    /// One lot; `None`: it is over.
    async fn read(&mut self) -> Option<Result<Lot, LogError>> {
        if let Reading::Idle(_) = self.reading
            && let Reading::Idle(mut source) = std::mem::replace(&mut self.reading, Reading::Over)
        {
            self.reading = Reading::Busy(tokio::task::spawn_blocking(move || {
                let lot = source.lot();
                (source, lot)
            }));
        }
        let Reading::Busy(busy) = &mut self.reading else { return None };
        let read = busy.await;
        self.reading = Reading::Over;
        match read {
            Ok((source, Ok(lot))) => {
                self.reading = Reading::Idle(source);
                Some(Ok(lot))
            }
            Ok((_, Err(error))) => Some(Err(error)),
            Err(_) => Some(Err(LogError::StreamEnded)),
        }
    }
}

// === impl Source ===

impl Source {
    fn lot(&mut self) -> Result<Lot, LogError> {
        let mut lot = Lot { entries: VecDeque::new(), at_end: false };
        let mut bytes = 0;
        while lot.entries.len() < LOT_ENTRIES_MAX && bytes < LOT_BYTES_MAX {
            let Some(entry) = self.next()? else {
                lot.at_end = true;
                break;
            };
            if let Entry::Line(line) = &entry {
                bytes += line.bytes.len();
            }
            lot.entries.push_back(entry);
        }
        Ok(lot)
    }

    fn next(&mut self) -> Result<Option<Entry>, LogError> {
        match self {
            Self::Follow(follower) => follower.next(),
            Self::Once(lines) => lines.next().transpose(),
        }
    }
}
