//! Deleting a log that nobody writes. The writer's lock is held meanwhile, so that nobody begins to.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::LogError;
use super::size::bytes_on_disk;
use super::{Limits, Store};

/// A log without a writer, as it lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// What it takes.
    pub bytes: u64,
    /// When it was last written to; `None`: it is empty.
    pub written: Option<SystemTime>,
}

/// Deletes what is stored and keeps the count of what was written: sequences go on. Returns how many bytes the disk got back.
/// [`LogError::Locked`]: it has a writer, which can be asked instead ([`super::LogStream::clear`]).
pub fn clear(dir: &Path) -> Result<u64, LogError> {
    if !dir.exists() {
        return Ok(0);
    }
    let mut store = Store::open(dir, Limits::default())?;
    store.clear().map_err(LogError::io("clear", dir))
}

/// Looks at a log; `None`: somebody writes it.
pub fn idle(dir: &Path) -> Result<Option<Idle>, LogError> {
    let _lock = match lock(dir) {
        Err(LogError::Locked(_)) => return Ok(None),
        lock => lock?,
    };
    let look = || {
        let mut written = None;
        for entry in fs::read_dir(dir)? {
            written = written.max(Some(entry?.metadata()?.modified()?));
        }
        Ok(Idle { bytes: bytes_on_disk(dir)?, written })
    };
    look().map(Some).map_err(LogError::io("read", dir))
}

/// Deletes a log with everything that is known of it; returns how many bytes the disk got back. What is no file of a log stays.
pub fn erase(dir: &Path) -> Result<u64, LogError> {
    let _lock = lock(dir)?;
    let delete = || {
        let before = bytes_on_disk(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_ours) && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(before.saturating_sub(bytes_on_disk(dir)?))
    };
    delete().map_err(LogError::io("delete", dir))
}

/// `3.out`, `3.out.gz`, `gone` …
fn is_ours(name: &str) -> bool {
    let number = name.split('.').next().unwrap_or_default();
    name == "gone" || (number != name && number.parse::<u32>().is_ok())
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let file = File::open(dir).map_err(LogError::io("open", dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::Locked(dir.to_path_buf())),
        Err(fs::TryLockError::Error(error)) => Err(LogError::io("lock", dir)(error)),
    }
}
