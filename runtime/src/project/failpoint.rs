//! A place where an actor of a unit can be made to fail, for tests: `panic-<unit>` in the project's directory.
//!
//! A file is used up by the first failure; a directory stays, and every actor of the unit fails. Not built into the program.

use std::path::Path;

use envctl_supervisors::Name;

/// Panics if the unit is to fail here.
pub(super) fn pass(root: &Path, unit: &Name) {
    let path = root.join(format!("panic-{unit}"));
    assert!(std::fs::remove_file(&path).is_err() && !path.exists(), "told to fail");
}
