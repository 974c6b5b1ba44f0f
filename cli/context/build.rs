//! Whether the daemon is of another build than this program: a pure comparison of what both say and of the files they run from.

use std::path::Path;

/// This build, as a daemon of it would tell.
const BUILD: &str = envctl_runtime::BUILD;
/// What the kernel writes after the path of a file that is no longer there (proc_pid_exe(5)).
const DELETED: &str = " (deleted)";

/// What to say about a daemon of `build` that runs from `running` (as its `/proc/PID/exe` says), to a user of the program at
/// `ours`; `None`: nothing, they are the same as far as anybody can tell.
pub(super) fn notice(build: &str, running: Option<&Path>, ours: Option<&Path>) -> Option<String> {
    if build != BUILD {
        return Some(format!("the daemon is envctl {build}, this is envctl {BUILD}"));
    }
    // The same version from another place is the user's own affair; this place, with another file in it, is an update.
    let before = running?.to_str()?.strip_suffix(DELETED)?;
    (Path::new(before) == ours?)
        .then(|| "the daemon runs an older file of this program, which has been replaced".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_another_version_or_a_replaced_file_is_noticed_and_nothing_else() {
        let ours = Some(Path::new("/bin/envctl"));
        let of = |running: &str| notice(BUILD, Some(Path::new(running)), ours);
        assert!(notice("0.0.9", ours, ours).unwrap().contains("0.0.9"));
        assert!(of("/bin/envctl (deleted)").unwrap().contains("replaced"));
        assert_eq!(of("/bin/envctl"), None);
        assert_eq!(of("/opt/envctl (deleted)"), None, "another program's file");
        assert_eq!(notice(BUILD, None, ours), None);
    }
}
