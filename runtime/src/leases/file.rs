//! A lease file: whoever holds its lock holds what it stands for, and the text inside says who that is.
//!
//! Files are never removed: removing a file somebody else has just opened would let two hold the same name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LeaseOwner;

/// Most of an owner's text that is read.
const OWNER_MAX_BYTES: u64 = 4096;

/// What stands in a lease file. It informs; the lock decides.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema_version: u32,
    pid: u32,
    #[serde(flatten)]
    owner: LeaseOwner,
}

/// Opens `path` (made 0600 if needed) and takes its lock; `None` if somebody else has it, in this process or another.
pub(super) fn try_hold(path: &Path, owner: &LeaseOwner) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    sign(&mut file, owner)?;
    Ok(Some(file))
}

/// Replaces the text. Only ever called with the lock held: before that it is somebody else's.
fn sign(file: &mut File, owner: &LeaseOwner) -> io::Result<()> {
    let record = Record { schema_version: 1, pid: std::process::id(), owner: owner.clone() };
    let mut text = serde_json::to_vec(&record)?;
    text.push(b'\n');
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)
}

/// Who signed last; `None` if that cannot be read.
pub(super) fn signed_by(path: &Path) -> Option<LeaseOwner> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let mut text = Vec::new();
    file.take(OWNER_MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(serde_json::from_slice::<Record>(&text).ok()?.owner)
}
