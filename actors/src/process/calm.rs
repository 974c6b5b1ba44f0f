//! Whether work is over for now, so that what only the work needed can be given back.
//!
//! Pure: whoever works tells it, and takes the look that it asks for. Nothing happens while nothing is done.

use std::time::Duration;

/// Time between a piece of work and the look that may find it over.
pub const LOOK_AFTER: Duration = Duration::from_secs(3);

/// Whether something was done.
#[derive(Debug, Default)]
pub struct Calm {
    /// A look is to come.
    awaits: bool,
    /// Something was done since it was asked for.
    worked: bool,
}

// === impl Calm ===

impl Calm {
    /// A piece of work was done. `true`: call [`Calm::is_over`] after [`LOOK_AFTER`].
    pub fn worked(&mut self) -> bool {
        self.worked = self.awaits;
        !std::mem::replace(&mut self.awaits, true)
    }

    /// The look. `true`: the work is over. `false`: it goes on, so look again after [`LOOK_AFTER`].
    pub fn is_over(&mut self) -> bool {
        self.awaits = std::mem::take(&mut self.worked);
        !self.awaits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_asked_for_and_it_finds_work_over_that_did_not_go_on() {
        let mut calm = Calm::default();
        assert!(calm.worked());
        assert!(calm.is_over());
        assert!(calm.worked(), "the next piece asks again");
    }

    #[test]
    fn work_that_goes_on_is_looked_at_again() {
        let mut calm = Calm::default();
        assert!(calm.worked());
        assert!(!calm.worked(), "a look is on its way");
        assert!(!calm.is_over());
        assert!(!calm.worked(), "another one is");
        assert!(!calm.is_over());
        assert!(calm.is_over());
    }
}
