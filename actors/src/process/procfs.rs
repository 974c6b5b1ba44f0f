//! Reads files of `/proc`: in as few system calls as there can be, for a look at all processes of a machine reads hundreds.
//!
//! The kernel tells no length of such files, so that [`std::fs::read`] asks in small pieces what one read gives.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What one read is given room for: a page is what the kernel makes of most of these files, and an environment is rarely longer.
const ROOM_BYTES: usize = 8 << 10;

/// The whole of a file.
pub(super) fn read(path: &str) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?)
}

/// The whole of a file that is open, from its beginning: as it is now, however often it has been read.
pub(super) fn read_open(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ROOM_BYTES];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// A file that is one short line: what fits `line` of it, in one read.
pub(super) fn read_line<'a>(path: &str, line: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = File::open(path)?.read(line)?;
    Ok(&line[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_longer_than_one_read_comes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let bytes: Vec<u8> = (0..5 * ROOM_BYTES).map(|at| (at % 251) as u8).collect();
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(path.to_str().unwrap()).unwrap(), bytes);
        assert_eq!(read("/proc/self/cmdline").unwrap(), std::fs::read("/proc/self/cmdline").unwrap());
    }
}
