//! A tar archive of a few text files, which is how the engine takes files for a container (ustar, POSIX.1-1988). Pure.

use std::collections::BTreeMap;

/// Everything in it comes in blocks of this size.
const BLOCK: usize = 512;
/// For everybody inside: the account that reads it is the image's business, and the container is closed to others.
const MODE: u32 = 0o644;

/// Makes an archive of these files: absolute path and text. A path over 100 bytes is left out: the format has no room for it.
pub(super) fn tar(files: &BTreeMap<String, String>) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, text) in files {
        let Some(header) = header(path.trim_start_matches('/'), text.len()) else { continue };
        archive.extend_from_slice(&header);
        archive.extend_from_slice(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are its end.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(path: &str, length: usize) -> Option<[u8; BLOCK]> {
    let mut header = [0u8; BLOCK];
    let fields: [(usize, usize, String); 8] = [
        (0, 100, path.to_owned()),
        (100, 8, format!("{MODE:07o}")),
        (108, 8, format!("{:07o}", 0)),
        (116, 8, format!("{:07o}", 0)),
        (124, 12, format!("{length:011o}")),
        (136, 12, format!("{:011o}", 0)),
        // The sum is made with blanks in its own place.
        (148, 8, " ".repeat(8)),
        (156, 1, "0".to_owned()),
    ];
    for (at, size, text) in fields {
        let room = header.get_mut(at..at + size)?;
        room.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    }
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}
