//! How much a log takes on the disk, for those who have no writer at hand.

use std::path::Path;
use std::{fs, io};

/// Bytes of a unit's log in `dir`: lengths of the files of all segments. No directory: 0. One look at each file, none into them.
pub fn bytes_on_disk(dir: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let meta = entry?.metadata()?;
        bytes += if meta.is_file() { meta.len() } else { 0 };
    }
    Ok(bytes)
}
