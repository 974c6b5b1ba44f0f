//! Who has come to heart: the children that it did not start itself.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Read in one go: the numbers of a thousand children.
const ROOM_BYTES: usize = 8 << 10;

/// The children of one thread, orphans that came to it among them (proc_pid_task(5)).
///
/// The kernel's list is whole when the thread that reaps them reads it: nobody else takes anything out of it.
#[derive(Debug, Default)]
pub struct Offspring {
    /// Kept open: finding the file costs more than reading it, and is on the way of a restart.
    file: OnceCell<Option<File>>,
}

// === impl Offspring ===

impl Offspring {
    /// All of them. `None`: the kernel does not tell (it was built without CONFIG_PROC_CHILDREN).
    ///
    /// To be asked by the thread whose children they are.
    pub fn all(&self) -> Option<Vec<u32>> {
        let file = self.file.get_or_init(|| File::open("/proc/thread-self/children").ok()).as_ref()?;
        let text = read(file).ok()?;
        let pids = text.split(|byte| *byte == b' ').filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
        Some(pids.collect())
    }
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; ROOM_BYTES];
    let mut length = 0;
    loop {
        match file.read_at(&mut text[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    Ok(text)
}
