//! Reading the envelope of another process from `/proc`.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use super::{RT_VARS, RtVars};

/// Most of an environment that is read: Linux allows 2 MiB for arguments and environment together.
const ENVIRON_MAX_BYTES: u64 = 2 * 1024 * 1024;

/// The envelope `pid` was started with. Gone, foreign or unreadable processes have none.
pub(super) fn envelope(pid: u32) -> io::Result<Option<RtVars>> {
    let Some(before) = absent(start_time(pid))? else { return Ok(None) };
    let Some(environ) = absent(read(pid))? else { return Ok(None) };
    // A pid that was reused between the two reads would pair one process's life with another's environment.
    if absent(start_time(pid))? != Some(before) {
        return Ok(None);
    }
    Ok(find(&environ).and_then(|value| RtVars::load(value).ok()))
}

/// The value of the variable in a block of NUL-separated `NAME=value`.
pub(super) fn find(environ: &[u8]) -> Option<&str> {
    let value = environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(RT_VARS.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()
}

fn read(pid: u32) -> io::Result<Vec<u8>> {
    let mut environ = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(ENVIRON_MAX_BYTES).read_to_end(&mut environ)?;
    Ok(environ)
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets: fields are counted from its end.
fn start_time(pid: u32) -> io::Result<u64> {
    let mut stat = Vec::new();
    File::open(format!("/proc/{pid}/stat"))?.read_to_end(&mut stat)?;
    let text = String::from_utf8_lossy(&stat);
    let after_name = text.rsplit_once(')').map(|(_, rest)| rest);
    after_name
        .and_then(|rest| rest.split_ascii_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time")))
}

/// Takes "it is not there, or not ours to see" as an answer instead of an error.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}
