//! How much a log takes on the disk, for those who have no writer at hand.

use std::io;
use std::path::Path;

use super::layout;
use super::repair::size_of;

/// Bytes of a unit's log in `dir`, as [`super::Length::bytes`] has them while it is written: lengths of the files of all segments. No
/// directory: 0. One look at each file, none into them.
pub fn bytes_on_disk(dir: &Path) -> io::Result<u64> {
    let numbers = layout::numbers(dir, &["idx", "out", "err", "out.gz", "err.gz"])?;
    Ok(numbers.into_iter().map(|number| size_of(dir, number)).sum())
}
