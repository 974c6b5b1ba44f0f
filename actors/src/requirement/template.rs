//! Data that is the same for everybody, kept to be copied: `initdb` takes half a second, a copy of what it made a tenth.
//!
//! What is kept lies in a directory named by everything it depends on: the server's file (its path, size and time) and the
//! command that made it. A copy shares its blocks with the original where the file system can (copy_file_range(2)). It is a
//! cache: whatever goes wrong with it, the data is made the long way.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::process::Command;

/// Bytes of the digest in a name.
const DIGEST_BYTES: usize = 8;
/// Most results that are kept of one preset: each takes 40 MB and more, and nobody works with more versions at a time.
const KEPT_MAX: usize = 3;
/// What a result is called while it is being copied in.
const UNFINISHED: &str = "unfinished-";

/// Where the result of `command`, which works in `into`, is kept; `None` if the server cannot be looked at.
pub(super) fn place(dir: &Path, command: &Command, into: &Path, server: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(server).ok()?;
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(server.as_os_str().as_bytes());
    add(format!("{} {} {:?}", metadata.len(), metadata.mtime(), command.run_as).as_bytes());
    // Where it is made is no part of what is made, and neither is whose life it is made for.
    let words = [&command.program].into_iter().chain(&command.args).filter(|word| !names(word, into));
    words.for_each(|word| add(word.as_bytes()));
    let digest = hash.finalize();
    let name: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    Some(dir.join(name))
}

/// Copies what is kept into an empty directory that is there. `false` if nothing is kept, or if it cannot be read: the
/// directory is empty again then.
pub(super) async fn copy_out(kept: PathBuf, into: PathBuf) -> bool {
    blocking(move || {
        if !kept.is_dir() {
            return false;
        }
        let copied = copy_tree(&kept, &into);
        if let Err(error) = &copied {
            tracing::warn!(path = %kept.display(), %error, "kept data cannot be copied: it is made anew");
            let _ = empty(&into);
            let _ = fs::remove_dir_all(&kept);
        }
        copied.is_ok()
    })
    .await
}

/// Keeps what was made, for the next one.
pub(super) async fn keep(made: PathBuf, kept: PathBuf) {
    blocking(move || {
        if let Err(error) = keep_now(&made, &kept) {
            tracing::warn!(path = %kept.display(), %error, "made data cannot be kept for the next one");
        }
        true
    })
    .await;
}

async fn blocking(work: impl FnOnce() -> bool + Send + 'static) -> bool {
    tokio::task::spawn_blocking(work).await.unwrap_or(false)
}

fn names(word: &OsStr, into: &Path) -> bool {
    let (word, into) = (word.as_bytes(), into.as_os_str().as_bytes());
    word.windows(into.len()).any(|part| part == into)
}

fn keep_now(made: &Path, kept: &Path) -> io::Result<()> {
    let dir = kept.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    forget_oldest(dir)?;
    let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(dir)?;
    let copy = unfinished.path().join("data");
    fs::DirBuilder::new().mode(0o700).create(&copy)?;
    copy_tree(made, &copy)?;
    match fs::rename(&copy, kept) {
        // Somebody else was quicker; theirs is as good.
        Err(error) if kept.is_dir() => {
            tracing::debug!(%error, "kept by somebody else");
            Ok(())
        }
        renamed => renamed,
    }
}

/// Leaves room for one more. What an interrupted copy left counts as the oldest of all, unless it is under way.
fn forget_oldest(dir: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        kept.push((entry.metadata()?.mtime(), entry.path()));
    }
    kept.sort();
    let excess = (kept.len() + 1).saturating_sub(KEPT_MAX);
    for (_, path) in kept.into_iter().take(excess) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&target)?;
            copy_tree(&entry.path(), &target)?;
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        }
    }
    Ok(())
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Limits, RunAs};
    use tempfile::TempDir;

    fn command(into: &Path) -> Command {
        Command {
            program: "init".into(),
            args: vec!["-D".into(), into.into()],
            env: Default::default(),
            dir: "/".into(),
            run_as: RunAs::Caller,
            limits: Limits::default(),
            stdin: None,
        }
    }

    #[tokio::test]
    async fn what_was_made_is_copied_with_modes_and_links_whoever_it_is_for() {
        let root = TempDir::new().unwrap();
        let (made, next) = (root.path().join("made"), root.path().join("next"));
        for dir in [&made, &next] {
            fs::create_dir(dir).unwrap();
        }
        fs::create_dir(made.join("base")).unwrap();
        fs::File::create(made.join("base/1")).unwrap().set_len(5).unwrap();
        fs::set_permissions(made.join("base"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("base/1", made.join("link")).unwrap();
        let server = std::env::current_exe().unwrap();
        let cache = root.path().join("cache/postgres");
        let kept = place(&cache, &command(&made), &made, &server).unwrap();
        assert_eq!(place(&cache, &command(&next), &next, &server), Some(kept.clone()));
        assert!(!copy_out(kept.clone(), next.clone()).await, "nothing is kept yet");
        keep(made, kept.clone()).await;
        assert!(copy_out(kept, next.clone()).await);
        assert_eq!(fs::metadata(next.join("base/1")).unwrap().len(), 5);
        assert_eq!(fs::metadata(next.join("base")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::read_link(next.join("link")).unwrap(), Path::new("base/1"));
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[tokio::test]
    async fn few_results_are_kept() {
        let root = TempDir::new().unwrap();
        let made = root.path().join("made");
        fs::create_dir(&made).unwrap();
        let cache = root.path().join("cache");
        for name in ["a", "b", "c", "d", "e"] {
            keep(made.clone(), cache.join(name)).await;
        }
        assert_eq!(fs::read_dir(&cache).unwrap().count(), KEPT_MAX);
        assert!(cache.join("e").is_dir());
    }
}
