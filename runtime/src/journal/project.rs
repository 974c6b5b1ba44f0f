//! One project's open journal: its log, its followers, and what its derived files will be made of.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{broadcast, watch};

use super::events::EventKind;
use super::store::{EventLog, JournalError, Recovery};
use super::views::{self, ERRORS_MAX, Facts, Sources};
use super::write::{Durability, atomic_write, remove_temporaries};
use crate::control::view::{EventView, ProjectView};
use crate::places::ProjectPlaces;

/// Events a follower may be behind before it has to go back to the file.
const LIVE_EVENTS: usize = 1024;

/// A project whose journal is open.
#[derive(Debug)]
pub(super) struct OpenProject {
    places: ProjectPlaces,
    facts: Facts,
    log: EventLog,
    live: broadcast::Sender<EventView>,
    /// The newest error events, oldest first.
    errors: VecDeque<EventView>,
    latest: Option<watch::Receiver<ProjectView>>,
    /// Whether `latest` is newer than the derived files.
    dirty: bool,
    /// Whether a timer is under way.
    armed: bool,
    /// Whether a derivation in turn is under way.
    writing: bool,
    generation: u64,
    /// The newest generation written; held while writing, so that an older one never replaces it.
    written: Arc<Mutex<u64>>,
    scopes: Scopes,
}

/// What a blocking thread needs to write the derived files.
#[derive(Debug)]
pub(super) struct Derivation {
    places: ProjectPlaces,
    facts: Facts,
    project: ProjectView,
    errors: Vec<EventView>,
    seq: u64,
    generation: u64,
    written: Arc<Mutex<u64>>,
    scopes: Scopes,
}

/// The runtime maps of each scope's projects, by folder: what the map of the scope is made of. Shared by the projects of one
/// journal. Kept as text, which needs a fraction of the memory of values.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes(Arc<Mutex<BTreeMap<String, MapTexts>>>);

/// JSON texts by folder.
type MapTexts = BTreeMap<String, Vec<u8>>;

// === impl OpenProject ===

impl OpenProject {
    /// Opens and repairs the files of a project. Slow: for a blocking thread.
    pub(super) fn open(places: ProjectPlaces, facts: Facts, scopes: Scopes) -> Result<(Self, Recovery), JournalError> {
        let dir = places.dir();
        remove_temporaries(&dir).map_err(|source| JournalError::Io { path: dir, source })?;
        let mut errors = VecDeque::new();
        let (log, recovery) = EventLog::open_with(&places.events(), is_error, |event| remember(&mut errors, &event))?;
        let project = Self {
            places,
            facts,
            log,
            live: broadcast::Sender::new(LIVE_EVENTS),
            errors,
            latest: None,
            dirty: false,
            armed: false,
            writing: false,
            generation: 0,
            written: Arc::new(Mutex::new(0)),
            scopes,
        };
        Ok((project, recovery))
    }

    pub(super) fn describe(&mut self, facts: Facts) {
        self.facts = facts;
        self.dirty = self.latest.is_some();
    }

    /// Numbers, writes and broadcasts an event.
    pub(super) fn append(&mut self, event: EventView) {
        let run = event.run.clone();
        self.record(event);
        let lost = self.log.take_lost();
        if lost > 0 {
            let fault = self.log.fault().unwrap_or("unknown").to_owned();
            let told = EventKind::JournalLost.event(&run, format!("{lost} events could not be written"));
            self.record(told.detail("count", lost).detail("error", fault).build());
        }
    }

    fn record(&mut self, event: EventView) {
        let event = self.log.append(event);
        remember(&mut self.errors, &event);
        // Nobody may be following; that is no failure.
        let _ = self.live.send(event);
    }

    pub(super) fn snapshot(&mut self, project: watch::Receiver<ProjectView>) {
        self.latest = Some(project);
        self.dirty = true;
    }

    pub(super) fn subscribe(&self) -> (PathBuf, broadcast::Receiver<EventView>) {
        (self.log.path().to_owned(), self.live.subscribe())
    }

    /// Whether a timer is to be started: none is under way, and there is something for it to do.
    pub(super) fn arm(&mut self) -> bool {
        let start = !self.armed && (self.has_fault() || (self.dirty && !self.writing));
        self.armed |= start;
        start
    }

    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    pub(super) fn retry(&mut self) {
        self.log.retry();
    }

    pub(super) fn has_fault(&self) -> bool {
        self.log.fault().is_some()
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.log.fault().map(str::to_owned)
    }

    pub(super) fn log_file(&self) -> Arc<File> {
        self.log.handle()
    }

    /// As [`Self::derive`], but only one at a time.
    pub(super) fn derive_in_turn(&mut self) -> Option<Derivation> {
        if self.writing {
            return None;
        }
        let derivation = self.derive()?;
        self.writing = true;
        Some(derivation)
    }

    /// What the derived files are to be, if they are not that already.
    pub(super) fn derive(&mut self) -> Option<Derivation> {
        let project = self.latest.as_ref().filter(|_| self.dirty)?.borrow().clone();
        self.dirty = false;
        self.generation += 1;
        Some(Derivation {
            places: self.places.clone(),
            facts: self.facts.clone(),
            project,
            errors: self.errors.iter().cloned().collect(),
            seq: self.log.seq(),
            generation: self.generation,
            written: Arc::clone(&self.written),
            scopes: self.scopes.clone(),
        })
    }

    /// Says whether there is something new to be written.
    pub(super) fn derivation_ended(&mut self) -> bool {
        self.writing = false;
        self.dirty
    }
}

fn is_error(kind: &str) -> bool {
    EventKind::parse(kind).is_some_and(EventKind::is_error)
}

fn remember(errors: &mut VecDeque<EventView>, event: &EventView) {
    if is_error(&event.event) {
        if errors.len() == ERRORS_MAX {
            errors.pop_front();
        }
        errors.push_back(event.clone());
    }
}

// === impl Derivation ===

impl Derivation {
    /// Writes the derived files, unless newer ones are there.
    pub(super) fn write(&self, durability: Durability) -> io::Result<()> {
        // A panic in another writer leaves complete files behind (they are renamed into place), so its lock can be taken.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written >= self.generation {
            return Ok(());
        }
        let now = super::clock::now();
        let sources =
            Sources { project: &self.project, facts: &self.facts, errors: &self.errors, seq: self.seq, now: &now };
        for (path, content) in views::all(&sources, &self.places) {
            atomic_write(&path, &views::to_bytes(content), durability)?;
        }
        self.scopes.put(&self.places, views::runtime_map(&sources), &now)?;
        *written = self.generation;
        Ok(())
    }
}

// === impl Scopes ===

impl Scopes {
    /// Puts a project's map into its scope's and writes that. The lock is held until it is written: two projects of a
    /// scope never write the older of two maps last.
    fn put(&self, places: &ProjectPlaces, map: Value, now: &str) -> io::Result<()> {
        let mut scopes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = scopes.entry(places.scope().to_owned()).or_default();
        kept.insert(places.folder().to_owned(), serde_json::to_vec(&map)?);
        let others = kept.iter().filter(|(folder, _)| folder.as_str() != places.folder());
        let value = |(folder, text): (&String, &Vec<u8>)| Ok((folder.clone(), serde_json::from_slice(text)?));
        let mut maps: BTreeMap<String, Value> = others.map(value).collect::<serde_json::Result<_>>()?;
        maps.insert(places.folder().to_owned(), map);
        let bytes = views::to_bytes(views::scope_map(&maps, now));
        atomic_write(&places.scope_runtime_map(), &bytes, Durability::Unsynced)
    }
}
