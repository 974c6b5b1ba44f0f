//! The log of heart and the daemon themselves: one file, and the one before it.
//!
//! It is capped where nobody writes into it, before a process is started that will: so at the starts of daemons, never while one
//! runs. Heart, which outlives them, goes on in the file it has open, whatever that is called by then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A log that is longer begins anew: weeks of what a daemon has to say.
pub const OWN_LOG_MAX_BYTES: u64 = 4 << 20;

/// What the log before this one is called.
pub fn older(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Puts a log that is too long aside, in the place of the one before; what is opened under its name next is new. A log that cannot
/// be put aside is gone on with.
pub fn cap(log: &Path) {
    let is_long = fs::symlink_metadata(log).is_ok_and(|meta| meta.is_file() && meta.len() > OWN_LOG_MAX_BYTES);
    if is_long && let Err(error) = fs::rename(log, older(log)).or_else(gone) {
        tracing::warn!(log = %log.display(), %error, "a long log cannot be put aside");
    }
}

/// Somebody else was faster.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_log_that_is_too_long_becomes_the_one_before_and_no_other_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("daemon.log");
        cap(&log);
        for length in [OWN_LOG_MAX_BYTES + 1, OWN_LOG_MAX_BYTES + 2, OWN_LOG_MAX_BYTES] {
            File::create(&log).unwrap().set_len(length).unwrap();
            cap(&log);
        }
        assert_eq!(log.metadata().unwrap().len(), OWN_LOG_MAX_BYTES);
        assert_eq!(older(&log).metadata().unwrap().len(), OWN_LOG_MAX_BYTES + 2);
        assert_eq!(older(&log), dir.path().join("daemon.log.1"));
    }
}
