//! The file that a run's memory is kept in: the whole of it once, and after it each unit that has changed since.
//!
//! A restart changes one unit of perhaps a thousand, and its memory is written before its successor starts: so it is one short
//! write into a file that is open, and the whole is written anew only when what was added outgrows it. What a kill has cut off is
//! the last record, and whoever reads takes no notice of it. Decides nothing: when to write is the project's business.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::memory::{Memory, UnitMemory};

/// What is added before the whole is written anew, if the whole is shorter than this.
const ADDED_MIN_BYTES: u64 = 64 << 10;

/// A file that is being kept.
#[derive(Debug)]
pub(super) struct MemoryFile {
    file: File,
    /// What a reader would find.
    memory: Memory,
    whole_bytes: u64,
    added_bytes: u64,
}

// === impl MemoryFile ===

impl MemoryFile {
    /// Writes the whole of a memory, in place of what may be there.
    pub(super) fn create(path: &Path, memory: Memory) -> io::Result<Self> {
        let whole_bytes = memory.store(path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, memory, whole_bytes, added_bytes: 0 })
    }

    /// What a reader would find in it.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether units may be added: it is short enough, and still the one that the next daemon finds.
    pub(super) fn is_open(&self) -> bool {
        let is_short = self.added_bytes <= self.whole_bytes.max(ADDED_MIN_BYTES);
        is_short && self.file.metadata().is_ok_and(|meta| meta.nlink() > 0)
    }

    /// Adds units that have changed, each with its place in the list, in one write. After an error the file is of no further
    /// use: its end may be half a record.
    pub(super) fn add(&mut self, changed: Vec<(usize, UnitMemory)>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (at, unit) in changed {
            rmp_serde::encode::write_named(&mut bytes, &unit).map_err(io::Error::other)?;
            self.memory.units[at] = unit;
        }
        self.added_bytes += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

/// Reads what such a file says. An error: not even the whole can be read.
pub(super) fn read(mut bytes: &[u8]) -> Result<Memory, rmp_serde::decode::Error> {
    let mut memory: Memory = rmp_serde::from_read(&mut bytes)?;
    let place = |(at, unit): (usize, &UnitMemory)| (unit.name.clone(), at);
    let places: std::collections::HashMap<_, _> = memory.units.iter().enumerate().map(place).collect();
    while !bytes.is_empty()
        && let Ok(unit) = rmp_serde::from_read::<_, UnitMemory>(&mut bytes)
    {
        if let Some(at) = places.get(&unit.name) {
            memory.units[*at] = unit;
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::environment::Capture;
    use super::super::memory::{Files, Of};
    use super::*;

    fn unit(name: &str, incarnation: u32) -> UnitMemory {
        UnitMemory {
            name: name.to_owned(),
            wanted: true,
            incarnation,
            restarts: 0,
            fingerprint: None,
            ready: false,
            done: false,
            failed: false,
            process: None,
        }
    }

    fn memory() -> Memory {
        let files = Files::default();
        let of = Of { key: "repo-1/main".to_owned(), root: &PathBuf::from("/p"), files: &files };
        let mut memory = Memory::new(of, "r".to_owned(), 1, &Capture::new());
        memory.units = vec![unit("db", 1), unit("api", 1)];
        memory
    }

    #[test]
    fn a_reader_finds_the_last_of_what_was_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.run");
        let mut file = MemoryFile::create(&path, memory()).unwrap();
        file.add(vec![(1, unit("api", 2))]).unwrap();
        file.add(vec![(0, unit("db", 2)), (1, unit("api", 3))]).unwrap();
        let found = read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(found.units, [unit("db", 2), unit("api", 3)]);
        assert_eq!(found, *file.memory());
    }

    #[test]
    fn wherever_a_kill_cuts_the_file_what_was_whole_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.run");
        let mut file = MemoryFile::create(&path, memory()).unwrap();
        file.add(vec![(1, unit("api", 2))]).unwrap();
        let before = std::fs::read(&path).unwrap();
        file.add(vec![(1, unit("api", 3))]).unwrap();
        let after = std::fs::read(&path).unwrap();
        for end in before.len()..after.len() {
            assert_eq!(read(&after[..end]).unwrap().units[1], unit("api", 2), "cut at {end}");
        }
        assert_eq!(read(&after).unwrap().units[1], unit("api", 3));
    }

    #[test]
    fn a_file_that_was_removed_or_has_grown_long_is_to_be_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.run");
        let mut file = MemoryFile::create(&path, memory()).unwrap();
        assert!(file.is_open());
        while file.is_open() {
            file.add(vec![(0, unit("db", 7))]).unwrap();
        }
        assert!(file.added_bytes > ADDED_MIN_BYTES && file.added_bytes < 2 * ADDED_MIN_BYTES);
        let file = MemoryFile::create(&path, memory()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_open());
    }
}
